//! The few Kafka primitives and requests that the generator speaks, encoded by hand at one version each. No sockets.
//!
//! Produce v9 and Fetch v11 address topics by name and are served by both brokers; the rest is the newest version
//! before the flexible encoding. A Produce frame is encoded once and sent many times: only its correlation id changes.

pub mod groups;
pub mod transactions;

use anyhow::{Result, bail, ensure};

pub const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;

const CLIENT_ID: &str = "ottla-load";
/// How long the broker may take over a request before it gives up on it.
const TIMEOUT_MS: i32 = 30_000;

/// ListOffsets' special timestamp for the offset after the last record.
const LATEST: i64 = -1;

/// A request with its length in front, ready for the socket.
pub struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    /// Where the correlation id stands: after the length, the API key and the version.
    const CORRELATION_ID: usize = 8;

    fn new(key: i16, version: i16) -> Self {
        let mut frame = Self { bytes: vec![0; 4] };
        frame.i16(key);
        frame.i16(version);
        frame.i32(0);
        frame.string(CLIENT_ID);
        frame
    }

    fn finish(mut self) -> Self {
        let length = self.bytes.len() as i32 - 4;
        self.set_i32(0, length);
        self
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn set_correlation_id(&mut self, id: i32) {
        self.set_i32(Self::CORRELATION_ID, id);
    }

    fn set_i32(&mut self, at: usize, value: i32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    fn set_i64(&mut self, at: usize, value: i64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }

    fn i8(&mut self, value: i8) {
        self.bytes.push(value as u8);
    }

    fn i16(&mut self, value: i16) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn string(&mut self, value: &str) {
        self.i16(value.len() as i16);
        self.bytes.extend(value.as_bytes());
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// The length of a flexible version's string, bytes or array: one more than it is, as zero means null.
    fn compact_length(&mut self, length: usize) {
        self.uvarint(length as u32 + 1);
    }

    fn compact_string(&mut self, value: &str) {
        self.compact_length(value.len());
        self.bytes.extend(value.as_bytes());
    }

    fn no_tagged_fields(&mut self) {
        self.uvarint(0);
    }
}

/// Produce v9 of one batch to one partition, acks=all.
pub fn produce(topic: &str, partition: i32, batch: &[u8]) -> Frame {
    produce_all(9, None, topic, [partition].into_iter(), batch)
}

/// Produce, of a flexible version, of the same batch to each of `partitions`, acks=all.
fn produce_all(
    version: i16,
    transactional_id: Option<&str>,
    topic: &str,
    partitions: impl ExactSizeIterator<Item = i32>,
    batch: &[u8],
) -> Frame {
    let mut frame = Frame::new(PRODUCE, version);
    frame.no_tagged_fields();
    match transactional_id {
        Some(id) => frame.compact_string(id),
        None => frame.uvarint(0),
    }
    frame.i16(-1); // acks=all
    frame.i32(TIMEOUT_MS);
    frame.compact_length(1);
    frame.compact_string(topic);
    frame.compact_length(partitions.len());
    for partition in partitions {
        frame.i32(partition);
        frame.compact_length(batch.len());
        frame.bytes.extend(batch);
        frame.no_tagged_fields();
    }
    frame.no_tagged_fields(); // topic
    frame.no_tagged_fields(); // request
    frame.finish()
}

/// The base offset that a one-partition Produce v9 was given.
pub fn produced_offset(response: &[u8]) -> Result<i64> {
    let mut fields = Fields::new(response);
    fields.i32()?; // correlation id
    fields.no_tagged_fields()?;
    ensure!(fields.uvarint()? == 2, "expected one topic in the Produce response");
    fields.compact_string()?; // topic
    ensure!(fields.uvarint()? == 2, "expected one partition in the Produce response");
    fields.i32()?;
    fields.error()?;
    fields.i64()
}

/// A sessionless Fetch v11 of some partitions of a topic, whose offsets move from request to request.
pub struct FetchRequest {
    pub frame: Frame,
    /// Where each partition's fetch offset stands in the frame.
    offset_at: Vec<usize>,
}

impl FetchRequest {
    const MAX_WAIT_MS: i32 = 500;
    const MAX_BYTES: i32 = 50 << 20;
    const PARTITION_MAX_BYTES: i32 = 1 << 20;

    pub fn new(topic: &str, partitions: &[i32]) -> Self {
        let mut frame = Frame::new(FETCH, 11);
        frame.i32(-1); // replica id: a consumer
        frame.i32(Self::MAX_WAIT_MS);
        frame.i32(1); // min bytes
        frame.i32(Self::MAX_BYTES);
        frame.i8(0); // read uncommitted
        frame.i32(0); // session id
        frame.i32(-1); // session epoch: sessionless
        frame.i32(1);
        frame.string(topic);
        frame.i32(partitions.len() as i32);
        let mut offset_at = Vec::new();
        for &partition in partitions {
            frame.i32(partition);
            frame.i32(-1); // current leader epoch: unknown
            offset_at.push(frame.bytes.len());
            frame.i64(0);
            frame.i64(-1); // log start offset: a follower's
            frame.i32(Self::PARTITION_MAX_BYTES);
        }
        frame.i32(0); // forgotten topics
        frame.string(""); // rack
        Self { frame: frame.finish(), offset_at }
    }

    pub fn set_offset(&mut self, index: usize, offset: i64) {
        self.frame.set_i64(self.offset_at[index], offset);
    }
}

/// Calls `each(partition, records)` for every partition of a Fetch v11 response.
pub fn fetched(response: &[u8], mut each: impl FnMut(i32, &[u8]) -> Result<()>) -> Result<()> {
    let mut fields = Fields::new(response);
    fields.i32()?; // correlation id
    fields.i32()?; // throttle time
    fields.error()?;
    fields.i32()?; // session id
    for _ in 0..fields.i32()? {
        fields.string()?;
        for _ in 0..fields.i32()? {
            let partition = fields.i32()?;
            fields.error()?;
            fields.take(24)?; // high watermark, last stable offset, log start offset
            for _ in 0..fields.i32()?.max(0) {
                fields.take(16)?; // an aborted transaction
            }
            fields.i32()?; // preferred read replica
            let length = fields.i32()?.max(0) as usize;
            each(partition, fields.take(length)?)?;
        }
    }
    Ok(())
}

/// CreateTopics v4, one topic on one replica.
pub fn create_topic(topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Frame {
    let mut frame = Frame::new(CREATE_TOPICS, 4);
    frame.i32(1);
    frame.string(topic);
    frame.i32(partitions);
    frame.i16(1); // replication factor
    frame.i32(0); // no manual assignment
    frame.i32(configs.len() as i32);
    for (name, value) in configs {
        frame.string(name);
        frame.string(value);
    }
    frame.i32(TIMEOUT_MS);
    frame.i8(0); // not validate-only
    frame.finish()
}

/// DeleteTopics v3, one topic.
pub fn delete_topic(topic: &str) -> Frame {
    let mut frame = Frame::new(DELETE_TOPICS, 3);
    frame.i32(1);
    frame.string(topic);
    frame.i32(TIMEOUT_MS);
    frame.finish()
}

/// The outcome for the one topic of a CreateTopics v4 or DeleteTopics v3: both answer name and error code first.
pub fn topic_outcome(response: &[u8]) -> Result<()> {
    let mut fields = Fields::new(response);
    fields.i32()?; // correlation id
    fields.i32()?; // throttle time
    ensure!(fields.i32()? == 1, "expected one topic in the response");
    fields.string()?;
    fields.error()
}

/// IncrementalAlterConfigs v0, one setting of one topic.
pub fn set_topic_config(topic: &str, name: &str, value: &str) -> Frame {
    let mut frame = Frame::new(INCREMENTAL_ALTER_CONFIGS, 0);
    frame.i32(1);
    frame.i8(2); // a topic
    frame.string(topic);
    frame.i32(1);
    frame.string(name);
    frame.i8(0); // set
    frame.string(value);
    frame.i8(0); // not validate-only
    frame.finish()
}

/// The outcome of an IncrementalAlterConfigs v0 for the one topic.
pub fn config_outcome(response: &[u8]) -> Result<()> {
    let mut fields = Fields::new(response);
    fields.i32()?; // correlation id
    fields.i32()?; // throttle time
    ensure!(fields.i32()? == 1, "expected one resource in the response");
    fields.error()
}

/// ListOffsets v1 of the end of every partition of a topic.
pub fn list_end_offsets(topic: &str, partitions: i32) -> Frame {
    let mut frame = Frame::new(LIST_OFFSETS, 1);
    frame.i32(-1); // replica id: a consumer
    frame.i32(1);
    frame.string(topic);
    frame.i32(partitions);
    for partition in 0..partitions {
        frame.i32(partition);
        frame.i64(LATEST);
    }
    frame.finish()
}

/// The end offsets of a ListOffsets v1 response, by partition.
pub fn end_offsets(response: &[u8]) -> Result<Vec<i64>> {
    let mut fields = Fields::new(response);
    fields.i32()?; // correlation id
    let mut offsets = Vec::new();
    for _ in 0..fields.i32()? {
        fields.string()?;
        for _ in 0..fields.i32()? {
            let partition = fields.i32()?;
            fields.error()?;
            fields.i64()?; // timestamp
            offsets.push((partition, fields.i64()?));
        }
    }
    offsets.sort_unstable();
    Ok(offsets.into_iter().map(|(_, offset)| offset).collect())
}

/// Reads a response field by field.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(response: &'a [u8]) -> Self {
        Self { rest: response }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else { bail!("a response ends too early") };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<&'a [u8]> {
        let length = self.i16()?.max(0) as usize;
        self.take(length)
    }

    fn uvarint(&mut self) -> Result<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a length in a response is longer than five bytes")
    }

    /// Null is empty.
    fn compact_string(&mut self) -> Result<&'a [u8]> {
        let length = self.uvarint()?.saturating_sub(1);
        self.take(length as usize)
    }

    fn no_tagged_fields(&mut self) -> Result<()> {
        ensure!(self.uvarint()? == 0, "tagged fields in a response header");
        Ok(())
    }

    fn error(&mut self) -> Result<()> {
        match self.i16()? {
            0 => Ok(()),
            code => bail!("the broker answered error {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_starts_with_its_length_and_takes_a_new_correlation_id() {
        let mut frame = delete_topic("t");
        frame.set_correlation_id(0x01020304);
        let bytes = frame.bytes();
        assert_eq!(bytes[..4], (bytes.len() as i32 - 4).to_be_bytes());
        assert_eq!(bytes[4..12], [0, 20, 0, 3, 1, 2, 3, 4]);
    }

    #[test]
    fn a_produce_frame_ends_with_the_batch_and_three_empty_tag_sections() {
        let batch = [7; 200];
        let frame = produce("topic", 3, &batch);
        let (before, end) = frame.bytes().split_at(frame.bytes().len() - 203);
        assert_eq!(end[..200], batch);
        assert_eq!(end[200..], [0; 3]);
        assert_eq!(before[before.len() - 6..], [0, 0, 0, 3, 0xc9, 0x01], "partition, then 201 as a varint");
    }

    #[test]
    fn a_fetch_request_moves_each_partition_on_its_own() {
        let mut request = FetchRequest::new("topic", &[4, 5]);
        let length = request.frame.bytes().len();
        request.set_offset(1, 0x1122334455667788);
        let bytes = request.frame.bytes();
        assert_eq!(bytes.len(), length);
        let at = request.offset_at[1];
        assert_eq!(bytes[at - 8..at - 4], 5i32.to_be_bytes());
        assert_eq!(bytes[at..at + 8], 0x1122334455667788i64.to_be_bytes());
        assert_eq!(bytes[request.offset_at[0]..][..8], [0; 8]);
    }

    #[test]
    fn a_produce_error_is_reported_with_its_code() {
        let mut response = vec![0, 0, 0, 9, 0, 2, 2, b't', 2, 0, 0, 0, 0, 0, 0];
        response.extend(42i64.to_be_bytes());
        assert_eq!(produced_offset(&response).unwrap(), 42);
        response[14] = 3;
        assert_eq!(produced_offset(&response).unwrap_err().to_string(), "the broker answered error 3");
        assert!(produced_offset(&response[..9]).is_err());
    }
}
