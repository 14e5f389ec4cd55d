//! Sockets: listeners, connections, frames. Bytes in, bytes out; requests are handed to the api table.

mod balance;
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
pub use worker::{Inbox, Team, is_serving_connection};
