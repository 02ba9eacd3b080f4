//! The index under change: updates, removals, roots, rules, secrets, broken and hostile files.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::support::{Fixture, written};
use lacuna_indexer::{Options, Query, Workspace};

fn scan(workspace: &Workspace) -> lacuna_indexer::ScanReport {
    workspace.scan(&mut |_| {}, &AtomicBool::new(false))
}

fn context(workspace: &Workspace, path: &Path, text: &str) -> String {
    let query = Query {
        path,
        text,
        offset: text.len(),
        visible: 0..text.len(),
        budget: 4000,
        measure: &|text: &str| text.len(),
        recent: &[],
    };
    written(&workspace.snapshot().context(&query))
}

#[test]
fn secrets_and_ignored_files_are_never_read() {
    let fixture = Fixture::new(
        r#"
//- .gitignore
generated/
ignored.py
//- .lacunaignore
private.py
//- .env
API_KEY = "SENTINEL"
//- .env.py
API_KEY = "SENTINEL"
//- secrets.py
API_KEY = "SENTINEL"
//- id_rsa.py
API_KEY = "SENTINEL"
//- .ssh/config.py
API_KEY = "SENTINEL"
//- server.pem
SENTINEL
//- generated/out.py
API_KEY = "SENTINEL"
//- ignored.py
API_KEY = "SENTINEL"
//- private.py
API_KEY = "SENTINEL"
//- node_modules/dep/index.py
API_KEY = "SENTINEL"
//- main.py
from secrets import API_KEY
from ignored import API_KEY as a
from private import API_KEY as b
from generated.out import API_KEY as c
print(API_KEY, a, b, c)$0
"#,
    );
    let root = fixture.workspace.roots()[0].clone();
    assert_eq!(fixture.workspace.snapshot().file_count(), 1);
    for path in [
        ".env",
        ".env.py",
        "secrets.py",
        "id_rsa.py",
        ".ssh/config.py",
        "server.pem",
        "generated/out.py",
        "ignored.py",
        "private.py",
    ] {
        let path = root.join(path);
        assert!(fixture.workspace.is_excluded(&path), "{}", path.display());
        // Neither an open buffer nor a change on disk brings it in.
        fixture.workspace.update(&path, Some("API_KEY = 'SENTINEL'\n"));
        fixture.workspace.update(&path, None);
    }
    assert!(fixture.workspace.is_excluded(Path::new("/elsewhere/main.py")));
    assert!(!fixture.workspace.is_excluded(&root.join("main.py")));
    assert_eq!(fixture.workspace.snapshot().file_count(), 1);
    assert_eq!(written(&fixture.context(4000)), "");
}

#[test]
fn a_file_that_becomes_ignored_is_forgotten() {
    let fixture = Fixture::new("//- a.py\nclass Stock: ...\n//- main.py\nfrom a import Stock\n$0\n");
    assert!(written(&fixture.context(4000)).contains("class Stock"));
    let root = fixture.workspace.roots()[0].clone();
    std::fs::write(root.join(".lacunaignore"), "a.py\n").unwrap();
    fixture.workspace.update(&root.join(".lacunaignore"), None);
    assert!(fixture.workspace.is_excluded(&root.join("a.py")));
    scan(&fixture.workspace);
    assert_eq!(written(&fixture.context(4000)), "");
}

#[test]
fn buffers_replace_files_and_closing_them_brings_the_disk_back() {
    let fixture =
        Fixture::new("//- a.py\ndef old(x): ...\n//- main.py\nfrom a import old, new\nold(new())\n$0\n");
    let path = fixture.workspace.roots()[0].join("a.py");
    assert!(written(&fixture.context(4000)).contains("def old(x)"));
    fixture.workspace.update(&path, Some("def new(y): ...\n"));
    let shown = written(&fixture.context(4000));
    assert!(shown.contains("def new(y)") && !shown.contains("def old"), "{shown}");
    scan(&fixture.workspace);
    assert_eq!(written(&fixture.context(4000)), shown, "a scan leaves open buffers alone");
    fixture.workspace.update(&path, None);
    assert!(written(&fixture.context(4000)).contains("def old(x)"));
    fixture.workspace.remove(&path);
    assert_eq!(written(&fixture.context(4000)), "");
    assert_eq!(fixture.workspace.snapshot().file_count(), 1);
}

#[test]
fn new_files_count_at_once() {
    let fixture =
        Fixture::new("//- pkg/a.py\nclass Stock:\n    def reserve(self): ...\n//- main.py\nx = 1\n");
    let root = fixture.workspace.roots()[0].clone();
    let workspace = fixture.workspace;
    let main = root.join("main.py");
    std::fs::write(root.join("pkg/b.py"), "class Late: ...\n").unwrap();
    workspace.update(&root.join("pkg/b.py"), None);
    let text = "from pkg.a import Stock\nfrom pkg.b import Late\n";
    workspace.update(&main, Some(text));
    let shown = context(&workspace, &main, text);
    assert!(shown.contains("def reserve(self)") && shown.contains("class Late"), "{shown}");
}

#[test]
fn roots_come_and_go() {
    let first = Fixture::new("//- a/m.py\ndef first(): ...\n");
    let second = Fixture::new("//- b/n.py\ndef second(): ...\n");
    let (one, two) = (first.workspace.roots()[0].clone(), second.workspace.roots()[0].clone());
    let workspace = Workspace::new(vec![one.clone()], Options::default());
    assert_eq!(scan(&workspace).files, 1);
    workspace.add_root(two.clone());
    workspace.add_root(two.clone());
    let report = scan(&workspace);
    assert_eq!((report.files, report.symbols), (2, 2));
    assert!(!workspace.is_excluded(&two.join("b/n.py")));
    workspace.remove_root(&one);
    assert_eq!(workspace.roots(), [two]);
    assert_eq!((workspace.snapshot().file_count(), workspace.snapshot().symbol_count()), (1, 1));
    assert!(workspace.is_excluded(&one.join("a/m.py")));
}

#[test]
fn hostile_files_are_skipped_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes).unwrap();
    write("nul.py", b"class A:\0\0\n");
    write("latin.py", b"# caf\xe9\nclass Latin:\n    x = 1\n");
    write("large.py", &b"x = 1\n".repeat(200_000));
    write("minified.js", "var a=1;".repeat(10_000).as_bytes());
    write("deep.py", format!("x = {}1{}\nclass Deep: ...\n", "[".repeat(3000), "]".repeat(3000)).as_bytes());
    write("empty.py", b"");
    write("bom.py", b"\xef\xbb\xbfclass Bom: ...\n");
    std::fs::create_dir(root.join("sub")).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&root, root.join("sub/loop")).unwrap();
        std::os::unix::fs::symlink("/nonexistent", root.join("dangling.py")).unwrap();
    }
    let mut nested = String::new();
    for depth in 0..100 {
        nested.push_str(&format!("{}class C{depth}:\n", " ".repeat(depth)));
    }
    write("nested.py", nested.as_bytes());
    let workspace = Workspace::new(vec![root.clone(), root.join("missing")], Options::default());
    let mut calls = 0;
    let report = workspace.scan(&mut |_| calls += 1, &AtomicBool::new(false));
    let mut skipped: Vec<String> = report
        .skipped
        .iter()
        .map(|skipped| format!("{}: {}", skipped.path.file_name().unwrap().to_string_lossy(), skipped.reason))
        .collect();
    skipped.sort();
    expect_test::expect![[r#"
        large.py: 1200000 bytes, more than 1048576
        minified.js: minified or generated: very long lines
        missing: directory not read: No such file or directory (os error 2)
        nul.py: binary: contains NUL bytes"#]]
    .assert_eq(&skipped.join("\n"));
    assert!(calls > 0);
    let text = "from latin import Latin\nfrom bom import Bom\n";
    let shown = context(&workspace, &root.join("main.py"), text);
    assert!(shown.contains("class Latin") && shown.contains("class Bom"), "{shown}");
}

#[test]
fn a_directory_removed_during_use_leaves_the_index_usable() {
    let fixture = Fixture::new("//- pkg/a.py\ndef f(): ...\n//- main.py\nfrom pkg.a import f\nf()\n$0\n");
    let root = fixture.workspace.roots()[0].clone();
    std::fs::remove_dir_all(root.join("pkg")).unwrap();
    fixture.workspace.update(&root.join("pkg/a.py"), None);
    assert_eq!(fixture.workspace.snapshot().file_count(), 1);
    scan(&fixture.workspace);
    assert_eq!(written(&fixture.context(4000)), "");
    std::fs::remove_dir_all(&root).unwrap();
    let report = scan(&fixture.workspace);
    assert_eq!(report.skipped.len(), 1, "{:?}", report.skipped);
}

#[test]
fn a_cancelled_scan_stops() {
    let fixture = Fixture::new("//- a.py\ndef f(): ...\n");
    let workspace = Workspace::new(fixture.workspace.roots(), Options::default());
    let cancel = AtomicBool::new(false);
    cancel.store(true, Ordering::Relaxed);
    assert_eq!(workspace.scan(&mut |_| {}, &cancel).symbols, 0);
}

#[test]
fn broken_code_yields_what_can_be_read() {
    for (path, text) in [
        (
            "a.py",
            "class Stock(:\n    def reserve(self, n):\n        x = (1,\n\nclass Other:\n    def f(self): ...",
        ),
        ("a.ts", "export class Stock { reserve(n: number) { this. } }\nexport class Other { f( { } }"),
        ("a.rs", "pub struct Stock { a: u32, \npub fn reserve() {} \n pub struct Other;"),
        ("a.go", "package a\nfunc Reserve(a int) { x := }\n\ntype Stock struct { A int }\n"),
    ] {
        let fixture = Fixture::new(&format!("//- {path}\n{text}\n"));
        assert!(fixture.workspace.snapshot().symbol_count() >= 2, "{path}");
    }
}

#[test]
fn the_same_question_has_the_same_answer_and_keeps_its_budget() {
    let fixture = Fixture::new(
        r#"
//- a.py
class Stock:
    def reserve(self, amount: int) -> int: ...
    def release(self, amount: int) -> int: ...
    def count(self) -> int: ...
    def name(self) -> str: ...
    def price(self) -> float: ...
    def owner(self) -> str: ...
    def created(self) -> str: ...
def helper(x): ...
//- main.py
from a import Stock, helper
def f(stock: Stock):
    helper(stock.$0)
"#,
    );
    for budget in [0, 1, 10, 40, 100, 200, 400, 4000] {
        let items = fixture.context(budget);
        assert!(items.iter().map(|item| item.cost).sum::<usize>() <= budget, "{budget}");
        assert!(items.iter().map(|item| item.text.len()).sum::<usize>() <= budget, "{budget}");
        assert_eq!(items, fixture.context(budget));
    }
    assert_eq!(fixture.context(0), []);
}

#[test]
fn what_did_not_change_is_not_read_again_after_a_restart() {
    let fixture = Fixture::new("//- pkg/a.py\ndef f(): ...\n//- b.py\ndef g(): ...\n//- main.py\nx = 1\n");
    let root = fixture.workspace.roots()[0].clone();
    let cache = tempfile::tempdir().unwrap();
    let cache_directory = Some(cache.path().join("lacuna"));
    let start = || {
        let options = Options { cache_directory: cache_directory.clone(), ..Options::default() };
        let workspace = Workspace::new(vec![root.clone()], options);
        let report = scan(&workspace);
        let names = ["f", "g", "h"].map(|name| workspace.snapshot().definitions(name).len());
        (report.from_cache, report.symbols, names)
    };
    assert_eq!(start(), (0, 3, [1, 1, 0]));
    assert_eq!(start(), (3, 3, [1, 1, 0]));
    std::fs::write(root.join("b.py"), "def g(): ...\ndef h(): ...\n").unwrap();
    assert_eq!(start(), (2, 4, [1, 1, 1]));
    std::fs::remove_file(root.join("pkg/a.py")).unwrap();
    assert_eq!(start(), (2, 3, [0, 1, 1]));
    let file = std::fs::read_dir(cache.path().join("lacuna")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, "damaged").unwrap();
    assert_eq!(start(), (0, 3, [0, 1, 1]), "a damaged cache is built again");
    assert_eq!(start(), (2, 3, [0, 1, 1]));
    // A directory that cannot be written: everything works, nothing is kept.
    std::fs::write(cache.path().join("file"), "").unwrap();
    let options = Options { cache_directory: Some(cache.path().join("file/below")), ..Options::default() };
    let workspace = Workspace::new(vec![root.clone()], options);
    let report = scan(&workspace);
    assert_eq!(report.symbols, 3);
    // One line says where and why.
    let reason = report.not_kept.unwrap_or_default();
    assert!(reason.contains("file/below: ") && reason.lines().count() == 1, "{reason}");
}
