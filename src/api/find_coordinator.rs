//! FindCoordinator (key 10), versions 0-6. Owner: the coordinators.

use bytes::Bytes;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::topics::{CONSUMER_OFFSETS, TRANSACTION_STATE};

/// From this version on a request has several keys, and each its own answer.
const FIRST_BATCHED_VERSION: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

type Node = (BrokerId, StrBytes, i32);

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: FindCoordinatorRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let keys = if version >= FIRST_BATCHED_VERSION { request.coordinator_keys } else { vec![request.key] };
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let found = find(&ctx, request.key_type, &key).await;
        coordinators.push(answer(key, found));
    }
    Reply::encode(&respond(coordinators, version), version)
}

/// The leader of the partition that the key belongs to.
async fn find(ctx: &RequestContext, key_type: i8, key: &str) -> Result<Node, ErrorCode> {
    let broker = &ctx.broker;
    let unavailable = ErrorCode::CoordinatorNotAvailable;
    let (image, topic, index) = match key_type {
        GROUP => (broker.groups.ensure_topic().await, CONSUMER_OFFSETS, broker.groups.partition_of(key)),
        TRANSACTION => {
            (broker.transactions.ensure_topic().await, TRANSACTION_STATE, broker.transactions.partition_of(key))
        }
        _ => return Err(ErrorCode::InvalidRequest),
    };
    let image = image.map_err(|_| unavailable)?;
    let partition = image.topic(topic).and_then(|topic| topic.partition(index)).ok_or(unavailable)?;
    let node = image.leader_of(partition);
    let leader = image.broker(node).filter(|leader| !leader.fenced).ok_or(unavailable)?;
    let (host, port) = leader.endpoint(&ctx.listener_name).ok_or(unavailable)?;
    Ok((BrokerId(node), StrBytes::from_string(host.to_owned()), port.into()))
}

fn answer(key: StrBytes, found: Result<Node, ErrorCode>) -> Coordinator {
    let (code, (node, host, port)) = match found {
        Ok(node) => (0, node),
        Err(code) => (code.code(), (BrokerId(-1), StrBytes::default(), -1)),
    };
    Coordinator::default().with_key(key).with_error_code(code).with_node_id(node).with_host(host).with_port(port)
}

fn respond(mut coordinators: Vec<Coordinator>, version: i16) -> FindCoordinatorResponse {
    if version >= FIRST_BATCHED_VERSION {
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let only = coordinators.pop().expect("one key, one answer");
    FindCoordinatorResponse::default()
        .with_error_code(only.error_code)
        .with_node_id(only.node_id)
        .with_host(only.host)
        .with_port(only.port)
}

#[cfg(test)]
mod tests {
    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 0..=6 {
            let found = answer("g".into(), Ok((BrokerId(1), StrBytes::from_static_str("localhost"), 9092)));
            let response = respond(vec![found], version);
            encodes_at(&response, version);
            assert_eq!(response.coordinators.len(), usize::from(version >= 4));
            let missing = respond(vec![answer("g".into(), Err(ErrorCode::CoordinatorNotAvailable))], version);
            encodes_at(&missing, version);
        }
    }
}
