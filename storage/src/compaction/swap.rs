//! The names of a segment's files while cleaned ones take the place of others: `.cleaned` while they are written, `.swap`
//! once they are whole, then their own. Apache Kafka's names and order, so that either broker completes what the other
//! left. The states and what a start makes of them: `docs/format/compaction.md`.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::batch::HEADER_BYTES;
use crate::io::{Io, OpenOptions};
use crate::scan::whole_header;
use crate::segment::{file_name, parse_file_name};

/// The log comes first: Kafka too renames it before the others.
const KINDS: [&str; 4] = [".log", ".index", ".timeindex", ".txnindex"];
pub const CLEANED: &str = ".cleaned";
const SWAP: &str = ".swap";
const DELETED: &str = ".deleted";

/// One step on the way from old segments to the cleaned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir,
}

pub fn run(io: &Io, dir: &Path, steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(|step| match step {
        Step::Rename(from, to) => io.rename(from, to),
        Step::Remove(path) => io.remove_file(path),
        Step::SyncDir => io.sync_dir(dir),
    })
}

/// `<base offset><kind>` of whatever files there are, renamed from one suffix to another.
fn renames(io: &Io, dir: &Path, base_offset: i64, kinds: &[&str], from: &str, to: &str) -> Vec<Step> {
    let path = |kind: &str, suffix: &str| dir.join(file_name(base_offset, &format!("{kind}{suffix}")));
    let there = kinds.iter().filter(|kind| io.exists(&path(kind, from)));
    there.map(|kind| Step::Rename(path(kind, from), path(kind, to))).collect()
}

/// The cleaned files are whole and on the disk: from the last of these steps on, a start completes the swap.
pub fn announce(io: &Io, dir: &Path, base_offset: i64) -> Vec<Step> {
    let mut steps = renames(io, dir, base_offset, &KINDS, CLEANED, SWAP);
    // A swap file must not be on the disk without the others.
    steps.insert(0, Step::SyncDir);
    steps.push(Step::SyncDir);
    steps
}

/// The swap files get their own names: on the disk the log first, since as long as that is not there, a start takes files
/// with these names for old ones.
fn take_names(io: &Io, dir: &Path, base_offsets: &[i64]) -> Vec<Step> {
    let mut steps = Vec::new();
    for kinds in [&KINDS[..1], &KINDS[1..]] {
        steps.extend(base_offsets.iter().flat_map(|&base_offset| renames(io, dir, base_offset, kinds, SWAP, "")));
        steps.push(Step::SyncDir);
    }
    steps
}

/// The old files go (under other names, since readers may hold them), and the new ones get their own names. The directory
/// is synced in between: an old segment beside the one that replaces it would be read twice.
pub fn settle(io: &Io, dir: &Path, base_offset: i64, old_base_offsets: &[i64]) -> Vec<Step> {
    let mut steps = Vec::new();
    for &old in old_base_offsets {
        steps.extend(renames(io, dir, old, &KINDS, "", DELETED));
        if old != base_offset {
            steps.extend(renames(io, dir, old, &[".snapshot"], "", DELETED));
        }
    }
    steps.push(Step::SyncDir);
    steps.extend(take_names(io, dir, &[base_offset]));
    steps
}

/// What steps left behind under the name `.deleted`.
pub fn deleted(steps: &[Step]) -> Vec<PathBuf> {
    let to = |step: &Step| match step {
        Step::Rename(_, to) if to.to_string_lossy().ends_with(DELETED) => Some(to.clone()),
        _ => None,
    };
    steps.iter().filter_map(to).collect()
}

/// Takes back a cleaned segment that is not to be used.
pub fn discard(io: &Io, dir: &Path, base_offset: i64) {
    for name in
        KINDS.iter().flat_map(|kind| [CLEANED, SWAP].map(|suffix| file_name(base_offset, &format!("{kind}{suffix}"))))
    {
        if let Err(error) = io.remove_file(&dir.join(name)) {
            tracing::warn!(%error, "what is left of an unfinished compaction goes with the next start");
        }
    }
}

/// At a start: completes the swaps that were announced, removes what is left of others. `names`: of the files in `dir`;
/// false if they are not any more.
pub fn recover(io: &Io, dir: &Path, names: &[String]) -> Result<bool> {
    if !names.iter().any(|name| name.ends_with(SWAP) || name.ends_with(CLEANED)) {
        return Ok(true);
    }
    let offset = |name: &str, suffix: &str| {
        let name = name.strip_suffix(suffix)?;
        KINDS.iter().find_map(|kind| parse_file_name(name, kind))
    };
    // A cleaned file that has not got its new name yet: its swap was not announced.
    let unfinished = names.iter().filter_map(|name| offset(name, CLEANED)).min().unwrap_or(i64::MAX);
    let mut leftovers: Vec<Step> = Vec::new();
    let mut swaps = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(SWAP)) {
        match offset(name, SWAP) {
            Some(base_offset) if base_offset < unfinished => swaps.push((base_offset, name.ends_with(".log.swap"))),
            _ => leftovers.push(Step::Remove(dir.join(name))),
        }
    }
    if !leftovers.is_empty() {
        leftovers.push(Step::SyncDir);
    }
    leftovers.extend(names.iter().filter(|name| name.ends_with(CLEANED)).map(|name| Step::Remove(dir.join(name))));
    run(io, dir, &leftovers)?;
    let mut steps = Vec::new();
    for &(base_offset, _) in swaps.iter().filter(|(_, is_log)| *is_log) {
        let path = dir.join(file_name(base_offset, ".log.swap"));
        let end = end_offset(io, &path)?.max(base_offset + 1);
        tracing::info!(file = %path.display(), end, "completing an interrupted compaction");
        for name in names {
            let replaced = KINDS.iter().chain([&".snapshot"]).find_map(|kind| parse_file_name(name, kind));
            if replaced.is_some_and(|old| (base_offset..end).contains(&old)) {
                steps.push(Step::Remove(dir.join(name)));
            }
        }
    }
    if swaps.is_empty() {
        return Ok(false);
    }
    steps.push(Step::SyncDir);
    let mut base_offsets: Vec<i64> = swaps.into_iter().map(|(base_offset, _)| base_offset).collect();
    base_offsets.dedup();
    steps.extend(take_names(io, dir, &base_offsets));
    run(io, dir, &steps).map(|()| false)
}

/// The offset after the last batch of a segment file; 0 if there is none.
fn end_offset(io: &Io, path: &Path) -> Result<i64> {
    let file = io.open(path, OpenOptions { read_only: true, ..Default::default() })?;
    let (limit, mut position, mut end) = (file.len()?, 0, 0);
    let mut bytes = [0; HEADER_BYTES];
    while file.pread(&mut bytes, position)? == HEADER_BYTES
        && let Some(header) = whole_header(&bytes, limit - position)
    {
        end = header.next_offset();
        position += header.total_bytes() as u64;
    }
    Ok(end)
}
