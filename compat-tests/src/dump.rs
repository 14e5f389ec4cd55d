//! Apache Kafka's `DumpLogSegments` reads every file that a stopped broker leaves, without a complaint.

use std::fs;
use std::path::{Path, PathBuf};

use crate::clients;

const DUMP: &str = "org.apache.kafka.tools.DumpLogSegments";

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

/// What it says of every log that was compacted.
const GAPS: &str = "Non-consecutive offsets";

/// Dumps all logs, indexes and the metadata log under `data`, and panics at the first complaint.
pub fn dump_all(data: &Path) {
    dump_but(data, &[]);
}

/// The same where logs may have gaps between offsets.
pub fn dump_compacted(data: &Path) {
    dump_but(data, &[GAPS]);
}

fn dump_but(data: &Path, allowed: &[&str]) {
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
    dump(&segments, &["--deep-iteration"], allowed);
    let indexes: Vec<_> = segments.iter().filter(|file| extension(file) == "index").cloned().collect();
    if !indexes.is_empty() {
        dump(&indexes, &["--index-sanity-check"], allowed);
    }
    dump(&metadata, &["--deep-iteration", "--cluster-metadata-decoder"], &[]);
}

fn dump(files: &[PathBuf], options: &[&str], allowed: &[&str]) {
    let list: Vec<_> = files.iter().map(|file| file.to_str().expect("a path in UTF-8")).collect();
    let list = list.join(",");
    let mut arguments = options.to_vec();
    arguments.extend(["--files", &list]);
    let output = clients::kafka_tool(DUMP, &arguments);
    for file in list.split(',') {
        assert!(output.contains(&format!("Dumping {file}")), "{file} was not dumped");
    }
    for complaint in COMPLAINTS.iter().filter(|complaint| !allowed.contains(complaint)) {
        if let Some(at) = output.find(complaint) {
            let from = output[..at].rfind("Dumping").unwrap_or(0);
            let context: String = output[from..].chars().take(2000).collect();
            panic!("DumpLogSegments {options:?} says {complaint:?}: {context}");
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
