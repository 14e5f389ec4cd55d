//! What the coordinator has to do later if nothing happens until then: values, fired by whoever knows the time.

use std::collections::{BTreeSet, HashMap};

use super::records::Name;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A classic member has not been heard of.
    Heartbeat { group: Name, member: Name },
    /// The members of a classic group had their time to join.
    Join { group: Name },
    /// They had their time to sync.
    Sync { group: Name },
    /// A member of a consumer group has not been heard of.
    Session { group: Name, member: Name },
    /// It has not given partitions up in time.
    Revocation { group: Name, member: Name },
    /// Its classic member has not joined again in time.
    Rejoin { group: Name, member: Name },
    /// It has joined and not fetched its assignment.
    Resync { group: Name, member: Name },
    /// A consumer group's regular expressions are to be resolved.
    Regexes { group: Name },
    /// Expired offsets and groups are to be removed.
    Expiry,
}

#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(i64, Timer)>,
    deadlines: HashMap<Timer, i64>,
}

impl Timers {
    /// Replaces the deadline it had.
    pub fn set(&mut self, timer: Timer, deadline_ms: i64) {
        if let Some(old) = self.deadlines.insert(timer.clone(), deadline_ms) {
            self.queue.remove(&(old, timer.clone()));
        }
        self.queue.insert((deadline_ms, timer));
    }

    pub fn set_if_absent(&mut self, timer: Timer, deadline_ms: i64) {
        if !self.deadlines.contains_key(&timer) {
            self.set(timer, deadline_ms);
        }
    }

    pub fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, deadline)) = self.deadlines.remove_entry(timer) {
            self.queue.remove(&(deadline, timer));
        }
    }

    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// The first timer whose time has come; it is gone from here.
    pub fn take_due(&mut self, now_ms: i64) -> Option<Timer> {
        if self.next_deadline_ms()? > now_ms {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }
}
