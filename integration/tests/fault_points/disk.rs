//! `disk.c`, built as the test runs and loaded before a node's own library of C: the disk below the
//! node's data fails, or the machine stops, at a change of the test's choosing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use minidlt_integration::root;
use tempfile::TempDir;

/// What happens at a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL instead of it.
    Kill,
    /// Half of the bytes are written, then SIGKILL.
    Torn,
    /// SIGKILL, and nothing that was not synced is there any more.
    Power,
    /// It fails: a broken disk (EIO).
    Broken,
    /// It fails: a full disk (ENOSPC).
    Full,
}

impl Fault {
    pub const ALL: [Self; 5] = [Self::Kill, Self::Torn, Self::Power, Self::Broken, Self::Full];

    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Torn => "torn",
            Self::Power => "power",
            Self::Broken => "5",
            Self::Full => "28",
        }
    }

    /// Whether the process is gone with it.
    pub fn kills(self) -> bool {
        matches!(self, Self::Kill | Self::Torn | Self::Power)
    }

    /// Whether it says something at this change that no other fault does.
    pub fn suits(self, change: &Change) -> bool {
        match self {
            Self::Torn => matches!(change.call.as_str(), "write" | "pwrite"),
            Self::Full => !matches!(change.call.as_str(), "fsync" | "fdatasync" | "unlink"),
            Self::Kill | Self::Power | Self::Broken => true,
        }
    }
}

/// A change to the files below the node's data.
#[derive(Debug, Clone)]
pub struct Change {
    pub call: String,
    /// From the data's directory on.
    pub path: String,
}

impl Change {
    /// What was promised rests on it: the signer's log, or the ledger's.
    pub fn is_of_a_log(&self) -> bool {
        let of_log = self.path.ends_with(".log") && !self.path.contains("LOG");
        of_log && matches!(self.call.as_str(), "write" | "pwrite" | "fsync" | "fdatasync")
    }
}

/// The library, and what it says of one node's changes.
pub struct Disk {
    folder: TempDir,
    data: PathBuf,
}

impl Disk {
    /// That of the data in this directory, or why there can be none.
    pub fn under(data: &Path) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let source = root().join("integration/tests/fault_points/disk.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]);
        let output = compiler.arg(folder.path().join("disk.so")).arg(source).arg("-ldl").output();
        let output = output.map_err(|error| format!("cc: {error}"))?;
        if !output.status.success() {
            return Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(Self { folder, data: data.to_owned() })
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    /// The words of the command that starts a program on this disk, which fails at a change, counted
    /// from 1, or not at all.
    pub fn words(&self, fault: Option<(usize, Fault)>) -> Vec<String> {
        // A run's changes are its own.
        let _none_yet = fs::remove_file(self.trace());
        let mut words = vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", self.folder.path().join("disk.so").display()),
            format!("FAULT_UNDER={}", self.data.display()),
            format!("FAULT_TRACE={}", self.trace().display()),
        ];
        if let Some((at, fault)) = fault {
            words.extend([format!("FAULT_AT={at}"), format!("FAULT_DO={}", fault.word())]);
        }
        words
    }

    /// The changes since then.
    pub fn changes(&self) -> Vec<Change> {
        let text = fs::read_to_string(self.trace()).unwrap_or_default();
        let change = |line: &str| {
            let (_, rest) = line.split_once(' ').expect("a number first");
            let (call, path) = rest.split_once(' ').expect("a call, then a path");
            let path = Path::new(path).strip_prefix(&self.data).expect("below the data");
            Change { call: call.to_owned(), path: path.display().to_string() }
        };
        text.lines().map(change).collect()
    }
}
