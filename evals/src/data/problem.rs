//! The problem sets and their formats, told apart by their fields.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::value::RawValue;

use super::{jsonl, record::Record};
use crate::report::bootstrap;

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

/// Which problems of a file are used.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// The first so many.
    pub limit: usize,
    /// Of these, so many at random, in their order.
    pub sample: usize,
    pub seed: u64,
}

impl Default for Choice {
    fn default() -> Self {
        Self { limit: usize::MAX, sample: usize::MAX, seed: 0 }
    }
}

impl Choice {
    fn draw(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let mut state = self.seed;
        let mut left = self.sample.min(problems.len());
        let count = problems.len();
        let chosen = problems.into_iter().enumerate().filter(|(index, _)| {
            // Each of the remaining problems is as likely as the others.
            let take = bootstrap::random(&mut state) % ((count - index) as u64) < left as u64;
            left -= usize::from(take);
            take
        });
        chosen.map(|(_, problem)| problem).collect()
    }
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
        Self::read_all(std::slice::from_ref(&path.to_path_buf()), &Choice::default())
    }

    /// Several files as one set; a choice is made in each of them.
    pub fn read_all(paths: &[PathBuf], choice: &Choice) -> Result<Self> {
        let mut problems = Self { list: Vec::new(), by_id: HashMap::new() };
        for path in paths {
            let mut set = Self { list: Vec::new(), by_id: HashMap::new() };
            for (number, line) in jsonl::lines(path)? {
                if set.list.len() == choice.limit {
                    break;
                }
                let place = || format!("{}: line {number} is not a problem", path.display());
                let record = Record::parse(&line).with_context(place)?;
                set.add(Problem::from_record(record).with_context(place)?);
            }
            if set.list.is_empty() {
                bail!("{} holds no problems", path.display());
            }
            choice.draw(set.list).into_iter().for_each(|problem| problems.add(problem));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let line = |number: usize| {
            format!(r#"{{"task_id": "t/{number}", "prompt": "", "test": "", "entry_point": "f"}}"#) + "\n"
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), (0..100).map(line).collect::<String>()).unwrap();
        let read = |limit, sample, seed| -> Vec<String> {
            let choice = Choice { limit, sample, seed };
            let problems = Problems::read_all(&[file.path().to_owned()], &choice).unwrap();
            problems.list.into_iter().map(|problem| problem.task_id).collect()
        };
        assert_eq!(read(usize::MAX, usize::MAX, 0).len(), 100);
        assert_eq!(read(2, usize::MAX, 0), ["t/0", "t/1"]);
        let number = |id: &str| id[2..].parse::<u32>().unwrap();
        let (some, same, others) = (read(100, 10, 1), read(100, 10, 1), read(100, 10, 2));
        assert_eq!((some.len(), others.len()), (10, 10));
        assert!(some == same && some != others);
        assert!(some.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])));
        assert_eq!(read(100, 0, 0).len(), 0);
    }
}
