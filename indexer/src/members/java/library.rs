//! What types of Java's own library have that classes are often derived from: their public and protected members, from the
//! documentation of Java SE 21.

use crate::symbols::FileSymbols;

/// A type: its package, its name, and what it has besides what every object has.
type Known = (&'static str, &'static str, &'static [&'static str]);

const THROWABLE: &[&str] = &[
    "addSuppressed",
    "fillInStackTrace",
    "getCause",
    "getLocalizedMessage",
    "getMessage",
    "getStackTrace",
    "getSuppressed",
    "initCause",
    "printStackTrace",
    "setStackTrace",
];

const KNOWN: [Known; 33] = [
    ("java.lang", "Object", &[]),
    ("java.io", "Serializable", &[]),
    ("java.lang", "Cloneable", &[]),
    ("java.util", "RandomAccess", &[]),
    ("java.lang", "Comparable", &["compareTo"]),
    ("java.lang", "Runnable", &["run"]),
    ("java.lang", "AutoCloseable", &["close"]),
    ("java.io", "Closeable", &["close"]),
    ("java.io", "Flushable", &["flush"]),
    ("java.lang", "Readable", &["read"]),
    ("java.lang", "Appendable", &["append"]),
    ("java.lang", "Iterable", &["forEach", "iterator", "spliterator"]),
    (
        "java.lang",
        "CharSequence",
        &["charAt", "chars", "codePoints", "compare", "isEmpty", "length", "subSequence"],
    ),
    ("java.util", "Iterator", &["forEachRemaining", "hasNext", "next", "remove"]),
    ("java.util", "Enumeration", &["asIterator", "hasMoreElements", "nextElement"]),
    ("java.util.concurrent", "Callable", &["call"]),
    ("java.util.function", "Supplier", &["get"]),
    ("java.util.function", "Consumer", &["accept", "andThen"]),
    ("java.util.function", "Function", &["andThen", "apply", "compose", "identity"]),
    ("java.util.function", "Predicate", &["and", "isEqual", "negate", "not", "or", "test"]),
    ("java.lang", "Throwable", THROWABLE),
    ("java.lang", "Exception", THROWABLE),
    ("java.lang", "Error", THROWABLE),
    ("java.lang", "RuntimeException", THROWABLE),
    ("java.lang", "IllegalArgumentException", THROWABLE),
    ("java.lang", "IllegalStateException", THROWABLE),
    ("java.lang", "UnsupportedOperationException", THROWABLE),
    ("java.lang", "IndexOutOfBoundsException", THROWABLE),
    ("java.lang", "NumberFormatException", THROWABLE),
    ("java.lang", "AssertionError", THROWABLE),
    ("java.io", "IOException", THROWABLE),
    ("java.util", "NoSuchElementException", THROWABLE),
    ("java.lang", "ArithmeticException", THROWABLE),
];

/// The members of a type that a file names and the workspace does not have; `None` where they are not known.
pub(super) fn members(symbols: &FileSymbols, name: &str) -> Option<&'static [&'static str]> {
    let bare = name.rsplit('.').next()?;
    let (package, _, members) = KNOWN.iter().find(|(_, known, _)| *known == bare)?;
    let written = name.strip_suffix(bare)?.strip_suffix('.');
    let is_it = match written {
        Some(written) => written == *package,
        None => match symbols.imports.iter().find(|import| symbols.local_name(import) == Some(bare)) {
            Some(import) => symbols.text(import.source).strip_suffix(bare)?.strip_suffix('.')? == *package,
            // Known everywhere, or by an import of the whole package.
            None => {
                let opens = |import: &crate::symbols::Import| {
                    symbols.local_name(import).is_none() && symbols.text(import.source) == *package
                };
                *package == "java.lang" || symbols.imports.iter().any(opens)
            }
        },
    };
    is_it.then_some(*members)
}
