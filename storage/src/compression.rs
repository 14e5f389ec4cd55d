//! Kafka's codecs: gzip, snappy (xerial framing and raw), lz4 frames, zstd; bounded output on the way in.

use crate::batch::{BatchError, Compression};

/// Appends the decompressed `src` to `dst`, at most `limit_bytes` more.
pub fn decompress(codec: Compression, src: &[u8], dst: &mut Vec<u8>, limit_bytes: usize) -> Result<(), BatchError> {
    todo!()
}
/// Appends `src` compressed at `level` (None: the codec's default as in Kafka: gzip -1, lz4 9, zstd 3).
pub fn compress(codec: Compression, level: Option<i32>, src: &[u8], dst: &mut Vec<u8>) {
    todo!()
}
