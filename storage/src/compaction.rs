//! Log compaction (Kafka's Cleaner): rewrites closed segments so that of each key the last record stays. Synchronous,
//! without a clock and without threads: the time comes from the caller, and so does the pace.
//!
//! A round reads the dirty part into a map of each key's last offset, then writes every segment up to there anew, and
//! puts the new segments in the place of the old ones. What the log lends to it is in `log/clean.rs`, the choice of the
//! log in `cleaner.rs`.

mod cleaned_segment;
mod cleaner;
mod offset_map;
mod pieces;
mod rewrite;
pub(crate) mod swap;
#[cfg(test)]
mod tests;
mod throttle;
mod transactions;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use cleaner::clean_dirtiest;
use offset_map::KeyHash;
pub use offset_map::OffsetMap;
pub use throttle::Throttle;

use crate::batch::{self, BatchError, BatchHeader, record_heads};
use crate::compression::TOO_LARGE;
use crate::log::{Cleaning, ClosedSegment, Log, LogConfig};
use crate::{Error, Result};
pub(crate) use cleaned_segment::CleanedSegment;
use pieces::Batches;
use rewrite::{Rules, Scratch, plain_records};
use transactions::Transactions;

/// Called with the bytes that were read or written; waits as long as the throttle wants, and breaks to stop.
pub type Pace<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    pub from_offset: i64,
    /// All below is clean now.
    pub to_offset: i64,
    pub keys: usize,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The caller's pace said so, or the log was deleted or went offline.
    #[error("the compaction was stopped")]
    Stopped,
    #[error(transparent)]
    Storage(#[from] Error),
}

/// Cleans what may be cleaned of `log` now; None if that is nothing, or another thread is at it.
pub fn clean(log: &Arc<Log>, map: &mut OffsetMap, now_ms: i64, pace: Pace<'_>) -> Result<Option<Cleaned>, CleanError> {
    let Some(cleaning) = log.begin_cleaning() else { return Ok(None) };
    let Some(cleanable) = log.cleanable(now_ms)?.filter(|cleanable| cleanable.dirty_bytes > 0) else { return Ok(None) };
    cleaning.sync_markers()?;
    // A log that was deleted meanwhile is none to go on with.
    let mut pace = |bytes: usize| if log.is_offline() { ControlFlow::Break(()) } else { pace(bytes) };
    map.clear();
    let cleaned = clean_range(&cleaning, cleanable.from, cleanable.until, map, now_ms, &mut pace);
    map.clear();
    cleaned.map(Some)
}

fn clean_range(
    cleaning: &Cleaning,
    from: i64,
    until: i64,
    map: &mut OffsetMap,
    now_ms: i64,
    pace: Pace<'_>,
) -> Result<Cleaned, CleanError> {
    let config = cleaning.log().config();
    read_keys(cleaning, from, until, map, pace)?;
    let to_offset = map.latest_offset() + 1;
    let mut round = Round {
        rules: Rules {
            map,
            now_ms,
            delete_retention_ms: config.delete_retention_ms,
            until,
            last_batches: cleaning.log().last_batches(),
        },
        transactions: Transactions::new(cleaning.aborted_transactions()?),
        scratch: Scratch::default(),
        cleaned: Cleaned { from_offset: from, to_offset, keys: map.len(), bytes_read: 0, bytes_written: 0 },
    };
    for group in groups(cleaning.segments(i64::MIN, to_offset), &config)? {
        round.clean_group(cleaning, &group, &config, pace)?;
    }
    cleaning.done(to_offset);
    Ok(round.cleaned)
}

/// Fills the map with the keys in `from..until`, as far as they fit.
fn read_keys(
    cleaning: &Cleaning,
    from: i64,
    until: i64,
    map: &mut OffsetMap,
    pace: Pace<'_>,
) -> Result<(), CleanError> {
    let mut transactions = Transactions::new(cleaning.aborted_transactions()?);
    let mut memory = KeysMemory::default();
    for segment in cleaning.segments(from, until) {
        let start = u64::from(segment.position_floor(from)?);
        let mut batches = Batches::new(segment.files.reader()?, start, segment.size);
        while let Some((header, batch)) = batches.next(pace)? {
            let read = read_batch_keys(&header, batch, from, &mut transactions, &mut memory, map);
            match read {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(what) => return Err(batches.corrupt(what).into()),
            }
        }
        // Compaction leaves gaps: all up to the next segment is taken into account.
        map.set_latest_offset(segment.end_offset.min(until) - 1);
    }
    Ok(())
}

/// False if the map is full.
fn read_batch_keys(
    header: &BatchHeader,
    batch: &[u8],
    from: i64,
    transactions: &mut Transactions,
    memory: &mut KeysMemory,
    map: &mut OffsetMap,
) -> Result<bool, BatchError> {
    // A damaged key would hide another's record.
    batch::verify_crc(batch)?;
    let (records, count) = match plain_records(header, batch, &mut memory.plain) {
        // Stays whole, and its keys are not known.
        Err(TOO_LARGE) => (&[][..], 0),
        records => (records?, header.record_count),
    };
    let keys = &mut memory.keys;
    keys.clear();
    if !transactions.meet(header, records)? && !header.is_control() {
        for record in record_heads(records, count) {
            let record = record?;
            let offset = header.base_offset.wrapping_add(i64::from(record.offset_delta));
            if let Some(key) = record.key
                && offset >= from
            {
                keys.push((KeyHash::of(key), offset));
            }
            if keys.len() == KEYS_AT_ONCE && !put_all(map, keys) {
                return Ok(false);
            }
        }
    }
    if !put_all(map, keys) {
        return Ok(false);
    }
    if header.last_offset() >= from {
        map.set_latest_offset(header.last_offset());
    }
    Ok(true)
}

fn put_all(map: &mut OffsetMap, keys: &mut Vec<(KeyHash, i64)>) -> bool {
    map.prepare(keys);
    keys.drain(..).all(|(key, offset)| map.put(key, offset))
}

/// Enough for their places in the map to be fetched side by side.
const KEYS_AT_ONCE: usize = 256;

/// Used from batch to batch.
#[derive(Default)]
struct KeysMemory {
    plain: Vec<u8>,
    keys: Vec<(KeyHash, i64)>,
}

/// Adjacent segments that together are not larger than one may be: each group becomes one segment.
fn groups(segments: Vec<ClosedSegment>, config: &LogConfig) -> Result<Vec<Vec<ClosedSegment>>> {
    let (max_bytes, max_index_bytes) = (u64::from(config.segment_bytes), u64::from(config.segment_index_bytes));
    let mut groups: Vec<Vec<ClosedSegment>> = Vec::new();
    let mut sizes = [0; 3];
    for segment in segments {
        let (index_bytes, time_index_bytes) = segment.index_bytes()?;
        let own = [segment.size, index_bytes, time_index_bytes];
        let together = [sizes[0] + own[0], sizes[1] + own[1], sizes[2] + own[2]];
        let fits = together[0] <= max_bytes && together[1].max(together[2]) <= max_index_bytes;
        match groups.last_mut() {
            Some(group)
                if fits
                    && (segment.size == 0 || segment.end_offset - 1 - group[0].base_offset <= i64::from(i32::MAX)) =>
            {
                group.push(segment);
                sizes = together;
            }
            _ => {
                groups.push(vec![segment]);
                sizes = own;
            }
        }
    }
    Ok(groups)
}

struct Round<'a> {
    rules: Rules<'a>,
    transactions: Transactions,
    scratch: Scratch,
    cleaned: Cleaned,
}

impl Round<'_> {
    fn clean_group(
        &mut self,
        cleaning: &Cleaning,
        group: &[ClosedSegment],
        config: &LogConfig,
        pace: Pace<'_>,
    ) -> Result<(), CleanError> {
        let base_offset = group[0].base_offset;
        let mut into = cleaning.create_cleaned(base_offset, self.rules.now_ms)?.ok_or(CleanError::Stopped)?;
        let written = self.write_group(&mut into, group, config, pace);
        let swapped = written.and_then(|()| Ok(into.finish()?)).and_then(|segment| {
            self.cleaned.bytes_written += segment.size;
            cleaning.swap(segment, group, self.rules.now_ms)
        });
        if swapped.is_err() {
            cleaning.discard(base_offset);
        }
        swapped
    }

    fn write_group(
        &mut self,
        into: &mut CleanedSegment,
        group: &[ClosedSegment],
        config: &LogConfig,
        pace: Pace<'_>,
    ) -> Result<(), CleanError> {
        for segment in group {
            let mut batches = Batches::new(segment.files.reader()?, 0, segment.size);
            while let Some((header, batch)) = batches.next(pace)? {
                self.cleaned.bytes_read += batch.len() as u64;
                let kept =
                    self.rules.apply(&header, batch, &mut self.transactions, &mut self.scratch, &mut into.pending);
                let kept = kept.map_err(|what| batches.corrupt(what))?;
                into.note_aborted(self.transactions.take_kept());
                if let Some(header) = kept {
                    let bytes = into.note(&header, config.index_interval_bytes)?;
                    if bytes > 0 && pace(bytes).is_break() {
                        return Err(CleanError::Stopped);
                    }
                }
            }
        }
        Ok(())
    }
}
