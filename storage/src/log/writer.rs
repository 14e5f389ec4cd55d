//! Write-behind: one task a log, while there is something to write, takes what the tail holds to the segment files,
//! in order, and tells those who wait. Everything that appends to files happens here.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use tokio::task::spawn_local;

use super::ahead::Ahead;
use super::{Log, Position, State, Trouble};
use crate::epochs::EPOCHS_FILE;
use crate::io::{BLOCK, Backend, File, Part};
use crate::segment::{SegmentFiles, file_name};
use crate::{Error, Result};

/// Largest single write; the next one can start when it is done.
const WRITE_BYTES: u64 = 1 << 20;

enum Job {
    /// The leader epochs changed: on disk before the records that carry the new one.
    Epochs(String),
    Write(Write),
    /// A segment that was rolled is written to its end.
    Finish(Finish),
}

struct Write {
    files: Arc<SegmentFiles>,
    /// Everything before it is on the disk, and so is this when the write is done: past the page cache. Others only go
    /// to the page cache, as in Kafka.
    durable: bool,
    /// The block that the former write ended in, with what has come since. By itself: a direct write that spans written
    /// and reserved space is handed to a kernel worker by ext4, while each of the two alone is not.
    again: Option<(Vec<Part>, u64)>,
    /// The blocks after it, and the position of the first.
    parts: Vec<Part>,
    at: u64,
    to: Position,
    /// Space to reserve first.
    reserve: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Finish {
    files: Arc<SegmentFiles>,
    base_offset: i64,
    size: u64,
    next_base_offset: i64,
    snapshot: Vec<u8>,
}

impl Log {
    pub(super) fn start_writer(self: &Arc<Log>, state: &mut State) {
        if !state.writer_runs {
            state.writer_runs = true;
            spawn_local(run(self.clone()));
        }
    }

    fn next_job(&self, state: &mut State) -> Option<Job> {
        if state.epochs_changed {
            state.epochs_changed = false;
            return Some(Job::Epochs(state.epochs.to_text()));
        }
        let from = state.write_from;
        let next_base_offset = state.segments.iter().map(|s| s.base_offset).find(|&base| base > from.segment);
        let segment_limit = u64::from(state.config.segment_bytes).next_multiple_of(BLOCK as u64);
        let preallocate = state.config.preallocate;
        let Some(segment) = state.segment(from.segment) else {
            // The segment was deleted before it was finished.
            let next = next_base_offset?;
            state.write_from = Position { segment: next, byte: 0 };
            return self.next_job(state);
        };
        let (files, end) = (segment.files.clone(), segment.size);
        if from.byte < end {
            let uring = self.shared.io.backend() == Backend::Uring;
            let durable = self.writes_directly(&state.config) && !state.unsynced && state.tail.is_aligned();
            let block = from.byte - from.byte % BLOCK as u64;
            let to = end.min(block + WRITE_BYTES);
            let (mut again, mut at) = (None, from.byte);
            if durable && at > block {
                let block_end = block + BLOCK as u64;
                again = Some((state.tail.direct_slices(from.segment, block, to.min(block_end)), block));
                at = block_end;
            }
            let mut parts = match durable {
                _ if at >= to => Vec::new(),
                true => state.tail.direct_slices(from.segment, at, to),
                false => state.tail.slices(from.segment, at, to).into_iter().map(Part::from).collect(),
            };
            let reserve = if uring { state.ahead.reserve(to, segment_limit, preallocate) } else { None };
            if uring && !durable {
                let zeros = state.ahead.fill(at, to, reserve.unwrap_or(state.ahead.reserved));
                parts.extend((!zeros.is_empty()).then(|| Bytes::from_static(zeros).into()));
            }
            let to = Position { segment: from.segment, byte: to };
            return Some(Job::Write(Write { files, durable, again, parts, at, to, reserve }));
        }
        let next_base_offset = next_base_offset?;
        state.write_from = Position { segment: next_base_offset, byte: 0 };
        state.written_end = state.written_end.max(state.write_from);
        state.ahead = Ahead::default();
        let snapshot = state.rolled_snapshots.pop_front().unwrap_or_default();
        Some(Job::Finish(Finish { files, base_offset: from.segment, size: end, next_base_offset, snapshot }))
    }

    /// Beside the writes to the next segment: a sync of a whole segment would hold them up.
    fn start_finisher(self: &Arc<Log>, state: &mut State) {
        if !state.finisher_runs && !state.to_finish.is_empty() {
            state.finisher_runs = true;
            spawn_local(finish(self.clone()));
        }
    }

    async fn write(&self, job: Write) -> Result<()> {
        let file = self.open_in_dir(|| if job.durable { job.files.direct_writer() } else { job.files.writer() })?;
        if let Some(len) = job.reserve {
            file.allocate(len)?;
            self.state.lock().ahead.reserved = len;
        }
        let write = async |parts: Vec<Part>, at| match (parts.is_empty(), job.durable) {
            (true, _) => Ok(()),
            (false, true) => file.write_durably_at(parts, at).await,
            (false, false) => file.write_at(parts, at).await,
        };
        let (again, again_at) = job.again.unwrap_or_default();
        let (again, rest) = tokio::join!(write(again, again_at), write(job.parts, job.at));
        again.and(rest)?;
        let flush = {
            let mut state = self.state.lock();
            state.write_from = job.to;
            state.unsynced |= !job.durable;
            let written = state.marks.iter().take_while(|m| m.end <= job.to).last();
            let due = |next_offset: i64| next_offset - state.recovery_point >= state.config.flush_messages;
            state.unsynced && written.is_some_and(|m| due(m.next_offset))
        };
        if flush {
            self.sync_unfinished().await?;
            self.state.lock().unsynced = false;
        }
        self.advance(job.to, flush || job.durable);
        if job.durable { Ok(()) } else { self.write_back(&file, job.to.byte).await }
    }

    /// All up to `to` is written: raises the high watermark to the last batch that ends there.
    fn advance(&self, to: Position, flushed: bool) {
        let mut state = self.state.lock();
        let before = state.written_end;
        while let Some(mark) = state.marks.front().copied().filter(|m| m.end <= to) {
            state.written_offset = mark.next_offset;
            state.written_end = mark.end;
            state.marks.pop_front();
        }
        if flushed {
            state.recovery_point = state.written_offset;
        }
        let written = state.written_end;
        state.tail.give_back(written.segment, written.byte);
        let high_watermark = state.written_offset;
        let bytes = match before.segment == state.written_end.segment {
            true => state.written_end.byte - before.byte,
            false => state.written_end.byte,
        };
        let wakers = state.wake(false);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if let Some(observer) = self.observer.get()
            && bytes > 0
        {
            observer.on_written(high_watermark, bytes);
        }
    }

    async fn write_epochs(&self, text: String) -> Result<()> {
        let (io, path) = (self.shared.io.clone(), self.dir.join(EPOCHS_FILE));
        self.in_dir(move || io.write_atomic(&path, text.as_bytes())).await
    }

    /// An earlier stop's: before the next segment is there they go, since they would be taken for whole, should the rolled
    /// one not be completed and its successor be synced.
    async fn remove_old_indexes(&self, job: &Finish) -> Result<()> {
        let files = job.files.clone();
        self.in_dir(move || files.remove_indexes()).await
    }

    /// Cuts a rolled segment to its length, and completes its files. The snapshot comes last: it tells recovery that the
    /// segment before it is whole.
    async fn finish_files(&self, job: &Finish) -> Result<()> {
        let indexes = {
            let mut state = self.state.lock();
            state.segment(job.base_offset).and_then(|segment| segment.index_bytes())
        };
        let Some(indexes) = indexes else { return Ok(()) };
        let (io, files, size) = (self.shared.io.clone(), job.files.clone(), job.size);
        let snapshot_path = self.dir.join(file_name(job.next_base_offset, ".snapshot"));
        let snapshot = job.snapshot.clone();
        let work = move || {
            files.complete(size, &indexes)?;
            io.write_atomic(&snapshot_path, &snapshot)
        };
        self.in_dir(work).await
    }

    /// Does blocking work in the log's directory, unless that is not the log's any more.
    pub(super) async fn in_dir(&self, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        let (moved_away, offline) = (self.moved_away.clone(), self.offline());
        let guarded = move || {
            let moved_away = moved_away.read();
            if *moved_away { Err(offline) } else { work() }
        };
        self.shared.io.blocking(guarded).await
    }

    /// The same for a file that may have to be created.
    pub(super) fn open_in_dir(&self, open: impl FnOnce() -> Result<File>) -> Result<File> {
        let moved_away = self.moved_away.read();
        if *moved_away { Err(self.offline()) } else { open() }
    }

    /// Takes the log offline and has its directory moved: what is still under way must not go to the directory that
    /// gets the name next.
    pub(crate) fn move_away<T>(&self, rename: impl FnOnce() -> Result<T>) -> Result<T> {
        self.take_offline();
        let mut moved_away = self.moved_away.write();
        *moved_away = true;
        rename()
    }

    /// A full disk is waited out; anything else takes the log offline, since what a failed write or sync left is unknown,
    /// and with it the directory, as in Kafka.
    pub(super) fn failed(&self, error: &Error) {
        let no_space = error.is_no_space();
        if !matches!(error, Error::Offline { .. }) {
            tracing::error!(log = %self.dir.display(), %error, no_space, "write failed");
        }
        if !no_space {
            if matches!(error, Error::Io { .. }) {
                self.shared.dir.fail();
            }
            return self.take_offline();
        }
        let wakers = {
            let mut state = self.state.lock();
            state.trouble = state.trouble.or(Some(Trouble::NoSpace));
            state.failures += 1;
            state.wake(true)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// After a full disk: tries again.
    pub(crate) fn retry_after_no_space(self: &Arc<Log>) {
        let mut state = self.state.lock();
        if state.trouble == Some(Trouble::NoSpace) {
            state.trouble = None;
            state.retries += 1;
            self.start_writer(&mut state);
            self.start_finisher(&mut state);
        }
    }

    /// fdatasync of all that is written; moves the recovery point.
    pub async fn flush(self: &Arc<Log>) -> Result<()> {
        let written_offset = {
            let state = self.state.lock();
            if state.recovery_point >= state.written_offset {
                return Ok(());
            }
            state.written_offset
        };
        if let Err(error) = self.sync_unfinished().await {
            self.failed(&error);
            return Err(error);
        }
        let mut state = self.state.lock();
        state.recovery_point = state.recovery_point.max(written_offset);
        Ok(())
    }

    /// The segments that have something to sync: the active one, and those that are being completed.
    pub(super) fn unfinished(&self) -> Vec<Arc<SegmentFiles>> {
        let state = self.state.lock();
        let unfinished = state.segments.iter().filter(|s| s.indexes.is_some() && s.size > 0);
        unfinished.map(|s| s.files.clone()).collect()
    }

    async fn sync_unfinished(&self) -> Result<()> {
        for files in self.unfinished() {
            self.open_in_dir(|| files.writer())?.sync_data().await?;
        }
        // A sync that works after one that failed says nothing about what the failed one lost.
        if self.state.lock().trouble == Some(Trouble::Offline) { Err(self.offline()) } else { Ok(()) }
    }
}

async fn run(log: Arc<Log>) {
    loop {
        let job = {
            let mut state = log.state.lock();
            let job = if log.is_online(&state) { log.next_job(&mut state) } else { None };
            if job.is_none() {
                state.writer_runs = false;
                // close() waits for this.
                let idle = state.wake(false);
                drop(state);
                idle.into_iter().for_each(Waker::wake);
            }
            job
        };
        let done = match job {
            None => return,
            Some(Job::Epochs(text)) => {
                let done = log.write_epochs(text).await;
                log.state.lock().epochs_changed |= done.is_err();
                done
            }
            Some(Job::Write(write)) => log.write(write).await,
            Some(Job::Finish(job)) => {
                let removed = log.remove_old_indexes(&job).await;
                let mut state = log.state.lock();
                state.to_finish.push_back(Arc::new(job));
                log.start_finisher(&mut state);
                removed
            }
        };
        if let Err(error) = done {
            log.failed(&error);
        }
    }
}

/// Completes rolled segments, the oldest first, and moves the recovery point past them. One that fails stays the next.
async fn finish(log: Arc<Log>) {
    loop {
        let (job, retries) = {
            let mut state = log.state.lock();
            let job = if log.is_online(&state) { state.to_finish.front().cloned() } else { None };
            state.finisher_runs = job.is_some();
            (job, state.retries)
        };
        let done = match &job {
            Some(job) => log.finish_files(job).await.map(|()| job),
            None => return,
        };
        match done {
            Ok(job) => {
                let mut state = log.state.lock();
                state.to_finish.pop_front();
                if let Some(segment) = state.segment(job.base_offset) {
                    segment.indexes_are_written();
                }
                state.recovery_point = state.recovery_point.max(job.next_base_offset);
                // Those who close the log wait for this.
                let wakers = state.wake(false);
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
            }
            // It began before there was room, and may not take back the retry that has come since.
            Err(error) if error.is_no_space() && log.state.lock().retries > retries => {}
            Err(error) => log.failed(&error),
        }
    }
}
