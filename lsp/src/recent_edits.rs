//! What was edited lately in a document, as whole lines before and after: other places may need the same change.

use std::{collections::VecDeque, ops::Range, path::Path, time::Instant};

use lacuna_indexer::RecentEdit;
use ropey::Rope;

/// Places remembered for each document.
const MOST_PLACES: usize = 8;
/// An edit of more lines than this is a pasted text or a formatted file, and says nothing about the next one.
const MOST_LINES: usize = 30;
const MOST_BYTES: usize = 4096;

/// The places of a document that were edited, the latest first.
#[derive(Debug, Clone, Default)]
pub struct RecentEdits {
    places: VecDeque<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    /// Lines of the text as it is now.
    lines: Range<usize>,
    before: String,
    at: Instant,
}

impl RecentEdits {
    /// Takes note that `bytes` of `rope` are about to be replaced by `text`.
    pub fn note(&mut self, rope: &Rope, bytes: &Range<usize>, text: &str) {
        let touched = rope.byte_to_line(bytes.start)..rope.byte_to_line(bytes.end) + 1;
        if text.len() > MOST_BYTES || bytes.len() > MOST_BYTES {
            self.places.clear();
            return;
        }
        let come = Rope::from_str(text).len_lines() - 1;
        let gone = touched.len() - 1;
        let is_near = |place: &&Place| place.lines.start <= touched.end && touched.start <= place.lines.end;
        let lines = |lines: Range<usize>| lines_of(rope, &lines);
        let place = match self.places.iter().find(is_near) {
            Some(near) => {
                let all = near.lines.start.min(touched.start)..near.lines.end.max(touched.end);
                let before =
                    lines(all.start..near.lines.start) + &near.before + &lines(near.lines.end..all.end);
                Place { lines: all, before, at: Instant::now() }
            }
            None => Place { before: lines(touched.clone()), lines: touched.clone(), at: Instant::now() },
        };
        let end = place.lines.end;
        self.places.retain(|other| other.lines.end < touched.start || touched.end < other.lines.start);
        for other in self.places.iter_mut().filter(|other| other.lines.start >= end) {
            other.lines = other.lines.start + come - gone..other.lines.end + come - gone;
        }
        let place = Place { lines: place.lines.start..end + come - gone, ..place };
        if place.lines.len() <= MOST_LINES && place.before.len() <= MOST_BYTES {
            self.places.push_front(place);
            self.places.truncate(MOST_PLACES);
        }
    }

    pub fn clear(&mut self) {
        self.places.clear();
    }

    /// The edits of the document, which says `rope` now, and when each was made last, the latest first. What is being
    /// edited at `cursor_line` is left out: it changes with every key. So is what was edited at `until` or before.
    pub fn list(
        &self,
        path: &Path,
        rope: &Rope,
        cursor_line: Option<usize>,
        until: Option<Instant>,
    ) -> Vec<(Instant, RecentEdit)> {
        self.places
            .iter()
            .take_while(|place| until.is_none_or(|until| place.at > until))
            .filter(|place| cursor_line.is_none_or(|line| !place.lines.contains(&line)))
            .map(|place| {
                let after = lines_of(rope, &place.lines);
                (place.at, RecentEdit { path: path.to_path_buf(), before: place.before.clone(), after })
            })
            .filter(|(_, edit)| edit.before != edit.after)
            .collect()
    }
}

fn lines_of(rope: &Rope, lines: &Range<usize>) -> String {
    lines.clone().filter_map(|line| rope.get_line(line)).map(|line| line.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replaces each text of `edits` by the next one, once, and compares the edits as `-before+after`.
    fn check(text: &str, edits: &[(&str, &str)], cursor_line: Option<usize>, expected: &[&str]) {
        let mut rope = Rope::from_str(text);
        let mut recent = RecentEdits::default();
        for (old, new) in edits {
            let at = rope.to_string().find(old).expect("what is replaced");
            recent.note(&rope, &(at..at + old.len()), new);
            let start = rope.byte_to_char(at);
            rope.remove(start..start + old.chars().count());
            rope.insert(start, new);
        }
        let found: Vec<String> = recent
            .list(Path::new("a"), &rope, cursor_line, None)
            .into_iter()
            .map(|(_, edit)| format!("-{}+{}", edit.before, edit.after))
            .collect();
        assert_eq!(found, expected, "{edits:?}");
    }

    #[test]
    fn edits_are_kept_by_place() {
        let text = "a\nb\nc\nd\ne\nf\ng\nh\n";
        check(text, &[("b", "x")], None, &["-b\n+x\n"]);
        check(text, &[("b", "x"), ("x", "xy"), ("xy", "xyz")], None, &["-b\n+xyz\n"]);
        check(text, &[("b", "x"), ("x", "b")], None, &[]);
        check(text, &[("b\n", "x\ny\n"), ("c", "z")], None, &["-b\nc\n+x\ny\nz\n"]);
        check(text, &[("g", "x"), ("b", "y\nz")], None, &["-b\n+y\nz\n", "-g\n+x\n"]);
        check(text, &[("b", "y"), ("g", "x")], None, &["-g\n+x\n", "-b\n+y\n"]);
        check(text, &[("b", "y"), ("g", "x")], Some(6), &["-b\n+y\n"]);
        check(text, &[("b\nc\nd\ne\nf\ng\n", "")], None, &["-b\nc\nd\ne\nf\ng\nh\n+h\n"]);
        check(text, &[("b", "x"), ("a\n", &"long\n".repeat(40))], None, &[]);
        check("", &[("", "a")], None, &["-+a"]);
    }
}
