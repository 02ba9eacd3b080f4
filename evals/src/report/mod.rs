//! A run on disk: what was measured, with what, on what; one line for each case; the page that shows it.

pub mod bootstrap;
pub mod html;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a run stores beside its cases.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    pub task: String,
    /// The command line.
    pub command: Vec<String>,
    pub model: Value,
    pub settings: Value,
    /// The commit of the repository the command ran in.
    pub commit: Option<String>,
    pub version: String,
    pub hardware: Hardware,
    /// Seconds since 1970.
    pub started: u64,
    pub seconds: f64,
    /// Such as `pass@1`; means over the cases unless the name says otherwise.
    pub metrics: BTreeMap<String, f64>,
    /// 95% bootstrap confidence intervals of some of the metrics.
    #[serde(default)]
    pub intervals: BTreeMap<String, Interval>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Hardware {
    pub processor: String,
    pub processors: usize,
    pub memory_bytes: u64,
    pub system: String,
}

/// One thing measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Case {
    pub id: String,
    /// Language, strategy or whatever the run is divided by.
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub language: String,
    pub values: BTreeMap<String, f64>,
    pub prompt: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    pub completion: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expected: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub result: String,
    pub milliseconds: f64,
    pub tokens: usize,
}

impl Hardware {
    pub fn here() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            memory_bytes: kilobytes * 1024,
            system: fs::read_to_string("/proc/version")
                .map(|text| text.split(" (").next().unwrap_or_default().to_owned())
                .unwrap_or_else(|_| std::env::consts::OS.into()),
        }
    }
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Run {
    pub fn new(task: &str, model: Value, settings: Value) -> Self {
        Self {
            task: task.into(),
            command: std::env::args().skip(1).collect(),
            model,
            settings,
            commit: commit(),
            version: env!("CARGO_PKG_VERSION").into(),
            hardware: Hardware::here(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            seconds: 0.0,
            metrics: BTreeMap::new(),
            intervals: BTreeMap::new(),
        }
    }

    /// The interval of the mean of `values`, which is the metric called `name`.
    pub fn add_interval(&mut self, name: &str, values: &[f64], seed: u64) {
        if let Some(interval) = bootstrap::interval(values, seed) {
            self.intervals.insert(name.to_owned(), interval);
        }
    }

    /// The mean of `values` and its interval.
    pub fn add_mean(&mut self, name: &str, values: &[f64], seed: u64) {
        if !values.is_empty() {
            self.metrics.insert(name.to_owned(), values.iter().sum::<f64>() / values.len() as f64);
            self.add_interval(name, values, seed);
        }
    }

    /// Means of every value over the cases, and the latency's percentiles.
    pub fn add_means(&mut self, cases: &[Case]) {
        let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
        for (name, value) in cases.iter().flat_map(|case| &case.values) {
            let sum = sums.entry(name).or_default();
            sum.0 += value;
            sum.1 += 1;
        }
        for (name, (sum, count)) in sums {
            self.metrics.entry(name.to_owned()).or_insert(sum / count as f64);
        }
        let mut times: Vec<f64> = cases.iter().map(|case| case.milliseconds).collect();
        times.sort_by(f64::total_cmp);
        for (name, share) in [("p50_ms", 0.50), ("p95_ms", 0.95), ("p99_ms", 0.99)] {
            if let Some(value) = percentile(&times, share) {
                self.metrics.insert(name.into(), value);
            }
        }
    }

    /// Writes `run.json`, `cases.jsonl` and `report.html` into `directory`.
    pub fn write(&self, directory: &Path, cases: &[Case]) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let mut lines = Vec::new();
        for case in cases {
            serde_json::to_writer(&mut lines, case)?;
            lines.push(b'\n');
        }
        write_whole(&directory.join("cases.jsonl"), &lines)?;
        write_whole(&directory.join("run.json"), serde_json::to_string_pretty(self)?.as_bytes())?;
        write_whole(&directory.join("report.html"), html::page(self, cases).as_bytes())
    }

    pub fn read(directory: &Path) -> Result<(Self, Vec<Case>)> {
        let path = directory.join("run.json");
        let text = fs::read_to_string(&path).with_context(|| {
            format!("{} is not a run: cannot read {}", directory.display(), path.display())
        })?;
        let run = serde_json::from_str(&text).with_context(|| format!("{} is not a run", path.display()))?;
        let mut cases = Vec::new();
        for (number, line) in crate::data::jsonl::lines(&directory.join("cases.jsonl"))? {
            cases.push(serde_json::from_str(&line).with_context(|| format!("cases.jsonl: line {number}"))?);
        }
        Ok((run, cases))
    }

    /// The metrics as an aligned table.
    pub fn table(&self) -> String {
        let width = self.metrics.keys().map(String::len).max().unwrap_or(0);
        let line = |(name, value): (&String, &f64)| {
            let interval = self.intervals.get(name).map(Interval::to_string).unwrap_or_default();
            format!("{name:<width$}  {value:>12.4}  {interval}").trim_end().to_owned() + "\n"
        };
        self.metrics.iter().map(line).collect()
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "[{:.4}, {:.4}]", self.low, self.high)
    }
}

/// Nearest rank; `None` of nothing.
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The file appears whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(what)?;
    file.write_all(bytes).with_context(what)?;
    file.persist(path).with_context(what)?;
    Ok(())
}

/// The directory of a run: the one asked for, or one named after what is measured. One that holds a run already is
/// only used to go on with it.
pub fn directory(asked: Option<PathBuf>, task: &str, model: &str, resume: Resume) -> Result<PathBuf> {
    let plain: String =
        model.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let directory =
        asked.unwrap_or_else(|| PathBuf::from(format!("eval-runs/{task}-{}", plain.trim_matches('-'))));
    let used = fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some());
    if used && resume == Resume::No {
        bail!(
            "{} holds a run already; pass --resume to go on with it, or another directory with --out",
            directory.display()
        );
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    Yes,
    No,
}
