//! The machine: hard and soft state, and one turn at a time in which a request or a timer changes the soft state and
//! gives out records and replies.

use std::borrow::Cow;
use std::collections::HashMap;

use uuid::Uuid;

use super::classic::ClassicGroup;
use super::consumer::group::{ConsumerGroup, GroupState};
use super::consumer::{TopicHashes, Watch};
use super::hard::{Group, Hard, Position};
use super::records::{Name, Record};
use super::timers::{Timer, Timers};
use super::{Cluster, Effects, Result, Settings};
use crate::error::{ApiError, ErrorCode};

/// What a restart forgets.
#[derive(Debug, Default)]
pub struct Soft {
    /// Classic groups with members or pending ones; the others are as their record says. Boxed, so that of very many the
    /// map itself stays in a processor's cache.
    pub(super) classic: HashMap<Name, Box<ClassicGroup>>,
    pub(super) consumer: HashMap<Name, Watch>,
    pub(super) topic_hashes: TopicHashes,
    pub(super) timers: Timers,
}

#[derive(Debug, Default)]
pub struct Machine {
    hard: Hard,
    soft: Soft,
}

/// What one turn may look at besides the machine.
pub struct Environment<'a> {
    pub now_ms: i64,
    pub cluster: &'a dyn Cluster,
    pub settings: &'a Settings,
    pub new_id: &'a dyn Fn() -> Uuid,
}

/// One request or timer being handled. The hard state can only be read.
pub struct Turn<'a> {
    pub(super) now_ms: i64,
    pub(super) cluster: &'a dyn Cluster,
    pub(super) settings: &'a Settings,
    pub(super) new_id: &'a dyn Fn() -> Uuid,
    pub(super) hard: &'a Hard,
    pub(super) soft: &'a mut Soft,
    pub(super) out: Effects,
}

/// A group of either protocol, to be looked at.
pub(super) enum View<'a> {
    Classic(Box<Cow<'a, ClassicGroup>>),
    Consumer(&'a ConsumerGroup),
}

impl View<'_> {
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            View::Classic(group) => group.is_subscribed_to(topic),
            View::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            View::Classic(group) => group.is_empty(),
            View::Consumer(group) => group.state() == GroupState::Empty,
        }
    }
}

pub(super) fn group_not_found<T>(group: &str) -> Result<T> {
    Err(ApiError::new(ErrorCode::GroupIdNotFound, format!("Group {group} not found.")))
}

/// A classic group as it is in the soft state, or else as its record says.
pub(super) fn classic<'a>(
    hard: &Hard,
    soft: &'a HashMap<Name, Box<ClassicGroup>>,
    group: &str,
) -> Option<Cow<'a, ClassicGroup>> {
    if let Some(group) = soft.get(group) {
        return Some(Cow::Borrowed(group));
    }
    match hard.groups.get_key_value(group)? {
        (id, Group::Classic(record)) => Some(Cow::Owned(ClassicGroup::from_record(id, record))),
        (_, Group::Consumer(_)) => None,
    }
}

impl Machine {
    pub fn hard(&self) -> &Hard {
        &self.hard
    }

    /// What `handle` gives out is to be appended, and then to be applied.
    pub fn turn<T>(&mut self, env: Environment<'_>, handle: impl FnOnce(&mut Turn<'_>) -> T) -> (T, Effects) {
        let Environment { now_ms, cluster, settings, new_id } = env;
        let (hard, soft, out) = (&self.hard, &mut self.soft, Effects::default());
        let mut turn = Turn { now_ms, cluster, settings, new_id, hard, soft, out };
        let answer = handle(&mut turn);
        (answer, turn.out)
    }

    /// A record that is in the log.
    pub fn apply(&mut self, record: Record, position: Position) {
        self.hard.apply(record, position);
    }

    /// A transaction marker that is in the log.
    pub fn end_transaction(&mut self, producer_id: i64, committed: bool) {
        self.hard.offsets.end_transaction(producer_id, committed);
    }

    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.soft.timers.next_deadline_ms()
    }

    /// If not, [`Turn::fire_timer`] has nothing to do.
    pub fn has_near_timers(&self, now_ms: i64) -> bool {
        self.soft.timers.are_near(now_ms)
    }
}

impl<'a> Turn<'a> {
    /// Once, when the log has been replayed: members have their session from now on.
    pub fn loaded(&mut self) {
        let hard = self.hard;
        for (id, group) in &hard.groups {
            match group {
                Group::Classic(record) if !record.members.is_empty() => self.load_classic(id),
                Group::Classic(_) => {}
                Group::Consumer(group) => self.load_consumer_group(id, group),
            }
        }
        self.sweep_deleted_topics();
        self.soft.timers.set(Timer::Expiry, self.now_ms + self.settings.offsets_retention_check_interval_ms);
    }

    /// One timer whose time has come; false if there is none. Its records must be applied before the next.
    pub fn fire_timer(&mut self) -> bool {
        let Soft { classic, timers, .. } = &mut *self.soft;
        let put_off_to = |timer: &Timer| match timer {
            Timer::Heartbeat { group, member } => classic.get(group)?.members.get(member)?.session_ends_ms,
            _ => None,
        };
        let Some(timer) = timers.take_due(self.now_ms, put_off_to) else { return false };
        match timer {
            Timer::Heartbeat { group, member } => self.heartbeat_expired(&group, &member),
            Timer::Join { group } => self.join_expired(&group),
            Timer::Sync { group } => self.sync_expired(&group),
            Timer::Session { group, member } => self.fence_expired(&group, &member, "session"),
            Timer::Revocation { group, member } => self.revocation_expired(&group, &member),
            Timer::Rejoin { group, member } => self.fence_expired(&group, &member, "rejoin"),
            Timer::Resync { group, member } => self.fence_expired(&group, &member, "sync"),
            Timer::Regexes { group } => self.resolve_regexes(&group),
            Timer::Gathered { group } => self.make_target(&group),
            Timer::Expiry => self.expire_offsets(),
        }
        true
    }

    pub(super) fn view(&self, group: &str) -> Option<View<'_>> {
        match classic(self.hard, &self.soft.classic, group) {
            Some(group) => Some(View::Classic(Box::new(group))),
            None => self.hard.consumer(group).map(View::Consumer),
        }
    }

    /// Takes a classic group out of the soft state (or its record), to be changed and put back.
    pub(super) fn take_classic(&mut self, group: &str) -> Option<Box<ClassicGroup>> {
        match self.soft.classic.remove(group) {
            Some(group) => Some(group),
            None => classic(self.hard, &HashMap::new(), group).map(|group| Box::new(group.into_owned())),
        }
    }

    /// Nobody is in it, or on the way: its record says all there is to say.
    pub(super) fn put_classic(&mut self, group: Box<ClassicGroup>) {
        if !group.is_empty() || group.has_pending_members() {
            self.soft.classic.insert(group.id.clone(), group);
        }
    }

    pub fn delete_group(&mut self, group: &str) -> Result<()> {
        let id = Name::from(group);
        match self.view(group) {
            None => return group_not_found(group),
            Some(view) if !view.is_empty() => return super::fail(ErrorCode::NonEmptyGroup),
            Some(_) => {}
        }
        self.delete_all_offsets(&id);
        self.bury(&id);
        Ok(())
    }

    pub(super) fn delete_if_empty(&mut self, group: &Name) {
        let awaited = self.soft.classic.contains_key(group);
        if !awaited && self.view(group).is_some_and(|view| view.is_empty()) {
            self.bury(group);
        }
    }

    /// An empty group's tombstones.
    pub(super) fn bury(&mut self, group: &Name) {
        match self.hard.consumer(group) {
            Some(consumer) => self.out.records.extend(consumer.tombstones(group)),
            None => self.out.records.push(Record::Group { group: group.clone(), value: None }),
        }
        self.soft.consumer.remove(group);
        if let Some(mut classic) = self.soft.classic.remove(group) {
            self.forget_pending(&mut classic);
        }
    }
}
