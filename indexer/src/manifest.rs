//! Project files that give names to directories: Cargo.toml, go.mod, package.json, tsconfig.json.

use std::path::{Path, PathBuf};

/// What a project file says about imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub directory: PathBuf,
    pub kind: ManifestKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestKind {
    /// The name that `use` sees.
    RustCrate(String),
    GoModule(String),
    /// Package name, and its entry file where it states one.
    NpmPackage {
        name: String,
        entry: Option<String>,
    },
    /// `compilerOptions.paths` with their targets joined to `baseUrl`, and `baseUrl` itself.
    TypeScriptPaths {
        base: Option<PathBuf>,
        paths: Vec<(String, Vec<PathBuf>)>,
    },
}

/// Project files larger than this are not read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

pub(crate) fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    matches!(name, Some("Cargo.toml" | "go.mod" | "package.json" | "tsconfig.json" | "jsconfig.json"))
}

pub(crate) fn read(path: &Path) -> Option<Manifest> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let directory = path.parent()?.to_owned();
    let kind = match path.file_name()?.to_str()? {
        "Cargo.toml" => rust_crate(&text)?,
        "go.mod" => go_module(&text)?,
        "package.json" => npm_package(&text)?,
        _ => typescript_paths(&text, &directory)?,
    };
    Some(Manifest { directory, kind })
}

/// The `name` of `[lib]`, else of `[package]`, as an identifier. Line by line: a manifest being edited still reads.
fn rust_crate(text: &str) -> Option<ManifestKind> {
    let mut section = "";
    let (mut package, mut library) = (None, None);
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix('[') {
            section = rest.trim_end_matches(']');
        } else if let Some((key, value)) = line.split_once('=')
            && key.trim() == "name"
        {
            let value = value.split('#').next().unwrap_or("").trim().trim_matches(['"', '\'']);
            match section {
                "package" => package = Some(value),
                "lib" => library = Some(value),
                _ => {}
            }
        }
    }
    library.or(package).map(|name| ManifestKind::RustCrate(name.replace('-', "_")))
}

fn go_module(text: &str) -> Option<ManifestKind> {
    let name = text.lines().find_map(|line| line.trim().strip_prefix("module "))?;
    let name = name.split("//").next()?.trim().trim_matches('"');
    Some(ManifestKind::GoModule(name.to_owned()))
}

fn npm_package(text: &str) -> Option<ManifestKind> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let field = |name: &str| value.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let entry =
        field("source").or_else(|| field("types")).or_else(|| field("module")).or_else(|| field("main"));
    Some(ManifestKind::NpmPackage { name: field("name")?, entry })
}

fn typescript_paths(text: &str, directory: &Path) -> Option<ManifestKind> {
    let value: serde_json::Value = serde_json::from_str(&without_comments(text)).ok()?;
    let options = value.get("compilerOptions")?;
    let base = options.get("baseUrl").and_then(|base| base.as_str());
    let origin = crate::index::normalize(&directory.join(base.unwrap_or(".")));
    let mut paths = Vec::new();
    for (pattern, targets) in options.get("paths").and_then(|paths| paths.as_object()).into_iter().flatten() {
        let targets = targets.as_array().into_iter().flatten().filter_map(|target| target.as_str());
        paths.push((
            pattern.clone(),
            targets.map(|target| crate::index::normalize(&origin.join(target))).collect(),
        ));
    }
    // The longest pattern wins, as in the compiler.
    paths.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    Some(ManifestKind::TypeScriptPaths { base: base.map(|_| origin), paths })
}

/// JSON with comments and trailing commas -> JSON.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut in_string = false;
    while let Some(character) = rest.next() {
        match character {
            '\\' if in_string => {
                out.push(character);
                out.extend(rest.next());
            }
            '"' => {
                in_string = !in_string;
                out.push(character);
            }
            '/' if !in_string && rest.peek() == Some(&'/') => {
                while rest.peek().is_some_and(|next| *next != '\n') {
                    rest.next();
                }
            }
            '/' if !in_string && rest.peek() == Some(&'*') => {
                rest.next();
                let mut previous = ' ';
                for next in rest.by_ref() {
                    if previous == '*' && next == '/' {
                        break;
                    }
                    previous = next;
                }
            }
            '}' | ']' if !in_string => {
                let kept = out.trim_end().trim_end_matches(',').len();
                if out.trim_end().ends_with(',') {
                    out.truncate(kept);
                }
                out.push(character);
            }
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_read() {
        let crate_name = |text| rust_crate(text);
        assert_eq!(crate_name("[package]\nname = \"a-b\"\n"), Some(ManifestKind::RustCrate("a_b".into())));
        assert_eq!(
            crate_name("[package]\nname = \"a-b\"\n[lib]\nname = 'c' # x\n[[bin]]\nname = \"d\""),
            Some(ManifestKind::RustCrate("c".into()))
        );
        assert_eq!(crate_name("[workspace]\n"), None);
        assert_eq!(
            go_module("module example.com/a // x\ngo 1.22\n"),
            Some(ManifestKind::GoModule("example.com/a".into()))
        );
        assert_eq!(npm_package("{"), None);
        let paths = typescript_paths(
            "{ // comment\n \"compilerOptions\": { /* x */ \"baseUrl\": \"./src\", \"paths\": { \"@/*\": [\"*\",], }, }, }",
            Path::new("/w"),
        );
        assert_eq!(
            paths,
            Some(ManifestKind::TypeScriptPaths {
                base: Some("/w/src".into()),
                paths: vec![("@/*".into(), vec!["/w/src/*".into()])],
            })
        );
    }
}
