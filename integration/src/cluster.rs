//! A network's directory and its nodes, each a real process.

use std::{
    fs::{self, File},
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use minidlt_protocol::genesis::Genesis;
use tempfile::TempDir;

use crate::{
    http::curl,
    net::{Links, Net, WayIn},
    process::{command, ended, program, run, signal, until},
};

/// Ports are taken from here on, and below those that systems give to outgoing connections: such a
/// one could hold a port that a node, started again, needs.
const FIRST_PORT: u16 = 21_000;
const LAST_PORT: u16 = 32_000;
/// How far the ports of two nodes lie apart, and how many of them a node uses.
const PORTS_A_NODE: u16 = 10;
const PORTS_USED: u16 = 3;

/// The base port of nodes that have addresses of their own.
const PORT_APART: u16 = 3_401;

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

/// A base port with room for so many nodes. Each call moves on, so tests side by side do not meet.
pub fn free_base_port(nodes: usize) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let width = PORTS_A_NODE * u16::try_from(nodes).expect("few nodes");
    let span = u32::from(LAST_PORT - FIRST_PORT);
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..span / u32::from(PORTS_A_NODE) {
        // Processes side by side begin at places of their own.
        let at = (std::process::id() % span * 10 + NEXT.fetch_add(u32::from(width), Ordering::Relaxed)) % span;
        let base = FIRST_PORT + u16::try_from(at).expect("within the span");
        let mut used = (base..base + width).filter(|port| (port - base) % PORTS_A_NODE < PORTS_USED);
        if base + width <= LAST_PORT && used.all(free) {
            return base;
        }
    }
    panic!("no free ports from {FIRST_PORT} to {LAST_PORT}")
}

/// A network's directory and its running nodes; all end when this is dropped.
pub struct Cluster {
    pub directory: TempDir,
    pub base_port: u16,
    nodes: Vec<Option<Child>>,
    /// Where the nodes are apart from each other; none where all are on loopback.
    net: Option<Net>,
}

impl Cluster {
    /// Makes a network of as many organisations, without starting it.
    pub fn init(nodes: usize, mode: Mode) -> Self {
        Self::lay_out(nodes, mode, free_base_port(nodes), |_, init| {
            init.args(["--nodes", &nodes.to_string()]);
        })
    }

    /// Makes the network that a network file describes, of as many nodes, without starting it.
    pub fn init_from(file: &str, nodes: usize, mode: Mode) -> Self {
        Self::lay_out(nodes, mode, free_base_port(nodes), from_file(file))
    }

    /// Makes a network whose nodes each have an address of their own, in a namespace of their own,
    /// without starting it. Says why where this machine does not permit that.
    pub fn init_apart(nodes: usize, mode: Mode) -> Result<Self, String> {
        let net = Net::new(nodes)?;
        let mut file = "organisations: [".to_owned() + &organisations(nodes).join(", ") + "]\nnodes:\n";
        for (i, organisation) in organisations(nodes).iter().enumerate() {
            let host = Net::address(i);
            file += &format!("  - {{organisation: {organisation}, host: {host}, port: {PORT_APART}}}\n");
        }
        let mut cluster = Self::lay_out(nodes, mode, PORT_APART, from_file(&file));
        cluster.net = Some(net);
        Ok(cluster)
    }

    fn lay_out(nodes: usize, mode: Mode, base_port: u16, what: impl FnOnce(&Path, &mut Command)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut init = program(&[]);
        init.args(["init", "--consensus", mode.flag(), "--base-port", &base_port.to_string(), "--dir"]);
        init.arg(directory.path().join("network"));
        what(directory.path(), &mut init);
        run(&mut init);
        Self { directory, base_port, nodes: (0..nodes).map(|_| None).collect(), net: None }
    }

    /// Makes a network, starts every node and waits until all are ready.
    pub fn start(nodes: usize, mode: Mode) -> Self {
        let mut cluster = Self::init(nodes, mode);
        cluster.start_all();
        cluster
    }

    /// Starts every node and waits until all are ready.
    pub fn start_all(&mut self) {
        (0..self.size()).for_each(|i| self.start_node(i));
        (0..self.size()).for_each(|i| self.wait_ready(i));
    }

    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes that were started and neither stopped nor killed since.
    pub fn running(&self) -> Vec<usize> {
        (0..self.size()).filter(|i| self.nodes[*i].is_some()).collect()
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

    pub fn genesis(&self) -> Genesis {
        let text = fs::read_to_string(self.network().join("genesis.yaml")).expect("the genesis file");
        serde_yaml::from_str(&text).expect("a genesis")
    }

    /// The links between the nodes of a cluster whose nodes are apart.
    pub fn links(&self) -> &Links {
        self.net.as_ref().expect("the nodes are apart").links()
    }

    pub fn api_port(&self, i: usize) -> u16 {
        match self.net {
            Some(_) => self.base_port,
            None => self.base_port + PORTS_A_NODE * i as u16,
        }
    }

    pub fn peers_port(&self, i: usize) -> u16 {
        self.api_port(i) + 1
    }

    pub fn health_port(&self, i: usize) -> u16 {
        self.api_port(i) + 2
    }

    pub fn api(&self, i: usize) -> String {
        format!("https://{}:{}", self.host(i), self.api_port(i))
    }

    /// Where a node's API is found, as its certificate has it.
    pub fn host(&self, i: usize) -> String {
        match self.net {
            Some(_) => Net::address(i).to_string(),
            None => "localhost".to_owned(),
        }
    }

    /// A command where the clients are.
    pub fn client_command(&self, name: &str) -> Command {
        command(&self.net.as_ref().map(Net::client_words).unwrap_or_default(), name)
    }

    /// A command on a node's own machine.
    pub fn command_at(&self, i: usize, name: &str) -> Command {
        command(&self.net.as_ref().map(|net| net.words(i)).unwrap_or_default(), name)
    }

    /// What takes a thread to where the clients are; none where it is there already.
    pub fn client_way_in(&self) -> Option<WayIn> {
        self.net.as_ref().map(Net::client_way_in)
    }

    pub fn health(&self, i: usize) -> String {
        format!("http://127.0.0.1:{}", self.health_port(i))
    }

    /// What a node has logged, over all its starts.
    pub fn log(&self, i: usize) -> String {
        fs::read_to_string(self.node(i).join("node.log")).unwrap_or_default()
    }

    /// What a node has logged since its log had so many bytes.
    pub fn log_since(&self, i: usize, bytes: usize) -> String {
        self.log(i).get(bytes..).unwrap_or_default().to_owned()
    }

    /// Adds keys to a node's file, for its next start.
    pub fn configure(&self, i: usize, yaml: &str) {
        let file = File::options().append(true).open(self.node(i).join("config.yaml"));
        file.and_then(|mut file| file.write_all(yaml.as_bytes())).expect("the node's file is written");
    }

    pub fn start_node(&mut self, i: usize) {
        self.start_node_by(i, &[]);
    }

    /// Starts a node with more arguments.
    pub fn start_node_with(&mut self, i: usize, arguments: &[&str]) {
        self.spawn_node(i, &[], arguments);
    }

    /// Starts a node by the words of a command that becomes it.
    pub fn start_node_by(&mut self, i: usize, words: &[&str]) {
        self.spawn_node(i, words, &[]);
    }

    fn spawn_node(&mut self, i: usize, words: &[&str], arguments: &[&str]) {
        let log = File::options().create(true).append(true).open(self.node(i).join("node.log")).expect("a log file");
        let errors = log.try_clone().expect("a second handle");
        let place = self.net.as_ref().map(|net| net.words(i)).unwrap_or_default();
        let words: Vec<&str> = place.iter().map(String::as_str).chain(words.iter().copied()).collect();
        let mut command = program(&words);
        command.arg("start").arg(self.node(i)).args(arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
        self.nodes[i] = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
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

    /// SIGSTOP: the node does nothing more, and does not know it.
    pub fn pause_node(&self, i: usize) {
        signal("STOP", i64::from(self.pid(i)));
    }

    /// SIGCONT.
    pub fn resume_node(&self, i: usize) {
        signal("CONT", i64::from(self.pid(i)));
    }

    /// SIGTERM, and the exit code.
    pub fn stop_node(&mut self, i: usize) -> i32 {
        signal("TERM", i64::from(self.pid(i)));
        self.exit_code(i).unwrap_or(-1)
    }

    /// Waits until a node ends; its exit code, none where a signal ended it.
    pub fn exit_code(&mut self, i: usize) -> Option<i32> {
        let child = self.nodes[i].as_mut().expect("the node was started");
        let status = ended(child, &format!("node {i}"));
        self.nodes[i] = None;
        status.code()
    }

    /// The exit code of a node that has ended by itself, if it has.
    pub fn has_ended(&mut self, i: usize) -> Option<i32> {
        let child = self.nodes[i].as_mut().expect("the node was started");
        let status = child.try_wait().expect("a child can be asked")?;
        self.nodes[i] = None;
        status.code()
    }

    /// Whether a node that was started is over by now, and yet to be asked how.
    pub fn is_over(&mut self, i: usize) -> bool {
        let child = self.nodes[i].as_mut().expect("the node was started");
        child.try_wait().expect("a child can be asked").is_some()
    }

    pub fn is_ready(&self, i: usize) -> bool {
        let url = format!("{}/readyz", self.health(i));
        curl(self.command_at(i, "curl").args(["--silent", "--fail", &url]), &[]).status.success()
    }

    pub fn wait_ready(&self, i: usize) {
        until(&format!("node {i} is ready"), || self.is_ready(i));
    }

    /// The program, with arguments; it need not succeed.
    pub fn minidlt(&self, arguments: &[&str]) -> Output {
        let mut command = program(&[]);
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.output().expect("the program runs")
    }
}

/// The names that `init` gives to so many organisations, where it is given none.
fn organisations(nodes: usize) -> Vec<String> {
    (1..=nodes).map(|number| format!("Org{number:02}")).collect()
}

/// Tells `init` to take this network file.
fn from_file(file: &str) -> impl FnOnce(&Path, &mut Command) {
    let file = file.to_owned();
    move |directory, init| {
        let path = directory.join("network.yaml");
        fs::write(&path, file).expect("the network file is written");
        init.arg("--network").arg(path);
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
