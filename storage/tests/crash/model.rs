//! What one log must hold: every batch that was appended, in order, and how far the engine has promised to keep them.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_storage::batch::{self, BatchBuilder, BatchHeader, Compression};
use ottla_storage::io::sim::Rng;
use ottla_storage::log::Log;

use super::ensure;

/// Producers' state as a snapshot tells it: an entry of so many bytes each, after the version, a CRC and the count.
const SNAPSHOT_HEAD_BYTES: usize = 10;
const SNAPSHOT_ENTRY_BYTES: usize = 46;
const SNAPSHOT_TIMESTAMP: std::ops::Range<usize> = 26..34;

#[derive(Clone, Debug)]
pub struct Batch {
    pub header: BatchHeader,
    /// As they are stored.
    pub bytes: Bytes,
}

impl Batch {
    pub fn base(&self) -> i64 {
        self.header.base_offset
    }

    pub fn next(&self) -> i64 {
        self.header.next_offset()
    }
}

/// How a life ended, and so what the next one must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Kill,
    PowerLoss,
}

#[derive(Clone, Debug, Default)]
pub struct LogModel {
    pub batches: Vec<Batch>,
    /// Where the log ends if there is no batch.
    pub empty_at: i64,
    /// What lies below may be there or not.
    pub start: i64,
    /// All below was acknowledged: it survives the process.
    pub acked: i64,
    /// All below survives the machine.
    pub durable: i64,
    /// Below it compaction may have left records out.
    pub cleaned_to: i64,
}

impl LogModel {
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(self.empty_at, Batch::next)
    }

    /// The last batch of that producer, its markers aside.
    pub fn last_of(&self, producer_id: i64) -> Option<&Batch> {
        self.batches.iter().rev().find(|b| b.header.producer_id == producer_id && !b.header.is_control())
    }

    /// Compares a log that was just opened, and goes on from what it has.
    pub async fn check_reopened(&mut self, log: &Log, end: End, rng: &mut Rng) -> Result<(), String> {
        let (found_start, found_end) = (log.log_start_offset(), log.log_end_offset());
        let must = match end {
            End::Clean => self.end(),
            End::Kill => self.acked,
            End::PowerLoss => self.durable,
        };
        ensure!(found_end >= must, "ends at {found_end}, but all below {must} must be there after {end:?}");
        ensure!(found_start <= found_end, "starts at {found_start}, behind its end {found_end}");
        ensure!(found_start <= self.start, "starts at {found_start}, but nothing from {} on was deleted", self.start);
        if end == End::Clean {
            ensure!(found_end == self.end(), "ends at {found_end} and not {} after a clean stop", self.end());
        }
        let known = found_end == self.empty_at || self.batches.iter().any(|b| b.next() == found_end);
        ensure!(known || found_end == found_start, "ends at {found_end}, in the middle of a batch");
        self.batches.retain(|b| b.next() <= found_end);
        // Where nothing of the log is left that was not deleted before, it begins anew, without producers.
        let anew = found_start == found_end && entries(&log.producer_snapshot()).is_empty();
        if anew || self.end() != found_end {
            self.batches.clear();
            self.empty_at = found_end;
        }
        self.start = self.start.min(found_end);
        self.cleaned_to = self.cleaned_to.min(found_end);
        // What recovery has found it has also synced.
        (self.acked, self.durable) = (found_end, found_end);
        self.check_content(log, self.start.max(found_start)).await?;
        for _ in 0..3 {
            self.check_read_at_random(log, rng).await?;
            self.check_time(log, rng).await?;
        }
        self.check_epochs(log)?;
        self.check_last_stable_offset(log)?;
        self.check_producers(log)
    }

    /// Everything from `offset` to the high watermark is there, byte for byte.
    pub async fn check_content(&self, log: &Log, mut offset: i64) -> Result<(), String> {
        if self.cleaned_to > 0 {
            return self.check_compacted(log, offset).await;
        }
        self.check_aborted(log, offset)?;
        let end = log.high_watermark();
        let mut at = self.batches.partition_point(|b| b.next() <= offset);
        while offset < end {
            let read = log.read(offset, i64::MAX, 1 << 20, true).await.map_err(|e| e.to_string())?;
            let read = read.map_err(|range| format!("offset {offset} is out of range: {range:?}"))?;
            let bytes = read.into_bytes().await.map_err(|e| e.to_string())?;
            let before = offset;
            for found in batch::batches(&bytes) {
                // A file may be read beyond the last whole batch.
                let Ok((_, header, found)) = found else { break };
                let Some(expected) = self.batches.get(at) else {
                    return Err(format!("a batch at {} that was never appended", header.base_offset));
                };
                ensure!(
                    expected.bytes == found,
                    "at {offset}: found {header:?}, expected {:?}, {}",
                    expected.header,
                    if expected.header == header { "other records" } else { "another batch" }
                );
                at += 1;
                offset = header.next_offset();
            }
            ensure!(offset > before, "nothing can be read at {before}, the log ends at {end}");
        }
        Ok(())
    }

    /// A read from any offset begins with the batch that contains it.
    pub async fn check_read_at_random(&self, log: &Log, rng: &mut Rng) -> Result<(), String> {
        let (start, end) = (self.start.max(log.log_start_offset()), log.high_watermark());
        if start >= end || self.cleaned_to > 0 {
            return Ok(());
        }
        let offset = rng.between(start as u64, end as u64 - 1) as i64;
        let read = log.read(offset, i64::MAX, 100, true).await.map_err(|e| e.to_string())?;
        let read = read.map_err(|range| format!("offset {offset} is out of range: {range:?}"))?;
        let bytes = read.into_bytes().await.map_err(|e| e.to_string())?;
        let header = BatchHeader::read(&bytes).map_err(|e| format!("a read at {offset}: {e}"))?;
        let expected = self.batches.iter().find(|b| b.next() > offset).map(|b| b.base());
        ensure!(Some(header.base_offset) == expected, "a read at {offset} begins at {}", header.base_offset);
        Ok(())
    }

    /// The first record that is not older than some timestamp.
    async fn check_time(&self, log: &Log, rng: &mut Rng) -> Result<(), String> {
        let (start, end) = (log.log_start_offset(), log.high_watermark());
        let Some(some) = self.batches.get(rng.below(self.batches.len() as u64) as usize) else { return Ok(()) };
        if self.cleaned_to > 0 {
            return Ok(());
        }
        let timestamp = some.header.max_timestamp - 1 + rng.below(3) as i64;
        let found = log.offset_for_timestamp(timestamp).await.map_err(|e| e.to_string())?;
        let mut expected = None;
        for b in self.batches.iter().filter(|b| b.next() > start && b.next() <= end) {
            let records = batch::records_bytes(&b.bytes, 1 << 20).expect("as it was built");
            let mut records = batch::records(&b.header, &records).map(|r| r.expect("as it was built"));
            if let Some(r) = records.find(|r| r.timestamp >= timestamp && r.offset >= start) {
                expected = Some((r.timestamp, r.offset, b.header.partition_leader_epoch));
                break;
            }
        }
        // What is below the model's start may be there or not.
        let gone = expected.is_some_and(|(_, offset, _)| offset < self.start);
        ensure!(found == expected || gone, "{timestamp} is found at {found:?}, expected {expected:?}");
        Ok(())
    }

    fn check_epochs(&self, log: &Log) -> Result<(), String> {
        for b in self.batches.iter().filter(|b| b.base() >= log.log_start_offset().max(self.start)) {
            let (found, expected) = (log.epoch_for_offset(b.base()), Some(b.header.partition_leader_epoch));
            ensure!(found == expected, "the epoch at {} is {found:?}, expected {expected:?}", b.base());
        }
        let latest =
            self.batches.last().filter(|b| b.next() > log.log_start_offset()).map(|b| b.header.partition_leader_epoch);
        let found = log.latest_epoch().map(|e| e.epoch);
        ensure!(latest.is_none() || found == latest, "the latest epoch is {found:?}, expected {latest:?}");
        Ok(())
    }

    /// Their state is what a replay of all batches makes; those whose batches are gone may be forgotten.
    fn check_producers(&self, log: &Log) -> Result<(), String> {
        let (found, expected) = (log.producer_snapshot(), self.transactions().producers.to_snapshot());
        let (mut found, mut expected) = (entries(&found), entries(&expected));
        if self.cleaned_to > 0 {
            // Of a batch that was compacted the largest timestamp may be less.
            let both = found.values_mut().chain(expected.values_mut());
            both.for_each(|entry| entry[SNAPSHOT_TIMESTAMP].fill(0));
        }
        for (id, entry) in &found {
            let expected = expected.get(id);
            ensure!(expected == Some(entry), "producer {id} is known as {entry:x?}, a replay makes {expected:x?}");
        }
        for id in expected.keys().filter(|id| !found.contains_key(id)) {
            let last = self.batches.iter().rfind(|b| b.header.producer_id == *id);
            let last = last.expect("it was replayed from there").base();
            ensure!(last < log.log_start_offset().max(self.start), "producer {id}, who wrote at {last}, is forgotten");
        }
        Ok(())
    }
}

fn entries(snapshot: &[u8]) -> BTreeMap<i64, Vec<u8>> {
    let entries = snapshot[SNAPSHOT_HEAD_BYTES..].chunks_exact(SNAPSHOT_ENTRY_BYTES);
    entries.map(|entry| (i64::from_be_bytes(entry[..8].try_into().expect("eight bytes")), entry.to_vec())).collect()
}

#[derive(Clone, Copy, Debug)]
pub struct Producer {
    pub id: i64,
    /// Of its next record.
    pub sequence: i32,
    pub transactional: bool,
}

/// A batch as a producer sends it. An empty value is a tombstone where there are few keys.
pub fn build(producer: Option<Producer>, timestamp: i64, sizes: &[usize], seed: u64, keys: u64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some(Producer { id, sequence, transactional }) = producer {
        builder = builder.producer(id, 0, sequence).transactional(transactional);
    }
    for (i, size) in sizes.iter().enumerate() {
        let value = vec![seed as u8 ^ i as u8; *size];
        let key = ((seed + i as u64) % keys).to_be_bytes();
        let value = Some(&*value).filter(|value| keys == u64::MAX || !value.is_empty());
        builder.record(timestamp + i as i64, Some(&key), value, &[]);
    }
    builder.build(0, -1)
}
