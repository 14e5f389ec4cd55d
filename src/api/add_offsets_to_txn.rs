//! AddOffsetsToTxn (key 25), versions 0-4. Owner: the transaction coordinator.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::end_txn::{known_to, producer};
use super::{Reply, RequestContext, decode};
use crate::metadata::topics::CONSUMER_OFFSETS;
use crate::txn::records::Partitions;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: AddOffsetsToTxnRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let id = &request.transactional_id;
    let producer = producer(request.producer_id, request.producer_epoch);
    let index = ctx.broker.groups.partition_of(&request.group_id);
    let partitions = Partitions::from([(CONSUMER_OFFSETS.into(), BTreeSet::from([index]))]);
    let added = ctx.broker.transactions.call(id, |turn| turn.add_partitions(id, producer, &partitions, 0)).await;
    let code = match added.and_then(|result| result.map_err(|error| error.code)) {
        Ok(()) => 0,
        Err(code) => known_to(version, code).code(),
    };
    Reply::encode(&AddOffsetsToTxnResponse::default().with_error_code(code), version)
}
