//! A throwaway cluster: real node processes of this very program in a directory of its own. They
//! are ended and the directory is removed when the value is dropped, also by a panic.

use std::{
    env, fmt,
    fs::{self, DirBuilder, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::DirBuilderExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

use actix_rt::time::sleep;

use super::error::BenchError;
use crate::say;

/// Each node has ten ports to itself, of which it uses three; the third serves its health.
const PORTS_A_NODE: u16 = 10;
const PORTS_USED: u16 = 3;
const HEALTH_PORT: u16 = 2;
const FIRST_PORT: u16 = 21_000;
/// Below the range that systems give to outgoing connections.
const LAST_PORT: u16 = 32_000;
const READY_WITHIN: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(100);
const LOG_LINES: usize = 10;
const PRIVATE_DIRECTORY: u32 = 0o700;

/// The consensus mode, as `init` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Bft,
    FullConsent,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "bft" => Ok(Self::Bft),
            "full-consent" => Ok(Self::FullConsent),
            other => Err(format!("{other:?} is not a consensus mode; use bft or full-consent")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bft => "bft",
            Self::FullConsent => "full-consent",
        })
    }
}

struct Node {
    name: String,
    process: Child,
    log: PathBuf,
    health_port: u16,
}

pub struct Cluster {
    directory: PathBuf,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Initialises a network and starts its nodes.
    pub fn start(count: usize, mode: Mode) -> Result<Self, BenchError> {
        let base_port = free_ports(count)?;
        let directory = env::temp_dir().join(format!("minidlt-bench-{}", std::process::id()));
        // What this has not made, such as another's directory of that name, it must not remove.
        let made = DirBuilder::new().mode(PRIVATE_DIRECTORY).create(&directory);
        made.map_err(|reason| BenchError::File { path: directory.clone(), action: "be made", reason })?;
        let mut cluster = Self { directory, nodes: Vec::new() };
        cluster.init(count, mode, base_port)?;
        for (number, offset) in (0..count).zip((0..).step_by(usize::from(PORTS_A_NODE))) {
            let health_port = base_port + offset + HEALTH_PORT;
            let node = cluster.start_node(format!("node{number}"), health_port)?;
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.process.id()).collect()
    }

    fn init(&self, count: usize, mode: Mode, base_port: u16) -> Result<(), BenchError> {
        let mut command = program("init")?;
        command.args(["--nodes", &count.to_string(), "--consensus", &mode.to_string()]);
        command.args(["--base-port", &base_port.to_string(), "--dir"]).arg(&self.directory);
        // Out of Ctrl-C's reach, so that it is the bench that tells of it; this takes a moment only.
        command.process_group(0);
        let output = command.output().map_err(|reason| BenchError::Run { command: "init".into(), reason })?;
        if output.status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(BenchError::Failed { command: "init".into(), output })
    }

    fn start_node(&self, name: String, health_port: u16) -> Result<Node, BenchError> {
        let log = self.directory.join(format!("{name}.log"));
        let failed = |reason| BenchError::File { path: log.clone(), action: "be written", reason };
        let file = File::create(&log).map_err(failed)?;
        let again = file.try_clone().map_err(failed)?;
        let mut command = program("start")?;
        command.arg(self.directory.join(&name)).stdin(Stdio::null()).stdout(file).stderr(again);
        let process = command.spawn().map_err(|reason| BenchError::Run { command: format!("start {name}"), reason })?;
        Ok(Node { name, process, log, health_port })
    }

    /// Waits until every node says that it is ready.
    pub async fn ready(&mut self) -> Result<(), BenchError> {
        let http = awc::Client::default();
        let began = Instant::now();
        for at in 0..self.nodes.len() {
            let url = format!("http://127.0.0.1:{}/readyz", self.nodes[at].health_port);
            loop {
                self.check_alive()?;
                let answer = match http.get(&url).send().await {
                    Ok(answer) if answer.status().is_success() => break,
                    Ok(answer) => answer.status().to_string(),
                    Err(error) => error.to_string(),
                };
                if began.elapsed() > READY_WITHIN {
                    let Node { name, log, .. } = &self.nodes[at];
                    let (node, log, seconds) = (name.clone(), tail(log), READY_WITHIN.as_secs());
                    return Err(BenchError::NotReady { node, seconds, answer, log });
                }
                sleep(ASK_EVERY).await;
            }
        }
        Ok(())
    }

    /// A node that has ended by itself is an error.
    pub fn check_alive(&mut self) -> Result<(), BenchError> {
        for Node { name, process, log, .. } in &mut self.nodes {
            let run = |reason| BenchError::Run { command: format!("start {name}"), reason };
            if let Some(status) = process.try_wait().map_err(run)? {
                return Err(BenchError::Ended { node: name.clone(), status: status.to_string(), log: tail(log) });
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nothing of it is to be kept, so there is no need to ask kindly. Failing means that the
        // process is gone already.
        for node in &mut self.nodes {
            let _ = node.process.kill();
        }
        for node in &mut self.nodes {
            let _ = node.process.wait();
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            say::warn(format_args!("{}: cannot be removed: {error}", self.directory.display()));
        }
    }
}

fn program(subcommand: &str) -> Result<Command, BenchError> {
    let program = env::current_exe().map_err(|reason| BenchError::Run { command: subcommand.into(), reason })?;
    let mut command = Command::new(program);
    command.arg(subcommand);
    Ok(command)
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// A row of ports that nobody listens on now.
fn free_ports(nodes: usize) -> Result<u16, BenchError> {
    let none = BenchError::NoPorts { wanted: nodes.saturating_mul(usize::from(PORTS_A_NODE)), from: FIRST_PORT };
    let Some(row) = u16::try_from(nodes).ok().and_then(|nodes| nodes.checked_mul(PORTS_A_NODE)) else {
        return Err(none);
    };
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let row_free = |base: &u16| {
        let mut used = (*base..*base + row).filter(|port| (port - base) % PORTS_A_NODE < PORTS_USED);
        used.all(free)
    };
    let last = LAST_PORT.saturating_sub(row);
    (FIRST_PORT..last).step_by(usize::from(row)).find(row_free).ok_or(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_ports_are_passed_over() {
        let base = free_ports(2).unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, base + PORTS_A_NODE + HEALTH_PORT)).unwrap();
        assert_ne!(free_ports(2).unwrap(), base);
        assert!(free_ports(usize::MAX).is_err() && free_ports(5000).is_err());
    }

    #[test]
    fn modes_read_as_they_are_written() {
        for mode in [Mode::Bft, Mode::FullConsent] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
    }
}
