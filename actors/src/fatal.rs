//! The end of a process that can no longer keep its promises.

use std::fmt::Display;

/// Logs what happened and ends the process with status 1: going on would be worse.
pub fn stop(what: impl Display) -> ! {
    log::error!("fatal: {what}");
    std::process::exit(1)
}
