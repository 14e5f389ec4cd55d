//! What belongs to a transaction: AddPartitionsToTxn, AddOffsetsToTxn (the group's partition of `__consumer_offsets`),
//! and the partitions that Produce and TxnOffsetCommit add or verify.

use std::collections::BTreeSet;

use super::machine::Turn;
use super::records::{Partitions, State, Transaction};
use super::{Producer, Result};

impl Turn<'_> {
    /// The first partition begins the transaction.
    pub fn add_partitions(
        &mut self,
        id: &str,
        producer: Producer,
        partitions: &Partitions,
        client_version: i16,
    ) -> Result<()> {
        let (id, current) = self.known(id)?;
        current.check_complete()?;
        current.check_producer(producer)?;
        let is_ongoing = current.state == State::Ongoing;
        if is_ongoing && current.missing(partitions).is_empty() {
            return Ok(());
        }
        let mut next = Transaction {
            previous_producer_id: producer.id,
            state: State::Ongoing,
            last_update_ms: self.now_ms,
            start_ms: if is_ongoing { current.start_ms } else { self.now_ms },
            client_version,
            ..current.clone()
        };
        for (topic, indexes) in partitions {
            next.partitions.entry(topic.clone()).or_default().extend(indexes);
        }
        self.advance(id, self.last_epoch(id), next);
        self.watch_timeouts();
        Ok(())
    }

    /// Those of `partitions` that are not in the producer's transaction.
    pub fn verify_partitions(&self, id: &str, producer: Producer, partitions: &Partitions) -> Result<Partitions> {
        let (_, current) = self.known(id)?;
        current.check_producer(producer)?;
        current.check_complete()?;
        Ok(current.missing(partitions))
    }
}

impl Transaction {
    fn missing(&self, partitions: &Partitions) -> Partitions {
        let none = BTreeSet::new();
        let missing = partitions.iter().map(|(topic, indexes)| {
            let known = self.partitions.get(topic).unwrap_or(&none);
            (topic.clone(), indexes.difference(known).copied().collect::<BTreeSet<i32>>())
        });
        missing.filter(|(_, indexes)| !indexes.is_empty()).collect()
    }
}
