//! Produce (key 0), versions 3-13: appends every batch at once, then answers when the disk has them.

mod admission;

use std::sync::Arc;

use bytes::Bytes;
use ottla_storage::batch::BatchHeader;
use ottla_storage::log::{AppendError, Appended as LogAppended};
use ottla_storage::validate::{Invalid, validate};

use super::{Body, Part, Reply, RequestContext};
use crate::error::{ErrorCode, KafkaCode};
use crate::metadata::Image;
use crate::metadata::image::TOPIC_RESOURCE;
use crate::metadata::topics::is_internal;
use crate::partition::Partition;
use crate::protocol::produce::{Item, PartitionResult, Position, ProduceRequest, ProduceResponse};
use crate::protocol::wire::TopicRef;

use admission::Admission;
pub use admission::may_wait;

/// The only clients that may write to internal topics.
const ADMIN_CLIENT_ID: &str = "__admin_client";

pub async fn handle(ctx: RequestContext, body: Bytes) -> Reply {
    let request = match ProduceRequest::parse(&body, ctx.api_version) {
        Ok(request) => request,
        Err(error) => return Reply::Close(error.to_string()),
    };
    // The requests of a connection are started in order, and must append in order: only those may wait here that let no
    // other overtake them.
    let admission = admission::admit(&ctx, &request).await;
    let mut appended = append_all(&ctx, &body, &request, admission);
    // The log has what it needs of the records; the frame, of which the client id is a part, need not wait for the disk.
    drop((ctx, body));
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
    /// Writes one partition's answer, as if its write had succeeded already.
    fn note(&mut self, index: i32, result: Result<(Arc<Partition>, LogAppended), Refused>) {
        let failed = |code: ErrorCode| PartitionResult::failed(index, code.code());
        let (code, answer) = match &result {
            Ok((_, appended)) => {
                let answer = PartitionResult {
                    base_offset: appended.base_offset,
                    log_append_time_ms: appended.log_append_time,
                    log_start_offset: appended.log_start_offset,
                    ..PartitionResult::failed(index, 0)
                };
                (None, answer)
            }
            Err(Refused::Code(code)) => (Some(*code), failed(*code)),
            Err(Refused::ByLog(code, log_start_offset)) => {
                (Some(*code), PartitionResult { log_start_offset: *log_start_offset, ..failed(*code) })
            }
            Err(Refused::Invalid(invalid, log_start_offset)) => {
                (Some(invalid.kafka_code()), invalid_answer(index, invalid, *log_start_offset))
            }
        };
        let position = self.response.partition(&answer);
        self.first_error = self.first_error.or(code);
        if let Ok((partition, appended)) = result {
            self.pending.push(Pending { partition, next_offset: appended.last_offset + 1, position });
        }
    }

    fn reply(self) -> Reply {
        match (self.acks, self.first_error) {
            (0, None) => Reply::None,
            // The producer expects no answer; a closed connection makes it look for the reason.
            (0, Some(code)) => Reply::Close(format!("a produce request with acks=0 failed: {code:?}")),
            _ => Reply::Body(Body { parts: vec![Part::Bytes(self.response.finish(&[]))] }),
        }
    }
}

/// Kafka tells the message and the log's start only where it can name the records that are wrong.
fn invalid_answer(index: i32, invalid: &Invalid, log_start_offset: i64) -> PartitionResult<'_> {
    let answer = PartitionResult::failed(index, invalid.kafka_code().code());
    if invalid.record_errors.is_empty() {
        return answer;
    }
    PartitionResult {
        log_start_offset,
        record_errors: &invalid.record_errors,
        error_message: Some(&invalid.message),
        ..answer
    }
}

fn append_all(ctx: &RequestContext, body: &Bytes, request: &ProduceRequest<'_>, admission: Admission) -> Appended {
    let image = ctx.broker.metadata.image();
    let rules = RequestRules {
        refusal: refusal(request),
        admission,
        acks_all: request.acks == -1,
        internal_topics_allowed: ctx.client_id.as_deref() == Some(ADMIN_CLIENT_ID),
        now_ms: ctx.broker.clock.now_ms(),
    };
    let mut appended = Appended {
        acks: request.acks,
        response: ProduceResponse::new(ctx.api_version, request),
        pending: Vec::with_capacity(request.partition_count),
        first_error: None,
    };
    let mut topic = TopicRef::Name("");
    for item in request.items() {
        match item {
            Item::Topic { topic: next, partitions } => {
                topic = next;
                appended.response.topic(topic, partitions);
            }
            Item::Partition { index, records } => {
                let result = append_one(ctx, &image, &rules, topic, index, body.slice_ref(records));
                appended.note(index, result);
            }
        }
    }
    appended
}

/// What holds for every batch of a request.
struct RequestRules {
    /// The whole request is refused with this code.
    refusal: Option<ErrorCode>,
    admission: Admission,
    acks_all: bool,
    internal_topics_allowed: bool,
    now_ms: i64,
}

fn refusal(request: &ProduceRequest<'_>) -> Option<ErrorCode> {
    let transactional = |item| matches!(item, Item::Partition { records, .. } if is_transactional(records));
    if request.transactional_id.is_none() && request.items().any(transactional) {
        return Some(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    (!matches!(request.acks, -1..=1)).then_some(ErrorCode::InvalidRequiredAcks)
}

fn is_transactional(records: &[u8]) -> bool {
    BatchHeader::read(records).is_ok_and(|header| header.is_transactional())
}

/// Why a batch was not appended.
enum Refused {
    /// Before the log was asked.
    Code(ErrorCode),
    /// By the log, whose start offset is told with it.
    ByLog(ErrorCode, i64),
    Invalid(Invalid, i64),
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Refused {
        Refused::Code(code)
    }
}

fn append_one(
    ctx: &RequestContext,
    image: &Image,
    rules: &RequestRules,
    topic: TopicRef<'_>,
    index: i32,
    records: Bytes,
) -> Result<(Arc<Partition>, LogAppended), Refused> {
    let partition = ctx.broker.partitions.resolve(image, topic, index)?;
    if let Some(code) = rules.refusal {
        return Err(code.into());
    }
    let markers = match is_transactional(&records) {
        true => rules.admission.check(&partition)?,
        false => None,
    };
    let log = &partition.log;
    if is_internal(&partition.topic) && !rules.internal_topics_allowed {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    if rules.acks_all && !enough_replicas(ctx, image, &partition) {
        return Err(Refused::ByLog(ErrorCode::NotEnoughReplicas, log.log_start_offset()));
    }
    let log_config = log.config();
    let batch = validate(records, &log_config.rules, ctx.api_version, rules.now_ms)
        .map_err(|invalid| Refused::Invalid(invalid, log.log_start_offset()))?;
    let leader_epoch = partition.leader_epoch();
    let appended = match markers {
        Some(markers) => log.append_admitted(&batch, leader_epoch, rules.now_ms, markers),
        None => log.append(&batch, leader_epoch, rules.now_ms),
    };
    match appended {
        Ok(appended) => Ok((partition, appended)),
        Err(AppendError::Sequence(error)) => Err(Refused::ByLog(error.kafka_code(), log.log_start_offset())),
        Err(error) => Err(error.kafka_code().into()),
    }
}

/// min.insync.replicas, but never more than there are replicas: a partition with one replica takes acks=all.
fn enough_replicas(ctx: &RequestContext, image: &Image, partition: &Partition) -> bool {
    let Some(placed) = image.topic(&partition.topic).and_then(|topic| topic.partitions.get(partition.index as usize))
    else {
        return true;
    };
    if placed.isr.len() >= placed.replicas.len() {
        return true;
    }
    let of_topic = image.config_overrides(TOPIC_RESOURCE, &partition.topic);
    let min_isr = of_topic.and_then(|overrides| overrides.get("min.insync.replicas")?.parse().ok());
    placed.isr.len() as i32 >= min_isr.unwrap_or(ctx.broker.config.min_insync_replicas)
}

#[cfg(test)]
#[path = "data_path_tests.rs"]
mod tests;
