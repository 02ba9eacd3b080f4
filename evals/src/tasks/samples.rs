//! Makes samples, some at the same time, and keeps each as soon as it is made, so that a run can be taken up again.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    num::NonZeroUsize,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    data::jsonl,
    generate::{Ask, Generator},
    progress,
    report::{self, Resume},
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

/// Where samples come from and go to.
pub struct Making<'a> {
    /// `samples.jsonl`.
    pub path: &'a Path,
    pub generator: &'a Generator,
    pub parallel: NonZeroUsize,
    pub resume: Resume,
}

/// Makes what is missing in the file and returns all of it, in the order wanted, in which the file is left as well.
/// `complete` turns what the model wrote into the completion.
pub fn make(
    making: &Making<'_>,
    wanted: &[Wanted],
    complete: impl Fn(&Wanted, &str) -> String,
) -> Result<Vec<Sample>> {
    let order: HashMap<String, usize> =
        wanted.iter().enumerate().map(|(index, one)| (one.key(), index)).collect();
    let mut samples: Vec<Option<Sample>> = vec![None; wanted.len()];
    if making.resume == Resume::Yes && making.path.is_file() {
        for sample in read(making.path)? {
            if let Some(&index) = order.get(&sample.key()) {
                samples[index] = Some(sample);
            }
        }
    }
    let missing: Vec<(usize, &Wanted)> =
        wanted.iter().enumerate().filter(|(index, _)| samples[*index].is_none()).collect();
    let mut file = rewrite(making.path, &samples)?;
    let bar = progress::bar("generating", wanted.len());
    bar.inc((wanted.len() - missing.len()) as u64);
    let next = AtomicUsize::new(0);
    let workers = making.parallel.get().min(missing.len());
    let (sender, receiver) = crossbeam_channel::bounded(workers * 2 + 1);
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..workers {
            let (sender, next, missing) = (sender.clone(), &next, &missing);
            scope.spawn(move || {
                while let Some(&(index, one)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let generated = making.generator.generate(&one.ask);
                    let failed = generated.is_err();
                    // The receiver is gone when the file could not be written: nobody waits for the rest.
                    if sender.send((index, generated)).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (index, generated) in receiver {
            let one = &wanted[index];
            let generated = match generated {
                Ok(generated) => generated,
                Err(error) => {
                    next.store(missing.len(), Ordering::Relaxed);
                    return Err(error.context(one.task_id.clone()));
                }
            };
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
            writeln!(file, "{}", serde_json::to_string(&sample)?)
                .with_context(|| format!("cannot write {}", making.path.display()))?;
            samples[index] = Some(sample);
            bar.inc(1);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    rewrite(making.path, &samples)?;
    samples.into_iter().map(|sample| sample.context("a sample was not made")).collect()
}

impl Wanted {
    fn key(&self) -> String {
        key(&self.task_id, self.number, &self.group)
    }
}

impl Sample {
    fn key(&self) -> String {
        key(&self.task_id, self.number, &self.group)
    }
}

fn key(task: &str, number: usize, group: &str) -> String {
    format!("{task}\u{1f}{number}\u{1f}{group}")
}

fn read(path: &Path) -> Result<Vec<Sample>> {
    let lines = jsonl::lines(path)?;
    let count = lines.len();
    let mut samples = Vec::with_capacity(count);
    for (index, (number, line)) in lines.into_iter().enumerate() {
        match serde_json::from_str(&line) {
            Ok(sample) => samples.push(sample),
            // Cut off in the middle of a write.
            Err(_) if index + 1 == count => {}
            Err(error) => bail!("{}: line {number}: {error}", path.display()),
        }
    }
    Ok(samples)
}

/// The file holds these samples and nothing else; more can be added.
fn rewrite(path: &Path, samples: &[Option<Sample>]) -> Result<File> {
    let mut lines = String::new();
    for sample in samples.iter().flatten() {
        lines.push_str(&serde_json::to_string(sample)?);
        lines.push('\n');
    }
    report::write_whole(path, lines.as_bytes())?;
    OpenOptions::new().append(true).open(path).with_context(|| format!("cannot write {}", path.display()))
}
