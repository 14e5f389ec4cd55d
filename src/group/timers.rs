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

/// So far ahead timers that were put off are sorted in again, in a turn that comes anyway: otherwise each session of very
/// many would wake the broker by itself, for nothing.
const LOOK_AHEAD_MS: i64 = 250;

/// Sorted by when they are looked at. That a timer is put off is only noted, here or (for every heartbeat of a classic
/// member) where it is about: it is sorted in again when it is looked at, or shortly before.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(i64, Timer)>,
    deadlines: HashMap<Timer, Deadline>,
    /// Where the queue begins: every turn asks, and the queue itself is seldom in a processor's cache.
    first_ms: Option<i64>,
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
        self.note_first();
    }

    pub fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, deadline)) = self.deadlines.remove_entry(timer) {
            self.queue.remove(&(deadline.queued_ms, timer));
            self.note_first();
        }
    }

    fn note_first(&mut self) {
        self.first_ms = self.queue.first().map(|(queued_ms, _)| *queued_ms);
    }

    /// Nothing is due before.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.first_ms
    }

    /// Whether [`Timers::take_due`] has anything to do.
    pub fn are_near(&self, now_ms: i64) -> bool {
        self.first_ms.is_some_and(|first_ms| first_ms <= now_ms + LOOK_AHEAD_MS)
    }

    /// The first timer whose time has come; it is gone from here. `put_off_to` knows when those are due whose being put
    /// off is not noted here.
    pub fn take_due(&mut self, now_ms: i64, put_off_to: impl Fn(&Timer) -> Option<i64>) -> Option<Timer> {
        while self.are_near(now_ms) {
            let (queued_ms, timer) = self.queue.first()?;
            let due_ms = put_off_to(timer).unwrap_or_else(|| self.deadlines[timer].due_ms);
            let put_off = due_ms > *queued_ms;
            if !put_off && *queued_ms > now_ms {
                return None;
            }
            let timer = timer.clone();
            self.cancel(&timer);
            if !put_off {
                return Some(timer);
            }
            self.queue(timer, due_ms);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(member: &str) -> Timer {
        Timer::Session { group: "g".into(), member: member.into() }
    }

    fn take_due(timers: &mut Timers, now_ms: i64) -> Option<Timer> {
        timers.take_due(now_ms, |_| None)
    }

    #[test]
    fn a_timer_fires_when_it_is_due_and_not_when_it_was_before_it_was_put_off() {
        let mut timers = Timers::default();
        timers.set(session("a"), 1000);
        timers.set(session("b"), 1100);
        timers.set(session("a"), 2000);
        assert_eq!(take_due(&mut timers, 999), None);
        assert_eq!(take_due(&mut timers, 1099), None);
        assert_eq!(take_due(&mut timers, 1100), Some(session("b")));
        assert_eq!((take_due(&mut timers, 1999), take_due(&mut timers, 2000)), (None, Some(session("a"))));
        assert_eq!((take_due(&mut timers, i64::MAX / 2), timers.next_deadline_ms()), (None, None));
    }

    #[test]
    fn what_was_put_off_wakes_nobody_if_there_is_a_turn_shortly_before() {
        let mut timers = Timers::default();
        timers.set(session("a"), 1000);
        timers.set(session("b"), 1001);
        timers.set(session("a"), 5000);
        timers.set(session("b"), 5001);
        assert_eq!((take_due(&mut timers, 1000 - LOOK_AHEAD_MS - 1), timers.next_deadline_ms()), (None, Some(1000)));
        assert_eq!((take_due(&mut timers, 1001 - LOOK_AHEAD_MS), timers.next_deadline_ms()), (None, Some(5000)));
    }
}
