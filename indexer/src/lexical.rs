//! Names that a file seems to define, found by one pass over its bytes, without a parser.
//!
//! A scan makes this of all files first: a name then leads to the files that may define it, and those are parsed when
//! somebody asks for the name. To take too much for a definition costs the parse of a file ahead of its turn; to miss
//! one hides a name until the scan has come to its file. Where in doubt, a word counts.

use rustc_hash::FxHashSet;

use crate::{Language, index::FileId, language::Family, symbols::name_hash, words::is_word};

/// Names of one file that are kept.
const MAX_NAMES: usize = 4096;
/// Names of a workspace that are kept: 8 bytes each.
const MAX_ENTRIES: usize = 4 << 20;
/// Fields, variants and methods stand no deeper than this, in columns.
const MEMBER_INDENT: usize = 12;

/// Which files may define a name.
#[derive(Debug, Default)]
pub(crate) struct Lexical {
    /// Sorted.
    entries: Vec<(u32, FileId)>,
}

impl Lexical {
    pub fn new(mut entries: Vec<(u32, FileId)>) -> Self {
        entries.truncate(MAX_ENTRIES);
        entries.sort_unstable();
        Self { entries }
    }

    /// Files that may define a name of that [`name_hash`].
    pub fn files(&self, hash: u32) -> impl Iterator<Item = FileId> {
        let start = self.entries.partition_point(|(key, _)| *key < hash);
        self.entries[start..].iter().take_while(move |(key, _)| *key == hash).map(|(_, file)| *file)
    }

    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Words before the name of what they define, in any of the languages.
static KEYWORDS: Words = Words::new(&[
    b"def",
    b"class",
    b"fn",
    b"func",
    b"fun",
    b"function",
    b"struct",
    b"enum",
    b"trait",
    b"union",
    b"type",
    b"mod",
    b"const",
    b"static",
    b"mut",
    b"macro_rules",
    b"define",
    b"interface",
    b"namespace",
    b"module",
    b"object",
    b"val",
    b"var",
    b"record",
    b"protocol",
    b"extension",
    b"actor",
    b"package",
    b"typealias",
    b"local",
    b"case",
    b"let",
    b"typedef",
    b"alias",
    b"given",
    b"annotation",
    b"declare",
    b"readonly",
    b"export",
    b"default",
    b"concept",
    b"using",
    b"delegate",
    b"event",
]);

/// Words before a call, which is no definition.
static CALLERS: Words = Words::new(&[
    b"return", b"new", b"throw", b"else", b"await", b"yield", b"in", b"and", b"or", b"not", b"is", b"when",
    b"if", b"elif", b"while", b"assert", b"del", b"raise", b"print", b"echo", b"go", b"defer", b"typeof",
    b"from", b"import", b"lambda", b"do", b"sizeof", b"unless", b"until", b"match",
]);

/// A word of a line, and what is known of those before it.
struct Word<'a> {
    text: &'a [u8],
    /// The word before it on its line.
    previous: &'a [u8],
    /// What stands between the two; all of the line before it for the first word.
    between: &'a [u8],
    /// The rest of the line, without leading spaces.
    after: &'a [u8],
    indent: usize,
    first_of_line: &'a [u8],
    /// The word before it was taken.
    follows_name: bool,
}

/// Hashes of the names that a text seems to define, each once.
pub(crate) fn defined_names(language: Language, text: &[u8]) -> FxHashSet<u32> {
    let family = language.family();
    let comment = language.line_comment().as_bytes();
    let mut names = FxHashSet::default();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Prose has words like `type` and `case` too.
        if line.trim_ascii_start().starts_with(comment) {
            continue;
        }
        let indent: usize = line
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .map(|byte| if *byte == b'\t' { 4 } else { 1 })
            .sum();
        let mut at = 0;
        let (mut first, mut previous): (Option<&[u8]>, &[u8]) = (None, b"");
        let (mut previous_end, mut follows_name) = (0, false);
        while at < line.len() {
            if !is_word(line[at]) {
                at += 1;
                continue;
            }
            let start = at;
            while at < line.len() && is_word(line[at]) {
                at += 1;
            }
            let text = &line[start..at];
            let word = Word {
                text,
                previous,
                between: &line[previous_end..start],
                after: line[at..].trim_ascii_start(),
                indent,
                first_of_line: first.unwrap_or(b""),
                follows_name,
            };
            follows_name = !text[0].is_ascii_digit() && text.len() <= 200 && is_definition(family, &word);
            if follows_name && let Ok(name) = std::str::from_utf8(text) {
                names.insert(name_hash(name));
            }
            first.get_or_insert(text);
            (previous, previous_end) = (text, at);
        }
        if names.len() >= MAX_NAMES {
            break;
        }
    }
    names
}

/// A list of words, with which words need not be compared at all.
struct Words {
    words: &'static [&'static [u8]],
    /// By length: a bit for each letter that words of that length begin with.
    first_letters: [u32; 16],
}

impl Words {
    const fn new(words: &'static [&'static [u8]]) -> Self {
        let mut first_letters = [0; 16];
        let mut index = 0;
        while index < words.len() {
            let word = words[index];
            first_letters[word.len()] |= 1 << (word[0] - b'a');
            index += 1;
        }
        Self { words, first_letters }
    }

    fn contains(&self, word: &[u8]) -> bool {
        let Some(letters) = self.first_letters.get(word.len()) else { return false };
        let Some(first) = word.first().and_then(|byte| byte.checked_sub(b'a')).filter(|first| *first < 26)
        else {
            return false;
        };
        letters & (1 << first) != 0 && self.words.contains(&word)
    }
}

fn is_definition(family: Family, word: &Word<'_>) -> bool {
    let between = word.between.trim_ascii();
    let is_keyword = KEYWORDS.contains(word.previous);
    let alone = word.previous.is_empty();
    let next = word.after.first().copied().unwrap_or(0);
    let shallow = word.indent <= MEMBER_INDENT;
    // `def x`, `macro_rules! x`, `static mut X`, `fun <T> x`, `var x, y`, `public $x`.
    if is_keyword && matches!(between, b"" | b"!" | b"*" | b"$") {
        // Of `export const x` and `default class X` the second word is none.
        return !KEYWORDS.contains(word.text) || matches!(next, b'(' | b'<' | b':' | b'?' | b'=');
    }
    // `function M.f`, `def self.f`, `int C::f(`.
    let qualified = matches!(between, b"." | b":" | b"::");
    if qualified && (word.follows_name || (word.previous == b"self" && word.first_of_line == b"def")) {
        return true;
    }
    let typed = || {
        !alone
            && matches!(
                between,
                b"" | b"*"
                    | b"&"
                    | b">"
                    | b"]"
                    | b"**"
                    | b"&&"
                    | b"?"
                    | b"[]"
                    | b"*const"
                    | b"$"
                    | b">*"
                    | b">&"
                    | b"[]*"
            )
            && !CALLERS.contains(word.previous)
    };
    let after_receiver = word.first_of_line == b"func" && between.ends_with(b")");
    // `x = 1`, `x: T`, `x?: T`, `pub x: T`; of Python also `a, b = 1, 2`.
    let assigned = match next {
        b'=' => !word.after.starts_with(b"==") && !word.after.starts_with(b"=>") || family == Family::DotNet,
        b':' => !word.after.starts_with(b"::"),
        b'?' | b'!' => word.after[1..].trim_ascii_start().starts_with(b":"),
        _ => false,
    };
    let called = matches!(next, b'(' | b'<' | b'[');
    let ends = matches!(next, 0 | b',' | b';' | b'=' | b'[' | b'{' | b'}' | b'(' | b':' | b'/' | b')');
    let quoted = || matches!(between, b"'" | b"\"" | b"#" | b"[\"" | b"['");
    match family {
        Family::Python => {
            let of_self = word.previous == b"self" && between == b".";
            assigned && (of_self || shallow && (alone || typed()))
                || word.indent == 0 && next == b',' && (alone || (word.follows_name && between == b","))
                || word.follows_name && between == b"," && assigned
                || word.follows_name && assigned && next == b'=' && between == b"="
        }
        Family::Rust => {
            shallow && ((alone || word.previous == b"pub" || between.ends_with(b")")) && (assigned || ends))
                // `impl X {`: members of a type, wherever that stands.
                || word.first_of_line == b"impl"
                    && matches!(next, b'{' | b'<')
                    && word.previous != b"for"
                    && word.text[0].is_ascii_uppercase()
        }
        Family::EcmaScript => {
            shallow && ((alone || typed() || quoted()) && (assigned || ends || called || next == b'}'))
                || between.ends_with(b"exports.")
                || between == b"." && next == b'='
                || word.follows_name && matches!(between, b"," | b"(" | b"{") && (assigned || ends)
                || between.ends_with(b"{") && (assigned || called)
        }
        Family::Go => {
            shallow && (alone || typed() || after_receiver || (word.follows_name && between == b","))
        }
        Family::Ruby => {
            word.first_of_line.starts_with(b"attr_")
                || alone && next == b'='
                || matches!(word.first_of_line, b"alias_method" | b"delegate" | b"define_method" | b"scope")
                || word.first_of_line == b"private"
        }
        Family::Php => typed() && shallow || is_keyword || quoted() && word.previous == b"define",
        Family::Shell => next == b'(' || assigned && next == b'=',
        Family::Lua => {
            next == b'=' && shallow
                || called && word.first_of_line == b"function"
                || qualified && next == b'='
        }
        Family::Swift => {
            (typed() && shallow) || word.follows_name && between == b"," || alone && next == b'('
        }
        Family::Jvm | Family::DotNet | Family::C => {
            let closes = between.ends_with(b"}") || between.ends_with(b")");
            (typed() || after_receiver) && ends
                || typed() && called
                || alone && shallow && ends
                || word.follows_name && matches!(between, b"," | b", *" | b",*") && ends
                || closes && matches!(next, b';' | b',' | b'(')
                || matches!(between, b"(*" | b"(" | b"::~" | b"~") && next == b')'
                || qualified && matches!(next, b'(' | b'<')
                || is_keyword
                || typed()
                    && (next == b'{'
                        || word.after.starts_with(b"=>")
                        || matches!(word.after, b"get" | b"set"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_seen_in_every_language() {
        for (language, text, names) in [
            (
                Language::Python,
                "import x\nA, B = 1, 2\nC: int = 3\n@d\nasync def f(a):\n    return g(a)\nclass K(Base):\n    y = 1\n    def __init__(self):\n        self.z: int = 1\n",
                "A B C f K y __init__ z",
            ),
            (
                Language::Rust,
                "pub(crate) const fn f<T>() {}\nstruct S {\n    pub a: u32,\n    b: u8,\n}\nenum E {\n    One,\n    Two(u8),\n}\nmacro_rules! m {}\nstatic mut X: u8 = 1;\ntype T = u8;\n",
                "f S a b E One Two m X T",
            ),
            (
                Language::TypeScript,
                "export default class A<T> extends B {\n  private x?: string;\n  go(y: T): void {}\n}\nexport const f = () => 1;\ninterface I { z: number }\nenum E { P, Q }\n",
                "A x go f I z E",
            ),
            (
                Language::C,
                "#define MAX 3\ntypedef struct {\n  int a, *b;\n} s_t;\nstatic char *name(int x) {\n}\nint\nold_style(void)\n{\n}\nenum e { ONE,\n  TWO };\nextern int v;\n",
                "MAX a b s_t name old_style e TWO v",
            ),
            (
                Language::Cpp,
                "namespace n {\nint C::f(int a) { return 1; }\nclass D : public E {\n  D();\n};\n}\n",
                "n f D",
            ),
            (
                Language::Java,
                "public class A {\n  private final int x = 1;\n  List<String> names(int a) {\n  }\n  A(int y) {}\n}\nenum E {\n  ONE, TWO;\n}\n",
                "A x names E ONE",
            ),
            (
                Language::Go,
                "func (t *T) F(a int) {}\nfunc G() {}\ntype S struct {\n\tA, B int\n}\nconst (\n\tX = iota\n\tY\n)\n",
                "F G S A B X Y",
            ),
            (
                Language::CSharp,
                "class C : D {\n  public int X { get; set; }\n  void F() {}\n  int Y => 1;\n}\n",
                "C X F Y",
            ),
            (
                Language::Ruby,
                "module M\n  class S < T\n    attr_reader :a, :b\n    X = 1\n    def self.f; end\n    def g?(x); end\n  end\nend\n",
                "M S a b X f g",
            ),
            (
                Language::Php,
                "class S {\n  private int $x;\n  public function f() {}\n  const Y = 1;\n}\nfunction g() {}\n",
                "S x f Y g",
            ),
            (Language::Kotlin, "data class K(val a: Int)\nfun String.f() = 1\nobject O\n", "K a f O"),
            (Language::Swift, "struct S { var x, y: Int\n  func f() {}\n  case a, b\n}\n", "S x y f a b"),
            (Language::Scala, "case class S(a: Int)\nobject O { def f = 1; val x = 2 }\n", "S O f x"),
            (
                Language::Lua,
                "local S = {}\nfunction S:f(x) end\nS.g = function() end\nlocal function h() end\n",
                "S f g h",
            ),
            (Language::Bash, "f() {\n}\nfunction g {\n}\nexport A=1\n", "f g A"),
        ] {
            let found = defined_names(language, text.as_bytes());
            for name in names.split(' ') {
                assert!(found.contains(&name_hash(name)), "{language:?}: {name}");
            }
        }
    }

    #[test]
    fn calls_and_hostile_bytes_define_nothing() {
        let found = defined_names(Language::Python, b"    return compute(x)\nprint(name)\n");
        for name in ["compute", "x", "name", "print"] {
            assert!(!found.contains(&name_hash(name)), "{name}");
        }
        defined_names(Language::C, b"\0\xff\xfe(\n\r\n\"'\x80=\n?");
        defined_names(Language::TypeScript, "\u{7f}?\n?!\nx?".as_bytes());
    }
}
