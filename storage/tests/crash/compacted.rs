//! What a log that is compacted must hold: of each key the last record, byte for byte, and nothing that was not appended.

use std::collections::BTreeMap;

use ottla_storage::batch;
use ottla_storage::log::Log;
use ottla_storage::txn_index::AbortedTransaction;

use super::ensure;
use super::model::LogModel;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    timestamp: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    /// -1 outside of transactions.
    transaction_of: i64,
}

impl Kept {
    fn is_in(&self, offset: i64, transactions: &[AbortedTransaction]) -> bool {
        let mut of_producer = transactions.iter().filter(|t| t.producer_id == self.transaction_of);
        of_producer.any(|t| (t.first_offset..=t.last_offset).contains(&offset))
    }
}

type Records = BTreeMap<i64, Kept>;

fn add_records(batch: &batch::BatchHeader, bytes: &[u8], to: &mut Records) -> Result<(), String> {
    if batch.is_control() {
        return Ok(());
    }
    let transaction_of = if batch.is_transactional() { batch.producer_id } else { -1 };
    let section = batch::records_bytes(bytes, 1 << 20).map_err(|e| e.to_string())?;
    for record in batch::records(batch, &section) {
        let record = record.map_err(|e| e.to_string())?;
        let (key, value) = (record.key.unwrap_or_default().to_vec(), record.value.map(<[u8]>::to_vec));
        to.insert(record.offset, Kept { timestamp: record.timestamp, key, value, transaction_of });
    }
    Ok(())
}

impl LogModel {
    pub fn note_cleaned(&mut self, to: i64) {
        self.cleaned_to = self.cleaned_to.max(to);
    }

    pub(super) async fn check_compacted(&self, log: &Log, from: i64) -> Result<(), String> {
        let (end, stable) = (log.high_watermark(), log.last_stable_offset());
        let mut found = read_all(log, from, end).await?;
        let mut appended = Records::new();
        for batch in &self.batches {
            add_records(&batch.header, &batch.bytes, &mut appended)?;
        }
        let aborted = self.transactions().aborted;
        let known_aborted = log.aborted_transactions(from, end).map_err(|e| e.to_string())?;
        // Of what is not stable yet nobody asks.
        for (offset, record) in found.range(from..).take_while(|(offset, _)| **offset < stable) {
            let (is, seems) = (record.is_in(*offset, &aborted), record.is_in(*offset, &known_aborted));
            ensure!(is == seems, "{record:?} at {offset} is aborted: {is}, and said to be: {seems}");
        }
        let latest: BTreeMap<&[u8], i64> = appended
            .range(..self.cleaned_to)
            .filter(|(offset, record)| !record.is_in(**offset, &aborted))
            .map(|(offset, record)| (&*record.key, *offset))
            .collect();
        for (offset, record) in appended.range(from..) {
            match found.remove(offset) {
                Some(same) if same == *record => {}
                Some(other) => return Err(format!("at {offset} is {other:?}, expected {record:?}")),
                None if *offset >= end => {}
                None => {
                    let outdated = latest.get(&*record.key).is_some_and(|latest| latest > offset);
                    let tombstone = *offset < self.cleaned_to && record.value.is_none();
                    let was_aborted = *offset < self.cleaned_to && record.is_in(*offset, &aborted);
                    ensure!(
                        outdated || tombstone || was_aborted,
                        "the last record of key {:?} is missing, at {offset}",
                        record.key
                    );
                }
            }
        }
        let strange = found.range(from..).next();
        ensure!(strange.is_none(), "a record that was never appended: {strange:?}");
        Ok(())
    }
}

async fn read_all(log: &Log, mut from: i64, end: i64) -> Result<Records, String> {
    let mut found = Records::new();
    while from < end {
        let read = log.read(from, i64::MAX, 1 << 20, true).await.map_err(|e| e.to_string())?;
        let read = read.map_err(|range| format!("offset {from} is out of range: {range:?}"))?;
        let bytes = read.into_bytes().await.map_err(|e| e.to_string())?;
        let before = from;
        for (_, header, batch) in batch::batches(&bytes).map_while(Result::ok) {
            ensure!(header.next_offset() > from, "a read at {from} returns {header:?}");
            batch::verify_crc(batch).map_err(|e| e.to_string())?;
            add_records(&header, batch, &mut found)?;
            from = header.next_offset();
        }
        if from == before {
            // Nothing is left of the rest, or so it seems.
            break;
        }
    }
    Ok(found)
}
