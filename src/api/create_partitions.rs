//! CreatePartitions (key 37), versions 0-3.

use bytes::Bytes;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::{Reply, RequestContext, decode, error_message};
use crate::metadata::topics::TopicResult;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: CreatePartitionsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let results = match ctx.broker.metadata.create_partitions(request.topics, request.validate_only).await {
        Ok(results) => results,
        Err(error) => names.into_iter().map(|name| (name, Err(error.clone()))).collect(),
    };
    Reply::encode(&answer(results), version)
}

fn answer(results: Vec<TopicResult<()>>) -> CreatePartitionsResponse {
    let results = results.into_iter().map(|(name, result)| {
        let topic = CreatePartitionsTopicResult::default().with_name(name);
        match result {
            Ok(()) => topic,
            Err(error) => topic.with_error_code(error.code.code()).with_error_message(error_message(&error)),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}
