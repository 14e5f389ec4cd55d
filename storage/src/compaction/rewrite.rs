//! One batch of a compacted log: what of it stays, and how it is written (Kafka's RecordFilter and filterTo). A batch
//! that loses nothing is copied as it is; one that loses records keeps its offsets and its producer, and the others'
//! bytes.

use std::io::Write;
use std::ops::Range;

use super::offset_map::OffsetMap;
use super::transactions::Transactions;
use crate::batch::{
    self, BatchError, BatchHeader, Compression, HEADER_BYTES, NO_TIMESTAMP, RecordHead, TimestampType, put_varlong,
    record_heads,
};
use crate::compression::{self, Encoder, TOO_LARGE};
use crate::producers::LastBatches;

/// A batch that decompresses to more stays as it is: memory is bounded, and to keep too much does no harm.
pub const DECOMPRESSED_LIMIT_BYTES: usize = 64 << 20;

/// What a round of cleaning goes by.
pub struct Rules<'a> {
    pub map: &'a OffsetMap,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    /// The first offset that this round does not reach: the batch before it stays, so that the offset is not lost.
    pub until: i64,
    /// Stay too, so that duplicates are still known after a restart.
    pub last_batches: LastBatches,
}

/// Memory that is used from batch to batch.
#[derive(Default)]
pub struct Scratch {
    plain: Vec<u8>,
    /// Where the records that stay stand, adjacent ones in one range.
    kept: Vec<Range<usize>>,
}

/// What stays of a batch.
struct Kept {
    count: i32,
    max_timestamp: i64,
    all: bool,
    tombstones: bool,
}

impl Rules<'_> {
    /// Appends what stays of `batch` to `out`, and returns its header; None if nothing stays.
    pub fn apply(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        transactions: &mut Transactions,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<Option<BatchHeader>, BatchError> {
        let Scratch { plain, kept } = scratch;
        let (records, is_too_large) = match plain_records(header, batch, plain) {
            Err(TOO_LARGE) => (&[][..], true),
            records => (records?, false),
        };
        let discardable = transactions.meet(header, records)?;
        let discard = match header.is_control() {
            true => discardable && header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= self.now_ms),
            false => discardable,
        };
        if is_too_large && !discard {
            out.extend_from_slice(batch);
            return Ok(Some(*header));
        }
        let judged = match discard {
            true => Kept { count: 0, max_timestamp: NO_TIMESTAMP, all: false, tombstones: false },
            false => self.judge(header, records, kept)?,
        };
        if judged.count == 0 {
            if !self.stays_empty(header) {
                return Ok(None);
            }
            let start = out.len();
            out.resize(start + HEADER_BYTES, 0);
            let mut empty = *header;
            empty.set_empty();
            empty.seal(&mut out[start..]);
            return Ok(Some(empty));
        }
        let marks_nothing = discardable && header.is_control();
        let sets_horizon = (judged.tombstones || marks_nothing) && header.delete_horizon_ms().is_none();
        if judged.all && !sets_horizon {
            out.extend_from_slice(batch);
            return Ok(Some(*header));
        }
        // What was damaged on the disk must not get a CRC that says it is whole.
        batch::verify_crc(batch)?;
        let horizon_ms = sets_horizon.then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        rewrite(header, records, kept, &judged, horizon_ms, out).map(Some)
    }

    /// The last batch of a producer, or of the round.
    fn stays_empty(&self, header: &BatchHeader) -> bool {
        let is_last_of_producer = self.last_batches.get(&header.producer_id).is_some_and(|last| match last.offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == last.epoch,
        });
        is_last_of_producer || header.next_offset() == self.until
    }

    fn judge(&self, header: &BatchHeader, records: &[u8], kept: &mut Vec<Range<usize>>) -> Result<Kept, BatchError> {
        kept.clear();
        let mut judged = Kept { count: 0, max_timestamp: NO_TIMESTAMP, all: true, tombstones: false };
        for record in record_heads(records, header.record_count) {
            let record = record?;
            if !header.is_control() && !self.stays(header, &record) {
                judged.all = false;
                continue;
            }
            judged.count += 1;
            judged.tombstones |= !record.has_value;
            judged.max_timestamp = judged.max_timestamp.max(header.base_timestamp.wrapping_add(record.timestamp_delta));
            match kept.last_mut() {
                Some(last) if last.end == record.span.start => last.end = record.span.end,
                _ => kept.push(record.span),
            }
        }
        Ok(judged)
    }

    fn stays(&self, header: &BatchHeader, record: &RecordHead<'_>) -> bool {
        let offset = header.base_offset.wrapping_add(i64::from(record.offset_delta));
        if offset > self.map.latest_offset() {
            return true;
        }
        // Without a key, it is in a compacted log by mistake.
        let Some(key) = record.key else { return false };
        let expired = !record.has_value && header.delete_horizon_ms().is_some_and(|horizon| self.now_ms >= horizon);
        !expired && self.map.is_last(key, offset)
    }
}

/// The records of `batch`, in `plain` if they had to be decompressed.
pub fn plain_records<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
    plain: &'a mut Vec<u8>,
) -> Result<&'a [u8], BatchError> {
    let section = &batch[HEADER_BYTES..];
    match header.compression() {
        None => Err(BatchError::Records("unknown compression type")),
        Some(Compression::None) => Ok(section),
        Some(_) if header.record_count == 0 => Ok(&[]),
        Some(codec) => {
            plain.clear();
            compression::decompress(codec, section, plain, DECOMPRESSED_LIMIT_BYTES)?;
            Ok(plain)
        }
    }
}

fn rewrite(
    header: &BatchHeader,
    records: &[u8],
    kept: &[Range<usize>],
    judged: &Kept,
    horizon_ms: Option<i64>,
    out: &mut Vec<u8>,
) -> Result<BatchHeader, BatchError> {
    let moved;
    let (records, whole) = match horizon_ms {
        None => (records, 0..0),
        Some(horizon_ms) => {
            moved = with_timestamps_from(header, records, kept, judged.count, horizon_ms)?;
            (moved.as_slice(), 0..moved.len())
        }
    };
    let kept = if horizon_ms.is_some() { std::slice::from_ref(&whole) } else { kept };
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    match header.compression().unwrap_or(Compression::None) {
        Compression::None => kept.iter().for_each(|range| out.extend_from_slice(&records[range.clone()])),
        codec => {
            let mut encoder = Encoder::new(codec, None, std::mem::take(out), usize::MAX);
            let written = kept.iter().try_for_each(|range| encoder.write_all(&records[range.clone()]));
            *out = written.and_then(|()| encoder.finish()).expect("memory takes all that is written");
        }
    }
    let mut rewritten = *header;
    if let Some(horizon_ms) = horizon_ms {
        rewritten.set_delete_horizon_ms(horizon_ms);
    }
    if header.timestamp_type() == TimestampType::CreateTime {
        rewritten.max_timestamp = judged.max_timestamp;
    }
    rewritten.record_count = judged.count;
    rewritten.seal(&mut out[start..]);
    Ok(rewritten)
}

/// The records in `kept`, their timestamp deltas counted from another base.
fn with_timestamps_from(
    header: &BatchHeader,
    records: &[u8],
    kept: &[Range<usize>],
    count: i32,
    base_timestamp: i64,
) -> Result<Vec<u8>, BatchError> {
    let mut moved = Vec::with_capacity(kept.iter().map(Range::len).sum::<usize>() + count as usize * 8);
    let mut delta = Vec::new();
    for range in kept {
        let records = &records[range.clone()];
        // As many as there are up to the end of the range: each was walked before.
        let mut at = 0;
        while at < records.len() {
            let record = record_heads(&records[at..], 1).next().expect("one was asked for")?;
            let (attributes, rest) =
                (records[at + record.body], &records[at + record.after_timestamp..at + record.span.end]);
            delta.clear();
            put_varlong(
                &mut delta,
                header.base_timestamp.wrapping_add(record.timestamp_delta).wrapping_sub(base_timestamp),
            );
            put_varlong(&mut moved, (1 + delta.len() + rest.len()) as i64);
            moved.push(attributes);
            moved.extend_from_slice(&delta);
            moved.extend_from_slice(rest);
            at += record.span.end;
        }
    }
    Ok(moved)
}
