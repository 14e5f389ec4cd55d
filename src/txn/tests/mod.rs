//! The machine's tests: scenario texts (`scenarios/*.txt`: requests and times, and what must come of them), properties
//! under random operations, and bytes as Kafka writes them.

mod bytes;
mod harness;
mod random;
mod scenario;

/// Runs every text; `UPDATE_SCENARIOS=1` writes down what comes out, to be read before it is believed.
#[test]
fn scenarios_come_out_as_written() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/txn/tests/scenarios");
    let mut texts: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    texts.sort();
    assert!(!texts.is_empty());
    let mut wrong = Vec::new();
    for path in texts {
        let text = std::fs::read_to_string(&path).unwrap();
        let outcome = scenario::run(&text);
        if outcome != text && std::env::var_os("UPDATE_SCENARIOS").is_some() {
            std::fs::write(&path, outcome).unwrap();
        } else if outcome != text {
            let first = outcome.lines().zip(text.lines()).enumerate().find(|(_, (is, should))| is != should);
            wrong.push(format!("{}: {first:?} (line from 0, what came, what is written)", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
