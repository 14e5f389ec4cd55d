//! Walking records without looking at more than their first fields: what compaction needs to know of each, and where it
//! stands. Values and headers are stepped over.

use std::ops::Range;

use super::BatchError;
use super::records::{TRUNCATED, read_varint, read_varlong};

/// The beginning of a record, and its place in the records' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordHead<'a> {
    /// All of the record, its length included.
    pub span: Range<usize>,
    /// What the length counts begins here: a byte of attributes, then the timestamp delta.
    pub body: usize,
    /// The first byte after the timestamp delta.
    pub after_timestamp: usize,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub has_value: bool,
}

/// The heads of `count` records, after which nothing may be left of `records`.
pub(crate) fn record_heads(records: &[u8], count: i32) -> RecordHeads<'_> {
    RecordHeads { records, at: 0, remaining: count.max(0) }
}

pub(crate) struct RecordHeads<'a> {
    records: &'a [u8],
    at: usize,
    remaining: i32,
}

impl<'a> RecordHeads<'a> {
    #[inline]
    fn read(&self) -> Result<RecordHead<'a>, BatchError> {
        let mut all = Reader { bytes: self.records, at: self.at };
        let body_bytes = usize::try_from(all.varint()?).map_err(|_| TRUNCATED)?;
        let body = all.at;
        let end = body.checked_add(body_bytes).ok_or(TRUNCATED)?;
        let mut fields = Reader { bytes: self.records.get(..end).ok_or(TRUNCATED)?, at: body + 1 };
        let timestamp_delta = read_varlong(|| fields.byte())?;
        let after_timestamp = fields.at;
        let offset_delta = fields.varint()?;
        let key = match usize::try_from(fields.varint()?) {
            Ok(len) => Some(fields.take(len)?),
            Err(_) => None,
        };
        let has_value = fields.varint()? >= 0;
        let span = self.at..end;
        Ok(RecordHead { span, body, after_timestamp, timestamp_delta, offset_delta, key, has_value })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn byte(&mut self) -> Result<u8, BatchError> {
        let byte = *self.bytes.get(self.at).ok_or(TRUNCATED)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, BatchError> {
        read_varint(|| self.byte())
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], BatchError> {
        let taken = self.bytes.get(self.at..self.at.saturating_add(len)).ok_or(TRUNCATED)?;
        self.at += len;
        Ok(taken)
    }
}

impl<'a> Iterator for RecordHeads<'a> {
    type Item = Result<RecordHead<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining <= 0 {
            let left = self.remaining == 0 && self.at < self.records.len();
            self.remaining = -1;
            return left.then_some(Err(BatchError::Records("bytes are left after the last record")));
        }
        self.remaining -= 1;
        let head = self.read();
        match &head {
            Ok(head) => self.at = head.span.end,
            Err(_) => self.remaining = -1,
        }
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{BatchHeader, Compression, HEADER_BYTES, records};
    use crate::test_support::{any_record, build};

    proptest! {
        #[test]
        fn heads_agree_with_whole_records(owned in proptest::collection::vec(any_record(), 1..20)) {
            let batch = build(Compression::None, &owned);
            let header = BatchHeader::read(&batch).unwrap();
            let section = &batch[HEADER_BYTES..];
            let mut end = 0;
            let heads = record_heads(section, header.record_count).map(Result::unwrap);
            for (head, record) in heads.zip(records(&header, section).map(Result::unwrap)) {
                prop_assert_eq!(head.span.start, end);
                prop_assert_eq!(header.base_timestamp + head.timestamp_delta, record.timestamp);
                prop_assert_eq!(header.base_offset + i64::from(head.offset_delta), record.offset);
                prop_assert_eq!(head.key, record.key);
                prop_assert_eq!(head.has_value, record.value.is_some());
                end = head.span.end;
            }
            prop_assert_eq!(end, section.len());
        }

        #[test]
        fn whatever_the_bytes_the_walk_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0..50) {
            let walked = record_heads(&bytes, count).count();
            prop_assert!(walked <= count as usize + 1);
        }
    }
}
