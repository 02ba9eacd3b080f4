//! The text around a cursor, as the pipeline sees it.

use std::path::{Path, PathBuf};

use ignore::gitignore::GitignoreBuilder;
use lacuna_indexer::{Language, Workspace};
use tree_sitter::Tree;

use super::{Ask, LARGEST_DOCUMENT_BYTES, reuse::Cursor, wanted};
use crate::syntax;

pub struct Site {
    pub path: PathBuf,
    /// By what the document is known in the caches.
    pub key: String,
    /// Relative to the workspace root that holds it, with `/`.
    pub relative_path: String,
    pub repository: Option<String>,
    pub text: String,
    pub offset: usize,
    pub language: Option<Language>,
    pub tree: Option<Tree>,
}

impl Site {
    /// Copies the text and parses it: milliseconds.
    pub fn new(ask: &Ask, workspace: &Workspace) -> Self {
        let document = &ask.document;
        let relative = |root: &Path| {
            document.path.strip_prefix(root).ok().map(|rest| (root.to_path_buf(), rest.to_path_buf()))
        };
        let home = workspace
            .roots()
            .iter()
            .filter_map(|root| relative(root))
            .min_by_key(|(_, rest)| rest.as_os_str().len());
        let (repository, relative_path) = match home {
            Some((root, rest)) => (root.file_name().map(|name| name.to_string_lossy().into_owned()), rest),
            None => (None, document.path.file_name().map_or_else(PathBuf::new, PathBuf::from)),
        };
        let relative_path = relative_path.to_string_lossy().replace('\\', "/");
        let too_large = document.rope.len_bytes() > LARGEST_DOCUMENT_BYTES;
        let mut text = if too_large { String::new() } else { document.rope.to_string() };
        let mut offset = ask.offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let mut tree = if too_large { None } else { document.parse() };
        if let Some(selected) = &ask.selected
            && let Some(replaced) = text.get(selected.range.clone()).map(str::len)
        {
            text.replace_range(selected.range.clone(), &selected.text);
            offset = (selected.range.start + selected.text.len()).min(text.len());
            tracing::debug!(replaced, "continuing the selected item");
            tree = document.language.and_then(|language| syntax::parse_text(language, &text, None));
        }
        Self {
            path: document.path.clone(),
            key: key(&document.path),
            relative_path,
            repository,
            text,
            offset,
            language: document.language,
            tree,
        }
    }

    pub fn prefix(&self) -> &str {
        &self.text[..self.offset]
    }

    pub fn suffix(&self) -> &str {
        &self.text[self.offset..]
    }

    pub fn cursor<'a>(&'a self, ask: &Ask) -> Cursor<'a> {
        Cursor {
            path: &self.key,
            prefix: self.prefix(),
            suffix: self.suffix(),
            config: ask.config.fingerprint(),
            wanted: wanted(ask),
        }
    }
}

pub fn key(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Why there is to be no completion in this document.
pub fn unwanted(ask: &Ask) -> Option<String> {
    let (document, config) = (&ask.document, &ask.config);
    if document.rope.len_bytes() > LARGEST_DOCUMENT_BYTES {
        return Some(format!("the document is larger than {} MiB", LARGEST_DOCUMENT_BYTES >> 20));
    }
    if !config.languages.is_empty() && !config.languages.contains(&document.language_id) {
        return Some(format!("the setting languages does not name `{}`", document.language_id));
    }
    let mut disabled = GitignoreBuilder::new("");
    for glob in &config.disabled_globs {
        if let Err(error) = disabled.add_line(None, glob) {
            tracing::warn!(%error, "the setting disabledGlobs has an entry that is not understood");
        }
    }
    // Globs are matched against paths without a root.
    let path = document.path.strip_prefix("/").unwrap_or(&document.path);
    let disabled = disabled.build().ok()?.matched_path_or_any_parents(path, false).is_ignore();
    disabled.then(|| "the setting disabledGlobs names this file".to_string())
}
