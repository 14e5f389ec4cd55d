//! Client programs in other languages: built once into the cargo target directory, run as child processes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// A client program that has not finished by then hangs.
const RUN_LIMIT_S: &str = "600";

/// The version of kafka-clients that a Java program runs with; the classes are the same.
#[derive(Clone, Copy, Debug)]
pub enum JavaClient {
    V4_3_1,
    V2_8_2,
}

/// Runs the Java program `class` to its end, which must be a good one.
pub fn java(client: JavaClient, class: &str, arguments: &[&str]) {
    run(java_command(client, class, arguments));
}

/// Runs the Java program `class` with everything that comes with Apache Kafka 4.3.1; returns what it printed.
pub fn java_with_tools(class: &str, arguments: &[&str]) -> String {
    let jars = kafka_jars();
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.timezone=UTC", "-cp"]);
    command.arg(format!("{}:{}/*", java_dir().join("programs/target/classes").display(), jars.display()));
    command.arg(format!("compat.{class}")).args(arguments);
    String::from_utf8(run(command).stdout).expect("text")
}

/// Starts the Java program `class` with a pipe to its standard input.
pub fn spawn_java(client: JavaClient, class: &str, arguments: &[&str]) -> Child {
    spawn(java_command(client, class, arguments))
}

/// Starts the Java program `class` with Kafka Streams; it ends with its standard input.
pub fn spawn_streams(class: &str, arguments: &[&str]) -> Running {
    Running(spawn(java_of("streams", &format!("compat.{class}"), arguments)))
}

/// Starts a worker of Kafka Connect in distributed mode.
pub fn spawn_connect(properties: &Path) -> Running {
    let properties = properties.to_str().expect("a path in UTF-8");
    Running(spawn(java_of("connect", "org.apache.kafka.connect.cli.ConnectDistributed", &[properties])))
}

/// A process that is killed when it is dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after the wait.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the Java program `class` with spring-kafka to its end, which must be a good one.
pub fn spring(class: &str, arguments: &[&str]) {
    run(java_of("spring", &format!("compat.{class}"), arguments));
}

/// `main_class` of a project that is built by itself.
fn java_of(project: &str, main_class: &str, arguments: &[&str]) -> Command {
    let source = java_dir().join(project);
    once_changed(project, &[&source], || {
        run(in_dir("mvn", &source, &["-q", "-B", "package"]));
    });
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"]);
    command.arg(format!("{0}/target/classes:{0}/target/lib/*", source.display()));
    command.arg(main_class).args(arguments);
    command
}

/// With a pipe to its standard input.
fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
    command.spawn().unwrap()
}

fn java_command(client: JavaClient, class: &str, arguments: &[&str]) -> Command {
    let java = java_dir();
    let jars = match client {
        JavaClient::V4_3_1 => java.join("programs/target/lib"),
        JavaClient::V2_8_2 => java.join("client-2.8.2/target/lib"),
    };
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"]);
    command.arg(format!("{}:{}/*", java.join("programs/target/classes").display(), jars.display()));
    command.arg(format!("compat.{class}")).args(arguments);
    command
}

/// Runs a tool of Apache Kafka and returns what it printed; its end must be a good one.
pub fn kafka_tool(class: &str, arguments: &[impl AsRef<OsStr>]) -> String {
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{}/*", kafka_jars().display())).arg(class).args(arguments);
    let output = run(command);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The jars of Apache Kafka 4.3.1.
pub fn kafka_jars() -> PathBuf {
    java_dir().join("kafka/target/lib")
}

fn java_dir() -> PathBuf {
    let source = source_dir("java");
    once_changed("java", &[&source], || {
        run(in_dir("mvn", &source, &["-q", "-B", "package"]));
    });
    source
}

/// Runs `python/<script>` with the packages of `python/requirements.txt`.
pub fn python(script: &str, arguments: &[&str]) {
    let source = source_dir("python");
    let environment = work_dir().join("python");
    let requirements = source.join("requirements.txt");
    once_changed("python", &[&requirements], || {
        let environment = environment.to_str().expect("a path in UTF-8");
        run(in_dir("python3", &source, &["-m", "venv", "--clear", environment]));
        let pip = format!("{environment}/bin/pip");
        run(in_dir(&pip, &source, &["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]));
    });
    let mut command = Command::new(environment.join("bin/python"));
    command.arg(source.join(script)).args(arguments);
    run(command);
}

/// Runs the franz-go program.
pub fn go(arguments: &[&str]) {
    let source = source_dir("go");
    let binary = work_dir().join("franz-go");
    once_changed("go", &[&source], || {
        run(in_dir("go", &source, &["build", "-o", binary.to_str().expect("a path in UTF-8"), "."]));
    });
    let mut command = Command::new(&binary);
    command.args(arguments);
    run(command);
}

/// Runs `node/<script>` with the packages of `node/package-lock.json`.
pub fn node(script: &str, arguments: &[&str]) {
    let source = source_dir("node");
    once_changed("node", &[&source.join("package-lock.json")], || {
        run(in_dir("npm", &source, &["ci", "--silent", "--no-audit", "--no-fund"]));
    });
    let mut command = Command::new("node");
    command.arg(source.join(script)).args(arguments);
    run(command);
}

fn run(command: Command) -> Output {
    // `timeout` leads, so that a client that hangs fails its test instead of holding up all of them.
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", RUN_LIMIT_S]).arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    let output = limited.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{}\nended with {}\n{}{}",
        shortened(&format!("{command:?}")),
        output.status,
        shortened(&String::from_utf8_lossy(&output.stdout)),
        shortened(&String::from_utf8_lossy(&output.stderr))
    );
    output
}

/// Enough of a text to see what went wrong: a list of files or a dump can be megabytes.
fn shortened(text: &str) -> String {
    const LIMIT: usize = 8_000;
    if text.len() <= LIMIT { text.to_string() } else { text.chars().take(LIMIT).chain(" ...".chars()).collect() }
}

fn in_dir(program: &str, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).args(arguments);
    command
}

/// Runs `build` unless it has succeeded since the newest change under `sources`.
fn once_changed(name: &str, sources: &[&Path], build: impl FnOnce()) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let stamp = work_dir().join(format!("{name}.built"));
    let changed = sources.iter().filter_map(|source| newest_change(source)).max();
    if fs::metadata(&stamp).and_then(|m| m.modified()).is_ok_and(|built| Some(built) >= changed) {
        return;
    }
    build();
    fs::write(stamp, "").unwrap();
}

fn newest_change(path: &Path) -> Option<SystemTime> {
    if !path.is_dir() {
        return fs::metadata(path).and_then(|m| m.modified()).ok();
    }
    // What a build writes is not a source.
    let built = ["target", "node_modules"].map(OsStr::new);
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries.filter(|entry| !built.contains(&&*entry.file_name())).filter_map(|entry| newest_change(&entry.path())).max()
}

fn source_dir(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(language)
}

/// Cargo's target directory: a test program is `<target>/<profile>/deps/<name>`.
pub fn target_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).expect("a test program in the target directory").to_path_buf()
}

/// Where the tests build clients and keep brokers' directories: on disk, not in a tmpfs.
pub fn work_dir() -> PathBuf {
    let directory = target_dir().join("compat");
    fs::create_dir_all(&directory).unwrap();
    directory
}
