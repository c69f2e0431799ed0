//! The end of a node that cannot go on safely.

use std::fmt::Display;

/// Says why in one line, and ends the process with code 1. Restarting is left to whoever runs the
/// node: an actor started again beside its old state would be worse than none.
pub fn stop(what: impl Display) -> ! {
    log::error!("the node stops: {what}");
    std::process::exit(1)
}
