//! What a producer may send (Kafka's LogValidator and ProduceRequest.validateRecords), and the rewrite of a batch where
//! the topic asks for it (LogAppendTime, another compression type). Runs without the log's lock.

mod records;
#[cfg(test)]
mod tests;

use std::io::{Read, Write};

use bytes::Bytes;

use crate::batch::{
    self, BatchError, BatchHeader, Compression, HEADER_BYTES, LOG_OVERHEAD_BYTES, MAGIC_V2, NO_TIMESTAMP,
    StreamRecords, TimestampType, field,
};
use crate::compression::{self, Encoder};
use records::RecordChecks;

/// A topic's rules for what is appended.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendRules {
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// `max.message.bytes`: the largest batch, after compression, with its overhead.
    pub max_message_bytes: usize,
    /// None: keep the producer's (`compression.type=producer`).
    pub compression: Option<(Compression, Option<i32>)>,
    /// cleanup.policy contains compact: every record needs a key.
    pub compacted: bool,
}

/// One batch, ready to be appended: only offset and leader epoch are still to be assigned.
#[derive(Clone, Debug)]
pub struct ValidBatch {
    pub header: BatchHeader,
    /// A piece of what the producer sent, unless it had to be rewritten.
    pub bytes: Bytes,
    /// The time written where the timestamp type is LogAppendTime, else -1.
    pub log_append_time: i64,
}

/// Each variant maps to one Kafka error code in the broker; `record_errors` are (batch index, message) for Produce 8+.
/// Kafka sends `message` to the client only where there are record errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub kind: InvalidKind,
    pub message: String,
    pub record_errors: Vec<(i32, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKind {
    CorruptMessage,
    InvalidRecord,
    InvalidTimestamp,
    MessageTooLarge,
    UnsupportedForMessageFormat,
    UnsupportedCompressionType,
}

impl Invalid {
    fn new(kind: InvalidKind, message: impl Into<String>) -> Invalid {
        Invalid { kind, message: message.into(), record_errors: Vec::new() }
    }

    fn record(message: impl Into<String>) -> Invalid {
        Invalid::new(InvalidKind::InvalidRecord, message)
    }
}

/// Records that cannot be walked, in a batch whose CRC is right: sending it again would not help, so not CorruptMessage.
impl From<BatchError> for Invalid {
    fn from(error: BatchError) -> Invalid {
        Invalid::record(error.to_string())
    }
}

/// `records`: the records field of one partition of a Produce request: exactly one v2 batch. `api_version` matters for
/// zstd (needs 7). `now_ms`: the broker's time.
pub fn validate(mut records: Bytes, rules: &AppendRules, api_version: i16, now_ms: i64) -> Result<ValidBatch, Invalid> {
    records.truncate(the_one_batch(&records, api_version)?);
    let batch = records;
    let header = read_header(&batch)?;
    let codec = check_codec(&header, api_version)?;
    check_header(&header, rules)?;
    batch::verify_crc(&batch).map_err(|_| {
        Invalid::new(InvalidKind::CorruptMessage, format!("Record is corrupt (stored crc = {}).", header.crc))
    })?;

    let mut checks = RecordChecks::new(&header, rules, now_ms);
    let section = &batch[HEADER_BYTES..];
    let target = rules.compression.filter(|(target, _)| *target != codec);
    let rewritten = match target {
        None => {
            walk(&header, codec, section, &mut checks)?;
            None
        }
        Some((target, level)) => {
            let encoder = Encoder::new(target, level, vec![0; HEADER_BYTES], rules.max_message_bytes);
            Some(recompress(&header, codec, section, encoder, rules, &mut checks)?)
        }
    };
    let max_timestamp = checks.finish()?;
    Ok(stamp(header, batch, rewritten, target.map_or(codec, |(target, _)| target), rules, max_timestamp, now_ms))
}

/// The batch's size. As in Kafka a piece of a batch behind it is ignored, a second whole one is not.
fn the_one_batch(records: &[u8], api_version: i16) -> Result<usize, Invalid> {
    let Some(bytes) = next_batch_bytes(records)? else {
        return Err(Invalid::record(format!(
            "Produce requests with version {api_version} must have at least one record batch per partition"
        )));
    };
    let (batch, rest) = records.split_at(bytes);
    if batch[field::MAGIC] != MAGIC_V2 {
        return Err(Invalid::record(format!(
            "Produce requests with version {api_version} are only allowed to contain record batches with magic version 2"
        )));
    }
    if next_batch_bytes(rest)?.is_some() {
        return Err(Invalid::record(format!(
            "Produce requests with version {api_version} are only allowed to contain exactly one record batch per partition"
        )));
    }
    Ok(bytes)
}

/// The size of the batch (of any magic) at the start of `buf`; None if it is not whole.
fn next_batch_bytes(buf: &[u8]) -> Result<Option<usize>, Invalid> {
    /// The smallest record of magic 0 after offset and size.
    const MIN_BYTES: i32 = 14;
    let Some(&length) = buf.get(field::BATCH_LENGTH..).and_then(|rest| rest.first_chunk()) else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(length);
    if length < MIN_BYTES {
        return Err(Invalid::new(
            InvalidKind::CorruptMessage,
            format!("Record size {length} is less than the minimum record overhead ({MIN_BYTES})"),
        ));
    }
    match buf.get(field::MAGIC) {
        None => return Ok(None),
        Some(&magic) if magic > MAGIC_V2 => {
            return Err(Invalid::new(InvalidKind::CorruptMessage, format!("Invalid magic found in record: {magic}")));
        }
        Some(_) => {}
    }
    let bytes = LOG_OVERHEAD_BYTES + length as usize;
    Ok((bytes <= buf.len()).then_some(bytes))
}

fn read_header(batch: &[u8]) -> Result<BatchHeader, Invalid> {
    BatchHeader::read(batch).map_err(|_| {
        let size = batch.len();
        Invalid::new(
            InvalidKind::CorruptMessage,
            format!(
                "Record batch is corrupt (the size {size} is smaller than the minimum allowed overhead {HEADER_BYTES})"
            ),
        )
    })
}

fn check_codec(header: &BatchHeader, api_version: i16) -> Result<Compression, Invalid> {
    match header.compression() {
        Some(Compression::Zstd) if api_version < 7 => Err(Invalid::new(
            InvalidKind::UnsupportedCompressionType,
            format!("Produce requests with version {api_version} are not allowed to use ZStandard compression"),
        )),
        Some(codec) => Ok(codec),
        None => Err(Invalid::record(format!("Unknown compression type id: {}", header.attributes & 7))),
    }
}

fn check_header(header: &BatchHeader, rules: &AppendRules) -> Result<(), Invalid> {
    let (base, last, count) = (header.base_offset, header.last_offset(), header.record_count);
    if base != 0 {
        return Err(Invalid::record(format!("The baseOffset of the record batch should be 0, but it is {base}")));
    }
    let size = header.total_bytes();
    if size > rules.max_message_bytes {
        let max = rules.max_message_bytes;
        return Err(Invalid::new(
            InvalidKind::MessageTooLarge,
            format!("The record batch size is {size} bytes which exceeds the maximum configured value of {max}."),
        ));
    }
    if last < 0 {
        return Err(Invalid::record(format!("Batch has an invalid offset range: [{base}, {last}]")));
    }
    if count <= 0 {
        return Err(Invalid::record(format!("Invalid reported count for record batch: {count}")));
    }
    if last + 1 != i64::from(count) {
        return Err(Invalid::record(format!(
            "Inconsistent batch offset range [{base}, {last}] and count of records {count}"
        )));
    }
    if header.is_control() {
        return Err(Invalid::record("Clients are not allowed to write control records"));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(Invalid::record(format!(
            "Invalid sequence number {} in record batch with producerId {}",
            header.base_sequence, header.producer_id
        )));
    }
    Ok(())
}

/// Checks every record of a batch that stays as it is.
fn walk(
    header: &BatchHeader,
    codec: Compression,
    section: &[u8],
    checks: &mut RecordChecks<'_>,
) -> Result<(), Invalid> {
    if codec != Compression::None {
        return walk_stream(&mut StreamRecords::new(header, compression::reader(codec, section)), checks);
    }
    let plain = batch::plain_records(section, header.record_count as u32);
    if plain.is_some_and(|records| checks.all_records(header, &records)) {
        Ok(())
    } else {
        walk_each(header, section, checks)
    }
}

fn walk_each(header: &BatchHeader, section: &[u8], checks: &mut RecordChecks<'_>) -> Result<(), Invalid> {
    for record in batch::records(header, section) {
        let record = record?;
        checks.record(record.offset, record.timestamp, record.key.is_some())?;
    }
    Ok(())
}

fn walk_stream<R: Read>(records: &mut StreamRecords<R>, checks: &mut RecordChecks<'_>) -> Result<(), Invalid> {
    while let Some(record) = records.next()? {
        checks.record(record.offset, record.timestamp, record.has_key)?;
    }
    Ok(())
}

/// Checks every record and returns the batch with the same records compressed by `encoder` behind room for a header.
fn recompress(
    header: &BatchHeader,
    codec: Compression,
    section: &[u8],
    encoder: Encoder,
    rules: &AppendRules,
    checks: &mut RecordChecks<'_>,
) -> Result<Vec<u8>, Invalid> {
    let copy = Ok(encoder);
    let mut records = StreamRecords::new(header, Tee { reader: compression::reader(codec, section), copy });
    walk_stream(&mut records, checks)?;
    records.into_reader().copy.and_then(Encoder::finish).map_err(|_| {
        let max = rules.max_message_bytes;
        Invalid::new(
            InvalidKind::MessageTooLarge,
            format!("The recompressed record batch exceeds the maximum configured value of {max}."),
        )
    })
}

/// Copies all that is read; the copy's failure (it got too large) does not end the reading, so that an invalid record
/// is found first, as in Kafka.
struct Tee<R> {
    reader: R,
    copy: std::io::Result<Encoder>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buf)?;
        if let Ok(encoder) = &mut self.copy
            && let Err(error) = encoder.write_all(&buf[..n])
        {
            self.copy = Err(error);
        }
        Ok(n)
    }
}

/// Writes timestamp type, largest timestamp and codec into the header where they are not what they should be; otherwise
/// the producer's bytes stay untouched.
fn stamp(
    mut header: BatchHeader,
    batch: Bytes,
    rewritten: Option<Vec<u8>>,
    codec: Compression,
    rules: &AppendRules,
    max_timestamp: i64,
    now_ms: i64,
) -> ValidBatch {
    let (max_timestamp, log_append_time) = match rules.timestamp_type {
        TimestampType::CreateTime => (max_timestamp, NO_TIMESTAMP),
        TimestampType::LogAppendTime => (now_ms, now_ms),
    };
    let unchanged =
        rewritten.is_none() && header.timestamp_type() == rules.timestamp_type && header.max_timestamp == max_timestamp;
    if unchanged {
        return ValidBatch { header, bytes: batch, log_append_time };
    }
    let mut bytes = rewritten.unwrap_or_else(|| batch.to_vec());
    header.set_attributes(codec, rules.timestamp_type);
    header.max_timestamp = max_timestamp;
    header.seal(&mut bytes);
    ValidBatch { header, bytes: bytes.into(), log_append_time }
}
