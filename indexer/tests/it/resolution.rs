//! Hand-checked cases of "what does this name mean here": the fixtures of every language in `resolution/`.
//!
//! A fixture is several files, `//- path` before each. A line that ends in `// => NAME: PATH:LINE` (or `# =>`, `-- =>`; several by `;`)
//! says that NAME, used on that line, is defined at that line of that file; `=> NAME: none`
//! says that nothing in the workspace is meant, `=> NAME.MEMBER: PATH:LINE` that NAME's members include that one.

use std::path::Path;

use crate::support::Fixture;
use lacuna_indexer::{Language, Located, Member, syntax};

/// A class that is known as a whole, and two that are not.
const BASES: &str = "\
//- base.py
class Base:
    def save(self): ...
class Odd(External): ...
class Dynamic:
    def __getattr__(self, name): ...
";

/// Types of a Go package, and another package.
const GO: &str = "\
//- go.mod
module example.com/app
//- engine.go
package app

type Engine struct {
\tGroup
\tone, routes *Route
}

type Route struct{}

func New(size int) (engine *Engine, err error) { return nil, nil }
func (engine *Engine) next() *Engine { return engine }

type Runner interface {
\tStopper
\tRun()
}

type Stopper interface{ Stop() }

type Locked struct{ sync.Mutex }

type Named Engine
//- run.go
package app

func (e *Engine) Run() {}
func (e Engine) close() {}
//- group.go
package app

type Group struct{ parent *Group }

func (g *Group) Use() {}
//- store/store.go
package store

const Limit, hidden = 1, 2

type Store struct{ hidden int }

func Open() *Store { return nil }
func (s *Store) Get() {}
//- .gitignore
made/ignored.go
//- made/made.go
package made

type Made struct { one int }
//- made/ignored.go
package made

func (m *Made) Two() {}
";

struct Tally {
    cases: usize,
    wrong: Vec<String>,
}

fn check_file(path: &Path, tally: &mut Tally) {
    let text = std::fs::read_to_string(path).unwrap();
    let fixture = Fixture::new(&text);
    let snapshot = fixture.workspace.snapshot();
    let root = fixture.workspace.roots()[0].clone();
    for part in text.split("//- ").skip(1) {
        let (file, body) = part.split_once('\n').unwrap();
        for (number, line) in body.lines().enumerate() {
            let marker = ["// => ", "# => ", "-- => "].iter().find_map(|marker| line.split_once(marker));
            let Some((_, expectations)) = marker else { continue };
            for expectation in expectations.split("; ") {
                let (name, expected) = expectation.trim().split_once(": ").unwrap();
                let found = snapshot.locate(&root.join(file.trim()), name);
                let found = match found {
                    Some(Located::Symbol(info)) => format!("{}:{}", info.path, info.line),
                    Some(Located::Module(path)) => format!("module {path}"),
                    None => "none".to_owned(),
                };
                tally.cases += 1;
                if found != expected.trim() {
                    let place =
                        format!("{} {}:{}", path.file_name().unwrap().to_string_lossy(), file, number + 1);
                    tally.wrong.push(format!("{place}: {name}: expected {expected}, found {found}"));
                }
            }
        }
    }
}

#[test]
fn names_resolve_to_their_definitions() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/resolution");
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut tally = Tally { cases: 0, wrong: Vec::new() };
    for path in &paths {
        check_file(path, &mut tally);
    }
    println!("{} of {} right", tally.cases - tally.wrong.len(), tally.cases);
    assert!(tally.cases >= 300, "{}", tally.cases);
    assert!(
        tally.wrong.is_empty(),
        "{} of {} wrong:\n{}",
        tally.wrong.len(),
        tally.cases,
        tally.wrong.join("\n")
    );
}

#[test]
fn members_are_missing_only_where_everything_is_known() {
    let files = r#"
//- main.py
from base import Base, Odd, Dynamic
class Stock(Base):
    name: str
class Twice(Stock): ...
//- shape.ts
export class Shape { constructor(readonly origin: string, private readonly scale: number) {} area(): number { return 1; } }
export class Square extends Shape { side = 1; }
export class Other extends Elsewhere { }
"#;
    let fixture = Fixture::new(&format!("{BASES}{files}"));
    let snapshot = fixture.workspace.snapshot();
    let root = fixture.workspace.roots()[0].clone();
    for (file, type_name, name, expected) in [
        ("main.py", "Stock", "name", "exists"),
        ("main.py", "Stock", "save", "exists"),
        ("main.py", "Twice", "save", "exists"),
        ("main.py", "Twice", "missing", "missing"),
        ("main.py", "Stock", "__class__", "unknown"),
        ("main.py", "Odd", "anything", "unknown"),
        ("main.py", "Dynamic", "anything", "unknown"),
        ("main.py", "Nowhere", "anything", "unknown"),
        ("shape.ts", "Square", "area", "exists"),
        ("shape.ts", "Square", "width", "missing"),
        ("shape.ts", "Shape", "origin", "exists"),
        ("shape.ts", "Shape", "scale", "exists"),
        ("shape.ts", "Square", "toString", "unknown"),
        ("shape.ts", "Other", "width", "unknown"),
        ("missing.py", "Stock", "name", "unknown"),
    ] {
        let found = match snapshot.member(&root.join(file), type_name, name) {
            Member::Exists(_) => "exists",
            Member::Missing => "missing",
            Member::Unknown => "unknown",
        };
        assert_eq!(found, expected, "{file}: {type_name}.{name}");
    }
}

#[test]
fn a_list_has_all_names_that_may_stand_at_the_cursor() {
    let files = r#"
//- stock.py
from base import Base, Odd, Dynamic
class Stock(Base):
    name: str
    def __init__(self): self.count = 0
class Late(Stock):
    def late(self): ...
//- shape.ts
export class Shape { constructor(readonly origin: string) {} area(): number { return 1; } }
"#;
    let files = files.to_owned() + GO;
    // What is typed in `main.py`, or in `main.ts` after an import of the shape, and some of the names; nothing where it is not sure.
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "py",
            "from stock import Stock\ndef f(a: Stock):\n    return a.$0\n",
            &["save", "name", "count", "late"],
        ),
        ("py", "from stock import Stock\ndef f():\n    a = Stock()\n    return a.na$0\n", &["name"]),
        (
            "py",
            "from stock import Stock\ndef f(a: Stock):\n    print(a.extra)\n    return a.$0\n",
            &["extra"],
        ),
        ("py", "class Own:\n    def one(self): return self.$0\n    def two(self): ...\n", &["one", "two"]),
        ("py", "from stock import Stock\ndef f(a: Stock):\n    a = g()\n    return a.$0\n", &[]),
        ("py", "from base import Odd\ndef f(a: Odd):\n    return a.$0\n", &[]),
        ("py", "from base import Dynamic\ndef f(a: Dynamic):\n    return a.$0\n", &[]),
        ("py", "def f(a):\n    return a.$0\n", &[]),
        ("py", "def f(a):\n    return $0\n", &[]),
        (
            "ts",
            "import { Shape } from './shape';\nfunction f(a: Shape) { return a.$0; }\n",
            &["origin", "area", "toString"],
        ),
        // Fields of the class around the cursor.
        (
            "py",
            "from stock import Stock\nclass Own:\n    def __init__(self, a: Stock | None):\n        self.a = a\n    def f(self): return self.a.$0\n",
            &["save", "count"],
        ),
        (
            "py",
            "from stock import Stock\nclass Own:\n    def __init__(self):\n        self.a = None\n        self.a = Stock()\n    def f(self): return self.a.$0\n",
            &["save"],
        ),
        (
            "py",
            "from stock import Stock\nclass Own:\n    def __init__(self):\n        self.a = Stock()\n        self.a = g()\n    def f(self): return self.a.$0\n",
            &[],
        ),
        (
            "py",
            "from stock import Stock\nclass Own:\n    a: Stock\n    def f(self): return self.a.$0\nOwn().a = 1\n",
            &[],
        ),
        (
            "py",
            "from stock import Stock\nclass Own:\n    a: list[Stock]\n    def f(self): return self.a.$0\n",
            &[],
        ),
        (
            "ts",
            "import { Shape } from './shape';\nclass Own { constructor(private readonly a: Shape) {} f() { return this.a.$0; } }\n",
            &["origin", "area"],
        ),
        (
            "ts",
            "import { Shape } from './shape';\nclass Own { a?: Shape | null; f() { this.a = null; return this.a.$0; } }\n",
            &["origin", "area"],
        ),
        (
            "ts",
            "import { Shape } from './shape';\nclass Own { a = new Shape(''); f() { return this.a.$0; } }\n",
            &["origin", "area"],
        ),
        (
            "ts",
            "import { Shape } from './shape';\nclass Own { a: Shape[] = []; f() { return this.a.$0; } }\n",
            &[],
        ),
        (
            "ts",
            "import { Shape } from './shape';\nclass Own { get a(): Shape { return x; } f() { return this.a.$0; } }\n",
            &[],
        ),
        (
            "ts",
            "import { Shape } from './shape';\nclass Own { constructor(a: Shape) {} f() { return this.a.$0; } }\n",
            &[],
        ),
        ("ts", "function f(a: string) { return a.$0; }\n", &[]),
        (
            "ts",
            "class Own { #hidden = 1; shown = 2; sum() { return this.$0; } }\n",
            &["#hidden", "shown", "bind"],
        ),
        (
            "go",
            "package app\n\nfunc f(a *Engine) {\n\ta.$0\n}\n",
            &["Run", "close", "Group", "Use", "routes"],
        ),
        ("go", "package app\n\nfunc f() {\n\ta, err := New(1)\n\tprint(a.$0, err)\n}\n", &["Run"]),
        ("go", "package app\n\nfunc f(a Engine) {\n\ta.Group.$0\n}\n", &["Use", "parent"]),
        ("go", "package app\n\nfunc f(a Engine) {\n\ta.next().$0\n}\n", &["Run"]),
        ("go", "package app\n\nfunc f(a Runner) {\n\ta.$0\n}\n", &["Run", "Stop"]),
        (
            "go",
            "package app\n\nimport \"example.com/app/store\"\n\nfunc f() {\n\tstore.$0\n}\n",
            &["Store", "Open", "Limit"],
        ),
        (
            "go",
            "package app\n\nimport \"example.com/app/store\"\n\nfunc f() {\n\ts := store.Open()\n\ts.$0\n}\n",
            &["Get"],
        ),
        // Another variable of that name in a block of its own, and one that hides it.
        ("go", "package app\n\nfunc f(a *Engine) {\n\tif a := g(); a {\n\t}\n\ta.$0\n}\n", &["Run"]),
        ("go", "package app\n\nfunc f(a *Engine) {\n\tif a := g(); a {\n\t\ta.$0\n\t}\n}\n", &[]),
        (
            "go",
            "package app\n\nfunc f(a any) {\n\tswitch a := a.(type) {\n\tcase *Engine:\n\t\ta.$0\n\t}\n}\n",
            &[],
        ),
        ("go", "package app\n\nfunc f(a []Engine) {\n\ta.$0\n}\n", &[]),
        ("go", "package app\n\nfunc f[Engine any](a Engine) {\n\ta.$0\n}\n", &[]),
        ("go", "package app\n\nfunc f() {\n\ttype Engine struct{}\n\tvar a Engine\n\ta.$0\n}\n", &[]),
        // A file of its package was left out, which may have more.
        ("go", "package app\n\nimport \"example.com/app/made\"\n\nfunc f(a *made.Made) {\n\ta.$0\n}\n", &[]),
        ("go", "package app\n\nimport \"example.com/app/made\"\n\nfunc f() {\n\tmade.$0\n}\n", &[]),
        // What it holds is not all known.
        ("go", "package app\n\nfunc f(a *Locked) {\n\ta.$0\n}\n", &[]),
        ("go", "package app\n\nfunc f(a *Named) {\n\ta.$0\n}\n", &[]),
    ];
    for (suffix, marked, expected) in cases {
        let fixture = Fixture::new(&format!("{BASES}{files}//- main.{suffix}\n{marked}"));
        let (path, offset) = fixture.cursor.as_ref().unwrap();
        let text = marked.replace("$0", "x");
        let tree = syntax::parse_str(Language::from_path(path).unwrap(), &text).unwrap();
        let found = fixture.workspace.snapshot().members_at(path, &text, &tree, *offset);
        assert_eq!(found.is_some(), !expected.is_empty(), "{marked:?}: {found:?}");
        let found = found.unwrap_or_default();
        for name in *expected {
            assert!(found.iter().any(|other| other == name), "{marked:?}: {name} is not in {found:?}");
        }
        // Not for other packages.
        assert!(!found.iter().any(|name| name == "hidden"), "{marked:?}: {found:?}");
        assert!(!found.iter().any(|name| name == "x"), "{marked:?}: the placeholder is in {found:?}");
    }
}

#[test]
fn accesses_in_go_are_missing_only_where_everything_is_known() {
    // The body of a function of an engine `a` and a store `s`, and the accesses that are known and that are missing.
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("a.Run()", &["Run"], &[]),
        ("a.Walk()", &["Walk"], &["Walk"]),
        ("a.Use(); a.Group.parent.Use()", &["Use", "Group", "parent", "Use"], &[]),
        ("a.routes.Walk()", &["routes", "Walk"], &["Walk"]),
        ("a.next().Walk()", &["next", "Walk"], &["Walk"]),
        ("s.Get(); s.Put()", &["Get", "Put"], &["Put"]),
        ("store.Open().Put()", &["Open", "Put"], &["Put"]),
        ("store.Shut()", &["Shut"], &["Shut"]),
        ("store.hidden()", &["hidden"], &["hidden"]),
        // Said elsewhere too, so it may be defined there.
        ("a.Walk(); a.Walk()", &[], &[]),
        ("unknown.Walk()", &[], &[]),
        ("made.New(); var m made.Made; m.Two()", &[], &[]),
        ("var a other.Engine; a.Walk()", &[], &[]),
        ("for _, a := range all { a.Walk() }", &[], &[]),
        ("func(a *Route) { a.Use() }(nil)", &["Use"], &["Use"]),
        ("(&Engine{}).Walk(); new(Engine).Fly()", &["Walk", "Fly"], &["Walk", "Fly"]),
        ("var b = a; b.Walk()", &["Walk"], &["Walk"]),
        ("b, c := a, s; b.Walk(); c.Put()", &["Walk", "Put"], &["Walk", "Put"]),
    ];
    for (body, known, missing) in cases {
        let text = format!(
            "package app\n\nimport (\n\t\"example.com/app/made\"\n\t\"example.com/app/store\"\n)\n\nfunc f(a *Engine, s store.Store) {{\n\t{body}\n}}\n"
        );
        let fixture = Fixture::new(&format!("{GO}//- main.go\n{text}"));
        let path = fixture.workspace.roots()[0].join("main.go");
        let tree = syntax::parse_str(Language::Go, &text).unwrap();
        let check = fixture.workspace.snapshot().check_members(&path, &text, &tree, 0..text.len());
        let found: Vec<&str> = check.known.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!(found, *known, "{body}");
        let found: Vec<&str> = check.missing.iter().map(|missing| &text[missing.range.clone()]).collect();
        assert_eq!(found, *missing, "{body}");
    }
}

/// Every module opens every other one, so there are as many ways to a name as orders of them.
#[test]
fn modules_that_open_each_other_are_searched_once() {
    let modules: Vec<String> = (0..40).map(|number| format!("part{number}")).collect();
    let mut files = "//- Cargo.toml\n[package]\nname = \"shop\"\n//- src/lib.rs\n".to_owned();
    for module in &modules {
        files += &format!("mod {module};\npub use {module}::*;\n");
    }
    for module in &modules {
        let others: String = modules.iter().map(|other| format!("pub use super::{other}::*;\n")).collect();
        files += &format!("//- src/{module}.rs\nuse super::*;\n{others}pub fn of_{module}() {{}}\n");
    }
    files += "//- src/main.rs\nuse shop::{of_part39, nowhere};\nuse shop::*;\n";
    let fixture = Fixture::new(&files);
    let snapshot = fixture.workspace.snapshot();
    let root = fixture.workspace.roots()[0].clone();
    let locate = |file: &str, name: &str| snapshot.locate(&root.join(file), name);
    for (file, name, expected) in [
        ("src/main.rs", "of_part39", Some("src/part39.rs")),
        ("src/main.rs", "nowhere", None),
        ("src/part0.rs", "of_part39", Some("src/part39.rs")),
        ("src/part0.rs", "nowhere", None),
    ] {
        let found = match locate(file, name) {
            Some(Located::Symbol(info)) => Some(info.path),
            _ => None,
        };
        assert_eq!(found.as_deref(), expected, "{name} in {file}");
    }
}
