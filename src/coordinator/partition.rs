//! One partition of a coordinator's topic: its machine under a lock, what the log does not have yet, loading and what
//! follows when the disk refuses a write.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::outbox::Outbox;
use super::{Driven, Shared, load};
use crate::error::ErrorCode;
use crate::partition::Partition;

/// A disk that has just refused a write is left alone for so long.
const RELOAD_PAUSE_MS: i64 = 1000;

pub struct CoordinatorPartition<M> {
    partition: Arc<Partition>,
    state: Mutex<State<M>>,
}

enum State<M> {
    /// Nothing is known yet, or not any more since a write failed. Not tried again before this time.
    Unloaded {
        not_before_ms: i64,
    },
    Loading,
    Active(Box<Active<M>>),
}

struct Active<M> {
    machine: M,
    outbox: Outbox,
    /// A task waits for its turn or for a write, and will append what is collected.
    writing: bool,
}

/// When all that the machine has given out so far is written.
pub struct Written(Option<oneshot::Receiver<()>>);

impl Written {
    fn of(outbox: &mut Outbox) -> Written {
        if outbox.is_written() {
            return Written(None);
        }
        let (sender, receiver) = oneshot::channel();
        // Whoever waits may be gone.
        outbox.then(move || _ = sender.send(()));
        Written(Some(receiver))
    }

    pub async fn done(self) -> Result<(), ErrorCode> {
        match self.0 {
            Some(receiver) => receiver.await.map_err(|_| ErrorCode::NotCoordinator),
            None => Ok(()),
        }
    }
}

impl<M: Driven> CoordinatorPartition<M> {
    pub fn new(partition: Arc<Partition>) -> CoordinatorPartition<M> {
        CoordinatorPartition { partition, state: Mutex::new(State::Unloaded { not_before_ms: i64::MIN }) }
    }

    #[cfg(test)]
    pub fn log(&self) -> &Arc<ottla_storage::log::Log> {
        &self.partition.log
    }

    pub fn is_deleted(&self) -> bool {
        self.partition.is_deleted()
    }

    /// The coordinator's epoch: of several that lead the partition one after the other the last has the highest.
    pub fn epoch(&self) -> i32 {
        self.partition.leader_epoch()
    }

    /// Replays the log, unless that is done or under way.
    pub async fn load(self: &Arc<Self>, shared: &Arc<Shared<M>>) {
        if self.begin_load(shared).is_ok() {
            self.finish_load(shared).await;
        }
    }

    fn begin_load(&self, shared: &Arc<Shared<M>>) -> Result<(), ErrorCode> {
        let mut state = self.state.lock();
        match *state {
            State::Unloaded { not_before_ms } if not_before_ms <= shared.clock.now_ms() => {
                *state = State::Loading;
                Ok(())
            }
            _ => Err(ErrorCode::CoordinatorLoadInProgress),
        }
    }

    async fn finish_load(self: &Arc<Self>, shared: &Arc<Shared<M>>) {
        let loaded = load::replay(&self.partition.log).await;
        let now_ms = shared.clock.now_ms();
        match loaded {
            Ok((machine, next_offset)) => {
                let active = Active { machine, outbox: Outbox::new(next_offset), writing: false };
                *self.state.lock() = State::Active(Box::new(active));
                // The first turn is the machine's own.
                let _ = self.turn(shared, |machine, world, now_ms| ((), machine.loaded(world, now_ms)));
                shared.rescheduled.notify_one();
            }
            Err(error) => {
                let index = self.partition.index;
                tracing::error!(topic = M::TOPIC, partition = index, error = %error, "cannot load a coordinator");
                *self.state.lock() = State::Unloaded { not_before_ms: now_ms + RELOAD_PAUSE_MS };
            }
        }
    }

    /// One turn of the machine and of the timers that are due after it.
    pub fn turn<T>(
        self: &Arc<Self>,
        shared: &Arc<Shared<M>>,
        step: impl FnOnce(&mut M, &M::World, i64) -> (T, M::Effects),
    ) -> Result<(T, Written), ErrorCode> {
        let mut state = self.state.lock();
        let State::Active(active) = &mut *state else {
            drop(state);
            return Err(self.not_active(shared));
        };
        let before_ms = active.machine.next_deadline_ms();
        let answer = match self.take_turns(active, shared, step) {
            Ok(answer) => answer,
            Err(code) => {
                *state = State::Unloaded { not_before_ms: i64::MIN };
                return Err(code);
            }
        };
        let written = Written::of(&mut active.outbox);
        let after_ms = active.machine.next_deadline_ms();
        let moved = after_ms.is_some_and(|after_ms| before_ms.is_none_or(|before_ms| after_ms < before_ms));
        if active.outbox.has_collected() && !active.writing {
            active.writing = true;
            spawn_local(self.clone().write(shared.clone()));
        }
        drop(state);
        if moved {
            shared.rescheduled.notify_one();
        }
        Ok((answer, written))
    }

    fn not_active(self: &Arc<Self>, shared: &Arc<Shared<M>>) -> ErrorCode {
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

    /// The newest epoch that a producer has had here. None of an older one may be written.
    pub fn newest_epoch(&self, producer_id: i64) -> Option<i16> {
        let collected = match &*self.state.lock() {
            State::Active(active) => active.outbox.newest_epoch(producer_id),
            _ => None,
        };
        collected.max(self.partition.log.producer(producer_id).map(|producer| producer.epoch))
    }

    pub fn next_deadline_ms(&self) -> Option<i64> {
        match &*self.state.lock() {
            State::Active(active) => active.machine.next_deadline_ms(),
            _ => None,
        }
    }

    /// And sees to it that the log can be compacted.
    pub fn fire_timers(self: &Arc<Self>, shared: &Arc<Shared<M>>) {
        let now_ms = shared.clock.now_ms();
        self.partition.log.roll_if_mostly_dirty(now_ms);
        if self.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            // What they do is in the log, or will be found to be missing when it is loaded.
            let _ = self.turn(shared, |_, _, _| ((), M::Effects::default()));
        }
    }

    /// After an error the machine is of no more use.
    fn take_turns<T>(
        self: &Arc<Self>,
        active: &mut Active<M>,
        shared: &Arc<Shared<M>>,
        step: impl FnOnce(&mut M, &M::World, i64) -> (T, M::Effects),
    ) -> Result<T, ErrorCode> {
        let now_ms = shared.clock.now_ms();
        let Active { machine, outbox, .. } = active;
        outbox.begin(now_ms);
        let (answer, effects) = step(machine, &shared.world, now_ms);
        machine.take(effects, outbox, (shared, self));
        while let Some(effects) = machine.fire_timer(&shared.world, now_ms) {
            machine.take(effects, outbox, (shared, self));
        }
        match outbox.largest_record_bytes() {
            Some(bytes) if bytes > self.partition.log.config().rules.max_message_bytes => {
                tracing::error!("a coordinator's record is larger than max.message.bytes of its topic");
                Err(ErrorCode::UnknownServerError)
            }
            _ => Ok(answer),
        }
    }

    /// Everybody who waits is told by their replies being dropped, and what is in the log is loaded again.
    fn fail(&self, state: &mut State<M>, error: &dyn std::error::Error, now_ms: i64) {
        tracing::error!(topic = M::TOPIC, partition = self.partition.index, error = %error, "cannot store a coordinator");
        *state = State::Unloaded { not_before_ms: now_ms + RELOAD_PAUSE_MS };
    }

    /// Appends what is collected, and lets go what waits for it. It runs behind the tasks that are already runnable, so
    /// that what they give out goes along; and while one batch is written the next is collected.
    async fn write(self: Arc<Self>, shared: Arc<Shared<M>>) {
        while let Some(end) = self.append(&shared) {
            let written = self.partition.log.written(end).await;
            let mut state = self.state.lock();
            let State::Active(active) = &mut *state else { return };
            match written {
                Ok(()) => active.outbox.release(end),
                Err(error) => return self.fail(&mut state, &error, shared.clock.now_ms()),
            }
        }
    }

    /// None: there is nothing to append, or the disk refuses it.
    fn append(&self, shared: &Shared<M>) -> Option<i64> {
        let mut state = self.state.lock();
        let State::Active(active) = &mut *state else { return None };
        let now_ms = shared.clock.now_ms();
        match active.outbox.append_to(&self.partition, now_ms) {
            Ok(end) => {
                active.writing = end.is_some();
                end
            }
            Err(error) => {
                self.fail(&mut state, &error, now_ms);
                None
            }
        }
    }
}
