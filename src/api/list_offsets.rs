//! ListOffsets (key 2), versions 1-11: offsets by time, the special timestamps included.

use std::collections::HashSet;

use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Reply, RequestContext, decode};
use crate::error::{ErrorCode, KafkaCode};
use crate::metadata::Image;
use crate::partition::Partition;
use crate::protocol::wire::TopicRef;

/// Version 11 has the fields of 10, which is the last that kafka-protocol knows; only a special timestamp is new.
const LAST_VERSION_WITH_NEW_FIELDS: i16 = 10;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

const CONSUMER: i32 = -1;
const READ_COMMITTED: i8 = 1;

/// (timestamp, offset, leader epoch); -1 where there is none.
type Found = (i64, i64, i32);
const NOTHING: Found = (-1, -1, -1);

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version.min(LAST_VERSION_WITH_NEW_FIELDS);
    let request: ListOffsetsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let image = ctx.broker.metadata.image();
    let duplicates = duplicates(&request.topics);
    let mut response = ListOffsetsResponse::default();
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let duplicate = duplicates.contains(&(topic.name.as_str(), partition.partition_index));
            let found = if duplicate {
                Err(ErrorCode::InvalidRequest)
            } else {
                find(&ctx, &image, &request, &topic.name, partition).await
            };
            partitions.push(answer(partition.partition_index, found, version));
        }
        let topic = ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions);
        response.topics.push(topic);
    }
    Reply::encode(&response, version)
}

/// The partitions that are named more than once: they are answered an error.
fn duplicates(topics: &[ListOffsetsTopic]) -> HashSet<(&str, i32)> {
    let mut seen = HashSet::new();
    let all = topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.as_str(), p.partition_index)));
    all.filter(|partition| !seen.insert(*partition)).collect()
}

fn answer(index: i32, found: Result<Found, ErrorCode>, version: i16) -> ListOffsetsPartitionResponse {
    let (code, (timestamp, offset, epoch)) = found.map_or_else(|code| (code.code(), NOTHING), |found| (0, found));
    let response = ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code)
        .with_timestamp(timestamp)
        .with_offset(offset);
    if version >= 4 { response.with_leader_epoch(epoch) } else { response }
}

/// The version that brought a special timestamp; other negative ones have no meaning.
fn min_version(timestamp: i64) -> Option<i16> {
    match timestamp {
        0.. | LATEST | EARLIEST => Some(1),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

async fn find(
    ctx: &RequestContext,
    image: &Image,
    request: &ListOffsetsRequest,
    topic: &str,
    wanted: &ListOffsetsPartition,
) -> Result<Found, ErrorCode> {
    if min_version(wanted.timestamp).is_none_or(|version| ctx.api_version < version) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let partition = ctx.broker.partitions.resolve(image, TopicRef::Name(topic), wanted.partition_index)?;
    partition.check_leader_epoch(wanted.current_leader_epoch)?;
    let log = &partition.log;
    let last_fetchable_offset = match (request.replica_id.0, request.isolation_level) {
        (CONSUMER, READ_COMMITTED) => log.last_stable_offset(),
        (CONSUMER, _) => log.high_watermark(),
        _ => log.log_end_offset(),
    };
    match wanted.timestamp {
        LATEST => return Ok((-1, last_fetchable_offset, partition.leader_epoch())),
        EARLIEST | EARLIEST_LOCAL => return Ok(earliest(&partition)),
        // Nothing is tiered, so there is neither a last tiered record nor one that waits for its upload.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(NOTHING),
        _ => {}
    }
    let found = match wanted.timestamp {
        MAX_TIMESTAMP => log.offset_of_max_timestamp().await,
        timestamp => log.offset_for_timestamp(timestamp).await,
    };
    let found = found.map_err(|error| error.kafka_code())?;
    Ok(found.filter(|(_, offset, _)| *offset < last_fetchable_offset).unwrap_or(NOTHING))
}

fn earliest(partition: &Partition) -> Found {
    let offset = partition.log.log_start_offset();
    (-1, offset, partition.epoch_for_offset(offset))
}
