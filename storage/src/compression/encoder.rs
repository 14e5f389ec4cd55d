//! Compressing a stream into memory, up to a bound.

use std::io::{self, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::snappy;
use crate::batch::Compression;

/// Compresses what is written to it; fails with [`io::ErrorKind::StorageFull`] once the output would exceed its limit.
pub(crate) enum Encoder {
    None(Bounded),
    Gzip(flate2::write::GzEncoder<Bounded>),
    Snappy(Box<snappy::Writer<Bounded>>),
    Lz4(Box<FrameEncoder<Bounded>>),
    Zstd(zstd::stream::write::Encoder<'static, Bounded>),
}

impl Encoder {
    /// Appends to `dst`, which may grow to `limit_bytes`. `level` None: Kafka's default.
    pub fn new(codec: Compression, level: Option<i32>, dst: Vec<u8>, limit_bytes: usize) -> Encoder {
        let dst = Bounded { bytes: dst, limit_bytes };
        match codec {
            Compression::None => Encoder::None(dst),
            Compression::Gzip => {
                // -1 is zlib's own name for its default.
                let level = u32::try_from(level.unwrap_or(-1))
                    .map_or(flate2::Compression::default(), |level| flate2::Compression::new(level.min(9)));
                Encoder::Gzip(flate2::write::GzEncoder::new(dst, level))
            }
            Compression::Snappy => Encoder::Snappy(Box::new(snappy::Writer::new(dst))),
            Compression::Lz4 => {
                // The level chooses how hard to search, not the format; there is one search here.
                let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
                Encoder::Lz4(Box::new(FrameEncoder::with_frame_info(frame, dst)))
            }
            Compression::Zstd => {
                let level =
                    level.unwrap_or(3).clamp(*zstd::compression_level_range().start(), zstd::zstd_safe::max_c_level());
                Encoder::Zstd(zstd::stream::write::Encoder::new(dst, level).expect("a level in range"))
            }
        }
    }

    pub fn finish(self) -> io::Result<Vec<u8>> {
        let dst = match self {
            Encoder::None(dst) => dst,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Snappy(encoder) => encoder.finish()?,
            Encoder::Lz4(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        Ok(dst.bytes)
    }
}

impl Write for Encoder {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::None(dst) => dst.write(buf),
            Encoder::Gzip(encoder) => encoder.write(buf),
            Encoder::Snappy(encoder) => encoder.write(buf),
            Encoder::Lz4(encoder) => encoder.write(buf),
            Encoder::Zstd(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes in memory, up to a limit.
pub(crate) struct Bounded {
    bytes: Vec<u8>,
    limit_bytes: usize,
}

impl Write for Bounded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() > self.limit_bytes.saturating_sub(self.bytes.len()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
