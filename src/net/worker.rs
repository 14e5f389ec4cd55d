//! A worker: one runtime's connections, from the moment the listener hands them over until they end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_local;

use super::connection::{Connection, Dispatch, End, Settings};
use super::limits::ConnectionPermit;
use crate::api::Peer;

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub struct Accepted {
    pub stream: std::net::TcpStream,
    pub peer: Peer,
    pub permit: ConnectionPermit,
}

/// What listeners know of a worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    /// Bounded by the connection limits: each entry holds a permit and a descriptor.
    inbox: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
}

/// The worker's own side: what it is given.
#[derive(Debug)]
pub struct Inbox {
    accepted: mpsc::UnboundedReceiver<Accepted>,
    load: Arc<AtomicUsize>,
}

pub fn worker() -> (WorkerHandle, Inbox) {
    let (inbox, accepted) = mpsc::unbounded_channel();
    let load = Arc::new(AtomicUsize::new(0));
    (WorkerHandle { inbox, load: load.clone() }, Inbox { accepted, load })
}

impl WorkerHandle {
    /// Connections it has, or is about to have.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// A worker that has stopped closes the connection.
    pub fn give(&self, accepted: Accepted) {
        self.load.fetch_add(1, Ordering::Relaxed);
        if self.inbox.send(accepted).is_err() {
            self.load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Inbox {
    /// Serves connections until `stop` turns true, then until the last of them has ended. Runs inside a LocalSet.
    pub async fn serve<D: Dispatch>(mut self, dispatch: D, settings: Settings, mut stop: watch::Receiver<bool>) {
        let open = Rc::new(Open::default());
        loop {
            tokio::select! {
                Some(accepted) = self.accepted.recv() => {
                    let seat = Seat::new(&open, &self.load);
                    spawn_local(serve_one(accepted, dispatch.clone(), settings.clone(), seat));
                }
                // An error means that the server is gone: the same as a stop.
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        open.stopping.set(true);
        open.wakers.borrow_mut().values().for_each(Waker::wake_by_ref);
        while !open.wakers.borrow().is_empty() {
            open.closed.notified().await;
        }
    }
}

async fn serve_one<D: Dispatch>(accepted: Accepted, dispatch: D, settings: Settings, seat: Seat) {
    let Accepted { stream, peer, permit } = accepted;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(address = %peer.address, %error, "connection closed: cannot be registered"),
    };
    seat.take().await;
    let who = peer.clone();
    let mut connection = std::pin::pin!(Connection::new(stream, peer, dispatch, &settings).run(|| seat.is_stopping()));
    let end = poll_fn(|cx| {
        let _serving = Serving::begin();
        connection.as_mut().poll(cx)
    });
    match end.await {
        End::Refused(reason) => {
            tracing::warn!(address = %who.address, listener = %who.listener, %reason, "connection closed");
        }
        End::Client(Some(error)) => tracing::debug!(address = %who.address, %error, "connection lost"),
        end => tracing::debug!(address = %who.address, ?end, "connection closed"),
    }
    drop(permit);
}

/// The connections of one worker.
#[derive(Debug, Default)]
struct Open {
    stopping: Cell<bool>,
    next_id: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
    closed: Notify,
}

/// One connection's place among them, given up when dropped.
struct Seat {
    open: Rc<Open>,
    id: u64,
    load: Arc<AtomicUsize>,
}

impl Seat {
    fn new(open: &Rc<Open>, load: &Arc<AtomicUsize>) -> Seat {
        let id = open.next_id.get();
        open.next_id.set(id + 1);
        open.wakers.borrow_mut().insert(id, Waker::noop().clone());
        Seat { open: open.clone(), id, load: load.clone() }
    }

    /// Notes the task to wake when the worker stops.
    async fn take(&self) {
        poll_fn(|cx| {
            self.open.wakers.borrow_mut().insert(self.id, cx.waker().clone());
            std::task::Poll::Ready(())
        })
        .await;
    }

    fn is_stopping(&self) -> bool {
        self.open.stopping.get()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.open.wakers.borrow_mut().remove(&self.id);
        self.open.closed.notify_one();
    }
}

thread_local! {
    static SERVING: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as working for one connection, also while it unwinds.
struct Serving;

impl Serving {
    fn begin() -> Serving {
        SERVING.set(true);
        Serving
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVING.set(false);
    }
}

/// True if a panic on this thread now would be one connection's own, and end only that.
pub fn is_serving_connection() -> bool {
    SERVING.get()
}
