//! The control batch that ends a transaction on a partition: one record, COMMIT or ABORT.

use bytes::Bytes;

use super::{BatchBuilder, BatchHeader, Compression, NO_SEQUENCE, records, records_bytes};

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// A marker is 78 bytes; whatever else a control batch holds is not one.
pub(crate) const MAX_MARKER_BATCH_BYTES: usize = 4096;

/// What the transaction coordinator decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionMarker {
    pub commit: bool,
    /// Of the coordinator's partition: an older one is a coordinator that was replaced.
    pub coordinator_epoch: i32,
}

impl TransactionMarker {
    /// As WriteTxnMarkers appends it; offset and leader epoch are still to be assigned.
    pub fn to_batch(self, producer_id: i64, producer_epoch: i16, timestamp_ms: i64) -> Bytes {
        let kind = if self.commit { COMMIT } else { ABORT };
        let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let value = [&VERSION.to_be_bytes()[..], &self.coordinator_epoch.to_be_bytes()].concat();
        let batch = BatchBuilder::new(Compression::None).producer(producer_id, producer_epoch, NO_SEQUENCE);
        let mut batch = batch.transactional(true).control(true);
        batch.record(timestamp_ms, Some(&key), Some(&value), &[]);
        batch.build(0, -1)
    }

    /// The marker in a whole control batch. None for other control records, and where compaction removed it.
    pub fn read(header: &BatchHeader, batch: &[u8]) -> Option<TransactionMarker> {
        let section = records_bytes(batch, MAX_MARKER_BATCH_BYTES).ok()?;
        let record = records(header, &section).next()?.ok()?;
        let (Some([_, _, kind @ ..]), Some([_, _, epoch @ ..])) = (record.key, record.value) else { return None };
        let commit = match i16::from_be_bytes(*kind.first_chunk()?) {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        Some(TransactionMarker { commit, coordinator_epoch: i32::from_be_bytes(*epoch.first_chunk()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_comes_back_and_is_what_kafka_writes() {
        for commit in [true, false] {
            let marker = TransactionMarker { commit, coordinator_epoch: 9 };
            let batch = marker.to_batch(7, 3, 1_000);
            let header = BatchHeader::read(&batch).unwrap();
            assert_eq!(batch.len(), 78);
            assert!(header.is_control() && header.is_transactional() && header.base_sequence == NO_SEQUENCE);
            assert_eq!((header.producer_id, header.producer_epoch, header.max_timestamp), (7, 3, 1_000));
            assert_eq!(TransactionMarker::read(&header, &batch), Some(marker));
        }
    }

    #[test]
    fn other_control_records_are_no_markers() {
        let mut batch = BatchBuilder::new(Compression::None).control(true);
        batch.record(0, Some(&[0, 0, 0, 2]), Some(&[0, 0, 0, 0, 0, 1]), &[]);
        let batch = batch.build(0, 0);
        assert_eq!(TransactionMarker::read(&BatchHeader::read(&batch).unwrap(), &batch), None);
        let empty = BatchBuilder::new(Compression::None).control(true).build(0, 0);
        assert_eq!(TransactionMarker::read(&BatchHeader::read(&empty).unwrap(), &empty), None);
    }
}
