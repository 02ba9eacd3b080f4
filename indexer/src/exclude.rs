//! Which files are never read as context: secrets, ignored files, files outside every root.
//!
//! The walk and single questions share these rules, so a file that the walk leaves out is excluded everywhere.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};
use rustc_hash::FxHashMap;

/// Rule files, later ones override earlier ones of the same directory.
const RULE_FILES: &[&str] = &[".git/info/exclude", ".gitignore", ".ignore", ".lacunaignore"];

/// Directories whose contents are installed or generated even where no rule file says so.
const GENERATED_DIRECTORIES: &[&str] = &["node_modules", "__pycache__", "site-packages", "bower_components"];

/// Files whose presence marks their directory as generated.
const GENERATED_MARKERS: &[&str] = &["CACHEDIR.TAG", "pyvenv.cfg"];

const SECRET_DIRECTORIES: &[&str] =
    &[".aws", ".ssh", ".gnupg", ".kube", ".azure", ".docker", ".git", ".hg", ".svn"];
const SECRET_NAMES: &[&str] = &[
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".htpasswd",
    ".git-credentials",
    ".pgpass",
    ".my.cnf",
    ".dockercfg",
    ".boto",
    ".s3cfg",
    "secrets.py",
    "master.key",
    "terraform.tfvars",
    "shadow",
    "authorized_keys",
    "known_hosts",
];
const SECRET_PREFIXES: &[&str] =
    &[".env", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "service-account", "service_account"];
const SECRET_SUFFIXES: &[&str] = &[
    ".env",
    ".pem",
    ".key",
    ".p8",
    ".p12",
    ".pfx",
    ".jks",
    ".keystore",
    ".kdbx",
    ".ppk",
    ".gpg",
    ".asc",
    ".tfstate",
    ".tfvars",
    ".secret",
    ".secrets",
    ".ovpn",
    ".mobileprovision",
];
/// Secret as data files; as source files they are ordinary modules.
const SECRET_STEMS: &[&str] = &["credentials", "credential", "secrets", "secret", "passwords", "password"];

/// Whether a file's path alone says that it holds secrets. Compared without regard to case.
pub(crate) fn is_secret(path: &Path) -> bool {
    path.parent().into_iter().flat_map(Path::components).any(|part| is_secret_directory(part.as_os_str()))
        || is_secret_file(path)
}

fn lower(name: &OsStr) -> String {
    name.to_string_lossy().to_lowercase()
}

fn is_secret_directory(name: &OsStr) -> bool {
    SECRET_DIRECTORIES.contains(&lower(name).as_str())
}

/// By the last component.
fn is_secret_file(path: &Path) -> bool {
    let Some(name) = path.file_name().map(lower) else { return false };
    let stem = name.trim_start_matches('.').split('.').next().unwrap_or("");
    SECRET_NAMES.contains(&name.as_str())
        || SECRET_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SECRET_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
        || (SECRET_STEMS.contains(&stem) && crate::Language::from_path(path).is_none())
}

/// The rules of one directory, weakest first.
pub(crate) type Rules = Arc<[Gitignore]>;

/// Directories whose rules are remembered; beyond it the memory starts afresh.
const MAX_REMEMBERED: usize = 20_000;

/// Ignore rules by directory, read when first asked for.
#[derive(Default)]
pub(crate) struct Exclusions {
    rules: Mutex<FxHashMap<PathBuf, Rules>>,
    /// By root: the repository around it.
    tops: Mutex<FxHashMap<PathBuf, PathBuf>>,
    global: std::sync::OnceLock<Gitignore>,
}

impl Exclusions {
    /// Forgets what was read: rule files may have changed.
    pub fn forget(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tops.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn is_rule_file(path: &Path) -> bool {
        path.file_name().is_some_and(|name| RULE_FILES.iter().any(|rule| name.to_str() == Some(rule)))
    }

    /// Whether rules or names exclude a file anywhere between `root` and itself.
    pub fn is_excluded(&self, root: &Path, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(root) else { return true };
        if is_secret(relative) {
            return true;
        }
        let mut current = root.to_owned();
        let mut components = relative.components().peekable();
        while let Some(component) = components.next() {
            current.push(component);
            let is_directory = components.peek().is_some();
            if (is_directory && is_generated(&current)) || self.is_ignored(root, &current, is_directory) {
                return true;
            }
        }
        false
    }

    /// Whether a walk leaves this entry of a directory out, given that it did not leave out the directory itself.
    /// `rules` are those of the directory.
    pub fn excludes_entry(&self, rules: &[Rules], path: &Path, is_directory: bool) -> bool {
        let secret = match is_directory {
            true => path.file_name().is_some_and(is_secret_directory),
            false => is_secret_file(path),
        };
        secret || (is_directory && is_generated(path)) || self.is_ignored_by(rules, path, is_directory)
    }

    /// The rules that count for the entries of a directory, the nearest first; those above the root count up to the
    /// repository that contains it.
    pub fn rules_for(&self, root: &Path, directory: &Path) -> Vec<Rules> {
        let top = self.top_of(root);
        let above = directory.ancestors().take_while(|directory| directory.starts_with(&top));
        above.map(|directory| self.rules_of(directory)).filter(|rules| !rules.is_empty()).collect()
    }

    fn is_ignored(&self, root: &Path, path: &Path, is_directory: bool) -> bool {
        let Some(directory) = path.parent() else { return false };
        self.is_ignored_by(&self.rules_for(root, directory), path, is_directory)
    }

    /// The nearest directory's rules decide.
    fn is_ignored_by(&self, rules: &[Rules], path: &Path, is_directory: bool) -> bool {
        for rules in rules.iter().flat_map(|rules| rules.iter().rev()) {
            match rules.matched(path, is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        let global = self.global.get_or_init(|| Gitignore::global().0);
        !global.is_empty()
            && path.starts_with(global.path())
            && global.matched(path, is_directory).is_ignore()
    }

    fn top_of(&self, root: &Path) -> PathBuf {
        let mut tops = self.tops.lock().unwrap_or_else(PoisonError::into_inner);
        match tops.get(root) {
            Some(top) => top.clone(),
            None => {
                let top = repository_of(root).unwrap_or(root).to_owned();
                tops.insert(root.to_owned(), top.clone());
                top
            }
        }
    }

    fn rules_of(&self, directory: &Path) -> Rules {
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = known.get(directory) {
            return rules.clone();
        }
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        let rules: Rules = RULE_FILES.iter().filter_map(|name| read_rules(directory, name)).collect();
        known.insert(directory.to_owned(), rules.clone());
        rules
    }
}

/// A malformed line is skipped, as git does.
fn read_rules(directory: &Path, name: &str) -> Option<Gitignore> {
    let path = directory.join(name);
    if !path.is_file() {
        return None;
    }
    let mut builder = GitignoreBuilder::new(directory);
    builder.add(path);
    builder.build().ok()
}

fn is_generated(directory: &Path) -> bool {
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or("");
    GENERATED_DIRECTORIES.contains(&name)
        || GENERATED_MARKERS.iter().any(|marker| directory.join(marker).exists())
}

/// The directory with `.git` at or above a root.
fn repository_of(root: &Path) -> Option<&Path> {
    root.ancestors().find(|directory| directory.join(".git").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_by_name() {
        for name in [
            ".env",
            ".ENV",
            ".env.local",
            "prod.env",
            "server.pem",
            "tls.KEY",
            "id_rsa",
            "id_rsa.pub",
            "id_ed25519",
            "credentials",
            "credentials.json",
            "secrets.yaml",
            "secrets.py",
            ".netrc",
            ".aws/config",
            "a/.ssh/config.py",
            "x.tfstate",
            "service-account-prod.json",
            ".git/config",
        ] {
            assert!(is_secret(Path::new(name)), "{name}");
        }
        for name in ["environment.py", "keys.py", "credentials.rs", "src/main.rs", "monkey.py", "README.md"] {
            assert!(!is_secret(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn nearest_rules_decide_and_ignored_directories_hide_their_contents() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        };
        write(".gitignore", "build/\n*.gen.py\n/only_top.py\n");
        write("a/.gitignore", "!keep.gen.py\n");
        write("a/.lacunaignore", "private/\n");
        write("venv/pyvenv.cfg", "");
        let exclusions = Exclusions::default();
        for (path, expected) in [
            ("build/x.py", true),
            ("a/build/deep/x.py", true),
            ("x.gen.py", true),
            ("a/x.gen.py", true),
            ("a/keep.gen.py", false),
            ("a/private/x.py", true),
            ("private/x.py", false),
            ("only_top.py", true),
            ("a/only_top.py", false),
            ("venv/x.py", true),
            ("node_modules/p/index.js", true),
            ("a/.env.local", true),
            ("a/x.py", false),
        ] {
            assert_eq!(exclusions.is_excluded(root, &root.join(path)), expected, "{path}");
        }
        assert!(exclusions.is_excluded(root, Path::new("/elsewhere/x.py")));
    }
}
