//! JSON files of any length: the file is cut into the texts of its records, each of bounded
//! length, before anything is built of them.

use std::io::{self, BufRead, BufReader, Read};

use super::{MAX_VALUE_BYTES, Place, Record, RecordError, strict};

/// A value a line; empty lines are passed over.
pub struct Lines<R> {
    file: String,
    reader: BufReader<R>,
    line: u64,
    failed: bool,
}

impl<R: Read> Lines<R> {
    pub fn new(source: R, file: String) -> Self {
        Self { file, reader: BufReader::new(source), line: 0, failed: false }
    }

    fn read(&mut self) -> Result<Option<Record>, RecordError> {
        loop {
            let mut text = Vec::new();
            let mut limited = self.reader.by_ref().take(MAX_VALUE_BYTES as u64 + 1);
            let read = limited.read_until(b'\n', &mut text);
            self.line += 1;
            let place = Place::Line(self.line);
            match read.map_err(|reason| RecordError::Io { file: self.file.clone(), reason })? {
                0 => return Ok(None),
                length if length > MAX_VALUE_BYTES => return Err(too_long(&self.file, place)),
                _ if text.iter().all(u8::is_ascii_whitespace) => {}
                _ => return value(&self.file, place, &text).map(Some),
            }
        }
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = self.read().transpose();
        self.failed = matches!(record, Some(Err(_)));
        record
    }
}

/// One value, or the elements of an array.
pub struct Elements<R> {
    file: String,
    bytes: io::Bytes<BufReader<R>>,
    count: u64,
    position: Position,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Start,
    InArray,
    End,
}

impl<R: Read> Elements<R> {
    pub fn new(source: R, file: String) -> Self {
        Self { file, bytes: BufReader::new(source).bytes(), count: 0, position: Position::Start }
    }

    fn byte(&mut self) -> Result<Option<u8>, RecordError> {
        self.bytes.next().transpose().map_err(|reason| RecordError::Io { file: self.file.clone(), reason })
    }

    fn visible_byte(&mut self) -> Result<Option<u8>, RecordError> {
        loop {
            match self.byte()? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                other => return Ok(other),
            }
        }
    }

    fn invalid(&self, what: &str) -> RecordError {
        RecordError::Invalid { file: self.file.clone(), place: Place::Element(self.count), what: what.into() }
    }

    fn read(&mut self) -> Result<Option<Record>, RecordError> {
        if self.position == Position::End {
            return Ok(None);
        }
        self.count += 1;
        let first = self.visible_byte()?;
        if self.position == Position::InArray {
            return match first {
                Some(b']') if self.count == 1 => self.close(),
                Some(first) => self.element(first).map(Some),
                None => Err(self.invalid("the file ends within its array")),
            };
        }
        match first {
            Some(b'[') => {
                (self.position, self.count) = (Position::InArray, 0);
                self.read()
            }
            Some(first) => self.only_value(first).map(Some),
            None => Err(self.invalid("the file is empty; expected a JSON object or an array")),
        }
    }

    /// The file's one value that is not an array.
    fn only_value(&mut self, first: u8) -> Result<Record, RecordError> {
        let mut text = vec![first];
        while let Some(byte) = self.byte()? {
            text.push(byte);
            self.check_length(&text)?;
        }
        self.position = Position::End;
        value(&self.file, Place::Element(self.count), &text)
    }

    /// One element of the array, up to the comma or bracket after it.
    fn element(&mut self, first: u8) -> Result<Record, RecordError> {
        let (mut text, mut depth, mut in_string, mut escaped) = (Vec::new(), 0_usize, false, false);
        let mut next = Some(first);
        loop {
            let byte = next.ok_or_else(|| self.invalid("the file ends within its array"))?;
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' => depth += 1,
                b',' if depth == 0 => break,
                b']' if depth == 0 => {
                    self.close()?;
                    break;
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            text.push(byte);
            self.check_length(&text)?;
            next = self.byte()?;
        }
        value(&self.file, Place::Element(self.count), &text)
    }

    fn check_length(&self, text: &[u8]) -> Result<(), RecordError> {
        if text.len() > MAX_VALUE_BYTES { Err(too_long(&self.file, Place::Element(self.count))) } else { Ok(()) }
    }

    /// After the array's last bracket.
    fn close(&mut self) -> Result<Option<Record>, RecordError> {
        self.position = Position::End;
        match self.visible_byte()? {
            None => Ok(None),
            Some(_) => {
                Err(self.invalid("there is more after the end of the array; is it JSON lines (--format jsonl)?"))
            }
        }
    }
}

impl<R: Read> Iterator for Elements<R> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.read().transpose();
        if matches!(record, Some(Err(_))) {
            self.position = Position::End;
        }
        record
    }
}

fn value(file: &str, place: Place, text: &[u8]) -> Result<Record, RecordError> {
    let invalid = |what| RecordError::Invalid { file: file.into(), place, what };
    let text = std::str::from_utf8(text).map_err(|_| invalid("not UTF-8 text".into()))?;
    strict::parse(text).map(|value| Record { place, value }).map_err(invalid)
}

fn too_long(file: &str, place: Place) -> RecordError {
    let what = format!("longer than {MAX_VALUE_BYTES} bytes; a record may not be");
    RecordError::Invalid { file: file.into(), place, what }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn array(text: &str) -> Result<Vec<Value>, String> {
        Elements::new(text.as_bytes(), "f.json".into()).map(|r| r.map(|r| r.value).map_err(|e| e.to_string())).collect()
    }

    fn lines(text: &str) -> Result<Vec<(Place, Value)>, String> {
        let read = Lines::new(text.as_bytes(), "f.jsonl".into());
        read.map(|r| r.map(|r| (r.place, r.value)).map_err(|e| e.to_string())).collect()
    }

    #[test]
    fn one_object_or_an_array() {
        assert_eq!(array(" {\"a\": [1, 2]}\n"), Ok(vec![json!({"a": [1, 2]})]));
        assert_eq!(array("[]"), Ok(vec![]));
        assert_eq!(array(" [ 1 , \"a,]\\\"\" ,[2,{\"b\":\"}\"}] , null ] \n").unwrap().len(), 4);
        assert_eq!(array("[{\"a\":1},{\"a\":2}]"), Ok(vec![json!({"a": 1}), json!({"a": 2})]));
    }

    #[test]
    fn broken_arrays_are_refused_with_the_place() {
        for bad in ["", "[1,", "[1", "[1,]", "[,1]", "[1 2]", "[1] 2", "[}]", "{\"a\":1}{\"a\":2}", "[\"a]"] {
            assert!(array(bad).is_err(), "{bad}");
        }
        assert!(array("[1, {\"a\": 1, \"a\": 2}]").unwrap_err().starts_with("f.json: record 2: "));
        let long = format!("[\"{}\"]", "x".repeat(MAX_VALUE_BYTES));
        assert!(array(&long).unwrap_err().contains("longer than"));
    }

    #[test]
    fn lines_are_a_value_each() {
        let read = lines("{\"a\": 1}\r\n\n[2]\n\"x\"").unwrap();
        assert_eq!(
            read,
            [(Place::Line(1), json!({"a": 1})), (Place::Line(3), json!([2])), (Place::Line(4), json!("x"))]
        );
        assert!(lines("{}\n{\n").unwrap_err().starts_with("f.jsonl: line 2: not JSON"));
        assert!(lines(&"1".repeat(MAX_VALUE_BYTES + 2)).unwrap_err().contains("longer than"));
    }
}
