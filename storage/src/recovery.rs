//! Opening a partition's directory: which segments there are, where the log ends, what its producers last sent.
//! After a clean stop nothing is scanned; after a crash what lies past the recovery point is, and the log is cut after
//! the last whole batch.

mod aside;
mod producers;

use std::collections::VecDeque;
use std::path::Path;

use crate::Result;
use crate::batch::{self, BatchHeader, HEADER_BYTES};
use crate::compaction;
use crate::epochs::{EPOCHS_FILE, Epochs};
use crate::io::{BLOCK, File, Io, OpenOptions};
use crate::log::{LogConfig, Recovered};
use crate::offset_index::OffsetIndex;
use crate::producers::Producers;
use crate::scan::whole_header;
use crate::segment::{Indexes, Segment, SegmentFiles, file_name, parse_file_name};
use crate::time_index::TimeIndex;

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

/// Where the outcome says that files changed, the caller syncs the file system before anything is appended.
pub(crate) fn recover(io: &Io, dir: &Path, config: &LogConfig, known: Known) -> Result<Recovered> {
    let mut names = io.list(dir)?;
    if !compaction::swap::recover(io, dir, &names)? {
        names = io.list(dir)?;
    }
    let mut segments = find_segments(io, dir, &names, known.now_ms)?;
    let damaged = damaged_index(&segments);
    let first = segments.front().map_or(0, |s| s.base_offset);
    let log_start_offset = known.log_start_offset.max(first);
    if segments.is_empty() {
        segments.push_back(empty_segment(io, dir, log_start_offset, known.now_ms)?);
    }
    let mut epochs = read_epochs(io, dir)?;
    let as_read = epochs.clone();
    let mut producers = Producers::new(known.producer_id_expiration_ms);
    let opened = match known.clean {
        _ if damaged.is_some() => None,
        true => open_active(io, config, &mut segments)?,
        false => open_untouched(io, &names, &mut segments, known.recovery_point)?.map(|end| (end, false)),
    };
    let stopped_cleanly = known.clean;
    let known = Known { clean: opened.is_some(), ..known };
    let mut allocated = 0;
    let (mut next_offset, changed) = match opened {
        Some(opened) => {
            producers::load(io, dir, &names, &segments, opened.0, known, &mut producers)?;
            opened
        }
        None => {
            let first = first_to_scan(&segments, &names, damaged.unwrap_or(i64::MAX).min(known.recovery_point));
            let from = segments[first].base_offset;
            producers::load(io, dir, &names, &segments, from, known, &mut producers)?;
            let state = Scanned { epochs: &mut epochs, producers: &mut producers, known };
            let end = recover_segments(io, dir, config, &mut segments, &names, first, state)?;
            allocated = end.allocated;
            (end.offset, true)
        }
    };
    // A scan writes them between two segments.
    let may_have_new_snapshots = !known.clean && segments.len() > 1;
    let scanned_bytes = if known.clean { 0 } else { segments.iter().filter(|s| s.scanned).map(|s| s.size).sum() };
    if next_offset < log_start_offset {
        tracing::warn!(log = %dir.display(), end = next_offset, log_start_offset, "all that is left was deleted before");
        segments.drain(..).try_for_each(|segment| segment.files.remove())?;
        let snapshots = names.iter().filter(|name| parse_file_name(name, ".snapshot").is_some());
        snapshots.map(|name| dir.join(name)).try_for_each(|path| io.remove_file(&path))?;
        segments.push_back(empty_segment(io, dir, log_start_offset, known.now_ms)?);
        producers = Producers::new(known.producer_id_expiration_ms);
        (next_offset, allocated) = (log_start_offset, 0);
    }
    for segment in segments.iter_mut().rev().skip(1) {
        rebuild_indexes(io, config, segment, &names, stopped_cleanly)?;
    }
    epochs.truncate_from_end(next_offset);
    epochs.truncate_from_start(segments[0].base_offset);
    // Now, since the next start does not find them again: it scans from the recovery point, which moves up.
    let epochs_changed = epochs != as_read
        && io
            .write_atomic(&dir.join(EPOCHS_FILE), epochs.to_text().as_bytes())
            .inspect_err(|error| tracing::warn!(%error, "leader epochs are written later"))
            .is_err();
    if may_have_new_snapshots {
        names = io.list(dir)?;
    }
    producers::remove_strays(io, dir, &names, &segments, next_offset)?;
    Ok(Recovered {
        segments,
        log_start_offset,
        next_offset,
        recovery_point: next_offset,
        producers,
        epochs_changed,
        epochs,
        scanned_bytes,
        allocated,
        changed,
    })
}

/// Its name alone says where the log begins: the file is there from the start, unless that is at 0.
fn empty_segment(io: &Io, dir: &Path, base_offset: i64, now_ms: i64) -> Result<Segment> {
    let segment = Segment::new(SegmentFiles::new(io.clone(), dir, base_offset), now_ms, 0);
    if base_offset > 0 {
        segment.files.writer()?;
        segment.files.close();
    }
    Ok(segment)
}

/// The first segment whose index of aborted transactions is unreadable: it is made again from the log, as after a crash.
fn damaged_index(segments: &VecDeque<Segment>) -> Option<i64> {
    let mut in_files = segments.iter().filter(|segment| segment.aborted.is_none());
    let damaged = in_files.find(|segment| {
        let read = segment.files.read_aborted();
        read.inspect_err(|error| tracing::warn!(%error, "the segment will be scanned")).is_err()
    });
    damaged.map(|segment| segment.base_offset)
}

/// The segments on disk, oldest first. Files that a deletion left or that were not finished are removed.
fn find_segments(io: &Io, dir: &Path, names: &[String], now_ms: i64) -> Result<VecDeque<Segment>> {
    let mut segments = VecDeque::new();
    for name in names {
        if [".deleted", "index.tmp"].iter().any(|suffix| name.ends_with(suffix)) {
            io.remove_file(&dir.join(name))?;
        } else if let Some(base_offset) = parse_file_name(name, ".log") {
            let files = SegmentFiles::new(io.clone(), dir, base_offset);
            let size = files.cached_reader()?.len()?;
            // The active one's is soon needed.
            segments.back().iter().for_each(|segment: &&Segment| segment.files.close());
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
/// on. Returns the log end offset, and whether the index files are not what they should be; None if the file says that
/// the stop was not clean after all.
fn open_active(io: &Io, config: &LogConfig, segments: &mut VecDeque<Segment>) -> Result<Option<(i64, bool)>> {
    let active = segments.back_mut().expect("recover() makes one");
    if active.aborted.is_none() {
        active.aborted = Some(active.files.read_aborted()?);
    }
    if active.size == 0 {
        use_indexes(active, Indexes::new(active.base_offset));
        return Ok(Some((active.base_offset, false)));
    }
    let Some(indexes) = read_indexes(io, active)? else {
        tracing::warn!(segment = %active.files.path(".log").display(), "indexes missing or unreadable: rebuilt");
        return Ok(Some((scan_segment(active, config, None)?, true)));
    };
    let (next_offset, position) = walk_from_last_entry(active, &indexes)?;
    if position != active.size {
        let file = active.files.path(".log");
        tracing::error!(file = %file.display(), position, "no whole batch here, though the last stop was clean");
        return Ok(None);
    }
    use_indexes(active, indexes);
    Ok(Some((next_offset, false)))
}

/// After a crash: a log that nothing was appended to since it was closed is opened as after a clean stop. It ends at its
/// recovery point, and the snapshot there is the last file that closing it wrote. Returns the log end offset.
fn open_untouched(
    io: &Io,
    names: &[String],
    segments: &mut VecDeque<Segment>,
    recovery_point: i64,
) -> Result<Option<i64>> {
    let is_new = recovery_point == 0 && segments.len() == 1;
    let active = segments.back_mut().expect("recover() makes one");
    if !is_completed(names, recovery_point) && !is_new {
        return Ok(None);
    }
    // Kafka reserves space in the indexes of an active segment: not worth reading, and to be given back.
    let index_bytes = active.files.index_bytes(".index")?.max(active.files.index_bytes(".timeindex")?);
    if index_bytes > 0 && index_bytes >= active.size {
        return Ok(None);
    }
    let mut indexes = Indexes::new(active.base_offset);
    let mut end = active.base_offset;
    if active.size > 0 {
        let Some(read) = read_indexes(io, active)? else { return Ok(None) };
        let (next_offset, position) = walk_from_last_entry(active, &read)?;
        if position != active.size {
            return Ok(None);
        }
        (indexes, end) = (read, next_offset);
    }
    if end != recovery_point {
        return Ok(None);
    }
    if active.aborted.is_none() {
        active.aborted = Some(active.files.read_aborted()?);
    }
    use_indexes(active, indexes);
    Ok(Some(end))
}

fn use_indexes(active: &mut Segment, indexes: Indexes) {
    active.max_timestamp = indexes.times.last().or(Some((-1, active.base_offset)));
    active.indexes = Some(indexes);
    active.files.close();
}

/// The offset and the position after the last whole batch.
fn walk_from_last_entry(active: &Segment, indexes: &Indexes) -> Result<(i64, u64)> {
    let file = active.files.cached_reader()?;
    let mut next_offset = active.base_offset;
    let mut position = u64::from(indexes.offsets.lookup(i64::MAX).1);
    while let Some(header) = header_at(&file, position, active.size)? {
        next_offset = header.next_offset();
        position += header.total_bytes() as u64;
    }
    Ok((next_offset, position))
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

/// A rolled segment whose indexes are missing, or (looked at after a crash only) cannot be right, gets new ones.
fn rebuild_indexes(io: &Io, config: &LogConfig, segment: &mut Segment, names: &[String], clean: bool) -> Result<()> {
    if segment.size == 0 || segment.indexes.is_some() {
        return Ok(());
    }
    let there = |suffix| names.binary_search(&file_name(segment.base_offset, suffix)).is_ok();
    let sound = there(".index") && there(".timeindex") && (clean || read_indexes(io, segment)?.is_some());
    if sound {
        return Ok(());
    }
    let (path, size) = (segment.files.path(".log"), segment.size);
    tracing::warn!(segment = %path.display(), "indexes missing or unreadable: rebuilt");
    scan_segment(segment, config, None)?;
    if segment.size < size {
        tracing::error!(file = %path.display(), position = segment.size, "no batch can be read here and beyond");
        segment.size = size;
    }
    write_rebuilt(segment)
}

fn write_rebuilt(segment: &mut Segment) -> Result<()> {
    if let Some(content) = segment.index_bytes() {
        segment.files.write_indexes(&content)?;
        segment.indexes_are_written();
    }
    Ok(())
}

/// What a scan finds out besides the segment's own indexes.
struct Scanned<'a> {
    epochs: &'a mut Epochs,
    /// As they were where the scan begins.
    producers: &'a mut Producers,
    known: Known,
}

impl Scanned<'_> {
    fn note(&mut self, segment: &mut Segment, header: &BatchHeader, batch: &[u8]) {
        self.epochs.assign(header.partition_leader_epoch, header.base_offset);
        let aborted = producers::note(self.producers, header, batch, self.known.now_ms);
        segment.aborted.get_or_insert_default().extend(aborted);
    }

    /// Between two segments. Producers outlive what they wrote: of some whose batches compaction left out only the
    /// snapshot knows, and where there is none it is made, before the segment goes.
    fn meet_snapshot(&mut self, io: &Io, path: &Path) -> Result<()> {
        match io.read_small(path)? {
            Some(content) if self.producers.load_snapshot(&content, self.known.now_ms).is_ok() => Ok(()),
            _ => io.write_atomic(path, &self.producers.to_snapshot()),
        }
    }
}

/// Segments are completed in order, and the snapshot at the end of one is the last that is written.
fn is_completed(names: &[String], end: i64) -> bool {
    names.binary_search(&file_name(end, ".snapshot")).is_ok()
}

/// The first segment that reaches past the recovery point, or was not completed.
fn first_to_scan(segments: &VecDeque<Segment>, names: &[String], recovery_point: i64) -> usize {
    let ends = || segments.iter().skip(1).map(|segment| segment.base_offset);
    let past = ends().position(|end| end > recovery_point).unwrap_or(segments.len() - 1);
    let completed: Vec<bool> = ends().take(past).map(|end| is_completed(names, end)).collect();
    completed.iter().rposition(|completed| *completed).map_or(0, |last| last + 1)
}

/// Where a log ends.
struct LogEnd {
    offset: i64,
    /// The active segment's file, with space reserved behind its last batch.
    allocated: u64,
}

/// After a crash: scans the segments from the `first` on.
fn recover_segments(
    io: &Io,
    dir: &Path,
    config: &LogConfig,
    segments: &mut VecDeque<Segment>,
    names: &[String],
    first: usize,
    mut scanned: Scanned<'_>,
) -> Result<LogEnd> {
    let ends: Vec<i64> = segments.iter().skip(1).map(|s| s.base_offset).chain([i64::MAX]).collect();
    let mut log_end = LogEnd { offset: segments[first].base_offset, allocated: 0 };
    for i in first..segments.len() {
        let segment = &mut segments[i];
        let size = segment.size;
        log_end.offset = scan_segment(segment, config, Some(&mut scanned))?;
        let cut = size - segment.size;
        let end = ends[i];
        let path = segment.files.path(".log");
        let only_reserved = cut > 0 && aside::is_reserved(io, &path, segment.size)?;
        if only_reserved && end == i64::MAX {
            // Of use for what comes next; ten thousand logs that are cut first take their time.
            log_end.allocated = size;
        } else if cut > 0 {
            if !only_reserved {
                aside::keep(io, &path, segment.size, log_end.offset)?;
            }
            tracing::info!(file = %path.display(), end = log_end.offset, cut_bytes = cut, "cut after the last whole batch");
            segment.files.writer()?.truncate(segment.size)?;
        }
        if end != i64::MAX && size > 0 {
            // The snapshot at its end says that it is whole, and what a killed process wrote may be in the page cache alone.
            segment.files.writer()?.sync_data_blocking()?;
        }
        segment.files.close();
        if end == i64::MAX {
            break;
        }
        // A segment that was rolled but not yet cut ends in reserved space; one that ends early has lost batches, unless
        // it was completed once, which its successor's snapshot tells, and compacted later.
        if log_end.offset < end && (cut > 0 || !is_completed(names, end)) {
            for lost in segments.drain(i + 1..) {
                aside::keep_whole(io, &lost.files.path(".log"), lost.size)?;
                lost.files.remove()?;
            }
            io.sync_dir(dir)?;
            break;
        }
        write_rebuilt(segment)?;
        scanned.meet_snapshot(io, &dir.join(file_name(end, ".snapshot")))?;
    }
    Ok(log_end)
}

/// Reads a segment from its start; rebuilds its indexes and timestamps, and sets its size to the end of the last whole
/// batch. With `scanned`, also all that batches say about the log, and those that reach past the recovery point are
/// checked. Returns the offset after the last.
fn scan_segment(segment: &mut Segment, config: &LogConfig, mut scanned: Option<&mut Scanned<'_>>) -> Result<i64> {
    let recovery_point = scanned.as_ref().map_or(i64::MAX, |scanned| scanned.known.recovery_point);
    let file_bytes = std::mem::take(&mut segment.size);
    let mut next_offset = segment.base_offset;
    segment.indexes = Some(Indexes::new(segment.base_offset));
    segment.max_timestamp = Some((-1, segment.base_offset));
    segment.scanned = true;
    if scanned.is_some() {
        segment.aborted = Some(Vec::new());
    }
    if file_bytes == 0 {
        return Ok(next_offset);
    }
    let file = segment.files.cached_reader()?;
    let (mut piece, mut position, mut least) = (Vec::new(), 0, BLOCK);
    while position + HEADER_BYTES as u64 <= file_bytes {
        // What is reserved behind the log's end is many times as long as a small log, and not worth reading.
        let ahead = usize::try_from(file.next_hole(position)?.saturating_sub(position)).unwrap_or(usize::MAX);
        piece.resize(ahead.clamp(least, PIECE_BYTES.max(least)).min((file_bytes - position) as usize), 0);
        let read = file.pread(&mut piece, position)?;
        let mut used = 0;
        least = loop {
            let rest = &piece[used..read];
            let Some(header) = whole_header(rest, file_bytes - position - used as u64) else {
                if rest.len() >= HEADER_BYTES || used == 0 {
                    return Ok(done(segment, next_offset));
                }
                break BLOCK;
            };
            let Some(bytes) = rest.get(..header.total_bytes()) else { break BLOCK.max(header.total_bytes()) };
            let unchecked = header.next_offset() <= recovery_point;
            if header.base_offset < next_offset || !(unchecked || batch::verify_crc(bytes).is_ok()) {
                return Ok(done(segment, next_offset));
            }
            if let Some(scanned) = scanned.as_deref_mut() {
                scanned.note(segment, &header, bytes);
            }
            segment.note_batch(&header, header.base_offset, config.index_interval_bytes);
            next_offset = header.next_offset();
            used += header.total_bytes();
        };
        position += used as u64;
    }
    Ok(done(segment, next_offset))
}

fn done(segment: &mut Segment, next_offset: i64) -> i64 {
    segment.complete_time_index();
    segment.files.close();
    next_offset
}
