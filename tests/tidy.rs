//! The rules of the source tree that the compiler does not check: what each part may use, what a file may hold.

use std::fs;
use std::path::{Path, PathBuf};

const LINE_LIMIT: usize = 600;

/// The parts of the broker, from the bottom up: a part may use its own layer and those below.
const LAYERS: &[&[&str]] = &[
    &["clock", "config", "error", "metrics", "protocol"],
    &["broker", "coordinator", "fetch", "group", "housekeeping", "metadata", "partition", "txn"],
    &["api"],
    &["net"],
    &["lib", "main", "server"],
];

/// `protocol` builds answers out of the parts that `api` defines, nothing else.
const UPWARD: &[(&str, &str)] = &[("src/protocol/fetch.rs", "use crate::api::{Body, Part};")];

/// A word that only the named places may use.
struct Confined {
    what: &'static str,
    words: &'static [&'static str],
    places: &'static [&'static str],
}

const CONFINED: &[Confined] = &[
    Confined {
        what: "sockets",
        words: &["TcpListener", "TcpStream", "UdpSocket", "UnixListener", "UnixStream", "socket2::", "rustix::net"],
        places: &["src/net/", "src/server.rs"],
    },
    Confined {
        what: "files",
        words: &["std::fs", "tokio::fs", "rustix::fs"],
        // The configuration is read before there is a disk to speak of; the directory's lock must outlive every ring.
        places: &["storage/src/io/", "storage/src/dirs.rs", "src/main.rs"],
    },
    Confined { what: "wall time", words: &["SystemTime"], places: &["src/clock.rs"] },
    Confined {
        what: "unsafe code",
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code)"],
        places: &["storage/src/io/uring.rs", "storage/src/io/chunk.rs"],
    },
];

/// A file of the tree, its path relative to the root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    /// The numbered lines of code: neither comments nor the test module at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_test_module =
            |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        let end = lines.windows(2).position(is_test_module).unwrap_or(lines.len());
        let numbered = lines.into_iter().take(end).enumerate().map(|(index, line)| (index + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests").into()
}

/// Every Rust file of the broker and the storage crate.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for top in ["src", "storage/src"] {
        collect(&root(), Path::new(top), &mut sources);
    }
    assert!(!sources.is_empty());
    sources
}

fn collect(root: &Path, directory: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(root.join(directory)).unwrap() {
        let path = directory.join(entry.unwrap().file_name());
        if root.join(&path).is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(root.join(&path)).unwrap();
            sources.push(Source { path: path.to_str().expect("a path in UTF-8").to_string(), text });
        }
    }
}

/// Fails with all complaints at once.
fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_file_says_what_lives_in_it() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//! "));
    report(silent.map(|source| format!("{} does not begin with a //! line", source.path)).collect());
}

#[test]
fn files_stay_small() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test() && !source.path.ends_with("_table.rs")) {
        let lines = source.text.lines().count();
        if lines > LINE_LIMIT {
            complaints.push(format!("{} has {lines} lines, the limit is {LINE_LIMIT}", source.path));
        }
    }
    report(complaints);
}

#[test]
fn imports_point_down() {
    let layer_of = |part: &str| LAYERS.iter().position(|layer| layer.contains(&part));
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/") && !source.is_test()) {
        let part = source.path["src/".len()..].split(['/', '.']).next().expect("a file name");
        let Some(layer) = layer_of(part) else {
            complaints.push(format!("{} belongs to no layer of tests/tidy.rs", source.path));
            continue;
        };
        for (number, line) in source.code() {
            for used in line.split("crate::").skip(1) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                let allowed = UPWARD.contains(&(&source.path, line.trim()));
                if layer_of(used).is_some_and(|used| used > layer) && !allowed {
                    complaints.push(format!("{}:{number}: {part} must not use {used}", source.path));
                }
            }
        }
    }
    report(complaints);
}

#[test]
fn sockets_files_time_and_unsafe_stay_in_their_places() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for confined in CONFINED {
            if confined.places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for (number, line) in source.code() {
                if confined.words.iter().any(|word| line.contains(word)) {
                    complaints.push(format!("{}:{number}: {} do not belong here", source.path, confined.what));
                }
            }
        }
    }
    report(complaints);
}

#[test]
fn every_api_file_is_in_the_table() {
    let sources = sources();
    let table = sources.iter().find(|source| source.path == "src/api/mod.rs").expect("the table");
    let mut complaints = Vec::new();
    for source in &sources {
        let Some(file) = source.path.strip_prefix("src/api/").and_then(|file| file.strip_suffix(".rs")) else {
            continue;
        };
        if file == "mod" || file.contains('/') || source.is_test() {
            continue;
        }
        if !table.text.contains(&format!("{file}::handle(")) {
            complaints.push(format!("{} is not in the table of src/api/mod.rs", source.path));
        }
        if !source.text.lines().next().is_some_and(|line| line.contains("(key ")) {
            complaints.push(format!("{} does not name its API key on top", source.path));
        }
    }
    report(complaints);
}
