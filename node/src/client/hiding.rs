//! `submit --hash`: fields that not everyone may read are replaced by the SHA-256 of a secret salt
//! and the value before a record leaves the machine. Who holds the opening can later show what
//! stood there: `SHA-256(salt ‖ canonical JSON)` is what the ledger has. Canonical is compact JSON
//! with keys in ascending order; the salt keeps others from guessing at short values.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use openssl::{error::ErrorStack, rand::rand_bytes, sha::Sha256};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{
    files::sync_parent,
    records::{Place, Record},
};

const SALT_BYTES: usize = 16;

/// Why a field was not hidden. Nothing of the record was sent then.
#[derive(Debug, Error)]
pub enum HidingError {
    #[error("--hash {0:?}: each field must have a name, and be named once")]
    Fields(String),
    #[error("{place} has no field {field:?} to hide; it was not sent. Check --hash")]
    NoField { place: Place, field: String },
    #[error("{}: the openings cannot be kept: {reason}. Nothing is sent without them", path.display())]
    Openings { path: PathBuf, reason: io::Error },
    #[error("no randomness for a salt: {0}")]
    Random(#[from] ErrorStack),
}

/// What opens one hidden field: a line of the openings file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// Where the record stood in the file that was submitted.
    pub record: String,
    pub field: String,
    pub hash: String,
    pub salt: String,
    pub value: Value,
}

/// Hides fields, and keeps their openings in a file that its owner alone can read.
pub struct Hider {
    fields: Vec<String>,
    path: PathBuf,
    openings: BufWriter<File>,
}

impl Hider {
    /// Openings are added to the file if it is there: those of earlier records stay needed.
    pub fn new(fields: Vec<String>, path: &Path) -> Result<Self, HidingError> {
        if let Some((_, field)) = fields.iter().enumerate().find(|(at, field)| is_wrong(field, &fields[..*at])) {
            return Err(HidingError::Fields(field.clone()));
        }
        let failed = |reason| HidingError::Openings { path: path.into(), reason };
        let file = open_to_append(path).map_err(failed)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { fields, path: path.into(), openings: BufWriter::new(file) })
    }

    pub fn hide(&mut self, record: &mut Record) -> Result<(), HidingError> {
        for field in &self.fields {
            let value = record.value.as_object_mut().and_then(|object| object.get_mut(field));
            let value = value.ok_or_else(|| HidingError::NoField { place: record.place, field: field.clone() })?;
            let mut salt = [0; SALT_BYTES];
            rand_bytes(&mut salt)?;
            let hash = commitment(&salt, value);
            let hidden = std::mem::replace(value, Value::String(hash.clone()));
            let opening = Opening {
                record: record.place.to_string(),
                field: field.clone(),
                hash,
                salt: hex::encode(salt),
                value: hidden,
            };
            let line = serde_json::to_string(&opening).expect("JSON values always encode");
            writeln!(self.openings, "{line}")
                .map_err(|reason| HidingError::Openings { path: self.path.clone(), reason })?;
        }
        Ok(())
    }

    /// Puts the openings on the disk; to be called before what they open is sent.
    pub fn keep(&mut self) -> Result<(), HidingError> {
        let kept = self.openings.flush().and_then(|()| self.openings.get_ref().sync_data());
        kept.map_err(|reason| HidingError::Openings { path: self.path.clone(), reason })
    }
}

/// Hiding a field twice would hide the hash, and leave the value to be opened in two steps.
fn is_wrong(field: &str, before: &[String]) -> bool {
    field.is_empty() || before.iter().any(|other| other == field)
}

/// The name of a new file is on the disk before anything is sent, for what is written into it will be.
fn open_to_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => sync_parent(path).map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

/// What the ledger shows in place of a value.
pub fn commitment(salt: &[u8], value: &Value) -> String {
    let mut hasher = Sha256::new();
    hasher.update(salt);
    hasher.update(value.to_string().as_bytes());
    hex::encode(hasher.finish())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hidden_field_is_opened_by_its_salt_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.jsonl");
        let record = Record { place: Place::Line(2), value: json!({"seller": "A", "price": 1.5, "volume": 3}) };
        for _ in 0..2 {
            let mut hider = Hider::new(vec!["seller".into(), "price".into()], &path).unwrap();
            let mut hidden = record.clone();
            hider.hide(&mut hidden).unwrap();
            hider.keep().unwrap();
            assert_eq!(hidden.value["volume"], json!(3));
            assert_eq!(hidden.value["seller"].as_str().unwrap().len(), 64);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let openings: Vec<Opening> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(openings.len(), 4, "a second run adds to the file");
        for opening in &openings {
            assert_eq!(commitment(&hex::decode(&opening.salt).unwrap(), &opening.value), opening.hash);
            assert_eq!(opening.record, "line 2");
        }
        assert_ne!(openings[0].hash, openings[2].hash, "each has its own salt");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_field_is_named_once_and_has_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o");
        for wrong in [vec!["a", "b", "a"], vec!["a", ""]] {
            let fields = wrong.iter().map(ToString::to_string).collect();
            assert!(matches!(Hider::new(fields, &path), Err(HidingError::Fields(_))), "{wrong:?}");
        }
        assert!(!path.exists());
    }

    #[test]
    fn the_hash_is_of_salt_and_canonical_json() {
        // printf '\0%.0s…' (16 zero bytes), then {"a":"é","b":[1,2.5]}, through sha256sum.
        let value: Value = serde_json::from_str(r#"{ "b": [1, 2.50], "a": "é" }"#).unwrap();
        assert_eq!(value.to_string(), r#"{"a":"é","b":[1,2.5]}"#);
        let mut all = vec![0; 16];
        all.extend(value.to_string().as_bytes());
        assert_eq!(commitment(&[0; 16], &value), hex::encode(openssl::sha::sha256(&all)));
    }

    #[test]
    fn a_misspelt_field_stops_before_anything_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut hider = Hider::new(vec!["seler".into()], &dir.path().join("o")).unwrap();
        let mut record = Record { place: Place::Element(3), value: json!({"seller": "A"}) };
        assert!(hider.hide(&mut record).unwrap_err().to_string().contains("record 3 has no field \"seler\""));
    }
}
