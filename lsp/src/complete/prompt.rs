//! Lays out context and text around the cursor as the model was trained to see it.

use std::ops::Range;

use lacuna_indexer::{ContextItem, Language};
use lacuna_inference::{
    Healed, Model, PromptStyle,
    fim::{FimChunk, FimOrder, FimParts, FimTemplate},
};
use serde::Serialize;

use super::{line_tokens::LineTokens, lines, shape::Shape, split::Split};
use crate::config::{Config, PromptStyleSetting};

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

/// A prompt ready for the engine.
#[derive(Debug, Clone)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    pub style: PromptStyle,
    pub sections: Sections,
    pub stop_tokens: Vec<u32>,
    pub stop_texts: Vec<String>,
    /// Where the text after and before the cursor lie in `tokens`.
    pub suffix: Range<usize>,
    pub prefix: Range<usize>,
    /// Text before the cursor that `tokens` leave out: it may be the beginning of another token, so the answer has to
    /// begin with it (token healing). The engine takes it from the answer.
    pub literal: String,
    /// What the answer may repeat before it continues at the cursor (chat style).
    pub rejoin: Option<Rejoin>,
}

/// The text around the cursor and what of it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    pub path: &'a str,
    pub text: &'a str,
    pub split: Split,
}

/// Tokens of the prompt by what they are there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sections {
    pub total: usize,
    pub context: usize,
    pub header: usize,
    pub prefix: usize,
    pub suffix: usize,
    /// The end of the prefix, where it follows the suffix.
    pub typed: usize,
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

/// The prompt in the family's fill-in-the-middle template. Where the model sees the prefix before the suffix, what is
/// being typed follows the middle token, as the beginning of the answer (EFIM, arXiv 2505.21889).
pub fn fim(
    template: &FimTemplate,
    tokens: &LineTokens,
    repository: Option<&str>,
    context: &[ContextItem],
    shown: &Shown<'_>,
    shape: Shape,
) -> Prompt {
    let chunks: Vec<FimChunk> =
        context.iter().map(|item| FimChunk { path: item.path.clone(), text: item.text.clone() }).collect();
    let Split { start, frozen, cursor, resumed, end } = shown.split;
    let frozen = match template.order() {
        FimOrder::Psm => frozen,
        FimOrder::Spm | FimOrder::SuffixPrefix => cursor,
    };
    let prefix = tokens.encode(&shown.text[start..frozen]);
    let typed = tokens.encode(&shown.text[frozen..cursor]);
    let tokenizer = tokens.tokenizer();
    let unhealed = |ids| Healed { kept: ids, literal: String::new() };
    let (prefix, typed) = match template.order() {
        FimOrder::Psm => (unhealed(&prefix), tokenizer.heal(&typed)),
        FimOrder::Spm | FimOrder::SuffixPrefix => (tokenizer.heal(&prefix), unhealed(&typed)),
    };
    let prompt = template.assemble(
        tokenizer,
        &FimParts {
            repository: repository.filter(|_| !chunks.is_empty()),
            chunks: &chunks,
            path: Some(shown.path),
            prefix: prefix.kept,
            suffix: &tokens.encode(&shown.text[resumed..end]),
            typed: typed.kept,
        },
    );
    Prompt {
        sections: Sections {
            total: prompt.tokens.len(),
            context: prompt.sections.context,
            header: prompt.sections.header,
            prefix: prompt.sections.prefix,
            suffix: prompt.sections.suffix,
            typed: prompt.sections.typed,
            special: prompt.sections.special,
        },
        tokens: prompt.tokens,
        style: PromptStyle::Fim,
        stop_tokens: template.stop_tokens().to_vec(),
        stop_texts: match shape {
            Shape::SingleLine => vec!["\n".into()],
            Shape::MultiLine { .. } | Shape::Nothing => Vec::new(),
        },
        suffix: prompt.suffix,
        prefix: prompt.prefix,
        literal: prefix.literal + &typed.literal,
        rejoin: None,
    }
}

/// A shorter line before the cursor is not taken for repeated.
const LEAST_REPEATED_BYTES: usize = 4;
/// Marks the place to fill in a chat message.
const HOLE: &str = "[[HOLE]]";

/// The prompt for a model tuned for chat: the code with a hole in a message, the answer begun with a fence and the
/// cursor's line, so that the model can only go on where the cursor is.
pub fn chat(
    model: &Model,
    tokens: &LineTokens,
    language: Option<Language>,
    context: &[ContextItem],
    shown: &Shown<'_>,
    shape: Shape,
) -> Result<Prompt, String> {
    let template = model.chat().ok_or("the model has no chat template")?;
    let fence = language.map_or("", Language::name);
    let before = &shown.text[shown.split.start..shown.split.cursor];
    let after = &shown.text[shown.split.cursor..shown.split.end];
    let path = shown.path;
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
    let (prefix, suffix) = (tokens.count(before), tokens.count(after));
    let code = prompt.len().saturating_sub(prefix + suffix);
    Ok(Prompt {
        sections: Sections {
            total: prompt.len(),
            context: context_tokens,
            header: prompt.len().saturating_sub(context_tokens + prefix + suffix),
            prefix,
            suffix,
            typed: 0,
            special: 0,
        },
        // About there: the request and the answer's beginning stand behind the code.
        suffix: prompt.len()..prompt.len(),
        prefix: code..prompt.len(),
        literal: String::new(),
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

impl Prompt {
    /// As [`Self::join`] for an unfinished answer; `None` while it may yet turn out to repeat the cursor's line.
    pub fn join_part(&self, answer: &str) -> Option<String> {
        let repeats = |rejoin: &Rejoin| {
            let line = rejoin.line_before.trim();
            line.len() >= LEAST_REPEATED_BYTES && line.starts_with(answer.trim())
        };
        (!self.rejoin.as_ref().is_some_and(repeats)).then(|| self.join(answer))
    }

    /// The answer as it stands at the cursor.
    pub fn join(&self, answer: &str) -> String {
        match &self.rejoin {
            Some(rejoin) => rejoin.join(answer),
            None => answer.to_string(),
        }
    }
}

impl Rejoin {
    /// Joins a chat answer to the cursor: takes away what it repeats of the text before it.
    pub fn join(&self, answer: &str) -> String {
        let repeated = self.line_before.trim_start();
        // The model began the line again although it was given.
        if repeated.trim_end().len() >= LEAST_REPEATED_BYTES
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
