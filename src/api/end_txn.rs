//! EndTxn (key 26), versions 0-5. Owner: the transaction coordinator.

use bytes::Bytes;
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::txn::{EPOCH_BUMP_VERSION, Producer};

/// From this version on the epoch rises with the end of every transaction.
const FIRST_VERSION_WITH_EPOCH_BUMP: i16 = 5;
/// From this version on clients of the transaction APIs know PRODUCER_FENCED; before, it was said with another code.
const FIRST_VERSION_WITH_FENCED: i16 = 2;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: EndTxnRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let (id, producer) = (&request.transactional_id, producer(request.producer_id, request.producer_epoch));
    let client_version = if version >= FIRST_VERSION_WITH_EPOCH_BUMP { EPOCH_BUMP_VERSION } else { 0 };
    let end = ctx.broker.transactions.call(id, |turn| turn.end(id, producer, request.committed, client_version));
    let result = end.await.and_then(|result| result.map_err(|error| error.code));
    Reply::encode(&answer(result, version), version)
}

pub(super) fn producer(id: ProducerId, epoch: i16) -> Producer {
    Producer { id: id.0, epoch }
}

/// The code as clients of this version of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn know it.
pub(super) fn known_to(version: i16, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if version < FIRST_VERSION_WITH_FENCED => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

fn answer(result: Result<Producer, ErrorCode>, version: i16) -> EndTxnResponse {
    let response = match result {
        Ok(_) => EndTxnResponse::default(),
        Err(code) => EndTxnResponse::default().with_error_code(known_to(version, code).code()),
    };
    match result {
        Ok(producer) if version >= FIRST_VERSION_WITH_EPOCH_BUMP => {
            response.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch)
        }
        _ => response.with_producer_id((-1).into()).with_producer_epoch(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 0..=5 {
            let done = answer(Ok(Producer { id: 7, epoch: 3 }), version);
            encodes_at(&done, version);
            assert_eq!((done.producer_id.0, done.producer_epoch), if version < 5 { (-1, -1) } else { (7, 3) });
            let fenced = answer(Err(ErrorCode::ProducerFenced), version);
            encodes_at(&fenced, version);
            assert_eq!(fenced.error_code, if version < 2 { 47 } else { 90 });
        }
    }
}
