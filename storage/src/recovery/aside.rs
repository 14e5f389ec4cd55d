//! What recovery cuts from a log is kept beside it, where there are whole batches in it: in `<file>.corrupt-<position>`,
//! which neither broker reads. The page `docs/format/recovery.md` tells what to do with it.

use std::path::{Path, PathBuf};

use super::{PIECE_BYTES, open_read_only};
use crate::Result;
use crate::batch::{self, HEADER_BYTES, MAGIC_V2, field};
use crate::io::{BLOCK, File, Io, OpenOptions};
use crate::scan::whole_header;

/// Offsets rise by no more than that from one batch to one that is believed to follow it.
const LARGEST_STEP: i64 = 1 << 32;

/// Nothing but zeros from `position` on: space that was reserved and not written, or not yet.
pub fn is_reserved(io: &Io, path: &Path, position: u64) -> Result<bool> {
    let file = open_read_only(io, path)?;
    let (mut piece, mut from) = (Vec::new(), position);
    while let Some(data) = file.next_data(from)? {
        let block_end = (data + 1).next_multiple_of(BLOCK as u64);
        piece.resize(if from == position { (block_end - data) as usize } else { PIECE_BYTES }, 0);
        let read = file.pread(&mut piece, data)?;
        // Not `all`, which looks at one byte at a time.
        if piece[..read].iter().fold(0, |any, byte| any | byte) != 0 {
            return Ok(false);
        }
        from = data + read as u64;
    }
    Ok(true)
}

/// Copies what lies from `position` on, unless it is reserved space or one torn batch.
pub fn keep(io: &Io, path: &Path, position: u64, next_offset: i64) -> Result<()> {
    let file = open_read_only(io, path)?;
    let Some(found) = find_batch(&file, position, next_offset)? else { return Ok(()) };
    let side = side_path(io, path, position);
    let bytes = copy(io, &file, position, &side)?;
    tracing::error!(
        file = %path.display(), position, next_offset, next_whole_batch_at = found, bytes, kept_in = %side.display(),
        "a corrupt batch is followed by whole ones: the log ends before it, and the rest is kept aside"
    );
    Ok(())
}

/// Gives a segment after the cut another name, unless it is empty.
pub fn keep_whole(io: &Io, path: &Path, size: u64) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    let side = side_path(io, path, 0);
    io.rename(path, &side)?;
    tracing::error!(file = %path.display(), kept_in = %side.display(), "a segment that follows lost batches is kept aside");
    Ok(())
}

/// A name that is free.
fn side_path(io: &Io, path: &Path, position: u64) -> PathBuf {
    let mut side = path.as_os_str().to_owned();
    side.push(format!(".corrupt-{position}"));
    while io.exists(Path::new(&side)) {
        side.push("+");
    }
    side.into()
}

/// Where the first whole batch begins after `position`.
fn find_batch(file: &File, position: u64, next_offset: i64) -> Result<Option<u64>> {
    let size = file.len()?;
    let mut piece = vec![0; PIECE_BYTES.min((size - position) as usize)];
    let mut from = position + 1;
    while from + HEADER_BYTES as u64 <= size {
        let read = file.pread(&mut piece, from)?;
        let starts = (read + 1).saturating_sub(HEADER_BYTES);
        // Reserved space has no magic byte, and mostly that is all there is.
        for at in memchr::memchr_iter(MAGIC_V2, &piece[field::MAGIC..][..starts]) {
            let head = &piece[at..read];
            let base_offset = i64::from_be_bytes(*head.first_chunk().expect("a header is longer"));
            if base_offset < next_offset || base_offset - next_offset > LARGEST_STEP {
                continue;
            }
            let Some(header) = whole_header(head, size - from - at as u64) else { continue };
            let mut bytes = vec![0; header.total_bytes()];
            if file.pread(&mut bytes, from + at as u64)? == bytes.len() && batch::verify_crc(&bytes).is_ok() {
                return Ok(Some(from + at as u64));
            }
        }
        from += starts.max(1) as u64;
    }
    Ok(None)
}

/// Returns how many bytes there are. Blocks of zeros at the end are left out; a batch may end in a few.
fn copy(io: &Io, file: &File, position: u64, side: &Path) -> Result<u64> {
    let copy = io.open(side, OpenOptions { create: true, ..OpenOptions::default() })?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut at, mut end) = (0, 0);
    loop {
        let read = file.pread(&mut piece, position + at)?;
        if let Some(last) = piece[..read].iter().rposition(|byte| *byte != 0) {
            let whole_blocks = (last + 1).next_multiple_of(BLOCK).min(read);
            copy.pwrite(&piece[..whole_blocks], at)?;
            end = at + whole_blocks as u64;
        }
        at += read as u64;
        if read < piece.len() {
            copy.sync_data_blocking()?;
            return Ok(end);
        }
    }
}
