//! The quiet life of a log: flushes by time, memory and descriptors given back, and the clean stop.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::{DirHealth, Log, Trouble};
use crate::Result;
use crate::segment::file_name;

impl Log {
    pub(crate) fn recovery_point(&self) -> i64 {
        self.state.lock().recovery_point
    }

    pub(crate) fn first_segment(&self) -> i64 {
        self.state.lock().segments[0].base_offset
    }

    pub(crate) fn is_in(&self, dir: &Arc<DirHealth>) -> bool {
        Arc::ptr_eq(&self.shared.dir, dir)
    }

    /// flush.ms has passed since the last flush, and there is something to flush.
    pub(crate) fn flush_is_due(&self, now_ms: i64) -> bool {
        let mut state = self.state.lock();
        let waiting = state.recovery_point < state.written_offset;
        if !waiting {
            state.last_flush_ms = now_ms;
            return false;
        }
        let due = now_ms.saturating_sub(state.last_flush_ms) >= state.config.flush_ms;
        if due {
            state.last_flush_ms = now_ms;
        }
        due
    }

    /// The producers' state, for tests to compare.
    #[cfg(any(test, feature = "sim"))]
    pub fn producer_snapshot(&self) -> Vec<u8> {
        self.state.lock().producers.to_snapshot()
    }

    /// A process that dies takes its tasks along: tests that do without one wait for them before they open a directory
    /// once more.
    #[cfg(test)]
    pub(crate) async fn settled(&self) {
        let works = || {
            let state = self.state.lock();
            state.writer_runs || !state.to_finish.is_empty()
        };
        while works() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn expire_producers(&self, now_ms: i64) {
        self.state.lock().producers.expire(now_ms);
    }

    /// A log that was not appended to for a while gives its chunks and descriptors back, and every segment the
    /// descriptor that nobody read from since the last call.
    pub(crate) fn release_idle(&self, now_ms: i64) {
        let mut state = self.state.lock();
        if !state.cleaning {
            state.segments.iter().for_each(|segment| segment.files.close_unused_reader());
        }
        if state.seen_offset != state.next_offset {
            state.seen_offset = state.next_offset;
            state.quiet_since_ms = now_ms;
        }
        let idle = now_ms - state.quiet_since_ms >= super::IDLE_MS;
        if idle && !state.tail.is_empty() && state.written_offset == state.next_offset && !state.writer_runs {
            state.tail.clear();
            state.active().files.close();
            self.shared.pool.trim();
        }
    }

    /// The clean stop: everything is written, cut to its length, indexed and synced. Nothing may be appended after it.
    pub(crate) async fn close(self: &Arc<Log>) -> Result<()> {
        self.retry_after_no_space();
        let end = {
            let mut state = self.state.lock();
            if state.epochs_changed {
                self.start_writer(&mut state);
            }
            state.next_offset
        };
        self.written(end).await?;
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if (state.to_finish.is_empty() && !state.writer_runs) || state.trouble.is_some() {
                return Poll::Ready(());
            }
            state.waiters.push((end, cx.waker().clone()));
            Poll::Pending
        })
        .await;
        let (files, size, indexes, snapshot) = {
            let mut state = self.state.lock();
            if state.trouble.is_some() {
                return Err(self.offline());
            }
            if !state.changed {
                return Ok(());
            }
            state.trouble = Some(Trouble::Offline);
            let snapshot = state.producers.to_snapshot();
            let active = state.active();
            active.complete_time_index();
            let indexes = active.index_bytes();
            (active.files.clone(), active.size, indexes, snapshot)
        };
        let (io, snapshot_path) = (self.shared.io.clone(), self.dir.join(file_name(end, ".snapshot")));
        let work = move || {
            if let Some(indexes) = indexes {
                files.complete(size, &indexes)?;
            }
            io.write_atomic(&snapshot_path, &snapshot)
        };
        self.in_dir(work).await?;
        self.state.lock().recovery_point = end;
        Ok(())
    }
}
