//! Apache Kafka's `DumpLogSegments` reads every file that a stopped broker leaves, without a complaint.

use std::fs;
use std::path::{Path, PathBuf};

use crate::clients;

const DUMP: &str = "org.apache.kafka.tools.DumpLogSegments";

/// Compaction leaves gaps, which are no fault in what it has cleaned.
const GAPS: &str = " is followed by ";
/// It says this of segments that do not begin at 0, too.
const FIRST: &str = "-1 is followed by ";
/// What DumpLogSegments says when something is wrong; otherwise it lists what it reads.
const COMPLAINTS: &[&str] = &[
    "isvalid: false",
    "Mismatches in",
    GAPS,
    "invalid bytes at the end",
    "timestamp mismatch",
    "out of order timestamp",
    "offset does not exist",
    "Exception",
    "Error",
    "Could not",
    "unknown",
];

/// Dumps all logs, indexes and the metadata log under `data`, and panics at the first complaint.
pub fn dump_all(data: &Path) {
    let mut segments = Vec::new();
    let mut metadata = Vec::new();
    for partition in directories(data) {
        let is_metadata = partition.file_name().is_some_and(|name| name == "__cluster_metadata-0");
        for file in files(&partition) {
            match extension(&file) {
                "checkpoint" | "log" if is_metadata => metadata.push(file),
                "log" | "index" | "timeindex" | "snapshot" | "txnindex" => segments.push(file),
                _ => {}
            }
        }
    }
    assert!(segments.iter().any(|file| extension(file) == "log"), "no segments in {}", data.display());
    assert!(metadata.iter().any(|file| extension(file) == "log"), "no metadata log in {}", data.display());
    // An index is compared with its log either way, but only one of these two looks at its entries.
    let cleaned = cleaned(data);
    let (with_gaps, dense): (Vec<PathBuf>, Vec<PathBuf>) =
        segments.iter().cloned().partition(|file| cleaned.iter().any(|partition| file.starts_with(partition)));
    dump(&dense, &["--deep-iteration"]);
    dump_but(&with_gaps, &["--deep-iteration"], GAPS);
    let indexes: Vec<_> = segments.iter().filter(|file| extension(file) == "index").cloned().collect();
    dump(&indexes, &["--index-sanity-check"]);
    dump(&metadata, &["--deep-iteration", "--cluster-metadata-decoder"]);
    // Records that their own decoder cannot read.
    for (topic, decoder) in [
        ("__consumer_offsets-", "--offsets-decoder"),
        ("__transaction_state-", "--transaction-log-decoder"),
        ("__share_group_state-", "--share-group-state-decoder"),
    ] {
        let internal = |file: &&PathBuf| file.to_string_lossy().contains(topic) && extension(file) == "log";
        let logs: Vec<_> = segments.iter().filter(internal).cloned().collect();
        dump_but(&logs, &[decoder], GAPS);
    }
}

/// What DumpLogSegments prints about these files.
pub fn dumped(files: &[PathBuf], options: &[&str]) -> String {
    let list: Vec<_> = files.iter().map(|file| file.to_str().expect("a path in UTF-8")).collect();
    clients::kafka_tool(DUMP, &[options, &["--files", &list.join(",")]].concat())
}

/// All files of a partition that it can read.
pub fn dumpable(partition: &Path) -> Vec<PathBuf> {
    let kinds = ["log", "index", "timeindex", "snapshot", "txnindex", "checkpoint"];
    files(partition).into_iter().filter(|file| kinds.contains(&extension(file))).collect()
}

/// Directories of partitions that have been compacted.
fn cleaned(data: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(data.join("cleaner-offset-checkpoint")).unwrap_or_default();
    let partition = |line: &str| {
        let mut fields = line.split(' ');
        Some(data.join(format!("{}-{}", fields.next()?, fields.next()?)))
    };
    text.lines().skip(2).filter_map(partition).collect()
}

fn dump(files: &[PathBuf], options: &[&str]) {
    dump_but(files, options, "");
}

fn dump_but(files: &[PathBuf], options: &[&str], accepted: &str) {
    if files.is_empty() {
        return;
    }
    let output = dumped(files, options);
    let output: Vec<&str> = output.lines().filter(|line| !line.trim_start().starts_with(FIRST)).collect();
    let output = output.join("\n");
    for file in files.iter().map(|file| file.display()) {
        assert!(output.contains(&format!("Dumping {file}")), "{file} was not dumped");
    }
    for complaint in COMPLAINTS.iter().filter(|complaint| **complaint != accepted) {
        if let Some(at) = output.find(complaint) {
            // Some come in the middle of a file's listing, others after all of them.
            let file = output[..at].rfind("Dumping").map_or("", |from| output[from..].lines().next().unwrap_or(""));
            let context: String = output[at..].chars().take(1000).collect();
            panic!("DumpLogSegments {options:?} says, in or after \"{file}\": {context}");
        }
    }
}

fn extension(file: &Path) -> &str {
    file.extension().and_then(|extension| extension.to_str()).unwrap_or("")
}

fn directories(parent: &Path) -> Vec<PathBuf> {
    // A deleted topic's directory waits for its removal under another name, perhaps half removed.
    let deleted = |path: &PathBuf| path.to_string_lossy().ends_with("-delete");
    children(parent).into_iter().filter(|path| path.is_dir() && !deleted(path)).collect()
}

fn files(parent: &Path) -> Vec<PathBuf> {
    children(parent).into_iter().filter(|path| path.is_file()).collect()
}

fn children(parent: &Path) -> Vec<PathBuf> {
    let mut children: Vec<_> = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    children.sort();
    children
}
