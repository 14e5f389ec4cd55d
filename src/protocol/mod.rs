//! Bytes <-> requests where kafka-protocol does not do: header peek, allocation guards, the Produce and Fetch fast path.

mod buffers;
pub mod fetch;
pub mod frame;
pub mod guard;
pub mod header;
pub mod produce;
pub mod schema;
pub mod wire;
