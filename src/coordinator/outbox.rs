//! What a machine has given out and the log does not have yet: records that are collected into batches while another
//! batch is written, transaction markers between them, and what goes out when all of it is written.

use std::collections::VecDeque;

use ottla_storage::batch::{BatchBuilder, BatchHeader, Compression, NO_SEQUENCE, TransactionMarker};
use ottla_storage::log::AppendError;
use ottla_storage::validate::ValidBatch;

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
    /// All below is written.
    written_offset: i64,
    /// What goes out when everything below an offset is written, in that order.
    actions: VecDeque<(i64, Action)>,
    now_ms: i64,
    /// Of the records since the time was set.
    largest_record_bytes: Option<usize>,
}

enum Entry {
    /// Records that belong to the same transaction, or all to none.
    Batch {
        records: BatchBuilder,
        producer: Option<Producer>,
    },
    Marker {
        producer: Producer,
        marker: TransactionMarker,
    },
}

impl Outbox {
    pub fn new(next_offset: i64) -> Outbox {
        Outbox { next_offset, written_offset: next_offset, ..Outbox::default() }
    }

    /// What follows is written at this time.
    pub fn begin(&mut self, now_ms: i64) {
        (self.now_ms, self.largest_record_bytes) = (now_ms, None);
    }

    /// Key and value of the largest record since then, if there is one.
    pub fn largest_record_bytes(&self) -> Option<usize> {
        self.largest_record_bytes
    }

    /// The record's offset.
    pub fn record(&mut self, (key, value): (&[u8], Option<&[u8]>), producer: Option<Producer>) -> i64 {
        let bytes = key.len() + value.map_or(0, <[u8]>::len);
        self.largest_record_bytes = self.largest_record_bytes.max(Some(bytes));
        let now_ms = self.now_ms;
        self.batch(producer).record(now_ms, Some(key), value, &[]);
        self.advance()
    }

    /// Where the next record goes.
    fn batch(&mut self, of: Option<Producer>) -> &mut BatchBuilder {
        let fits = |entry: &Entry| match entry {
            Entry::Batch { records, producer } => *producer == of && records.plain_bytes() < BATCH_BYTES,
            Entry::Marker { .. } => false,
        };
        if !self.collected.back().is_some_and(fits) {
            let mut records = BatchBuilder::new(Compression::None);
            if let Some(Producer { id, epoch }) = of {
                records = records.producer(id, epoch, NO_SEQUENCE).transactional(true);
            }
            self.collected.push_back(Entry::Batch { records, producer: of });
        }
        match self.collected.back_mut() {
            Some(Entry::Batch { records, .. }) => records,
            _ => unreachable!("just made"),
        }
    }

    pub fn marker(&mut self, producer: Producer, marker: TransactionMarker) {
        self.collected.push_back(Entry::Marker { producer, marker });
        self.advance();
    }

    fn advance(&mut self) -> i64 {
        self.next_offset += 1;
        self.next_offset - 1
    }

    /// All that was given out so far.
    pub fn is_written(&self) -> bool {
        self.written_offset == self.next_offset
    }

    /// Does this when all that was given out so far is written; if that fails, never.
    pub fn then(&mut self, action: impl FnOnce() + Send + 'static) {
        match self.is_written() {
            true => action(),
            false => self.actions.push_back((self.next_offset, Box::new(action))),
        }
    }

    /// The newest epoch of a producer among what is collected.
    pub fn newest_epoch(&self, producer_id: i64) -> Option<i16> {
        let producers = self.collected.iter().filter_map(Entry::producer);
        producers.filter(|producer| producer.id == producer_id).map(|producer| producer.epoch).max()
    }

    pub fn release(&mut self, written_offset: i64) {
        self.written_offset = self.written_offset.max(written_offset);
        while let Some((_, action)) = self.actions.pop_front_if(|(offset, _)| *offset <= written_offset) {
            action();
        }
    }

    pub fn has_collected(&self) -> bool {
        !self.collected.is_empty()
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
                Entry::Batch { records, .. } => {
                    let batch = records.build(0, -1);
                    let header = BatchHeader::read(&batch).expect("a batch that was just built");
                    let valid = ValidBatch { header, bytes: batch, log_append_time: -1 };
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
}

impl Entry {
    fn producer(&self) -> Option<Producer> {
        match self {
            Entry::Batch { producer, .. } => *producer,
            Entry::Marker { producer, .. } => Some(*producer),
        }
    }
}
