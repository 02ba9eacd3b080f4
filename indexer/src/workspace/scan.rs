//! The scan: walks the roots, takes what is kept on disk, reads the rest on all cores, publishes on the way.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use rustc_hash::FxHashSet;

use super::{Origin, Workspace, apply, change_of, rebuild_names, rebuild_paths, relative_to};
use crate::{
    Language, Progress, ScanReport, Skipped, Snapshot,
    index::File,
    manifest,
    read::{self, Read},
    walk::{Found, Stamp, walk},
};

/// While a scan runs, a new snapshot is published this often, but no more than a part of the time goes into it.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
const PUBLISH_COST_FACTOR: u32 = 20;
const URGENT_POLL: Duration = Duration::from_millis(2);

impl Workspace {
    /// Walks and parses all roots. Blocking: call on a thread of your own.
    ///
    /// Files whose size and time did not change since they were read are not read again; open files keep the
    /// symbols of their buffers. Snapshots are published while it runs.
    pub fn scan(&self, on_progress: &mut dyn FnMut(Progress), cancel: &AtomicBool) -> ScanReport {
        let started = Instant::now();
        let roots = self.roots();
        let mut report = ScanReport::default();
        let found = self.find(&roots, &mut report, cancel);
        let cancelled = cancel.load(Ordering::Relaxed);
        let mut keep = Vec::new();
        if !cancelled {
            keep = self.read_caches(&roots, &found, &mut report);
        }
        let to_read = self.in_order(found);
        let read = to_read.len();
        if read > 0 && !cancelled {
            self.read_names(cancel);
            self.read_open_neighbours();
        }
        self.read_all(to_read, &mut report, on_progress, cancel);
        self.change(|snapshot| {
            snapshot.lexical = Arc::default();
            snapshot.is_scanning = false;
        });
        if !cancel.load(Ordering::Relaxed) {
            let outdated = keep.iter().filter(|kept| read > 0 || kept.outdated);
            outdated.for_each(|kept| self.write_cache(kept, &mut report));
        }

        let snapshot = self.snapshot();
        report.files = snapshot.file_count();
        report.symbols = snapshot.symbol_count();
        report.lines = snapshot
            .files
            .iter()
            .flatten()
            .filter_map(|file| file.symbols.as_ref())
            .map(|s| s.lines as usize)
            .sum();
        report.milliseconds = started.elapsed().as_secs_f64() * 1e3;
        report
    }

    /// Walks all roots and learns which files seem to define which names, without parsing any: what a scan does first.
    /// Then [`Workspace::definitions`] finds every name, and an opened file has what it imports.
    pub fn scan_names(&self, cancel: &AtomicBool) {
        let found = self.find(&self.roots(), &mut ScanReport::default(), cancel);
        if !found.is_empty() {
            self.read_names(cancel);
            self.read_open_neighbours();
        }
    }

    /// Walks the roots and makes their files known; none if cancelled.
    fn find(&self, roots: &[PathBuf], report: &mut ScanReport, cancel: &AtomicBool) -> Vec<Found> {
        self.shared.exclusions.forget();
        let mut found: Vec<Found> = Vec::new();
        let mut manifests = Vec::new();
        for root in roots {
            let walked = walk(root, &self.shared.exclusions, &self.shared.options, cancel);
            found.extend(walked.files);
            manifests.extend(walked.manifests);
            report.skipped.extend(walked.skipped);
        }
        // Roots may contain each other.
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.dedup_by(|a, b| a.path == b.path);
        found.truncate(self.shared.options.max_files);
        manifests.sort();
        manifests.dedup();
        let manifests: Vec<_> = manifests.iter().filter_map(|path| manifest::read(path)).collect();
        if cancel.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.change(|snapshot| {
            snapshot.manifests = manifests.into();
            snapshot.is_scanning = true;
            register(snapshot, &found);
        });
        self.read_open_neighbours();
        found
    }

    /// The files that must be read, those near open files first.
    fn in_order(&self, found: Vec<Found>) -> Vec<Found> {
        let snapshot = self.snapshot();
        let open: FxHashSet<&Path> =
            snapshot.files.iter().flatten().filter(|f| f.open).map(|f| f.directory()).collect();
        let mut found: Vec<Found> = found
            .into_iter()
            .filter(|found| {
                let file = snapshot.file_by_path(&found.path).and_then(|id| snapshot.file(id));
                file.is_none_or(|file| !file.open && (file.symbols.is_none() || file.stamp != found.stamp))
            })
            .collect();
        found.sort_by_key(|found| !found.path.parent().is_some_and(|directory| open.contains(directory)));
        found
    }

    /// What open files import counts before all else, also where they were opened before the walk was done.
    fn read_open_neighbours(&self) {
        let snapshot = self.snapshot();
        for file in snapshot.files.iter().flatten().filter(|file| file.open) {
            self.read_neighbours(&file.path);
        }
    }

    /// Waits while somebody waits for other files than the scan's next one.
    fn let_urgent_first(&self, cancel: &AtomicBool) {
        while self.shared.urgent.load(Ordering::Relaxed) > 0 && !cancel.load(Ordering::Relaxed) {
            std::thread::sleep(URGENT_POLL);
        }
    }

    /// Whether a file was read ahead of its turn.
    fn is_read(&self, path: &Path, stamp: Stamp) -> bool {
        let snapshot = self.shared.snapshot.load();
        let file = snapshot.file_by_path(path).and_then(|id| snapshot.file(id));
        file.is_some_and(|file| file.symbols.is_some() && file.stamp == stamp)
    }

    fn read_all(
        &self,
        found: Vec<Found>,
        report: &mut ScanReport,
        on_progress: &mut dyn FnMut(Progress),
        cancel: &AtomicBool,
    ) {
        let total = found.len();
        let threads =
            std::thread::available_parallelism().map_or(1, |count| count.get()).min(8).min(total.max(1));
        let next = AtomicUsize::new(0);
        let max_file_bytes = self.shared.options.max_file_bytes;
        let (sender, receiver) = mpsc::sync_channel::<(usize, Option<Result<Read, String>>)>(4096);
        let mut found: Vec<Option<Found>> = found.into_iter().map(Some).collect();
        let paths: Vec<(PathBuf, Language, Stamp)> =
            found.iter().flatten().map(|found| (found.path.clone(), found.language, found.stamp)).collect();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (sender, next, paths) = (sender.clone(), &next, &paths);
                scope.spawn(move || {
                    while !cancel.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((path, language, stamp)) = paths.get(index) else { break };
                        self.let_urgent_first(cancel);
                        let read = (!self.is_read(path, *stamp))
                            .then(|| read::read(path, *language, max_file_bytes));
                        if sender.send((index, read)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut batch = Vec::new();
            let mut done = 0;
            let mut published = Instant::now();
            let mut interval = PUBLISH_INTERVAL;
            loop {
                let received = receiver.recv_timeout(interval);
                let finished = matches!(received, Err(mpsc::RecvTimeoutError::Disconnected));
                if let Ok((index, read)) = received {
                    done += 1;
                    match (read, found[index].take()) {
                        (Some(Ok(read)), Some(found)) => {
                            if let Some(remark) = read.remark.clone() {
                                report.skipped.push(Skipped { path: found.path.clone(), reason: remark });
                            }
                            batch.push(change_of(found, read, Origin::Scan));
                        }
                        (Some(Err(reason)), Some(found)) => {
                            report.skipped.push(Skipped { path: found.path, reason });
                        }
                        (None, _) | (_, None) => {}
                    }
                }
                if finished || published.elapsed() >= interval {
                    let began = Instant::now();
                    let changes = std::mem::take(&mut batch);
                    if !changes.is_empty() {
                        self.change(|snapshot| apply(snapshot, changes));
                    }
                    on_progress(Progress {
                        files_done: done,
                        files_total: total,
                        symbols: self.snapshot().symbol_count(),
                    });
                    published = Instant::now();
                    interval = PUBLISH_INTERVAL.max(began.elapsed() * PUBLISH_COST_FACTOR);
                }
                if finished {
                    break;
                }
            }
        });
    }
}

/// Makes the files of a walk known, and forgets those that are gone, unless they are open.
fn register(snapshot: &mut Snapshot, found: &[Found]) {
    let on_disk: FxHashSet<&Path> = found.iter().map(|found| found.path.as_path()).collect();
    let mut forgot = false;
    for slot in &mut snapshot.files {
        if slot.as_ref().is_some_and(|file| !file.open && !on_disk.contains(&*file.path)) {
            *slot = None;
            forgot = true;
        }
    }
    for found in found {
        if snapshot.paths.by_path(&found.path).is_some_and(|id| snapshot.file(id).is_some()) {
            continue;
        }
        let Some(relative) = relative_to(&snapshot.roots, &found.path) else { continue };
        snapshot.files.push(Some(Arc::new(File {
            path: found.path.as_path().into(),
            relative,
            language: found.language,
            symbols: None,
            stamp: Stamp::default(),
            open: false,
            text: None,
        })));
    }
    rebuild_paths(snapshot);
    if forgot {
        rebuild_names(snapshot);
    }
}
