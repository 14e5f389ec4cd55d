//! The command line: where settings come from, how logs look, and how a failure ends.

use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ottla::config::{Config, Notices, Sources};
use ottla_storage::dump;
use ottla_storage::verify::Checked;
use tracing_subscriber::EnvFilter;

/// A drop-in replacement for the Apache Kafka broker
#[derive(Parser)]
#[command(name = "ottla", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker (what happens without a command, too)
    Serve(Serve),
    /// Look for damage in log directories that no broker uses, and change nothing
    Verify {
        #[arg(required = true, value_name = "DIR")]
        dirs: Vec<PathBuf>,
    },
    /// Show what is in files of a log (.log, .index, .timeindex, .txnindex, .snapshot, .checkpoint), as Apache Kafka's
    /// DumpLogSegments does
    DumpLog {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The records too, not only their batches
        #[arg(long)]
        deep_iteration: bool,
        /// The records with their keys and values
        #[arg(long)]
        print_data_log: bool,
    },
}

#[derive(Args)]
struct Serve {
    /// A server.properties file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting that wins over the file and over KAFKA_* variables; may be repeated
    #[arg(long = "override", value_name = "KEY=VALUE", value_parser = key_value)]
    overrides: Vec<(String, String)>,
    #[arg(long, value_enum, default_value_t = LogFormat::Plain)]
    log_format: LogFormat,
    /// off, error, warn, info, debug, trace, or a filter as in RUST_LOG, which is the default [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Plain,
    Json,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(Cli { command: Some(Command::Serve(serve)), .. }) | Ok(Cli { command: None, serve }) => run(serve),
        Ok(Cli { command: Some(Command::Verify { dirs }), .. }) => verify(&dirs),
        Ok(Cli { command: Some(Command::DumpLog { files, deep_iteration, print_data_log }), .. }) => {
            dump_log(&files, dump::Options { deep_iteration, print_data_log })
        }
        Err(asked) if !asked.use_stderr() => asked.exit(),
        Err(error) => return fail(error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}").replace('\n', " ")),
    }
}

/// How everything that is the operator's to mend ends: one line, causes included.
fn fail(message: &str) -> ExitCode {
    eprintln!("ottla: {message}");
    ExitCode::FAILURE
}

fn run(serve: Serve) -> anyhow::Result<()> {
    start_logging(&serve)?;
    let file = serve.config.as_deref().map(read_properties).transpose()?;
    let sources = Sources { file, overrides: serve.overrides, ..Sources::default() }.with_process_env();
    let (config, notices) = Config::from_sources(&sources)?;
    log_notices(&notices);
    ottla::server::run(config)
}

fn verify(dirs: &[PathBuf]) -> anyhow::Result<()> {
    let mut complaints = 0;
    for dir in dirs {
        let checked = ottla_storage::verify::verify(dir, &mut |complaint| {
            complaints += 1;
            println!("{complaint}");
        })?;
        let Checked { logs, segments, batches, bytes } = checked;
        println!("{}: {logs} logs, {segments} segments, {batches} batches, {bytes} bytes", dir.display());
    }
    anyhow::ensure!(complaints == 0, "{complaints} complaints");
    Ok(())
}

/// Ends quietly where nobody reads on, as `head` does.
fn dump_log(files: &[PathBuf], options: dump::Options) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    for file in files {
        dump::dump(file, options, &mut |line| {
            if written.is_ok() {
                written = writeln!(out, "{line}");
            }
        })?;
    }
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn read_properties(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Java reads these files as ISO-8859-1; UTF-8 is what people write.
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| e.into_bytes().into_iter().map(char::from).collect()))
}

fn start_logging(serve: &Serve) -> anyhow::Result<()> {
    let from_env = || std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = serve.log_level.clone().or_else(from_env).unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&filter).with_context(|| format!("--log-level {filter}"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match serve.log_format {
        LogFormat::Plain => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!("{panic}\n{backtrace}");
    }));
    Ok(())
}

fn log_notices(notices: &Notices) {
    if !notices.unknown.is_empty() {
        tracing::warn!("unknown settings: {}", notices.unknown.join(", "));
    }
    if !notices.without_effect.is_empty() {
        tracing::info!("settings that have no effect here: {}", notices.without_effect.join(", "));
    }
}
