//! Random appends and rounds of compaction against a model of what must be left.

use super::*;

/// A batch that was appended: its records that are still there, and its delete horizon.
struct Appended {
    base_offset: i64,
    records: Vec<(i64, OwnedRecord)>,
    horizon_ms: Option<i64>,
}

#[derive(Default)]
struct Model(Vec<Appended>);

impl Model {
    fn records(&self) -> Vec<(i64, OwnedRecord)> {
        self.0.iter().flat_map(|batch| batch.records.iter().cloned()).collect()
    }

    fn clean(&mut self, until: i64, now_ms: i64, retention_ms: i64) {
        let below = |batch: &&mut Appended| batch.base_offset < until;
        let mut last = BTreeMap::new();
        for (offset, record) in self.0.iter_mut().filter(below).flat_map(|batch| &batch.records) {
            last.insert(record.key.clone(), *offset);
        }
        for batch in self.0.iter_mut().filter(below) {
            let horizon_ms = batch.horizon_ms;
            batch.records.retain(|(offset, record)| {
                let expired = record.value.is_none() && horizon_ms.is_some_and(|horizon_ms| now_ms >= horizon_ms);
                record.key.is_some() && last[&record.key] == *offset && !expired
            });
            if batch.records.iter().any(|(_, record)| record.value.is_none()) {
                batch.horizon_ms = horizon_ms.or(Some(now_ms + retention_ms));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Append(Compression, Vec<OwnedRecord>),
    /// After so many milliseconds.
    Clean(i64),
    Reopen,
}

fn any_act() -> impl Strategy<Value = Act> {
    // Few keys, so that most are written again.
    let record = (any_record(), 0..12u8).prop_map(|(record, key)| {
        let key = (key > 0).then(|| vec![b'k', key]);
        OwnedRecord { timestamp: record.timestamp >> 10, key, ..record }
    });
    prop_oneof![
        8 => (any_codec(), prop::collection::vec(record, 1..6)).prop_map(|(codec, records)| Act::Append(codec, records)),
        2 => (0..2000i64).prop_map(Act::Clean),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_consumer_sees_what_the_model_has(acts in prop::collection::vec(any_act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        runtime.block_on(local.run_until(follow(acts)));
    }
}

async fn follow(acts: Vec<Act>) {
    let config = LogConfig { delete_retention_ms: 1500, ..compacted(3000) };
    let mut fixture = Fixture::new(&config);
    let mut model = Model::default();
    let mut now_ms = NOW_MS;
    for act in acts {
        match act {
            Act::Append(codec, records) => {
                let mut builder = BatchBuilder::new(codec);
                records.iter().for_each(|record| record.add_to(&mut builder));
                let base_offset = fixture.append(builder).await;
                let records = (base_offset..).zip(records).collect();
                model.0.push(Appended { base_offset, records, horizon_ms: None });
            }
            Act::Clean(later_ms) => {
                now_ms += later_ms;
                // As if nothing were clean, every other time: then tombstones are looked at again.
                if later_ms % 2 == 0 {
                    fixture.log.set_cleaned_offset(None);
                }
                let mut map = OffsetMap::new(1 << 16, 0.9);
                let cleaned = clean(&fixture.log, &mut map, now_ms, &mut |_| ControlFlow::Continue(())).unwrap();
                if let Some(cleaned) = cleaned {
                    model.clean(cleaned.to_offset, now_ms, 1500);
                }
            }
            Act::Reopen => {
                fixture.log.settled().await;
                fixture = fixture.reopened();
            }
        }
        let records = in_thread(&fixture);
        assert_eq!(records, model.records());
    }
}

/// Reading blocks on a runtime of its own.
fn in_thread(fixture: &Fixture) -> Vec<(i64, OwnedRecord)> {
    std::thread::scope(|scope| scope.spawn(|| fixture.records()).join().unwrap())
}
