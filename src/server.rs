//! A running broker: one tokio runtime with its own io_uring a core, the start and stop order, signals.

use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use ottla_storage::io::{Io, RingGuard, install_ring};
use ottla_storage::log::LogManager;
use rustix::process::Resource;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::api::{self, Peer};
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{Config, Listener};
use crate::coordinator::{GroupCoordinator, TransactionCoordinator};
use crate::fetch::SessionCache;
use crate::housekeeping::CleanerThreads;
use crate::metadata::Metadata;
use crate::net::{self, Bound, ConnectionLimits, Inbox, RequestMemory, Settings, Team};
use crate::partition::Partitions;

/// What is in flight when the broker stops gets so long to finish; then its connections are closed.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);
/// In the clean-shutdown marker of a broker that never registered.
const NO_BROKER_EPOCH: i64 = -1;
const TICK: Duration = Duration::from_secs(1);
/// Descriptors for a few thousand connections and partitions.
const WANTED_DESCRIPTORS: u64 = 10_000;

/// Serves until SIGTERM or SIGINT, prints the ready line; returns after a clean stop.
pub fn run(config: Config) -> Result<()> {
    let started = Clock.monotonic();
    abort_on_panic();
    raise_descriptor_limit();
    let config = Arc::new(config);
    // Ports are taken first: a port in use is then said before any file has been touched.
    let bound = client_listeners(&config).map(|listener| net::bind(listener, config.socket_receive_buffer_bytes));
    let bound = bound.collect::<Result<Vec<_>>>()?;
    let logs = LogManager::open(config.log_options(Clock.now_ms()))?;
    on_runtime(logs.io().clone(), serve(config, logs.clone(), bound, started))
}

/// Controller listeners are not bound: a single node's controller is in this process, and nobody else speaks to it.
fn client_listeners(config: &Config) -> impl Iterator<Item = &Listener> {
    config.listeners.iter().filter(|listener| !config.controller_listener_names.contains(&listener.name))
}

/// Runs `future` on a current_thread runtime with a LocalSet and its own ring.
fn on_runtime<T>(io: Io, future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    LocalSet::new().block_on(&runtime, async {
        let _ring: RingGuard = install_ring(&io)?;
        future.await
    })
}

/// The whole life of the broker, on the first runtime.
async fn serve(config: Arc<Config>, logs: Arc<LogManager>, bound: Vec<Bound>, started: Instant) -> Result<()> {
    match start(&config, &logs, bound, started).await {
        Ok(running) => running.until_stopped(&logs).await,
        // A start that failed leaves the log directories as clean as a stop does.
        Err(error) => {
            if let Err(also) = logs.close(NO_BROKER_EPOCH).await {
                tracing::error!(error = %also, "the log directories could not be closed");
            }
            Err(error)
        }
    }
}

/// What a serving broker consists of besides its state.
struct Running {
    broker: Arc<Broker>,
    signals: Signals,
    acceptors: Vec<JoinHandle<()>>,
    workers: Workers,
    ticking: JoinHandle<()>,
    coordinating: [JoinHandle<()>; 2],
    cleaners: CleanerThreads,
}

async fn start(config: &Arc<Config>, logs: &Arc<LogManager>, bound: Vec<Bound>, started: Instant) -> Result<Running> {
    let broker = open_broker(config, logs, &bound).await?;
    let signals = Signals::install()?;
    let limits = ConnectionLimits::new(
        config.max_connections,
        config.max_connections_per_ip,
        &config.max_connections_per_ip_overrides,
    )?;
    let listeners = bound.into_iter().map(|bound| bound.listen(config.socket_listen_backlog_size));
    let listeners = listeners.collect::<Result<Vec<_>>>()?;
    let workers = Workers::start(&broker, logs.io());
    let acceptors = accept(listeners, config, &limits, &workers);
    let ticking = spawn_local(tick(broker.clone(), logs.clone()));
    let coordinating = [spawn_local(broker.groups.clone().run()), spawn_local(broker.transactions.clone().run())];
    let cleaners = CleanerThreads::start(&config.log_cleaner, logs, broker.clock);
    say_ready(config, &broker, started)?;
    Ok(Running { broker, signals, acceptors, workers, ticking, coordinating, cleaners })
}

impl Running {
    async fn until_stopped(self, logs: &Arc<LogManager>) -> Result<()> {
        let Running { broker, mut signals, acceptors, mut workers, ticking, coordinating, cleaners } = self;
        signals.next().await;
        tracing::info!("stopping");
        spawn_local(async move {
            signals.next().await;
            tracing::warn!("told to stop twice: stopping at once, without the clean-shutdown marker");
            std::process::exit(1);
        });
        acceptors.iter().for_each(JoinHandle::abort);
        workers.drain().await;
        if tokio::time::timeout(DRAIN_LIMIT, broker.transactions.settled()).await.is_err() {
            tracing::warn!(?DRAIN_LIMIT, "transactions were still being ended when the broker stopped");
        }
        ticking.abort();
        coordinating.iter().for_each(JoinHandle::abort);
        cleaners.stop().await;
        let fenced = broker.metadata.close().await;
        let closed = logs.close(broker.metadata.broker_epoch()).await;
        workers.stop();
        fenced.context("closing the metadata")?;
        closed.context("closing the log directories")?;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn open_broker(config: &Arc<Config>, logs: &Arc<LogManager>, bound: &[Bound]) -> Result<Arc<Broker>> {
    let partitions = Arc::new(Partitions::new(logs.clone(), Clock));
    let endpoints = endpoints(config, bound);
    let metadata = Metadata::open(config.clone(), logs.clone(), partitions.clone(), Clock, endpoints).await?;
    let fetch_sessions = SessionCache::new(config.max_incremental_fetch_session_cache_slots);
    let groups = GroupCoordinator::new(config.clone(), Clock, metadata.clone(), partitions.clone());
    let (to_metadata, to_partitions, to_groups) = (metadata.clone(), partitions.clone(), groups.clone());
    let transactions = TransactionCoordinator::new(config.clone(), Clock, to_metadata, to_partitions, to_groups);
    let config = config.clone();
    Ok(Arc::new(Broker { config, clock: Clock, metadata, partitions, fetch_sessions, groups, transactions }))
}

/// What clients are told: the advertised host, and the real port where the configuration leaves it open.
fn endpoints(config: &Config, bound: &[Bound]) -> Vec<(String, String, u16)> {
    let advertised = |listener: &Listener, bound: &Bound| {
        let (host, port) = listener.advertised.clone().unwrap_or((listener.host.clone(), listener.port));
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        (listener.name.clone(), host, if port == 0 { bound.address.port() } else { port })
    };
    client_listeners(config).zip(bound).map(|(listener, bound)| advertised(listener, bound)).collect()
}

fn accept(
    listeners: Vec<net::Listening>,
    config: &Config,
    limits: &Arc<ConnectionLimits>,
    workers: &Workers,
) -> Vec<JoinHandle<()>> {
    let several = listeners.len() > 1;
    let accept = |listener: net::Listening| {
        let protected = several && *listener.name == *config.inter_broker_listener_name;
        let (send_buffer, limits, team) = (config.socket_send_buffer_bytes, limits.clone(), workers.team.clone());
        spawn_local(net::accept_loop(listener, protected, send_buffer, limits, team))
    };
    listeners.into_iter().map(accept).collect()
}

async fn tick(broker: Arc<Broker>, logs: Arc<LogManager>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        logs.tick(broker.clock.now_ms()).await;
        broker.metadata.tick().await;
    }
}

fn say_ready(config: &Config, broker: &Broker, started: Instant) -> Result<()> {
    let image = broker.metadata.image();
    let this = image.brokers().find(|this| this.id == config.node_id).context("this broker is not in its metadata")?;
    let (_, host, port) = this.endpoints.first().context("no listener for clients")?;
    let ms = (broker.clock.monotonic() - started).as_millis();
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ottla ready bootstrap={host}:{port} cluster={} in {ms} ms", image.cluster_id())?;
    stdout.flush().context("standard output")
}

/// One worker a core; the first shares the thread of [`serve`].
struct Workers {
    team: Arc<Team>,
    threads: Vec<thread::JoinHandle<()>>,
    stop: watch::Sender<bool>,
    drained: mpsc::Receiver<()>,
    exit: watch::Sender<bool>,
}

impl Workers {
    fn start(broker: &Arc<Broker>, io: &Io) -> Workers {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let (team, inboxes) = Team::new(count);
        let (stop, stopping) = watch::channel(false);
        let (exit, exiting) = watch::channel(false);
        // Every worker holds a sender until it has drained: the channel closes when all have.
        let (draining, drained) = mpsc::channel(1);
        let settings = Settings {
            max_request_bytes: broker.config.socket_request_max_bytes,
            max_idle: Duration::from_millis(broker.config.connections_max_idle_ms),
            memory: RequestMemory::new(broker.config.queued_max_request_bytes),
        };
        let mut threads = Vec::new();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let worker = Worker { inbox, settings: settings.clone(), stopping: stopping.clone() };
            let (broker, draining) = (broker.clone(), draining.clone());
            if index == 0 {
                spawn_local(worker.run(broker, draining));
                continue;
            }
            let mut exiting = exiting.clone();
            threads.push(spawn_thread(index, io.clone(), move || async move {
                spawn_local(worker.run(broker, draining));
                // Not before the logs are closed: what connections wrote may still be in this thread's ring.
                let _ = exiting.wait_for(|exit| *exit).await;
                Ok(())
            }));
        }
        Workers { team, threads, stop, drained, exit }
    }

    /// Lets what is in flight finish, and closes connections.
    async fn drain(&mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(DRAIN_LIMIT, self.drained.recv()).await.is_err() {
            tracing::warn!(?DRAIN_LIMIT, "requests were still in flight when the broker stopped");
        }
    }

    fn stop(self) {
        self.exit.send_replace(true);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

struct Worker {
    inbox: Inbox,
    settings: Settings,
    stopping: watch::Receiver<bool>,
}

impl Worker {
    /// `_draining` is dropped when the last connection has ended.
    async fn run(self, broker: Arc<Broker>, _draining: mpsc::Sender<()>) {
        let dispatch = move |peer: &Peer, frame: Bytes| api::dispatch(&broker, peer, frame);
        self.inbox.serve(dispatch, self.settings, self.stopping).await;
    }
}

/// `life` makes its future on the thread, which it never leaves.
fn spawn_thread<F: Future<Output = Result<()>>>(
    index: usize,
    io: Io,
    life: impl FnOnce() -> F + Send + 'static,
) -> thread::JoinHandle<()> {
    let run = move || on_runtime(io, life()).expect("a runtime with a ring, as the first one has");
    thread::Builder::new().name(format!("ottla-{index}")).spawn(run).expect("a thread")
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> Result<Signals> {
        let install = |kind| signal(kind).context("signal handlers");
        Ok(Signals { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A panic is a broken invariant. Where it is one request's own it ends that connection; anywhere else the state
/// cannot be trusted any more, and the process ends rather than serve it.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        if net::is_serving_connection() {
            tracing::error!("a request failed and its connection is closed: {panic}\n{backtrace}");
        } else {
            tracing::error!("aborting: {panic}\n{backtrace}");
            std::process::abort();
        }
    }));
}

/// As many as the system grants without being asked twice, which is what a JVM takes too.
fn raise_descriptor_limit() {
    let mut limits = rustix::process::getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, limits) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    if let Some(limit) = limit.filter(|limit| *limit < WANTED_DESCRIPTORS) {
        tracing::warn!(
            "only {limit} open files are allowed, and connections and segments need one each: raise it (ulimit -n, \
             LimitNOFILE) to {WANTED_DESCRIPTORS} or more"
        );
    }
}
