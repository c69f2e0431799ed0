//! Reading files with a bound, and YAML without repeated keys.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde::de::DeserializeOwned;

use crate::error::{ConfigError, Problem};

/// Largest node, user or network file, key or certificate, in bytes.
pub(crate) const MAX_FILE_BYTES: usize = 1 << 20;

/// A file's bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: io::Error| Problem::UnreadablePath { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > limit { Err(Problem::TooLarge { limit }) } else { Ok(bytes) }
}

/// A private file's bytes; refused if anybody but its owner may read or write it.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: io::Error| Problem::UnreadablePath { path: path.to_owned(), error };
    let mode = path.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Problem::Exposed { path: path.to_owned(), mode });
    }
    read(path, MAX_FILE_BYTES)
}

/// A text file whose problems are about the file as a whole.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, ConfigError> {
    let bytes = read(path, limit).map_err(|problem| match problem {
        Problem::UnreadablePath { error, .. } => ConfigError::file(path, Problem::Unreadable(error)),
        other => ConfigError::file(path, other),
    })?;
    String::from_utf8(bytes).map_err(|_| ConfigError::file(path, Problem::NotText))
}

/// Parses YAML; serde_yaml refuses repeated keys, and its errors name the key or the line.
pub(crate) fn parse_yaml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    serde_yaml::from_str(text).map_err(|error| ConfigError::file(path, Problem::Syntax(one_line(&error.to_string()))))
}

/// Other crates' errors may span lines; ours do not.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
