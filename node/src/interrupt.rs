//! Being told to end, for commands that say what they had done until then, or that must tidy up.

use std::{fmt, fs, future, io};

use actix_rt::signal::unix::{self, SignalKind, signal};

/// What tells a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    Terminate,
    /// The terminal is gone.
    HangUp,
}

impl Signal {
    /// As shells tell it of a process that a signal ended: 128 and the signal's number.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 128 + 2,
            Self::Terminate => 128 + 15,
            Self::HangUp => 128 + 1,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
        })
    }
}

/// Hears the signals. Once it is made they no longer end the process, so whoever makes it must ask
/// it wherever it waits, and must not block.
pub struct Interrupts {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    /// `None` where it is to be ignored.
    hang_up: Option<unix::Signal>,
}

impl Interrupts {
    /// Within a runtime.
    pub fn listen() -> io::Result<Self> {
        let hang_up = if hang_up_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hang_up })
    }

    /// As [`Self::listen`], for whom SIGHUP means another thing, and who hears it itself.
    pub fn listen_beside_hang_up() -> io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hang_up: None })
    }

    /// The next signal. Nothing is lost where this is dropped and called again.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            () = heard(&mut self.hang_up) => Signal::HangUp,
        }
    }
}

async fn heard(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => future::pending().await,
    }
}

/// Whether this process was started to outlive its terminal, as `nohup` does: catching the signal would
/// undo that. Only Linux tells.
fn hang_up_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}
