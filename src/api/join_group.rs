//! JoinGroup (key 11), versions 0-9. Owner: the group coordinator.

use std::net::IpAddr;

use bytes::Bytes;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::{Reply, RequestContext, decode};
use crate::group::Client;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let mut request: JoinGroupRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    if version == 0 {
        request.rebalance_timeout_ms = request.session_timeout_ms;
    }
    let host = client_host(&ctx);
    let response = ctx.broker.groups.join(client(&ctx, &host), &request).await;
    let failed = JoinGroupResponse::default().with_generation_id(-1).with_member_id(request.member_id.clone());
    let response = response.unwrap_or_else(|code| failed.with_error_code(code.code()));
    Reply::encode(&at_version(response, version), version)
}

fn at_version(mut response: JoinGroupResponse, version: i16) -> JoinGroupResponse {
    if version < 7 {
        // Not null before.
        response.protocol_name.get_or_insert_default();
    }
    if version < 5 {
        response.members.iter_mut().for_each(|member| member.group_instance_id = None);
    }
    response
}

/// Who asks; `host` comes from [`client_host`].
pub(super) fn client<'a>(ctx: &'a RequestContext, host: &'a str) -> Client<'a> {
    Client { id: ctx.client_id.as_deref().unwrap_or_default(), host, api_version: ctx.api_version }
}

/// The address in the words of the coordinator's records, which are Java's.
pub(super) fn client_host(ctx: &RequestContext) -> String {
    match ctx.peer.ip().to_canonical() {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => format!("/{}", address.segments().map(|segment| format!("{segment:x}")).join(":")),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
    use kafka_protocol::protocol::StrBytes;

    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        let text = StrBytes::from_static_str;
        for version in 0..=9 {
            let member = JoinGroupResponseMember::default()
                .with_member_id(text("m"))
                .with_group_instance_id(Some(text("i")))
                .with_metadata(Bytes::from_static(b"x"));
            let response = JoinGroupResponse::default()
                .with_generation_id(1)
                .with_protocol_type(Some(text("consumer")))
                .with_leader(text("m"))
                .with_members(vec![member]);
            encodes_at(&at_version(response, version), version);
            encodes_at(&at_version(JoinGroupResponse::default().with_error_code(25), version), version);
        }
    }
}
