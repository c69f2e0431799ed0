//! The program as a member drives it: what it says, and the block that a change is in.

use std::{fs, path::Path, process::Output};

use crate::Cluster;

/// The program as one user: its exit code, and what it said on both outputs.
pub fn minidlt(cluster: &Cluster, user: &str, words: &[&str]) -> (i32, String) {
    let directory = cluster.user(user).display().to_string();
    let Output { status, stdout, stderr } = cluster.minidlt(&[words, &["--as", &directory]].concat());
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (status.code().expect("it ends by itself"), said)
}

/// A command that must succeed, and what it said.
pub fn done(cluster: &Cluster, user: &str, words: &[&str]) -> String {
    let (code, said) = minidlt(cluster, user, words);
    assert_eq!(code, 0, "{words:?} as {user}: {said}");
    said
}

/// A command that must be tried in vain, and what it said.
pub fn refused(cluster: &Cluster, user: &str, words: &[&str]) -> String {
    let (code, said) = minidlt(cluster, user, words);
    assert_eq!(code, 1, "{words:?} as {user}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "one line: {said}");
    said
}

/// A change that its author writes to a file, that these endorse, and that is then sent, all through one node;
/// the block it is in.
pub fn agree(cluster: &Cluster, node: usize, words: &[&str], author: &str, endorsers: &[&str]) -> u64 {
    let file = cluster.directory.path().join("change.json").display().to_string();
    let _of_before = fs::remove_file(&file);
    let through = ["--node", &cluster.api(node)];
    done(cluster, author, &[words, &through, &["--out", &file]].concat());
    endorsers.iter().for_each(|endorser| drop(done(cluster, endorser, &["endorse", &file])));
    block_of(&done(cluster, author, &[&["send", &file], &through[..]].concat()))
}

/// The block that a command's line names.
pub fn block_of(said: &str) -> u64 {
    let (_, rest) = said.rsplit_once(" in block ").unwrap_or_else(|| panic!("no block: {said}"));
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Makes a key; its public part.
pub fn keygen(cluster: &Cluster, path: &Path) -> String {
    let made = cluster.minidlt(&["keygen", "--out", &path.display().to_string()]);
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).expect("hexadecimal").trim().to_owned()
}
