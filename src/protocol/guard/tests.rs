//! Bodies are made from the schemas, so that every key and version is tried: what is made is accepted here and decoded
//! whole by kafka-protocol, which shows that the schemas say what its decoders do.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiKey, RequestKind};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::*;
use crate::api::{Api, TABLE};

struct Maker<'a> {
    out: Vec<u8>,
    version: i16,
    flexible: bool,
    rng: &'a mut TestRng,
}

impl Maker<'_> {
    fn structure(&mut self, fields: &'static [Field]) {
        let version = self.version;
        for field in fields.iter().filter(|f| f.tag.is_none() && f.is_in(version)) {
            self.field(field);
        }
        if self.flexible {
            let known: Vec<&Field> = fields.iter().filter(|f| f.tag.is_some() && f.is_in(version)).collect();
            self.varint(known.len() as u32 + 1);
            for field in known {
                let (tag, before) = (field.tag.unwrap(), std::mem::take(&mut self.out));
                self.field(field);
                let content = std::mem::replace(&mut self.out, before);
                self.varint(tag);
                self.varint(content.len() as u32);
                self.out.extend(content);
            }
            self.out.extend([99, 3, 1, 2, 3]);
        }
    }

    fn field(&mut self, field: &'static Field) {
        match field.kind {
            Kind::Fixed(len) => self.fixed(len),
            Kind::String => self.string(),
            Kind::Bytes => {
                self.length(5, 4);
                self.out.extend(b"bytes");
            }
            Kind::FixedArray(len) => (0..self.count()).for_each(|_| self.fixed(len)),
            Kind::StringArray => (0..self.count()).for_each(|_| self.string()),
            Kind::Array(fields) => (0..self.count()).for_each(|_| self.structure(fields)),
            Kind::Struct(fields) => self.structure(fields),
            Kind::NullableStruct(fields) => {
                self.out.push(1);
                self.structure(fields);
            }
        }
    }

    fn fixed(&mut self, len: usize) {
        (0..len).for_each(|_| self.out.push(self.rng.random_range(0..3)));
    }

    fn string(&mut self) {
        let len = self.rng.random_range(0..200);
        self.length(len, 2);
        self.out.resize(self.out.len() + len, b's');
    }

    fn count(&mut self) -> usize {
        let count = self.rng.random_range(0..4);
        self.length(count, 4);
        count
    }

    fn length(&mut self, length: usize, width: usize) {
        match (self.flexible, width) {
            (true, _) => self.varint(length as u32 + 1),
            (false, 2) => self.out.extend((length as i16).to_be_bytes()),
            (false, _) => self.out.extend((length as i32).to_be_bytes()),
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

fn make(api: &Api, version: i16, rng: &mut TestRng) -> Vec<u8> {
    let mut maker = Maker { out: Vec::new(), version, flexible: api.request.is_flexible(version), rng };
    maker.structure(api.request.fields);
    maker.out
}

/// How many bytes the walk takes.
fn walk(api: &Api, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let mut walk = Walk { rest: body, version, flexible: api.request.is_flexible(version), elements: 0 };
    walk.structure(api.name, api.request.fields)?;
    Ok(body.len() - walk.rest.len())
}

/// How many bytes the decoder takes, or why it refuses.
fn decode(api: &Api, version: i16, body: &[u8]) -> Result<usize, String> {
    // kafka-protocol ends at ListOffsets 10, which 11 does not differ from.
    let version = if (api.key, version) == (2, 11) { 10 } else { version };
    let mut bytes = Bytes::copy_from_slice(body);
    let key = ApiKey::try_from(api.key).unwrap();
    RequestKind::decode(key, &mut bytes, version).map_err(|e| e.to_string())?;
    Ok(body.len() - bytes.remaining())
}

fn every_version() -> impl Iterator<Item = (&'static Api, i16)> {
    TABLE.iter().flat_map(|api| (api.min_version..=api.max_version).map(move |version| (api, version)))
}

/// OffsetCommit and OffsetFetch 10 and WriteTxnMarkers 2 are newer than kafka-protocol, and decoded (and tested) by their
/// handlers.
fn every_decodable_version() -> impl Iterator<Item = (&'static Api, i16)> {
    every_version().filter(|(api, version)| !matches!((api.key, version), (8 | 9, 10) | (27, 2)))
}

fn rng() -> TestRng {
    TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha)
}

#[test]
fn what_is_valid_is_accepted_and_walked_as_the_decoder_does() {
    let mut rng = rng();
    for (api, version) in every_decodable_version() {
        for _ in 0..10 {
            let body = make(api, version, &mut rng);
            assert_eq!(walk(api, version, &body), Ok(body.len()), "{} v{version}", api.name);
            assert_eq!(decode(api, version, &body), Ok(body.len()), "{} v{version}", api.name);
        }
    }
}

#[test]
fn what_is_cut_short_is_refused() {
    let mut rng = rng();
    for (api, version) in every_version() {
        let body = make(api, version, &mut rng);
        for end in 0..body.len() {
            assert!(walk(api, version, &body[..end]).is_err(), "{} v{version}, {end} bytes", api.name);
        }
    }
}

#[test]
fn what_is_damaged_is_refused_or_decodes_from_the_bytes_that_were_walked() {
    let mut rng = rng();
    for (api, version) in every_decodable_version() {
        for _ in 0..200 {
            let mut body = make(api, version, &mut rng);
            for _ in 0..rng.random_range(1..4) {
                if let Some(last) = body.len().checked_sub(1) {
                    body[rng.random_range(0..=last)] = rng.random();
                }
            }
            if let Ok(walked) = walk(api, version, &body)
                && let Ok(decoded) = decode(api, version, &body)
            {
                assert_eq!(walked, decoded, "{} v{version}: {body:02x?}", api.name);
            }
        }
    }
}

fn api(key: i16) -> &'static Api {
    TABLE.iter().find(|api| api.key == key).unwrap()
}

#[test]
fn a_count_without_content_is_refused() {
    // Metadata 12: 2^30 topics in five bytes.
    let topics = [0x81, 0x80, 0x80, 0x80, 0x04, 0];
    assert_eq!(check(api(3).request, 12, &topics), Err(GuardError::TooManyElements));
    let topics = [0x81, 0x80, 0x01, 0, 0];
    assert!(matches!(check(api(3).request, 12, &topics), Err(GuardError::Truncated { .. })));
    // Metadata 1, counts in four bytes.
    assert_eq!(check(api(3).request, 1, &[0x40, 0, 0, 0]), Err(GuardError::TooManyElements));
    assert!(check(api(3).request, 1, &[0xff, 0xff, 0xff, 0xff]).is_ok(), "null: all topics");
    assert!(matches!(check(api(3).request, 1, &[0xff, 0xff, 0xff, 0xfe]), Err(GuardError::Length { length: -2, .. })));
}

#[test]
fn elements_are_counted_over_all_arrays() {
    // DescribeConfigs 1: two resources with 500,000 names of no length each.
    let mut body = vec![0, 0, 0, 2];
    for _ in 0..2 {
        body.extend([2, 0, 0]);
        body.extend(500_000i32.to_be_bytes());
        body.resize(body.len() + 2 * 500_000, 0);
    }
    body.push(0);
    assert_eq!(check(api(32).request, 1, &body), Err(GuardError::TooManyElements));
}

#[test]
fn a_tag_must_take_what_it_announces() {
    // Fetch 12: the cluster id (tag 0) says 5 bytes and takes 2, the rest would be read as something else.
    let mut body = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
    body.extend([1, 1, 1]);
    body.extend([1, 0, 5, 2, b'a', 0, 0, 0]);
    let expected = GuardError::TagSize { field: "ClusterId", announced: 5, taken: 2 };
    assert_eq!(check(api(1).request, 12, &body), Err(expected));
}

#[test]
fn varints_end_within_five_bytes() {
    assert_eq!(skip_tagged_fields(&[0x80; 6]), Err(GuardError::Varint { field: "header" }));
    assert_eq!(skip_tagged_fields(&[0xff, 0xff, 0xff, 0xff, 0x7f]), Err(GuardError::Varint { field: "header" }));
    assert_eq!(skip_tagged_fields(&[2, 0, 1, 9, 1, 0, 7]), Ok(6));
}
