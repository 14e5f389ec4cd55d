//! The group coordinator: a `group::Machine` for each partition of `__consumer_offsets`, and the replies that wait there
//! for other members.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use ottla_storage::batch::{self, BatchHeader, TransactionMarker};
use tokio::sync::oneshot;

use super::outbox::Outbox;
use super::view::View;
use super::{CoordinatorPartition, Driven, Home, Shared};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{ApiError, ErrorCode};
use crate::group::records::{Name, Record};
use crate::group::{Client, Effects, Environment, Heard, Machine, Position, Settings, Token, Turn};
use crate::metadata::topics::CONSUMER_OFFSETS;
use crate::metadata::{Image, Metadata};
use crate::partition::Partitions;
use crate::protocol::wire::Malformed;
use crate::txn::Producer;

/// Type of the control record that ends a transaction with success.
const COMMIT: i16 = 1;

#[derive(Default)]
pub(super) struct Groups {
    machine: Machine,
    parked: Parked,
    /// Each record's bytes, one after the other.
    encoded: Vec<u8>,
}

pub(super) struct World {
    settings: Settings,
    metadata: Metadata,
}

pub(super) enum Change {
    Turn {
        effects: Effects,
        /// Whose transaction its records belong to.
        producer: Option<Producer>,
    },
    EndTransaction(Producer, TransactionMarker),
}

/// Where replies go that wait for other members.
#[derive(Default)]
struct Parked {
    last: Token,
    joins: HashMap<Token, oneshot::Sender<JoinGroupResponse>>,
    syncs: HashMap<Token, oneshot::Sender<SyncGroupResponse>>,
    gathering: HashMap<Name, Vec<oneshot::Sender<()>>>,
}

impl Parked {
    fn join(&mut self, sender: oneshot::Sender<JoinGroupResponse>) -> Token {
        self.last += 1;
        self.joins.insert(self.last, sender);
        self.last
    }

    fn gather(&mut self, group: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.gathering.entry(group.into()).or_default().push(sender);
        receiver
    }

    fn sync(&mut self, sender: oneshot::Sender<SyncGroupResponse>) -> Token {
        self.last += 1;
        self.syncs.insert(self.last, sender);
        self.last
    }
}

impl Groups {
    fn turn<T>(
        &mut self,
        world: &World,
        now_ms: i64,
        handle: impl FnOnce(&mut Turn<'_>, &mut Parked) -> T,
    ) -> (T, Effects) {
        let image = world.metadata.glance();
        let view = View::new(&image);
        let new_id = ottla_storage::checkpoint::random_uuid;
        let env = Environment { now_ms, cluster: &view, settings: &world.settings, new_id: &new_id };
        self.machine.turn(env, |turn| handle(turn, &mut self.parked))
    }
}

impl Default for Change {
    fn default() -> Change {
        Effects::default().into()
    }
}

impl From<Effects> for Change {
    fn from(effects: Effects) -> Change {
        Change::Turn { effects, producer: None }
    }
}

impl Driven for Groups {
    const TOPIC: &'static str = CONSUMER_OFFSETS;
    type World = World;
    type Effects = Change;

    fn next_deadline_ms(&self) -> Option<i64> {
        self.machine.next_deadline_ms()
    }

    fn replay(&mut self, header: &BatchHeader, record: &batch::Record<'_>) -> Result<(), Malformed> {
        let key = record.key.unwrap_or_default();
        if header.is_control() {
            // Version and type.
            if let [_, _, high, low] = *key {
                self.machine.end_transaction(header.producer_id, i16::from_be_bytes([high, low]) == COMMIT);
            }
            return Ok(());
        }
        let producer_id = header.is_transactional().then_some(header.producer_id);
        let decoded = Record::decode(key, record.value)?;
        self.machine.apply(decoded, Position { offset: record.offset, producer_id });
        Ok(())
    }

    fn loaded(&mut self, world: &World, now_ms: i64) -> Change {
        self.turn(world, now_ms, |turn, _| turn.loaded()).1.into()
    }

    fn fire_timer(&mut self, world: &World, now_ms: i64) -> Option<Change> {
        if !self.machine.has_near_timers(now_ms) {
            return None;
        }
        let (fired, effects) = self.turn(world, now_ms, |turn, _| turn.fire_timer());
        fired.then(|| effects.into())
    }

    fn take(&mut self, change: Change, outbox: &mut Outbox, _: Home<'_, Groups>) {
        let (effects, producer) = match change {
            Change::Turn { effects, producer } => (effects, producer),
            Change::EndTransaction(producer, marker) => {
                self.machine.end_transaction(producer.id, marker.commit);
                return outbox.marker(producer, marker);
            }
        };
        for record in effects.records {
            let offset = outbox.record(record.encode(&mut self.encoded), producer);
            self.machine.apply(record, Position { offset, producer_id: producer.map(|producer| producer.id) });
        }
        for (token, response) in effects.joins {
            if let Some(sender) = self.parked.joins.remove(&token) {
                outbox.then(move || drop(sender.send(response)));
            }
        }
        for (token, response) in effects.syncs {
            if let Some(sender) = self.parked.syncs.remove(&token) {
                outbox.then(move || drop(sender.send(response)));
            }
        }
        for senders in effects.gathered.iter().filter_map(|group| self.parked.gathering.remove(group)) {
            // Whoever waits may be gone.
            outbox.then(move || senders.into_iter().for_each(|sender| _ = sender.send(())));
        }
    }
}

/// Shared handle.
#[derive(Clone)]
pub struct GroupCoordinator {
    pub(super) shared: Arc<Shared<Groups>>,
}

impl GroupCoordinator {
    pub fn new(config: Arc<Config>, clock: Clock, metadata: Metadata, partitions: Arc<Partitions>) -> GroupCoordinator {
        let world = World { settings: Settings::new(&config), metadata: metadata.clone() };
        GroupCoordinator { shared: Shared::new(world, config, clock, metadata, partitions) }
    }

    pub fn settings(&self) -> &Settings {
        &self.shared.world.settings
    }

    /// Loads all groups, and then fires timers and follows deleted topics as long as the broker lives. To be spawned on
    /// a runtime with a LocalSet.
    pub async fn run(self) {
        let mut deleted = self.shared.metadata.deleted_topics();
        self.shared.load_all().await;
        loop {
            tokio::select! {
                _ = self.shared.next_timer() => {}
                Some(topics) = deleted.recv() => self.for_each_loaded(|turn| turn.topics_deleted(&topics)),
            }
            self.shared.fire_timers();
        }
    }

    fn for_each_loaded(&self, handle: impl Fn(&mut Turn<'_>)) {
        for partition in self.shared.loaded() {
            // One that is being loaded looks by itself when it is.
            let _ = partition.turn(&self.shared, |groups, world, now_ms| {
                let ((), effects) = groups.turn(world, now_ms, |turn, _| handle(turn));
                ((), effects.into())
            });
        }
    }

    /// Hands a request about one group to its machine, at once; the answer comes when all it rests on is written.
    pub fn call<T, H: FnOnce(&mut Turn<'_>) -> T>(
        &self,
        group: &str,
        handle: H,
    ) -> impl Future<Output = Result<T, ErrorCode>> + use<T, H> {
        self.call_at(self.partition_of(group), handle)
    }

    /// The same for every machine.
    pub async fn call_all<T>(&self, handle: impl Fn(&mut Turn<'_>) -> T) -> Result<Vec<T>, ErrorCode> {
        let mut answers = Vec::new();
        for index in 0..self.shared.partition_count() {
            answers.push(self.call_at(index, &handle).await?);
        }
        Ok(answers)
    }

    fn call_at<T, H: FnOnce(&mut Turn<'_>) -> T>(
        &self,
        index: i32,
        handle: H,
    ) -> impl Future<Output = Result<T, ErrorCode>> + use<T, H> {
        let step = |groups: &mut Groups, world: &World, now_ms| {
            let (answer, effects) = groups.turn(world, now_ms, |turn, _| handle(turn));
            (answer, effects.into())
        };
        self.shared.call(index, step)
    }

    /// A request whose records belong to the producer's transaction.
    pub async fn call_in_transaction<T>(
        &self,
        group: &str,
        producer: Producer,
        handle: impl FnOnce(&mut Turn<'_>) -> T,
    ) -> Result<T, ErrorCode> {
        let partition = self.shared.partition(self.partition_of(group))?;
        self.check_epoch(&partition, producer)?;
        let (answer, written) = partition.turn(&self.shared, |groups, world, now_ms| {
            let (answer, effects) = groups.turn(world, now_ms, |turn, _| handle(turn));
            (answer, Change::Turn { effects, producer: Some(producer) })
        })?;
        written.done().await?;
        Ok(answer)
    }

    /// A transaction that has committed offsets to the partition ends.
    pub async fn end_transaction(
        &self,
        index: i32,
        producer: Producer,
        marker: TransactionMarker,
    ) -> Result<(), ErrorCode> {
        let partition = self.shared.partition(index)?;
        self.check_epoch(&partition, producer)?;
        let end = |_: &mut Groups, _: &World, _| ((), Change::EndTransaction(producer, marker));
        let ((), written) = partition.turn(&self.shared, end)?;
        written.done().await
    }

    fn check_epoch(&self, partition: &CoordinatorPartition<Groups>, producer: Producer) -> Result<(), ErrorCode> {
        match partition.newest_epoch(producer.id) {
            Some(newest) if newest > producer.epoch => Err(ErrorCode::InvalidProducerEpoch),
            _ => Ok(()),
        }
    }

    /// The answer comes when the others have joined, too.
    pub async fn join(&self, client: Client<'_>, request: &JoinGroupRequest) -> Result<JoinGroupResponse, ErrorCode> {
        let (sender, receiver) = oneshot::channel();
        self.shared.turn(self.partition_of(&request.group_id), |groups, world, now_ms| {
            let join = |turn: &mut Turn<'_>, parked: &mut Parked| turn.join_group(client, request, parked.join(sender));
            let ((), effects) = groups.turn(world, now_ms, join);
            ((), effects.into())
        })?;
        receiver.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// The answer comes when the leader has synced, too.
    pub async fn sync(&self, request: &SyncGroupRequest) -> Result<SyncGroupResponse, ErrorCode> {
        let (sender, receiver) = oneshot::channel();
        self.shared.turn(self.partition_of(&request.group_id), |groups, world, now_ms| {
            let sync = |turn: &mut Turn<'_>, parked: &mut Parked| turn.sync_group(request, parked.sync(sender));
            let ((), effects) = groups.turn(world, now_ms, sync);
            ((), effects.into())
        })?;
        receiver.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// ConsumerGroupHeartbeat. A member that joins while others do is answered when they all have their targets.
    pub async fn consumer_heartbeat(
        &self,
        client: Client<'_>,
        mut request: ConsumerGroupHeartbeatRequest,
    ) -> Result<Result<ConsumerGroupHeartbeatResponse, ApiError>, ErrorCode> {
        let index = self.partition_of(&request.group_id);
        let ((heard, gathered), written) = self.shared.turn(index, |groups, world, now_ms| {
            let hear = |turn: &mut Turn<'_>, parked: &mut Parked| {
                let heard = turn.gathering_heartbeat(client, &request);
                let gathers = matches!(heard, Ok(Heard::Gathering(_)));
                (heard, gathers.then(|| parked.gather(&request.group_id)))
            };
            let (answer, effects) = groups.turn(world, now_ms, hear);
            (answer, effects.into())
        })?;
        let (member, gathered) = match (heard, gathered) {
            (Ok(Heard::Gathering(member)), Some(gathered)) => (member, gathered),
            (heard, _) => {
                written.done().await?;
                return Ok(heard.map(Heard::answer));
            }
        };
        gathered.await.map_err(|_| ErrorCode::NotCoordinator)?;
        request.member_id = StrBytes::from_string(member.to_string());
        self.call_at(index, |turn| turn.consumer_heartbeat(client, &request)).await
    }

    /// The partition of the offsets topic that holds the group.
    pub fn partition_of(&self, group: &str) -> i32 {
        self.shared.partition_of(group, self.shared.config.offsets_topic_num_partitions)
    }

    /// Creates the offsets topic if it is not there.
    pub async fn ensure_topic(&self) -> Result<Arc<Image>, ApiError> {
        self.shared.ensure_topic().await
    }
}
