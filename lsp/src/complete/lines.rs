//! Line-level questions about plain text: indentation, the line at the cursor, its neighbours.

use lacuna_indexer::Language;

/// Columns that a tab advances to, when indentations are compared.
const TAB_COLUMNS: usize = 4;

/// Width of a line's leading white space in columns.
pub fn indentation(line: &str) -> usize {
    let mut columns = 0;
    for character in line.chars() {
        match character {
            ' ' => columns += 1,
            '\t' => columns += TAB_COLUMNS - columns % TAB_COLUMNS,
            _ => break,
        }
    }
    columns
}

pub fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

/// The part of the last line of `prefix` that stands before the cursor.
pub fn line_before(prefix: &str) -> &str {
    &prefix[prefix.rfind(['\n', '\r']).map_or(0, |at| at + 1)..]
}

/// The part of the cursor's line that stands after it, without the line break.
pub fn line_after(suffix: &str) -> &str {
    &suffix[..suffix.find(['\n', '\r']).unwrap_or(suffix.len())]
}

/// The text after the cursor's line.
pub fn after_line(suffix: &str) -> &str {
    match suffix.find('\n') {
        Some(at) => &suffix[at + 1..],
        None => "",
    }
}

/// The last line before the cursor's line that is not blank.
pub fn previous_line(prefix: &str) -> Option<&str> {
    lines_above(prefix).find(|line| !is_blank(line))
}

/// The lines before the cursor's line, nearest first.
pub fn lines_above(prefix: &str) -> impl Iterator<Item = &str> {
    let above = &prefix[..prefix.len() - line_before(prefix).len()];
    let above = above.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(above);
    // A file that starts at the cursor's line has nothing above it, not one empty line.
    let none = prefix.len() == line_before(prefix).len();
    above.rsplit('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).skip(usize::from(none))
}

/// The first line after the cursor's line that is not blank.
pub fn next_line(suffix: &str) -> Option<&str> {
    after_line(suffix).lines().find(|line| !is_blank(line))
}

/// Whether blocks are told by braces; else by indentation (Python).
pub fn has_braces(language: Language) -> bool {
    language != Language::Python
}

/// Whether `line` ends by opening a block that the following, deeper lines fill.
pub fn opens_block(line: &str, language: Option<Language>) -> bool {
    let code = without_line_comment(line, language).trim_end();
    match language {
        Some(Language::Python) => {
            code.ends_with(':') && open_brackets(code) <= 0 && !code.trim_start().starts_with("lambda")
        }
        Some(_) => code.ends_with('{'),
        None => code.ends_with('{'),
    }
}

/// The line without a trailing line comment; a comment opener inside quotes does not count.
pub fn without_line_comment(line: &str, language: Option<Language>) -> &str {
    let Some(opener) = language.map(Language::line_comment) else { return line };
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in line.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if line[at..].starts_with(opener) => return &line[..at],
            None if matches!(character, '"' | '\'' | '`') => quote = Some(character),
            None => {}
        }
    }
    line
}

/// More closed brackets and quotes in a row than this were not put there by an editor.
const MOST_CLOSED: usize = 4;

/// Whether `text` is nothing but brackets and quotes as editors close them by themselves.
pub fn is_closed(text: &str) -> bool {
    text.len() <= MOST_CLOSED
        && text.chars().all(|character| matches!(character, ')' | ']' | '}' | '"' | '\'' | '`'))
}

/// Opening minus closing brackets outside quotes.
pub fn open_brackets(text: &str) -> isize {
    code_characters(text)
        .map(|(_, character)| match character {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        })
        .sum()
}

/// The characters of `text` outside quoted strings, with their offsets. A quote that the line does not close is
/// an apostrophe, a lifetime or a string that goes on, and hides nothing after it.
pub fn code_characters(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut skip_to = 0;
    text.char_indices().filter_map(move |(at, character)| {
        if at < skip_to {
            return None;
        }
        if matches!(character, '"' | '\'' | '`') {
            let line_end = text[at..].find('\n').map_or(text.len(), |found| at + found);
            if let Some(end) = closing_quote(&text[at + 1..line_end], character) {
                skip_to = at + 1 + end + 1;
                return None;
            }
        }
        Some((at, character))
    })
}

fn closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_around_the_cursor() {
        assert_eq!(line_before("a\nbc"), "bc");
        assert_eq!(line_after("bc\r\nd"), "bc");
        assert_eq!(after_line("b\nc\n"), "c\n");
        assert_eq!(previous_line("a\r\n\r\n  x"), Some("a"));
        assert_eq!(previous_line("x"), None);
        assert_eq!(lines_above("a\n\nb\nx").collect::<Vec<_>>(), ["b", "", "a"]);
        assert_eq!(lines_above("\nx").collect::<Vec<_>>(), [""]);
        assert_eq!(lines_above("x").count(), 0);
        assert_eq!(next_line("rest\n\n  y\nz"), Some("  y"));
        assert_eq!(next_line("rest"), None);
        assert_eq!(indentation("\t  x"), 6);
        assert_eq!(indentation("  \tx"), 4);
    }

    #[test]
    fn block_openers() {
        let cases = [
            ("def f(a):", Some(Language::Python), true),
            ("def f(a):  # note", Some(Language::Python), true),
            ("    x = {'a':", Some(Language::Python), false),
            ("    values[1:", Some(Language::Python), false),
            ("else:", Some(Language::Python), true),
            ("x = 1", Some(Language::Python), false),
            ("fn f() {", Some(Language::Rust), true),
            ("fn f() { // why", Some(Language::Rust), true),
            ("match x {", Some(Language::Rust), true),
            ("let url = \"http://x\";", Some(Language::Rust), false),
            ("if (a) {", Some(Language::Java), true),
            ("case 1:", Some(Language::Go), false),
            ("const f = () => {", Some(Language::TypeScript), true),
        ];
        for (line, language, expected) in cases {
            assert_eq!(opens_block(line, language), expected, "{line:?}");
        }
    }

    #[test]
    fn brackets_inside_quotes_do_not_count() {
        for (text, expected) in
            [("f(", 1), ("f(')')", 0), ("f(\")\"", 1), ("it's (", 1), ("&'a str)", -1), (r#"f("\")""#, 1)]
        {
            assert_eq!(open_brackets(text), expected, "{text:?}");
        }
    }
}
