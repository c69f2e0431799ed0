//! CSV (RFC 4180) with a heading: columns become fields, and a cell is a number where it reads as
//! one exactly, else the text it is.

use std::{collections::BTreeSet, io::Read};

use serde_json::{Map, Value};

use super::{Place, Record, RecordError, number};

pub struct Rows<R> {
    file: String,
    columns: Vec<String>,
    reader: csv::Reader<R>,
    row: csv::StringRecord,
    failed: bool,
}

impl<R: Read> Rows<R> {
    pub fn new(source: R, file: String) -> Result<Self, RecordError> {
        let mut reader = csv::ReaderBuilder::new().from_reader(source);
        let heading = reader.headers().map_err(|error| failure(&file, error, 1))?;
        // Spreadsheets put a byte order mark in front.
        let columns: Vec<String> = heading.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        let mut seen = BTreeSet::new();
        if let Some(name) = columns.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(RecordError::RepeatedColumn { file, name: name.clone() });
        }
        Ok(Self { file, columns, reader, row: csv::StringRecord::new(), failed: false })
    }

    fn record(&self, line: u64) -> Record {
        let fields = self.columns.iter().cloned().zip(self.row.iter().map(cell));
        Record { place: Place::Line(line), value: Value::Object(fields.collect::<Map<_, _>>()) }
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.reader.position().line();
        match self.reader.read_record(&mut self.row) {
            Ok(true) => {
                let line = self.row.position().map_or(line, csv::Position::line);
                Some(Ok(self.record(line)))
            }
            Ok(false) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(failure(&self.file, error, line)))
            }
        }
    }
}

fn cell(text: &str) -> Value {
    number::exact(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn failure(file: &str, error: csv::Error, line: u64) -> RecordError {
    let file = file.to_owned();
    let place = Place::Line(error.position().map_or(line, csv::Position::line));
    match error.into_kind() {
        csv::ErrorKind::Io(reason) => RecordError::Io { file, reason },
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let what = format!("{len} cells where the heading has {expected_len} columns");
            RecordError::Invalid { file, place, what }
        }
        csv::ErrorKind::Utf8 { .. } => RecordError::Invalid { file, place, what: "not UTF-8 text".into() },
        _ => RecordError::Invalid { file, place, what: "not CSV".into() },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Vec<Result<Record, String>> {
        let rows = Rows::new(std::io::Cursor::new(text.to_owned()), "f.csv".into()).unwrap();
        rows.map(|row| row.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn columns_become_fields_and_numbers_numbers() {
        let rows = read("date,ISIN,price,volume\n2000-01-01,US5949181045,39.10,9200\n,007,-1.5e3,1e400\n");
        let values: Vec<_> = rows.into_iter().map(|row| row.unwrap()).collect();
        assert_eq!(
            values[0].value,
            json!({"date": "2000-01-01", "ISIN": "US5949181045", "price": 39.1, "volume": 9200})
        );
        assert_eq!(values[1].value, json!({"date": "", "ISIN": "007", "price": -1500.0, "volume": "1e400"}));
        assert_eq!(values[1].place, Place::Line(3));
    }

    #[test]
    fn quotes_line_breaks_and_marks_are_read_as_spreadsheets_write_them() {
        let rows = read("\u{feff}name,note\r\n\"Larkspur, Ltd\",\"said \"\"yes\"\"\nand went\"\r\n\"12\", 12\r\n");
        let values: Vec<_> = rows.into_iter().map(|row| row.unwrap().value).collect();
        assert_eq!(values[0], json!({"name": "Larkspur, Ltd", "note": "said \"yes\"\nand went"}));
        assert_eq!(values[1], json!({"name": 12, "note": " 12"}));
    }

    #[test]
    fn odd_files_are_refused_by_line() {
        let rows = read("a,b\n1,2\n3\n4,5\n");
        assert_eq!(rows.len(), 2, "reading stops at the first error");
        assert_eq!(rows[1].as_ref().unwrap_err(), "f.csv: line 3: 1 cells where the heading has 2 columns");
        let twice = Rows::new(&b"a,b,a\n1,2,3\n"[..], "f.csv".into()).err().unwrap();
        assert!(twice.to_string().contains("\"a\" twice"));
        assert!(read("a,b\n").is_empty() && read("").is_empty());
    }
}
