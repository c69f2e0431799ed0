//! What a run found, in numbers: printed, and added to the file that `TEST_FIGURES` names, from which
//! `faults.sh` makes its table.

use std::{fmt::Display, fs::File, io::Write, time::Duration};

/// So many more of a thing.
pub fn count(name: &str, number: impl Display) {
    println!("{name} {number}");
    if let Some(path) = std::env::var_os("TEST_FIGURES") {
        let file = File::options().create(true).append(true).open(&path);
        // One write, so that lines of tests side by side stay whole.
        let written = file.and_then(|mut file| file.write_all(format!("{name} {number}\n").as_bytes()));
        written.unwrap_or_else(|error| panic!("TEST_FIGURES {}: {error}", path.display()));
    }
}

/// How long a thing took, one of several times.
pub fn time(name: &str, took: Duration) {
    count(&format!("{name}_ms"), took.as_millis());
}

/// A number that the long run sets higher than the ordinary one, by an environment variable.
pub fn knob(name: &str, ordinary: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return ordinary };
    text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}"))
}
