//! Reading and writing files, with errors that name them.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process,
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

/// Writes a file so that it is either whole or not there, wherever the program is ended. What is no
/// regular file, such as `/dev/stdout` or a link, is written to as it is: it must not be replaced.
pub fn write_whole(path: &Path, text: &str) -> Result<(), ClientError> {
    let special = path.symlink_metadata().is_ok_and(|found| !found.is_file());
    let written = if special { fs::write(path, text) } else { replace(path, text) };
    written.map_err(|reason| ClientError::File { path: path.into(), action: "be written", reason })
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let part = path.with_file_name(format!(".{}.part-{}", name.to_string_lossy(), process::id()));
    // Process ids come again: what lies there is of one that was killed.
    let _ = fs::remove_file(&part);
    write_synced(&part, text).and_then(|()| fs::rename(&part, path)).inspect_err(|_| {
        // It may not even have been made; what matters is why.
        let _ = fs::remove_file(&part);
    })
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Puts the name of a new file on the disk.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_link_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| directory.path().join(name));
        write_whole(&file, "one").unwrap();
        write_whole(&file, "two").unwrap();
        symlink(&file, &link).unwrap();
        write_whole(&link, "three").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "three");
        assert!(write_whole(directory.path(), "four").is_err());
        assert!(write_whole(&directory.path().join("none/file"), "five").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no part is left");
    }
}
