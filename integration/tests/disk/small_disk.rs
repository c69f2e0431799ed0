//! A small disk of its own for one directory. It is mounted in a namespace that only those see who
//! are started within, and is gone with the last of them: nothing to tidy up, whatever happens.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use minidlt_integration::run;

/// Mounts it at `$1`, says so, and keeps the namespace until its standard input is closed, as it is
/// by the end of this process, too.
const MOUNT: &str = r#"mount -t tmpfs -o size=8m,mode=0700 tmpfs "$1" && echo mounted && exec cat"#;
/// How the namespace is made, and entered: as anybody, where users may have namespaces; else as root.
const WAYS: [(&[&str], &[&str]); 2] =
    [(&["--map-root-user", "--mount"], &["--user", "--preserve-credentials", "--mount"]), (&["--mount"], &["--mount"])];

pub struct SmallDisk {
    holder: Child,
    enter: &'static [&'static str],
    /// What leaves no room.
    filler: PathBuf,
}

impl SmallDisk {
    /// An empty one at this directory, or why there can be none here.
    pub fn at(directory: &Path) -> Result<Self, String> {
        let mut reasons = Vec::new();
        for (make, enter) in WAYS {
            match hold(directory, make) {
                Ok(holder) => return Ok(Self { holder, enter, filler: directory.join("filler") }),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    /// The words of the command that starts a program where this disk is seen.
    pub fn words(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        let words = ["nsenter", "--target", &target].into_iter().chain(self.enter.iter().copied()).chain(["--"]);
        words.map(str::to_owned).collect()
    }

    /// Leaves no room.
    pub fn fill(&self) {
        let full = self.command(&["sh", "-c", r#"cat /dev/zero > "$1""#, "sh"]).stderr(Stdio::null()).status();
        assert!(!full.expect("nsenter runs").success(), "writing without end ends with the disk full");
    }

    /// Makes all that room again.
    pub fn make_room(&self) {
        run(&mut self.command(&["rm"]));
    }

    /// A command within, on the filler.
    fn command(&self, arguments: &[&str]) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).arg(&self.filler);
        command
    }
}

fn hold(directory: &Path, make: &[&str]) -> Result<Child, String> {
    let mut holder = Command::new("unshare")
        .args(make)
        .args(["sh", "-c", MOUNT, "sh"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("unshare: {error}"))?;
    if first_line(holder.stdout.as_mut().expect("a pipe")) == "mounted\n" {
        return Ok(holder);
    }
    let output = holder.wait_with_output().expect("unshare ends");
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Waits for a line, or for the end of whoever writes.
fn first_line(from: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(from).read_line(&mut line).expect("a pipe can be read");
    line
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its end is the end of its input.
        drop(self.holder.stdin.take());
        let _reaped = self.holder.wait();
    }
}
