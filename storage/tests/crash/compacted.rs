//! What a log that is compacted must hold: of each key the last record, byte for byte, and nothing that was not appended.

use std::collections::BTreeMap;

use ottla_storage::batch;
use ottla_storage::log::Log;

use super::ensure;
use super::model::{LogModel, content};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    timestamp: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

type Records = BTreeMap<i64, Kept>;

fn add_records(batch: &batch::BatchHeader, bytes: &[u8], to: &mut Records) -> Result<(), String> {
    let section = batch::records_bytes(bytes, 1 << 20).map_err(|e| e.to_string())?;
    for record in batch::records(batch, &section) {
        let record = record.map_err(|e| e.to_string())?;
        let (key, value) = (record.key.unwrap_or_default().to_vec(), record.value.map(<[u8]>::to_vec));
        to.insert(record.offset, Kept { timestamp: record.timestamp, key, value });
    }
    Ok(())
}

impl LogModel {
    pub fn note_cleaned(&mut self, to: i64) {
        self.cleaned_to = self.cleaned_to.max(to);
    }

    pub(super) async fn check_compacted(&self, log: &Log, from: i64) -> Result<(), String> {
        let end = log.high_watermark();
        let mut found = read_all(log, from, end).await?;
        let mut appended = Records::new();
        for batch in &self.batches {
            add_records(&batch.header, &batch.bytes, &mut appended)?;
        }
        let latest: BTreeMap<&[u8], i64> =
            appended.range(..self.cleaned_to).map(|(offset, record)| (&*record.key, *offset)).collect();
        for (offset, record) in appended.range(from..) {
            match found.remove(offset) {
                Some(same) if same == *record => {}
                Some(other) => return Err(format!("at {offset} is {other:?}, expected {record:?}")),
                None if *offset >= end => {}
                None => {
                    let outdated = latest.get(&*record.key).is_some_and(|latest| latest > offset);
                    let tombstone = *offset < self.cleaned_to && record.value.is_none();
                    ensure!(outdated || tombstone, "the last record of its key is missing: {record:?} at {offset}");
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
        let bytes = content(read.map_err(|range| format!("offset {from} is out of range: {range:?}"))?).await?;
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
