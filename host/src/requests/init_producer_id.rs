//! Giving producers their ids.

use tidemill_protocol::api::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use tidemill_protocol::api::{Response, asked_window, grant_window};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::WINDOW_KAFKA;

use super::{Requests, code_of_unchanged};

/// The first version with tagged fields.
const FLEXIBLE: i16 = 2;

/// A new id, with epoch 0. Producers count their epochs up by themselves.
pub async fn answer(requests: &Requests, request: &InitProducerIdRequest, version: i16) -> Response {
    let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    let answer = if request.transactional_id.is_some() {
        answer.with_error_code(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED.0)
    } else {
        let wide = version >= FLEXIBLE && asked_window(request).is_some_and(|window| window > WINDOW_KAFKA);
        match requests.catalog.producer_id(wide).await {
            Ok(id) => {
                let mut answer = answer.with_producer_id(ProducerId(id.0)).with_producer_epoch(0);
                if wide {
                    grant_window(&mut answer, id.window());
                }
                answer
            }
            Err(unchanged) => answer.with_error_code(code_of_unchanged(&unchanged).0),
        }
    };
    Response::InitProducerId(answer)
}
