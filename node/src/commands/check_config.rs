//! `minidlt check-config`: would this node start, could this user submit?

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use minidlt_config::{
    tls::Lapse,
    user::{self, USER_FILE},
};
use thiserror::Error;

use super::{Failure, flags::NodeFlags};
use crate::say;

/// Check a node's or user's directory: files, keys, certificates and genesis
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// The directory of a node or user, such as network/node0 or network/users/admin
    #[arg(value_name = "DIR")]
    path: PathBuf,
    #[command(flatten)]
    flags: NodeFlags,
}

#[derive(Debug, Error)]
#[error("{} is a user's directory; the flags in place of a node's config.yaml are for a node's", .0.display())]
struct NodesFlags(PathBuf);

#[derive(Debug, Error)]
#[error("{0}")]
struct RunOut(String);

impl CheckConfig {
    pub fn run(self) -> Result<(), Failure> {
        let (identity, genesis, warnings) = if self.path.join(USER_FILE).exists() {
            if self.flags != NodeFlags::default() {
                return Err(Failure::usage(NodesFlags(self.path)));
            }
            let user = user::load(&self.path)?;
            (user.identity, user.genesis, user.warnings)
        } else {
            let mut node = minidlt_config::load(&self.path, self.flags.into())?;
            // It starts with one that has run out, but is of no use before that is renewed.
            match node.tls.lapse().map_err(Failure::failed)? {
                Some(Lapse::Over(problem)) => return Err(Failure::usage(RunOut(problem))),
                Some(Lapse::Soon(warning)) => node.warnings.push(warning),
                None => {}
            }
            (node.identity, node.genesis, node.warnings)
        };
        for warning in warnings {
            say::warn(warning);
        }
        writeln!(io::stdout(), "ok: {identity} of network {}, genesis {}", genesis.network, genesis.id())?;
        Ok(())
    }
}
