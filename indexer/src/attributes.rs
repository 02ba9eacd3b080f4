//! Attributes of items in Rust: which of them may add members that nobody sees.

use crate::words::words;

/// Those that are no macros, and those that are for others' derived traits.
const PLAIN: [&str; 24] = [
    "allow",
    "automatically_derived",
    "cfg",
    "clippy",
    "deny",
    "deprecated",
    "diagnostic",
    "doc",
    "error",
    "expect",
    "forbid",
    "inline",
    "must_use",
    "non_exhaustive",
    "repr",
    "rustfmt",
    "serde",
    "source",
    "stable",
    "track_caller",
    "unstable",
    "warn",
    "default",
    "serde_with",
];
/// Traits whose members the member check knows (`members/rust/library.rs`), derived.
const DERIVED: [&str; 12] = [
    "Clone",
    "Copy",
    "Debug",
    "Default",
    "PartialEq",
    "Eq",
    "PartialOrd",
    "Ord",
    "Hash",
    "Serialize",
    "Deserialize",
    "Error",
];

/// Whether an attribute, with its brackets, is a macro or derives what is not known.
pub(crate) fn is_macro(attribute: &str) -> bool {
    let inside = attribute.trim_start_matches(['#', '!', '[', ' ']);
    let name = words(inside).next().map_or("", |word| word.text);
    match name {
        "derive" => derives_unknown(inside),
        "cfg_attr" => inside.match_indices("derive(").any(|(at, _)| derives_unknown(&inside[at..])),
        _ => !PLAIN.contains(&name),
    }
}

/// Of `derive(a::B, C)` the last names of the paths count.
fn derives_unknown(derive: &str) -> bool {
    let list = derive.split_once('(').map_or("", |(_, rest)| rest);
    let list = list.split(')').next().unwrap_or_default();
    let last = |path: &str| path.rsplit("::").next().unwrap_or_default().trim().to_owned();
    list.split(',').map(last).any(|name| !name.is_empty() && !DERIVED.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_are_told_from_plain_attributes() {
        for (attribute, expected) in [
            ("#[derive(Clone, Debug,)]", false),
            ("#[derive(Debug, thiserror::Error)]", false),
            ("#[derive(clap::Parser)]", true),
            ("#[derive(\n    Clone,\n    Builder,\n)]", true),
            ("#[cfg_attr(feature = \"serde\", derive(serde::Serialize))]", false),
            ("#[cfg_attr(test, derive(Arbitrary))]", true),
            ("#[cfg_attr(docsrs, doc(cfg(feature = \"x\")))]", false),
            ("#[serde(rename_all = \"lowercase\")]", false),
            ("#[pin_project]", true),
            ("#[other::main]", true),
            ("#[repr(C)]", false),
        ] {
            assert_eq!(is_macro(attribute), expected, "{attribute}");
        }
    }
}
