//! DescribeGroups (key 15), versions 0-6. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext, decode, error_message};
use crate::error::{ApiError, ErrorCode};

/// Without an authorizer all is allowed: read, delete, describe, describe and alter configs.
pub(super) const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;
/// From this version on a group that does not exist is an error.
const FIRST_VERSION_WITH_NOT_FOUND: i16 = 6;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: DescribeGroupsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let mut groups = Vec::with_capacity(request.groups.len());
    for id in request.groups {
        let described = ctx.broker.groups.call(&id, |turn| turn.describe_group(&id)).await;
        let described = described.unwrap_or_else(|code| Err(ApiError::new(code, "")));
        groups.push(answer(id, described, request.include_authorized_operations, version));
    }
    Reply::encode(&DescribeGroupsResponse::default().with_groups(groups), version)
}

fn answer(id: GroupId, described: Result<DescribedGroup, ApiError>, operations: bool, version: i16) -> DescribedGroup {
    let dead =
        || DescribedGroup::default().with_group_id(id.clone()).with_group_state(StrBytes::from_static_str("Dead"));
    let mut group = match described {
        Ok(group) => group,
        Err(error) if error.code == ErrorCode::GroupIdNotFound && version < FIRST_VERSION_WITH_NOT_FOUND => dead(),
        Err(error) => {
            let group =
                if error.code == ErrorCode::GroupIdNotFound { dead() } else { dead().with_group_state("".into()) };
            let message = error_message(&error).filter(|_| version >= FIRST_VERSION_WITH_NOT_FOUND);
            group.with_error_code(error.code.code()).with_error_message(message)
        }
    };
    if version < 4 {
        group.members.iter_mut().for_each(|member| member.group_instance_id = None);
    }
    if operations && group.error_code == 0 {
        group.authorized_operations = GROUP_OPERATIONS;
    }
    group
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;

    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        let id = || GroupId::from(StrBytes::from_static_str("g"));
        for version in 0..=6 {
            let member = DescribedGroupMember::default().with_group_instance_id(Some(StrBytes::from_static_str("i")));
            let found = DescribedGroup::default().with_group_id(id()).with_members(vec![member]);
            let missing = Err(ApiError::new(ErrorCode::GroupIdNotFound, "Group g not found."));
            let groups = vec![
                answer(id(), Ok(found), version >= 3, version),
                answer(id(), missing, false, version),
                answer(id(), Err(ApiError::new(ErrorCode::NotCoordinator, "")), false, version),
            ];
            let codes: Vec<i16> = groups.iter().map(|group| group.error_code).collect();
            assert_eq!(codes, [0, if version >= 6 { 69 } else { 0 }, 16]);
            assert_eq!(groups[1].group_state.as_str(), "Dead");
            encodes_at(&DescribeGroupsResponse::default().with_groups(groups), version);
        }
    }
}
