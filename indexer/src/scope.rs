//! The code around a cursor, found by indentation alone: no parser, so that a half-typed line never changes it.
//!
//! The enclosing definition decides which context is shown; taken from a syntax tree it would jump with every
//! unbalanced bracket, and the model's prefix cache with it.

use std::ops::Range;

use crate::Language;

/// Bytes looked at on either side of the cursor.
const MAX_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The function around the cursor, or the top-level statement.
    pub function: Range<usize>,
    /// The line that opens the type around it.
    pub container: Option<Range<usize>>,
}

/// Words that open a scope whose members are functions, in any of the languages.
const CONTAINERS: &[&str] = &[
    "class",
    "struct",
    "interface",
    "impl",
    "trait",
    "namespace",
    "mod",
    "module",
    "enum",
    "extension",
    "object",
    "protocol",
    "record",
    "union",
    "package",
    "actor",
];

struct Line<'a> {
    start: usize,
    end: usize,
    text: &'a str,
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Width of the leading white space, a tab counting as four.
    fn indent(&self) -> usize {
        self.text.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { 4 } else { 1 }).sum()
    }

    /// A line that ends a block, in any of the languages.
    fn is_closing(&self) -> bool {
        let text = self.text.trim();
        let keyword = text
            .strip_prefix("end")
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        keyword || text.starts_with([')', ']', '}'])
    }

    /// Lines at a lower indentation that open no scope: closing brackets, labels, preprocessor lines.
    fn is_transparent(&self, language: Language) -> bool {
        let text = self.text.trim();
        let opens_by_colon = matches!(language, Language::Python | Language::Scala);
        let label = text.ends_with(':') && !text.contains('(') && !opens_by_colon;
        let preprocessor =
            text.starts_with('#') && matches!(language, Language::C | Language::Cpp | Language::CSharp);
        self.is_blank() || self.is_closing() || label || preprocessor
    }
}

fn lines(text: &str, range: Range<usize>) -> Vec<Line<'_>> {
    let mut start = range.start;
    text[range]
        .split('\n')
        .map(|line| {
            let line = Line { start, end: start + line.len(), text: line };
            start = line.end + 1;
            line
        })
        .collect()
}

/// The indentation that a blank line has at least: after a line break the cursor stands at the margin or on its way to
/// where the text goes on, and belongs to the block all the while. A blank line above and nothing below end the block.
fn indent_around(lines: &[Line<'_>], blank: usize, language: Language) -> usize {
    let above = blank.checked_sub(1).map(|index| &lines[index]).filter(|line| !line.is_blank());
    let above = above.map_or(0, |line| {
        let opens = line.text.trim_end().ends_with(['{', '(', '[', ':']) && !line.is_transparent(language);
        line.indent() + usize::from(opens)
    });
    let below = lines[blank + 1..].iter().find(|line| !line.is_blank());
    let below = below.map_or(0, |line| line.indent() + usize::from(line.is_closing()));
    above.max(below)
}

pub(crate) fn enclosing(text: &str, offset: usize, language: Language) -> Scope {
    let mut from = offset.saturating_sub(MAX_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let mut to = (offset + MAX_BYTES).min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    let lines = lines(text, from..to);
    let current = lines.partition_point(|line| line.end < offset).min(lines.len() - 1);
    let cursor_line = &lines[current];
    let indent = match cursor_line.is_blank() {
        true => {
            let column = text[cursor_line.start..offset].chars().map(|c| if c == '\t' { 4 } else { 1 }).sum();
            indent_around(&lines, current, language).max(column)
        }
        false => cursor_line.indent(),
    };

    // The lines that the cursor is nested in, innermost first.
    let mut headers: Vec<usize> = Vec::new();
    let mut limit = indent;
    if !cursor_line.is_blank() {
        headers.push(current);
    }
    for index in (0..current).rev() {
        if limit == 0 {
            break;
        }
        let line = &lines[index];
        if line.indent() < limit && !line.is_transparent(language) {
            limit = line.indent();
            // An opening brace on a line of its own belongs to the line before it.
            let mut header = index;
            while line.text.trim() == "{"
                && header > 0
                && (lines[header].text.trim() == "{" || lines[header].is_blank())
            {
                header -= 1;
            }
            headers.push(header);
        }
    }
    let is_container = |line: &Line<'_>| {
        let head = line.text.split(['(', '{', ':']).next().unwrap_or("");
        head.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| CONTAINERS.contains(&word))
    };
    // Outermost first: the first that is no container is the function.
    let mut container = None;
    let mut header = current;
    for index in headers.iter().rev() {
        header = *index;
        if !is_container(&lines[*index]) || *index == current {
            break;
        }
        container = Some(*index);
    }
    if container == Some(header) {
        header = current;
    }
    let depth = if header == current { indent } else { lines[header].indent() };

    // Where a head runs over several lines, its first line; then decorators, attributes and comments above it.
    let mut first = header;
    while first > 0 && header != current {
        let above = &lines[first - 1];
        let text = above.text.trim();
        let is_prelude =
            text.starts_with('@') || text.starts_with("#[") || text.starts_with(language.line_comment());
        if above.is_blank() || above.indent() != depth || !is_prelude {
            break;
        }
        first -= 1;
    }
    let mut last = header.max(current);
    for (index, line) in lines.iter().enumerate().skip(last + 1) {
        let deeper = line.indent() > depth;
        if !line.is_blank() && !deeper && !line.is_closing() && !line.text.trim_start().starts_with('{') {
            break;
        }
        if header == current && !line.is_blank() && !deeper {
            break;
        }
        if !line.is_blank() {
            last = index;
        }
    }
    Scope {
        function: lines[first].start..lines[last].end,
        container: container.map(|index| lines[index].start..lines[index].end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(language: Language, fixture: &str, function: &str, container: Option<&str>) {
        let offset = fixture.find("$0").unwrap();
        let text = fixture.replace("$0", "");
        let scope = enclosing(&text, offset, language);
        let first_line = |range: Range<usize>| text[range].lines().next().unwrap_or("").trim().to_owned();
        assert_eq!(first_line(scope.function), function, "{fixture}");
        assert_eq!(scope.container.map(first_line).as_deref(), container, "{fixture}");
    }

    #[test]
    fn scopes() {
        let python = "import x\n\nclass A(B):\n    y = 1\n\n    @p\n    def f(\n        self,\n    ):\n        if a:\n            g(\n                $0\n        h()\n\n    def k(self): pass\n";
        check(Language::Python, python, "@p", Some("class A(B):"));
        check(Language::Python, "def f():\n    a\n\n    $0\n    b\n", "def f():", None);
        check(Language::Python, "def f():\n    a\n\n$0\n", "", None);
        // After a line break, before the indentation is there.
        check(Language::Python, "def f():\n    a\n$0\n", "def f():", None);
        check(Language::Python, "def f():\n    if a:\n  $0\n", "def f():", None);
        check(Language::Python, "def f():\n    a\n\n$0\n    b\n", "def f():", None);
        check(Language::Python, "class A:\n    def f():\n$0\n\nx = 1\n", "def f():", Some("class A:"));
        check(Language::Go, "func F() {\n$0\n}\n", "func F() {", None);
        check(Language::Go, "func F() {\n\tx()\n}\n$0\n", "", None);
        check(Language::Python, "x = f($0\n", "x = f(", None);
        let csharp = "namespace N\n{\n    class A\n    {\n        void F(int a)\n        {\n            x.$0\n        }\n    }\n}\n";
        check(Language::CSharp, csharp, "void F(int a)", Some("class A"));
        let cpp = "class A {\npublic:\n  int f() {\n#ifdef X\n    return $0;\n#endif\n  }\n};\n";
        check(Language::Cpp, cpp, "int f() {", Some("class A {"));
        check(Language::Go, "func F() {\n\tx := 1\n\t$0\n}\n", "func F() {", None);
        check(
            Language::Rust,
            "impl A {\n    /// Doc.\n    fn f(&self) {\n        $0\n    }\n}\n",
            "/// Doc.",
            Some("impl A {"),
        );
        check(Language::Rust, "$0", "", None);
        let ruby = "module M\n  class A < B\n    def f\n      if x\n        y\n      end\n      $0\n    end\n  end\nend\n";
        check(Language::Ruby, ruby, "def f", Some("class A < B"));
        check(Language::Scala, "class A:\n  def f =\n    $0\n", "def f =", Some("class A:"));
        check(Language::Lua, "function M.f()\n  $0\nend\n", "function M.f()", None);
    }

    #[test]
    fn a_half_typed_line_changes_nothing() {
        let before = "class A:\n    def f(self):\n        a = 1\n        ";
        let after = "\n        return a\n\n    def g(self):\n        pass\n";
        let function = |typed: &str| {
            let text = format!("{before}{typed}{after}");
            let scope = enclosing(&text, before.len() + typed.len(), Language::Python);
            (scope.function.start, text[scope.function].trim_end().ends_with("return a"), scope.container)
        };
        let expected = function("");
        for typed in ["x", "x = (", "x = ([{", "\"\"\"", "if a:", "self.", "#", "é"] {
            assert_eq!(function(typed), expected, "{typed}");
        }
    }
}
