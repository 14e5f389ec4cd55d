//! The whole broker, as a process, against what no client should send: it answers as Kafka does, or closes that
//! connection, and goes on serving in the memory it had.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const MIB: u64 = 1 << 20;

struct Broker {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
}

fn command(dir: &Path, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.arg("--override").arg(format!("log.dirs={}", dir.join("data").display()));
    let listeners = "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0";
    for setting in [&[listeners], settings].concat() {
        command.arg("--override").arg(setting);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Broker {
    fn start(settings: &[&str]) -> Broker {
        let dir = tempfile::tempdir().unwrap();
        let mut child = command(dir.path(), settings).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let words: Vec<&str> = ready.split_whitespace().collect();
        let ["ottla", "ready", bootstrap, cluster, "in", _, "ms"] = words[..] else { panic!("ready line: {ready:?}") };
        assert!(cluster.starts_with("cluster="));
        Broker { address: bootstrap.strip_prefix("bootstrap=").unwrap().to_owned(), child, dir }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn rss_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn assert_serves(&self) {
        let mut stream = self.connect();
        stream.write_all(&frame(API_VERSIONS, 0, 1, b"")).unwrap();
        let answer = receive(&mut stream).expect("an answer");
        assert_eq!(answer[..6], [0, 0, 0, 1, 0, 0]);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request with header version 1, or 2 where `body` begins with its tagged fields.
fn frame(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let size = 10 + body.len() as i32;
    let header = [&size.to_be_bytes()[..], &key.to_be_bytes(), &version.to_be_bytes(), &correlation_id.to_be_bytes()];
    [&header.concat()[..], &[0xff, 0xff], body].concat()
}

/// What follows the size; None if the connection was closed.
fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut size = [0; 4];
    match stream.read_exact(&mut size) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("neither an answer nor the end"),
        Err(_) => return None,
    }
    let mut answer = vec![0; i32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).unwrap();
    Some(answer)
}

fn is_closed_by(broker: &Broker, bytes: &[u8]) -> bool {
    let mut stream = broker.connect();
    stream.write_all(bytes).unwrap();
    receive(&mut stream).is_none()
}

#[test]
fn what_cannot_be_understood_closes_its_connection_only() {
    let broker = Broker::start(&["socket.request.max.bytes=100000"]);
    // 2^30 topics in five bytes; decoding would allocate 2^30 structures.
    let topics = [0, 0x81, 0x80, 0x80, 0x80, 0x04, 0, 0, 0];
    let before = broker.rss_bytes();
    for bytes in [
        (-1i32).to_be_bytes().to_vec(),
        i32::MAX.to_be_bytes().to_vec(),
        100_001i32.to_be_bytes().to_vec(),
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 3, 0, 18, 0],
        frame(999, 0, 1, b""),
        frame(-1, 0, 1, b""),
        frame(METADATA, 14, 1, &[0; 20]),
        frame(METADATA, -1, 1, &[0; 20]),
        frame(0, 2, 1, &[0; 20]), // Produce is advertised from 0 and served from 3
        frame(METADATA, 12, 1, &topics),
        frame(METADATA, 1, 1, &[0x40, 0, 0, 0]),
        frame(METADATA, 1, 1, &[0, 0, 0, 1, 0, 9, b'a']),
        frame(METADATA, 1, 1, &[0, 0, 0, 1, 0, 1, 0xff]),
        frame(API_VERSIONS, 3, 1, b""),
    ] {
        assert!(is_closed_by(&broker, &bytes), "{bytes:02x?}");
        broker.assert_serves();
    }
    assert!(broker.rss_bytes() < before + 4 * MIB);
}

#[test]
fn a_version_from_the_future_is_told_the_known_ones() {
    let broker = Broker::start(&[]);
    let mut stream = broker.connect();
    stream.write_all(&frame(API_VERSIONS, 99, 7, b"\0\x05test\x041.0\0")).unwrap();
    let answer = receive(&mut stream).unwrap();
    assert_eq!(answer, [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    // The connection goes on, and software names are checked (KIP-511): error 42.
    stream.write_all(&frame(API_VERSIONS, 4, 8, b"\0\x05t st\x041.0\0")).unwrap();
    assert_eq!(receive(&mut stream).unwrap()[..6], [0, 0, 0, 8, 0, 42]);
    stream.write_all(&frame(API_VERSIONS, 4, 9, b"\0\x05test\x041.0\0")).unwrap();
    assert_eq!(receive(&mut stream).unwrap()[..6], [0, 0, 0, 9, 0, 0]);
}

#[test]
fn noise_behind_every_key_and_version_is_survived() {
    let broker = Broker::start(&[]);
    let mut noise = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise as u8
    };
    for key in 0..=75 {
        for version in 0..=18 {
            let body: Vec<u8> = (0..random()).map(|_| if random() < 128 { random() % 4 } else { random() }).collect();
            let mut stream = broker.connect();
            stream.write_all(&frame(key, version, 1, &body)).unwrap();
        }
    }
    broker.assert_serves();
}

#[test]
fn a_client_that_never_reads_costs_a_bounded_amount() {
    let broker = Broker::start(&[]);
    broker.assert_serves();
    let before = broker.rss_bytes();
    let mut stream = broker.connect();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let many: Vec<u8> = (0..1000).flat_map(|id| frame(API_VERSIONS, 0, id, b"")).collect();
    let begun = Instant::now();
    while stream.write_all(&many).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "requests are taken without end");
    }
    broker.assert_serves();
    assert!(broker.rss_bytes() < before + 4 * MIB);
}

#[test]
fn five_thousand_idle_connections_cost_less_than_4_kib_each() {
    const CONNECTIONS: u64 = 5_000;
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    // A larger backlog than Kafka's 50: a burst of connections must not wait for their SYNs to be sent again.
    let broker = Broker::start(&["socket.listen.backlog.size=5000"]);
    broker.assert_serves();
    let before = broker.rss_bytes();
    let begun = Instant::now();
    let mut clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| broker.connect()).collect();
    println!("{CONNECTIONS} connections in {:?}", begun.elapsed());
    for (id, client) in clients.iter_mut().enumerate() {
        client.write_all(&frame(API_VERSIONS, 3, id as i32, b"\0\x05test\x041.0\0")).unwrap();
    }
    clients.iter_mut().for_each(|client| assert!(receive(client).is_some()));
    std::thread::sleep(Duration::from_millis(100));
    let each = broker.rss_bytes().saturating_sub(before) / CONNECTIONS;
    println!("an idle connection costs {each} bytes; the broker has {} KiB", broker.rss_bytes() / 1024);
    assert!(each < 4096, "{each} bytes");

    // Announcing 100 MB costs no more, until it is sent.
    let before = broker.rss_bytes();
    clients.iter_mut().for_each(|client| client.write_all(&(100i32 << 20).to_be_bytes()).unwrap());
    std::thread::sleep(Duration::from_millis(500));
    let each = broker.rss_bytes().saturating_sub(before) / CONNECTIONS;
    println!("one that announced 100 MB costs {each} bytes more");
    assert!(each < 8192, "{each} bytes");
    broker.assert_serves();
}

#[test]
fn a_stop_is_clean_and_quick() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = Broker::start(&[]);
        let mut idle = broker.connect();
        broker.assert_serves();
        let begun = Instant::now();
        broker.signal(signal);
        assert_eq!(broker.child.wait().unwrap().code(), Some(0));
        println!("stopped in {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(3));
        assert!(receive(&mut idle).is_none());
        assert!(broker.dir.path().join("data/.kafka_cleanshutdown").exists());
    }
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let broker = Broker::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let listeners = format!("listeners=PLAINTEXT://{},CONTROLLER://127.0.0.1:0", broker.address);
    let Output { status, stderr, .. } = command(dir.path(), &[&listeners]).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    let line = stderr.lines().last().unwrap();
    assert!(line.contains(&format!("PLAINTEXT://{}", broker.address)) && line.contains("in use"), "{stderr}");
}

#[test]
fn a_directory_in_use_is_one_clear_line() {
    let broker = Broker::start(&[]);
    let Output { status, stderr, .. } = command(broker.dir.path(), &[]).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().last().unwrap().contains("in use by another process"), "{stderr}");
    broker.assert_serves();
}
