//! `minidlt restore`: a node's ledger of a copy, offline.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use minidlt_actors::{
    restore::{Kept, RestoreError, Restored, restore},
    store::{CopyError, OpenError, verify::Summary},
};
use minidlt_config::{Flags, Settings};
use thiserror::Error;

use super::Failure;
use crate::say;

/// Make a node's ledger of a backup, or of another node's ledger: checked whole, as by verify, before it is there
#[derive(Debug, Args)]
pub struct Restore {
    /// The directory of the node, which is not running and has its keys but no ledger
    #[arg(value_name = "DIR")]
    node: PathBuf,
    /// A backup, or the ledger of a stopped node, such as network/node0/data/ledger; nothing of it is changed
    #[arg(long, value_name = "COPY")]
    from: PathBuf,
    /// The genesis file [default: the one that the node's config.yaml names]
    #[arg(long, value_name = "FILE")]
    genesis: Option<String>,
}

/// Nothing was tried, and nothing is wrong with the copy.
#[derive(Debug, Error)]
#[error("--from {0}; stop its node, or have it make a backup")]
struct InUse(OpenError);

impl Restore {
    pub fn run(self) -> Result<(), Failure> {
        let settings = minidlt_config::load(&self.node, Flags { genesis: self.genesis, ..Flags::default() })?;
        settings.warnings.iter().for_each(say::warn);
        let restored = restore(&settings.data_dir, &settings.genesis, &settings.identity, &self.from);
        let Restored { summary, forgot_votes, kept } = restored.map_err(failure)?;
        let (me, head, node) = (&settings.identity, summary.head.height, self.node.display());
        let mut out = io::stdout().lock();
        if let Some(kept) = kept {
            drop(out);
            return begin(&settings, &self.node, &summary, forgot_votes, &kept);
        }
        if forgot_votes {
            say::note(
                "the record of votes that lay there was not of this ledger's last block, as far as anybody knows: removed",
            );
        }
        writeln!(out, "restored {me}: {summary}")?;
        writeln!(out, "where other nodes have the chain, it votes once it knows from where on:")?;
        writeln!(out, "  minidlt start {node}")?;
        writeln!(out, "where no node is left, and nobody has a block after {head}:")?;
        writeln!(out, "  minidlt start {node} --vote-from {}", head.next())?;
        Ok(())
    }
}

/// What comes before a node's first start in a successor.
fn begin(
    settings: &Settings,
    node: &Path,
    summary: &Summary,
    forgot_votes: bool,
    Kept { chain, fork, votes }: &Kept,
) -> Result<(), Failure> {
    if forgot_votes {
        say::note("the record of votes that lay there was not of the successor, as far as anybody knows: removed");
    }
    if let Some(fork) = fork {
        say::note(format_args!("the proof that the network before forked is now {}", fork.display()));
    }
    let (mut out, node) = (io::stdout().lock(), node.display());
    writeln!(out, "{} keeps the network before in {}: {summary}", settings.identity, chain.display())?;
    writeln!(out, "and begins with its successor, {}:", settings.network)?;
    if *votes {
        writeln!(out, "  minidlt start {node}")?;
        return Ok(());
    }
    writeln!(out, "  minidlt start {node} --vote-from 1")?;
    writeln!(
        out,
        "if it has never run in the successor, as that promises; else it votes once it knows from where on:"
    )?;
    writeln!(out, "  minidlt start {node}")?;
    Ok(())
}

fn failure(error: RestoreError) -> Failure {
    match error {
        RestoreError::Copy(CopyError::Open(error @ OpenError::Locked(_))) => Failure::usage(InUse(error)),
        RestoreError::Exists(_) | RestoreError::Busy(_) => Failure::usage(error),
        error => Failure::failed(error),
    }
}
