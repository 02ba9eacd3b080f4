//! Makes samples one after another and keeps each as soon as it is made, so that a run can be taken up again.

use std::{collections::HashSet, fs::OpenOptions, io::Write, path::Path};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    data::jsonl,
    generate::{Ask, Generator},
    progress,
    report::Resume,
};

/// One sample as it stands in `samples.jsonl`: OpenAI's two fields and how it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    pub task_id: String,
    pub completion: String,
    /// Which sample of its task, from 0.
    pub number: usize,
    /// Prompt style or strategy.
    pub group: String,
    /// As the model wrote it, before cutting.
    pub raw: String,
    pub tokens: usize,
    pub milliseconds: f64,
    pub stop: String,
}

/// A sample that is wanted.
pub struct Wanted {
    pub task_id: String,
    pub number: usize,
    pub group: String,
    pub ask: Ask,
}

/// Makes what is missing in the file and returns all of it, in the order wanted.
pub fn make(
    path: &Path,
    wanted: &[Wanted],
    generator: &Generator,
    resume: Resume,
    complete: impl Fn(&Wanted, &str) -> String,
) -> Result<Vec<Sample>> {
    let mut samples: Vec<Sample> = Vec::new();
    if resume == Resume::Yes && path.is_file() {
        let lines = jsonl::lines(path)?;
        let count = lines.len();
        for (index, (number, line)) in lines.into_iter().enumerate() {
            match serde_json::from_str(&line) {
                Ok(sample) => samples.push(sample),
                // Cut off in the middle of a write.
                Err(_) if index + 1 == count => {}
                Err(error) => bail!("{}: line {number}: {error}", path.display()),
            }
        }
    }
    let key = |task: &str, number: usize, group: &str| format!("{task}\u{1f}{number}\u{1f}{group}");
    let mut made: HashSet<String> =
        samples.iter().map(|sample| key(&sample.task_id, sample.number, &sample.group)).collect();
    let what = || format!("cannot write {}", path.display());
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).open(path).with_context(what)?;
    for sample in &samples {
        writeln!(file, "{}", serde_json::to_string(sample)?).with_context(what)?;
    }
    let bar = progress::bar("generating", wanted.len());
    bar.inc(made.len() as u64);
    for one in wanted {
        if !made.insert(key(&one.task_id, one.number, &one.group)) {
            continue;
        }
        let generated = generator.generate(&one.ask).with_context(|| one.task_id.clone())?;
        let sample = Sample {
            task_id: one.task_id.clone(),
            completion: complete(one, &generated.text),
            number: one.number,
            group: one.group.clone(),
            raw: generated.text,
            tokens: generated.tokens,
            milliseconds: generated.milliseconds,
            stop: generated.stop,
        };
        writeln!(file, "{}", serde_json::to_string(&sample)?).with_context(what)?;
        samples.push(sample);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let order: std::collections::HashMap<String, usize> = wanted
        .iter()
        .enumerate()
        .map(|(index, one)| (key(&one.task_id, one.number, &one.group), index))
        .collect();
    samples.retain(|sample| order.contains_key(&key(&sample.task_id, sample.number, &sample.group)));
    samples.sort_by_key(|sample| order.get(&key(&sample.task_id, sample.number, &sample.group)).copied());
    Ok(samples)
}
