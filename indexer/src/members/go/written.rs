//! What declarations in Go say, as text: the index keeps signatures and no trees.

use crate::{signature::balanced, words::words};

/// Whether a text is one name.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// The name of a type or of what a pointer leads to, with its package, without its arguments.
pub(super) fn type_name(written: &str) -> Option<&str> {
    let written = written.trim();
    let written = written.strip_prefix('*').unwrap_or(written).trim_start();
    let end = written.find('[').filter(|_| written.ends_with(']')).unwrap_or(written.len());
    let name = &written[..end];
    let mut parts = name.split('.');
    let is_type = parts.next().is_some_and(is_name) && parts.next().is_none_or(is_name);
    (is_type && parts.next().is_none()).then_some(name)
}

/// Whether the head of a declaration names a type parameter, or a receiver's, so.
pub(super) fn is_parameter(head: &str, name: &str) -> bool {
    head.match_indices('[').any(|(at, _)| {
        let end = head[at..].find(']').map_or(head.len(), |end| at + end);
        words(&head[at..end]).any(|word| word.text == name)
    })
}

/// The types that a function gives back: `func (s *Set) Get(key string) (item *Item, ok bool)`. Those of a method of an
/// interface, which begins with its name, too.
pub(super) fn results<'a>(signature: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut rest = signature;
    if let Some(function) = rest.strip_prefix("func ") {
        rest = function.trim_start();
        if rest.starts_with('(') {
            rest = rest[balanced(rest, '(', ')')?..].trim_start();
        }
    }
    rest = rest.strip_prefix(name)?;
    if rest.starts_with('[') {
        rest = &rest[balanced(rest, '[', ']')?..];
    }
    rest = rest.strip_prefix(' ').unwrap_or(rest);
    if !rest.starts_with('(') {
        return None;
    }
    rest = rest[balanced(rest, '(', ')')?..].trim();
    if !rest.starts_with('(') {
        return Some(if rest.is_empty() { Vec::new() } else { vec![rest] });
    }
    let inside = rest.strip_prefix('(')?.strip_suffix(')')?;
    let parts = split(inside);
    let named = |part: &&'a str| part.split_once(' ').filter(|(name, _)| is_name(name) && !is_keyword(name));
    if !parts.iter().any(|part| named(part).is_some()) {
        return Some(parts);
    }
    // `one, other Type`: the type stands behind the last one.
    let types = (0..parts.len()).map(|at| parts[at..].iter().find_map(named).map(|(_, written)| written));
    types.collect()
}

/// Whether a word begins a type.
fn is_keyword(word: &str) -> bool {
    matches!(word, "chan" | "func" | "interface" | "map" | "struct")
}

/// Parts between commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_signatures() {
        let cases: &[(&str, &[&str])] = &[
            ("func f()", &[]),
            ("func f() *A", &["*A"]),
            ("func (s *Set[T]) f(a int, b func(int) (A, B)) (item *Item, ok bool)", &["*Item", "bool"]),
            ("func f[T any](x ...T) (A, error)", &["A", "error"]),
            ("f(x int) (a, b *A, err error)", &["*A", "*A", "error"]),
            ("func f() (func(int) A, error)", &["func(int) A", "error"]),
            ("func f() map[string]A", &["map[string]A"]),
            ("func f", &[]),
        ];
        for (signature, expected) in cases {
            assert_eq!(results(signature, "f").unwrap_or_default(), *expected, "{signature}");
        }
    }

    #[test]
    fn names_of_types() {
        for (written, expected) in [
            ("A", Some("A")),
            ("*a.A", Some("a.A")),
            (" *Set[int]", Some("Set")),
            ("[]A", None),
            ("map[string]A", None),
            ("func() A", None),
            ("**A", None),
            ("chan A", None),
            ("a.b.C", None),
            ("", None),
        ] {
            assert_eq!(type_name(written), expected, "{written:?}");
        }
    }
}
