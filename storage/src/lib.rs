//! Kafka's log directory: batches, segments, indexes, checkpoints, recovery, and the io underneath.
//! It knows files and batches; it knows nothing of topics' meaning, of coordinators or of the network.

pub mod batch;
pub mod checkpoint;
pub mod compaction;
pub mod compression;
pub mod dirs;
pub mod dump;
pub mod epochs;
pub mod io;
pub mod log;
pub mod manager;
pub mod offset_index;
pub mod producers;
mod recovery;
mod scan;
pub mod segment;
pub mod time_index;
pub mod txn_index;
pub mod validate;
pub mod verify;

mod error;
#[cfg(test)]
mod test_support;
pub use error::{Error, Result};
