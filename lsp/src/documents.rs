//! The open documents: text as a rope, the editor's version, and a syntax tree kept in step with every edit.
//!
//! Edits are applied at once and never parse. The tree is marked as edited and parsed again, incrementally, when a
//! completion or the index needs it, off the reading task; the result is handed back by [`Documents::adopt`].

use std::{
    collections::VecDeque,
    ops::Range,
    path::{Path, PathBuf},
    time::Instant,
};

use dashmap::DashMap;
use lacuna_indexer::{Language, RecentEdit};
use ropey::Rope;
use tree_sitter::{InputEdit, Point, Tree};

use crate::{
    position::{self, Encoding, Place},
    recent_edits::RecentEdits,
    syntax,
};

/// Edits remembered for a tree that is being parsed meanwhile. When there are more, that tree is thrown away.
const REMEMBERED_EDITS: usize = 512;
/// Edits of all documents that a completion is told of.
const RECENT_EDITS: usize = 8;

/// One change as the protocol sends it; no range replaces the whole text.
#[derive(Debug, Clone)]
pub struct Change {
    pub range: Option<Range<Place>>,
    pub text: String,
}

/// All open documents by URI.
#[derive(Debug, Default)]
pub struct Documents {
    open: DashMap<String, Document>,
}

/// One open document.
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    language: Option<Language>,
    language_id: String,
    version: i32,
    rope: Rope,
    tree: Option<Tree>,
    /// Counts edits, one each; the protocol's version may skip or stand still.
    revision: u64,
    edits: VecDeque<(u64, InputEdit)>,
    recent: RecentEdits,
}

/// A document as it was at one moment. Cheap: rope and tree are shared.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub uri: String,
    pub path: PathBuf,
    pub language: Option<Language>,
    pub language_id: String,
    pub version: i32,
    pub revision: u64,
    pub rope: Rope,
    /// Edited to match `rope`, but not parsed since; a base for an incremental parse.
    pub stale_tree: Option<Tree>,
}

impl Documents {
    pub fn open(&self, uri: &str, path: PathBuf, language_id: &str, version: i32, text: &str) {
        let language = Language::from_id(language_id).or_else(|| Language::from_path(&path));
        self.open.insert(
            uri.to_string(),
            Document {
                path,
                language,
                language_id: language_id.to_string(),
                version,
                rope: Rope::from_str(text),
                tree: None,
                revision: 0,
                edits: VecDeque::new(),
                recent: RecentEdits::default(),
            },
        );
    }

    /// Applies changes in order. `false` when the document is not open.
    pub fn change(&self, uri: &str, version: i32, changes: Vec<Change>, encoding: Encoding) -> bool {
        let Some(mut document) = self.open.get_mut(uri) else { return false };
        for change in changes {
            document.apply(change, encoding);
        }
        document.version = version;
        true
    }

    /// The closed document's path.
    pub fn close(&self, uri: &str) -> Option<PathBuf> {
        self.open.remove(uri).map(|(_, document)| document.path)
    }

    pub fn snapshot(&self, uri: &str) -> Option<Snapshot> {
        let document = self.open.get(uri)?;
        Some(Snapshot {
            uri: uri.to_string(),
            path: document.path.clone(),
            language: document.language,
            language_id: document.language_id.clone(),
            version: document.version,
            revision: document.revision,
            rope: document.rope.clone(),
            stale_tree: document.tree.clone(),
        })
    }

    /// Takes over a tree parsed from the snapshot of `revision`, brought up to date by the edits made since.
    pub fn adopt(&self, uri: &str, revision: u64, mut tree: Tree) {
        let Some(mut document) = self.open.get_mut(uri) else { return };
        let since = document.revision.saturating_sub(revision);
        if revision > document.revision || since > document.edits.len() as u64 {
            return;
        }
        for (number, edit) in &document.edits {
            if *number > revision {
                tree.edit(edit);
            }
        }
        document.tree = Some(tree);
    }

    /// What was edited lately in any open document, the latest first, but for what is being edited at `cursor`, a URI
    /// and a line.
    pub fn recent_edits(&self, cursor: (&str, usize)) -> Vec<RecentEdit> {
        let mut edits: Vec<(Instant, RecentEdit)> = Vec::new();
        for document in &self.open {
            let line = (document.key() == cursor.0).then_some(cursor.1);
            // With hundreds of documents open, only a few texts are made.
            let until = edits.get(RECENT_EDITS - 1).map(|(at, _)| *at);
            edits.extend(document.recent.list(&document.path, &document.rope, line, until));
            edits.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            edits.truncate(RECENT_EDITS);
        }
        edits.into_iter().map(|(_, edit)| edit).collect()
    }

    pub fn is_open(&self, path: &Path) -> bool {
        self.open.iter().any(|document| document.path == path)
    }

    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Bytes of text held.
    pub fn bytes(&self) -> usize {
        self.open.iter().map(|document| document.rope.len_bytes()).sum()
    }
}

impl Document {
    fn apply(&mut self, change: Change, encoding: Encoding) {
        self.revision += 1;
        let Some(range) = change.range else {
            self.rope = Rope::from_str(&change.text);
            self.tree = None;
            self.edits.clear();
            self.recent.clear();
            return;
        };
        let bytes = position::to_range(&self.rope, range, encoding);
        self.recent.note(&self.rope, &bytes, &change.text);
        let edit = replace(&mut self.rope, bytes, &change.text);
        if let Some(tree) = &mut self.tree {
            tree.edit(&edit);
        }
        self.edits.push_back((self.revision, edit));
        if self.edits.len() > REMEMBERED_EDITS {
            self.edits.pop_front();
        }
    }
}

impl Snapshot {
    /// The document with `text` inserted.
    pub fn with_inserted(&self, offset: usize, text: &str) -> Self {
        let mut document = self.clone();
        let offset = offset.min(document.rope.len_bytes());
        let edit = replace(&mut document.rope, offset..offset, text);
        if let Some(tree) = &mut document.stale_tree {
            tree.edit(&edit);
        }
        document
    }

    /// The syntax tree of this text, `None` without a grammar. Takes milliseconds: never on the reading task.
    pub fn parse(&self) -> Option<Tree> {
        syntax::parse_rope(self.language?, &self.rope, self.stale_tree.as_ref())
    }
}

/// Replaces bytes of a rope; returns the edit as a syntax tree is told of it.
fn replace(rope: &mut Rope, bytes: Range<usize>, text: &str) -> InputEdit {
    let start_position = syntax::point(rope, bytes.start);
    let old_end_position = syntax::point(rope, bytes.end);
    let characters = rope.byte_to_char(bytes.start)..rope.byte_to_char(bytes.end);
    rope.remove(characters.clone());
    rope.insert(characters.start, text);
    InputEdit {
        start_byte: bytes.start,
        old_end_byte: bytes.end,
        new_end_byte: bytes.start + text.len(),
        start_position,
        old_end_position,
        new_end_position: advance(start_position, text),
    }
}

fn advance(start: Point, text: &str) -> Point {
    match text.rfind('\n') {
        None => Point { row: start.row, column: start.column + text.len() },
        Some(last) => Point {
            row: start.row + text.bytes().filter(|&byte| byte == b'\n').count(),
            column: text.len() - last - 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const URI: &str = "file:///project/a.py";

    fn open(text: &str) -> Documents {
        let documents = Documents::default();
        documents.open(URI, PathBuf::from("/project/a.py"), "python", 1, text);
        documents
    }

    fn change(range: Option<[u32; 4]>, text: &str) -> Change {
        Change { range: range.map(|[a, b, c, d]| Place::new(a, b)..Place::new(c, d)), text: text.to_string() }
    }

    #[test]
    fn the_latest_edits_of_all_documents_are_told() {
        let documents = Documents::default();
        let uri = |number: usize| format!("file:///project/{number}.py");
        for number in 0..20 {
            documents.open(
                &uri(number),
                PathBuf::from(format!("{number}.py")),
                "python",
                1,
                "a\nb\nc\nd\ne\n",
            );
        }
        for (line, numbers) in [(0, 0..20), (4, 5..8)] {
            for number in numbers {
                let edit = change(Some([line, 0, line, 0]), "x");
                assert!(documents.change(&uri(number), 2, vec![edit], Encoding::Utf16));
            }
        }
        let told: Vec<String> = documents
            .recent_edits((&uri(18), 0))
            .iter()
            .map(|edit| format!("{} {}", edit.path.display(), edit.after.trim_end()))
            .collect();
        let expected =
            ["7.py xe", "6.py xe", "5.py xe", "19.py xa", "17.py xa", "16.py xa", "15.py xa", "14.py xa"];
        assert_eq!(told, expected);
    }

    #[test]
    fn changes_apply_in_order() {
        // start, changes, end
        type Case<'a> = (&'a str, &'a [(Option<[u32; 4]>, &'a str)], &'a str);
        let cases: &[Case<'_>] = &[
            ("", &[(Some([0, 0, 0, 0]), "x")], "x"),
            ("abc", &[(Some([0, 1, 0, 2]), "")], "ac"),
            ("abc", &[(None, "new")], "new"),
            ("a\nb\n", &[(Some([0, 1, 1, 0]), "")], "ab\n"),
            ("a", &[(Some([0, 1, 0, 1]), "b"), (Some([0, 2, 0, 2]), "c")], "abc"),
            ("😀b", &[(Some([0, 2, 0, 3]), "é")], "😀é"),
            ("a\r\nb", &[(Some([0, 1, 1, 0]), "\n")], "a\nb"),
            ("abc", &[(Some([0, 2, 0, 1]), "")], "ac"),
            ("abc", &[(Some([7, 7, 9, 9]), "!")], "abc!"),
        ];
        for (start, changes, end) in cases {
            let documents = open(start);
            let list = changes.iter().map(|&(range, text)| change(range, text)).collect();
            assert!(documents.change(URI, 2, list, Encoding::Utf16));
            let snapshot = documents.snapshot(URI).expect("open");
            assert_eq!(snapshot.rope.to_string(), *end, "{start:?} {changes:?}");
            assert_eq!(snapshot.version, 2);
        }
    }

    #[test]
    fn closed_documents_are_gone() {
        let documents = open("x");
        assert!(documents.is_open(Path::new("/project/a.py")));
        assert_eq!(documents.close(URI), Some(PathBuf::from("/project/a.py")));
        assert!(documents.snapshot(URI).is_none());
        assert!(!documents.change(URI, 2, vec![], Encoding::Utf16));
    }

    #[test]
    fn a_tree_parsed_meanwhile_is_brought_up_to_date() {
        let documents = open("def f():\n    return 1\n");
        let before = documents.snapshot(URI).expect("open");
        documents.change(URI, 2, vec![change(Some([1, 11, 1, 12]), "22")], Encoding::Utf16);
        documents.adopt(URI, before.revision, before.parse().expect("python has a grammar"));
        let after = documents.snapshot(URI).expect("open");
        let stale = after.stale_tree.clone().expect("adopted");
        assert_eq!(stale.root_node().end_byte(), after.rope.len_bytes());
        let fresh = syntax::parse_rope(Language::Python, &after.rope, None).expect("parses");
        assert_eq!(after.parse().expect("parses").root_node().to_sexp(), fresh.root_node().to_sexp());
    }

    const PIECES: [&str; 12] =
        ["a", "é", "漢", "😀", "\n", "\r\n", "def f():\n    ", "x = 1\n", "(", "\"", "", "\n\n    return x"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Random edits in random encodings leave the rope equal to a plain string, and the incremental tree equal
        /// to a fresh parse.
        #[test]
        fn edits_equal_a_plain_string(
            edits in proptest::collection::vec((0usize..10_000, 0usize..40, 0usize..PIECES.len(), 0usize..3, any::<bool>()), 1..60)
        ) {
            let documents = open("");
            let mut plain = String::new();
            for (version, (at, length, piece, encoding, parse)) in edits.into_iter().enumerate() {
                let encoding = [Encoding::Utf8, Encoding::Utf16, Encoding::Utf32][encoding];
                let snapshot = documents.snapshot(URI).expect("open");
                let start = floor(&plain, at % (plain.len() + 1));
                let end = floor(&plain, (start + length).min(plain.len())).max(start);
                let range = position::to_place(&snapshot.rope, start, encoding)
                    ..position::to_place(&snapshot.rope, end, encoding);
                // An offset between \r and \n is read as the line's end, as editors do.
                let bytes = position::to_range(&snapshot.rope, range.clone(), encoding);
                plain.replace_range(bytes, PIECES[piece]);
                let list = vec![Change { range: Some(range), text: PIECES[piece].to_string() }];
                documents.change(URI, version as i32, list, encoding);
                let snapshot = documents.snapshot(URI).expect("open");
                prop_assert_eq!(snapshot.rope.to_string(), plain.as_str());
                if parse {
                    let tree = snapshot.parse().expect("python has a grammar");
                    prop_assert_eq!(tree.root_node().end_byte(), snapshot.rope.len_bytes());
                    documents.adopt(URI, snapshot.revision, tree);
                }
            }
        }
    }

    fn floor(text: &str, mut at: usize) -> usize {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}
