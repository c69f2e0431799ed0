//! A directory that appears whole or not at all, and files with the modes they need.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use super::InitError;
use crate::interrupt::Signal;

const PRIVATE_FILE: u32 = 0o600;
const PUBLIC_FILE: u32 = 0o644;
const PRIVATE_DIRECTORY: u32 = 0o700;
const PUBLIC_DIRECTORY: u32 = 0o755;

/// Tells a [`Staging`] from another thread to write nothing more.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<OnceLock<Signal>>);

impl Stop {
    /// The first signal counts.
    pub fn set(&self, signal: Signal) {
        let _ = self.0.set(signal);
    }

    fn check(&self) -> Result<(), InitError> {
        self.0.get().map_or(Ok(()), |signal| Err(InitError::Stopped(*signal)))
    }
}

/// Where files gather until [`Staging::publish`]. Dropped before that, they are removed.
pub struct Staging {
    at: PathBuf,
    target: PathBuf,
    /// Of the empty directory in whose place this comes.
    mode: Option<Permissions>,
    stop: Stop,
}

impl Staging {
    pub fn new(target: &Path, stop: Stop) -> Result<Self, InitError> {
        let mode = replaceable(target)?;
        let prefix = staging_prefix(target).ok_or_else(|| InitError::NoName(target.to_owned()))?;
        let parent = parent_of(target);
        fs::create_dir_all(parent).map_err(|error| InitError::Io { path: parent.to_owned(), error })?;
        let at = parent.join(format!("{prefix}{}", std::process::id()));
        match DirBuilder::new().mode(PUBLIC_DIRECTORY).create(&at) {
            Ok(()) => Ok(Self { at, target: target.to_owned(), mode, stop }),
            // Process ids come again, in containers as a rule the same one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(InitError::Leftover(at)),
            Err(error) => Err(InitError::Io { path: at, error }),
        }
    }

    /// Makes a directory that holds private files, and those above it.
    pub fn private_directory(&self, path: &str) -> Result<(), InitError> {
        self.stop.check()?;
        let path = self.at.join(path);
        let made = match path.parent() {
            Some(parent) => DirBuilder::new().recursive(true).mode(PUBLIC_DIRECTORY).create(parent),
            None => Ok(()),
        };
        made.and_then(|()| DirBuilder::new().mode(PRIVATE_DIRECTORY).create(&path))
            .map_err(|error| InitError::Io { path, error })
    }

    pub fn private(&self, path: &str, bytes: &[u8]) -> Result<(), InitError> {
        self.stop.check()?;
        let path = self.at.join(path);
        write_private(&path, bytes).map_err(|error| InitError::Io { path, error })
    }

    pub fn public(&self, path: &str, bytes: &[u8]) -> Result<(), InitError> {
        self.stop.check()?;
        let path = self.at.join(path);
        write_new(&path, bytes, PUBLIC_FILE).map_err(|error| InitError::Io { path, error })
    }

    /// Moves everything to its place, in one step that a crash of the machine does not undo.
    pub fn publish(self) -> Result<(), InitError> {
        let io = |path: &Path, error| InitError::Io { path: path.to_owned(), error };
        sync_directories(&self.at).map_err(|error| io(&self.at, error))?;
        if let Some(mode) = &self.mode {
            fs::set_permissions(&self.at, mode.clone()).map_err(|error| io(&self.at, error))?;
        }
        self.stop.check()?;
        fs::rename(&self.at, &self.target).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => InitError::Exists(self.target.clone()),
            // A mount point that looks like a directory of its parent's file system.
            io::ErrorKind::ResourceBusy => InitError::NotReplaceable(self.target.clone()),
            _ => io(&self.target, error),
        })?;
        let parent = parent_of(&self.target);
        sync_directory(parent).map_err(|error| io(parent, error))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Once published there is nothing here; and what cannot be removed cannot be helped.
        let _ = fs::remove_dir_all(&self.at);
    }
}

/// Whether a directory can be renamed to `target`: the mode of the empty one there, if there is one.
fn replaceable(target: &Path) -> Result<Option<Permissions>, InitError> {
    let Ok(found) = target.symlink_metadata() else { return Ok(None) };
    if !target.read_dir().is_ok_and(|mut entries| entries.next().is_none()) {
        return Err(InitError::Exists(target.to_owned()));
    }
    if target.file_name().is_none() {
        return Err(InitError::NoName(target.to_owned()));
    }
    let mounted = parent_of(target).metadata().is_ok_and(|parent| parent.dev() != found.dev());
    if mounted || found.is_symlink() {
        return Err(InitError::NotReplaceable(target.to_owned()));
    }
    Ok(Some(found.permissions()))
}

/// What runs that were killed have left beside `target`, with private keys in it. Not that of a process
/// that is alive: it may be writing still.
pub fn leftovers(target: &Path) -> Vec<PathBuf> {
    let Some(prefix) = staging_prefix(target) else { return Vec::new() };
    let is_left = |path: &PathBuf| {
        let pid = path.file_name().and_then(|name| name.to_str()?.strip_prefix(&prefix)?.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    };
    let entries = parent_of(target).read_dir().into_iter().flatten();
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_left).collect();
    found.sort();
    found
}

/// The staging directory's name, but for the process id.
fn staging_prefix(target: &Path) -> Option<String> {
    Some(format!(".{}.init-", target.file_name()?.to_string_lossy()))
}

fn parent_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The names in `at` and below; the files are on the disk already.
fn sync_directories(at: &Path) -> io::Result<()> {
    for entry in at.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    sync_directory(at)
}

fn sync_directory(at: &Path) -> io::Result<()> {
    File::open(at)?.sync_all()
}

/// Writes a new file that only its owner can read.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(path, bytes, PRIVATE_FILE)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).inspect_err(|_| {
        // Half a file is of no use, and would be in the way next time; what matters is why.
        let _ = fs::remove_file(path);
    })
}
