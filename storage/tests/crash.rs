//! The storage engine on a simulated disk: random work on several logs, faults, crashes at any operation, and after each
//! one a comparison with a model. One seed is one run, byte for byte.
//!
//! `OTTLA_CRASH_SEED=n cargo test -p ottla-storage --test crash` repeats one run and says what it does;
//! `OTTLA_CRASH_RUNS` and `OTTLA_CRASH_FROM` choose how many there are, and the first seed.

use std::cell::RefCell;
use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_storage::batch::BatchHeader;
use ottla_storage::checkpoint::{MetaProperties, write_meta_properties};
use ottla_storage::compaction::{OffsetMap, clean};
use ottla_storage::io::sim::{Crash, Faults, Rng, SimDisk};
use ottla_storage::io::{Backend, Io, install_ring};
use ottla_storage::log::{AppendError, Log, LogConfig, LogManager, LogManagerOptions};
use ottla_storage::validate::ValidBatch;
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use self::model::{Batch, End, LogModel, Producer, build};

#[path = "crash/compacted.rs"]
mod compacted;
#[path = "crash/model.rs"]
mod model;
#[path = "crash/transactions.rs"]
mod transactions;

/// Err with what is wrong, unless it holds.
macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}
use ensure;

const START_MS: i64 = 1_700_000_000_000;
const DIR: &str = "/data";
const LOGS: u64 = 3;
/// So many that are idempotent, and then as many transactional ones.
const PRODUCERS: u64 = 3;
const FIRST_PRODUCER: i64 = 100;
const RUNS: u64 = 20_000;
/// So often is everybody else let run before something counts as hanging.
const PATIENCE: usize = 20_000;

/// What one run does all its life, by its seed.
struct Setup {
    backend: Backend,
    config: LogConfig,
    tail_bytes: usize,
    largest_value: u64,
    /// So many keys there are.
    keys: u64,
    faults: Faults,
    /// Faults that errors are no surprise with.
    refuses: bool,
}

impl Setup {
    fn new(rng: &mut Rng, planted: &Faults) -> Setup {
        let (large, compact) = (rng.one_in(6), rng.one_in(3));
        let config = LogConfig {
            segment_bytes: if large { 300_000 } else { [4_000, 12_000, 40_000][rng.below(3) as usize] },
            index_interval_bytes: [0, 500, 4096][rng.below(3) as usize],
            segment_ms: if rng.coin() { 60_000 } else { i64::MAX },
            retention_bytes: if rng.coin() { 60_000 } else { -1 },
            retention_ms: if rng.coin() { 600_000 } else { -1 },
            file_delete_delay_ms: 60_000,
            flush_messages: [1, 5, i64::MAX][rng.below(3) as usize],
            flush_ms: if rng.coin() { 10_000 } else { i64::MAX },
            preallocate: rng.one_in(4),
            compact,
            delete: !compact || rng.coin(),
            delete_retention_ms: 1_000,
            ..LogConfig::default()
        };
        let mut faults = Faults { short_writes_one_in: 10, ..planted.clone() };
        let refuses = rng.one_in(5);
        if refuses {
            faults.failed_writes_one_in = [0, 200][rng.below(2) as usize];
            faults.failed_syncs_one_in = [0, 40][rng.below(2) as usize];
        }
        Setup {
            backend: if rng.coin() { Backend::Uring } else { Backend::Plain },
            config,
            tail_bytes: if rng.coin() { 32 << 10 } else { 1 << 20 },
            largest_value: if large { 60_000 } else { 1_500 },
            keys: if compact { 6 } else { u64::MAX },
            faults,
            refuses,
        }
    }
}

struct Run {
    seed: u64,
    rng: Rng,
    setup: Setup,
    disk: SimDisk,
    now_ms: i64,
    epoch: i32,
    appended: u64,
    /// By topic; None: not created, or created by a life that did not see the end of it.
    models: Vec<Option<Rc<RefCell<LogModel>>>>,
    /// Topics whose deletion did not come to an end: they may be there or not.
    half_deleted: Vec<usize>,
    end: End,
    says: bool,
}

/// One process, from its start to its end.
struct Life {
    manager: Arc<LogManager>,
    logs: Vec<Option<Arc<Log>>>,
    waiting: Vec<JoinHandle<()>>,
    was_full: bool,
}

fn topic(i: usize) -> String {
    format!("t{i}")
}

impl Run {
    fn new(seed: u64, planted: &Faults, says: bool) -> Run {
        let mut rng = Rng::new(seed);
        let setup = Setup::new(&mut rng, planted);
        let disk = SimDisk::new(rng.number());
        let io = Io::simulated(&disk, setup.backend);
        io.create_dir_all(Path::new(DIR)).expect("a healthy disk");
        let directory_id = uuid::Uuid::from_u128(7);
        let meta = MetaProperties { cluster_id: "sim".into(), node_id: 1, directory_id };
        write_meta_properties(&io, Path::new(DIR), &meta).expect("a healthy disk");
        io.sync_dir(Path::new("/")).expect("a healthy disk");
        let models = (0..LOGS).map(|_| None).collect();
        Run {
            seed,
            rng,
            setup,
            disk,
            now_ms: START_MS,
            epoch: 0,
            appended: 0,
            models,
            half_deleted: Vec::new(),
            end: End::Clean,
            says,
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.says {
            eprintln!("{:>6} {}", self.disk.operations(), what());
        }
    }

    /// Several lives, each of which checks what the one before has left. Returns the trace of all operations.
    fn all(mut self) -> Result<u64, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for _ in 0..self.rng.between(2, 5) {
            // Some crash while they start, some at work, some not by themselves.
            let crash_after = [10, 100, 400, 100_000][self.rng.below(4) as usize];
            let crash_after = self.rng.below(crash_after);
            self.disk.crash_after(crash_after);
            self.disk.set_faults(self.setup.faults.clone());
            let planned = match self.rng.below(3) {
                0 => End::Clean,
                1 => End::Kill,
                _ => End::PowerLoss,
            };
            let ended = LocalSet::new().block_on(&runtime, async {
                let io = Io::simulated(&self.disk, self.setup.backend);
                let _ring = install_ring(&io).expect("a simulated ring");
                self.live(io, planned).await
            })?;
            self.end = ended;
            let crash = match ended {
                End::PowerLoss => Crash::PowerLoss,
                End::Kill => Crash::Kill,
                End::Clean if self.rng.coin() => Crash::PowerLoss,
                End::Clean => Crash::Kill,
            };
            self.say(|| format!("=== {ended:?}, {crash:?}"));
            self.disk = self.disk.restart(crash);
        }
        self.disk.set_faults(Faults::default());
        let last = LocalSet::new().block_on(&runtime, async {
            let io = Io::simulated(&self.disk, self.setup.backend);
            let _ring = install_ring(&io).expect("a simulated ring");
            self.open(io).await
        });
        last.and_then(|opened| opened.map(drop).ok_or("cannot be opened".to_string()))?;
        Ok(self.disk.trace())
    }

    /// A crash may come at any time; whatever fails after it is no surprise.
    async fn live(&mut self, io: Io, planned: End) -> Result<End, String> {
        let crashed = if planned == End::PowerLoss || self.setup.faults.failed_syncs_one_in > 0 {
            End::PowerLoss
        } else {
            End::Kill
        };
        let Some(mut life) = self.open(io).await? else {
            // Nobody has looked at what the life before has left.
            return Ok(if self.end == End::PowerLoss { End::PowerLoss } else { crashed });
        };
        for _ in 0..self.rng.between(3, 40) {
            self.act(&mut life).await?;
            if self.disk.has_crashed() {
                break;
            }
        }
        if planned == End::Clean && !self.disk.has_crashed() {
            self.say(|| "close".to_string());
            self.disk.set_full(false);
            self.tick(&mut life).await?;
            self.all_waiters(&mut life).await?;
            let manager = life.manager.clone();
            let closed = patiently(async move { manager.close(1).await }).await?;
            if closed.is_ok() {
                for model in self.models.iter().flatten() {
                    let mut model = model.borrow_mut();
                    (model.acked, model.durable) = (model.end(), model.end());
                }
                return Ok(End::Clean);
            }
            ensure!(self.may_fail(&life), "a clean stop failed: {closed:?}");
        }
        self.disk.crash_now();
        self.all_waiters(&mut life).await?;
        Ok(crashed)
    }

    fn may_fail(&self, life: &Life) -> bool {
        self.disk.has_crashed() || self.setup.refuses || life.was_full
    }

    /// Opens all logs and compares them; None if the disk crashed or refused meanwhile.
    async fn open(&mut self, io: Io) -> Result<Option<Life>, String> {
        let options = LogManagerOptions {
            dirs: vec![PathBuf::from(DIR)],
            node_id: 1,
            cluster_id: None,
            defaults: self.setup.config.clone(),
            tail_bytes: self.setup.tail_bytes,
            producer_id_expiration_ms: i64::MAX,
            recovery_threads: 2,
            retention_check_interval_ms: 1_000,
            now_ms: self.now_ms,
            io: Some(io),
        };
        let opened = LogManager::open(options);
        let manager = match opened {
            Ok(manager) => manager,
            Err(_) if self.disk.has_crashed() || self.setup.refuses => return Ok(None),
            Err(error) => return Err(format!("the directory cannot be opened: {error}")),
        };
        while let Some(&i) = self.half_deleted.last() {
            if manager.delete(&topic(i), 0, self.now_ms).is_err() {
                return Ok(None);
            }
            self.half_deleted.pop();
        }
        let mut logs = Vec::new();
        for i in 0..self.models.len() {
            let log = manager.get(&topic(i), 0);
            if let Some(model) = &self.models[i] {
                let Some(log) = &log else { return Err(format!("{} is gone", topic(i))) };
                let mut checked = model.borrow().clone();
                let (start, end) = (log.log_start_offset(), log.log_end_offset());
                self.say(|| format!("{} opened: {start} to {end}", topic(i)));
                let result = checked.check_reopened(log, self.end, &mut self.rng).await;
                if self.disk.has_crashed() {
                    return Ok(None);
                }
                result.map_err(|what| format!("{}: {what}", topic(i)))?;
                *model.borrow_mut() = checked;
            } else if let Some(log) = &log {
                // Its creation was cut off, and it is here all the same.
                ensure!(log.log_end_offset() == 0, "{} has content that was never appended", topic(i));
                self.models[i] = Some(Rc::default());
            }
            logs.push(log);
        }
        Ok(Some(Life { manager, logs, waiting: Vec::new(), was_full: false }))
    }

    async fn act(&mut self, life: &mut Life) -> Result<(), String> {
        let i = self.rng.below(LOGS) as usize;
        let Some(log) = life.logs[i].clone() else { return self.create(life, i) };
        let model = self.models[i].clone().expect("there is one for each log");
        match self.rng.below(34) {
            0..16 => self.append(life, i, &log, &model)?,
            16 | 17 => self.append_again(&log, &model)?,
            18 | 19 => self.all_waiters(life).await?,
            20 if self.setup.config.compact => self.clean(life, i, &log, &model).await?,
            21 | 22 => self.flush(life, i, &log, &model).await?,
            23 | 24 => {
                let checked = model.borrow().clone();
                let from = checked.start.max(log.log_start_offset());
                let result = checked.check_content(&log, from).await;
                let result = result.and(checked.check_read_at_random(&log, &mut self.rng).await);
                ensure!(result.is_ok() || self.may_fail(life), "{}: {}", topic(i), result.unwrap_err());
            }
            25 | 26 => {
                let offset = self.rng.below(log.high_watermark() as u64 + 1) as i64;
                self.say(|| format!("{} delete records below {offset}", topic(i)));
                let start = log.delete_records(offset);
                let mut model = model.borrow_mut();
                model.start = model.start.max(start);
            }
            27 | 28 => {
                self.now_ms += self.rng.below(200_000) as i64;
                self.tick(life).await?;
            }
            29 => self.epoch += 1,
            30 if self.rng.one_in(4) => self.delete(life, i)?,
            32 | 33 => self.end_transaction(life, i, &log, &model)?,
            31 if self.rng.one_in(3) => {
                let full = self.rng.coin();
                life.was_full |= full;
                self.say(|| format!("full: {full}"));
                self.disk.set_full(full);
            }
            _ => {
                for _ in 0..self.rng.below(20) {
                    yield_now().await;
                }
            }
        }
        Ok(())
    }

    fn create(&mut self, life: &mut Life, i: usize) -> Result<(), String> {
        let id = Some(uuid::Uuid::from_u128(u128::from(self.rng.number()) + 1));
        let created = life.manager.create(&topic(i), 0, id, self.setup.config.clone(), self.now_ms);
        self.say(|| format!("{} created: {}", topic(i), created.is_ok()));
        match created {
            Ok(log) => {
                life.logs[i] = Some(log);
                self.models[i] = Some(Rc::default());
            }
            Err(error) => ensure!(self.may_fail(life), "{} cannot be created: {error}", topic(i)),
        }
        Ok(())
    }

    fn delete(&mut self, life: &mut Life, i: usize) -> Result<(), String> {
        let deleted = life.manager.delete(&topic(i), 0, self.now_ms);
        self.say(|| format!("{} deleted: {}", topic(i), deleted.is_ok()));
        (life.logs[i], self.models[i]) = (None, None);
        if deleted.is_err() {
            ensure!(self.may_fail(life), "{} cannot be deleted: {deleted:?}", topic(i));
            self.half_deleted.push(i);
            self.disk.crash_now();
        }
        Ok(())
    }

    fn append(
        &mut self,
        life: &mut Life,
        i: usize,
        log: &Arc<Log>,
        model: &Rc<RefCell<LogModel>>,
    ) -> Result<(), String> {
        let producer = self.rng.coin().then(|| {
            let id = FIRST_PRODUCER + self.rng.below(2 * PRODUCERS) as i64;
            let sequence = model.borrow().last_of(id).map_or(0, |b| b.header.last_sequence() + 1);
            Producer { id, sequence, transactional: id >= FIRST_PRODUCER + PRODUCERS as i64 }
        });
        let sizes: Vec<usize> = (0..self.rng.between(1, 4))
            .map(|_| {
                let largest = if self.rng.one_in(4) { self.setup.largest_value } else { 100 };
                self.rng.below(largest) as usize
            })
            .collect();
        let sizes = if sizes.iter().sum::<usize>() > 100_000 { &sizes[..1] } else { &sizes };
        self.appended += 1;
        self.now_ms += self.rng.below(1_000) as i64;
        let sent = build(producer, self.now_ms, sizes, self.appended, self.setup.keys);
        if sent.len() > self.setup.config.segment_bytes as usize {
            return Ok(());
        }
        let header = BatchHeader::read(&sent).expect("as it was built");
        let batch = ValidBatch { header, bytes: sent.clone(), log_append_time: -1 };
        let end = model.borrow().end();
        let appended = match log.append(&batch, self.epoch, self.now_ms) {
            Ok(appended) => appended,
            Err(AppendError::Storage(error)) => {
                ensure!(self.may_fail(life), "{}: refused: {error}", topic(i));
                return Ok(());
            }
            Err(error) => return Err(format!("{}: refused: {error}", topic(i))),
        };
        self.say(|| format!("{} append {} bytes at {end}", topic(i), sent.len()));
        ensure!(appended.base_offset == end && !appended.duplicate, "{}: {appended:?}, expected {end}", topic(i));
        self.note_appended(life, log, model, &sent);
        Ok(())
    }

    /// `sent` is the log's last batch now; somebody waits until it is written.
    fn note_appended(&self, life: &mut Life, log: &Arc<Log>, model: &Rc<RefCell<LogModel>>, sent: &[u8]) {
        let end = model.borrow().end();
        let mut bytes = sent.to_vec();
        let header = BatchHeader::read(&bytes).expect("as it was built");
        bytes[..16].copy_from_slice(&header.assigned_prefix(end, self.epoch));
        let header = BatchHeader::read(&bytes).expect("as it was built");
        model.borrow_mut().batches.push(Batch { header, bytes: bytes.into() });
        let (log, model, every_one_is_synced) = (log.clone(), model.clone(), self.setup.config.flush_messages == 1);
        life.waiting.push(spawn_local(async move {
            let next = header.next_offset();
            if log.written(next).await.is_ok() {
                let mut model = model.borrow_mut();
                model.acked = model.acked.max(next);
                if every_one_is_synced {
                    model.durable = model.durable.max(next);
                }
            }
        }));
    }

    /// A producer that saw no answer sends its last batch again.
    fn append_again(&mut self, log: &Arc<Log>, model: &Rc<RefCell<LogModel>>) -> Result<(), String> {
        let model = model.borrow();
        let id = FIRST_PRODUCER + self.rng.below(PRODUCERS) as i64;
        let Some(last) = model.last_of(id).filter(|last| last.base() >= model.start) else { return Ok(()) };
        let batch = ValidBatch { header: last.header, bytes: last.bytes.clone(), log_append_time: -1 };
        match log.append(&batch, self.epoch, self.now_ms) {
            Ok(again) => {
                let same = again.duplicate && again.base_offset == last.base();
                ensure!(same, "a duplicate of {} was taken for {again:?}", last.base());
            }
            Err(AppendError::Storage(_)) => {}
            Err(error) => return Err(format!("a duplicate was refused: {error}")),
        }
        Ok(())
    }

    async fn flush(
        &mut self,
        life: &Life,
        i: usize,
        log: &Arc<Log>,
        model: &Rc<RefCell<LogModel>>,
    ) -> Result<(), String> {
        let (end, flushing) = (log.high_watermark(), log.clone());
        let flushed = patiently(async move { flushing.flush().await }).await?;
        self.say(|| format!("{} flushed up to {end}: {}", topic(i), flushed.is_ok()));
        match flushed {
            Ok(()) => {
                let mut model = model.borrow_mut();
                model.durable = model.durable.max(end);
            }
            Err(error) => ensure!(self.may_fail(life), "{}: not flushed: {error}", topic(i)),
        }
        Ok(())
    }

    async fn clean(
        &mut self,
        life: &Life,
        i: usize,
        log: &Arc<Log>,
        model: &Rc<RefCell<LogModel>>,
    ) -> Result<(), String> {
        let mut map = OffsetMap::new(64 << 10, 0.9);
        let cleaned = clean(log, &mut map, self.now_ms, &mut |_| ControlFlow::Continue(()));
        self.say(|| format!("{} cleaned: {cleaned:?}", topic(i)));
        let to = match &cleaned {
            Ok(cleaned) => cleaned.map_or(0, |cleaned| cleaned.to_offset),
            // It may have come so far.
            Err(_) => log.high_watermark(),
        };
        model.borrow_mut().note_cleaned(to);
        let checked = model.borrow().clone();
        let result = match cleaned {
            Ok(_) => checked.check_content(log, checked.start.max(log.log_start_offset())).await,
            Err(error) => Err(error.to_string()),
        };
        ensure!(result.is_ok() || self.may_fail(life), "{} cleaned: {}", topic(i), result.unwrap_err());
        Ok(())
    }

    async fn tick(&mut self, life: &mut Life) -> Result<(), String> {
        let (manager, now_ms) = (life.manager.clone(), self.now_ms);
        self.say(|| format!("tick at {}", now_ms - START_MS));
        patiently(async move { manager.tick(now_ms).await }).await?;
        for (log, model) in life.logs.iter().zip(&self.models) {
            if let (Some(log), Some(model)) = (log, model) {
                let mut model = model.borrow_mut();
                model.start = model.start.max(log.log_start_offset());
            }
        }
        Ok(())
    }

    async fn all_waiters(&mut self, life: &mut Life) -> Result<(), String> {
        for waiting in std::mem::take(&mut life.waiting) {
            patiently(waiting).await?.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// Awaits `future`, but not for ever.
async fn patiently<T: 'static>(future: impl Future<Output = T> + 'static) -> Result<T, String> {
    let task = spawn_local(future);
    for _ in 0..PATIENCE {
        if task.is_finished() {
            return task.await.map_err(|e| e.to_string());
        }
        yield_now().await;
    }
    Err("something waits for ever".to_string())
}

fn run(seed: u64, planted: &Faults, says: bool) -> Result<u64, String> {
    let run = Run::new(seed, planted, says);
    let seed = run.seed;
    let result = catch_unwind(AssertUnwindSafe(|| run.all()));
    let result = result.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(said.or(panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default())
    });
    result.map_err(|what| format!("OTTLA_CRASH_SEED={seed}: {what}"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Runs seeds on all cores until one fails.
fn first_failure(seeds: std::ops::Range<u64>, planted: &Faults) -> Option<String> {
    let (next, failed) = (AtomicU64::new(seeds.start), parking_lot::Mutex::new(None));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failed.lock().is_some() {
                return;
            }
            if let Err(what) = run(seed, planted, false) {
                failed.lock().get_or_insert(what);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    failed.into_inner()
}

#[test]
fn nothing_that_was_promised_is_lost_and_nothing_else_appears() {
    if let Some(seed) = number("OTTLA_CRASH_SEED") {
        tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(std::io::stderr).init();
        run(seed, &Faults::default(), true).unwrap();
        return;
    }
    let from = number("OTTLA_CRASH_FROM").unwrap_or(0);
    let seeds = from..from + number("OTTLA_CRASH_RUNS").unwrap_or(RUNS);
    if let Some(what) = first_failure(seeds, &Faults::default()) {
        panic!("{what}");
    }
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..200 {
        let (first, second) = (run(seed, &Faults::default(), false), run(seed, &Faults::default(), false));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    let planted = [
        Faults { forget_sync_dir: true, ..Faults::default() },
        Faults { swallow_short_writes: true, ..Faults::default() },
        Faults { acknowledge_before_writing: true, ..Faults::default() },
    ];
    for planted in planted {
        let found = first_failure(0..2_000, &planted);
        assert!(found.is_some(), "nothing fails with {planted:?}");
    }
}
