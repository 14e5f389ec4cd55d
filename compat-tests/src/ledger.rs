//! What transactional producers did, what the logs hold in the end and what consumers saw, held against each other. Nothing
//! here talks to a broker.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// One record: the producer's transactions are numbered, and the records within each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub producer: u8,
    pub transaction: u32,
    pub number: u16,
}

/// A place in the one topic that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    pub name: Name,
    /// Of a copy: which record it was made of.
    pub source: Option<Place>,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name { producer, transaction, number } = self.name;
        write!(f, "{producer} {transaction} {number}")?;
        self.source.map_or(Ok(()), |Place { partition, offset }| write!(f, " {partition} {offset}"))
    }
}

impl Value {
    pub fn parse(text: &[u8]) -> Value {
        let text = str::from_utf8(text).expect("what a producer wrote");
        let fields: Vec<i64> = text.split(' ').map(|field| field.parse().expect("a number")).collect();
        let name = Name { producer: fields[0] as u8, transaction: fields[1] as u32, number: fields[2] as u16 };
        let source = (fields.len() > 3).then(|| Place { partition: fields[3] as i32, offset: fields[4] });
        Value { name, source }
    }
}

/// What a partition's log holds at an offset.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub offset: i64,
    pub producer_id: i64,
    pub content: Content,
}

#[derive(Clone, Copy, Debug)]
pub enum Content {
    Record(Value),
    Marker { commit: bool },
}

/// What the producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    Aborted,
    /// The answer was lost.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub producer: u8,
    pub number: u32,
    /// By partition, the records that were acknowledged.
    pub records: Vec<(i32, Name)>,
    pub outcome: Outcome,
}

/// What a consumer saw of a partition, from `start` on without a break.
#[derive(Clone, Debug)]
pub struct Pass {
    pub consumer: String,
    pub partition: i32,
    pub start: i64,
    pub seen: Vec<(i64, Name)>,
    /// It went on to the end of the log.
    pub complete: bool,
}

/// How far the copier of a partition's records has come.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    pub copier: u8,
    pub partition: i32,
    pub committed_offset: i64,
}

/// The records of a partition, in order.
type Records = Vec<(i64, Value)>;

/// The logs as their markers settle them.
#[derive(Debug)]
pub struct Settled {
    pub all: Vec<Records>,
    pub committed: Vec<Records>,
}

type Checked<T = ()> = Result<T, String>;

impl Settled {
    /// Every transaction has ended in every log, no record is there twice, and each producer's are in order.
    pub fn of(logs: &[Vec<Entry>]) -> Checked<Settled> {
        let mut settled = Settled { all: vec![], committed: vec![] };
        let mut names = BTreeSet::new();
        for (partition, log) in logs.iter().enumerate() {
            let mut open: HashMap<i64, Records> = HashMap::new();
            let (mut all, mut committed) = (Records::new(), Records::new());
            let mut last: BTreeMap<u8, Name> = BTreeMap::new();
            for (entry, expected_offset) in log.iter().zip(0..) {
                let at = format!("{partition} at {}", entry.offset);
                require(entry.offset == expected_offset, || format!("{at}: an offset is missing before"))?;
                match entry.content {
                    Content::Record(value) => {
                        let name = value.name;
                        require(names.insert(name), || format!("{at}: {name:?} is there twice"))?;
                        let before = last.insert(name.producer, name);
                        require(before < Some(name), || format!("{at}: {name:?} follows {before:?}"))?;
                        all.push((entry.offset, value));
                        open.entry(entry.producer_id).or_default().push((entry.offset, value));
                    }
                    Content::Marker { commit } => {
                        let ended = open.remove(&entry.producer_id).unwrap_or_default();
                        committed.extend(ended.into_iter().filter(|_| commit));
                    }
                }
            }
            let hanging = open.into_values().flatten().min_by_key(|(offset, _)| *offset);
            require(hanging.is_none(), || format!("{partition}: the transaction of {hanging:?} has not ended"))?;
            committed.sort_by_key(|(offset, _)| *offset);
            settled.all.push(all);
            settled.committed.push(committed);
        }
        Ok(settled)
    }

    /// Every committed record once, no aborted one; where the answer was lost, all or nothing.
    pub fn check_transactions(&self, transactions: &[Transaction]) -> Checked {
        let mut by_transaction: BTreeMap<(u8, u32), BTreeSet<(i32, Name)>> = BTreeMap::new();
        for (records, partition) in self.committed.iter().zip(0..) {
            for (_, Value { name, .. }) in records {
                let of = by_transaction.entry((name.producer, name.transaction)).or_default();
                of.insert((partition, *name));
            }
        }
        for transaction in transactions {
            let committed = by_transaction.remove(&(transaction.producer, transaction.number)).unwrap_or_default();
            let sent: BTreeSet<_> = transaction.records.iter().copied().collect();
            let is_right = match transaction.outcome {
                Outcome::Committed => committed == sent,
                Outcome::Aborted => committed.is_empty(),
                Outcome::Unknown => committed.is_empty() || committed == sent,
            };
            require(is_right, || format!("{transaction:?}, but committed are {committed:?}"))?;
        }
        require(by_transaction.is_empty(), || format!("nobody has sent {:?}", by_transaction.keys()))
    }

    pub fn check_read_committed(&self, pass: &Pass) -> Checked {
        check_pass(&self.committed[pass.partition as usize], pass)
    }

    pub fn check_read_uncommitted(&self, pass: &Pass) -> Checked {
        check_pass(&self.all[pass.partition as usize], pass)
    }

    /// The committed copies are those of the committed originals below the committed offset, once each and in order.
    pub fn check_copies(&self, copied: Copied) -> Checked {
        let partition = &self.committed[copied.partition as usize];
        let originals = partition.iter().filter(|(_, value)| value.source.is_none());
        let originals = originals.map(|(offset, _)| *offset).take_while(|offset| *offset < copied.committed_offset);
        let copies = self.committed.iter().flatten().map(|(_, value)| value);
        let mut copies: Vec<_> = copies
            .filter(|value| value.name.producer == copied.copier)
            .filter_map(|value| value.source.map(|source| (value.name, source.offset)))
            .collect();
        copies.sort();
        let (copies, originals): (Vec<_>, Vec<_>) =
            (copies.into_iter().map(|copy| copy.1).collect(), originals.collect());
        let differ = first_difference(&copies, &originals);
        require(differ.is_none(), || format!("{copied:?}: (copied, original) are {differ:?}"))
    }
}

/// Whether a read_committed consumer sees a record too early: no commit of its transaction was asked for.
pub fn check_asked(name: Name, last_asked: u32) -> Checked {
    require(name.transaction <= last_asked, || format!("{name:?} was read before its commit was asked for"))
}

fn check_pass(expected: &Records, pass: &Pass) -> Checked {
    let expected = &expected[expected.partition_point(|(offset, _)| *offset < pass.start)..];
    let compared = if pass.complete { expected.len() } else { expected.len().min(pass.seen.len()) };
    let expected: Vec<_> = expected[..compared].iter().map(|(offset, value)| (*offset, value.name)).collect();
    let differ = first_difference(&pass.seen, &expected);
    let Pass { consumer, partition, start, .. } = pass;
    require(differ.is_none(), || format!("{consumer} from {start} of {partition}: (seen, expected) are {differ:?}"))
}

fn first_difference<T: Copy + PartialEq>(left: &[T], right: &[T]) -> Option<(Option<T>, Option<T>)> {
    let pairs = (0..left.len().max(right.len())).map(|i| (left.get(i).copied(), right.get(i).copied()));
    pairs.into_iter().find(|(left, right)| left != right)
}

fn require(holds: bool, or_else: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(or_else()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: i64 = 1000;
    const B: i64 = 1001;

    fn name(producer: u8, transaction: u32, number: u16) -> Name {
        Name { producer, transaction, number }
    }

    fn record(producer_id: i64, producer: u8, transaction: u32, number: u16) -> (i64, Content) {
        (producer_id, Content::Record(Value { name: name(producer, transaction, number), source: None }))
    }

    fn copy(producer_id: i64, transaction: u32, number: u16, offset: i64) -> (i64, Content) {
        let source = Some(Place { partition: 0, offset });
        (producer_id, Content::Record(Value { name: name(9, transaction, number), source }))
    }

    fn marker(producer_id: i64, commit: bool) -> (i64, Content) {
        (producer_id, Content::Marker { commit })
    }

    fn settle(log: Vec<(i64, Content)>) -> Checked<Settled> {
        let entry = |((producer_id, content), offset)| Entry { offset, producer_id, content };
        Settled::of(&[log.into_iter().zip(0..).map(entry).collect()])
    }

    fn transaction(number: u32, records: u16, outcome: Outcome) -> Transaction {
        let records = (0..records).map(|n| (0, name(1, number, n))).collect();
        Transaction { producer: 1, number, records, outcome }
    }

    fn pass(start: i64, seen: &[(i64, Name)], complete: bool) -> Pass {
        Pass { consumer: "c".to_owned(), partition: 0, start, seen: seen.to_vec(), complete }
    }

    /// Two producers interleaved: 1 commits its first transaction and aborts its second, 2 commits.
    fn sound() -> Settled {
        let log = vec![
            record(A, 1, 1, 0),
            record(B, 2, 1, 0),
            record(A, 1, 1, 1),
            marker(A, true),
            record(A, 1, 2, 0),
            marker(A, false),
            marker(B, true),
        ];
        settle(log).unwrap()
    }

    #[test]
    fn read_committed_sees_exactly_what_is_committed_in_the_order_of_the_log() {
        let settled = sound();
        let seen = [(0, name(1, 1, 0)), (1, name(2, 1, 0)), (2, name(1, 1, 1))];
        settled.check_read_committed(&pass(0, &seen, true)).unwrap();
        settled.check_read_committed(&pass(1, &seen[1..], true)).unwrap();
        settled.check_read_committed(&pass(0, &seen[..2], false)).unwrap();
        // A committed one is missing, at the end and in between; one comes twice; the order is wrong.
        settled.check_read_committed(&pass(0, &seen[..2], true)).unwrap_err();
        settled.check_read_committed(&pass(0, &[seen[0], seen[2]], false)).unwrap_err();
        settled.check_read_committed(&pass(0, &[seen[0], seen[0]], false)).unwrap_err();
        settled.check_read_committed(&pass(0, &[seen[1], seen[0]], false)).unwrap_err();
        // A marker was lost on the way to the consumer: it sees what was aborted.
        let aborted = (4, name(1, 2, 0));
        settled.check_read_committed(&pass(0, &[&seen[..], &[aborted]].concat(), false)).unwrap_err();
        settled.check_read_uncommitted(&pass(0, &[&seen[..], &[aborted]].concat(), true)).unwrap();
        settled.check_read_uncommitted(&pass(0, &seen, true)).unwrap_err();
    }

    #[test]
    fn what_is_read_before_its_commit_was_asked_for_is_noticed() {
        check_asked(name(1, 4, 0), 4).unwrap();
        check_asked(name(1, 5, 0), 4).unwrap_err();
    }

    #[test]
    fn a_lost_marker_leaves_a_transaction_open_or_mixes_two() {
        assert!(settle(vec![record(A, 1, 1, 0)]).unwrap_err().contains("has not ended"));
        // Without the marker that aborts the first, the one that commits the second commits both.
        let mixed = settle(vec![record(A, 1, 1, 0), record(A, 1, 2, 0), marker(A, true)]).unwrap();
        let known = [transaction(1, 1, Outcome::Aborted), transaction(2, 1, Outcome::Committed)];
        mixed.check_transactions(&known).unwrap_err();
    }

    #[test]
    fn what_producers_know_is_what_markers_say() {
        let other =
            Transaction { producer: 2, number: 1, records: vec![(0, name(2, 1, 0))], outcome: Outcome::Unknown };
        let check = |first, second| {
            let known = [transaction(1, 2, first), transaction(2, 1, second), other.clone()];
            sound().check_transactions(&known)
        };
        check(Outcome::Committed, Outcome::Aborted).unwrap();
        check(Outcome::Unknown, Outcome::Unknown).unwrap();
        check(Outcome::Aborted, Outcome::Aborted).unwrap_err();
        check(Outcome::Committed, Outcome::Committed).unwrap_err();
        sound().check_transactions(&[other]).unwrap_err();
        let half = settle(vec![record(A, 1, 1, 0), marker(A, true)]).unwrap();
        half.check_transactions(&[transaction(1, 2, Outcome::Unknown)]).unwrap_err();
    }

    #[test]
    fn logs_hold_each_record_once_and_in_order() {
        settle(vec![record(A, 1, 1, 0), record(A, 1, 1, 0), marker(A, true)]).unwrap_err();
        settle(vec![record(A, 1, 1, 1), record(A, 1, 1, 0), marker(A, true)]).unwrap_err();
    }

    #[test]
    fn copies_and_committed_offsets_go_together() {
        let log = || {
            vec![
                record(A, 1, 1, 0),
                record(A, 1, 1, 1),
                marker(A, true),
                copy(B, 1, 0, 0),
                marker(B, true),
                copy(B, 2, 0, 1),
                marker(B, false),
            ]
        };
        let check = |log, committed_offset| {
            settle(log).unwrap().check_copies(Copied { copier: 9, partition: 0, committed_offset })
        };
        check(log(), 1).unwrap();
        check(log(), 0).unwrap_err();
        check(log(), 2).unwrap_err();
        let again = [log(), vec![copy(B, 3, 0, 0), marker(B, true)]].concat();
        check(again, 1).unwrap_err();
        let on = [log(), vec![copy(B, 3, 0, 1), marker(B, true)]].concat();
        check(on, 5).unwrap();
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        for source in [None, Some(Place { partition: 3, offset: 77 })] {
            let value = Value { name: name(7, 8, 9), source };
            assert_eq!(Value::parse(value.to_string().as_bytes()), value);
        }
    }
}
