//! OffsetFetch (key 9), versions 1-10. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::protocol::wire::{Malformed, Reader};

/// From this version on the answer has an error for the whole of it.
const FIRST_VERSION_WITH_ERROR: i16 = 2;
/// From this version on a request is about several groups.
const FIRST_BATCHED_VERSION: i16 = 8;
/// From this version on topics are named by their ids. The last that kafka-protocol knows is the one before.
const FIRST_VERSION_WITH_IDS: i16 = 10;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let decoded = match version >= FIRST_VERSION_WITH_IDS {
        true => with_ids(&body).map_err(|error| Reply::Close(error.to_string())),
        false => decode(&mut body, version),
    };
    let request = match decoded {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let require_stable = request.require_stable;
    let mut groups = Vec::new();
    for group in into_groups(request, version) {
        groups.push(fetch(&ctx, group, require_stable).await);
    }
    Reply::encode(&respond(groups, version), version)
}

fn into_groups(request: OffsetFetchRequest, version: i16) -> Vec<OffsetFetchRequestGroup> {
    if version >= FIRST_BATCHED_VERSION {
        return request.groups;
    }
    let topics = request.topics.map(|topics| {
        let topic = |topic: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
            let topics = OffsetFetchRequestTopics::default().with_name(topic.name);
            topics.with_partition_indexes(topic.partition_indexes)
        };
        topics.into_iter().map(topic).collect()
    });
    let group = OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics);
    vec![group.with_member_id(None).with_member_epoch(-1)]
}

async fn fetch(ctx: &RequestContext, mut group: OffsetFetchRequestGroup, stable: bool) -> OffsetFetchResponseGroup {
    let by_id = ctx.api_version >= FIRST_VERSION_WITH_IDS;
    let image = ctx.broker.metadata.image();
    let refused = if by_id { name_topics(&image, &mut group) } else { Vec::new() };
    let result = ctx.broker.groups.call(&group.group_id, |turn| turn.fetch_offsets(&group, stable)).await;
    match result.and_then(|result| result.map_err(|error| error.code)) {
        Ok(mut found) => {
            found.topics.extend(refused);
            if by_id {
                found.topics.retain_mut(|topic| complete_id(&image, topic));
            }
            found
        }
        Err(code) => group_error(group, code, ctx.api_version),
    }
}

/// Finds the names for the ids; what has none is answered here.
fn name_topics(image: &Image, group: &mut OffsetFetchRequestGroup) -> Vec<OffsetFetchResponseTopics> {
    let Some(topics) = &mut group.topics else { return Vec::new() };
    let unknown = topics.extract_if(.., |asked| match image.topic_by_id(asked.topic_id) {
        Some(topic) => {
            asked.name = StrBytes::from_string(topic.name.to_string()).into();
            false
        }
        None => true,
    });
    unknown.map(|topic| topic_error(topic, ErrorCode::UnknownTopicId)).collect()
}

/// Where all offsets were asked for the id is to be added; false if the topic is gone.
fn complete_id(image: &Image, topic: &mut OffsetFetchResponseTopics) -> bool {
    if topic.topic_id.is_nil() {
        topic.topic_id = image.topic(&topic.name).map_or(Uuid::nil(), |topic| topic.id);
    }
    !topic.topic_id.is_nil()
}

fn topic_error(topic: OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|index| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(StrBytes::default()))
            .with_error_code(code.code())
    });
    OffsetFetchResponseTopics::default()
        .with_partitions(partitions.collect())
        .with_name(topic.name)
        .with_topic_id(topic.topic_id)
}

fn group_error(group: OffsetFetchRequestGroup, code: ErrorCode, version: i16) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
    if version >= FIRST_VERSION_WITH_ERROR {
        return response.with_error_code(code.code());
    }
    let topics = group.topics.unwrap_or_default().into_iter().map(|topic| topic_error(topic, code));
    response.with_topics(topics.collect())
}

fn respond(mut groups: Vec<OffsetFetchResponseGroup>, version: i16) -> OffsetFetchResponse {
    if version >= FIRST_BATCHED_VERSION {
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let only = groups.pop().expect("one group, one answer");
    let topics = only.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(if version >= 5 { partition.committed_leader_epoch } else { -1 })
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect()).with_error_code(only.error_code)
}

/// Version 10 is version 9 with a topic's id in the place of its name.
fn with_ids(body: &[u8]) -> Result<OffsetFetchRequest, Malformed> {
    let mut from = Reader::new(body, true);
    let owned = |text: &str| StrBytes::from_string(text.to_owned());
    let mut request = OffsetFetchRequest::default();
    for _ in 0..from.array_len()? {
        let mut group = OffsetFetchRequestGroup::default()
            .with_group_id(owned(from.string()?).into())
            .with_member_id(from.nullable_string()?.map(owned))
            .with_member_epoch(from.i32()?);
        group.topics = match from.nullable_array_len()? {
            None => None,
            Some(len) => {
                let mut topics = Vec::new();
                for _ in 0..len {
                    let topic = OffsetFetchRequestTopics::default().with_topic_id(from.uuid()?);
                    let partitions = (0..from.array_len()?).map(|_| from.i32()).collect::<Result<_, _>>()?;
                    topics.push(topic.with_partition_indexes(partitions));
                    from.skip_tagged_fields()?;
                }
                Some(topics)
            }
        };
        request.groups.push(group);
        from.skip_tagged_fields()?;
    }
    Ok(request.with_require_stable(from.i8()? != 0))
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::super::tests::encodes_at;
    use super::*;
    use crate::metadata::tests::{add_topics, new_cluster};
    use crate::protocol::wire::Writer;

    fn group(topic: &'static str, id: Uuid) -> OffsetFetchRequestGroup {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(StrBytes::from_static_str(topic).into())
            .with_topic_id(id)
            .with_partition_indexes(vec![0, 1]);
        OffsetFetchRequestGroup::default().with_topics(Some(vec![topic]))
    }

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 1..=10 {
            let id = if version >= 10 { Uuid::from_u128(7) } else { Uuid::nil() };
            let failed = group_error(group("a", id), ErrorCode::NotCoordinator, version);
            assert_eq!(failed.topics.is_empty(), version >= 2, "before version 2 partitions carry the error");
            encodes_at(&respond(vec![failed], version), version);
            let topic = topic_error(group("a", id).topics.unwrap().remove(0), ErrorCode::UnstableOffsetCommit);
            let found = OffsetFetchResponseGroup::default().with_topics(vec![topic]);
            encodes_at(&respond(vec![found], version), version);
        }
    }

    #[test]
    fn version_10_names_topics_by_id() {
        let mut out = Writer::new(64, true);
        out.length(2);
        for topics in [Some(Uuid::from_u128(7)), None] {
            out.string("g");
            out.nullable_string(Some("m"));
            out.buf.put_i32(3);
            match topics {
                None => out.null_array(),
                Some(id) => {
                    out.length(1);
                    out.buf.put_slice(id.as_bytes());
                    out.length(1);
                    out.buf.put_i32(5);
                    out.no_tagged_fields();
                }
            }
            out.no_tagged_fields();
        }
        out.buf.put_u8(1);
        out.no_tagged_fields();
        crate::protocol::guard::check(&crate::protocol::schema::OFFSET_FETCH, 10, &out.buf).unwrap();
        let request = with_ids(&out.buf).unwrap();
        assert!(request.require_stable && request.groups[1].topics.is_none());
        let topic = &request.groups[0].topics.as_ref().unwrap()[0];
        assert_eq!((topic.topic_id, &topic.partition_indexes[..]), (Uuid::from_u128(7), &[5][..]));
        assert_eq!((request.groups[0].member_id.as_deref(), request.groups[0].member_epoch), (Some("m"), 3));
    }

    #[test]
    fn ids_that_nobody_knows_are_answered_without_the_group() {
        let image = add_topics(&new_cluster(), &[("a", 2)]);
        let mut known = group("", image.topic("a").unwrap().id);
        assert!(name_topics(&image, &mut known).is_empty());
        assert_eq!(known.topics.unwrap()[0].name.as_str(), "a");
        let mut unknown = group("", Uuid::from_u128(9));
        let refused = name_topics(&image, &mut unknown);
        assert_eq!(refused[0].partitions[1].error_code, ErrorCode::UnknownTopicId.code());
        assert!(unknown.topics.unwrap().is_empty());
    }
}
