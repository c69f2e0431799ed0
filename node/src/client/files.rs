//! Reading and writing files, with errors that name them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::error::ClientError;

/// Reads a file of at most `limit` bytes.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, ClientError> {
    let failed = |reason| ClientError::Unreadable { path: path.into(), reason };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    io::Read::read_to_end(&mut io::Read::take(file, limit as u64 + 1), &mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(ClientError::Content { path: path.into(), what: format!("more than {limit} bytes") });
    }
    Ok(bytes)
}

/// Reads a text file of at most `limit` bytes.
pub fn read_text(path: &Path, limit: usize) -> Result<String, ClientError> {
    String::from_utf8(read(path, limit)?)
        .map_err(|_| ClientError::Content { path: path.into(), what: "not UTF-8 text".into() })
}

/// Writes a file so that it is either whole or not there, wherever the program is ended.
pub fn write_whole(path: &Path, text: &str) -> Result<(), ClientError> {
    let failed = |reason| ClientError::File { path: path.into(), action: "be written", reason };
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    fs::write(&part, text).and_then(|()| fs::rename(&part, path)).map_err(|reason| {
        // It may not even have been made; what matters is why.
        let _ = fs::remove_file(&part);
        failed(reason)
    })
}
