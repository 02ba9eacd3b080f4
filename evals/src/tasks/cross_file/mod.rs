//! Completion at holes in real repositories, with and without context from other files.

mod editor;
mod make;
mod read;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    path::Path,
    time::Instant,
};

use anyhow::Result;
use lacuna_inference::Sampling;
use serde::{Deserialize, Serialize};

use super::{
    metrics,
    samples::{self, Wanted},
};
use crate::{
    generate::{Ask, Chunk, Generator, Prompt, Surroundings},
    report::{Case, Resume, Run},
};

pub use editor::{Editor, through_editor};
pub use make::{Making, make};
pub use read::read;

/// A hole: what stands before it, what belongs in it, what stands after it, and what other files say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hole {
    pub id: String,
    pub language: String,
    pub prefix: String,
    pub truth: String,
    pub suffix: String,
    /// What other files say; empty when nothing was found.
    pub context: Vec<Chunk>,
    /// Relative to the repository; empty of published sets, which carry no repository.
    #[serde(default)]
    pub file: String,
    /// Files that define the name at the hole's beginning; unknown of published sets.
    #[serde(default)]
    pub definitions: Vec<String>,
    /// Whether the context holds one of these definitions.
    #[serde(default)]
    pub definition_shown: Option<bool>,
    /// Whether the name stands elsewhere in the file, other than where it is imported.
    #[serde(default)]
    pub name_is_used: Option<bool>,
}

/// Who chooses the context and shapes the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pipeline {
    /// The model is asked itself: the hole's context, prefix and suffix as they are.
    Model,
    /// `lacuna lsp`, as editors ask it.
    Editor,
}

#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    pub pipeline: Pipeline,
    pub max_tokens: usize,
    /// Of the whole prompt; the editor pipeline has budgets of its own.
    pub prompt_tokens: usize,
    /// Of context from other files, within the prompt.
    pub context_tokens: usize,
    pub seed: u64,
}

/// Characters of a published set's chunks that stand for one token: exact budgets are kept when the prompt is made.
const CHARACTERS_PER_TOKEN: usize = 3;

/// The first chunks, as many as fit whole, and the beginning of the next one.
fn within(chunks: &[Chunk], mut characters: usize) -> Vec<Chunk> {
    let mut kept = Vec::new();
    for chunk in chunks {
        let mut end = chunk.text.len().min(characters);
        while !chunk.text.is_char_boundary(end) {
            end -= 1;
        }
        if end == 0 {
            break;
        }
        characters -= end;
        kept.push(Chunk { path: chunk.path.clone(), text: chunk.text[..end].to_owned() });
    }
    kept
}

/// What makes the completions.
pub struct Work<'a> {
    pub generator: &'a Generator,
    /// Its name, where the holes' repository is known.
    pub repository: &'a str,
    pub parallel: NonZeroUsize,
    pub directory: &'a Path,
    pub resume: Resume,
}

/// Asks the model itself, with the context before the prefix.
pub fn run(holes: &[Hole], work: &Work<'_>, settings: &Settings, run: &mut Run) -> Result<Vec<Case>> {
    let started = Instant::now();
    let mut wanted = Vec::new();
    for group in GROUPS {
        for hole in holes {
            let chunks = match (group == ON, hole.file.is_empty()) {
                (false, _) => Vec::new(),
                (true, true) => within(&hole.context, settings.context_tokens * CHARACTERS_PER_TOKEN),
                (true, false) => hole.context.clone(),
            };
            let repository = work.repository.to_owned();
            let surroundings = Surroundings { repository, path: hole.file.clone(), chunks };
            wanted.push(Wanted {
                task_id: hole.id.clone(),
                number: 0,
                group: format!("{} {group}", hole.language),
                ask: Ask {
                    prompt: Prompt::Fim {
                        prefix: hole.prefix.clone(),
                        suffix: hole.suffix.clone(),
                        order: None,
                        surroundings,
                    },
                    max_tokens: settings.max_tokens,
                    prompt_tokens: Some(settings.prompt_tokens),
                    sampling: Sampling { seed: settings.seed, ..Sampling::GREEDY },
                    stops: Vec::new(),
                },
            });
        }
    }
    let by_id: HashMap<&str, &Hole> = holes.iter().map(|hole| (hole.id.as_str(), hole)).collect();
    let cut = |one: &Wanted, text: &str| {
        by_id.get(one.task_id.as_str()).map_or("", |hole| statement(hole, text)).to_owned()
    };
    let path = work.directory.join("samples.jsonl");
    let making = samples::Making {
        path: &path,
        generator: work.generator,
        parallel: work.parallel,
        resume: work.resume,
    };
    let mut cases = Vec::new();
    for sample in samples::make(&making, &wanted, cut)? {
        let Some(hole) = by_id.get(sample.task_id.as_str()) else { continue };
        let mut case = case(hole, &sample.group, sample.completion);
        (case.milliseconds, case.tokens) = (sample.milliseconds, sample.tokens);
        cases.push(case);
    }
    summarize(holes, &cases, settings.seed, run);
    run.seconds = started.elapsed().as_secs_f64();
    Ok(cases)
}

/// Context off and on, as groups of cases end in.
const GROUPS: [&str; 2] = [OFF, ON];
const OFF: &str = "off";
const ON: &str = "on";

const METRICS: [&str; 5] =
    ["exact_match", "edit_similarity", "identifier_match", "identifier_f1", "name_match"];

fn case(hole: &Hole, group: &str, completion: String) -> Case {
    let mut values = metrics::compare(&completion, &hole.truth);
    let names = [&completion, &hole.truth].map(|text| metrics::identifiers(text).into_iter().next());
    values.insert("name_match".into(), f64::from(names[0] == names[1]));
    let shown = if group.ends_with(ON) { &hole.context[..] } else { &[] };
    let context: String = shown.iter().map(Chunk::as_comments).collect();
    Case {
        id: hole.id.clone(),
        group: group.to_owned(),
        language: hole.language.clone(),
        values,
        prompt: context + &tail(&hole.prefix),
        suffix: hole.suffix.lines().take(5).collect::<Vec<_>>().join("\n"),
        completion,
        expected: hole.truth.clone(),
        ..Case::default()
    }
}

/// Means over all languages and by language, what context gains on the same holes, and how often the context holds the
/// definition that the hole needs. `shown` are the holes of which it does, `new` those whose name the file uses nowhere
/// else.
fn summarize(holes: &[Hole], cases: &[Case], seed: u64, run: &mut Run) {
    let by_id: HashMap<&str, &Hole> = holes.iter().map(|hole| (hole.id.as_str(), hole)).collect();
    let mut values: BTreeMap<(&str, &str, &str), BTreeMap<&str, f64>> = BTreeMap::new();
    for case in cases {
        let Some((language, group)) = case.group.rsplit_once(' ') else { continue };
        let Some(hole) = by_id.get(case.id.as_str()) else { continue };
        let mut scopes = vec!["context", language];
        scopes.extend((hole.definition_shown == Some(true)).then_some("shown"));
        scopes.extend((hole.name_is_used == Some(false)).then_some("new"));
        for metric in METRICS {
            let Some(&value) = case.values.get(metric) else { continue };
            for &scope in &scopes {
                values.entry((scope, group, metric)).or_default().insert(&case.id, value);
            }
        }
    }
    let one_language = cases.iter().all(|case| case.language == cases[0].language);
    for ((scope, group, metric), by_id) in &values {
        if one_language && *scope == cases[0].language {
            continue;
        }
        let of_group: Vec<f64> = by_id.values().copied().collect();
        run.add_mean(&format!("{scope} {group} {metric}"), &of_group, seed);
        let without = (*group == ON).then(|| values.get(&(*scope, OFF, *metric))).flatten();
        if let Some(without) = without {
            let gains: Vec<f64> =
                by_id.iter().filter_map(|(id, with)| Some(with - without.get(id)?)).collect();
            run.add_mean(&format!("{scope} gain {metric}"), &gains, seed);
        }
    }
    let mut shown: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for hole in holes {
        if let Some(found) = hole.definition_shown {
            for scope in ["context", hole.language.as_str()] {
                shown.entry(scope).or_default().push(f64::from(found));
            }
        }
    }
    for (scope, found) in shown {
        if scope == "context" || !one_language {
            run.add_mean(&format!("{scope} definition_recall"), &found, seed);
        }
    }
    run.add_means(cases);
    for metric in METRICS {
        run.metrics.remove(metric);
    }
}

/// By language, how often the context of the holes holds the definition that they need; and the holes without.
pub fn recall(holes: &[Hole]) -> String {
    let mut out = String::new();
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for hole in holes {
        let Some(shown) = hole.definition_shown else { continue };
        for scope in ["all", hole.language.as_str()] {
            let count = counts.entry(scope).or_default();
            *count = (count.0 + usize::from(shown), count.1 + 1);
        }
        if !shown {
            let line = hole.prefix.rsplit('\n').next().unwrap_or_default().trim_start();
            let number = hole.prefix.matches('\n').count() + 1;
            let has_file = hole.context.iter().any(|chunk| hole.definitions.contains(&chunk.path));
            let file = if has_file { "without the name" } else { "not in the context" };
            let definitions = hole.definitions.join(" ");
            out += &format!("miss {}:{number} {line}|{} -> {definitions} ({file})\n", hole.file, hole.truth);
        }
    }
    for (scope, (shown, count)) in counts {
        out += &format!("{scope}: {shown} of {count} ({:.3})\n", shown as f64 / count as f64);
    }
    out
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// What of a prediction counts. Our own holes end where their line ends. Published ones have the first statement: up to
/// and including the first `;`, `{` or `}`; in Python the shortest part that ends at a line break and parses together
/// with what stands before it.
fn statement<'a>(hole: &Hole, text: &'a str) -> &'a str {
    if !hole.file.is_empty() {
        return text.split('\n').next().unwrap_or(text);
    }
    if !hole.language.eq_ignore_ascii_case("python") {
        return text.find([';', '{', '}']).map_or(text, |end| &text[..=end]);
    }
    let mut parser = tree_sitter::Parser::new();
    if parser.set_language(&tree_sitter_python::LANGUAGE.into()).is_err() {
        return text;
    }
    for (end, _) in text.match_indices('\n') {
        let whole = format!("{}{}", hole.prefix, &text[..end]);
        if parser.parse(&whole, None).is_some_and(|tree| !tree.root_node().has_error()) {
            return &text[..end];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(language: &str, prefix: &str) -> Hole {
        Hole {
            id: String::new(),
            language: language.into(),
            prefix: prefix.into(),
            truth: String::new(),
            suffix: String::new(),
            context: Vec::new(),
            file: String::new(),
            definitions: Vec::new(),
            definition_shown: None,
            name_is_used: None,
        }
    }

    #[test]
    fn statements() {
        for (language, prefix, text, expected) in [
            ("java", "x = ", "a.b();\nc();", "a.b();"),
            ("typescript", "if (", "a) {\n", "a) {"),
            ("java", "x = ", "a.b(", "a.b("),
            ("python", "x = ", "f(1,\n  2)\ny = 3\n", "f(1,\n  2)"),
            ("python", "x = ", "f(1)", "f(1)"),
            ("Python", "x = ", "f({1: 2})\ny = 3\n", "f({1: 2})"),
        ] {
            assert_eq!(statement(&hole(language, prefix), text), expected, "{language} {text:?}");
        }
    }
}
