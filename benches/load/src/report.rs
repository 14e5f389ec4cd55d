//! The outcome of a side-by-side run: tables for people, JSON for programs, and the pages in docs/.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::broker::Kind;
use crate::chart;
use crate::metrics::{COMPARED, CPU, Metric, Results, SANITY};
use crate::side_by_side::Plan;

/// Between these two lines of docs/benchmarks.md stands what this program writes.
const DOCS_BEGIN: &str = "<!-- results: written by scripts/bench -->";
const DOCS_END: &str = "<!-- end of results -->";

pub struct Report {
    results: Results,
    plan: Plan,
    /// What the run was made on and with, as name and value.
    machine: Vec<(&'static str, String)>,
}

impl Report {
    pub fn new(results: Results, plan: Plan, data: &Path) -> Self {
        Self { results, plan, machine: machine(data) }
    }

    /// The tables, in Markdown that also reads well on a terminal.
    pub fn text(&self) -> String {
        let plan = &self.plan;
        let mut text = format!(
            "Medians of {} rounds; {:.3} GiB a scenario and round, {:.3} GiB of warm-up, {} partitions, \
             {} connections, {} in flight, {} single records a round.\n\n",
            plan.rounds,
            plan.load_bytes as f64 / (1u64 << 30) as f64,
            plan.warmup_bytes as f64 / (1u64 << 30) as f64,
            plan.partitions,
            plan.connections,
            plan.in_flight,
            plan.latency_records,
        );
        for (name, value) in &self.machine {
            text += &format!("- {name}: {value}\n");
        }
        let heads = ["", "unit", "Ottla", "Kafka", "Ottla/Kafka", "target", "met"];
        text += &format!("\n{}", table(&heads, COMPARED.iter().map(|metric| self.compared(metric)).collect()));
        text += "\nWhat else took CPU meanwhile, and so how far the numbers above can be trusted:\n";
        let rows = SANITY.iter().map(|metric| self.compared(metric)[..4].to_vec()).collect();
        text += &format!("\n{}", table(&heads[..4], rows));
        if let Some((cpu, rate)) = self.results.least() {
            text += &format!(
                "\nThe least that produce of 1 KB records can cost: a program that only receives the same frames, takes their \
                 checksums,\nwrites them to the page cache and the disk as Ottla does, and answers: {} {CPU}, {} MiB/s.\n",
                number(cpu),
                number(rate)
            );
        }
        text
    }

    fn compared(&self, metric: &Metric) -> Vec<String> {
        let of = |kind| self.results.median(kind, metric).map_or("-".to_owned(), number);
        let mut target = metric.target.map_or(String::new(), |target| {
            format!("{} {}", if metric.higher_is_better { "at least" } else { "at most" }, ratio(target))
        });
        if let Some(limit) = metric.limit {
            target += &format!(", {limit} {}", metric.unit);
        }
        let met = self.results.met(metric).map_or("", |met| if met { "yes" } else { "no" });
        vec![
            metric.title.to_owned(),
            metric.unit.to_owned(),
            of(Kind::Ottla),
            of(Kind::Kafka),
            self.results.ratio(metric).map_or("-".to_owned(), ratio),
            target,
            met.to_owned(),
        ]
    }

    /// results.json and chart.svg.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("results.json"), serde_json::to_string_pretty(&self.json())?)?;
        fs::write(directory.join("chart.svg"), chart::svg(&self.results))?;
        eprintln!("results.json and chart.svg are in {}", directory.display());
        Ok(())
    }

    fn json(&self) -> Value {
        let metric = |metric: &Metric| {
            let of = |kind| json!({ "median": self.results.median(kind, metric), "rounds": self.results.rounds(kind, metric) });
            json!({
                "id": metric.id,
                "title": metric.title,
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "ottla": of(Kind::Ottla),
                "kafka": of(Kind::Kafka),
                "ratio": self.results.ratio(metric),
                "target": metric.target,
                "limit": metric.limit,
                "met": self.results.met(metric),
            })
        };
        json!({
            "machine": self.machine.iter().cloned().collect::<BTreeMap<_, _>>(),
            "plan": self.plan,
            "compared": COMPARED.iter().map(metric).collect::<Vec<_>>(),
            "least": self.results.least().map(|(cpu, rate)| json!({ "cpu_s_per_gib": cpu, "mib_per_s": rate })),
            "sanity": SANITY.iter().map(metric).collect::<Vec<_>>(),
        })
    }

    /// Replaces the results in benchmarks.md, and puts the chart next to it.
    pub fn write_docs(&self, directory: &Path) -> Result<()> {
        let page = directory.join("benchmarks.md");
        let text = fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
        let text = with_results(&text, &self.text()).with_context(|| format!("no place for results in {page:?}"))?;
        fs::write(&page, text)?;
        Ok(fs::write(directory.join("benchmarks.svg"), chart::svg(&self.results))?)
    }
}

fn with_results(page: &str, results: &str) -> Option<String> {
    let (before, rest) = page.split_once(DOCS_BEGIN)?;
    let (_, after) = rest.split_once(DOCS_END)?;
    Some(format!("{before}{DOCS_BEGIN}\n{}\n{DOCS_END}{after}", results.trim_end()))
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Below one as a part, as the targets are stated: 1/6.
pub fn ratio(value: f64) -> String {
    let short = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    match value {
        1.0.. | ..=0.0 => format!("{}x", short(number(value))),
        0.5.. => format!("{value:.2}x"),
        _ => format!("1/{}", short(number(1.0 / value))),
    }
}

fn table(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.chain([heads[column].len(), 3]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} |"));
        format!("|{}\n", padded.collect::<String>())
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    line(&heads) + &line(&rule) + &rows.iter().map(|row| line(row)).collect::<String>()
}

fn machine(data: &Path) -> Vec<(&'static str, String)> {
    let of_file = |path: &str, field: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let memory_kib: f64 = of_file("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    vec![
        ("Processor", format!("{}, {cores} cores", of_file("/proc/cpuinfo", "model name"))),
        ("Memory", format!("{:.1} GiB", memory_kib / (1u64 << 20) as f64)),
        ("Kernel", output(Command::new("uname").arg("-sr"))),
        ("File system", output(Command::new("df").arg("--output=fstype").arg(data))),
        ("Java", output(Command::new("java").arg("--version"))),
        ("Ottla", output(Command::new("git").args(["describe", "--always", "--dirty"]))),
        ("Date", output(Command::new("date").args(["-u", "+%Y-%m-%d"]))),
    ]
}

/// What a program says: of several lines the second for `df`, whose first is a head, and else the first.
fn output(command: &mut Command) -> String {
    let output = command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let lines = output.unwrap_or_default();
    let head = |line: &&str| *line != "Type";
    lines.lines().find(head).unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_read_as_the_targets_do() {
        let texts = [1.0 / 6.0, 0.1234, 0.75, 1.0, 1.2, 1.5, 3.0, 12.34].map(ratio);
        assert_eq!(texts, ["1/6", "1/8.1", "0.75x", "1x", "1.2x", "1.5x", "3x", "12.3x"]);
    }

    #[test]
    fn a_round_hundred_keeps_its_zeros() {
        assert_eq!(ratio(100.0), "100x");
        assert_eq!(number(1234.5), "1234");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = table(&["", "unit"], vec![vec!["throughput".into(), "MiB/s".into()]]);
        assert_eq!(text, "|            | unit  |\n| ---------- | ----- |\n| throughput | MiB/s |\n");
    }

    #[test]
    fn results_replace_what_stood_between_the_marks() {
        let page = format!("above\n{DOCS_BEGIN}\nold\n{DOCS_END}\nbelow\n");
        let expected = format!("above\n{DOCS_BEGIN}\nnew\n{DOCS_END}\nbelow\n");
        assert_eq!(with_results(&page, "new\n"), Some(expected));
        assert_eq!(with_results("no marks", "new"), None);
    }
}
