//! One partition's log: append to the tail in memory, write behind it, read from anywhere, roll, delete from the
//! front, recover. Owner of its segments, producers and epochs.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::TimestampType;
use crate::epochs::EpochEntry;
use crate::io::{FileSlice, Io};
use crate::producers::SequenceError;
use crate::validate::{AppendRules, ValidBatch};
use crate::{Error, Result};

/// A topic's settings that its logs follow. Times in ms, sizes in bytes; i64::MAX or -1 as in Kafka.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub rules: AppendRules,
    pub segment_bytes: u32,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub segment_index_bytes: u32,
    pub index_interval_bytes: u32,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub file_delete_delay_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub delete: bool,
    pub compact: bool,
    pub preallocate: bool,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> LogConfig {
        LogConfig {
            rules: AppendRules {
                timestamp_type: TimestampType::CreateTime,
                timestamp_before_max_ms: i64::MAX,
                timestamp_after_max_ms: 3_600_000,
                max_message_bytes: 1_048_588,
                compression: None,
                compacted: false,
            },
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            delete: true,
            compact: false,
            preallocate: false,
        }
    }
}

/// Called (outside the log's lock, on the thread whose write completed) whenever readable data has grown.
pub trait WriteObserver: Send + Sync {
    /// All below `high_watermark` is written; `bytes` more than at the last call.
    fn on_written(&self, high_watermark: i64, bytes: u64);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// -1 for CreateTime.
    pub log_append_time: i64,
    pub log_start_offset: i64,
    /// The batch was a duplicate: these are the original's offsets and nothing was appended.
    pub duplicate: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    #[error(transparent)]
    Storage(#[from] Error),
    #[error("the batch is larger than segment.bytes ({0})")]
    LargerThanSegment(u32),
}

/// What a read returns: whole batches, contiguous.
#[derive(Clone, Debug)]
pub enum LogSlice {
    Memory(Bytes),
    File(FileSlice),
}

#[derive(Clone, Debug, Default)]
pub struct LogRead {
    pub slices: Vec<LogSlice>,
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetOutOfRange {
    pub log_start_offset: i64,
    pub log_end_offset: i64,
}

/// (timestamp, offset, leader epoch of that record).
pub type TimestampOffset = (i64, i64, i32);

#[derive(Debug)]
pub struct Log {/* private */}

impl Log {
    /// Checks the sequence, assigns offsets, copies into the tail and starts the write; memory only, never blocks.
    /// Call on a runtime (inside a LocalSet). Await [`Log::written`] for `last_offset + 1` before acknowledging.
    pub fn append(
        self: &Arc<Log>,
        batch: &ValidBatch<'_>,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        todo!()
    }
    /// Waits until all below `offset` survives kill -9 (or power loss, where flush.messages asks for it).
    pub async fn written(self: &Arc<Log>, offset: i64) -> Result<()> {
        todo!()
    }

    pub fn log_start_offset(&self) -> i64 {
        todo!()
    }
    /// What is written, and so may be read by clients. One replica: the high watermark.
    pub fn high_watermark(&self) -> i64 {
        todo!()
    }
    /// Equals the high watermark until there are transactions.
    pub fn last_stable_offset(&self) -> i64 {
        todo!()
    }
    pub fn log_end_offset(&self) -> i64 {
        todo!()
    }
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Batches from the one that contains `offset`, below `max_offset` (exclusive; the high watermark or the last
    /// stable offset), at most `max_bytes`; with `min_one` the first batch comes even if it is larger. Empty at the end.
    /// Short and synchronous: looks into memory and index only; file content is left to the slice's reader.
    pub fn read(
        &self,
        offset: i64,
        max_offset: i64,
        max_bytes: usize,
        min_one: bool,
    ) -> Result<Result<LogRead, OffsetOutOfRange>> {
        todo!()
    }
    /// Bytes between `offset` and `max_offset`, as far as the index tells (for fetch.min.bytes).
    pub fn bytes_between(&self, offset: i64, max_offset: i64) -> u64 {
        todo!()
    }

    /// The first record with a timestamp >= `timestamp` below the high watermark.
    pub async fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>> {
        todo!()
    }
    /// The record with the largest timestamp.
    pub async fn offset_of_max_timestamp(&self) -> Result<Option<TimestampOffset>> {
        todo!()
    }

    pub fn latest_epoch(&self) -> Option<EpochEntry> {
        todo!()
    }
    pub fn epoch_for_offset(&self, offset: i64) -> Option<i32> {
        todo!()
    }
    /// See [`crate::epochs::Epochs::end_offset_for`].
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        todo!()
    }

    /// DeleteRecords: moves the log start offset up (never back, never past the high watermark; the caller checks) and
    /// deletes segments below it. Returns the log start offset.
    pub async fn delete_records(self: &Arc<Log>, offset: i64) -> Result<i64> {
        todo!()
    }

    pub fn config(&self) -> Arc<LogConfig> {
        todo!()
    }
    pub fn update_config(&self, config: LogConfig) {
        todo!()
    }
    pub fn set_observer(&self, observer: Arc<dyn WriteObserver>) {
        todo!()
    }
    pub fn dir(&self) -> PathBuf {
        todo!()
    }
    /// fdatasync of all that is written; moves the recovery point.
    pub async fn flush(self: &Arc<Log>) -> Result<()> {
        todo!()
    }
}

/// All the logs of one process: log directories, locks, checkpoints, the memory of all tails.
#[derive(Debug)]
pub struct LogManager {/* private */}

#[derive(Clone, Debug)]
pub struct LogManagerOptions {
    pub dirs: Vec<PathBuf>,
    pub node_id: i32,
    /// None: whatever meta.properties says, or a new one.
    pub cluster_id: Option<String>,
    pub defaults: LogConfig,
    /// Bound of the memory of all tails together.
    pub tail_bytes: usize,
    pub producer_id_expiration_ms: i64,
}

/// One log found in (or made in) a log directory.
#[derive(Clone, Debug)]
pub struct LogEntry {
    pub topic: String,
    pub partition: i32,
    pub topic_id: Option<uuid::Uuid>,
    pub log: Arc<Log>,
}

impl LogManager {
    /// Locks the directories, formats those that are new (meta.properties; `cluster_id` or a random one), and opens
    /// every log in them: nothing is scanned after a clean stop. Logs are opened with `options.defaults`; the caller
    /// sends each its real config before the first append. Blocking; runs before the runtimes serve.
    pub fn open(options: LogManagerOptions) -> Result<Arc<LogManager>> {
        todo!()
    }
    pub fn io(&self) -> &Io {
        todo!()
    }
    /// meta.properties, the same in every directory but for the directory id.
    pub fn cluster_id(&self) -> &str {
        todo!()
    }
    /// (directory, its id), in the order of `dirs`.
    pub fn dirs(&self) -> Vec<(PathBuf, uuid::Uuid)> {
        todo!()
    }
    /// The logs found at open, `__cluster_metadata-0` included.
    pub fn logs(&self) -> Vec<LogEntry> {
        todo!()
    }
    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Log>> {
        todo!()
    }
    /// Makes the directory (the one of `dirs` with the fewest partitions) and `partition.metadata`; blocking file work.
    pub fn create(
        &self,
        topic: &str,
        partition: i32,
        topic_id: Option<uuid::Uuid>,
        config: LogConfig,
    ) -> Result<Arc<Log>> {
        todo!()
    }
    /// Renames to `-delete`; the files go after file.delete.delay.ms. Waiters get `Error::Offline`.
    pub fn delete(&self, topic: &str, partition: i32) -> Result<()> {
        todo!()
    }
    /// The directory id (meta.properties) of the directory that holds the log.
    pub fn directory_id(&self, topic: &str, partition: i32) -> Option<uuid::Uuid> {
        todo!()
    }
    /// Periodic work, called every second: rolls by time, retention, late deletion, checkpoints, idle memory.
    pub async fn tick(self: &Arc<LogManager>, now_ms: i64) {
        todo!()
    }
    /// Writes and cuts everything, checkpoints, then the clean-shutdown marker.
    pub async fn close(self: &Arc<LogManager>) -> Result<()> {
        todo!()
    }
}
