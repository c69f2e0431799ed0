//! What is told beside the results, on standard error. Where that is closed or full nobody can be
//! told, which is no reason to end what is under way, as `eprintln!` would.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// Says something, if anybody can hear it.
pub fn note(text: impl Display) {
    let _nobody_to_tell = writeln!(io::stderr(), "{text}");
}

/// Says what is not wrong enough to stop for.
pub fn warn(text: impl Display) {
    note(format_args!("minidlt: warning: {text}"));
}
