//! What connections cost in memory when they do nothing. Alone in its process, since it measures the process.

mod support;

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use support::{ECHO, Options, Server};

const CONNECTIONS: u64 = 1_000;

fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn an_idle_connection_costs_less_than_4_kib() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();

    let server = Server::start(Options::default());
    let body = vec![1; 100_000];
    server.connect().send(ECHO, &body);
    let before = rss_bytes();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(ECHO, &body);
        assert_eq!(client.receive().unwrap().1.len(), body.len());
    }
    sleep(Duration::from_millis(2500));
    let idle = rss_bytes().saturating_sub(before) / CONNECTIONS;
    println!("an idle connection costs {idle} bytes");
    assert!(idle < 4096, "{idle} bytes");

    // Announcing 100 MB costs no more, until it is sent.
    let before = rss_bytes();
    clients.iter_mut().for_each(|client| client.stream.write_all(&(100i32 << 20).to_be_bytes()).unwrap());
    sleep(Duration::from_millis(500));
    let announced = rss_bytes().saturating_sub(before) / CONNECTIONS;
    println!("one that announced 100 MB costs {announced} bytes more");
    assert!(announced < 12 << 10, "{announced} bytes");
}
