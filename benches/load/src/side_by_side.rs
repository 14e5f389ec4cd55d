//! The benchmark: both brokers in one run, every scenario on one and then on the other, round after round.
//!
//! The broker that isn't measured is stopped by SIGSTOP, so that it takes no CPU and Kafka's JVM keeps its compiled code.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::broker::{Broker, Kind, Pair, Programs, sync_disk};
use crate::connection::Connection;
use crate::filler::Filler;
use crate::least;
use crate::load::{self, Outcome, ProduceLoad, Target, percentile};
use crate::meter::{Meter, rss_bytes};
use crate::metrics::Results;
use crate::report::Report;

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pair: Pair,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How much each scenario produces in a round.
    #[arg(long, default_value_t = 2.0)]
    gib: f64,
    /// How much each scenario produces before the first round, to let the JVM compile.
    #[arg(long, default_value_t = 2.0)]
    warmup_gib: f64,
    /// One small round: shows that everything works. Its numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// Where results.json and chart.svg go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Also write the tables into benchmarks.md of this directory, and the chart next to it.
    #[arg(long)]
    write_docs: Option<PathBuf>,
}

/// How much of everything.
#[derive(Clone, Copy, Serialize)]
pub struct Plan {
    pub rounds: usize,
    pub load_bytes: u64,
    pub warmup_bytes: u64,
    pub latency_records: usize,
    pub partitions: i32,
    pub connections: usize,
    pub in_flight: usize,
    /// How long an idle broker is left alone before its memory is read, and how long its idle CPU is watched.
    pub settle: Duration,
    /// No memory is unused when a scenario begins.
    pub fills_memory: bool,
}

impl Plan {
    fn of(options: &Options) -> Self {
        let full = Self {
            rounds: options.rounds.max(1),
            load_bytes: gib(options.gib),
            warmup_bytes: gib(options.warmup_gib),
            latency_records: 20_000,
            partitions: 4,
            connections: 2,
            in_flight: 8,
            settle: Duration::from_secs(5),
            fills_memory: true,
        };
        if !options.quick {
            return full;
        }
        let (load_bytes, warmup_bytes) = (gib(0.125), gib(0.0625));
        let settle = Duration::from_secs(1);
        Self { rounds: 1, load_bytes, warmup_bytes, latency_records: 2_000, settle, fills_memory: false, ..full }
    }

    fn produce(&self, scenario: Scenario, total_bytes: u64) -> ProduceLoad {
        let (record_bytes, batch_bytes) = match scenario {
            Scenario::Produce100 => (100, 16 << 10),
            _ => (1024, 64 << 10),
        };
        ProduceLoad { record_bytes, batch_bytes, in_flight: self.in_flight, total_bytes }
    }
}

fn gib(count: f64) -> u64 {
    (count * (1u64 << 30) as f64) as u64
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// 1 KB records in 64 KiB batches, then a fetch of them.
    Produce1k,
    /// 100 B records in 16 KiB batches.
    Produce100,
    /// 1 KB records while consumers follow.
    Tail,
    /// One 1 KB record at a time.
    Latency,
}

impl Scenario {
    const ALL: [Scenario; 4] = [Scenario::Produce1k, Scenario::Produce100, Scenario::Tail, Scenario::Latency];

    fn id(self) -> &'static str {
        match self {
            Scenario::Produce1k => "produce_1k",
            Scenario::Produce100 => "produce_100",
            Scenario::Tail => "tail",
            Scenario::Latency => "latency",
        }
    }
}

pub fn run(options: &Options) -> Result<()> {
    let plan = Plan::of(options);
    let programs = options.pair.programs()?;
    let kinds = options.pair.kinds();
    for (kind, path) in [(Kind::Ottla, &programs.ottla), (Kind::Kafka, &programs.kafka_jars)] {
        ensure!(!kinds.contains(&kind) || path.exists(), "there is no {}", path.display());
    }
    let mut results = Results::default();
    measure_starts(&kinds, &programs, plan, &mut results)?;
    measure_loads(&kinds, &programs, plan, &mut results)?;
    let report = Report::new(results, plan, &programs.data);
    println!("{}", report.text());
    report.write(&options.out)?;
    if let Some(docs) = &options.write_docs {
        report.write_docs(docs)?;
    }
    Ok(())
}

/// First one broker then the other, the other way around in every second round.
fn in_turn<T>(round: usize, of: &[T]) -> Vec<&T> {
    if round.is_multiple_of(2) { of.iter().collect() } else { of.iter().rev().collect() }
}

/// A fresh start each round, with nothing else alive.
fn measure_starts(kinds: &[Kind], programs: &Programs, plan: Plan, results: &mut Results) -> Result<()> {
    for round in 0..plan.rounds {
        for &kind in in_turn(round, kinds) {
            let broker = Broker::start(kind, programs)?;
            sleep(plan.settle);
            results.add(kind, "first_ack", broker.first_ack.as_secs_f64() * 1e3);
            results.add(kind, "rss_idle", mib(rss_bytes(broker.pid())?));
            eprintln!("start {round}: {} acknowledges after {:?}", kind.name(), broker.first_ack);
        }
    }
    Ok(())
}

fn measure_loads(kinds: &[Kind], programs: &Programs, plan: Plan, results: &mut Results) -> Result<()> {
    let mut brokers = Vec::new();
    for &kind in kinds {
        let broker = Broker::start(kind, programs)?;
        warm_up(&broker, plan)?;
        broker.pause()?;
        brokers.push(broker);
    }
    let mut filler = plan.fills_memory.then(|| Filler::new(&programs.data)).transpose()?;
    let mut fill = || filler.as_mut().map_or(Ok(()), Filler::fill);
    for round in 0..plan.rounds {
        for scenario in Scenario::ALL {
            for broker in in_turn(round, &brokers) {
                fill()?;
                broker.awake(|| measure(broker, scenario, round, plan, results))?;
            }
            if scenario == Scenario::Produce1k {
                fill()?;
                let load = plan.produce(scenario, plan.load_bytes);
                let outcome = least::produce(programs, load, plan.partitions, plan.connections)?;
                results.add_least(outcome.per_gib(outcome.usage.broker_cpu), outcome.mib_per_second());
                eprintln!("{}: the least {}", scenario.id(), outcome.summary());
            }
        }
    }
    for broker in &brokers {
        let idle = broker.awake(|| {
            sleep(plan.settle);
            let meter = Meter::start(Some(broker.pid()))?;
            sleep(plan.settle);
            meter.stop()
        })?;
        results.add(broker.kind, "idle_cpu", idle.broker_cpu.as_secs_f64() * 1e3 / idle.wall.as_secs_f64());
        results.add(broker.kind, "rss_after", mib(idle.broker_rss_bytes));
    }
    Ok(())
}

/// Every scenario, unmeasured: a cold JVM costs several times what it costs once compiled. A fetch of a MiB a partition
/// is so few requests that it takes several passes to get there.
fn warm_up(broker: &Broker, plan: Plan) -> Result<()> {
    const FETCHES: usize = 4;
    for scenario in [Scenario::Produce1k, Scenario::Produce100, Scenario::Tail] {
        let topic = format!("warm-up-{}", scenario.id());
        let target = create(broker, &topic, plan)?;
        let load = plan.produce(scenario, plan.warmup_bytes);
        if scenario == Scenario::Tail {
            load::tail(&target, load)?
        } else {
            load::produce(&target, load)?
        };
        for _ in 0..FETCHES {
            load::fetch(&target)?;
        }
        load::latency(&Target { connections: 1, ..target }, load.record_bytes, plan.latency_records / 2)?;
        broker.delete_topic(&topic)?;
    }
    eprintln!("{} is warm", broker.kind.name());
    Ok(())
}

fn create<'a>(broker: &Broker, topic: &'a str, plan: Plan) -> Result<Target<'a>> {
    let &Plan { partitions, connections, .. } = &plan;
    Connection::open(broker.address)?.create_topic(topic, partitions, &[])?;
    Ok(Target { address: broker.address, pid: Some(broker.pid()), topic, partitions, connections })
}

fn measure(broker: &Broker, scenario: Scenario, round: usize, plan: Plan, results: &mut Results) -> Result<()> {
    let topic = format!("{}-{round}", scenario.id());
    let target = create(broker, &topic, plan)?;
    let load = plan.produce(scenario, plan.load_bytes);
    match scenario {
        Scenario::Produce1k => {
            let produced = load::produce(&target, load)?;
            record(results, broker.kind, "produce_1k", &produced);
            results.add(broker.kind, "rss_load", mib(produced.usage.broker_rss_bytes));
            results.add(broker.kind, "rss_peak", mib(produced.usage.broker_peak_rss_bytes));
            // What it left in the page cache goes to the disk at the cost of whoever is there.
            let meter = Meter::start(Some(broker.pid()))?;
            sync_disk(&broker.data())?;
            let usage = meter.stop()?;
            let later = Outcome { bytes: produced.bytes, usage };
            results.add(broker.kind, "produce_1k_later", later.per_gib(usage.client_cpu + usage.other_cpu));
            record(results, broker.kind, "fetch", &load::fetch(&target)?);
        }
        Scenario::Produce100 => record(results, broker.kind, "produce_100", &load::produce(&target, load)?),
        Scenario::Tail => record(results, broker.kind, "tail", &load::tail(&target, load)?),
        Scenario::Latency => {
            let target = Target { connections: 1, ..target };
            load::latency(&target, load.record_bytes, plan.latency_records / 10)?;
            let (latencies, _) = load::latency(&target, load.record_bytes, plan.latency_records)?;
            for (id, share) in [("latency_p50", 0.5), ("latency_p99", 0.99), ("latency_p999", 0.999)] {
                results.add(broker.kind, id, percentile(&latencies, share).as_secs_f64() * 1e6);
            }
            eprintln!("latency {round}: {} p50 {:?}", broker.kind.name(), percentile(&latencies, 0.5));
        }
    }
    broker.delete_topic(&topic)
}

/// Files an outcome under `ID_rate`, `ID_cpu` and so on.
fn record(results: &mut Results, kind: Kind, id: &str, outcome: &Outcome) {
    let usage = outcome.usage;
    results.add(kind, format!("{id}_rate"), outcome.mib_per_second());
    for (of, cpu) in [
        ("cpu", usage.broker_cpu),
        ("workers", usage.io_uring_cpu),
        ("client", usage.client_cpu),
        ("other", usage.other_cpu),
    ] {
        results.add(kind, format!("{id}_{of}"), outcome.per_gib(cpu));
    }
    eprintln!("{id}: {} {}", kind.name(), outcome.summary());
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 20) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_changes_from_round_to_round() {
        assert_eq!(in_turn(0, &['a', 'b']), [&'a', &'b']);
        assert_eq!(in_turn(1, &['a', 'b']), [&'b', &'a']);
    }
}
