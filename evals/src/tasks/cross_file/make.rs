//! Holes from any repository, at uses of what its other files define.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use anyhow::{Context, Result, bail};
use lacuna_indexer::{Language, Located, Options, Query, Snapshot, SymbolInfo, Workspace};

use super::Hole;
use crate::{generate::Chunk, report::bootstrap};

/// Names shorter than this, or that more files define, say too little about which definition is meant.
const SHORTEST_NAME: usize = 4;
const MOST_DEFINING_FILES: usize = 3;
/// What imports other files is the language's own, whoever gives something else that name.
const LOADING: [&str; 2] = ["require", "import"];

/// How a task set is made.
pub struct Making<'a> {
    pub limit: usize,
    /// Of the context, in the unit of `measure`.
    pub context_tokens: usize,
    pub measure: &'a dyn Fn(&str) -> usize,
    pub seed: u64,
}

/// Holes at calls of and member accesses to things that other files define, drawn with the seed.
///
/// Only names count that few files define and this one does not, and only where the index can tell from this file that
/// one of these definitions is meant: the name itself, or the type that has the member, leads there. That a name is
/// defined somewhere does not make it the one that is meant (`append` is a list's nearly always). Members of receivers
/// whose type the file does not name are left out with that.
pub fn make(directory: &Path, making: &Making<'_>) -> Result<Vec<Hole>> {
    let root = directory.canonicalize().with_context(|| format!("cannot read {}", directory.display()))?;
    let workspace = Workspace::new(vec![root.clone()], Options::default());
    let report = workspace.scan(&mut |_| {}, &AtomicBool::new(false));
    eprintln!("indexed {} files, {} symbols", report.files, report.symbols);
    let snapshot = workspace.snapshot();
    let mut candidates: BTreeMap<&str, Vec<Site>> = BTreeMap::new();
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    for path in files {
        let Some(language) = Language::from_path(&path).filter(|_| !workspace.is_excluded(&path)) else {
            continue;
        };
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let user = User { snapshot: &snapshot, path: &path, text: &text };
        let relative = path.strip_prefix(&root).unwrap_or(&path);
        for (start, end) in sites(&text) {
            let name = name_at(&text[start..end]);
            if name.len() < SHORTEST_NAME || LOADING.contains(&name) {
                continue;
            }
            let symbols = snapshot.definitions(name);
            let definitions: BTreeSet<&str> = symbols
                .iter()
                .map(|symbol| symbol.path.as_str())
                .filter(|path| is_same_language(Language::from_path(Path::new(path)), language))
                .collect();
            let is_foreign =
                !definitions.is_empty() && definitions.iter().all(|path| Path::new(path) != relative);
            if !is_foreign || definitions.len() > MOST_DEFINING_FILES {
                continue;
            }
            let meant: BTreeSet<String> = symbols
                .iter()
                .filter(|symbol| user.means(symbol, name, start))
                .map(|symbol| symbol.path.clone())
                .collect();
            if !meant.is_empty() {
                let definitions = meant.into_iter().collect();
                let site = Site { path: path.clone(), start, end, name: name.to_owned(), definitions };
                candidates.entry(language.name()).or_default().push(site);
            }
        }
    }
    if candidates.is_empty() {
        bail!("{} has no use of something that another of its files defines", directory.display());
    }
    let mut holes = Vec::new();
    for site in draw(candidates, making.limit, making.seed) {
        let text = std::fs::read_to_string(&site.path)?;
        let Some(language) = Language::from_path(&site.path) else { continue };
        // The index must not know what stands in the hole.
        let holed = format!("{}{}", &text[..site.start], &text[site.end..]);
        let items = snapshot.context(&Query {
            path: &site.path,
            text: &holed,
            offset: site.start,
            visible: 0..holed.len(),
            budget: making.context_tokens,
            measure: making.measure,
            recent: &[],
        });
        let shown = items
            .iter()
            .any(|item| site.definitions.contains(&item.path) && has_word(&item.text, &site.name));
        let imports = imports(&holed);
        let file = site.path.strip_prefix(&root).unwrap_or(&site.path).display().to_string();
        holes.push(Hole {
            id: format!("{file}:{}", site.start),
            language: language.name().to_owned(),
            prefix: text[..site.start].to_owned(),
            truth: text[site.start..site.end].to_owned(),
            suffix: text[site.end..].to_owned(),
            context: items.into_iter().map(|item| Chunk { path: item.path, text: item.text }).collect(),
            file,
            definition_shown: Some(shown),
            name_is_used: Some(count_word(&holed, &site.name) > count_word(&imports, &site.name)),
            definitions: site.definitions,
        });
    }
    Ok(holes)
}

/// The file that a name is used in.
struct User<'a> {
    snapshot: &'a Snapshot,
    path: &'a Path,
    text: &'a str,
}

impl User<'_> {
    /// Whether the name at `site` leads to the symbol: by itself, behind its qualifier, or as a member of a type that
    /// this file knows.
    fn means(&self, symbol: &SymbolInfo, name: &str, site: usize) -> bool {
        let leads_there = |name: &str| match self.snapshot.locate(self.path, name) {
            Some(Located::Symbol(found)) => found.path == symbol.path,
            _ => false,
        };
        let before = self.text[..site].trim_end_matches(['.', ':', '?', '!']);
        if before.len() == site {
            return leads_there(name);
        }
        let qualifier = before.rsplit(|character| !is_word(character)).next().unwrap_or_default();
        let owner = symbol.qualified_name.rsplit('.').nth(1).unwrap_or_default();
        !qualifier.is_empty() && leads_there(&format!("{qualifier}.{name}"))
            || has_word(self.text, owner) && leads_there(owner)
    }
}

/// JavaScript and TypeScript use each other's definitions.
fn is_same_language(one: Option<Language>, other: Language) -> bool {
    let family = |language: Language| match language {
        Language::TypeScript | Language::Tsx => Language::JavaScript,
        Language::C => Language::Cpp,
        other => other,
    };
    one.is_some_and(|one| family(one) == family(other))
}

/// The statements that import something, several lines of one included.
fn imports(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut imports = String::new();
    let lines: Vec<&str> = text.lines().collect();
    let mut next = 0;
    while let Some(line) = lines.get(next) {
        let trimmed = line.trim_start();
        let begins = |starts: &[&str]| starts.iter().any(|start| trimmed.starts_with(start));
        let may_require = begins(&["const ", "let ", "var "]);
        let mut end = next + 1;
        if may_require
            || begins(&[
                "import ",
                "import{",
                "from ",
                "use ",
                "pub use ",
                "pub(crate) use ",
                "export {",
                "export *",
            ])
        {
            let mut open = depth(line);
            while open > 0 && end < lines.len() && end - next < LONGEST {
                open += depth(lines[end]);
                end += 1;
            }
            let statement = lines[next..end].join("\n");
            if !may_require || statement.contains("require(") {
                imports.push_str(&statement);
                imports.push('\n');
            } else {
                end = next + 1;
            }
        }
        next = end;
    }
    imports
}

/// Brackets that a line opens, less those that it closes.
fn depth(line: &str) -> i64 {
    let count = |brackets: [char; 2]| line.matches(brackets).count() as i64;
    count(['(', '{']) - count([')', '}'])
}

/// A place where a hole can be made.
struct Site {
    path: PathBuf,
    start: usize,
    end: usize,
    /// What stands there first, and the files that define it.
    name: String,
    definitions: Vec<String>,
}

/// At most `limit` sites, the languages in turn, so that the most frequent one does not drown the others.
fn draw(candidates: BTreeMap<&str, Vec<Site>>, limit: usize, seed: u64) -> Vec<Site> {
    let mut state = seed;
    let mut languages: Vec<Vec<Site>> = candidates.into_values().collect();
    for sites in &mut languages {
        for index in (1..sites.len()).rev() {
            sites.swap(index, (bootstrap::random(&mut state) % (index as u64 + 1)) as usize);
        }
    }
    let mut drawn = Vec::new();
    while drawn.len() < limit && languages.iter().any(|sites| !sites.is_empty()) {
        drawn.extend(languages.iter_mut().filter_map(Vec::pop));
    }
    drawn.truncate(limit);
    drawn
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn name_at(text: &str) -> &str {
    &text[..text.find(|character| !is_word(character)).unwrap_or(text.len())]
}

fn has_word(text: &str, word: &str) -> bool {
    count_word(text, word) > 0
}

fn count_word(text: &str, word: &str) -> usize {
    text.split(|character| !is_word(character)).filter(|found| *found == word).count()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() && !hidden => files.push(entry.path()),
            _ => {}
        }
    }
}

/// Where a name is called or follows a dot, to the end of its line; never on lines of imports and comments.
fn sites(text: &str) -> Vec<(usize, usize)> {
    const SHORTEST: usize = 8;
    let mut sites = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let skipped = [
            "import", "from", "use ", "#", "//", "*", "/*", "package", "using", "def ", "class ", "fn ",
            "pub ",
        ]
        .iter()
        .any(|start| trimmed.starts_with(start));
        let end = line_start + line.trim_end().len();
        let mut previous = ' ';
        for (at, character) in line.char_indices() {
            let start = line_start + at;
            if !skipped
                && is_word(character)
                && !character.is_ascii_digit()
                && !is_word(previous)
                && end >= start + SHORTEST
            {
                let name = name_at(&text[start..end]).len();
                let called = text[start + name..end].starts_with('(');
                if (called || previous == '.') && start > line_start {
                    sites.push((start, end));
                    break;
                }
            }
            previous = character;
        }
        line_start += line.len();
    }
    sites
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_at_uses_of_what_other_files_define() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("stock.py"),
            "def restock_item(name, count):\n    return name, count\n",
        )
        .unwrap();
        let main = "from stock import restock_item\n\n\ndef main():\n    total = restock_item('bolt', 3)\n    print(total)\n";
        std::fs::write(directory.path().join("main.py"), main).unwrap();
        let making = Making { limit: 10, context_tokens: 512, measure: &|text| text.len(), seed: 0 };
        let holes = make(directory.path(), &making).unwrap();
        let truths: Vec<&str> = holes.iter().map(|hole| hole.truth.as_str()).collect();
        assert_eq!(truths, ["restock_item('bolt', 3)"]);
        let Hole { file, definitions, definition_shown, name_is_used, .. } = &holes[0];
        assert!(holes[0].context[0].text.contains("restock_item"), "{:?}", holes[0].context);
        assert_eq!((file.as_str(), *definition_shown), ("main.py", Some(true)));
        assert_eq!((definitions.join(" ").as_str(), *name_is_used), ("stock.py", Some(false)));
        assert!(holes[0].prefix.ends_with("total = ") && holes[0].suffix.starts_with("\n    print"));
        assert!(make(tempfile::tempdir().unwrap().path(), &making).is_err());
    }

    #[test]
    fn what_a_file_imports() {
        for (text, word, expected) in [
            ("from a import (\n    b,\n    c,\n)\nd = 1\n", "c", true),
            ("from a import (\n    b,\n)\nc = 1\n", "c", false),
            ("import {\n  b,\n} from './a'\n", "a", true),
            ("const {\n  b,\n} = require('./a')\n", "b", true),
            ("const b = {\n  c: 1,\n}\n", "c", false),
            ("pub use crate::a::{b,\n    c};\nfn d() {}\n", "c", true),
            ("pub use crate::a::{b,\n    c};\nfn d() {}\n", "d", false),
        ] {
            assert_eq!(has_word(&imports(text), word), expected, "{word} in {text:?}");
        }
    }
}
