//! The commands, each a file: arguments as a `clap::Args` with a `run` that says how it went. A new
//! one is its file, its `mod` line, and its line in [`commands!`].

mod bench;
mod blocks;
mod check_config;
mod compare;
mod flags;
mod init;
mod keygen;
mod receipt;
mod start;
mod status;
mod submit;
mod verify;
mod verify_receipt;
mod watch;

use std::{error::Error, fmt, process::ExitCode};

/// Declares the enum that clap reads and the call of each variant's `run`.
macro_rules! commands {
    ($($variant:ident($arguments:ty),)+) => {
        #[derive(clap::Subcommand)]
        pub enum Command {
            $($variant($arguments),)+
        }

        impl Command {
            pub fn run(self) -> Result<(), Failure> {
                match self {
                    $(Self::$variant(command) => command.run(),)+
                }
            }
        }
    };
}

commands! {
    Init(init::Init),
    Start(start::Start),
    Keygen(keygen::Keygen),
    CheckConfig(check_config::CheckConfig),
    Submit(submit::Submit),
    Status(status::StatusCommand),
    Blocks(blocks::Blocks),
    Watch(watch::Watch),
    Compare(compare::Compare),
    Receipt(receipt::ReceiptCommand),
    Verify(verify::Verify),
    VerifyReceipt(verify_receipt::VerifyReceipt),
    Bench(bench::Bench),
}

/// Why a command ended without success.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn Error>,
    code: u8,
}

impl Failure {
    /// It was tried and did not succeed.
    pub fn failed(error: impl Error + 'static) -> Self {
        Self { error: Box::new(error), code: 1 }
    }

    /// It was asked for wrongly, or the configuration is wrong: trying again cannot help.
    pub fn usage(error: impl Error + 'static) -> Self {
        Self { error: Box::new(error), code: 2 }
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl From<minidlt_config::ConfigError> for Failure {
    fn from(error: minidlt_config::ConfigError) -> Self {
        Self::usage(error)
    }
}

/// Settings are wrong before anything is tried; all else was tried.
impl From<crate::client::ClientError> for Failure {
    fn from(error: crate::client::ClientError) -> Self {
        match error {
            crate::client::ClientError::Config(error) => Self::usage(error),
            error => Self::failed(error),
        }
    }
}

/// Failing to print the result is failing.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

/// Arguments that clap refused, as one line.
#[derive(Debug)]
pub struct Misuse(String);

impl From<clap::Error> for Misuse {
    fn from(error: clap::Error) -> Self {
        let text = error.to_string();
        let said = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = said.trim_start_matches("error: ").split_whitespace().collect();
        Self(words.join(" "))
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; see 'minidlt help'", self.0)
    }
}

impl Error for Misuse {}
