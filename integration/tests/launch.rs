//! `node/launch.sh` as a user runs it: one command starts four nodes and commits the trades, Ctrl-C
//! ends them all; detached, they run on until they are stopped.
//!
//! The script builds first. Here the program must be built already, by the script's own command, so
//! that cargo finds nothing to do; it holds no lock while tests run.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, pipe},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use minidlt_integration::{PATIENCE, curl, ended, free_base_port, output_within, root, run, signal, target};
use tempfile::TempDir;

/// What the script's help says of its end by Ctrl-C.
const ENDED_BY_CTRL_C: i32 = 130;
/// For all of it, the build that finds nothing to do included.
const LAUNCHED_WITHIN: Duration = Duration::from_secs(90);
const TRADES: u64 = 560;
/// What cargo sets for a test, and what nodes would take for settings: a user's shell has neither.
const NOT_A_USERS: [&str; 8] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
    "CARGO_PRIMARY_",
    "CARGO_TARGET_TMPDIR",
    "LD_LIBRARY_PATH",
    "MINIDLT_",
];

/// The script with these arguments, on the network in this directory.
fn launch_sh(arguments: &[&str], network: &Path) -> Command {
    // What a shell starts in the background ignores Ctrl-C, and so would whatever it starts.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(root().join("node/launch.sh")).args(arguments);
    command.arg("--dir").arg(network).current_dir(root()).stdin(Stdio::null());
    command.env("CARGO_TARGET_DIR", target());
    for (name, _) in env::vars_os() {
        if NOT_A_USERS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// A network's directory, and whatever the script has left running in it, ended with this.
struct Place {
    _directory: TempDir,
    network: PathBuf,
    base_port: u16,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // As the script writes it, and so as the processes have it.
        let network = fs::canonicalize(directory.path()).expect("its whole path").join("net");
        Self { _directory: directory, network, base_port: free_base_port(4) }
    }

    /// The processes whose command line names the network.
    fn processes(&self) -> Vec<String> {
        let network = self.network.display().to_string();
        let all = fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
        // Some end while they are being looked at.
        let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains(&network)).collect()
    }

    fn is_ready(&self, node: u16) -> bool {
        let url = format!("http://127.0.0.1:{}/readyz", self.base_port + 10 * node + 2);
        curl(Command::new("curl").args(["--silent", "--fail", &url]), &[]).status.success()
    }

    /// The script, run to its end.
    fn finish(&self, arguments: &[&str]) -> Output {
        output_within(&mut launch_sh(arguments, &self.network), LAUNCHED_WITHIN)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if thread::panicking() {
            // Whatever went wrong before, no node may be left behind; it says what it could not do.
            let stopped = launch_sh(&["stop"], &self.network).output();
            eprintln!("launch.sh stop: {stopped:?}");
        }
    }
}

/// The script while it runs in a process group of its own, as one has that a shell starts.
struct Launched {
    script: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Launched {
    fn start(mut command: Command) -> Self {
        // One pipe for both, so that lines come in their order.
        let (reader, writer) = pipe().expect("a pipe");
        command.stdout(writer.try_clone().expect("a second handle")).stderr(writer).process_group(0);
        let script = command.spawn().expect("the script starts");
        // The command holds handles of its own, with which the pipe would not end.
        drop(command);
        Self { script, lines: lines_of(reader), seen: Vec::new() }
    }

    /// Waits for a line that has this.
    fn wait_for(&mut self, part: &str) {
        let deadline = Instant::now() + LAUNCHED_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!(
                    "{part:?} is not printed ({error}); was the program built by `cargo build --release -p minidlt`? \
                     printed was:\n{}",
                    self.seen.join("\n")
                ),
            }
            if self.seen.last().is_some_and(|line| line.contains(part)) {
                return;
            }
        }
    }

    /// Ctrl-C, which a terminal sends to the whole group; the exit code.
    fn interrupt(&mut self) -> Option<i32> {
        signal("INT", -i64::from(self.script.id()));
        let status = ended(&mut self.script, "the script");
        // Whatever was printed until the end of the pipe.
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        status.code()
    }

    fn saw(&self, part: &str) -> bool {
        self.seen.iter().any(|line| line.contains(part))
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _gone_already = self.script.kill();
        let _reaped = self.script.wait();
    }
}

/// Lines as they come, from a thread of their own: a test that waits for one must not wait for ever.
fn lines_of(from: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The height and the number of transactions, where the line is a block's: height, hash,
/// transactions, proposer, time.
fn block(line: &str) -> Option<(u64, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [height, hash, count, "transactions", _, _] = words[..] else { return None };
    (hash.len() == 64).then_some((height.parse().ok()?, count.parse().ok()?))
}

#[test]
fn one_command_commits_the_trades_and_ctrl_c_ends_all_nodes() {
    let place = Place::new();
    let base_port = place.base_port.to_string();
    let arguments = ["4", "--base-port", &base_port, "--data", "integration/data/trades.csv"];
    let mut launched = Launched::start(launch_sh(&arguments, &place.network));
    launched.wait_for("running; Ctrl-C stops all nodes");

    assert!(launched.saw("4 nodes are ready"), "{:?}", launched.seen);
    for node in 0..4 {
        let told = format!("node{node}  https://127.0.0.1:{}  log ", place.base_port + 10 * node);
        assert!(launched.saw(&told), "{told}: {:?}", launched.seen);
        assert!(place.is_ready(node), "node {node}");
    }
    assert!(launched.seen.contains(&format!("{TRADES} committed, 0 rejected, 0 dumped")), "{:?}", launched.seen);
    let blocks: Vec<(u64, u64)> = launched.seen.iter().filter_map(|line| block(line)).collect();
    let heights: Vec<u64> = blocks.iter().map(|(height, _)| *height).collect();
    assert_eq!(heights, (1..=heights.len() as u64).collect::<Vec<_>>(), "each block is shown once, in order");
    let shown: u64 = blocks.iter().map(|(_, count)| count).sum();
    assert_eq!(shown, TRADES, "every trade is in a block that is shown");
    let nodes = place.processes().iter().filter(|line| line.contains(" start ")).count();
    assert_eq!(nodes, 4, "{:?}", place.processes());

    assert_eq!(launched.interrupt(), Some(ENDED_BY_CTRL_C), "{:?}", launched.seen);
    assert!(launched.saw("stopped: 4 nodes"), "{:?}", launched.seen);
    assert_eq!(place.processes(), Vec::<String>::new(), "no process is left");

    detached_nodes_run_on_until_they_are_stopped(&place);
}

/// Again on the network that is there, which keeps its ports.
fn detached_nodes_run_on_until_they_are_stopped(place: &Place) {
    let said = run(&mut launch_sh(&["4", "--detach"], &place.network));
    assert!(said.lines().last().is_some_and(|line| line.starts_with("left running; stop with: ")), "{said}");
    assert_eq!(place.processes().len(), 4, "the nodes and nothing else: {:?}", place.processes());
    assert!((0..4).all(|node| place.is_ready(node)));

    let stopped = place.finish(&["stop"]);
    let errors = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!((stopped.status.code(), &*errors), (Some(0), "stopped: 4 nodes\n"));
    assert_eq!(place.processes(), Vec::<String>::new(), "no process is left");
}

#[test]
fn what_cannot_be_meant_is_refused_in_one_line() {
    let place = Place::new();
    let wrong: [&[&str]; 5] = [&["0"], &["four"], &["4", "--data", "no/such/file"], &["4", "--consensus", "x"], &[]];
    for arguments in wrong {
        let refused = place.finish(arguments);
        let errors = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
        assert!(errors.starts_with("minidlt: "), "{arguments:?}: {errors}");
    }
    assert!(!place.network.exists(), "and nothing is made");
}
