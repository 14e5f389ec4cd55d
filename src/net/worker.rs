//! Workers: each is one runtime with its connections. A connection comes from a listener and stays until it ends, or until
//! the balance has another worker for its place.

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

use super::balance::{Balance, Meter};
use super::connection::{Connection, Dispatch, End, Parts, Received, Settings, Wish};
use super::limits::ConnectionPermit;
use crate::api::Peer;
use crate::clock::Clock;

/// An accepted connection on its way to a worker.
#[derive(Debug)]
struct Accepted {
    stream: std::net::TcpStream,
    guest: Guest,
    /// From another worker: what it has received.
    received: Option<Received>,
}

/// A client while it is connected.
#[derive(Debug)]
struct Guest {
    peer: Peer,
    place: Place,
    _permit: ConnectionPermit,
}

/// The workers of a broker, as listeners and they themselves know them.
#[derive(Debug)]
pub struct Team {
    balance: Balance,
    /// Bounded by the connection limits: each entry holds a permit and a descriptor.
    inboxes: Vec<mpsc::UnboundedSender<Accepted>>,
    /// Connections that would be each worker's if all served.
    places: Vec<AtomicUsize>,
}

/// A worker's own side: what it is given.
#[derive(Debug)]
pub struct Inbox {
    accepted: mpsc::UnboundedReceiver<Accepted>,
    index: usize,
}

impl Team {
    pub fn new(workers: usize) -> (Arc<Team>, Vec<Inbox>) {
        let (inboxes, accepted): (_, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        let places = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        let team = Arc::new(Team { balance: Balance::new(workers, Clock.monotonic()), inboxes, places });
        let inbox = |(index, accepted)| Inbox { accepted, index };
        (team, accepted.into_iter().enumerate().map(inbox).collect())
    }

    /// Takes a new connection in.
    pub fn admit(self: &Arc<Team>, stream: std::net::TcpStream, peer: Peer, permit: ConnectionPermit) {
        let fewest = (0..self.places.len()).min_by_key(|number| self.places[*number].load(Ordering::Relaxed));
        let place = Place::take(self, fewest.expect("at least one worker"));
        self.send_home(Accepted { stream, guest: Guest { peer, place, _permit: permit }, received: None });
    }

    /// A worker that has stopped closes the connection.
    fn send_home(&self, accepted: Accepted) {
        let home = self.balance.home(accepted.guest.place.number);
        let _ = self.inboxes[home].send(accepted);
    }
}

/// Where a connection belongs, given up when dropped.
#[derive(Debug)]
struct Place {
    team: Arc<Team>,
    number: usize,
}

impl Place {
    fn take(team: &Arc<Team>, number: usize) -> Place {
        team.places[number].fetch_add(1, Ordering::Relaxed);
        Place { team: team.clone(), number }
    }

    fn home(&self) -> usize {
        self.team.balance.home(self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.team.places[self.number].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inbox {
    /// Serves connections until `stop` turns true, then until the last of them has ended. Runs inside a LocalSet.
    pub async fn serve<D: Dispatch>(mut self, dispatch: D, settings: Settings, mut stop: watch::Receiver<bool>) {
        let open = Rc::new(Open::new(self.index));
        loop {
            tokio::select! {
                Some(accepted) = self.accepted.recv() => {
                    if let Some(serving) = serve_one(accepted, dispatch.clone(), &settings, Seat::new(&open)) {
                        spawn_local(serving);
                    }
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

/// The future has what it needs once, and no more: there may be very many.
fn serve_one<D: Dispatch>(
    accepted: Accepted,
    dispatch: D,
    settings: &Settings,
    seat: Seat,
) -> Option<impl Future<Output = ()> + use<D>> {
    let Accepted { stream, guest, received } = accepted;
    let stream = TcpStream::from_std(stream).inspect_err(|error| {
        tracing::warn!(address = %guest.peer.address, %error, "connection closed: cannot be registered");
    });
    let received = received.unwrap_or_else(|| Received::nothing(settings));
    let parts = Parts { stream: stream.ok()?, received };
    let mut connection = Connection::new(parts, guest.peer.clone(), dispatch, settings);
    Some(async move {
        seat.take().await;
        let end = poll_fn(|cx| {
            let _serving = Serving::begin();
            seat.open.meter.count(&guest.place.team.balance);
            connection.poll(cx, seat.wish(&guest.place))
        });
        let end = end.await;
        finish(guest, connection, end);
    })
}

/// The socket is closed before the permit is given back.
fn finish<D: Dispatch>(guest: Guest, connection: Connection<D>, end: End) {
    let Peer { address, ref listener } = guest.peer;
    match end {
        End::Elsewhere => {
            let Parts { stream, received } = connection.into_parts();
            match stream.into_std() {
                Ok(stream) => {
                    let team = guest.place.team.clone();
                    team.send_home(Accepted { stream, guest, received: Some(received) });
                }
                Err(error) => tracing::warn!(%address, %error, "connection closed: cannot be handed over"),
            }
        }
        End::Refused(reason) => tracing::warn!(%address, %listener, %reason, "connection closed"),
        End::Client(Some(error)) => tracing::debug!(%address, %error, "connection lost"),
        end => tracing::debug!(%address, ?end, "connection closed"),
    }
}

/// The connections of one worker.
#[derive(Debug)]
struct Open {
    worker: usize,
    meter: Meter,
    stopping: Cell<bool>,
    next_id: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
    closed: Notify,
}

impl Open {
    fn new(worker: usize) -> Open {
        let (stopping, next_id, wakers, closed) = Default::default();
        Open { worker, meter: Meter::new(worker), stopping, next_id, wakers, closed }
    }
}

/// One connection's entry among them, given up when dropped.
struct Seat {
    open: Rc<Open>,
    id: u64,
}

impl Seat {
    fn new(open: &Rc<Open>) -> Seat {
        let id = open.next_id.get();
        open.next_id.set(id + 1);
        open.wakers.borrow_mut().insert(id, Waker::noop().clone());
        Seat { open: open.clone(), id }
    }

    /// Notes the task to wake when the worker stops.
    async fn take(&self) {
        poll_fn(|cx| {
            self.open.wakers.borrow_mut().insert(self.id, cx.waker().clone());
            std::task::Poll::Ready(())
        })
        .await;
    }

    fn wish(&self, place: &Place) -> Wish {
        if self.open.stopping.get() {
            Wish::Stop
        } else if place.home() != self.open.worker {
            Wish::Leave
        } else {
            Wish::Serve
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::task::LocalSet;

    use super::*;
    use crate::api::{Body, Part, Reply, Started};
    use crate::net::{ConnectionLimits, RequestMemory};

    const REQUESTS: u32 = 3000;

    /// Of every size up to 16 KiB, so that it often arrives in pieces.
    fn request(index: u32) -> Vec<u8> {
        let filler = index.wrapping_mul(2_654_435_761);
        let mut request = index.to_be_bytes().to_vec();
        request.resize(4 + (filler >> 18) as usize, filler as u8);
        request
    }

    /// Answers with the worker that it is and the request itself, some at once and some later.
    fn echo(worker: usize) -> impl Dispatch {
        move |_: &Peer, frame: Bytes| {
            let index = u32::from_be_bytes(*frame.first_chunk().ok_or("too short")?);
            let reply = async move {
                if index.is_multiple_of(3) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Reply::Body(Body { parts: vec![Part::Bytes(vec![worker as u8].into()), Part::Bytes(frame)] })
            };
            Ok(Started {
                correlation_id: index as i32,
                flexible_header: false,
                pipelined: !index.is_multiple_of(7),
                long_poll: false,
                reply: Box::pin(reply),
            })
        }
    }

    fn serve(inbox: Inbox, stop: watch::Receiver<bool>) {
        let settings = Settings {
            max_request_bytes: 1 << 20,
            max_idle: Duration::from_secs(600),
            memory: RequestMemory::new(Some(64 << 10)),
        };
        let worker = inbox.index;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(LocalSet::new().run_until(inbox.serve(echo(worker), settings, stop)));
    }

    /// Sends all requests without waiting; the workers whose answers came, each to the request whose turn it was.
    fn ask(mut stream: TcpStream) -> HashSet<u8> {
        let mut sender = stream.try_clone().unwrap();
        let sending = thread::spawn(move || {
            let frame = |index| [&(request(index).len() as u32).to_be_bytes()[..], &request(index)].concat();
            let all: Vec<u8> = (0..REQUESTS).flat_map(frame).collect();
            all.chunks(10_007).for_each(|chunk| sender.write_all(chunk).unwrap());
        });
        let answered = (0..REQUESTS).map(|index| {
            let mut size = [0; 4];
            stream.read_exact(&mut size).unwrap();
            let mut answer = vec![0; u32::from_be_bytes(size) as usize];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!((&answer[..4], &answer[5..]), (&index.to_be_bytes()[..], &request(index)[..]));
            answer[4]
        });
        let workers = answered.collect();
        sending.join().unwrap();
        workers
    }

    #[test]
    fn a_connection_that_goes_from_worker_to_worker_loses_nothing_and_answers_in_order() {
        let (team, inboxes) = Team::new(2);
        let (stop, stopping) = watch::channel(false);
        let serving: Vec<_> = inboxes
            .into_iter()
            .map(|inbox| {
                let stopping = stopping.clone();
                thread::spawn(move || serve(inbox, stopping))
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let limits = ConnectionLimits::new(100, 100, &Default::default()).unwrap();
        let asking: Vec<_> = (0..4)
            .map(|_| {
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (stream, address) = listener.accept().unwrap();
                stream.set_nonblocking(true).unwrap();
                team.admit(stream, Peer { listener: "TEST".into(), address }, limits.admit(address.ip()).unwrap());
                thread::spawn(move || ask(client))
            })
            .collect();
        let done = Arc::new(AtomicBool::new(false));
        let changing = thread::spawn({
            let (team, done) = (team.clone(), done.clone());
            move || {
                for serving in [2, 1].into_iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                    team.balance.set_serving(serving);
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let workers: Vec<_> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        changing.join().unwrap();
        // Every second place is the second worker's where both serve.
        assert_eq!(workers, [[0].into(), [0, 1].into(), [0].into(), HashSet::from([0, 1])]);
        stop.send(true).unwrap();
        serving.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(team.places.iter().map(|place| place.load(Ordering::Relaxed)).sum::<usize>(), 0);
    }
}
