//! What is typed: regions of real files, key by key, with slips that are corrected and jumps between regions.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use lacuna_indexer::Language;

use crate::report::bootstrap::random;

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
    /// A key that does not.
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
}

/// Lines of a region, and regions of a file.
const REGION_LINES: usize = 6;
const REGIONS: usize = 2;
/// One key in so many is a slip.
const SLIP_EVERY: u64 = 60;

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
        if let Some((text, edits)) = script(&text, &mut state) {
            let name = path.strip_prefix(data).unwrap_or(&path).display().to_string();
            let path = path.canonicalize()?;
            sessions.push(Session { name, path, text, edits });
        }
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

/// The text without some of its regions and the keys that restore it; `None` for short files.
fn script(text: &str, state: &mut u64) -> Option<(String, Vec<Edit>)> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.len() < 4 * REGION_LINES || text.len() > 1 << 18 {
        return None;
    }
    let mut regions: Vec<std::ops::Range<usize>> = Vec::new();
    let share = lines.len() / REGIONS;
    for index in 0..REGIONS {
        let room = share.saturating_sub(REGION_LINES).max(1);
        let first = index * share + (random(state) % room as u64) as usize;
        let start: usize = lines[..first].iter().map(|line| line.len()).sum();
        let length: usize =
            lines[first..(first + REGION_LINES).min(lines.len())].iter().map(|line| line.len()).sum();
        regions.push(start..start + length);
    }
    let mut holed = text.to_owned();
    for region in regions.iter().rev() {
        holed.replace_range(region.clone(), "");
    }
    // The second region is typed first: going back to the first is a jump of the cursor.
    let mut edits = Vec::new();
    let removed_before = |index: usize| regions[..index].iter().map(|region| region.len()).sum::<usize>();
    for index in (0..REGIONS).rev() {
        let mut offset = regions[index].start - removed_before(index);
        let mut remaining = &text[regions[index].clone()];
        while let Some(key) = remaining.chars().next() {
            if random(state).is_multiple_of(SLIP_EVERY) && key.is_alphanumeric() {
                edits.push(Edit::Slip { offset, key: 'q' });
                edits.push(Edit::Erase { offset, key: 'q' });
            }
            remaining = &remaining[key.len_utf8()..];
            edits.push(Edit::Type { offset, key, remaining: remaining.to_owned() });
            offset += key.len_utf8();
        }
    }
    Some((holed, edits))
}

/// Pauses between keys, drawn the same way for the same seed.
pub struct Pauses(u64);

impl Pauses {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5eed)
    }

    /// Log-normal with a median of 140 ms; after a word and after a line people stop to think.
    pub fn after(&mut self, edit: &Edit) -> std::time::Duration {
        const MEDIAN_MS: f64 = 140.0;
        const SPREAD: f64 = 0.5;
        let mut uniform = || (random(&mut self.0) >> 11) as f64 / (1u64 << 53) as f64;
        // Box-Muller.
        let normal =
            (-2.0 * uniform().max(1e-12).ln()).sqrt() * (2.0 * std::f64::consts::PI * uniform()).cos();
        let factor = match edit {
            Edit::Type { key: '\n', .. } => 5.0,
            Edit::Type { key, .. } if !key.is_alphanumeric() => 1.6,
            _ => 1.0,
        };
        let milliseconds = (MEDIAN_MS * factor * (SPREAD * normal).exp()).clamp(40.0, 3000.0);
        std::time::Duration::from_secs_f64(milliseconds / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_restore_the_file() {
        let text: String = (0..40).map(|line| format!("    let naïve_{line} = {line};\n")).collect();
        for seed in 0..20 {
            let mut state = seed;
            let (mut typed, edits) = script(&text, &mut state).unwrap();
            assert!(typed.len() < text.len());
            for edit in &edits {
                let cursor = edit.apply(&mut typed);
                if let Edit::Type { remaining, .. } = edit {
                    assert!(text.contains(remaining.as_str()) && typed.is_char_boundary(cursor));
                }
            }
            assert_eq!(typed, text, "seed {seed}");
        }
        assert!(script("short\n", &mut 0).is_none());
    }

    #[test]
    fn pauses_are_human() {
        let mut pauses = Pauses::new(1);
        let key = Edit::Type { offset: 0, key: 'a', remaining: String::new() };
        let mut times: Vec<f64> = (0..2001).map(|_| pauses.after(&key).as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        assert!((times[1000] - 140.0).abs() < 10.0, "median {}", times[1000]);
    }
}
