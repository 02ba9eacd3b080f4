//! The `lacuna` program in the terminal: answers, errors that say what to do, exit codes.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use lacuna_indexer::Language;
use lacuna_tests::{client::binary, project::Project};
use serde_json::Value;

fn lacuna(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env_remove("LACUNA_MODEL").output().expect("lacuna runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn example() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/example/report.py")
}

/// The place that README's first command completes.
fn readme_place() -> (usize, usize) {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).expect("README.md");
    let marker = "tests/fixtures/example/report.py:";
    let after = &readme[readme.find(marker).expect("README completes the example") + marker.len()..];
    let mut numbers = after.split([':', '\n', ' ', '`']).map(|number| number.parse().expect("a number"));
    (numbers.next().expect("a line"), numbers.next().expect("a column"))
}

#[test]
fn readme_s_command_prints_a_completion_that_parses() {
    let (line, column) = readme_place();
    let place = format!("{}:{line}:{column}", example().display());
    let output = lacuna(&["complete", &place]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let completion = printed.strip_suffix('\n').expect("a line");
    println!("{completion}");
    assert!(!completion.is_empty(), "{}", text(&output.stderr));

    let source = std::fs::read_to_string(example()).expect("the example");
    let offset: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>()
        + source
            .lines()
            .nth(line - 1)
            .expect("the line")
            .chars()
            .take(column - 1)
            .map(char::len_utf8)
            .sum::<usize>();
    let completed = format!("{}{completion}{}", &source[..offset], &source[offset..]);
    let mut parser = lacuna_tests::parser(Language::Python);
    let tree = parser.parse(&completed, None).expect("a tree");
    assert!(!tree.root_node().has_error(), "{completed}");
    assert_eq!(lacuna(&["complete", &place]).stdout, output.stdout, "the same call prints the same");
}

#[test]
fn json_has_items_and_explain_with_every_figure() {
    let (line, column) = readme_place();
    let place = format!("{}:{line}:{column}", example().display());
    let answer: Value =
        serde_json::from_slice(&lacuna(&["complete", &place, "--json"]).stdout).expect("JSON");
    let item = &answer["items"][0];
    assert!(item["text"].is_string());
    assert_eq!(item["range"]["start"]["line"], line);
    assert_eq!(item["range"]["start"]["column"], column);
    let explain = &answer["explain"];
    for key in ["model", "cachedTokens", "generatedTokens", "draftedTokens", "acceptedTokens", "stopReason"] {
        assert!(!explain[key].is_null(), "{key} is missing: {explain}");
    }
    for section in ["total", "context", "header", "prefix", "suffix", "special"] {
        assert!(explain["promptTokens"][section].is_u64(), "{section}");
    }
    for stage in ["context", "prompt", "prefill", "decode", "postprocess", "total"] {
        assert!(explain["milliseconds"][stage].is_number(), "{stage}");
    }
    let sections: u64 = ["context", "header", "prefix", "suffix", "special"]
        .iter()
        .filter_map(|section| explain["promptTokens"][*section].as_u64())
        .sum();
    assert_eq!(explain["promptTokens"]["total"].as_u64(), Some(sections));
}

#[test]
fn a_member_is_one_that_its_type_has() {
    const SHOP: &str = "class Basket:\n    def __init__(self, owner):\n        self.owner = owner\n\n    def \
                        weigh_parcels(self):\n        return 3\n";
    // What is typed last, whether the type is known there, and the names that it has.
    for (typed, is_known, names) in [
        ("amount = basket.", true, &["owner", "weigh_parcels", "check", "__init__"][..]),
        // What is assigned to may be new.
        ("basket.", false, &[]),
        ("return basket.weigh_", true, &["parcels"]),
    ] {
        let head = "from shop import Basket\n\n\ndef check(name: str):\n    basket = Basket(name)\n";
        let project = Project::new(&format!("//- shop.py\n{SHOP}//- app.py\n{head}    {typed}\n"));
        let place = format!("{}:6:{}", project.path("app.py").display(), 5 + typed.len());
        let answer: Value =
            serde_json::from_slice(&lacuna(&["complete", &place, "--json"]).stdout).expect("JSON");
        let explain = &answer["explain"];
        assert_eq!(explain["members"].is_u64(), is_known, "{typed}: {explain}");
        let raw = explain["raw"].as_str().unwrap_or_default();
        assert!(!is_known || names.iter().any(|name| raw.starts_with(name)), "{typed}: {raw:?}");
        // The embedded model is shown the class or told its members, not both.
        assert_eq!(explain["context"].as_array().is_some_and(Vec::is_empty), is_known, "{typed}: {explain}");
    }
}

#[test]
fn a_member_in_java_is_one_that_its_type_has() {
    const BASKET: &str = "package shop;\n\npublic class Basket extends Thing {\n    private int weight;\n    public Basket \
                          emptied() {\n        return this;\n    }\n}\n";
    for (typed, names) in [
        (
            "basket.",
            &["emptied", "renamed", "hashCode", "equals", "toString", "getClass", "notify", "wait", "clone"]
                [..],
        ),
        ("basket.emptied().ren", &["amed"]),
        ("show(basket.emp", &["tied"]),
    ] {
        let project = Project::new(&format!(
            "//- shop/Thing.java\npackage shop;\n\nclass Thing {{\n    public void renamed(String name) {{\n    }}\n}}\n\
             //- shop/Basket.java\n{BASKET}//- shop/App.java\npackage shop;\n\nclass App {{\n    void show(Basket basket) {{\n        \
             {typed}\n    }}\n}}\n"
        ));
        let place = format!("{}:5:{}", project.path("shop/App.java").display(), 9 + typed.len());
        let answer: Value =
            serde_json::from_slice(&lacuna(&["complete", &place, "--json"]).stdout).expect("JSON");
        let explain = &answer["explain"];
        assert!(explain["members"].is_u64(), "{typed}: {explain}");
        let raw = explain["raw"].as_str().unwrap_or_default();
        assert!(names.iter().any(|name| raw.starts_with(name)), "{typed}: {raw:?}");
    }
}

#[test]
fn standard_input_is_the_text_and_the_file_need_not_exist() {
    let project = Project::new("//- a.py\nx = 1\n");
    let place = format!("{}:1:8", project.path("new.py").display());
    let mut child = Command::new(binary())
        .args(["complete", &place, "--stdin", "--max-tokens", "4"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("lacuna runs");
    child.stdin.take().expect("piped").write_all(b"import os\n").expect("written");
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success());
}

#[test]
fn errors_name_the_file_the_problem_and_the_fix() {
    let project = Project::new("//- a.py\nx = 1\n//- bad.gguf\nnot a model\n");
    std::fs::write(project.path("latin.py"), b"x = '\xe9'\n").expect("written");
    let file = |name: &str, place: &str| format!("{}{place}", project.path(name).display());
    // arguments, exit code, words of the message
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["complete", "a.py"], 1, &["`a.py` is not FILE:LINE:COL"]),
        (&["complete", &file("none.py", ":1:1")], 1, &["none.py", "cannot be read", "--stdin"]),
        (&["complete", &file("a.py", ":9:1")], 1, &["a.py", "there is no line 9; the last one is 2"]),
        (&["complete", &file("a.py", ":1:99")], 1, &["a.py", "line 1 has no column 99; its last one is 6"]),
        (&["complete", &file("a.py", ":0:1")], 1, &["count from 1"]),
        (&["complete", &file("latin.py", ":1:1")], 1, &["latin.py", "byte 5 is not UTF-8", "convert"]),
        (&["complete", &file("a.py", ":1:1"), "--model", "/none.gguf"], 1, &["/none.gguf"]),
        (&["complete", &file("a.py", ":1:1"), "--model", &file("bad.gguf", "")], 1, &["not a GGUF file"]),
        (&["complete", &file("a.py", ":1:1"), "--root", "/none"], 1, &["/none", "--root"]),
        (&["complete", &file("a.py", ":1:1"), "--max-tokens", "0"], 2, &["--max-tokens"]),
        (&["complete"], 2, &["FILE:LINE:COL"]),
        (&["nonsense"], 2, &["nonsense"]),
        (&["model", "inspect", "/none.gguf"], 1, &["/none.gguf"]),
    ];
    for (arguments, code, words) in cases {
        let output = lacuna(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", text(&output.stdout));
        for word in *words {
            assert!(message.contains(word), "{arguments:?}: {word:?} is not in {message:?}");
        }
    }
}

#[test]
fn inspect_list_doctor_and_schema_answer() {
    let inspect = text(&lacuna(&["model", "inspect", "embedded"]).stdout);
    for word in
        ["architecture", "qwen2", "quantization", "tokenizer", "fill-in-middle", "chat template", "context"]
    {
        assert!(inspect.contains(word), "{word} is not in {inspect}");
    }
    let facts: Value =
        serde_json::from_slice(&lacuna(&["model", "inspect", "embedded", "--json"]).stdout).expect("JSON");
    assert!(facts["parameters"].as_u64() > Some(1_000_000));
    let project = Project::new("//- bad.gguf\nnot a model\n");
    let list = text(&lacuna(&["model", "list", project.root().to_str().expect("UTF-8")]).stdout);
    assert!(list.starts_with("embedded  ") && list.contains("bad.gguf  unusable: "), "{list}");

    let doctor = lacuna(&["doctor"]);
    let lines = text(&doctor.stdout);
    println!("{lines}");
    assert!(doctor.status.success(), "{lines}");
    for word in ["cpu", "gpu", "grammars", "model", "prompt", "engine", "completion"] {
        assert!(
            lines.lines().any(|line| line.split_whitespace().nth(1) == Some(word)),
            "{word} is not in {lines}"
        );
    }
    let doctor = lacuna(&["doctor", "--model", "/none.gguf"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(text(&doctor.stdout).contains("FAILURE  model"), "{}", text(&doctor.stdout));

    let schema: Value = serde_json::from_slice(&lacuna(&["config", "schema"]).stdout).expect("JSON");
    assert_eq!(schema["properties"]["maxTokens"]["type"], "integer");
}

#[test]
fn bench_measures_and_says_what_is_wrong() {
    let project = Project::new("//- prompts.json\n{\"prompts\": [[5, 6, 7, 8], [9, 10]]}\n");
    let prompts = project.root().join("prompts.json").display().to_string();
    let output = lacuna(&["bench", "--prompts", &prompts, "--gen", "3", "--spec", "off", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let runs = answer["runs"].as_array().expect("runs");
    let lengths: Vec<_> = runs.iter().map(|run| run["prompt_tokens"].as_u64()).collect();
    assert_eq!(lengths, [Some(4), Some(2)]);
    for run in runs {
        assert_eq!(
            (&run["cached_tokens"], &run["generated_tokens"]),
            (&Value::from(0), &Value::from(3)),
            "{run}"
        );
        assert!(run["prefill_ms"].as_f64() > Some(0.0) && run["decode_ms"].as_f64() > Some(0.0), "{run}");
    }

    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let output = lacuna(&[
        "bench", "--corpus", corpus, "--prompt", "40", "--gen", "8", "--batch", "1,3", "--rounds", "1",
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(answer["prefill"][0]["tokens_per_second"].as_f64() > Some(0.0), "{answer}");
    assert_eq!(answer["decode"][1]["batch"], 3);
    assert!(answer["decode"][1]["slowest_to_median"].as_f64() >= Some(1.0), "{answer}");

    for (arguments, expected) in [
        (&["bench", "--corpus", "/nowhere"][..], "--corpus"),
        (&["bench", "--corpus", corpus, "--prompt", "900000"], "larger directory"),
        (&["bench", "--prompts", "/nowhere.json"], "cannot be read"),
    ] {
        let output = lacuna(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
    }
}
