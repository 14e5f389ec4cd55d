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
    /// Members have joined a consumer group, and no more have for a while.
    Gathered { group: Name },
    /// Expired offsets and groups are to be removed.
    Expiry,
}

/// Sorted by when they are looked at. That a timer is put off, as by every heartbeat, is only noted: it is sorted in
/// again when it is looked at.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(i64, Timer)>,
    deadlines: HashMap<Timer, Deadline>,
}

#[derive(Debug)]
struct Deadline {
    due_ms: i64,
    /// Where it stands in the queue, never later.
    queued_ms: i64,
}

impl Timers {
    /// Replaces the deadline it had.
    pub fn set(&mut self, timer: Timer, due_ms: i64) {
        match self.deadlines.get_mut(&timer) {
            Some(deadline) if due_ms >= deadline.queued_ms => deadline.due_ms = due_ms,
            _ => {
                self.cancel(&timer);
                self.queue(timer, due_ms);
            }
        }
    }

    pub fn set_if_absent(&mut self, timer: Timer, due_ms: i64) {
        if !self.deadlines.contains_key(&timer) {
            self.queue(timer, due_ms);
        }
    }

    fn queue(&mut self, timer: Timer, due_ms: i64) {
        self.deadlines.insert(timer.clone(), Deadline { due_ms, queued_ms: due_ms });
        self.queue.insert((due_ms, timer));
    }

    pub fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, deadline)) = self.deadlines.remove_entry(timer) {
            self.queue.remove(&(deadline.queued_ms, timer));
        }
    }

    /// Nothing is due before.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.queue.first().map(|(queued_ms, _)| *queued_ms)
    }

    /// The first timer whose time has come; it is gone from here.
    pub fn take_due(&mut self, now_ms: i64) -> Option<Timer> {
        while self.next_deadline_ms()? <= now_ms {
            let (queued_ms, timer) = self.queue.pop_first()?;
            match self.deadlines.remove(&timer) {
                Some(Deadline { due_ms, .. }) if due_ms > queued_ms => self.queue(timer, due_ms),
                _ => return Some(timer),
            }
        }
        None
    }
}
