//! A cluster of real node processes for tests: made by `minidlt init`, driven by the command line
//! and `curl` as a user would, ended by their process ids.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything in a test may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How the nodes decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Bft,
    FullConsent,
}

impl Mode {
    fn flag(self) -> &'static str {
        match self {
            Self::Bft => "bft",
            Self::FullConsent => "full-consent",
        }
    }
}

/// The program under test, beside the test's own binary.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let release = test.ancestors().nth(2).expect("tests lie in target/release/deps");
    let binary = release.join("minidlt");
    assert!(binary.exists(), "{} is missing: run `cargo build --release` first", binary.display());
    binary
}

/// The repository's root, asked for as the test runs: checkouts may share compiled tests.
pub fn root() -> PathBuf {
    let integration = std::env::var_os("CARGO_MANIFEST_DIR").expect("tests are run by cargo");
    Path::new(&integration).parent().expect("integration lies in the root").to_owned()
}

/// A base port with room for so many nodes. Each call moves on, so tests side by side do not meet.
fn base_port(nodes: usize) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + (std::process::id() % 200) as u16 * 100;
    for _ in 0..200 {
        let base = first + NEXT.fetch_add(10 * nodes as u16 + 10, Ordering::Relaxed) % 20_000;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (0..nodes as u16).all(|i| (0..3).all(|k| free(base + 10 * i + k))) {
            return base;
        }
    }
    panic!("no free ports")
}

/// A network's directory and its running nodes; all end when this is dropped.
pub struct Cluster {
    pub directory: TempDir,
    pub base_port: u16,
    nodes: Vec<Option<Child>>,
}

impl Cluster {
    /// Makes a network, without starting it.
    pub fn init(nodes: usize, mode: Mode) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let base_port = base_port(nodes);
        let network = directory.path().join("network");
        run(Command::new(binary())
            .args(["init", "--nodes", &nodes.to_string(), "--consensus", mode.flag()])
            .args(["--base-port", &base_port.to_string(), "--dir"])
            .arg(&network));
        Self { directory, base_port, nodes: (0..nodes).map(|_| None).collect() }
    }

    /// Makes a network, starts every node and waits until all are ready.
    pub fn start(nodes: usize, mode: Mode) -> Self {
        let mut cluster = Self::init(nodes, mode);
        (0..nodes).for_each(|i| cluster.start_node(i));
        (0..nodes).for_each(|i| cluster.wait_ready(i));
        cluster
    }

    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The network's directory.
    pub fn network(&self) -> PathBuf {
        self.directory.path().join("network")
    }

    pub fn node(&self, i: usize) -> PathBuf {
        self.network().join(format!("node{i}"))
    }

    pub fn user(&self, name: &str) -> PathBuf {
        self.network().join("users").join(name)
    }

    pub fn api(&self, i: usize) -> String {
        format!("https://localhost:{}", self.base_port + 10 * i as u16)
    }

    pub fn peers_port(&self, i: usize) -> u16 {
        self.base_port + 10 * i as u16 + 1
    }

    pub fn health(&self, i: usize) -> String {
        format!("http://127.0.0.1:{}", self.base_port + 10 * i as u16 + 2)
    }

    pub fn log(&self, i: usize) -> String {
        fs::read_to_string(self.node(i).join("node.log")).unwrap_or_default()
    }

    pub fn start_node(&mut self, i: usize) {
        let log = File::options().create(true).append(true).open(self.node(i).join("node.log")).expect("a log file");
        let errors = log.try_clone().expect("a second handle");
        let mut command = Command::new(binary());
        // A node reads its settings from the environment, too; a test's are those of its files.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MINIDLT_")) {
            command.env_remove(name);
        }
        command.arg("start").arg(self.node(i)).stdin(Stdio::null()).stdout(log).stderr(errors);
        self.nodes[i] = Some(command.spawn().expect("the node starts"));
    }

    pub fn pid(&self, i: usize) -> u32 {
        self.nodes[i].as_ref().expect("the node runs").id()
    }

    /// SIGKILL: the node has no say in it.
    pub fn kill_node(&mut self, i: usize) {
        let mut child = self.nodes[i].take().expect("the node runs");
        child.kill().expect("the node can be killed");
        child.wait().expect("the node ends");
    }

    /// SIGTERM, and the exit code.
    pub fn stop_node(&mut self, i: usize) -> i32 {
        let mut child = self.nodes[i].take().expect("the node runs");
        run(Command::new("kill").arg(child.id().to_string()));
        let status = child.wait().expect("the node ends");
        status.code().unwrap_or(-1)
    }

    pub fn wait_ready(&self, i: usize) {
        let url = format!("{}/readyz", self.health(i));
        until(&format!("node {i} is ready; its log:\n{}", self.log(i)), || {
            curl(Command::new("curl").args(["--silent", "--fail", &url])).status.success()
        });
    }

    /// A request to a node's API as a user, with `curl`: the HTTP status and the body.
    pub fn request(&self, node: usize, user: &str, path: &str, extra: &[&str]) -> (u16, String) {
        let user = self.user(user);
        let output = curl(
            Command::new("curl")
                .args(["--silent", "--show-error", "--max-time", "70", "--write-out", "\n%{http_code}", "--cacert"])
                .arg(self.network().join("ca.crt"))
                .arg("--cert")
                .arg(user.join("tls.crt"))
                .arg("--key")
                .arg(user.join("tls.key"))
                .args(extra)
                .arg(format!("{}{path}", self.api(node))),
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or((&text, "0"));
        (status.parse().unwrap_or(0), body.to_owned())
    }

    /// A GET that must succeed, as JSON.
    pub fn get(&self, node: usize, path: &str) -> Value {
        let (status, body) = self.request(node, "admin", path, &[]);
        assert_eq!(status, 200, "GET {path} on node {node}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {path}: {error}: {body}"))
    }

    pub fn height(&self, node: usize) -> u64 {
        self.get(node, "/v1/status")["height"].as_u64().expect("a height")
    }

    /// Waits until every node is at the height of the highest, and their heads are equal.
    pub fn wait_agreed(&self) -> u64 {
        let nodes: Vec<usize> = (0..self.size()).filter(|i| self.nodes[*i].is_some()).collect();
        let mut agreed = 0;
        until("all nodes have the same head", || {
            let heads: Vec<(u64, String)> = nodes
                .iter()
                .map(|i| {
                    let status = self.get(*i, "/v1/status");
                    (status["height"].as_u64().unwrap_or(0), status["head"].to_string())
                })
                .collect();
            agreed = heads[0].0;
            heads.windows(2).all(|pair| pair[0] == pair[1])
        });
        agreed
    }

    /// The program, with arguments; it need not succeed.
    pub fn minidlt(&self, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("the program runs")
    }

    /// The value of a counter or gauge on a node's `/metrics`, summed over its labels.
    pub fn metric(&self, node: usize, name: &str) -> f64 {
        let output = curl(Command::new("curl").args(["--silent", "--fail", &format!("{}/metrics", self.health(node))]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        text.lines().filter(line).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            // It may have ended by itself; either way it is gone after this.
            let _gone_already = child.kill();
            let _reaped = child.wait();
        }
        if std::thread::panicking() {
            for i in 0..self.size() {
                let log = self.log(i);
                let tail: Vec<&str> = log.lines().rev().take(30).collect();
                eprintln!("--- end of node {i}'s log");
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
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

fn curl(command: &mut Command) -> Output {
    match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => panic!("curl is missing: apt-get install curl"),
        output => output.expect("curl runs"),
    }
}

/// Asks again until it is so; fails the test when patience ends. For what other processes do, of
/// which no event reaches the test.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}
