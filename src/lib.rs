//! Ottla, a drop-in replacement for the Apache Kafka broker: what a running broker is made of, and the order in which
//! it starts and stops.

pub mod api;
pub mod broker;
pub mod clock;
pub mod config;
pub mod coordinator;
pub mod error;
pub mod fetch;
pub mod group;
pub mod housekeeping;
pub mod metadata;
pub mod net;
pub mod partition;
pub mod protocol;
#[cfg(test)]
mod scenario_tests;
pub mod server;
pub mod txn;
