//! Fetch (key 1), versions 4-18: session, read or long poll, session again. Consumers only: there are no followers.

use std::time::Duration;

use bytes::Bytes;

use super::{Reply, RequestContext};
use crate::error::ErrorCode;
use crate::fetch::{FetchLimits, NO_SESSION, fetch};
use crate::protocol::fetch::{
    FIRST_VERSION_WITH_TOPIC_IDS, FetchPartition, FetchRequest, PartitionData, encode_response,
};
use crate::protocol::wire::NodeEndpoint;

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

pub async fn handle(ctx: RequestContext, body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request = match FetchRequest::parse(&body, version) {
        Ok(request) => request,
        Err(error) => return Reply::Close(error.to_string()),
    };
    // A parked fetch keeps only what it waits for.
    drop(body);
    if !matches!(request.isolation_level, READ_UNCOMMITTED | READ_COMMITTED) {
        return refuse_all(version, request, ErrorCode::UnknownServerError);
    }
    let limits = limits(&ctx, &request);
    let broker = &ctx.broker;
    let opened = broker.fetch_sessions.open(
        (request.session_id, request.session_epoch),
        version >= FIRST_VERSION_WITH_TOPIC_IDS,
        request.partitions,
        request.forgotten,
        broker.clock.now_ms(),
    );
    let (context, wanted) = match opened {
        Ok(opened) => opened,
        Err(code) => return Reply::Body(encode_response(version, code.code(), NO_SESSION, &[], &[])),
    };
    let mut answers = fetch(broker, &limits, wanted).await;
    match broker.fetch_sessions.finish(&context, &mut answers, broker.clock.now_ms()) {
        Ok(session_id) => {
            Reply::Body(encode_response(version, 0, session_id, &answers, &leader_endpoints(&ctx, &answers)))
        }
        Err((code, session_id)) => Reply::Body(encode_response(version, code.code(), session_id, &[], &[])),
    }
}

fn limits(ctx: &RequestContext, request: &FetchRequest) -> FetchLimits {
    let max_bytes = ctx.broker.config.fetch_max_bytes.min(request.max_bytes.max(0) as usize);
    FetchLimits {
        api_version: ctx.api_version,
        from_follower: request.replica_id >= 0,
        committed_only: request.isolation_level == READ_COMMITTED,
        max_wait: Duration::from_millis(request.max_wait_ms.max(0) as u64),
        min_bytes: (request.min_bytes.max(0) as u64).min(max_bytes as u64),
        max_bytes,
    }
}

/// From version 13 on the code of the whole answer says it; older clients look at the partitions.
fn refuse_all(version: i16, request: FetchRequest, code: ErrorCode) -> Reply {
    let fail = |partition| (partition, PartitionData::failed(code.code()));
    let partitions = if version < FIRST_VERSION_WITH_TOPIC_IDS { request.partitions } else { Vec::new() };
    let answers: Vec<_> = partitions.into_iter().map(fail).collect();
    Reply::Body(encode_response(version, code.code(), request.session_id, &answers, &[]))
}

/// Where the leaders that the answer names are to be reached, on the listener that the client uses (KIP-951).
fn leader_endpoints(ctx: &RequestContext, answers: &[(FetchPartition, PartitionData)]) -> Vec<NodeEndpoint> {
    let named = |id| answers.iter().any(|(_, data)| data.current_leader.is_some_and(|leader| leader.leader_id == id));
    if answers.iter().all(|(_, data)| data.current_leader.is_none()) {
        return Vec::new();
    }
    let image = ctx.broker.metadata.image();
    let endpoint = |broker: &crate::metadata::BrokerImage| {
        let (host, port) = broker.endpoint(&ctx.listener_name)?;
        Some(NodeEndpoint { node_id: broker.id, host: host.to_owned(), port, rack: broker.rack.clone() })
    };
    image.brokers().filter(|broker| named(broker.id)).filter_map(endpoint).collect()
}
