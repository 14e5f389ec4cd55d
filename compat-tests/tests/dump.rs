//! Files looked into: Apache Kafka's tool notices each kind of damage, and `ottla dump-log` says what it says.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use compat_tests::broker::{Broker, ottla_binary};
use compat_tests::dump::{dump_all, dumpable, dumped};
use compat_tests::{librdkafka, records};
use rdkafka::producer::{BaseRecord, Producer};

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

/// What begins and ends a character of UTF-8, and what may stand where it does not belong.
const BORDERS: [u8; 22] = [
    b'a', 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4,
    0xf5, 0xf8, 0xff,
];

/// Keys and values of which few are text: each pair of those bytes, with some third and fourth.
fn what_is_no_text(bootstrap: &str) {
    let producer = librdkafka::producer(bootstrap, &[]);
    for (i, first) in BORDERS.into_iter().enumerate() {
        for (j, second) in BORDERS.into_iter().enumerate() {
            let key = vec![first, second];
            let value =
                vec![first, second, BORDERS[(i + j) % BORDERS.len()], BORDERS[(i + 5 * j) % BORDERS.len()], b'|'];
            let record = BaseRecord::with_opaque_to("none", Box::new(0)).partition(0).key(&key).payload(&value);
            librdkafka::send(&producer, record);
        }
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

/// One aborted transaction and one that is committed.
fn transactions(bootstrap: &str) {
    let patience = Duration::from_secs(30);
    let producer = librdkafka::producer(bootstrap, &[("transactional.id", "dumper")]);
    producer.init_transactions(patience).unwrap();
    for commit in [false, true] {
        producer.begin_transaction().unwrap();
        let (key, value) = (b"key".to_vec(), b"in a transaction".to_vec());
        let record = BaseRecord::with_opaque_to("none", Box::new(0)).partition(0).key(&key).payload(&value);
        librdkafka::send(&producer, record);
        producer.flush(patience).unwrap();
        if commit { producer.commit_transaction(patience) } else { producer.abort_transaction(patience) }.unwrap();
    }
}

#[test]
fn ottla_says_of_a_file_what_apache_kafka_says() {
    let mut broker = Broker::start(&[("log.segment.bytes", "1048576")]);
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let settings = [("batch.size", "4000"), ("compression.type", codec), ("enable.idempotence", "true")];
        librdkafka::produce(&broker.bootstrap(), codec, &settings, 1, records::base_ms(), 6_000);
    }
    what_is_no_text(&broker.bootstrap());
    transactions(&broker.bootstrap());
    broker.stop();
    let in_partition = |name: &str| dumpable(&broker.data_dir().join(name));
    let mut files: Vec<_> = codecs.iter().flat_map(|codec| in_partition(&format!("{codec}-0"))).collect();
    for kind in ["log", "index", "timeindex", "txnindex", "snapshot"] {
        assert!(files.iter().any(|file| file.extension().is_some_and(|extension| extension == kind)), "no {kind}");
    }
    files.extend(in_partition("__cluster_metadata-0"));
    for options in [&[][..], &["--deep-iteration"], &["--print-data-log"]] {
        let ours = Command::new(ottla_binary()).arg("dump-log").args(options).args(&files).output().unwrap();
        assert!(ours.status.success(), "{}", String::from_utf8_lossy(&ours.stderr));
        let (ours, theirs) = (String::from_utf8_lossy(&ours.stdout).into_owned(), dumped(&files, options));
        for (ours, theirs) in ours.lines().zip(theirs.lines()) {
            assert_eq!(ours, theirs);
        }
        // Behind it all it finds fault with segments that do not begin at offset 0.
        let rest = theirs.lines().skip(ours.lines().count());
        let is_fault = |line: &str| line.starts_with("Non-consecutive") || line.contains("-1 is followed by");
        assert_eq!(rest.filter(|line| !is_fault(line)).collect::<Vec<_>>(), [""; 0]);
    }
}
