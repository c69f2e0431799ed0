//! Files into records, one after the other in bounded memory, so that what is read back from the
//! ledger is what was put in: what cannot be kept exactly is refused (JSON) or kept as the text it
//! was (CSV).

mod csv;
mod json;
mod number;
mod strict;

use std::{fmt, fs::File, io, path::Path, str::FromStr};

use serde_json::Value;
use thiserror::Error;

/// Longest text of one JSON value. Records are far smaller once encoded; escapes make texts long.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// How a file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One value, or an array of values that are a record each.
    Json,
    /// A value a line.
    JsonLines,
    /// A heading of names, then a record a row.
    Csv,
}

impl Format {
    /// As the file's name says.
    pub fn of_path(path: &Path) -> Option<Self> {
        path.extension()?.to_str()?.to_ascii_lowercase().parse().ok()
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "csv" => Ok(Self::Csv),
            other => Err(format!("{other:?} is not a format; use json, jsonl or csv")),
        }
    }
}

/// Where in its file a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Line(u64),
    /// Counted from 1.
    Element(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Element(element) => write!(f, "record {element}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub place: Place,
    pub value: Value,
}

/// Why reading stopped.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("{file}: cannot be read: {reason}")]
    Io { file: String, reason: io::Error },
    #[error("{file}: {place}: {what}")]
    Invalid { file: String, place: Place, what: String },
    #[error("{file}: the heading names {name:?} twice, so one column would be lost; rename one")]
    RepeatedColumn { file: String, name: String },
    #[error("{file}: its name does not tell its format; say --format json, jsonl or csv")]
    UnknownFormat { file: String },
}

pub type Records = Box<dyn Iterator<Item = Result<Record, RecordError>> + Send>;

/// Opens a file, or standard input for `-`.
pub fn open(path: &Path, format: Option<Format>) -> Result<Records, RecordError> {
    let file = path.display().to_string();
    let format = format.or_else(|| Format::of_path(path));
    let format = format.ok_or_else(|| RecordError::UnknownFormat { file: file.clone() })?;
    if path == Path::new("-") {
        return read(io::stdin(), "standard input".into(), format);
    }
    let opened = open_file(path).map_err(|reason| RecordError::Io { file: file.clone(), reason })?;
    read(opened, file, format)
}

/// A directory opens as well, and is told only by the first read, which is too late.
fn open_file(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
}

/// Reads records from anything; `file` is what errors call it.
pub fn read(source: impl io::Read + Send + 'static, file: String, format: Format) -> Result<Records, RecordError> {
    Ok(match format {
        Format::Json => Box::new(json::Elements::new(source, file)),
        Format::JsonLines => Box::new(json::Lines::new(source, file)),
        Format::Csv => Box::new(csv::Rows::new(source, file)?),
    })
}
