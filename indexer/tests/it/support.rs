//! Fixtures: several files in one string, `//- path` before each, `$0` at the cursor.

use std::{path::PathBuf, sync::atomic::AtomicBool};

use lacuna_indexer::{ContextItem, Options, Query, Workspace};

pub struct Fixture {
    /// Removed with the fixture.
    _directory: tempfile::TempDir,
    pub workspace: Workspace,
    pub cursor: Option<(PathBuf, usize)>,
}

impl Fixture {
    /// Writes the files, opens the one with the cursor and scans the rest.
    pub fn new(fixture: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let mut cursor = None;
        let mut open = None;
        for part in fixture.split("//- ").skip(1) {
            let (path, text) = part.split_once('\n').unwrap();
            let path = root.join(path.trim());
            let mut text = text.to_owned();
            if let Some(offset) = text.find("$0") {
                text.replace_range(offset..offset + 2, "");
                cursor = Some((path.clone(), offset));
                open = Some((path.clone(), text.clone()));
            }
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let workspace = Workspace::new(vec![root], Options::default());
        workspace.scan(&mut |_| {}, &AtomicBool::new(false));
        if let Some((path, text)) = open {
            workspace.update(&path, Some(&text));
        }
        Self { _directory: directory, workspace, cursor }
    }

    /// With one unit of budget a byte, and everything of the open file visible.
    pub fn context(&self, budget: usize) -> Vec<ContextItem> {
        let (path, offset) = self.cursor.as_ref().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let query = Query {
            path,
            text: &text,
            offset: *offset,
            visible: 0..text.len(),
            budget,
            measure: &|text: &str| text.len(),
            recent: &[],
        };
        self.workspace.snapshot().context(&query)
    }
}

pub fn written(items: &[ContextItem]) -> String {
    let mut out = String::new();
    for item in items {
        out.push_str(&format!("--- {} ({})\n{}", item.path, item.reason, item.text));
    }
    out
}
