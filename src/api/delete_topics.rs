//! DeleteTopics (key 20), versions 1-6.

use bytes::Bytes;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use uuid::Uuid;

use super::{Reply, RequestContext, decode, error_message};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::topics::{DeleteResult, TopicRef};

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: DeleteTopicsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let topics = references(request);
    let results = if !ctx.broker.config.delete_topic_enable {
        let code = if version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        refuse_all(topics, ApiError::new(code, "Topic deletion is disabled."))
    } else {
        match ctx.broker.metadata.delete_topics(topics.clone()).await {
            Ok(results) => results,
            Err(error) => refuse_all(topics, error),
        }
    };
    Reply::encode(&answer(results, version), version)
}

/// Before version 6 the request lists names only.
fn references(request: DeleteTopicsRequest) -> Vec<TopicRef> {
    let named = request.topic_names.into_iter().map(|name| TopicRef { name: Some(name), id: Uuid::nil() });
    let listed = request.topics.into_iter().map(|topic| TopicRef { name: topic.name, id: topic.topic_id });
    named.chain(listed).collect()
}

fn refuse_all(topics: Vec<TopicRef>, error: ApiError) -> Vec<DeleteResult> {
    let refuse = |topic: TopicRef| DeleteResult { name: topic.name, id: topic.id, result: Err(error.clone()) };
    topics.into_iter().map(refuse).collect()
}

fn answer(results: Vec<DeleteResult>, version: i16) -> DeleteTopicsResponse {
    let responses = results.into_iter().map(|DeleteResult { name, id, result }| {
        let response =
            DeletableTopicResult::default().with_name(name).with_topic_id(if version >= 6 { id } else { Uuid::nil() });
        match result {
            Ok(()) => response,
            Err(error) => response
                .with_error_code(error.code.code())
                .with_error_message(error_message(&error).filter(|_| version >= 5)),
        }
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}
