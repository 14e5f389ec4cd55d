//! The records field of a Produce request, of any bytes, under the rules that rewrite nothing and those that rewrite
//! everything. What passes must be whole, and stay valid once it is stored:
//! `cargo +nightly fuzz run record_batch -- -malloc_limit_mb=64 -max_total_time=600`
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_storage::batch::{self, Compression, TimestampType};
use ottla_storage::log::LogConfig;
use ottla_storage::validate::{AppendRules, validate};

const NOW_MS: i64 = 1_700_000_000_000;
const LIMIT_BYTES: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut batch = data.to_vec();
    // Without this hardly any input would get past the checksum.
    if batch.len() >= batch::HEADER_BYTES {
        let length = (batch.len() - batch::LOG_OVERHEAD_BYTES) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = batch::MAGIC_V2;
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    for bytes in [data, &batch] {
        walk(bytes);
        for rules in rules() {
            let Ok(valid) = validate(Bytes::copy_from_slice(bytes), &rules, 13, NOW_MS) else { continue };
            assert_eq!(valid.bytes.len(), valid.header.total_bytes());
            batch::verify_crc(&valid.bytes).expect("what was validated has its checksum");
            assert!(walk(&valid.bytes), "what was validated can be read");
        }
    }
});

fn rules() -> [AppendRules; 3] {
    let keep = LogConfig::default().rules;
    let stamp = AppendRules { timestamp_type: TimestampType::LogAppendTime, compacted: true, ..keep.clone() };
    let recompress = AppendRules { compression: Some((Compression::Lz4, None)), ..keep.clone() };
    [keep, stamp, recompress]
}

/// True if `bytes` are whole batches of whole records.
fn walk(bytes: &[u8]) -> bool {
    batch::batches(bytes).all(|found| {
        let Ok((_, header, batch)) = found else { return false };
        let Ok(records) = batch::records_bytes(batch, LIMIT_BYTES) else { return false };
        batch::records(&header, &records).all(|record| record.is_ok())
    })
}
