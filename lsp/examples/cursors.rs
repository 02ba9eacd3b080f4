//! How often the first line of a completion is right, by where in a name the cursor is, with and without what the prompt
//! does about it, and with what the answer may close told too: the measurement behind token healing, hidden closing
//! brackets, `leastConfidence` and closers.
//!
//! `cargo run --example cursors -- DIRECTORY [CASES] [SEED] [KIND]`: places in the Python files of a directory. The rest of
//! the cursor's line is cut off, as while typing.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use lacuna::{
    complete::{
        closers,
        line_tokens::LineTokens,
        postprocess::{Around, postprocess},
        prompt::{self, Prompt, Shown},
        shape::Shape,
        split,
    },
    config::Config,
    syntax,
};
use lacuna_indexer::Language;
use lacuna_inference::{
    Backend, Constraint, Engine, EngineOptions, Model, ModelSource, Priority, Request, Sampling,
};

const KINDS: [Kind; 5] = [Kind::InWord, Kind::WordEnd, Kind::Dot, Kind::Space, Kind::InBrackets];
const MAX_TOKENS: usize = 32;

/// What stands before the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two or more letters of a longer name.
    InWord,
    /// A whole name.
    WordEnd,
    Dot,
    Space,
    /// A call's arguments, with the bracket that the editor has closed behind the cursor.
    InBrackets,
}

struct Case {
    path: String,
    text: String,
    cursor: usize,
    expected: String,
}

/// What is done for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Help {
    Nothing,
    Prompt,
    PromptAndClosers,
}

struct Outcome {
    right: bool,
    confidence: f32,
    tokens: usize,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().context("give a directory of Python files")?;
    let count: usize = arguments.next().map_or(Ok(200), |count| count.parse())?;
    let mut random: u64 = arguments.next().map_or(Ok(1), |seed| seed.parse())?;
    let only = arguments.next();
    let mut files: Vec<_> = fs::read_dir(&directory)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "{directory} holds no Python files");

    let model = Model::open(&ModelSource::Embedded)?;
    let tokens = LineTokens::new(model.tokenizer().clone());
    let engine = Engine::start(model, EngineOptions::default())?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    let head = ["without", "with", "closers", "tokens"];
    println!("{:12} {:>6} {:>9} {:>9} {:>9} {:>16}", "cursor", "cases", head[0], head[1], head[2], head[3]);
    let wanted = |kind: &Kind| only.as_ref().is_none_or(|only| *only == format!("{kind:?}"));
    for kind in KINDS.into_iter().filter(wanted) {
        let (mut right, mut written, mut cases) = ([0; 3], [0; 3], 0);
        while cases < count {
            let file = &files[draw(&mut random) % files.len()];
            let Some(case) = case(file, kind, &mut random) else { continue };
            cases += 1;
            for (at, help) in [Help::Nothing, Help::Prompt, Help::PromptAndClosers].into_iter().enumerate() {
                let outcome = complete(&engine, &tokens, &case, kind, help)?;
                right[at] += usize::from(outcome.right);
                written[at] += outcome.tokens;
                if help == Help::Prompt {
                    outcomes.push(outcome);
                }
            }
        }
        let share = |right: usize| 100.0 * right as f64 / cases as f64;
        let kind = format!("{kind:?}");
        let [without, with, closers] = right.map(share);
        let [_, before, after] = written;
        println!("{kind:12} {cases:>6} {without:>8.1}% {with:>8.1}% {closers:>8.1}% {before:>7} {after:>8}");
    }
    println!("\n{:>10} {:>6} {:>7}", "confidence", "shown", "right");
    for least in [0, 10, 20, 30, 40, 50, 60, 70, 80, 90] {
        let shown: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.confidence * 100.0 >= least as f32).collect();
        let right = shown.iter().filter(|outcome| outcome.right).count();
        let share = |part: usize, all: usize| 100.0 * part as f64 / all.max(1) as f64;
        println!(
            "{least:>9}% {:>5.1}% {:>6.1}%",
            share(shown.len(), outcomes.len()),
            share(right, shown.len())
        );
    }
    Ok(())
}

/// SplitMix64.
fn draw(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize >> 8
}

fn case(file: &Path, kind: Kind, random: &mut u64) -> Option<Case> {
    let text = fs::read_to_string(file).ok()?;
    let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let start = *starts.get(draw(random) % starts.len().max(1))?;
    let line = text[start..].lines().next()?;
    if line.trim().starts_with('#') || line.trim().len() < 8 || !line.is_ascii() {
        return None;
    }
    let is_word =
        |at: usize| line.as_bytes().get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let places: Vec<usize> = (1..line.len())
        .filter(|&at| match kind {
            Kind::InWord => at >= 2 && is_word(at) && is_word(at - 1) && is_word(at - 2),
            Kind::WordEnd => at >= 2 && !is_word(at) && is_word(at - 1) && is_word(at - 2),
            Kind::Dot => line.as_bytes()[at - 1] == b'.' && is_word(at),
            Kind::Space => line.as_bytes()[at - 1] == b' ' && is_word(at) && !line[..at].trim().is_empty(),
            Kind::InBrackets => {
                line.as_bytes()[at - 1] == b'('
                    && line.ends_with(')')
                    && line[at..].matches(['(', ')']).count() == 1
            }
        })
        .collect();
    let at = *places.get(draw(random) % places.len().max(1))?;
    let cursor = start + at;
    let (expected, rest) = match kind {
        Kind::InBrackets => (&line[at..line.len() - 1], ")"),
        _ => (&line[at..], ""),
    };
    let after = &text[start + line.len()..];
    Some(Case {
        path: file.file_name()?.to_string_lossy().into_owned(),
        text: format!("{}{rest}{after}", &text[..cursor]),
        cursor,
        expected: expected.trim_end().to_string(),
    })
}

fn complete(
    engine: &Engine,
    tokens: &LineTokens,
    case: &Case,
    kind: Kind,
    help: Help,
) -> anyhow::Result<Outcome> {
    let template = engine.model().fim().context("the model fills in the middle")?;
    let budgets = prompt::budgets(&Config::default(), engine.model().context_length());
    let mut split = split::fresh(&case.text, case.cursor, &budgets, tokens);
    if help == Help::Nothing {
        split.resumed = case.cursor;
    }
    let shown = Shown { path: &case.path, text: &case.text, split };
    let mut prompt = prompt::fim(template, tokens, None, &[], &shown, Shape::SingleLine);
    if help == Help::Nothing && kind != Kind::InBrackets {
        unheal(&mut prompt, tokens);
    }
    let tree =
        syntax::parse_text(Language::Python, &case.text, None).filter(|_| help == Help::PromptAndClosers);
    let closers = tree.and_then(|tree| closers::at_cursor(Language::Python, &case.text, case.cursor, &tree));
    let output = engine
        .submit(Request {
            constraint: (!prompt.literal.is_empty()).then(|| Constraint::literal(&prompt.literal)),
            closers,
            prompt: prompt.tokens,
            max_tokens: MAX_TOKENS,
            deadline: None,
            sampling: Sampling::GREEDY,
            stop_tokens: prompt.stop_tokens,
            stop_texts: prompt.stop_texts,
            beams: 1,
            priority: Priority::Batch,
        })?
        .collect_blocking()?;
    let around = Around {
        text: &case.text,
        offset: case.cursor,
        language: Some(Language::Python),
        tree: None,
        shape: Shape::SingleLine,
        max_characters: 2000,
        broken_off: false,
        known: None,
    };
    let (text, _) = postprocess(&output.text, &around);
    Ok(Outcome {
        right: text.trim_end() == case.expected,
        confidence: output.stats.mean_log_probability.map_or(0.0, f32::exp),
        tokens: output.stats.generated_tokens,
    })
}

/// The prompt as it is without token healing.
fn unheal(prompt: &mut Prompt, tokens: &LineTokens) {
    let literal = std::mem::take(&mut prompt.literal);
    prompt.tokens.extend(tokens.tokenizer().encode(&literal));
}
