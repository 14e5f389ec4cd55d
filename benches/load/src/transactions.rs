//! The benchmark of transactions: producers that commit one small batch in each of their partitions, time and again; and
//! what it costs to remember producers that do nothing any more.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use clap::Args;

use crate::batch::{self, Random};
use crate::broker::{Broker, Pair};
use crate::connection::Connection;
use crate::meter::{Meter, rss_bytes};
use crate::wire::transactions::{self as wire, Producer};
use crate::wire::{self as plain, groups::coordinator_outcome};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pair: Pair,
    /// In turn on each broker; the first shows what a cold JVM costs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 50)]
    producers: usize,
    /// In each round, of all producers together.
    #[arg(long, default_value_t = 20_000)]
    transactions: usize,
}

#[derive(Args)]
pub struct IdOptions {
    #[command(flatten)]
    pair: Pair,
    #[arg(long, default_value_t = 1_000_000)]
    ids: i64,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
}

const CLIENT_THREADS: usize = 2;
const RECORD_BYTES: usize = 100;
const IN_FLIGHT: i64 = 64;
const RETRY_PAUSE: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(60);
/// Of a producer in each transaction: one partition, and many.
const PARTITIONS_EACH: [i32; 2] = [1, 10];

struct Writer {
    connection: Connection,
    id: String,
    producer: Producer,
    topic: &'static str,
    first_partition: i32,
    partitions: i32,
    batch: Vec<u8>,
}

pub fn run(options: &Options) -> Result<()> {
    let brokers =
        options.pair.start(&["transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1"])?;
    for partitions in PARTITIONS_EACH {
        let mut writers = Vec::new();
        for broker in &brokers {
            writers.push(broker.awake(|| begin_all(broker, options, partitions))?);
        }
        for round in 0..options.rounds.max(1) {
            let mut last = Vec::new();
            for (broker, writers) in brokers.iter().zip(&mut writers) {
                last.push(broker.awake(|| measure(broker, writers, round, options))?);
            }
            if let [ottla, kafka] = last[..] {
                let (rate, cpu) = (ottla.0 / kafka.0, kafka.1 / ottla.1);
                println!("round {round}: {rate:.1} times the transactions/s, {cpu:.1} times less CPU");
            }
        }
    }
    Ok(())
}

fn begin_all(broker: &Broker, options: &Options, partitions: i32) -> Result<Vec<Writer>> {
    let topic = if partitions == 1 { "one" } else { "many" };
    Connection::open(broker.address)?.create_topic(topic, partitions * options.producers as i32, &[])?;
    let begin = |index| {
        let mut connection = Connection::open(broker.address)?;
        let id = format!("{topic}-{index}");
        let deadline = Instant::now() + TIMEOUT;
        // The coordinator's topic comes with the first question, its partitions one after another.
        while let Err(error) = coordinator_outcome(connection.call(wire::find_coordinator(&id))?) {
            ensure!(Instant::now() < deadline, "there is no coordinator: {error}");
            sleep(RETRY_PAUSE);
        }
        let producer = loop {
            match wire::initialized(connection.call(wire::init(&id))?)? {
                Ok(producer) => break producer,
                Err(code) => retry(code, deadline)?,
            }
        };
        let batch = batch::encode(RECORD_BYTES, 0, &mut Random::new(index as u64)).bytes;
        Ok(Writer { connection, id, producer, topic, first_partition: index as i32 * partitions, partitions, batch })
    };
    (0..options.producers).map(begin).collect()
}

fn retry(code: i16, deadline: Instant) -> Result<()> {
    ensure!(wire::is_retriable(code) && Instant::now() < deadline, "the broker answered with error code {code}");
    sleep(RETRY_PAUSE);
    Ok(())
}

/// Transactions a second, and microseconds of CPU for each.
fn measure(broker: &Broker, writers: &mut [Writer], round: usize, options: &Options) -> Result<(f64, f64)> {
    let each = (options.transactions / writers.len()).max(1);
    let partitions = writers[0].partitions;
    let transactions = (each * writers.len()) as f64;
    let meter = Meter::start(Some(broker.pid()))?;
    let retries = thread::scope(|scope| {
        let share = writers.len().div_ceil(CLIENT_THREADS);
        let threads: Vec<_> = writers.chunks_mut(share).map(|some| scope.spawn(move || work(some, each))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<usize>>| {
            thread.join().map_err(|_| anyhow!("a load thread panicked"))?
        };
        threads.into_iter().map(join).sum::<Result<usize>>()
    })?;
    let usage = meter.stop()?;
    let rate = transactions / usage.wall.as_secs_f64();
    let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / transactions;
    println!(
        "{} {round}: {rate:.0} transactions/s of {partitions} partitions, CPU us/transaction: broker {:.1}, client {:.1}, \
         rest of the machine {:.1}; {retries} retries; RSS {} MiB",
        broker.kind.name(),
        micros(usage.broker_cpu),
        micros(usage.client_cpu),
        micros(usage.other_cpu),
        usage.broker_rss_bytes >> 20,
    );
    Ok((rate, micros(usage.broker_cpu)))
}

/// All write, and then all commit; how often one had to ask again.
fn work(writers: &mut [Writer], each: usize) -> Result<usize> {
    let mut retries = 0;
    for _ in 0..each {
        for writer in &mut *writers {
            batch::set_producer(&mut writer.batch, writer.producer.id, writer.producer.epoch, true);
            writer.connection.send(&mut writer.produce_frame())?;
        }
        let deadline = Instant::now() + TIMEOUT;
        for writer in &mut *writers {
            let mut code = wire::produced(writer.connection.receive()?)?;
            while code != 0 {
                retry(code, deadline)?;
                retries += 1;
                let again = writer.produce_frame();
                code = wire::produced(writer.connection.call(again)?)?;
            }
        }
        for writer in &mut *writers {
            writer.connection.send(&mut wire::commit(&writer.id, writer.producer))?;
        }
        for writer in &mut *writers {
            let mut answer = wire::committed(writer.connection.receive()?)?;
            writer.producer = loop {
                match answer {
                    Ok(producer) => break producer,
                    Err(code) => retry(code, deadline)?,
                }
                retries += 1;
                answer = wire::committed(writer.connection.call(wire::commit(&writer.id, writer.producer))?)?;
            };
        }
    }
    Ok(retries)
}

impl Writer {
    fn produce_frame(&self) -> plain::Frame {
        let partitions = self.first_partition..self.first_partition + self.partitions;
        wire::produce(&self.id, self.topic, partitions, &self.batch)
    }
}

/// As many batches without a producer id, and then each with another one: what they come to in memory.
pub fn run_ids(options: &IdOptions) -> Result<()> {
    for broker in options.pair.start(&[])? {
        broker.awake(|| measure_ids(&broker, options))?;
    }
    Ok(())
}

fn measure_ids(broker: &Broker, options: &IdOptions) -> Result<()> {
    let mut connection = Connection::open(broker.address)?;
    let mut batch = batch::encode(RECORD_BYTES, 0, &mut Random::new(1)).bytes;
    let mut settled = Vec::new();
    for (topic, first_id) in [("none", None), ("idle", Some(0))] {
        connection.create_topic(topic, options.partitions, &[])?;
        for step in 0..options.ids + IN_FLIGHT {
            if step >= IN_FLIGHT {
                plain::produced_offset(connection.receive()?)?;
            }
            if step < options.ids {
                if let Some(first_id) = first_id {
                    batch::set_producer(&mut batch, first_id + step, 0, false);
                }
                let partition = (step % i64::from(options.partitions)) as i32;
                connection.send(&mut plain::produce(topic, partition, &batch))?;
            }
        }
        // Buffers are given back.
        sleep(Duration::from_secs(5));
        settled.push(rss_bytes(broker.pid())?);
    }
    let more = settled[1].saturating_sub(settled[0]);
    println!(
        "{}: RSS {} MiB after {} batches without a producer id, {} MiB after as many with one each: {} bytes each",
        broker.kind.name(),
        settled[0] >> 20,
        options.ids,
        settled[1] >> 20,
        more / options.ids.max(1) as u64,
    );
    Ok(())
}
