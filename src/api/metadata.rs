//! Metadata (key 3), versions 0-13.

use bytes::Bytes;

use super::{Reply, RequestContext};

pub async fn handle(ctx: RequestContext, body: Bytes) -> Reply {
    todo!()
}
