//! `minidlt keygen`: makes a signing key.

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use super::Failure;
use crate::init::write_private;

/// Make a signing key (secp256k1, PKCS#8 PEM, readable by its owner alone) and print its public key
#[derive(Debug, Args)]
pub struct Keygen {
    /// Where to write it; the file must not exist
    #[arg(long, value_name = "FILE", default_value = "user.key")]
    out: PathBuf,
}

/// The key file could not be written.
#[derive(Debug)]
struct Unwritable {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error.kind() {
            io::ErrorKind::AlreadyExists => write!(f, "{} exists; choose another file", self.path.display()),
            _ => write!(f, "{} cannot be written: {}", self.path.display(), self.error),
        }
    }
}

impl std::error::Error for Unwritable {}

impl Unwritable {
    /// Whether another file is to be named; all else, such as a full disk, is no fault of the arguments.
    fn is_misuse(&self) -> bool {
        use io::ErrorKind::{AlreadyExists, NotFound, PermissionDenied};
        matches!(self.error.kind(), AlreadyExists | NotFound | PermissionDenied)
    }
}

impl Keygen {
    pub fn run(self) -> Result<(), Failure> {
        let key = minidlt_config::generate_key().map_err(Failure::failed)?;
        write_private(&self.out, &key.pem).map_err(|error| {
            let unwritable = Unwritable { path: self.out.clone(), error };
            if unwritable.is_misuse() { Failure::usage(unwritable) } else { Failure::failed(unwritable) }
        })?;
        writeln!(io::stdout(), "{}", key.public_key)?;
        Ok(())
    }
}
