//! Text metrics with CrossCodeEval's definitions: exact match, edit similarity, identifier match.
//!
//! Edit similarity is the integer ratio over insertions and deletions, 100 * 2 * LCS / (a + b), as the Levenshtein
//! backend of the usual fuzz ratio computes it (difflib's differs by a few points). Here it is divided by 100.

use std::collections::BTreeMap;

/// One prediction against the truth; every value lies between 0 and 1.
pub fn compare(prediction: &str, truth: &str) -> BTreeMap<String, f64> {
    let (prediction, truth) = (strip_comments(prediction), strip_comments(truth));
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let (found, wanted) = (identifiers(&prediction), identifiers(&truth));
    let exact = lines(&prediction) == lines(&truth);
    BTreeMap::from([
        ("exact_match".to_owned(), f64::from(exact)),
        ("edit_similarity".to_owned(), edit_similarity(prediction.trim(), truth.trim())),
        ("identifier_match".to_owned(), f64::from(found == wanted)),
        ("identifier_f1".to_owned(), f1(&found, &wanted)),
    ])
}

/// From `#` or `//` to the end of the line, in every language, as the definition has it.
fn strip_comments(text: &str) -> String {
    let strip = |line: &str| {
        let end = [line.find('#'), line.find("//")].into_iter().flatten().min();
        line[..end.unwrap_or(line.len())].to_owned()
    };
    text.lines().map(strip).collect::<Vec<_>>().join("\n")
}

/// Rounded to hundredths, as published.
pub fn edit_similarity(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    let mut row = vec![0usize; b.len() + 1];
    for from_a in &a {
        let mut diagonal = 0;
        for (column, from_b) in b.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if from_a == from_b { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    let common = row.last().copied().unwrap_or(0);
    (200.0 * common as f64 / (a.len() + b.len()) as f64).round() / 100.0
}

/// Words that are neither inside strings nor keywords, in order.
pub fn identifiers(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut escaped = false;
    for character in text.chars().chain([' ']) {
        if let Some(open) = quote {
            if !escaped && (character == open || character == '\n') {
                quote = None;
            }
            escaped = character == '\\' && !escaped;
            continue;
        }
        if character.is_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        let done = std::mem::take(&mut word);
        if done.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && !KEYWORDS.contains(&done.as_str())
        {
            words.push(done);
        }
        if matches!(character, '"' | '\'' | '`') {
            quote = Some(character);
        }
    }
    words
}

fn f1(found: &[String], wanted: &[String]) -> f64 {
    let mut left: Vec<&String> = wanted.iter().collect();
    let hits = found
        .iter()
        .filter(|word| {
            left.iter().position(|other| other == word).map(|index| left.swap_remove(index)).is_some()
        })
        .count();
    if found.is_empty() && wanted.is_empty() {
        return 1.0;
    }
    2.0 * hits as f64 / (found.len() + wanted.len()) as f64
}

/// Of Python, Java, C#, TypeScript, Rust, Go and C++ together.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "False", "None", "True", "Self", "abstract", "and", "any", "as", "assert", "async", "auto", "await", "base", "bool",
    "boolean", "break", "byte", "case", "catch", "chan", "char", "class", "const", "continue", "decimal", "def",
    "default", "defer", "del", "delete", "do", "double", "dyn", "elif", "else", "enum", "except", "export", "extends",
    "extern", "false", "final", "finally", "float", "fn", "for", "foreach", "from", "func", "function", "global", "go",
    "if", "impl", "implements", "import", "in", "instanceof", "int", "interface", "internal", "is", "lambda", "let",
    "long", "loop", "map", "match", "mod", "move", "mut", "namespace", "native", "new", "nil", "nonlocal", "not", "null",
    "nullptr", "number", "object", "operator", "or", "out", "override", "package", "params", "pass", "private",
    "protected", "pub", "public", "raise", "range", "readonly", "ref", "return", "sbyte", "sealed", "select", "self",
    "short", "sizeof", "static", "string", "struct", "super", "switch", "synchronized", "template", "this", "throw",
    "throws", "trait", "true", "try", "type", "typeof", "typename", "uint", "ulong", "undefined", "unsafe", "use",
    "using", "var", "virtual", "void", "volatile", "where", "while", "with", "yield",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions() {
        // Prediction, truth, exact match, edit similarity, identifier match, identifier F1.
        for (prediction, truth, expected) in [
            ("a.b(c)", "a.b(c)", [1.0, 1.0, 1.0, 1.0]),
            ("  a.b(c)  # why\n\n", "a.b(c)", [1.0, 1.0, 1.0, 1.0]),
            ("a.b(d)", "a.b(c)", [0.0, 0.83, 0.0, 2.0 / 3.0]),
            ("", "a", [0.0, 0.0, 0.0, 0.0]),
            ("", "", [1.0, 1.0, 1.0, 1.0]),
            ("f('x y')", "f('z')", [0.0, 0.71, 1.0, 1.0]),
            ("return x", "yield x", [0.0, 0.4, 1.0, 1.0]),
        ] {
            let values = compare(prediction, truth);
            let got = ["exact_match", "edit_similarity", "identifier_match", "identifier_f1"]
                .map(|name| values[name]);
            assert_eq!(got, expected, "{prediction:?} against {truth:?}");
        }
    }

    #[test]
    fn words_outside_strings() {
        assert_eq!(identifiers("x1 = \"a \\\" b\" + f(2, y_)"), ["x1", "f", "y_"]);
    }
}
