//! Work in the background on threads of its own, beside the runtimes: the compaction of logs. What is compacted and how is
//! decided in the storage crate.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ottla_storage::compaction::{OffsetMap, Throttle, clean_dirtiest};
use ottla_storage::log::LogManager;
use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::config::LogCleaner;

/// log.cleaner.threads of them. Dropped without [`CleanerThreads::stop`] they go on.
pub struct CleanerThreads {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Breaks at once when everything is to stop.
    fn wait(&self, how_long: Duration) -> ControlFlow<()> {
        let mut asked = self.asked.lock();
        if !*asked && !how_long.is_zero() {
            self.changed.wait_while_for(&mut asked, |asked| !*asked, how_long);
        }
        if *asked { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl CleanerThreads {
    pub fn start(settings: &LogCleaner, logs: &Arc<LogManager>, clock: Clock) -> CleanerThreads {
        let stop = Arc::new(Stop::default());
        let throttle = Arc::new(Mutex::new(Throttle::new(settings.io_max_bytes_per_second)));
        let start = |index| {
            let cleaner = Cleaner {
                logs: logs.clone(),
                clock,
                stop: stop.clone(),
                throttle: throttle.clone(),
                map: OffsetMap::new(settings.dedupe_buffer_bytes / settings.threads, settings.io_buffer_load_factor),
                backoff: Duration::from_millis(settings.backoff_ms),
            };
            let builder = thread::Builder::new().name(format!("ottla-cleaner-{index}"));
            builder.spawn(|| cleaner.run()).expect("a thread")
        };
        let count = if settings.enable { settings.threads } else { 0 };
        let threads = (0..count).map(start).collect();
        CleanerThreads { stop, threads }
    }

    /// What is half compacted is left as it was.
    pub async fn stop(self) {
        *self.stop.asked.lock() = true;
        self.stop.changed.notify_all();
        let join = || self.threads.into_iter().for_each(|thread| drop(thread.join()));
        let _ = tokio::task::spawn_blocking(join).await;
    }
}

struct Cleaner {
    logs: Arc<LogManager>,
    clock: Clock,
    stop: Arc<Stop>,
    throttle: Arc<Mutex<Throttle>>,
    map: OffsetMap,
    backoff: Duration,
}

impl Cleaner {
    fn run(self) {
        let Cleaner { logs, clock, stop, throttle, mut map, backoff } = self;
        let mut pace = |bytes| {
            let wait = throttle.lock().spend(bytes, clock.monotonic());
            stop.wait(wait)
        };
        // Not at once: a start has better things to do.
        while stop.wait(backoff).is_continue() {
            while let Ok(true) = clean_dirtiest(&logs, &mut map, clock.now_ms(), &mut pace) {}
        }
    }
}
