//! The machine's tests: scenario texts (`scenarios/*.txt`: requests and times, and what must come of them), properties
//! under random operations, and bytes as Kafka writes them.

mod bytes;
mod harness;
mod random;
mod scenario;

#[test]
fn scenarios_come_out_as_written() {
    crate::scenario_tests::assert_as_written("src/txn/tests/scenarios", scenario::run);
}
