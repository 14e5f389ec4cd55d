//! One partition of `__consumer_offsets`: its machine under a lock, the batch that is being collected while another is
//! written, and the replies that wait for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use ottla_storage::batch::{BatchBuilder, BatchHeader, Compression};
use ottla_storage::log::AppendError;
use ottla_storage::validate::ValidBatch;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::Shared;
use super::load;
use super::view::View;
use crate::error::ErrorCode;
use crate::group::{Effects, Environment, Machine, Position, Token, Turn};
use crate::partition::Partition;

/// Records are put into batches of about this size, and never of more than twice that unless a single one is.
const BATCH_BYTES: usize = 256 << 10;
/// A disk that has just refused a write is left alone for so long.
const RELOAD_PAUSE_MS: i64 = 1000;

pub struct GroupPartition {
    partition: Arc<Partition>,
    state: Mutex<State>,
}

enum State {
    /// Nothing is known yet, or not any more since a write failed. Not tried again before this time.
    Unloaded {
        not_before_ms: i64,
    },
    Loading,
    Active(Box<Active>),
}

struct Active {
    machine: Machine,
    parked: Parked,
    /// Applied to the machine, and not handed to the log yet.
    collected: VecDeque<Encoded>,
    /// The offset after the last record that was applied.
    next_offset: i64,
    /// What goes out when everything below an offset is written, in that order.
    replies: VecDeque<(i64, Reply)>,
    /// A task waits for a write, and will append what is collected.
    writing: bool,
}

struct Encoded {
    key: Bytes,
    value: Option<Bytes>,
    timestamp_ms: i64,
}

enum Reply {
    Call(oneshot::Sender<()>),
    Join(oneshot::Sender<JoinGroupResponse>, JoinGroupResponse),
    Sync(oneshot::Sender<SyncGroupResponse>, SyncGroupResponse),
}

/// When all that the machine has given out so far is written.
pub struct Written(oneshot::Receiver<()>);

impl Written {
    pub async fn done(self) -> Result<(), ErrorCode> {
        self.0.await.map_err(|_| ErrorCode::NotCoordinator)
    }
}

/// Where replies go that wait for other members.
#[derive(Default)]
pub struct Parked {
    last: Token,
    joins: HashMap<Token, oneshot::Sender<JoinGroupResponse>>,
    syncs: HashMap<Token, oneshot::Sender<SyncGroupResponse>>,
}

impl Parked {
    pub fn join(&mut self, sender: oneshot::Sender<JoinGroupResponse>) -> Token {
        self.last += 1;
        self.joins.insert(self.last, sender);
        self.last
    }

    pub fn sync(&mut self, sender: oneshot::Sender<SyncGroupResponse>) -> Token {
        self.last += 1;
        self.syncs.insert(self.last, sender);
        self.last
    }
}

impl Reply {
    /// Whoever waited may be gone.
    fn send(self) {
        match self {
            Reply::Call(sender) => drop(sender.send(())),
            Reply::Join(sender, response) => drop(sender.send(response)),
            Reply::Sync(sender, response) => drop(sender.send(response)),
        }
    }
}

impl GroupPartition {
    pub fn new(partition: Arc<Partition>) -> GroupPartition {
        GroupPartition { partition, state: Mutex::new(State::Unloaded { not_before_ms: i64::MIN }) }
    }

    #[cfg(test)]
    pub fn log(&self) -> &Arc<ottla_storage::log::Log> {
        &self.partition.log
    }

    pub fn is_deleted(&self) -> bool {
        self.partition.is_deleted()
    }

    /// Replays the log, unless that is done or under way.
    pub async fn load(self: &Arc<Self>, shared: &Arc<Shared>) {
        if self.begin_load(shared).is_ok() {
            self.finish_load(shared).await;
        }
    }

    fn begin_load(&self, shared: &Arc<Shared>) -> Result<(), ErrorCode> {
        let mut state = self.state.lock();
        match *state {
            State::Unloaded { not_before_ms } if not_before_ms <= shared.clock.now_ms() => {
                *state = State::Loading;
                Ok(())
            }
            _ => Err(ErrorCode::CoordinatorLoadInProgress),
        }
    }

    async fn finish_load(self: &Arc<Self>, shared: &Arc<Shared>) {
        let loaded = load::replay(&self.partition.log).await;
        let now_ms = shared.clock.now_ms();
        match loaded {
            Ok((machine, next_offset)) => {
                self.activate(machine, next_offset);
                // The first turn is the machine's own.
                let _ = self.turn(shared, |turn, _| turn.loaded());
                shared.rescheduled.notify_one();
            }
            Err(error) => {
                let index = self.partition.index;
                tracing::error!(partition = index, error = %error, "cannot load the groups of a partition");
                *self.state.lock() = State::Unloaded { not_before_ms: now_ms + RELOAD_PAUSE_MS };
            }
        }
    }

    fn activate(&self, machine: Machine, next_offset: i64) {
        let (parked, collected, replies) = Default::default();
        let active = Active { machine, parked, collected, next_offset, replies, writing: false };
        *self.state.lock() = State::Active(Box::new(active));
    }

    /// One turn of the machine and of the timers that are due after it.
    pub fn turn<T>(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        handle: impl FnOnce(&mut Turn<'_>, &mut Parked) -> T,
    ) -> Result<(T, Written), ErrorCode> {
        let mut state = self.state.lock();
        let State::Active(active) = &mut *state else {
            drop(state);
            return Err(self.not_active(shared));
        };
        let before_ms = active.machine.next_deadline_ms();
        let (sender, receiver) = oneshot::channel();
        let answer = match self.take_turns(active, shared, handle) {
            Ok(answer) => answer,
            Err(code) => {
                *state = State::Unloaded { not_before_ms: i64::MIN };
                return Err(code);
            }
        };
        active.replies.push_back((active.next_offset, Reply::Call(sender)));
        let after_ms = active.machine.next_deadline_ms();
        let moved = after_ms.is_some_and(|after_ms| before_ms.is_none_or(|before_ms| after_ms < before_ms));
        if !active.writing {
            self.write(&mut state, shared);
        }
        drop(state);
        if moved {
            shared.rescheduled.notify_one();
        }
        Ok((answer, Written(receiver)))
    }

    fn not_active(self: &Arc<Self>, shared: &Arc<Shared>) -> ErrorCode {
        if self.partition.is_deleted() {
            return ErrorCode::NotCoordinator;
        }
        if self.begin_load(shared).is_err() {
            return ErrorCode::CoordinatorLoadInProgress;
        }
        let (partition, shared) = (self.clone(), shared.clone());
        spawn_local(async move { partition.finish_load(&shared).await });
        ErrorCode::CoordinatorLoadInProgress
    }

    pub fn next_deadline_ms(&self) -> Option<i64> {
        match &*self.state.lock() {
            State::Active(active) => active.machine.next_deadline_ms(),
            _ => None,
        }
    }

    pub fn fire_timers(self: &Arc<Self>, shared: &Arc<Shared>) {
        if self.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= shared.clock.now_ms()) {
            // What they do is in the log, or will be found to be missing when it is loaded.
            let _ = self.turn(shared, |_, _| {});
        }
    }

    fn take_turns<T>(
        &self,
        active: &mut Active,
        shared: &Arc<Shared>,
        handle: impl FnOnce(&mut Turn<'_>, &mut Parked) -> T,
    ) -> Result<T, ErrorCode> {
        let image = shared.metadata.image();
        let view = View::new(&image);
        let now_ms = shared.clock.now_ms();
        let new_id = ottla_storage::checkpoint::random_uuid;
        let largest_bytes = self.partition.log.config().rules.max_message_bytes;
        let Active { machine, parked, .. } = active;
        let env = || Environment { now_ms, cluster: &view, settings: &shared.settings, new_id: &new_id };
        let (answer, effects) = machine.turn(env(), |turn| handle(turn, parked));
        active.take(effects, now_ms, largest_bytes)?;
        loop {
            let (fired, effects) = active.machine.turn(env(), |turn| turn.fire_timer());
            active.take(effects, now_ms, largest_bytes)?;
            if !fired {
                return Ok(answer);
            }
        }
    }

    /// Appends what is collected; if nothing has to be waited for, replies go out.
    fn write(self: &Arc<Self>, state: &mut State, shared: &Arc<Shared>) {
        let State::Active(active) = state else { return };
        let now_ms = shared.clock.now_ms();
        match self.append_collected(active, now_ms) {
            Ok(Some(end)) => {
                active.next_offset = end;
                active.writing = true;
                spawn_local(self.clone().finish_writes(shared.clone(), end));
            }
            Ok(None) => active.replies.drain(..).for_each(|(_, reply)| reply.send()),
            Err(error) => self.fail(state, &error, now_ms),
        }
    }

    /// Everybody who waits is told by their replies being dropped, and what is in the log is loaded again.
    fn fail(&self, state: &mut State, error: &dyn std::error::Error, now_ms: i64) {
        tracing::error!(partition = self.partition.index, error = %error, "cannot store groups");
        *state = State::Unloaded { not_before_ms: now_ms + RELOAD_PAUSE_MS };
    }

    /// The log's end after it, if there was anything.
    fn append_collected(&self, active: &mut Active, now_ms: i64) -> Result<Option<i64>, AppendError> {
        let mut end = None;
        while let Some(batch) = active.next_batch() {
            end = Some(self.append(&batch, now_ms)?);
        }
        Ok(end)
    }

    fn append(&self, batch: &Bytes, now_ms: i64) -> Result<i64, AppendError> {
        let header = BatchHeader::read(batch).expect("a batch that was just built");
        let valid = ValidBatch { header, bytes: (&**batch).into(), log_append_time: -1 };
        let appended = self.partition.log.append(&valid, self.partition.leader_epoch(), now_ms)?;
        Ok(appended.last_offset + 1)
    }

    /// While one batch is written the next is collected; it is appended when that one is done.
    async fn finish_writes(self: Arc<Self>, shared: Arc<Shared>, end: i64) {
        let written = self.partition.log.written(end).await;
        let now_ms = shared.clock.now_ms();
        let mut state = self.state.lock();
        let State::Active(active) = &mut *state else { return };
        match written {
            Err(error) => self.fail(&mut state, &error, now_ms),
            Ok(()) => {
                active.writing = false;
                while let Some((_, reply)) = active.replies.pop_front_if(|(offset, _)| *offset <= end) {
                    reply.send();
                }
                self.write(&mut state, &shared);
            }
        }
    }
}

impl Active {
    /// Applies records at once: those behind build on them, and if they cannot be written all is loaded again.
    fn take(&mut self, effects: Effects, timestamp_ms: i64, largest_bytes: usize) -> Result<(), ErrorCode> {
        let encoded: Vec<_> = effects.records.iter().map(|record| record.encode()).collect();
        let bytes = |(key, value): &(Bytes, Option<Bytes>)| key.len() + value.as_ref().map_or(0, Bytes::len);
        if encoded.iter().any(|record| bytes(record) > largest_bytes) {
            tracing::error!("a group's record is larger than max.message.bytes of the offsets topic");
            return Err(ErrorCode::UnknownServerError);
        }
        for (record, (key, value)) in effects.records.iter().zip(encoded) {
            self.machine.apply(record, Position { offset: self.next_offset, producer_id: None });
            self.next_offset += 1;
            self.collected.push_back(Encoded { key, value, timestamp_ms });
        }
        for (token, response) in effects.joins {
            if let Some(sender) = self.parked.joins.remove(&token) {
                self.replies.push_back((self.next_offset, Reply::Join(sender, response)));
            }
        }
        for (token, response) in effects.syncs {
            if let Some(sender) = self.parked.syncs.remove(&token) {
                self.replies.push_back((self.next_offset, Reply::Sync(sender, response)));
            }
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Option<Bytes> {
        self.collected.front()?;
        let mut batch = BatchBuilder::new(Compression::None);
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(Encoded { key, value, timestamp_ms }) = self.collected.pop_front()
        {
            bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            batch.record(timestamp_ms, Some(&key), value.as_deref(), &[]);
        }
        Some(batch.build(0, -1))
    }
}
