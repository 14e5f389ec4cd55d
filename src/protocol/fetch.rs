//! Fetch (key 1), versions 4-18, as bytes: the request into flat entries, and the answer as pieces that refer to the
//! records instead of copying them.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_storage::log::{LogRead, LogSlice};
use ottla_storage::txn_index::AbortedTransaction;
use uuid::Uuid;

use super::wire::{LeaderHint, NodeEndpoint, Reader, Result, TopicRef, Writer};
use crate::api::{Body, Part};

const FIRST_FLEXIBLE_VERSION: i16 = 12;
pub const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;
const REPLICA_STATE_TAG: u32 = 1;

/// A topic as clients of a version name it, owned: it outlives the frame, in sessions and while a fetch is parked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

impl TopicKey {
    pub fn as_ref(&self) -> TopicRef<'_> {
        match self {
            TopicKey::Name(name) => TopicRef::Name(name),
            TopicKey::Id(id) => TopicRef::Id(*id),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// -1: a consumer.
    pub replica_id: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub isolation_level: i8,
    pub session_id: i32,
    pub session_epoch: i32,
    pub partitions: Vec<FetchPartition>,
    pub forgotten: Vec<(TopicKey, i32)>,
}

/// What is wanted of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    pub topic: TopicKey,
    pub index: i32,
    /// -1: not known to the client, and so not checked; the same for `last_fetched_epoch`.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    pub max_bytes: i32,
}

impl FetchRequest {
    pub fn parse(body: &[u8], version: i16) -> Result<FetchRequest> {
        let mut reader = Reader::new(body, version >= FIRST_FLEXIBLE_VERSION);
        let r = &mut reader;
        let mut request = FetchRequest {
            replica_id: if version < 15 { r.i32()? } else { -1 },
            max_wait_ms: r.i32()?,
            min_bytes: r.i32()?,
            max_bytes: r.i32()?,
            isolation_level: r.i8()?,
            session_id: if version >= 7 { r.i32()? } else { 0 },
            session_epoch: if version >= 7 { r.i32()? } else { -1 },
            partitions: Vec::new(),
            forgotten: Vec::new(),
        };
        for _ in 0..r.array_len()? {
            let topic = topic_key(r, version)?;
            for _ in 0..r.array_len()? {
                request.partitions.push(partition(r, version, topic.clone())?);
            }
            r.skip_tagged_fields()?;
        }
        if version >= 7 {
            for _ in 0..r.array_len()? {
                let topic = topic_key(r, version)?;
                for _ in 0..r.array_len()? {
                    request.forgotten.push((topic.clone(), r.i32()?));
                }
                r.skip_tagged_fields()?;
            }
        }
        if version >= 11 {
            r.string()?; // rack_id: there is no replica nearer than this one
        }
        r.tagged_fields(|tag, mut field| {
            if tag == REPLICA_STATE_TAG && version >= 15 {
                request.replica_id = field.i32()?;
            }
            Ok(())
        })?;
        Ok(request)
    }
}

fn topic_key(r: &mut Reader<'_>, version: i16) -> Result<TopicKey> {
    if version >= FIRST_VERSION_WITH_TOPIC_IDS {
        Ok(TopicKey::Id(r.uuid()?))
    } else {
        Ok(TopicKey::Name(r.string()?.into()))
    }
}

fn partition(r: &mut Reader<'_>, version: i16, topic: TopicKey) -> Result<FetchPartition> {
    let index = r.i32()?;
    let current_leader_epoch = if version >= 9 { r.i32()? } else { -1 };
    let fetch_offset = r.i64()?;
    let last_fetched_epoch = if version >= 12 { r.i32()? } else { -1 };
    if version >= 5 {
        r.i64()?; // log_start_offset: of a follower
    }
    let max_bytes = r.i32()?;
    r.skip_tagged_fields()?;
    Ok(FetchPartition { topic, index, current_leader_epoch, fetch_offset, last_fetched_epoch, max_bytes })
}

/// One partition's answer.
#[derive(Clone, Debug)]
pub struct PartitionData {
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// (epoch, end offset): the client's log has gone another way from there on.
    pub diverging_epoch: Option<(i32, i64)>,
    pub current_leader: Option<LeaderHint>,
    /// What a read_committed reader is to leave out; None (null on the wire) for others.
    pub aborted: Option<Vec<AbortedTransaction>>,
    pub records: LogRead,
}

impl PartitionData {
    pub fn failed(error_code: i16) -> PartitionData {
        PartitionData {
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted: None,
            records: LogRead::default(),
        }
    }
}

/// Writes the answer. `partitions` keep their order; neighbours of one topic are grouped.
pub fn encode_response(
    version: i16,
    error_code: i16,
    session_id: i32,
    partitions: &[(FetchPartition, PartitionData)],
    endpoints: &[NodeEndpoint],
) -> Body {
    let groups = || partitions.chunk_by(|(a, _), (b, _)| a.topic == b.topic);
    let capacity = 32 + 80 * partitions.len();
    let mut response =
        Pieces { out: Writer::new(capacity, version >= FIRST_FLEXIBLE_VERSION), version, parts: Vec::new() };
    response.out.buf.put_i32(0); // throttle_time_ms
    if version >= 7 {
        response.out.buf.put_i16(error_code);
        response.out.buf.put_i32(session_id);
    }
    response.out.length(groups().count());
    for group in groups() {
        response.out.topic(group[0].0.topic.as_ref());
        response.out.length(group.len());
        for (partition, data) in group {
            response.partition(partition.index, data);
        }
        response.out.no_tagged_fields();
    }
    if endpoints.is_empty() || version < 16 {
        response.out.no_tagged_fields();
    } else {
        response.out.tagged_fields(&[(0, &NodeEndpoint::encode_all(endpoints))]);
    }
    response.cut();
    Body { parts: response.parts }
}

/// The answer in the making: what is written since the last records, and what stands before.
struct Pieces {
    out: Writer,
    version: i16,
    parts: Vec<Part>,
}

impl Pieces {
    fn cut(&mut self) {
        let written = self.out.buf.split();
        if !written.is_empty() {
            self.parts.push(Part::Bytes(written.freeze()));
        }
    }

    fn partition(&mut self, index: i32, data: &PartitionData) {
        let out = &mut self.out;
        out.buf.put_i32(index);
        out.buf.put_i16(data.error_code);
        out.buf.put_i64(data.high_watermark);
        out.buf.put_i64(data.last_stable_offset);
        if self.version >= 5 {
            out.buf.put_i64(data.log_start_offset);
        }
        match &data.aborted {
            None => out.null_array(),
            Some(aborted) => {
                out.length(aborted.len());
                for transaction in aborted {
                    out.buf.put_i64(transaction.producer_id);
                    out.buf.put_i64(transaction.first_offset);
                    out.no_tagged_fields();
                }
            }
        }
        if self.version >= 11 {
            out.buf.put_i32(-1); // preferred_read_replica
        }
        out.length(data.records.bytes);
        if !data.records.slices.is_empty() {
            self.cut();
            self.parts.extend(data.records.slices.iter().map(|slice| match slice {
                LogSlice::Memory(bytes) => Part::Bytes(bytes.clone()),
                LogSlice::File(slice) => Part::File(slice.clone()),
            }));
        }
        self.partition_tags(data);
    }

    fn partition_tags(&mut self, data: &PartitionData) {
        let diverging = data.diverging_epoch.map(|(epoch, end_offset)| {
            let mut content = BytesMut::with_capacity(13);
            content.put_i32(epoch);
            content.put_i64(end_offset);
            content.put_u8(0);
            Bytes::from(content)
        });
        let leader = data.current_leader.map(|leader| leader.encoded());
        match (&diverging, &leader) {
            (None, None) => self.out.no_tagged_fields(),
            (Some(epoch), None) => self.out.tagged_fields(&[(0, epoch)]),
            (None, Some(leader)) => self.out.tagged_fields(&[(1, leader)]),
            (Some(epoch), Some(leader)) => self.out.tagged_fields(&[(0, epoch), (1, leader)]),
        }
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
