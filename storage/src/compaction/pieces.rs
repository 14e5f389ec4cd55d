//! Every batch of a closed segment, read in large pieces.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{CleanError, Pace};
use crate::Error;
use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::io::{BLOCK, File, HUGE_PAGE_BYTES};
use crate::scan::whole_header;

/// So that a read goes into one huge page.
const PIECE_BYTES: usize = HUGE_PAGE_BYTES;

pub struct Batches {
    file: File,
    /// Of the next batch.
    position: u64,
    limit: u64,
    piece: Bytes,
    /// Where in the piece the next batch begins.
    used: usize,
}

impl Batches {
    /// The batches in `from..limit`.
    pub fn new(file: File, from: u64, limit: u64) -> Batches {
        Batches { file, position: from, limit, piece: Bytes::new(), used: 0 }
    }

    /// The next batch; None at the limit. Anything else than a whole batch is corruption: closed segments end with one.
    pub fn next(&mut self, pace: Pace<'_>) -> Result<Option<(BatchHeader, &[u8])>, CleanError> {
        if self.position == self.limit {
            return Ok(None);
        }
        let mut header = self.header();
        if header.is_none_or(|header| self.rest().len() < header.total_bytes()) {
            self.read(header.map_or(0, |header| header.total_bytes()), pace)?;
            header = self.header();
        }
        let header = header.filter(|header| self.rest().len() >= header.total_bytes());
        let Some(header) = header else { return Err(self.corrupt("no whole batch").into()) };
        let start = self.used;
        self.used += header.total_bytes();
        self.position += header.total_bytes() as u64;
        Ok(Some((header, &self.piece[start..self.used])))
    }

    /// What is wrong with the batch that `next` returned last.
    pub fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        Error::corrupt(self.file.path(), format!("batch before position {}: {what}", self.position))
    }

    fn rest(&self) -> &[u8] {
        &self.piece[self.used..]
    }

    fn header(&self) -> Option<BatchHeader> {
        whole_header(self.rest(), self.limit - self.position)
    }

    fn read(&mut self, batch_bytes: usize, pace: Pace<'_>) -> Result<(), CleanError> {
        let left = (self.limit - self.position) as usize;
        // The memory of the last piece serves the next.
        self.piece = Bytes::new();
        self.used = 0;
        // A direct read begins at a block.
        let piece = PIECE_BYTES - (self.position % BLOCK as u64) as usize;
        let wanted = piece.max(batch_bytes).min(left);
        self.piece = self.file.read_blocking(self.position, wanted)?;
        if let ControlFlow::Break(()) = pace(self.piece.len()) {
            return Err(CleanError::Stopped);
        }
        match whole_header(&self.piece, left as u64) {
            // Larger than a piece, as its header says only now.
            Some(header) if header.total_bytes() > wanted => self.read(header.total_bytes(), pace),
            _ if self.piece.len() < wanted.min(HEADER_BYTES) => Err(self.corrupt("the file is too short").into()),
            _ => Ok(()),
        }
    }
}
