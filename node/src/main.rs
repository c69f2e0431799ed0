//! `minidlt`: the command line. Each command is a file in `commands`; this one parses, runs, and says
//! how it went. Which error is which exit code is decided in `commands::failure`.

#![forbid(unsafe_code)]

mod bench;
mod client;
mod commands;
mod init;
mod interrupt;
mod say;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};

use commands::{EXIT_CODES, Failure, Misuse};

const FIRST_STEPS: &str = "\
First steps:
  minidlt init --nodes 4 --dir network   lays out a network of four nodes on this machine
  minidlt start network/node0            runs one of them; so the others, each in a terminal
  minidlt status --as network/users/trader
  minidlt submit --as network/users/trader --wait FILE";

/// A permissioned ledger between organisations.
#[derive(Debug, Parser)]
#[command(name = "minidlt", version, propagate_version = true, after_help = format!("{FIRST_STEPS}\n\n{EXIT_CODES}"))]
struct Arguments {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let outcome = match Arguments::try_parse() {
        Ok(arguments) => arguments.command.run(),
        Err(error) => answer(&error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell().into(),
    }
}

/// Help and version come as errors, too. Who names no command gets the help, but nothing was done.
fn answer(error: &clap::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.print().map_err(Failure::from),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.print()?;
            Err(Failure::usage(Misuse::NoCommand))
        }
        _ => Err(Failure::usage(Misuse::refused(error, named_command().as_deref()))),
    }
}

/// The command whose help tells more, if one was named.
fn named_command() -> Option<String> {
    let name = std::env::args_os().nth(1)?.into_string().ok()?;
    let known = Arguments::command().find_subcommand(&name).is_some();
    known.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arguments: &[&str]) -> String {
        let arguments = std::iter::once("minidlt").chain(arguments.iter().copied());
        let error = Arguments::try_parse_from(arguments).expect_err("it must be refused");
        answer(&error).expect_err("it must fail").to_string()
    }

    #[test]
    fn the_arguments_are_declared_without_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_asked_wrongly_names_flag_and_value_in_one_line() {
        assert!(said(&["init", "--nodes", "x", "--dir", "d"]).starts_with("invalid value 'x' for '--nodes <N>'"));
        assert!(said(&["blocks", "--as", "u", "--limit", "0"]).contains("'0' for '--limit <N>'"));
        assert!(said(&["bench", "--duration", "25h"]).contains("'25h' for '--duration <TIME>'"));
        assert!(said(&["compare", "--as", "u", "foo", "https://h:1"]).contains("invalid value 'foo'"));
        assert!(said(&["verify"]).contains("<NODE>"));
        let said = said(&["submit", "--wiat", "--as", "u", "f"]);
        assert!(said.contains("'--wiat'") && said.contains("'--wait'") && !said.contains('\n'), "{said}");
    }
}
