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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    use kafka_protocol::protocol::StrBytes;

    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        let name = || Some(TopicName::from(StrBytes::from_static_str("a")));
        let id = Uuid::from_u128(7);
        for version in 1..=6 {
            let failed = Err(ApiError::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID."));
            let nameless = if version >= 6 { None } else { name() };
            let results = vec![
                DeleteResult { name: name(), id, result: Ok(()) },
                DeleteResult { name: nameless, id, result: failed },
            ];
            let response = answer(results, version);
            encodes_at(&response, version);
            assert_eq!(response.responses[0].topic_id.is_nil(), version < 6);
            assert_eq!(response.responses[1].error_code, ErrorCode::UnknownTopicId.code());
            assert_eq!(response.responses[1].error_message.is_some(), version >= 5);
        }
    }

    #[test]
    fn names_and_ids_are_taken_from_either_list() {
        let name = TopicName::from(StrBytes::from_static_str("a"));
        let id = Uuid::from_u128(7);
        let listed = DeleteTopicState::default().with_name(None).with_topic_id(id);
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name.clone()]).with_topics(vec![listed]);
        let expected = [TopicRef { name: Some(name), id: Uuid::nil() }, TopicRef { name: None, id }];
        assert_eq!(references(request), expected);
    }
}
