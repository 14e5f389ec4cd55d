//! Snappy as Kafka has it: blocks behind a header of snappy-java's making ("xerial"), or one raw block.

use std::io::{self, Read, Write};

use super::{Block, invalid, take};

const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
/// The magic, then version and lowest compatible version, both int32 1.
const HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Plain bytes in each block that is written; snappy-java's default.
const BLOCK_BYTES: usize = 32 << 10;
/// A copy element of 3 bytes makes at most 64: a block that claims a larger ratio lies.
const MAX_RATIO: usize = 22;

pub(super) struct Reader<'a> {
    src: &'a [u8],
    framed: bool,
    block: Block,
}

impl<'a> Reader<'a> {
    pub fn new(src: &'a [u8]) -> Reader<'a> {
        Reader { src, framed: src.len() >= HEADER.len() && src.starts_with(MAGIC), block: Block::new() }
    }

    fn next_block(&mut self) -> io::Result<()> {
        if !self.framed {
            return self.decode(self.src.len());
        }
        // Streams may be concatenated: a header can stand between any two blocks.
        while self.src.starts_with(MAGIC) {
            take(&mut self.src, HEADER.len())?;
        }
        if self.src.is_empty() {
            return Ok(());
        }
        let mut length = [0; 4];
        length.copy_from_slice(take(&mut self.src, 4)?);
        self.decode(u32::from_be_bytes(length) as usize)
    }

    fn decode(&mut self, compressed_bytes: usize) -> io::Result<()> {
        let compressed = take(&mut self.src, compressed_bytes)?;
        let plain_bytes = snap::raw::decompress_len(compressed)?;
        if plain_bytes > compressed.len().saturating_mul(MAX_RATIO) {
            return Err(invalid("a snappy block claims more than it can hold"));
        }
        self.block.refill(plain_bytes, |buf| Ok(snap::raw::Decoder::new().decompress(compressed, buf)?))
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.block.is_read() && !self.src.is_empty() {
            self.next_block()?;
        }
        Ok(self.block.copy_to(buf))
    }
}

pub(crate) struct Writer<W> {
    dst: W,
    plain: Vec<u8>,
    encoder: snap::raw::Encoder,
    compressed: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub fn new(dst: W) -> Writer<W> {
        Writer {
            dst,
            plain: Vec::with_capacity(BLOCK_BYTES),
            encoder: snap::raw::Encoder::new(),
            compressed: HEADER.to_vec(),
        }
    }

    /// Writes what waits in `compressed` (at first the header), then the block in `plain`.
    fn write_block(&mut self) -> io::Result<()> {
        self.dst.write_all(&self.compressed)?;
        self.compressed.clear();
        if self.plain.is_empty() {
            return Ok(());
        }
        self.compressed.resize(snap::raw::max_compress_len(self.plain.len()), 0);
        let n = self.encoder.compress(&self.plain, &mut self.compressed)?;
        self.plain.clear();
        self.dst.write_all(&(n as u32).to_be_bytes())?;
        self.dst.write_all(&self.compressed[..n])?;
        self.compressed.clear();
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.write_block()?;
        Ok(self.dst)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.plain.len() == BLOCK_BYTES {
            self.write_block()?;
        }
        let n = buf.len().min(BLOCK_BYTES - self.plain.len());
        self.plain.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
