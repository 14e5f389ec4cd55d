//! Heartbeat (key 12), versions 0-4. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let request: HeartbeatRequest = match decode(&mut body, ctx.api_version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let result = ctx.broker.groups.call(&request.group_id, |turn| turn.heartbeat(&request)).await;
    let code = match result {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => error.code.code(),
        // Members have their whole session timeout after a start: there is no need to look for another coordinator.
        Err(ErrorCode::CoordinatorLoadInProgress) => 0,
        Err(code) => code.code(),
    };
    Reply::encode(&HeartbeatResponse::default().with_error_code(code), ctx.api_version)
}
