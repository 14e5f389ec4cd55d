//! The transaction coordinator: a `txn::Machine` for each partition of `__transaction_state`. What it decides is told to
//! partitions in `markers.rs`.

use std::sync::Arc;
use std::time::Duration;

use ottla_storage::batch::{self, BatchHeader};
use tokio::sync::watch;
use tokio::task::spawn_local;

use super::markers::tell_partitions;
use super::outbox::Outbox;
use super::{Driven, GroupCoordinator, Home, Shared};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::image::TRANSACTION_VERSION;
use crate::metadata::topics::TRANSACTION_STATE;
use crate::metadata::{Image, Metadata};
use crate::partition::Partitions;
use crate::protocol::wire::Malformed;
use crate::txn::records::{self, Record};
use crate::txn::{EPOCH_BUMP_VERSION, Effects, Environment, Machine, Producer, Settings, Turn};

pub(super) struct World {
    settings: Settings,
    metadata: Metadata,
    /// Transactions may contain committed offsets.
    pub(super) groups: GroupCoordinator,
    /// Transactions that are decided and not complete, as long as something is done about them.
    decided: watch::Sender<usize>,
}

/// One of [`World::decided`].
struct Decided(watch::Sender<usize>);

impl Decided {
    fn new(count: &watch::Sender<usize>) -> Decided {
        count.send_modify(|count| *count += 1);
        Decided(count.clone())
    }
}

impl Drop for Decided {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

pub(super) fn turn<T>(
    machine: &mut Machine,
    world: &World,
    now_ms: i64,
    handle: impl FnOnce(&mut Turn<'_>) -> T,
) -> (T, Effects) {
    let transaction_version = world.metadata.glance().feature_level(TRANSACTION_VERSION);
    let new_producer_id = || world.metadata.take_producer_id();
    let settings = &world.settings;
    machine.turn(Environment { now_ms, settings, transaction_version, new_producer_id: &new_producer_id }, handle)
}

impl Driven for Machine {
    const TOPIC: &'static str = TRANSACTION_STATE;
    type World = World;
    type Effects = Effects;

    fn next_deadline_ms(&self) -> Option<i64> {
        Machine::next_deadline_ms(self)
    }

    fn replay(&mut self, header: &BatchHeader, record: &batch::Record<'_>) -> Result<(), Malformed> {
        if header.is_control() {
            return Ok(());
        }
        if let Some(record) = Record::decode(record.key.unwrap_or_default(), record.value)? {
            self.apply(&record);
        }
        Ok(())
    }

    fn loaded(&mut self, world: &World, now_ms: i64) -> Effects {
        turn(self, world, now_ms, |turn| turn.loaded()).1
    }

    fn fire_timer(&mut self, world: &World, now_ms: i64) -> Option<Effects> {
        let (fired, effects) = turn(self, world, now_ms, |turn| turn.fire_timer());
        fired.then_some(effects)
    }

    fn take(&mut self, effects: Effects, outbox: &mut Outbox, (shared, home): Home<'_, Machine>) {
        let version = shared.metadata.glance().feature_level(TRANSACTION_VERSION);
        for record in &effects.records {
            let (key, value) = record.encode(version);
            outbox.record((&key, value.as_deref()), None);
            self.apply(record);
        }
        for markers in effects.markers {
            let (shared, home, decided) = (shared.clone(), home.clone(), Decided::new(&shared.world.decided));
            let tell = async move {
                tell_partitions(shared, home, markers).await;
                drop(decided);
            };
            outbox.then(move || drop(spawn_local(tell)));
        }
    }
}

/// Shared handle.
#[derive(Clone)]
pub struct TransactionCoordinator {
    pub(super) shared: Arc<Shared<Machine>>,
    admission: Admission,
}

/// How long a client of `transaction.version` 2 is waited for whose last transaction is not quite complete.
#[derive(Clone, Copy)]
struct Admission {
    verifies: bool,
    retry_pause: Duration,
    patience: Duration,
}

impl TransactionCoordinator {
    pub fn new(
        config: Arc<Config>,
        clock: Clock,
        metadata: Metadata,
        partitions: Arc<Partitions>,
        groups: GroupCoordinator,
    ) -> TransactionCoordinator {
        let value = |name: &str| config.value(name).expect("a setting with a default");
        let ms = |name: &str| Duration::from_millis(value(name).parse().expect("a checked number"));
        let admission = Admission {
            verifies: value("transaction.partition.verification.enable") == "true",
            retry_pause: ms("add.partitions.to.txn.retry.backoff.ms"),
            patience: ms("add.partitions.to.txn.retry.backoff.max.ms"),
        };
        let world = World {
            settings: Settings::new(&config),
            metadata: metadata.clone(),
            groups,
            decided: watch::Sender::new(0),
        };
        TransactionCoordinator { shared: Shared::new(world, config, clock, metadata, partitions), admission }
    }

    /// Loads all transactions, and then fires timers as long as the broker lives. To be spawned on a runtime with a
    /// LocalSet.
    pub async fn run(self) {
        self.shared.load_all().await;
        loop {
            self.shared.next_timer().await;
            self.shared.fire_timers();
        }
    }

    /// Until all that was decided is carried out. A clean stop waits for it: Apache Kafka, started on the directory, would
    /// take what it finds decided for complete.
    pub async fn settled(&self) {
        let mut decided = self.shared.world.decided.subscribe();
        // The sender is ours.
        let _ = decided.wait_for(|count| *count == 0).await;
    }

    /// Hands a request about one transactional id to its machine; the answer comes when all it rests on is written.
    pub async fn call<T>(&self, id: &str, handle: impl FnOnce(&mut Turn<'_>) -> T) -> Result<T, ErrorCode> {
        self.shared.metadata.reserve_producer_ids().await.map_err(|error| error.code)?;
        self.call_at(self.partition_of(id), handle).await
    }

    /// The same for every machine.
    pub async fn call_all<T>(&self, handle: impl Fn(&mut Turn<'_>) -> T) -> Result<Vec<T>, ErrorCode> {
        let mut answers = Vec::new();
        for index in 0..self.shared.partition_count() {
            answers.push(self.call_at(index, &handle).await?);
        }
        Ok(answers)
    }

    async fn call_at<T>(&self, index: i32, handle: impl FnOnce(&mut Turn<'_>) -> T) -> Result<T, ErrorCode> {
        let step = |machine: &mut Machine, world: &World, now_ms| turn(machine, world, now_ms, handle);
        self.shared.call(index, step).await
    }

    /// Whether a producer may write to partitions in its transaction (KIP-890): clients of `transaction.version` 2 begin it
    /// or add to it by writing (`adds`), others have told the coordinator before. Returns those that it may not write to.
    pub async fn admit(
        &self,
        id: &str,
        producer: Producer,
        partitions: &records::Partitions,
        adds: bool,
    ) -> Result<records::Partitions, ErrorCode> {
        let none = records::Partitions::new();
        if !adds && !self.admission.verifies {
            return Ok(none);
        }
        let verify = |turn: &mut Turn<'_>| turn.verify_partitions(id, producer, partitions);
        let add = |turn: &mut Turn<'_>| turn.add_partitions(id, producer, partitions, EPOCH_BUMP_VERSION);
        let mut waited = Duration::ZERO;
        loop {
            let admitted = match adds {
                true => self.call(id, add).await?.map(|()| none.clone()),
                false => self.call(id, verify).await?,
            };
            match admitted {
                Err(error)
                    if error.code == ErrorCode::ConcurrentTransactions && adds && waited < self.admission.patience =>
                {
                    tokio::time::sleep(self.admission.retry_pause).await;
                    waited += self.admission.retry_pause;
                }
                Err(error) if error.code == ErrorCode::ProducerFenced => return Err(ErrorCode::InvalidProducerEpoch),
                admitted => return admitted.map_err(|error| error.code),
            }
        }
    }

    /// The partition of the topic that holds the transactional id.
    pub fn partition_of(&self, id: &str) -> i32 {
        self.shared.partition_of(id, self.shared.config.transaction_state_log_num_partitions)
    }

    /// Creates the topic if it is not there.
    pub async fn ensure_topic(&self) -> Result<Arc<Image>, ApiError> {
        self.shared.ensure_topic().await
    }
}
