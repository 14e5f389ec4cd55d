//! The benchmark of consumer groups: how long a large group takes until every member has its partitions, in both
//! protocols, and what the heartbeats of many small groups cost.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::broker::{Broker, Pair};
use crate::connection::Connection;
use crate::meter::{Meter, Usage};
use crate::wire::groups::{self, Joined, Owned, REBALANCE_IN_PROGRESS};

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Scenario {
    /// One group of the classic protocol.
    Classic,
    /// One group of the new protocol (KIP-848).
    Consumer,
    /// Groups with one member each.
    Heartbeats,
}

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pair: Pair,
    #[arg(long, value_enum, num_args = 1.., default_values = ["classic", "consumer", "heartbeats"])]
    scenarios: Vec<Scenario>,
    /// In turn on each broker; the first shows what a cold JVM costs.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Of the large groups; their topic has as many partitions.
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// How often members of the large groups say that they are there, unless they have more to say.
    #[arg(long, default_value_t = 200)]
    heartbeat_ms: u64,
    /// For the heartbeats.
    #[arg(long, default_value_t = 10_000)]
    groups: usize,
    #[arg(long, default_value_t = 3000)]
    heartbeats_per_s: usize,
    #[arg(long, default_value_t = 20)]
    heartbeats_for_s: u64,
}

const TOPIC: &str = "subscribed";
const TIMEOUT: Duration = Duration::from_secs(120);
/// A first member does not wait for others, members may have as many seats as they want, and are heard of as often as
/// they like: what is left is the brokers' work.
const SETTINGS: [&str; 4] = [
    "group.initial.rebalance.delay.ms=0",
    "group.consumer.max.size=2147483647",
    "group.consumer.session.timeout.ms=60000",
    "group.consumer.max.session.timeout.ms=60000",
];

pub fn run(options: &Options) -> Result<()> {
    let brokers = options.pair.start(&SETTINGS)?;
    for broker in &brokers {
        broker.awake(|| {
            Connection::open(broker.address)?.create_topic(TOPIC, options.members as i32, &[])?;
            coordinate(broker.address)
        })?;
    }
    for scenario in &options.scenarios {
        let rounds = if *scenario == Scenario::Heartbeats { 1 } else { options.rounds.max(1) };
        for round in 0..rounds {
            let mut usages = Vec::new();
            for broker in &brokers {
                usages.push(broker.awake(|| measure(*scenario, broker, round, options))?);
            }
            if let [ottla, kafka] = usages[..] {
                let ratio = |of: fn(&Usage) -> Duration| of(&kafka).as_secs_f64() / of(&ottla).as_secs_f64();
                let (time, cpu) = (ratio(|usage| usage.wall), ratio(|usage| usage.broker_cpu));
                println!("{scenario:?} {round}: Apache Kafka takes {time:.1} times the time, {cpu:.1} times the CPU");
            }
        }
    }
    Ok(())
}

fn measure(scenario: Scenario, broker: &Broker, round: usize, options: &Options) -> Result<Usage> {
    let (name, heartbeat) = (broker.kind.name(), Duration::from_millis(options.heartbeat_ms));
    let group = format!("{scenario:?}-{round}");
    let usage = match scenario {
        Scenario::Heartbeats => heartbeats(broker, options)?,
        Scenario::Classic => {
            let open = |_| Member::open(broker.address, &group);
            let members = (0..options.members).map(open).collect::<Result<Vec<Member>>>()?;
            until_stable(broker, members, heartbeat)?
        }
        Scenario::Consumer => {
            let open = |index| ConsumerMember::open(broker.address, &group, index);
            let members = (0..options.members).map(open).collect::<Result<Vec<ConsumerMember>>>()?;
            until_stable(broker, members, heartbeat)?
        }
    };
    let Usage { wall, broker_cpu, client_cpu, other_cpu, .. } = usage;
    println!(
        "{name} {scenario:?} {round}: {wall:.2?}, CPU: broker {broker_cpu:.2?}, client {client_cpu:.2?}, rest of the \
         machine {other_cpu:.2?}; RSS {} MiB, peak {} MiB",
        usage.broker_rss_bytes >> 20,
        usage.broker_peak_rss_bytes >> 20,
    );
    Ok(usage)
}

/// Waits until groups have a coordinator.
pub fn coordinate(address: SocketAddr) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let deadline = Instant::now() + TIMEOUT;
    // The offsets topic comes with the first question, its partitions one after another.
    for index in 0..100 {
        let group = format!("nobody-{index}");
        while let Err(error) = groups::coordinator_outcome(connection.call(groups::find_coordinator(&group))?) {
            ensure!(Instant::now() < deadline, "there is no coordinator: {error}");
            sleep(Duration::from_millis(50));
        }
    }
    sleep(Duration::from_secs(2));
    Ok(())
}

/// A member as the loop drives it: never more than one request under way.
trait Speaker {
    fn connection(&mut self) -> &mut Connection;
    /// Its first words.
    fn start(&mut self) -> Result<()>;
    /// Takes an answer; true if it had to say something to it.
    fn answered(&mut self) -> Result<bool>;
    fn heartbeat(&mut self) -> Result<()>;
    /// All members are in the same generation or epoch, and have all they are to have.
    fn are_stable(members: &[Self]) -> bool
    where
        Self: Sized;
    fn leave(&mut self) -> Result<()>;
}

/// From the first join until all have their partitions.
fn until_stable<S: Speaker>(broker: &Broker, mut members: Vec<S>, heartbeat: Duration) -> Result<Usage> {
    let meter = Meter::start(Some(broker.pid()))?;
    let started = Instant::now();
    // None: it waits for an answer.
    let mut due: Vec<Option<Instant>> = vec![None; members.len()];
    for member in &mut members {
        member.start()?;
    }
    while !S::are_stable(&members) {
        ensure!(started.elapsed() < TIMEOUT, "{} has no stable group", broker.kind.name());
        for index in readable(&mut members)? {
            let busy = members[index].answered()?;
            due[index] = (!busy).then(|| Instant::now() + heartbeat);
        }
        let now = Instant::now();
        for (member, due) in members.iter_mut().zip(&mut due) {
            if due.is_some_and(|due| due <= now) {
                member.heartbeat()?;
                *due = None;
            }
        }
    }
    let usage = meter.stop()?;
    for (member, due) in members.iter_mut().zip(due) {
        if due.is_none() {
            member.connection().receive()?;
        }
        member.leave()?;
    }
    Ok(usage)
}

fn readable<S: Speaker>(members: &mut [S]) -> Result<Vec<usize>> {
    const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    let mut waiting: Vec<_> =
        members.iter_mut().map(|member| PollFd::new(member.connection().socket(), PollFlags::IN)).collect();
    poll(&mut waiting, Some(&WAIT))?;
    Ok(waiting.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(index, _)| index).collect())
}

/// Of the classic protocol.
pub struct Member {
    pub connection: Connection,
    pub group: String,
    pub id: String,
    pub generation: i32,
    asked: Asked,
    stable: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Join,
    Sync,
    Heartbeat,
}

impl Member {
    fn open(address: SocketAddr, group: &str) -> Result<Self> {
        let (connection, group) = (Connection::open(address)?, group.to_owned());
        Ok(Self { connection, group, id: String::new(), generation: 0, asked: Asked::Join, stable: false })
    }

    /// Of a group of its own.
    pub fn join_alone(address: SocketAddr, group: &str, topic: &str) -> Result<Self> {
        let mut member = Self::open(address, group)?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let response = member.connection.call(groups::join(group, "", topic))?;
            match groups::joined(response)? {
                Ok(joined) => {
                    (member.id, member.generation) = (joined.member, joined.generation);
                    return Ok(member);
                }
                Err(code) => ensure!(Instant::now() < deadline, "joining: error {code}"),
            }
            sleep(Duration::from_millis(50));
        }
    }

    pub fn sync_alone(&mut self, topic: &str) -> Result<()> {
        let assigned = [(self.id.clone(), vec![0])];
        let frame = groups::sync(&self.group, self.generation, &self.id, topic, &assigned);
        let code = groups::code(self.connection.call(frame)?)?;
        ensure!(code == 0, "syncing: error {code}");
        Ok(())
    }

    fn joined(&mut self, joined: Joined) -> Result<()> {
        (self.id, self.generation) = (joined.member, joined.generation);
        // There is a partition for each.
        let assigned: Vec<_> = joined.members.into_iter().zip((0..).map(|partition| vec![partition])).collect();
        let mut frame = groups::sync(&self.group, self.generation, &self.id, TOPIC, &assigned);
        self.asked = Asked::Sync;
        self.connection.send(&mut frame)
    }
}

impl Speaker for Member {
    fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    fn start(&mut self) -> Result<()> {
        (self.asked, self.stable) = (Asked::Join, false);
        self.connection.send(&mut groups::join(&self.group, &self.id, TOPIC))
    }

    fn answered(&mut self) -> Result<bool> {
        let response = self.connection.receive()?;
        let code = match self.asked {
            Asked::Join => match groups::joined(response)? {
                Ok(joined) => {
                    self.joined(joined)?;
                    return Ok(true);
                }
                Err(code) => code,
            },
            Asked::Sync | Asked::Heartbeat => groups::code(response)?,
        };
        if code == REBALANCE_IN_PROGRESS {
            self.start()?;
            return Ok(true);
        }
        ensure!(code == 0, "a member got error {code}");
        self.stable = true;
        Ok(false)
    }

    fn heartbeat(&mut self) -> Result<()> {
        self.asked = Asked::Heartbeat;
        self.connection.send(&mut groups::heartbeat(&self.group, self.generation, &self.id))
    }

    fn are_stable(members: &[Self]) -> bool {
        members.iter().all(|member| member.stable && member.generation == members[0].generation)
    }

    /// Its session is long, and nobody waits for it.
    fn leave(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Of the new protocol.
struct ConsumerMember {
    connection: Connection,
    group: String,
    id: String,
    epoch: i32,
    owned: Owned,
}

impl ConsumerMember {
    fn open(address: SocketAddr, group: &str, index: usize) -> Result<Self> {
        let (connection, group, id) = (Connection::open(address)?, group.to_owned(), format!("member-{index:017}"));
        Ok(Self { connection, group, id, epoch: 0, owned: Owned::new() })
    }

    fn say(&mut self, topic: Option<&str>, with_owned: bool) -> Result<()> {
        let owned = with_owned.then_some(&self.owned);
        self.connection.send(&mut groups::consumer_heartbeat(&self.group, &self.id, self.epoch, topic, owned))
    }
}

impl Speaker for ConsumerMember {
    fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    fn start(&mut self) -> Result<()> {
        self.say(Some(TOPIC), true)
    }

    fn answered(&mut self) -> Result<bool> {
        let answer = groups::consumer_heartbeat_answer(self.connection.receive()?)?;
        self.epoch = answer.epoch;
        let Some(assignment) = answer.assignment.filter(|assignment| *assignment != self.owned) else {
            return Ok(false);
        };
        self.owned = assignment;
        self.say(None, true)?;
        Ok(true)
    }

    fn heartbeat(&mut self) -> Result<()> {
        self.say(None, false)
    }

    fn are_stable(members: &[Self]) -> bool {
        let count = |member: &Self| member.owned.iter().map(|(_, partitions)| partitions.len()).sum::<usize>();
        members.iter().all(|member| member.epoch == members[0].epoch && count(member) == 1)
    }

    fn leave(&mut self) -> Result<()> {
        self.epoch = -1;
        self.say(None, false)?;
        self.connection.receive().context("leaving").map(|_| ())
    }
}

/// Each member has a connection, and says that it lives in its turn.
fn heartbeats(broker: &Broker, options: &Options) -> Result<Usage> {
    const TICK: Duration = Duration::from_millis(10);
    let mut members = Vec::with_capacity(options.groups);
    for index in 0..options.groups {
        let mut member = Member::join_alone(broker.address, &format!("small-{index}"), TOPIC)?;
        member.sync_alone(TOPIC)?;
        members.push(member);
    }
    sleep(Duration::from_secs(5));
    let meter = Meter::start(Some(broker.pid()))?;
    let (started, mut sent, mut turn) = (Instant::now(), 0, 0);
    while started.elapsed() < Duration::from_secs(options.heartbeats_for_s) {
        let due = (started.elapsed().as_secs_f64() * options.heartbeats_per_s as f64) as usize - sent;
        let (first, count) = (turn, due.min(members.len()));
        for nth in 0..count {
            let index = (first + nth) % members.len();
            members[index].heartbeat()?;
        }
        for nth in 0..count {
            let index = (first + nth) % members.len();
            let code = groups::code(members[index].connection.receive()?)?;
            ensure!(code == 0, "a heartbeat got error {code}");
        }
        (sent, turn) = (sent + count, (first + count) % members.len());
        sleep(TICK);
    }
    let usage = meter.stop()?;
    println!(
        "{}: {} groups, {:.0} heartbeats/s, {:.2}% of a core for 1,000 a second, RSS {} MiB",
        broker.kind.name(),
        options.groups,
        sent as f64 / usage.wall.as_secs_f64(),
        usage.broker_cpu.as_secs_f64() / sent as f64 * 1000.0 * 100.0,
        usage.broker_rss_bytes >> 20,
    );
    Ok(usage)
}
