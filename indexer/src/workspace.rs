//! The index of some roots: takes changes, one writer at a time, and publishes immutable snapshots.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
};

use arc_swap::ArcSwap;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    Language, Options, Snapshot,
    exclude::Exclusions,
    index::{File, FileId, NameIndex, PathIndex, normalize},
    manifest,
    read::{self, Read},
    snippet,
    symbols::FileSymbols,
    walk::{Found, Stamp},
};

mod ahead;
mod kept;
mod scan;

/// The index of some workspace roots. Cheap to clone; all methods take `&self` and are thread-safe.
#[derive(Clone)]
pub struct Workspace {
    shared: Arc<Shared>,
}

struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// Held while a new snapshot is made from the current one.
    writer: Mutex<()>,
    exclusions: Exclusions,
    options: Options,
    /// Of files that are being read ahead of the scan, which waits meanwhile.
    urgent: AtomicUsize,
}

/// Changed files are kept beside the name index until there are this many.
const MAX_STALE_FILES: usize = 48;

/// One file's new state.
struct Change {
    path: Arc<Path>,
    language: Language,
    symbols: Arc<FileSymbols>,
    stamp: Stamp,
    origin: Origin,
    text: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Buffer,
    /// The disk, because the buffer was closed or the file changed.
    Disk,
    /// The disk, in passing: an open buffer's symbols stay.
    Scan,
}

impl Workspace {
    pub fn new(roots: Vec<PathBuf>, options: Options) -> Self {
        let snapshot =
            Snapshot { roots: roots.iter().map(|root| normalize(root)).collect(), ..Snapshot::default() };
        let shared = Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            writer: Mutex::new(()),
            exclusions: Exclusions::default(),
            options,
            urgent: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Its files are read by the next [`Workspace::scan`].
    pub fn add_root(&self, root: PathBuf) {
        let root = normalize(&root);
        self.change(|snapshot| {
            if !snapshot.roots.contains(&root) {
                snapshot.roots = snapshot.roots.iter().cloned().chain([root.clone()]).collect();
            }
        });
    }

    /// Forgets the root and the files that no other root contains.
    pub fn remove_root(&self, root: &Path) {
        let root = normalize(root);
        self.change(|snapshot| {
            snapshot.roots = snapshot.roots.iter().filter(|known| **known != root).cloned().collect();
            let roots = snapshot.roots.clone();
            let kept = |path: &Path| roots.iter().any(|root| path.starts_with(root));
            for slot in &mut snapshot.files {
                if slot.as_ref().is_some_and(|file| !kept(&file.path)) {
                    *slot = None;
                }
            }
            snapshot.manifests = snapshot.manifests.iter().filter(|m| kept(&m.directory)).cloned().collect();
            rebuild_paths(snapshot);
            rebuild_names(snapshot);
        });
    }

    pub fn roots(&self) -> Vec<PathBuf> {
        self.snapshot().roots.to_vec()
    }

    /// The immutable state to query.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Whether the file's text must never be put into a prompt as context: secrets (`.env*`, keys),
    /// `.gitignore`, `.lacunaignore`, outside every root.
    pub fn is_excluded(&self, path: &Path) -> bool {
        let path = normalize(path);
        match self.snapshot().root_of(&path) {
            Some(root) => self.shared.exclusions.is_excluded(root, &path),
            None => true,
        }
    }

    /// Replaces a file's symbols by those of `text` (an open editor buffer); with `text: None`, re-reads the disk.
    /// What the file imports is read too, if the scan has not come to it yet.
    pub fn update(&self, path: &Path, text: Option<&str>) {
        let Some(text) = text else { return self.update_from_disk(path) };
        let Some(language) = self.admit(path) else { return };
        let (symbols, remark) = read::parse(language, text);
        if let Some(remark) = remark {
            tracing::debug!(path = %path.display(), remark, "index");
        }
        self.update_open(path, language, text, symbols);
    }

    /// As [`Workspace::update`], from a tree that the editor keeps: `tree` must be that of `text`.
    pub fn update_with_tree(&self, path: &Path, text: &str, tree: &tree_sitter::Tree) {
        let Some(language) = self.admit(path) else { return };
        self.update_open(path, language, text, read::parse_with_tree(language, text, tree));
    }

    fn update_open(&self, path: &Path, language: Language, text: &str, symbols: FileSymbols) {
        let path: Arc<Path> = normalize(path).into();
        let change = Change {
            path: path.clone(),
            language,
            symbols: Arc::new(symbols),
            stamp: Stamp::default(),
            origin: Origin::Buffer,
            text: (text.len() <= snippet::MAX_FILE_BYTES as usize).then(|| text.into()),
        };
        self.change(|snapshot| apply(snapshot, vec![change]));
        self.read_neighbours(&path);
    }

    fn update_from_disk(&self, path: &Path) {
        if Exclusions::is_rule_file(path) {
            self.shared.exclusions.forget();
            return;
        }
        if manifest::is_manifest(path) {
            return self.update_manifest(path);
        }
        let Some(language) = self.admit(path) else { return };
        let path = normalize(path);
        match read::read(&path, language, self.shared.options.max_file_bytes) {
            Ok(read) => {
                let change = change_of(Found { path, language, stamp: read.stamp }, read, Origin::Disk);
                self.change(|snapshot| apply(snapshot, vec![change]));
            }
            Err(reason) => {
                tracing::debug!(path = %path.display(), reason, "index: skipped");
                self.remove(&path);
            }
        }
    }

    fn update_manifest(&self, path: &Path) {
        let path = normalize(path);
        let new = if self.is_excluded(&path) { None } else { manifest::read(&path) };
        let Some(directory) = path.parent() else { return };
        self.change(|snapshot| {
            let same = |known: &manifest::Manifest| {
                known.directory == directory
                    && new.as_ref().is_some_and(|new| {
                        std::mem::discriminant(&new.kind) == std::mem::discriminant(&known.kind)
                    })
            };
            let kept = snapshot.manifests.iter().filter(|known| !same(known)).cloned();
            snapshot.manifests = kept.chain(new.clone()).collect();
        });
    }

    /// The language of a file that may be read; forgets a file that may not be any more.
    fn admit(&self, path: &Path) -> Option<Language> {
        let language = Language::from_path(path)?;
        if self.is_excluded(path) {
            self.remove(path);
            return None;
        }
        Some(language)
    }

    pub fn remove(&self, path: &Path) {
        let path = normalize(path);
        if Exclusions::is_rule_file(&path) {
            self.shared.exclusions.forget();
        }
        let snapshot = self.snapshot();
        // A directory goes with everything in it.
        let gone = |file: &File| file.path.starts_with(&path);
        if !snapshot.files.iter().flatten().any(|file| gone(file)) {
            return;
        }
        self.change(|snapshot| {
            for slot in &mut snapshot.files {
                if slot.as_ref().is_some_and(|file| gone(file)) {
                    *slot = None;
                }
            }
            rebuild_paths(snapshot);
            rebuild_names(snapshot);
        });
    }

    fn change(&self, edit: impl FnOnce(&mut Snapshot)) {
        let _writer: MutexGuard<'_, ()> = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = Snapshot::clone(&self.shared.snapshot.load());
        edit(&mut snapshot);
        self.shared.snapshot.store(Arc::new(snapshot));
    }
}

fn change_of(found: Found, read: Read, origin: Origin) -> Change {
    Change {
        path: found.path.into(),
        language: found.language,
        symbols: read.symbols,
        stamp: read.stamp,
        origin,
        text: None,
    }
}

fn relative_to(roots: &[PathBuf], path: &Path) -> Option<Box<str>> {
    let root =
        roots.iter().filter(|root| path.starts_with(root)).max_by_key(|root| root.as_os_str().len())?;
    let parts: Vec<_> =
        path.strip_prefix(root).ok()?.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    Some(parts.join("/").into())
}

/// Puts new states of files into a snapshot. Symbols read from the disk do not replace those of an open buffer
/// that came in meanwhile.
fn apply(snapshot: &mut Snapshot, changes: Vec<Change>) {
    let mut changed: Vec<FileId> = Vec::with_capacity(changes.len());
    let mut new_files: FxHashMap<Arc<Path>, FileId> = FxHashMap::default();
    for change in changes {
        let known = snapshot.paths.by_path(&change.path).or_else(|| new_files.get(&change.path).copied());
        let old = known.and_then(|id| snapshot.file(id)).cloned();
        if change.origin == Origin::Scan && old.as_ref().is_some_and(|file| file.open) {
            continue;
        }
        let Some(relative) = relative_to(&snapshot.roots, &change.path) else { continue };
        let path = old.as_ref().map_or_else(|| change.path.clone(), |file| file.path.clone());
        let file = File {
            path,
            relative,
            language: change.language,
            symbols: Some(change.symbols),
            stamp: change.stamp,
            open: change.origin == Origin::Buffer,
            text: change.text,
        };
        let symbols_of = |file: &File| file.symbols.as_ref().map(|symbols| symbols.symbols.len());
        let (now, before) = (symbols_of(&file), old.as_ref().and_then(|old| symbols_of(old)));
        snapshot.file_count += usize::from(before.is_none());
        snapshot.symbol_count += now.unwrap_or(0);
        snapshot.symbol_count -= before.unwrap_or(0);
        let id = match known {
            Some(id) => {
                snapshot.files[id as usize] = Some(Arc::new(file));
                id
            }
            None => {
                let id = snapshot.files.len() as FileId;
                new_files.insert(file.path.clone(), id);
                snapshot.files.push(Some(Arc::new(file)));
                id
            }
        };
        changed.push(id);
    }
    if !new_files.is_empty() {
        rebuild_paths(snapshot);
    }
    let mut stale = FxHashSet::clone(&snapshot.stale);
    stale.extend(changed);
    snapshot.stale = Arc::new(stale);
    if snapshot.stale.len() > MAX_STALE_FILES {
        let mut base = NameIndex::clone(&snapshot.base);
        base.retain(|file| !snapshot.stale.contains(&file));
        merge_names(&mut base, snapshot);
        snapshot.base = Arc::new(base);
        snapshot.stale = Arc::default();
        snapshot.overlay = Arc::default();
    } else {
        let mut overlay = NameIndex::default();
        merge_names(&mut overlay, snapshot);
        snapshot.overlay = Arc::new(overlay);
    }
}

/// Adds the symbols of the stale files.
fn merge_names(index: &mut NameIndex, snapshot: &Snapshot) {
    let mut ids: Vec<FileId> = snapshot.stale.iter().copied().collect();
    ids.sort_unstable();
    for id in ids {
        if let Some(symbols) = snapshot.symbols(id) {
            index.add(id, symbols);
        }
    }
    index.sort();
}

fn rebuild_paths(snapshot: &mut Snapshot) {
    snapshot.paths = Arc::new(PathIndex::build(&snapshot.files));
    count(snapshot);
}

fn rebuild_names(snapshot: &mut Snapshot) {
    let mut base = NameIndex::default();
    for (id, file) in (0u32..).zip(&snapshot.files) {
        if let Some(symbols) = file.as_ref().and_then(|file| file.symbols.as_ref()) {
            base.add(id, symbols);
        }
    }
    base.sort();
    snapshot.base = Arc::new(base);
    snapshot.stale = Arc::default();
    snapshot.overlay = Arc::default();
    count(snapshot);
}

fn count(snapshot: &mut Snapshot) {
    let symbols = || snapshot.files.iter().flatten().filter_map(|file| file.symbols.as_ref());
    (snapshot.file_count, snapshot.symbol_count) =
        (symbols().count(), symbols().map(|symbols| symbols.symbols.len()).sum());
}
