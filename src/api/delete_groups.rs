//! DeleteGroups (key 42), versions 0-2. Owner: the group coordinator.

use std::collections::HashSet;

use bytes::Bytes;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::{Reply, RequestContext, decode};

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let mut request: DeleteGroupsRequest = match decode(&mut body, ctx.api_version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let mut seen = HashSet::new();
    request.groups_names.retain(|group| seen.insert(group.clone()));
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let deleted = ctx.broker.groups.call(&group, |turn| turn.delete_group(&group)).await;
        let code = match deleted {
            Ok(Ok(())) => 0,
            Ok(Err(error)) => error.code.code(),
            Err(code) => code.code(),
        };
        results.push(DeletableGroupResult::default().with_group_id(group).with_error_code(code));
    }
    Reply::encode(&DeleteGroupsResponse::default().with_results(results), ctx.api_version)
}
