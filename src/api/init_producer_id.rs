//! InitProducerId (key 22), versions 0-5. Owner: the transaction coordinator, or the metadata for who has no transactions.

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::end_txn::producer;
use super::{Reply, RequestContext, decode};
use crate::error::{ApiError, ErrorCode};
use crate::txn::Producer;

/// From this version on clients know PRODUCER_FENCED; before, it was said with another code.
const FIRST_VERSION_WITH_FENCED: i16 = 4;
const NOBODY: Producer = Producer { id: -1, epoch: -1 };

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: InitProducerIdRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let result = init(&ctx, &request).await.map_err(|error| error.code);
    Reply::encode(&answer(result, version), version)
}

async fn init(ctx: &RequestContext, request: &InitProducerIdRequest) -> Result<Producer, ApiError> {
    let expected = expected(request)?;
    match &request.transactional_id {
        // A new id whatever it had before: without a transactional id nothing ties the two.
        None => ctx.broker.metadata.next_producer_id().await.map(|id| Producer { id, epoch: 0 }),
        Some(id) => {
            let init = ctx
                .broker
                .transactions
                .call(id, |turn| turn.init_producer(id, request.transaction_timeout_ms, expected));
            init.await.unwrap_or_else(|code| Err(ApiError::new(code, "")))
        }
    }
}

/// Who the client believes it is.
fn expected(request: &InitProducerIdRequest) -> Result<Option<Producer>, ApiError> {
    match producer(request.producer_id, request.producer_epoch) {
        NOBODY => Ok(None),
        Producer { id: -1, .. } | Producer { epoch: -1, .. } => Err(ApiError::new(ErrorCode::InvalidRequest, "")),
        producer => Ok(Some(producer)),
    }
}

fn answer(result: Result<Producer, ErrorCode>, version: i16) -> InitProducerIdResponse {
    let code = match result {
        Ok(_) => 0,
        Err(ErrorCode::ProducerFenced) if version < FIRST_VERSION_WITH_FENCED => ErrorCode::InvalidProducerEpoch.code(),
        Err(code) => code.code(),
    };
    let producer = result.unwrap_or(NOBODY);
    InitProducerIdResponse::default()
        .with_error_code(code)
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
}

#[cfg(test)]
mod tests {
    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        let producer = Producer { id: 7, epoch: 3 };
        for version in 0..=5 {
            encodes_at(&answer(Ok(producer), version), version);
            encodes_at(&answer(Err(ErrorCode::InvalidRequest), version), version);
        }
        let answer = |result, version| answer(result, version);
        assert_eq!((answer(Ok(producer), 5).producer_id.0, answer(Ok(producer), 5).producer_epoch), (7, 3));
        assert_eq!(answer(Err(ErrorCode::ProducerFenced), 4).error_code, ErrorCode::ProducerFenced.code());
        assert_eq!(answer(Err(ErrorCode::ProducerFenced), 3).error_code, ErrorCode::InvalidProducerEpoch.code());
    }

    #[test]
    fn a_client_knows_its_id_and_its_epoch_or_neither() {
        let expected = |id: i64, epoch| {
            let request = InitProducerIdRequest::default().with_producer_id(id.into()).with_producer_epoch(epoch);
            expected(&request).map_err(|error| error.code)
        };
        assert_eq!(expected(-1, -1), Ok(None));
        assert_eq!(expected(5, 3), Ok(Some(Producer { id: 5, epoch: 3 })));
        assert_eq!(expected(5, -1), Err(ErrorCode::InvalidRequest));
        assert_eq!(expected(-1, 3), Err(ErrorCode::InvalidRequest));
    }
}
