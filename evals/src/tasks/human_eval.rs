//! Function completion by execution: HumanEval, HumanEval+, MBPP and the translated sets.

use std::time::Instant;

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
        Ask, Generator, Prompt, Thinking,
        prompts::{Fence, code_of_answer, human_eval_question},
    },
    report::{Case, Resume, Run},
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
    pub temperature: f32,
    pub top_p: f32,
    pub max_tokens: usize,
    pub seed: u64,
    pub ks: Vec<usize>,
}

/// What a run works with.
pub struct Work<'a> {
    pub problems: &'a Problems,
    /// Only so many problems.
    pub limit: usize,
    pub generator: &'a Generator,
    pub execution: &'a Execution,
}

/// What ends a Python function at the top level.
const PYTHON_STOPS: [&str; 8] =
    ["\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\nassert ", "\n```"];

pub fn run(
    work: &Work<'_>,
    settings: &Settings,
    directory: &std::path::Path,
    resume: Resume,
    run: &mut Run,
) -> Result<Vec<Case>> {
    let started = Instant::now();
    let Work { problems, limit, generator, execution } = *work;
    let style = match settings.style {
        Style::Auto if generator.prefers_chat() => Style::Chat,
        Style::Auto => Style::Completion,
        style => style,
    };
    if settings.samples > 1 && settings.temperature == 0.0 {
        bail!("{} samples at temperature 0 are all the same; pass --temperature", settings.samples);
    }
    let chosen: Vec<&Problem> = problems.list.iter().take(limit).collect();
    let mut wanted = Vec::new();
    for problem in &chosen {
        for number in 0..settings.samples {
            wanted.push(Wanted {
                task_id: problem.task_id.clone(),
                number,
                group: format!("{style:?}").to_lowercase(),
                ask: ask(problem, style, settings, number),
            });
        }
    }
    let complete = |one: &Wanted, text: &str| match problems.get(&one.task_id) {
        Some(problem) => completion(problem, style, text),
        None => text.to_owned(),
    };
    let samples = samples::make(&directory.join("samples.jsonl"), &wanted, generator, resume, complete)?;
    let records = samples.iter().map(to_record).collect::<Result<Vec<_>>>()?;
    let (scored, summary) =
        score::score(records, problems, execution, &settings.ks, Coverage::AttemptedOnly)?;
    score::write_results(&score::results_path(&directory.join("samples.jsonl")), &scored)?;
    for (name, value) in &summary.pass_at_k {
        run.metrics.insert(name.clone(), value.as_f64().unwrap_or_default());
    }
    run.metrics.insert("skipped".into(), summary.skipped as f64);
    let cases: Vec<Case> =
        samples.iter().zip(&scored).map(|(sample, scored)| case(problems, sample, scored)).collect();
    run.add_means(&cases);
    run.seconds = started.elapsed().as_secs_f64();
    Ok(cases)
}

fn ask(problem: &Problem, style: Style, settings: &Settings, number: usize) -> Ask {
    let prompt = match problem.format {
        Format::Mbpp => mbpp_prompt(problem),
        _ => problem.text("prompt"),
    };
    let mut stops = problem.record.get::<Vec<String>>("stop_tokens").unwrap_or_default();
    if stops.is_empty() {
        stops = PYTHON_STOPS.map(str::to_owned).to_vec();
    }
    let (prompt, stops, max_tokens) = match style {
        Style::Auto | Style::Completion => (Prompt::Text(prompt), stops, settings.max_tokens),
        Style::Fim => (
            Prompt::Fim { prefix: prompt, suffix: String::new(), order: None, context: None },
            stops,
            settings.max_tokens,
        ),
        Style::Chat => {
            let answer_start = format!("```python\n{prompt}");
            let user = human_eval_question(&prompt);
            (
                Prompt::Chat { user, answer_start, thinking: Thinking::Closed },
                vec!["\n```".into()],
                settings.max_tokens,
            )
        }
        Style::Thinking => {
            let user = human_eval_question(&prompt);
            // Thinking takes most of the tokens.
            let prompt = Prompt::Chat { user, answer_start: String::new(), thinking: Thinking::Open };
            (prompt, vec![], settings.max_tokens * 16)
        }
    };
    let sampling = Sampling {
        temperature: settings.temperature,
        top_p: settings.top_p,
        seed: settings.seed.wrapping_add(number as u64),
        ..Sampling::GREEDY
    };
    Ask { prompt, max_tokens, sampling, stops }
}

/// MBPP has no prompt of its own: its text and one assertion as a comment, as its authors show it to models.
fn mbpp_prompt(problem: &Problem) -> String {
    let text = [problem.text("text"), problem.text("prompt")].concat();
    let tests = problem.record.get::<Vec<String>>("test_list").unwrap_or_default();
    format!("\"\"\"\n{text}\n{}\n\"\"\"\n", tests.join("\n"))
}

/// What of the model's text goes after the prompt.
fn completion(problem: &Problem, style: Style, text: &str) -> String {
    match style {
        Style::Thinking if problem.format == Format::Mbpp => code_of_answer(text, Fence::None),
        Style::Thinking => {
            // The answer repeats the function; what follows the prompt's own lines redefines it.
            format!("    pass\n\n{}\n", code_of_answer(text, Fence::None))
        }
        Style::Chat => code_of_answer(text, Fence::Open),
        _ => text.to_owned(),
    }
}

fn to_record(sample: &Sample) -> Result<Record> {
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
