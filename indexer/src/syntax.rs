//! Parsing with bounds: incremental, from chunks or from a string; gives up rather than hang on hostile input.

use std::{
    cell::RefCell,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use tree_sitter::{ParseOptions, ParseState, Parser, Tree};

use crate::Language;

/// Text beyond this many bytes is not parsed: 8 MiB.
pub const MAX_PARSED_BYTES: usize = 8 << 20;

/// A parse that takes longer is abandoned: ordinary files take milliseconds, hostile ones can take minutes.
const PARSE_LIMIT: Duration = Duration::from_millis(1500);

/// Parses a text given in chunks: `chunk(offset)` returns the bytes from `offset` on, as many as it likes, and an
/// empty slice at the end (ropey: `chunk_at_byte`, sliced to the offset). `old` must have been edited
/// (`Tree::edit`) to match. `None` when the text is too large or takes too long.
pub fn parse_chunks<'text>(
    language: Language,
    chunk: &mut dyn FnMut(usize) -> &'text [u8],
    old: Option<&Tree>,
) -> Option<Tree> {
    thread_local! {
        // Making a parser costs more than parsing a small edit; one for each thread and language is few.
        static PARSERS: RefCell<Vec<(Language, Parser)>> = const { RefCell::new(Vec::new()) };
    }
    PARSERS.with_borrow_mut(|parsers| {
        let index = match parsers.iter().position(|(known, _)| *known == language) {
            Some(index) => index,
            None => {
                let mut parser = Parser::new();
                parser.set_language(&language.grammar()).ok()?;
                parsers.push((language, parser));
                parsers.len() - 1
            }
        };
        let parser = &mut parsers[index].1;
        let started = Instant::now();
        let mut too_large = false;
        let mut progress = |_: &ParseState| match started.elapsed() > PARSE_LIMIT {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let tree = parser.parse_with_options(
            &mut |offset, _| {
                if offset >= MAX_PARSED_BYTES {
                    too_large = !chunk(offset).is_empty() || too_large;
                    return &[][..];
                }
                chunk(offset)
            },
            old,
            Some(ParseOptions::new().progress_callback(&mut progress)),
        );
        // An abandoned parse would be resumed by the next one, on another text.
        if tree.is_none() || too_large {
            parser.reset();
        }
        tree.filter(|_| !too_large)
    })
}

/// Parses a whole text. `None` when it is too large or takes too long.
pub fn parse_str(language: Language, text: &str) -> Option<Tree> {
    if text.len() > MAX_PARSED_BYTES {
        return None;
    }
    parse_chunks(language, &mut |offset| text.as_bytes().get(offset..).unwrap_or(&[]), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_any_size_give_the_same_tree() {
        let text = "class A:\n    def f(self):\n        return 'ä→🙂'\n";
        let whole = parse_str(Language::Python, text).unwrap().root_node().to_sexp();
        for size in [1, 2, 7, 1000] {
            let bytes = text.as_bytes();
            let mut chunk = |offset: usize| &bytes[offset.min(bytes.len())..(offset + size).min(bytes.len())];
            let tree = parse_chunks(Language::Python, &mut chunk, None).unwrap();
            assert_eq!(tree.root_node().to_sexp(), whole);
        }
    }

    #[test]
    fn hostile_input_returns_within_the_limit() {
        let minified = "a(b[c{d:e,".repeat(1 << 20);
        let deep = "(".repeat(200_000);
        let large = "x ".repeat(MAX_PARSED_BYTES);
        for language in Language::ALL {
            let started = Instant::now();
            parse_str(*language, &minified);
            parse_str(*language, &deep);
            assert!(parse_str(*language, &large).is_none());
            // Twice the limit for the two parses, and as much again for a loaded machine.
            assert!(started.elapsed() < PARSE_LIMIT * 8, "{}: {:?}", language.name(), started.elapsed());
            assert!(parse_str(*language, "").is_some(), "a parser is usable after an abandoned parse");
        }
    }
}
