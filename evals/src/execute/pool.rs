//! Judges many samples at once: one pair of sandboxes a worker, results in the order of the samples.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::value::RawValue;

use super::{
    Verdict,
    python::{ExpectedOutputs, PythonWorker},
    toolchain::{ToolchainWorker, Toolchains},
};
use crate::{
    data::problem::{Format, Problem},
    sandbox::{Isolation, host, toolchain_paths::Interpreter, wire::Ready},
};

/// How samples are executed.
#[derive(Debug, Clone)]
pub struct Execution {
    pub workers: NonZeroUsize,
    /// For one sample of the Python formats; other languages have the limits of their published harness.
    pub timeout: Duration,
    pub isolation: Isolation,
    /// Name or path of the Python interpreter.
    pub python: String,
    /// The binary with the sandbox's subcommand; `None`: this program.
    pub executable: Option<PathBuf>,
    /// Where the javatuples library lies, if the user has it.
    pub javatuples: Option<PathBuf>,
}

/// The reference's own number: samples that wait for their time limit leave the processors to others.
const REFERENCE_WORKERS: NonZeroUsize = NonZeroUsize::new(4).unwrap();

impl Default for Execution {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().unwrap_or(REFERENCE_WORKERS).max(REFERENCE_WORKERS),
            timeout: Duration::from_secs(3),
            isolation: Isolation::Full,
            python: "python3".into(),
            executable: None,
            javatuples: None,
        }
    }
}

/// One sample to judge.
pub struct Task<'a> {
    pub problem: &'a Problem,
    pub completion: &'a RawValue,
}

/// What one sample came to: a verdict, or why its language cannot be run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Judged(Verdict),
    Skipped(String),
}

impl Execution {
    /// Judges `tasks` and calls `on_done` for each as it is finished, from the calling thread.
    pub fn run(&self, tasks: &[Task<'_>], on_done: &mut dyn FnMut(usize, &Outcome)) -> Result<Vec<Outcome>> {
        let interpreter = match tasks.iter().any(|task| task.problem.format != Format::MultiPlE) {
            true => Some(Interpreter::find(&self.python)?),
            false => None,
        };
        let toolchains = Toolchains::find(tasks.iter().map(|task| task.problem), self.javatuples.as_deref());
        let executable = match &self.executable {
            Some(executable) => executable.clone(),
            None => host::own_executable()?,
        };
        let expected = ExpectedOutputs::default();
        let next = AtomicUsize::new(0);
        let workers = self.workers.get().min(tasks.len().max(1));
        let (sender, receiver) = crossbeam_channel::bounded::<Result<(usize, Outcome)>>(workers * 2);
        let mut outcomes: Vec<Option<Outcome>> = vec![None; tasks.len()];
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let sender = sender.clone();
                let mut worker = Worker {
                    execution: self,
                    interpreter: interpreter.as_ref(),
                    toolchains: &toolchains,
                    executable: &executable,
                    expected: expected.clone(),
                    python: None,
                    compiled: None,
                };
                let next = &next;
                scope.spawn(move || {
                    while let index = next.fetch_add(1, Ordering::Relaxed)
                        && let Some(task) = tasks.get(index)
                    {
                        let outcome = worker.run(task).map(|outcome| (index, outcome));
                        let failed = outcome.is_err();
                        // The receiver is gone when another worker failed: nobody waits for the rest.
                        if sender.send(outcome).is_err() || failed {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut failure = None;
            for done in receiver {
                match done {
                    Ok((index, outcome)) => {
                        on_done(index, &outcome);
                        outcomes[index] = Some(outcome);
                    }
                    Err(error) => {
                        next.store(tasks.len(), Ordering::Relaxed);
                        failure.get_or_insert(error);
                    }
                }
            }
            failure.map_or(Ok(()), Err)
        })?;
        outcomes.into_iter().map(|outcome| outcome.context("a worker ended without an outcome")).collect()
    }

    /// Starts and stops one sandbox: what the kernel isolates with, or why it cannot.
    pub fn probe(&self) -> Result<Ready> {
        let interpreter = Interpreter::find(&self.python)?;
        let executable = self.executable.clone().map_or_else(host::own_executable, Ok)?;
        let worker = PythonWorker::new(
            &interpreter,
            self.isolation,
            executable,
            self.timeout,
            ExpectedOutputs::default(),
        )?;
        Ok(worker.ready())
    }
}

struct Worker<'a> {
    execution: &'a Execution,
    interpreter: Option<&'a Interpreter>,
    toolchains: &'a Toolchains,
    executable: &'a std::path::Path,
    expected: ExpectedOutputs,
    python: Option<PythonWorker>,
    compiled: Option<ToolchainWorker>,
}

impl Worker<'_> {
    fn run(&mut self, task: &Task<'_>) -> Result<Outcome> {
        if task.problem.format == Format::MultiPlE {
            let worker = match &mut self.compiled {
                Some(worker) => worker,
                None => self.compiled.insert(ToolchainWorker::new(
                    self.execution.isolation,
                    self.executable.to_owned(),
                    self.toolchains.clone(),
                )),
            };
            return Ok(worker.judge(task.problem, task.completion)?);
        }
        let worker = match &mut self.python {
            Some(worker) => worker,
            None => self.python.insert(PythonWorker::new(
                self.interpreter.context("no Python interpreter")?,
                self.execution.isolation,
                self.executable.to_owned(),
                self.execution.timeout,
                self.expected.clone(),
            )?),
        };
        Ok(Outcome::Judged(worker.judge(task.problem, task.completion)?))
    }
}
