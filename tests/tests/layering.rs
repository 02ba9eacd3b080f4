//! ARCHITECTURE.md's invariants, read from the sources and manifests.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of a source file beyond which it must be split.
const LONGEST_FILE: usize = 800;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_path_buf()
}

/// The Rust sources below a directory, with their paths relative to the repository.
fn sources(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&root().join(directory), &mut found);
    assert!(!found.is_empty(), "there are sources in {directory}");
    found.sort();
    found
}

fn collect(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target" && name != "node_modules") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            found.push((name, fs::read_to_string(&path).expect("UTF-8")));
        }
    }
}

fn manifest(directory: &str) -> String {
    fs::read_to_string(root().join(directory).join("Cargo.toml")).expect("a manifest")
}

/// No line of `text` outside comments has any of `words`.
fn assert_without(name: &str, text: &str, words: &[&str]) {
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for word in words {
            assert!(!code.contains(word), "{name}:{}: `{word}` does not belong here: {line}", number + 1);
        }
    }
}

#[test]
fn crates_know_only_what_they_may() {
    for (directory, words) in [
        ("indexer", &["tower_lsp", "ls_types", "tokio", "lacuna_inference", "tokenizers", "candle"][..]),
        ("inference", &["tower_lsp", "ls_types", "lacuna_indexer", "ropey"]),
        ("evals", &["tower_lsp", "ls_types"]),
        ("lsp", &["candle_core", "tokenizers::"]),
    ] {
        for (name, text) in sources(&format!("{directory}/src")) {
            assert_without(&name, &text, words);
        }
    }
    for (directory, dependencies) in [
        ("indexer", &["tower-lsp", "tokio", "lacuna-inference", "candle", "tokenizers", "cudarc"][..]),
        ("inference", &["tower-lsp", "lacuna-indexer", "ropey"]),
        ("evals", &["tower-lsp"]),
        ("lsp", &["candle", "cudarc", "tokenizers"]),
    ] {
        let manifest = manifest(directory);
        for dependency in dependencies {
            assert!(
                !manifest.lines().any(|line| line.starts_with(dependency)),
                "{directory}/Cargo.toml must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn protocol_types_stay_at_the_edge() {
    let allowed = [
        "server.rs",
        "server/",
        "handlers/",
        "handlers.rs",
        "to_proto.rs",
        "session.rs",
        "session/",
        "config.rs",
    ];
    for (name, text) in sources("lsp/src") {
        let inside = name.strip_prefix("lsp/src/").expect("below lsp/src");
        if !allowed.iter().any(|allowed| inside.starts_with(allowed)) {
            assert_without(&name, &text, &["tower_lsp", "ls_types"]);
        }
    }
}

#[test]
fn positions_are_converted_in_one_place() {
    for (name, text) in sources("lsp/src") {
        if name != "lsp/src/position.rs" {
            assert_without(&name, &text, &["utf16_cu", "encode_utf16", "len_utf16"]);
        }
    }
}

#[test]
fn cuda_is_never_linked() {
    for directory in ["", "lsp", "inference", "indexer", "evals", "tests"] {
        for line in manifest(directory).lines().filter(|line| line.starts_with("candle")) {
            assert!(!line.contains("\"cuda\""), "{directory}: {line}");
            assert!(!line.contains(" features ="), "{directory}: candle's features must stay off: {line}");
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for directory in ["lsp", "inference", "indexer", "evals", "tests"] {
        for (name, text) in sources(directory) {
            let lines = text.lines().count();
            assert!(lines <= LONGEST_FILE, "{name} has {lines} lines; split it");
            assert!(text.starts_with("//! "), "{name} does not begin by saying what it is for");
        }
    }
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    for directory in ["lsp/src", "inference/src", "indexer/src", "evals/src", "tests/src"] {
        for (name, text) in sources(directory) {
            assert_without(&name, &text, &["todo!(", "unimplemented!(", "#[ignore", "dbg!("]);
        }
    }
}

#[test]
fn the_server_does_not_panic_on_what_comes_from_outside() {
    for (name, text) in sources("lsp/src") {
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        if name.ends_with("tests.rs") {
            continue;
        }
        assert_without(&name, product, &[".unwrap()", ".expect(", "panic!(", "unreachable!("]);
    }
}

#[test]
fn standard_output_belongs_to_the_protocol() {
    for (name, text) in
        sources("lsp/src").into_iter().chain(sources("inference/src")).chain(sources("indexer/src"))
    {
        if name.starts_with("lsp/src/cli") || name.ends_with("tests.rs") {
            continue;
        }
        let product = text.split("#[cfg(test)]").next().unwrap_or_default().replace("eprintln!", "");
        assert_without(&name, &product, &["println!", "print!("]);
    }
}
