//! `minidlt state-proof`: fetches the proof of what the ledger says of a member or a policy.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use minidlt_protocol::registry::EntryKey;

use super::Failure;
use crate::client::{connect::ConnectNode, files::write_whole, run::block_on, state_proofs::fetch};

/// Fetch the proof of what the ledger's state holds of a user, node, organisation or policy, or that there is none,
/// and check it
#[derive(Debug, clap::Args)]
pub struct StateProofCommand {
    #[command(flatten)]
    connect: ConnectNode,
    /// user/NAME@ORGANISATION, node/NAME@ORGANISATION, organisation/NAME or policy/NAME
    #[arg(value_name = "ENTRY")]
    key: EntryKey,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl StateProofCommand {
    pub fn run(self) -> Result<(), Failure> {
        block_on(async {
            let session = self.connect.session()?;
            let (node, _) = session.first_alive().await?;
            let text = fetch(&node, &self.key, &session.user.genesis).await?;
            match &self.out {
                Some(path) => write_whole(path, &text)?,
                None => write!(io::stdout(), "{text}")?,
            }
            Ok(())
        })
    }
}
