//! Reading a log: from the tail in memory where the batch begins there, else from the segment file; by offset and by
//! time. Nothing here changes the log.

use std::sync::Arc;

use bytes::Bytes;

use super::{Log, Position, State};
use crate::batch::{self, BatchHeader};
use crate::io::{File, FileSlice};
use crate::scan::Scan;
use crate::segment::SegmentFiles;
use crate::{Error, Result};

/// baseOffset, batchLength, and what follows up to and including lastOffsetDelta.
const WALK_BYTES: usize = 27;
/// A record lookup may have to decompress the batch it is in.
const LOOKUP_LIMIT_BYTES: usize = 256 << 20;

/// Within so much of where a log is written directly, files are read past the page cache: the kernel's read-ahead would
/// fill it with reserved space, and direct writes into what is cached are handed to kernel workers.
const READ_AHEAD_BYTES: u64 = 16 << 20;

/// Who reads at the log's end is expected to go on while so many large batches are appended.
const FOLLOWED_BATCHES: u32 = 4096;

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
    /// Where the last slice ends; None if there is none.
    pub end: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetOutOfRange {
    pub log_start_offset: i64,
    pub log_end_offset: i64,
}

/// (timestamp, offset, leader epoch of that record).
pub type TimestampOffset = (i64, i64, i32);

/// Where a read begins.
enum Start {
    Nothing,
    Memory(LogRead),
    /// The batch is at or after `floor` in this file, of which `limit` bytes may be read.
    File {
        files: Arc<SegmentFiles>,
        floor: u64,
        limit: u64,
        /// At or before the batch with `max_offset`, where that is in this file and not the end of what is written.
        max_floor: Option<u64>,
        /// What lies before is read through the page cache.
        cached_below: u64,
        next_segment: Option<i64>,
    },
}

#[derive(Clone, Copy)]
struct Span {
    offset: i64,
    max_offset: i64,
    max_bytes: usize,
    min_one: bool,
}

impl LogRead {
    /// All of it in memory.
    pub async fn into_bytes(self) -> Result<Vec<u8>> {
        let mut all = Vec::with_capacity(self.bytes);
        for slice in self.slices {
            match slice {
                LogSlice::Memory(bytes) => all.extend_from_slice(&bytes),
                LogSlice::File(slice) => all.extend_from_slice(&slice.file.read_at(slice.pos, slice.len).await?),
            }
        }
        Ok(all)
    }
}

impl Log {
    /// Batches from the one that contains `offset`, below `max_offset` (exclusive; the high watermark or the last
    /// stable offset), at most `max_bytes`; with `min_one` the first batch comes even if it is larger. Empty at the end.
    /// The last batch may be cut short when it comes from a file, as in Kafka. Answers at once from memory; a file is
    /// only looked into to find where the batch begins, and its content left to the slice's reader.
    pub async fn read(
        &self,
        offset: i64,
        max_offset: i64,
        max_bytes: usize,
        min_one: bool,
    ) -> Result<Result<LogRead, OffsetOutOfRange>> {
        let mut span = Span { offset, max_offset, max_bytes, min_one };
        loop {
            let start = {
                let mut state = self.state.lock();
                if offset < state.log_start_offset || offset > state.next_offset {
                    let (log_start_offset, log_end_offset) = (state.log_start_offset, state.next_offset);
                    return Ok(Err(OffsetOutOfRange { log_start_offset, log_end_offset }));
                }
                let start = state.start_of(span)?;
                if !matches!(start, Start::File { .. }) {
                    state.followed = FOLLOWED_BATCHES;
                }
                start
            };
            match start {
                Start::Nothing => return Ok(Ok(LogRead::default())),
                Start::Memory(read) => return Ok(Ok(read)),
                Start::File { files, floor, mut limit, max_floor, cached_below, next_segment } => {
                    if let Some(max_floor) = max_floor {
                        let scan = Scan::new(files.cached_reader()?, max_floor, limit).find(span.max_offset).await?;
                        limit = scan.map_or(limit, |(at, _)| at);
                    }
                    let end = (floor + span.max_bytes as u64).min(limit);
                    let file = if end <= cached_below { files.cached_reader()? } else { files.reader()? };
                    if let Some(read) = read_file(&files, file, floor, limit, span).await? {
                        return Ok(Ok(read));
                    }
                    // Compaction and deletion leave gaps: the next batch is in a later segment.
                    let Some(next) = next_segment else { return Ok(Ok(LogRead::default())) };
                    span.offset = next;
                }
            }
        }
    }

    /// The first record with a timestamp >= `timestamp` below the high watermark.
    pub async fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>> {
        let mut from = i64::MIN;
        loop {
            let (files, floor, limit, segment, log_start_offset) = {
                let mut state = self.state.lock();
                let written_end = state.written_end;
                let mut found = None;
                for segment in state.segments.iter_mut().filter(|s| s.base_offset > from) {
                    if segment.largest_timestamp()?.0 >= timestamp {
                        let offset = segment.offset_floor_for_timestamp(timestamp)?;
                        let floor = u64::from(segment.position_floor(offset)?);
                        let limit = written_limit(written_end, segment.base_offset, segment.size);
                        found = Some((segment.files.clone(), floor, limit, segment.base_offset));
                        break;
                    }
                }
                let Some((files, floor, limit, base)) = found else { return Ok(None) };
                (files, floor, limit, base, state.log_start_offset)
            };
            if floor < limit {
                let wanted = |r: &batch::Record<'_>| r.timestamp >= timestamp && r.offset >= log_start_offset;
                if let Some(hit) = find_record(&files, floor, limit, |h| h.max_timestamp >= timestamp, wanted).await? {
                    return Ok(Some(hit));
                }
            }
            from = segment;
        }
    }

    /// The record with the largest timestamp, the first of them if there are several.
    pub async fn offset_of_max_timestamp(&self) -> Result<Option<TimestampOffset>> {
        let largest = {
            let mut state = self.state.lock();
            let mut largest = -1;
            for segment in &mut state.segments {
                largest = largest.max(segment.largest_timestamp()?.0);
            }
            largest
        };
        if largest < 0 { Ok(None) } else { self.offset_for_timestamp(largest).await }
    }
}

fn written_limit(written_end: Position, base_offset: i64, size: u64) -> u64 {
    match base_offset.cmp(&written_end.segment) {
        std::cmp::Ordering::Less => size,
        std::cmp::Ordering::Equal => written_end.byte,
        std::cmp::Ordering::Greater => 0,
    }
}

impl State {
    fn start_of(&self, span: Span) -> Result<Start> {
        if span.offset >= span.max_offset.min(self.written_offset) {
            return Ok(Start::Nothing);
        }
        let i = self.segment_index(span.offset);
        let segment = &self.segments[i];
        let limit = written_limit(self.written_end, segment.base_offset, segment.size);
        if let Some(indexes) = &segment.indexes {
            let floor = u64::from(indexes.offsets.lookup(span.offset).1);
            let in_memory = self.tail.walk_start(segment.base_offset, span.offset);
            if let Some(begin) = in_memory
                && let Some((at, first)) = self.walk(segment.base_offset, begin.max(floor), limit, span.offset)
            {
                let limit = match span.max_offset < self.written_offset {
                    true => self.walk(segment.base_offset, at, limit, span.max_offset).map_or(limit, |(end, _)| end),
                    false => limit,
                };
                let budget = at + span.max_bytes as u64;
                let end = if budget >= limit {
                    limit
                } else {
                    u64::from(indexes.offsets.position_floor(budget as u32)).max(at)
                };
                let end = if end > at { end } else { at + first };
                if end > at + span.max_bytes as u64 && !span.min_one {
                    return Ok(Start::Nothing);
                }
                let slices = self.tail.slices(segment.base_offset, at, end);
                let slices = slices.into_iter().map(LogSlice::Memory).collect();
                let (bytes, end) = ((end - at) as usize, Some(Position { segment: segment.base_offset, byte: end }));
                return Ok(Start::Memory(LogRead { slices, bytes, end }));
            }
            return self.start_in_file(i, floor, limit, span.max_offset);
        }
        let floor = u64::from(segment.position_floor(span.offset)?);
        self.start_in_file(i, floor, limit, span.max_offset)
    }

    fn start_in_file(&self, i: usize, floor: u64, limit: u64, max_offset: i64) -> Result<Start> {
        let next_segment = self.segments.get(i + 1).map(|s| s.base_offset);
        let is_written = self.segments[i].base_offset >= self.written_end.segment;
        let cached_below = if is_written && self.config.writes_are_durable() {
            limit.saturating_sub(READ_AHEAD_BYTES)
        } else {
            u64::MAX
        };
        let ends_here = max_offset < next_segment.unwrap_or(self.written_offset).min(self.written_offset);
        let max_floor = if ends_here { Some(self.segments[i].position_floor(max_offset)?.into()) } else { None };
        let files = self.segments[i].files.clone();
        Ok(Start::File { files, floor, limit, max_floor, cached_below, next_segment })
    }

    /// In memory, from the batch at `position` on: the first that ends at or after `offset`, and its size.
    fn walk(&self, segment: i64, mut position: u64, limit: u64, offset: i64) -> Option<(u64, u64)> {
        let mut head = [0; WALK_BYTES];
        while position < limit && self.tail.copy(segment, position, &mut head) {
            let number = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let base_offset = i64::from(number(0)) << 32 | i64::from(number(4) as u32);
            let bytes = batch::LOG_OVERHEAD_BYTES as u64 + number(8) as u64;
            if base_offset + i64::from(number(23)) >= offset {
                return Some((position, bytes));
            }
            position += bytes;
        }
        None
    }
}

async fn read_file(files: &SegmentFiles, file: File, floor: u64, limit: u64, span: Span) -> Result<Option<LogRead>> {
    if floor >= limit {
        return Ok(None);
    }
    let mut scan = Scan::new(file.clone(), floor, limit);
    let Some((at, first)) = scan.find(span.offset).await? else { return Ok(None) };
    if first.base_offset >= span.max_offset {
        return Ok(Some(LogRead::default()));
    }
    let end = (at + span.max_bytes as u64).min(limit);
    let end = match first.total_bytes() as u64 {
        first if at + first <= end => end,
        first if span.min_one => at + first,
        _ => return Ok(Some(LogRead::default())),
    };
    let bytes = (end - at) as usize;
    let end = Some(Position { segment: files.base_offset(), byte: end });
    Ok(Some(LogRead { slices: vec![LogSlice::File(FileSlice { file, pos: at, len: bytes })], bytes, end }))
}

/// The first record that is `wanted`, in a batch that is `likely` to have it.
async fn find_record(
    files: &SegmentFiles,
    floor: u64,
    limit: u64,
    likely: impl Fn(&BatchHeader) -> bool,
    wanted: impl Fn(&batch::Record<'_>) -> bool,
) -> Result<Option<TimestampOffset>> {
    let file = files.cached_reader()?;
    let mut scan = Scan::new(file.clone(), floor, limit);
    while let Some((at, header)) = scan.next().await? {
        if !likely(&header) {
            continue;
        }
        let bytes = scan.batch(at, &header).await?;
        let corrupt = |e: batch::BatchError| Error::corrupt(file.path(), format!("batch at position {at}: {e}"));
        let records = batch::records_bytes(&bytes, LOOKUP_LIMIT_BYTES).map_err(corrupt)?;
        for record in batch::records(&header, &records) {
            let record = record.map_err(corrupt)?;
            if wanted(&record) {
                return Ok(Some((record.timestamp, record.offset, header.partition_leader_epoch)));
            }
        }
    }
    Ok(None)
}
