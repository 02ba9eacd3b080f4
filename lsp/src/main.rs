//! The `lacuna` program: arguments, logging, subcommand.

use std::process::ExitCode;

use clap::Parser;
use lacuna::{
    cli::{Command, Lacuna},
    config::LogLevel,
    logging,
};

fn main() -> ExitCode {
    let arguments = Lacuna::parse();
    logging::start(match arguments.command {
        Command::Lsp => LogLevel::Info,
        _ => LogLevel::Error,
    });
    let done = arguments.command.run();
    done.unwrap_or_else(|error| {
        eprintln!("lacuna: {error:#}");
        ExitCode::FAILURE
    })
}
