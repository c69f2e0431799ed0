//! `minidlt endorse`: adds a signature to a transaction in a file.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use minidlt_config::user;

use super::Failure;
use crate::{
    client::{ClientError, changes::Draft, time::rfc3339},
    say,
};

/// Endorse a transaction that --out wrote: show what it does, and add your signature to the file; no node is asked
#[derive(Debug, clap::Args)]
pub struct Endorse {
    /// Directory of the user who endorses
    #[arg(long = "as", value_name = "DIR/users/NAME")]
    user: PathBuf,
    /// The transaction's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Endorse {
    pub fn run(self) -> Result<(), Failure> {
        let user = user::load(&self.user)?;
        user.warnings.iter().for_each(say::warn);
        let mut draft = Draft::read(&self.file, &user.network)?;
        let bad = |reason| ClientError::Draft { path: self.file.clone(), reason: Box::new(reason) };
        draft.endorse(&user).map_err(bad)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{:#}", draft.operation())?;
        writeln!(out, "author   {}", draft.body.author)?;
        writeln!(out, "expires  {}", rfc3339(draft.body.expires))?;
        draft.write(&self.file)?;
        let count = draft.signed.endorsements.len();
        writeln!(
            out,
            "endorsed by {}; the file has {count} endorsement{}",
            user.identity,
            if count == 1 { "" } else { "s" }
        )?;
        Ok(())
    }
}
