//! CreateTopics (key 19), versions 2-7.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Reply, RequestContext, decode, error_message};
use crate::config::Config;
use crate::config::describe::Entry;
use crate::metadata::Image;
use crate::metadata::topics::{CreatedTopic, TopicResult};

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: CreateTopicsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let broker = &ctx.broker;
    let results = match broker.metadata.create_topics(request.topics, request.validate_only).await {
        Ok(results) => results,
        Err(error) => names.into_iter().map(|name| (name, Err(error.clone()))).collect(),
    };
    Reply::encode(&answer(results, &broker.config, &broker.metadata.image(), request.validate_only, version), version)
}

fn answer(
    results: Vec<TopicResult<CreatedTopic>>,
    config: &Config,
    image: &Image,
    validate_only: bool,
    version: i16,
) -> CreateTopicsResponse {
    let topics = results.into_iter().map(|(name, result)| {
        let topic = CreatableTopicResult::default().with_name(name);
        match result {
            // Before version 5 the answer is that it worked.
            Ok(_) if version < 5 => topic,
            Ok(created) => {
                // From version 7 on with the id, if the topic was not only validated.
                let id = if version >= 7 && !validate_only { created.id } else { Uuid::nil() };
                let settings = config.describe_topic(image.dynamic_broker_configs(config.node_id), &created.overrides);
                fill(topic, &created, settings).with_topic_id(id)
            }
            Err(error) => topic.with_error_code(error.code.code()).with_error_message(error_message(&error)),
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn fill(topic: CreatableTopicResult, created: &CreatedTopic, settings: Vec<Entry>) -> CreatableTopicResult {
    topic
        .with_num_partitions(created.num_partitions)
        .with_replication_factor(created.replication_factor)
        .with_configs(Some(settings.into_iter().map(setting).collect()))
}

fn setting(entry: Entry) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(StrBytes::from_string(entry.name))
        .with_value(entry.value.map(StrBytes::from_string))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.sensitive)
}
