//! LeaveGroup (key 13), versions 0-5. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;

/// From this version on several members may leave at once, and each has an answer.
const FIRST_BATCHED_VERSION: i16 = 3;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let mut request: LeaveGroupRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    if version < FIRST_BATCHED_VERSION {
        request.members = vec![MemberIdentity::default().with_member_id(request.member_id.clone())];
    }
    let result = ctx.broker.groups.call(&request.group_id, |turn| turn.leave_group(&request)).await;
    let result = result.and_then(|result| result.map_err(|error| error.code));
    Reply::encode(&answer(result, version), version)
}

fn answer(result: Result<Vec<MemberResponse>, ErrorCode>, version: i16) -> LeaveGroupResponse {
    match result {
        Err(code) => LeaveGroupResponse::default().with_error_code(code.code()),
        Ok(members) if version < FIRST_BATCHED_VERSION => {
            LeaveGroupResponse::default().with_error_code(members.first().map_or(0, |member| member.error_code))
        }
        Ok(members) => LeaveGroupResponse::default().with_members(members),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 0..=5 {
            let unknown = || vec![MemberResponse::default().with_error_code(25)];
            encodes_at(&answer(Ok(unknown()), version), version);
            encodes_at(&answer(Err(ErrorCode::NotCoordinator), version), version);
            assert_eq!(answer(Ok(unknown()), version).error_code, if version < 3 { 25 } else { 0 });
        }
    }
}
