//! Telling the partitions of a transaction how it ended: a marker in each of their logs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ottla_storage::batch::TransactionMarker;

use super::transactions::turn;
use super::{CoordinatorPartition, Shared, TransactionCoordinator};
use crate::error::{ErrorCode, KafkaCode};
use crate::metadata::topics::CONSUMER_OFFSETS;
use crate::txn::{Machine, Markers, Producer};

/// A partition that cannot be written now is tried again after this.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A decided transaction: every partition is told, as often as it takes, and when all know, the transaction is complete.
pub async fn tell_partitions(shared: Arc<Shared<Machine>>, home: Arc<CoordinatorPartition<Machine>>, markers: Markers) {
    let Markers { transactional_id, producer, commit, partitions, .. } = markers;
    let marker = TransactionMarker { commit, coordinator_epoch: home.epoch() };
    let all = partitions.iter().flat_map(|(topic, indexes)| indexes.iter().map(move |index| (topic, *index)));
    join_all(all.map(|(topic, index)| tell_partition(&shared, topic, index, producer, marker))).await;
    // A machine that was unloaded in the meantime gives the markers out again.
    let _ = home.turn(&shared, |machine, world, now_ms| {
        turn(machine, world, now_ms, |turn| turn.markers_written(&transactional_id, producer))
    });
}

async fn tell_partition(
    shared: &Shared<Machine>,
    topic: &str,
    index: i32,
    producer: Producer,
    marker: TransactionMarker,
) {
    loop {
        match shared.write_marker(topic, index, producer, marker).await {
            Ok(()) => return,
            // Deleted: nobody will read what was written to it.
            Err(ErrorCode::UnknownTopicOrPartition) => return,
            // Somebody else has ended the transaction there.
            Err(code @ (ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced)) => {
                tracing::warn!(topic, partition = index, ?producer, ?code, "a transaction marker was refused");
                return;
            }
            Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

impl Shared<Machine> {
    async fn write_marker(
        &self,
        topic: &str,
        index: i32,
        producer: Producer,
        marker: TransactionMarker,
    ) -> Result<(), ErrorCode> {
        let id = self.metadata.image().topic(topic).map(|topic| topic.id).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let partition = self.partitions.get(id, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if topic == CONSUMER_OFFSETS {
            return self.world.groups.end_transaction(index, producer, marker).await.map_err(not_leading);
        }
        let (log, epoch) = (&partition.log, partition.leader_epoch());
        let appended = log.append_marker((producer.id, producer.epoch), marker, epoch, self.clock.now_ms());
        let result = match appended {
            Ok(appended) => log.written(appended.last_offset + 1).await.map_err(|error| error.kafka_code()),
            Err(error) => Err(error.kafka_code()),
        };
        result.map_err(|code| if partition.is_deleted() { ErrorCode::UnknownTopicOrPartition } else { code })
    }
}

/// The words for a transaction coordinator, which knows of no group coordinator.
fn not_leading(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => {
            ErrorCode::NotLeaderOrFollower
        }
        code => code,
    }
}

impl TransactionCoordinator {
    /// For WriteTxnMarkers: somebody else has decided.
    pub async fn write_marker(
        &self,
        topic: &str,
        index: i32,
        producer: Producer,
        marker: TransactionMarker,
    ) -> Result<(), ErrorCode> {
        self.shared.write_marker(topic, index, producer, marker).await
    }
}
