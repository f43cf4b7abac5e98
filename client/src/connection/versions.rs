//! Which version of each request to send: the newest that both sides speak.

use std::collections::BTreeMap;

use tidemill_protocol::api::messages::ApiVersionsResponse;
use tidemill_protocol::api::{Request, SPOKEN};
use tidemill_protocol::error::ErrorCode;

use crate::error::Error;

/// What was agreed upon with one broker, by the number of the API.
#[derive(Debug, Default)]
pub(super) struct Versions(BTreeMap<i16, i16>);

impl Versions {
    /// From what a broker says it speaks.
    pub(super) fn agree(theirs: &ApiVersionsResponse) -> Versions {
        let find = |key| theirs.api_keys.iter().find(|theirs| theirs.api_key == key);
        let agreed = SPOKEN.iter().filter_map(|ours| {
            let theirs = find(ours.key)?;
            Some((ours.key, ours.agree(theirs.min_version, theirs.max_version)?))
        });
        Versions(agreed.collect())
    }

    /// The version in which to send a request.
    pub(super) fn of(&self, request: &Request) -> Result<i16, Error> {
        let spoken = request.spoken();
        self.0.get(&spoken.key).copied().ok_or_else(|| {
            let message =
                format!("no version of {} is spoken by both this client and the broker", spoken.name);
            Error::refused_here(ErrorCode::UNSUPPORTED_VERSION, message)
        })
    }
}
