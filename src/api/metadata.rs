//! Metadata (key 3), versions 0-13.

use std::collections::HashSet;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::topics::{check_name, internal_topic, is_internal};
use crate::metadata::{BrokerImage, Image, PartitionImage, TopicImage};

/// What an answer says if operations were not asked for.
pub(super) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;
/// Without an authorizer all is allowed. Topic: read, write, create, delete, alter, describe, describe and alter configs.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Create, alter, describe, cluster action, describe and alter configs, idempotent write.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

const NO_LEADER: BrokerId = BrokerId(-1);

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: MetadataRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    if let Some(refusal) = refuse(&request, version) {
        return Reply::encode(&refusal, version);
    }
    let create_failed = auto_create(&ctx, &request).await;
    let image = ctx.broker.metadata.image();
    Reply::encode(&answer(&image, &request, &ctx.listener_name, version, &create_failed), version)
}

/// Versions 10 and 11 have fields for ids and null names, and may not use them.
fn refuse(request: &MetadataRequest, version: i16) -> Option<MetadataResponse> {
    let topics = request.topics.as_deref().unwrap_or_default();
    if version >= 12 || topics.iter().all(|topic| topic.name.is_some() && topic.topic_id.is_nil()) {
        return None;
    }
    let refused = |name: Option<TopicName>| {
        MetadataResponseTopic::default()
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_name(Some(name.unwrap_or_default()))
    };
    let topics = topics.iter().map(|topic| refused(topic.name.clone())).collect();
    Some(MetadataResponse::default().with_topics(topics))
}

fn is_all_topics(request: &MetadataRequest, version: i16) -> bool {
    request.topics.as_ref().is_none_or(|topics| version == 0 && topics.is_empty())
}

/// Creates the topics that are asked for by name and do not exist, if request and settings allow it. Apache Kafka
/// answers first and creates later; here they are ready in the answer. Returns those that could not be created.
async fn auto_create(ctx: &RequestContext, request: &MetadataRequest) -> Vec<(TopicName, ErrorCode)> {
    let broker = &ctx.broker;
    let allowed = request.allow_auto_topic_creation && broker.config.auto_create_topics_enable;
    let topics = request.topics.as_deref().unwrap_or_default();
    if !allowed || topics.iter().any(|topic| !topic.topic_id.is_nil()) {
        return Vec::new();
    }
    let image = broker.metadata.image();
    let names = topics.iter().filter_map(|topic| topic.name.as_ref());
    let missing: HashSet<&TopicName> =
        names.filter(|name| image.topic(name).is_none() && check_name(name).is_ok()).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let brokers = image.brokers().filter(|broker| broker.is_active()).count();
    let topic = |name: &TopicName| match internal_topic(name, &broker.config, brokers) {
        Some(topic) => topic,
        None => CreatableTopic::default().with_name(name.clone()).with_num_partitions(-1).with_replication_factor(-1),
    };
    let topics: Vec<CreatableTopic> = missing.into_iter().map(topic).collect();
    let names: Vec<TopicName> = topics.iter().map(|topic| topic.name.clone()).collect();
    match broker.metadata.create_topics(topics, false).await {
        Err(error) => names.into_iter().map(|name| (name, error.code)).collect(),
        Ok(results) => {
            let failed = results.into_iter().filter_map(|(name, result)| Some((name, result.err()?.code)));
            failed.filter(|(_, code)| *code != ErrorCode::TopicAlreadyExists).collect()
        }
    }
}

fn answer(
    image: &Image,
    request: &MetadataRequest,
    listener: &str,
    version: i16,
    create_failed: &[(TopicName, ErrorCode)],
) -> MetadataResponse {
    let view = View { image, listener, version, operations: request.include_topic_authorized_operations };
    let topics = if is_all_topics(request, version) {
        image.topics().map(|topic| view.topic(topic)).collect()
    } else {
        view.asked_topics(request, create_failed)
    };
    let cluster_operations = if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        CLUSTER_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    let brokers = image.brokers().filter(|broker| !broker.fenced);
    MetadataResponse::default()
        .with_brokers(brokers.filter_map(|broker| view.broker(broker)).collect())
        .with_cluster_id(Some(StrBytes::from_string(image.cluster_id().to_owned())))
        .with_controller_id(image.controller_id().into())
        .with_topics(topics)
        .with_cluster_authorized_operations(cluster_operations)
}

/// The image as one request sees it.
struct View<'a> {
    image: &'a Image,
    listener: &'a str,
    version: i16,
    operations: bool,
}

impl View<'_> {
    /// By id if the request has ids, else by name; each topic once, unknown ones with an error.
    fn asked_topics(
        &self,
        request: &MetadataRequest,
        create_failed: &[(TopicName, ErrorCode)],
    ) -> Vec<MetadataResponseTopic> {
        let asked = request.topics.as_deref().unwrap_or_default();
        let mut ids = HashSet::new();
        let by_id: Vec<Uuid> =
            asked.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil() && ids.insert(*id)).collect();
        if !by_id.is_empty() {
            let topic = |id: Uuid| match self.image.topic_by_id(id) {
                Some(topic) => self.topic(topic),
                None => self.error(ErrorCode::UnknownTopicId, None).with_topic_id(id),
            };
            return by_id.into_iter().map(topic).collect();
        }
        let mut names = HashSet::new();
        let by_name = asked.iter().filter_map(|topic| topic.name.as_ref()).filter(|name| names.insert(*name));
        by_name
            .map(|name| match self.image.topic(name) {
                Some(topic) => self.topic(topic),
                None => self.error(missing_topic_error(name, create_failed), Some(name.clone())),
            })
            .collect()
    }

    fn error(&self, code: ErrorCode, name: Option<TopicName>) -> MetadataResponseTopic {
        MetadataResponseTopic::default()
            .with_error_code(code.code())
            .with_is_internal(self.version >= 1 && name.as_ref().is_some_and(|name| is_internal(name)))
            .with_name(name)
            .with_topic_authorized_operations(self.topic_operations())
    }

    fn topic_operations(&self) -> i32 {
        if self.version >= 8 && self.operations { TOPIC_OPERATIONS } else { OPERATIONS_NOT_ASKED }
    }

    fn topic(&self, topic: &TopicImage) -> MetadataResponseTopic {
        let partitions = (0..).zip(&topic.partitions);
        MetadataResponseTopic::default()
            .with_name(Some(StrBytes::from_string(topic.name.to_string()).into()))
            .with_topic_id(if self.version >= 10 { topic.id } else { Uuid::nil() })
            .with_is_internal(self.version >= 1 && is_internal(&topic.name))
            .with_partitions(partitions.map(|(index, partition)| self.partition(index, partition)).collect())
            .with_topic_authorized_operations(self.topic_operations())
    }

    fn partition(&self, index: i32, partition: &PartitionImage) -> MetadataResponsePartition {
        let leader_id = self.image.leader_of(partition);
        let leader = self.image.broker(leader_id);
        let reachable = leader.is_some_and(|leader| leader.endpoint(self.listener).is_some());
        let error_code = match leader {
            Some(_) if reachable => 0,
            Some(_) if self.version >= 6 => ErrorCode::ListenerNotFound.code(),
            _ => ErrorCode::LeaderNotAvailable.code(),
        };
        let offline = match self.version {
            5.. => offline_replicas(self.image, partition, self.listener),
            _ => Vec::new(),
        };
        MetadataResponsePartition::default()
            .with_error_code(error_code)
            .with_partition_index(index)
            .with_leader_id(if reachable { leader_id.into() } else { NO_LEADER })
            .with_leader_epoch(if self.version >= 7 { partition.leader_epoch } else { -1 })
            .with_replica_nodes(broker_ids(&partition.replicas))
            .with_isr_nodes(broker_ids(&partition.isr))
            .with_offline_replicas(offline)
    }

    fn broker(&self, broker: &BrokerImage) -> Option<MetadataResponseBroker> {
        let (host, port) = broker.endpoint(self.listener)?;
        let rack = broker.rack.clone().filter(|_| self.version >= 1);
        Some(
            MetadataResponseBroker::default()
                .with_node_id(broker.id.into())
                .with_host(StrBytes::from_string(host.to_owned()))
                .with_port(port.into())
                .with_rack(rack.map(StrBytes::from_string)),
        )
    }
}

/// Why a topic that was asked for by name is not there.
fn missing_topic_error(name: &TopicName, create_failed: &[(TopicName, ErrorCode)]) -> ErrorCode {
    if let Err(error) = check_name(name) {
        return error.code;
    }
    let failed = create_failed.iter().find(|(failed, _)| failed == name);
    failed.map_or(ErrorCode::UnknownTopicOrPartition, |(_, code)| *code)
}

pub(super) fn broker_ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

/// Replicas on brokers that are not there for clients of this listener.
pub(super) fn offline_replicas(image: &Image, partition: &PartitionImage, listener: &str) -> Vec<BrokerId> {
    let online = |id: i32| image.broker(id).is_some_and(|broker| !broker.fenced && broker.endpoint(listener).is_some());
    partition.replicas.iter().filter(|id| !online(**id)).map(|id| BrokerId(*id)).collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;

    use super::super::tests::encodes_at;
    use super::*;
    use crate::metadata::tests::{add_topics, new_cluster};

    fn asked(names: &[&str]) -> MetadataRequest {
        let topic = |name: &&str| {
            MetadataRequestTopic::default().with_name(Some(StrBytes::from_string(name.to_string()).into()))
        };
        MetadataRequest::default().with_topics(Some(names.iter().map(topic).collect()))
    }

    fn answer_at(image: &Image, request: &MetadataRequest, version: i16) -> MetadataResponse {
        let response = answer(image, request, "PLAINTEXT", version, &[]);
        encodes_at(&response, version);
        response
    }

    #[test]
    fn every_version_can_carry_the_answer() {
        let image = add_topics(&new_cluster(), &[("__consumer_offsets", 2), ("a", 3)]);
        for version in 0..=13 {
            let operations = MetadataRequest::default()
                .with_topics(asked(&["a", "none", "__consumer_offsets"]).topics)
                .with_include_topic_authorized_operations(version >= 8)
                .with_include_cluster_authorized_operations((8..=10).contains(&version));
            let response = answer_at(&image, &operations, version);
            let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
            assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code(), 0]);
            assert_eq!(response.topics[0].partitions.len(), 3);
            assert_eq!(response.topics[0].topic_id.is_nil(), version < 10);
            assert_eq!(response.topics[2].is_internal, version >= 1);
            let operations = if version >= 8 { 3576 } else { i32::MIN };
            assert_eq!(response.topics[0].topic_authorized_operations, operations);
            let operations = if (8..=10).contains(&version) { 8096 } else { i32::MIN };
            assert_eq!(response.cluster_authorized_operations, operations);
            assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("localhost", 9092));
        }
    }

    #[test]
    fn an_empty_list_means_all_in_version_0_and_none_later() {
        let image = add_topics(&new_cluster(), &[("a", 1), ("b", 1)]);
        assert_eq!(answer_at(&image, &asked(&[]), 0).topics.len(), 2);
        assert_eq!(answer_at(&image, &asked(&[]), 1).topics.len(), 0);
        assert_eq!(answer_at(&image, &MetadataRequest::default().with_topics(None), 1).topics.len(), 2);
    }

    #[test]
    fn topics_are_found_by_id_from_version_12_on() {
        let image = add_topics(&new_cluster(), &[("a", 1)]);
        let by_id = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let (known, unknown) = (image.topic("a").unwrap().id, Uuid::from_u128(9));
        let request = MetadataRequest::default().with_topics(Some(vec![by_id(known), by_id(unknown)]));
        let topics = answer_at(&image, &request, 12).topics;
        assert_eq!((topics[0].name.as_ref().unwrap().as_str(), topics[0].topic_id), ("a", known));
        assert_eq!((topics[1].error_code, topics[1].topic_id), (ErrorCode::UnknownTopicId.code(), unknown));
        assert!(topics[1].name.is_none());

        assert_eq!(refuse(&request, 12), None);
        let refusal = refuse(&request, 10).unwrap();
        encodes_at(&refusal, 10);
        assert!(refusal.topics.iter().all(|topic| topic.error_code == ErrorCode::InvalidRequest.code()));
    }

    #[test]
    fn what_cannot_be_had_says_why() {
        let image = add_topics(&new_cluster(), &[("a", 1)]);
        let topics = answer_at(&image, &asked(&["not a name", "a", "a"]), 9).topics;
        assert_eq!((topics.len(), topics[0].error_code), (2, ErrorCode::InvalidTopicException.code()));
        for (version, code) in [(5, ErrorCode::LeaderNotAvailable), (6, ErrorCode::ListenerNotFound)] {
            let response = answer(&image, &asked(&["a"]), "OTHER", version, &[]);
            encodes_at(&response, version);
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.leader_id.0), (code.code(), -1));
            assert_eq!(partition.offline_replicas, [BrokerId(1)]);
            assert_eq!(response.brokers.len(), 0, "brokers that this listener does not reach are left out");
        }
        let failed = [(StrBytes::from_static_str("b").into(), ErrorCode::PolicyViolation)];
        let topics = answer(&image, &asked(&["b"]), "PLAINTEXT", 9, &failed).topics;
        assert_eq!(topics[0].error_code, ErrorCode::PolicyViolation.code());
    }
}
