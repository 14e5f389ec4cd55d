//! DescribeTopicPartitions (key 75), version 0.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::metadata::{TOPIC_OPERATIONS, broker_ids, offline_replicas};
use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::topics::{check_name, is_internal};
use crate::metadata::{Image, PartitionImage, TopicImage};

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: DescribeTopicPartitionsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let broker = &ctx.broker;
    let limit = broker.config.max_request_partition_size_limit.min(request.response_partition_limit.max(1) as usize);
    let response = match refuse(&request) {
        Some(refusal) => refusal,
        None => answer(&broker.metadata.image(), &request, &ctx.listener_name, limit.max(1)),
    };
    Reply::encode(&response, version)
}

/// A cursor must point into what is asked for. The response has errors for topics only, so each gets it.
fn refuse(request: &DescribeTopicPartitionsRequest) -> Option<DescribeTopicPartitionsResponse> {
    let cursor = request.cursor.as_ref()?;
    let listed = request.topics.is_empty() || request.topics.iter().any(|topic| topic.name == cursor.topic_name);
    if listed && cursor.partition_index >= 0 {
        return None;
    }
    let refused = |name: &TopicName| error(ErrorCode::InvalidRequest, name.clone());
    let topics = request.topics.iter().map(|topic| refused(&topic.name)).collect();
    Some(DescribeTopicPartitionsResponse::default().with_topics(topics))
}

/// Topics in the order of their names from the cursor on, until `limit` partitions are told; the next cursor points
/// to the first that is not.
fn answer(
    image: &Image,
    request: &DescribeTopicPartitionsRequest,
    listener: &str,
    limit: usize,
) -> DescribeTopicPartitionsResponse {
    let cursor = request.cursor.as_ref();
    let from = cursor.map_or("", |cursor| cursor.topic_name.as_str());
    let names: Vec<TopicName> = if request.topics.is_empty() {
        let names = image.topics().map(|topic| &topic.name).filter(|name| &***name >= from);
        names.map(|name| StrBytes::from_string(name.to_string()).into()).collect()
    } else {
        let names = request.topics.iter().map(|topic| &topic.name).filter(|name| name.as_str() >= from);
        names.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    };
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut remaining = limit;
    for name in names {
        if remaining == 0 {
            response.next_cursor = Some(Cursor::default().with_topic_name(name));
            break;
        }
        let Some(topic) = image.topic(&name) else {
            let code = check_name(&name).map_or_else(|e| e.code, |()| ErrorCode::UnknownTopicOrPartition);
            response.topics.push(error(code, name));
            continue;
        };
        let first = cursor.filter(|cursor| cursor.topic_name == name).map_or(0, |cursor| cursor.partition_index);
        let told = describe(image, topic, listener, first as usize, remaining);
        remaining -= told.partitions.len();
        let next = first as usize + told.partitions.len();
        response.topics.push(told);
        if next < topic.partitions.len() {
            let cursor = Cursor::default().with_topic_name(name).with_partition_index(next as i32);
            response.next_cursor = Some(cursor);
            break;
        }
    }
    response
}

fn error(code: ErrorCode, name: TopicName) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_is_internal(is_internal(&name))
        .with_name(Some(name))
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn describe(
    image: &Image,
    topic: &TopicImage,
    listener: &str,
    first: usize,
    limit: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = topic.partitions.iter().enumerate().skip(first).take(limit);
    let partitions = partitions.map(|(index, p)| describe_partition(image, p, listener, index as i32));
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(StrBytes::from_string(topic.name.to_string()).into()))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn describe_partition(
    image: &Image,
    partition: &PartitionImage,
    listener: &str,
    index: i32,
) -> DescribeTopicPartitionsResponsePartition {
    let leader_id = image.leader_of(partition);
    let reachable = image.broker(leader_id).is_some_and(|leader| leader.endpoint(listener).is_some());
    // Who led it last is of interest when nobody does.
    let last_known = if leader_id < 0 { broker_ids(&partition.last_known_elr) } else { Vec::new() };
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(index)
        .with_leader_id(if reachable { leader_id.into() } else { (-1).into() })
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(broker_ids(&partition.replicas))
        .with_isr_nodes(broker_ids(&partition.isr))
        .with_eligible_leader_replicas(Some(broker_ids(&partition.eligible_leader_replicas)))
        .with_last_known_elr(Some(last_known))
        .with_offline_replicas(offline_replicas(image, partition, listener))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_topic_partitions_request::{self, TopicRequest};

    use super::super::tests::encodes_at;
    use super::*;
    use crate::metadata::tests::{add_topics, new_cluster};

    type RequestCursor = describe_topic_partitions_request::Cursor;

    fn name(name: &'static str) -> TopicName {
        StrBytes::from_static_str(name).into()
    }

    fn request(names: &[&'static str], cursor: Option<(&'static str, i32)>) -> DescribeTopicPartitionsRequest {
        let topics = names.iter().map(|topic| TopicRequest::default().with_name(name(topic))).collect();
        let cursor = cursor
            .map(|(topic, index)| RequestCursor::default().with_topic_name(name(topic)).with_partition_index(index));
        DescribeTopicPartitionsRequest::default().with_topics(topics).with_cursor(cursor)
    }

    /// A topic, the first of its partitions that is told, and how many are.
    type Told = (String, i32, usize);

    /// What is told, and the next cursor.
    fn told(response: &DescribeTopicPartitionsResponse) -> (Vec<Told>, Option<(String, i32)>) {
        encodes_at(response, 0);
        let topic = |t: &DescribeTopicPartitionsResponseTopic| {
            let first = t.partitions.first().map_or(-1, |partition| partition.partition_index);
            (t.name.as_ref().unwrap().to_string(), first, t.partitions.len())
        };
        let next = response.next_cursor.as_ref().map(|c| (c.topic_name.to_string(), c.partition_index));
        (response.topics.iter().map(topic).collect(), next)
    }

    #[test]
    fn the_limit_is_for_all_partitions_and_the_cursor_goes_on_behind_it() {
        let image = add_topics(&new_cluster(), &[("b", 3), ("a", 2), ("c", 1)]);
        let page = |cursor| told(&answer(&image, &request(&[], cursor), "PLAINTEXT", 2));
        let topic = |topic: &str, first, count| (topic.to_owned(), first, count);
        assert_eq!(page(None), (vec![topic("a", 0, 2)], Some(("b".to_owned(), 0))));
        assert_eq!(page(Some(("b", 0))), (vec![topic("b", 0, 2)], Some(("b".to_owned(), 2))));
        assert_eq!(page(Some(("b", 2))), (vec![topic("b", 2, 1), topic("c", 0, 1)], None));
        assert_eq!(page(Some(("b", i32::MAX))), (vec![topic("b", -1, 0), topic("c", 0, 1)], None));
    }

    #[test]
    fn unknown_topics_and_cursors_outside_the_list_are_errors() {
        let image = add_topics(&new_cluster(), &[("a", 2)]);
        let response = answer(&image, &request(&["none", "a", "a"], None), "PLAINTEXT", 10);
        assert_eq!(told(&response).0, [("a".to_owned(), 0, 2), ("none".to_owned(), -1, 0)]);
        assert_eq!(response.topics[1].error_code, ErrorCode::UnknownTopicOrPartition.code());
        for cursor in [("b", 0), ("a", -1)] {
            let refusal = refuse(&request(&["a"], Some(cursor))).unwrap();
            assert_eq!(refusal.topics[0].error_code, ErrorCode::InvalidRequest.code());
            encodes_at(&refusal, 0);
        }
        assert_eq!(refuse(&request(&["a"], Some(("a", 1)))), None);
    }
}
