//! Clients that do random things, as clients do them: answers get lost, brokers restart, several clients believe that they
//! are the one that a transactional id stands for. What must hold whatever they do.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::harness::Harness;
use super::scenario::given;
use crate::error::ErrorCode;
use crate::txn::records::Partitions;
use crate::txn::{Effects, Markers, Producer};

const IDS: [&str; 2] = ["young", "old"];
/// A few transactions before the epochs of a producer id are used up.
const OLD: Producer = Producer { id: 1_000, epoch: i16::MAX - 5 };

/// One process; it follows one protocol (`version`) for one transactional id.
struct Client {
    id: usize,
    version: i16,
    producer: Option<Producer>,
    /// Every answer has reached it.
    is_up_to_date: bool,
}

/// What the world knows of a transactional id.
#[derive(Default)]
struct Known {
    /// The client that was told to go on, last.
    owner: Option<usize>,
    /// Partitions that were acknowledged to be in the open transaction.
    acknowledged: BTreeSet<i32>,
    /// The owner's transaction was aborted, and it was not the owner who wanted it.
    cut_off: bool,
    /// The decision that partitions are being told.
    decided: Option<Markers>,
}

struct World {
    harness: Harness,
    clients: Vec<Client>,
    known: [Known; 2],
    /// Every producer that an InitProducerId was answered, without repetitions of the same answer.
    given: BTreeSet<Producer>,
}

impl World {
    fn new(transaction_version: i16) -> World {
        let mut harness = Harness::new();
        harness.transaction_version = transaction_version;
        given(&mut harness, IDS[1], OLD);
        let client = |index: usize| Client {
            id: index % 2,
            version: if index.is_multiple_of(3) { 0 } else { transaction_version },
            producer: None,
            is_up_to_date: false,
        };
        World { harness, clients: (0..6).map(client).collect(), known: Default::default(), given: BTreeSet::new() }
    }

    fn take(&mut self, effects: Effects, by_client: bool) {
        for markers in effects.markers {
            let index = IDS.iter().position(|id| **id == *markers.transactional_id).unwrap();
            let known = &mut self.known[index];
            match &known.decided {
                Some(before) => assert_eq!(*before, markers, "what was decided stays decided"),
                None => {
                    let told: BTreeSet<i32> = markers.partitions.values().flatten().copied().collect();
                    let missing: Vec<_> = known.acknowledged.difference(&told).collect();
                    assert!(missing.is_empty(), "partitions {missing:?} are not told of the end of their transaction");
                    known.acknowledged.clear();
                    known.cut_off |= !by_client;
                    known.decided = Some(markers);
                }
            }
        }
        self.harness.assert_replay_is_the_same();
    }

    /// `recovers`: as itself (KIP-360). `loses`: the answer does not reach it.
    fn init(&mut self, index: usize, recovers: bool, loses: bool) {
        let client = &self.clients[index];
        let (id, expected) = (client.id, client.producer.filter(|_| recovers));
        let (result, effects) = self.harness.turn(|turn| turn.init_producer(IDS[id], 60_000, expected));
        self.take(effects, false);
        match result {
            Ok(producer) => {
                assert!((0..i16::MAX).contains(&producer.epoch), "{producer:?}");
                let other = self.known[id].owner.is_some_and(|owner| owner != index);
                assert!(!(other && expected.is_some()), "who was fenced cannot come back as itself");
                assert!(self.given.insert(producer) || expected.is_some(), "{producer:?} was given twice");
                (self.known[id].owner, self.known[id].cut_off) = (Some(index), false);
                self.clients[index].is_up_to_date = !loses;
                if !loses {
                    self.clients[index].producer = Some(producer);
                }
            }
            Err(error) => {
                assert!(expected.is_none() || self.may_be_refused(index, error.code), "{error:?}");
                let possible = [ErrorCode::ConcurrentTransactions, ErrorCode::ProducerFenced];
                assert!(possible.contains(&error.code), "{error:?}");
                // It must not go on, and begins anew.
                if error.code == ErrorCode::ProducerFenced {
                    self.clients[index].producer = None;
                }
            }
        }
    }

    fn add(&mut self, index: usize, partition: i32) {
        let Client { id, version, producer: Some(producer), .. } = self.clients[index] else { return };
        let partitions = Partitions::from([("t".into(), BTreeSet::from([partition]))]);
        let (result, effects) = self.harness.turn(|turn| turn.add_partitions(IDS[id], producer, &partitions, version));
        self.take(effects, false);
        match result {
            Ok(()) => {
                self.must_be_owner(index);
                self.known[id].acknowledged.insert(partition);
            }
            Err(error) => assert!(self.may_be_refused(index, error.code), "{error:?}"),
        }
    }

    fn end(&mut self, index: usize, commit: bool, loses: bool) {
        let Client { id, version, producer: Some(producer), .. } = self.clients[index] else { return };
        let (result, effects) = self.harness.turn(|turn| turn.end(IDS[id], producer, commit, version));
        self.take(effects, true);
        match result {
            Ok(next) => {
                self.must_be_owner(index);
                let known = &self.known[id];
                assert!(known.acknowledged.is_empty(), "the transaction is over");
                assert!(!(commit && known.cut_off), "a part of what it wants to commit was aborted");
                assert!(known.decided.as_ref().is_none_or(|markers| markers.commit == commit), "as the client wished");
                // It knows that this one was aborted, and what follows is another.
                self.known[id].cut_off = false;
                self.clients[index].is_up_to_date = !loses;
                if version >= 2 && !loses {
                    self.clients[index].producer = Some(next);
                }
            }
            Err(error) => {
                let possible = [
                    ErrorCode::ConcurrentTransactions,
                    ErrorCode::ProducerFenced,
                    ErrorCode::InvalidProducerIdMapping,
                    ErrorCode::InvalidTxnState,
                ];
                assert!(possible.contains(&error.code), "{error:?}");
                assert!(self.may_be_refused(index, error.code), "{error:?}");
            }
        }
    }

    /// An owner that has missed nothing may have to wait, and is never told that it is somebody else.
    fn may_be_refused(&self, index: usize, code: ErrorCode) -> bool {
        let client = &self.clients[index];
        let known = &self.known[client.id];
        let is_current = client.is_up_to_date && known.owner == Some(index) && !known.cut_off;
        !(is_current && matches!(code, ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping))
    }

    fn must_be_owner(&self, index: usize) {
        let id = self.clients[index].id;
        assert_eq!(self.known[id].owner, Some(index), "{} was fenced by somebody else", IDS[id]);
    }

    /// All partitions have the marker; or some had one of a transaction long past.
    fn written(&mut self, id: usize, stale: bool) {
        let Some(markers) = self.known[id].decided.clone() else { return };
        let Producer { id: producer_id, epoch } = markers.producer;
        let producer = Producer { id: producer_id, epoch: epoch - i16::from(stale) };
        let ((), effects) = self.harness.turn(|turn| turn.markers_written(IDS[id], producer));
        if stale {
            assert!(effects.records.is_empty(), "markers of another transaction close none");
        } else {
            assert_eq!(effects.records.len(), 1);
            self.known[id].decided = None;
        }
        self.take(effects, false);
    }

    fn pass(&mut self, ms: i64) {
        self.harness.now_ms += ms;
        let effects = self.harness.fire();
        self.take(effects, false);
    }

    fn restart(&mut self) {
        let effects = self.harness.restart();
        let told: BTreeMap<_, _> = effects.markers.iter().map(|m| (m.transactional_id.to_string(), m)).collect();
        for (id, known) in IDS.iter().zip(&self.known) {
            assert_eq!(
                told.get(*id).copied(),
                known.decided.as_ref(),
                "what was decided is carried out after a restart"
            );
        }
        self.take(effects, false);
    }

    fn step(&mut self, (kind, index, value): (u8, usize, i32)) {
        match kind {
            0 => self.init(index, false, false),
            1 => self.init(index, value > 2, value % 2 == 0),
            2..=5 => self.add(index, value),
            6..=8 => self.end(index, value > 1, value == 5),
            9 | 10 => self.written(index % 2, false),
            11 => self.written(index % 2, true),
            12 => self.pass(20_000 * i64::from(value)),
            _ => self.restart(),
        }
    }

    /// Nobody does anything any more.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.pass(10_000);
            (0..IDS.len()).for_each(|id| self.written(id, false));
        }
        for (id, transaction) in self.harness.hard().transactions() {
            assert!(transaction.state.is_idle(), "{id}: {transaction:?}");
        }
        for client in 0..IDS.len() {
            self.init(client, false, false);
            assert!(self.clients[client].producer.is_some(), "who comes next is let in");
            self.add(client, 1);
            assert!(!self.known[client].acknowledged.is_empty(), "and can write");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn transactions_are_all_or_nothing_and_belong_to_one_client(
        version in prop::sample::select(vec![0i16, 2]),
        steps in vec((0u8..14, 0usize..6, 0i32..6), 0..80),
    ) {
        let mut world = World::new(version);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
    }
}
