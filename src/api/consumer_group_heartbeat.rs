//! ConsumerGroupHeartbeat (key 68), versions 0-1. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::join_group::{client, client_host};
use super::{Reply, RequestContext, decode, error_message};
use crate::error::{ApiError, ErrorCode};

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let request: ConsumerGroupHeartbeatRequest = match decode(&mut body, ctx.api_version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let groups = &ctx.broker.groups;
    let host = client_host(&ctx);
    let result = match groups.settings().consumer.enabled {
        false => Err(ErrorCode::UnsupportedVersion),
        true => groups.consumer_heartbeat(client(&ctx, &host), request).await,
    };
    let result = result.unwrap_or_else(|code| Err(ApiError::new(code, "")));
    let response = result.unwrap_or_else(|error| {
        ConsumerGroupHeartbeatResponse::default()
            .with_error_code(error.code.code())
            .with_error_message(error_message(&error))
    });
    Reply::encode(&response, ctx.api_version)
}
