//! ottla-load: a raw load generator for Kafka brokers, and the benchmark of Ottla against Apache Kafka.
//!
//! Here is the command line. Frames are encoded before the clock starts, so that the client costs next to nothing and
//! leaves the machine to the broker.

mod batch;
mod broker;
mod chart;
mod commits;
mod compaction;
mod connection;
mod durable;
mod filler;
mod groups;
mod least;
mod load;
mod meter;
mod metrics;
mod partitions;
mod report;
mod side_by_side;
mod transactions;
mod wire;

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::connection::Connection;
use crate::load::{ProduceLoad, Target, percentile};

#[derive(Parser)]
#[command(version, about, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Produce batches with acks=all to a new topic.
    Produce(ProduceOptions),
    /// Read a topic from its first to its last record.
    Fetch(TopicOptions),
    /// Produce to a new topic while consumers follow.
    Tail(ProduceOptions),
    /// Produce one record at a time to a new topic, and wait for each.
    Latency {
        #[command(flatten)]
        topic: TopicOptions,
        #[arg(long, default_value_t = 1024)]
        record_bytes: usize,
        #[arg(long, default_value_t = 20_000)]
        records: usize,
    },
    /// Delete a topic.
    Delete(TopicOptions),
    /// Measure offset commits on Ottla and on Apache Kafka.
    Commits(commits::Options),
    /// Measure consumer groups on Ottla and on Apache Kafka.
    Groups(groups::Options),
    /// Measure the compaction of Ottla and of Apache Kafka.
    Compaction(compaction::Options),
    /// Measure appends with flush.messages=1 on Ottla and on Apache Kafka.
    Durable(durable::Options),
    /// Measure starts and idleness of Ottla and of Apache Kafka with many partitions.
    Partitions(partitions::Options),
    /// Measure transactions on Ottla and on Apache Kafka.
    Transactions(transactions::Options),
    /// Measure what Ottla and Apache Kafka need to remember producers that do nothing any more.
    ProducerIds(transactions::IdOptions),
    /// Serve as what `side-by-side` compares Ottla with, too: the least that produce can cost.
    #[command(hide = true)]
    Least(least::Options),
    /// Measure Ottla and Apache Kafka in the same run.
    SideBySide(side_by_side::Options),
}

#[derive(Args)]
struct TopicOptions {
    #[arg(long, default_value = "localhost:9092")]
    bootstrap: String,
    /// The broker's process, to report what it uses.
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long, default_value = "load")]
    topic: String,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    #[arg(long, default_value_t = 2)]
    connections: usize,
}

#[derive(Args)]
struct ProduceOptions {
    #[command(flatten)]
    topic: TopicOptions,
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    #[arg(long, default_value_t = 65536)]
    batch_bytes: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    #[arg(long, default_value_t = 2048)]
    mib: u64,
}

impl TopicOptions {
    fn target(&self) -> Result<Target<'_>> {
        let address: SocketAddr = self.bootstrap.to_socket_addrs()?.next().context("the bootstrap has no address")?;
        let &Self { pid, partitions, connections, .. } = self;
        Ok(Target { address, pid, topic: &self.topic, partitions, connections: connections.max(1) })
    }

    fn new_topic(&self) -> Result<Target<'_>> {
        let target = self.target()?;
        Connection::open(target.address)?.create_topic(&self.topic, self.partitions, &[])?;
        Ok(target)
    }
}

impl ProduceOptions {
    fn load(&self) -> ProduceLoad {
        let &Self { record_bytes, batch_bytes, in_flight, mib, .. } = self;
        ProduceLoad { record_bytes, batch_bytes, in_flight: in_flight.max(1), total_bytes: mib << 20 }
    }
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Produce(options) => {
            println!("{}", load::produce(&options.topic.new_topic()?, options.load())?.summary());
        }
        Command::Fetch(options) => println!("{}", load::fetch(&options.target()?)?.summary()),
        Command::Tail(options) => {
            println!("{}", load::tail(&options.topic.new_topic()?, options.load())?.summary());
        }
        Command::Latency { topic, record_bytes, records } => {
            let (latencies, _) =
                load::latency(&Target { connections: 1, ..topic.new_topic()? }, record_bytes, records)?;
            for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
                println!("{name} {:?}", percentile(&latencies, share));
            }
        }
        Command::Delete(options) => Connection::open(options.target()?.address)?.delete_topic(&options.topic)?,
        Command::Commits(options) => commits::run(&options)?,
        Command::Groups(options) => groups::run(&options)?,
        Command::Compaction(options) => compaction::run(&options)?,
        Command::Durable(options) => durable::run(&options)?,
        Command::Partitions(options) => partitions::run(&options)?,
        Command::Transactions(options) => transactions::run(&options)?,
        Command::ProducerIds(options) => transactions::run_ids(&options)?,
        Command::Least(options) => least::serve(&options)?,
        Command::SideBySide(options) => side_by_side::run(&options)?,
    }
    Ok(())
}
