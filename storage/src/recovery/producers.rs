//! Producers of a log that is opened: the newest snapshot that is not too new, and what came after it.

use std::collections::VecDeque;
use std::path::Path;

use super::{Known, header_at};
use crate::Result;
use crate::batch::{BatchHeader, MAX_MARKER_BATCH_BYTES, TransactionMarker};
use crate::io::Io;
use crate::producers::Producers;
use crate::segment::{Segment, file_name, parse_file_name};
use crate::txn_index::AbortedTransaction;

/// Makes `producers` what they were when the log ended at `end`.
pub fn load(
    io: &Io,
    dir: &Path,
    names: &[String],
    segments: &VecDeque<Segment>,
    end: i64,
    known: Known,
    producers: &mut Producers,
) -> Result<()> {
    let offsets = snapshots(names);
    if offsets.is_empty() && known.clean {
        // A clean stop writes one, unless nobody ever produced.
        return Ok(());
    }
    let mut from = segments[0].base_offset;
    for offset in offsets.into_iter().rev().filter(|offset| *offset <= end) {
        let path = dir.join(file_name(offset, ".snapshot"));
        let content = io.read_small(&path)?.unwrap_or_default();
        match producers.load_snapshot(&content, known.now_ms) {
            Ok(()) => {
                from = offset;
                break;
            }
            Err(what) => {
                tracing::warn!(file = %path.display(), what, "producer snapshot removed");
                io.remove_file(&path)?;
            }
        }
    }
    for (i, segment) in segments.iter().enumerate() {
        let ends_before = segments.get(i + 1).is_some_and(|next| next.base_offset <= from);
        if !ends_before && from < end && segment.base_offset < end && segment.size > 0 {
            replay(segment, from, end, producers, known.now_ms)?;
        }
    }
    Ok(())
}

fn replay(segment: &Segment, from: i64, end: i64, producers: &mut Producers, now_ms: i64) -> Result<()> {
    let file = segment.files.reader()?;
    let mut position = u64::from(segment.position_floor(from)?);
    let mut marker = [0; MAX_MARKER_BATCH_BYTES];
    while let Some(header) = header_at(&file, position, segment.size)?.filter(|h| h.base_offset < end) {
        if header.base_offset >= from && header.has_producer_id() {
            let batch = match header.is_control() && header.total_bytes() <= marker.len() {
                true => &mut marker[..header.total_bytes()],
                false => &mut [],
            };
            file.pread(batch, position)?;
            note(producers, &header, batch, now_ms);
        }
        position += header.total_bytes() as u64;
    }
    segment.files.close();
    Ok(())
}

/// Takes over what a batch in the log says. `batch`: its bytes, which only control batches need.
pub fn note(producers: &mut Producers, header: &BatchHeader, batch: &[u8], now_ms: i64) -> Option<AbortedTransaction> {
    if !header.is_control() {
        producers.update(header, header.base_offset, now_ms);
        return None;
    }
    let marker = TransactionMarker::read(header, batch).filter(|_| header.has_producer_id())?;
    producers.forget_ended(header.base_offset);
    producers.end_transaction(header, header.base_offset, marker, now_ms)
}

/// Of a clean stop the newest snapshot is kept, of segments those at their base; all others say nothing any more.
pub fn remove_strays(io: &Io, dir: &Path, names: &[String], segments: &VecDeque<Segment>, end: i64) -> Result<()> {
    let offsets = snapshots(names);
    let newest = offsets.iter().copied().filter(|offset| *offset <= end).max();
    for offset in offsets {
        let of_segment = segments.binary_search_by_key(&offset, |segment| segment.base_offset).is_ok();
        if offset > end || !(of_segment || Some(offset) == newest) {
            io.remove_file(&dir.join(file_name(offset, ".snapshot")))?;
        }
    }
    Ok(())
}

/// Offsets of the snapshots, in order.
fn snapshots(names: &[String]) -> Vec<i64> {
    let mut offsets: Vec<i64> = names.iter().filter_map(|name| parse_file_name(name, ".snapshot")).collect();
    offsets.sort_unstable();
    offsets
}
