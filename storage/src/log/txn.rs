//! Transactions as one log sees them: markers, what is stable, which records were aborted. Who decides is not here.

use std::sync::Arc;

use super::{AppendError, Appended, Log, LogRead, State};
use crate::Result;
use crate::batch::{BatchHeader, TransactionMarker};
use crate::producers::ActiveProducer;
use crate::txn_index::AbortedTransaction;
use crate::validate::ValidBatch;

impl State {
    /// Kafka's first unstable offset; DeleteRecords may have moved the log's start past it.
    fn first_unstable_offset(&mut self) -> Option<i64> {
        let first = self.producers.first_unstable_offset(self.written_offset)?;
        Some(first.max(self.log_start_offset))
    }
}

impl Log {
    /// [`Log::append`] for a transactional batch that was admitted when its producer had had so many [`Log::markers`] here:
    /// were it appended behind the next one, nobody would ever end the transaction that it begins.
    pub fn append_admitted(
        self: &Arc<Log>,
        batch: &ValidBatch,
        leader_epoch: i32,
        now_ms: i64,
        markers: u16,
    ) -> Result<Appended, AppendError> {
        self.append_checked(batch, leader_epoch, now_ms, Some(markers))
    }

    /// Ends the producer's transaction here (WriteTxnMarkers). It takes an offset like any batch.
    pub fn append_marker(
        self: &Arc<Log>,
        (producer_id, producer_epoch): (i64, i16),
        marker: TransactionMarker,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let bytes = marker.to_batch(producer_id, producer_epoch, now_ms);
        let header = BatchHeader::read(&bytes).expect("a batch that was just built");
        let mut state = self.state.lock();
        if !self.is_online(&state) {
            return Err(self.offline().into());
        }
        state.producers.check_marker(&header, marker)?;
        let high_watermark = state.written_offset;
        state.producers.forget_ended(high_watermark);
        let appended = self.put(&mut state, &header, &bytes, leader_epoch, now_ms)?;
        let aborted = state.producers.end_transaction(&header, appended.base_offset, marker, now_ms);
        state.active().aborted.as_mut().expect("an active segment knows them").extend(aborted);
        drop(state);
        self.give_memory_back();
        Ok(appended)
    }

    /// What is known of a producer that has written here lately.
    pub fn producer(&self, id: i64) -> Option<ActiveProducer> {
        self.state.lock().producers.get(id)
    }

    /// See [`Log::append_admitted`].
    pub fn markers(&self, producer_id: i64) -> u16 {
        self.state.lock().producers.markers(producer_id)
    }

    /// By id.
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        self.state.lock().producers.active().collect()
    }

    /// Where the oldest transaction begins that is open, or whose marker is not yet written; None without one.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        self.state.lock().first_unstable_offset()
    }

    /// What read_committed may read: all below the first unstable offset and the high watermark.
    pub fn last_stable_offset(&self) -> i64 {
        let mut state = self.state.lock();
        let high_watermark = state.written_offset;
        state.first_unstable_offset().map_or(high_watermark, |first| first.min(high_watermark))
    }

    /// The aborted transactions with records or a marker in `from..to`, in the order of their markers. Reads files.
    pub fn aborted_transactions(&self, from: i64, to: i64) -> Result<Vec<AbortedTransaction>> {
        let mut found = Vec::new();
        let mut next = from;
        // Files are read without the lock, and so the next segment is looked for anew each time.
        while let Some((entries, following)) = self.aborted_of_segment(next)? {
            for entry in &entries {
                if entry.last_offset >= from && entry.first_offset < to {
                    found.push(*entry);
                }
            }
            // Whatever is aborted later began at or after the last stable offset.
            let Some(following) = following.filter(|_| entries.last().is_none_or(|e| e.last_stable_offset < to)) else {
                break;
            };
            next = following;
        }
        Ok(found)
    }

    /// The entries of the segment that contains `offset`, and where the one after it begins.
    fn aborted_of_segment(&self, offset: i64) -> Result<Option<(Vec<AbortedTransaction>, Option<i64>)>> {
        let (files, following) = {
            let state = self.state.lock();
            let index = state.segment_index(offset);
            let Some(segment) = state.segments.get(index) else { return Ok(None) };
            let following = state.segments.get(index + 1).map(|next| next.base_offset);
            match &segment.aborted {
                Some(entries) => return Ok(Some((entries.clone(), following))),
                None => (segment.files.clone(), following),
            }
        };
        Ok(Some((files.read_aborted()?, following)))
    }

    /// Those that matter to who reads `read` from `from` on, of which all is below `to`.
    pub fn aborted_in_read(&self, read: &LogRead, from: i64, to: i64) -> Result<Vec<AbortedTransaction>> {
        let Some(end) = read.end else { return Ok(Vec::new()) };
        let above = {
            let state = self.state.lock();
            let index = state.segment_index(end.segment);
            let next_segment = state.segments.get(index + 1).map(|next| next.base_offset);
            state.segments[index].offset_above(end.byte)?.or(next_segment)
        };
        self.aborted_transactions(from, above.map_or(to, |above| above.min(to)))
    }
}
