//! A network namespace with one device, of which the test holds the other end. It has no name, and so
//! leaves nothing behind: it lives as long as a process that waits for the end of its input, which
//! comes with the end of the test, however that ends.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    thread,
};

use nix::sched::{CloneFlags, setns};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// Brings up the loopback of the new namespace, says so, and keeps it.
const HOLD: &str = "ip link set lo up && echo held && exec cat";
const DEVICE: &str = "sim0";
/// Gives the device its address and every other place of the network to find behind it.
const ADDRESS: &str = r#"ip address add "$1/24" dev sim0 && ip link set sim0 up"#;

pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Makes one, with this address; also gives the far end of its device. Says why where it may not.
    pub fn new(address: Ipv4Addr) -> Result<(Self, SyncDevice), String> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", HOLD]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let mut line = String::new();
        let said = BufReader::new(holder.stdout.as_mut().expect("a pipe")).read_line(&mut line);
        if said.is_err() || line != "held\n" {
            let output = holder.wait_with_output().map_err(|error| format!("unshare: {error}"))?;
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let namespace = Self { holder };
        let device = namespace.device()?;
        let up = namespace.command("sh").args(["-c", ADDRESS, "sh"]).arg(address.to_string()).output();
        match up {
            Ok(output) if output.status.success() => Ok((namespace, device)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("nsenter: {error}")),
        }
    }

    /// A device belongs to the namespace of the thread that makes it: a thread for that alone.
    fn device(&self) -> Result<SyncDevice, String> {
        let path = self.path();
        let made = thread::spawn(move || {
            enter(&path)?;
            let device = DeviceBuilder::new().name(DEVICE).layer(Layer::L3).build_sync();
            let device = device.map_err(|error| format!("/dev/net/tun: {error}"))?;
            device.set_nonblocking(true).map_err(|error| format!("/dev/net/tun: {error}"))?;
            Ok(device)
        });
        made.join().expect("the thread reports its errors")
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// The words of the command that starts a program within.
    pub fn words(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path()), "--".to_owned()]
    }

    /// A command within.
    fn command(&self, program: &str) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }

    /// What takes a thread there for the rest of its life.
    pub fn way_in(&self) -> WayIn {
        WayIn(self.path())
    }
}

/// The way of a thread into a namespace: the sockets it makes then belong there.
#[derive(Debug, Clone)]
pub struct WayIn(String);

impl WayIn {
    pub fn enter(&self) {
        enter(&self.0).expect("who made the namespace may enter it");
    }
}

fn enter(path: &str) -> Result<(), String> {
    let namespace = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| format!("entering a network namespace: {error}"))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its end is the end of its input.
        drop(self.holder.stdin.take());
        let _reaped = self.holder.wait();
    }
}
