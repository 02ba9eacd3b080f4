//! Finds the files of a root that are worth reading: by extension, size and ignore rules. Links are not followed.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{Language, Options, Skipped, exclude::Exclusions, manifest};

#[derive(Debug)]
pub(crate) struct Found {
    pub path: PathBuf,
    pub language: Language,
    pub stamp: Stamp,
}

/// Tells whether a file changed on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Stamp {
    pub bytes: u64,
    pub modified_ns: u64,
}

impl Stamp {
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        let modified =
            metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Self { bytes: metadata.len(), modified_ns: modified.map_or(0, |since| since.as_nanos() as u64) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// In the order of their paths.
    pub files: Vec<Found>,
    pub manifests: Vec<PathBuf>,
    pub skipped: Vec<Skipped>,
}

/// Single skipped files reported, at most this many.
const MAX_SKIPPED: usize = 1000;

pub(crate) fn walk(root: &Path, exclusions: &Exclusions, options: &Options, cancel: &AtomicBool) -> Walked {
    let mut walked = Walked::default();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        if cancel.load(Ordering::Relaxed) {
            break;
        }
        // A directory removed meanwhile is no error worth a line.
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && directory != root => continue,
            Err(error) => {
                walked.skip(directory, format!("directory not read: {error}"));
                continue;
            }
        };
        let rules = exclusions.rules_for(root, &directory);
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            // Links are not followed: what they lead to is in the workspace already, or does not belong to it.
            if kind.is_symlink() || entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            if kind.is_dir() {
                if !exclusions.excludes_entry(&rules, &path, true) {
                    pending.push(path);
                }
                continue;
            }
            let language = Language::from_path(&path);
            let is_manifest = manifest::is_manifest(&path);
            if (language.is_none() && !is_manifest) || exclusions.excludes_entry(&rules, &path, false) {
                continue;
            }
            if is_manifest {
                walked.manifests.push(path);
            } else if let Some(language) = language
                && let Ok(metadata) = entry.metadata()
            {
                let stamp = Stamp::of(&metadata);
                if stamp.bytes > options.max_file_bytes {
                    let reason = format!("{} bytes, more than {}", stamp.bytes, options.max_file_bytes);
                    walked.skip(path, reason);
                } else if walked.files.len() >= options.max_files {
                    let reason =
                        format!("more than {} files: what comes after is not indexed", options.max_files);
                    walked.skip(path, reason);
                    pending.clear();
                    break;
                } else {
                    walked.files.push(Found { path, language, stamp });
                }
            }
        }
    }
    walked.files.sort_by(|a, b| a.path.cmp(&b.path));
    walked.manifests.sort();
    walked
}

impl Walked {
    fn skip(&mut self, path: PathBuf, reason: String) {
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.push(Skipped { path, reason });
        }
    }
}
