//! What is typed: regions of real files, key by key, with slips that are corrected and jumps between regions.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use lacuna_indexer::Language;

use crate::{generate::peer::Change, report::bootstrap::random};

/// One file: its text without the regions, and the keys that bring them back.
pub struct Session {
    pub name: String,
    pub path: PathBuf,
    pub text: String,
    pub edits: Vec<Edit>,
}

/// One key. Offsets are bytes into the text before the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A key that belongs there; `remaining` is what is still to be typed in this region after it.
    Type { offset: usize, key: char, remaining: String },
    /// A key that does not, or that belongs there but follows one that does not.
    Slip { offset: usize, key: char },
    /// Backspace.
    Erase { offset: usize, key: char },
}

impl Edit {
    /// Changes the text and returns the cursor.
    pub fn apply(&self, text: &mut String) -> usize {
        match *self {
            Self::Type { offset, key, .. } | Self::Slip { offset, key } => {
                text.insert(offset, key);
                offset + key.len_utf8()
            }
            Self::Erase { offset, .. } => {
                text.remove(offset);
                offset
            }
        }
    }

    /// The same for a server.
    pub fn change<'a>(&self, buffer: &'a mut [u8; 4]) -> Change<'a> {
        match *self {
            Self::Type { offset, key, .. } | Self::Slip { offset, key } => {
                Change { offset, removed: "", inserted: key.encode_utf8(buffer) }
            }
            Self::Erase { offset, key } => Change { offset, removed: key.encode_utf8(buffer), inserted: "" },
        }
    }

    fn offset(&self) -> usize {
        match *self {
            Self::Type { offset, .. } | Self::Slip { offset, .. } | Self::Erase { offset, .. } => offset,
        }
    }
}

/// Lines of a region, and regions of a file.
const REGION_LINES: usize = 6;
const REGIONS: usize = 2;
/// One key in so many is a slip, noticed after at most so many more keys.
const SLIP_EVERY: u64 = 60;
const NOTICED_AFTER: u64 = 4;
/// Larger files are not typed at.
pub(super) const LARGEST_FILE: usize = 1 << 18;

/// Sessions from the source files of a directory, or from one file.
pub fn from_files(data: &Path, limit: usize, seed: u64) -> Result<Vec<Session>> {
    let mut files = Vec::new();
    if data.is_dir() {
        collect(data, &mut files);
    } else {
        files.push(data.to_path_buf());
    }
    files.sort();
    let mut state = seed;
    for index in (1..files.len()).rev() {
        files.swap(index, (random(&mut state) % (index as u64 + 1)) as usize);
    }
    let mut sessions = Vec::new();
    for path in files {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let Some(regions) = regions(&text, &mut state) else { continue };
        let (text, edits) = script(&text, &regions, &mut state);
        let name = path.strip_prefix(data).unwrap_or(&path).display().to_string();
        sessions.push(Session { name, path: path.canonicalize()?, text, edits });
        if sessions.len() == limit {
            break;
        }
    }
    if sessions.is_empty() {
        bail!("{} holds no source file of {} lines or more", data.display(), 4 * REGION_LINES);
    }
    Ok(sessions)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() && Language::from_path(&entry.path()).is_some() => {
                files.push(entry.path())
            }
            _ => {}
        }
    }
}

/// Some lines in each part of the file; `None` for short files.
fn regions(text: &str, state: &mut u64) -> Option<Vec<Range<usize>>> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.len() < 4 * REGION_LINES || text.len() > LARGEST_FILE {
        return None;
    }
    let share = lines.len() / REGIONS;
    let region = |index: usize| {
        let room = share.saturating_sub(REGION_LINES).max(1);
        let first = index * share + (random(state) % room as u64) as usize;
        let start: usize = lines[..first].iter().map(|line| line.len()).sum();
        let length: usize =
            lines[first..(first + REGION_LINES).min(lines.len())].iter().map(|line| line.len()).sum();
        start..start + length
    };
    Some((0..REGIONS).map(region).collect())
}

/// The text without its regions, which are in order, and the keys that restore it.
pub(super) fn script(text: &str, regions: &[Range<usize>], state: &mut u64) -> (String, Vec<Edit>) {
    let mut holed = text.to_owned();
    for region in regions.iter().rev() {
        holed.replace_range(region.clone(), "");
    }
    // The last region is typed first: going back to the one before it is a jump of the cursor.
    let mut edits = Vec::new();
    let removed_before = |index: usize| regions[..index].iter().map(|region| region.len()).sum::<usize>();
    for index in (0..regions.len()).rev() {
        let mut offset = regions[index].start - removed_before(index);
        let mut remaining = &text[regions[index].clone()];
        while let Some(key) = remaining.chars().next() {
            if random(state).is_multiple_of(SLIP_EVERY) && key.is_alphanumeric() {
                slip(&mut edits, offset, remaining, state);
            }
            remaining = &remaining[key.len_utf8()..];
            edits.push(Edit::Type { offset, key, remaining: remaining.to_owned() });
            offset += key.len_utf8();
        }
    }
    (holed, edits)
}

/// A wrong key, some right ones until it is noticed, and as many backspaces.
fn slip(edits: &mut Vec<Edit>, offset: usize, remaining: &str, state: &mut u64) {
    let count = 1 + (random(state) % (NOTICED_AFTER + 1)) as usize;
    let mut keys = vec![if remaining.starts_with('q') { 'w' } else { 'q' }];
    keys.extend(remaining.chars().skip(1).take_while(|key| *key != '\n').take(count - 1));
    let mut at = offset;
    for &key in &keys {
        edits.push(Edit::Slip { offset: at, key });
        at += key.len_utf8();
    }
    for &key in keys.iter().rev() {
        at -= key.len_utf8();
        edits.push(Edit::Erase { offset: at, key });
    }
}

/// Pauses between keys, drawn the same way for the same seed.
pub struct Pauses(u64);

impl Pauses {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5eed)
    }

    /// Log-normal with a median of 140 ms; after a word, after a line and where the cursor jumps next people stop to
    /// think, and sometimes for seconds.
    pub fn after(&mut self, edit: &Edit, next: Option<&Edit>) -> Duration {
        const MEDIAN_MS: f64 = 140.0;
        const SPREAD: f64 = 0.5;
        const THOUGHT_EVERY: u64 = 100;
        let thinks = random(&mut self.0).is_multiple_of(THOUGHT_EVERY);
        let mut uniform = || (random(&mut self.0) >> 11) as f64 / (1u64 << 53) as f64;
        // Box-Muller.
        let normal =
            (-2.0 * uniform().max(1e-12).ln()).sqrt() * (2.0 * std::f64::consts::PI * uniform()).cos();
        let jumps = next.is_some_and(|next| next.offset().abs_diff(edit.offset()) > '\u{10ffff}'.len_utf8());
        let factor = match edit {
            _ if jumps || thinks => 12.0,
            Edit::Type { key: '\n', .. } => 5.0,
            Edit::Type { key, .. } if !key.is_alphanumeric() => 1.6,
            _ => 1.0,
        };
        let milliseconds = (MEDIAN_MS * factor * (SPREAD * normal).exp()).clamp(40.0, 3000.0);
        Duration::from_secs_f64(milliseconds / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_restore_the_file() {
        let text: String = (0..40).map(|line| format!("    let naïve_{line} = {line};\n")).collect();
        let mut slips = 0;
        for seed in 0..20 {
            let mut state = seed;
            let regions = regions(&text, &mut state).unwrap();
            let (mut typed, edits) = script(&text, &regions, &mut state);
            assert!(typed.len() < text.len());
            for edit in &edits {
                let before = typed.clone();
                let cursor = edit.apply(&mut typed);
                let mut buffer = [0; 4];
                let change = edit.change(&mut buffer);
                let mut told = before;
                told.replace_range(change.offset..change.offset + change.removed.len(), change.inserted);
                assert_eq!(told, typed, "the server is told the same");
                slips += usize::from(matches!(edit, Edit::Slip { .. }));
                if let Edit::Type { remaining, .. } = edit {
                    assert!(text.contains(remaining.as_str()) && typed.is_char_boundary(cursor));
                }
            }
            assert_eq!(typed, text, "seed {seed}");
        }
        assert!(slips > 20, "{slips}");
        assert!(regions("short\n", &mut 0).is_none());
    }

    #[test]
    fn pauses_are_human() {
        let mut pauses = Pauses::new(1);
        let key = Edit::Type { offset: 0, key: 'a', remaining: String::new() };
        let mut times: Vec<f64> = (0..2001).map(|_| pauses.after(&key, None).as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        assert!((times[1000] - 140.0).abs() < 10.0, "median {}", times[1000]);
        let far = Edit::Type { offset: 900, key: 'a', remaining: String::new() };
        let jump = pauses.after(&key, Some(&far)).as_secs_f64();
        assert!(jump > 0.5, "a jump takes {jump} s");
    }
}
