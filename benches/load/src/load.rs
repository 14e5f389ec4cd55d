//! The loads themselves, against any broker: produce, fetch, a consumer that follows a producer, and single records.
//!
//! One blocking thread a connection. All frames are encoded and all connections open before the clock starts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::batch::{self, Batch, Random};
use crate::connection::Connection;
use crate::meter::{Meter, Usage};
use crate::wire::{self, FetchRequest, Frame};

/// A topic on a broker, and the process to charge for the work, if it is to be measured.
pub struct Target<'a> {
    pub address: SocketAddr,
    pub pid: Option<u32>,
    pub topic: &'a str,
    pub partitions: i32,
    pub connections: usize,
}

/// What to produce: one batch a request, round robin over the partitions, each connection with a window of requests.
#[derive(Clone, Copy)]
pub struct ProduceLoad {
    pub record_bytes: usize,
    pub batch_bytes: usize,
    pub in_flight: usize,
    pub total_bytes: u64,
}

/// What a load did and what it cost; `bytes` are record batches as they stand in the log.
pub struct Outcome {
    pub bytes: u64,
    pub usage: Usage,
}

impl Outcome {
    pub fn mib_per_second(&self) -> f64 {
        self.bytes as f64 / (1u64 << 20) as f64 / self.usage.wall.as_secs_f64()
    }

    /// CPU seconds for each GiB.
    pub fn per_gib(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / self.gib()
    }

    fn gib(&self) -> f64 {
        self.bytes as f64 / (1u64 << 30) as f64
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let Usage { broker_cpu, client_cpu, other_cpu, .. } = self.usage;
        format!(
            "{:.2} GiB, {:.0} MiB/s, CPU s/GiB: broker {:.2}, client {:.2}, rest of the machine {:.2}",
            self.gib(),
            self.mib_per_second(),
            self.per_gib(broker_cpu),
            self.per_gib(client_cpu),
            self.per_gib(other_cpu),
        )
    }
}

impl ProduceLoad {
    fn batch(&self) -> Batch {
        batch::encode(self.record_bytes, self.batch_bytes, &mut Random::new(self.batch_bytes as u64))
    }

    /// How many batches each connection sends to each partition, at least one: every partition gets the same.
    fn batches_per_lane(&self, batch: &Batch, target: &Target) -> usize {
        let lanes = target.connections * target.partitions as usize;
        ((self.total_bytes as f64 / batch.bytes.len() as f64 / lanes as f64).round() as usize).max(1)
    }
}

/// Produces with acks=all until every batch is acknowledged.
pub fn produce(target: &Target, load: ProduceLoad) -> Result<Outcome> {
    let batch = load.batch();
    let batches = load.batches_per_lane(&batch, target) * target.partitions as usize;
    let producers = open_producers(target, &batch)?;
    let workers = producers
        .into_iter()
        .enumerate()
        .map(|(nth, (connection, frames))| move || produce_window(connection, frames, nth, batches, load.in_flight));
    let usage = run_together(target.pid, workers.collect())?;
    Ok(Outcome { bytes: (batches * target.connections * batch.bytes.len()) as u64, usage })
}

/// Reads a topic from its first to its last record.
pub fn fetch(target: &Target) -> Result<Outcome> {
    let ends = Connection::open(target.address)?.end_offsets(target.topic, target.partitions)?;
    let (received, usage) = counted(target, open_consumers(target, &ends)?)?;
    Ok(Outcome { bytes: received, usage })
}

/// Produces to an empty topic while consumers follow; until they have everything.
pub fn tail(target: &Target, load: ProduceLoad) -> Result<Outcome> {
    let batch = load.batch();
    let batches_per_lane = load.batches_per_lane(&batch, target);
    let batches = batches_per_lane * target.partitions as usize;
    let end = (batches_per_lane * target.connections * batch.records) as i64;
    let mut consumers = open_consumers(target, &vec![end; target.partitions as usize])?;
    for (nth, (connection, frames)) in open_producers(target, &batch)?.into_iter().enumerate() {
        consumers.push(Box::new(move || {
            produce_window(connection, frames, nth, batches, load.in_flight)?;
            Ok(0)
        }));
    }
    let (received, usage) = counted(target, consumers)?;
    let produced = (batches * target.connections * batch.bytes.len()) as u64;
    ensure!(received == produced, "produced {produced} bytes, the consumers got {received}");
    Ok(Outcome { bytes: received, usage })
}

/// One record at a time on each connection, the partitions dealt out among them, `count` times: how long each record
/// waits for its acknowledgement, sorted.
pub fn latency(target: &Target, record_bytes: usize, count: usize) -> Result<(Vec<Duration>, Usage)> {
    let batch = batch::encode(record_bytes, 0, &mut Random::new(3));
    let latencies = Mutex::new(Vec::with_capacity(count * target.connections));
    let mut workers = Vec::new();
    for partition in (0..target.partitions).cycle().take(target.connections) {
        let connection = Connection::open(target.address)?;
        let frame = wire::produce(target.topic, partition, &batch.bytes);
        let latencies = &latencies;
        workers.push(move || {
            let own = produce_singly(connection, frame, count)?;
            latencies.lock().map_err(|_| anyhow!("a load thread panicked"))?.extend(own);
            Ok(())
        });
    }
    let usage = run_together(target.pid, workers)?;
    let mut latencies = latencies.into_inner().map_err(|_| anyhow!("a load thread panicked"))?;
    latencies.sort_unstable();
    Ok((latencies, usage))
}

fn produce_singly(mut connection: Connection, mut frame: Frame, count: usize) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let sent = Instant::now();
        connection.send(&mut frame)?;
        let response = connection.receive()?;
        latencies.push(sent.elapsed());
        wire::produced_offset(response)?;
    }
    Ok(latencies)
}

/// The value that a share of the sorted samples does not exceed.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// One small record, acknowledged: a sign of life.
pub fn produce_one(connection: &mut Connection, topic: &str, partition: i32) -> Result<()> {
    let batch = batch::encode(100, 0, &mut Random::new(4));
    wire::produced_offset(connection.call(wire::produce(topic, partition, &batch.bytes))?).map(|_| ())
}

/// A consumer that gets nothing for so long gives up.
const STARVED: Duration = Duration::from_secs(30);

type Worker<'a, T> = Box<dyn FnOnce() -> Result<T> + Send + 'a>;

fn open_producers(target: &Target, batch: &Batch) -> Result<Vec<(Connection, Vec<Frame>)>> {
    let open = |_| {
        let frames = (0..target.partitions).map(|partition| wire::produce(target.topic, partition, &batch.bytes));
        Ok((Connection::open(target.address)?, frames.collect()))
    };
    (0..target.connections).map(open).collect()
}

/// A consumer for each connection, the partitions dealt out among them. They return the bytes they received.
fn open_consumers<'a>(target: &Target, ends: &[i64]) -> Result<Vec<Worker<'a, u64>>> {
    let mut consumers: Vec<Worker<'a, u64>> = Vec::new();
    for nth in 0..target.connections.min(ends.len()) {
        let assigned: Vec<(i32, i64)> = (0..).zip(ends.iter().copied()).skip(nth).step_by(target.connections).collect();
        let connection = Connection::open(target.address)?;
        let topic = target.topic.to_owned();
        consumers.push(Box::new(move || consume(connection, &topic, &assigned)));
    }
    Ok(consumers)
}

fn produce_window(
    mut connection: Connection,
    mut frames: Vec<Frame>,
    first: usize,
    batches: usize,
    in_flight: usize,
) -> Result<()> {
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < batches {
        if sent < batches && sent - acknowledged < in_flight {
            let lane = (first + sent) % frames.len();
            connection.send(&mut frames[lane])?;
            sent += 1;
        } else {
            wire::produced_offset(connection.receive()?)?;
            acknowledged += 1;
        }
    }
    Ok(())
}

/// Fetches the assigned partitions in one request after another, until each is at its end offset.
fn consume(mut connection: Connection, topic: &str, assigned: &[(i32, i64)]) -> Result<u64> {
    let partitions: Vec<i32> = assigned.iter().map(|(partition, _)| *partition).collect();
    let mut request = FetchRequest::new(topic, &partitions);
    let mut behind = assigned.iter().filter(|(_, end)| *end > 0).count();
    let mut received = 0;
    let mut progressed = Instant::now();
    while behind > 0 {
        connection.send(&mut request.frame)?;
        wire::fetched(connection.receive()?, |partition, records| {
            let at = partitions.iter().position(|&asked| asked == partition).context("a partition nobody asked for")?;
            if let (bytes, Some(next)) = batch::whole_batches(records) {
                request.set_offset(at, next);
                received += bytes as u64;
                behind -= usize::from(next >= assigned[at].1);
                progressed = Instant::now();
            }
            Ok(())
        })?;
        ensure!(progressed.elapsed() < STARVED, "a consumer got nothing for {STARVED:?}");
    }
    Ok(received)
}

fn counted(target: &Target, workers: Vec<Worker<u64>>) -> Result<(u64, Usage)> {
    let received = AtomicU64::new(0);
    let workers = workers.into_iter().map(|work| {
        || {
            received.fetch_add(work()?, Ordering::Relaxed);
            Ok(())
        }
    });
    let usage = run_together(target.pid, workers.collect())?;
    Ok((received.into_inner(), usage))
}

/// Runs the workers on a thread each, and meters from the moment all are ready until the last is done.
fn run_together<W: FnOnce() -> Result<()> + Send>(pid: Option<u32>, workers: Vec<W>) -> Result<Usage> {
    let start = Barrier::new(workers.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|work| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    work()
                })
            })
            .collect();
        let meter = Meter::start(pid);
        start.wait();
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a load thread panicked"))??;
        }
        meter?.stop()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_gets_the_same_number_of_batches() {
        let load = ProduceLoad { record_bytes: 100, batch_bytes: 1000, in_flight: 1, total_bytes: 100_000 };
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let target = Target { address, pid: None, topic: "t", partitions: 4, connections: 2 };
        let batch = load.batch();
        let batches = load.batches_per_lane(&batch, &target) * 8;
        let bytes = batches * batch.bytes.len();
        assert!((90_000..110_000).contains(&bytes), "{bytes}");
        assert_eq!(ProduceLoad { total_bytes: 1, ..load }.batches_per_lane(&batch, &target), 1);
    }

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let samples: Vec<Duration> = (1..=1000).map(Duration::from_micros).collect();
        assert_eq!(percentile(&samples, 0.5), Duration::from_micros(500));
        assert_eq!(percentile(&samples, 0.999), Duration::from_micros(999));
        assert_eq!(percentile(&samples, 1.0), Duration::from_micros(1000));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
