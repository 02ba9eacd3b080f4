//! `replay`, `compare`, `show-one`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use lacuna_evals::{
    generate::{ModelFacts, peer::find_lacuna},
    report::{
        Case, Run,
        bootstrap::{self, Of},
    },
    tasks::replay::{self, From, Speed, history, script},
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
    /// What is typed: lines of the files in --data, or what the latest commits of the repository there added.
    #[arg(long, value_enum, default_value = "files")]
    from: From,
    /// A setting of the server as editors send it, such as leastConfidence=40; may be given more than once.
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = parse_setting)]
    server_settings: Vec<(String, Value)>,
}

/// A value that is no JSON is a text.
fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// Two runs side by side, with confidence intervals.
#[derive(Debug, Args)]
pub struct Compare {
    /// Directory of the first run.
    a: PathBuf,
    /// Directory of the second run; may be the first.
    b: PathBuf,
    /// Only this group of the first run, such as `psm` or `python off`; partners are then found by their ids alone.
    #[arg(long, value_name = "GROUP", requires = "group_b")]
    group_a: Option<String>,
    /// Only this group of the second run.
    #[arg(long, value_name = "GROUP", requires = "group_a")]
    group_b: Option<String>,
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
        let (limit, seed) = (self.common.limit.unwrap_or(FILES), self.common.seed);
        let history = match self.from {
            From::Git => Some(history::from_git(&data, limit, seed)?),
            From::Files => None,
        };
        let files = match &history {
            Some(_) => Vec::new(),
            None => script::from_files(&data, limit, seed)?,
        };
        let (sessions, root) = match &history {
            Some(history) => (&history.sessions, Some(history.root.path())),
            None => (&files, Some(data.as_path()).filter(|data| data.is_dir())),
        };
        let root = root.map(Path::canonicalize).transpose()?;
        let (directory, _) = self.run.open("replay", &self.servers.join("-"))?;
        let settings = replay::Settings {
            speed: self.speed,
            from: self.from,
            servers: self.servers,
            seed: self.common.seed,
            server_settings: self.server_settings.into_iter().collect(),
        };
        let lacuna = find_lacuna(self.lacuna);
        let mut stored = serde_json::to_value(&settings)?;
        stored["data"] = data.file_name().and_then(|name| name.to_str()).into();
        stored["limit"] = self.common.limit.into();
        let model = serde_json::to_value(ModelFacts::read(&self.common.model)?)?;
        let mut run = Run::new("replay", model, stored);
        let work =
            replay::Work { sessions, root: root.as_deref(), lacuna: &lacuna, model: &self.common.model };
        let cases = replay::run(&work, &settings, &mut run)?;
        finish(&run, &cases, &directory, self.common.json)
    }
}

impl Compare {
    pub fn run(self) -> Result<()> {
        let ((_, a), (_, b)) = (Run::read(&self.a)?, Run::read(&self.b)?);
        let of_a = self.group_a.as_deref().map_or(Of::AllGroups, Of::Group);
        let of_b = self.group_b.as_deref().map_or(Of::AllGroups, Of::Group);
        let rows = bootstrap::compare((&a, of_a), (&b, of_b), self.common.seed);
        anyhow::ensure!(
            !rows.is_empty(),
            "the two runs have no case in common; groups are {} and {}; name one of each with --group-a and --group-b",
            groups(&a),
            groups(&b)
        );
        if self.common.json {
            println!("{}", serde_json::to_string_pretty(&rows)?);
            return Ok(());
        }
        println!("{:<18} {:>6} {:>10} {:>10} {:>10}   95% interval", "metric", "cases", "A", "B", "B - A");
        for row in rows {
            println!(
                "{:<18} {:>6} {:>10.4} {:>10.4} {:>+10.4}   [{:+.4}, {:+.4}]",
                row.metric, row.cases, row.a, row.b, row.difference, row.interval.low, row.interval.high
            );
        }
        Ok(())
    }
}

fn groups(cases: &[Case]) -> String {
    let groups: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.group.as_str()).collect();
    groups.into_iter().collect::<Vec<_>>().join(", ")
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
