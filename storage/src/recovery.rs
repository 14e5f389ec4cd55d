//! Opening a partition's directory: which segments there are, where the log ends, what its producers last sent.
//! After a clean stop nothing is scanned; after a crash what lies past the recovery point is, and the log is cut after
//! the last whole batch.

mod producers;

use std::collections::VecDeque;
use std::path::Path;

use crate::batch::{self, BatchHeader, HEADER_BYTES};
use crate::compaction;
use crate::epochs::{EPOCHS_FILE, Epochs};
use crate::io::{File, Io, OpenOptions};
use crate::log::{LogConfig, Recovered};
use crate::offset_index::OffsetIndex;
use crate::producers::Producers;
use crate::scan::whole_header;
use crate::segment::{Indexes, Segment, SegmentFiles, parse_file_name};
use crate::time_index::TimeIndex;
use crate::{Error, Result};

const PIECE_BYTES: usize = 1 << 20;

/// What is known about a log before it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub clean: bool,
    pub recovery_point: i64,
    pub log_start_offset: i64,
    pub producer_id_expiration_ms: i64,
    pub now_ms: i64,
}

pub(crate) fn recover(io: &Io, dir: &Path, config: &LogConfig, known: Known) -> Result<Recovered> {
    compaction::swap::recover(io, dir)?;
    let mut segments = find_segments(io, dir, known.now_ms)?;
    let known = distrust_damage(&segments, known);
    let first = segments.front().map_or(0, |s| s.base_offset);
    let log_start_offset = known.log_start_offset.max(first);
    if segments.is_empty() {
        let files = SegmentFiles::new(io.clone(), dir, log_start_offset);
        segments.push_back(Segment::new(files, known.now_ms, 0));
    }
    let mut epochs = read_epochs(io, dir)?;
    let mut producers = Producers::new(known.producer_id_expiration_ms);
    let (next_offset, changed) = match known.clean {
        true => {
            let opened = open_active(io, config, &mut segments)?;
            producers::load(io, dir, &segments, opened.0, known, &mut producers)?;
            opened
        }
        false => {
            let first = first_to_scan(&segments, known.recovery_point);
            producers::load(io, dir, &segments, segments[first].base_offset, known, &mut producers)?;
            let mut state = Scanned { epochs: &mut epochs, producers: &mut producers, now_ms: known.now_ms };
            (recover_segments(config, &mut segments, first, &mut state)?, true)
        }
    };
    epochs.truncate_from_end(next_offset);
    producers::remove_strays(io, dir, &segments, next_offset)?;
    let recovery_point = next_offset;
    Ok(Recovered { segments, log_start_offset, next_offset, recovery_point, producers, epochs, changed })
}

/// An unreadable index of aborted transactions is made again from the log, as after a crash.
fn distrust_damage(segments: &VecDeque<Segment>, known: Known) -> Known {
    for segment in segments.iter().filter(|s| s.aborted.is_none()) {
        if let Err(error) = segment.files.read_aborted() {
            tracing::warn!(%error, "the segment will be scanned");
            return Known { clean: false, recovery_point: known.recovery_point.min(segment.base_offset), ..known };
        }
    }
    known
}

/// The segments on disk, oldest first. Files that a deletion left are removed.
fn find_segments(io: &Io, dir: &Path, now_ms: i64) -> Result<VecDeque<Segment>> {
    let mut segments = VecDeque::new();
    let names = io.list(dir)?;
    for name in &names {
        if name.ends_with(".deleted") {
            io.remove_file(&dir.join(name))?;
        } else if let Some(base_offset) = parse_file_name(name, ".log") {
            let files = SegmentFiles::new(io.clone(), dir, base_offset);
            let size = open_read_only(io, &dir.join(name))?.len()?;
            segments.push_back(Segment::found(files, size, now_ms));
        }
    }
    let with_index = names.iter().filter_map(|name| parse_file_name(name, ".txnindex"));
    for base_offset in with_index {
        if let Ok(i) = segments.binary_search_by_key(&base_offset, |s: &Segment| s.base_offset) {
            segments[i].aborted = None;
        }
    }
    Ok(segments)
}

fn open_read_only(io: &Io, path: &Path) -> Result<File> {
    io.open(path, OpenOptions { read_only: true, ..Default::default() })
}

fn read_epochs(io: &Io, dir: &Path) -> Result<Epochs> {
    let path = dir.join(EPOCHS_FILE);
    let Some(bytes) = io.read_small(&path)? else { return Ok(Epochs::default()) };
    let parsed = Epochs::from_text(&String::from_utf8_lossy(&bytes));
    parsed.or_else(|what| {
        tracing::warn!(file = %path.display(), what, "leader epochs are unreadable and will be found again");
        Ok(Epochs::default())
    })
}

/// After a clean stop: the active segment's indexes from their files, and the end of the log from the last index entry
/// on. Returns the log end offset, and whether the index files are not what they should be.
fn open_active(io: &Io, config: &LogConfig, segments: &mut VecDeque<Segment>) -> Result<(i64, bool)> {
    let active = segments.back_mut().expect("recover() makes one");
    if active.aborted.is_none() {
        active.aborted = Some(active.files.read_aborted()?);
    }
    if active.size == 0 {
        active.indexes = Some(Indexes::new(active.base_offset));
        active.max_timestamp = Some((-1, active.base_offset));
        return Ok((active.base_offset, false));
    }
    let Some(indexes) = read_indexes(io, active)? else {
        tracing::warn!(segment = %active.files.path(".log").display(), "indexes missing or unreadable: rebuilt");
        return Ok((scan_segment(active, config, None)?, true));
    };
    let last_entry = indexes.offsets.lookup(i64::MAX).1;
    active.max_timestamp = indexes.times.last().or(Some((-1, active.base_offset)));
    active.indexes = Some(indexes);
    let file = active.files.reader()?;
    let mut next_offset = active.base_offset;
    let mut position = u64::from(last_entry);
    while let Some(header) = header_at(&file, position, active.size)? {
        next_offset = header.next_offset();
        position += header.total_bytes() as u64;
    }
    if position != active.size {
        let what = format!("no whole batch at position {position}, though the last stop was clean");
        return Err(Error::corrupt(active.files.path(".log"), what));
    }
    active.files.close();
    Ok((next_offset, false))
}

fn read_indexes(io: &Io, segment: &Segment) -> Result<Option<Indexes>> {
    let (offsets, times) =
        (io.read_small(&segment.files.path(".index"))?, io.read_small(&segment.files.path(".timeindex"))?);
    let (Some(offsets), Some(times)) = (offsets, times) else { return Ok(None) };
    let base = segment.base_offset;
    let parsed = OffsetIndex::from_bytes(base, &offsets).and_then(|o| Ok((o, TimeIndex::from_bytes(base, &times)?)));
    Ok(parsed.ok().map(|(offsets, times)| Indexes::loaded(offsets, times)))
}

fn header_at(file: &File, position: u64, limit: u64) -> Result<Option<BatchHeader>> {
    let mut bytes = [0; HEADER_BYTES];
    if position + HEADER_BYTES as u64 > limit || file.pread(&mut bytes, position)? < HEADER_BYTES {
        return Ok(None);
    }
    Ok(whole_header(&bytes, limit - position))
}

/// What a scan finds out besides the segment's own indexes.
struct Scanned<'a> {
    epochs: &'a mut Epochs,
    /// As they were where the scan begins.
    producers: &'a mut Producers,
    now_ms: i64,
}

impl Scanned<'_> {
    fn note(&mut self, segment: &mut Segment, header: &BatchHeader, batch: &[u8]) {
        self.epochs.assign(header.partition_leader_epoch, header.base_offset);
        let aborted = producers::note(self.producers, header, batch, self.now_ms);
        segment.aborted.get_or_insert_default().extend(aborted);
    }
}

/// The first segment that reaches past the recovery point.
fn first_to_scan(segments: &VecDeque<Segment>, recovery_point: i64) -> usize {
    let reaches = |next: &Segment| next.base_offset > recovery_point;
    segments.iter().skip(1).position(reaches).unwrap_or(segments.len() - 1)
}

/// After a crash: scans the segments from the `first` on. Returns the log end offset.
fn recover_segments(
    config: &LogConfig,
    segments: &mut VecDeque<Segment>,
    first: usize,
    scanned: &mut Scanned<'_>,
) -> Result<i64> {
    let ends: Vec<i64> = segments.iter().skip(1).map(|s| s.base_offset).chain([i64::MAX]).collect();
    let mut next_offset = segments[first].base_offset;
    for i in first..segments.len() {
        let segment = &mut segments[i];
        let size = segment.size;
        next_offset = scan_segment(segment, config, Some(scanned))?;
        let cut = size - segment.size;
        if cut > 0 {
            let path = segment.files.path(".log");
            tracing::info!(file = %path.display(), end = next_offset, cut_bytes = cut, "cut after the last whole batch");
            segment.files.writer()?.truncate(segment.size)?;
        }
        if size > 0 {
            // The recovery point moves past it, and what a killed process wrote may be in the page cache alone.
            segment.files.writer()?.sync_data_blocking()?;
            segment.files.close();
        }
        // A segment that was rolled but not yet cut ends in reserved space; one that ends early has lost batches.
        if ends[i] != i64::MAX && next_offset < ends[i] && cut > 0 {
            for lost in segments.drain(i + 1..) {
                tracing::error!(file = %lost.files.path(".log").display(), "removed: it follows a cut segment");
                lost.files.remove()?;
            }
            break;
        }
    }
    for segment in segments.iter_mut().rev().skip(1) {
        if let Some(content) = segment.index_bytes() {
            segment.files.write_indexes(&content)?;
            segment.indexes_are_written();
        }
    }
    Ok(next_offset)
}

/// Reads a segment from its start and checks every batch; rebuilds its indexes and timestamps (and with `scanned` all
/// that batches say about the log), and sets its size to the end of the last whole batch. Returns the offset after it.
fn scan_segment(segment: &mut Segment, config: &LogConfig, mut scanned: Option<&mut Scanned<'_>>) -> Result<i64> {
    let file_bytes = std::mem::take(&mut segment.size);
    let mut next_offset = segment.base_offset;
    segment.indexes = Some(Indexes::new(segment.base_offset));
    segment.max_timestamp = Some((-1, segment.base_offset));
    if scanned.is_some() {
        segment.aborted = Some(Vec::new());
    }
    if file_bytes == 0 {
        return Ok(next_offset);
    }
    let file = segment.files.reader()?;
    let mut piece = vec![0; PIECE_BYTES.min(file_bytes as usize)];
    let mut position = 0;
    while position + HEADER_BYTES as u64 <= file_bytes {
        let wanted = piece.len().min((file_bytes - position) as usize);
        let read = file.pread(&mut piece[..wanted], position)?;
        let mut used = 0;
        while let Some(header) =
            piece.get(used..read).and_then(|rest| whole_header(rest, file_bytes - position - used as u64))
        {
            let Some(bytes) =
                piece.get(used..used + header.total_bytes()).filter(|_| used + header.total_bytes() <= read)
            else {
                break;
            };
            if header.base_offset < next_offset || batch::verify_crc(bytes).is_err() {
                return Ok(done(segment, next_offset));
            }
            if let Some(scanned) = scanned.as_deref_mut() {
                scanned.note(segment, &header, bytes);
            }
            segment.note_batch(&header, header.base_offset, config.index_interval_bytes);
            next_offset = header.next_offset();
            used += header.total_bytes();
        }
        position += used as u64;
        if used == 0 {
            // Not even one batch: the end of the log, or one larger than the piece.
            match whole_header(&piece[..read], file_bytes - position) {
                Some(header) if header.total_bytes() > piece.len() => piece.resize(header.total_bytes(), 0),
                _ => break,
            }
        }
    }
    Ok(done(segment, next_offset))
}

fn done(segment: &mut Segment, next_offset: i64) -> i64 {
    segment.complete_time_index();
    segment.files.close();
    next_offset
}
