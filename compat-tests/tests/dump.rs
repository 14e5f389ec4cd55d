//! The check of the files is worth something: it notices each kind of damage.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use compat_tests::broker::Broker;
use compat_tests::dump::dump_all;
use compat_tests::{librdkafka, records};

/// Changes the file, and checks that the dump of the directory complains; then puts it back.
fn notices(data: &Path, file: &str, damage: impl Fn(&mut Vec<u8>)) {
    let path = data.join("dumped-0").join(file);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damage(&mut damaged);
    fs::write(&path, damaged).unwrap();
    assert!(catch_unwind(|| dump_all(data)).is_err(), "damage to {file} went unnoticed");
    fs::write(&path, whole).unwrap();
}

#[test]
fn dumping_notices_damage() {
    let mut broker = Broker::start(&[]);
    librdkafka::produce(&broker.bootstrap(), "dumped", &[("batch.size", "4000")], 1, records::base_ms(), 5_000);
    broker.stop();
    let data = broker.data_dir();
    dump_all(&data);

    let log = "00000000000000000000.log";
    notices(&data, log, |bytes| *bytes.last_mut().expect("records") ^= 1);
    notices(&data, log, |bytes| bytes.extend([0; 100]));
    notices(&data, log, |bytes| bytes.truncate(bytes.len() - 1));
    // Entries are 8 bytes of offset and position, 12 of time and offset.
    notices(&data, "00000000000000000000.index", |bytes| bytes[7] ^= 1);
    notices(&data, "00000000000000000000.timeindex", |bytes| bytes[7] ^= 1);
}
