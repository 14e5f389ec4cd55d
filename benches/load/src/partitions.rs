//! The benchmark of many partitions: what a start and an idle broker cost where there are ten thousand logs.
//!
//! Ottla makes the directory: topics through the admin API, a record in every partition. Each broker then serves its own
//! copy: started after clean stops, metered while idle, and started once more after a kill with records not flushed.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use tempfile::TempDir;

use crate::broker::{Broker, Kind, Pair, Programs, await_record};
use crate::connection::Connection;
use crate::load::{self, ProduceLoad, Target};
use crate::meter::Meter;

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pair: Pair,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    topics: u64,
    /// Of each topic.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Starts after a clean stop.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Produced over all partitions before the kill.
    #[arg(long, default_value_t = 64)]
    unflushed_mib: u64,
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
}

/// What comes with a start is done before the idle time begins.
const SETTLE: Duration = Duration::from_secs(15);
/// Stops are awaited for so long: each log may have something to sync.
const STOP_TIMEOUT: Duration = Duration::from_secs(600);

pub fn run(options: &Options) -> Result<()> {
    let programs = options.pair.programs()?;
    let ottlas = Arc::new(programs.home()?);
    let broker = Broker::start_on(Kind::Ottla, &programs, ottlas.clone(), &[])?;
    let (made, size) = (Instant::now(), options.topics * options.partitions as u64);
    let mut connection = Connection::open(broker.address)?;
    for topic in 0..options.topics {
        connection.create_topic(&name(topic), options.partitions, &[])?;
    }
    println!("{size} partitions made in {:.1} s", made.elapsed().as_secs_f64());
    produce(&broker, options, 0)?;
    println!("first clean stop {:.1} s", broker.stop(STOP_TIMEOUT)?.as_secs_f64());
    let mut homes = Vec::new();
    for kind in options.pair.kinds() {
        let home = if kind == Kind::Ottla { ottlas.clone() } else { Arc::new(copy(&ottlas, &programs)?) };
        homes.push((kind, home));
    }
    homes.into_iter().try_for_each(|(kind, home)| measure(kind, home, &programs, options))
}

fn name(topic: u64) -> String {
    format!("many-{topic:03}")
}

fn copy(from: &TempDir, programs: &Programs) -> Result<TempDir> {
    let home = programs.home()?;
    let copied = Command::new("cp").arg("-a").arg(from.path().join("data")).arg(home.path()).status()?;
    ensure!(copied.success(), "cp ended with {copied}");
    rustix::fs::syncfs(fs::File::open(home.path())?)?;
    Ok(home)
}

fn measure(kind: Kind, home: Arc<TempDir>, programs: &Programs, options: &Options) -> Result<()> {
    let last = name(options.topics - 1);
    let start = || -> Result<(Broker, Duration)> {
        let mut broker = Broker::spawn(kind, programs, home.clone(), &[])?;
        let served = await_record(&mut broker, &last, options.partitions - 1)?;
        Ok((broker, served))
    };
    let mut starts = Vec::new();
    for round in 0..options.rounds.max(1) {
        let (broker, served) = start()?;
        starts.push(served);
        if round == 0 {
            sleep(SETTLE);
            let meter = Meter::start(Some(broker.pid()))?;
            sleep(Duration::from_secs(options.idle_seconds));
            let usage = meter.stop()?;
            println!(
                "{}: idle CPU {:.2}% of a core, RSS {:.1} MiB, {} descriptors",
                kind.name(),
                100.0 * usage.broker_cpu.as_secs_f64() / usage.wall.as_secs_f64(),
                usage.broker_rss_bytes as f64 / f64::from(1 << 20),
                fs::read_dir(format!("/proc/{}/fd", broker.pid()))?.count(),
            );
        }
        println!(
            "{}: start after a clean stop {:.2} s, clean stop {:.2} s",
            kind.name(),
            served.as_secs_f64(),
            broker.stop(STOP_TIMEOUT)?.as_secs_f64()
        );
    }
    starts.sort_unstable();
    println!("{}: start after a clean stop, median {:.2} s", kind.name(), starts[starts.len() / 2].as_secs_f64());
    let (broker, _) = start()?;
    produce(&broker, options, options.unflushed_mib << 20)?;
    broker.kill()?;
    let (broker, served) = start()?;
    let seconds = served.as_secs_f64();
    println!("{}: start after kill -9 with {} MiB unflushed {seconds:.2} s", kind.name(), options.unflushed_mib);
    println!("{}: clean stop after that {:.1} s", kind.name(), broker.stop(STOP_TIMEOUT)?.as_secs_f64());
    Ok(())
}

/// One batch to every partition: `bytes` in all, or a single record each.
fn produce(broker: &Broker, options: &Options, bytes: u64) -> Result<()> {
    let topic_bytes = bytes / options.topics;
    let batch_bytes = (topic_bytes / options.partitions as u64) as usize;
    let mut connection = Connection::open(broker.address)?;
    for topic in 0..options.topics {
        // The last partition was served first, perhaps.
        connection.await_leaders(&name(topic), options.partitions)?;
        let target = Target {
            address: broker.address,
            pid: None,
            topic: &name(topic),
            partitions: options.partitions,
            connections: 1,
        };
        let load = ProduceLoad { record_bytes: 1024, batch_bytes, in_flight: 8, total_bytes: topic_bytes };
        load::produce(&target, load)?;
    }
    Ok(())
}
