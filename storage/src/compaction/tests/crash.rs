//! A crash between any two steps of a swap: the next start finds all of the old segments or all of the new one.

use super::*;
use crate::segment::parse_file_name;
use swap::Step;

type Records = Vec<(i64, OwnedRecord)>;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The directory just before the swap of segments 0, 3 and 5 is announced: the old files, and the new ones as `.cleaned`.
fn before_swap() -> (TempDir, Records, Records) {
    let segments = [
        vec![batch_of(&["a", "b", "c"], 10)],
        vec![batch_of(&["a", "c"], 10)],
        vec![batch_of(&["a", "d"], 10)],
        vec![batch_of(&["z"], 1)],
    ];
    let fixture = Fixture::of_segments(&compacted(1 << 20), &segments, &[]);
    let dir = tempfile::tempdir().unwrap();
    let partition = dir.path().join("t-0");
    copy(&fixture.partition_dir(), &partition);
    let old = fixture.records();
    fixture.clean(NOW_MS);
    let new = fixture.records();
    assert!(new.len() < old.len());
    for kind in [".log", ".index", ".timeindex"] {
        let name = format!("{:020}{kind}", 0);
        std::fs::copy(fixture.partition_dir().join(&name), partition.join(name + ".cleaned")).unwrap();
    }
    std::fs::write(partition.join("00000000000000000003.snapshot"), b"of a segment that goes").unwrap();
    (dir, old, new)
}

/// Runs `steps` in a copy of `dir`, opens it as after a crash, and returns what a consumer reads.
fn after_crash(dir: &Path, steps: &[Step]) -> Vec<(i64, OwnedRecord)> {
    let crashed = tempfile::tempdir().unwrap();
    let partition = crashed.path().join("t-0");
    copy(&dir.join("t-0"), &partition);
    let there = |path: &Path| partition.join(path.file_name().unwrap());
    for step in steps {
        let step = match step {
            Step::Rename(from, to) => Step::Rename(there(from), there(to)),
            Step::Remove(path) => Step::Remove(there(path)),
            Step::SyncDir => Step::SyncDir,
        };
        swap::run(&Io::plain(), &partition, &[step]).unwrap();
    }
    let fixture = Fixture::at(crashed, &compacted(1 << 20));
    let known = [".log", ".index", ".timeindex", ".snapshot"];
    for name in fixture.names() {
        assert!(
            known.iter().any(|kind| parse_file_name(&name, kind).is_some()) || !name.starts_with('0'),
            "{name} is left"
        );
    }
    let records = fixture.records();
    // Whatever was found, compaction goes on from there.
    fixture.clean(NOW_MS);
    assert_eq!(fixture.records().len(), 5);
    records
}

#[test]
fn every_step_leaves_the_old_or_the_new() {
    let (dir, old, new) = before_swap();
    let partition = dir.path().join("t-0");
    let io = Io::plain();
    let announce = swap::announce(&io, &partition, 0);
    let renames = announce.iter().filter(|step| **step != Step::SyncDir).count();
    assert_eq!(renames, 3);
    for steps in 0..=announce.len() {
        let renamed = announce[..steps].iter().filter(|step| **step != Step::SyncDir).count();
        let expected = if renamed == renames { &new } else { &old };
        assert_eq!(&after_crash(dir.path(), &announce[..steps]), expected, "after {:?}", &announce[..steps]);
    }
    swap::run(&io, &partition, &announce).unwrap();
    let settle = swap::settle(&io, &partition, 0, &[0, 3, 5]);
    assert!(settle.len() > 10, "{settle:?}");
    for steps in 0..=settle.len() {
        assert_eq!(after_crash(dir.path(), &settle[..steps]), new, "after {:?}", &settle[..steps]);
    }
}

#[test]
fn the_directory_is_synced_before_and_after_each_set_of_renames() {
    let (dir, ..) = before_swap();
    let partition = dir.path().join("t-0");
    let io = Io::plain();
    let announce = swap::announce(&io, &partition, 0);
    assert_eq!((announce.first(), announce.last()), (Some(&Step::SyncDir), Some(&Step::SyncDir)));
    swap::run(&io, &partition, &announce).unwrap();
    let settle = swap::settle(&io, &partition, 0, &[0, 3, 5]);
    let kinds: Vec<&str> = settle
        .iter()
        .map(|step| match step {
            Step::Rename(_, to) if to.to_string_lossy().ends_with(".deleted") => "old",
            Step::Rename(_, to) if to.extension().is_some_and(|kind| kind == "log") => "new log",
            Step::Rename(..) => "new",
            Step::Remove(_) => "removed",
            Step::SyncDir => "sync",
        })
        .collect();
    let (old, rest) = kinds.split_at(kinds.iter().position(|kind| *kind == "sync").unwrap());
    assert!(old.iter().all(|kind| *kind == "old"), "{kinds:?}");
    assert_eq!(rest, ["sync", "new log", "sync", "new", "new", "sync"], "no new index without its log");
}

#[test]
fn a_swap_beside_unfinished_cleaned_files_is_undone_as_kafka_does() {
    let (dir, old, _) = before_swap();
    let partition = dir.path().join("t-0");
    let file = |name: &str| partition.join(format!("{:020}{name}", 0));
    std::fs::rename(file(".log.cleaned"), file(".log.swap")).unwrap();
    std::fs::remove_file(file(".index.cleaned")).unwrap();
    assert_eq!(after_crash(dir.path(), &[]), old);
}
