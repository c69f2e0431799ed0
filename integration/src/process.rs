//! The program, other processes, and waiting for what they do.

use std::{
    ffi::OsStr,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long anything in a test may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where cargo builds: a test's own binary lies in `release/deps` below it.
pub fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    test.ancestors().nth(3).expect("tests lie in target/release/deps").to_owned()
}

/// The program under test.
pub fn binary() -> PathBuf {
    let binary = target().join("release/minidlt");
    assert!(binary.exists(), "{} is missing: run `cargo build --release -p minidlt` first", binary.display());
    binary
}

/// The repository's root, asked for as the test runs: checkouts may share compiled tests.
pub fn root() -> PathBuf {
    let integration = std::env::var_os("CARGO_MANIFEST_DIR").expect("tests are run by cargo");
    Path::new(&integration).parent().expect("integration lies in the root").to_owned()
}

/// The program under test, started by `words`: those of a command that limits it and then becomes
/// it. None start it straight.
pub fn program(words: &[&str]) -> Command {
    let mut command = command(words, binary());
    // A node reads its settings from the environment, too; a test's are those of its files.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MINIDLT_")) {
        command.env_remove(name);
    }
    command
}

/// A program, started by the words of a command that becomes it; none start it straight.
pub fn command(words: &[impl AsRef<OsStr>], program: impl AsRef<OsStr>) -> Command {
    match words {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

/// Runs a command that must succeed, and gives what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed ({}):\n{out}\n{errors}", output.status);
    out.into_owned()
}

/// Runs a command that need not succeed but must end in time. What it prints must fit a pipe, 64 KiB:
/// it is read only after the end.
pub fn output_within(command: &mut Command, limit: Duration) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + limit;
    while child.try_wait().expect("a child can be asked").is_none() {
        if Instant::now() >= deadline {
            // It may end at this very moment; either way it is gone after this.
            let _gone_already = child.kill();
            let _reaped = child.wait();
            panic!("{command:?} did not end within {} s", limit.as_secs());
        }
        sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("what it printed")
}

/// Sends a signal, such as TERM, to a process, or to a process group by its negated id.
pub fn signal(name: &str, process: i64) {
    run(Command::new("kill").args(["-s", name, "--", &process.to_string()]));
}

/// Waits until a process ends by itself.
pub fn ended(child: &mut Child, what: &str) -> ExitStatus {
    let mut status = None;
    until(&format!("{what} ends"), || {
        status = child.try_wait().expect("a child can be asked");
        status.is_some()
    });
    status.expect("it has ended")
}

/// Asks again until it is so; fails the test when patience ends. For what other processes do, of
/// which no event reaches the test.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
        sleep(Duration::from_millis(50));
    }
}

/// Says that something could not be tried here. A test that passes shows nothing of what it printed,
/// so this goes past the test's own output.
pub fn not_run(what: &str, why: &str) {
    // Nothing can be said where standard error is closed.
    let _closed = writeln!(io::stderr(), "\n*** NOT RUN: {what}: {why}\n");
}
