//! A request frame of any bytes: header, guard, and whichever decoder serves the key. Neither may panic, nor allocate
//! more than in proportion to the frame, which libFuzzer watches:
//! `cargo +nightly fuzz run request_frame -- -malloc_limit_mb=8 -max_total_time=600`
#![no_main]

use bytes::{Buf, BufMut, Bytes};
use kafka_protocol::messages::{ApiKey, RequestKind};
use libfuzzer_sys::fuzz_target;
use ottla::api::{Api, TABLE};
use ottla::protocol::frame::FrameBuffer;
use ottla::protocol::{fetch, guard, header, produce};

fuzz_target!(|data: &[u8]| {
    let mut frames = FrameBuffer::new(1 << 20);
    let mut rest = data;
    while !rest.is_empty() {
        let Ok(mut room) = frames.for_reading() else { break };
        let (now, later) = rest.split_at(rest.len().min(room.remaining_mut()));
        room.put_slice(now);
        rest = later;
        while let Ok(Some(frame)) = frames.take_frame() {
            request(frame);
        }
    }
    // Most inputs are no whole frames: try them as what follows the size, too.
    request(Bytes::copy_from_slice(data));
});

fn request(mut frame: Bytes) {
    let Ok(peek) = header::peek(&frame) else { return };
    // Any key and version leads to one that is served: the fuzzer would else spend its time on finding them.
    let api = &TABLE[peek.api_key.unsigned_abs() as usize % TABLE.len()];
    let versions = api.max_version - api.min_version + 1;
    let version = api.min_version + (peek.api_version.unsigned_abs() % versions.unsigned_abs()) as i16;
    if header::take(&mut frame, api.request.is_flexible(version)).is_ok()
        && guard::check(api.request, version, &frame).is_ok()
    {
        decode(api, version, frame);
    }
}

fn decode(api: &Api, version: i16, mut body: Bytes) {
    match api.key {
        0 => {
            if let Ok(request) = produce::ProduceRequest::parse(&body, version) {
                let partitions = request.items().filter(|item| matches!(item, produce::Item::Partition { .. }));
                assert_eq!(partitions.count(), request.partition_count);
            }
        }
        1 => drop(fetch::FetchRequest::parse(&body, version)),
        _ => {}
    }
    let Ok(key) = ApiKey::try_from(api.key) else { return };
    let before = body.remaining();
    if RequestKind::decode(key, &mut body, version).is_ok() {
        assert!(body.remaining() <= before);
    }
}
