//! Idempotent and transactional producers of one partition: the last five batches of each, sequence rules, transactions
//! that are open, `.snapshot` files (Kafka's ProducerStateManager). Pure state; files are read and written by the caller
//! as bytes.

use std::collections::BTreeMap;

use crate::batch::{BatchHeader, NO_SEQUENCE, NO_TIMESTAMP, TransactionMarker, crc32c};
use crate::txn_index::AbortedTransaction;

/// Batches kept of each producer.
const KEPT: usize = 5;
const NO_EPOCH: i16 = -1;
const NO_OFFSET: i64 = -1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SequenceCheck {
    /// Append it.
    New,
    /// Exactly one of the five kept batches: answer its offsets, append nothing.
    Duplicate { base_offset: i64, last_offset: i64, timestamp: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    #[error(
        "Out of order sequence number for producer {producer_id} at offset {offset}: {got} (incoming seq. number), {expected} (current end sequence number)"
    )]
    OutOfOrder { producer_id: i64, offset: i64, got: i32, expected: i32 },
    #[error("Epoch of producer {producer_id} is {got}, which is smaller than the last seen epoch {last}")]
    InvalidEpoch { producer_id: i64, got: i16, last: i16 },
    #[error("duplicate of a batch older than the five kept")]
    DuplicateSequence,
    #[error("expected a transactional batch from producer {producer_id}, whose transaction is open")]
    TransactionOpen { producer_id: i64 },
    #[error("Record was not part of an ongoing transaction")]
    TransactionEnded { producer_id: i64 },
    #[error("coordinator epoch {got} of producer {producer_id}'s marker is older than {last}")]
    CoordinatorFenced { producer_id: i64, got: i32, last: i32 },
}

/// By producer id.
pub type LastBatches = BTreeMap<i64, LastBatch>;

/// What must stay in the log so that a producer's state can be found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastBatch {
    /// Its last record's; None if nothing but a marker is left.
    pub offset: Option<i64>,
    pub epoch: i16,
}

/// A producer as others may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    pub id: i64,
    pub epoch: i16,
    /// -1 without a batch in this epoch.
    pub last_sequence: i32,
    pub last_timestamp: i64,
    /// -1 without a marker.
    pub coordinator_epoch: i32,
    pub transaction_first_offset: Option<i64>,
}

#[derive(Debug, Default)]
pub struct Producers {
    expiration_ms: i64,
    /// Ordered, so that the same state always makes the same snapshot; boxed, so that a map of one stays small.
    by_id: BTreeMap<i64, Box<Producer>>,
    /// First offset of each open transaction -> its producer.
    open: BTreeMap<i64, i64>,
    /// (first offset, marker's offset) of transactions that have ended, until their markers are written.
    ended: Vec<(i64, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// How many it has had here since the log was opened, wrapping.
    markers: u16,
    coordinator_epoch: i32,
    /// The largest timestamp of the last batch.
    last_timestamp: i64,
    /// When it last appended, by the broker's clock: a producer of old (or future) timestamps expires like any other.
    seen_ms: i64,
    /// Of the transaction that is open, or -1.
    transaction_first_offset: i64,
    /// At most `KEPT`, oldest first. Room is made for one at a time: most producers of very many write only once or twice.
    batches: Vec<Batch>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Batch {
    last_offset: i64,
    timestamp: i64,
    last_sequence: i32,
    offset_delta: i32,
}

impl Batch {
    fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

impl Producer {
    fn new(epoch: i16) -> Producer {
        Producer {
            epoch,
            markers: 0,
            coordinator_epoch: -1,
            last_timestamp: NO_TIMESTAMP,
            seen_ms: 0,
            transaction_first_offset: NO_OFFSET,
            batches: Vec::new(),
        }
    }

    fn as_active(&self, id: i64) -> ActiveProducer {
        ActiveProducer {
            id,
            epoch: self.epoch,
            last_sequence: self.last_sequence(),
            last_timestamp: self.last_timestamp,
            coordinator_epoch: self.coordinator_epoch,
            transaction_first_offset: Some(self.transaction_first_offset).filter(|offset| *offset != NO_OFFSET),
        }
    }

    fn push(&mut self, batch: Batch) {
        if self.batches.len() == KEPT {
            self.batches.remove(0);
        } else {
            self.batches.reserve_exact(1);
        }
        self.batches.push(batch);
    }

    fn check_epoch(&self, producer_id: i64, epoch: i16) -> Result<(), SequenceError> {
        let last = self.epoch;
        if epoch < last { Err(SequenceError::InvalidEpoch { producer_id, got: epoch, last }) } else { Ok(()) }
    }

    fn check_sequence(&self, header: &BatchHeader, next_offset: i64) -> Result<SequenceCheck, SequenceError> {
        let (producer_id, first, last) = (header.producer_id, header.base_sequence, header.last_sequence());
        let out_of_order =
            |expected| Err(SequenceError::OutOfOrder { producer_id, offset: next_offset, got: first, expected });
        if header.producer_epoch > self.epoch {
            // A new epoch starts anew, unless nothing is known of the old one.
            let anew = first == 0 || self.epoch == NO_EPOCH;
            return if anew { Ok(SequenceCheck::New) } else { out_of_order(NO_SEQUENCE) };
        }
        let same = |batch: &&Batch| batch.first_sequence() == first && batch.last_sequence == last;
        if let Some(batch) = self.batches.iter().find(same) {
            return Ok(SequenceCheck::Duplicate {
                base_offset: batch.last_offset - i64::from(batch.offset_delta),
                last_offset: batch.last_offset,
                timestamp: batch.timestamp,
            });
        }
        let end = self.last_sequence();
        let next = if end == i32::MAX { 0 } else { end + 1 };
        match first {
            _ if first == next => Ok(SequenceCheck::New),
            _ if self.is_older_than_kept(last) => Err(SequenceError::DuplicateSequence),
            _ => out_of_order(end),
        }
    }

    fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    /// Whether all of a batch that ends with `last_sequence` came before the oldest kept batch. Sequences wrap, so
    /// "before" is the nearer half of the circle.
    fn is_older_than_kept(&self, last_sequence: i32) -> bool {
        self.batches.first().is_some_and(|oldest| {
            let ahead = oldest.first_sequence().wrapping_sub(last_sequence) & i32::MAX;
            ahead > 0 && ahead < 1 << 30
        })
    }
}

impl Producers {
    pub fn new(expiration_ms: i64) -> Producers {
        Producers { expiration_ms, ..Producers::default() }
    }

    /// Before an append by a client; `next_offset` only for messages. Batches without a producer id are always New.
    pub fn check(&self, header: &BatchHeader, next_offset: i64) -> Result<SequenceCheck, SequenceError> {
        if !header.has_producer_id() {
            return Ok(SequenceCheck::New);
        }
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            return Ok(SequenceCheck::New);
        };
        producer.check_epoch(header.producer_id, header.producer_epoch)?;
        // Batches of this broker's own coordinators have no sequence; validation lets no client do that.
        if header.base_sequence != NO_SEQUENCE {
            let outcome = producer.check_sequence(header, next_offset)?;
            if outcome != SequenceCheck::New {
                return Ok(outcome);
            }
        }
        if producer.transaction_first_offset != NO_OFFSET && !header.is_transactional() {
            return Err(SequenceError::TransactionOpen { producer_id: header.producer_id });
        }
        Ok(SequenceCheck::New)
    }

    /// Before the append of a batch that belongs to the transaction its producer had when it had had so many `markers`
    /// here (Kafka's VerificationGuard).
    pub fn check_transaction(&self, header: &BatchHeader, markers: u16) -> Result<(), SequenceError> {
        let producer_id = header.producer_id;
        if self.markers(producer_id) == markers { Ok(()) } else { Err(SequenceError::TransactionEnded { producer_id }) }
    }

    /// Before the marker of a transaction is appended.
    pub fn check_marker(&self, header: &BatchHeader, marker: TransactionMarker) -> Result<(), SequenceError> {
        let Some(producer) = self.by_id.get(&header.producer_id) else { return Ok(()) };
        let producer_id = header.producer_id;
        producer.check_epoch(producer_id, header.producer_epoch)?;
        let (got, last) = (marker.coordinator_epoch, producer.coordinator_epoch);
        if got < last { Err(SequenceError::CoordinatorFenced { producer_id, got, last }) } else { Ok(()) }
    }

    /// After an append (or at recovery): the data batch stands at `base_offset`.
    pub fn update(&mut self, header: &BatchHeader, base_offset: i64, now_ms: i64) {
        if !header.has_producer_id() || header.is_control() {
            return;
        }
        let producer = self.touch(header, now_ms);
        producer.push(Batch {
            last_offset: base_offset.wrapping_add(i64::from(header.last_offset_delta)),
            timestamp: header.max_timestamp,
            last_sequence: header.last_sequence(),
            offset_delta: header.last_offset_delta,
        });
        if header.is_transactional() && producer.transaction_first_offset == NO_OFFSET {
            producer.transaction_first_offset = base_offset;
            self.open.insert(base_offset, header.producer_id);
        }
    }

    /// After an append (or at recovery): the marker stands at `offset`. Returns what goes into the transaction index.
    pub fn end_transaction(
        &mut self,
        header: &BatchHeader,
        offset: i64,
        marker: TransactionMarker,
        now_ms: i64,
    ) -> Option<AbortedTransaction> {
        let producer = self.touch(header, now_ms);
        producer.markers = producer.markers.wrapping_add(1);
        producer.coordinator_epoch = marker.coordinator_epoch;
        let first_offset = std::mem::replace(&mut producer.transaction_first_offset, NO_OFFSET);
        // A transaction that wrote nothing here leaves no trace.
        self.open.remove(&first_offset)?;
        self.ended.push((first_offset, offset));
        let last_stable_offset = self.first_open_offset().unwrap_or(offset + 1);
        let producer_id = header.producer_id;
        let aborted = AbortedTransaction { producer_id, first_offset, last_offset: offset, last_stable_offset };
        (!marker.commit).then_some(aborted)
    }

    fn touch(&mut self, header: &BatchHeader, now_ms: i64) -> &mut Producer {
        let epoch = header.producer_epoch;
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Box::new(Producer::new(epoch)));
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = header.max_timestamp;
        producer.seen_ms = now_ms;
        producer
    }

    /// Where the oldest transaction without a marker begins.
    fn first_open_offset(&self) -> Option<i64> {
        self.open.keys().next().copied()
    }

    /// Where the oldest transaction begins whose outcome is not known to every reader: it is open, or its marker is at
    /// or after `high_watermark`.
    pub fn first_unstable_offset(&mut self, high_watermark: i64) -> Option<i64> {
        self.forget_ended(high_watermark);
        self.ended.iter().map(|(first, _)| *first).chain(self.first_open_offset()).min()
    }

    /// Everybody may know of transactions whose marker is below `high_watermark`.
    pub fn forget_ended(&mut self, high_watermark: i64) {
        self.ended.retain(|(_, marker)| *marker >= high_watermark);
    }

    /// Forgets producers that were idle for the expiration time and have no transaction open.
    pub fn expire(&mut self, now_ms: i64) {
        let expiration_ms = self.expiration_ms;
        self.by_id.retain(|_, producer| {
            producer.transaction_first_offset != NO_OFFSET || now_ms.saturating_sub(producer.seen_ms) < expiration_ms
        });
    }

    pub fn get(&self, id: i64) -> Option<ActiveProducer> {
        self.by_id.get(&id).map(|producer| producer.as_active(id))
    }

    /// How many transactions of a producer have ended here; it says whether one has since.
    pub fn markers(&self, id: i64) -> u16 {
        self.by_id.get(&id).map_or(0, |producer| producer.markers)
    }

    pub fn active(&self) -> impl Iterator<Item = ActiveProducer> {
        self.by_id.iter().map(|(id, producer)| producer.as_active(*id))
    }

    /// For compaction.
    pub fn last_batches(&self) -> LastBatches {
        let last = |producer: &Producer| LastBatch {
            offset: producer.batches.last().map(|batch| batch.last_offset),
            epoch: producer.epoch,
        };
        self.by_id.iter().map(|(id, producer)| (*id, last(producer))).collect()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Kafka's snapshot file (version 1, CRC) as bytes, and back. A snapshot that fails its CRC is an error text.
    /// Layout: `docs/format/producer-snapshot.md`.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(snapshot::ENTRIES + 4 + self.len() * snapshot::ENTRY_BYTES);
        bytes.extend_from_slice(&snapshot::VERSION.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]); // the CRC's place
        bytes.extend_from_slice(&(self.len() as i32).to_be_bytes());
        for (id, producer) in &self.by_id {
            snapshot::put(&mut bytes, *id, producer);
        }
        let crc = crc32c(&bytes[snapshot::ENTRIES..]);
        bytes[snapshot::CRC..snapshot::ENTRIES].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Replaces the state, unless the bytes are not a whole snapshot. Producers that have expired are left out.
    pub fn load_snapshot(&mut self, bytes: &[u8], now_ms: i64) -> Result<(), String> {
        self.by_id = snapshot::parse(bytes)?.into_iter().map(|(id, producer)| (id, Box::new(producer))).collect();
        self.expire(now_ms);
        let open = self.by_id.iter().map(|(id, producer)| (producer.transaction_first_offset, *id));
        self.open = open.filter(|(first_offset, _)| *first_offset != NO_OFFSET).collect();
        self.ended.clear();
        Ok(())
    }
}

/// The bytes of a `.snapshot` file.
mod snapshot {
    use super::{Batch, NO_OFFSET, Producer, crc32c};

    pub const VERSION: i16 = 1;
    pub const CRC: usize = 2;
    /// Where the count stands, and what the CRC covers begins.
    pub const ENTRIES: usize = 6;
    pub const ENTRY_BYTES: usize = 46;

    pub fn put(bytes: &mut Vec<u8>, id: i64, producer: &Producer) {
        let last = producer.batches.last();
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&producer.epoch.to_be_bytes());
        bytes.extend_from_slice(&producer.last_sequence().to_be_bytes());
        bytes.extend_from_slice(&last.map_or(NO_OFFSET, |batch| batch.last_offset).to_be_bytes());
        bytes.extend_from_slice(&last.map_or(0, |batch| batch.offset_delta).to_be_bytes());
        bytes.extend_from_slice(&producer.last_timestamp.to_be_bytes());
        bytes.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
        bytes.extend_from_slice(&producer.transaction_first_offset.to_be_bytes());
    }

    pub fn parse(bytes: &[u8]) -> Result<Vec<(i64, Producer)>, String> {
        let mut fields = Fields(bytes);
        let version = i16::from_be_bytes(fields.next()?);
        if version != VERSION {
            return Err(format!("unknown snapshot version {version}"));
        }
        let stored = u32::from_be_bytes(fields.next()?);
        let computed = crc32c(fields.0);
        if stored != computed {
            return Err(format!("snapshot crc: stored {stored:#010x}, computed {computed:#010x}"));
        }
        let count = i32::from_be_bytes(fields.next()?);
        if usize::try_from(count).ok().and_then(|count| count.checked_mul(ENTRY_BYTES)) != Some(fields.0.len()) {
            return Err(format!("snapshot claims {count} producers in {} bytes", fields.0.len()));
        }
        (0..count).map(|_| entry(&mut fields)).collect()
    }

    fn entry(fields: &mut Fields<'_>) -> Result<(i64, Producer), String> {
        let id = i64::from_be_bytes(fields.next()?);
        let mut producer = Producer::new(i16::from_be_bytes(fields.next()?));
        let last_sequence = i32::from_be_bytes(fields.next()?);
        let last_offset = i64::from_be_bytes(fields.next()?);
        let offset_delta = i32::from_be_bytes(fields.next()?);
        let timestamp = i64::from_be_bytes(fields.next()?);
        producer.last_timestamp = timestamp;
        producer.seen_ms = timestamp;
        producer.coordinator_epoch = i32::from_be_bytes(fields.next()?);
        producer.transaction_first_offset = i64::from_be_bytes(fields.next()?).max(NO_OFFSET);
        if last_offset >= 0 {
            producer.push(Batch { last_offset, timestamp, last_sequence, offset_delta });
        }
        Ok((id, producer))
    }

    struct Fields<'a>(&'a [u8]);

    impl Fields<'_> {
        fn next<const N: usize>(&mut self) -> Result<[u8; N], String> {
            let (field, rest) = self.0.split_first_chunk().ok_or("the snapshot is cut short")?;
            self.0 = rest;
            Ok(*field)
        }
    }
}

/// The producers of a snapshot, each in a line as Apache Kafka's DumpLogSegments has it; Err says what is wrong with it.
pub fn snapshot_lines(bytes: &[u8]) -> Result<Vec<String>, String> {
    let line = |(id, producer): (i64, Producer)| {
        let open = producer.transaction_first_offset;
        let first = if open == NO_OFFSET { "OptionalLong.empty".to_owned() } else { format!("OptionalLong[{open}]") };
        let mut line = format!(
            "producerId: {id} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {first} lastTimestamp: {} ",
            producer.epoch, producer.coordinator_epoch, producer.last_timestamp
        );
        if let Some(batch) = producer.batches.first() {
            line += &format!(
                "firstSequence: {} lastSequence: {} lastOffset: {} offsetDelta: {} timestamp: {}",
                batch.first_sequence(),
                batch.last_sequence,
                batch.last_offset,
                batch.offset_delta,
                batch.timestamp
            );
        }
        line
    };
    Ok(snapshot::parse(bytes)?.into_iter().map(line).collect())
}

#[cfg(test)]
mod tests;
