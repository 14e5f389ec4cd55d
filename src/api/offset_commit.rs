//! OffsetCommit (key 8), versions 2-10. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::group::Turn;
use crate::metadata::Image;
use crate::protocol::wire::{Malformed, Reader};

/// From this version on topics are named by their ids. The last that kafka-protocol knows is the one before.
const FIRST_VERSION_WITH_IDS: i16 = 10;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let decoded = match version >= FIRST_VERSION_WITH_IDS {
        true => with_ids(&body).map_err(|error| Reply::Close(error.to_string())),
        false => decode(&mut body, version),
    };
    let mut request = match decoded {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let mut refused = Vec::new();
    let image = ctx.broker.metadata.image();
    for topic in std::mem::take(&mut request.topics) {
        let (known, unknown) = split(&image, topic, version);
        request.topics.extend(known);
        refused.extend(unknown);
    }
    drop(image);
    let mut topics = refused;
    if !request.topics.is_empty() {
        let commit = |turn: &mut Turn<'_>| turn.commit_offsets(version, &request);
        let committed = ctx.broker.groups.call(&request.group_id, commit).await;
        let committed = committed.and_then(|result| result.map_err(|error| error.code));
        topics.extend(committed.unwrap_or_else(|code| request.topics.into_iter().map(|t| refuse(t, code)).collect()));
    }
    if version < FIRST_VERSION_WITH_IDS {
        topics.iter_mut().for_each(|topic| topic.topic_id = Uuid::nil());
    }
    Reply::encode(&OffsetCommitResponse::default().with_topics(merge(topics)), version)
}

/// Version 10 is version 9 with a topic's id in the place of its name.
fn with_ids(body: &[u8]) -> Result<OffsetCommitRequest, Malformed> {
    let mut from = Reader::new(body, true);
    let owned = |text: &str| StrBytes::from_string(text.to_owned());
    let mut request = OffsetCommitRequest::default()
        .with_group_id(owned(from.string()?).into())
        .with_generation_id_or_member_epoch(from.i32()?)
        .with_member_id(owned(from.string()?))
        .with_group_instance_id(from.nullable_string()?.map(owned))
        .with_retention_time_ms(-1);
    for _ in 0..from.array_len()? {
        let mut topic = OffsetCommitRequestTopic::default().with_topic_id(from.uuid()?);
        for _ in 0..from.array_len()? {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(from.i32()?)
                .with_committed_offset(from.i64()?)
                .with_committed_leader_epoch(from.i32()?)
                .with_committed_metadata(from.nullable_string()?.map(owned));
            topic.partitions.push(partition);
            from.skip_tagged_fields()?;
        }
        request.topics.push(topic);
        from.skip_tagged_fields()?;
    }
    Ok(request)
}

/// What exists of a topic, with its name and id, and the answer about what does not.
fn split(
    image: &Image,
    mut asked: OffsetCommitRequestTopic,
    version: i16,
) -> (Option<OffsetCommitRequestTopic>, Option<OffsetCommitResponseTopic>) {
    let by_id = version >= FIRST_VERSION_WITH_IDS;
    let found = if by_id { image.topic_by_id(asked.topic_id) } else { image.topic(&asked.name) };
    let Some(topic) = found else {
        let code = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        return (None, Some(refuse(asked, code)));
    };
    asked.topic_id = topic.id;
    if by_id {
        asked.name = StrBytes::from_string(topic.name.to_string()).into();
    }
    let exists = |partition: &OffsetCommitRequestPartition| topic.partition(partition.partition_index).is_some();
    if asked.partitions.iter().all(exists) {
        return ((!asked.partitions.is_empty()).then_some(asked), None);
    }
    let (known, unknown): (Vec<_>, Vec<_>) = asked.partitions.drain(..).partition(exists);
    let unknown = asked.clone().with_partitions(unknown);
    let refused = (!unknown.partitions.is_empty()).then(|| refuse(unknown, ErrorCode::UnknownTopicOrPartition));
    ((!known.is_empty()).then(|| asked.with_partitions(known)), refused)
}

fn refuse(topic: OffsetCommitRequestTopic, code: ErrorCode) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(code.code())
    });
    OffsetCommitResponseTopic::default()
        .with_partitions(partitions.collect())
        .with_name(topic.name)
        .with_topic_id(topic.topic_id)
}

/// One entry a topic.
fn merge(topics: Vec<OffsetCommitResponseTopic>) -> Vec<OffsetCommitResponseTopic> {
    if topics.len() <= 1 {
        return topics;
    }
    let mut merged: Vec<OffsetCommitResponseTopic> = Vec::with_capacity(topics.len());
    let mut index = std::collections::HashMap::new();
    for topic in topics {
        let at = *index.entry((topic.name.clone(), topic.topic_id)).or_insert(merged.len());
        match merged.get_mut(at) {
            Some(known) => known.partitions.extend(topic.partitions),
            None => merged.push(topic),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::super::tests::encodes_at;
    use super::*;
    use crate::metadata::tests::{add_topics, new_cluster};
    use crate::protocol::wire::Writer;

    fn asked(name: &'static str, id: Uuid, partitions: &[i32]) -> OffsetCommitRequestTopic {
        let partitions = partitions.iter().map(|p| OffsetCommitRequestPartition::default().with_partition_index(*p));
        OffsetCommitRequestTopic::default()
            .with_name(StrBytes::from_static_str(name).into())
            .with_topic_id(id)
            .with_partitions(partitions.collect())
    }

    #[test]
    fn what_does_not_exist_is_answered_without_the_group() {
        let image = add_topics(&new_cluster(), &[("a", 2)]);
        let id = image.topic("a").unwrap().id;
        let (known, refused) = split(&image, asked("a", Uuid::nil(), &[0, 7]), 9);
        assert_eq!(known.unwrap().topic_id, id);
        let refused = refused.unwrap();
        assert_eq!((refused.partitions[0].partition_index, refused.partitions[0].error_code), (7, 3));
        let (known, refused) = split(&image, asked("b", Uuid::nil(), &[0]), 9);
        assert_eq!((known, refused.unwrap().partitions[0].error_code), (None, 3));
        let (known, _) = split(&image, asked("", id, &[0]), 10);
        assert_eq!(known.unwrap().name.as_str(), "a");
        let (_, refused) = split(&image, asked("", Uuid::from_u128(9), &[0]), 10);
        assert_eq!(refused.unwrap().partitions[0].error_code, ErrorCode::UnknownTopicId.code());
    }

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 2..=10 {
            let id = if version >= 10 { Uuid::from_u128(7) } else { Uuid::nil() };
            let refused = refuse(asked("a", id, &[0, 1]), ErrorCode::IllegalGeneration);
            let more = refuse(asked("a", id, &[2]), ErrorCode::UnknownTopicOrPartition);
            let response = OffsetCommitResponse::default().with_topics(merge(vec![refused, more]));
            assert_eq!((response.topics.len(), response.topics[0].partitions.len()), (1, 3));
            encodes_at(&response, version);
        }
    }

    #[test]
    fn version_10_names_topics_by_id() {
        let mut out = Writer::new(64, true);
        out.string("g");
        out.buf.put_i32(3);
        out.string("m");
        out.nullable_string(None);
        out.length(1);
        out.buf.put_slice(Uuid::from_u128(7).as_bytes());
        out.length(1);
        out.buf.put_i32(2);
        out.buf.put_i64(10);
        out.buf.put_i32(-1);
        out.nullable_string(Some("x"));
        (0..3).for_each(|_| out.no_tagged_fields());
        crate::protocol::guard::check(&crate::protocol::schema::OFFSET_COMMIT, 10, &out.buf).unwrap();
        let request = with_ids(&out.buf).unwrap();
        assert_eq!((request.topics[0].topic_id, request.generation_id_or_member_epoch), (Uuid::from_u128(7), 3));
        let partition = &request.topics[0].partitions[0];
        assert_eq!((partition.partition_index, partition.committed_offset), (2, 10));
        assert_eq!(partition.committed_metadata.as_deref(), Some("x"));
        for end in 0..out.buf.len() - 1 {
            assert!(with_ids(&out.buf[..end]).is_err(), "{end}");
        }
    }
}
