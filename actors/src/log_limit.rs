//! Bounds on what others can make this node write into its log: how often, and in which form.

use std::{
    fmt::{self, Write as _},
    time::{Duration, Instant},
};

/// One line a second.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets lines through, at most one an interval, and remembers how many it held back.
#[derive(Debug, Default)]
pub struct LogLimit {
    last: Option<Instant>,
    held_back: u64,
}

/// How many lines were held back before this one; shown only if any were.
#[derive(Debug, PartialEq, Eq)]
pub struct HeldBack(u64);

impl LogLimit {
    /// Whether a line may be written now.
    pub fn allow(&mut self) -> Option<HeldBack> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(HeldBack(std::mem::take(&mut self.held_back)))
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " (and {more} like it before)"),
        }
    }
}

/// What others had a say in, on one line and as it reads: an error may quote what they sent, which
/// must not pass for lines of this log, nor steer the terminal that shows it.
pub struct OneLine<T>(pub T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| match is_harmless(character) {
            true => self.0.write_char(character),
            false => write!(self.0, "{}", character.escape_default()),
        })
    }
}

/// Neither a control character, nor one that breaks the line or turns the direction of writing.
fn is_harmless(character: char) -> bool {
    !character.is_control() && !matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_stays_on_its_line() {
        let said = "unknown `\n[INFO] all is well\u{1b}[2J\u{202e}`, größer";
        assert_eq!(OneLine(said).to_string(), r"unknown `\n[INFO] all is well\u{1b}[2J\u{202e}`, größer");
    }
}
