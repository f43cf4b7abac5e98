//! The shapes of values in `tidemill:plugin@0.1`, as `wit/types.wit` has them.
//!
//! They are written by hand, where the rest is generated, for one reason: bytes that come out of a log or go into one
//! are handed over as [`Bytes`], without a copy on our side. wasmtime compares each shape with the component's when
//! that is loaded.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{ComponentType, HasData, Lift, Linker, Lower};

/// `record header`
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
pub struct Header {
    pub(crate) name: String,
    pub(crate) value: Option<Bytes>,
}

/// `record event`
#[derive(ComponentType, Lower)]
#[component(record)]
pub struct Event {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    #[component(name = "timestamp-ms")]
    pub(crate) timestamp_ms: i64,
    #[component(name = "append-time-ms")]
    pub(crate) append_time_ms: u64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
}

/// `record outgoing`
#[derive(ComponentType, Lift)]
#[component(record)]
pub struct Outgoing {
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
    #[component(name = "timestamp-ms")]
    pub(crate) timestamp_ms: Option<i64>,
}

/// `variant refusal`
#[derive(ComponentType, Lower)]
#[component(variant)]
pub enum Refusal {
    #[component(name = "not-granted")]
    NotGranted(String),
    #[component(name = "limit")]
    Limit(String),
    #[component(name = "invalid")]
    Invalid(String),
    #[component(name = "other")]
    #[allow(dead_code, reason = "for versions to come; this one says everything by the cases above")]
    Other(String),
}

/// `variant failure`
#[derive(ComponentType, Lift)]
#[component(variant)]
pub enum Failure {
    #[component(name = "retry")]
    Retry(String),
    #[component(name = "reject")]
    Reject(String),
    #[component(name = "other")]
    Other(String),
}

// What the generated code expects of every interface that it is given. This one has types alone: there is nothing to
// implement, and only its name to link.

/// Implemented by every host.
pub trait Host {}

impl<T: ?Sized> Host for T {}

/// Implemented by every host.
pub trait HostWithStore<T>: HasData {}

impl<T, D: HasData> HostWithStore<T> for D {}

/// Links the interface's name.
pub fn add_to_linker<T: 'static, D: HasData>(
    linker: &mut Linker<T>,
    _: fn(&mut T) -> D::Data<'_>,
) -> wasmtime::Result<()> {
    linker.instance("tidemill:plugin/types@0.1.0").map(|_| ())
}
