//! The usual records all at once: small, without headers, their offsets one after the other. What is not so is for
//! [`records`](super::records()) to walk, record by record.

use std::ops::RangeInclusive;

use super::records::unzigzag;

/// What validation wants to know about a batch's records together.
#[derive(Debug)]
pub(crate) struct PlainRecords {
    pub timestamp_deltas: RangeInclusive<i64>,
    pub all_have_keys: bool,
}

/// Walks `count` records that fill `records`, with the offset deltas from 0. None: they may be valid or not, but are not all
/// plain. A third faster than one by one: nothing but the records' lengths leads from one to the next.
pub(crate) fn plain_records(records: &[u8], count: u32) -> Option<PlainRecords> {
    let (mut at, mut offset_delta, mut keys) = (0, 0, 0);
    let (mut earliest, mut latest, mut timestamp) = (i64::MAX, i64::MIN, None);
    for _ in 0..count {
        let mut fields = Fields::at(records, at)?;
        let body_bytes = fields.varint().and_then(length)?;
        let end = fields.at + body_bytes;
        fields.skip_byte(); // attributes, unused
        let timestamp_delta = fields.varint()?;
        if timestamp != Some(timestamp_delta) {
            timestamp = Some(timestamp_delta);
            earliest = earliest.min(unzigzag(timestamp_delta.into()));
            latest = latest.max(unzigzag(timestamp_delta.into()));
        }
        if fields.varint()? != offset_delta {
            return None;
        }
        offset_delta += 2; // zigzag
        fields = Fields::at(records, fields.at)?;
        if let Some(key_bytes) = fields.varint().map(length)? {
            keys += 1;
            fields = Fields::at(records, fields.at + key_bytes)?;
        }
        let value_bytes = fields.varint().map(length)?;
        let headers = fields.at + value_bytes.unwrap_or(0);
        if headers + 1 != end || *records.get(headers)? != 0 {
            return None;
        }
        at = end;
    }
    let all_have_keys = keys == count;
    (at == records.len()).then_some(PlainRecords { timestamp_deltas: earliest..=latest, all_have_keys })
}

/// The next eight bytes, and where they go on.
struct Fields {
    word: u64,
    at: usize,
}

impl Fields {
    #[inline(always)]
    fn at(bytes: &[u8], at: usize) -> Option<Fields> {
        let word = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
        Some(Fields { word, at })
    }

    #[inline(always)]
    fn skip_byte(&mut self) {
        self.word >>= 8;
        self.at += 1;
    }

    /// Of one or two bytes, still zigzag encoded.
    #[inline(always)]
    fn varint(&mut self) -> Option<u32> {
        let low = self.word as u32;
        if low & 0x80 == 0 {
            self.skip_byte();
            Some(low & 0x7f)
        } else if low & 0x8000 == 0 {
            self.word >>= 16;
            self.at += 2;
            Some(low & 0x7f | low >> 1 & 0x3f80)
        } else {
            None
        }
    }
}

/// None if it is negative, which means null.
#[inline(always)]
fn length(zigzag: u32) -> Option<usize> {
    (zigzag & 1 == 0).then_some((zigzag / 2) as usize)
}
