//! The command line: what an operator's mistakes end with.

use std::process::{Command, Output};

fn ottla(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.env_clear().envs(env.iter().copied()).args(args).output().expect("the binary runs")
}

/// Standard error of a start that must fail: exit code 1, one line, no backtrace.
fn refusal(args: &[&str], env: &[(&str, &str)]) -> String {
    let output = ottla(args, env);
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
    stderr
}

#[test]
fn the_version_is_told() {
    let output = ottla(&["--version"], &[]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), concat!("ottla ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn invalid_settings_are_refused_with_key_value_and_what_is_allowed() {
    let expected = "ottla: Invalid value 0 for configuration num.partitions: Value must be at least 1\n";
    assert_eq!(refusal(&["--override", "num.partitions=0"], &[]), expected);
    assert_eq!(refusal(&["serve", "--override", "num.partitions=0"], &[]), expected);
    assert_eq!(refusal(&[], &[("KAFKA_NUM_PARTITIONS", "0")]), expected);
    assert_eq!(refusal(&["serve"], &[("KAFKA_HEAP_OPTS", "-Xmx1g"), ("KAFKA_NUM_PARTITIONS", "0")]), expected);
}

#[test]
fn a_file_is_read_and_a_missing_one_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.properties");
    std::fs::write(&path, "# mine\nprocess.roles = controller\n").unwrap();
    let path = path.to_str().unwrap();
    assert!(refusal(&["serve", "--config", path], &[]).contains("process.roles=controller is not supported yet"));
    std::fs::write(path, "node.id=\\u12").unwrap();
    assert!(refusal(&["--config", path], &[]).contains("server.properties: a malformed"));
    let missing = refusal(&["--config", "/no/such/file"], &[]);
    assert!(missing.contains("/no/such/file") && missing.contains("No such file"));
}

#[test]
fn mistakes_on_the_command_line_end_in_one_line_too() {
    assert!(refusal(&["--override", "num.partitions"], &[]).contains("KEY=VALUE"));
    assert!(refusal(&["--no-such-option"], &[]).contains("--no-such-option"));
    assert!(refusal(&["--log-level", "a=b=c"], &[]).contains("--log-level"));
}

#[test]
fn a_directory_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let verify = || {
        let output = ottla(&["verify", path], &[]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let sum = format!("{path}: 0 logs, 0 segments, 0 batches, 0 bytes\n");
    assert_eq!(verify(), (Some(1), format!("{path}/meta.properties: is missing\n{sum}")));
    let meta = "version=1\nnode.id=1\ncluster.id=AAAAAAAAAAAAAAAAAAAABQ\ndirectory.id=xJpAtXhAS0O2caCOiPPdRg\n";
    std::fs::write(dir.path().join("meta.properties"), meta).unwrap();
    assert_eq!(verify(), (Some(0), sum));
    assert!(refusal(&["verify", "/no/such/directory"], &[]).contains("/no/such/directory"));
}
