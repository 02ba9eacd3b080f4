//! The languages Lacuna reads: one row a language, one query file each in `queries/`.
//!
//! Adding a language: a variant, a row in `ROWS` at the same place, a grammar crate, a query file.

use std::{path::Path, sync::OnceLock};

use crate::{imports::ImportStyle, query::SymbolQuery};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Python,
    Rust,
    TypeScript,
    Tsx,
    JavaScript,
    Java,
    C,
    Cpp,
    Go,
    CSharp,
    Ruby,
    Php,
    Kotlin,
    Swift,
    Scala,
    Lua,
    Bash,
}

struct Row {
    language: Language,
    name: &'static str,
    /// LSP language identifiers.
    ids: &'static [&'static str],
    /// Lower case, without the dot.
    extensions: &'static [&'static str],
    grammar: fn() -> tree_sitter::Language,
    line_comment: &'static str,
    /// Pieces of the symbol query; languages that share a grammar share pieces.
    queries: &'static [&'static str],
    imports: ImportStyle,
    /// Languages of one family see each other's definitions.
    family: Family,
    layout: Layout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Python,
    Rust,
    EcmaScript,
    Jvm,
    C,
    Go,
    DotNet,
    Ruby,
    Php,
    Swift,
    Lua,
    Shell,
}

/// How a definition without bodies is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Braces around members, `;` behind what shows no body.
    Semicolons,
    /// Braces, and nothing behind what shows no body.
    Lines,
    /// As [`Layout::Lines`]; members defined outside of their type are written beside it.
    Beside,
    /// Deeper lines, `...` for bodies.
    Indentation,
    /// Deeper lines, closed by `end`.
    End,
}

/// In the order of [`Language`]'s variants (a test holds them together).
const ROWS: &[Row] = &[
    Row {
        language: Language::Python,
        name: "Python",
        ids: &["python"],
        extensions: &["py", "pyi", "pyw"],
        grammar: || tree_sitter_python::LANGUAGE.into(),
        line_comment: "#",
        queries: &[include_str!("queries/python.scm")],
        imports: ImportStyle::Python,
        family: Family::Python,
        layout: Layout::Indentation,
    },
    Row {
        language: Language::Rust,
        name: "Rust",
        ids: &["rust"],
        extensions: &["rs"],
        grammar: || tree_sitter_rust::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/rust.scm")],
        imports: ImportStyle::Rust,
        family: Family::Rust,
        layout: Layout::Semicolons,
    },
    Row {
        language: Language::TypeScript,
        name: "TypeScript",
        ids: &["typescript"],
        extensions: &["ts", "mts", "cts"],
        grammar: || tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        line_comment: "//",
        queries: &[include_str!("queries/ecmascript.scm"), include_str!("queries/typescript.scm")],
        imports: ImportStyle::EcmaScript,
        family: Family::EcmaScript,
        layout: Layout::Semicolons,
    },
    Row {
        language: Language::Tsx,
        name: "TSX",
        ids: &["typescriptreact"],
        extensions: &["tsx"],
        grammar: || tree_sitter_typescript::LANGUAGE_TSX.into(),
        line_comment: "//",
        queries: &[include_str!("queries/ecmascript.scm"), include_str!("queries/typescript.scm")],
        imports: ImportStyle::EcmaScript,
        family: Family::EcmaScript,
        layout: Layout::Semicolons,
    },
    Row {
        language: Language::JavaScript,
        name: "JavaScript",
        ids: &["javascript", "javascriptreact"],
        extensions: &["js", "jsx", "mjs", "cjs"],
        grammar: || tree_sitter_javascript::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/ecmascript.scm"), include_str!("queries/javascript.scm")],
        imports: ImportStyle::EcmaScript,
        family: Family::EcmaScript,
        layout: Layout::Semicolons,
    },
    Row {
        language: Language::Java,
        name: "Java",
        ids: &["java"],
        extensions: &["java"],
        grammar: || tree_sitter_java::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/java.scm")],
        imports: ImportStyle::Package,
        family: Family::Jvm,
        layout: Layout::Semicolons,
    },
    Row {
        language: Language::C,
        name: "C",
        ids: &["c"],
        extensions: &["c"],
        grammar: || tree_sitter_c::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/c.scm")],
        imports: ImportStyle::Include,
        family: Family::C,
        layout: Layout::Semicolons,
    },
    Row {
        language: Language::Cpp,
        name: "C++",
        ids: &["cpp", "cuda-cpp"],
        // `.h` is read as C++, whose grammar accepts nearly all C declarations; the reverse does not hold.
        extensions: &["cpp", "cc", "cxx", "hpp", "hh", "hxx", "h", "inl", "ipp", "cu", "cuh"],
        grammar: || tree_sitter_cpp::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/c.scm"), include_str!("queries/cpp.scm")],
        imports: ImportStyle::Include,
        family: Family::C,
        layout: Layout::Semicolons,
    },
    Row {
        language: Language::Go,
        name: "Go",
        ids: &["go"],
        extensions: &["go"],
        grammar: || tree_sitter_go::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/go.scm")],
        imports: ImportStyle::Go,
        family: Family::Go,
        layout: Layout::Beside,
    },
    Row {
        language: Language::CSharp,
        name: "C#",
        ids: &["csharp"],
        extensions: &["cs"],
        grammar: || tree_sitter_c_sharp::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/c_sharp.scm")],
        imports: ImportStyle::Namespace,
        family: Family::DotNet,
        layout: Layout::Semicolons,
    },
    Row {
        language: Language::Ruby,
        name: "Ruby",
        ids: &["ruby"],
        extensions: &["rb", "rake", "gemspec", "ru"],
        grammar: || tree_sitter_ruby::LANGUAGE.into(),
        line_comment: "#",
        queries: &[include_str!("queries/ruby.scm")],
        imports: ImportStyle::Ruby,
        family: Family::Ruby,
        layout: Layout::End,
    },
    Row {
        language: Language::Php,
        name: "PHP",
        ids: &["php"],
        extensions: &["php", "phtml", "inc"],
        grammar: || tree_sitter_php::LANGUAGE_PHP.into(),
        line_comment: "//",
        queries: &[include_str!("queries/php.scm")],
        imports: ImportStyle::Php,
        family: Family::Php,
        layout: Layout::Semicolons,
    },
    Row {
        language: Language::Kotlin,
        name: "Kotlin",
        ids: &["kotlin"],
        extensions: &["kt", "kts"],
        grammar: || tree_sitter_kotlin_ng::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/kotlin.scm")],
        imports: ImportStyle::Package,
        family: Family::Jvm,
        layout: Layout::Lines,
    },
    Row {
        language: Language::Swift,
        name: "Swift",
        ids: &["swift"],
        extensions: &["swift"],
        grammar: || tree_sitter_swift::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/swift.scm")],
        imports: ImportStyle::Swift,
        family: Family::Swift,
        layout: Layout::Lines,
    },
    Row {
        language: Language::Scala,
        name: "Scala",
        ids: &["scala"],
        extensions: &["scala", "sc", "sbt"],
        grammar: || tree_sitter_scala::LANGUAGE.into(),
        line_comment: "//",
        queries: &[include_str!("queries/scala.scm")],
        imports: ImportStyle::Package,
        family: Family::Jvm,
        layout: Layout::Lines,
    },
    Row {
        language: Language::Lua,
        name: "Lua",
        ids: &["lua"],
        extensions: &["lua"],
        grammar: || tree_sitter_lua::LANGUAGE.into(),
        line_comment: "--",
        queries: &[include_str!("queries/lua.scm")],
        imports: ImportStyle::Lua,
        family: Family::Lua,
        layout: Layout::Beside,
    },
    Row {
        language: Language::Bash,
        name: "Bash",
        ids: &["shellscript", "bash", "sh"],
        extensions: &["sh", "bash", "zsh", "ksh"],
        grammar: || tree_sitter_bash::LANGUAGE.into(),
        line_comment: "#",
        queries: &[include_str!("queries/bash.scm")],
        imports: ImportStyle::Include,
        family: Family::Shell,
        layout: Layout::Lines,
    },
];

impl Language {
    pub const ALL: &[Language] = &[
        Language::Python,
        Language::Rust,
        Language::TypeScript,
        Language::Tsx,
        Language::JavaScript,
        Language::Java,
        Language::C,
        Language::Cpp,
        Language::Go,
        Language::CSharp,
        Language::Ruby,
        Language::Php,
        Language::Kotlin,
        Language::Swift,
        Language::Scala,
        Language::Lua,
        Language::Bash,
    ];

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// By file extension; `None` for files that Lacuna completes without syntax.
    pub fn from_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        ROWS.iter().find(|row| row.extensions.contains(&extension.as_str())).map(|row| row.language)
    }

    /// By LSP language identifier (`python`, `typescriptreact`, ...).
    pub fn from_id(id: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.ids.contains(&id)).map(|row| row.language)
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub fn grammar(self) -> tree_sitter::Language {
        (self.row().grammar)()
    }

    /// Line comment opener, such as `//` or `#`.
    pub fn line_comment(self) -> &'static str {
        self.row().line_comment
    }

    /// File extensions without the dot, the usual one first.
    pub fn extensions(self) -> &'static [&'static str] {
        self.row().extensions
    }

    pub(crate) fn import_style(self) -> ImportStyle {
        self.row().imports
    }

    pub(crate) fn family(self) -> Family {
        self.row().family
    }

    /// The texts that its symbol query is made of.
    pub(crate) fn query_sources(self) -> &'static [&'static str] {
        self.row().queries
    }

    pub(crate) fn layout(self) -> Layout {
        self.row().layout
    }

    /// The compiled symbol query; compiled once a process, on first use.
    pub(crate) fn symbol_query(self) -> &'static SymbolQuery {
        static COMPILED: [OnceLock<SymbolQuery>; ROWS.len()] = [const { OnceLock::new() }; ROWS.len()];
        COMPILED[self as usize].get_or_init(|| SymbolQuery::compile(self.grammar(), self.query_sources()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_the_enum_and_queries_compile() {
        assert_eq!(ROWS.len(), Language::ALL.len());
        for (index, (row, language)) in ROWS.iter().zip(Language::ALL).enumerate() {
            assert_eq!(row.language, *language);
            assert_eq!(row.language as usize, index);
            row.language.symbol_query();
        }
    }

    #[test]
    fn languages_are_found_by_path_and_id() {
        for (path, expected) in [
            ("a/b.py", Some(Language::Python)),
            ("B.PY", Some(Language::Python)),
            ("x.d.ts", Some(Language::TypeScript)),
            ("x.h", Some(Language::Cpp)),
            ("x.c", Some(Language::C)),
            ("lib/tasks/x.rake", Some(Language::Ruby)),
            ("build.gradle.kts", Some(Language::Kotlin)),
            ("Makefile", None),
            ("x.unknown", None),
        ] {
            assert_eq!(Language::from_path(Path::new(path)), expected, "{path}");
        }
        assert_eq!(Language::from_id("typescriptreact"), Some(Language::Tsx));
        assert_eq!(Language::from_id("plaintext"), None);
    }
}
