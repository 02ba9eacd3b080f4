//! A shorter text to parse in place of a file: what holds no symbols (bodies of functions, tables of data, long
//! strings, comments) is left out by a lexical pass, and every place is led back to the file.
//!
//! A parse is most of what reading a file costs, and most of a file are bodies. The tree of an outline has the same
//! definitions at the same places as the whole file's; where the pass is in doubt it leaves a part in, or makes no
//! outline. One that does not parse without errors is not used.

use tree_sitter::Node;

use crate::Language;

mod braces;
mod python;
mod scanner;

/// Shorter parts stay in: leaving them out costs as much as parsing them.
const MIN_HIDDEN_BYTES: usize = 24;

/// A text as the parser sees it, and the file that it stands for.
pub(crate) struct Source<'a> {
    /// The file.
    pub text: &'a str,
    parsed: String,
    cuts: Vec<Cut>,
}

/// From `at` on, places of the parsed text are this far behind those of the file.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    bytes: usize,
    rows: usize,
}

impl<'a> Source<'a> {
    /// The whole file: what an editor's tree is of.
    pub fn whole(text: &'a str) -> Self {
        Self { text, parsed: String::new(), cuts: Vec::new() }
    }

    /// `None` where nothing can be left out safely, or nothing that would be worth it.
    pub fn outline(language: Language, text: &'a str) -> Option<Self> {
        let mut outline = Outline { text, parsed: String::new(), cuts: Vec::new(), copied: 0 };
        match language {
            Language::Python => python::hide(&mut outline)?,
            Language::Rust
            | Language::C
            | Language::Cpp
            | Language::TypeScript
            | Language::Tsx
            | Language::JavaScript => braces::hide(&mut outline, language)?,
            _ => return None,
        }
        outline.finish()
    }

    pub fn parsed(&self) -> &str {
        if self.cuts.is_empty() { self.text } else { &self.parsed }
    }

    /// The bytes of the file that a node stands for.
    pub fn range(&self, node: Node<'_>) -> std::ops::Range<usize> {
        self.offset(node.start_byte())..self.offset(node.end_byte())
    }

    /// The place in the file of one in the parsed text.
    pub fn offset(&self, parsed: usize) -> usize {
        parsed + self.cut(parsed).map_or(0, |cut| cut.bytes)
    }

    /// The line of the file on which a node begins, counted from 0.
    pub fn line(&self, node: Node<'_>) -> u32 {
        (node.start_position().row + self.cut(node.start_byte()).map_or(0, |cut| cut.rows)) as u32
    }

    fn cut(&self, parsed: usize) -> Option<&Cut> {
        let after = self.cuts.partition_point(|cut| cut.at <= parsed);
        self.cuts[..after].last()
    }
}

/// An outline in the making: a copy of the text up to `copied`, without what was hidden.
struct Outline<'a> {
    text: &'a str,
    parsed: String,
    cuts: Vec<Cut>,
    copied: usize,
}

impl<'a> Outline<'a> {
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// Leaves out a part of the text, in ascending order; both ends must be beside ASCII characters.
    fn hide(&mut self, part: std::ops::Range<usize>, placeholder: &str) {
        if part.len() < MIN_HIDDEN_BYTES || part.start < self.copied {
            return;
        }
        let (Some(kept), Some(hidden)) =
            (self.text.get(self.copied..part.start), self.text.get(part.clone()))
        else {
            return;
        };
        self.parsed.push_str(kept);
        self.parsed.push_str(placeholder);
        self.copied = part.end;
        let rows = self.cuts.last().map_or(0, |cut| cut.rows);
        self.cuts.push(Cut {
            at: self.parsed.len(),
            bytes: part.end - self.parsed.len(),
            rows: rows + hidden.bytes().filter(|byte| *byte == b'\n').count(),
        });
    }

    fn finish(mut self) -> Option<Source<'a>> {
        self.parsed.push_str(self.text.get(self.copied..)?);
        (!self.cuts.is_empty()).then_some(Source { text: self.text, parsed: self.parsed, cuts: self.cuts })
    }
}

/// Where the indentation of the line ends that `at` is on, and where the line begins.
fn line_start(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

fn indentation(bytes: &[u8], line: usize) -> &[u8] {
    let length = bytes[line..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[line..line + length]
}
