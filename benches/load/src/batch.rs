//! Record batches (magic 2) as a producer would send them: no compression, payload that won't compress.

use std::time::{SystemTime, UNIX_EPOCH};

/// From the base offset to the record count.
const HEADER_BYTES: usize = 61;

/// A batch is never larger than the batch size it was asked for, unless a single record is.
pub struct Batch {
    pub bytes: Vec<u8>,
    pub records: usize,
}

/// As many records of `record_bytes` value and no key as fit into `batch_bytes`, at least one.
pub fn encode(record_bytes: usize, batch_bytes: usize, random: &mut Random) -> Batch {
    encode_with(record_bytes, batch_bytes, random, |_| None)
}

/// The same with keys of 16 bytes, each of `keys` equally likely.
pub fn encode_keyed(record_bytes: usize, batch_bytes: usize, keys: u64, random: &mut Random) -> Batch {
    encode_with(record_bytes, batch_bytes, random, |random| Some(format!("{:016}", random.next() % keys)))
}

fn encode_with(
    record_bytes: usize,
    batch_bytes: usize,
    random: &mut Random,
    mut key: impl FnMut(&mut Random) -> Option<String>,
) -> Batch {
    let mut records = Vec::with_capacity(batch_bytes);
    let mut count = 0;
    loop {
        let start = records.len();
        let key = key(random);
        push_record(&mut records, count, key.as_deref(), record_bytes, random);
        if count > 0 && HEADER_BYTES + records.len() > batch_bytes {
            records.truncate(start);
            break;
        }
        count += 1;
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let mut checked = Vec::with_capacity(records.len() + 40);
    checked.extend(0i16.to_be_bytes()); // attributes
    checked.extend((count - 1).to_be_bytes()); // last offset delta
    checked.extend(now_ms.to_be_bytes()); // base timestamp
    checked.extend(now_ms.to_be_bytes()); // max timestamp
    checked.extend((-1i64).to_be_bytes()); // producer id
    checked.extend((-1i16).to_be_bytes()); // producer epoch
    checked.extend((-1i32).to_be_bytes()); // base sequence
    checked.extend(count.to_be_bytes());
    checked.extend(records);

    let mut bytes = Vec::with_capacity(checked.len() + 21);
    bytes.extend(0i64.to_be_bytes()); // base offset
    bytes.extend((checked.len() as i32 + 9).to_be_bytes()); // what follows the length
    bytes.extend((-1i32).to_be_bytes()); // partition leader epoch
    bytes.push(2); // magic
    bytes.extend(crc32c::crc32c(&checked).to_be_bytes());
    bytes.extend(checked);
    Batch { bytes, records: count as usize }
}

/// Makes an encoded batch the first of the producer.
pub fn set_producer(batch: &mut [u8], id: i64, epoch: i16, is_transactional: bool) {
    let attributes: i16 = if is_transactional { 0x10 } else { 0 };
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[43..51].copy_from_slice(&id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&0i32.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn push_record(out: &mut Vec<u8>, offset_delta: i32, key: Option<&str>, value_bytes: usize, random: &mut Random) {
    let mut head = vec![0]; // attributes
    push_varint(&mut head, 0); // timestamp delta
    push_varint(&mut head, offset_delta);
    push_varint(&mut head, key.map_or(-1, |key| key.len() as i32));
    head.extend(key.unwrap_or_default().as_bytes());
    push_varint(&mut head, value_bytes as i32);
    push_varint(out, (head.len() + value_bytes + 1) as i32);
    out.extend(head);
    random.fill(out, value_bytes);
    push_varint(out, 0); // headers
}

fn push_varint(out: &mut Vec<u8>, value: i32) {
    let mut rest = ((value << 1) ^ (value >> 31)) as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The whole batches at the start of `records`, as a fetch may cut its last batch short: their bytes, and the offset
/// that follows them, if there is a batch.
pub fn whole_batches(records: &[u8]) -> (usize, Option<i64>) {
    let (mut bytes, mut next_offset) = (0, None);
    while let Some(header) = records[bytes..].first_chunk::<HEADER_BYTES>() {
        let base_offset = i64::from_be_bytes(field(header, 0));
        let length = i32::from_be_bytes(field(header, 8)).max(0) as usize;
        let last_offset_delta = i32::from_be_bytes(field(header, 23));
        if records.len() - bytes < 12 + length {
            break;
        }
        bytes += 12 + length;
        next_offset = Some(base_offset + i64::from(last_offset_delta) + 1);
    }
    (bytes, next_offset)
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| header[at + i])
}

/// xorshift64*: quick, and nothing that a compressor could use.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn fill(&mut self, out: &mut Vec<u8>, bytes: usize) {
        let end = out.len() + bytes;
        while out.len() < end {
            let left = (end - out.len()).min(8);
            out.extend(&self.next().to_le_bytes()[..left]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fills_its_size_and_carries_the_crc_of_what_follows_it() {
        let batch = encode(1024, 65536, &mut Random::new(1));
        assert_eq!(batch.records, 63);
        assert!(batch.bytes.len() <= 65536 && batch.bytes.len() > 65536 - 1100);
        let length = i32::from_be_bytes(batch.bytes[8..12].try_into().unwrap());
        assert_eq!(length as usize + 12, batch.bytes.len());
        assert_eq!(batch.bytes[16], 2);
        assert_eq!(batch.bytes[17..21], crc32c::crc32c(&batch.bytes[21..]).to_be_bytes());
        assert_eq!(batch.bytes[57..61], 63i32.to_be_bytes());
    }

    #[test]
    fn a_record_larger_than_the_batch_size_goes_alone() {
        assert_eq!(encode(1000, 100, &mut Random::new(1)).records, 1);
    }

    #[test]
    fn a_record_is_its_length_then_its_fields() {
        let mut out = Vec::new();
        push_record(&mut out, 70, None, 3, &mut Random::new(1));
        assert_eq!(out[..7], [20, 0, 0, 0x8c, 0x01, 1, 6], "length 10, offset delta 70, key -1, value 3");
        assert_eq!(out.len(), 11);
        assert_eq!(out[10], 0);
    }

    #[test]
    fn a_batch_cut_short_does_not_count() {
        let mut random = Random::new(1);
        let mut second = encode(10, 500, &mut random);
        second.bytes[..8].copy_from_slice(&100i64.to_be_bytes());
        let first = encode(10, 300, &mut random);
        let both = [first.bytes.clone(), second.bytes].concat();
        assert_eq!(whole_batches(&both), (both.len(), Some(100 + second.records as i64)));
        assert_eq!(whole_batches(&both[..both.len() - 1]), (first.bytes.len(), Some(first.records as i64)));
        assert_eq!(whole_batches(&first.bytes[..70]), (0, None));
        assert_eq!(whole_batches(&[]), (0, None));
    }
}
