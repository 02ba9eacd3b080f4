//! Import statements that name many things at once (Rust, Scala, PHP): trees to single bindings, as text.

use crate::Language;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UseBinding {
    pub source: String,
    pub name: String,
    pub alias: String,
    pub all: bool,
}

/// Bindings of one `use`, at most this many.
const MAX_BINDINGS: usize = 512;

/// `a::{b, c::{d as e, *}}` -> its bindings. Works on text: a tree that is still being typed reads as far as it goes.
fn use_tree(text: &str) -> Vec<UseBinding> {
    let mut bindings = Vec::new();
    let mut prefixes: Vec<String> = vec![String::new()];
    let mut current = String::new();
    for character in text.chars().chain([',']) {
        match character {
            '{' => {
                let prefix = format!("{}{}", prefixes.last().map_or("", String::as_str), current.trim());
                prefixes.push(prefix);
                current.clear();
            }
            ',' | '}' | ';' => {
                if let Some(prefix) = prefixes.last()
                    && bindings.len() < MAX_BINDINGS
                {
                    bindings.extend(binding(prefix, current.trim()));
                }
                current.clear();
                if character == '}' && prefixes.len() > 1 {
                    prefixes.pop();
                }
            }
            '\n' | '\r' => current.push(' '),
            other => current.push(other),
        }
    }
    bindings
}

fn binding(prefix: &str, leaf: &str) -> Option<UseBinding> {
    if leaf.is_empty() {
        return None;
    }
    let path: String = format!("{prefix}{leaf}");
    let (path, alias) = match path.split_once(" as ") {
        Some((path, alias)) => (path.trim().to_owned(), alias.trim().to_owned()),
        None => (path, String::new()),
    };
    let path = path.trim_start_matches("::");
    let (source, name) = match path.rsplit_once("::") {
        Some((source, name)) => (source, name),
        None => ("", path),
    };
    let all = name == "*";
    // `use a::b::{self}` binds the module itself.
    if name == "self" {
        let (parent, last) = source.rsplit_once("::").unwrap_or(("", source));
        return Some(UseBinding { source: parent.to_owned(), name: last.to_owned(), alias, all: false });
    }
    let name = if all { String::new() } else { name.to_owned() };
    Some(UseBinding { source: source.to_owned(), name, alias, all })
}

/// Bindings of one import statement of a language whose query captures it whole.
pub(crate) fn import_tree(language: Language, text: &str) -> Vec<UseBinding> {
    match language {
        Language::Scala => scala(text),
        Language::Php => php(text),
        _ => use_tree(text),
    }
}

/// `import a.b.{C, D => E, _}`; the source carries the name with it, as Java's imports do.
fn scala(text: &str) -> Vec<UseBinding> {
    let text = text.trim_start().trim_start_matches("import ").replace("=>", " as ").replace('.', "::");
    let bindings = use_tree(&format!("{{{text}}}")).into_iter().map(|binding| {
        let all = binding.all || matches!(&*binding.name, "_" | "given");
        let name = if all { String::new() } else { binding.name };
        UseBinding { source: joined(&binding.source, &name, "."), name: String::new(), all, ..binding }
    });
    // `{C => _}` hides a name.
    bindings.filter(|binding| binding.alias != "_").collect()
}

/// `use A\B\{C, D as E};`, with `function` or `const` before the names; the source carries the name with it.
fn php(text: &str) -> Vec<UseBinding> {
    let text = text.trim_start().trim_start_matches("use ").replace('\\', "::");
    let text = text.replace("function ", "").replace("const ", "");
    let bindings = use_tree(&format!("{{{text}}}")).into_iter().map(|binding| {
        let source = joined(&binding.source, &binding.name, "\\");
        UseBinding { source, name: String::new(), ..binding }
    });
    bindings.collect()
}

fn joined(source: &str, name: &str, separator: &str) -> String {
    let source = source.replace("::", separator);
    match (source.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => source,
        _ => format!("{source}{separator}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_trees() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> = use_tree(text)
                .into_iter()
                .map(|UseBinding { source, name, alias, all }| {
                    format!(
                        "{source}|{}{}",
                        if all { "*" } else { &name },
                        if alias.is_empty() { alias } else { format!("={alias}") }
                    )
                })
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        check("a::b", &["a|b"]);
        check("a", &["|a"]);
        check(
            "crate::a::{b, c::{self, d as e, f::*},\n g}",
            &["crate::a|b", "crate::a|c", "crate::a::c|d=e", "crate::a::c::f|*", "crate::a|g"],
        );
        check("::a::b as _", &["a|b=_"]);
        check("a::{b, c::{", &["a|b"]);
        check("}}}", &[]);
    }

    #[test]
    fn other_trees() {
        let check = |language, text: &str, expected: &[&str]| {
            let write = |binding: UseBinding| {
                let all = if binding.all { "|*" } else { "" };
                let alias =
                    if binding.alias.is_empty() { String::new() } else { format!("={}", binding.alias) };
                format!("{}{all}{alias}", binding.source)
            };
            let found: Vec<String> = import_tree(language, text).into_iter().map(write).collect();
            assert_eq!(found, expected, "{text}");
        };
        check(Language::Scala, "import a.b.C", &["a.b.C"]);
        check(Language::Scala, "import a.b.{C, D => E, F => _, _}", &["a.b.C", "a.b.D=E", "a.b|*"]);
        check(Language::Scala, "import a.b.*, c.d.H as K", &["a.b|*", "c.d.H=K"]);
        check(Language::Scala, "import a.b.given", &["a.b|*"]);
        check(Language::Php, "use A\\B\\C;", &["A\\B\\C"]);
        check(Language::Php, "use \\A\\{B, C\\D as E};", &["A\\B", "A\\C\\D=E"]);
        check(Language::Php, "use function A\\f, A\\g as h;", &["A\\f", "A\\g=h"]);
    }
}
