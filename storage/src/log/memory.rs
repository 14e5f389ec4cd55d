//! Memory of all tails: where a log's tail goes on, and which one gives memory back when there is too much of it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Log, LogConfig, State};
use crate::io::{BLOCK, Backend};
use crate::{Error, Result};

/// Logs that hold chunks, in the order in which they took them: who gives memory back first.
#[derive(Debug, Default)]
pub struct Tails(Mutex<VecDeque<Weak<Log>>>);

impl Log {
    /// Makes the tail continue at the end of the active segment.
    pub(super) fn open_tail(self: &Arc<Log>, state: &mut State) -> Result<()> {
        let direct = self.writes_directly(&state.config);
        let all_written = state.written_offset == state.next_offset;
        let State { tail, segments, .. } = state;
        let active = segments.back_mut().expect("a log has a segment");
        if direct && !tail.is_aligned() && all_written {
            tail.clear();
        }
        if tail.continues(active.base_offset, active.size) {
            return Ok(());
        }
        // What is not written yet cannot be read: until it is, no write is direct.
        let head_bytes = if direct && all_written { (active.size % BLOCK as u64) as usize } else { 0 };
        let mut head = [0; BLOCK];
        let head = &mut head[..head_bytes];
        let at = active.size - head.len() as u64;
        if !head.is_empty() && active.files.passing_reader()?.pread(head, at)? < head.len() {
            let path = active.files.path(".log");
            return Err(Error::corrupt(path, "the file is shorter than what was written to it"));
        }
        tail.begin(active.base_offset, active.size, head);
        if !std::mem::replace(&mut state.listed, true) {
            self.shared.tails.0.lock().push_back(Arc::downgrade(self));
        }
        Ok(())
    }

    /// Past the page cache.
    pub(super) fn writes_directly(&self, config: &LogConfig) -> bool {
        config.writes_are_durable() && self.shared.io.backend() == Backend::Uring
    }

    /// Drops chunks, the oldest first, until all tails together keep to their bound.
    pub(super) fn give_memory_back(&self) {
        while self.shared.pool.live_bytes() > self.shared.tail_bytes {
            let Some(oldest) = self.shared.tails.0.lock().pop_front() else { return };
            let Some(log) = oldest.upgrade() else { continue };
            let mut state = log.state.lock();
            let written = state.written_end;
            let evicted = state.tail.evict_oldest(written.segment, written.byte);
            state.listed = !state.tail.is_empty();
            if state.listed {
                self.shared.tails.0.lock().push_back(oldest);
            }
            if !evicted {
                return;
            }
        }
    }
}
