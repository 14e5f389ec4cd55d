//! One segment: `<base offset>.log` with its `.index`, `.timeindex` and `.txnindex`. Sizes, timestamps, index policy, descriptors.
//! What is appended when, and what is durable, is the log's business.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::batch::BatchHeader;
use crate::io::{File, Io, OpenOptions};
use crate::log::LogConfig;
use crate::offset_index::{self, OffsetIndex};
use crate::time_index::{self, TimeIndex};
use crate::txn_index::{self, AbortedTransaction};
use crate::{Error, Result};

const READ_ONLY: OpenOptions = OpenOptions { create: false, read_only: true, direct: false };
const READ_ONLY_DIRECT: OpenOptions = OpenOptions { direct: true, ..READ_ONLY };

/// Kafka's file name of an offset: twenty digits.
pub fn file_name(offset: i64, suffix: &str) -> String {
    format!("{offset:020}{suffix}")
}

/// The base offset in a file name with that suffix.
pub fn parse_file_name(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The files of a segment. Descriptors are opened on demand and let go when idle, so that a quiet segment costs none.
#[derive(Debug)]
pub struct SegmentFiles {
    io: Io,
    dir: PathBuf,
    base_offset: i64,
    writer: Mutex<Option<File>>,
    direct_writer: Mutex<Option<File>>,
    reader: Mutex<Option<File>>,
    cached_reader: Mutex<Option<File>>,
    was_read: AtomicBool,
}

impl SegmentFiles {
    pub fn new(io: Io, dir: &Path, base_offset: i64) -> SegmentFiles {
        SegmentFiles {
            io,
            dir: dir.to_path_buf(),
            base_offset,
            writer: Mutex::default(),
            direct_writer: Mutex::default(),
            reader: Mutex::default(),
            cached_reader: Mutex::default(),
            was_read: AtomicBool::new(false),
        }
    }

    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    pub fn path(&self, suffix: &str) -> PathBuf {
        self.dir.join(file_name(self.base_offset, suffix))
    }

    /// The descriptor that appends through the page cache; creates the file, and syncs the directory so that the file
    /// outlives a power cut.
    pub fn writer(&self) -> Result<File> {
        self.opened(&self.writer, OpenOptions { create: true, ..Default::default() })
    }

    /// The descriptor that appends whole blocks past the page cache, where the backend can.
    pub fn direct_writer(&self) -> Result<File> {
        self.opened(&self.direct_writer, OpenOptions { create: true, direct: true, ..Default::default() })
    }

    /// The descriptor that reads past the page cache, where the backend can.
    pub fn reader(&self) -> Result<File> {
        self.was_read.store(true, Ordering::Relaxed);
        self.opened(&self.reader, READ_ONLY_DIRECT)
    }

    /// For one read: nothing stays open that was not, though thousands of logs may begin at the same moment.
    pub fn passing_reader(&self) -> Result<File> {
        match &*self.cached_reader.lock() {
            Some(file) => Ok(file.clone()),
            None => self.io.open(&self.path(".log"), READ_ONLY),
        }
    }

    /// The descriptor that reads through the page cache, the kernel reading ahead.
    pub fn cached_reader(&self) -> Result<File> {
        self.was_read.store(true, Ordering::Relaxed);
        self.opened(&self.cached_reader, READ_ONLY)
    }

    /// Opens both readers on `path`, which is still to get this segment's name.
    pub fn open_readers_on(&self, path: &Path) -> Result<()> {
        *self.cached_reader.lock() = Some(self.io.open(path, READ_ONLY)?);
        *self.reader.lock() = Some(self.io.open(path, READ_ONLY_DIRECT)?);
        Ok(())
    }

    /// 0 if there is no such file.
    pub fn index_bytes(&self, suffix: &str) -> Result<u64> {
        let path = self.path(suffix);
        if !self.io.exists(&path) {
            return Ok(0);
        }
        self.io.open(&path, READ_ONLY)?.len()
    }

    /// Lets go of the reading descriptors unless they were asked for since the last call: a consumer that goes through many
    /// segments must not leave one open for each.
    pub fn close_unused_reader(&self) {
        if !self.was_read.swap(false, Ordering::Relaxed) {
            self.reader.lock().take();
            self.cached_reader.lock().take();
        }
    }

    fn opened(&self, descriptor: &Mutex<Option<File>>, options: OpenOptions) -> Result<File> {
        let mut descriptor = descriptor.lock();
        if let Some(file) = &*descriptor {
            return Ok(file.clone());
        }
        let path = self.path(".log");
        let is_new = options.create && !self.io.exists(&path);
        let file = self.io.open(&path, options)?;
        if is_new {
            self.io.sync_dir(&self.dir)?;
        }
        *descriptor = Some(file.clone());
        Ok(file)
    }

    /// A segment that nothing is appended to any more: cut to its length, synced, its indexes written.
    pub fn complete(&self, size: u64, indexes: &IndexBytes) -> Result<()> {
        let file = self.writer()?;
        file.truncate(size)?;
        file.sync_data_blocking()?;
        self.write_indexes(indexes)?;
        self.close();
        Ok(())
    }

    /// Lets go of the descriptors; operations in flight keep theirs.
    pub fn close(&self) {
        self.writer.lock().take();
        self.direct_writer.lock().take();
        self.reader.lock().take();
        self.cached_reader.lock().take();
    }

    /// Replaces the index files, of which there may be older ones from a clean stop. Durable, since nobody looks at them
    /// again once the segment counts as complete.
    pub fn write_indexes(&self, content: &IndexBytes) -> Result<()> {
        self.io.replace(&self.path(".index"), &content.offsets)?;
        self.io.replace(&self.path(".timeindex"), &content.times)?;
        let path = self.path(".txnindex");
        match content.aborted.as_deref() {
            None => {}
            Some([]) => self.io.remove_file(&path)?,
            Some(aborted) => self.io.replace(&path, aborted)?,
        }
        self.io.sync_dir(&self.dir)
    }

    /// Those that an earlier stop left.
    pub fn remove_indexes(&self) -> Result<()> {
        self.io.remove_file(&self.path(".index"))?;
        self.io.remove_file(&self.path(".timeindex"))
    }

    /// Empty if there is no file.
    pub fn read_aborted(&self) -> Result<Vec<AbortedTransaction>> {
        let path = self.path(".txnindex");
        let bytes = self.io.read_small(&path)?.unwrap_or_default();
        txn_index::parse(&bytes).map_err(|what| Error::corrupt(path, what))
    }

    pub fn remove(&self) -> Result<()> {
        self.close();
        for suffix in [".log", ".index", ".timeindex", ".txnindex"] {
            self.io.remove_file(&self.path(suffix))?;
        }
        Ok(())
    }
}

/// The indexes of a segment that is still written, or not yet finished.
#[derive(Debug)]
pub struct Indexes {
    pub offsets: OffsetIndex,
    pub times: TimeIndex,
    bytes_since_entry: u32,
}

/// The content of the index files.
#[derive(Debug)]
pub struct IndexBytes {
    pub offsets: Vec<u8>,
    pub times: Vec<u8>,
    /// None: the file is as it should be.
    pub aborted: Option<Vec<u8>>,
}

impl Indexes {
    pub fn new(base_offset: i64) -> Indexes {
        Indexes { offsets: OffsetIndex::new(base_offset), times: TimeIndex::new(base_offset), bytes_since_entry: 0 }
    }

    pub fn loaded(offsets: OffsetIndex, times: TimeIndex) -> Indexes {
        Indexes { offsets, times, bytes_since_entry: 0 }
    }
}

#[derive(Debug)]
pub struct Segment {
    pub base_offset: i64,
    /// Bytes appended, those still in memory included.
    pub size: u64,
    /// None once the index files are complete on disk.
    pub indexes: Option<Indexes>,
    /// Transactions that a marker in this segment aborted, in that order; None if they are in the file.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// Those of a compacted segment while its files still have other names.
    pub lent_indexes: Option<Indexes>,
    /// Largest timestamp and the last offset of its batch; None while unknown (found in the index file on demand).
    pub max_timestamp: Option<(i64, i64)>,
    /// The first batch's max timestamp: rolling by time counts from it.
    rolling_timestamp: Option<i64>,
    created_ms: i64,
    /// Recovery read all of it.
    pub scanned: bool,
    /// Varies per segment between 0 and segment.jitter.ms, so that logs do not roll all at once.
    jitter_ms: i64,
    pub files: std::sync::Arc<SegmentFiles>,
}

impl Segment {
    pub fn new(files: SegmentFiles, created_ms: i64, jitter_ms: i64) -> Segment {
        Segment {
            base_offset: files.base_offset,
            size: 0,
            indexes: Some(Indexes::new(files.base_offset)),
            aborted: Some(Vec::new()),
            lent_indexes: None,
            max_timestamp: Some((-1, files.base_offset)),
            rolling_timestamp: None,
            created_ms,
            scanned: false,
            jitter_ms,
            files: std::sync::Arc::new(files),
        }
    }

    /// A segment found on disk, its indexes still in their files.
    pub fn found(files: SegmentFiles, size: u64, created_ms: i64) -> Segment {
        Segment { size, indexes: None, max_timestamp: None, ..Segment::new(files, created_ms, 0) }
    }

    /// What the index files are to hold; None if they do.
    pub fn index_bytes(&self) -> Option<IndexBytes> {
        let Indexes { offsets, times, .. } = self.indexes.as_ref()?;
        let aborted = self.aborted.as_ref().map(|entries| txn_index::to_bytes(entries));
        Some(IndexBytes { offsets: offsets.to_bytes(), times: times.to_bytes(), aborted })
    }

    /// The index files hold what is known.
    pub fn indexes_are_written(&mut self) {
        self.indexes = None;
        self.aborted.take_if(|entries| !entries.is_empty());
    }

    /// Accounts for a batch that goes to position `self.size` with offsets from `base_offset` on.
    pub fn note_batch(&mut self, header: &BatchHeader, base_offset: i64, index_interval_bytes: u32) {
        let last_offset = base_offset + i64::from(header.last_offset_delta);
        let position = self.size as u32;
        let bytes = header.total_bytes() as u32;
        let (max, at) = self.max_timestamp.unwrap_or((-1, self.base_offset));
        // A batch of which compaction left no record has none with that timestamp.
        let is_newer = header.max_timestamp > max && header.record_count > 0;
        let newest = if is_newer { (header.max_timestamp, last_offset) } else { (max, at) };
        self.max_timestamp = Some(newest);
        if self.rolling_timestamp.is_none() {
            self.rolling_timestamp = Some(header.max_timestamp);
        }
        if let Some(indexes) = &mut self.indexes {
            if indexes.bytes_since_entry > index_interval_bytes {
                indexes.offsets.append(last_offset, position);
                indexes.times.append(newest.0, newest.1);
                indexes.bytes_since_entry = 0;
            }
            indexes.bytes_since_entry = indexes.bytes_since_entry.saturating_add(bytes);
        }
        self.size += u64::from(bytes);
    }

    /// Kafka's LogSegment.shouldRoll, for a batch of `bytes` that ends at `last_offset`.
    pub fn should_roll(
        &self,
        config: &LogConfig,
        bytes: usize,
        header: &BatchHeader,
        last_offset: i64,
        now_ms: i64,
    ) -> bool {
        let segment_ms = match config.compact {
            true => config.segment_ms.min(config.max_compaction_lag_ms),
            false => config.segment_ms,
        };
        let too_old = self.size > 0 && {
            let waited_ms = match self.rolling_timestamp {
                Some(first) if first >= 0 => header.max_timestamp.saturating_sub(first),
                _ => now_ms - self.created_ms,
            };
            waited_ms > segment_ms.saturating_sub(self.jitter_ms)
        };
        let full = self.size + bytes as u64 > u64::from(config.segment_bytes) && self.size > 0;
        let indexes_full = self.indexes.as_ref().is_some_and(|i| {
            let limit = config.segment_index_bytes as usize;
            (i.offsets.entries() + 1) * offset_index::ENTRY_BYTES > limit
                || (i.times.entries() + 2) * time_index::ENTRY_BYTES > limit
        });
        let aborted_full = self.aborted.as_ref().is_some_and(|entries| entries.len() >= txn_index::MAX_ENTRIES);
        too_old || full || indexes_full || aborted_full || last_offset - self.base_offset > i64::from(i32::MAX)
    }

    /// An offset that no batch below `position` reaches; None if the index has none.
    pub fn offset_above(&self, position: u64) -> Result<Option<i64>> {
        match &self.indexes {
            Some(indexes) => Ok(indexes.offsets.offset_above(position)),
            None => offset_above_in_file(&self.files, self.base_offset, position),
        }
    }

    fn indexes_in_memory(&self) -> Option<&Indexes> {
        self.indexes.as_ref().or(self.lent_indexes.as_ref())
    }

    /// The position at or before the batch that contains `offset`: from there batches are walked.
    pub fn position_floor(&self, offset: i64) -> Result<u32> {
        match self.indexes_in_memory() {
            Some(indexes) => Ok(indexes.offsets.lookup(offset).1),
            None => position_floor_in_file(&self.files, self.base_offset, offset),
        }
    }

    /// The end of the segment in the time index (Kafka's onBecomeInactiveSegment), so that lookups see the maximum.
    pub fn complete_time_index(&mut self) {
        if let (Some(indexes), Some((timestamp, offset))) = (&mut self.indexes, self.max_timestamp)
            && timestamp >= 0
        {
            indexes.times.append(timestamp, offset);
        }
    }

    /// (timestamp, offset) of the newest record, as far as the time index knows.
    pub fn largest_timestamp(&mut self) -> Result<(i64, i64)> {
        if let Some(known) = self.max_timestamp {
            return Ok(known);
        }
        let path = self.files.path(".timeindex");
        let found = if self.files.io.exists(&path) {
            let file = self.files.io.open(&path, READ_ONLY)?;
            time_index::last_in_file(&file, self.base_offset)?
        } else {
            None
        };
        let newest = found.unwrap_or((-1, self.base_offset));
        self.max_timestamp = Some(newest);
        Ok(newest)
    }

    /// The offset from which on a record with a timestamp >= `timestamp` is to be looked for.
    pub fn offset_floor_for_timestamp(&self, timestamp: i64) -> Result<i64> {
        if let Some(indexes) = self.indexes_in_memory() {
            return Ok(indexes.times.lookup(timestamp).1);
        }
        let path = self.files.path(".timeindex");
        if !self.files.io.exists(&path) {
            return Ok(self.base_offset);
        }
        let file = self.files.io.open(&path, READ_ONLY)?;
        Ok(time_index::lookup_in_file(&file, self.base_offset, timestamp)?.1)
    }
}

fn offset_above_in_file(files: &SegmentFiles, base_offset: i64, position: u64) -> Result<Option<i64>> {
    let path = files.path(".index");
    if !files.io.exists(&path) {
        return Ok(None);
    }
    let file = files.io.open(&path, READ_ONLY)?;
    offset_index::offset_above_in_file(&file, base_offset, position)
}

pub(crate) fn position_floor_in_file(files: &SegmentFiles, base_offset: i64, offset: i64) -> Result<u32> {
    let path = files.path(".index");
    if !files.io.exists(&path) {
        return Ok(0);
    }
    let file = files.io.open(&path, READ_ONLY)?;
    Ok(offset_index::lookup_in_file(&file, base_offset, offset)?.1)
}
