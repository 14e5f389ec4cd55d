//! What a log lends to compaction: which of its segments may be cleaned, and the swap of cleaned segments for old ones.
//! What is kept of them is decided in `compaction.rs`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Doomed, Log, LogConfig, State, Trouble};
use crate::Result;
use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::compaction::{CleanError, CleanedSegment, swap};
use crate::producers::LastBatches;
use crate::segment::{Segment, SegmentFiles, file_name, position_floor_in_file};
use crate::txn_index::AbortedTransaction;

/// The part of a log that a round of compaction may take on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cleanable {
    /// The first offset that was not cleaned yet.
    pub from: i64,
    /// The base offset of the first segment that may not be cleaned.
    pub until: i64,
    pub clean_bytes: u64,
    pub dirty_bytes: u64,
    /// max.compaction.lag.ms has passed for some of it.
    pub overdue: bool,
}

impl Cleanable {
    pub fn ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes).max(1) as f64
    }

    pub fn is_due(&self, config: &LogConfig) -> bool {
        (self.overdue && self.dirty_bytes > 0) || self.ratio() > config.min_cleanable_dirty_ratio
    }
}

/// A segment that is complete on disk.
pub(crate) struct ClosedSegment {
    pub base_offset: i64,
    /// The next segment's base offset.
    pub end_offset: i64,
    pub size: u64,
    pub files: Arc<SegmentFiles>,
}

impl ClosedSegment {
    pub fn position_floor(&self, offset: i64) -> Result<u32> {
        position_floor_in_file(&self.files, self.base_offset, offset)
    }

    /// Of the offset index and the time index.
    pub fn index_bytes(&self) -> Result<(u64, u64)> {
        Ok((self.files.index_bytes(".index")?, self.files.index_bytes(".timeindex")?))
    }

    /// The largest timestamp of the first batch.
    fn first_timestamp(&self) -> Result<Option<i64>> {
        let mut bytes = [0; HEADER_BYTES];
        let whole = self.size > 0 && self.files.reader()?.pread(&mut bytes, 0)? == HEADER_BYTES;
        Ok(BatchHeader::read(&bytes).ok().filter(|_| whole).map(|header| header.max_timestamp))
    }
}

impl State {
    fn closed(&self, i: usize) -> ClosedSegment {
        let Segment { base_offset, size, files, .. } = &self.segments[i];
        let end_offset = self.segments.get(i + 1).map_or(self.next_offset, |next| next.base_offset);
        ClosedSegment { base_offset: *base_offset, end_offset, size: *size, files: files.clone() }
    }
}

/// A compacted log stays this small, whatever its segment.bytes.
const ROLL_EARLY_BYTES: u64 = 512 << 10;

impl Log {
    /// Compaction leaves the active segment alone. For a log whose keys come again and again, this ends it as soon as it
    /// is more than all that is before it: most of it is dirt, then. Call on a runtime, inside a LocalSet.
    pub fn roll_if_mostly_dirty(self: &Arc<Log>, now_ms: i64) {
        let mut state = self.state.lock();
        let (active_bytes, all_bytes) = (state.active().size, state.segments.iter().map(|s| s.size).sum::<u64>());
        let wanted = active_bytes >= ROLL_EARLY_BYTES && active_bytes > all_bytes - active_bytes;
        if wanted && state.config.compact && state.trouble.is_none() {
            self.roll(&mut state, now_ms);
            self.start_writer(&mut state);
        }
    }

    /// Where compaction could begin and end now (Kafka's cleanableOffsets); None for an empty log.
    pub(crate) fn cleanable(&self, now_ms: i64) -> Result<Option<Cleanable>> {
        let stable = self.last_stable_offset();
        let mut state = self.state.lock();
        let config = state.config.clone();
        let from = state.first_dirty_offset();
        // The active segment and those that are not complete on disk yet are never cleaned.
        let last = state.segments.len() - 1;
        let open = state.segments.iter().take(last).position(|s| s.indexes.is_some()).unwrap_or(last);
        let mut bound = stable.min(state.segments[open].base_offset);
        if config.min_compaction_lag_ms > 0 {
            for i in 0..open {
                let dirty = state.segments[i + 1].base_offset > from;
                if dirty && state.segments[i].largest_timestamp()?.0 > now_ms - config.min_compaction_lag_ms {
                    bound = bound.min(state.segments[i].base_offset);
                    break;
                }
            }
        }
        let end = state.segment_index(bound);
        let until = state.segments[end].base_offset;
        let size = |segments: &mut dyn Iterator<Item = &Segment>| segments.map(|s| s.size).sum();
        let first_dirty = state.segment_index(from);
        let dirty_bytes = size(&mut state.segments.range(first_dirty.min(end)..end));
        let clean_bytes = size(&mut state.segments.iter().filter(|s| s.base_offset < from));
        let dirty: Vec<_> = (first_dirty..end).map(|i| state.closed(i)).collect();
        drop(state);
        let mut overdue = false;
        if config.max_compaction_lag_ms < i64::MAX {
            for segment in &dirty {
                let first = segment.first_timestamp()?.filter(|timestamp| *timestamp > 0);
                overdue |= first.is_some_and(|first| first < now_ms - config.max_compaction_lag_ms);
            }
        }
        let cleanable = Cleanable { from, until, clean_bytes, dirty_bytes, overdue };
        Ok((clean_bytes + dirty_bytes > 0).then_some(cleanable))
    }

    #[cfg(test)]
    pub(crate) fn active_base_offset(&self) -> i64 {
        self.state.lock().active().base_offset
    }

    /// How often compaction has put a segment in the place of others. What was read before it rose does not go with what
    /// the log tells of aborted transactions after it.
    pub fn replacements(&self) -> u64 {
        self.state.lock().replacements
    }

    /// For `cleaner-offset-checkpoint`: all below is clean. None if the log was never cleaned.
    pub(crate) fn cleaned_offset(&self) -> Option<i64> {
        self.state.lock().cleaned_offset
    }

    pub(crate) fn set_cleaned_offset(&self, offset: Option<i64>) {
        self.state.lock().cleaned_offset = offset;
    }

    /// No more compaction of this log until the next start: something is wrong with it.
    pub(crate) fn set_uncleanable(&self) {
        self.state.lock().uncleanable = true;
    }

    /// Compaction is wanted, possible, and not under way.
    pub(crate) fn may_be_cleaned(&self) -> bool {
        let state = self.state.lock();
        state.config.compact && !state.uncleanable && !state.cleaning && state.trouble.is_none()
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.state.lock().trouble == Some(Trouble::Offline)
    }

    pub(crate) fn last_batches(&self) -> LastBatches {
        self.state.lock().producers.last_batches()
    }

    /// Files that compaction replaced, to be removed when they are due.
    pub(crate) fn take_replaced(&self) -> Vec<Doomed> {
        std::mem::take(&mut self.state.lock().replaced)
    }

    /// Takes the log for compaction: while the guard lives nothing else removes closed segments or closes their files.
    /// None if another thread has it.
    pub(crate) fn begin_cleaning(self: &Arc<Log>) -> Option<Cleaning> {
        let mut state = self.state.lock();
        (state.trouble != Some(Trouble::Offline) && !std::mem::replace(&mut state.cleaning, true))
            .then(|| Cleaning { log: self.clone() })
    }
}

impl State {
    /// Where the last round of compaction ended, or where the log begins if that is not known or cannot be.
    fn first_dirty_offset(&self) -> i64 {
        let start = self.log_start_offset;
        match self.cleaned_offset {
            Some(cleaned) if (start..=self.next_offset).contains(&cleaned) => cleaned,
            _ => start,
        }
    }
}

/// A log that is being cleaned.
pub(crate) struct Cleaning {
    log: Arc<Log>,
}

impl Drop for Cleaning {
    fn drop(&mut self) {
        self.log.state.lock().cleaning = false;
    }
}

impl Cleaning {
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The closed segments with offsets in `from..until`.
    pub fn segments(&self, from: i64, until: i64) -> Vec<ClosedSegment> {
        let state = self.log.state.lock();
        let all = (0..state.segments.len() - 1).map(|i| state.closed(i));
        all.filter(|segment| segment.end_offset > from && segment.base_offset < until).collect()
    }

    /// Of the whole log: the marker of a transaction may be in a later segment than its records.
    pub fn aborted_transactions(&self) -> Result<Vec<AbortedTransaction>> {
        let segments: Vec<_> = {
            let state = self.log.state.lock();
            state.segments.iter().map(|segment| (segment.aborted.clone(), segment.files.clone())).collect()
        };
        let mut all = Vec::new();
        for (in_memory, files) in segments {
            all.extend(in_memory.map_or_else(|| files.read_aborted(), Ok)?);
        }
        Ok(all)
    }

    /// None if the log was deleted: its directory may belong to a new one of the same name by now.
    pub fn create_cleaned(&self, base_offset: i64, now_ms: i64) -> Result<Option<CleanedSegment>> {
        let _in_place = self.log.moved_away.read();
        if self.log.is_offline() {
            return Ok(None);
        }
        CleanedSegment::create(&self.log.shared.io, &self.log.dir, base_offset, now_ms).map(Some)
    }

    pub fn discard(&self, base_offset: i64) {
        let _in_place = self.log.moved_away.read();
        if !self.log.is_offline() {
            swap::discard(&self.log.shared.io, &self.log.dir, base_offset);
        }
    }

    /// All below `offset` is clean.
    pub fn done(&self, offset: i64) {
        self.log.state.lock().cleaned_offset = Some(offset);
    }

    /// Puts the cleaned segment, which is whole on the disk, in the place of `group`. Readers of the old segments go on
    /// with the descriptors they have. Until the files have their final names the new one is read through a descriptor
    /// and indexes in memory, since its paths still lead to other files.
    pub fn swap(&self, cleaned: Segment, group: &[ClosedSegment], now_ms: i64) -> Result<(), CleanError> {
        let Log { dir, shared, .. } = &*self.log;
        let base_offset = cleaned.base_offset;
        let old: Vec<i64> = group.iter().map(|segment| segment.base_offset).collect();
        let _in_place = self.log.moved_away.read();
        if self.log.is_offline() {
            return Err(CleanError::Stopped);
        }
        let new_log = dir.join(file_name(base_offset, &format!(".log{}", swap::CLEANED)));
        cleaned.files.open_readers_on(&new_log)?;
        for segment in group {
            segment.files.reader()?;
            segment.files.cached_reader()?;
        }
        // Its name says where the log goes on, should the last records before it be left out.
        self.log.state.lock().active().files.writer()?;
        swap::run(&shared.io, dir, &swap::announce(&shared.io, dir, base_offset))?;
        self.replace(cleaned, &old);
        let steps = swap::settle(&shared.io, dir, base_offset, &old);
        if let Err(error) = swap::run(&shared.io, dir, &steps) {
            // The next start completes it. Until then the files on disk are not what the log has in memory.
            self.log.failed(&error);
            self.log.take_offline();
            return Err(error.into());
        }
        let mut state = self.log.state.lock();
        let due_ms = now_ms + state.config.file_delete_delay_ms;
        state.replaced.push(Doomed { paths: swap::deleted(&steps), due_ms });
        if let Some(segment) = state.segment(base_offset) {
            segment.lent_indexes = None;
            segment.indexes_are_written();
        }
        Ok(())
    }

    fn replace(&self, cleaned: Segment, old: &[i64]) {
        let mut state = self.log.state.lock();
        let at = state.segments.partition_point(|s| s.base_offset < cleaned.base_offset);
        let mut later: VecDeque<Segment> = state.segments.split_off(at);
        debug_assert!(later.iter().zip(old).all(|(segment, old)| segment.base_offset == *old));
        later.drain(..old.len());
        state.segments.push_back(cleaned);
        state.segments.append(&mut later);
        state.replacements += 1;
    }
}
