//! What declarations in Rust say, as text: the index keeps signatures and no trees.

use crate::words::is_word;

/// Behind the bracket that closes the one at the start. Arrows and strings' brackets are none.
fn balanced(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' if before == '-' || before == '=' => {}
            '>' | ')' | ']' | '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + c.len_utf8());
                }
            }
            _ => {}
        }
        before = c;
    }
    None
}

/// The parts between commas, or another separator, that stand in no brackets.
pub(super) fn parts(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut start, mut before) = (0i32, 0, ' ');
    let mut found = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' if before == '-' || before == '=' => {}
            '>' | ')' | ']' | '}' => depth -= 1,
            c if c == separator && depth == 0 => {
                found.push(text[start..at].trim());
                start = at + c.len_utf8();
            }
            _ => {}
        }
        before = c;
    }
    found.push(text[start..].trim());
    found.retain(|part| !part.is_empty());
    found
}

/// A type without what leads to it: references, lifetimes, `mut`, brackets around it, and what a value is dereferenced through by
/// itself. Of `dyn` and `impl` the one trait is left that has members.
pub(super) fn bare(written: &str) -> &str {
    let mut rest = written.trim();
    loop {
        let before = rest.len();
        rest = rest.trim_start_matches('&').trim_start();
        if let Some(lifetime) = rest.strip_prefix('\'') {
            rest = lifetime.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').trim_start();
        }
        for word in ["mut ", "dyn ", "impl "] {
            rest = rest.strip_prefix(word).unwrap_or(rest).trim_start();
        }
        if rest.starts_with('(') && balanced(rest) == Some(rest.len()) {
            let inside = &rest[1..rest.len() - 1];
            if parts(inside, ',').len() == 1 && !inside.trim_end().ends_with(',') {
                rest = inside.trim();
            }
        }
        let is_said = |bound: &&str| {
            !bound.starts_with('\'') && !matches!(*bound, "Send" | "Sync" | "Unpin" | "?Sized" | "Copy")
        };
        let bounds: Vec<&str> = parts(rest, '+');
        if bounds.len() > 1 {
            let said: Vec<&str> = bounds.into_iter().filter(is_said).collect();
            if let [only] = said[..] {
                rest = only;
            }
        }
        if rest.len() == before {
            return rest;
        }
    }
}

/// A plain type's path and its arguments but for lifetimes: `std::io::Result<T>`; of slices and arrays the path is `[]`.
pub(super) fn head(written: &str) -> Option<(&str, Vec<&str>)> {
    let written = bare(written);
    if let Some(inside) = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some(("[]", vec![parts(inside, ';').first()?]));
    }
    let end = written.find('<').unwrap_or(written.len());
    let (path, arguments) = written.split_at(end);
    let path = path.trim().trim_end_matches("::");
    if path.is_empty() || !path.split("::").all(|part| !part.is_empty() && part.bytes().all(is_word)) {
        return None;
    }
    if arguments.is_empty() {
        return Some((path, Vec::new()));
    }
    let inside = arguments.strip_prefix('<')?.strip_suffix('>')?;
    (balanced(arguments) == Some(arguments.len())).then(|| {
        let is_type = |part: &&str| !part.starts_with('\'');
        (path, parts(inside, ',').into_iter().filter(is_type).collect())
    })
}

/// The parts of a tuple's type.
pub(super) fn tuple(written: &str) -> Option<Vec<&str>> {
    let written = bare(written);
    let inside = written.strip_prefix('(')?.strip_suffix(')')?;
    (balanced(written) == Some(written.len())).then(|| parts(inside, ','))
}

/// Where the text behind a whole word begins.
fn behind<'a>(signature: &'a str, word: &str) -> Option<&'a str> {
    let is_whole = |at: &usize| {
        !signature[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            && !signature[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
    };
    let at = signature.match_indices(word).map(|(at, _)| at).find(is_whole)?;
    Some(signature[at + word.len()..].trim_start())
}

/// What a function gives back; a future of it where it is asynchronous. `()` is nothing.
pub(super) fn result(signature: &str, name: &str) -> Option<String> {
    let (head, _) = signature.split_once("fn ")?;
    let mut rest = behind(behind(signature, "fn")?, name)?;
    if rest.starts_with('<') {
        rest = rest[balanced(rest)?..].trim_start();
    }
    rest = rest[balanced(rest).filter(|_| rest.starts_with('('))?..].trim_start();
    let written = rest.strip_prefix("->")?;
    let end = written.find(" where ").unwrap_or(written.len());
    let written = written[..end].trim();
    if written.ends_with("...") {
        return None;
    }
    let is_async = head.split_whitespace().any(|word| word == "async");
    Some(if is_async { format!("Future<{written}>") } else { written.to_owned() })
}

/// The type of a field, a constant or a static: `pub(crate) name: Type = value`.
pub(super) fn declared<'a>(signature: &'a str, name: &str) -> Option<&'a str> {
    let written = behind(signature, name)?.strip_prefix(':')?;
    let written = parts(written, '=').first().copied()?;
    (!written.ends_with("...")).then_some(written)
}

/// The types of a tuple struct's fields, or of those of a variant.
pub(super) fn fields<'a>(signature: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut rest = behind(signature, name)?;
    if rest.starts_with('<') {
        rest = rest[balanced(rest)?..].trim_start();
    }
    let end = balanced(rest).filter(|_| rest.starts_with('('))?;
    let without_visibility = |part: &'a str| {
        let rest = part.strip_prefix("pub").filter(|rest| rest.starts_with([' ', '(']));
        let Some(rest) = rest.map(str::trim_start) else { return part };
        let is_limited = ["(crate", "(super", "(in ", "(self"].iter().any(|start| rest.starts_with(start));
        if is_limited { balanced(rest).map_or(rest, |end| rest[end..].trim_start()) } else { rest }
    };
    Some(parts(&rest[1..end - 1], ',').into_iter().map(without_visibility).collect())
}

/// The type of a variant's field that has a name: `Kept { place: Place }`.
pub(super) fn named_field<'a>(signature: &'a str, variant: &str, name: &str) -> Option<&'a str> {
    let rest = behind(signature, variant)?;
    let end = balanced(rest).filter(|_| rest.starts_with('{'))?;
    let field = |part: &'a str| part.strip_prefix(name)?.trim_start().strip_prefix(':').map(str::trim);
    parts(&rest[1..end - 1], ',').into_iter().find_map(field)
}

/// What an alias stands for: `pub type Name<T> = Type<T>`.
pub(super) fn alias(signature: &str) -> Option<&str> {
    Some(signature.split_once(" = ")?.1.trim()).filter(|written| !written.ends_with("..."))
}

/// The trait that an implementation is of, as it is written: `impl<T> fmt::Debug for Name<T>`.
pub(super) fn implemented(signature: &str) -> Option<&str> {
    let mut rest = behind(signature, "impl")?;
    if rest.starts_with('<') {
        rest = rest[balanced(rest)?..].trim_start();
    }
    let end = rest.find(" for ")?;
    Some(head(&rest[..end])?.0)
}

/// Whether a member is said to be for others.
pub(super) fn is_public(signature: &str) -> bool {
    signature.starts_with("pub")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (written, path, arguments) in [
            ("&'a mut Store<'a, T>", "Store", &["T"][..]),
            ("Box<dyn Fn(A) -> B + Send>", "Box", &["dyn Fn(A) -> B + Send"]),
            ("&(dyn Shelf + Send)", "Shelf", &[]),
            ("std::io::Result<(A, Vec<B>)>", "std::io::Result", &["(A, Vec<B>)"]),
            ("[Stock; 3]", "[]", &["Stock"]),
            ("&[Stock]", "[]", &["Stock"]),
            ("impl Iterator<Item = Stock> + '_", "Iterator", &["Item = Stock"]),
            ("crate::a::B", "crate::a::B", &[]),
        ] {
            assert_eq!(head(written), Some((path, arguments.to_vec())), "{written}");
        }
        for written in ["fn(A) -> B", "(A, B)", "*const A", "A + B", "<A as B>::C", "!"] {
            assert_eq!(head(written), None, "{written}");
        }
        assert_eq!(tuple("&(A, Vec<(B, C)>)"), Some(vec!["A", "Vec<(B, C)>"]));
    }

    #[test]
    fn what_declarations_say() {
        for (signature, expected) in [
            ("pub fn get(&self) -> Option<&Stock>", Some("Option<&Stock>")),
            (
                "fn get<F: Fn(A) -> B>(f: F, g: fn() -> C) -> Result<Self, Error> where F: Copy",
                Some("Result<Self, Error>"),
            ),
            ("pub(crate) async fn get(a: A) -> B", Some("Future<B>")),
            ("fn get(get: fn() -> A)", None),
            ("fn get() -> A<B...", None),
        ] {
            assert_eq!(result(signature, "get").as_deref(), expected, "{signature}");
        }
        assert_eq!(declared("pub(crate) of: Vec<Of>", "of"), Some("Vec<Of>"));
        assert_eq!(declared("pub const A: [u8; 2] = [0; 2]", "A"), Some("[u8; 2]"));
        assert_eq!(
            fields("pub struct A<T>(pub u8, pub(crate) B<T>, (C, D))", "A"),
            Some(vec!["u8", "B<T>", "(C, D)"])
        );
        assert_eq!(fields("Move(Point, Vec<u8>)", "Move"), Some(vec!["Point", "Vec<u8>"]));
        assert_eq!(fields("pub struct A<T>", "A"), None);
        assert_eq!(named_field("Move { at: Point, to: Vec<u8> }", "Move", "to"), Some("Vec<u8>"));
        assert_eq!(implemented("impl<T: Fn() -> A> fmt::Debug for B<T>"), Some("fmt::Debug"));
        assert_eq!(implemented("unsafe impl From<A> for B"), Some("From"));
        assert_eq!(alias("pub type A<'a> = B<'a, u8>"), Some("B<'a, u8>"));
    }
}
