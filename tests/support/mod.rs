//! A network layer without a broker: one worker whose handlers are made for the tests, and a blocking client.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes};
use ottla::api::{Body, Part, Peer, Reply, ReplyFuture, Started};
use ottla::config::Listener;
use ottla::net::{self, ConnectionLimits, RequestMemory, Settings};
use ottla_storage::io::FileSlice;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

/// What the test handlers do, by API key. Numbers in bodies are int32.
pub const ECHO: i16 = 0;
/// Waits for so many ms, then echoes; may overlap.
pub const SLOW: i16 = 1;
/// The same, but runs alone.
pub const ALONE: i16 = 2;
/// Answers so many bytes.
pub const LARGE: i16 = 3;
/// Answers nothing, as acks=0.
pub const SILENT: i16 = 4;
pub const CLOSE: i16 = 5;
pub const PANIC: i16 = 6;
/// Answers with the server's file between two marks.
pub const FILE: i16 = 7;
/// Never answers, and says so.
pub const LONG_POLL: i16 = 8;

#[derive(Clone)]
pub struct Options {
    pub max_request_bytes: usize,
    pub max_idle: Duration,
    pub memory_bytes: Option<usize>,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub file: Option<FileSlice>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_request_bytes: 100 << 20,
            max_idle: Duration::from_secs(600),
            memory_bytes: None,
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            file: None,
        }
    }
}

/// What the handlers saw.
#[derive(Default)]
pub struct Seen {
    pub started: AtomicUsize,
    events: Mutex<Vec<(i16, bool)>>,
}

pub struct Server {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(options: Options) -> Server {
        let seen = Arc::new(Seen::default());
        let (stop, stopping) = watch::channel(false);
        let (tell, told) = mpsc::channel();
        let seen_there = seen.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, serve(options, seen_there, stopping, tell));
        });
        Server { address: told.recv().unwrap(), seen, stop, thread: Some(thread) }
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, correlation_id: 0 }
    }

    /// As the broker stops: returns when all connections have ended.
    pub fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn serve(options: Options, seen: Arc<Seen>, stopping: watch::Receiver<bool>, tell: mpsc::Sender<SocketAddr>) {
    let listener = Listener {
        name: "TEST".into(),
        security_protocol: "PLAINTEXT".into(),
        host: "127.0.0.1".into(),
        port: 0,
        advertised: None,
    };
    let bound = net::bind(&listener, -1).unwrap();
    let address = bound.address;
    let limits = ConnectionLimits::new(options.max_connections, options.max_connections_per_ip, &BTreeMap::new());
    let (team, mut inboxes) = net::Team::new(1);
    spawn_local(net::accept_loop(bound.listen(128).unwrap(), false, -1, limits.unwrap(), team));
    tell.send(address).unwrap();
    let settings = Settings {
        max_request_bytes: options.max_request_bytes,
        max_idle: options.max_idle,
        memory: RequestMemory::new(options.memory_bytes),
    };
    let file = options.file;
    let dispatch = move |_: &Peer, frame: Bytes| start(&seen, file.clone(), frame);
    inboxes.remove(0).serve(dispatch, settings, stopping).await;
}

fn start(seen: &Arc<Seen>, file: Option<FileSlice>, mut frame: Bytes) -> Result<Started, String> {
    if frame.len() < 10 {
        return Err("too short".into());
    }
    let key = frame.get_i16();
    let _version = frame.get_i16();
    let correlation_id = frame.get_i32();
    let _client_id = frame.get_i16();
    if key > LONG_POLL {
        return Err(format!("unknown API key {key}"));
    }
    Ok(Started {
        correlation_id,
        flexible_header: false,
        pipelined: key != ALONE,
        long_poll: key == LONG_POLL,
        reply: handle(seen.clone(), file, key, frame),
    })
}

fn handle(seen: Arc<Seen>, file: Option<FileSlice>, key: i16, body: Bytes) -> ReplyFuture {
    Box::pin(async move {
        seen.started.fetch_add(1, Ordering::Relaxed);
        seen.events.lock().push((key, true));
        let reply = match key {
            SLOW | ALONE => {
                tokio::time::sleep(Duration::from_millis(body.clone().get_u32().into())).await;
                bytes_reply(body)
            }
            LARGE => bytes_reply(vec![7; body.clone().get_u32() as usize].into()),
            SILENT => Reply::None,
            CLOSE => Reply::Close("asked to".into()),
            PANIC => panic!("asked to"),
            FILE => {
                let mark = || Part::Bytes(Bytes::from_static(b"|"));
                Reply::Body(Body { parts: vec![mark(), Part::File(file.unwrap()), mark()] })
            }
            LONG_POLL => std::future::pending().await,
            _ => bytes_reply(body),
        };
        seen.events.lock().push((key, false));
        reply
    })
}

fn bytes_reply(bytes: Bytes) -> Reply {
    Reply::Body(Body { parts: vec![Part::Bytes(bytes)] })
}

impl Seen {
    /// (key, true at its start and false at its end), in the order in which it happened.
    pub fn events(&self) -> Vec<(i16, bool)> {
        self.events.lock().clone()
    }
}

pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn frame(&mut self, key: i16, body: &[u8]) -> Vec<u8> {
        let mut frame = (10 + body.len() as i32).to_be_bytes().to_vec();
        frame.extend(key.to_be_bytes());
        frame.extend(0i16.to_be_bytes());
        frame.extend(self.correlation_id.to_be_bytes());
        frame.extend((-1i16).to_be_bytes());
        frame.extend(body);
        self.correlation_id += 1;
        frame
    }

    pub fn send(&mut self, key: i16, body: &[u8]) {
        let frame = self.frame(key, body);
        self.stream.write_all(&frame).unwrap();
    }

    /// The next answer: its correlation id and body. None: the connection was closed.
    pub fn receive(&mut self) -> Option<(i32, Vec<u8>)> {
        let mut size = [0; 4];
        match self.stream.read_exact(&mut size) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer within the read timeout"),
            Err(_) => return None,
        }
        let mut answer = vec![0; i32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut answer).unwrap();
        let body = answer.split_off(4);
        Some((i32::from_be_bytes(answer.try_into().unwrap()), body))
    }

    pub fn is_served(&mut self) -> bool {
        self.send(ECHO, b"still there?");
        self.receive().is_some_and(|(_, body)| body == b"still there?")
    }
}
