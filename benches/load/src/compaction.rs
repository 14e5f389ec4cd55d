//! The benchmark of log compaction: what a broker spends on cleaning one partition, most of whose records have been
//! replaced by later ones.
//!
//! Each broker gets the same records while min.compaction.lag.ms keeps them from being cleaned. Then the setting is taken
//! back, and the broker is metered until cleaner-offset-checkpoint names the topic.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::batch::{self, Random};
use crate::broker::{Broker, Pair};
use crate::connection::Connection;
use crate::meter::{Meter, Usage};
use crate::wire;

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pair: Pair,
    /// Each on a new topic: the first shows what a cold JVM costs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 2.0)]
    gib: f64,
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    /// Of a hundred records so many have a key that comes again.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(0..100))]
    duplicate_percent: u64,
}

const SEGMENT_BYTES: u64 = 256 << 20;
const BATCH_BYTES: usize = 64 << 10;
const LAG: &str = "min.compaction.lag.ms";
/// Files of rolled segments are completed, and the machine is quiet, before the clock starts.
const SETTLE: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(600);

struct Round {
    before_bytes: u64,
    after_bytes: u64,
    usage: Usage,
}

impl Round {
    fn cpu_per_gib(&self) -> f64 {
        self.usage.broker_cpu.as_secs_f64() / gib(self.before_bytes)
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

pub fn run(options: &Options) -> Result<()> {
    let programs = options.pair.programs()?;
    let mut best = Vec::new();
    for kind in options.pair.kinds() {
        let broker = Broker::start_with(kind, &programs, &["log.cleaner.backoff.ms=500"])?;
        let mut rounds = Vec::new();
        for number in 0..options.rounds.max(1) {
            let round = measure(&broker, &format!("compacted-{number}"), options)?;
            println!(
                "{} {number}: {:.2} GiB to {:.2} GiB in {:.1} s, CPU s/GiB: broker {:.2}, rest of the machine {:.2}; \
                 RSS peak {} MiB, after {} MiB",
                kind.name(),
                gib(round.before_bytes),
                gib(round.after_bytes),
                round.usage.wall.as_secs_f64(),
                round.cpu_per_gib(),
                round.usage.other_cpu.as_secs_f64() / gib(round.before_bytes),
                round.usage.broker_peak_rss_bytes >> 20,
                round.usage.broker_rss_bytes >> 20,
            );
            rounds.push(round.cpu_per_gib());
        }
        best.push(rounds.into_iter().fold(f64::INFINITY, f64::min));
    }
    if let [ottla, kafka] = best[..] {
        println!("Apache Kafka's best round takes {:.1} times the CPU of Ottla's", kafka / ottla);
    }
    Ok(())
}

fn measure(broker: &Broker, topic: &str, options: &Options) -> Result<Round> {
    let mut connection = Connection::open(broker.address)?;
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", &SEGMENT_BYTES.to_string()),
        ("min.cleanable.dirty.ratio", "0.01"),
        (LAG, "86400000"),
    ];
    connection.create_topic(topic, 1, &settings)?;
    produce(&mut connection, topic, options)?;
    sleep(SETTLE);
    let directory = broker.data().join(format!("{topic}-0"));
    let before_bytes = closed_bytes(&directory)?;
    let checkpoint = broker.data().join("cleaner-offset-checkpoint");
    let meter = Meter::start(Some(broker.pid()))?;
    connection.set_topic_config(topic, LAG, "0")?;
    let deadline = Instant::now() + TIMEOUT;
    while !names(&checkpoint, topic) {
        ensure!(Instant::now() < deadline, "{} has not compacted {topic}", broker.kind.name());
        sleep(Duration::from_millis(20));
    }
    let usage = meter.stop()?;
    let after_bytes = closed_bytes(&directory)?;
    ensure!(after_bytes < before_bytes, "{} compacted {topic} to {after_bytes} bytes", broker.kind.name());
    broker.delete_topic(topic)?;
    Ok(Round { before_bytes, after_bytes, usage })
}

/// The given amount, and so much more that all of it is in segments which are closed.
fn produce(connection: &mut Connection, topic: &str, options: &Options) -> Result<()> {
    const IN_FLIGHT: u64 = 8;
    let total_bytes = (options.gib * (1u64 << 30) as f64) as u64;
    let records = total_bytes / options.record_bytes.max(1) as u64;
    let keys = (records * (100 - options.duplicate_percent) / 100).max(1);
    let batches = total_bytes / BATCH_BYTES as u64 + 1;
    let mut random = Random::new(1);
    for sent in 0..batches + IN_FLIGHT {
        if sent < batches {
            let batch = batch::encode_keyed(options.record_bytes, BATCH_BYTES, keys, &mut random);
            connection.send(&mut wire::produce(topic, 0, &batch.bytes))?;
        }
        if sent >= IN_FLIGHT.min(batches) {
            wire::produced_offset(connection.receive()?)?;
        }
    }
    Ok(())
}

/// Of all segments but the last.
fn closed_bytes(directory: &Path) -> Result<u64> {
    let files = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut logs: Vec<_> = files
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().ends_with(".log"))
        .map(|file| (file.file_name(), file.metadata().map_or(0, |metadata| metadata.len())))
        .collect();
    logs.sort();
    logs.pop();
    Ok(logs.iter().map(|(_, bytes)| bytes).sum())
}

fn names(checkpoint: &Path, topic: &str) -> bool {
    let text = fs::read_to_string(checkpoint).unwrap_or_default();
    text.lines()
        .any(|line| line.strip_prefix(topic).and_then(|rest| rest.strip_prefix(" 0 ")).is_some_and(|n| n != "0"))
}
