//! Walks the batches of a segment file by their headers, reading ahead in pieces.

use bytes::Bytes;

use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::io::File;
use crate::{Error, Result};

/// One read: a few headers, or, where batches are large, one and the next.
const PIECE_BYTES: usize = 4 << 10;

pub struct Scan {
    file: File,
    position: u64,
    limit: u64,
    piece: Bytes,
    piece_at: u64,
}

impl Scan {
    /// The batches in `from..limit`.
    pub fn new(file: File, from: u64, limit: u64) -> Scan {
        Scan { file, position: from, limit, piece: Bytes::new(), piece_at: from }
    }

    /// The next batch's position and header; None at the limit. Everything below it is written: where no whole batch
    /// follows the file is corrupt.
    pub async fn next(&mut self) -> Result<Option<(u64, BatchHeader)>> {
        let at = self.position;
        if at >= self.limit {
            return Ok(None);
        }
        let head = HEADER_BYTES.min((self.limit - at) as usize);
        let bytes = self.bytes(at, head).await?;
        let Some(header) = whole_header(&bytes, self.limit - at) else {
            return Err(Error::corrupt(self.file.path(), format!("no whole batch at position {at}")));
        };
        self.position = at + header.total_bytes() as u64;
        Ok(Some((at, header)))
    }

    /// Moves on to the first batch that ends at or after `offset`.
    pub async fn find(&mut self, offset: i64) -> Result<Option<(u64, BatchHeader)>> {
        while let Some((at, header)) = self.next().await? {
            if header.last_offset() >= offset {
                return Ok(Some((at, header)));
            }
        }
        Ok(None)
    }

    /// The bytes of the batch that `next` returned.
    pub async fn batch(&mut self, at: u64, header: &BatchHeader) -> Result<Bytes> {
        self.bytes(at, header.total_bytes()).await
    }

    async fn bytes(&mut self, at: u64, len: usize) -> Result<Bytes> {
        let held = at.checked_sub(self.piece_at).is_some_and(|skip| skip as usize + len <= self.piece.len());
        if !held {
            let wanted = len.max(PIECE_BYTES).min((self.limit - at) as usize);
            self.piece = self.file.read_at(at, wanted).await?;
            self.piece_at = at;
            if self.piece.len() < len {
                return Err(Error::corrupt(self.file.path(), format!("ends before position {}", at + len as u64)));
            }
        }
        let start = (at - self.piece_at) as usize;
        Ok(self.piece.slice(start..start + len))
    }
}

/// The header at the start of `bytes`, if the batch it describes fits into `available` bytes.
pub fn whole_header(bytes: &[u8], available: u64) -> Option<BatchHeader> {
    BatchHeader::read(bytes).ok().filter(|header| header.total_bytes() as u64 <= available)
}
