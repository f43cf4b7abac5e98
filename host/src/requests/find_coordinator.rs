//! Who keeps the offsets of a consumer group: in a cluster of one broker, it.

use tidemill_protocol::api::messages::find_coordinator_response::Coordinator;
use tidemill_protocol::api::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use tidemill_protocol::api::{Response, StrBytes};
use tidemill_protocol::error::ErrorCode;

use super::{Requests, Session, refused_group};

/// What a coordinator is asked for: that of a group, of a transaction.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// The first version that asks about several keys.
const SEVERAL: i16 = 4;

/// Answers for each key, with the address of the transport on which it was asked.
pub fn answer(
    requests: &Requests,
    session: &Session,
    request: FindCoordinatorRequest,
    version: i16,
) -> Response {
    let keys = if version < SEVERAL { vec![request.key] } else { request.coordinator_keys };
    let (host, port) = requests.addresses.of(session.transport);
    let host = StrBytes::from_string(host);
    let coordinators = keys.into_iter().map(|key| {
        let refused = refused(request.key_type, &key);
        let coordinator = Coordinator::default().with_key(key);
        match refused {
            None => coordinator
                .with_node_id(BrokerId(requests.addresses.broker.0 as i32))
                .with_host(host.clone())
                .with_port(i32::from(port)),
            Some((code, why)) => coordinator
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_code(code.0)
                .with_error_message(Some(StrBytes::from_static_str(why))),
        }
    });
    Response::FindCoordinator(FindCoordinatorResponse::default().with_coordinators(coordinators.collect()))
}

fn refused(key_type: i8, key: &str) -> Option<(ErrorCode, &'static str)> {
    match key_type {
        GROUP => refused_group(key).map(|code| (code, "a group has a name of 1 to 255 bytes")),
        TRANSACTION => Some((
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "transactions are not offered: leave transactional.id out",
        )),
        _ => Some((ErrorCode::INVALID_REQUEST, "there are coordinators of groups alone")),
    }
}
