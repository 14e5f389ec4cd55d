//! Produce (key 0), versions 3-13: appends every batch at once, then answers when the disk has them.

use std::sync::Arc;

use bytes::Bytes;
use ottla_storage::batch::BatchHeader;
use ottla_storage::validate::{Invalid, InvalidKind, validate};

use super::{Body, Part, Reply, RequestContext};
use crate::error::{ErrorCode, KafkaCode};
use crate::metadata::{Image, TopicImage};
use crate::partition::{Partition, is_internal_topic};
use crate::protocol::produce::{Item, PartitionResult, Position, ProduceRequest, ProduceResponse};
use crate::protocol::wire::TopicRef;

/// The only clients that may write to internal topics.
const ADMIN_CLIENT_ID: &str = "__admin_client";

pub async fn handle(ctx: RequestContext, body: Bytes) -> Reply {
    // No await before this is done: the requests of a connection are started in order, and must append in order.
    let mut appended = match append_all(&ctx, &body) {
        Ok(appended) => appended,
        Err(reply) => return reply,
    };
    // The log has its own copy of the records; the frame need not wait for the disk.
    drop(body);
    for written in std::mem::take(&mut appended.pending) {
        if let Err(error) = written.partition.log.written(written.next_offset).await {
            let deleted = written.partition.is_deleted();
            let code = if deleted { ErrorCode::UnknownTopicOrPartition } else { error.kafka_code() };
            appended.response.fail(written.position, code.code());
            appended.first_error.get_or_insert(code);
        }
    }
    appended.reply()
}

/// A request whose batches are in memory: the answer in the making, and what it waits for.
struct Appended {
    acks: i16,
    response: ProduceResponse,
    pending: Vec<Pending>,
    first_error: Option<ErrorCode>,
}

struct Pending {
    partition: Arc<Partition>,
    next_offset: i64,
    position: Position,
}

impl Appended {
    fn reply(self) -> Reply {
        match (self.acks, self.first_error) {
            (0, None) => Reply::None,
            // The producer expects no answer; a closed connection makes it look for the reason.
            (0, Some(code)) => Reply::Close(format!("a produce request with acks=0 failed: {code:?}")),
            _ => Reply::Body(Body { parts: vec![Part::Bytes(self.response.finish(&[]))] }),
        }
    }
}

fn append_all(ctx: &RequestContext, body: &[u8]) -> Result<Appended, Reply> {
    let request = ProduceRequest::parse(body, ctx.api_version).map_err(|error| Reply::Close(error.to_string()))?;
    let refused = refusal(&request);
    let image = ctx.broker.metadata.image();
    let mut batch = BatchContext { ctx, image: &image, acks: request.acks, refused, topic: Err(ErrorCode::UnknownServerError) };
    let mut appended = Appended {
        acks: request.acks,
        response: ProduceResponse::new(ctx.api_version, &request),
        pending: Vec::with_capacity(request.partition_count),
        first_error: None,
    };
    for item in request.items() {
        match item {
            Item::Topic { topic, partitions } => {
                batch.topic = resolve_topic(&image, topic);
                appended.response.topic(topic, partitions);
            }
            Item::Partition { index, records } => batch.append(index, records, &mut appended),
        }
    }
    Ok(appended)
}
