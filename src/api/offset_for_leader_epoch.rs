//! OffsetForLeaderEpoch (key 23), versions 2-4: where an epoch ends, for a client that checks for truncation (KIP-320).

use bytes::Bytes;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::protocol::wire::TopicRef;

const UNDEFINED: (i32, i64) = (-1, -1);

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let request: OffsetForLeaderEpochRequest = match decode(&mut body, ctx.api_version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let image = ctx.broker.metadata.image();
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in &request.topics {
        let answer = |wanted: &OffsetForLeaderPartition| {
            let end = end_offset(&ctx, &image, &topic.topic, wanted);
            let (code, (epoch, offset)) = end.map_or_else(|code| (code.code(), UNDEFINED), |end| (0, end));
            EpochEndOffset::default()
                .with_partition(wanted.partition)
                .with_error_code(code)
                .with_leader_epoch(epoch)
                .with_end_offset(offset)
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        let topic = OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions);
        response.topics.push(topic);
    }
    Reply::encode(&response, ctx.api_version)
}

fn end_offset(
    ctx: &RequestContext,
    image: &Image,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let partition = ctx.broker.partitions.resolve(image, TopicRef::Name(topic), wanted.partition)?;
    partition.check_leader_epoch(wanted.current_leader_epoch)?;
    Ok(partition.end_offset_for_epoch(wanted.leader_epoch))
}
