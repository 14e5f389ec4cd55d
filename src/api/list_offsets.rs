//! ListOffsets (key 2), versions 1-11.

use bytes::Bytes;

use super::{Reply, RequestContext};

pub async fn handle(ctx: RequestContext, body: Bytes) -> Reply {
    todo!()
}
