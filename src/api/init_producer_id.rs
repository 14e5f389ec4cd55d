//! InitProducerId (key 22), versions 0-5.

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: InitProducerIdRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let result = match check(&request) {
        Ok(()) => ctx.broker.metadata.next_producer_id().await.map_err(|error| error.code),
        Err(code) => Err(code),
    };
    Reply::encode(&answer(result), version)
}

/// An idempotent producer gets a new id whatever id it had before: without a transactional id nothing ties the two.
fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    match request.transactional_id.as_ref().map(|id| id.as_str()) {
        None => Ok(()),
        Some("") => Err(ErrorCode::InvalidRequest),
        // No coordinator serves transactions; unlike COORDINATOR_NOT_AVAILABLE this is not tried again.
        Some(_) => Err(ErrorCode::TransactionalIdNotFound),
    }
}

fn answer(result: Result<i64, ErrorCode>) -> InitProducerIdResponse {
    match result {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(0),
        Err(code) => InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id((-1).into())
            .with_producer_epoch(-1),
    }
}
