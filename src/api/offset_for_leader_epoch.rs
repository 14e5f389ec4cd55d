//! OffsetForLeaderEpoch (key 23), versions 2-4.

use bytes::Bytes;

use super::{Reply, RequestContext};

pub async fn handle(ctx: RequestContext, body: Bytes) -> Reply {
    todo!()
}
