//! How many workers serve connections: as few as can without haste. Connections that share a core share its caches, and
//! nobody has to be woken on another. What a worker has used of its core is measured while it works; nothing here wakes or
//! moves anybody: connections ask where they belong (see `worker`).

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::Clock;

/// What is measured is at least so long, so that a worker that has to catch up is not taken for a busy one.
const WINDOW: Duration = Duration::from_millis(100);
/// The clock is looked at after so many turns.
const TURNS_A_LOOK: u32 = 16;
/// The share of its core that makes a worker a busy one: twice as many are to serve. A single client that waits for each
/// answer makes up to 0.6, and would gain nothing.
const BUSY: f64 = 0.7;
/// Half as many are to serve when none of them would have used more than this, for some time.
const LIGHT: f64 = 0.4;
const LIGHT_FOR: Duration = Duration::from_secs(3);
/// A worker that has not been heard of for so long does nothing.
const SILENT_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Balance {
    workers: usize,
    serving: AtomicUsize,
    measured: Mutex<Measured>,
}

#[derive(Debug)]
struct Measured {
    /// Since when so many have served as do now. What began before says nothing about it.
    since: Instant,
    light_since: Option<Instant>,
    /// Of each worker the last window: the share of its core that it used, and when that was.
    shares: Vec<(f64, Instant)>,
}

/// What a worker has done for some time.
#[derive(Clone, Copy, Debug)]
struct Window {
    begun: Instant,
    ended: Instant,
    cpu: Duration,
}

impl Balance {
    pub fn new(workers: usize, now: Instant) -> Balance {
        let measured = Measured { since: now, light_since: None, shares: vec![(0.0, now); workers] };
        Balance { workers, serving: AtomicUsize::new(1), measured: Mutex::new(measured) }
    }

    /// The worker that serves the connections of a place.
    pub fn home(&self, place: usize) -> usize {
        place % self.serving.load(Ordering::Relaxed)
    }

    fn report(&self, worker: usize, Window { begun, ended, cpu }: Window) {
        let mut measured = self.measured.lock();
        if begun < measured.since {
            return;
        }
        let serving = self.serving.load(Ordering::Relaxed);
        let share = cpu.as_secs_f64() / (ended - begun).as_secs_f64();
        measured.shares[worker] = (share, ended);
        if share >= BUSY {
            measured.light_since = None;
            self.serve_with((2 * serving).min(self.workers), &mut measured, ended);
        } else if serving > 1 && measured.fits(serving.div_ceil(2), ended) {
            let light_since = *measured.light_since.get_or_insert(begun);
            if ended - light_since >= LIGHT_FOR {
                self.serve_with(serving.div_ceil(2), &mut measured, ended);
            }
        } else {
            measured.light_since = None;
        }
    }

    fn serve_with(&self, workers: usize, measured: &mut Measured, now: Instant) {
        if workers != self.serving.load(Ordering::Relaxed) {
            tracing::debug!(workers, "connections are served by another number of workers");
            self.serving.store(workers, Ordering::Relaxed);
            (measured.since, measured.light_since) = (now, None);
        }
    }

    #[cfg(test)]
    pub fn set_serving(&self, workers: usize) {
        self.serving.store(workers, Ordering::Relaxed);
    }
}

impl Measured {
    /// What the workers have used would leave so many of them time.
    fn fits(&self, workers: usize, now: Instant) -> bool {
        let mut together = vec![0.0; workers];
        for (worker, (share, ended)) in self.shares.iter().enumerate() {
            if now.saturating_duration_since(*ended) < SILENT_AFTER {
                together[worker % workers] += share;
            }
        }
        together.iter().all(|share| *share <= LIGHT)
    }
}

/// Measures the worker of this thread.
#[derive(Debug)]
pub struct Meter {
    worker: usize,
    turns: Cell<u32>,
    begun: Cell<(Instant, Duration)>,
}

impl Meter {
    pub fn new(worker: usize) -> Meter {
        Meter { worker, turns: Cell::new(0), begun: Cell::new((Clock.monotonic(), Clock.thread_cpu())) }
    }

    /// The worker has done something for a connection.
    pub fn count(&self, balance: &Balance) {
        let turns = self.turns.get() + 1;
        self.turns.set(turns % TURNS_A_LOOK);
        if turns < TURNS_A_LOOK {
            return;
        }
        let ((begun, cpu_before), ended) = (self.begun.get(), Clock.monotonic());
        if ended - begun >= WINDOW {
            let cpu = Clock.thread_cpu();
            self.begun.set((ended, cpu));
            balance.report(self.worker, Window { begun, ended, cpu: cpu.saturating_sub(cpu_before) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers at work from some moment on.
    struct Shift {
        balance: Balance,
        now: Instant,
    }

    impl Shift {
        fn new(workers: usize) -> Shift {
            let now = Instant::now();
            Shift { balance: Balance::new(workers, now), now }
        }

        /// So many windows in which each worker uses a share of its core; how many serve then.
        fn work(&mut self, windows: u32, shares: &[f64]) -> usize {
            for _ in 0..windows {
                let (begun, ended) = (self.now, self.now + WINDOW);
                for (worker, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
                    self.balance.report(worker, Window { begun, ended, cpu: WINDOW.mul_f64(*share) });
                }
                self.now = ended;
            }
            self.balance.serving.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn one_worker_serves_until_it_is_busy() {
        let mut shift = Shift::new(6);
        assert_eq!(shift.work(100, &[0.69]), 1);
        assert_eq!(shift.work(1, &[0.71]), 2);
        assert_eq!(shift.work(100, &[0.5, 0.5]), 2);
        assert_eq!(shift.work(1, &[0.5, 0.71]), 4);
        assert_eq!(shift.work(1, &[0.9, 0.9, 0.9, 0.9]), 6);
        assert_eq!(shift.work(100, &[0.9; 6]), 6);
    }

    #[test]
    fn half_of_the_workers_serve_when_that_would_have_been_enough_for_a_while() {
        let mut shift = Shift::new(2);
        shift.work(1, &[1.0]);
        assert_eq!(shift.work(29, &[0.2, 0.19]), 2);
        assert_eq!(shift.work(1, &[0.3, 0.19]), 2, "too much, and it counts from anew");
        assert_eq!(shift.work(29, &[0.2, 0.19]), 2);
        assert_eq!(shift.work(2, &[0.2, 0.19]), 1);
    }

    #[test]
    fn those_stay_apart_who_would_be_busy_together() {
        let mut shift = Shift::new(4);
        shift.work(2, &[1.0, 0.1]);
        assert_eq!(shift.work(100, &[0.1, 0.5, 0.0, 0.0]), 4);
        assert_eq!(shift.work(100, &[0.1, 0.3, 0.0, 0.2]), 4);
        assert_eq!(shift.work(40, &[0.1, 0.3, 0.2, 0.0]), 2);
    }

    #[test]
    fn what_a_worker_did_before_the_others_came_to_help_does_not_count() {
        let mut shift = Shift::new(4);
        let begun = shift.now;
        shift.work(1, &[1.0]);
        let ended = shift.now + WINDOW / 2;
        shift.balance.report(0, Window { begun, ended, cpu: ended - begun });
        assert_eq!(shift.balance.serving.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_has_fallen_silent_is_at_home_with_one_worker_after_a_window() {
        let mut shift = Shift::new(2);
        shift.work(1, &[1.0]);
        shift.work(1, &[0.5, 0.8]);
        let (begun, ended) = (shift.now, shift.now + Duration::from_secs(60));
        shift.balance.report(1, Window { begun, ended, cpu: WINDOW });
        assert_eq!(shift.balance.serving.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_place_has_one_home_and_homes_are_as_many_as_serve() {
        let balance = Balance::new(4, Instant::now());
        let homes = |serving| {
            balance.set_serving(serving);
            (0..4).map(|place| balance.home(place)).collect::<Vec<_>>()
        };
        assert_eq!((homes(1), homes(2), homes(4)), (vec![0; 4], vec![0, 1, 0, 1], vec![0, 1, 2, 3]));
    }

    #[test]
    fn a_busy_thread_is_measured_as_such() {
        let (balance, meter) = (Balance::new(2, Instant::now()), Meter::new(0));
        let begun = Instant::now();
        while balance.measured.lock().shares[0].0 == 0.0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "never measured");
            meter.count(&balance);
        }
        let share = balance.measured.lock().shares[0].0;
        assert!((0.001..1.1).contains(&share), "{share}");
    }
}
