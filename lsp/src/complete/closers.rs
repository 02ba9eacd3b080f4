//! What an answer may close, read from the syntax tree around the cursor.
//!
//! A whole file is balanced: what stands after the cursor closes the outermost brackets that are open before it, and what is
//! left is the answer's to close. Where the tree leaves a doubt, nothing is said and everything may come.

use lacuna_indexer::Language;
use lacuna_inference::{Closers, Lexicon};
use tree_sitter::{Node, Tree};

use crate::syntax::{self, Surroundings};

/// Nodes that are looked at; a file that is damaged all over has more.
const MOST_NODES: usize = 20_000;

const SLASHES: Lexicon = Lexicon {
    line_comment: "//",
    block_comment: Some([*b"/*", *b"*/"]),
    quotes: b"\"'",
    doubtful: b"",
    doubtful_in_strings: b"",
};
const PYTHON: Lexicon = Lexicon { line_comment: "#", block_comment: None, ..SLASHES };
/// A lifetime or a character.
const RUST: Lexicon = Lexicon { quotes: b"\"", doubtful: b"'", ..SLASHES };
/// Templates, and a division or a pattern.
const TYPESCRIPT: Lexicon = Lexicon { doubtful: b"`/", ..SLASHES };
/// Markup too.
const JAVASCRIPT: Lexicon = Lexicon { doubtful: b"`/<", ..SLASHES };
const GO: Lexicon = Lexicon { doubtful: b"`", ..SLASHES };
/// The preprocessor's lines need not be balanced.
const PREPROCESSED: Lexicon = Lexicon { doubtful: b"#", ..SLASHES };
const KOTLIN: Lexicon = Lexicon { doubtful_in_strings: b"$", ..SLASHES };
const SWIFT: Lexicon = Lexicon { quotes: b"\"", doubtful: b"/", doubtful_in_strings: b"\\", ..SLASHES };
const SCALA: Lexicon = Lexicon { quotes: b"\"", doubtful: b"'", ..SLASHES };

/// `None` for languages in which brackets alone say too little.
fn lexicon(language: Language) -> Option<&'static Lexicon> {
    Some(match language {
        Language::Python => &PYTHON,
        Language::Rust => &RUST,
        Language::TypeScript => &TYPESCRIPT,
        Language::Tsx | Language::JavaScript => &JAVASCRIPT,
        Language::Java => &SLASHES,
        Language::C | Language::Cpp | Language::CSharp => &PREPROCESSED,
        Language::Go => &GO,
        Language::Kotlin => &KOTLIN,
        Language::Swift => &SWIFT,
        Language::Scala => &SCALA,
        Language::Ruby | Language::Php | Language::Lua | Language::Bash => return None,
    })
}

/// What may be closed at `offset` of `text`, of which `tree` is the tree; `None` where that is not sure.
pub fn at_cursor(language: Language, text: &str, offset: usize, tree: &Tree) -> Option<Closers> {
    let lexicon = lexicon(language)?;
    let before = text.get(..offset)?;
    match syntax::surroundings(tree, offset) {
        Surroundings::Comment => None,
        Surroundings::Text => {
            let quote = quote_around(text, offset, tree)?;
            lexicon.quotes.contains(&quote).then(|| Closers::in_string(lexicon, before, quote))
        }
        Surroundings::Code => {
            let mut brackets = Brackets {
                text: text.as_bytes(),
                offset,
                open: Vec::new(),
                after: Vec::new(),
                unclosed: Vec::new(),
                nodes: 0,
            };
            brackets.walk(tree.root_node())?;
            let Brackets { mut open, after, unclosed, .. } = brackets;
            // The outermost brackets are those that are closed after the cursor, in this order.
            let closed = open.get(..after.len())?;
            let is_balanced = unclosed.is_empty() && closed.iter().rev().eq(&after);
            is_balanced.then(|| {
                let own = open.split_off(after.len());
                Closers::in_code(lexicon, before, own, after.first().copied())
            })
        }
    }
}

/// The quote of the plain string of one line that ends right after `offset`. Where more of a string follows, its end may
/// be the beginning of another one, as long as the one that is being typed is not closed.
fn quote_around(text: &str, offset: usize, tree: &Tree) -> Option<u8> {
    let mut node = tree.root_node().descendant_for_byte_range(offset.checked_sub(1)?, offset)?;
    let is_closed = |node: Node<'_>| node.start_byte() < offset && node.end_byte() == offset + 1;
    while !is_closed(node) {
        node = node.parent()?;
    }
    let [quote, inside @ .., end] = text.as_bytes().get(node.byte_range())? else { return None };
    let is_plain = !node.has_error() && end == quote && !inside.contains(quote) && !inside.contains(&b'\n');
    is_plain.then_some(*quote)
}

struct Brackets<'a> {
    text: &'a [u8],
    offset: usize,
    /// Closing brackets of those that are open at the cursor, the outermost first.
    open: Vec<u8>,
    /// Closing brackets after the cursor that close what was opened before it.
    after: Vec<u8>,
    /// Closing brackets of those opened after the cursor that are not closed so far.
    unclosed: Vec<u8>,
    nodes: usize,
}

impl Brackets<'_> {
    /// Only what is around the cursor, or damaged: everything else is balanced. `None` when it makes no sense.
    fn walk(&mut self, node: Node<'_>) -> Option<()> {
        self.nodes += 1;
        let (start, end) = (node.start_byte(), node.end_byte());
        let is_around = start < self.offset && self.offset < end;
        if self.nodes > MOST_NODES {
            return None;
        }
        if node.child_count() == 0 {
            return self.leaf(node, is_around);
        }
        if !is_around && !node.has_error() {
            return Some(());
        }
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            // Whole neighbours need no call, and there may be many.
            let is_around = child.start_byte() < self.offset && self.offset < child.end_byte();
            if child.child_count() == 0 || is_around || child.has_error() {
                self.walk(child)?;
            }
        }
        Some(())
    }

    fn leaf(&mut self, node: Node<'_>, is_around: bool) -> Option<()> {
        let bytes = self.text.get(node.byte_range())?;
        if let &[byte @ (b'(' | b'[' | b'{' | b')' | b']' | b'}')] = bytes {
            return self.bracket(byte, node.start_byte());
        }
        let is_hidden = node.is_named() && !node.is_error();
        let holds_more = bytes.iter().any(|byte| b"()[]{}\"'`".contains(byte));
        // A bracket in a longer sign, a stray quote, text that was not understood: or text that the cursor is inside of.
        (!holds_more || is_hidden && !is_around).then_some(())
    }

    fn bracket(&mut self, byte: u8, at: usize) -> Option<()> {
        let closing = match byte {
            b'(' => b')',
            b'[' => b']',
            b'{' => b'}',
            _ if at < self.offset => return (self.open.pop()? == byte).then_some(()),
            _ => {
                match self.unclosed.pop() {
                    Some(wanted) => return (wanted == byte).then_some(()),
                    None => self.after.push(byte),
                }
                return Some(());
            }
        };
        if at < self.offset {
            self.open.push(closing)
        } else {
            self.unclosed.push(closing)
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `$0` marks the cursor. `expected`: what is the answer's to close, `|`, and the bracket that follows it; the quote of
    /// the string around it; `-` where it is not sure.
    fn check(language: Language, marked: &str, expected: &str) {
        let offset = marked.find("$0").expect("a cursor");
        let text = marked.replace("$0", "");
        let tree = syntax::parse_text(language, &text, None).expect("parses");
        let found = at_cursor(language, &text, offset, &tree);
        let lexicon = lexicon(language).unwrap_or(&SLASHES);
        let wanted = match expected.split_once('|') {
            Some((open, after)) => {
                let after = after.bytes().next();
                Some(Closers::in_code(lexicon, &text[..offset], open.into(), after))
            }
            None if expected == "-" => None,
            None => Some(Closers::in_string(lexicon, &text[..offset], expected.as_bytes()[0])),
        };
        assert_eq!(found, wanted, "{language:?} {marked:?}");
    }

    #[test]
    fn what_is_open_at_the_cursor() {
        use Language::*;
        for (language, marked, expected) in [
            (Python, "f($0)\n", "|)"),
            (Python, "f($0\n", ")|"),
            (Python, "x = [f(a$0)]\n", "|)"),
            (Python, "x = [f(a$0]\n", ")|]"),
            (Python, "x = [f(a$0\n", "])|"),
            (Python, "x = f(\")\", $0)\n", "|)"),
            (Python, "x = f(')$0')\n", "'"),
            (Python, "x = f('$0')\n", "'"),
            (Python, "x = f('$0 ')\n", "-"),
            (Python, "x = ''$0'\n", "-"),
            (Python, "x = \"\"\"$0\"\"\"\n", "-"),
            (Python, "x = f'$0'\n", "-"),
            (TypeScript, "f('R$0g('x')\n", "-"),
            (Python, "x = '''a$0'''\n", "-"),
            (Python, "x = 1  # ($0\n", "-"),
            (Python, "def f():\n    return g(a)$0\n\n\ndef h():\n    return [1]\n", "|"),
            (Rust, "fn f() {\n    g($0)\n}\n", "|)"),
            (Rust, "fn f() {\n    let x = $0\n}\n", "|}"),
            (Rust, "fn f() {\n    if x {\n        $0\n    }\n}\n", "|}"),
            (Rust, "fn f() {\n    if x {\n        $0\n}\n", "}|}"),
            (Rust, "fn f() {\n    g(\"a$0\");\n}\n", "\""),
            (Rust, "fn f() {\n    g(a, [1, $0]);\n}\n", "|]"),
            (TypeScript, "const f = () => {\n  g({ a: $0 })\n}\n", "|}"),
            (TypeScript, "const a = `x $0 ${b}`\n", "-"),
            (Java, "class A { void f() { g($0); } }\n", "|)"),
            (Go, "package a\n\nfunc f() {\n\tg(\"$0\")\n}\n", "\""),
            (Bash, "f() {\n  $0\n}\n", "-"),
        ] {
            check(language, marked, expected);
        }
    }
}
