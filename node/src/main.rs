//! `minidlt`: the command line. Each command is a file in `commands`; this one parses, runs and
//! turns the outcome into an exit code: 0 done, 1 failed, 2 wrong usage or configuration.

#![forbid(unsafe_code)]

mod bench;
mod client;
mod commands;
mod init;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

/// A permissioned ledger between organisations.
#[derive(Parser)]
#[command(name = "minidlt", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let outcome = match Arguments::try_parse() {
        Ok(arguments) => arguments.command.run(),
        Err(error) if is_answer(error.kind()) => error.print().map_err(commands::Failure::failed),
        Err(error) => Err(commands::Failure::usage(commands::Misuse::from(error))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("minidlt: {failure}");
            failure.exit_code()
        }
    }
}

/// Help and version come as errors, too.
fn is_answer(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}
