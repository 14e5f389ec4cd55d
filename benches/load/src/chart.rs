//! The chart: for each metric a bar for how many times better than Apache Kafka, on a logarithmic scale, as SVG.

use std::fmt::Write;

use crate::metrics::{COMPARED, Metric, Results};

const WIDTH: f64 = 960.0;
/// Where the scale begins and ends; titles are to the left, numbers to the right.
const LEFT: f64 = 400.0;
const RIGHT: f64 = 890.0;
const TOP: f64 = 84.0;
const ROW: f64 = 30.0;
const BAR: f64 = 16.0;

/// From ten times worse to a thousand times better.
const FROM: f64 = 0.1;
const TO: f64 = 1000.0;
const GRID: [(f64, &str); 5] = [(0.1, "1/10"), (1.0, "same"), (10.0, "10x"), (100.0, "100x"), (1000.0, "1000x")];

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.head{font-size:18px;font-weight:600}\
    .soft{fill:#6e7781}.grid{stroke:#d0d7de}.same{stroke:#6e7781}.better{fill:#2f6f9f}.worse{fill:#c9653b}\
    .target{stroke:#24292f;stroke-width:2}";

/// Bars of the metrics that both brokers were measured by.
pub fn svg(results: &Results) -> String {
    let bars: Vec<(&Metric, f64)> =
        COMPARED.iter().filter_map(|metric| Some((metric, times_better(metric, results.ratio(metric)?)))).collect();
    let bottom = TOP + ROW * bars.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\">\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text class=\"head\" x=\"24\" y=\"34\">Ottla against Apache Kafka, same machine, same run</text>\n\
         <text class=\"soft\" x=\"24\" y=\"56\">How many times better, medians; the black mark is the target</text>\n",
        height = bottom + 40.0,
    );
    for (value, label) in GRID {
        let (x, class) = (x_of(value), if value == 1.0 { "same" } else { "grid" });
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
        let y = bottom + 20.0;
        let _ = writeln!(svg, "<text class=\"soft\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>");
    }
    for (row, (metric, times)) in bars.into_iter().enumerate() {
        bar(&mut svg, TOP + ROW * row as f64, metric, times);
    }
    svg + "</svg>\n"
}

fn bar(svg: &mut String, top: f64, metric: &Metric, times: f64) {
    let (from, to) = (x_of(times.min(1.0)), x_of(times.max(1.0)));
    let class = if times >= 1.0 { "better" } else { "worse" };
    let y = top + (ROW - BAR) / 2.0;
    let baseline = y + BAR - 3.5;
    let end = LEFT - 16.0;
    let _ = writeln!(svg, "<text x=\"{end}\" y=\"{baseline}\" text-anchor=\"end\">{}</text>", metric.title);
    let width = (to - from).max(1.0);
    let _ = writeln!(svg, "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\"/>");
    let mut label_at = to;
    if let Some(target) = metric.target {
        let x = x_of(times_better(metric, target));
        let _ = writeln!(svg, "<path class=\"target\" d=\"M{x:.1} {}v{}\"/>", y - 3.0, BAR + 6.0);
        // The number goes to the right of both when the mark is where it would stand.
        if (to - 4.0..to + 48.0).contains(&x) {
            label_at = x;
        }
    }
    let digits = if times < 10.0 { 1 } else { 0 };
    let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{baseline}\">{times:.digits$}x</text>", label_at + 7.0);
}

/// A ratio of Ottla over Kafka as a factor that is above one where Ottla does better.
fn times_better(metric: &Metric, ratio: f64) -> f64 {
    if metric.higher_is_better { ratio } else { 1.0 / ratio }
}

fn x_of(times: f64) -> f64 {
    let share = (times.clamp(FROM, TO) / FROM).log10() / (TO / FROM).log10();
    LEFT + share * (RIGHT - LEFT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Kind;

    #[test]
    fn the_scale_is_logarithmic_and_ends_where_it_ends() {
        assert_eq!(x_of(0.0), LEFT);
        assert_eq!(x_of(1e9), RIGHT);
        assert!((x_of(10.0) - (LEFT + RIGHT) / 2.0).abs() < 1e-9);
    }

    #[test]
    fn only_what_both_were_measured_by_gets_a_bar() {
        let mut results = Results::default();
        results.add(Kind::Kafka, "fetch_cpu", 0.3);
        results.add(Kind::Kafka, "fetch_rate", 1000.0);
        results.add(Kind::Ottla, "fetch_rate", 500.0);
        let svg = svg(&results);
        assert_eq!(svg.matches("<rect class=\"worse\"").count(), 1);
        assert_eq!(svg.matches("<rect class=\"better\"").count(), 0);
        assert!(svg.contains(">0.5x<"));
    }
}
