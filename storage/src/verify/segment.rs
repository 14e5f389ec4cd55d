//! One segment: its batches in order, and its indexes against them in the same pass.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use super::Verifier;
use crate::Result;
use crate::batch::{self, BatchHeader, HEADER_BYTES, TransactionMarker};
use crate::io::{File, OpenOptions};
use crate::offset_index::{self, OffsetIndex};
use crate::segment::file_name;
use crate::time_index::{self, TimeIndex};
use crate::txn_index;

/// What there is at a position of a log.
pub(crate) enum Found {
    Batch(BatchHeader),
    /// Its length is known, its content is not to be trusted.
    Damaged(BatchHeader, String),
    Nothing(String),
}

/// The entries of an index that are still to be met: (position of the entry, its two numbers).
struct Entries {
    path: PathBuf,
    left: Peekable<std::vec::IntoIter<(u64, i64, i64)>>,
}

impl Entries {
    fn next_if(&mut self, condition: impl Fn(i64, i64) -> bool) -> Option<(u64, i64, i64)> {
        self.left.next_if(|&(_, first, second)| condition(first, second))
    }
}

impl Verifier<'_> {
    /// Returns the offset after the last batch. `finished`: nothing more is going to be written, or mended.
    pub(super) fn segment(&mut self, dir: &Path, base: i64, next_base: Option<i64>, finished: bool) -> Result<i64> {
        self.checked.segments += 1;
        let path = dir.join(file_name(base, ".log"));
        let mut indexes = if finished { Some((self.offsets(dir, base)?, self.times(dir, base)?)) } else { None };
        // Of the entry whose batch has begun: some batch must end with this offset.
        let mut indexed = None;
        let mut aborts = BTreeSet::new();
        let mut next = base;
        self.walk(&path, finished, |verifier, at, header, bytes| {
            if header.base_offset < next {
                verifier.complain(&path, Some(at), format!("offset {} comes after {}", header.base_offset, next - 1));
            }
            if next_base.is_some_and(|next_base| header.last_offset() >= next_base) {
                let what = format!("offset {} belongs to the next segment", header.last_offset());
                verifier.complain(&path, Some(at), what);
            }
            next = header.next_offset().max(next);
            if let Some((offsets, times)) = &mut indexes {
                verifier.meet_offsets(offsets, &mut indexed, at, header);
                verifier.meet_times(times, header);
            }
            if header.is_control() && TransactionMarker::read(header, bytes).is_some_and(|marker| !marker.commit) {
                aborts.insert((header.producer_id, header.base_offset));
            }
        })?;
        if let Some((offsets, times)) = indexes {
            let behind = "points behind the end of the log";
            if let Some((at, _)) = indexed {
                self.complain(&offsets.path, Some(at), behind);
            }
            for entries in [offsets, times] {
                for (at, ..) in entries.left {
                    self.complain(&entries.path, Some(at), behind);
                }
            }
            self.aborted(dir, base, &aborts)?;
        }
        Ok(next)
    }

    /// The batches of a file that is written at once.
    pub(super) fn batches(&mut self, path: &Path) -> Result<()> {
        let mut next = 0;
        self.walk(path, true, |verifier, at, header, _| {
            if header.base_offset != next {
                verifier.complain(path, Some(at), format!("offset {} where {next} belongs", header.base_offset));
            }
            next = header.next_offset();
        })
    }

    fn walk(
        &mut self,
        path: &Path,
        finished: bool,
        mut visit: impl FnMut(&mut Self, u64, &BatchHeader, &[u8]),
    ) -> Result<()> {
        let file = self.io.open(path, OpenOptions { read_only: true, ..OpenOptions::default() })?;
        let len = file.len()?;
        let mut buffer = Vec::new();
        let mut at = 0;
        // After a crash the last batch may be torn, but none before another.
        let mut torn = None;
        while at < len {
            let header = match read_batch(&file, at, len, &mut buffer)? {
                Found::Batch(header) => {
                    if let Some((at, what)) = torn.take() {
                        self.complain(path, Some(at), what);
                    }
                    visit(self, at, &header, &buffer);
                    header
                }
                Found::Damaged(header, what) if finished => {
                    self.complain(path, Some(at), what);
                    header
                }
                Found::Damaged(header, what) => {
                    torn.get_or_insert((at, what));
                    header
                }
                Found::Nothing(what) => {
                    if finished {
                        self.complain(path, Some(at), what);
                    }
                    break;
                }
            };
            self.checked.batches += 1;
            at += header.total_bytes() as u64;
        }
        self.checked.bytes += len;
        Ok(())
    }

    fn offsets(&mut self, dir: &Path, base: i64) -> Result<Entries> {
        let path = dir.join(file_name(base, ".index"));
        let content = self.io.read_small(&path)?.unwrap_or_default();
        let index = OffsetIndex::from_bytes(base, &content).map_err(|what| self.complain(&path, None, what));
        let entries = index.map(|index| index.iter().map(|(offset, at)| (offset, i64::from(at))).collect());
        Ok(Entries::new(path, offset_index::ENTRY_BYTES, entries.unwrap_or_default()))
    }

    fn times(&mut self, dir: &Path, base: i64) -> Result<Entries> {
        let path = dir.join(file_name(base, ".timeindex"));
        let content = self.io.read_small(&path)?.unwrap_or_default();
        let index = TimeIndex::from_bytes(base, &content).map_err(|what| self.complain(&path, None, what));
        let entries = index.map(|index| index.iter().collect());
        Ok(Entries::new(path, time_index::ENTRY_BYTES, entries.unwrap_or_default()))
    }

    /// An entry names the last offset of a batch, and where that batch begins, or others that were appended with it.
    fn meet_offsets(&mut self, entries: &mut Entries, indexed: &mut Option<(u64, i64)>, at: u64, header: &BatchHeader) {
        while let Some((entry, _, position)) = entries.next_if(|_, position| (position as u64) < at) {
            self.complain(&entries.path, Some(entry), format!("position {position} is inside of a batch"));
        }
        if let Some((entry, offset, _)) = entries.next_if(|_, position| position as u64 == at) {
            *indexed = Some((entry, offset));
        }
        if let Some((entry, offset)) = indexed.take_if(|(_, offset)| *offset <= header.last_offset())
            && offset != header.last_offset()
        {
            let what = format!("offset {offset} is not the last of the batch at {at}, {}", header.last_offset());
            self.complain(&entries.path, Some(entry), what);
        }
    }

    /// An entry names the largest timestamp of the batch that holds its offset.
    fn meet_times(&mut self, entries: &mut Entries, header: &BatchHeader) {
        let last = header.last_offset();
        while let Some((entry, timestamp, offset)) = entries.next_if(|_, offset| offset <= last) {
            if offset < header.base_offset || timestamp != header.max_timestamp {
                let what = format!("timestamp {timestamp} is not that of the batch with offset {offset}");
                self.complain(&entries.path, Some(entry), what);
            }
        }
    }

    /// `aborts`: producer and offset of every marker that says so.
    fn aborted(&mut self, dir: &Path, base: i64, aborts: &BTreeSet<(i64, i64)>) -> Result<()> {
        let path = dir.join(file_name(base, ".txnindex"));
        let content = self.io.read_small(&path)?.unwrap_or_default();
        let entries = txn_index::parse(&content).map_err(|what| self.complain(&path, None, what)).unwrap_or_default();
        for (at, entry) in (0..).step_by(txn_index::ENTRY_BYTES).zip(entries) {
            if !aborts.contains(&(entry.producer_id, entry.last_offset)) {
                let what = format!("producer {} aborted nothing at offset {}", entry.producer_id, entry.last_offset);
                self.complain(&path, Some(at), what);
            }
        }
        Ok(())
    }
}

impl Entries {
    fn new(path: PathBuf, entry_bytes: usize, entries: Vec<(i64, i64)>) -> Entries {
        let positions = (0..).step_by(entry_bytes);
        let numbered: Vec<_> = positions.zip(entries).map(|(at, (first, second))| (at, first, second)).collect();
        Entries { path, left: numbered.into_iter().peekable() }
    }
}

/// `len`: the file's. A whole batch is in `buffer`.
pub(crate) fn read_batch(file: &File, at: u64, len: u64, buffer: &mut Vec<u8>) -> Result<Found> {
    let left = len - at;
    buffer.resize(HEADER_BYTES.min(left as usize), 0);
    file.pread(buffer, at)?;
    if left < HEADER_BYTES as u64 {
        return Ok(Found::Nothing(format!("{left} bytes are no batch")));
    }
    let header = match BatchHeader::read(buffer) {
        Ok(header) => header,
        Err(error) => return Ok(Found::Nothing(error.to_string())),
    };
    let bytes = header.total_bytes();
    if bytes as u64 > left {
        return Ok(Found::Nothing(format!("a batch of {bytes} bytes, of which {left} are there")));
    }
    buffer.resize(bytes, 0);
    file.pread(&mut buffer[HEADER_BYTES..], at + HEADER_BYTES as u64)?;
    Ok(match batch::verify_crc(buffer) {
        Ok(()) => Found::Batch(header),
        Err(error) => Found::Damaged(header, error.to_string()),
    })
}
