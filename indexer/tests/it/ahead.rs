//! What is known before a scan has parsed anything: the scan is held back behind its pass over names.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use lacuna_indexer::{Options, Query, Workspace};

use crate::support::written;

/// Files of a fixture on disk, and a workspace of them that was never read.
fn unread(fixture: &str) -> (tempfile::TempDir, PathBuf, Workspace) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    for part in fixture.split("//- ").skip(1) {
        let (path, text) = part.split_once('\n').unwrap();
        let path = root.join(path.trim());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let workspace = Workspace::new(vec![root.clone()], Options::default());
    (directory, root, workspace)
}

/// Asks when the names are known and no file is parsed.
fn while_held_back<T>(workspace: &Workspace, ask: impl FnOnce(&Workspace) -> T) -> T {
    workspace.scan_names(&AtomicBool::new(false));
    assert_eq!(workspace.snapshot().symbol_count(), 0, "nothing is parsed yet");
    ask(workspace)
}

const WORKSPACE: &str = r#"
//- stock/__init__.py
from .models import Stock
from .helpers import *
//- stock/models.py
from .base import Base
class Stock(Base):
    """Goods on a shelf."""
    def reserve(self, count: int) -> bool: ...
//- stock/base.py
class Base:
    def save(self): ...
//- stock/helpers.py
def restock(item, count=1): ...
//- other/far.py
def far_away(distance): ...
//- other/unrelated.py
def unrelated(): ...
//- go/a.go
package a
func helper(x int) int { return x }
//- java/p/Stock.java
package p;
public class Shelf { public int level() { return 1; } }
//- java/q/Main.java
package q;
import p.Shelf;
class Main { void f(Shelf shelf) { shelf.level(); } }
"#;

#[test]
fn an_opened_file_has_what_it_imports_while_the_scan_is_held_back() {
    let check = |path: &str, text: &str, shown: &[&str], hidden: &[&str]| {
        let (_directory, root, workspace) = unread(WORKSPACE);
        let path = root.join(path);
        let offset = text.find("$0").unwrap();
        let text = &*text.replace("$0", "");
        let context = while_held_back(&workspace, |workspace| {
            workspace.update(&path, Some(text));
            let query = Query {
                path: &path,
                text,
                offset,
                visible: 0..text.len(),
                budget: 4000,
                measure: &|text: &str| text.len(),
                recent: &[],
            };
            written(&workspace.snapshot().context(&query))
        });
        for expected in shown {
            assert!(context.contains(expected), "{path:?} lacks {expected}:\n{context}");
        }
        for unexpected in hidden {
            assert!(!context.contains(unexpected), "{path:?} has {unexpected}:\n{context}");
        }
    };
    // Through what a package passes on, by name and by star.
    check(
        "main.py",
        "from stock import Stock, restock\nrestock(Stock())\n$0",
        &["class Stock(Base)", "def reserve(self, count: int)", "def restock(item, count=1)"],
        &["unrelated"],
    );
    check("main.py", "from stock.models import Stock\nStock.reserve\n$0", &["def reserve"], &["restock"]);
    // Not imported: the one file that seems to define the name.
    check("main.py", "far_away(1, $0)\n", &["def far_away(distance)"], &["unrelated"]);
    // The same package, without an import.
    check("go/main.go", "package a\nfunc main() {\n\thelper(1)$0\n}\n", &["func helper(x int) int"], &[]);
    // A package, of which only the declared names tell which files it has.
    check(
        "java/q/Main.java",
        "package q;\nimport p.Shelf;\nclass Main { void f(Shelf shelf) { shelf.level();$0 } }\n",
        &["class Shelf", "int level()"],
        &[],
    );
}

#[test]
fn every_name_is_found_while_the_scan_is_held_back() {
    let (_directory, _root, workspace) = unread(WORKSPACE);
    while_held_back(&workspace, |workspace| {
        assert!(workspace.knows_names());
        for (name, path) in [
            ("Stock", "stock/models.py"),
            ("reserve", "stock/models.py"),
            ("save", "stock/base.py"),
            ("restock", "stock/helpers.py"),
            ("far_away", "other/far.py"),
            ("helper", "go/a.go"),
            ("level", "java/p/Stock.java"),
        ] {
            let found: Vec<String> = workspace.definitions(name).into_iter().map(|info| info.path).collect();
            assert_eq!(found, [path], "{name}");
        }
        assert!(workspace.definitions("nowhere").is_empty());
    });
}

#[test]
fn a_scan_after_reading_ahead_knows_the_same_as_one_without() {
    let (_directory, root, ahead) = unread(WORKSPACE);
    while_held_back(&ahead, |workspace| workspace.definitions("Stock"));
    let report = ahead.scan(&mut |_| {}, &AtomicBool::new(false));
    let plain = Workspace::new(vec![root], Options::default());
    let expected = plain.scan(&mut |_| {}, &AtomicBool::new(false));
    assert_eq!(
        (report.files, report.symbols, report.lines),
        (expected.files, expected.symbols, expected.lines)
    );
    assert!(!ahead.knows_names(), "what was known of unread files is forgotten");
    for name in ["Stock", "save", "level"] {
        assert_eq!(ahead.snapshot().definitions(name), plain.snapshot().definitions(name), "{name}");
    }
    // A scan that is cancelled leaves no table of names behind.
    let cancelled = AtomicBool::new(true);
    plain.scan(&mut |_| {}, &cancelled);
    assert!(cancelled.load(Ordering::Relaxed) && !plain.knows_names());
}
