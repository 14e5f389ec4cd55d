//! ConsumerGroupDescribe (key 69), versions 0-1. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId};

use super::describe_groups::GROUP_OPERATIONS;
use super::{Reply, RequestContext, decode, error_message};
use crate::error::{ApiError, ErrorCode};

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: ConsumerGroupDescribeRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let groups = &ctx.broker.groups;
    let mut described = Vec::with_capacity(request.group_ids.len());
    for id in request.group_ids {
        let result = match id.as_str() {
            _ if !groups.settings().consumer.enabled => Err(ApiError::new(ErrorCode::UnsupportedVersion, "")),
            "" => Err(ApiError::new(ErrorCode::InvalidGroupId, "")),
            group => {
                let found = groups.call(group, |turn| turn.describe_consumer_group(group)).await;
                found.unwrap_or_else(|code| Err(ApiError::new(code, "")))
            }
        };
        described.push(answer(id, result, request.include_authorized_operations, version));
    }
    Reply::encode(&ConsumerGroupDescribeResponse::default().with_groups(described), version)
}

fn answer(id: GroupId, result: Result<DescribedGroup, ApiError>, operations: bool, version: i16) -> DescribedGroup {
    let mut group = result.unwrap_or_else(|error| {
        DescribedGroup::default()
            .with_group_id(id)
            .with_error_code(error.code.code())
            .with_error_message(error_message(&error))
    });
    if operations && group.error_code == 0 {
        group.authorized_operations = GROUP_OPERATIONS;
    }
    if version < 1 {
        // -1 stands for what that version does not tell.
        group.members.iter_mut().for_each(|member| member.member_type = -1);
    }
    group
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::consumer_group_describe_response::Member;

    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 0..=1 {
            let found = DescribedGroup::default().with_members(vec![Member::default().with_member_type(1)]);
            let missing = Err(ApiError::new(ErrorCode::GroupIdNotFound, "Group g not found."));
            let groups = vec![
                answer(GroupId::default(), Ok(found), true, version),
                answer(GroupId::default(), missing, true, version),
            ];
            encodes_at(&ConsumerGroupDescribeResponse::default().with_groups(groups), version);
        }
    }
}
