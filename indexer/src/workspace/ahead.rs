//! What is read ahead of the scan's own order: the files that an open file imports and what they pass on, and the
//! files that seem to define a name that somebody asks for.
//!
//! The scan first makes a table of names without parsing (`lexical.rs`), and waits while anything here is read.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustc_hash::FxHashSet;

use super::{Change, Origin, Workspace, apply, change_of};
use crate::{
    Language, Snapshot, SymbolInfo,
    imports::{self, Importer, Target},
    index::FileId,
    lexical::{self, Lexical},
    read, sibling,
    symbols::{Import, ImportKind, name_hash},
    walk::Found,
    words::words,
};

/// Files that one open file's imports lead to and that are read at once.
const MAX_NEIGHBOURS: usize = 96;
/// How often what was just read is looked through for what it passes on.
const MAX_ROUNDS: usize = 6;
/// Files read because they seem to define one name, and because of all names of an open file.
const MAX_FILES_OF_NAME: usize = 96;
const MAX_FILES_OF_TEXT: usize = 48;
/// A name that more files seem to define tells little about which of them is meant.
const MAX_HOMONYMS: usize = 4;
/// Files that are read before what they say is published.
const BATCH_FILES: usize = 12;
/// Different names of an open file that are looked up.
const MAX_NAMES: usize = 4000;

/// Something is being read ahead while this lives.
struct Urgent<'a>(&'a AtomicUsize);

impl<'a> Urgent<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workspace {
    /// Every definition of that name in the workspace, in the order of the files, also while a scan still runs: files
    /// that seem to define it are read first. Blocking.
    pub fn definitions(&self, name: &str) -> Vec<SymbolInfo> {
        let snapshot = self.snapshot();
        let files: Vec<FileId> = snapshot
            .lexical
            .files(name_hash(name))
            .filter(|id| is_unread(&snapshot, *id))
            .take(MAX_FILES_OF_NAME)
            .collect();
        self.read_ahead(&snapshot, &files);
        self.snapshot().definitions(name)
    }

    /// Whether a scan is running that has seen all names already ([`Workspace::definitions`] finds them).
    pub fn knows_names(&self) -> bool {
        !self.snapshot().lexical.is_empty()
    }

    /// Reads what an open file needs and the scan has not come to: first what it imports, through what modules pass
    /// on, then a few files beside it, then what else seems to define the names in it.
    pub(super) fn read_neighbours(&self, path: &Path) {
        let mut left = MAX_NEIGHBOURS;
        for _ in 0..MAX_ROUNDS {
            let snapshot = self.snapshot();
            let mut wanted = imported(&snapshot, path);
            wanted.truncate(left);
            if wanted.is_empty() {
                break;
            }
            left -= wanted.len();
            self.read_ahead(&snapshot, &wanted);
        }
        let snapshot = self.snapshot();
        if let Some(own) = snapshot.file_by_path(path).and_then(|id| snapshot.file(id)) {
            // They say which definitions of a long module come first.
            let beside = sibling::beside(&snapshot, path, own.language);
            let unread: Vec<FileId> = beside.filter(|id| is_unread(&snapshot, *id)).collect();
            self.read_ahead(&snapshot, &unread);
        }
        let snapshot = self.snapshot();
        if !snapshot.lexical.is_empty() {
            self.read_ahead(&snapshot, &named(&snapshot, path));
        }
    }

    /// Makes the table of names of the files that are not read yet.
    pub(super) fn read_names(&self, cancel: &AtomicBool) {
        let snapshot = self.snapshot();
        let unread: Vec<(FileId, &Path, Language)> = (0u32..)
            .zip(&snapshot.files)
            .filter_map(|(id, file)| Some((id, file.as_ref()?)))
            .filter(|(_, file)| file.symbols.is_none())
            .map(|(id, file)| (id, &*file.path, file.language))
            .collect();
        let entries = in_parallel(&unread, |(id, path, language)| {
            if cancel.load(Ordering::Relaxed) {
                return Vec::new();
            }
            // What is wrong with a file, its own reading says.
            let size = std::fs::symlink_metadata(path).map_or(u64::MAX, |metadata| metadata.len());
            let bytes = match size <= self.shared.options.max_file_bytes {
                true => std::fs::read(path).unwrap_or_default(),
                false => Vec::new(),
            };
            lexical::defined_names(*language, &bytes).into_iter().map(|hash| (hash, *id)).collect()
        });
        let lexical = Arc::new(Lexical::new(entries.into_iter().flatten().collect()));
        self.change(|snapshot| snapshot.lexical = lexical);
    }

    /// Parses files at once, on all cores, while the scan waits.
    fn read_ahead(&self, snapshot: &Snapshot, files: &[FileId]) {
        if files.is_empty() {
            return;
        }
        let _urgent = Urgent::new(&self.shared.urgent);
        for files in files.chunks(BATCH_FILES) {
            let changes = in_parallel(files, |id| {
                let file = snapshot.file(*id)?;
                let read = read::read(&file.path, file.language, self.shared.options.max_file_bytes).ok()?;
                let found =
                    Found { path: PathBuf::from(&*file.path), language: file.language, stamp: read.stamp };
                Some(change_of(found, read, Origin::Scan))
            });
            let changes: Vec<Change> = changes.into_iter().flatten().collect();
            if !changes.is_empty() {
                self.change(|snapshot| apply(snapshot, changes));
            }
        }
    }
}

fn is_unread(snapshot: &Snapshot, id: FileId) -> bool {
    snapshot.file(id).is_some_and(|file| file.symbols.is_none())
}

/// Applies `work` to all items on all cores; the results are in their order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get()).min(8);
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        while let Some(item) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            items.get(at).map(|item| (at, item))
        } {
            done.push((item.0, work(item.1)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len())).map(|_| scope.spawn(run)).collect();
        let mut done = run();
        for thread in others {
            done.extend(thread.join().unwrap_or_default());
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Unread files that the file's imports lead to: at once, or through what files that were read pass on.
fn imported(snapshot: &Snapshot, path: &Path) -> Vec<FileId> {
    let mut wanted = Wanted { snapshot, unread: Vec::new(), seen: FxHashSet::default() };
    if let Some(own) = snapshot.file_by_path(path)
        && let Some(symbols) = snapshot.symbols(own)
    {
        for import in symbols.imports.iter() {
            wanted.follow(own, import, MAX_ROUNDS);
            if wanted.unread.len() >= MAX_NEIGHBOURS {
                break;
            }
        }
    }
    wanted.unread
}

struct Wanted<'a> {
    snapshot: &'a Snapshot,
    unread: Vec<FileId>,
    seen: FxHashSet<(FileId, u32)>,
}

impl Wanted<'_> {
    fn add(&mut self, id: FileId) {
        if is_unread(self.snapshot, id) && !self.unread.contains(&id) {
            self.unread.push(id);
        }
    }

    fn follow(&mut self, from: FileId, import: &Import, depth: usize) {
        let Some(file) = self.snapshot.file(from) else { return };
        let Some(symbols) = &file.symbols else { return };
        let importer = Importer { path: &file.path, language: file.language, symbols };
        for target in imports::targets(self.snapshot, &importer, import) {
            match target {
                Target::Files { files, name } => {
                    for id in files {
                        self.add(id);
                        self.pass_on(id, name.as_deref(), import.kind, depth);
                    }
                }
                // Which files declare a package is known of those that were read; of the others by the name.
                Target::Package { name: Some(name), .. } => {
                    let name = name.rsplit('.').next().unwrap_or(&name);
                    let files: Vec<FileId> =
                        self.snapshot.lexical.files(name_hash(name)).take(MAX_HOMONYMS).collect();
                    files.into_iter().for_each(|id| self.add(id));
                }
                Target::Package { name: None, .. } => {}
            }
        }
    }

    /// What a file that was read imports itself under the name that is wanted of it.
    fn pass_on(&mut self, id: FileId, name: Option<&str>, kind: ImportKind, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        let Some(symbols) = self.snapshot.symbols(id).cloned() else { return };
        let includes =
            self.snapshot.file(id).is_some_and(|file| file.language.family() == crate::language::Family::C);
        let wanted = name.filter(|_| kind != ImportKind::All);
        if wanted.is_some_and(|name| symbols.top_level(name).next().is_some())
            || !self.seen.insert((id, wanted.map_or(0, name_hash)))
        {
            return;
        }
        for import in symbols.imports.iter() {
            let passes = match wanted {
                Some(name) => import.kind == ImportKind::All || symbols.local_name(import) == Some(name),
                None => includes || import.kind == ImportKind::All,
            };
            if passes && self.unread.len() < MAX_NEIGHBOURS {
                self.follow(id, import, depth);
            }
        }
    }
}

/// Unread files that seem to define names of an open file: of its directory first, then those of the rarest names.
fn named(snapshot: &Snapshot, path: &Path) -> Vec<FileId> {
    let Some(own) = snapshot.file_by_path(path).and_then(|id| snapshot.file(id)) else { return Vec::new() };
    let Some(text) = &own.text else { return Vec::new() };
    let mut seen: FxHashSet<&str> = FxHashSet::default();
    let mut found: Vec<(bool, usize, FileId)> = Vec::new();
    for word in words(text).filter(|word| word.text.len() >= 3) {
        if seen.len() >= MAX_NAMES || !seen.insert(word.text) {
            continue;
        }
        let files = || {
            snapshot.lexical.files(name_hash(word.text)).filter(|id| {
                snapshot.file(*id).is_some_and(|file| file.language.family() == own.language.family())
            })
        };
        let homonyms = files().take(MAX_HOMONYMS + 1).count();
        for id in files().take(64).filter(|id| is_unread(snapshot, *id)) {
            let beside = snapshot.file(id).is_some_and(|file| file.directory() == own.directory());
            if beside || homonyms <= MAX_HOMONYMS {
                found.push((!beside, homonyms, id));
            }
        }
    }
    found.sort_unstable();
    let mut files = Vec::new();
    for (.., id) in found {
        if files.len() < MAX_FILES_OF_TEXT && !files.contains(&id) {
            files.push(id);
        }
    }
    files
}
