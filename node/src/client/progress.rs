//! How far a long command has come: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::say;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub enum Progress {
    Bar(ProgressBar),
    Lines { last: Instant, unit: &'static str },
}

impl Progress {
    /// Written to standard error, so that standard output holds results alone.
    pub fn new(unit: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: Instant::now(), unit };
        }
        let bar = ProgressBar::new(0);
        let template = format!("{{bar:30}} {{pos}}/{{len}} {unit} ({{per_sec}}) {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    pub fn update(&mut self, done: u64, known: u64, message: &str) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(known);
                bar.set_position(done);
                bar.set_message(message.to_owned());
            }
            Self::Lines { last, unit } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                say::note(format_args!("{done}/{known} {unit} {message}"));
            }
            Self::Lines { .. } => {}
        }
    }

    /// Prints a result without tearing the bar apart. Who no longer reads results has what it wanted.
    pub fn print(&self, text: &str) {
        let print = || drop(writeln!(std::io::stdout(), "{text}"));
        match self {
            Self::Bar(bar) => bar.suspend(print),
            Self::Lines { .. } => print(),
        }
    }

    /// Says something without tearing the bar apart.
    pub fn note(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| say::note(text)),
            Self::Lines { .. } => say::note(text),
        }
    }

    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
