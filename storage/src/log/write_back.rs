//! Write-back: what a log leaves in the page cache goes to the disk in pieces, behind the writer's back. Left to the
//! kernel, it would pile up to the limit of dirty pages, where every write of every log waits and pays for the others'.

use std::ops::Range;

use tokio::task::{JoinHandle, spawn_local};

use super::Log;
use crate::Result;
use crate::io::{BLOCK, File};

type Running = JoinHandle<Result<()>>;

const PIECE_BYTES: u64 = 2 << 20;
/// With so much that the disk has not taken yet, the writer waits, though its thread does not.
const MAX_LAG_BYTES: u64 = 32 << 20;

/// Of the segment that is written.
#[derive(Debug)]
pub(super) struct WriteBack {
    /// What lies before is on its way to the disk.
    begun: u64,
    /// What lies before was on its way when the latest piece began.
    begun_before: u64,
    running: Option<Running>,
}

impl WriteBack {
    pub fn new(written: u64) -> WriteBack {
        WriteBack { begun: written, begun_before: written, running: None }
    }

    /// The next piece, if it is time for one: what is new up to `end`, and the former piece, to be waited for. The task of
    /// that one comes with it.
    fn next(&mut self, end: u64) -> Option<(Range<u64>, Option<Running>)> {
        if end < self.begun {
            // A new segment.
            (self.begun, self.begun_before) = (0, 0);
        }
        // The last block is still to be filled.
        let end = end - end % BLOCK as u64;
        let lag = end.saturating_sub(self.begun);
        let busy = self.running.as_ref().is_some_and(|running| !running.is_finished());
        if lag < PIECE_BYTES || (busy && lag < MAX_LAG_BYTES) {
            return None;
        }
        let piece = self.begun_before..end;
        (self.begun_before, self.begun) = (self.begun, end);
        Some((piece, self.running.take()))
    }
}

impl Log {
    /// All up to `end` of the file is in the page cache. An error is that of an earlier write.
    pub(super) async fn write_back(&self, file: &File, end: u64) -> Result<()> {
        let next = self.state.lock().write_back.next(end);
        let Some((piece, former)) = next else { return Ok(()) };
        if let Some(former) = former {
            former.await.unwrap_or(Ok(()))?;
        }
        let file = file.clone();
        let running = spawn_local(async move { file.write_back(piece.start, piece.end - piece.start).await });
        self.state.lock().write_back.running = Some(running);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_piece_is_due_every_two_mebibytes_and_covers_the_one_before() {
        let mut write_back = WriteBack::new(MIB + 1);
        let mut due = |end: u64| write_back.next(end).map(|(piece, _)| piece);
        assert_eq!(due(2 * MIB), None);
        assert_eq!(due(4 * MIB + 5), Some(MIB + 1..4 * MIB));
        assert_eq!(due(6 * MIB - 1), None);
        assert_eq!(due(7 * MIB), Some(MIB + 1..7 * MIB));
        assert_eq!(due(9 * MIB), Some(4 * MIB..9 * MIB));
        assert_eq!(due(MIB), None, "a new segment");
        assert_eq!(due(2 * MIB), Some(0..2 * MIB));
    }

    #[tokio::test]
    async fn a_disk_that_lags_behind_is_waited_for() {
        let local = tokio::task::LocalSet::new();
        let _inside = local.enter();
        let mut write_back = WriteBack::new(0);
        write_back.running = Some(spawn_local(std::future::pending()));
        assert!(write_back.next(31 * MIB).is_none());
        let (piece, former) = write_back.next(32 * MIB).unwrap();
        assert_eq!(piece, 0..32 * MIB);
        assert!(former.is_some_and(|task| !task.is_finished()));
    }
}
