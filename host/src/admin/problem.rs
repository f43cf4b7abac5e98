//! Problems, as RFC 9457 has them: what is wrong, with which field, and whether trying again may help.

use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidemill_core::fault::Fault;
use tidemill_core::rejection::Rejection;
use tidemill_protocol::error::{ErrorCode, Outcome};

use crate::bundles::BundleError;
use crate::catalog::Unchanged;
use crate::components::ComponentError;
use crate::plugins::DeployError;
use crate::shards::Refused;

/// What went wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The status, as in the response's head.
    pub status: u16,
    /// The kind of problem, in words that do not change.
    pub title: &'static str,
    /// This one, in words.
    pub detail: String,
    /// Kafka's code for it.
    pub code: i16,
    /// Kafka's name for it.
    pub name: String,
    /// Whether the same request may succeed later.
    pub retriable: bool,
    /// Whether it took effect: `applied`, `not applied` or `unknown`.
    pub outcome: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

/// A field that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Field {
    /// Which.
    pub field: String,
    /// Why.
    pub why: String,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, code: ErrorCode, detail: impl Into<String>) -> Problem {
        let row = code.row();
        Problem {
            status: status.as_u16(),
            title,
            detail: detail.into(),
            code: code.0,
            name: code.to_string(),
            retriable: row.retriable,
            outcome: row.outcome.to_string(),
            fields: Vec::new(),
        }
    }

    fn storage_failed(detail: String) -> Problem {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem::new(status, "Storage failed", ErrorCode::KAFKA_STORAGE_ERROR, detail)
    }

    /// The thing is not there.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "Not found", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, detail)
    }

    /// The request makes no sense.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "Invalid request", ErrorCode::INVALID_REQUEST, detail)
    }

    /// A field of the request makes no sense; the field is part of the words, too.
    pub fn field(field: impl Into<String>, why: impl Into<String>) -> Problem {
        let (field, why) = (field.into(), why.into());
        Problem::invalid(format!("{field}: {why}")).with(field, why)
    }

    /// The path is there, and not for this method.
    pub(super) fn method() -> Problem {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let why = "this path has others: the header `allow` names them";
        Problem::new(status, "Method not allowed", ErrorCode::INVALID_REQUEST, format!("method: {why}"))
            .with("method", why)
    }

    /// The body is no JSON by its own word.
    pub(super) fn media_type() -> Problem {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let why = "it must be application/json";
        Problem::new(
            status,
            "Media type not supported",
            ErrorCode::INVALID_REQUEST,
            format!("content-type: {why}"),
        )
        .with("content-type", why)
    }

    /// Something is larger than it may be.
    pub(super) fn too_large(field: &str, most: usize) -> Problem {
        let why = format!("it has more than {most} bytes, and nothing raises the limit");
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Too large",
            ErrorCode::MESSAGE_TOO_LARGE,
            format!("{field}: {why}"),
        )
        .with(field, why)
    }

    /// The body did not come in.
    pub(super) fn too_slow(wait: Duration) -> Problem {
        let why = format!("it did not come in within {} s", wait.as_secs());
        let problem = Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "Too slow",
            ErrorCode::REQUEST_TIMED_OUT,
            format!("body: {why}"),
        );
        Problem { outcome: Outcome::NotApplied.to_string(), ..problem }.with("body", why)
    }

    /// The request makes sense, and what it brings does not do.
    pub(super) fn unprocessable(title: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, title, ErrorCode::INVALID_CONFIG, detail)
    }

    /// Names a field that is wrong.
    pub(super) fn with(mut self, field: impl Into<String>, why: impl Into<String>) -> Problem {
        self.fields.push(Field { field: field.into(), why: why.into() });
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self)).into_response()
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Problem {
        Problem::storage_failed(fault.to_string())
    }
}

impl From<Unchanged> for Problem {
    fn from(unchanged: Unchanged) -> Problem {
        let detail = unchanged.to_string();
        match unchanged {
            Unchanged::Rejected(rejection) => {
                let (status, title) = match rejection {
                    Rejection::Exists(_) => (StatusCode::CONFLICT, "Exists already"),
                    Rejection::Missing(_) | Rejection::NoPartition(_) => (StatusCode::NOT_FOUND, "Not found"),
                    Rejection::DiskFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, "Disk full"),
                    Rejection::Behind(_) => (StatusCode::CONFLICT, "Behind the log start"),
                    Rejection::InUse(_) => (StatusCode::CONFLICT, "In use"),
                    Rejection::Limit(_) => (StatusCode::FORBIDDEN, "Limit reached"),
                    _ => (StatusCode::BAD_REQUEST, "Invalid request"),
                };
                let problem = Problem::new(status, title, rejection.code(), detail.clone());
                match rejection.field() {
                    Some(field) => problem.with(field, detail),
                    None => problem,
                }
            }
            Unchanged::Refused(Refused::Fault(fault)) => fault.into(),
            Unchanged::Refused(refused @ (Refused::NotLeader | Refused::Unknown)) => {
                let code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "No leader", code, detail);
                let outcome = match refused {
                    Refused::NotLeader => Outcome::NotApplied,
                    _ => Outcome::Unknown,
                };
                Problem { outcome: outcome.to_string(), ..problem }
            }
        }
    }
}

impl From<ComponentError> for Problem {
    fn from(error: ComponentError) -> Problem {
        let detail = error.to_string();
        match error {
            ComponentError::Missing(_) => Problem::not_found(detail),
            ComponentError::Disk(_) => Problem::storage_failed(detail),
            ComponentError::TooLarge(_) => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Too large", ErrorCode::MESSAGE_TOO_LARGE, detail)
            }
            ComponentError::Digest { .. } | ComponentError::Compile(_) | ComponentError::Load(_) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let problem =
                    Problem::new(status, "Component refused", ErrorCode::INVALID_REQUEST, detail.clone());
                problem.with("component", detail)
            }
        }
    }
}

impl From<BundleError> for Problem {
    fn from(error: BundleError) -> Problem {
        let detail = error.to_string();
        match error {
            BundleError::Missing(_) => Problem::not_found(detail),
            BundleError::Disk(_) => Problem::storage_failed(detail),
            BundleError::Digest { .. } | BundleError::Archive(_) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let problem =
                    Problem::new(status, "Bundle refused", ErrorCode::INVALID_REQUEST, detail.clone());
                problem.with("bundle", detail)
            }
        }
    }
}

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Problem {
        let detail = error.to_string();
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        match error {
            DeployError::Manifest(errors) => {
                let problem = Problem::new(status, "Manifest refused", ErrorCode::INVALID_CONFIG, detail);
                errors.into_iter().fold(problem, |problem, error| problem.with(error.key, error.why))
            }
            DeployError::Component(error) => error.into(),
            DeployError::Bundle(error) => error.into(),
            DeployError::Start { topic, why } => {
                let problem = Problem::new(status, "Start refused", ErrorCode::OFFSET_OUT_OF_RANGE, detail);
                problem.with(format!("subscribe.{topic}.from"), why)
            }
            DeployError::Unchanged(unchanged) => unchanged.into(),
            DeployError::Task { .. } => {
                let problem =
                    Problem::new(status, "Task does not run", ErrorCode::UNKNOWN_SERVER_ERROR, detail);
                Problem { outcome: Outcome::Applied.to_string(), ..problem }
            }
        }
    }
}
