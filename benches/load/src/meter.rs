//! What a piece of work costs, from /proc: CPU of the broker, of this client, of the rest of the machine, and memory.
//!
//! utime + stime of `/proc/PID/stat` cover every thread the process has or had. io_uring's kernel workers (`iou-wrk-*`,
//! `iou-sqp-*`) are such threads, listed in `/proc/PID/task`, so their work is in the total.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What work cost between [`Meter::start`] and [`Meter::stop`]. Without a process to watch, the broker's part is zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub wall: Duration,
    pub broker_cpu: Duration,
    /// The part of the broker's that its io_uring workers took, those that ended meanwhile aside.
    pub io_uring_cpu: Duration,
    pub client_cpu: Duration,
    /// Neither the broker nor this client: kernel threads (writeback, interrupts) and whatever else runs here.
    pub other_cpu: Duration,
    pub broker_rss_bytes: u64,
    pub broker_peak_rss_bytes: u64,
}

pub struct Meter {
    pid: Option<u32>,
    started: Instant,
    before: Cpu,
}

/// CPU time so far.
struct Cpu {
    broker: Duration,
    io_uring: Duration,
    client: Duration,
    machine: Duration,
}

impl Meter {
    pub fn start(pid: Option<u32>) -> Result<Self> {
        if let Some(pid) = pid {
            // 5: the peak of the resident set starts again from what it is now.
            fs::write(of(pid, "clear_refs"), "5").context("resetting the peak RSS")?;
        }
        let before = Cpu::now(pid)?;
        Ok(Self { pid, started: Instant::now(), before })
    }

    pub fn stop(self) -> Result<Usage> {
        let wall = self.started.elapsed();
        let (before, now) = (self.before, Cpu::now(self.pid)?);
        let (broker_cpu, client_cpu) = (now.broker - before.broker, now.client - before.client);
        let io_uring_cpu = now.io_uring.saturating_sub(before.io_uring);
        let other_cpu = now.machine.saturating_sub(before.machine + broker_cpu + client_cpu);
        let memory = |field| self.pid.map_or(Ok(0), |pid| memory_bytes(pid, field));
        let (broker_rss_bytes, broker_peak_rss_bytes) = (memory("VmRSS:")?, memory("VmHWM:")?);
        Ok(Usage { wall, broker_cpu, io_uring_cpu, client_cpu, other_cpu, broker_rss_bytes, broker_peak_rss_bytes })
    }
}

impl Cpu {
    fn now(pid: Option<u32>) -> Result<Self> {
        Ok(Self {
            broker: pid.map_or(Ok(Duration::ZERO), process_cpu)?,
            io_uring: pid.map_or(Ok(Duration::ZERO), io_uring_workers_cpu)?,
            client: process_cpu(process::id())?,
            machine: busy_of_machine(&fs::read_to_string("/proc/stat")?)?,
        })
    }
}

/// The resident set of a process.
pub fn rss_bytes(pid: u32) -> Result<u64> {
    memory_bytes(pid, "VmRSS:")
}

/// What the kernel workers that io_uring runs for a process right now have used so far.
fn io_uring_workers_cpu(pid: u32) -> Result<Duration> {
    let mut cpu = Duration::ZERO;
    for task in fs::read_dir(of(pid, "task"))? {
        // A thread may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else { continue };
        if stat.contains("(iou-wrk-") || stat.contains("(iou-sqp-") {
            cpu += cpu_of_stat(&stat)?;
        }
    }
    Ok(cpu)
}

fn of(pid: u32, file: &str) -> PathBuf {
    format!("/proc/{pid}/{file}").into()
}

fn process_cpu(pid: u32) -> Result<Duration> {
    cpu_of_stat(&fs::read_to_string(of(pid, "stat")).with_context(|| format!("process {pid} is gone"))?)
}

/// utime + stime. The name in the second field may hold anything, so fields are counted from its closing bracket.
fn cpu_of_stat(stat: &str) -> Result<Duration> {
    let (_, fields) = stat.rsplit_once(')').context("no name in a stat file")?;
    let mut times = fields.split_whitespace().skip(11);
    Ok(ticks(times.next())? + ticks(times.next())?)
}

/// Of user, nice, system, idle, iowait, irq and softirq all but the fourth and fifth.
fn busy_of_machine(stat: &str) -> Result<Duration> {
    let fields: Vec<&str> = stat.lines().next().unwrap_or_default().split_whitespace().collect();
    [1, 2, 3, 6, 7].into_iter().map(|at| ticks(fields.get(at).copied())).sum()
}

fn ticks(field: Option<&str>) -> Result<Duration> {
    let ticks: u64 = field.context("a stat file is short of fields")?.parse()?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn memory_bytes(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(of(pid, "status"))?;
    let line = status.lines().find(|line| line.starts_with(field)).with_context(|| format!("no {field} of {pid}"))?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_past_a_name_with_brackets_and_blanks() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 900 0 0 0 150 250 0 0 20 0 3 0 100";
        assert_eq!(cpu_of_stat(stat).unwrap(), Duration::from_secs(4));
        assert!(cpu_of_stat("7 (a) S 1").is_err());
    }

    #[test]
    fn the_machine_is_not_busy_while_idle_or_waiting_for_the_disk() {
        let stat = "cpu  100 200 300 99999 88888 400 500 777 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_of_machine(stat).unwrap(), Duration::from_secs(15));
    }

    #[test]
    fn a_busy_loop_is_charged_to_the_process_that_runs_it() {
        let meter = Meter::start(Some(process::id())).unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(200) {}
        let usage = meter.stop().unwrap();
        assert!(usage.broker_cpu >= Duration::from_millis(20), "{usage:?}");
        assert!(usage.broker_peak_rss_bytes >= usage.broker_rss_bytes && usage.broker_rss_bytes > 100_000);
    }
}
