//! Round trips, damage and bounds of every codec.

use proptest::prelude::*;

use super::*;
use crate::test_support::any_codec;

const CODECS: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn compressed(codec: Compression, plain: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    compress(codec, None, plain, &mut bytes);
    bytes
}

fn decompressed(codec: Compression, bytes: &[u8], limit_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut plain = Vec::new();
    decompress(codec, bytes, &mut plain, limit_bytes).map(|()| plain)
}

#[test]
fn output_is_appended_and_bounded() {
    let plain = vec![7; 100_000];
    for codec in CODECS {
        let mut bytes = b"before".to_vec();
        compress(codec, None, &plain, &mut bytes);
        let mut back = b"here".to_vec();
        decompress(codec, &bytes[6..], &mut back, plain.len()).unwrap();
        assert_eq!(back[4..], plain, "{codec:?}");
        assert!(decompressed(codec, &bytes[6..], plain.len() - 1).is_err(), "{codec:?}");
    }
}

#[test]
fn a_stream_that_is_cut_short_is_an_error() {
    let plain: Vec<u8> = (0..50_000u32).flat_map(|i| (i * i).to_be_bytes()).collect();
    for codec in CODECS {
        let bytes = compressed(codec, &plain);
        assert!(decompressed(codec, &bytes[..bytes.len() - 9], usize::MAX).is_err(), "{codec:?}");
    }
}

#[test]
fn levels_that_a_codec_does_not_have_are_the_nearest_it_has() {
    for codec in CODECS {
        for level in [i32::MIN, -1, 0, 1, 9, 12] {
            let mut bytes = Vec::new();
            compress(codec, Some(level), b"abcabcabc", &mut bytes);
            assert_eq!(decompressed(codec, &bytes, 9).unwrap(), b"abcabcabc", "{codec:?} {level}");
        }
    }
}

#[test]
fn snappy_is_written_in_xerial_frames_and_read_raw_too() {
    let plain = b"some words, some words, some words".repeat(3_000);
    let framed = compressed(Compression::Snappy, &plain);
    assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert_eq!(decompressed(Compression::Snappy, &raw, plain.len()).unwrap(), plain);
    let twice = [&framed[..], &framed[..]].concat();
    assert_eq!(decompressed(Compression::Snappy, &twice, usize::MAX).unwrap(), plain.repeat(2));
}

#[test]
fn a_snappy_block_that_claims_too_much_is_refused_before_memory_is_taken() {
    // A raw block's first bytes are its plain length as a varint: here 4 GiB.
    assert!(decompressed(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0], usize::MAX).is_err());
}

#[test]
fn lz4_frames_that_a_java_consumer_cannot_read_are_refused() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let plain = b"words and words and words ".repeat(10_000);
    let framed = |info: FrameInfo| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    let independent = || FrameInfo::new().block_mode(BlockMode::Independent);
    for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        let frame = framed(independent().block_size(size).block_checksums(true).content_checksum(true));
        assert_eq!(decompressed(Compression::Lz4, &frame, plain.len()).unwrap(), plain);
    }
    let with_size = framed(independent().content_size(Some(plain.len() as u64)));
    assert_eq!(decompressed(Compression::Lz4, &with_size, plain.len()).unwrap(), plain);

    assert!(
        decompressed(Compression::Lz4, &framed(FrameInfo::new().block_mode(BlockMode::Linked)), usize::MAX).is_err()
    );
    let mut damaged = framed(independent().block_checksums(true));
    damaged[20] ^= 1;
    assert!(decompressed(Compression::Lz4, &damaged, usize::MAX).is_err());
}

#[test]
fn a_bomb_is_read_in_little_memory() {
    let bomb = compressed(Compression::Zstd, &vec![0; 64 << 20]);
    assert!(bomb.len() < 16 << 10);
    let (mut stream, mut window, mut total) = (reader(Compression::Zstd, &bomb), [0; 4096], 0);
    loop {
        match stream.read(&mut window).unwrap() {
            0 => break,
            n => total += n,
        }
    }
    assert_eq!(total, 64 << 20);
}

#[test]
fn a_bounded_encoder_fails_instead_of_growing() {
    let noise: Vec<u8> = (0..40_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for codec in CODECS.into_iter().chain([Compression::None]) {
        let mut encoder = Encoder::new(codec, None, Vec::new(), 1_000);
        let written = encoder.write_all(&noise).and_then(|()| encoder.finish());
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull, "{codec:?}");
    }
}

proptest! {
    #[test]
    fn bytes_survive_every_codec(codec in any_codec(), unit in prop::collection::vec(any::<u8>(), 0..500), times in 0..400usize) {
        let plain = unit.repeat(times);
        prop_assert_eq!(decompressed(codec, &compressed(codec, &plain), plain.len()).unwrap(), plain);
    }

    #[test]
    fn damaged_streams_are_read_without_a_panic(
        codec in any_codec(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        random in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = compressed(codec, &b"a few words, and a few more words".repeat(20));
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = (decompressed(codec, &bytes, 1 << 20), decompressed(codec, &random, 1 << 20));
    }
}
