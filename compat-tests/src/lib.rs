//! The harness of the compatibility tests: starts a broker, runs real clients against it, and lets Apache Kafka's own
//! tools judge the files it wrote.
//!
//! The tests in `tests/` run against Ottla, or with `COMPAT_BROKER=kafka` against Apache Kafka 4.3.1: what passes with
//! both is compatible. Client programs live in `java/`, `python/`, `go/` and `node/`; librdkafka is called from here.

pub mod batch;
pub mod broker;
pub mod clients;
pub mod connection;
pub mod dump;
pub mod ledger;
pub mod librdkafka;
pub mod printed;
pub mod records;
pub mod transactional;
