//! A machine with a log in memory, a clock that is set by hand, and a cluster that is made up.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::group::machine::Environment;
use crate::group::records::Record;
use crate::group::{
    Bounded, Cluster, ConsumerSettings, Effects, Machine, MigrationPolicy, Position, Settings, Topic, Turn,
};

#[derive(Default)]
pub struct Topics {
    topics: BTreeMap<String, (Uuid, i32)>,
    version: i64,
    pub overrides: BTreeMap<String, BTreeMap<String, String>>,
}

impl Topics {
    /// Also to give a topic more partitions.
    pub fn set(&mut self, name: &str, partitions: i32) {
        self.version += 1;
        let id = self.topics.get(name).map_or(Uuid::from_u128(1000 + self.version as u128), |(id, _)| *id);
        self.topics.insert(name.to_owned(), (id, partitions));
    }

    pub fn remove(&mut self, name: &str) -> Uuid {
        self.version += 1;
        self.topics.remove(name).expect("a known topic").0
    }

    pub fn partitions(&self, name: &str) -> i32 {
        self.topics[name].1
    }

    pub fn id(&self, name: &str) -> Uuid {
        self.topics.get(name).map_or(Uuid::from_u128(999), |(id, _)| *id)
    }
}

impl Cluster for Topics {
    fn version(&self) -> i64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<Topic> {
        self.topics.get(name).map(|(id, partitions)| Topic { name: name.into(), id: *id, partitions: *partitions })
    }

    fn topic_by_id(&self, id: Uuid) -> Option<Topic> {
        let name = self.topics.iter().find(|(_, (known, _))| *known == id)?.0;
        self.topic(name)
    }

    fn topic_names(&self) -> Vec<Arc<str>> {
        self.topics.keys().map(|name| Arc::from(name.as_str())).collect()
    }

    fn racks(&self, _: &str, _: i32) -> Vec<String> {
        Vec::new()
    }

    fn group_overrides(&self, group: &str) -> Option<&BTreeMap<String, String>> {
        self.overrides.get(group)
    }
}

pub fn settings() -> Settings {
    Settings {
        initial_rebalance_delay_ms: 0,
        max_size: 100,
        min_session_timeout_ms: 6_000,
        max_session_timeout_ms: 1_800_000,
        offset_metadata_max_bytes: 4096,
        offsets_retention_ms: 10_080 * 60_000,
        offsets_retention_check_interval_ms: 600_000,
        consumer: ConsumerSettings {
            enabled: true,
            session_timeout_ms: Bounded { default: 45_000, min: 45_000, max: 60_000 },
            heartbeat_interval_ms: Bounded { default: 5_000, min: 5_000, max: 15_000 },
            assignment_interval_ms: Bounded { default: 0, min: 0, max: 15_000 },
            max_size: 100,
            assignors: vec!["uniform".into(), "range".into()],
            migration: MigrationPolicy { upgrade: true, downgrade: true },
        },
    }
}

pub struct Harness {
    pub now_ms: i64,
    pub topics: Topics,
    pub settings: Settings,
    pub machine: Machine,
    /// Every record that was ever written, as bytes, and the producer whose transaction it belongs to.
    log: Vec<Entry>,
    ids: Cell<u128>,
}

enum Entry {
    Record { bytes: (Bytes, Option<Bytes>), producer_id: Option<i64> },
    EndTransaction { producer_id: i64, committed: bool },
}

impl Harness {
    pub fn new() -> Harness {
        let topics = Topics::default();
        let mut harness = Harness {
            now_ms: 0,
            topics,
            settings: settings(),
            machine: Machine::default(),
            log: Vec::new(),
            ids: Cell::new(0),
        };
        harness.turn(|turn| turn.loaded());
        harness
    }

    pub fn turn<T>(&mut self, handle: impl FnOnce(&mut Turn<'_>) -> T) -> (T, Effects) {
        self.turn_of(None, handle)
    }

    /// One turn, its records appended and applied.
    pub fn turn_of<T>(&mut self, producer_id: Option<i64>, handle: impl FnOnce(&mut Turn<'_>) -> T) -> (T, Effects) {
        let Harness { now_ms, topics, settings, machine, ids, .. } = self;
        let new_id = || {
            ids.set(ids.get() + 1);
            Uuid::from_u128(ids.get())
        };
        let env = Environment { now_ms: *now_ms, cluster: topics, settings, new_id: &new_id };
        let (answer, effects) = machine.turn(env, handle);
        for record in &effects.records {
            let mut encoded = Vec::new();
            let (key, value) = record.encode(&mut encoded);
            let bytes = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
            let position = Position { offset: self.log.len() as i64, producer_id };
            let decoded = Record::decode(&bytes.0, bytes.1.as_deref()).unwrap();
            assert_eq!(decoded, *record, "a record is read as it was written");
            self.machine.apply(decoded, position);
            self.log.push(Entry::Record { bytes, producer_id });
        }
        (answer, effects)
    }

    pub fn end_transaction(&mut self, producer_id: i64, committed: bool) {
        self.machine.end_transaction(producer_id, committed);
        self.log.push(Entry::EndTransaction { producer_id, committed });
    }

    /// Fires what is due, in order.
    pub fn fire(&mut self) -> Effects {
        let mut all = Effects::default();
        loop {
            let (fired, effects) = self.turn(|turn| turn.fire_timer());
            merge(&mut all, effects);
            if !fired {
                return all;
            }
        }
    }

    /// A machine that has read all that is in the log.
    pub fn replayed(&self) -> Machine {
        let mut machine = Machine::default();
        for (offset, entry) in (0..).zip(&self.log) {
            match entry {
                Entry::Record { bytes: (key, value), producer_id } => {
                    let record = Record::decode(key, value.as_deref()).unwrap();
                    machine.apply(record, Position { offset, producer_id: *producer_id });
                }
                Entry::EndTransaction { producer_id, committed } => machine.end_transaction(*producer_id, *committed),
            }
        }
        machine
    }

    pub fn assert_replay_is_the_same(&self) {
        assert_eq!(self.replayed().hard(), self.machine.hard(), "the log says the same as the state");
    }

    pub fn restart(&mut self) -> Effects {
        self.machine = self.replayed();
        self.turn(|turn| turn.loaded()).1
    }
}

pub fn merge(effects: &mut Effects, more: Effects) {
    effects.records.extend(more.records);
    effects.joins.extend(more.joins);
    effects.syncs.extend(more.syncs);
    effects.gathered.extend(more.gathered);
}
