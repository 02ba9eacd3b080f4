//! `score`: anyone's samples in OpenAI's format.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use lacuna_evals::{
    data::problem::Problems,
    score::{self, Coverage},
};

use super::{Common, ExecutionArguments};
use crate::List;

#[derive(Debug, Args)]
pub struct Score {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    execution: ExecutionArguments,
    /// JSON lines with `task_id` and `completion`, plain or gzipped.
    #[arg(long, value_name = "FILE")]
    samples: PathBuf,
    /// The problems: HumanEval, HumanEval-Infilling, HumanEval+, MBPP or MultiPL-E. The same as --data.
    #[arg(long, value_name = "FILE")]
    problems: Option<PathBuf>,
    /// The k of pass@k, separated by commas.
    #[arg(long, default_value = "1,10,100", value_name = "LIST")]
    k: List<usize>,
    /// Score the samples there are when some problems were not attempted.
    #[arg(long)]
    ignore_incomplete: bool,
}

impl Score {
    pub fn run(self) -> Result<()> {
        let execution = self.execution.check()?;
        super::check_ks(&self.k.0)?;
        let path = self.problems.or(self.common.data).context("name the problem file with --problems")?;
        let problems = Problems::read(&path)?;
        let mut samples = score::read_samples(&self.samples, &problems)?;
        let mut coverage =
            if self.ignore_incomplete { Coverage::AttemptedOnly } else { Coverage::AllProblems };
        if let Some(limit) = self.common.limit {
            let kept: std::collections::HashSet<&str> =
                problems.list.iter().take(limit).map(|problem| problem.task_id.as_str()).collect();
            samples.retain(|sample| {
                lacuna_evals::data::problem::task_id(sample).is_some_and(|id| kept.contains(id.as_str()))
            });
            coverage = Coverage::AttemptedOnly;
        }
        let (scored, summary) = score::score(samples, &problems, &execution, &self.k.0, coverage)?;
        let results = score::results_path(&self.samples);
        score::write_results(&results, &scored)?;
        if self.common.json {
            let mut answer = serde_json::to_value(&summary)?;
            answer["results_file"] = results.display().to_string().into();
            println!("{}", serde_json::to_string_pretty(&answer)?);
        } else {
            for (k, value) in &summary.pass_at_k {
                println!("{k:<8} {:.4}", value.as_f64().unwrap_or_default());
            }
            println!(
                "{} of {} samples passed, {} timed out, {} skipped; {} problems, {:.1} s",
                summary.passed,
                summary.samples,
                summary.timed_out,
                summary.skipped,
                summary.problems,
                summary.seconds
            );
            for (reason, count) in &summary.skip_reasons {
                println!("skipped {count}: {reason}");
            }
            println!("results in {}", results.display());
        }
        Ok(())
    }
}
