//! The rules of a connection: order, overlap, bounds, bad frames, the end. Handlers are made for the tests.

mod support;

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ottla_storage::io::{FileSlice, Io, OpenOptions};
use support::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn int(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

#[test]
fn answers_leave_in_the_order_of_requests_though_they_run_together() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    let begun = Instant::now();
    for wait in [150, 100, 50, 0] {
        client.send(SLOW, &int(wait));
    }
    for (id, wait) in [150, 100, 50, 0].into_iter().enumerate() {
        assert_eq!(client.receive(), Some((id as i32, int(wait).to_vec())));
    }
    assert!(begun.elapsed() < ms(290), "one after the other takes 300 ms");
}

#[test]
fn a_request_that_runs_alone_overlaps_with_nothing() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    client.send(SLOW, &int(30));
    client.send(ALONE, &int(30));
    client.send(ECHO, b"");
    (0..3).for_each(|id| assert_eq!(client.receive().unwrap().0, id));
    let alone = [(SLOW, true), (SLOW, false), (ALONE, true), (ALONE, false), (ECHO, true), (ECHO, false)];
    assert_eq!(server.seen.events(), alone);
}

#[test]
fn a_request_without_an_answer_holds_nothing_up() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    client.send(SILENT, b"");
    client.send(ECHO, b"next");
    assert_eq!(client.receive(), Some((1, b"next".to_vec())));
}

#[test]
fn frames_may_come_a_byte_at_a_time_or_many_at_once() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    for byte in client.frame(ECHO, b"slowly") {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.receive(), Some((0, b"slowly".to_vec())));
    let body = vec![b'x'; 300_000];
    let many: Vec<u8> = (0..20).flat_map(|_| client.frame(ECHO, &body)).collect();
    let mut writer = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&many).unwrap());
    for id in 1..=20 {
        assert_eq!(client.receive(), Some((id, body.clone())));
    }
    writing.join().unwrap();
}

#[test]
fn bad_frames_close_their_connection_only() {
    let server = Server::start(Options { max_request_bytes: 1000, ..Options::default() });
    let mut other = server.connect();
    assert!(other.is_served());
    let bad: [&[u8]; 5] = [
        &(-1i32).to_be_bytes(),
        &1001i32.to_be_bytes(),
        &i32::MIN.to_be_bytes(),
        b"\0\0\0\0",                               // no room for a header
        b"\0\0\0\x0a\x03\xe7\0\0\0\0\0\0\xff\xff", // key 999
    ];
    for bytes in bad {
        let mut client = server.connect();
        client.send(SLOW, &int(20));
        client.stream.write_all(bytes).unwrap();
        assert!(client.receive().is_some(), "what came before is still answered");
        assert_eq!(client.receive(), None, "{bytes:?}");
        assert!(other.is_served());
    }
}

#[test]
fn a_handler_may_close_the_connection_after_the_answers_before_it() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    client.send(SLOW, &int(30));
    client.send(CLOSE, b"");
    client.send(ECHO, b"never answered");
    assert_eq!(client.receive().unwrap().0, 0);
    assert_eq!(client.receive(), None);
}

#[test]
fn a_panic_closes_its_connection_only() {
    let server = Server::start(Options::default());
    let (mut other, mut client) = (server.connect(), server.connect());
    client.send(PANIC, b"");
    assert_eq!(client.receive(), None);
    assert!(other.is_served());
}

#[test]
fn a_client_that_closed_its_side_still_gets_its_answers() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    client.send(ALONE, &int(30));
    client.send(ALONE, &int(0));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.receive().unwrap().0, 0);
    assert_eq!(client.receive().unwrap().0, 1);
    assert_eq!(client.receive(), None);
}

#[test]
fn what_a_vanished_client_sent_is_still_done() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    (0..10).for_each(|_| client.send(SILENT, b"acks=0"));
    drop(client);
    let deadline = Instant::now() + ms(2000);
    while server.seen.started.load(Ordering::Relaxed) < 10 {
        assert!(Instant::now() < deadline);
        sleep(ms(5));
    }
}

#[test]
fn a_client_that_never_reads_is_not_read_from() {
    let server = Server::start(Options::default());
    let mut client = server.connect();
    client.stream.set_write_timeout(Some(ms(300))).unwrap();
    let body = [&int(100_000)[..], &[0; 1000]].concat();
    let mut sent = 0;
    let stuck = loop {
        let frame = client.frame(LARGE, &body);
        match client.stream.write_all(&frame) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000, "the server takes requests without end");
    };
    assert_eq!(stuck.kind(), ErrorKind::WouldBlock);
    // What waits for it: 1 MiB here, and what the kernel's socket buffers hold.
    let answered = server.seen.started.load(Ordering::Relaxed);
    assert!(answered < sent && answered < 200, "{answered} answers were made");
    assert!(server.connect().is_served());
    // When it reads at last, it finds everything in order.
    (0..answered as i32).for_each(|id| assert_eq!(client.receive().unwrap().0, id));
}

#[test]
fn an_idle_connection_is_closed() {
    let server = Server::start(Options { max_idle: ms(200), ..Options::default() });
    let (mut idle, mut busy) = (server.connect(), server.connect());
    let begun = Instant::now();
    while begun.elapsed() < ms(600) {
        assert!(busy.is_served());
        sleep(ms(50));
    }
    assert_eq!(idle.receive(), None);
}

#[test]
fn file_parts_are_sent_as_they_stand() {
    let content: Vec<u8> = (0..1_500_000u32).flat_map(u32::to_le_bytes).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    std::fs::write(&path, &content).unwrap();
    let file = Io::plain().open(&path, OpenOptions { read_only: true, ..OpenOptions::default() }).unwrap();
    let slice = FileSlice { file: file.clone(), pos: 3, len: 5_000_000 };
    let server = Server::start(Options { file: Some(slice), ..Options::default() });
    let mut client = server.connect();
    (0..3).for_each(|_| client.send(FILE, b""));
    for _ in 0..3 {
        let (_, body) = client.receive().unwrap();
        assert!(body[0] == b'|' && body[1..=5_000_000] == content[3..5_000_003] && body[5_000_001..] == *b"|");
    }
    // A file that ends before what was promised cannot be made good: the connection is closed.
    let beyond = FileSlice { file, pos: content.len() as u64 - 10, len: 20 };
    let server = Server::start(Options { file: Some(beyond), ..Options::default() });
    let mut client = server.connect();
    client.send(FILE, b"");
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut client.stream, &mut rest).unwrap();
    assert!(rest.len() < 4 + 4 + 22);
}

#[test]
fn connections_over_the_limits_wait_or_are_closed() {
    let server = Server::start(Options { max_connections_per_ip: 2, ..Options::default() });
    let (mut first, mut second) = (server.connect(), server.connect());
    assert!(first.is_served() && second.is_served());
    assert_eq!(server.connect().receive(), None);
    drop(first);
    sleep(ms(50));
    assert!(server.connect().is_served());

    let server = Server::start(Options { max_connections: 1, ..Options::default() });
    let mut first = server.connect();
    assert!(first.is_served());
    let mut waiting = server.connect();
    waiting.send(ECHO, b"");
    waiting.stream.set_read_timeout(Some(ms(100))).unwrap();
    assert_eq!(waiting.stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(first);
    waiting.stream.set_read_timeout(Some(ms(5000))).unwrap();
    assert!(waiting.receive().is_some());
}

#[test]
fn request_memory_is_shared_and_comes_back() {
    let server = Server::start(Options { memory_bytes: Some(1000), ..Options::default() });
    let mut holder = server.connect();
    holder.stream.write_all(&1000i32.to_be_bytes()).unwrap();
    holder.stream.write_all(&[0; 10]).unwrap();
    sleep(ms(50));
    let mut waiting = server.connect();
    waiting.send(ECHO, b"");
    waiting.stream.set_read_timeout(Some(ms(100))).unwrap();
    assert_eq!(waiting.stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(holder);
    waiting.stream.set_read_timeout(Some(ms(5000))).unwrap();
    assert!(waiting.receive().is_some());
    (0..20).for_each(|_| assert!(waiting.is_served()));
}

#[test]
fn a_stop_finishes_what_is_in_flight_and_waits_for_nobody_else() {
    let mut server = Server::start(Options::default());
    let (mut idle, mut polling, mut busy) = (server.connect(), server.connect(), server.connect());
    assert!(idle.is_served());
    polling.send(LONG_POLL, b"");
    busy.send(SLOW, &int(100));
    sleep(ms(30));
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < ms(1000));
    assert_eq!(busy.receive(), Some((0, int(100).to_vec())));
    for client in [&mut idle, &mut polling, &mut busy] {
        assert_eq!(client.receive(), None);
    }
}
