//! Parsing of buffers with tree-sitter, and the few questions the pipeline asks of a tree.

use std::{
    cell::RefCell,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use lacuna_indexer::Language;
use ropey::Rope;
use tree_sitter::{Node, ParseOptions, Parser, Point, Tree};

/// A parse that takes longer is given up: the completion goes on without syntax.
const PARSE_LIMIT: Duration = Duration::from_millis(400);

thread_local! {
    static PARSER: RefCell<Parser> = RefCell::new(Parser::new());
}

/// Parses a rope. `old` must have been edited to match it. `None` when the parse takes too long.
pub fn parse_rope(language: Language, rope: &Rope, old: Option<&Tree>) -> Option<Tree> {
    parse(
        language,
        &mut |offset| {
            if offset >= rope.len_bytes() {
                return &[][..];
            }
            let (chunk, start, _, _) = rope.chunk_at_byte(offset);
            chunk.as_bytes().get(offset - start..).unwrap_or_default()
        },
        old,
    )
}

/// Parses a text. `old` must have been edited to match it. `None` when the parse takes too long.
pub fn parse_text(language: Language, text: &str, old: Option<&Tree>) -> Option<Tree> {
    parse(language, &mut |offset| text.as_bytes().get(offset..).unwrap_or_default(), old)
}

fn parse<'a>(
    language: Language,
    read: &mut dyn FnMut(usize) -> &'a [u8],
    old: Option<&Tree>,
) -> Option<Tree> {
    let started = Instant::now();
    PARSER.with_borrow_mut(|parser| {
        parser.set_language(&language.grammar()).ok()?;
        let mut give_up = |_: &tree_sitter::ParseState| {
            if started.elapsed() > PARSE_LIMIT { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options = ParseOptions::new().progress_callback(&mut give_up);
        let tree = parser.parse_with_options(&mut |offset, _| read(offset), old, Some(options));
        if tree.is_none() {
            parser.reset();
        }
        tree
    })
}

/// Row and byte column, as tree-sitter counts them.
pub fn point(rope: &Rope, offset: usize) -> Point {
    let row = rope.byte_to_line(offset);
    Point { row, column: offset - rope.line_to_byte(row) }
}

/// As [`point`], for a plain text.
pub fn point_in(text: &str, offset: usize) -> Point {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Point { row: before.bytes().filter(|&byte| byte == b'\n').count(), column: before.len() - line_start }
}

/// How many ERROR and MISSING nodes a tree has. Only damaged branches are walked, and no more than `limit` counted.
pub fn count_errors(tree: &Tree, limit: usize) -> usize {
    let mut count = 0;
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        if node.is_error() || node.is_missing() {
            count += 1;
            if count >= limit {
                return count;
            }
        }
        if node.has_error() && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return count;
            }
        }
    }
}

/// Where the cursor stands, as far as a completion cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surroundings {
    Code,
    Comment,
    Text,
}

/// Whether `offset` is inside a comment or a string literal.
pub fn surroundings(tree: &Tree, offset: usize) -> Surroundings {
    let start = offset.saturating_sub(1);
    let mut node = tree.root_node().descendant_for_byte_range(start, start);
    while let Some(current) = node {
        if current.start_byte() >= offset {
            node = current.parent();
            continue;
        }
        let kind = current.kind();
        if kind.contains("comment") && (offset < current.end_byte() || is_line_comment(current)) {
            return Surroundings::Comment;
        }
        if is_string(kind) && offset < current.end_byte() {
            return Surroundings::Text;
        }
        if kind == "interpolation" || kind == "template_substitution" {
            return Surroundings::Code;
        }
        node = current.parent();
    }
    Surroundings::Code
}

fn is_line_comment(node: Node<'_>) -> bool {
    node.kind() != "block_comment" && node.start_position().row == node.end_position().row
}

fn is_string(kind: &str) -> bool {
    kind.contains("string") && !kind.contains("interpolation")
        || kind == "char_literal"
        || kind == "template_string"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_of_the_cursor() {
        use Surroundings::*;
        // `$0` marks the cursor.
        let cases = [
            (Language::Python, "x = $01", Code),
            (Language::Python, "# a no$0te", Comment),
            (Language::Python, "# a note$0\nx = 1\n", Comment),
            (Language::Python, "x = 'ab$0c'", Text),
            (Language::Python, "x = 'abc'$0", Code),
            (Language::Python, "x = f'{a$0}'", Code),
            (Language::Python, "def f():\n    '''Doc $0.'''\n", Text),
            (Language::Rust, "let x = 1; // c$0", Comment),
            (Language::Rust, "/* a $0 b */ fn f() {}", Comment),
            (Language::Rust, "/* a */$0 fn f() {}", Code),
            (Language::Go, "package a\nvar s = \"a$0b\"\n", Text),
            (Language::TypeScript, "const a = `x ${b$0}`", Code),
            (Language::TypeScript, "const a = `x$0 ${b}`", Text),
            (Language::Java, "class A { String s = \"a$0\"; }", Text),
        ];
        for (language, marked, expected) in cases {
            let offset = marked.find("$0").expect("a cursor");
            let text = marked.replace("$0", "");
            let tree = parse_text(language, &text, None).expect("parses");
            assert_eq!(surroundings(&tree, offset), expected, "{marked:?}");
        }
    }

    #[test]
    fn errors_are_counted_up_to_the_limit() {
        for (text, expected) in [("x = 1\n", 0), ("x = (1\n", 1), ("", 0)] {
            let tree = parse_text(Language::Python, text, None).expect("parses");
            assert_eq!(count_errors(&tree, 100), expected, "{text:?}");
        }
        let broken = "fn f() { let x = ; }\n".repeat(50);
        let tree = parse_text(Language::Rust, &broken, None).expect("parses");
        assert_eq!(count_errors(&tree, 3), 3);
    }
}
