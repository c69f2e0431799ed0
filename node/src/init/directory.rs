//! A directory that appears whole or not at all, and files with the modes they need.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::InitError;

const PRIVATE_FILE: u32 = 0o600;
const PUBLIC_FILE: u32 = 0o644;
const PRIVATE_DIRECTORY: u32 = 0o700;
const PUBLIC_DIRECTORY: u32 = 0o755;

/// Where files gather until [`Staging::publish`]. Dropped before that, they are removed.
pub struct Staging {
    at: PathBuf,
    target: PathBuf,
}

impl Staging {
    pub fn new(target: &Path) -> Result<Self, InitError> {
        let occupied =
            target.symlink_metadata().is_ok() && !target.read_dir().is_ok_and(|mut entries| entries.next().is_none());
        if occupied {
            return Err(InitError::Exists(target.to_owned()));
        }
        let name = target.file_name().ok_or_else(|| InitError::NoName(target.to_owned()))?;
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| InitError::Io { path, error }
        };
        fs::create_dir_all(parent).map_err(io(parent))?;
        let at = parent.join(format!(".{}.init-{}", name.to_string_lossy(), std::process::id()));
        DirBuilder::new().mode(PUBLIC_DIRECTORY).create(&at).map_err(io(&at))?;
        Ok(Self { at, target: target.to_owned() })
    }

    /// Makes a directory that holds private files, and those above it.
    pub fn private_directory(&self, path: &str) -> Result<(), InitError> {
        let path = self.at.join(path);
        let made = match path.parent() {
            Some(parent) => DirBuilder::new().recursive(true).mode(PUBLIC_DIRECTORY).create(parent),
            None => Ok(()),
        };
        made.and_then(|()| DirBuilder::new().mode(PRIVATE_DIRECTORY).create(&path))
            .map_err(|error| InitError::Io { path, error })
    }

    pub fn private(&self, path: &str, bytes: &[u8]) -> Result<(), InitError> {
        let path = self.at.join(path);
        write_private(&path, bytes).map_err(|error| InitError::Io { path, error })
    }

    pub fn public(&self, path: &str, bytes: &[u8]) -> Result<(), InitError> {
        let path = self.at.join(path);
        write_new(&path, bytes, PUBLIC_FILE).map_err(|error| InitError::Io { path, error })
    }

    /// Moves everything to its place, in one step.
    pub fn publish(self) -> Result<(), InitError> {
        fs::rename(&self.at, &self.target).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => InitError::Exists(self.target.clone()),
            _ => InitError::Io { path: self.target.clone(), error },
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Once published there is nothing here; and what cannot be removed cannot be helped.
        let _ = fs::remove_dir_all(&self.at);
    }
}

/// Writes a new file that only its owner can read.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(path, bytes, PRIVATE_FILE)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
