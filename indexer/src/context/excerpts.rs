//! Which pieces of code as they stand may be worth showing, and what each is worth.

use std::{ops::Range, path::Path};

use rustc_hash::FxHashSet;

use super::{Query, overlap};
use crate::{
    index::{FileId, SymbolId},
    scope::Scope,
    snapshot::Snapshot,
    snippet,
    symbols::FileSymbols,
    words::words,
};

/// Recent edits that are looked at.
const MAX_EDITS: usize = 4;

/// A piece of code as it stands.
pub(super) struct Excerpt {
    pub path: String,
    /// Bytes of a file that it shows; none of a diff.
    pub covers: Option<(FileId, Range<usize>)>,
    pub text: String,
    pub reason: String,
    pub score: f32,
    pub volatility: u8,
}

impl Excerpt {
    /// Whether a definition stands in it.
    pub fn shows(&self, snapshot: &Snapshot, id: SymbolId) -> bool {
        self.covers.as_ref().is_some_and(|(file, range)| {
            let symbol = snapshot.symbol(id).map(|(_, _, symbol)| symbol.start as usize);
            *file == id.file && symbol.is_some_and(|start| range.contains(&start))
        })
    }
}

/// Between what the code at the cursor uses and what it only imports.
const RECENT_EDIT_SCORE: f32 = 0.55;
const USE_SCORE: f32 = 0.52;
/// Of a piece of code that has all the words of the code at the cursor.
const SIMILAR_SCORE: f32 = 0.48;

impl Snapshot {
    /// In the order in which they are written.
    pub(super) fn excerpts(
        &self,
        path: &Path,
        query: &Query<'_>,
        scope: &Scope,
        symbols: &FileSymbols,
    ) -> Vec<Excerpt> {
        let mut excerpts = Vec::new();
        let relative = |id| self.file(id).map(|file| file.relative.to_string()).unwrap_or_default();
        if let Some(own) = self.file_by_path(path) {
            let name = edited_function(query.text, scope, symbols);
            let uses = name.map_or_else(Vec::new, |name| snippet::uses(self, own, name));
            let wanted = snippet::Wanted::new(query.text, scope.function.clone(), query.offset);
            for (similarity, similar) in snippet::similar(self, own, &wanted) {
                // The code that calls the function says the same.
                if uses
                    .iter()
                    .any(|known| known.file == similar.file && overlap(&known.range, &similar.range))
                {
                    continue;
                }
                excerpts.push(Excerpt {
                    path: relative(similar.file),
                    covers: Some((similar.file, similar.range)),
                    text: similar.text,
                    reason: format!("similar code ({:.0}% of the words here)", similarity * 100.0),
                    score: SIMILAR_SCORE * similarity,
                    volatility: 1,
                });
            }
            for found in uses {
                excerpts.push(Excerpt {
                    path: relative(found.file),
                    covers: Some((found.file, found.range)),
                    text: found.text,
                    reason: format!("a use of `{}`, which is being edited", name.unwrap_or("")),
                    score: USE_SCORE,
                    volatility: 0,
                });
            }
        }
        let visible = query.text.get(query.visible.clone()).unwrap_or("");
        for edit in query.recent.iter().take(MAX_EDITS) {
            // A file that the index does not know may be a secret.
            let Some(id) = self.file_by_path(&crate::index::normalize(&edit.path)) else { continue };
            let shown = *edit.path == *path && visible.contains(edit.after.trim_end());
            let text = snippet::diff(edit);
            if !text.is_empty() && !shown {
                let reason = "edited lately".to_owned();
                excerpts.push(Excerpt {
                    path: relative(id),
                    covers: None,
                    text,
                    reason,
                    score: RECENT_EDIT_SCORE,
                    volatility: 2,
                });
            }
        }
        excerpts.sort_by_key(|excerpt| excerpt.volatility);
        excerpts
    }
}

/// The name of the function around the cursor, where it is one.
fn edited_function<'a>(text: &str, scope: &Scope, symbols: &'a FileSymbols) -> Option<&'a str> {
    let head: FxHashSet<&str> = {
        let lines = text.get(scope.function.clone())?.lines();
        // Decorators and comments may stand above the name.
        lines.take(MAX_HEAD_LINES).flat_map(words).map(|word| word.text).collect()
    };
    let near = |symbol: &&crate::symbols::Symbol| {
        symbol.kind.is_callable()
            && symbol.range().start.abs_diff(scope.function.start) <= MAX_HEAD_BYTES
            && head.contains(symbols.name(symbol))
    };
    let nearest = symbols.symbols.iter().filter(near).min_by_key(|symbol| {
        // Of a symbol table that is a key press old, the offsets are a little off.
        (symbol.start as usize).abs_diff(scope.function.start)
    });
    nearest.map(|symbol| symbols.name(symbol))
}

/// Where a definition's name is looked for, from the start of its lines.
const MAX_HEAD_LINES: usize = 12;
const MAX_HEAD_BYTES: usize = 2000;
