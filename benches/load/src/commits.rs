//! The benchmark of offset commits: groups with one member each commit all partitions of a topic, time and again. What
//! it costs, and what `__consumer_offsets` comes to in the end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Args;

use crate::broker::{Broker, Pair};
use crate::connection::Connection;
use crate::groups::{Member, coordinate};
use crate::meter::{Meter, rss_bytes};
use crate::wire::groups::{Commit, commit_outcome};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pair: Pair,
    /// In turn on each broker; the first shows what a cold JVM costs.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    #[arg(long, default_value_t = 100)]
    groups: usize,
    #[arg(long, default_value_t = 10)]
    partitions: i32,
    /// In each round, of all groups together.
    #[arg(long, default_value_t = 500_000)]
    commits: usize,
    /// Requests in flight on each group's connection, sent together.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// How long the size of `__consumer_offsets` is watched after the last round.
    #[arg(long, default_value_t = 100)]
    watch_s: u64,
}

const TOPIC: &str = "committed";
const CLIENT_THREADS: usize = 2;

struct Committer {
    connection: Connection,
    commit: Commit,
    next_offset: i64,
}

pub fn run(options: &Options) -> Result<()> {
    // The groups come one after another.
    let brokers = options.pair.start(&["group.initial.rebalance.delay.ms=0"])?;
    let mut committers = Vec::new();
    for broker in &brokers {
        committers.push(broker.awake(|| join_all(broker, options))?);
    }
    let mut last = Vec::new();
    for round in 0..options.rounds.max(1) {
        last.clear();
        for (broker, committers) in brokers.iter().zip(&mut committers) {
            last.push(broker.awake(|| measure(broker, committers, round, options))?);
        }
        if let [ottla, kafka] = last[..] {
            println!(
                "round {round}: {:.1} times the commits/s, {:.1} times less CPU",
                ottla.0 / kafka.0,
                kafka.1 / ottla.1
            );
        }
    }
    for broker in &brokers {
        broker.awake(|| watch(broker, options.watch_s))?;
    }
    Ok(())
}

fn join_all(broker: &Broker, options: &Options) -> Result<Vec<Committer>> {
    Connection::open(broker.address)?.create_topic(TOPIC, options.partitions, &[])?;
    coordinate(broker.address)?;
    let join = |index| {
        let mut member = Member::join_alone(broker.address, &format!("committers-{index}"), TOPIC)?;
        let commit = Commit::new(&member.group, member.generation, &member.id, TOPIC, options.partitions);
        member.sync_alone(TOPIC)?;
        Ok(Committer { connection: member.connection, commit, next_offset: 0 })
    };
    (0..options.groups).map(join).collect()
}

/// Commits a second, and microseconds of CPU for each.
fn measure(broker: &Broker, committers: &mut [Committer], round: usize, options: &Options) -> Result<(f64, f64)> {
    let each = (options.commits / committers.len()).max(1);
    let window = options.in_flight.clamp(1, each);
    let meter = Meter::start(Some(broker.pid()))?;
    thread::scope(|scope| {
        let share = committers.len().div_ceil(CLIENT_THREADS);
        let threads: Vec<_> =
            committers.chunks_mut(share).map(|some| scope.spawn(move || commit(some, each, window))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a load thread panicked"))?)
    })?;
    let usage = meter.stop()?;
    let commits = (each * committers.len()) as f64;
    let rate = commits / usage.wall.as_secs_f64();
    let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / commits;
    println!(
        "{} {round}: {rate:.0} commits/s of {} partitions, CPU us/commit: broker {:.1}, client {:.1}, rest of the machine \
         {:.1}; RSS {} MiB, peak {} MiB; __consumer_offsets {:.1} MiB",
        broker.kind.name(),
        options.partitions,
        micros(usage.broker_cpu),
        micros(usage.client_cpu),
        micros(usage.other_cpu),
        usage.broker_rss_bytes >> 20,
        usage.broker_peak_rss_bytes >> 20,
        mib_on_disk(&broker.data())?,
    );
    Ok((rate, micros(usage.broker_cpu)))
}

/// Each group has up to a window of commits in flight, which are sent with one write: what the client costs is taken from
/// the brokers on a machine with two cores.
fn commit(committers: &mut [Committer], each: usize, window: usize) -> Result<()> {
    let (mut sent, mut awaited) = (0, 0);
    loop {
        let next = window.min(each - sent);
        for Committer { connection, commit, next_offset } in &mut *committers {
            for _ in 0..awaited {
                commit_outcome(connection.receive()?)?;
            }
            for _ in 0..next {
                commit.set_offset(*next_offset);
                *next_offset += 1;
                connection.collect(&mut commit.frame);
            }
            connection.send_collected()?;
        }
        if awaited + next == 0 {
            return Ok(());
        }
        (sent, awaited) = (sent + next, next);
    }
}

/// Until it has not changed for long.
fn watch(broker: &Broker, for_s: u64) -> Result<()> {
    let started = Instant::now();
    let mut text = String::new();
    while started.elapsed() < Duration::from_secs(for_s) {
        let (mib, rss) = (mib_on_disk(&broker.data())?, rss_bytes(broker.pid())? >> 20);
        text += &format!(" {:.0} s {mib:.1} MiB (RSS {rss} MiB)", started.elapsed().as_secs_f64());
        thread::sleep(Duration::from_secs(for_s.div_ceil(8).max(1)));
    }
    println!("{}: __consumer_offsets after{text}, then {:.1} MiB", broker.kind.name(), mib_on_disk(&broker.data())?);
    Ok(())
}

/// Of `__consumer_offsets`, in blocks.
fn mib_on_disk(data: &Path) -> Result<f64> {
    let mut bytes = 0;
    for directory in fs::read_dir(data)?.flatten() {
        if directory.file_name().to_string_lossy().starts_with("__consumer_offsets-") {
            for file in fs::read_dir(directory.path())?.flatten() {
                bytes += file.metadata().map_or(0, |metadata| metadata.blocks() * 512);
            }
        }
    }
    Ok(bytes as f64 / (1u64 << 20) as f64)
}
