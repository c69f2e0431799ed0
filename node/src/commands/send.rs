//! `minidlt send`: submits a transaction from a file.

use std::path::PathBuf;

use super::{Failure, change::submit};
use crate::client::{changes::Draft, connect::ConnectNode, run::block_on};

/// Submit a transaction that --out wrote and others endorsed, and wait until it is committed
#[derive(Debug, clap::Args)]
pub struct Send {
    #[command(flatten)]
    connect: ConnectNode,
    /// The transaction's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Send {
    pub fn run(self) -> Result<(), Failure> {
        block_on(async {
            let session = self.connect.session()?;
            let draft = Draft::read(&self.file, &session.user.network)?;
            session.first_alive().await?;
            submit(&session.nodes, &draft).await
        })
    }
}
