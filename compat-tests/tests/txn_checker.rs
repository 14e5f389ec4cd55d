//! Eight transactional producers of both generations, four of which copy what the others wrote, and four consumers of each
//! isolation level, while producers abort, crash, hang and are fenced and the broker is killed: every committed record
//! comes once, no aborted one does, order stays, and offsets go with the output. `ledger` judges.
//!
//! `COMPAT_TXN_SECONDS` changes how long, `COMPAT_TXN_SEED` repeats the same choices (the threads' timing differs).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::broker::Broker;
use compat_tests::connection::Connection;
use compat_tests::dump::dump_all;
use compat_tests::ledger::{
    Content, Copied, Entry, Name, Outcome, Pass, Place, Settled, Transaction, Value, check_asked,
};
use compat_tests::librdkafka;
use compat_tests::transactional::{Answer, Generation, Refused, Remote, TransactionalProducer};
use fastrand::Rng;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::RecordBatchDecoder;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const TOPIC: &str = "events";
const PARTITIONS: i32 = 6;
const PRODUCERS: u8 = 8;
/// From this one on they copy: each the partition that is its number less this.
const FIRST_COPIER: u8 = 4;
const CONSUMERS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);
/// Of producers that go on, and of those that nobody comes back for.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(1)];

/// What all threads know.
struct World {
    bootstrap: String,
    /// No new transactions are begun.
    stop: AtomicBool,
    /// By producer: the last transaction that it has asked to commit.
    asked: [AtomicU32; PRODUCERS as usize],
    /// What consumers and producers found wrong at once.
    faults: Mutex<Vec<String>>,
    /// When all is settled: the offset of each partition's last record, and of the last committed one.
    last: OnceLock<[Vec<i64>; 2]>,
}

impl World {
    fn fault(&self, fault: impl Display) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault.to_string());
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

#[test]
fn transactions_are_exactly_once() {
    let seconds = std::env::var("COMPAT_TXN_SECONDS").map_or(25, |seconds| seconds.parse().unwrap());
    let seed = std::env::var("COMPAT_TXN_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("COMPAT_TXN_SEED={seed}");
    let partitions = PARTITIONS.to_string();
    let mut broker = Broker::start(&[
        ("num.partitions", &partitions),
        ("offsets.topic.num.partitions", "3"),
        ("transaction.state.log.num.partitions", "3"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "200"),
        // Transactions reach over ends of segments, and aborted ones into closed indexes.
        ("log.segment.bytes", "1048576"),
    ]);
    let world = World {
        bootstrap: broker.bootstrap(),
        stop: AtomicBool::new(false),
        asked: Default::default(),
        faults: Mutex::default(),
        last: OnceLock::new(),
    };
    librdkafka::await_partitions(librdkafka::producer(&world.bootstrap, &[]).client(), TOPIC, PARTITIONS as u64);
    let mut rng = Rng::with_seed(seed);
    let (logs, transactions, passes) = run(&world, &mut broker, &mut rng, Duration::from_secs(seconds));
    let settled = check(&world, &logs, &transactions, &passes);

    // The same from the files alone.
    broker.kill();
    broker.restart();
    for committed in [true, false] {
        check_passes(&settled, &[consume(&world, &format!("{committed} at last"), committed, &mut rng)]);
    }
    broker.stop();
    dump_all(&broker.data_dir());
}

type Passes = Vec<(bool, Vec<Pass>)>;

fn run(
    world: &World,
    broker: &mut Broker,
    rng: &mut Rng,
    duration: Duration,
) -> (Vec<Vec<Entry>>, Vec<Transaction>, Passes) {
    thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|number| {
                let rng = rng.fork();
                scope.spawn(move || Actor::new(world, number, rng).run())
            })
            .collect();
        let consumers: Vec<_> = (0..2 * CONSUMERS)
            .map(|number| {
                let mut rng = rng.fork();
                let committed = number % 2 == 0;
                scope.spawn(move || consume(world, &format!("consumer {number}"), committed, &mut rng))
            })
            .collect();
        // Should the broker not come back, nobody must hold up the end of the scope.
        let disturbed = panic::catch_unwind(AssertUnwindSafe(|| disturb(broker, rng, duration)));
        world.stop.store(true, Ordering::SeqCst);
        let transactions = producers.into_iter().map(|producer| producer.join());
        let transactions: Result<Vec<_>, _> = transactions.collect();
        let settled = panic::catch_unwind(AssertUnwindSafe(|| {
            disturbed.unwrap_or_else(|panic| panic::resume_unwind(panic));
            let logs = settled_logs(&world.bootstrap);
            let settled = Settled::of(&logs).unwrap_or_else(|fault| panic!("{fault}"));
            let last = [&settled.all, &settled.committed]
                .map(|records| records.iter().map(|records| records.last().map_or(-1, |last| last.0)).collect());
            world.last.set(last).expect("once");
            logs
        }));
        if settled.is_err() {
            world.last.get_or_init(|| [vec![-1; PARTITIONS as usize], vec![-1; PARTITIONS as usize]]);
        }
        let passes: Vec<_> = consumers.into_iter().map(|consumer| consumer.join()).collect();
        let logs = settled.unwrap_or_else(|panic| panic::resume_unwind(panic));
        let passes = passes.into_iter().map(|pass| pass.unwrap_or_else(|panic| panic::resume_unwind(panic)));
        let transactions = transactions.unwrap_or_else(|panic| panic::resume_unwind(panic));
        (logs, transactions.into_iter().flatten().collect(), passes.collect())
    })
}

/// Kills the broker every few seconds, and now and then stops it.
fn disturb(broker: &mut Broker, rng: &mut Rng, duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(rng.u64(1_000..4_000)));
        if rng.u8(..5) == 0 {
            broker.stop();
        } else {
            broker.kill();
        }
        broker.restart();
    }
    thread::sleep(Duration::from_secs(1));
}

fn check(world: &World, logs: &[Vec<Entry>], transactions: &[Transaction], passes: &Passes) -> Settled {
    let faults = world.faults.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(faults.is_empty(), "{} faults, the first: {:?}", faults.len(), &faults[..faults.len().min(3)]);
    let settled = Settled::of(logs).unwrap();
    let report = |found: Result<(), String>| found.unwrap_or_else(|fault| panic!("{fault}"));
    report(settled.check_transactions(transactions));
    check_passes(&settled, passes);
    let mut remote = Remote::new(&world.bootstrap);
    for copier in FIRST_COPIER..PRODUCERS {
        let partition = i32::from(copier - FIRST_COPIER);
        let committed_offset = remote.stable_offset(&group(copier), TOPIC, partition);
        assert!(committed_offset > 0, "{copier} has copied nothing");
        report(settled.check_copies(Copied { copier, partition, committed_offset }));
    }
    let count = |outcome| transactions.iter().filter(|transaction| transaction.outcome == outcome).count();
    let [all, committed] =
        [&settled.all, &settled.committed].map(|records| records.iter().map(Vec::len).sum::<usize>());
    let [known, aborted, unknown] = [Outcome::Committed, Outcome::Aborted, Outcome::Unknown].map(count);
    println!("{known} committed, {aborted} aborted, {unknown} unknown; {committed} of {all} records are committed");
    assert!(known > 50 && aborted > 20, "hardly anything happened");
    settled
}

fn check_passes(settled: &Settled, passes: &[(bool, Vec<Pass>)]) {
    for (committed, passes) in passes {
        for pass in passes {
            let checked = match committed {
                true => settled.check_read_committed(pass),
                false => settled.check_read_uncommitted(pass),
            };
            checked.unwrap_or_else(|fault| panic!("{fault}"));
        }
    }
}

fn group(copier: u8) -> String {
    format!("copier-{copier}")
}

/// How a transaction is to go.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Commit,
    Abort,
    /// The client is gone, and comes back.
    Crash,
    /// The client is gone, and another comes with another transactional id: the transaction times out. Never drawn, but
    /// known from the start of a client, since it has its timeout from there.
    Desert,
    /// Another with the same id begins before it can commit.
    Fence,
    /// Another with the same id begins while it commits.
    Race,
}

impl Fate {
    fn draw(rng: &mut Rng) -> Fate {
        match rng.u8(..100) {
            0..64 => Fate::Commit,
            64..84 => Fate::Abort,
            84..90 => Fate::Crash,
            90..95 => Fate::Fence,
            _ => Fate::Race,
        }
    }
}

/// One of the eight: the same number through all its clients.
struct Actor<'a> {
    world: &'a World,
    number: u8,
    rng: Rng,
    /// How often it has deserted.
    identity: u32,
    transactions: Vec<Transaction>,
}

impl<'a> Actor<'a> {
    fn new(world: &'a World, number: u8, rng: Rng) -> Actor<'a> {
        Actor { world, number, rng, identity: 0, transactions: Vec::new() }
    }

    fn run(mut self) -> Vec<Transaction> {
        while !self.world.is_stopped() {
            self.live();
        }
        // What the last one has left open is aborted.
        self.client(TIMEOUTS[0]).unwrap_or_else(|refused| panic!("{refused:?}"));
        self.transactions
    }

    fn client(&self, timeout: Duration) -> Answer<TransactionalProducer> {
        let generation = if self.number.is_multiple_of(2) { Generation::First } else { Generation::Second };
        let id = format!("{}-{}", self.number, self.identity);
        TransactionalProducer::start(&self.world.bootstrap, generation, &id, timeout)
    }

    /// From the start of a client to its end.
    fn live(&mut self) {
        let deserts = self.rng.u8(..20) == 0;
        let Ok(mut client) = self.client(TIMEOUTS[usize::from(deserts)]) else { return };
        let mut originals = (self.number >= FIRST_COPIER).then(|| Originals::resume(self.world, self.number));
        while !self.world.is_stopped() {
            let fate = if deserts { Fate::Desert } else { Fate::draw(&mut self.rng) };
            let mut transaction = Transaction {
                producer: self.number,
                number: self.transactions.len() as u32 + 1,
                records: Vec::new(),
                outcome: Outcome::Aborted,
            };
            let worked = match &mut originals {
                None => self.write(&mut client, &mut transaction),
                Some(originals) => self.copy(&mut client, originals, &mut transaction),
            };
            let next = match worked {
                Ok(()) => self.end(client, fate, &mut transaction),
                Err(_) => None,
            };
            if let Some(originals) = originals.as_mut().filter(|_| transaction.outcome != Outcome::Committed) {
                originals.rewind();
            } else if let Some(originals) = &mut originals {
                originals.committed = originals.position;
            }
            self.transactions.push(transaction);
            match next {
                Some(next) => client = next,
                None => return,
            }
            thread::sleep(Duration::from_millis(self.rng.u64(..4)));
        }
    }

    /// The client that goes on, if one does.
    fn end(
        &mut self,
        mut client: TransactionalProducer,
        fate: Fate,
        transaction: &mut Transaction,
    ) -> Option<TransactionalProducer> {
        match fate {
            Fate::Commit => {
                transaction.outcome = self.commit(&mut client, transaction.number);
                (transaction.outcome == Outcome::Committed).then_some(client)
            }
            Fate::Abort => client.end(false).is_ok().then_some(client),
            Fate::Crash => None,
            Fate::Desert => {
                self.identity += 1;
                None
            }
            Fate::Fence => {
                let next = self.client(TIMEOUTS[0]).ok();
                if next.is_some() && self.commit(&mut client, transaction.number) == Outcome::Committed {
                    self.world.fault(format!("{transaction:?} was fenced, and could be committed"));
                }
                // Copiers begin anew where their group is.
                next.filter(|_| self.number < FIRST_COPIER)
            }
            Fate::Race => {
                let this = &*self;
                let (outcome, next) = thread::scope(|scope| {
                    let other = scope.spawn(|| this.client(TIMEOUTS[0]).ok());
                    (this.commit(&mut client, transaction.number), other.join().unwrap())
                });
                transaction.outcome = outcome;
                next.filter(|_| self.number < FIRST_COPIER)
            }
        }
    }

    fn commit(&self, client: &mut TransactionalProducer, number: u32) -> Outcome {
        self.world.asked[usize::from(self.number)].store(number, Ordering::SeqCst);
        match client.end(true) {
            Ok(()) => Outcome::Committed,
            Err(Refused { perhaps_done: true, .. }) => Outcome::Unknown,
            Err(_) => Outcome::Aborted,
        }
    }

    fn write(&mut self, client: &mut TransactionalProducer, transaction: &mut Transaction) -> Answer<()> {
        for _ in 0..self.rng.u8(1..6) {
            let count = self.rng.usize(1..8);
            self.send(client, transaction, &vec![None; count])?;
        }
        Ok(())
    }

    fn copy(
        &mut self,
        client: &mut TransactionalProducer,
        originals: &mut Originals<'_>,
        transaction: &mut Transaction,
    ) -> Answer<()> {
        for _ in 0..self.rng.u8(1..4) {
            let sources = originals.read(self.rng.usize(1..20));
            if !sources.is_empty() {
                self.send(client, transaction, &sources)?;
            }
            // Offsets may come more than once in a transaction; the last one counts.
            client.send_offset(&group(self.number), TOPIC, originals.partition, originals.position)?;
        }
        Ok(())
    }

    /// A record for each of `sources`, in order in up to three partitions.
    fn send(
        &mut self,
        client: &mut TransactionalProducer,
        transaction: &mut Transaction,
        sources: &[Option<Place>],
    ) -> Answer<()> {
        let (first, spread) = (self.rng.i32(0..PARTITIONS), self.rng.i32(1..4));
        let mut batches: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        let mut sent = Vec::new();
        for source in sources {
            let partition = (first + self.rng.i32(0..spread)) % PARTITIONS;
            let number = (transaction.records.len() + sent.len()) as u16;
            let name = Name { producer: self.number, transaction: transaction.number, number };
            batches.entry(partition).or_default().push(Value { name, source: *source }.to_string());
            sent.push((partition, name));
        }
        client.send(TOPIC, &batches)?;
        transaction.records.extend(sent);
        Ok(())
    }
}

/// What a copier reads: the committed records of its partition that are no copies.
struct Originals<'a> {
    world: &'a World,
    partition: i32,
    consumer: BaseConsumer,
    committed: i64,
    position: i64,
}

impl<'a> Originals<'a> {
    /// Where the group is.
    fn resume(world: &'a World, copier: u8) -> Originals<'a> {
        let partition = i32::from(copier - FIRST_COPIER);
        let committed = Remote::new(&world.bootstrap).stable_offset(&group(copier), TOPIC, partition);
        let consumer = consumer(world, true, &[(partition, committed)]);
        Originals { world, partition, consumer, committed, position: committed }
    }

    /// To where the last committed transaction ended.
    fn rewind(&mut self) {
        if self.position != self.committed {
            self.position = self.committed;
            self.consumer = consumer(self.world, true, &[(self.partition, self.position)]);
        }
    }

    /// The next `count` records, or what there is of them.
    fn read(&mut self, count: usize) -> Vec<Option<Place>> {
        let mut sources = Vec::new();
        for _ in 0..count {
            let Some(message) = next(self.world, &self.consumer, true) else { break };
            self.position = message.offset() + 1;
            if Value::parse(message.payload().unwrap()).source.is_none() {
                sources.push(Some(Place { partition: self.partition, offset: message.offset() }));
            }
        }
        sources
    }
}

/// Of the partitions, from these offsets on.
fn consumer(world: &World, committed: bool, starts: &[(i32, i64)]) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &world.bootstrap).set("group.id", "none").set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "error").set("check.crcs", "true").set("fetch.wait.max.ms", "50");
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "100").set("fetch.error.backoff.ms", "20");
    config.set("isolation.level", if committed { "read_committed" } else { "read_uncommitted" });
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in starts {
        assignment.add_partition_offset(TOPIC, *partition, Offset::Offset(*offset)).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    consumer
}

fn next<'a>(world: &World, consumer: &'a BaseConsumer, committed: bool) -> Option<BorrowedMessage<'a>> {
    use rdkafka::error::RDKafkaErrorCode::AutoOffsetReset;
    match consumer.poll(Duration::from_millis(20))? {
        Ok(message) => {
            let name = Value::parse(message.payload().unwrap()).name;
            if committed {
                let asked = world.asked[usize::from(name.producer)].load(Ordering::SeqCst);
                check_asked(name, asked).unwrap_or_else(|fault| world.fault(fault));
            }
            Some(message)
        }
        // Otherwise the broker is not there.
        Err(error) => {
            if error.rdkafka_error_code() == Some(AutoOffsetReset) {
                world.fault(format!("an offset that was there is not: {error}"));
            }
            None
        }
    }
}

/// Reads all partitions to the end, and now and then goes back and begins anew from there.
fn consume(world: &World, consumer_name: &str, committed: bool, rng: &mut Rng) -> (bool, Vec<Pass>) {
    let mut starts: Vec<(i32, i64)> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let mut passes = Vec::new();
    let mut deadline = None;
    loop {
        let consumer = consumer(world, committed, &starts);
        let pass = |(partition, start): &(i32, i64)| Pass {
            consumer: consumer_name.to_owned(),
            partition: *partition,
            start: *start,
            seen: Vec::new(),
            complete: false,
        };
        let mut current: Vec<Pass> = starts.iter().map(pass).collect();
        let again = Instant::now() + Duration::from_millis(rng.u64(2_000..20_000));
        let mut quiet = 0;
        let complete = loop {
            match next(world, &consumer, committed) {
                Some(message) => {
                    let name = Value::parse(message.payload().unwrap()).name;
                    current[message.partition() as usize].seen.push((message.offset(), name));
                    quiet = 0;
                }
                None => quiet += 1,
            }
            if let Some([all, of_committed]) = world.last.get() {
                let last = if committed { of_committed } else { all };
                let position = |pass: &Pass| pass.seen.last().map_or(pass.start - 1, |seen| seen.0);
                // A little longer, for what must not come.
                let there = current.iter().zip(last).all(|(pass, last)| position(pass) >= *last);
                let deadline = deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                if there && quiet > 5 || Instant::now() > *deadline {
                    break true;
                }
            } else if Instant::now() > again {
                break false;
            }
        };
        for (pass, (_, start)) in current.iter_mut().zip(&mut starts) {
            pass.complete = complete;
            let position = pass.seen.last().map_or(pass.start, |seen| seen.0);
            *start = (position - rng.i64(0..2_000)).max(0);
        }
        passes.append(&mut current);
        if complete {
            return (committed, passes);
        }
    }
}

/// The logs of all partitions when nothing is open any more: what was deserted times out.
fn settled_logs(bootstrap: &str) -> Vec<Vec<Entry>> {
    let mut connection = Connection::open(bootstrap);
    let deadline = Instant::now() + PATIENCE;
    let mut read = |partition| {
        let mut log = Vec::new();
        loop {
            let (high_watermark, stable) = read_more(&mut connection, partition, &mut log);
            if log.len() as i64 == high_watermark && stable == high_watermark {
                return log;
            }
            assert!(Instant::now() < deadline, "{partition} is stable to {stable} of {high_watermark} only");
        }
    };
    (0..PARTITIONS).map(&mut read).collect()
}

/// Appends what comes next, and returns the high watermark and the last stable offset.
fn read_more(connection: &mut Connection, partition: i32, log: &mut Vec<Entry>) -> (i64, i64) {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(log.len() as i64)
        .with_partition_max_bytes(1 << 20);
    let topic = TopicName(StrBytes::from_static_str(TOPIC));
    let topic = FetchTopic::default().with_topic(topic).with_partitions(vec![wanted]);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(100)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let response = connection.call(&request, 12);
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, 0, "reading {partition} from {}", log.len());
    let mut bytes = data.records.clone().unwrap_or_default();
    for record in RecordBatchDecoder::decode_all(&mut bytes).unwrap().into_iter().flat_map(|set| set.records) {
        // A batch may begin before.
        if record.offset < log.len() as i64 {
            continue;
        }
        let content = match record.control {
            // Version and type.
            true => Content::Marker { commit: record.key.as_deref() == Some(&[0, 0, 0, 1]) },
            false => Content::Record(Value::parse(&record.value.unwrap())),
        };
        log.push(Entry { offset: record.offset, producer_id: record.producer_id, content });
    }
    (data.high_watermark, data.last_stable_offset)
}
