//! The page of a run: one file with its plots inside, readable without a network.

use std::{collections::BTreeMap, fmt::Write};

use super::{Case, Interval, Run};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1b1f24;background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}\
td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}td.n{text-align:right;\
font-variant-numeric:tabular-nums}.bar{fill:#3b73b9}text{font:12px system-ui,sans-serif;fill:currentColor}\
pre{white-space:pre-wrap;margin:0}td,pre,summary{overflow-wrap:anywhere}@media(prefers-color-scheme:dark){body{background:#16191d;color:#d8dee6}\
.bar{fill:#6ea8e8}}";

/// Metrics that count something, and would pass for a share where they are 0 or 1.
const COUNTS: [&str; 5] = ["cancelled", "failed", "skipped", "requests", "keys"];
/// Cases listed on the page; all of them are in `cases.jsonl`.
const LISTED: usize = 200;

pub fn page(run: &Run, cases: &[Case]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{task}</title><style>{STYLE}</style></head><body>\n<h1>{task}</h1>\n",
        task = escape(&run.task)
    );
    page.push_str("<table>\n");
    for (name, value) in &run.metrics {
        let interval = run.intervals.get(name).map(Interval::to_string).unwrap_or_default();
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{value:.4}</td><td>{interval}</td></tr>",
            escape(name)
        );
    }
    page.push_str("</table>\n");

    let percent = |value: f64| format!("{:.1}%", value * 100.0);
    let (passes, rates): (Vec<_>, Vec<_>) = run
        .metrics
        .iter()
        .filter(|(name, value)| {
            let counts = COUNTS.iter().any(|count| name.ends_with(count));
            !counts && !name.ends_with("_ms") && (0.0..=1.0).contains(*value)
        })
        .map(|(name, value)| (name.clone(), *value))
        .partition(|(name, _)| name.contains("pass@"));
    plot(&mut page, "pass@k", &by_k(passes), 1.0, percent);
    plot(&mut page, "Rates", &rates, 1.0, percent);
    let (groups, languages) = (by(cases, |case| &case.group), by(cases, |case| &case.language));
    for (what, divided) in [("group", &groups), ("language", &languages)] {
        // One bar says nothing that the table does not.
        if divided.len() < 2 {
            continue;
        }
        for metric in metrics(cases) {
            let bars: Vec<(String, f64)> = divided
                .iter()
                .filter_map(|(name, cases)| Some(((*name).to_owned(), mean(cases, &metric)?)))
                .collect();
            let top = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
            plot(&mut page, &format!("{metric} by {what}"), &bars, top, |value| format!("{value:.3}"));
        }
    }
    for (group, cases) in &groups {
        let title = format!("Latency of {group}, cases by milliseconds");
        let histogram = latencies(cases);
        let top = histogram.iter().map(|bar| bar.1).fold(0.0, f64::max);
        plot(&mut page, &title, &histogram, top, |value| format!("{value}"));
    }

    let _ = writeln!(page, "<h2>How it was made</h2>\n<table>");
    let hardware = &run.hardware;
    let memory = hardware.memory_bytes as f64 / f64::from(1 << 30);
    for (name, value) in [
        ("command", format!("lacuna-evals {}", run.command.join(" "))),
        ("commit", run.commit.clone().unwrap_or_else(|| "unknown".into())),
        ("version", run.version.clone()),
        (
            "hardware",
            format!("{} x {}, {memory:.1} GiB, {}", hardware.processors, hardware.processor, hardware.system),
        ),
        ("model", run.model.to_string()),
        ("settings", run.settings.to_string()),
        ("seconds", format!("{:.1}", run.seconds)),
    ] {
        let _ = writeln!(page, "<tr><td>{name}</td><td><pre>{}</pre></td></tr>", escape(&value));
    }
    let _ = writeln!(page, "</table>\n<h2>Cases</h2>");
    for case in cases.iter().take(LISTED) {
        let values: Vec<String> =
            case.values.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
        let _ = writeln!(
            page,
            "<details><summary>{} {} &middot; {} {}</summary><pre>{}</pre></details>",
            escape(&case.group),
            escape(&case.id),
            escape(&values.join(", ")),
            escape(&case.result),
            escape(&case.completion),
        );
    }
    if cases.len() > LISTED {
        let _ = writeln!(page, "<p>{} more in cases.jsonl.</p>", cases.len() - LISTED);
    }
    page.push_str("</body></html>\n");
    page
}

/// Horizontal bars, labelled on both sides.
fn plot(page: &mut String, title: &str, bars: &[(String, f64)], top: f64, label: impl Fn(f64) -> String) {
    const ROW: usize = 22;
    const LEFT: usize = 260;
    const WIDTH: f64 = 420.0;
    if bars.is_empty() || top <= 0.0 {
        return;
    }
    let _ = writeln!(page, "<h2>{}</h2>", escape(title));
    let _ = writeln!(
        page,
        "<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 780 {}\" width=\"780\">",
        escape(title),
        bars.len() * ROW
    );
    for (index, (name, value)) in bars.iter().enumerate() {
        let (y, width) = (index * ROW, WIDTH * value / top);
        let _ = writeln!(
            page,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect class=\"bar\" x=\"{LEFT}\" y=\"{}\" \
             width=\"{width:.1}\" height=\"{}\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 8,
            y + 15,
            escape(name),
            y + 3,
            ROW - 6,
            LEFT as f64 + width + 6.0,
            y + 15,
            escape(&label(*value)),
        );
    }
    page.push_str("</svg>\n");
}

/// pass@1 before pass@10.
fn by_k(mut passes: Vec<(String, f64)>) -> Vec<(String, f64)> {
    let k = |name: &str| name.rsplit('@').next().and_then(|k| k.parse::<u64>().ok());
    passes.sort_by(|(a, _), (b, _)| (k(a), a).cmp(&(k(b), b)));
    passes
}

fn by(cases: &[Case], what: impl Fn(&Case) -> &String) -> BTreeMap<&str, Vec<&Case>> {
    let mut divided: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        divided.entry(what(case)).or_default().push(case);
    }
    divided
}

fn metrics(cases: &[Case]) -> Vec<String> {
    let mut names: Vec<String> = cases.iter().flat_map(|case| case.values.keys().cloned()).collect();
    names.sort();
    names.dedup();
    names
}

fn mean(cases: &[&Case], metric: &str) -> Option<f64> {
    let values: Vec<f64> = cases.iter().filter_map(|case| case.values.get(metric).copied()).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Cases in buckets that double: latency spreads over orders of magnitude.
fn latencies(cases: &[&Case]) -> Vec<(String, f64)> {
    let mut buckets: BTreeMap<u32, usize> = BTreeMap::new();
    for case in cases.iter().filter(|case| case.milliseconds > 0.0) {
        *buckets.entry(case.milliseconds.log2().floor().max(0.0) as u32).or_default() += 1;
    }
    let (Some((&first, _)), Some((&last, _))) = (buckets.first_key_value(), buckets.last_key_value()) else {
        return Vec::new();
    };
    let bucket = |power: u32| {
        let count = buckets.get(&power).copied().unwrap_or(0) as f64;
        (format!("{} to {} ms", 1u64 << power, 1u64 << (power + 1)), count)
    };
    (first..=last.min(40)).map(bucket).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_alone_and_runs_nothing() {
        let case = |id: &str, group: &str, milliseconds| Case {
            id: id.into(),
            group: group.into(),
            language: if id == "b" { "go".into() } else { "rust".into() },
            values: BTreeMap::from([("passed".to_owned(), 1.0)]),
            completion: "</pre><script>alert(1)</script>".into(),
            milliseconds,
            ..Case::default()
        };
        let cases = [case("a<b", "psm", 3.0), case("b", "spm", 100.0)];
        let mut run = Run { task: "infilling".into(), ..Run::default() };
        run.add_means(&cases);
        run.add_mean("pass@1", &[1.0, 0.0], 0);
        run.metrics.insert("pass@10".into(), 1.0);
        let page = page(&run, &cases);
        for absent in ["<script", "http", "src=", "a<b"] {
            assert!(!page.contains(absent), "{absent}");
        }
        for present in [
            "<svg",
            "psm",
            "2 to 4 ms",
            "64 to 128 ms",
            "p95_ms",
            "100.0%",
            "a&lt;b",
            "<h2>pass@k",
            "passed by language",
            "[0.0000, 1.0000]",
        ] {
            assert!(page.contains(present), "{present}");
        }
    }
}
