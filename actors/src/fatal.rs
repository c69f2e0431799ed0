//! The one way this process gives up.

use std::fmt::Display;

/// Says why in one line and ends the process with code 1: for what a node must not survive, such
/// as a ledger it cannot write. Nothing is lost by it: what was promised is on disk already.
#[expect(clippy::disallowed_methods, reason = "the one place that may: destructors could promise more")]
pub fn stop(what: impl Display) -> ! {
    if log::log_enabled!(log::Level::Error) {
        log::error!("stopping: {what}");
        log::logger().flush();
    } else {
        eprintln!("stopping: {what}");
    }
    std::process::exit(1)
}
