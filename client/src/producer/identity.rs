//! Getting a producer its id, and with it the window in which its batches are recognised.

use tidemill_protocol::api::messages::{InitProducerIdRequest, ProducerId as KafkaProducerId};
use tidemill_protocol::api::{Request, Response, ask_window, granted_window};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{ProducerEpoch, ProducerId, WINDOW_KAFKA, WINDOW_WIDE};

use super::sequence::Identity;
use crate::client::{Core, Patience};
use crate::error::Error;

/// A new id, and how many batches a partition may have under way with it: 1,024 where the broker agrees, or else
/// Kafka's five.
///
/// # Errors
/// When no broker gives one in time, or when it is refused.
pub(super) async fn obtain(core: &Core) -> Result<(Identity, u32), Error> {
    let mut request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(KafkaProducerId(-1))
        .with_producer_epoch(-1);
    ask_window(&mut request, WINDOW_WIDE);
    let request = Request::InitProducerId(request);
    let mut patience = Patience::new(core.config.request_timeout);
    loop {
        let Response::InitProducerId(answer) = core.ask_any(&request).await? else {
            return Err(Error::unanswered("the broker answered another question"));
        };
        let code = ErrorCode(answer.error_code);
        if !code.is_error() {
            let identity = Identity {
                id: ProducerId(answer.producer_id.0),
                epoch: ProducerEpoch(answer.producer_epoch),
            };
            let window = granted_window(&answer).unwrap_or(WINDOW_KAFKA).clamp(1, WINDOW_WIDE);
            return Ok((identity, window));
        }
        let error = Error::told(code, None);
        if !error.retriable {
            return Err(error);
        }
        patience.wait(error).await?;
    }
}
