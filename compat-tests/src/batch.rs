//! Record batches as a producer builds them, and as no producer should: every field of the header can be wrong.

use bytes::{BufMut, Bytes};

/// Where the CRC starts to cover: attributes.
const CRC_START: usize = 21;
const HEADER_BYTES: usize = 61;

/// A v2 batch of records that have only a value. `Default` is one valid record with no producer id.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub magic: i8,
    pub attributes: i16,
    pub base_timestamp: i64,
    /// None: that of the last record.
    pub max_timestamp: Option<i64>,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub values: Vec<Option<Vec<u8>>>,
    /// None: as many as there are values.
    pub record_count: Option<i32>,
    /// None: one less than there are values.
    pub last_offset_delta: Option<i32>,
    /// Added to the true length.
    pub length_error: i32,
    /// Exclusive-or'ed into the true CRC.
    pub crc_error: u32,
    /// None: each record's offset delta is its index.
    pub offset_delta: Option<i32>,
    /// A byte after the last record, covered by the length and the CRC.
    pub trailing: bool,
    pub key: Option<Vec<u8>>,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            base_offset: 0,
            leader_epoch: -1,
            magic: 2,
            attributes: 0,
            base_timestamp: crate::records::base_ms(),
            max_timestamp: None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            values: vec![Some(b"value".to_vec())],
            record_count: None,
            last_offset_delta: None,
            length_error: 0,
            crc_error: 0,
            offset_delta: None,
            trailing: false,
            key: Some(b"key".to_vec()),
        }
    }
}

impl Batch {
    /// `count` records with sequences from `base_sequence`.
    pub fn idempotent(producer_id: i64, producer_epoch: i16, base_sequence: i32, count: usize) -> Batch {
        let values = (0..count).map(|i| Some(format!("{base_sequence}+{i}").into_bytes())).collect();
        Batch { producer_id, producer_epoch, base_sequence, values, ..Batch::default() }
    }

    pub fn encode(&self) -> Bytes {
        let mut records = Vec::new();
        for (index, value) in self.values.iter().enumerate() {
            let mut record = vec![0];
            put_varint(&mut record, 0);
            put_varint(&mut record, self.offset_delta.unwrap_or(index as i32).into());
            put_bytes(&mut record, self.key.as_deref());
            put_bytes(&mut record, value.as_deref());
            put_varint(&mut record, 0);
            put_varint(&mut records, record.len() as i64);
            records.extend(record);
        }
        if self.trailing {
            records.push(0);
        }
        let count = self.values.len() as i32;
        let mut batch = Vec::with_capacity(HEADER_BYTES + records.len());
        batch.put_i64(self.base_offset);
        batch.put_i32((HEADER_BYTES - 12 + records.len()) as i32 + self.length_error);
        batch.put_i32(self.leader_epoch);
        batch.put_i8(self.magic);
        batch.put_u32(0);
        batch.put_i16(self.attributes);
        batch.put_i32(self.last_offset_delta.unwrap_or(count - 1));
        batch.put_i64(self.base_timestamp);
        batch.put_i64(self.max_timestamp.unwrap_or(self.base_timestamp));
        batch.put_i64(self.producer_id);
        batch.put_i16(self.producer_epoch);
        batch.put_i32(self.base_sequence);
        batch.put_i32(self.record_count.unwrap_or(count));
        batch.extend(records);
        let crc = crc32c::crc32c(&batch[CRC_START..]) ^ self.crc_error;
        batch[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
        batch.into()
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

/// Zigzag, then seven bits a byte, lowest first.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
