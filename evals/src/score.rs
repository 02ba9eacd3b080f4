//! Scores anyone's samples: OpenAI's sample format in, its results file and pass@k out.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    data::{
        jsonl,
        problem::{Problems, task_id},
        record::{Record, ascii_string},
    },
    execute::pool::{Execution, Outcome, Task},
    pass_at_k::{self, Tally},
    progress,
};

/// Whether every problem must have been attempted, as the reference demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    AllProblems,
    AttemptedOnly,
}

/// One sample with what became of it.
pub struct Scored {
    pub sample: Record,
    pub task_id: String,
    pub outcome: Outcome,
}

/// What a file of samples came to.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// `pass@1` and so on; a k appears only if every task has that many samples.
    #[serde(flatten)]
    pub pass_at_k: serde_json::Map<String, serde_json::Value>,
    pub problems: usize,
    pub samples: usize,
    pub passed: usize,
    pub timed_out: usize,
    /// Samples whose language cannot be run here; they count neither way.
    pub skipped: usize,
    /// Why, by reason.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub skip_reasons: HashMap<String, usize>,
    pub seconds: f64,
}

/// Reads a samples file: each line an object with `task_id` and `completion`.
pub fn read_samples(path: &Path, problems: &Problems) -> Result<Vec<Record>> {
    let mut samples = Vec::new();
    for (number, line) in jsonl::lines(path)? {
        let place = || format!("{}: line {number}", path.display());
        let record = Record::parse(&line).with_context(|| format!("{} is not a JSON object", place()))?;
        let id = task_id(&record).with_context(|| format!("{} has no task_id", place()))?;
        if problems.get(&id).is_none() {
            bail!("{}: task {id:?} is not among the problems; is it the right problem file?", place());
        }
        if record.raw("completion").is_none() {
            bail!("{} has no completion", place());
        }
        samples.push(record);
    }
    if samples.is_empty() {
        bail!("{} holds no samples", path.display());
    }
    Ok(samples)
}

/// Judges samples in order.
pub fn score(
    samples: Vec<Record>,
    problems: &Problems,
    execution: &Execution,
    ks: &[usize],
    coverage: Coverage,
) -> Result<(Vec<Scored>, Summary)> {
    let mut tasks = Vec::with_capacity(samples.len());
    for sample in &samples {
        let id = task_id(sample).context("a sample has no task_id")?;
        let problem = problems.get(&id).with_context(|| format!("task {id:?} is not among the problems"))?;
        let completion: &RawValue = sample.raw("completion").context("a sample has no completion")?;
        tasks.push(Task { problem, completion });
    }
    let attempted: std::collections::HashSet<&str> =
        tasks.iter().map(|task| task.problem.task_id.as_str()).collect();
    if coverage == Coverage::AllProblems && attempted.len() < problems.list.len() {
        let missing = problems.list.iter().find(|problem| !attempted.contains(problem.task_id.as_str()));
        bail!(
            "{} of {} problems were not attempted, the first is {}; pass --ignore-incomplete to score the others alone",
            problems.list.len() - attempted.len(),
            problems.list.len(),
            missing.map_or("", |problem| &problem.task_id),
        );
    }
    let started = Instant::now();
    let bar = progress::bar("scoring", tasks.len());
    let mut passed = 0;
    let outcomes = execution.run(&tasks, &mut |_, outcome| {
        passed += usize::from(matches!(outcome, Outcome::Judged(verdict) if verdict.passed));
        bar.set_message(format!("{passed} passed"));
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    let ids: Vec<String> = tasks.iter().map(|task| task.problem.task_id.clone()).collect();
    let scored: Vec<Scored> = samples
        .into_iter()
        .zip(ids)
        .zip(outcomes)
        .map(|((sample, task_id), outcome)| Scored { sample, task_id, outcome })
        .collect();
    let summary = summarize(&scored, ks, started.elapsed().as_secs_f64());
    Ok((scored, summary))
}

/// Counts by task, and pass@k over the tasks that could be run.
pub fn summarize(scored: &[Scored], ks: &[usize], seconds: f64) -> Summary {
    let mut by_task: Vec<Tally> = Vec::new();
    let mut index_of: HashMap<&str, usize> = HashMap::new();
    let mut skip_reasons = HashMap::new();
    let mut timed_out = 0;
    for one in scored {
        match &one.outcome {
            Outcome::Skipped(reason) => *skip_reasons.entry(reason.clone()).or_insert(0) += 1,
            Outcome::Judged(verdict) => {
                let index = *index_of.entry(&one.task_id).or_insert(by_task.len());
                if index == by_task.len() {
                    by_task.push(Tally::default());
                }
                by_task[index].samples += 1;
                by_task[index].passed += usize::from(verdict.passed);
                timed_out += usize::from(verdict.result == "timed out");
            }
        }
    }
    let pass_at_k = ks
        .iter()
        .filter_map(|&k| Some((format!("pass@{k}"), pass_at_k::mean(&by_task, k)?.into())))
        .collect();
    Summary {
        pass_at_k,
        problems: by_task.len(),
        samples: scored.len(),
        passed: by_task.iter().map(|tally| tally.passed).sum(),
        timed_out,
        skipped: skip_reasons.values().sum(),
        skip_reasons,
        seconds,
    }
}

/// Where the reference writes its results: beside the samples.
pub fn results_path(samples: &Path) -> PathBuf {
    let mut name = samples.as_os_str().to_owned();
    name.push("_results.jsonl");
    PathBuf::from(name)
}

/// Writes the samples in their order with `result` and `passed` added. The file appears whole or not at all.
pub fn write_results(path: &Path, scored: &[Scored]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(directory).with_context(what)?;
    let mut writer = BufWriter::new(File::create(temporary.path()).with_context(what)?);
    for one in scored {
        let mut record = one.sample.clone();
        let (result, passed) = match &one.outcome {
            Outcome::Judged(verdict) => (verdict.result.clone(), verdict.passed),
            Outcome::Skipped(reason) => (format!("skipped: {reason}"), false),
        };
        record.set("result", RawValue::from_string(ascii_string(&result))?);
        record.set("passed", RawValue::from_string(passed.to_string())?);
        writeln!(writer, "{}", record.to_line()).with_context(what)?;
    }
    writer.flush().with_context(what)?;
    temporary.persist(path).with_context(what)?;
    Ok(())
}
