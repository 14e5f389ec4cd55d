//! Walking the records of a batch in memory: nothing is copied, nothing is allocated.

use std::borrow::Cow;

use super::{BatchError, BatchHeader, Compression, HEADER_BYTES, TimestampType};
use crate::compression;

/// One record, borrowed from (decompressed) records bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// The headers as they stand on the wire (count varint and all), so that duplicates survive.
    pub headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// The names of its headers, in order.
    pub fn header_keys(&self) -> Result<Vec<&'a [u8]>, BatchError> {
        let mut headers = Cursor(self.headers);
        let mut keys = Vec::new();
        headers.walk_headers(|key| keys.push(key))?;
        Ok(keys)
    }
}

/// The batch's records section, decompressed if need be. `limit_bytes` bounds what decompression may produce.
pub fn records_bytes(batch: &[u8], limit_bytes: usize) -> Result<Cow<'_, [u8]>, BatchError> {
    let header = BatchHeader::read(batch)?;
    let need = header.total_bytes();
    let section = batch.get(HEADER_BYTES..need).ok_or(BatchError::Truncated { have: batch.len(), need })?;
    match header.compression() {
        None => Err(BatchError::Records("unknown compression type")),
        Some(Compression::None) => Ok(Cow::Borrowed(section)),
        Some(codec) => {
            let mut plain = Vec::new();
            compression::decompress(codec, section, &mut plain, limit_bytes)?;
            Ok(Cow::Owned(plain))
        }
    }
}

/// Walks the records of `records` (decompressed): as many as the header says, and then nothing may be left.
pub fn records<'a>(header: &BatchHeader, records: &'a [u8]) -> Records<'a> {
    Records {
        cursor: Cursor(records),
        remaining: i64::from(header.record_count.max(0)),
        base_offset: header.base_offset,
        base_timestamp: header.base_timestamp,
        log_append_time: (header.timestamp_type() == TimestampType::LogAppendTime).then_some(header.max_timestamp),
    }
}

#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    /// Records still to come; -1 when the walk is over.
    remaining: i64,
    base_offset: i64,
    base_timestamp: i64,
    log_append_time: Option<i64>,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining <= 0 {
            return self.end().map(Err);
        }
        self.remaining -= 1;
        let record = self.read_record();
        if record.is_err() {
            self.remaining = -1;
        }
        Some(record)
    }
}

impl<'a> Records<'a> {
    /// After the last record: once an error if bytes are left , then nothing.
    fn end(&mut self) -> Option<BatchError> {
        let over = std::mem::replace(&mut self.remaining, -1) == -1;
        (!over && !self.cursor.0.is_empty()).then_some(BatchError::Records("bytes are left after the last record"))
    }

    #[inline]
    fn read_record(&mut self) -> Result<Record<'a>, BatchError> {
        let body_bytes = self.cursor.varint()?;
        let mut body = Cursor(self.cursor.take(usize::try_from(body_bytes).map_err(|_| TRUNCATED)?)?);
        body.take(1)?; // attributes, unused
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.nullable()?;
        let value = body.nullable()?;
        let headers = body.0;
        body.walk_headers(|_| {})?;
        if !body.0.is_empty() {
            return Err(BatchError::Records("a record is longer than its fields"));
        }
        Ok(Record {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp: self.log_append_time.unwrap_or(self.base_timestamp.wrapping_add(timestamp_delta)),
            key,
            value,
            headers,
        })
    }
}

pub(super) const TRUNCATED: BatchError = BatchError::Records("a field runs past the end");
pub(super) const VARINT: BatchError = BatchError::Records("a varint is too long");
pub(super) const HEADER_COUNT: BatchError = BatchError::Records("invalid number of record headers");
pub(super) const HEADER_NAME: BatchError = BatchError::Records("negative header name size");

/// The rest of a byte slice.
#[derive(Clone, Debug)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, n: usize) -> Result<&'a [u8], BatchError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, BatchError> {
        let (&byte, rest) = self.0.split_first().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, BatchError> {
        read_varint(|| self.byte())
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, BatchError> {
        read_varlong(|| self.byte())
    }

    /// A length and that many bytes; any negative length means null.
    #[inline]
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, BatchError> {
        match usize::try_from(self.varint()?) {
            Ok(len) => self.take(len).map(Some),
            Err(_) => Ok(None),
        }
    }

    #[inline]
    fn walk_headers(&mut self, mut meet: impl FnMut(&'a [u8])) -> Result<(), BatchError> {
        let count = self.varint()?;
        // A header takes at least two bytes, so that a count beyond the record ends the loop early.
        if count < 0 {
            return Err(HEADER_COUNT);
        }
        for _ in 0..count {
            let name_bytes = usize::try_from(self.varint()?).map_err(|_| HEADER_NAME)?;
            meet(self.take(name_bytes)?);
            self.nullable()?;
        }
        Ok(())
    }
}

/// A zigzag int32 of at most five bytes; bits beyond 32 are dropped, as Kafka drops them.
#[inline]
pub(super) fn read_varint(mut byte: impl FnMut() -> Result<u8, BatchError>) -> Result<i32, BatchError> {
    let first = byte()?;
    let mut value = u32::from(first & 0x7f);
    if first >= 0x80 {
        let mut shift = 7;
        loop {
            let next = byte()?;
            value |= u32::from(next & 0x7f) << shift;
            if next < 0x80 {
                break;
            }
            shift += 7;
            if shift > 28 {
                return Err(VARINT);
            }
        }
    }
    Ok(unzigzag(value.into()) as i32)
}

/// A zigzag int64 of at most ten bytes.
#[inline]
pub(super) fn read_varlong(mut byte: impl FnMut() -> Result<u8, BatchError>) -> Result<i64, BatchError> {
    let first = byte()?;
    let mut value = u64::from(first & 0x7f);
    if first >= 0x80 {
        let mut shift = 7;
        loop {
            let next = byte()?;
            value |= u64::from(next & 0x7f) << shift;
            if next < 0x80 {
                break;
            }
            shift += 7;
            if shift > 63 {
                return Err(VARINT);
            }
        }
    }
    Ok(unzigzag(value))
}

#[inline]
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// How many bytes [`put_varlong`] appends.
pub(crate) fn varlong_bytes(value: i64) -> usize {
    zigzag(value).max(1).ilog2() as usize / 7 + 1
}

/// Appends `value` zigzag encoded.
pub(crate) fn put_varlong(dst: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        dst.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    dst.push(rest as u8);
}
