//! `replay`, `compare`, `show-one`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use lacuna_evals::{
    report::{Run, bootstrap},
    tasks::replay::{self, Speed, script},
};

use super::{
    Common,
    measure::{RunArguments, finish},
};

/// Type real code key by key into a server, as the editors do.
#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    run: RunArguments,
    /// Servers to type at, one after another: `lacuna`, an http address with /infill, or a command line.
    #[arg(long = "server", default_value = "lacuna", value_name = "SERVER")]
    servers: Vec<String>,
    /// The lacuna binary; by default the one beside this program, or on the PATH.
    #[arg(long, value_name = "FILE")]
    lacuna: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "human")]
    speed: Speed,
}

/// Two runs side by side, with confidence intervals.
#[derive(Debug, Args)]
pub struct Compare {
    /// Directory of the first run.
    a: PathBuf,
    /// Directory of the second run.
    b: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// One case of a run in full.
#[derive(Debug, Args)]
pub struct ShowOne {
    /// The case's id, or its number from 0.
    case: String,
    /// Directory of the run.
    #[arg(long, value_name = "DIRECTORY")]
    run: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl Replay {
    pub fn run(self) -> Result<()> {
        const FILES: usize = 10;
        let data = self.common.data.clone().context("give the code to type with --data FILE or DIRECTORY")?;
        let sessions = script::from_files(&data, self.common.limit.unwrap_or(FILES), self.common.seed)?;
        let (directory, _) = self.run.open("replay", &self.servers.join("-"))?;
        let settings = replay::Settings { speed: self.speed, servers: self.servers, seed: self.common.seed };
        let lacuna = replay::find_lacuna(self.lacuna);
        let model = serde_json::json!({ "source": self.common.model });
        let mut run = Run::new("replay", model, serde_json::to_value(&settings)?);
        let cases = replay::run(&sessions, &lacuna, &self.common.model, &settings, &mut run)?;
        finish(&run, &cases, &directory, self.common.json)
    }
}

impl Compare {
    pub fn run(self) -> Result<()> {
        let ((_, a), (_, b)) = (Run::read(&self.a)?, Run::read(&self.b)?);
        let rows = bootstrap::compare(&a, &b, self.common.seed);
        anyhow::ensure!(!rows.is_empty(), "the two runs have no case in common");
        if self.common.json {
            println!("{}", serde_json::to_string_pretty(&rows)?);
            return Ok(());
        }
        println!("{:<18} {:>6} {:>10} {:>10} {:>10}   95% interval", "metric", "cases", "A", "B", "B - A");
        for row in rows {
            println!(
                "{:<18} {:>6} {:>10.4} {:>10.4} {:>+10.4}   [{:+.4}, {:+.4}]",
                row.metric, row.cases, row.a, row.b, row.difference, row.low, row.high
            );
        }
        Ok(())
    }
}

impl ShowOne {
    pub fn run(self) -> Result<()> {
        let (_, cases) = Run::read(&self.run)?;
        let number = self.case.parse::<usize>().ok();
        let found: Vec<_> = cases
            .iter()
            .enumerate()
            .filter(|(index, case)| case.id == self.case || number == Some(*index))
            .map(|(_, case)| case)
            .collect();
        anyhow::ensure!(!found.is_empty(), "{} has no case {:?}", self.run.display(), self.case);
        if self.common.json {
            println!("{}", serde_json::to_string_pretty(&found)?);
            return Ok(());
        }
        for case in found {
            println!("== {} ({}) {:?} {}", case.id, case.group, case.values, case.result);
            println!("-- prompt\n{}", case.prompt);
            println!(
                "-- completion ({} tokens, {:.0} ms)\n{}",
                case.tokens, case.milliseconds, case.completion
            );
            if !case.suffix.is_empty() {
                println!("-- suffix\n{}", case.suffix);
            }
            if !case.expected.is_empty() {
                println!("-- expected\n{}", case.expected);
            }
        }
        Ok(())
    }
}
