//! Kafka Connect: two workers in distributed mode carry the lines of a file into a topic, exactly once, and from there into
//! another file, while the broker is killed, and then the worker that does the work.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use compat_tests::broker::{Broker, free_port};
use compat_tests::clients::{Running, spawn_connect};
use compat_tests::dump::dump_all;
use compat_tests::librdkafka;

const PATIENCE: Duration = Duration::from_secs(120);
const LINES_A_TIME: usize = 2_000;

#[test]
fn lines_go_from_file_to_file_through_kills() {
    let mut broker = Broker::start(&[
        ("offsets.topic.num.partitions", "3"),
        ("transaction.state.log.num.partitions", "3"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
    ]);
    let (from, to) = (broker.scratch_dir().join("from"), broker.scratch_dir().join("to"));
    let mut lines = Lines { file: File::create(&from).unwrap(), written: 0 };
    let mut workers = [Worker::start(&broker, "first"), Worker::start(&broker, "second")];
    workers.iter().for_each(Worker::await_ready);

    lines.write();
    let file = |name: &str, class: &str, path: &Path, more: &str| {
        let path = path.display();
        format!(
            r#"{{"name": "{name}", "config": {{"connector.class": "org.apache.kafka.connect.file.{class}",
                 "file": "{path}", "tasks.max": "1", {more}}}}}"#
        )
    };
    let source = r#""topic": "lines", "exactly.once.support": "required""#;
    let sink = r#""topics": "lines", "consumer.override.isolation.level": "read_committed""#;
    workers[0].post("/connectors", &file("source", "FileStreamSourceConnector", &from, source));
    workers[1].post("/connectors", &file("sink", "FileStreamSinkConnector", &to, sink));
    lines.await_all_in(&to);

    broker.kill();
    lines.write();
    broker.restart();
    lines.await_all_in(&to);

    // The other worker takes over, and fences what the first may still have under way.
    let busy = await_source(&workers);
    drop(workers[busy].process.take());
    lines.write();
    lines.await_all_in(&to);

    let committed = librdkafka::committed_values(&broker.bootstrap(), "lines", 1, lines.written);
    assert_eq!(committed, lines.all());
    drop(workers);
    broker.stop();
    dump_all(&broker.data_dir());
}

/// Which worker runs the source's task.
fn await_source(workers: &[Worker]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = workers[0].request("GET", "/connectors/source/status", "").unwrap_or_default();
        let runs =
            |worker: &Worker| status.contains(&format!(r#""id":0,"state":"RUNNING","worker_id":"{}"#, worker.id()));
        if let Some(busy) = workers.iter().position(runs) {
            return busy;
        }
        assert!(Instant::now() < deadline, "nobody runs the source: {status}");
        sleep(Duration::from_millis(200));
    }
}

/// The file that the source follows.
struct Lines {
    file: File,
    written: usize,
}

impl Lines {
    fn write(&mut self) {
        let more: String = (self.written..self.written + LINES_A_TIME).map(|n| format!("line {n}\n")).collect();
        self.file.write_all(more.as_bytes()).unwrap();
        self.written += LINES_A_TIME;
    }

    fn all(&self) -> BTreeSet<String> {
        (0..self.written).map(|n| format!("line {n}")).collect()
    }

    /// A sink may write what it had not committed once more.
    fn await_all_in(&self, path: &PathBuf) {
        let deadline = Instant::now() + PATIENCE;
        let all = self.all();
        loop {
            let text = fs::read_to_string(path).unwrap_or_default();
            let there: BTreeSet<String> = text.lines().map(str::to_owned).collect();
            if there == all {
                return;
            }
            assert!(Instant::now() < deadline, "{} of {} lines arrived", there.len(), all.len());
            sleep(Duration::from_millis(200));
        }
    }
}

struct Worker {
    process: Option<Running>,
    port: u16,
}

impl Worker {
    fn start(broker: &Broker, name: &str) -> Worker {
        let port = free_port().local_addr().unwrap().port();
        let properties = format!(
            "bootstrap.servers={}\n\
             group.id=connect\n\
             session.timeout.ms=6000\n\
             heartbeat.interval.ms=500\n\
             scheduled.rebalance.max.delay.ms=1000\n\
             offset.flush.interval.ms=500\n\
             exactly.once.source.support=enabled\n\
             listeners=http://127.0.0.1:{port}\n\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.storage.StringConverter\n\
             config.storage.topic=connect-configs\n\
             offset.storage.topic=connect-offsets\n\
             status.storage.topic=connect-status\n\
             config.storage.replication.factor=1\n\
             offset.storage.replication.factor=1\n\
             status.storage.replication.factor=1\n",
            broker.bootstrap()
        );
        let path = broker.scratch_dir().join(format!("{name}.properties"));
        fs::write(&path, properties).unwrap();
        Worker { process: Some(spawn_connect(&path)), port }
    }

    fn id(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn await_ready(&self) {
        self.until_answered("GET", "/connectors", "");
    }

    fn post(&self, path: &str, body: &str) {
        self.until_answered("POST", path, body);
    }

    /// While workers come together they refuse requests.
    fn until_answered(&self, method: &str, path: &str, body: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.request(method, path, body).is_none() {
            assert!(Instant::now() < deadline, "{} refuses {method} {path}", self.id());
            sleep(Duration::from_millis(200));
        }
    }

    /// What is answered, if it is a success.
    fn request(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        let (host, length) = (self.id(), body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?;
        status.starts_with('2').then_some(answer)
    }
}
