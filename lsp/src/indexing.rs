//! Keeps the index in step with buffers and disk, on two threads of its own: one scans, the other takes in edited
//! buffers and changed files, so that a long scan does not keep an opened file waiting.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lacuna_indexer::{Progress, ScanReport, Workspace};
use rustc_hash::FxHashMap;

use crate::{documents::Documents, engine_slot::panic_text};

/// Edits within this time are indexed together.
const QUIET: Duration = Duration::from_millis(250);
/// With more files waiting than this (a branch was switched), everything is scanned instead.
const MOST_WAITING: usize = 2000;
/// Buffers larger than this are not indexed while they are being edited.
const LARGEST_BUFFER_BYTES: usize = 1 << 20;

/// Told about scans; the server shows them as progress.
pub type OnScan = Arc<dyn Fn(ScanNews) + Send + Sync>;

#[derive(Debug, Clone)]
pub enum ScanNews {
    Started,
    Progress(Progress),
    Finished(ScanReport),
}

/// The handle. Cheap calls that never wait; the threads end when the handle is dropped.
pub struct Indexing {
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Ends a running scan: roots changed, or the server ends.
    cancel_scan: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    scan: bool,
    files: FxHashMap<PathBuf, Origin>,
    /// A document was opened: what it imports is wanted at once.
    opened: bool,
    ended: bool,
}

/// Which text of a file counts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// The open document of this URI.
    Buffer(String),
    Disk,
}

impl Indexing {
    pub fn start(workspace: Workspace, documents: Arc<Documents>, on_scan: OnScan) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            cancel_scan: AtomicBool::new(false),
        });
        let (thread, scanned) = (Arc::clone(&shared), workspace.clone());
        std::thread::Builder::new()
            .name("index scan".into())
            .spawn(move || run_scans(&thread, &scanned, &on_scan))?;
        let thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("index".into())
            .spawn(move || run_updates(&thread, &workspace, &documents))?;
        Ok(Self { shared })
    }

    /// Walks all roots again.
    pub fn scan(&self) {
        let mut waiting = self.shared.lock();
        self.shared.cancel_scan.store(true, Ordering::Relaxed);
        waiting.scan = true;
        drop(waiting);
        self.shared.wake.notify_all();
    }

    /// A document was opened. Unlike an edit it is taken in at once.
    pub fn buffer_opened(&self, uri: &str, path: &Path) {
        self.shared.lock().opened = true;
        self.buffer_changed(uri, path);
    }

    /// An open document has changed.
    pub fn buffer_changed(&self, uri: &str, path: &Path) {
        self.shared.enter(path, Origin::Buffer(uri.to_string()));
    }

    /// A file on disk was written, deleted, or is no longer covered by an open document.
    pub fn disk_changed(&self, path: &Path) {
        self.shared.enter(path, Origin::Disk);
    }
}

impl Drop for Indexing {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        self.shared.cancel_scan.store(true, Ordering::Relaxed);
        waiting.ended = true;
        drop(waiting);
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, path: &Path, origin: Origin) {
        let mut waiting = self.lock();
        if waiting.files.len() >= MOST_WAITING {
            waiting.files.retain(|_, origin| matches!(origin, Origin::Buffer(_)));
            waiting.scan = true;
        } else {
            waiting.files.insert(path.to_path_buf(), origin);
        }
        drop(waiting);
        self.wake.notify_all();
    }

    /// Waits for a scan to be wanted. `false` is the end.
    fn next_scan(&self) -> bool {
        let mut waiting = self.lock();
        while !waiting.scan && !waiting.ended {
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.scan = false;
        // Before the lock is given back: what is wanted from now on cancels this scan.
        self.cancel_scan.store(waiting.ended, Ordering::Relaxed);
        !waiting.ended
    }

    /// The next files, a moment after the first came in, or as soon as a document is opened. `None` is the end.
    fn next_files(&self) -> Option<FxHashMap<PathBuf, Origin>> {
        let mut waiting = self.lock();
        while waiting.files.is_empty() && !waiting.ended {
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.ended {
            return None;
        }
        let still = |waiting: &mut Waiting| !waiting.opened && !waiting.ended;
        let quiet = self.wake.wait_timeout_while(waiting, QUIET, still);
        let (mut waiting, _) = quiet.unwrap_or_else(PoisonError::into_inner);
        waiting.opened = false;
        Some(std::mem::take(&mut waiting.files))
    }
}

fn run_scans(shared: &Shared, workspace: &Workspace, on_scan: &OnScan) {
    while shared.next_scan() {
        guarded("scanning the workspace", || {
            on_scan(ScanNews::Started);
            let mut on_progress = |progress| on_scan(ScanNews::Progress(progress));
            let report = workspace.scan(&mut on_progress, &shared.cancel_scan);
            tracing::info!(
                files = report.files,
                symbols = report.symbols,
                skipped = report.skipped.len(),
                milliseconds = report.milliseconds,
                "index built"
            );
            on_scan(ScanNews::Finished(report));
        });
    }
}

fn run_updates(shared: &Shared, workspace: &Workspace, documents: &Documents) {
    while let Some(files) = shared.next_files() {
        for (path, origin) in files {
            guarded("indexing a file", || update(workspace, documents, &path, &origin));
        }
    }
}

fn update(workspace: &Workspace, documents: &Documents, path: &Path, origin: &Origin) {
    match origin {
        Origin::Buffer(uri) => {
            let Some(document) = documents.snapshot(uri) else { return };
            if document.rope.len_bytes() > LARGEST_BUFFER_BYTES {
                return;
            }
            workspace.update(path, Some(&document.rope.to_string()));
            if document.stale_tree.is_none()
                && let Some(tree) = document.parse()
            {
                documents.adopt(uri, document.revision, tree);
            }
        }
        Origin::Disk if path.is_file() => workspace.update(path, None),
        Origin::Disk => workspace.remove(path),
    }
}

/// Where the index is kept between starts: the user's cache directory. `None` where there is none, or
/// `LACUNA_CACHE_DIR` is set to nothing.
pub fn cache_directory() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(chosen) = std::env::var_os("LACUNA_CACHE_DIR") {
        return Some(PathBuf::from(chosen)).filter(|path| path.is_absolute());
    }
    let home = || variable("HOME");
    let base = match std::env::consts::OS {
        "windows" => variable("LOCALAPPDATA"),
        "macos" => home().map(|home| home.join("Library/Caches")),
        _ => variable("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache"))),
    };
    base.filter(|base| base.is_absolute()).map(|base| base.join("lacuna"))
}

/// One broken file must not end the thread.
fn guarded(what: &str, work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
        tracing::error!("{what} panicked ({}); this is a bug, please report it", panic_text(&*panic));
    }
}
