//! Reading for consumers: what is readable now, within the request's limits, and the long poll until there is enough.
//! Fetch state that outlives a request is in `session`; bytes on the wire are not handled here.

mod session;

use std::sync::Arc;
use std::time::Duration;

use ottla_storage::batch::Compression;
use ottla_storage::log::{Log, LogRead};
use ottla_storage::txn_index::AbortedTransaction;
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
    let first = read_all(broker, limits, wanted).await;
    if first.is_enough(limits) || limits.max_wait.is_zero() {
        return first.answers;
    }
    let mut wanted = first.give_up();
    let waiter = Waiter::new();
    let _parked = park(broker, &wanted, &waiter);
    loop {
        waiter.disarm();
        let read = read_all(broker, limits, wanted).await;
        if read.is_enough(limits) || waiter.has_news() || Instant::now() >= deadline {
            return read.answers;
        }
        let missing_bytes = if read.has_unstable { 1 } else { limits.min_bytes - read.bytes };
        wanted = read.give_up();
        if waiter.arm(missing_bytes) {
            // Woken or out of time: in both cases the next look decides.
            let _ = tokio::time::timeout_at(deadline, waiter.woken()).await;
        }
    }
}

/// One entry a partition and one timer in all: nothing runs for a parked fetch until its bytes are written.
fn park(broker: &Broker, wanted: &[FetchPartition], waiter: &Arc<Waiter>) -> Vec<ParkedFetch> {
    let image = broker.metadata.image();
    let resolve = |wanted: &FetchPartition| broker.partitions.resolve(&image, wanted.topic.as_ref(), wanted.index);
    wanted.iter().filter_map(|wanted| Some(resolve(wanted).ok()?.park(waiter))).collect()
}

/// All partitions, read once.
struct Reading {
    answers: Answers,
    bytes: u64,
    /// An error, or a diverging epoch, that the client is to know of now.
    has_news: bool,
    /// Some partition exists, so that there is something to wait for.
    may_grow: bool,
    /// A transaction's marker, however small, may make records readable that are there already.
    has_unstable: bool,
}

impl Reading {
    fn is_enough(&self, limits: &FetchLimits) -> bool {
        self.has_news || !self.may_grow || self.bytes >= limits.min_bytes
    }

    fn news(&mut self, data: PartitionData) -> PartitionData {
        self.has_news = true;
        data
    }

    fn grown(&mut self, data: PartitionData) -> PartitionData {
        self.may_grow = true;
        self.has_unstable |= data.aborted.is_some() && data.last_stable_offset < data.high_watermark;
        self.bytes += data.records.bytes as u64;
        data
    }

    /// Lets go of the records, so that a parked fetch keeps none of them in memory.
    fn give_up(self) -> Vec<FetchPartition> {
        self.answers.into_iter().map(|(wanted, _)| wanted).collect()
    }
}

async fn read_all(broker: &Broker, limits: &FetchLimits, wanted: Vec<FetchPartition>) -> Reading {
    let image = broker.metadata.image();
    let answers = Vec::with_capacity(wanted.len());
    let mut reading = Reading { answers, bytes: 0, has_news: false, may_grow: false, has_unstable: false };
    let mut bytes_left = limits.max_bytes;
    for wanted in wanted {
        let data = match broker.partitions.resolve(&image, wanted.topic.as_ref(), wanted.index) {
            Err(code @ (ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)) => {
                PartitionData::failed(code.code())
            }
            Err(code) => reading.news(failed(&image, limits, &wanted, code)),
            Ok(partition) => {
                let max_bytes = bytes_left.min(wanted.max_bytes.max(0) as usize);
                match read_one(&partition, limits, &wanted, max_bytes, reading.bytes == 0).await {
                    Ok(data) if data.diverging_epoch.is_some() => reading.news(data),
                    Ok(data) => reading.grown(data),
                    Err(code) => reading.news(failed(&image, limits, &wanted, code)),
                }
            }
        };
        bytes_left = bytes_left.saturating_sub(data.records.bytes);
        reading.answers.push((wanted, data));
    }
    reading
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
        ..PartitionData::failed(0)
    };
    data.diverging_epoch = diverging_epoch(partition, wanted, data.log_start_offset)?;
    if data.diverging_epoch.is_none() {
        let max_offset = if limits.committed_only { data.last_stable_offset } else { data.high_watermark };
        let read = async || {
            let read = log.read(wanted.fetch_offset, max_offset, max_bytes, min_one).await;
            read.map_err(|error| error.kafka_code())?.map_err(|_out_of_range| ErrorCode::OffsetOutOfRange)
        };
        if !limits.committed_only {
            data.records = read().await?;
            return Ok(data);
        }
        loop {
            let replacements = log.replacements();
            data.records = read().await?;
            data.aborted = Some(aborted(log, &data.records, wanted.fetch_offset, max_offset)?);
            if replacements == log.replacements() {
                break;
            }
        }
    }
    Ok(data)
}

/// In the order in which they began, as some clients expect it.
fn aborted(log: &Log, read: &LogRead, from: i64, to: i64) -> Result<Vec<AbortedTransaction>, ErrorCode> {
    let mut aborted = log.aborted_in_read(read, from, to).map_err(|error| error.kafka_code())?;
    if from < log.log_start_offset() {
        // The records were deleted since they were read, and with them, perhaps, what is known of their outcome.
        return Err(ErrorCode::OffsetOutOfRange);
    }
    aborted.sort_unstable_by_key(|transaction| transaction.first_offset);
    Ok(aborted)
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
    Some(LeaderHint { leader_id: image.leader_of(partition), leader_epoch: partition.leader_epoch })
}
