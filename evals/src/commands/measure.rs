//! `humaneval`, `infilling`, `crossfile`: make samples with a model, judge them, write a run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use lacuna_evals::{
    data::{
        fetch,
        problem::{Choice, Problems},
    },
    generate::{self, ModelFacts, peer},
    report::{self, Case, Resume, Run},
    tasks::{
        cross_file::{self, Pipeline},
        human_eval, infilling,
    },
};

use super::{Common, EngineArguments, ExecutionArguments};
use crate::List;

/// Where a run goes and whether it goes on.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Directory of the run: samples, cases, run.json, report.html. By default eval-runs/TASK-MODEL.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Go on with the run in the directory.
    #[arg(long)]
    resume: bool,
}

/// Which problems are used.
#[derive(Debug, Clone, Args)]
struct ProblemArguments {
    /// Use only N problems of each set, drawn at random with --seed.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
}

impl ProblemArguments {
    fn choice(&self, common: &Common) -> Choice {
        let all = Choice::default();
        Choice {
            limit: common.limit.unwrap_or(all.limit),
            sample: self.sample.unwrap_or(all.sample),
            seed: common.seed,
        }
    }
}

impl RunArguments {
    pub fn open(&self, task: &str, model: &str) -> Result<(PathBuf, Resume)> {
        let resume = if self.resume { Resume::Yes } else { Resume::No };
        Ok((report::directory(self.out.clone(), task, model, resume)?, resume))
    }
}

/// Function completion: HumanEval, or another set given with --data (HumanEval+, MBPP, MultiPL-E).
#[derive(Debug, Args)]
pub struct HumanEval {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    run: RunArguments,
    #[command(flatten)]
    execution: ExecutionArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    problems: ProblemArguments,
    /// How problems are put to the model.
    #[arg(long, value_enum, default_value = "auto")]
    style: human_eval::Style,
    /// Samples for each problem.
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    n: usize,
    /// 0 takes the likeliest token each time. By default 0, for the thinking style 0.6.
    #[arg(long)]
    temperature: Option<f32>,
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    #[arg(long, default_value_t = 384, value_name = "N")]
    max_tokens: usize,
    /// The k of pass@k, separated by commas.
    #[arg(long, default_value = "1,10,100", value_name = "LIST")]
    k: List<usize>,
}

/// Holes in functions: HumanEval-Infilling by execution. With a directory as --data, its single-line, multi-line and
/// random-span sets.
#[derive(Debug, Args)]
pub struct Infilling {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    run: RunArguments,
    #[command(flatten)]
    execution: ExecutionArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    problems: ProblemArguments,
    /// Prompt strategies to compare, separated by commas: auto, psm, spm, efim, chat.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    strategies: Vec<infilling::Strategy>,
    #[arg(long, default_value_t = 128, value_name = "N")]
    max_tokens: usize,
}

/// Holes in real repositories, with and without context from other files.
#[derive(Debug, Args)]
pub struct CrossFile {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    run: RunArguments,
    /// Make holes from the repository in this directory instead of reading --data.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "data")]
    make_from: Option<PathBuf>,
    /// Also write the holes that were made to this file.
    #[arg(long, value_name = "FILE", requires = "make_from")]
    write_holes: Option<PathBuf>,
    /// Only say how often the context of the holes has the definition that they need, and where not; complete none.
    #[arg(long, requires = "make_from")]
    recall: bool,
    #[command(flatten)]
    engine: EngineArguments,
    /// Who chooses the context and shapes the prompt; by default `editor` where the repository is there.
    #[arg(long, value_enum)]
    pipeline: Option<Pipeline>,
    /// The lacuna binary of the editor pipeline; by default the one beside this program, or on the PATH.
    #[arg(long, value_name = "FILE")]
    lacuna: Option<PathBuf>,
    #[arg(long, default_value_t = 50, value_name = "N")]
    max_tokens: usize,
    /// Tokens of the whole prompt; the editor pipeline has budgets of its own.
    #[arg(long, default_value_t = 2048, value_name = "N")]
    prompt_tokens: usize,
    /// Tokens of context from other files.
    #[arg(long, default_value_t = 512, value_name = "N")]
    context_tokens: usize,
}

impl HumanEval {
    pub fn run(self) -> Result<()> {
        let execution = self.execution.check()?;
        super::check_ks(&self.k.0)?;
        let data = fetch::human_eval(self.common.data.as_deref(), &execution.python)?;
        let problems = Problems::read_all(std::slice::from_ref(&data), &self.problems.choice(&self.common))?;
        // A machine that cannot isolate is told before the model works for an hour.
        execution.probe()?;
        let generator = self.engine.open(&self.common.model)?;
        let (directory, resume) = self.run.open("humaneval", &self.common.model)?;
        let settings = human_eval::Settings {
            style: self.style,
            samples: self.n.max(1),
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            seed: self.common.seed,
            ks: self.k.0,
        };
        let facts = generator.facts(&self.common.model)?;
        let mut run = start("humaneval", &self.common, facts, &settings, &self.engine, &data)?;
        let work = human_eval::Work {
            problems: &problems,
            generator: &generator,
            execution: &execution,
            parallel: self.engine.parallel,
            directory: &directory,
            resume,
        };
        let cases = human_eval::run(&work, &settings, &mut run)?;
        finish(&run, &cases, &directory, self.common.json)
    }
}

impl Infilling {
    pub fn run(self) -> Result<()> {
        let execution = self.execution.check()?;
        let Some(data) = &self.common.data else {
            bail!(
                "no public package carries HumanEval-Infilling; give a set's path, or a directory of sets, with --data"
            );
        };
        let files = fetch::infilling(data)?;
        let problems = Problems::read_all(&files, &self.problems.choice(&self.common))?;
        execution.probe()?;
        let generator = self.engine.open(&self.common.model)?;
        let name = data.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = if data.is_dir() { "all" } else { name.split('.').next().unwrap_or_default() };
        let (directory, resume) = self.run.open(&format!("infilling-{name}"), &self.common.model)?;
        let settings = infilling::Settings {
            strategies: self.strategies,
            max_tokens: self.max_tokens,
            seed: self.common.seed,
        };
        let facts = generator.facts(&self.common.model)?;
        let mut run = start("infilling", &self.common, facts, &settings, &self.engine, data)?;
        let work = human_eval::Work {
            problems: &problems,
            generator: &generator,
            execution: &execution,
            parallel: self.engine.parallel,
            directory: &directory,
            resume,
        };
        let cases = infilling::run(&work, &settings, &mut run)?;
        finish(&run, &cases, &directory, self.common.json)
    }
}

impl CrossFile {
    pub fn run(self) -> Result<()> {
        const HOLES: usize = 200;
        let limit = self.common.limit.unwrap_or(HOLES);
        let (mut holes, source) = match (&self.make_from, &self.common.data) {
            (Some(directory), _) => (self.make(directory, limit)?, directory.clone()),
            (None, Some(data)) => (cross_file::read(data)?, data.clone()),
            (None, None) => bail!("give a task file with --data, or a repository with --make-from"),
        };
        holes.truncate(limit);
        if let Some(path) = &self.write_holes {
            let lines: String =
                holes.iter().map(|hole| Ok(serde_json::to_string(hole)? + "\n")).collect::<Result<_>>()?;
            std::fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if self.recall {
            print!("{}", cross_file::recall(&holes));
            return Ok(());
        }
        let (directory, resume) = self.run.open("crossfile", &self.common.model)?;
        let is_server = self.common.model.starts_with("http://");
        let pipeline = self.pipeline.unwrap_or(match self.make_from {
            Some(_) if !is_server => Pipeline::Editor,
            _ => Pipeline::Model,
        });
        let settings = cross_file::Settings {
            pipeline,
            max_tokens: self.max_tokens,
            prompt_tokens: self.prompt_tokens,
            context_tokens: self.context_tokens,
            seed: self.common.seed,
        };
        let (run, cases) = match pipeline {
            Pipeline::Editor => {
                let Some(root) = &self.make_from else {
                    bail!(
                        "--pipeline editor needs the repository that the holes are in: give it with --make-from"
                    );
                };
                let lacuna = peer::find_lacuna(self.lacuna);
                let (model, threads) = (self.common.model.as_str(), self.engine.threads);
                let beams = self.engine.beams.map(std::num::NonZeroUsize::get);
                let editor = cross_file::Editor { lacuna: &lacuna, model, threads, beams, root };
                let facts = ModelFacts::read(&self.common.model)?;
                let mut run = start("crossfile", &self.common, facts, &settings, &self.engine, &source)?;
                let cases = cross_file::through_editor(&holes, &editor, &settings, &mut run)?;
                (run, cases)
            }
            Pipeline::Model => {
                let generator = self.engine.open(&self.common.model)?;
                let facts = generator.facts(&self.common.model)?;
                let mut run = start("crossfile", &self.common, facts, &settings, &self.engine, &source)?;
                let repository = self.make_from.as_deref().and_then(Path::file_name);
                let work = cross_file::Work {
                    generator: &generator,
                    repository: repository.and_then(|name| name.to_str()).unwrap_or_default(),
                    parallel: self.engine.parallel,
                    directory: &directory,
                    resume,
                };
                let cases = cross_file::run(&holes, &work, &settings, &mut run)?;
                (run, cases)
            }
        };
        finish(&run, &cases, &directory, self.common.json)
    }
}

impl CrossFile {
    /// Budgets are counted in tokens of the model where it is on this machine.
    fn make(&self, directory: &Path, limit: usize) -> Result<Vec<cross_file::Hole>> {
        const BYTES_PER_TOKEN: usize = 3;
        const CHUNK_OVERHEAD_TOKENS: usize = 3;
        let model = match self.common.model.starts_with("http://") {
            true => None,
            false => Some(generate::open_model(&self.common.model)?),
        };
        let measure = |text: &str| {
            let tokens = model.as_ref().map(|model| model.tokenizer().encode(text).len());
            CHUNK_OVERHEAD_TOKENS + tokens.unwrap_or(text.len().div_ceil(BYTES_PER_TOKEN))
        };
        let making = cross_file::Making {
            limit,
            context_tokens: self.context_tokens,
            measure: &measure,
            seed: self.common.seed,
        };
        cross_file::make(directory, &making)
    }
}

fn start(
    task: &str,
    common: &Common,
    facts: ModelFacts,
    settings: &impl serde::Serialize,
    engine: &EngineArguments,
    data: &Path,
) -> Result<Run> {
    let mut settings = serde_json::to_value(settings)?;
    settings["data"] = data.file_name().and_then(|name| name.to_str()).into();
    settings["limit"] = common.limit.into();
    settings["engine"] = serde_json::to_value(engine)?;
    Ok(Run::new(task, serde_json::to_value(facts)?, settings))
}

/// Writes the run and prints its answer.
pub fn finish(run: &Run, cases: &[Case], directory: &Path, json: bool) -> Result<()> {
    run.write(directory, cases)?;
    if json {
        let mut answer = serde_json::to_value(&run.metrics)?;
        answer["intervals"] = serde_json::to_value(&run.intervals)?;
        answer["cases"] = cases.len().into();
        answer["directory"] = directory.display().to_string().into();
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print!("{}", run.table());
        println!(
            "{} cases, {:.1} s; report in {}",
            cases.len(),
            run.seconds,
            directory.join("report.html").display()
        );
    }
    Ok(())
}
