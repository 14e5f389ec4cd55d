//! Produce (key 0), versions 3-13, as bytes: a walk over the request that builds nothing, and the answer written
//! straight into one buffer. What the records mean is validated elsewhere.

use bytes::{BufMut, Bytes};

use super::wire::{LeaderHint, NodeEndpoint, Reader, Result, TopicRef, Writer};

const FIRST_FLEXIBLE_VERSION: i16 = 9;
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

/// A request whose structure has been checked to its end, so that walking it again cannot fail half way.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRequest<'a> {
    pub transactional_id: Option<&'a str>,
    pub acks: i16,
    pub timeout_ms: i32,
    pub topic_count: usize,
    pub partition_count: usize,
    items: Items<'a>,
}

/// What the walk meets, in wire order: a topic, then its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Topic { topic: TopicRef<'a>, partitions: usize },
    Partition { index: i32, records: &'a [u8] },
}

impl<'a> ProduceRequest<'a> {
    pub fn parse(body: &'a [u8], version: i16) -> Result<ProduceRequest<'a>> {
        let mut reader = Reader::new(body, version >= FIRST_FLEXIBLE_VERSION);
        let transactional_id = reader.nullable_string()?;
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        let topic_count = reader.array_len()?;
        let items = Items { reader, version, topics_left: topic_count, partitions_left: 0 };
        let mut partition_count = 0;
        let mut walk = items;
        while let Some(item) = walk.step()? {
            partition_count += usize::from(matches!(item, Item::Partition { .. }));
        }
        walk.reader.skip_tagged_fields()?;
        Ok(ProduceRequest { transactional_id, acks, timeout_ms, topic_count, partition_count, items })
    }

    pub fn items(&self) -> Items<'a> {
        self.items
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    reader: Reader<'a>,
    version: i16,
    topics_left: usize,
    partitions_left: usize,
}

impl<'a> Items<'a> {
    fn step(&mut self) -> Result<Option<Item<'a>>> {
        if self.partitions_left > 0 {
            return self.partition().map(Some);
        }
        if self.topics_left == 0 {
            return Ok(None);
        }
        self.topics_left -= 1;
        let topic = if self.version >= FIRST_VERSION_WITH_TOPIC_IDS {
            TopicRef::Id(self.reader.uuid()?)
        } else {
            TopicRef::Name(self.reader.string()?)
        };
        self.partitions_left = self.reader.array_len()?;
        if self.partitions_left == 0 {
            self.reader.skip_tagged_fields()?;
        }
        Ok(Some(Item::Topic { topic, partitions: self.partitions_left }))
    }

    fn partition(&mut self) -> Result<Item<'a>> {
        let index = self.reader.i32()?;
        let records = self.reader.nullable_bytes()?.unwrap_or_default();
        self.reader.skip_tagged_fields()?;
        self.partitions_left -= 1;
        if self.partitions_left == 0 {
            self.reader.skip_tagged_fields()?;
        }
        Ok(Item::Partition { index, records })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        self.step().unwrap_or(None)
    }
}

/// One partition's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionResult<'a> {
    pub index: i32,
    pub error_code: i16,
    pub base_offset: i64,
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
    pub record_errors: &'a [(i32, Option<String>)],
    pub error_message: Option<&'a str>,
    pub current_leader: Option<LeaderHint>,
}

impl PartitionResult<'_> {
    pub fn failed(index: i32, error_code: i16) -> PartitionResult<'static> {
        PartitionResult {
            index,
            error_code,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: &[],
            error_message: None,
            current_leader: None,
        }
    }
}

/// Where a partition's answer stands in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(usize);

/// Writes the answer while the request is walked: the same topics and partitions in the same order.
#[derive(Debug)]
pub struct ProduceResponse {
    out: Writer,
    version: i16,
    partitions_left: usize,
}

impl ProduceResponse {
    pub fn new(version: i16, request: &ProduceRequest<'_>) -> ProduceResponse {
        // Names are short; a longer one only makes the buffer grow.
        let capacity = 16 + 48 * request.topic_count + 40 * request.partition_count;
        let mut out = Writer::new(capacity, version >= FIRST_FLEXIBLE_VERSION);
        out.length(request.topic_count);
        ProduceResponse { out, version, partitions_left: 0 }
    }

    pub fn topic(&mut self, topic: TopicRef<'_>, partitions: usize) {
        self.out.topic(topic);
        self.out.length(partitions);
        self.partitions_left = partitions;
        if partitions == 0 {
            self.out.no_tagged_fields();
        }
    }

    pub fn partition(&mut self, result: &PartitionResult<'_>) -> Position {
        let out = &mut self.out;
        let position = Position(out.buf.len());
        out.buf.put_i32(result.index);
        out.buf.put_i16(result.error_code);
        out.buf.put_i64(result.base_offset);
        out.buf.put_i64(result.log_append_time_ms);
        if self.version >= 5 {
            out.buf.put_i64(result.log_start_offset);
        }
        if self.version >= 8 {
            out.length(result.record_errors.len());
            for (batch_index, message) in result.record_errors {
                out.buf.put_i32(*batch_index);
                out.nullable_string(message.as_deref());
                out.no_tagged_fields();
            }
            out.nullable_string(result.error_message);
        }
        match result.current_leader.filter(|_| self.version >= 10) {
            Some(leader) => out.tagged_fields(&[(0, &leader.encoded())]),
            None => out.no_tagged_fields(),
        }
        self.partitions_left -= 1;
        if self.partitions_left == 0 {
            out.no_tagged_fields();
        }
        position
    }

    /// Turns the success that was written at `position` into a failure: the record did not reach the disk.
    pub fn fail(&mut self, position: Position, error_code: i16) {
        let mut fields = &mut self.out.buf[position.0 + 4..];
        fields.put_i16(error_code);
        fields.put_i64(-1);
        fields.put_i64(-1);
        if self.version >= 5 {
            fields.put_i64(-1);
        }
    }

    /// `endpoints`: of the leaders that were named in the answer.
    pub fn finish(mut self, endpoints: &[NodeEndpoint]) -> Bytes {
        self.out.buf.put_i32(0); // throttle_time_ms
        if endpoints.is_empty() || self.version < 10 {
            self.out.no_tagged_fields();
        } else {
            self.out.tagged_fields(&[(0, &NodeEndpoint::encode_all(endpoints))]);
        }
        self.out.buf.freeze()
    }
}

#[cfg(test)]
#[path = "produce_tests.rs"]
mod tests;
