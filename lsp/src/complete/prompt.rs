//! Cuts the text around the cursor to its budgets and lays it out as the model was trained to see it.
//!
//! The cuts are sticky: the prefix begins at a line whose number is a multiple of `STEPS`, so that it moves once in
//! many lines and not with every key press. Between two moves the prompt only grows at its end, and the engine
//! computes nothing but the typed text (it keeps the keys and values of the common beginning).

use std::ops::Range;

use lacuna_indexer::{ContextItem, Language};
use lacuna_inference::{
    Model, PromptStyle,
    fim::{FimChunk, FimParts, FimTemplate},
};
use serde::Serialize;

use super::{line_tokens::LineTokens, lines, shape::Shape};
use crate::config::{Config, PromptStyleSetting};

/// The prefix starts at a multiple of the first of these that leaves anything to show.
const STEPS: [usize; 3] = [16, 4, 1];
/// Within a line that is longer than the whole budget, cuts fall at multiples of this.
const LONG_LINE_STEP_BYTES: usize = 256;
/// No token of any known vocabulary of code is longer on average; bounds what is looked at in huge files.
const BYTES_PER_TOKEN: usize = 10;
/// Tokens of the prompt that no budget counts: separators, the path of the file.
const RESERVED_TOKENS: usize = 48;
/// The least context for which a prompt is worth building.
const LEAST_PROMPT_TOKENS: usize = 64;

/// Token budgets that fit the model's context together with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    pub context: usize,
    pub prefix: usize,
    pub suffix: usize,
    pub answer: usize,
}

/// What of the file the prompt shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Byte range in the text: start of the shown prefix to end of the shown suffix.
    pub visible: Range<usize>,
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
}

/// A prompt ready for the engine.
#[derive(Debug, Clone)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    pub style: PromptStyle,
    pub sections: Sections,
    pub stop_tokens: Vec<u32>,
    pub stop_texts: Vec<String>,
    /// What the answer may repeat before it continues at the cursor (chat style).
    pub rejoin: Option<Rejoin>,
}

/// Tokens of the prompt by what they are there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sections {
    pub total: usize,
    pub context: usize,
    pub header: usize,
    pub prefix: usize,
    pub suffix: usize,
    pub special: usize,
}

/// How a chat answer is joined to the text at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejoin {
    /// The cursor's line up to the cursor.
    pub line_before: String,
    /// White space before the cursor that the pre-filled answer leaves out.
    pub white_space: String,
}

/// The style to use for `model`. `auto` is the model's own rule.
pub fn style(model: &Model, setting: PromptStyleSetting) -> Result<PromptStyle, String> {
    let style = match setting {
        PromptStyleSetting::Auto => model.default_prompt_style(),
        PromptStyleSetting::Fim => PromptStyle::Fim,
        PromptStyleSetting::Chat => PromptStyle::Chat,
    };
    match style {
        PromptStyle::Fim if model.fim().is_none() => Err(format!(
            "the model {} has no fill-in-the-middle tokens; set promptStyle to chat or use another model",
            model.name()
        )),
        PromptStyle::Chat if model.chat().is_none() => Err(format!(
            "the model {} has no chat template; set promptStyle to fim or use another model",
            model.name()
        )),
        style => Ok(style),
    }
}

/// Fits the configured budgets into the model's context, the answer first; what is left is shared in proportion.
pub fn budgets(config: &Config, context_length: usize) -> Budgets {
    let answer = config.max_tokens.min(context_length / 4).max(1);
    let room = context_length.saturating_sub(answer + RESERVED_TOKENS).max(LEAST_PROMPT_TOKENS);
    let wanted = config.context_tokens + config.prefix_tokens + config.suffix_tokens;
    let fit = |tokens: usize| if wanted <= room { tokens } else { tokens * room / wanted.max(1) };
    Budgets {
        context: fit(config.context_tokens),
        prefix: fit(config.prefix_tokens),
        suffix: fit(config.suffix_tokens),
        answer,
    }
}

/// Cuts the text around `offset` to the budgets.
pub fn window(tokens: &LineTokens, text: &str, offset: usize, budgets: &Budgets) -> Window {
    let (before, after) = text.split_at(offset);
    let prefix_start = prefix_start(tokens, before, budgets.prefix);
    let suffix_length = suffix_length(tokens, after, budgets.suffix);
    let prefix = tokens.encode(&before[prefix_start..]);
    let suffix = tokens.encode(&after[..suffix_length]);
    Window { visible: prefix_start..offset + suffix_length, prefix, suffix }
}

/// Where the shown prefix starts: the tail of `before` that fits, cut at a line start of a round number.
fn prefix_start(tokens: &LineTokens, before: &str, budget: usize) -> usize {
    let least = char_boundary(before, before.len().saturating_sub(budget * BYTES_PER_TOKEN));
    let floor = match least {
        0 => 0,
        least => before[least..].find('\n').map_or(before.len(), |at| least + at + 1),
    };
    let line_starts =
        before[floor..].rmatch_indices('\n').map(|(at, _)| floor + at + 1).chain((least == 0).then_some(0));
    // Line starts that fit, from the cursor upwards, with their line numbers.
    let mut fitting = Vec::new();
    let mut number = before.bytes().filter(|&byte| byte == b'\n').count();
    let (mut end, mut used) = (before.len(), 0);
    for start in line_starts {
        used += tokens.count(&before[start..end]);
        if used > budget {
            break;
        }
        fitting.push((number, start));
        end = start;
        number = number.saturating_sub(1);
    }
    for step in STEPS {
        if let Some(&(_, line_start)) = fitting.iter().rev().find(|(number, _)| number % step == 0) {
            return line_start;
        }
    }
    inside_long_line(tokens, before, budget)
}

/// Not even the cursor's line fits: cut inside it.
fn inside_long_line(tokens: &LineTokens, before: &str, budget: usize) -> usize {
    let line_start = before.len() - lines::line_before(before).len();
    let mut length = (budget * BYTES_PER_TOKEN).min(before.len() - line_start);
    while length > 0 {
        let from_line_start = (before.len() - length - line_start).next_multiple_of(LONG_LINE_STEP_BYTES);
        let start = char_boundary(before, (line_start + from_line_start).min(before.len()));
        if tokens.count(&before[start..]) <= budget {
            return start;
        }
        length = length * 3 / 4;
    }
    before.len()
}

/// How much of `after` is shown: whole lines from the cursor on while they fit.
fn suffix_length(tokens: &LineTokens, after: &str, budget: usize) -> usize {
    let (mut end, mut used) = (0, 0);
    let most = char_boundary(after, (budget * BYTES_PER_TOKEN).min(after.len()));
    for line in after[..most].split_inclusive('\n') {
        used += tokens.count(line);
        if used > budget {
            break;
        }
        end += line.len();
    }
    if end == 0 && budget > 0 && !after.is_empty() {
        // The rest of the cursor's line is longer than the budget: its head is what matters.
        let mut length = char_boundary(after, (budget * 2).min(after.len()));
        while length > 0 && tokens.count(&after[..length]) > budget {
            length = char_boundary(after, length / 2);
        }
        return length;
    }
    end
}

/// The nearest character boundary at or before `at`.
fn char_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The prompt in the family's fill-in-the-middle template.
pub fn fim(
    template: &FimTemplate,
    tokens: &LineTokens,
    path: &str,
    repository: Option<&str>,
    context: &[ContextItem],
    window: &Window,
    shape: Shape,
) -> Prompt {
    let chunks: Vec<FimChunk> =
        context.iter().map(|item| FimChunk { path: item.path.clone(), text: item.text.clone() }).collect();
    let prompt = template.assemble(
        tokens.tokenizer(),
        &FimParts {
            repository: repository.filter(|_| !chunks.is_empty()),
            chunks: &chunks,
            path: Some(path),
            prefix: &window.prefix,
            suffix: &window.suffix,
        },
    );
    Prompt {
        sections: Sections {
            total: prompt.tokens.len(),
            context: prompt.sections.context,
            header: prompt.sections.header,
            prefix: prompt.sections.prefix,
            suffix: prompt.sections.suffix,
            special: prompt.sections.special,
        },
        tokens: prompt.tokens,
        style: PromptStyle::Fim,
        stop_tokens: template.stop_tokens().to_vec(),
        stop_texts: match shape {
            Shape::SingleLine => vec!["\n".into()],
            Shape::MultiLine { .. } | Shape::Nothing => Vec::new(),
        },
        rejoin: None,
    }
}

/// Marks the place to fill in a chat message.
const HOLE: &str = "[[HOLE]]";

/// The prompt for a model tuned for chat: the code with a hole in a message, the answer begun with a fence and the
/// cursor's line, so that the model can only go on where the cursor is.
#[allow(clippy::too_many_arguments, reason = "each is one part of the message")]
pub fn chat(
    model: &Model,
    tokens: &LineTokens,
    path: &str,
    language: Option<Language>,
    context: &[ContextItem],
    text: &str,
    offset: usize,
    window: &Window,
    shape: Shape,
) -> Result<Prompt, String> {
    let template = model.chat().ok_or("the model has no chat template")?;
    let fence = language.map_or("", Language::name);
    let before = &text[window.visible.start..offset];
    let after = &text[offset..window.visible.end];
    let context_text: String = context
        .iter()
        .map(|item| format!("From {}:\n```{fence}\n{}\n```\n\n", item.path, item.text.trim_end()))
        .collect();
    let wanted = match shape {
        Shape::SingleLine | Shape::Nothing => "the rest of that line",
        Shape::MultiLine { .. } => "the missing code",
    };
    let message = format!(
        "{context_text}The file {path} has a hole marked {HOLE}:\n```{fence}\n{before}{HOLE}{after}\n```\n\
         Repeat the line with the hole, without the mark, with {wanted} filled in. Write no code that already \
         follows the hole, and nothing but code."
    );
    let line_before = lines::line_before(before);
    let start = answer_start(before);
    let white_space = line_before[line_before.trim_end().len()..].to_string();
    let rendered = template
        .render_prefilled(&harmless(&message), &format!("```{fence}\n{}", harmless(start)))
        .map_err(|error| error.to_string())?;
    let prompt = tokens.tokenizer().encode_with_special(&rendered);
    let context_tokens = tokens.count(&context_text);
    let (prefix, suffix) = (window.prefix.len(), window.suffix.len());
    Ok(Prompt {
        sections: Sections {
            total: prompt.len(),
            context: context_tokens,
            header: prompt.len().saturating_sub(context_tokens + prefix + suffix),
            prefix,
            suffix,
            special: 0,
        },
        tokens: prompt,
        style: PromptStyle::Chat,
        stop_tokens: model.end_of_text().into_iter().collect(),
        stop_texts: match shape {
            Shape::SingleLine if !line_before.trim().is_empty() => vec!["\n".into(), "```".into()],
            _ => vec!["```".into()],
        },
        rejoin: Some(Rejoin { line_before: line_before.to_string(), white_space }),
    })
}

/// The text with which the answer begins after its fence: the cursor's line without white space at its end (models
/// spell a word with the space before it), and the line above while that leaves nothing.
fn answer_start(before: &str) -> &str {
    let trimmed = before.trim_end_matches([' ', '\t']);
    let line = lines::line_before(trimmed);
    if !line.is_empty() {
        return line;
    }
    let above = trimmed.trim_end();
    let start = above.rfind('\n').map_or(0, |at| at + 1);
    &trimmed[start..]
}

/// Breaks what a template would read as its own control tokens.
fn harmless(text: &str) -> String {
    text.replace("<|", "< |").replace("<｜", "< ｜")
}

impl Rejoin {
    /// Joins a chat answer to the cursor: takes away what it repeats of the text before it.
    pub fn join(&self, answer: &str) -> String {
        let repeated = self.line_before.trim_start();
        // The model began the line again although it was given.
        if repeated.trim_end().len() >= 4
            && let Some(rest) = answer.trim_start().strip_prefix(repeated.trim_end())
        {
            return strip_common(rest, &self.white_space).to_string();
        }
        strip_common(answer, &self.white_space).to_string()
    }
}

/// `text` without the longest beginning of `expected` that it begins with.
fn strip_common<'a>(text: &'a str, expected: &str) -> &'a str {
    let common: usize = text
        .chars()
        .zip(expected.chars())
        .take_while(|(left, right)| left == right)
        .map(|(left, _)| left.len_utf8())
        .sum();
    &text[common..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_fit_the_model() {
        let config = Config {
            max_tokens: 96,
            prefix_tokens: 1024,
            suffix_tokens: 256,
            context_tokens: 512,
            ..Config::default()
        };
        assert_eq!(budgets(&config, 2048), Budgets { context: 512, prefix: 1024, suffix: 256, answer: 96 });
        let small = budgets(&config, 512);
        assert_eq!(small, Budgets { context: 105, prefix: 210, suffix: 52, answer: 96 });
        assert!(small.context + small.prefix + small.suffix + small.answer + RESERVED_TOKENS <= 512);
        let tiny = budgets(&config, 16);
        assert_eq!(tiny.answer, 4);
    }

    #[test]
    fn chat_answers_are_joined_at_the_cursor() {
        // line before the cursor, answer, what is inserted
        let cases = [
            ("    return ", " a + b", "a + b"),
            ("    return ", "a + b", "a + b"),
            ("    return", " a + b", " a + b"),
            ("    return ", "    return a + b", "a + b"),
            ("    return a", "    return a + b", " + b"),
            ("    ", "    x = 1", "x = 1"),
            ("    ", "x = 1", "x = 1"),
            ("", "x = 1", "x = 1"),
            ("x", "x = 1", "x = 1"),
        ];
        for (line_before, answer, expected) in cases {
            let white_space = line_before[line_before.trim_end().len()..].to_string();
            let rejoin = Rejoin { line_before: line_before.into(), white_space };
            assert_eq!(rejoin.join(answer), expected, "{line_before:?} {answer:?}");
        }
    }

    #[test]
    fn answers_begin_with_the_last_line_that_has_something_on_it() {
        for (before, expected) in [
            ("a = 1\nb = ", "b ="),
            ("a = 1\nb = f(", "b = f("),
            ("def f():\n    ", "def f():\n"),
            ("def f():\n\n    ", "def f():\n\n"),
            ("", ""),
            ("\n\n", "\n\n"),
        ] {
            assert_eq!(answer_start(before), expected, "{before:?}");
        }
    }

    #[test]
    fn control_tokens_in_code_are_broken() {
        assert_eq!(harmless("a <|im_end|> b <｜User｜>"), "a < |im_end|> b < ｜User｜>");
    }
}
