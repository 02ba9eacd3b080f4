//! Function completion by execution: HumanEval, HumanEval+, MBPP and the translated sets.

use std::{num::NonZeroUsize, path::Path, time::Instant};

use anyhow::{Result, bail};
use lacuna_inference::Sampling;
use serde_json::value::RawValue;

use super::samples::{self, Sample, Wanted};
use crate::{
    data::{
        problem::{Format, Problem, Problems},
        record::{Record, ascii_string},
    },
    execute::pool::{Execution, Outcome},
    generate::{
        Ask, Generator, Prompt, Surroundings, Thinking,
        prompts::{Answer, code_of_answer, continuation, function_question},
    },
    report::{Case, Resume, Run, bootstrap},
    score::{self, Coverage, Scored},
};

/// How a problem is put to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// Chat for models that are asked by chat, completion for the others.
    Auto,
    /// The prompt is continued.
    Completion,
    /// The prompt is the prefix of a hole with nothing after it.
    Fim,
    /// A question; the answer's code block is begun with the prompt.
    Chat,
    /// A question to a model that thinks first.
    Thinking,
}

/// How samples are made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Settings {
    pub style: Style,
    pub samples: usize,
    /// `None`: what the style is meant for.
    pub temperature: Option<f32>,
    pub top_p: f32,
    pub max_tokens: usize,
    pub seed: u64,
    pub ks: Vec<usize>,
}

/// What a run works with.
pub struct Work<'a> {
    pub problems: &'a Problems,
    pub generator: &'a Generator,
    pub execution: &'a Execution,
    pub parallel: NonZeroUsize,
    pub directory: &'a Path,
    pub resume: Resume,
}

impl Work<'_> {
    /// The run's samples and where they come from.
    pub fn making<'a>(&self, path: &'a Path) -> samples::Making<'a>
    where
        Self: 'a,
    {
        samples::Making { path, generator: self.generator, parallel: self.parallel, resume: self.resume }
    }
}

/// What thinking models are meant to be asked with; greedy, they repeat themselves.
const THINKING_TEMPERATURE: f32 = 0.6;
/// Thoughts take most of the tokens.
const THINKING_SHARE: usize = 16;

/// What ends a Python function at the top level.
const PYTHON_STOPS: [&str; 8] =
    ["\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\nassert ", "\n```"];

pub fn run(work: &Work<'_>, settings: &Settings, run: &mut Run) -> Result<Vec<Case>> {
    let started = Instant::now();
    let Work { problems, generator, execution, .. } = *work;
    let style = match settings.style {
        Style::Auto if generator.prefers_chat() => Style::Chat,
        Style::Auto => Style::Completion,
        style => style,
    };
    let temperature = match (settings.temperature, style) {
        (Some(temperature), _) => temperature,
        (None, Style::Thinking) => THINKING_TEMPERATURE,
        (None, _) => 0.0,
    };
    if settings.samples > 1 && temperature == 0.0 {
        bail!("{} samples at temperature 0 are all the same; pass --temperature", settings.samples);
    }
    let came = match (style, generator.begins_answers()) {
        (Style::Chat, true) => Answer::Begun,
        (Style::Thinking, _) => Answer::Thought,
        _ => Answer::Whole,
    };
    let mut wanted = Vec::new();
    for problem in &problems.list {
        for number in 0..settings.samples {
            wanted.push(Wanted {
                task_id: problem.task_id.clone(),
                number,
                group: format!("{style:?}").to_lowercase(),
                ask: ask(problem, (style, came), temperature, settings, number),
            });
        }
    }
    let complete = |one: &Wanted, text: &str| match problems.get(&one.task_id) {
        Some(problem) => completion(problem, style, came, text),
        None => text.to_owned(),
    };
    let path = work.directory.join("samples.jsonl");
    let samples = samples::make(&work.making(&path), &wanted, complete)?;
    let records = samples.iter().map(to_record).collect::<Result<Vec<_>>>()?;
    let (scored, summary) =
        score::score(records, problems, execution, &settings.ks, Coverage::AttemptedOnly)?;
    score::write_results(&score::results_path(&path), &scored)?;
    for (name, value) in &summary.pass_at_k {
        run.metrics.insert(name.clone(), value.as_f64().unwrap_or_default());
    }
    run.metrics.insert("skipped".into(), summary.skipped as f64);
    for reason in summary.skip_reasons.keys() {
        eprintln!("skipped: {reason}");
    }
    let cases: Vec<Case> =
        samples.iter().zip(&scored).map(|(sample, scored)| case(problems, sample, scored)).collect();
    run.add_means(&cases);
    // Samples of one problem are no independent draws: the problems are resampled.
    run.add_interval("pass@1", &bootstrap::means_of_cases(&cases, "passed"), settings.seed);
    run.metrics.remove("passed");
    run.seconds = started.elapsed().as_secs_f64();
    Ok(cases)
}

fn ask(
    problem: &Problem,
    (style, came): (Style, Answer),
    temperature: f32,
    settings: &Settings,
    number: usize,
) -> Ask {
    let prompt = prompt_of(problem);
    let language = problem.language();
    let mut stops = problem.record.get::<Vec<String>>("stop_tokens").unwrap_or_default();
    if stops.is_empty() {
        stops = PYTHON_STOPS.map(str::to_owned).to_vec();
    }
    let (prompt, stops, max_tokens) = match style {
        Style::Auto | Style::Completion => (Prompt::Text(prompt), stops, settings.max_tokens),
        Style::Fim => (
            Prompt::Fim {
                prefix: prompt,
                suffix: String::new(),
                order: None,
                surroundings: Surroundings::default(),
            },
            stops,
            settings.max_tokens,
        ),
        Style::Chat => {
            let answer_start = format!("```{language}\n{prompt}");
            let user = function_question(&prompt, &language);
            // An answer that the model begins itself has its code after such a fence.
            let stops = if came == Answer::Begun { vec!["\n```".into()] } else { vec![] };
            (Prompt::Chat { user, answer_start, thinking: Thinking::Closed }, stops, settings.max_tokens)
        }
        Style::Thinking => {
            let user = function_question(&prompt, &language);
            let prompt = Prompt::Chat { user, answer_start: String::new(), thinking: Thinking::Open };
            (prompt, vec![], settings.max_tokens * THINKING_SHARE)
        }
    };
    let sampling = Sampling {
        temperature,
        top_p: settings.top_p,
        seed: settings.seed.wrapping_add(number as u64),
        ..Sampling::GREEDY
    };
    Ask { prompt, max_tokens, prompt_tokens: None, sampling, stops }
}

fn prompt_of(problem: &Problem) -> String {
    match problem.format {
        Format::Mbpp => mbpp_prompt(problem),
        _ => problem.text("prompt"),
    }
}

/// MBPP has no prompt of its own: its text and one assertion as a comment, as its authors show it to models.
fn mbpp_prompt(problem: &Problem) -> String {
    let text = [problem.text("text"), problem.text("prompt")].concat();
    let tests = problem.record.get::<Vec<String>>("test_list").unwrap_or_default();
    format!("\"\"\"\n{text}\n{}\n\"\"\"\n", tests.join("\n"))
}

/// What of the model's text goes after the prompt.
fn completion(problem: &Problem, style: Style, came: Answer, text: &str) -> String {
    if !matches!(style, Style::Chat | Style::Thinking) {
        return text.to_owned();
    }
    let code = code_of_answer(text, came);
    // MBPP's functions are written whole; so is what follows the beginning that the model was given.
    if problem.format == Format::Mbpp || came == Answer::Begun {
        return code;
    }
    continuation(&prompt_of(problem), &problem.language(), &code)
}

pub fn to_record(sample: &Sample) -> Result<Record> {
    let mut record = Record::parse("{}")?;
    for (name, text) in [("task_id", &sample.task_id), ("completion", &sample.completion)] {
        record.set(name, RawValue::from_string(ascii_string(text))?);
    }
    Ok(record)
}

/// A sample with its verdict, for the report.
pub fn case(problems: &Problems, sample: &Sample, scored: &Scored) -> Case {
    let problem = problems.get(&sample.task_id);
    let (result, values) = match &scored.outcome {
        Outcome::Judged(verdict) => {
            (verdict.result.clone(), [("passed".to_owned(), f64::from(verdict.passed))].into())
        }
        Outcome::Skipped(reason) => (format!("skipped: {reason}"), Default::default()),
    };
    Case {
        id: sample.task_id.clone(),
        group: sample.group.clone(),
        language: problem.map(Problem::language).unwrap_or_default(),
        values,
        prompt: problem.map(|problem| problem.text("prompt")).unwrap_or_default(),
        suffix: problem.map(|problem| problem.text("suffix")).unwrap_or_default(),
        completion: sample.completion.clone(),
        expected: problem.and_then(Problem::canonical).unwrap_or_default(),
        result,
        milliseconds: sample.milliseconds,
        tokens: sample.tokens,
    }
}
