//! Whether the producer of transactional batches may write where it wants to: what its transaction contains, the
//! coordinator knows, or is told by the writing (KIP-890).

use std::collections::HashMap;

use ottla_storage::batch::BatchHeader;
use uuid::Uuid;

use super::super::RequestContext;
use crate::error::ErrorCode;
use crate::partition::Partition;
use crate::protocol::produce::{Item, ProduceRequest};
use crate::protocol::wire::{Reader, TopicRef};
use crate::txn::Producer;
use crate::txn::records::Partitions;

/// From this version on a client adds partitions to its transaction by writing to them.
const FIRST_VERSION_THAT_ADDS: i16 = 12;
/// Before it, clients do not know TRANSACTION_ABORTABLE.
const FIRST_VERSION_WITH_ABORTABLE: i16 = 11;
const FIRST_FLEXIBLE_VERSION: i16 = 9;

/// (topic id, partition) -> how many markers an older client's producer had had there when it was looked at, or why nothing
/// may be written.
#[derive(Default)]
pub struct Admission {
    places: HashMap<(Uuid, i32), Result<u16, ErrorCode>>,
}

impl Admission {
    /// For `Log::append_admitted`.
    pub fn check(&self, partition: &Partition) -> Result<Option<u16>, ErrorCode> {
        self.places.get(&(partition.topic_id, partition.index)).copied().transpose()
    }
}

/// Whether the request may have to wait for the transaction coordinator before its batches are appended. The next one of
/// the connection must not overtake it.
pub fn may_wait(version: i16, body: &[u8]) -> bool {
    Reader::new(body, version >= FIRST_FLEXIBLE_VERSION).nullable_string().is_ok_and(|id| id.is_some())
}

pub async fn admit(ctx: &RequestContext, request: &ProduceRequest<'_>) -> Admission {
    let mut admission = Admission::default();
    let Some(id) = request.transactional_id else { return admission };
    let adds = ctx.api_version >= FIRST_VERSION_THAT_ADDS;
    let asked = collect(ctx, request, adds, &mut admission);
    let Some(producer) = asked.producer else { return admission };
    let answer = match asked.several_producers {
        true => Err(ErrorCode::InvalidProducerIdMapping),
        false => ctx.broker.transactions.admit(id, producer, &asked.partitions, adds).await,
    };
    for ((topic, index), place) in asked.places {
        let code = match &answer {
            Err(code) => Some(as_produce_error(*code, adds)),
            Ok(missing) => {
                let missing = missing.get(&*topic).is_some_and(|indexes| indexes.contains(&index));
                missing.then(|| not_in_transaction(ctx.api_version))
            }
        };
        if let Some(code) = code {
            admission.places.insert(place, Err(code));
        }
    }
    admission
}

/// What the coordinator is to be asked.
#[derive(Default)]
struct Asked {
    producer: Option<Producer>,
    several_producers: bool,
    partitions: Partitions,
    places: HashMap<(std::sync::Arc<str>, i32), (Uuid, i32)>,
}

/// The transactional batches for partitions where the producer has no transaction open yet.
fn collect(ctx: &RequestContext, request: &ProduceRequest<'_>, adds: bool, admission: &mut Admission) -> Asked {
    let image = ctx.broker.metadata.image();
    let mut asked = Asked::default();
    let mut topic = TopicRef::Name("");
    for item in request.items() {
        let (index, records) = match item {
            Item::Topic { topic: next, .. } => {
                topic = next;
                continue;
            }
            Item::Partition { index, records } => (index, records),
        };
        let Ok(header) = BatchHeader::read(records) else { continue };
        let Ok(partition) = ctx.broker.partitions.resolve(&image, topic, index) else { continue };
        if !(header.is_transactional() && header.has_producer_id()) {
            continue;
        }
        let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
        let place = (partition.topic_id, index);
        if !adds {
            // A newer client's epoch changes with every marker. Looked at before anything else that a marker changes.
            admission.places.insert(place, Ok(partition.log.markers(producer.id)));
        }
        let known = partition.log.producer(producer.id);
        if known.is_some_and(|known| known.epoch == producer.epoch && known.transaction_first_offset.is_some()) {
            continue;
        }
        // A new epoch begins with every transaction of a newer client, and with it a new sequence.
        let refusal = match known {
            Some(known) if known.epoch > producer.epoch => Some(ErrorCode::InvalidProducerEpoch),
            Some(known) if known.last_sequence != -1 => None,
            _ => (adds && header.base_sequence != 0).then_some(ErrorCode::OutOfOrderSequenceNumber),
        };
        if let Some(code) = refusal {
            admission.places.insert(place, Err(code));
            continue;
        }
        asked.several_producers |= asked.producer.is_some_and(|other| other != producer);
        asked.producer = Some(producer);
        asked.partitions.entry(partition.topic.clone()).or_default().insert(index);
        asked.places.insert((partition.topic.clone(), index), place);
    }
    asked
}

/// The coordinator's errors in the words of Produce; those that older clients do not try again, in other words.
fn as_produce_error(code: ErrorCode, adds: bool) -> ErrorCode {
    match code {
        ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => {
            ErrorCode::NotEnoughReplicas
        }
        ErrorCode::ConcurrentTransactions if !adds => ErrorCode::NotEnoughReplicas,
        code => code,
    }
}

fn not_in_transaction(version: i16) -> ErrorCode {
    if version >= FIRST_VERSION_WITH_ABORTABLE { ErrorCode::TransactionAbortable } else { ErrorCode::InvalidTxnState }
}
