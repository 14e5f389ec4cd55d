//! Which transactional batches were aborted, and when a marker has nothing left to mark (Kafka's
//! CleanedTransactionMetadata). Fed with every batch of a walk, in order.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{BatchError, BatchHeader, record_heads};
use crate::txn_index::AbortedTransaction;

/// A marker's key: int16 version, int16 type.
const ABORT: [u8; 2] = [0, 0];
const COMMIT: [u8; 2] = [0, 1];

#[derive(Debug)]
pub struct Transactions {
    /// By first offset, the last one first; taken when the walk gets there.
    ahead: Vec<AbortedTransaction>,
    /// By producer: the aborted transaction it is in, and whether a batch of it was met.
    aborted: BTreeMap<i64, (AbortedTransaction, bool)>,
    /// Producers of which a batch was met that is in no aborted transaction.
    committed: BTreeSet<i64>,
    /// Those whose marker was met and that still have batches: the index of what is being written.
    kept: Vec<AbortedTransaction>,
}

impl Transactions {
    pub fn new(mut aborted: Vec<AbortedTransaction>) -> Transactions {
        aborted.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Transactions { ahead: aborted, aborted: BTreeMap::new(), committed: BTreeSet::new(), kept: Vec::new() }
    }

    /// Takes the batch into account. True: it is part of an aborted transaction, or a marker whose transaction has no
    /// batches left.
    pub fn meet(&mut self, header: &BatchHeader, records: &[u8]) -> Result<bool, BatchError> {
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= header.last_offset()) {
            self.aborted.entry(next.producer_id).or_insert((next, false));
        }
        if header.is_control() {
            return self.meet_marker(header, records);
        }
        if !header.is_transactional() {
            return Ok(false);
        }
        if let Some((_, has_batches)) = self.aborted.get_mut(&header.producer_id) {
            *has_batches = true;
            return Ok(true);
        }
        self.committed.insert(header.producer_id);
        Ok(false)
    }

    fn meet_marker(&mut self, header: &BatchHeader, records: &[u8]) -> Result<bool, BatchError> {
        // A marker that is gone already left a batch without records.
        let Some(record) = record_heads(records, header.record_count).next().transpose()? else { return Ok(true) };
        let kind = record.key.and_then(|key| key.get(2..4)).and_then(|kind| kind.first_chunk());
        Ok(match kind {
            Some(&ABORT) => match self.aborted.remove(&header.producer_id) {
                Some((transaction, true)) => {
                    self.kept.push(transaction);
                    false
                }
                _ => true,
            },
            Some(&COMMIT) => !self.committed.remove(&header.producer_id),
            _ => false,
        })
    }

    /// The aborted transactions whose markers were met since the last call, with batches before them.
    pub fn take_kept(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.kept)
    }
}
