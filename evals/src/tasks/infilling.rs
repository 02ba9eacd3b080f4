//! Holes in functions, by execution: single-line, multi-line and random-span sets, prompt strategies side by side.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Result, bail};
use lacuna_inference::Sampling;

use super::{
    human_eval::{Work, case, to_record},
    samples::{self, Wanted},
};
use crate::{
    data::problem::{Format, Problem},
    generate::{
        Ask, Order, Prompt, Surroundings, Thinking,
        prompts::{Answer, code_of_answer, hole_question},
    },
    report::{Case, Run},
    score::{self, Coverage},
};

/// How a hole is put to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The order that the model was trained on.
    Auto,
    /// Prefix, suffix, middle.
    Psm,
    /// Suffix, prefix, middle.
    Spm,
    /// Prefix and suffix frozen, the line at the cursor after the middle token, so that the cache survives typing.
    Efim,
    /// A question with a marked hole.
    Chat,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Settings {
    pub strategies: Vec<Strategy>,
    pub max_tokens: usize,
    pub seed: u64,
}

pub fn run(work: &Work<'_>, settings: &Settings, run: &mut Run) -> Result<Vec<Case>> {
    let started = Instant::now();
    let Work { problems, execution, .. } = *work;
    if let Some(other) = problems.list.iter().find(|problem| problem.format != Format::Infilling) {
        bail!("{} has no suffix: this is not an infilling set", other.task_id);
    }
    let kinds: BTreeSet<String> = problems.list.iter().map(kind).collect();
    let mut wanted = Vec::new();
    for &strategy in &settings.strategies {
        for problem in &problems.list {
            let strategy_name = format!("{strategy:?}").to_lowercase();
            wanted.push(Wanted {
                task_id: problem.task_id.clone(),
                number: 0,
                group: match kinds.len() {
                    1 => strategy_name,
                    _ => format!("{} {strategy_name}", kind(problem)),
                },
                ask: ask(problem, strategy, settings),
            });
        }
    }
    let complete = |one: &Wanted, text: &str| {
        let text = match &one.ask.prompt {
            Prompt::Chat { .. } => code_of_answer(text, Answer::Whole),
            _ => text.to_owned(),
        };
        problems.get(&one.task_id).map_or(text.clone(), |problem| middle(problem, &text))
    };
    let path = work.directory.join("samples.jsonl");
    let samples = samples::make(&work.making(&path), &wanted, complete)?;
    let records = samples.iter().map(to_record).collect::<Result<Vec<_>>>()?;
    let (scored, _) = score::score(records, problems, execution, &[], Coverage::AttemptedOnly)?;
    score::write_results(&score::results_path(&path), &scored)?;
    let mut cases: Vec<Case> = Vec::new();
    for (sample, scored) in samples.iter().zip(&scored) {
        let mut case = case(problems, sample, scored);
        // The set of single lines alone lacks their line breaks.
        let exact = match problems.get(&case.id).is_some_and(is_single_line) {
            true => case.completion.trim_end() == case.expected.trim_end(),
            false => case.completion == case.expected,
        };
        case.values.insert("exact_match".into(), f64::from(exact));
        cases.push(case);
    }
    let groups: BTreeSet<&str> = cases.iter().map(|case| case.group.as_str()).collect();
    for group in &groups {
        for (value, name) in [("passed", "pass@1"), ("exact_match", "exact_match")] {
            let values: Vec<f64> = cases
                .iter()
                .filter(|case| case.group == *group)
                .filter_map(|case| case.values.get(value).copied())
                .collect();
            let name = if groups.len() > 1 { format!("{group} {name}") } else { name.to_owned() };
            run.add_mean(&name, &values, settings.seed);
        }
    }
    // Means over different strategies or kinds would say nothing.
    run.add_means(&cases);
    run.metrics.remove("passed");
    if groups.len() > 1 {
        run.metrics.remove("exact_match");
    }
    run.seconds = started.elapsed().as_secs_f64();
    Ok(cases)
}

/// Which of the published sets a problem belongs to, such as `SingleLine`.
fn kind(problem: &Problem) -> String {
    problem.task_id.split("Infilling").next().unwrap_or_default().to_owned()
}

fn ask(problem: &Problem, strategy: Strategy, settings: &Settings) -> Ask {
    let (prefix, mut suffix) = (problem.text("prompt"), problem.text("suffix"));
    if is_single_line(problem) && !suffix.starts_with('\n') {
        // As an editor holds an empty line: its break stays in the file. The set counts it to the line that was cut out.
        suffix.insert(0, '\n');
    }
    let fim = |order| Prompt::Fim {
        prefix: prefix.clone(),
        suffix: suffix.clone(),
        order,
        surroundings: Surroundings::default(),
    };
    let prompt = match strategy {
        Strategy::Auto => fim(None),
        Strategy::Psm => fim(Some(Order::Psm)),
        Strategy::Efim => Prompt::Efim { prefix: prefix.clone(), suffix: suffix.clone() },
        Strategy::Spm => fim(Some(Order::Spm)),
        Strategy::Chat => Prompt::Chat {
            user: hole_question(&prefix, &suffix),
            answer_start: String::new(),
            thinking: Thinking::Closed,
        },
    };
    let stops =
        if is_single_line(problem) && strategy != Strategy::Chat { vec!["\n".into()] } else { Vec::new() };
    let sampling = Sampling { seed: settings.seed, ..Sampling::GREEDY };
    Ask { prompt, max_tokens: settings.max_tokens, prompt_tokens: None, sampling, stops }
}

fn is_single_line(problem: &Problem) -> bool {
    kind(problem) == "SingleLine"
}

/// A line ends with a line break: models stop before it, and without it the suffix would run on.
fn middle(problem: &Problem, text: &str) -> String {
    if !is_single_line(problem) {
        return text.to_owned();
    }
    let line = text.trim_start_matches('\n').split('\n').next().unwrap_or_default();
    format!("{line}\n")
}
