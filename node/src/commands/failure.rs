//! Why a command ended without success, and the one place where errors become exit codes.
//!
//! Errors of the layers below are sorted here. A command's own errors say which they are by the
//! constructor they go through.

use std::{error::Error, fmt, io};

use minidlt_actors::wiring::StartError;
use minidlt_config::ConfigError;

use crate::{
    bench::BenchError,
    client::{ClientError, hiding::HidingError},
    init::InitError,
    interrupt::Signal,
    say,
};

/// Shown by `minidlt --help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    it was tried and did not succeed, or what was checked does not hold
  2    wrong usage or configuration; nothing was tried
  130  ended by Ctrl-C (129: by SIGHUP, 143: by SIGTERM); the last line says what was done until then";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Whoever read the output has left, as `head` does: it has what it wanted.
    NobodyReads,
    Failed,
    Misused,
    Interrupted(Signal),
}

/// Why a command ended without success.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn Error>,
    end: End,
}

impl Failure {
    /// It was tried and did not succeed.
    pub fn failed(error: impl Error + 'static) -> Self {
        Self { error: Box::new(error), end: End::Failed }
    }

    /// It was asked for wrongly, or the configuration is wrong: trying again cannot help.
    pub fn usage(error: impl Error + 'static) -> Self {
        Self { error: Box::new(error), end: End::Misused }
    }

    /// It was told to end. The error says what was done until then.
    pub fn interrupted(signal: Signal, error: impl Error + 'static) -> Self {
        Self { error: Box::new(error), end: End::Interrupted(signal) }
    }

    /// Says it in one line on standard error, and what the shell is to be told.
    pub fn tell(&self) -> u8 {
        if self.end != End::NobodyReads {
            say::note(format_args!("minidlt: {self}"));
        }
        self.code()
    }

    fn code(&self) -> u8 {
        match self.end {
            End::NobodyReads => 0,
            End::Failed => 1,
            End::Misused => 2,
            End::Interrupted(signal) => signal.exit_code(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// What stops a node from starting is for its operator to put right.
impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::usage(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Config(_)
            | ClientError::Url(_)
            | ClientError::Unreadable { .. }
            | ClientError::Content { .. }
            | ClientError::Record(_)
            | ClientError::Hiding(HidingError::Openings { .. } | HidingError::Fields(_))
            | ClientError::Usage(_) => Self::usage(error),
            ClientError::Hiding(HidingError::NoField { .. } | HidingError::Random(_))
            | ClientError::File { .. }
            | ClientError::Tls(_)
            | ClientError::Unreachable { .. }
            | ClientError::Certificate { .. }
            | ClientError::RefusesUs { .. }
            | ClientError::Refused { .. }
            | ClientError::Unexpected { .. }
            | ClientError::BadReceipt { .. }
            | ClientError::BadStateProof { .. }
            | ClientError::NoTransaction { .. }
            | ClientError::NoEntry { .. }
            | ClientError::Draft { .. }
            | ClientError::OtherNetwork { .. }
            | ClientError::NoneAnswers { .. } => Self::failed(error),
        }
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Exists(_)
            | InitError::NoName(_)
            | InitError::NotReplaceable(_)
            | InitError::Leftover(_)
            | InitError::Genesis(_) => Self::usage(error),
            InitError::Stopped(signal) => Self::interrupted(signal, error),
            InitError::Io { .. } | InitError::Openssl(_) | InitError::Yaml(_) | InitError::Name(_) => {
                Self::failed(error)
            }
        }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Client(error) => error.into(),
            BenchError::Transaction { .. } => Self::usage(error),
            BenchError::Interrupted { signal, .. } => Self::interrupted(signal, error),
            BenchError::File { .. }
            | BenchError::Run { .. }
            | BenchError::Failed { .. }
            | BenchError::Ended { .. }
            | BenchError::NotReady { .. }
            | BenchError::NoPorts { .. }
            | BenchError::Signals(_) => Self::failed(error),
        }
    }
}

/// Failing to print the result is failing, unless nobody reads it.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let end = if error.kind() == io::ErrorKind::BrokenPipe { End::NobodyReads } else { End::Failed };
        Self { error: Box::new(error), end }
    }
}

/// Arguments that were refused, as one line.
#[derive(Debug)]
pub enum Misuse {
    NoCommand,
    Refused { said: String, help: String },
}

impl Misuse {
    /// `command` is the one whose help tells more, if one was named.
    pub fn refused(error: &clap::Error, command: Option<&str>) -> Self {
        let text = error.to_string();
        let mut paragraphs = text.split("\n\n");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut said = words(paragraphs.next().unwrap_or_default().trim_start_matches("error: "));
        let tips = paragraphs.flat_map(str::lines).filter_map(|line| line.trim_start().strip_prefix("tip: "));
        tips.for_each(|tip| said.push_str(&format!(" ({})", words(tip))));
        let help = command.map_or_else(|| "minidlt help".into(), |command| format!("minidlt {command} --help"));
        Self::Refused { said, help }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("no command was given; give one of those listed above"),
            Self::Refused { said, help } => write!(f, "{said}; see '{help}'"),
        }
    }
}

impl Error for Misuse {}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use minidlt_config::{Origin, Problem};

    use super::*;
    use crate::client::error::Problem as Refusal;

    fn code(failure: impl Into<Failure>) -> u8 {
        failure.into().code()
    }

    #[test]
    fn what_was_asked_wrongly_is_2() {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let config = || ConfigError::Key {
            key: "nodes".into(),
            origin: Origin::Flag("--nodes".into()),
            problem: Box::new(Problem::Missing),
        };
        assert_eq!(code(config()), 2);
        assert_eq!(code(ClientError::Config(config())), 2, "a user's directory");
        assert_eq!(code(BenchError::Client(ClientError::Config(config()))), 2, "also under the bench");
        assert_eq!(code(ClientError::Url("foo".into())), 2);
        assert_eq!(code(ClientError::Unreadable { path: "ca.crt".into(), reason: missing() }), 2);
        assert_eq!(code(ClientError::Content { path: "ca.crt".into(), what: "no certificate".into() }), 2);
        let record = crate::client::records::RecordError::Io { file: "f.csv".into(), reason: missing() };
        assert_eq!(code(ClientError::Record(record)), 2, "a missing input file");
        assert_eq!(code(InitError::Exists(PathBuf::from("network"))), 2);
        assert_eq!(Failure::usage(Misuse::NoCommand).code(), 2);
    }

    #[test]
    fn what_was_tried_in_vain_is_1() {
        let url = || "https://localhost:3401".to_owned();
        assert_eq!(code(ClientError::Unreachable { url: url(), reason: "refused".into() }), 1);
        let problem = Refusal::of_status(404, "Not Found");
        assert_eq!(code(ClientError::Refused { url: url(), problem, retry_after: None }), 1);
        assert_eq!(code(ClientError::OtherNetwork { url: url(), theirs: "a".into(), ours: "b".into() }), 1);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(code(ClientError::File { path: "out".into(), action: "be written", reason: full() }), 1);
        assert_eq!(code(InitError::Io { path: "network".into(), error: full() }), 1);
        assert_eq!(code(full()), 1);
    }

    #[test]
    fn an_end_from_outside_is_told_as_shells_do() {
        assert_eq!(code(InitError::Stopped(Signal::Interrupt)), 130);
        assert_eq!(code(InitError::Stopped(Signal::Terminate)), 143);
        assert_eq!(code(InitError::Stopped(Signal::HangUp)), 129);
        assert_eq!(code(io::Error::from(io::ErrorKind::BrokenPipe)), 0, "a reader that has left is no failure");
    }
}
