//! The index on disk, so that the next start need not parse: one file for each root.
//!
//! A file is a header, then blocks of entries in postcard's form. Its header names the version of all that decides
//! what a parse yields, and carries a hash of the rest; a file that does not fit in every respect is as good as none.
//! Writing goes to a file of its own that then takes the place of the old one, so that readers and other writers
//! never see half of it.

use std::{
    hash::Hasher,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use rustc_hash::{FxHashMap, FxHasher};
use serde::{Deserialize, Serialize};

use crate::{Language, symbols::FileSymbols, walk::Stamp};

const MAGIC: &[u8; 8] = b"lacunaix";
/// To be raised when the meaning or form of what is kept changes; queries count by themselves.
const VERSION: u64 = 3;
const HEADER_BYTES: usize = 8 + 8 + 8;
/// Larger caches are neither read nor written: a workspace at the limit of files stays far below.
const MAX_BYTES: u64 = 1 << 30;
/// Files of a block: blocks are read by several threads.
const BLOCK_FILES: usize = 256;
/// Roots whose caches are kept, the latest used.
const MAX_ROOTS: usize = 32;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Relative to the root.
    pub path: String,
    pub language: Language,
    pub stamp: Stamp,
    pub symbols: FileSymbols,
}

#[derive(Serialize)]
struct EntryRef<'a> {
    path: &'a str,
    language: Language,
    stamp: Stamp,
    symbols: &'a FileSymbols,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it is of another version")]
    Version,
    #[error("it is damaged")]
    Damaged,
    #[error("it would be larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// The file of a root.
pub(crate) fn path_of(directory: &Path, root: &Path) -> PathBuf {
    directory.join(format!("index-{:016x}.bin", hash(root.as_os_str().as_encoded_bytes())))
}

/// By path. An absent file is an empty cache.
pub(crate) fn load(directory: &Path, root: &Path) -> Result<FxHashMap<String, Entry>, CacheError> {
    let mut file = match std::fs::File::open(path_of(directory, root)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(FxHashMap::default()),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.len() > MAX_BYTES {
        return Err(CacheError::TooLarge);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (header, payload) = bytes.split_at_checked(HEADER_BYTES).ok_or(CacheError::Damaged)?;
    let number =
        |at: usize| header[at..at + 8].iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
    if &header[..8] != MAGIC || number(8) != version() {
        return Err(CacheError::Version);
    }
    if number(16) != hash(payload) {
        return Err(CacheError::Damaged);
    }
    let blocks = blocks(payload).ok_or(CacheError::Damaged)?;
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get()).clamp(1, 8);
    let part = blocks.len().div_ceil(threads).max(1);
    let read: Vec<Option<Vec<Entry>>> = std::thread::scope(|scope| {
        let read_part = |blocks: &[&[u8]]| -> Option<Vec<Entry>> {
            let mut entries = Vec::with_capacity(blocks.len() * BLOCK_FILES);
            for block in blocks {
                let mut read: Vec<Entry> = postcard::from_bytes(block).ok()?;
                entries.append(&mut read);
            }
            Some(entries)
        };
        let running: Vec<_> =
            blocks.chunks(part).map(|blocks| scope.spawn(move || read_part(blocks))).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(None)).collect()
    });
    let mut entries = FxHashMap::default();
    for part in read {
        entries.extend(part.ok_or(CacheError::Damaged)?.into_iter().map(|entry| (entry.path.clone(), entry)));
    }
    Ok(entries)
}

/// Each preceded by its length in four bytes.
fn blocks(mut payload: &[u8]) -> Option<Vec<&[u8]>> {
    let mut blocks = Vec::new();
    while !payload.is_empty() {
        let (length, rest) = payload.split_at_checked(4)?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let (block, rest) = rest.split_at_checked(length)?;
        blocks.push(block);
        payload = rest;
    }
    Some(blocks)
}

/// Keeps the entries in place of those kept before.
pub(crate) fn store<'a>(
    directory: &Path,
    root: &Path,
    entries: impl Iterator<Item = (&'a str, Language, Stamp, &'a FileSymbols)>,
) -> Result<(), CacheError> {
    let mut payload = Vec::new();
    let mut block: Vec<EntryRef<'_>> = Vec::with_capacity(BLOCK_FILES);
    let mut flush = |block: &mut Vec<EntryRef<'_>>| -> Result<(), CacheError> {
        if block.is_empty() {
            return Ok(());
        }
        let bytes = postcard::to_stdvec(&*block).map_err(|_| CacheError::Damaged)?;
        payload.extend(u32::try_from(bytes.len()).map_err(|_| CacheError::TooLarge)?.to_le_bytes());
        payload.extend(bytes);
        block.clear();
        if payload.len() as u64 > MAX_BYTES { Err(CacheError::TooLarge) } else { Ok(()) }
    };
    for (path, language, stamp, symbols) in entries {
        block.push(EntryRef { path, language, stamp, symbols });
        if block.len() >= BLOCK_FILES {
            flush(&mut block)?;
        }
    }
    flush(&mut block)?;
    create_private_directory(directory)?;
    let path = path_of(directory, root);
    let mut temporary = path.clone();
    temporary.set_extension(format!("{}.tmp", std::process::id()));
    let written = write(&temporary, &payload).and_then(|()| std::fs::rename(&temporary, &path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    prune(directory);
    Ok(())
}

fn write(path: &Path, payload: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // It holds parts of source code.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(MAGIC)?;
    file.write_all(&version().to_le_bytes())?;
    file.write_all(&hash(payload).to_le_bytes())?;
    file.write_all(payload)
}

fn create_private_directory(directory: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Removes the caches of the roots that were not used for longest, and what an ended writer left.
fn prune(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut known: Vec<(std::time::SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("index-"))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    known.sort();
    let too_many = known.len().saturating_sub(MAX_ROOTS);
    for (_, path) in known.into_iter().take(too_many) {
        let _ = std::fs::remove_file(path);
    }
}

/// Of everything that decides what a parse yields.
fn version() -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(VERSION);
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    for language in Language::ALL {
        hasher.write(language.name().as_bytes());
        language.query_sources().iter().for_each(|source| hasher.write(source.as_bytes()));
    }
    hasher.finish()
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        let text = "class Stock:\n    def reserve(self): ...\n";
        let symbols = crate::read::parse(Language::Python, text).0;
        let stamp = Stamp { bytes: text.len() as u64, modified_ns: 7 };
        Entry { path: path.into(), language: Language::Python, stamp, symbols }
    }

    fn store_all(directory: &Path, entries: &[Entry]) {
        let entries = entries.iter().map(|entry| (&*entry.path, entry.language, entry.stamp, &entry.symbols));
        store(directory, Path::new("/root"), entries).unwrap();
    }

    #[test]
    fn what_was_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let entries: Vec<Entry> = (0..600).map(|number| entry(&format!("{number}.py"))).collect();
        store_all(directory.path(), &entries);
        let read = load(directory.path(), Path::new("/root")).unwrap();
        assert_eq!(read.len(), entries.len());
        assert!(entries.iter().all(|entry| read[&entry.path] == *entry));
        assert!(load(directory.path(), Path::new("/other")).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        store_all(directory.path(), &[entry("a.py"), entry("b.py")]);
        let path = path_of(directory.path(), Path::new("/root"));
        let good = std::fs::read(&path).unwrap();
        let check = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            load(directory.path(), Path::new("/root")).is_err()
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert!(check(&bad), "a changed byte at {at}");
            assert!(check(&good[..at]), "cut to {at}");
        }
        assert!(!check(&good));
    }

    #[test]
    fn old_caches_go() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..MAX_ROOTS + 5 {
            let entry = entry("a.py");
            let entries = [(&*entry.path, entry.language, entry.stamp, &entry.symbols)];
            store(directory.path(), Path::new(&format!("/{number}")), entries.into_iter()).unwrap();
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), MAX_ROOTS);
    }
}
