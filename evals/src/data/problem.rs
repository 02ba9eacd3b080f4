//! The problem sets and their formats, told apart by their fields.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::value::RawValue;

use super::{jsonl, record::Record};

/// Which published format a problem is in, and so how it is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prompt, test with `check`, entry point.
    HumanEval,
    /// The same with a suffix after the hole.
    Infilling,
    /// Base and plus inputs, compared with the canonical solution's outputs.
    HumanEvalPlus,
    /// A list of assertions.
    Mbpp,
    /// Translated problems with stop tokens, run by the language's own toolchain.
    MultiPlE,
}

#[derive(Debug, Clone)]
pub struct Problem {
    pub task_id: String,
    pub format: Format,
    pub record: Record,
}

/// A problem file in its order.
pub struct Problems {
    pub list: Vec<Problem>,
    by_id: HashMap<String, usize>,
}

impl Problem {
    fn from_record(record: Record) -> Result<Self> {
        let format = if record.has("plus_input") {
            Format::HumanEvalPlus
        } else if record.has("stop_tokens") && record.has("language") {
            Format::MultiPlE
        } else if record.has("test_list") {
            Format::Mbpp
        } else if record.has("suffix") && record.has("test") {
            Format::Infilling
        } else if record.has("entry_point") && record.has("test") {
            Format::HumanEval
        } else {
            bail!("it is in none of the formats HumanEval, HumanEval-Infilling, HumanEval+, MBPP, MultiPL-E");
        };
        let task_id = task_id(&record).context("it has no task_id")?;
        let problem = Self { task_id, format, record };
        for field in problem.required() {
            if problem.record.string(field).is_none() {
                bail!("field `{field}` is missing or not a string");
            }
        }
        Ok(problem)
    }

    fn required(&self) -> &'static [&'static str] {
        match self.format {
            Format::HumanEval => &["prompt", "test", "entry_point"],
            Format::Infilling => &["prompt", "suffix", "test", "entry_point"],
            Format::HumanEvalPlus => &["prompt", "canonical_solution", "entry_point"],
            Format::Mbpp => &[],
            Format::MultiPlE => &["prompt", "tests", "language"],
        }
    }

    /// A text field that [`Problems::read`] has checked; empty where the format has none.
    pub fn text(&self, field: &str) -> String {
        self.record.string(field).unwrap_or_default()
    }

    pub fn raw(&self, field: &str) -> Option<&RawValue> {
        self.record.raw(field)
    }

    /// What the problem is to be solved in, as fenced code blocks name it.
    pub fn language(&self) -> String {
        match self.format {
            Format::MultiPlE => {
                let name = self.text("language");
                match name.split(['_', '.']).next().unwrap_or_default() {
                    "rs" => "rust".into(),
                    "js" => "javascript".into(),
                    "ts" => "typescript".into(),
                    other => other.to_owned(),
                }
            }
            _ => "python".into(),
        }
    }

    /// The published solution, where the format carries one.
    pub fn canonical(&self) -> Option<String> {
        self.record.string("canonical_solution").or_else(|| self.record.string("code"))
    }
}

/// Ids are texts; MBPP's are numbers.
pub fn task_id(record: &Record) -> Option<String> {
    record
        .string("task_id")
        .or_else(|| record.get::<u64>("task_id").map(|number| number.to_string()))
        .or_else(|| record.string("name"))
}

impl Problems {
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_all(std::slice::from_ref(&path.to_path_buf()), usize::MAX)
    }

    /// Several files as one set, of each at most `limit` problems.
    pub fn read_all(paths: &[PathBuf], limit: usize) -> Result<Self> {
        let mut problems = Self { list: Vec::new(), by_id: HashMap::new() };
        for path in paths {
            let before = problems.list.len();
            for (number, line) in jsonl::lines(path)? {
                if problems.list.len() - before == limit {
                    break;
                }
                let place = || format!("{}: line {number} is not a problem", path.display());
                let record = Record::parse(&line).with_context(place)?;
                problems.add(Problem::from_record(record).with_context(place)?);
            }
            if problems.list.len() == before {
                bail!("{} holds no problems", path.display());
            }
        }
        Ok(problems)
    }

    /// The last of the problems with the same id counts.
    fn add(&mut self, problem: Problem) {
        match self.by_id.get(&problem.task_id) {
            Some(&index) => self.list[index] = problem,
            None => {
                self.by_id.insert(problem.task_id.clone(), self.list.len());
                self.list.push(problem);
            }
        }
    }

    pub fn get(&self, task_id: &str) -> Option<&Problem> {
        self.by_id.get(task_id).map(|&index| &self.list[index])
    }
}
