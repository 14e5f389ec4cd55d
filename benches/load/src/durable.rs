//! The benchmark of durable appends: `flush.messages=1`, so that every acknowledged record is on the disk, and producers
//! that send one record at a time, spread over few or many partitions.

use anyhow::Result;
use clap::Args;

use crate::broker::{Broker, Pair};
use crate::connection::Connection;
use crate::load::{self, Target, percentile};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pair: Pair,
    /// In turn on each broker, after one that isn't counted, for the JVM to compile.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    partitions: Vec<i32>,
    /// Each with a connection of its own and one record in flight.
    #[arg(long, default_value_t = 64)]
    producers: usize,
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    /// In each round, of all producers together.
    #[arg(long, default_value_t = 40_000)]
    records: usize,
}

struct Outcome {
    per_second: f64,
    p99_us: f64,
}

pub fn run(options: &Options) -> Result<()> {
    let brokers = options.pair.start(&[])?;
    for &partitions in &options.partitions {
        for round in 0..=options.rounds.max(1) {
            let mut outcomes = Vec::new();
            for broker in &brokers {
                outcomes.push(broker.awake(|| measure(broker, partitions, round, options))?);
            }
            if let [ottla, kafka] = &outcomes[..] {
                println!(
                    "{partitions} partitions, round {round}: {:.1} times the appends/s, {:.2} of the p99",
                    ottla.per_second / kafka.per_second,
                    ottla.p99_us / kafka.p99_us
                );
            }
        }
    }
    Ok(())
}

fn measure(broker: &Broker, partitions: i32, round: usize, options: &Options) -> Result<Outcome> {
    let topic = format!("durable-{partitions}-{round}");
    Connection::open(broker.address)?.create_topic(&topic, partitions, &[("flush.messages", "1")])?;
    let connections = options.producers.max(1);
    let target = Target { address: broker.address, pid: Some(broker.pid()), topic: &topic, partitions, connections };
    let (latencies, usage) = load::latency(&target, options.record_bytes, (options.records / connections).max(1))?;
    let count = latencies.len() as f64;
    let micros = |share| percentile(&latencies, share).as_secs_f64() * 1e6;
    let outcome = Outcome { per_second: count / usage.wall.as_secs_f64(), p99_us: micros(0.99) };
    println!(
        "{} {partitions} partitions, round {round}: {:.0} appends/s, p50 {:.0} us, p99 {:.0} us, max {:.0} us, CPU \
         us/append: broker {:.1}, rest of the machine {:.1}",
        broker.kind.name(),
        outcome.per_second,
        micros(0.5),
        outcome.p99_us,
        micros(1.0),
        usage.broker_cpu.as_secs_f64() * 1e6 / count,
        usage.other_cpu.as_secs_f64() * 1e6 / count,
    );
    broker.delete_topic(&topic)?;
    Ok(outcome)
}
