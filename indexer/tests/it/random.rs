//! Random edits, updates and queries: no panic, and the same state as an index built afresh. Files of the disk, which are
//! read by their outlines, and buffers, which are parsed whole.

use std::{path::Path, sync::atomic::AtomicBool};

use lacuna_indexer::{ContextItem, Language, Options, Query, Workspace, syntax};
use proptest::prelude::*;

const SEEDS: &[(&str, &str)] = &[
    (
        "a.py",
        "from b import Base, helper\nimport c.d as e\n\nclass Stock(Base):\n    \"\"\"Doc.\"\"\"\n    def reserve(self, n: int) -> int:\n        self.x = helper(n)\n        return e.f(self.x)\n",
    ),
    ("b.py", "from a import *\nfrom .b import helper as again\nclass Base: ...\ndef helper(x): return x\n"),
    (
        "src/lib.rs",
        "mod stock;\nuse crate::stock::{Stock, self};\npub fn f(s: &Stock) -> u32 { s.reserve(1) }\n",
    ),
    (
        "src/stock.rs",
        "/// Doc.\npub struct Stock { pub a: u32 }\nimpl Stock { pub fn reserve(&self, n: u32) -> u32 { n } }\n",
    ),
    (
        "src/shelf.rs",
        "use crate::stock::{self, Stock as Held};\npub enum Kind { New, Old(Held, u8), Kept { at: Shelf } }\npub struct Shelf(pub Held, Vec<Shelf>);\nimpl<T: Into<Held>> From<T> for Shelf { fn from(_: T) -> Self { todo!() } }\nimpl Shelf {\n  fn find(&self, k: Kind) -> Option<&Shelf> {\n    let a = self.0.reserve(1); let Shelf(b, ..) = self;\n    for (i, c) in self.1.iter().enumerate() { c.find(k)?.0.a; }\n    if let Kind::Kept { at: d } = k && d.1[0].0.a > 1 { return Some(&d.1[0]) }\n    match self.1.first() { Some(e) if e.0.a == 0 => e.find(Kind::New), _ => None }\n  }\n}\ntype Other = Self2; type Self2 = Other;\nmake! { struct Made { a: u8 } }\n",
    ),
    (
        "m.ts",
        "import { N } from './n';\nexport class M extends N { go(x: string): N { return new N(x); } }\n",
    ),
    ("n.ts", "export * from './m';\nexport default class N { constructor(public x: string) {} }\n"),
    ("A.java", "package p.q;\nimport p.r.*;\npublic class A extends B { int f(int x) { return g(x); } }\n"),
    ("h.h", "#ifndef H\n#include \"h.h\"\ntypedef struct { int a; } h_t;\nint f(h_t *h);\n#endif\n"),
    (
        "m.cpp",
        "#include \"h.h\"\nnamespace n { class C : public D { int f(); }; }\nint n::C::f() { h_t h; return ::f(&h); }\n",
    ),
    (
        "m.go",
        "package m\nimport x \"example.com/m\"\ntype T struct { A, B int }\nfunc (t *T) F(a int) (int, error) { return x.G(a) }\n",
    ),
    (
        "n.go",
        "package m\ntype U[K any] struct { *T; next, last *U[K] }\nfunc g(u *U[int], t ...T) (a, b *T) {\n\tv, err := u.next.F(1)\n\tu.last.T.F(v); a.A = 2\n\treturn a, err\n}\n",
    ),
    (
        "Stock.java",
        "package p;\nimport java.io.*;\npublic class Stock<K extends Shelf> extends Shelf implements Serializable, Comparable<Stock<K>> {\n  @Deprecated private final Shelf shelf = new Shelf(), other;\n  enum Kind { NEW, OLD { void f() {} }; Shelf at; }\n  record Point(int x, Shelf... y) {}\n  <T> Shelf find(int a, Kind... b) throws IOException {\n    var c = this.shelf.self(); Shelf[] d = null;\n    for (Shelf e : d) e.self().count();\n    try (Shelf f = c) { g(h -> h.self(), f.name); } catch (Failure | Error i) { i.getMessage(); }\n    return new Shelf() { Shelf self() { return Stock.this.shelf; } }.self();\n  }\n}\n",
    ),
    (
        "Shelf.java",
        "package p;\nclass Shelf extends Stock.Base { String name; Shelf self() { return (Shelf) this; } Stock<Shelf> stock; static int count() { return Kind.NEW.ordinal(); } }\n",
    ),
    (
        "C.cs",
        "using A.B;\nnamespace A.B { class C : D { public int X { get; set; } void F() { X = 1; } } }\n",
    ),
    (
        "s.rb",
        "require_relative \"t\"\nmodule M\n  class S < T\n    attr_reader :a\n    def f(x) = x\n    private def g; end\n  end\nend\n",
    ),
    (
        "s.php",
        "<?php\nnamespace A\\B;\nuse A\\{C, D as E};\nclass S extends C { use E; public function __construct(private int $x) { $this->y = 1; } }\n",
    ),
    (
        "s.kt",
        "package p.q\nimport p.r.*\nclass K(val a: Int) : L() {\n    companion object {\n        fun f() = 1\n    }\n}\n",
    ),
    (
        "s.swift",
        "import M\nstruct S: T { var x, y: Int\n func f(_ a: Int) -> S { S() } }\nextension S { func g() {} }\n",
    ),
    (
        "s.scala",
        "package p.q\nimport p.r.{A, B => C, _}\ncase class S(a: Int) extends A with C[Int] { def f = 1 }\nobject S\n",
    ),
    ("s.lua", "local T = require(\"t\")\nlocal S = { a = 1 }\nfunction S:f(x) return T.g(x) end\nreturn S\n"),
    ("s.sh", "source \"${DIR}/t.sh\"\nf() {\n  local x=1\n}\nexport A=\"b\"\n"),
];

const FRAGMENTS: &[&str] = &[
    "",
    "(",
    ")",
    "{",
    "}",
    "\"",
    "'''",
    "\n",
    "    ",
    "class X:",
    "def f(",
    "import ",
    "from . import *\n",
    "use self::super::*;",
    "é",
    "🙂",
    "\0",
    "\r\n",
    "/*",
    "//",
    "#",
    "`${",
    "<",
    ">",
    "::",
    "..",
    "->",
    "=",
    "struct S {",
    "@",
    "#include \"",
    "\t",
    "end\n",
    "do\n",
    "${",
    "local ",
    "use A\\{",
];

/// Real files with bodies that outlines leave out, from this repository.
const FILES: &[&str] = &[
    "indexer/src/resolve.rs",
    "indexer/src/outline/braces.rs",
    "indexer/src/context/candidates.rs",
    "evals/bench/index_jedi.py",
    "evals/bench/peer.py",
    "editors/vscode/src/server.ts",
    "editors/vscode/scripts/settings.mjs",
    "inference/kernels/attention.cu",
    "inference/kernels/tiles.cuh",
];

/// What an editor would not let in: bytes that are no text, ends of what hides, a file cut off.
const DAMAGES: &[&[u8]] = &[
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xc3",
    b"\xf0\x9f",
    b"\r",
    b"\"\"\"",
    b"'",
    b"`",
    b"/*",
    b"*/",
    b"#if 0\n",
    b"r#\"",
    b"\\\n",
    b"{",
    b"}",
    b"{{{{{{{{",
    b"((((((((",
    b")",
    b"\xe2\x80\xa8",
];

/// What a scan makes of the damaged files and of the same ones as buffers: every query answers within its budget.
fn scan_and_ask(damages: &[(usize, f64, usize, usize)], place: f64) -> Result<(), TestCaseError> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files: Vec<(String, Vec<u8>)> =
        SEEDS.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    for file in FILES {
        let name = Path::new(file)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replace(".cuh", ".h")
            .replace(".cu", ".cpp");
        files.push((name, std::fs::read(repository.join(file)).unwrap()));
    }
    for (file, at, removed, damage) in damages {
        let bytes = &mut files[*file].1;
        let start = (bytes.len() as f64 * at) as usize;
        let end = (start + removed).min(bytes.len());
        bytes.splice(start..end, DAMAGES[*damage].iter().copied());
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("tree");
    std::fs::create_dir_all(root.join("src")).unwrap();
    let root = root.canonicalize().unwrap();
    for (name, bytes) in &files {
        std::fs::write(root.join(name), bytes).unwrap();
    }
    let options = Options { cache_directory: Some(directory.path().join("cache")), ..Options::default() };
    let first = Workspace::new(vec![root.clone()], options.clone());
    let report = first.scan(&mut |_| {}, &AtomicBool::new(false));
    // A defect in reading a file costs that file only, so that it would not show otherwise.
    let failed = report.skipped.iter().find(|skipped| skipped.reason.contains("failed"));
    prop_assert!(failed.is_none(), "{failed:?}");
    for (name, bytes) in &files {
        let text = String::from_utf8_lossy(bytes);
        let mut offset = (text.len() as f64 * place) as usize;
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let path = root.join(name);
        let query = Query {
            path: &path,
            text: &text,
            offset,
            visible: offset..offset,
            budget: 1500,
            measure: &str::len,
            recent: &[],
        };
        let cost = |items: &[ContextItem]| items.iter().map(|item| item.cost).sum::<usize>();
        prop_assert!(cost(&first.snapshot().context(&query)) <= 1500);
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 3).take(8) {
            first.snapshot().locate(&path, word);
            first.snapshot().member(&path, word, "reserve");
        }
    }
    // What was kept says the same as what was read, and buffers take the place of files and give it back.
    let second = Workspace::new(vec![root.clone()], options);
    second.scan(&mut |_| {}, &AtomicBool::new(false));
    prop_assert_eq!(second.snapshot().symbol_count(), first.snapshot().symbol_count());
    for (name, bytes) in &files {
        second.update(&root.join(name), Some(&String::from_utf8_lossy(bytes)));
    }
    for (name, _) in &files {
        second.update(&root.join(name), None);
    }
    prop_assert_eq!(second.snapshot().symbol_count(), first.snapshot().symbol_count());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_of_the_disk_are_scanned_and_asked(
        damages in proptest::collection::vec((0usize..SEEDS.len() + FILES.len(), 0.0f64..1.0, 0usize..400, 0usize..DAMAGES.len()), 1..24),
        place in 0.0f64..1.0,
    ) {
        scan_and_ask(&damages, place)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn edits_never_panic(edits in proptest::collection::vec((0usize..SEEDS.len(), 0.0f64..1.0, 0usize..24, 0usize..FRAGMENTS.len()), 1..24)) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let workspace = Workspace::new(vec![root.clone()], Options::default());
        let mut texts: Vec<String> = SEEDS.iter().map(|(_, text)| (*text).to_owned()).collect();
        for ((name, _), text) in SEEDS.iter().zip(&texts) {
            workspace.update(&root.join(name), Some(text));
        }
        let mut last: Vec<ContextItem> = Vec::new();
        for (file, at, deleted, fragment) in edits {
            let text = &mut texts[file];
            let boundary = |mut offset: usize| { while !text.is_char_boundary(offset) { offset -= 1; } offset };
            let start = boundary((text.len() as f64 * at) as usize);
            let end = boundary((start + deleted).min(text.len())).max(start);
            text.replace_range(start..end, FRAGMENTS[fragment]);
            let path = root.join(SEEDS[file].0);
            workspace.update(&path, Some(text));
            let offset = start + FRAGMENTS[fragment].len();
            let query = Query { path: &path, text, offset, visible: 0..text.len(), budget: 500, measure: &|text: &str| text.len(), recent: &[] };
            last = workspace.snapshot().context(&query);
            prop_assert!(last.iter().map(|item| item.cost).sum::<usize>() <= 500);
            prop_assert_eq!(&last, &workspace.snapshot().context(&query));
            let tree = Language::from_path(&path).and_then(|language| syntax::parse_str(language, text));
            if let Some(tree) = tree {
                let check = workspace.snapshot().check_members(&path, text, &tree, 0..text.len());
                for range in &check.known {
                    prop_assert!(text.get(range.clone()).is_some_and(|name| !name.is_empty()));
                    workspace.snapshot().members_at(&path, text, &tree, range.start);
                }
                workspace.snapshot().members_at(&path, text, &tree, offset);
            }
        }
        // An index built from the final texts in one go knows the same.
        let fresh = Workspace::new(vec![root.clone()], Options::default());
        for ((name, _), text) in SEEDS.iter().zip(&texts) {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), text).unwrap();
            fresh.update(&root.join(name), Some(text));
        }
        fresh.scan(&mut |_| {}, &AtomicBool::new(false));
        prop_assert_eq!(fresh.snapshot().symbol_count(), workspace.snapshot().symbol_count());
        let _ = last;
    }

    #[test]
    fn any_text_parses_or_is_refused(text in "\\PC{0,200}", language in 0usize..Language::ALL.len()) {
        let language = Language::ALL[language];
        let tree = syntax::parse_str(language, &text);
        prop_assert!(tree.is_some_and(|tree| tree.root_node().end_byte() <= text.len()));
    }
}
