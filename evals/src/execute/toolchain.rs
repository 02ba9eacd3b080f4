//! Translated problems, built and run by their own language's toolchain inside a sandbox.
//!
//! The published harness takes exit status 0 for a pass, which a sample can have by ending the process early. Here
//! the end of the test prints a number drawn for this run, and only a run that prints it last passes. The sample is
//! part of the same program, so this stops accidents and cheap tricks, not a sample written against this harness.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::value::RawValue;

use super::{Verdict, pool::Outcome};
use crate::{
    data::problem::{Format, Problem},
    sandbox::{
        Isolation, Limits, Profile, SandboxError, Specification,
        host::Sandbox,
        toolchain_paths::{check_visible, on_path},
        wire,
    },
};

/// How a language is built and run; limits are those of the published harness.
struct Language {
    name: &'static str,
    /// Programs it needs.
    tools: &'static [&'static str],
    file: &'static str,
    build: &'static [&'static str],
    run: &'static [&'static str],
    build_seconds: u64,
    run_seconds: u64,
}

/// `tsc` and `javac` make their output beside the source.
#[rustfmt::skip]
const LANGUAGES: [Language; 6] = [
    Language { name: "cpp", tools: &["g++"], file: "main.cpp", build: &["g++", "-std=c++17", "main.cpp", "-o", "main"],
        run: &["./main"], build_seconds: 15, run_seconds: 15 },
    Language { name: "rs", tools: &["rustc"], file: "main.rs", build: &["rustc", "main.rs", "-o", "main"],
        run: &["./main"], build_seconds: 15, run_seconds: 5 },
    Language { name: "java", tools: &["javac", "java"], file: "Problem.java",
        build: &["javac", "-encoding", "UTF8", "-cp", "CLASSPATH", "-d", ".", "Problem.java"],
        run: &["java", "-ea", "-cp", "CLASSPATH", "Problem"], build_seconds: 15, run_seconds: 15 },
    Language { name: "js", tools: &["node"], file: "main.js", build: &[], run: &["node", "main.js"], build_seconds: 0,
        run_seconds: 5 },
    Language { name: "ts", tools: &["tsc", "node"], file: "main.ts", build: &["tsc", "--target", "esnext", "main.ts"],
        run: &["node", "main.js"], build_seconds: 15, run_seconds: 15 },
    Language { name: "go", tools: &["go"], file: "main_test.go", build: &[], run: &["go", "test", "main_test.go"],
        build_seconds: 0, run_seconds: 30 },
];

/// The toolchains found on this machine.
#[derive(Debug, Clone, Default)]
pub struct Toolchains {
    /// Where each program lies, or why it cannot be used.
    tools: HashMap<&'static str, Result<PathBuf, String>>,
    visible: Vec<PathBuf>,
    javatuples: Option<PathBuf>,
}

impl Toolchains {
    /// Looks for what `problems` need, and for nothing else.
    pub fn find<'a>(problems: impl Iterator<Item = &'a Problem>, javatuples: Option<&Path>) -> Self {
        let mut found = Self { javatuples: javatuples.map(Path::to_path_buf), ..Self::default() };
        found.visible.extend(found.javatuples.clone());
        for problem in problems.filter(|problem| problem.format == Format::MultiPlE) {
            for &tool in language(problem).map_or(&[][..], |language| language.tools) {
                if !found.tools.contains_key(tool) {
                    let place = found.locate(tool);
                    found.tools.insert(tool, place);
                }
            }
        }
        found
    }

    fn locate(&mut self, tool: &str) -> Result<PathBuf, String> {
        let missing = || format!("`{tool}` is not on the PATH");
        let mut path = on_path(tool).ok_or_else(missing)?;
        // Version managers put a launcher on the PATH that needs its home; the toolchain itself does not.
        let root = match tool {
            "rustc" => ask("rustc", &["--print", "sysroot"]).map(PathBuf::from),
            "go" => ask("go", &["env", "GOROOT"]).map(PathBuf::from),
            "tsc" | "node" => {
                std::fs::canonicalize(&path).ok().and_then(|real| Some(real.parent()?.parent()?.to_owned()))
            }
            _ => None,
        };
        if let Some(root) = root {
            let inside = root.join("bin").join(tool);
            if inside.is_file() {
                path = inside;
            }
            if !root.starts_with("/usr") {
                check_visible(&root).map_err(|error| error.to_string())?;
                self.visible.push(root);
            }
        }
        Ok(path)
    }

    /// Why a language cannot be run here, if so.
    fn missing(&self, language: &Language) -> Option<String> {
        language.tools.iter().find_map(|tool| match self.tools.get(tool) {
            Some(Ok(_)) => None,
            Some(Err(reason)) => Some(reason.clone()),
            None => Some(format!("`{tool}` was not looked for")),
        })
    }

    fn path(&self, program: &str) -> PathBuf {
        match self.tools.get(program) {
            Some(Ok(path)) => path.clone(),
            _ => PathBuf::from(program),
        }
    }
}

fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The language of a problem; files spell Go's as its file ending.
fn language(problem: &Problem) -> Option<&'static Language> {
    let name = problem.text("language");
    let name = name.split(['_', '.']).next().unwrap_or_default();
    LANGUAGES.iter().find(|language| language.name == name)
}

pub struct ToolchainWorker {
    specification: Specification,
    executable: PathBuf,
    toolchains: Toolchains,
    sandbox: Option<Sandbox>,
}

impl ToolchainWorker {
    pub fn new(isolation: Isolation, executable: PathBuf, toolchains: Toolchains) -> Self {
        let specification = Specification {
            isolation,
            profile: Profile::Toolchain,
            limits: Limits::TOOLCHAIN,
            interpreter: None,
            visible: toolchains.visible.clone(),
        };
        Self { specification, executable, toolchains, sandbox: None }
    }

    pub fn judge(&mut self, problem: &Problem, completion: &RawValue) -> Result<Outcome, SandboxError> {
        let Some(language) = language(problem) else {
            return Ok(Outcome::Skipped(format!("no runner for language `{}`", problem.text("language"))));
        };
        if let Some(reason) = self.toolchains.missing(language) {
            return Ok(Outcome::Skipped(reason));
        }
        let Ok(completion) = serde_json::from_str::<String>(completion.get()) else {
            return Ok(Outcome::Judged(Verdict::failed("the completion is not a text")));
        };
        match self.build_and_run(language, problem, &completion) {
            Ok(verdict) => Ok(Outcome::Judged(verdict)),
            Err(SandboxError::Gone(reason)) => {
                self.sandbox = None;
                Ok(Outcome::Judged(Verdict::failed(format_args!("the program ended its sandbox ({reason})"))))
            }
            Err(error) => Err(error),
        }
    }

    fn build_and_run(
        &mut self,
        language: &Language,
        problem: &Problem,
        completion: &str,
    ) -> Result<Verdict, SandboxError> {
        let stops = problem.record.get::<Vec<String>>("stop_tokens").unwrap_or_default();
        let completion = cut_at_stop(completion, &stops);
        let proof = format!("{:016x}", RandomState::new().build_hasher().finish());
        let tests = with_proof(language.name, &problem.text("tests"), &proof);
        let program = format!("{}{completion}\n{tests}", problem.text("prompt"));
        let mut sandbox = match self.sandbox.take() {
            Some(sandbox) => sandbox,
            None => Sandbox::start(&self.specification, &self.executable)?,
        };
        sandbox.reset()?;
        let mut files = BTreeMap::from([(language.file.to_owned(), program)]);
        let mut build = language.build.to_vec();
        let mut classpath = ".".to_owned();
        if language.name == "java" {
            match &self.toolchains.javatuples {
                Some(jar) => classpath = format!(".:{}", jar.display()),
                None => {
                    files.insert("Pair.java".to_owned(), PAIR.to_owned());
                    // No source path: javac would look for `Pair` of the unnamed package in the same file.
                    build.extend(["-sourcepath", "none", "Pair.java"]);
                }
            }
        }
        sandbox.write(files)?;
        let verdict = self.verdict(&mut sandbox, language, &build, &classpath, &proof)?;
        self.sandbox = Some(sandbox);
        Ok(verdict)
    }

    fn verdict(
        &self,
        sandbox: &mut Sandbox,
        language: &Language,
        build: &[&str],
        classpath: &str,
        proof: &str,
    ) -> Result<Verdict, SandboxError> {
        if !build.is_empty() {
            let built = self.command(sandbox, build, classpath, language.build_seconds)?;
            if built.timed_out {
                return Ok(Verdict::failed("the build timed out"));
            }
            // The published harness goes on when `tsc` complains about types, as long as it wrote the script.
            if built.status != Some(0) && language.name != "ts" {
                return Ok(Verdict::failed(format_args!("build: {}", head(&(built.stderr + &built.stdout)))));
            }
        }
        let ran = self.command(sandbox, language.run, classpath, language.run_seconds)?;
        if ran.timed_out {
            return Ok(Verdict::timed_out());
        }
        if ran.status != Some(0) {
            return Ok(Verdict::failed(head(&(ran.stderr + &ran.stdout))));
        }
        // `go test` itself fails a test that exits early.
        if language.name != "go" && !ran.stdout.trim_end().ends_with(proof) {
            return Ok(Verdict::failed("the program ended before its tests did"));
        }
        Ok(Verdict::passed())
    }

    fn command(
        &self,
        sandbox: &mut Sandbox,
        line: &[&str],
        classpath: &str,
        seconds: u64,
    ) -> Result<wire::Ran, SandboxError> {
        let (program, arguments) = line.split_first().map_or(("", line), |(program, rest)| (*program, rest));
        let arguments = arguments
            .iter()
            .map(|&argument| if argument == "CLASSPATH" { classpath } else { argument }.to_owned());
        let here = if program.starts_with("./") { crate::sandbox::SCRATCH } else { "" };
        let program = match self.specification.isolation {
            Isolation::Full if !here.is_empty() => Path::new(here).join(program.trim_start_matches("./")),
            _ => self.toolchains.path(program),
        };
        let environment = BTreeMap::from([
            ("GOCACHE".to_owned(), "/scratch/tmp/.go".to_owned()),
            ("GOFLAGS".to_owned(), "-mod=mod".to_owned()),
            ("GO111MODULE".to_owned(), "off".to_owned()),
            // Java sizes its heap by the machine, not by what it may use.
            ("JAVA_TOOL_OPTIONS".to_owned(), "-Xmx1g -XX:+UseSerialGC -XX:TieredStopAtLevel=1".to_owned()),
        ]);
        sandbox.run(wire::Command {
            program,
            arguments: arguments.collect(),
            environment,
            timeout_ms: seconds * 1000,
        })
    }
}

fn head(text: &str) -> String {
    const KEPT: usize = 2000;
    text.trim().chars().take(KEPT).collect()
}

/// What comes before the first stop token.
fn cut_at_stop<'a>(completion: &'a str, stops: &[String]) -> &'a str {
    let end = stops.iter().filter_map(|stop| completion.find(stop.as_str())).min();
    &completion[..end.unwrap_or(completion.len())]
}

/// The tests, with the proof printed by their last statement.
fn with_proof(language: &str, tests: &str, proof: &str) -> String {
    let before_braces = |count: usize, statement: String| {
        let mut end = tests.len();
        for _ in 0..count {
            end = tests[..end].rfind('}').unwrap_or(end);
        }
        format!("{}{statement}{}", &tests[..end], &tests[end..])
    };
    match language {
        "cpp" => before_braces(1, format!("std::cout << std::endl << \"{proof}\" << std::endl;\n")),
        "rs" => before_braces(1, format!("println!(\"\\n{proof}\");\n")),
        "java" => before_braces(2, format!("System.out.println(\"\\n{proof}\");\n")),
        "js" | "ts" => format!("{tests}\nconsole.log(\"\\n{proof}\");\n"),
        _ => tests.to_owned(),
    }
}

/// Stands in for the one class of the javatuples library that the translated problems use.
const PAIR: &str = r#"package org.javatuples;

public final class Pair<A, B> {
    private final A first;
    private final B second;

    public Pair(A first, B second) {
        this.first = first;
        this.second = second;
    }

    public static <A, B> Pair<A, B> with(A first, B second) {
        return new Pair<>(first, second);
    }

    public A getValue0() {
        return first;
    }

    public B getValue1() {
        return second;
    }

    public <C> Pair<C, B> setAt0(C value) {
        return new Pair<>(value, second);
    }

    public <C> Pair<A, C> setAt1(C value) {
        return new Pair<>(first, value);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Pair<?, ?> pair
            && java.util.Objects.equals(first, pair.first)
            && java.util.Objects.equals(second, pair.second);
    }

    @Override
    public int hashCode() {
        return java.util.Objects.hash(first, second);
    }

    @Override
    public String toString() {
        return "[" + first + ", " + second + "]";
    }
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_are_cut_at_the_first_stop() {
        let stops = ["\n}".to_owned(), "\n//".to_owned()];
        for (completion, expected) in
            [("a\n// b\n}", "a"), ("a\n}\n", "a"), ("a", "a"), ("", ""), ("\n}", "")]
        {
            assert_eq!(cut_at_stop(completion, &stops), expected, "{completion:?}");
        }
    }

    #[test]
    fn the_proof_is_the_last_statement() {
        for (language, tests, expected) in [
            ("rs", "}\nfn main() {\n    a();\n}\n", "}\nfn main() {\n    a();\nprintln!(\"\\n7\");\n}\n"),
            ("js", "test();", "test();\nconsole.log(\"\\n7\");\n"),
            ("go", "func T() {}", "func T() {}"),
            ("java", "void m() {\n}\n\n}\n", "void m() {\nSystem.out.println(\"\\n7\");\n}\n\n}\n"),
        ] {
            assert_eq!(with_proof(language, tests, "7"), expected, "{language}");
        }
    }
}
