//! Sockets: listeners, connections, frames. Bytes in, bytes out; requests are handed to the api table.

mod connection;
mod idle;
mod limits;
mod listener;
mod memory;
mod output;
mod worker;

pub use connection::{Dispatch, Settings};
pub use limits::ConnectionLimits;
pub use listener::{Bound, Listening, accept_loop, bind};
pub use memory::RequestMemory;
pub use worker::{Inbox, WorkerHandle, is_serving_connection, worker};
