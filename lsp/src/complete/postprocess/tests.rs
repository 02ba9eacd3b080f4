//! Tables of cases over the steps and over all of them together.

use Language::*;
use lacuna_indexer::Language;

use super::*;
use crate::{
    complete::{Trigger, shape},
    config::MultiLine,
    syntax,
};

/// `marked` has `$0` at the cursor; `raw` is what the model wrote; `expected` is what is shown.
#[track_caller]
fn check(language: Language, marked: &str, raw: &str, expected: &str) {
    check_with(language, marked, raw, expected, MultiLine::Auto, false);
}

#[track_caller]
fn check_with(
    language: Language,
    marked: &str,
    raw: &str,
    expected: &str,
    multi_line: MultiLine,
    broken_off: bool,
) {
    let offset = marked.find("$0").expect("a cursor");
    let text = marked.replacen("$0", "", 1);
    let tree = syntax::parse_text(language, &text, None);
    let (prefix, suffix) = text.split_at(offset);
    let shape =
        shape::decide(prefix, suffix, Some(language), tree.as_ref(), Trigger::Automatic, multi_line).shape;
    let around = Around {
        text: &text,
        offset,
        language: Some(language),
        tree: tree.as_ref(),
        shape,
        max_characters: 400,
        broken_off,
        known: None,
    };
    let (shown, steps) = postprocess(raw, &around);
    assert_eq!(shown, expected, "\n{marked}\n  raw {raw:?}, {shape:?}\n  {steps:?}");
}

#[test]
fn one_line_ends_with_its_line() {
    check(Python, "x = $0\n", "1\ny = 2\n", "1");
    check(Python, "x = $0\n", "\ny = 2\n", "");
    check(Python, "import $0\n", "os\nimport sys", "os");
    check(Rust, "fn f() {\n    let x = $0\n}\n", "1;\n    let y = 2;", "1;");
    check(Java, "class A {\n    int x = $0\n}\n", "1;\n}\n", "1;");
    check(Go, "package a\n\nfunc f() {\n\tx := $0\n}\n", "1\n\ty := 2\n", "1");
    check(TypeScript, "const x = $0\n", "1;\nconst y = 2;\n", "1;");
}

#[test]
fn several_lines_end_at_the_dedent() {
    check(
        Python,
        "def f(a):\n    $0\n\n\ndef g():\n    pass\n",
        "b = a\n    return b\n\n\ndef h():\n    pass\n",
        "b = a\n    return b",
    );
    check(Python, "def f(a):$0\n", "\n    return a\n\nprint(f(1))\n", "\n    return a");
    check(
        Python,
        "class A:\n    def f(self):\n        $0\n",
        "return 1\n\n    def g(self):\n        return 2\n",
        "return 1",
    );
    check(
        Python,
        "def f(a):\n    $0\n",
        "return g(\n        a,\n    )\n\nx = 1\n",
        "return g(\n        a,\n    )",
    );
    check(Python, "def f(a):\n    $0\n", "# why\n    return a\nf(1)\n", "# why\n    return a");
    check(
        Rust,
        "fn f() -> u32 {\n    $0\n}\n\nfn g() {}\n",
        "let a = 1;\n    a\n}\n\nfn h() {\n",
        "let a = 1;\n    a",
    );
    check(Rust, "fn f() -> u32 {$0\n", "\n    1\n}\n\nfn h() {\n}\n", "\n    1\n}");
    check(
        Rust,
        "impl A {\n    fn f(&self) -> u32 {\n        $0\n    }\n}\n",
        "self.a\n    }\n\n    fn g(&self) {}\n",
        "self.a",
    );
    check(
        TypeScript,
        "function f(a: number) {\n  $0\n}\n",
        "if (a) {\n    return 1;\n  }\n  return 2;\n}\n\nfunction g() {}\n",
        "if (a) {\n    return 1;\n  }\n  return 2;",
    );
    check(
        Go,
        "package a\n\nfunc f() int {\n\t$0\n}\n",
        "x := 1\n\treturn x\n}\n\nfunc g() {\n",
        "x := 1\n\treturn x",
    );
    check(
        Java,
        "class A {\n    int f() {\n        $0\n    }\n}\n",
        "int x = 1;\n        return x;\n    }\n\n    int g() {",
        "int x = 1;\n        return x;",
    );
}

#[test]
fn always_several_lines_end_before_the_next_sibling() {
    let always = |language, marked, raw, expected| {
        check_with(language, marked, raw, expected, MultiLine::Always, false);
    };
    always(Python, "x = $0\n", "1\ny = 2\n\ndef f():\n    pass\n", "1\ny = 2");
    always(Python, "def f():\n    x = $0\n", "1\n    return x\n\nf()\n", "1\n    return x");
}

#[test]
fn broken_off_lines_go() {
    check_with(
        Python,
        "def f(a):\n    $0\n",
        "b = a\n    c = b\n    return some_thi",
        "b = a\n    c = b",
        MultiLine::Auto,
        true,
    );
    check_with(Python, "x = $0\n", "value", "value", MultiLine::Auto, true);
    check_with(
        Rust,
        "fn f() {\n    $0\n}\n",
        "let a = 1;\n    let b = Some(",
        "let a = 1;",
        MultiLine::Auto,
        true,
    );
}

#[test]
fn repetition_is_cut() {
    check(Python, "def f(a):\n    $0\n", "print(a)\n    print(a)\n    print(a)\n    print(a)\n", "print(a)");
    check(
        Python,
        "def f(a):\n    $0\n",
        "x = step(a)\n    y = step(x)\n    x = step(a)\n    y = step(x)\n",
        "x = step(a)\n    y = step(x)",
    );
    check(Python, "x = $0\n", "a_b + a_b + a_b + a_b + a_b + a_b", "a_b + a_b");
    check(Python, "# $0\n", "----------------------------------------", "");
    check(Python, "x = [$0]\n", "0, 0, 0, 0", "0, 0, 0, 0");
    check(Rust, "fn f() {\n    $0\n}\n", "let x = 1;\n    let x = 1;\n    let x = 1;\n", "let x = 1;");
}

#[test]
fn the_line_above_is_not_echoed() {
    check(Python, "import collections\n$0\n", "import collections", "");
    check(Python, "x = compute(1)\n$0\n", "x = compute(2)", "x = compute(2)");
    check(Go, "package a\n\nfunc f() {\n\tfmt.Println(x)\n\t$0\n}\n", "fmt.Println(x)", "");
}

#[test]
fn lines_that_follow_are_not_repeated() {
    check(Python, "def f(a):\n    x = 1\n    $0\n    return x + a\n", "return x + a", "");
    check(Python, "def f(a):\n    x = $0\n    return x + a\n", "1\n    return x + a\n", "1");
    check(Rust, "fn f() {\n    $0\n}\n\nfn second() {}\n", "g();\n}\n\nfn second() {}\n", "g();");
    check(TypeScript, "const a = 1;\n$0\nconst b = 2;\n", "const b = 2;", "");
    check(Java, "class A {\n    int a;\n    $0\n    int bcd;\n}\n", "int bcd;", "");
    check(Python, "if a:\n    f()\n$0\n    pass\n", "else:", "else:");
}

#[test]
fn text_after_the_cursor_is_not_repeated() {
    check(Python, "def f($0) -> int:\n    return 1\n", "a, b) -> int:", "a, b");
    check(Python, "x = $0 + offset\n", "value + offset", "value");
    check(Python, "for $0 in items:\n    pass\n", "item in items:", "item");
    check(Rust, "fn f() {\n    let x = $0.unwrap_or(0);\n}\n", "a.get(0).unwrap_or(0);", "a.get(0)");
    check(Java, "class A {\n    void f($0) {\n    }\n}\n", "int a) {", "int a");
    check(TypeScript, "import { $0 } from './a';\n", "b } from './a';", "b");
    check(Go, "package a\n\nfunc f($0) int {\n\treturn 1\n}\n", "a int) int {", "a int");
    check(Python, "x = $0one\n", "one", "");
}

#[test]
fn closed_brackets_are_not_closed_again() {
    check(Python, "print($0)\n", "value)", "value");
    check(Python, "print($0)\n", "f(value))", "f(value)");
    check(Python, "print($0)\n", "f(value)", "f(value)");
    check(Python, "x = [a for a in $0]\n", "b]", "b");
    check(Python, "x = {'a': $0}\n", "f({})}", "f({})");
    check(Python, "x = 'hello$0'\n", " world'", " world");
    check(Python, "x = f(\"a$0\")\n", "bc\")", "bc");
    check(Rust, "fn f() {\n    println!(\"{}\", $0);\n}\n", "value);", "value");
    check(Rust, "fn f() {\n    let v = vec![$0];\n}\n", "1, 2];", "1, 2");
    check(Java, "class A {\n    int x = f($0);\n}\n", "g(1), 2);", "g(1), 2");
    check(TypeScript, "foo($0);\n", "(a) => a + 1);", "(a) => a + 1");
    check(Go, "package a\n\nfunc f() {\n\tg($0)\n}\n", "[]int{1})", "[]int{1}");
    check(Python, "print(')', $0)\n", "'(')", "'('");
}

#[test]
fn white_space_is_trimmed() {
    check(Python, "x = $0\n", "1   \n", "1");
    check(Python, "x = $0\n", " 1", "1");
    check(Python, "x =$0\n", " 1", " 1");
    check(Python, "def f():\n    x = 1\n    $0\n", "    return x", "return x");
    check(Python, "x = $0\n", "   ", "");
    check(Rust, "fn f() {\n    let x = 1;\n    $0\n}\n", "  \t g(x); ", "g(x);");
}

#[test]
fn line_breaks_are_the_files_own() {
    check(Python, "def f(a):\r\n    $0\r\n", "b = a\n    return b\n", "b = a\r\n    return b");
    check(Python, "def f(a):\n    $0\n", "b = a\r\n    return b\r\n", "b = a\n    return b");
    check(Python, "x = $0\n", "a\u{fffd}b", "a");
}

#[test]
fn syntax_errors_are_cut_back() {
    check(Python, "def f(a):\n    $0\n", "b = a + 1\n    return ) b\n", "b = a + 1");
    check(Python, "x = 1\n$0\n", "y = = 2", "");
    check(Rust, "fn f() {\n    $0\n}\n", "let a = 1;\n    let b = ;;= 2;\n", "let a = 1;");
    check(
        Java,
        "class A {\n    void f() {\n        $0\n    }\n}\n",
        "int a = 1;\n        int = = b\n",
        "int a = 1;",
    );
    check(Go, "package a\n\nfunc f() {\n\t$0\n}\n", "x := 1\n\treturn ]\n", "x := 1");
    check(TypeScript, "function f() {\n  $0\n}\n", "const a = 1;\n  const = = 2;\n", "const a = 1;");
    // What the user goes on to close stays.
    check(Python, "$0\n", "x = f(", "x = f(");
    check(Rust, "fn f() {\n    let a = 1;\n    $0\n}\n", "if a > 1 {", "if a > 1 {");
    // An unfinished line before the cursor is an error already; the completion mends it.
    check(Python, "for x in $0\n", "range(10):", "range(10):");
}

#[test]
fn long_completions_are_cut_at_a_line_end() {
    let body: String = (0..60).map(|number| format!("x{number} = f({number})\n    ")).collect();
    let shown: String = (0..60).map(|number| format!("x{number} = f({number})\n    ")).collect::<String>();
    let offset = 14;
    let text = "def f():\n    \n";
    let around = Around {
        text,
        offset: offset - 1,
        language: Some(Python),
        tree: None,
        shape: Shape::MultiLine { floor: 1 },
        max_characters: 100,
        broken_off: false,
        known: None,
    };
    let (cut, steps) = postprocess(&body, &around);
    assert!(cut.chars().count() <= 100 && shown.starts_with(&cut) && cut.ends_with(')'), "{cut:?}");
    assert_eq!(steps.last().map(|step| step.step), Some("length"));
}

#[test]
fn rubbish_is_not_shown() {
    check(Python, "x = $0\n", "", "");
    check(Python, "$0\n", "#################", "");
    check(Python, "f($0)\n", ")", "");
}

#[test]
fn a_stream_is_stopped_when_its_block_is_over() {
    let text = "def f():\n    ";
    let around = |shape| Around {
        text,
        offset: text.len(),
        language: Some(Python),
        tree: None,
        shape,
        max_characters: 400,
        broken_off: false,
        known: None,
    };
    let several = around(Shape::MultiLine { floor: 1 });
    for (stream, over) in [
        ("x = 1", false),
        ("x = 1\n", false),
        ("x = 1\n    ", false),
        ("x = 1\n\n", false),
        ("x = 1\n\nd", true),
        ("x = (\n1", false),
        ("x = 1\n    y", false),
    ] {
        assert_eq!(is_over(stream, &several), over, "{stream:?}");
    }
    assert!(!is_over("x = 1\n\nd", &around(Shape::SingleLine)));
    assert!(is_looping("a = 1\nsome_call()\nsome_call()\nsome_call()\n"));
    assert!(!is_looping("a = 1\nb = 2\n"));
}

#[test]
fn members_that_a_type_does_not_have_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let stock = "class Stock:\n    def reserve(self, count): ...\n    def release(self, count): ...\n";
    std::fs::write(root.join("stock.py"), stock).unwrap();
    let workspace = lacuna_indexer::Workspace::new(vec![root.clone()], lacuna_indexer::Options::default());
    workspace.scan(&mut |_| {}, &std::sync::atomic::AtomicBool::new(false));
    let path = root.join("main.py");
    let check = |body: &str, raw: &str, expected: &str| {
        let head = "from stock import Stock\n\n\ndef main(stock: Stock, other):\n    ";
        let text = format!("{head}{body}\n    print(other)\n");
        workspace.update(&path, Some(&text));
        let tree = syntax::parse_text(Python, &text, None);
        let around = Around {
            text: &text,
            offset: head.len() + body.len(),
            language: Some(Python),
            tree: tree.as_ref(),
            shape: Shape::MultiLine { floor: 4 },
            max_characters: 400,
            broken_off: false,
            known: Some(Known { path: &path, snapshot: &workspace.snapshot() }),
        };
        let (shown, steps) = postprocess(raw, &around);
        assert_eq!(shown, expected, "{body}|{raw}: {steps:?}");
    };
    check("stock.", "reserve(1)", "reserve(1)");
    check("stock.", "reserve_all(1)", "");
    // Begun before the cursor.
    check("stock.rese", "rve(1)", "rve(1)");
    check("stock.rese", "t(1)", "");
    check("", "stock.release(1)\n    stock.refill(2)\n    other.fill(2)", "stock.release(1)");
    // Nothing is known of what it is.
    check("other.", "reserve_all(1)", "reserve_all(1)");
    check("stock = other\n    stock.", "reserve_all(1)", "reserve_all(1)");
    check("if isinstance(stock, Shop):\n        stock.", "reserve_all(1)", "reserve_all(1)");
    // It comes to be by being assigned.
    check("stock.", "limit = 3", "limit = 3");
}
