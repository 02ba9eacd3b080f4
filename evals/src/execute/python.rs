//! Python samples: the two-stage verdict, and outputs compared with a canonical solution's.

use std::{
    collections::HashMap,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Verdict;
use crate::{
    data::problem::{Format, Problem},
    sandbox::{
        Isolation, Limits, Profile, SandboxError, Specification,
        host::{NoMessage, Sandbox, receive_by},
        toolchain_paths::Interpreter,
        wire,
    },
};

/// A sample's answer is a line of text.
const MAX_RESULT_BYTES: usize = 64 << 10;
/// Expected outputs of a whole test suite.
const MAX_OUTPUTS_BYTES: usize = 256 << 20;
/// How much later than its limit a program may answer before the answer is not believed: scheduling noise.
const TIMER_SLACK: Duration = Duration::from_millis(500);
/// Canonical solutions may take this long for all their inputs together.
const CANONICAL_LIMIT: Duration = Duration::from_secs(120);

/// Expected outputs by task, computed once and shared by the workers.
pub type ExpectedOutputs = Arc<Mutex<HashMap<String, Arc<Expected>>>>;

#[derive(Debug, Deserialize)]
pub struct Expected {
    values: Vec<Box<RawValue>>,
    seconds: Vec<f64>,
}

pub struct PythonWorker {
    specification: Specification,
    executable: PathBuf,
    timeout: Duration,
    /// Runs samples.
    samples: Option<Sandbox>,
    /// Runs tests and nothing that a model wrote.
    checks: Option<Sandbox>,
    expected: ExpectedOutputs,
}

#[derive(Serialize)]
struct SampleJob<'a> {
    kind: &'static str,
    body: Vec<&'a RawValue>,
    /// `None`: no run in one namespace follows the calls.
    test: Option<&'a str>,
    call: &'a str,
    timeout_seconds: f64,
    cpu_seconds: f64,
}

#[derive(Serialize)]
struct CheckJob<'a> {
    kind: &'static str,
    /// Definitions that tests may use besides the sample's; the first that loads is taken.
    trusted: Vec<String>,
    /// The sample's functions; `None`: the names that the test uses and nobody else defines.
    names: Option<Vec<&'a str>>,
    test: &'a str,
    call: &'a str,
    timeout_seconds: f64,
    cpu_seconds: f64,
}

#[derive(Serialize)]
struct OutputsJob<'a> {
    kind: &'static str,
    body: Vec<&'a RawValue>,
    name: &'a str,
    inputs: [&'a RawValue; 2],
    cpu_seconds: f64,
}

#[derive(Serialize)]
struct CompareJob<'a> {
    kind: &'static str,
    trusted: String,
    name: &'a str,
    inputs: [&'a RawValue; 2],
    expected: &'a [Box<RawValue>],
    limits: Vec<f64>,
    tolerance: f64,
    oracle: Option<&'static str>,
    timeout_seconds: f64,
    cpu_seconds: f64,
}

impl PythonWorker {
    pub fn new(
        interpreter: &Interpreter,
        isolation: Isolation,
        executable: PathBuf,
        timeout: Duration,
        expected: ExpectedOutputs,
    ) -> Result<Self, SandboxError> {
        let specification = Specification {
            isolation,
            profile: Profile::Python,
            limits: Limits::PYTHON,
            interpreter: Some(interpreter.executable.clone()),
            visible: interpreter.visible.clone(),
        };
        let mut worker = Self { specification, executable, timeout, samples: None, checks: None, expected };
        // Started here so that a machine which cannot isolate is told before anything runs.
        worker.samples = Some(worker.start()?);
        worker.checks = Some(worker.start()?);
        Ok(worker)
    }

    fn start(&self) -> Result<Sandbox, SandboxError> {
        Sandbox::start(&self.specification, &self.executable)
    }

    /// What the kernel isolates this worker's programs with.
    pub fn ready(&self) -> wire::Ready {
        self.samples.as_ref().map(|sandbox| sandbox.ready().clone()).unwrap_or_default()
    }

    /// Judges one sample. Errors are the harness's own; whatever the sample does is a verdict.
    pub fn judge(&mut self, problem: &Problem, completion: &RawValue) -> Result<Verdict, SandboxError> {
        if !completion.get().starts_with('"') {
            return Ok(Verdict::failed("the completion is not a string"));
        }
        let verdict = match problem.format {
            Format::HumanEvalPlus => self.judge_outputs(problem, completion),
            _ => self.judge_test(problem, completion),
        };
        // A sandbox that broke is replaced before the next sample; what broke it did not pass.
        let broken = match verdict {
            Err(SandboxError::Gone(reason)) => Some(reason),
            Err(SandboxError::Io(error)) => Some(error.to_string()),
            verdict => return verdict,
        };
        self.samples = None;
        self.checks = None;
        Ok(Verdict::failed(format_args!("the program ended its sandbox ({})", broken.unwrap_or_default())))
    }

    fn judge_test(&mut self, problem: &Problem, completion: &RawValue) -> Result<Verdict, SandboxError> {
        let program = TestProgram::of(problem);
        let seconds = self.timeout.as_secs_f64();
        // Calls between sandboxes come on top of the program's own time.
        let limit = self.timeout + TIMER_SLACK;
        let sample = SampleJob {
            kind: "sample",
            body: program.body(problem, completion),
            test: Some(&program.test),
            call: &program.call,
            timeout_seconds: seconds,
            cpu_seconds: limit.as_secs_f64() + seconds + 2.0,
        };
        let check = CheckJob {
            kind: "check",
            trusted: program.trusted.clone(),
            names: program.names.as_ref().map(|name| vec![name.as_str()]),
            test: &program.test,
            call: &program.call,
            timeout_seconds: limit.as_secs_f64(),
            cpu_seconds: limit.as_secs_f64() + 2.0,
        };
        self.judge_in_both(&sample, &check, limit)
    }

    fn judge_outputs(&mut self, problem: &Problem, completion: &RawValue) -> Result<Verdict, SandboxError> {
        let (Some(prompt), Some(base), Some(plus)) =
            (problem.raw("prompt"), problem.raw("base_input"), problem.raw("plus_input"))
        else {
            return Ok(Verdict::failed("the problem has no inputs"));
        };
        let expected = match self.expected_outputs(problem, prompt, [base, plus])? {
            Ok(expected) => expected,
            Err(reason) => return Ok(Verdict::failed(reason)),
        };
        let name = problem.text("entry_point");
        // The published rule: each input max(4 s, 4 x reference), the task min(60 s, their sum) + 1 s.
        let limits: Vec<f64> = expected.seconds.iter().map(|seconds| (4.0 * seconds).max(4.0)).collect();
        let limit = Duration::from_secs_f64(limits.iter().sum::<f64>().min(60.0) + 1.0);
        let compare = CompareJob {
            kind: "compare",
            trusted: problem.text("prompt") + &problem.text("canonical_solution"),
            name: &name,
            inputs: [base, plus],
            expected: &expected.values,
            limits,
            tolerance: problem.record.get::<f64>("atol").unwrap_or(0.0),
            oracle: (name == "find_zero").then_some("poly"),
            timeout_seconds: limit.as_secs_f64(),
            cpu_seconds: limit.as_secs_f64() + 2.0,
        };
        let sample = SampleJob {
            kind: "sample",
            body: vec![prompt, completion],
            test: None,
            call: "",
            timeout_seconds: limit.as_secs_f64(),
            cpu_seconds: limit.as_secs_f64() + 2.0,
        };
        self.judge_in_both(&sample, &compare, limit)
    }

    /// What the canonical solution answers, and how long it takes for each input.
    fn expected_outputs(
        &mut self,
        problem: &Problem,
        prompt: &RawValue,
        inputs: [&RawValue; 2],
    ) -> Result<Result<Arc<Expected>, String>, SandboxError> {
        let known = self.expected.lock().ok().and_then(|known| known.get(&problem.task_id).cloned());
        if let Some(known) = known {
            return Ok(Ok(known));
        }
        let Some(canonical) = problem.raw("canonical_solution") else {
            return Ok(Err("the problem has no canonical solution".into()));
        };
        let name = problem.text("entry_point");
        let job = OutputsJob {
            kind: "outputs",
            body: vec![prompt, canonical],
            name: &name,
            inputs,
            cpu_seconds: CANONICAL_LIMIT.as_secs_f64(),
        };
        let mut sandbox = self.checks.take().map_or_else(|| self.start(), Ok)?;
        sandbox.reset()?;
        let (mut connection, theirs) = UnixStream::pair()?;
        sandbox.start_job(&[theirs.as_fd()])?;
        drop(theirs);
        send(&mut connection, &job)?;
        let answer = receive_by(&mut connection, Instant::now() + CANONICAL_LIMIT, MAX_OUTPUTS_BYTES);
        sandbox.end_job()?;
        self.checks = Some(sandbox);
        let Some(expected) = answer.ok().and_then(|answer| serde_json::from_slice::<Expected>(&answer).ok())
        else {
            return Ok(Err("the canonical solution does not run on the problem's inputs".into()));
        };
        let expected = Arc::new(expected);
        if let Ok(mut known) = self.expected.lock() {
            known.insert(problem.task_id.clone(), expected.clone());
        }
        Ok(Ok(expected))
    }

    /// The sample in one sandbox, the checker in the other, connected to each other. Only the checker's word can make
    /// a pass; the sample's own run with its test can only take it away, and words its failure.
    fn judge_in_both(
        &mut self,
        sample: &SampleJob<'_>,
        check: &impl Serialize,
        limit: Duration,
    ) -> Result<Verdict, SandboxError> {
        let mut samples = self.samples.take().map_or_else(|| self.start(), Ok)?;
        let mut checks = self.checks.take().map_or_else(|| self.start(), Ok)?;
        samples.reset()?;
        let (mut to_sample, sample_end) = UnixStream::pair()?;
        let (mut to_checker, checker_end) = UnixStream::pair()?;
        let (between, and) = UnixStream::pair()?;
        samples.start_job(&[sample_end.as_fd(), between.as_fd()])?;
        checks.start_job(&[checker_end.as_fd(), and.as_fd()])?;
        drop((sample_end, checker_end, between, and));

        let words = |answer: Result<Vec<u8>, NoMessage>| match answer {
            Ok(words) => serde_json::from_slice::<LossyString>(&words)
                .map(|words| words.0)
                .map_err(|_| NoMessage::Ended),
            Err(why) => Err(why),
        };
        let deadline = Instant::now() + limit + Duration::from_secs(1);
        let checked = send(&mut to_sample, sample)
            .and_then(|()| send(&mut to_checker, check))
            .map_err(|_| NoMessage::Ended)
            .and_then(|()| receive_by(&mut to_checker, deadline, MAX_RESULT_BYTES));
        let checked = words(checked);
        checks.end_job()?;
        let verdict = match (checked, sample.test) {
            (Ok(words), None) => Verdict::from_words(words),
            (Err(NoMessage::Late), _) => Verdict::timed_out(),
            (Ok(words), _) if words == "timed out" => Verdict::timed_out(),
            (Err(NoMessage::Ended), None) => Verdict::failed("the checker ended early"),
            (checked, Some(_)) => {
                let started = Instant::now();
                let deadline = started + self.timeout + Duration::from_secs(1);
                let whole = words(receive_by(&mut to_sample, deadline, MAX_RESULT_BYTES));
                let late = started.elapsed() > self.timeout + TIMER_SLACK;
                match (whole, checked) {
                    // No answer at all is a timeout in the reference, whatever ended the process.
                    (Err(_), _) => Verdict::timed_out(),
                    (Ok(whole), _) if whole != "passed" => Verdict { passed: false, result: whole },
                    (Ok(_), _) if late => Verdict::timed_out(),
                    (Ok(_), Ok(checked)) => Verdict::from_words(checked),
                    (Ok(_), Err(_)) => Verdict::failed("the checker ended early"),
                }
            }
        };
        samples.end_job()?;
        self.samples = Some(samples);
        self.checks = Some(checks);
        Ok(verdict)
    }
}

/// A fork that does not read its job within this time never will.
const SEND_LIMIT: Duration = Duration::from_secs(10);

fn send(connection: &mut UnixStream, job: &impl Serialize) -> Result<(), SandboxError> {
    connection.set_write_timeout(Some(SEND_LIMIT))?;
    Ok(wire::send(connection, job)?)
}

/// A JSON string in which lone surrogates, which Python may write, become U+FFFD.
struct LossyString(String);

impl<'de> Deserialize<'de> for LossyString {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = LossyString;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<LossyString, E> {
                Ok(LossyString(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The texts around a sample.
struct TestProgram {
    test: String,
    call: String,
    trusted: Vec<String>,
    names: Option<String>,
}

impl TestProgram {
    fn of(problem: &Problem) -> Self {
        if problem.format == Format::Mbpp {
            let setup = ["test_setup_code", "test_imports"].map(|field| {
                let lines = problem.record.get::<Vec<String>>(field).map(|lines| lines.join("\n"));
                lines.or_else(|| problem.record.string(field)).unwrap_or_default()
            });
            let setup = setup.join("\n");
            let tests = problem.record.get::<Vec<String>>("test_list").unwrap_or_default().join("\n");
            return Self {
                test: format!("{setup}\n{tests}"),
                call: String::new(),
                trusted: vec![setup],
                names: None,
            };
        }
        let entry_point = problem.text("entry_point");
        let (prompt, suffix) = (problem.text("prompt"), problem.text("suffix"));
        let mut trusted = vec![prompt.clone(), format!("{prompt}\n    pass\n")];
        if let Some(canonical) = problem.canonical() {
            trusted.insert(0, prompt + &canonical + &suffix);
        }
        Self {
            test: problem.text("test"),
            call: format!("check({entry_point})"),
            trusted,
            names: Some(entry_point),
        }
    }

    fn body<'a>(&self, problem: &'a Problem, completion: &'a RawValue) -> Vec<&'a RawValue> {
        match problem.format {
            Format::Mbpp => vec![completion],
            _ => [problem.raw("prompt"), Some(completion), problem.raw("suffix")]
                .into_iter()
                .flatten()
                .collect(),
        }
    }
}
