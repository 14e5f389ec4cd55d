//! IncrementalAlterConfigs (key 44), versions 0-1. Owner: metadata, by the rules of config.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::alter_configs::{Resource, alter, operation};
use super::{Reply, RequestContext, decode};

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let request: IncrementalAlterConfigsRequest = match decode(&mut body, ctx.api_version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let resources = request.resources.iter().map(|resource| {
        let operations = resource.configs.iter();
        Resource {
            resource_type: resource.resource_type,
            name: resource.resource_name.clone(),
            operations: operations
                .map(|config| operation(&config.name, config.config_operation, &config.value))
                .collect(),
            replaces: false,
        }
    });
    let resources: Arc<[Resource]> = resources.collect();
    let outcomes = alter(&ctx.broker, &resources, request.validate_only).await;
    let responses = resources.iter().zip(outcomes).map(|(resource, (code, message))| {
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.name.clone())
    });
    Reply::encode(&IncrementalAlterConfigsResponse::default().with_responses(responses.collect()), ctx.api_version)
}
