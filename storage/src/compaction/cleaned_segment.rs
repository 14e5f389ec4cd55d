//! The segment that a group of old ones is cleaned into, while it is written: its files end in `.cleaned`.

use std::path::{Path, PathBuf};

use super::swap::CLEANED;
use crate::batch::BatchHeader;
use crate::io::{File, Io, OpenOptions};
use crate::segment::{Segment, SegmentFiles, file_name};
use crate::txn_index::AbortedTransaction;
use crate::{Error, Result};

/// One write.
const WRITE_BYTES: usize = 1 << 20;

pub struct CleanedSegment {
    io: Io,
    dir: PathBuf,
    segment: Segment,
    file: File,
    /// What is not written yet.
    pub pending: Vec<u8>,
    written: u64,
}

impl CleanedSegment {
    /// What an earlier attempt left is overwritten.
    pub fn create(io: &Io, dir: &Path, base_offset: i64, now_ms: i64) -> Result<CleanedSegment> {
        let file = create(io, &dir.join(file_name(base_offset, &format!(".log{CLEANED}"))))?;
        let segment = Segment::new(SegmentFiles::new(io.clone(), dir, base_offset), now_ms, 0);
        let (io, dir) = (io.clone(), dir.to_path_buf());
        Ok(CleanedSegment { io, dir, segment, file, pending: Vec::new(), written: 0 })
    }

    /// The batch with `header` was added to `pending`. Returns how many bytes were written to the file.
    pub fn note(&mut self, header: &BatchHeader, index_interval_bytes: u32) -> Result<usize> {
        self.segment.note_batch(header, header.base_offset, index_interval_bytes);
        // Positions are int32 in Kafka. Delete horizons make small records larger, so that a large segment may grow.
        if self.segment.size > i32::MAX as u64 {
            return Err(Error::corrupt(self.file.path(), "would be larger than a segment can be"));
        }
        if self.pending.len() < WRITE_BYTES { Ok(0) } else { self.write() }
    }

    pub fn note_aborted(&mut self, transactions: Vec<AbortedTransaction>) {
        self.segment.aborted.get_or_insert_default().extend(transactions);
    }

    fn write(&mut self) -> Result<usize> {
        let bytes = self.pending.len();
        self.file.pwrite(&self.pending, self.written)?;
        self.written += bytes as u64;
        self.pending.clear();
        Ok(bytes)
    }

    /// Everything is on the disk, under names that a start removes.
    pub fn finish(mut self) -> Result<Segment> {
        self.write()?;
        self.segment.complete_time_index();
        self.file.sync_data_blocking()?;
        let content = self.segment.index_bytes().expect("a new segment has them");
        self.write_small(".index", &content.offsets)?;
        self.write_small(".timeindex", &content.times)?;
        if let Some(aborted) = content.aborted.filter(|entries| !entries.is_empty()) {
            self.write_small(".txnindex", &aborted)?;
        }
        self.segment.lent_indexes = self.segment.indexes.take();
        Ok(self.segment)
    }

    fn write_small(&self, kind: &str, content: &[u8]) -> Result<()> {
        let path = self.dir.join(file_name(self.segment.base_offset, &format!("{kind}{CLEANED}")));
        let file = create(&self.io, &path)?;
        file.pwrite(content, 0)?;
        file.sync_data_blocking()
    }
}

fn create(io: &Io, path: &Path) -> Result<File> {
    let file = io.open(path, OpenOptions { create: true, ..Default::default() })?;
    file.truncate(0)?;
    Ok(file)
}
