//! DescribeTopicPartitions (key 75), versions 0-0.

use bytes::Bytes;

use super::{Reply, RequestContext};

pub async fn handle(ctx: RequestContext, body: Bytes) -> Reply {
    todo!()
}
