//! Reading LZ4 frames, with Kafka's limits: version 1, independent blocks, no dictionary. (A consumer in Java reads no
//! other frames, so a batch with linked blocks must not get into a log.)

use std::io::{self, Read};

use super::{Block, invalid, take};

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const UNCOMPRESSED_FLAG: u32 = 1 << 31;

/// FLG byte: version in the upper two bits, then one bit each.
const VERSION_1: u8 = 0b0100_0000;
const VERSION_MASK: u8 = 0b1100_0000;
const INDEPENDENT: u8 = 0b0010_0000;
const BLOCK_CHECKSUM: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
const RESERVED: u8 = 0b0000_0011;

pub(super) struct Reader<'a> {
    src: &'a [u8],
    state: State,
    block: Block,
}

#[derive(Clone, Copy)]
enum State {
    Start,
    Blocks { max_bytes: usize, checksums: bool },
    End,
}

impl<'a> Reader<'a> {
    pub fn new(src: &'a [u8]) -> Reader<'a> {
        Reader { src, state: State::Start, block: Block::new() }
    }

    fn read_header(&mut self) -> io::Result<State> {
        if take(&mut self.src, 4)? != MAGIC {
            return Err(invalid("not an lz4 frame"));
        }
        let descriptor = self.src;
        let flags = take(&mut self.src, 1)?[0];
        let block_size = take(&mut self.src, 1)?[0];
        if flags & VERSION_MASK != VERSION_1 || flags & RESERVED != 0 {
            return Err(invalid("unsupported lz4 frame"));
        }
        if flags & INDEPENDENT == 0 {
            return Err(invalid("linked lz4 blocks are unsupported"));
        }
        let max_bytes = match block_size {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(invalid("unsupported lz4 block size")),
        };
        if flags & CONTENT_SIZE != 0 {
            take(&mut self.src, 8)?;
        }
        let descriptor = &descriptor[..descriptor.len() - self.src.len()];
        if take(&mut self.src, 1)?[0] != (checksum(descriptor) >> 8) as u8 {
            return Err(invalid("lz4 frame header checksum mismatch"));
        }
        Ok(State::Blocks { max_bytes, checksums: flags & BLOCK_CHECKSUM != 0 })
    }

    /// The end mark ends the stream: a content checksum after it is not looked at (the batch has its own).
    fn next_block(&mut self, max_bytes: usize, checksums: bool) -> io::Result<State> {
        let length = read_u32(&mut self.src)?;
        if length == 0 {
            return Ok(State::End);
        }
        let content = take(&mut self.src, (length & !UNCOMPRESSED_FLAG) as usize)?;
        if content.len() > max_bytes {
            return Err(invalid("an lz4 block is too large"));
        }
        if checksums && read_u32(&mut self.src)? != checksum(content) {
            return Err(invalid("lz4 block checksum mismatch"));
        }
        if length & UNCOMPRESSED_FLAG != 0 {
            self.block.refill(content.len(), |buf| {
                buf.copy_from_slice(content);
                Ok(content.len())
            })?;
        } else {
            self.block.refill(max_bytes, |buf| {
                lz4_flex::block::decompress_into(content, buf).map_err(|_| invalid("an lz4 block is corrupt"))
            })?;
        }
        Ok(State::Blocks { max_bytes, checksums })
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.block.is_read() {
            self.state = match self.state {
                State::Start => self.read_header()?,
                State::Blocks { max_bytes, checksums } => self.next_block(max_bytes, checksums)?,
                State::End => return Ok(0),
            };
        }
        Ok(self.block.copy_to(buf))
    }
}

fn read_u32(src: &mut &[u8]) -> io::Result<u32> {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(take(src, 4)?);
    Ok(u32::from_le_bytes(bytes))
}

fn checksum(bytes: &[u8]) -> u32 {
    twox_hash::XxHash32::oneshot(0, bytes)
}
