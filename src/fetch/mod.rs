//! Reading for consumers: what is readable now, within the request's limits, and the long poll until there is enough.
//! Fetch state that outlives a request is in `session`; bytes on the wire are not handled here.

mod session;

use std::sync::Arc;
use std::time::Duration;

use ottla_storage::batch::Compression;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::error::{ErrorCode, KafkaCode};
use crate::metadata::Image;
use crate::partition::{ParkedFetch, Partition, Waiter};
use crate::protocol::fetch::{FetchPartition, PartitionData};
use crate::protocol::wire::{LeaderHint, TopicRef};

pub use session::{Context, NO_SESSION, SessionCache};

/// What a request asks of all its partitions together.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    pub api_version: i16,
    /// A broker that fetches to replicate; consumers have negative ids.
    pub from_follower: bool,
    pub committed_only: bool,
    pub max_wait: Duration,
    pub min_bytes: u64,
    pub max_bytes: usize,
}

type Answers = Vec<(FetchPartition, PartitionData)>;

/// Answers every partition: at once if there are min bytes, or an error, or nothing to wait for; else when the bytes
/// have come, or something else has happened to a partition, or the time is over.
pub async fn fetch(broker: &Broker, limits: &FetchLimits, wanted: Vec<FetchPartition>) -> Answers {
    let deadline = Instant::from_std(broker.clock.monotonic() + limits.max_wait);
    let (answers, enough) = read_all(broker, limits, wanted).await;
    if enough || limits.max_wait.is_zero() {
        return answers;
    }
    // What little was read is given up, so that a parked fetch keeps no records in memory.
    let wanted = answers.into_iter().map(|(wanted, _)| wanted).collect::<Vec<_>>();
    wait_for_data(broker, limits, &wanted, deadline).await;
    read_all(broker, limits, wanted).await.0
}

/// Reads all partitions in order; true if the answer need not wait for more.
async fn read_all(broker: &Broker, limits: &FetchLimits, wanted: Vec<FetchPartition>) -> (Answers, bool) {
    let image = broker.metadata.image();
    let (mut bytes_left, mut bytes_read) = (limits.max_bytes, 0);
    // Only partitions that exist can be waited for, and an error of theirs is news.
    let (mut waits_for_any, mut has_news) = (false, false);
    let mut answers = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let data = match broker.partitions.resolve(&image, wanted.topic.as_ref(), wanted.index) {
            Err(code @ (ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)) => {
                PartitionData::failed(code.code())
            }
            resolved => {
                waits_for_any = true;
                let max_bytes = bytes_left.min(wanted.max_bytes.max(0) as usize);
                let read = match resolved {
                    Ok(partition) => read_one(&partition, limits, &wanted, max_bytes, bytes_read == 0).await,
                    Err(code) => Err(code),
                };
                let data = read.unwrap_or_else(|code| failed(&image, limits, &wanted, code));
                has_news |= data.error_code != 0 || data.diverging_epoch.is_some();
                data
            }
        };
        bytes_left = bytes_left.saturating_sub(data.records.bytes);
        bytes_read += data.records.bytes as u64;
        answers.push((wanted, data));
    }
    (answers, !waits_for_any || has_news || bytes_read >= limits.min_bytes)
}

async fn read_one(
    partition: &Partition,
    limits: &FetchLimits,
    wanted: &FetchPartition,
    max_bytes: usize,
    min_one: bool,
) -> Result<PartitionData, ErrorCode> {
    partition.check_leader_epoch(wanted.current_leader_epoch)?;
    if limits.from_follower {
        // No other broker is a replica of it.
        let knows_epoch = wanted.current_leader_epoch >= 0;
        return Err(if knows_epoch { ErrorCode::UnknownLeaderEpoch } else { ErrorCode::NotLeaderOrFollower });
    }
    let log = &partition.log;
    if limits.api_version < 10 && matches!(log.config().rules.compression, Some((Compression::Zstd, _))) {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    let mut data = PartitionData {
        high_watermark: log.high_watermark(),
        last_stable_offset: log.last_stable_offset(),
        log_start_offset: log.log_start_offset(),
        committed_only: limits.committed_only,
        ..PartitionData::failed(0)
    };
    data.diverging_epoch = diverging_epoch(partition, wanted, data.log_start_offset)?;
    if data.diverging_epoch.is_none() {
        let max_offset = if limits.committed_only { data.last_stable_offset } else { data.high_watermark };
        let read = log.read(wanted.fetch_offset, max_offset, max_bytes, min_one).await;
        let read = read.map_err(|error| error.kafka_code())?;
        data.records = read.map_err(|_out_of_range| ErrorCode::OffsetOutOfRange)?;
    }
    Ok(data)
}

/// KIP-320: where the client's log and this one part, if the epoch of what it fetched last says that they do.
fn diverging_epoch(
    partition: &Partition,
    wanted: &FetchPartition,
    log_start_offset: i64,
) -> Result<Option<(i32, i64)>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let (epoch, end_offset) = partition.end_offset_for_epoch(wanted.last_fetched_epoch);
    if epoch < 0 || end_offset < 0 || wanted.fetch_offset < log_start_offset {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let diverges = epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset;
    Ok(diverges.then_some((epoch, end_offset)))
}

fn failed(image: &Image, limits: &FetchLimits, wanted: &FetchPartition, code: ErrorCode) -> PartitionData {
    let code = match code {
        // Clients before version 6 don't know the storage error; this one makes them ask again as well.
        ErrorCode::KafkaStorageError if limits.api_version <= 5 => ErrorCode::NotLeaderOrFollower,
        code => code,
    };
    let wants_leader = matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
    let current_leader = if wants_leader && limits.api_version >= 16 { leader_hint(image, wanted) } else { None };
    PartitionData { current_leader, ..PartitionData::failed(code.code()) }
}

fn leader_hint(image: &Image, wanted: &FetchPartition) -> Option<LeaderHint> {
    let topic = match wanted.topic.as_ref() {
        TopicRef::Name(name) => image.topic(name)?,
        TopicRef::Id(id) => image.topic_by_id(id)?,
    };
    let partition = topic.partitions.get(usize::try_from(wanted.index).ok()?)?;
    Some(LeaderHint { leader_id: partition.leader, leader_epoch: partition.leader_epoch })
}

/// Sleeps until `min_bytes` are readable, or a partition can no longer be read as it could, or the deadline.
/// One timer and one entry a partition; nothing runs while nothing is written.
async fn wait_for_data(broker: &Broker, limits: &FetchLimits, wanted: &[FetchPartition], deadline: Instant) {
    let image = broker.metadata.image();
    let resolve = |wanted| Some((resolve_wanted(broker, &image, wanted)?, wanted));
    let partitions = wanted.iter().filter_map(resolve).collect::<Vec<(Arc<Partition>, &FetchPartition)>>();
    drop(image);
    let waiter = Waiter::new();
    let _parked: Vec<ParkedFetch> = partitions.iter().map(|(partition, _)| partition.park(&waiter)).collect();
    loop {
        waiter.disarm();
        let mut available = 0;
        for (partition, wanted) in &partitions {
            match readable_bytes(partition, limits, wanted) {
                Some(bytes) => available += bytes,
                None => return,
            }
        }
        if available >= limits.min_bytes {
            return;
        }
        let asleep = waiter.arm(limits.min_bytes - available);
        if asleep && tokio::time::timeout_at(deadline, waiter.woken()).await.is_err() {
            return;
        }
    }
}

fn resolve_wanted(broker: &Broker, image: &Image, wanted: &FetchPartition) -> Option<Arc<Partition>> {
    broker.partitions.resolve(image, wanted.topic.as_ref(), wanted.index).ok()
}

/// The bytes of a partition that count towards min bytes; None if it is to be answered now.
fn readable_bytes(partition: &Partition, limits: &FetchLimits, wanted: &FetchPartition) -> Option<u64> {
    let log = &partition.log;
    let fenced = partition.check_leader_epoch(wanted.current_leader_epoch).is_err();
    let offset = wanted.fetch_offset;
    if partition.is_deleted() || fenced || offset < log.log_start_offset() || offset > log.log_end_offset() {
        return None;
    }
    let readable = !limits.committed_only || offset < log.last_stable_offset();
    let bytes = if readable { log.bytes_from(offset) } else { 0 };
    Some(bytes.min(wanted.max_bytes.max(0) as u64))
}
