//! A machine with a log in memory and a clock that is set by hand.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::txn::records::{Name, Record};
use crate::txn::{Effects, Environment, Hard, Machine, Markers, Settings, Turn};

pub fn settings() -> Settings {
    Settings {
        max_timeout_ms: 900_000,
        abort_interval_ms: 10_000,
        id_expiration_ms: 604_800_000,
        expiration_interval_ms: 3_600_000,
    }
}

pub struct Harness {
    pub now_ms: i64,
    pub settings: Settings,
    pub transaction_version: i16,
    pub machine: Machine,
    /// There are no more producer ids at hand.
    pub out_of_ids: bool,
    /// Every record that was ever written.
    log: Vec<(Bytes, Option<Bytes>)>,
    last_producer_id: Cell<i64>,
    /// What partitions are being told.
    pub markers: BTreeMap<Name, Markers>,
}

impl Harness {
    pub fn new() -> Harness {
        let mut harness = Harness {
            now_ms: 0,
            settings: settings(),
            transaction_version: 2,
            machine: Machine::default(),
            out_of_ids: false,
            log: Vec::new(),
            last_producer_id: Cell::new(0),
            markers: BTreeMap::new(),
        };
        harness.turn(|turn| turn.loaded());
        harness
    }

    /// One turn, its records appended and applied.
    pub fn turn<T>(&mut self, handle: impl FnOnce(&mut Turn<'_>) -> T) -> (T, Effects) {
        let Harness { now_ms, settings, transaction_version, machine, out_of_ids, last_producer_id, .. } = self;
        let new_producer_id = || {
            last_producer_id.set(last_producer_id.get() + 1);
            (!*out_of_ids).then_some(last_producer_id.get())
        };
        let (now_ms, transaction_version) = (*now_ms, *transaction_version);
        let env = Environment { now_ms, settings, transaction_version, new_producer_id: &new_producer_id };
        let (answer, effects) = machine.turn(env, handle);
        effects.records.iter().for_each(|record| self.write(record));
        for markers in &effects.markers {
            self.markers.insert(markers.transactional_id.clone(), markers.clone());
        }
        (answer, effects)
    }

    pub fn write(&mut self, record: &Record) {
        let bytes = record.encode(2);
        let decoded = Record::decode(&bytes.0, bytes.1.as_deref()).unwrap();
        assert_eq!(decoded.as_ref(), Some(record), "a record is read as it was written");
        self.machine.apply(record);
        self.log.push(bytes);
    }

    /// Fires what is due.
    pub fn fire(&mut self) -> Effects {
        let mut all = Effects::default();
        loop {
            let (fired, effects) = self.turn(|turn| turn.fire_timer());
            all.records.extend(effects.records);
            all.markers.extend(effects.markers);
            if !fired {
                return all;
            }
        }
    }

    /// What the log says, and what is left of it when it has been compacted.
    pub fn assert_replay_is_the_same(&self) {
        assert_eq!(replay(&self.log).hard(), self.machine.hard(), "the log says the same as the state");
        let last: BTreeMap<&Bytes, usize> = self.log.iter().enumerate().map(|(at, (key, _))| (key, at)).collect();
        let kept: Vec<_> = last.values().map(|at| self.log[*at].clone()).collect();
        assert_eq!(replay(&kept).hard(), self.machine.hard(), "the last record of each key says it all");
    }

    pub fn restart(&mut self) -> Effects {
        self.machine = replay(&self.log);
        self.markers.clear();
        self.turn(|turn| turn.loaded()).1
    }

    pub fn hard(&self) -> &Hard {
        self.machine.hard()
    }
}

fn replay(log: &[(Bytes, Option<Bytes>)]) -> Machine {
    let mut machine = Machine::default();
    for (key, value) in log {
        machine.apply(&Record::decode(key, value.as_deref()).unwrap().unwrap());
    }
    machine
}
