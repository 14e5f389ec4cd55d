//! One partition's log: append to the tail in memory, write behind it (`writer.rs`), read from anywhere (`read.rs`),
//! roll, delete from the front (`retention.rs`). Owner of its segments, producers and epochs.
//!
//! Opening and recovery are in `recovery.rs`, the set of all logs in `manager.rs`.

mod ahead;
mod clean;
mod close;
mod memory;
mod read;
mod retention;
mod tail;
mod txn;
#[cfg(test)]
mod txn_tests;
mod write_back;
mod writer;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use self::ahead::Ahead;
use self::tail::{LARGE_BATCH_BYTES, Tail};
use self::write_back::WriteBack;
use crate::batch::{BatchHeader, TimestampType};
use crate::epochs::{EpochEntry, Epochs};
use crate::io::{ChunkPool, Io};
use crate::producers::{Producers, SequenceCheck, SequenceError};
use crate::segment::{Segment, SegmentFiles};
use crate::validate::{AppendRules, ValidBatch};
use crate::{Error, Result};

pub use crate::manager::{LogEntry, LogManager, LogManagerOptions};
pub(crate) use clean::{Cleaning, ClosedSegment};
pub use memory::Tails;
pub use read::{LogRead, LogSlice, OffsetOutOfRange, TimestampOffset};
pub(crate) use retention::Doomed;

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
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub delete_retention_ms: i64,
}

impl LogConfig {
    /// Every write is to be on the disk before it is acknowledged.
    pub(crate) fn writes_are_durable(&self) -> bool {
        self.flush_messages <= 1
    }
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
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 86_400_000,
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

/// A log that nothing was appended to for so long gives its tail and descriptors back.
const IDLE_MS: i64 = 10_000;

/// One log directory, as its logs see it.
#[derive(Debug, Default)]
pub struct DirHealth {
    failed: AtomicBool,
    logs: Mutex<Vec<std::sync::Weak<Log>>>,
}

impl DirHealth {
    fn add(&self, log: &Arc<Log>) {
        let mut logs = self.logs.lock();
        if logs.len().is_power_of_two() {
            logs.retain(|log| log.strong_count() > 0);
        }
        logs.push(Arc::downgrade(log));
    }

    /// A write or sync in it failed: nothing in it is written any more, and those who wait are told.
    pub(crate) fn fail(&self) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            let logs = std::mem::take(&mut *self.logs.lock());
            logs.iter().filter_map(std::sync::Weak::upgrade).for_each(|log| log.take_offline());
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// What every log of the process shares, or of a directory.
#[derive(Clone, Debug)]
pub struct Shared {
    pub io: Io,
    pub dir: Arc<DirHealth>,
    pub pool: ChunkPool,
    /// Bound of the memory of all tails together.
    pub tail_bytes: usize,
    pub tails: Arc<Tails>,
}

#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    shared: Shared,
    observer: std::sync::OnceLock<Arc<dyn WriteObserver>>,
    /// The directory has another name, since the log was deleted.
    moved_away: Arc<RwLock<bool>>,
    state: Mutex<State>,
}

impl std::fmt::Debug for dyn WriteObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriteObserver")
    }
}

/// A place in the log's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Base offset of the segment.
    pub segment: i64,
    pub byte: u64,
}

/// Where an appended batch ends: once written up to there, everything below `next_offset` is.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: Position,
    next_offset: i64,
}

/// Why the log takes no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The disk is full: tried again every second, and appends are refused until it works.
    NoSpace,
    /// A write or sync failed, or the log was deleted: for good.
    Offline,
}

/// What recovery found, and what changes with every append. Guarded by one short lock.
#[derive(Debug)]
pub(crate) struct State {
    pub config: Arc<LogConfig>,
    /// Oldest first, never empty; the last one is appended to.
    pub segments: VecDeque<Segment>,
    pub log_start_offset: i64,
    pub next_offset: i64,
    /// All below is written.
    pub written_offset: i64,
    /// All below survives power loss.
    pub recovery_point: i64,
    pub producers: Producers,
    pub epochs: Epochs,
    epochs_changed: bool,
    tail: Tail,
    /// So many more large batches are copied into the tail: somebody follows the log there.
    followed: u32,
    marks: VecDeque<Mark>,
    /// The end of the last batch that is written.
    written_end: Position,
    /// The next byte to write.
    write_from: Position,
    ahead: Ahead,
    /// Something was written since the last sync that was not made durable by itself.
    unsynced: bool,
    writer_runs: bool,
    /// It is in the list of logs that hold chunks.
    listed: bool,
    write_back: WriteBack,
    /// Rolled segments whose files are to be completed, oldest first.
    to_finish: VecDeque<Arc<writer::Finish>>,
    finisher_runs: bool,
    /// Producers as they were at each roll whose segment is still to be finished.
    rolled_snapshots: VecDeque<Vec<u8>>,
    waiters: Vec<(i64, Waker)>,
    trouble: Option<Trouble>,
    /// Counts failed writes, so that those who wait learn of one.
    failures: u64,
    /// Counts how often a full disk was tried again.
    retries: u64,
    last_flush_ms: i64,
    /// The log's end when it was last looked at, and since when it has not moved.
    seen_offset: i64,
    quiet_since_ms: i64,
    /// The log changed since it was opened, or recovery changed it: a clean stop has work to do.
    changed: bool,
    /// All below was compacted.
    cleaned_offset: Option<i64>,
    /// A compaction is under way: closed segments stay, and their files stay open.
    cleaning: bool,
    uncleanable: bool,
    replacements: u64,
    /// Files that compaction has replaced.
    replaced: Vec<Doomed>,
}

/// What recovery found in a partition's directory.
pub(crate) struct Recovered {
    pub segments: VecDeque<Segment>,
    pub log_start_offset: i64,
    pub next_offset: i64,
    pub recovery_point: i64,
    pub producers: Producers,
    pub epochs: Epochs,
    /// They differ from what their file says.
    pub epochs_changed: bool,
    pub scanned_bytes: u64,
    /// Bytes of the active segment's file, where space is reserved behind the log's end.
    pub allocated: u64,
    /// The files are not what a clean stop leaves.
    pub changed: bool,
}

impl State {
    pub fn active(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("a log has a segment")
    }

    /// Index of the segment that contains `offset` (the first one for anything older).
    fn segment_index(&self, offset: i64) -> usize {
        self.segments.partition_point(|s| s.base_offset <= offset).saturating_sub(1)
    }

    fn segment(&mut self, base_offset: i64) -> Option<&mut Segment> {
        let i = self.segments.binary_search_by_key(&base_offset, |s| s.base_offset).ok()?;
        self.segments.get_mut(i)
    }

    fn wake(&mut self, all: bool) -> Vec<Waker> {
        let written = self.written_offset;
        let due = self.waiters.extract_if(.., |(offset, _)| all || *offset <= written);
        due.map(|(_, waker)| waker).collect()
    }
}

impl Log {
    pub(crate) fn new(dir: &Path, shared: Shared, config: LogConfig, found: Recovered, now_ms: i64) -> Arc<Log> {
        let active = found.segments.back().expect("recovery makes a segment");
        let end = Position { segment: active.base_offset, byte: active.size };
        let state = State {
            config: Arc::new(config),
            ahead: Ahead::new(found.allocated.max(active.size), active.size),
            unsynced: false,
            segments: found.segments,
            log_start_offset: found.log_start_offset,
            next_offset: found.next_offset,
            written_offset: found.next_offset,
            recovery_point: found.recovery_point,
            producers: found.producers,
            epochs: found.epochs,
            epochs_changed: found.epochs_changed,
            tail: Tail::new(shared.pool.clone()),
            followed: 0,
            marks: VecDeque::new(),
            written_end: end,
            write_from: end,
            writer_runs: false,
            listed: false,
            write_back: WriteBack::new(end.byte),
            to_finish: VecDeque::new(),
            finisher_runs: false,
            rolled_snapshots: VecDeque::new(),
            waiters: Vec::new(),
            trouble: None,
            failures: 0,
            retries: 0,
            last_flush_ms: now_ms,
            seen_offset: found.next_offset,
            quiet_since_ms: now_ms,
            changed: found.changed,
            cleaned_offset: None,
            cleaning: false,
            uncleanable: false,
            replacements: 0,
            replaced: Vec::new(),
        };
        let dir_health = shared.dir.clone();
        let log = Arc::new(Log {
            dir: dir.to_path_buf(),
            shared,
            observer: std::sync::OnceLock::new(),
            moved_away: Arc::default(),
            state: Mutex::new(state),
        });
        dir_health.add(&log);
        log
    }

    /// Checks the sequence, assigns offsets, puts the batch into the tail and starts the write; never waits for the disk
    /// (but for one block when a log with durable writes wakes from idleness). Call on a runtime, inside a LocalSet. Await
    /// [`Log::written`] for `last_offset + 1` before acknowledging.
    pub fn append(
        self: &Arc<Log>,
        batch: &ValidBatch,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.append_checked(batch, leader_epoch, now_ms, None)
    }

    fn append_checked(
        self: &Arc<Log>,
        batch: &ValidBatch,
        leader_epoch: i32,
        now_ms: i64,
        markers: Option<u16>,
    ) -> Result<Appended, AppendError> {
        let ValidBatch { header, bytes, .. } = batch;
        let mut state = self.state.lock();
        if !self.is_online(&state) {
            return Err(self.offline().into());
        }
        let base_offset = state.next_offset;
        if let SequenceCheck::Duplicate { base_offset, last_offset, timestamp } =
            state.producers.check(header, base_offset)?
        {
            let log_append_time = if batch.log_append_time >= 0 { timestamp } else { -1 };
            let log_start_offset = state.log_start_offset;
            return Ok(Appended { base_offset, last_offset, log_append_time, log_start_offset, duplicate: true });
        }
        if let Some(markers) = markers {
            state.producers.check_transaction(header, markers)?;
        }
        let appended = self.put(&mut state, header, bytes, leader_epoch, now_ms)?;
        state.producers.update(header, base_offset, now_ms);
        drop(state);
        self.give_memory_back();
        Ok(Appended { log_append_time: batch.log_append_time, ..appended })
    }

    /// Appends what has been checked.
    fn put(
        self: &Arc<Log>,
        state: &mut State,
        header: &BatchHeader,
        bytes: &Bytes,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let config = state.config.clone();
        let base_offset = state.next_offset;
        if bytes.len() as u64 > u64::from(config.segment_bytes) {
            return Err(AppendError::LargerThanSegment(config.segment_bytes));
        }
        let last_offset = base_offset + i64::from(header.last_offset_delta);
        if state.active().should_roll(&config, bytes.len(), header, last_offset, now_ms) {
            self.roll(state, now_ms);
        }
        let prefix = header.assigned_prefix(base_offset, leader_epoch);
        let is_large = bytes.len() >= LARGE_BATCH_BYTES;
        let is_lent = is_large && state.followed == 0 && !config.writes_are_durable();
        state.followed = state.followed.saturating_sub(u32::from(is_large));
        if !is_lent {
            self.open_tail(state)?;
        }
        let State { tail, segments, .. } = &mut *state;
        let active = segments.back_mut().expect("a log has a segment");
        match is_lent {
            true => tail.lend((active.base_offset, active.size), base_offset, &prefix, bytes.slice(prefix.len()..)),
            false => tail.append_batch(base_offset, &prefix, &bytes[prefix.len()..]),
        }
        active.note_batch(header, base_offset, config.index_interval_bytes);
        let end = Position { segment: active.base_offset, byte: active.size };
        state.epochs_changed |= state.epochs.assign(leader_epoch, base_offset);
        state.next_offset = last_offset + 1;
        state.marks.push_back(Mark { end, next_offset: last_offset + 1 });
        state.changed = true;
        let log_start_offset = state.log_start_offset;
        self.start_writer(state);
        Ok(Appended { base_offset, last_offset, log_append_time: -1, log_start_offset, duplicate: false })
    }

    /// Begins a new segment at the log's end. Its files come with the first write; the old one is completed behind it.
    fn roll(&self, state: &mut State, now_ms: i64) {
        let next_offset = state.next_offset;
        state.active().complete_time_index();
        state.tail.end_segment();
        let snapshot = state.producers.to_snapshot();
        state.rolled_snapshots.push_back(snapshot);
        // Spread without a random source: by the offset and the directory's name.
        let spread = (next_offset as u64 ^ self.dir.as_os_str().len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let jitter_ms = spread.checked_rem(state.config.segment_jitter_ms as u64).unwrap_or(0) as i64;
        let files = SegmentFiles::new(self.shared.io.clone(), &self.dir, next_offset);
        state.segments.push_back(Segment::new(files, now_ms, jitter_ms));
    }

    /// Waits until all below `offset` survives kill -9 (or power loss, where flush.messages asks for it).
    pub async fn written(self: &Arc<Log>, offset: i64) -> Result<()> {
        let mut failures = None;
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.written_offset >= offset {
                return Poll::Ready(Ok(()));
            }
            if !self.is_online(&state) || failures.is_some_and(|seen| seen != state.failures) {
                return Poll::Ready(Err(self.offline()));
            }
            failures = Some(state.failures);
            match state.waiters.iter_mut().find(|(at, waker)| *at == offset && waker.will_wake(cx.waker())) {
                Some(_) => {}
                None => state.waiters.push((offset, cx.waker().clone())),
            }
            Poll::Pending
        })
        .await
    }

    fn is_online(&self, state: &State) -> bool {
        state.trouble.is_none() && !self.shared.dir.has_failed()
    }

    pub(crate) fn is_dir_offline(&self) -> bool {
        self.shared.dir.has_failed()
    }

    fn offline(&self) -> Error {
        Error::Offline { path: self.dir.clone() }
    }

    /// No more writes; those who wait are told.
    pub(crate) fn take_offline(&self) {
        let wakers = {
            let mut state = self.state.lock();
            state.trouble = Some(Trouble::Offline);
            state.failures += 1;
            state.wake(true)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn log_start_offset(&self) -> i64 {
        self.state.lock().log_start_offset
    }

    /// What is written, and so may be read by clients. One replica: the high watermark.
    pub fn high_watermark(&self) -> i64 {
        self.state.lock().written_offset
    }

    pub fn log_end_offset(&self) -> i64 {
        self.state.lock().next_offset
    }

    pub fn size_bytes(&self) -> u64 {
        self.state.lock().segments.iter().map(|s| s.size).sum()
    }

    pub fn latest_epoch(&self) -> Option<EpochEntry> {
        self.state.lock().epochs.latest()
    }

    pub fn epoch_for_offset(&self, offset: i64) -> Option<i32> {
        self.state.lock().epochs.epoch_for_offset(offset)
    }

    /// See [`Epochs::end_offset_for`].
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        let state = self.state.lock();
        match state.epochs.end_offset_for(epoch, state.next_offset) {
            // It ended in what was deleted since.
            (epoch, end) if epoch >= 0 => (epoch, end.max(state.log_start_offset)),
            unknown => unknown,
        }
    }

    pub fn config(&self) -> Arc<LogConfig> {
        self.state.lock().config.clone()
    }

    pub fn update_config(&self, config: LogConfig) {
        self.state.lock().config = Arc::new(config);
    }

    /// Once, before the first append.
    pub fn set_observer(&self, observer: Arc<dyn WriteObserver>) {
        let _ = self.observer.set(observer);
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
