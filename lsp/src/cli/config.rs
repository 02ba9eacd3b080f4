//! `lacuna config`: the settings, for people and for the editors' own setting lists.

use std::process::ExitCode;

use clap::Subcommand;

use crate::config;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the settings as JSON Schema: names, types, defaults, descriptions
    Schema,
}

pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Schema => println!("{}", serde_json::to_string_pretty(&config::schema())?),
    }
    Ok(ExitCode::SUCCESS)
}
