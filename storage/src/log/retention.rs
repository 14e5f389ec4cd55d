//! What leaves a log from the front: retention by time and size, DeleteRecords. Files are renamed to `.deleted` at
//! once and removed after file.delete.delay.ms.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Log, State};
use crate::Result;
use crate::segment::{Segment, file_name};

/// Files that readers may still hold; to be removed at `due_ms`.
#[derive(Debug)]
pub(crate) struct Doomed {
    pub paths: Vec<PathBuf>,
    pub due_ms: i64,
}

impl State {
    /// Kafka's order: by time, by size, then below the log start offset.
    fn expired(&mut self, now_ms: i64) -> Result<usize> {
        let config = self.config.clone();
        let written_segment = self.written_end.segment;
        let mut excess =
            self.segments.iter().map(|s| s.size).sum::<u64>().saturating_sub(config.retention_bytes as u64);
        let (log_start_offset, count) = (self.log_start_offset, self.segments.len());
        let ends: Vec<i64> = self.segments.iter().skip(1).map(|s| s.base_offset).collect();
        for (i, segment) in self.segments.iter_mut().enumerate().take(count - 1) {
            let (newest, _) = segment.largest_timestamp()?;
            let by_time =
                config.delete && config.retention_ms >= 0 && newest >= 0 && now_ms - newest > config.retention_ms;
            let by_size = config.delete && config.retention_bytes >= 0 && excess >= segment.size;
            let below_start = ends[i] <= log_start_offset;
            if segment.base_offset >= written_segment
                || segment.indexes.is_some()
                || !(by_time || by_size || below_start)
            {
                return Ok(i);
            }
            excess = excess.saturating_sub(segment.size);
        }
        Ok(count - 1)
    }
}

impl Log {
    /// Deletes what retention no longer keeps; None if there is nothing. Blocking file work (renames).
    pub(crate) fn apply_retention(self: &Arc<Log>, now_ms: i64) -> Result<Option<Doomed>> {
        let removed: Vec<Segment> = {
            let mut state = self.state.lock();
            self.roll_expired(&mut state, now_ms)?;
            let count = if state.cleaning { 0 } else { state.expired(now_ms)? };
            if count > 0 {
                // Its name says where the log goes on: it is there before the others go.
                self.open_in_dir(|| state.segments[count].files.writer())?;
            }
            let removed = state.segments.drain(..count).collect();
            let first = state.segments[0].base_offset;
            state.log_start_offset = state.log_start_offset.max(first);
            // Not with DeleteRecords: after a crash the log may begin where it began before.
            if state.epochs.truncate_from_start(first) {
                state.epochs_changed = true;
                self.start_writer(&mut state);
            }
            removed
        };
        if removed.is_empty() {
            return Ok(None);
        }
        let delay_ms = self.config().file_delete_delay_ms;
        let mut paths = Vec::new();
        for segment in &removed {
            tracing::info!(log = %self.dir.display(), base_offset = segment.base_offset, "segment deleted by retention");
            segment.files.close();
            for suffix in [".log", ".index", ".timeindex", ".txnindex", ".snapshot"] {
                let from = self.dir.join(file_name(segment.base_offset, suffix));
                if self.shared.io.exists(&from) {
                    let to = self.dir.join(file_name(segment.base_offset, &format!("{suffix}.deleted")));
                    self.shared.io.rename(&from, &to)?;
                    paths.push(to);
                }
            }
        }
        self.shared.io.sync_dir(&self.dir)?;
        Ok(Some(Doomed { paths, due_ms: now_ms + delay_ms }))
    }

    /// An active segment in which everything has expired is rolled, so that it can go.
    fn roll_expired(self: &Arc<Log>, state: &mut State, now_ms: i64) -> Result<()> {
        let config = state.config.clone();
        let idle = state.written_offset == state.next_offset && !state.writer_runs;
        let active = state.active();
        if !config.delete || config.retention_ms < 0 || active.size == 0 || !idle {
            return Ok(());
        }
        let (newest, _) = active.largest_timestamp()?;
        if newest >= 0 && now_ms - newest > config.retention_ms {
            self.roll(state, now_ms);
            self.start_writer(state);
        }
        Ok(())
    }

    /// DeleteRecords: moves the log start offset up (never back, never past the high watermark; the caller checks);
    /// segments below it go with the next retention run. Returns the log start offset.
    pub fn delete_records(self: &Arc<Log>, offset: i64) -> i64 {
        let mut state = self.state.lock();
        let offset = offset.min(state.written_offset);
        if offset > state.log_start_offset {
            state.log_start_offset = offset;
        }
        state.log_start_offset
    }
}
