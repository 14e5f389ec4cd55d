//! CreateTopics (key 19), versions 2-7.

use bytes::Bytes;

use super::{Reply, RequestContext};

pub async fn handle(ctx: RequestContext, body: Bytes) -> Reply {
    todo!()
}
