//! How the process of a node ends.

use std::fmt::Display;

/// Says why in one line and ends the process with code 1: for what a node must not survive, such
/// as a ledger it cannot write. Nothing is lost by it: what was promised is on disk already.
pub fn stop(what: impl Display) -> ! {
    if log::log_enabled!(log::Level::Error) {
        log::error!("stopping: {what}");
        log::logger().flush();
    } else {
        eprintln!("stopping: {what}");
    }
    exit(1)
}

/// Ends the process of a node, at once. An ordinary end would run the destructors of C++ beside
/// threads that still use the database, which then abort. Nothing needs them: what was promised is
/// on disk, and the system takes back all else.
pub fn exit(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}
