//! ListGroups (key 16), versions 0-5. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: ListGroupsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let texts = |filter: &[StrBytes]| filter.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let (states, types) = (texts(&request.states_filter), texts(&request.types_filter));
    let listed = ctx.broker.groups.call_all(|turn| turn.list_groups(&states, &types)).await;
    Reply::encode(&answer(listed, version), version)
}

fn answer(listed: Result<Vec<Vec<ListedGroup>>, ErrorCode>, version: i16) -> ListGroupsResponse {
    let mut groups = match listed {
        Err(code) => return ListGroupsResponse::default().with_error_code(code.code()),
        Ok(listed) => listed.into_iter().flatten().collect::<Vec<_>>(),
    };
    for group in &mut groups {
        if version < 4 {
            group.group_state = StrBytes::default();
        }
        if version < 5 {
            group.group_type = StrBytes::default();
        }
    }
    ListGroupsResponse::default().with_groups(groups)
}

#[cfg(test)]
mod tests {
    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 0..=5 {
            let group = ListedGroup::default()
                .with_group_state(StrBytes::from_static_str("Stable"))
                .with_group_type(StrBytes::from_static_str("classic"));
            encodes_at(&answer(Ok(vec![vec![group], Vec::new()]), version), version);
            encodes_at(&answer(Err(ErrorCode::CoordinatorLoadInProgress), version), version);
        }
    }
}
