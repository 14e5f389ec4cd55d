//! SyncGroup (key 14), versions 0-5. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;

/// From this version on protocol type and name must be told (KIP-559).
const FIRST_VERSION_WITH_PROTOCOL: i16 = 5;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: SyncGroupRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let incomplete = request.protocol_type.is_none() || request.protocol_name.is_none();
    let result = match version >= FIRST_VERSION_WITH_PROTOCOL && incomplete {
        true => Err(ErrorCode::InconsistentGroupProtocol),
        false => ctx.broker.groups.sync(&request).await,
    };
    let response = result.unwrap_or_else(|code| SyncGroupResponse::default().with_error_code(code.code()));
    Reply::encode(&response, version)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 0..=5 {
            let response = SyncGroupResponse::default()
                .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
                .with_protocol_name(Some(StrBytes::from_static_str("range")))
                .with_assignment(Bytes::from_static(b"x"));
            encodes_at(&response, version);
            encodes_at(&SyncGroupResponse::default().with_error_code(22), version);
        }
    }
}
