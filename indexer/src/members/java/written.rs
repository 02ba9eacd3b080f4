//! What declarations in Java say, as text: the index keeps signatures and no trees.

use crate::{signature::balanced, words::is_word};

/// The name of a class, with those of the classes around it where they are written, without its arguments and what annotates
/// it. Arrays and primitive types have none.
pub(super) fn type_name(written: &str) -> Option<&str> {
    let mut rest = written.trim();
    while rest.starts_with('@') {
        let end = rest[1..]
            .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.')
            .map_or(rest.len(), |at| at + 1);
        rest = rest[end..].trim_start();
        if rest.starts_with('(') {
            rest = rest[balanced(rest, '(', ')')?..].trim_start();
        }
    }
    let end = rest.find('<').unwrap_or(rest.len());
    let (name, arguments) = rest.split_at(end);
    let name = name.trim_end();
    let is_whole = arguments.is_empty()
        || balanced(arguments, '<', '>').is_some_and(|end| arguments[end..].trim().is_empty());
    let is_part = |part: &str| part.starts_with(char::is_uppercase) && part.bytes().all(is_word);
    (is_whole && name.split('.').all(is_part)).then_some(name)
}

/// What is in front of a name: modifiers and the like, and the type.
fn before(signature: &str, at: usize) -> Option<(&str, &str)> {
    let head = signature[..at].trim_end();
    let mut start = head.len();
    if head.ends_with('>') {
        let mut depth = 0;
        start = head.char_indices().rev().find_map(|(at, c)| {
            depth += i32::from(c == '>') - i32::from(c == '<');
            (depth == 0).then_some(at)
        })?;
        start = head[..start].trim_end().len();
    }
    start = head[..start].trim_end_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '.').len();
    Some((&head[..start], &head[start..]))
}

/// Where a method's or field's name stands.
fn place(signature: &str, name: &str, next: impl Fn(&str) -> bool) -> Option<usize> {
    signature.match_indices(name).map(|(at, _)| at).find(|at| {
        let is_whole = !signature[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        is_whole && next(signature[at + name.len()..].trim_start())
    })
}

/// What is in front of a member's name; its annotations may say the name too.
pub(super) fn modifiers<'a>(signature: &'a str, name: &str) -> Option<&'a str> {
    let at = place(signature, name, |rest| !rest.starts_with(['"', '.', ')']))?;
    Some(&signature[..at])
}

/// The name of the type that a method gives back: `public static <T> List<T> of(T item)`.
pub(super) fn result<'a>(signature: &'a str, name: &str) -> Option<&'a str> {
    let at = place(signature, name, |rest| rest.starts_with('('))?;
    let (_, written) = before(signature, at)?;
    type_name(written)
}

/// The name of the type of a field: `private final Map<String, Item> items = new HashMap<>()`.
pub(super) fn declared<'a>(signature: &'a str, name: &str) -> Option<&'a str> {
    let at = place(signature, name, |rest| rest.is_empty() || rest.starts_with(['=', ';', ',', ')']))?;
    let (_, written) = before(signature, at)?;
    type_name(written)
}

/// How many parameters a method has, and whether more may be given.
pub(super) fn parameter_count(signature: &str, name: &str) -> Option<(usize, bool)> {
    let at = place(signature, name, |rest| rest.starts_with('('))?;
    let rest = signature[at + name.len()..].trim_start();
    let inside = &rest[1..balanced(rest, '(', ')')? - 1];
    if inside.trim().is_empty() {
        return Some((0, false));
    }
    let (mut count, mut depth) = (1, 0i32);
    for c in inside.chars() {
        match c {
            '(' | '<' | '{' | '[' => depth += 1,
            ')' | '>' | '}' | ']' => depth -= 1,
            ',' if depth == 0 => count += 1,
            _ => {}
        }
    }
    Some((count, inside.contains("...")))
}

/// The type parameters that the head of a class or a method declares: the first names in brackets that follow no type.
pub(super) fn type_parameters(head: &str) -> impl Iterator<Item = &str> {
    let open = head.char_indices().find(|(at, c)| {
        let before = head[..*at].trim_end();
        let word = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let earlier = before[..before.len() - word.len()].trim_end();
        let is_class = ["class", "interface", "record"].iter().any(|kind| earlier.ends_with(kind));
        let is_modifier = word.is_empty() || word.starts_with(char::is_lowercase);
        *c == '<' && (is_class || is_modifier)
    });
    let inside = open.and_then(|(at, _)| {
        let rest = &head[at..];
        Some(&rest[1..balanced(rest, '<', '>')? - 1])
    });
    let mut depth = 0i32;
    let parts = inside.unwrap_or_default().split(move |c: char| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        c == ',' && depth == 0
    });
    parts.filter_map(|part| {
        part.split_whitespace().find(|word| !word.starts_with('@')).filter(|word| word.bytes().all(is_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types() {
        for (written, expected) in [
            ("Item", Some("Item")),
            ("Outer.Inner<String>", Some("Outer.Inner")),
            ("@Nullable Item", Some("Item")),
            ("@Size(max = 3) Item", Some("Item")),
            ("Map<String, List<Item>>", Some("Map")),
            ("Item[]", None),
            ("List<Item>[]", None),
            ("int", None),
            ("java.util.List", None),
            ("void", None),
        ] {
            assert_eq!(type_name(written), expected, "{written}");
        }
    }

    #[test]
    fn what_methods_give_back() {
        for (signature, expected) in [
            ("public Item get(String get)", Some("Item")),
            ("@Override protected final <T extends Item> Box<T> get()", Some("Box")),
            ("static <T> T get(List<T> of)", Some("T")),
            ("Item[] get()", None),
            ("void get()", None),
            ("Outer.Inner get() throws IOException", Some("Outer.Inner")),
            ("/* ein § */§Item get()", Some("Item")),
            ("@Get(\"get\") public Map<String, List<Item>> get(int a)", Some("Map")),
        ] {
            assert_eq!(result(signature, "get"), expected, "{signature}");
        }
    }

    #[test]
    fn what_stands_in_front() {
        for (signature, expected) in [
            ("@Deprecated(\"as get\") public Item get()", "@Deprecated(\"as get\") public Item "),
            ("private static class get<T> extends Base", "private static class "),
            ("@See(Item.get) Item get", "@See(Item.get) Item "),
        ] {
            assert_eq!(modifiers(signature, "get"), Some(expected), "{signature}");
        }
    }

    #[test]
    fn what_fields_are() {
        for (signature, expected) in [
            ("private final Item item = new Item()", Some("Item")),
            ("Map<String, Item> item;", Some("Map")),
            ("Item item[]", None),
            ("Item other, item", None),
            ("int item", None),
        ] {
            assert_eq!(declared(signature, "item"), expected, "{signature}");
        }
    }

    #[test]
    fn parameters() {
        for (signature, expected) in [
            ("void f()", (0, false)),
            ("void f(Map<String, Item> a, int b)", (2, false)),
            ("void f(int a, String... b)", (2, true)),
            ("@F(f = {1, 2}) void f(@A(1) int a)", (1, false)),
        ] {
            assert_eq!(parameter_count(signature, "f"), Some(expected), "{signature}");
        }
        for (head, expected) in [
            ("public class Box<K, V extends List<K>> extends Base<K>", &["K", "V"][..]),
            ("public static <T extends Comparable<T>> Box<T> of(T one)", &["T"]),
            ("Map<String, Item> items()", &[]),
            ("private Box<K> next", &[]),
        ] {
            assert_eq!(type_parameters(head).collect::<Vec<_>>(), expected, "{head}");
        }
    }
}
