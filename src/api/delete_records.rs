//! DeleteRecords (key 21), versions 0-2: moves the start of a log up.

use bytes::Bytes;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::metadata::topics::is_internal;
use crate::protocol::wire::TopicRef;

const TO_HIGH_WATERMARK: i64 = -1;
const INVALID_LOW_WATERMARK: i64 = -1;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let request: DeleteRecordsRequest = match decode(&mut body, ctx.api_version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let image = ctx.broker.metadata.image();
    let mut response = DeleteRecordsResponse::default();
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let result = delete(&ctx, &image, &topic.name, partition.partition_index, partition.offset);
            let (code, low_watermark) =
                result.map_or_else(|code| (code.code(), INVALID_LOW_WATERMARK), |low_watermark| (0, low_watermark));
            let partition = DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_low_watermark(low_watermark)
                .with_error_code(code);
            partitions.push(partition);
        }
        let topic = DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions);
        response.topics.push(topic);
    }
    Reply::encode(&response, ctx.api_version)
}

/// The low watermark after it: with one replica the log's start.
fn delete(ctx: &RequestContext, image: &Image, topic: &str, index: i32, offset: i64) -> Result<i64, ErrorCode> {
    let partition = ctx.broker.partitions.resolve(image, TopicRef::Name(topic), index)?;
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let log = &partition.log;
    if !log.config().delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let high_watermark = log.high_watermark();
    let offset = if offset == TO_HIGH_WATERMARK { high_watermark } else { offset };
    if !(0..=high_watermark).contains(&offset) {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    Ok(log.delete_records(offset))
}
