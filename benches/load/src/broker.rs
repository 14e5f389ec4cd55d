//! The two brokers as child processes: started on a fresh directory, paused while the other is measured, stopped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tempfile::TempDir;

use crate::connection::Connection;
use crate::load;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Ottla,
    Kafka,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ottla => "Ottla",
            Kind::Kafka => "Apache Kafka",
        }
    }
}

/// Which brokers are measured, and where they are.
#[derive(Args)]
pub struct Pair {
    /// The Ottla program, built in release.
    #[arg(long, default_value = "target/release/ottla")]
    ottla: PathBuf,
    /// The directory with Apache Kafka's jars.
    #[arg(long)]
    kafka_jars: PathBuf,
    /// Measure this broker alone.
    #[arg(long)]
    only: Option<Kind>,
    /// Where the brokers' data goes, on the disk to be measured; removed at the end.
    #[arg(long, default_value = "target")]
    data: PathBuf,
}

impl Pair {
    pub fn kinds(&self) -> Vec<Kind> {
        self.only.map_or(vec![Kind::Ottla, Kind::Kafka], |kind| vec![kind])
    }

    pub fn programs(&self) -> Result<Programs> {
        Ok(Programs {
            ottla: std::path::absolute(&self.ottla)?,
            kafka_jars: std::path::absolute(&self.kafka_jars)?,
            data: std::path::absolute(&self.data)?,
        })
    }

    /// Both, or the one; paused.
    pub fn start(&self, settings: &[&str]) -> Result<Vec<Broker>> {
        let programs = self.programs()?;
        let start = |kind| {
            let broker = Broker::start_with(kind, &programs, settings)?;
            broker.pause()?;
            Ok(broker)
        };
        self.kinds().into_iter().map(start).collect()
    }
}

/// Where the programs are, and where their data goes.
pub struct Programs {
    pub ottla: PathBuf,
    pub kafka_jars: PathBuf,
    pub data: PathBuf,
}

/// What kafka-server-start.sh gives the JVM when nobody says otherwise.
const JVM_DEFAULTS: [&str; 6] = [
    "-Xmx1G",
    "-Xms1G",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

const LOG4J: &str = "Configuration:
  Appenders:
    Console: {name: C, PatternLayout: {pattern: '[%d] %p %m (%c)%n'}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: C}}
";

/// Any cluster id will do: sixteen bytes in base64.
const CLUSTER_ID: &str = "b3R0bGEtYmVuY2htYXJrcw";
/// Deleted topics leave the disk after a second, not a minute, so that rounds don't add up.
const DELETE_DELAY: &str = "log.segment.delete.delay.ms=1000";

const START_TIMEOUT: Duration = Duration::from_secs(180);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const DELETE_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Broker {
    pub kind: Kind,
    pub address: SocketAddr,
    /// From the start of the process to the first acknowledged record.
    pub first_ack: Duration,
    started: Instant,
    child: Child,
    home: Arc<TempDir>,
}

impl Programs {
    /// An empty directory for a broker's data.
    pub fn home(&self) -> Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("ottla-load-").tempdir_in(&self.data)?)
    }
}

impl Broker {
    /// Starts on a fresh directory and returns when a record was acknowledged. What comes before is not timed.
    pub fn start(kind: Kind, programs: &Programs) -> Result<Self> {
        Self::start_with(kind, programs, &[])
    }

    /// The same with other `settings`, as key=value, than the defaults.
    pub fn start_with(kind: Kind, programs: &Programs, settings: &[&str]) -> Result<Self> {
        Self::start_on(kind, programs, Arc::new(programs.home()?), settings)
    }

    /// The same on what may have data already.
    pub fn start_on(kind: Kind, programs: &Programs, home: Arc<TempDir>, settings: &[&str]) -> Result<Self> {
        let mut broker = Self::spawn(kind, programs, home, settings)?;
        broker.await_first_ack().with_context(|| broker.log_tail())?;
        broker.first_ack = broker.started.elapsed();
        Ok(broker)
    }

    /// Does not wait until it serves.
    pub fn spawn(kind: Kind, programs: &Programs, home: Arc<TempDir>, settings: &[&str]) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = match kind {
            Kind::Ottla => ottla(&programs.ottla, home.path(), address, settings),
            Kind::Kafka => kafka(&programs.kafka_jars, home.path(), address, settings)?,
        };
        let log = File::create(home.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(home.path());
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { kind, address, first_ack: Duration::ZERO, started, child, home })
    }

    /// Returns how long a clean stop took.
    pub fn stop(mut self, timeout: Duration) -> Result<Duration> {
        let stopping = Instant::now();
        self.signal(Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            ensure!(stopping.elapsed() < timeout, "{} does not stop", self.kind.name());
            sleep(Duration::from_millis(5));
        }
        Ok(stopping.elapsed())
    }

    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The log directory.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes the broker off the CPU; its memory, code cache and connections stay as they are.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused broker run for as long as `work` takes. After an error it stays awake: the benchmark is over.
    pub fn awake<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.signal(Signal::CONT)?;
        let done = work()?;
        self.pause()?;
        Ok(done)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Deletes a topic, waits until its files are gone and what is dirty is on disk: nothing of it burdens what follows.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        Connection::open(self.address)?.delete_topic(topic)?;
        let deadline = Instant::now() + DELETE_TIMEOUT;
        let data = self.data();
        let prefix = format!("{topic}-");
        loop {
            let left = fs::read_dir(&data)?.flatten().any(|e| e.file_name().to_string_lossy().starts_with(&prefix));
            if !left {
                break;
            }
            ensure!(Instant::now() < deadline, "{} keeps the files of deleted topic {topic}", self.kind.name());
            sleep(Duration::from_millis(50));
        }
        sync_disk(&data)
    }

    /// A connection, a topic, a record. Each attempt has its own topic, as one that failed may have left its behind.
    fn await_first_ack(&mut self) -> Result<()> {
        for attempt in 0.. {
            let topic = format!("first-{attempt}");
            let served = Connection::open(self.address).and_then(|mut connection| {
                connection.create_topic(&topic, 1, &[])?;
                load::produce_one(&mut connection, &topic, 0)
            });
            match served {
                Ok(()) => break,
                Err(error) => self.retry_after(error)?,
            }
        }
        Ok(())
    }

    /// An attempt to use a broker that starts came to nothing: waits for the next, unless that is hopeless.
    fn retry_after(&mut self, error: anyhow::Error) -> Result<()> {
        if self.started.elapsed() > START_TIMEOUT {
            return Err(error.context("it does not serve"));
        }
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended with {status}");
        }
        sleep(Duration::from_millis(1));
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("{}, whose log ends:\n{}", self.kind.name(), lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

/// From the start of the process until that partition took a record.
pub fn await_record(broker: &mut Broker, topic: &str, partition: i32) -> Result<Duration> {
    loop {
        let produced = Connection::open(broker.address)
            .and_then(|mut connection| load::produce_one(&mut connection, topic, partition));
        match produced {
            Ok(()) => return Ok(broker.started.elapsed()),
            Err(error) => broker.retry_after(error).with_context(|| broker.log_tail())?,
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A paused process takes no SIGTERM. Failing means that it is gone already.
        let _ = self.signal(Signal::CONT);
        let _ = self.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            sleep(Duration::from_millis(20));
        }
    }
}

fn ottla(program: &Path, home: &Path, address: SocketAddr, settings: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("serve");
    command.args(["--override", &format!("listeners=PLAINTEXT://{address}")]);
    command.args(["--override", &format!("log.dirs={}", home.join("data").display())]);
    command.args(["--override", DELETE_DELAY]);
    for setting in settings {
        command.args(["--override", setting]);
    }
    command
}

/// One node in both roles, with Kafka's defaults but for what a pause of minutes and a single node ask for.
fn kafka(jars: &Path, home: &Path, address: SocketAddr, settings: &[&str]) -> Result<Command> {
    let controller = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let data = home.join("data");
    // A directory that Ottla made does not name its voter.
    let is_new = !data.exists();
    let quorum = match is_new {
        true => format!("controller.quorum.bootstrap.servers={controller}"),
        false => format!("controller.quorum.voters=1@{controller}"),
    };
    let properties = home.join("server.properties");
    let text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         {quorum}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         broker.session.timeout.ms=3600000\n\
         {DELETE_DELAY}\n\
         log.initial.task.delay.ms=1000\n\
         offsets.topic.replication.factor=1\n\
         {}\n",
        data.display(),
        settings.join("\n")
    );
    fs::write(&properties, text)?;
    fs::write(home.join("log4j2.yaml"), LOG4J)?;
    let java = |main_class: &str| {
        let mut command = Command::new("java");
        command.args(JVM_DEFAULTS).arg("-Djava.awt.headless=true");
        command.arg(format!("-Dlog4j2.configurationFile={}", home.join("log4j2.yaml").display()));
        command.arg("-cp").arg(jars.join("*")).arg(main_class);
        command
    };
    if is_new {
        let mut format = java("kafka.tools.StorageTool");
        format.args(["format", "--standalone", "-t", CLUSTER_ID, "-c"]).arg(&properties);
        let output = format.output().context("running java")?;
        ensure!(output.status.success(), "formatting failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut serve = java("kafka.Kafka");
    serve.arg(&properties);
    Ok(serve)
}

/// What is dirty on the file system of `dir` goes to the disk now.
pub fn sync_disk(dir: &Path) -> Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
