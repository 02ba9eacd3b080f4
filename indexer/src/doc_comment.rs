//! The first line of a definition's documentation: a docstring, or the comment block right above it.

use crate::Language;

/// Longest line kept, in bytes.
const MAX_BYTES: usize = 160;
/// How far above a definition its comment may begin, in bytes and lines.
const MAX_LOOKBACK_BYTES: usize = 8192;
const MAX_LOOKBACK_LINES: usize = 100;

pub(crate) fn push_docstring(out: &mut String, literal: &str) {
    let text = literal.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    push_first_line(out, text.trim_matches(['"', '\'']).lines());
}

/// `before` is the file up to the definition.
pub(crate) fn push_before(out: &mut String, language: Language, before: &str) {
    let mut start = before.len().saturating_sub(MAX_LOOKBACK_BYTES);
    while !before.is_char_boundary(start) {
        start += 1;
    }
    let line_comment = language.line_comment();
    // What stands before the definition on its own line (`export`, `template<...>`) is no line of its own.
    let mut lines = before[start..].split('\n').rev().skip(1).take(MAX_LOOKBACK_LINES).map(str::trim);
    let mut block: Vec<&str> = Vec::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            break;
        }
        if line.starts_with(line_comment) && !is_directive(language, line) {
            block.push(line.trim_start_matches(['/', '#', '-', '!']).trim());
        } else if line.ends_with("*/") && block.is_empty() {
            let mut text = line.trim_end_matches("*/");
            loop {
                if let Some(opening) = text.find("/*") {
                    block.push(text[opening..].trim_start_matches(['/', '*', '!']).trim());
                    break;
                }
                block.push(text.trim_start_matches('*').trim());
                match lines.next() {
                    Some(line) => text = line,
                    None => return,
                }
            }
            break;
        } else if block.is_empty() && (is_attribute(line) || is_directive(language, line)) {
            continue;
        } else {
            break;
        }
    }
    push_first_line(out, block.into_iter().rev());
}

/// Lines that may stand between a comment and its definition.
fn is_attribute(line: &str) -> bool {
    line.starts_with("#[") || line.starts_with('@') || line.starts_with('[') || line.starts_with("template")
}

/// Comments addressed to tools.
fn is_directive(language: Language, line: &str) -> bool {
    match language {
        Language::Go => line.starts_with("//go:") || line.starts_with("//nolint"),
        Language::Python => {
            line.starts_with("#!") || line.starts_with("# type:") || line.starts_with("# noqa")
        }
        Language::Ruby => {
            line.starts_with("#!") || line.starts_with("# frozen_") || line.starts_with("# rubocop:")
        }
        Language::Bash => line.starts_with("#!") || line.starts_with("# shellcheck"),
        _ => false,
    }
}

fn push_first_line<'a>(out: &mut String, lines: impl Iterator<Item = &'a str>) {
    let is_text = |line: &&str| line.chars().any(char::is_alphanumeric) && !line.starts_with('@');
    let without_tags =
        |line: &'a str| line.trim().trim_start_matches("<summary>").trim_end_matches("</summary>").trim();
    let Some(line) = lines.map(without_tags).find(is_text) else { return };
    let mut end = line.len().min(MAX_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    out.push_str(line[..end].trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doc_lines() {
        let check = |language, before: &str, expected: &str| {
            let mut out = String::new();
            push_before(&mut out, language, before);
            assert_eq!(out, expected, "{before:?}");
        };
        check(Language::Rust, "/// First.\n/// Second.\n#[derive(Debug)]\n", "First.");
        check(Language::Rust, "/// Apart.\n\n", "");
        check(Language::Java, "/**\n * Adds.\n * @param x y\n */\n@Override\npublic ", "Adds.");
        check(Language::TypeScript, "x();\n/** One line. */\nexport ", "One line.");
        check(Language::Go, "// Load reads.\n//go:noinline\n", "Load reads.");
        check(Language::Go, "// Load reads.\n", "Load reads.");
        check(
            Language::CSharp,
            "    /// <summary>\n    /// Sums up.\n    /// </summary>\n    [Fact]\n    ",
            "Sums up.",
        );
        check(Language::C, "int x;\n", "");
        let mut out = String::new();
        push_docstring(&mut out, "r\"\"\"\n    Does it.\n\n    More.\n    \"\"\"");
        assert_eq!(out, "Does it.");
    }
}
