//! Sockets: listeners, connections, frames. Bytes in, bytes out; requests are handed to the api table.
