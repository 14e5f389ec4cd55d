//! The machine's tests: scenario texts (`*.txt`: requests and times, and what must come of them), properties under random
//! operations, and bytes as Kafka writes them.

mod bytes;
mod harness;
mod random;
mod scenario;

#[test]
fn scenarios_come_out_as_written() {
    crate::scenario_tests::assert_as_written("src/group/tests/scenarios", scenario::run);
}

#[test]
fn groups_are_spread_as_kafka_spreads_them() {
    use super::partition_of;
    // Java: "console-consumer-1".hashCode() and so on, Utils.abs, % 50.
    let expected = [("", 0), ("g", 3), ("my-group", 12), ("grüße", 23), ("polygenelubricants", 0)];
    for (group, partition) in expected {
        assert_eq!(partition_of(group, 50), partition, "{group}");
    }
}
