//! A shorter text to parse in place of a file: what holds no symbols (bodies of functions, tables of data, long
//! strings, comments) is left out by a lexical pass, and every place is led back to the file.
//!
//! A parse is most of what reading a file costs, and most of a file are bodies. The tree of an outline has the same
//! definitions at the same places as the whole file's; where the pass is in doubt it leaves a part in, or makes no
//! outline. One that does not parse without errors is not used.

use scanner::Scanner;
use tree_sitter::Node;

use crate::Language;

mod braces;
mod prototypes;
mod python;
mod scanner;

/// Shorter parts stay in: leaving them out costs as much as parsing them.
const MIN_HIDDEN_BYTES: usize = 24;

/// A text as the parser sees it, and the file, or the part of a file, that it stands for.
pub(crate) struct Source<'a> {
    /// The file.
    pub text: &'a str,
    part: &'a str,
    /// Where the part begins.
    start: usize,
    first_line: u32,
    /// Empty where nothing is cut.
    parsed: String,
    cuts: Vec<Cut>,
}

/// From `at` on, places of the parsed text are this far behind those of the file.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    /// The same for places where something ends: what ends before the cut does not end behind it.
    end_at: usize,
    bytes: usize,
    rows: usize,
}

impl<'a> Source<'a> {
    /// The whole file: what an editor's tree is of.
    pub fn whole(text: &'a str) -> Self {
        Self { text, part: text, start: 0, first_line: 0, parsed: String::new(), cuts: Vec::new() }
    }

    /// `None` where nothing can be left out safely, or nothing that would be worth it.
    pub fn outline(language: Language, text: &'a str) -> Option<Self> {
        let mut outline = Outline::new(text);
        match language {
            Language::Python => python::hide(&mut outline)?,
            Language::Rust | Language::TypeScript | Language::Tsx | Language::JavaScript => {
                let scanner = Scanner::new(text.as_bytes(), language);
                braces::hide(&mut outline, language, &scanner, &[])?;
            }
            Language::C | Language::Cpp => {
                let scanner = Scanner::new(text.as_bytes(), language);
                braces::hide(&mut outline, language, &scanner, &prototypes::find(&scanner, text))?;
            }
            _ => return None,
        }
        outline.finish()
    }

    /// The file without what the language's parser cannot read, which an editor's tree has as errors; `None` where
    /// there is no such thing.
    pub fn readable(language: Language, text: &'a str) -> Option<Self> {
        if !matches!(language, Language::C | Language::Cpp) {
            return None;
        }
        let mut outline = Outline::new(text);
        let prototypes = prototypes::find(&Scanner::new(text.as_bytes(), language), text);
        prototypes::unwrap(&mut outline, &prototypes);
        outline.finish()
    }

    /// The same of a part of `text` that begins at `start`, on the line `first_line`.
    pub fn within(self, text: &'a str, start: usize, first_line: u32) -> Self {
        Self { text, start, first_line, ..self }
    }

    pub fn parsed(&self) -> &str {
        if self.cuts.is_empty() { self.part } else { &self.parsed }
    }

    /// The bytes of the file that a node stands for.
    pub fn range(&self, node: Node<'_>) -> std::ops::Range<usize> {
        let start = self.offset(node.start_byte());
        let cuts = self.cuts.partition_point(|cut| cut.end_at <= node.end_byte());
        let behind = self.cuts[..cuts].last().map_or(0, |cut| cut.bytes);
        start..(self.start + node.end_byte() + behind).max(start)
    }

    /// The place in the file of one in the parsed text at which something begins.
    pub fn offset(&self, parsed: usize) -> usize {
        self.start + parsed + self.cut(parsed).map_or(0, |cut| cut.bytes)
    }

    /// The line of the file on which a node begins, counted from 0.
    pub fn line(&self, node: Node<'_>) -> u32 {
        let rows = node.start_position().row + self.cut(node.start_byte()).map_or(0, |cut| cut.rows);
        self.first_line + rows as u32
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
    fn new(text: &'a str) -> Self {
        Self { text, parsed: String::new(), cuts: Vec::new(), copied: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// Leaves out a part of the text where that is worth it.
    fn hide(&mut self, part: std::ops::Range<usize>, placeholder: &str) {
        if part.len() >= MIN_HIDDEN_BYTES {
            self.cut(part, placeholder);
        }
    }

    /// Leaves out a part of the text, in ascending order; both ends must be beside ASCII characters.
    fn cut(&mut self, part: std::ops::Range<usize>, placeholder: &str) {
        if part.start < self.copied {
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
            end_at: self.parsed.len() + usize::from(placeholder.is_empty()),
            bytes: part.end - self.parsed.len(),
            rows: rows + hidden.bytes().filter(|byte| *byte == b'\n').count(),
        });
    }

    fn finish(mut self) -> Option<Source<'a>> {
        self.parsed.push_str(self.text.get(self.copied..)?);
        (!self.cuts.is_empty()).then(|| Source {
            parsed: self.parsed,
            cuts: self.cuts,
            ..Source::whole(self.text)
        })
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
