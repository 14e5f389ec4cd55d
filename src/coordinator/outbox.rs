//! What a machine has given out and the log does not have yet: records that are collected into batches while another
//! batch is written, transaction markers between them, and what goes out when all of it is written.

use std::collections::VecDeque;

use bytes::Bytes;
use ottla_storage::batch::{BatchBuilder, BatchHeader, Compression, NO_SEQUENCE, TransactionMarker};
use ottla_storage::log::AppendError;
use ottla_storage::validate::ValidBatch;

use crate::error::ErrorCode;
use crate::partition::Partition;
use crate::txn::Producer;

/// Records are put into batches of about this size, and never of more than twice that unless a single one is.
const BATCH_BYTES: usize = 256 << 10;

pub type Action = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct Outbox {
    /// Applied to the machine, and not handed to the log yet.
    collected: VecDeque<Entry>,
    /// The offset after the last of them.
    next_offset: i64,
    /// What goes out when everything below an offset is written, in that order.
    actions: VecDeque<(i64, Action)>,
    now_ms: i64,
    largest_record_bytes: usize,
}

enum Entry {
    Record {
        key: Bytes,
        value: Option<Bytes>,
        timestamp_ms: i64,
        /// Whose transaction it belongs to.
        producer: Option<Producer>,
    },
    Marker {
        producer: Producer,
        marker: TransactionMarker,
    },
}

impl Outbox {
    pub fn new(next_offset: i64) -> Outbox {
        Outbox { next_offset, ..Outbox::default() }
    }

    /// What follows is written at this time, to a log with this limit.
    pub fn begin(&mut self, now_ms: i64, largest_record_bytes: usize) {
        (self.now_ms, self.largest_record_bytes) = (now_ms, largest_record_bytes);
    }

    /// The record's offset.
    pub fn record(
        &mut self,
        (key, value): (Bytes, Option<Bytes>),
        producer: Option<Producer>,
    ) -> Result<i64, ErrorCode> {
        if key.len() + value.as_ref().map_or(0, Bytes::len) > self.largest_record_bytes {
            tracing::error!("a coordinator's record is larger than max.message.bytes of its topic");
            return Err(ErrorCode::UnknownServerError);
        }
        self.collected.push_back(Entry::Record { key, value, timestamp_ms: self.now_ms, producer });
        Ok(self.advance())
    }

    pub fn marker(&mut self, producer: Producer, marker: TransactionMarker) {
        self.collected.push_back(Entry::Marker { producer, marker });
        self.advance();
    }

    fn advance(&mut self) -> i64 {
        self.next_offset += 1;
        self.next_offset - 1
    }

    /// Does this when all that was given out so far is written; if that fails, never.
    pub fn then(&mut self, action: impl FnOnce() + Send + 'static) {
        self.actions.push_back((self.next_offset, Box::new(action)));
    }

    /// The newest epoch of a producer among what is collected.
    pub fn newest_epoch(&self, producer_id: i64) -> Option<i16> {
        let producers = self.collected.iter().filter_map(Entry::producer);
        producers.filter(|producer| producer.id == producer_id).map(|producer| producer.epoch).max()
    }

    pub fn release(&mut self, written_offset: i64) {
        while let Some((_, action)) = self.actions.pop_front_if(|(offset, _)| *offset <= written_offset) {
            action();
        }
    }

    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Appends what is collected. The log's end after it, if there was anything.
    pub fn append_to(&mut self, partition: &Partition, now_ms: i64) -> Result<Option<i64>, AppendError> {
        let mut end = None;
        let epoch = partition.leader_epoch();
        while let Some(first) = self.collected.pop_front() {
            let appended = match first {
                Entry::Marker { producer, marker } => {
                    partition.log.append_marker((producer.id, producer.epoch), marker, epoch, now_ms)?
                }
                record => {
                    let batch = self.batch(record);
                    let header = BatchHeader::read(&batch).expect("a batch that was just built");
                    let valid = ValidBatch { header, bytes: (&*batch).into(), log_append_time: -1 };
                    partition.log.append(&valid, epoch, now_ms)?
                }
            };
            end = Some(appended.last_offset + 1);
        }
        if let Some(end) = end {
            self.next_offset = end;
        }
        Ok(end)
    }

    /// `first` and the records after it that belong to the same transaction, or as it does to none.
    fn batch(&mut self, first: Entry) -> Bytes {
        let mut batch = BatchBuilder::new(Compression::None);
        if let Entry::Record { producer: Some(Producer { id, epoch }), .. } = first {
            batch = batch.producer(id, epoch, NO_SEQUENCE).transactional(true);
        }
        let of = first.producer();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(Entry::Record { key, value, timestamp_ms, .. }) = next {
            bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            batch.record(timestamp_ms, Some(&key), value.as_deref(), &[]);
            let follows = |entry: &mut Entry| matches!(entry, Entry::Record { producer, .. } if *producer == of);
            next = if bytes < BATCH_BYTES { self.collected.pop_front_if(follows) } else { None };
        }
        batch.build(0, -1)
    }
}

impl Entry {
    fn producer(&self) -> Option<Producer> {
        match self {
            Entry::Record { producer, .. } => *producer,
            Entry::Marker { producer, .. } => Some(*producer),
        }
    }
}
