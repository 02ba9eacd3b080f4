//! Decides by syntax whether a completion has one line, several, or is not wanted at all.

use lacuna_indexer::Language;
use serde::Serialize;
use tree_sitter::Tree;

use super::{Trigger, lines};
use crate::{
    config::MultiLine,
    syntax::{self, Surroundings},
};

/// Lines looked at above the cursor for the line that opens the empty block around it.
const LOOK_BACK_LINES: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Shape {
    /// Ends at the end of the line.
    SingleLine,
    /// Ends before the first line that is indented by fewer than `floor` columns.
    MultiLine { floor: usize },
    /// No completion belongs here.
    Nothing,
}

/// A shape and why it was chosen, for explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub shape: Shape,
    pub reason: &'static str,
}

/// `tree` is that of the text without a completion.
pub fn decide(
    prefix: &str,
    suffix: &str,
    language: Option<Language>,
    tree: Option<&Tree>,
    trigger: Trigger,
    setting: MultiLine,
) -> Decision {
    let before = lines::line_before(prefix);
    let after = lines::line_after(suffix);
    if trigger == Trigger::Automatic && in_word(prefix, after) {
        return Decision { shape: Shape::Nothing, reason: "the cursor is inside a word" };
    }
    if setting == MultiLine::Never {
        return Decision { shape: Shape::SingleLine, reason: "the setting multiLine is never" };
    }
    if !is_line_end(after) {
        return Decision { shape: Shape::SingleLine, reason: "there is code after the cursor in its line" };
    }
    if setting == MultiLine::Always {
        let floor = lines::indentation(before);
        return Decision { shape: Shape::MultiLine { floor }, reason: "the setting multiLine is always" };
    }
    match tree.map(|tree| syntax::surroundings(tree, prefix.len())) {
        Some(Surroundings::Comment) => {
            return Decision { shape: Shape::SingleLine, reason: "the cursor is in a comment" };
        }
        Some(Surroundings::Text) => {
            return Decision { shape: Shape::SingleLine, reason: "the cursor is in a string" };
        }
        Some(Surroundings::Code) | None => {}
    }
    match empty_block(prefix, suffix, language, tree) {
        Some(floor) => {
            Decision { shape: Shape::MultiLine { floor }, reason: "a block opens here and is empty" }
        }
        None => Decision { shape: Shape::SingleLine, reason: "no block opens here" },
    }
}

fn in_word(prefix: &str, after: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    after.chars().next().is_some_and(is_word) && prefix.chars().next_back().is_some_and(is_word)
}

/// Whether nothing but what editors close by themselves stands after the cursor.
fn is_line_end(after: &str) -> bool {
    after
        .chars()
        .all(|character| character.is_whitespace() || matches!(character, ')' | ']' | '}' | ';' | ','))
}

/// The least indentation of the lines of the empty block at the cursor, if there is one.
fn empty_block(prefix: &str, suffix: &str, language: Option<Language>, tree: Option<&Tree>) -> Option<usize> {
    let before = lines::line_before(prefix);
    let opener = if lines::opens_block(before, language) {
        before
    } else if lines::is_blank(before) {
        opener_above(prefix, language, tree)?
    } else {
        return None;
    };
    let base = lines::indentation(opener_indentation(opener, prefix, language));
    // `{|}` and a closer on the next line leave the block empty; a deeper line fills it.
    let filled = lines::next_line(suffix).is_some_and(|next| lines::indentation(next) > base);
    let cursor_is_inside = !lines::is_blank(before) || lines::indentation(before) > base || before.is_empty();
    (!filled && cursor_is_inside).then_some(base + 1)
}

/// The nearest line above that opens a block, when only blank lines, comments and a doc string lie between.
fn opener_above<'a>(prefix: &'a str, language: Option<Language>, tree: Option<&Tree>) -> Option<&'a str> {
    for line in lines::lines_above(prefix).take(LOOK_BACK_LINES) {
        if lines::is_blank(line) {
            continue;
        }
        if lines::opens_block(line, language) {
            return Some(line);
        }
        let inside =
            line.as_ptr() as usize - prefix.as_ptr() as usize + line.len() - line.trim_start().len() + 1;
        match tree.map(|tree| syntax::surroundings(tree, inside.min(prefix.len()))) {
            Some(Surroundings::Comment | Surroundings::Text) => continue,
            Some(Surroundings::Code) | None => return None,
        }
    }
    None
}

/// The line whose indentation is the block's: a signature over several lines starts further up.
fn opener_indentation<'a>(opener: &'a str, prefix: &'a str, language: Option<Language>) -> &'a str {
    let code = lines::without_line_comment(opener, language);
    let mut open = lines::open_brackets(code.trim_end().trim_end_matches('{'));
    if open >= 0 {
        return opener;
    }
    let above_opener = &prefix[..opener.as_ptr() as usize - prefix.as_ptr() as usize];
    for line in lines::lines_above(above_opener).take(LOOK_BACK_LINES) {
        open += lines::open_brackets(lines::without_line_comment(line, language));
        if open >= 0 {
            return line;
        }
    }
    opener
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `$0` marks the cursor; `expected` is `one`, `nothing`, or the floor of several lines.
    fn check(language: Language, marked: &str, expected: &str) {
        let offset = marked.find("$0").expect("a cursor");
        let text = marked.replace("$0", "");
        let tree = syntax::parse_text(language, &text, None);
        let (prefix, suffix) = text.split_at(offset);
        let decision =
            decide(prefix, suffix, Some(language), tree.as_ref(), Trigger::Automatic, MultiLine::Auto);
        let found = match decision.shape {
            Shape::SingleLine => "one".to_string(),
            Shape::Nothing => "nothing".to_string(),
            Shape::MultiLine { floor } => floor.to_string(),
        };
        assert_eq!(found, expected, "{marked:?}: {}", decision.reason);
    }

    #[test]
    fn several_lines_only_where_a_block_opens() {
        use Language::*;
        let cases = [
            (Python, "def f(a):$0", "1"),
            (Python, "def f(a):\n    $0", "1"),
            (Python, "def f(a):\n$0", "1"),
            (Python, "def f(a):\n    $0\n\n\ndef g():\n    pass\n", "1"),
            (Python, "def f(a):\n    $0\n    return a\n", "one"),
            (Python, "def f(a):\n    \"\"\"Doc.\"\"\"\n    $0", "1"),
            (Python, "def f(a):\n    \"\"\"Doc.\n\n    More.\n    \"\"\"\n    $0", "1"),
            (Python, "def f(a):\n    # why\n    $0", "1"),
            (Python, "def f(a):\n    x = 1\n    $0", "one"),
            (Python, "class A:\n    def f(\n        self,\n        a,\n    ):\n        $0", "5"),
            (Python, "if x:\n    for y in x:\n        $0", "5"),
            (Python, "x = $0", "one"),
            (Python, "x = f($0)", "one"),
            (Python, "x = f($0, b)", "one"),
            (Python, "# a comment:$0", "one"),
            (Python, "x = 'a string:$0'", "one"),
            (Python, "val$0ue = 1", "nothing"),
            (Python, "$0", "one"),
            (Rust, "fn f() {$0}", "1"),
            (Rust, "fn f() {\n    $0\n}\n", "1"),
            (Rust, "fn f() {\n    $0\n    g();\n}\n", "one"),
            (Rust, "impl A {\n    fn f(&self) -> u32 {\n        $0\n    }\n}\n", "5"),
            (Rust, "fn f(\n    a: u32,\n) -> u32 {\n    $0\n}\n", "1"),
            (Rust, "let x = $0;", "one"),
            (Rust, "// TODO: {$0", "one"),
            (TypeScript, "const f = () => {\n  $0\n};\n", "1"),
            (TypeScript, "const a = [$0]", "one"),
            (Go, "package a\n\nfunc f() {\n\t$0\n}\n", "1"),
            (Java, "class A {\n    void f() {\n        $0\n    }\n}\n", "5"),
            (Java, "class A {\n    int x = $0;\n}\n", "one"),
        ];
        for (language, marked, expected) in cases {
            check(language, marked, expected);
        }
    }

    #[test]
    fn settings_win_over_syntax() {
        let shape =
            |setting, trigger| decide("def f():", "", Some(Language::Python), None, trigger, setting).shape;
        assert_eq!(shape(MultiLine::Never, Trigger::Automatic), Shape::SingleLine);
        assert_eq!(shape(MultiLine::Always, Trigger::Automatic), Shape::MultiLine { floor: 0 });
        let in_word = decide("val", "ue", None, None, Trigger::Invoked, MultiLine::Auto).shape;
        assert_eq!(in_word, Shape::SingleLine, "asked for explicitly");
    }
}
