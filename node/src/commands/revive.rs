//! `minidlt revive`: a successor of a network that cannot decide any more, offline. It is made of a copy of the chain,
//! signed by its members, and then takes the place of the genesis file.

use std::{
    collections::BTreeSet,
    fmt::Display,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use minidlt_actors::{
    clock,
    store::{
        OpenError, open_copy,
        reader::ReadError,
        verify::{VerifyError, verify_directory},
    },
};
use minidlt_config::{load_genesis, load_unsigned_genesis, user};
use minidlt_protocol::{
    genesis::{Genesis, GenesisError},
    limits::{CLOCK_WINDOW_MILLIS, MAX_GENESIS_BYTES},
    successor::{Predecessor, SuccessorError, succeed},
    types::{Hash, Height, Identity, Timestamp},
};
use thiserror::Error;

use super::Failure;
use crate::{
    client::{files::write_whole, time::rfc3339},
    say,
};

/// Carry on with a network that cannot decide any more, without the nodes that are gone for good: make and sign a successor of its genesis
#[derive(Debug, Args)]
pub struct Revive {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    Make(Make),
    Sign(Sign),
}

/// Write a successor that begins where a copy of the chain ends; its members have yet to sign it
#[derive(Debug, Args)]
struct Make {
    /// The ledger of a stopped node, such as network/node0/data/ledger, or a backup: the longest there is
    #[arg(long, value_name = "COPY")]
    from: PathBuf,
    /// The genesis file of the network
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The nodes that are gone for good and vote no more
    #[arg(long, value_name = "NODE@ORG,…", value_delimiter = ',')]
    without: Vec<Identity>,
    /// Where to; it must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Show what a successor says, hold it against your own copy of the chain, and add your signature to the file
#[derive(Debug, Args)]
struct Sign {
    /// The successor's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Directory of the user who signs
    #[arg(long = "as", value_name = "DIR/users/NAME")]
    user: PathBuf,
    /// Your own copy of the chain: your node's ledger, or a backup of it
    #[arg(long, value_name = "COPY")]
    from: PathBuf,
}

/// Why a successor was not made or signed.
#[derive(Debug, Error)]
enum ReviveError {
    #[error("{}: it is there already; choose another name", .0.display())]
    Exists(PathBuf),
    #[error("{}: {error}; stop its node, or take a backup", path.display())]
    InUse { path: PathBuf, error: OpenError },
    #[error("{}: {error}", path.display())]
    Copy { path: PathBuf, error: VerifyError },
    #[error("{}: {error}", path.display())]
    Read { path: PathBuf, error: ReadError },
    #[error("{}: no block was decided on it, so there is nothing to carry on: begin the network anew", .0.display())]
    NoBlock(PathBuf),
    #[error("this network cannot be carried on so: {0}")]
    Successor(#[from] SuccessorError),
    #[error("the successor takes {0} bytes, at most {MAX_GENESIS_BYTES} are accepted")]
    TooLarge(usize),
    #[error("cannot be written as YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
    #[error("{}: a genesis that is no successor, and needs no signatures", .0.display())]
    NoSuccessor(PathBuf),
    #[error("{user} is of network {found}, the successor carries on {expected}")]
    OtherNetwork { user: Identity, found: Hash, expected: Hash },
    #[error(
        "{}: it has block {found}, and the successor would leave out all after block {last}: sign nothing, and make one of \
         this copy", path.display()
    )]
    Longer { path: PathBuf, found: Height, last: Height },
    #[error("{}: block {height} of it is another than the successor's: sign nothing, and find out who signed both", path.display())]
    Fork { path: PathBuf, height: Height },
    #[error(
        "{}: created {}, more than {} s ahead of this machine's clock ({}): sign nothing before both clocks are right",
        path.display(), rfc3339(*created), CLOCK_WINDOW_MILLIS / 1000, rfc3339(*now)
    )]
    Ahead { path: PathBuf, created: Timestamp, now: Timestamp },
    #[error("the signature of {user} is not taken: {error}")]
    Refused { user: Identity, error: GenesisError },
}

impl From<ReviveError> for Failure {
    fn from(error: ReviveError) -> Self {
        match error {
            ReviveError::Exists(_)
            | ReviveError::InUse { .. }
            | ReviveError::NoBlock(_)
            | ReviveError::NoSuccessor(_)
            | ReviveError::OtherNetwork { .. } => Self::usage(error),
            _ => Self::failed(error),
        }
    }
}

impl Revive {
    pub fn run(self) -> Result<(), Failure> {
        match self.step {
            Step::Make(make) => make.run(),
            Step::Sign(sign) => sign.run(),
        }
    }
}

impl Make {
    fn run(self) -> Result<(), Failure> {
        if self.out.exists() {
            return Err(ReviveError::Exists(self.out).into());
        }
        let genesis = load_genesis(&self.genesis)?;
        let from = || self.from.clone();
        verify_directory(&self.from, &genesis).map_err(|error| copy(&self.from, error))?;
        let reader = open_copy(&self.from, genesis.clone().into()).map_err(|error| copy(&self.from, error.into()))?;
        let ending = reader.ending().map_err(|error| ReviveError::Read { path: from(), error })?;
        let ending = ending.ok_or_else(|| ReviveError::NoBlock(from()))?;
        let without: BTreeSet<Identity> = self.without.into_iter().collect();
        let successor = succeed(&genesis, ending, without, clock::now()).map_err(ReviveError::from)?;
        write(&self.out, &successor)?;
        show(&self.out, &successor)
    }
}

impl Sign {
    fn run(self) -> Result<(), Failure> {
        let mut successor = load_unsigned_genesis(&self.file)?;
        let no_successor = || ReviveError::NoSuccessor(self.file.clone());
        let predecessor = successor.predecessor.as_deref().ok_or_else(no_successor)?;
        // The new chain's time begins with it, and what is signed before would be from long ago in its blocks.
        let (created, now) = (successor.created, clock::now());
        if created > now.plus_millis(CLOCK_WINDOW_MILLIS) {
            return Err(ReviveError::Ahead { path: self.file, created, now }.into());
        }
        let user = user::load(&self.user)?;
        user.warnings.iter().for_each(say::warn);
        let (found, expected) = (user.network, predecessor.genesis.id());
        if found != expected {
            return Err(ReviveError::OtherNetwork { user: user.identity, found, expected }.into());
        }
        self.compare(predecessor)?;
        successor.consent(user.identity.clone(), &user.key);
        let taken = successor.check_unsigned();
        taken.map_err(|error| ReviveError::Refused { user: user.identity.clone(), error })?;
        write(&self.file, &successor)?;
        show(&self.file, &successor)
    }

    /// The file proves all but that the chain ended there.
    fn compare(&self, predecessor: &Predecessor) -> Result<(), Failure> {
        let path = || self.from.clone();
        let summary = verify_directory(&self.from, &predecessor.genesis).map_err(|error| copy(&self.from, error))?;
        let (head, last) = (summary.head, &predecessor.last);
        if head.height > last.header.height {
            return Err(ReviveError::Longer { path: path(), found: head.height, last: last.header.height }.into());
        }
        if head.height == last.header.height && head.hash != last.hash {
            return Err(ReviveError::Fork { path: path(), height: head.height }.into());
        }
        Ok(())
    }
}

fn copy(path: &Path, error: VerifyError) -> ReviveError {
    let path = path.to_owned();
    match error {
        VerifyError::Open(error @ OpenError::Locked(_)) => ReviveError::InUse { path, error },
        error => ReviveError::Copy { path, error },
    }
}

fn write(path: &Path, successor: &Genesis) -> Result<(), Failure> {
    let head = "# Block 0 of a network that carries on another: all but the signatures is hashed to its id.\n";
    let text = [head, &serde_yaml::to_string(successor).map_err(ReviveError::from)?].concat();
    if text.len() > MAX_GENESIS_BYTES {
        return Err(ReviveError::TooLarge(text.len()).into());
    }
    Ok(write_whole(path, &text)?)
}

fn show(path: &Path, successor: &Genesis) -> Result<(), Failure> {
    let Some(predecessor) = &successor.predecessor else { return Ok(()) };
    let origin = predecessor.origin();
    let mut out = io::stdout().lock();
    writeln!(out, "successor  {}", successor.id())?;
    writeln!(out, "of         {} after block {}, {}", origin.network, origin.height, origin.block)?;
    writeln!(out, "created    {}", rfc3339(successor.created))?;
    writeln!(out, "without    {}", list(&predecessor.without))?;
    let voters = successor.registry().orderers();
    writeln!(out, "voters     {}", list(voters.as_slice().iter().map(|voter| &voter.identity)))?;
    writeln!(out, "signed by  {}", list(predecessor.signatures.iter().map(|consent| &consent.user)))?;
    match successor.check() {
        Ok(()) => writeln!(out, "{} may take the place of the genesis file", path.display())?,
        Err(error) => writeln!(out, "not enough yet: {error}")?,
    }
    Ok(())
}

fn list(of: impl IntoIterator<Item = impl Display>) -> String {
    let all: Vec<String> = of.into_iter().map(|one| one.to_string()).collect();
    if all.is_empty() { "nobody".to_owned() } else { all.join(", ") }
}
