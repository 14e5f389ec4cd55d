//! Everything the side-by-side run measures, with the targets, and the values of all rounds.

use std::collections::BTreeMap;

use crate::broker::Kind;

/// One line of the report.
pub struct Metric {
    pub id: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub higher_is_better: bool,
    /// What Ottla over Kafka must be: at most, or at least where higher is better.
    pub target: Option<f64>,
    /// What Ottla alone must not exceed.
    pub limit: Option<f64>,
}

impl Metric {
    const fn lower(id: &'static str, title: &'static str, unit: &'static str) -> Self {
        Self { id, title, unit, higher_is_better: false, target: None, limit: None }
    }

    const fn higher(id: &'static str, title: &'static str, unit: &'static str) -> Self {
        Self { higher_is_better: true, ..Self::lower(id, title, unit) }
    }

    const fn target(self, ratio: f64) -> Self {
        Self { target: Some(ratio), ..self }
    }

    const fn limit(self, value: f64) -> Self {
        Self { limit: Some(value), ..self }
    }
}

pub const CPU: &str = "CPU s/GiB";

/// What the brokers are compared by.
pub const COMPARED: &[Metric] = &[
    Metric::lower("produce_1k_cpu", "Produce 1 KB records, 64 KiB batches: broker CPU", CPU).target(1.0 / 6.0),
    Metric::higher("produce_1k_rate", "Produce 1 KB records, 64 KiB batches: throughput", "MiB/s").target(3.0),
    Metric::lower("produce_100_cpu", "Produce 100 B records, 16 KiB batches: broker CPU", CPU).target(1.0 / 5.0),
    Metric::higher("produce_100_rate", "Produce 100 B records, 16 KiB batches: throughput", "MiB/s"),
    Metric::lower("fetch_cpu", "Fetch of what was just written: broker CPU", CPU).target(1.2),
    Metric::higher("fetch_rate", "Fetch of what was just written: throughput", "MiB/s"),
    Metric::lower("tail_cpu", "Produce and a consumer that follows: broker CPU", CPU),
    Metric::higher("tail_rate", "Produce and a consumer that follows: throughput", "MiB/s"),
    Metric::lower("latency_p50", "One record at a time: p50", "us").target(1.5),
    Metric::lower("latency_p99", "One record at a time: p99", "us").target(1.0),
    Metric::lower("latency_p999", "One record at a time: p99.9", "us"),
    Metric::lower("rss_idle", "RSS idle after start", "MiB").target(1.0 / 15.0).limit(24.0),
    Metric::lower("rss_load", "RSS at the end of produce", "MiB"),
    Metric::lower("rss_peak", "RSS peak during produce", "MiB"),
    Metric::lower("rss_after", "RSS idle after all loads", "MiB"),
    Metric::lower("idle_cpu", "CPU while idle, after all loads", "ms/s"),
    Metric::lower("first_ack", "Start to first acknowledged record", "ms").target(1.0 / 20.0),
];

/// Whether the run can be trusted: what else took CPU while the broker worked.
pub const SANITY: &[Metric] = &[
    Metric::lower("produce_1k_client", "Produce 1 KB: client", CPU),
    Metric::lower("produce_1k_other", "Produce 1 KB: rest of the machine", CPU),
    Metric::lower("produce_1k_later", "Produce 1 KB: afterwards, until all is on the disk", CPU),
    Metric::lower("produce_1k_workers", "Produce 1 KB: io_uring workers, part of the broker's", CPU),
    Metric::lower("produce_100_client", "Produce 100 B: client", CPU),
    Metric::lower("produce_100_other", "Produce 100 B: rest of the machine", CPU),
    Metric::lower("fetch_client", "Fetch: client", CPU),
    Metric::lower("fetch_other", "Fetch: rest of the machine", CPU),
    Metric::lower("tail_client", "Produce and follow: client", CPU),
    Metric::lower("tail_other", "Produce and follow: rest of the machine", CPU),
];

/// The values measured, round by round.
#[derive(Default)]
pub struct Results {
    values: BTreeMap<(Kind, String), Vec<f64>>,
    /// CPU s/GiB and MiB/s of the program that is no broker (`least`).
    least: Vec<(f64, f64)>,
}

impl Results {
    pub fn add(&mut self, kind: Kind, id: impl Into<String>, value: f64) {
        self.values.entry((kind, id.into())).or_default().push(value);
    }

    pub fn add_least(&mut self, cpu_per_gib: f64, mib_per_second: f64) {
        self.least.push((cpu_per_gib, mib_per_second));
    }

    /// The medians.
    pub fn least(&self) -> Option<(f64, f64)> {
        let (cpu, rate): (Vec<f64>, Vec<f64>) = self.least.iter().copied().unzip();
        median(&cpu).zip(median(&rate))
    }

    pub fn rounds(&self, kind: Kind, metric: &Metric) -> &[f64] {
        self.values.get(&(kind, metric.id.to_owned())).map_or(&[], Vec::as_slice)
    }

    pub fn median(&self, kind: Kind, metric: &Metric) -> Option<f64> {
        median(self.rounds(kind, metric))
    }

    /// Ottla over Kafka, where both were measured.
    pub fn ratio(&self, metric: &Metric) -> Option<f64> {
        let ratio = self.median(Kind::Ottla, metric)? / self.median(Kind::Kafka, metric)?;
        ratio.is_finite().then_some(ratio)
    }

    /// Whether the targets are met; None if there are none, or nothing to judge by.
    pub fn met(&self, metric: &Metric) -> Option<bool> {
        let ratio = self.ratio(metric)?;
        let target = metric.target?;
        let in_ratio = if metric.higher_is_better { ratio >= target } else { ratio <= target };
        let in_limit = metric.limit.is_none_or(|limit| self.median(Kind::Ottla, metric).is_some_and(|it| it <= limit));
        Some(in_ratio && in_limit)
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_target_is_met_by_the_ratio_and_by_the_limit() {
        let results = |ottla, kafka| {
            let mut results = Results::default();
            results.add(Kind::Ottla, "m", ottla);
            results.add(Kind::Kafka, "m", kafka);
            results
        };
        let low = Metric::lower("m", "", "").target(0.1).limit(24.0);
        assert_eq!(results(20.0, 300.0).met(&low), Some(true));
        assert_eq!(results(25.0, 300.0).met(&low), Some(false));
        assert_eq!(results(20.0, 150.0).met(&low), Some(false));
        let high = Metric::higher("m", "", "").target(3.0);
        assert_eq!(results(300.0, 100.0).met(&high), Some(true));
        assert_eq!(results(299.0, 100.0).met(&high), Some(false));
        assert_eq!(results(1.0, 0.0).met(&high), None);
        assert_eq!(Results::default().met(&high), None);
    }

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<&str> = COMPARED.iter().chain(SANITY).map(|metric| metric.id).collect();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
