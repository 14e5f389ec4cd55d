//! Tests written as texts: commands, and indented below each what came of it.

use std::fmt::Write as _;
use std::path::Path;

/// Runs every text in `directory` of this crate; `UPDATE_SCENARIOS=1` writes down what comes out, to be read before it is
/// believed.
pub fn assert_as_written(directory: &str, run: impl Fn(&str) -> String) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut texts: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    texts.sort();
    assert!(!texts.is_empty());
    let mut wrong = Vec::new();
    for path in texts {
        let text = std::fs::read_to_string(&path).unwrap();
        let outcome = run(&text);
        if outcome != text && std::env::var_os("UPDATE_SCENARIOS").is_some() {
            std::fs::write(&path, outcome).unwrap();
        } else if outcome != text {
            let first = outcome.lines().zip(text.lines()).enumerate().find(|(_, (is, should))| is != should);
            wrong.push(format!("{}: {first:?} (line from 0, what came, what is written)", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The text with the outcome of each command as it came; `command` is given the words.
pub fn outcome(text: &str, mut command: impl FnMut(&[&str]) -> Vec<String>) -> String {
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        out += line;
        out.push('\n');
        if line.is_empty() || line.starts_with("--") {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        for outcome in command(&words) {
            writeln!(out, "  {outcome}").unwrap();
        }
    }
    out
}
