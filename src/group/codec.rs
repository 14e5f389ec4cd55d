//! Records of `__consumer_offsets` to bytes and back, byte for byte Apache Kafka's. A key is its type and fields, a value
//! its version and fields.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};
use uuid::Uuid;

use super::records::{
    Assignment, ClassicMember, CommittedOffset, CurrentAssignment, GroupEpoch, GroupMember, GroupMetadata,
    MemberMetadata, MemberState, Name, Owned, Record, ResolvedRegex, TargetEpoch,
};
use crate::protocol::wire::{Malformed, Reader, Writer};

/// A later format would be misread.
const UNKNOWN_VERSION: Malformed = Malformed("a record's version is not known");

/// The versions that Kafka 4.3 writes where there are several.
const OFFSET_VERSION: i16 = 4;
const OFFSET_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VERSION: i16 = 3;

const NONE: i64 = -1;

/// Appends to a buffer that is used for one record after the other.
type Out<'a> = Writer<&'a mut Vec<u8>>;

impl Record {
    /// Key and value, in `buf`. Not for [`Record::Other`], which nobody writes.
    pub fn encode<'a>(&self, buf: &'a mut Vec<u8>) -> (&'a [u8], Option<&'a [u8]>) {
        buf.clear();
        self.encode_key(buf);
        let key_bytes = buf.len();
        let is_there = self.encode_value(buf).is_some();
        let (key, value) = buf.split_at(key_bytes);
        (key, is_there.then_some(value))
    }

    fn encode_key(&self, buf: &mut Vec<u8>) {
        let (kind, key): (i16, &[&Name]) = match self {
            Record::Offset { group, topic, .. } => (1, &[group, topic]),
            Record::Group { group, .. } => (2, &[group]),
            Record::Epoch { group, .. } => (3, &[group]),
            Record::Partitions { group, .. } => (4, &[group]),
            Record::Member { group, member, .. } => (5, &[group, member]),
            Record::TargetEpoch { group, .. } => (6, &[group]),
            Record::Target { group, member, .. } => (7, &[group, member]),
            Record::Current { group, member, .. } => (8, &[group, member]),
            Record::Regex { group, regex, .. } => (16, &[group, regex]),
            Record::Other { kind } => unreachable!("records of type {kind} are not written here"),
        };
        let mut out = Out::onto(buf, false);
        out.buf.put_i16(kind);
        key.iter().for_each(|part| out.string(part));
        if let Record::Offset { partition, .. } = self {
            out.buf.put_i32(*partition);
        }
    }

    /// None: there is none.
    fn encode_value(&self, buf: &mut Vec<u8>) -> Option<()> {
        match self {
            Record::Offset { value, .. } => encode_offset(value.as_ref()?, buf),
            Record::Group { value, .. } => encode_group(value.as_ref()?, buf),
            Record::Epoch { value: Some(GroupEpoch { epoch, metadata_hash: number }), .. }
            | Record::TargetEpoch { value: Some(TargetEpoch { epoch, timestamp_ms: number }), .. } => {
                let tag = number.to_be_bytes();
                flexible(buf, |out| out.buf.put_i32(*epoch), (*number != 0).then_some(&tag));
            }
            Record::Member { value, .. } => encode_member(value.as_ref()?, buf),
            Record::Target { value, .. } => {
                let value = value.as_ref()?;
                flexible(buf, |out| put_assignment(out, value), None);
            }
            Record::Current { value, .. } => encode_current(value.as_ref()?, buf),
            Record::Regex { value, .. } => encode_regex(value.as_ref()?, buf),
            Record::Epoch { .. } | Record::TargetEpoch { .. } | Record::Partitions { .. } | Record::Other { .. } => {
                return None;
            }
        }
        Some(())
    }

    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Record, Malformed> {
        let mut key = Reader::new(key, false);
        let kind = key.i16()?;
        if !matches!(kind, 0..=8 | 16) {
            return Ok(Record::Other { kind });
        }
        let group = name(&mut key)?;
        Ok(match kind {
            0 | 1 => {
                let (topic, partition) = (name(&mut key)?, key.i32()?);
                Record::Offset { group, topic, partition, value: value.map(decode_offset).transpose()? }
            }
            2 => Record::Group { group, value: value.map(decode_group).transpose()? },
            3 => Record::Epoch { group, value: value.map(decode_epoch).transpose()? },
            4 => Record::Partitions { group, present: value.is_some() },
            5 => Record::Member { group, member: name(&mut key)?, value: value.map(decode_member).transpose()? },
            6 => Record::TargetEpoch { group, value: value.map(decode_target_epoch).transpose()? },
            7 => Record::Target { group, member: name(&mut key)?, value: value.map(decode_target).transpose()? },
            8 => Record::Current { group, member: name(&mut key)?, value: value.map(decode_current).transpose()? },
            _ => Record::Regex { group, regex: name(&mut key)?, value: value.map(decode_regex).transpose()? },
        })
    }
}

fn name(from: &mut Reader<'_>) -> Result<Name, Malformed> {
    from.string().map(Name::from)
}

fn nullable_name(from: &mut Reader<'_>) -> Result<Option<Name>, Malformed> {
    Ok(from.nullable_string()?.map(Name::from))
}

fn blob(from: &mut Reader<'_>) -> Result<Bytes, Malformed> {
    Ok(Bytes::copy_from_slice(from.nullable_bytes()?.unwrap_or_default()))
}

fn put_blob(out: &mut Writer<impl BufMut>, bytes: &[u8]) {
    out.length(bytes.len());
    out.buf.put_slice(bytes);
}

fn put_names(out: &mut Out<'_>, names: &std::collections::BTreeSet<Name>) {
    out.length(names.len());
    names.iter().for_each(|name| out.string(name));
}

fn names<C: FromIterator<Name>>(from: &mut Reader<'_>) -> Result<C, Malformed> {
    (0..from.array_len()?).map(|_| name(from)).collect()
}

/// A flexible value of version 0, with tag 0 if there is something in it.
fn flexible(buf: &mut Vec<u8>, fields: impl FnOnce(&mut Out<'_>), tag: Option<&[u8; 8]>) {
    let mut out = Out::onto(buf, true);
    out.buf.put_i16(0);
    fields(&mut out);
    match tag {
        Some(content) => out.tagged_fields(&[(0, content)]),
        None => out.no_tagged_fields(),
    }
}

/// The version in front of a value, which must be one of `0..=last`; the rest is flexible from `flexible_from` on.
fn versioned(value: &[u8], last: i16, flexible_from: i16) -> Result<(i16, Reader<'_>), Malformed> {
    let version = Reader::new(value, false).i16()?;
    if !(0..=last).contains(&version) {
        return Err(UNKNOWN_VERSION);
    }
    Ok((version, Reader::new(&value[2..], version >= flexible_from)))
}

fn encode_offset(value: &CommittedOffset, buf: &mut Vec<u8>) {
    let version = if value.expire_timestamp_ms.is_some() { OFFSET_VERSION_WITH_EXPIRY } else { OFFSET_VERSION };
    let mut out = Out::onto(buf, version >= 4);
    out.buf.put_i16(version);
    out.buf.put_i64(value.offset);
    if version >= 3 {
        out.buf.put_i32(value.leader_epoch);
    }
    out.string(&value.metadata);
    out.buf.put_i64(value.commit_timestamp_ms);
    if let Some(expire_timestamp_ms) = value.expire_timestamp_ms {
        out.buf.put_i64(expire_timestamp_ms);
    }
    if value.topic_id.is_nil() {
        out.no_tagged_fields();
    } else {
        out.tagged_fields(&[(0, value.topic_id.as_bytes())]);
    }
}

fn decode_offset(value: &[u8]) -> Result<CommittedOffset, Malformed> {
    let (version, mut from) = versioned(value, OFFSET_VERSION, 4)?;
    let mut decoded = CommittedOffset {
        offset: from.i64()?,
        leader_epoch: if version >= 3 { from.i32()? } else { -1 },
        metadata: name(&mut from)?,
        commit_timestamp_ms: from.i64()?,
        expire_timestamp_ms: if version == 1 { Some(from.i64()?).filter(|time| *time != NONE) } else { None },
        topic_id: Uuid::nil(),
    };
    from.tagged_fields(|tag, mut content| {
        if tag == 0 {
            decoded.topic_id = content.uuid()?;
        }
        Ok(())
    })?;
    Ok(decoded)
}

fn encode_group(value: &GroupMetadata, buf: &mut Vec<u8>) {
    let mut out = Out::onto(buf, false);
    out.buf.put_i16(GROUP_VERSION);
    out.string(&value.protocol_type);
    out.buf.put_i32(value.generation);
    out.nullable_string(value.protocol.as_deref());
    out.nullable_string(value.leader.as_deref());
    out.buf.put_i64(value.state_timestamp_ms.unwrap_or(NONE));
    out.length(value.members.len());
    for member in &value.members {
        out.string(&member.member_id);
        out.nullable_string(member.instance_id.as_deref());
        out.string(&member.client_id);
        out.string(&member.client_host);
        out.buf.put_i32(member.rebalance_timeout_ms);
        out.buf.put_i32(member.session_timeout_ms);
        put_blob(&mut out, &member.subscription);
        put_blob(&mut out, &member.assignment);
    }
}

fn decode_group(value: &[u8]) -> Result<GroupMetadata, Malformed> {
    let (version, mut from) = versioned(value, 4, 4)?;
    let protocol_type = name(&mut from)?;
    let generation = from.i32()?;
    let protocol = nullable_name(&mut from)?;
    let leader = nullable_name(&mut from)?;
    let state_timestamp_ms = if version >= 2 { Some(from.i64()?).filter(|time| *time != NONE) } else { None };
    let members = (0..from.array_len()?).map(|_| decode_group_member(&mut from, version)).collect::<Result<_, _>>()?;
    Ok(GroupMetadata { protocol_type, generation, protocol, leader, state_timestamp_ms, members })
}

fn decode_group_member(from: &mut Reader<'_>, version: i16) -> Result<GroupMember, Malformed> {
    let member_id = name(from)?;
    let instance_id = if version >= 3 { nullable_name(from)? } else { None };
    let (client_id, client_host) = (name(from)?, name(from)?);
    let rebalance_timeout_ms = if version >= 1 { Some(from.i32()?).filter(|timeout| *timeout != -1) } else { None };
    let session_timeout_ms = from.i32()?;
    let member = GroupMember {
        member_id,
        instance_id,
        client_id,
        client_host,
        // Before there was a rebalance timeout the session's stood for it.
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription: blob(from)?,
        assignment: blob(from)?,
    };
    from.skip_tagged_fields()?;
    Ok(member)
}

fn decode_epoch(value: &[u8]) -> Result<GroupEpoch, Malformed> {
    let (_, mut from) = versioned(value, 0, 0)?;
    let mut decoded = GroupEpoch { epoch: from.i32()?, metadata_hash: 0 };
    from.tagged_fields(|tag, mut content| {
        if tag == 0 {
            decoded.metadata_hash = content.i64()?;
        }
        Ok(())
    })?;
    Ok(decoded)
}

fn decode_target_epoch(value: &[u8]) -> Result<TargetEpoch, Malformed> {
    // The same fields: an int32, and an int64 in tag 0.
    decode_epoch(value).map(|decoded| TargetEpoch { epoch: decoded.epoch, timestamp_ms: decoded.metadata_hash })
}

fn encode_member(value: &MemberMetadata, buf: &mut Vec<u8>) {
    let mut out = Out::onto(buf, true);
    out.buf.put_i16(0);
    out.nullable_string(value.instance_id.as_deref());
    out.nullable_string(value.rack_id.as_deref());
    out.string(&value.client_id);
    out.string(&value.client_host);
    put_names(&mut out, &value.topics);
    out.string(&value.regex);
    out.buf.put_i32(value.rebalance_timeout_ms);
    out.nullable_string(value.assignor.as_deref());
    match &value.classic {
        None => out.no_tagged_fields(),
        Some(classic) => {
            let mut content = Writer::new(64, true);
            // Not null.
            content.buf.put_i8(1);
            content.buf.put_i32(classic.session_timeout_ms);
            content.length(classic.protocols.len());
            for (name, metadata) in &classic.protocols {
                content.string(name);
                put_blob(&mut content, metadata);
                content.no_tagged_fields();
            }
            content.no_tagged_fields();
            out.tagged_fields(&[(0, &content.buf)]);
        }
    }
}

fn decode_member(value: &[u8]) -> Result<MemberMetadata, Malformed> {
    let (_, mut from) = versioned(value, 0, 0)?;
    let mut decoded = MemberMetadata {
        instance_id: nullable_name(&mut from)?,
        rack_id: nullable_name(&mut from)?,
        client_id: name(&mut from)?,
        client_host: name(&mut from)?,
        topics: names(&mut from)?,
        regex: nullable_name(&mut from)?.unwrap_or_default(),
        rebalance_timeout_ms: from.i32()?,
        assignor: nullable_name(&mut from)?,
        classic: None,
    };
    from.tagged_fields(|tag, mut content| {
        if tag == 0 && content.i8()? == 1 {
            let session_timeout_ms = content.i32()?;
            let protocol = |content: &mut Reader<'_>| {
                let protocol = (name(content)?, blob(content)?);
                content.skip_tagged_fields().map(|()| protocol)
            };
            let protocols = (0..content.array_len()?).map(|_| protocol(&mut content)).collect::<Result<_, _>>()?;
            decoded.classic = Some(ClassicMember { session_timeout_ms, protocols });
        }
        Ok(())
    })?;
    Ok(decoded)
}

fn put_assignment(out: &mut Out<'_>, assignment: &Assignment) {
    out.length(assignment.len());
    for (topic_id, partitions) in assignment {
        out.buf.put_slice(topic_id.as_bytes());
        out.length(partitions.len());
        partitions.iter().for_each(|partition| out.buf.put_i32(*partition));
        out.no_tagged_fields();
    }
}

fn decode_target(value: &[u8]) -> Result<Assignment, Malformed> {
    let (_, mut from) = versioned(value, 0, 0)?;
    let topic = |from: &mut Reader<'_>| {
        let topic_id = from.uuid()?;
        let partitions = (0..from.array_len()?).map(|_| from.i32()).collect::<Result<_, _>>()?;
        from.skip_tagged_fields().map(|()| (topic_id, partitions))
    };
    (0..from.array_len()?).map(|_| topic(&mut from)).collect()
}

fn encode_current(value: &CurrentAssignment, buf: &mut Vec<u8>) {
    let fields = |out: &mut Out<'_>| {
        out.buf.put_i32(value.epoch);
        out.buf.put_i32(value.previous_epoch);
        out.buf.put_i8(match value.state {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown => 127,
        });
        put_owned(out, &value.assigned);
        put_owned(out, &value.revoking);
    };
    flexible(buf, fields, None);
}

fn put_owned(out: &mut Out<'_>, owned: &Owned) {
    out.length(owned.len());
    for (topic_id, partitions) in owned {
        out.buf.put_slice(topic_id.as_bytes());
        out.length(partitions.len());
        partitions.keys().for_each(|partition| out.buf.put_i32(*partition));
        let mut epochs = Writer::new(4 + 4 * partitions.len(), true);
        epochs.length(partitions.len());
        partitions.values().for_each(|epoch| epochs.buf.put_i32(*epoch));
        out.tagged_fields(&[(0, &epochs.buf)]);
    }
}

fn decode_current(value: &[u8]) -> Result<CurrentAssignment, Malformed> {
    let (_, mut from) = versioned(value, 0, 0)?;
    let (epoch, previous_epoch) = (from.i32()?, from.i32()?);
    let state = match from.i8()? {
        0 => MemberState::Stable,
        1 => MemberState::UnrevokedPartitions,
        2 => MemberState::UnreleasedPartitions,
        _ => MemberState::Unknown,
    };
    let assigned = owned(&mut from, epoch)?;
    let revoking = owned(&mut from, epoch)?;
    Ok(CurrentAssignment { epoch, previous_epoch, state, assigned, revoking })
}

/// Records of before Kafka 4.3 have no epochs of partitions: the member's own stands for them.
fn owned(from: &mut Reader<'_>, member_epoch: i32) -> Result<Owned, Malformed> {
    let topic = |from: &mut Reader<'_>| {
        let topic_id = from.uuid()?;
        let partitions: Vec<i32> = (0..from.array_len()?).map(|_| from.i32()).collect::<Result<_, _>>()?;
        let mut epochs = Vec::new();
        from.tagged_fields(|tag, mut content| {
            if tag == 0 {
                epochs = (0..content.array_len()?).map(|_| content.i32()).collect::<Result<_, _>>()?;
            }
            Ok(())
        })?;
        if epochs.len() != partitions.len() {
            epochs = vec![member_epoch.max(0); partitions.len()];
        }
        Ok((topic_id, partitions.into_iter().zip(epochs).collect::<BTreeMap<_, _>>()))
    };
    (0..from.array_len()?).map(|_| topic(from)).collect()
}

fn encode_regex(value: &ResolvedRegex, buf: &mut Vec<u8>) {
    let fields = |out: &mut Out<'_>| {
        put_names(out, &value.topics);
        out.buf.put_i64(value.version);
        out.buf.put_i64(value.timestamp_ms);
    };
    flexible(buf, fields, None);
}

fn decode_regex(value: &[u8]) -> Result<ResolvedRegex, Malformed> {
    let (_, mut from) = versioned(value, 0, 0)?;
    Ok(ResolvedRegex { topics: names(&mut from)?, version: from.i64()?, timestamp_ms: from.i64()? })
}
