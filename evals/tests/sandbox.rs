//! What honest and hostile samples come to, and that nothing outside the sandbox changes.

use std::{net::TcpListener, num::NonZeroUsize, path::PathBuf, time::Duration};

use lacuna_evals::{
    data::{problem::Problems, record::ascii_string},
    execute::pool::{Execution, Outcome, Task},
};
use serde_json::value::RawValue;

fn execution(timeout_seconds: f64) -> Execution {
    Execution {
        timeout: Duration::from_secs_f64(timeout_seconds),
        executable: Some(PathBuf::from(env!("CARGO_BIN_EXE_lacuna-evals"))),
        ..Execution::default()
    }
}

fn problems(lines: &[serde_json::Value]) -> Problems {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("problems.jsonl");
    std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    Problems::read(&path).unwrap()
}

/// The verdict of each completion of the first problem.
fn judge(problems: &Problems, execution: &Execution, completions: &[String]) -> Vec<(bool, String)> {
    let raw: Vec<Box<RawValue>> =
        completions.iter().map(|text| RawValue::from_string(ascii_string(text)).unwrap()).collect();
    let tasks: Vec<Task<'_>> =
        raw.iter().map(|completion| Task { problem: &problems.list[0], completion }).collect();
    let outcomes = execution.run(&tasks, &mut |_, _| {}).unwrap();
    let words = |outcome| match outcome {
        Outcome::Judged(verdict) => (verdict.passed, verdict.result),
        Outcome::Skipped(reason) => (false, format!("skipped: {reason}")),
    };
    outcomes.into_iter().map(words).collect()
}

fn addition() -> Problems {
    problems(&[serde_json::json!({
        "task_id": "t/0", "entry_point": "add", "prompt": "def add(a, b):\n", "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(5, 5) == 10\n",
    })])
}

#[test]
fn hostile_samples_fail_and_leave_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let canary = outside.path().join("canary.txt");
    std::fs::write(&canary, "alive").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = include_str!("hostile_samples.txt")
        .replace("CANARY", &canary.display().to_string())
        .replace("PORT", &port.to_string())
        .replace("PID", &std::process::id().to_string());
    let kinds: Vec<(&str, &str)> =
        text.split("\n=== ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
    assert!(kinds.len() >= 50, "only {} kinds", kinds.len());

    // An honest sample after each hostile one: whatever that did must not reach it.
    let completions: Vec<String> =
        kinds.iter().flat_map(|(_, code)| [format!("{code}\n"), "    return a + b\n".to_owned()]).collect();
    let verdicts = judge(&addition(), &execution(1.5), &completions);
    for ((name, _), pair) in kinds.iter().zip(verdicts.chunks(2)) {
        assert!(!pair[0].0, "`{name}` passed");
        assert!(!pair[0].1.is_empty(), "`{name}` has no result");
        assert_eq!(pair[1], (true, "passed".to_owned()), "the honest sample after `{name}`");
    }
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "alive");
    assert_eq!(
        listener.accept().map(|_| ()).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "a connection"
    );
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&command).contains("lacuna-left-behind"),
            "a process was left behind"
        );
    }
}

#[test]
fn honest_samples_come_out_as_in_the_reference() {
    let table = [
        ("    return a + b\n", "passed"),
        ("    return float(a + b)\n", "passed"),
        ("    import os\n    return a + b if os.environ else 0\n", "passed"),
        (
            "    import threading\n    r = []\n    t = threading.Thread(target=lambda: r.append(a + b))\n    t.start()\n    t.join()\n    return r[0]\n",
            "passed",
        ),
        ("    import asyncio\n    async def f(): return a + b\n    return asyncio.run(f())\n", "passed"),
        ("    open('x', 'w').write(str(a + b))\n    return int(open('x').read())\n", "passed"),
        ("    return a - b\n", "failed: "),
        ("    return None\n", "failed: "),
        ("    retur a\n", "failed: invalid syntax (<string>, line 2)"),
        ("    raise ValueError('no')\n", "failed: no"),
        ("    import sys\n    sys.exit(0)\n", "failed: 0"),
        ("    return input()\n", "failed: "),
        ("    import os\n    return os.getcwd()\n", "failed: 'NoneType' object is not callable"),
        ("    return quit()\n", "failed: 'NoneType' object is not callable"),
        ("    return undefined\n", "failed: name 'undefined' is not defined"),
        ("    while True: pass\n", "timed out"),
        ("    import os\n    os._exit(0)\n", "timed out"),
        ("    return a + b\nif __name__ == '__main__':\n    raise ValueError('main')\n", "passed"),
    ];
    let completions: Vec<String> = table.iter().map(|(code, _)| (*code).to_owned()).collect();
    let verdicts = judge(&addition(), &execution(8.0), &completions);
    for ((code, expected), (passed, result)) in table.iter().zip(&verdicts) {
        assert_eq!((result.as_str(), *passed), (*expected, *expected == "passed"), "{code}");
    }
}

/// Values that travel between the sample and the test: what was returned must compare as if nothing lay between.
#[test]
fn values_cross_unchanged() {
    let check = |body: &str, assertion: &str| {
        let problems = problems(&[serde_json::json!({
            "task_id": "t/0", "entry_point": "f", "prompt": "from typing import *\ndef f(x=None):\n",
            "test": format!("def check(candidate):\n    {assertion}\n"),
        })]);
        let verdict = judge(&problems, &execution(8.0), &[format!("    {body}\n")]).remove(0);
        assert_eq!(verdict, (true, "passed".to_owned()), "{body} / {assertion}");
    };
    check("return 2 ** 5000", "assert candidate() == 2 ** 5000");
    check(
        "return [1, (2, 'é\\ud800'), {3: {4, 5}}, b'x', None, True]",
        "assert candidate() == [1, (2, 'é\\ud800'), {3: {4, 5}}, b'x', None, True]",
    );
    check("return float('inf')", "assert candidate() == float('inf') and type(candidate()) is float");
    check("return float('nan')", "assert candidate() != candidate()");
    check("return 1 + 2j", "assert candidate() == 1 + 2j");
    check("import collections; return collections.Counter('aab')", "assert candidate() == {'a': 2, 'b': 1}");
    check(
        "import collections; return collections.namedtuple('P', 'a b')(1, 2)",
        "assert candidate() == (1, 2)",
    );
    check("import fractions; return fractions.Fraction(1, 3)", "assert candidate() * 3 == 1");
    check("return range(3)", "assert list(candidate()) == [0, 1, 2]");
    check("return (i * i for i in range(3))", "assert list(candidate()) == [0, 1, 4]");
    check("return {1: 2}.keys()", "assert sorted(candidate()) == [1]");
    check("import re; return re.match('a', 'a')", "assert candidate()");
    check("return lambda y: y + 1", "assert candidate()(2) == 3");
    check("x.append(1); x.sort()", "v = [3, 2]; candidate(v); assert v == [1, 2, 3]");
    check(
        "raise KeyError('k')",
        "\n    try:\n        candidate()\n    except KeyError:\n        return\n    assert False",
    );
    check("return x", "assert candidate(x=[1.5, -0.0]) == [1.5, 0.0]");
}

#[test]
fn other_formats() {
    let table = [
        (
            serde_json::json!({"task_id": "i/0", "entry_point": "f", "prompt": "def f(x):\n    y = ", "suffix": "\n    return y\n",
                "canonical_solution": "x + 1", "test": "def check(c):\n    assert c(1) == 2\n"}),
            [("x + 1", "passed"), ("x", "failed: "), ("x + ", "failed: invalid syntax (<string>, line 2)")],
        ),
        (
            serde_json::json!({"task_id": 7, "text": "t", "code": "", "test_setup_code": "import math", "test_imports": [],
                "test_list": ["assert area(1) == math.pi", "assert double([1]) == [2]"]}),
            [
                (
                    "import math\ndef area(r): return math.pi * r * r\ndef double(v): return [2 * i for i in v]\n",
                    "passed",
                ),
                ("def area(r): return 3\n", "failed: "),
                (
                    "class Any:\n    def __eq__(s, o): return True\ndef area(r): return Any()\ndef double(v): return Any()\n",
                    "failed: ",
                ),
            ],
        ),
        (
            serde_json::json!({"task_id": "p/0", "entry_point": "half", "prompt": "def half(x):\n", "canonical_solution": "    return x / 2\n",
                "base_input": [[2], [3]], "plus_input": [[1e9], [7]], "atol": 0, "test": ""}),
            [
                ("    return x * 0.5\n", "passed"),
                ("    return x // 2\n", "failed: wrong output for [3]"),
                ("    return x / 2 if x < 5 else 0.0\n", "failed: wrong output for [1000000000.0]"),
            ],
        ),
    ];
    for (problem, samples) in table {
        let problems = problems(&[problem]);
        let completions: Vec<String> = samples.iter().map(|(code, _)| (*code).to_owned()).collect();
        for ((code, expected), (passed, result)) in
            samples.iter().zip(judge(&problems, &execution(8.0), &completions))
        {
            assert_eq!((result.as_str(), passed), (*expected, *expected == "passed"), "{code}");
        }
    }
}

/// Small problems of our own in the translated problems' format, one for each language.
#[test]
fn translated_problems() {
    #[rustfmt::skip]
    let table = [
        ("cpp", "#include<assert.h>\n#include<bits/stdc++.h>\nlong add(long a, long b) {\n", "}\nint main() {\n    auto candidate = add;\n    assert(candidate(1, 2) == 3);\n}\n",
            ["    return a + b;", "    return a;", "    exit(0);"], "\n}"),
        ("rs", "fn add(a: isize, b: isize) -> isize {\n", "}\n\nfn main() {\n    let candidate = add;\n    assert_eq!(candidate(1, 2), 3);\n}\n",
            ["    a + b", "    a", "    std::process::exit(0)"], "\n}"),
        ("js", "function add(a, b){\n", "const assert = require('node:assert');\n\nfunction test() {\n  let candidate = add;\n  assert.deepEqual(candidate(1, 2), 3);\n}\n\ntest();",
            ["  return a + b;\n}", "  return a;\n}", "  process.exit(0);\n}"], "\nfunction "),
        ("java", "import java.util.*;\nimport org.javatuples.*;\nclass Problem {\n    public static Pair<Long, Long> add(long a, long b) {\n", "    }\n    public static void main(String[] args) {\n    assert(add(1l, 2l).equals(Pair.with(3l, 3l)));\n    }\n\n}\n",
            ["        return Pair.with(a + b, a + b);\n", "        return null;\n", "        System.exit(0); return null;\n"], "\n    }\n"),
        ("go_test.go", "package add_test\n\nimport (\n    \"testing\"\n    \"os\"\n)\n\nvar _ = os.Exit\n\nfunc add(a int, b int) int {\n", "func TestAdd(t *testing.T) {\n  if add(1, 2) != 3 {\n    t.Errorf(\"no\")\n  }\n}\n",
            ["    return a + b\n}\n", "    return a\n}\n", "    os.Exit(0)\n    return 0\n}\n"], "\nfunc"),
        ("ts", "function add(a: number, b: number): number {\n", "declare var require: any;\nconst assert = require('node:assert');\n\nfunction test() {\n  let candidate = add;\n  assert.deepEqual(candidate(1, 2), 3);\n}\n\ntest();",
            ["  return a + b;\n}", "  return a;\n}", "  (globalThis as any).process.exit(0);\n}"], "\nfunction "),
    ];
    for (language, prompt, tests, samples, stop) in table {
        let problems =
            problems(&[serde_json::json!({"task_id": language, "name": language, "language": language,
            "prompt": prompt, "tests": tests, "stop_tokens": [stop]})]);
        let completions = samples.map(str::to_owned);
        // One after another: compilers side by side take longer than the published limits allow.
        let execution = Execution { workers: NonZeroUsize::MIN, ..execution(3.0) };
        let verdicts = judge(&problems, &execution, &completions);
        if let Some(reason) = verdicts[0].1.strip_prefix("skipped: ") {
            assert!(reason.contains("not on the PATH"), "{language}: {reason}");
            continue;
        }
        let passed: Vec<bool> = verdicts.iter().map(|(passed, _)| *passed).collect();
        assert_eq!(passed, [true, false, false], "{language}: {verdicts:?}");
    }
}
