//! A broker under test: Ottla or Apache Kafka, started from the same `server.properties`, stopped, killed, restarted.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::clients;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// One broker at a time: the machine is small, and Apache Kafka is not.
static TURN: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ottla,
    Kafka,
}

impl Kind {
    /// What `COMPAT_BROKER` asks for.
    pub fn chosen() -> Kind {
        match std::env::var("COMPAT_BROKER").as_deref() {
            Ok("kafka") => Kind::Kafka,
            Ok("ottla") | Err(_) => Kind::Ottla,
            Ok(other) => panic!("COMPAT_BROKER is {other:?}, expected ottla or kafka"),
        }
    }
}

/// A single node with its own directory. Dropping it kills the process and removes the directory.
pub struct Broker {
    kind: Kind,
    port: u16,
    directory: TempDir,
    process: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl Broker {
    /// Starts the chosen broker with `settings` on top of a plain single-node configuration.
    pub fn start(settings: &[(&str, &str)]) -> Broker {
        Broker::start_as(Kind::chosen(), settings)
    }

    pub fn start_as(kind: Kind, settings: &[(&str, &str)]) -> Broker {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = clients::work_dir().join("brokers");
        fs::create_dir_all(&parent).unwrap();
        let directory = tempfile::tempdir_in(parent).unwrap();
        // Both listeners are held until both ports are known, so that they differ.
        let [client, controller] = [free_port(), free_port()];
        let [port, controller_port] = [&client, &controller].map(|l| l.local_addr().unwrap().port());
        drop((client, controller));

        let data = directory.path().join("data");
        fs::write(directory.path().join("server.properties"), properties(port, controller_port, &data, settings))
            .unwrap();
        fs::write(directory.path().join("log4j2.yaml"), LOG4J).unwrap();
        let mut broker = Broker { kind, port, directory, process: None, _turn: turn };
        if kind == Kind::Kafka {
            broker.format_kafka();
        }
        broker.run();
        broker
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The log directory, with a directory for each partition.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A place for a test's own files that goes with the broker.
    pub fn scratch_dir(&self) -> &Path {
        self.directory.path()
    }

    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("a running broker").id()
    }

    /// Starts it again on the same directory and port.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "stop it first");
        self.run();
    }

    /// Starts the other broker, or the same, on the same directory and port.
    pub fn restart_as(&mut self, kind: Kind) {
        self.kind = kind;
        self.restart();
    }

    /// SIGTERM; waits until it is gone, and checks that it went in good order.
    pub fn stop(&mut self) {
        let status = self.signal(Signal::TERM);
        // The JVM ends by the signal's number after its shutdown hooks have run.
        let clean = status.success() || (self.kind == Kind::Kafka && status.code() == Some(143));
        assert!(clean, "the broker ended with {status}");
    }

    /// SIGKILL; waits until it is gone.
    pub fn kill(&mut self) {
        let status = self.signal(Signal::KILL);
        assert_eq!(status.signal(), Some(9), "the broker was gone before it was killed: {status}");
    }

    fn signal(&mut self, signal: Signal) -> ExitStatus {
        let mut process = self.process.take().expect("a running broker");
        let pid = Pid::from_raw(process.id() as i32).expect("a process id");
        kill_process(pid, signal).unwrap();
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                process.kill().unwrap();
                process.wait().unwrap();
                panic!("the broker did not stop within {STOP_LIMIT:?}");
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn run(&mut self) {
        let config = self.directory.path().join("server.properties");
        let mut command = match self.kind {
            Kind::Ottla => {
                let mut command = Command::new(ottla_binary());
                command.arg("serve").arg("--config").arg(config);
                command
            }
            Kind::Kafka => {
                let mut command = kafka_command(self.directory.path());
                command.arg("kafka.Kafka").arg(config);
                command
            }
        };
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let seen = log.metadata().unwrap().len() as usize;
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}")));
        self.await_ready(seen);
    }

    /// Waits for the line that says it serves, in what it wrote to its log after the first `seen` bytes.
    fn await_ready(&mut self, seen: usize) {
        let ready = match self.kind {
            Kind::Ottla => format!("ottla ready bootstrap={}", self.bootstrap()),
            Kind::Kafka => "Kafka Server started".to_string(),
        };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let log = fs::read(self.log_file()).unwrap();
            if String::from_utf8_lossy(&log[seen..]).contains(&ready) {
                return;
            }
            let process = self.process.as_mut().expect("just started");
            if let Some(status) = process.try_wait().unwrap() {
                self.process = None;
                panic!("the broker ended at start with {status}");
            }
            assert!(Instant::now() < deadline, "the broker was not ready within {START_LIMIT:?}");
            sleep(Duration::from_millis(5));
        }
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("broker.log")
    }

    /// Apache Kafka refuses a directory that was not formatted; Ottla formats it itself.
    fn format_kafka(&self) {
        let config = self.directory.path().join("server.properties");
        let log = File::create(self.log_file()).unwrap();
        let status = kafka_command(self.directory.path())
            .args(["kafka.tools.StorageTool", "format", "--standalone", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg(config)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        assert!(status.success(), "the directory could not be formatted: {status}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself; either way it is gone after the wait.
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of the log of {:?}:", self.kind);
            for line in &lines[lines.len().saturating_sub(60)..] {
                eprintln!("| {line}");
            }
        }
    }
}

/// Nobody else gets it as long as it is bound.
pub fn free_port() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

fn properties(port: u16, controller_port: u16, data: &Path, settings: &[(&str, &str)]) -> String {
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        data.display()
    );
    for (key, value) in settings {
        text += &format!("{key}={value}\n");
    }
    text
}

pub fn ottla_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OTTLA_BIN") {
        return path.into();
    }
    let path = clients::target_dir().join("release/ottla");
    assert!(path.exists(), "{} is missing: cargo build --release", path.display());
    path
}

fn kafka_command(directory: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", directory.join("log4j2.yaml").display()));
    command.arg("-cp").arg(format!("{}/*", clients::kafka_jars().display()));
    command
}

const LOG4J: &str = r#"Configuration:
  Appenders:
    Console: {name: C, PatternLayout: {pattern: "[%d] %p %m (%c)%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: C}}
    Logger: {name: kafka.server.KafkaRaftServer, level: INFO}
"#;
