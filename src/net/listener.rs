//! Listening sockets: binding them, and accepting connections for the workers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::net::sockopt::set_tcp_congestion;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::limits::ConnectionLimits;
use super::worker::Team;
use crate::api::Peer;
use crate::config::Listener;

/// How long to wait for descriptors or memory to come back before accepting again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A congestion control that every kernel has, and that sends as soon as it may.
const UNPACED: &str = "reno";

/// A bound socket that does not listen yet, so that clients are refused until the broker serves.
#[derive(Debug)]
pub struct Bound {
    pub name: Arc<str>,
    pub address: SocketAddr,
    socket: Socket,
}

/// Binds a listener of the configuration (`receive_buffer_bytes`: -1 is the system's default). An error names the listener, and says how to mend it.
pub fn bind(listener: &Listener, receive_buffer_bytes: i32) -> anyhow::Result<Bound> {
    let Listener { name, host, port, .. } = listener;
    let what = || format!("listener {name}://{host}:{port}");
    let candidates: Vec<SocketAddr> = if host.is_empty() {
        vec![(Ipv6Addr::UNSPECIFIED, *port).into(), (Ipv4Addr::UNSPECIFIED, *port).into()]
    } else {
        (host.as_str(), *port).to_socket_addrs().with_context(|| format!("{}: unknown host", what()))?.collect()
    };
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in candidates {
        match bind_to(address, receive_buffer_bytes) {
            Ok(socket) => {
                let address = socket.local_addr()?.as_socket().context("an internet address")?;
                return Ok(Bound { name: name.as_str().into(), address, socket });
            }
            // All addresses of the host, IPv4 only: the next candidate.
            Err(error) if host.is_empty() && error.kind() != io::ErrorKind::AddrInUse => failure = error,
            Err(error) => return Err(bind_error(&what(), error)),
        }
    }
    Err(bind_error(&what(), failure))
}

fn bind_error(what: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{what}: the port is in use by another process: stop it, or set listeners to another port (0 picks one)"
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("{what}: not permitted: set listeners to a port above 1023, or run with more rights")
        }
        _ => anyhow::anyhow!("{what}: cannot be bound ({error}): set listeners to an address of this machine"),
    }
}

fn bind_to(address: SocketAddr, receive_buffer_bytes: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // On the listening socket, which hands it on: TCP settles its window scale before accept returns.
    if receive_buffer_bytes > 0 {
        socket.set_recv_buffer_size(receive_buffer_bytes as usize)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket that clients can connect to.
#[derive(Debug)]
pub struct Listening {
    pub name: Arc<str>,
    socket: TcpListener,
}

impl Bound {
    /// Clients can connect from here on.
    pub fn listen(self, backlog: i32) -> anyhow::Result<Listening> {
        let listened = self.socket.listen(backlog).and_then(|()| self.socket.set_nonblocking(true));
        listened.map_err(|error| bind_error(&format!("listener {}://{}", self.name, self.address), error))?;
        Ok(Listening { name: self.name, socket: TcpListener::from_std(self.socket.into())? })
    }
}

/// Accepts until it is dropped. `protected`: the brokers' own listener, which `max.connections` does not hold up, where
/// there are others besides it.
pub async fn accept_loop(
    listener: Listening,
    protected: bool,
    send_buffer_bytes: i32,
    limits: Arc<ConnectionLimits>,
    workers: Arc<Team>,
) {
    let Listening { name, socket } = listener;
    let mut failing = false;
    loop {
        if !protected {
            limits.room().await;
        }
        let (stream, address) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            // Out of descriptors or memory: the connection stays in the backlog and accept would fail at once again.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(listener = %name, %error, "cannot accept connections; retrying");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if std::mem::replace(&mut failing, false) {
            tracing::info!(listener = %name, "accepting connections again");
        }
        let Some(permit) = limits.admit(address.ip()) else { continue };
        // Off this runtime: the worker registers it with its own.
        match configure(&stream, address, send_buffer_bytes).and_then(|()| stream.into_std()) {
            Ok(stream) => workers.admit(stream, Peer { listener: name.clone(), address }, permit),
            Err(error) => tracing::debug!(%address, %error, "connection closed: its socket cannot be set up"),
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn configure(stream: &TcpStream, peer: SocketAddr, send_buffer_bytes: i32) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    // Nothing is congested within a machine. What is the system's default may pace what it sends (BBR), with a timer for
    // every 64 KiB. A kernel that refuses keeps its own.
    if peer.ip().to_canonical().is_loopback() || peer.ip() == stream.local_addr()?.ip() {
        let _ = set_tcp_congestion(stream, UNPACED);
    }
    if send_buffer_bytes > 0 {
        socket.set_send_buffer_size(send_buffer_bytes as usize)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::tcp_congestion;

    use super::*;

    #[tokio::test]
    async fn what_a_client_of_this_machine_is_sent_is_not_paced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        configure(&stream, peer, -1).unwrap();
        assert_eq!(tcp_congestion(&stream).unwrap(), UNPACED);
    }
}
