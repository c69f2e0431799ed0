//! JSON that is kept exactly as it came, or refused.
//!
//! JSON's grammar lets numbers be longer than any machine's, and names repeat; parsers then round
//! or drop in silence. On a ledger that would put something else on record than what was sent.

use std::{fmt, vec};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error;

/// Why JSON cannot be kept as it came.
#[derive(Debug, Error)]
pub enum ExactError {
    #[error("not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("the integer {0} does not fit 64 bits and would be rounded; write it as a string")]
    Integer(String),
    #[error("the number {0} has more digits than a 64-bit float keeps and would be rounded; write it as a string")]
    Float(String),
}

/// Most characters of a number that a refusal repeats.
const SHOWN_DIGITS: usize = 48;

/// Reads JSON whose numbers are all kept exactly and whose names do not repeat.
pub fn parse(bytes: &[u8]) -> Result<Value, ExactError> {
    let mut floats = floats(bytes)?.into_iter();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Exact { floats: &mut floats }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// All numbers that are not 64-bit integers, in the order they stand. Whether the bytes are JSON
/// is for the parser to say: what does not look like a number is left to it.
fn floats(bytes: &[u8]) -> Result<Vec<f64>, ExactError> {
    let mut floats = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                let number = String::from_utf8_lossy(&bytes[at..at + length]);
                floats.extend(float(&number)?);
                at += length;
            }
            _ => at += 1,
        }
    }
    Ok(floats)
}

fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// A number's value where it is a float, which must then be exactly what is written.
fn float(number: &str) -> Result<Option<f64>, ExactError> {
    let shown = || number.chars().take(SHOWN_DIGITS).collect::<String>();
    if !number.contains(['.', 'e', 'E']) && number != "-0" {
        let fits = number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
        let digits = number.strip_prefix('-').unwrap_or(number);
        let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        return if is_integer && !fits { Err(ExactError::Integer(shown())) } else { Ok(None) };
    }
    let Ok(float) = number.parse::<f64>() else { return Ok(None) };
    // The shortest text that reads back as the same float is what any reader will be shown.
    match float.is_finite() && decimal(number) == decimal(&format!("{float:e}")) {
        true => Ok(Some(float)),
        false => Err(ExactError::Float(shown())),
    }
}

/// A decimal number without its sign: its digits from the first to the last that is not zero, and
/// the power of ten of the last.
fn decimal(number: &str) -> Option<(String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let digits = digits.trim_start_matches('0');
    let kept = digits.trim_end_matches('0');
    if kept.is_empty() {
        return Some((String::new(), 0));
    }
    let dropped = i64::try_from(digits.len() - kept.len()).ok()?;
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    Some((kept.to_owned(), exponent.checked_add(dropped)?))
}

/// Builds a value with the floats found before: the parser's own may be off in the last place.
struct Exact<'a> {
    floats: &'a mut vec::IntoIter<f64>,
}

impl<'de> DeserializeSeed<'de> for Exact<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Exact<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let value = self.floats.next().unwrap_or(value);
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Exact { floats: self.floats })? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format!("the name {name:?} stands twice in one object")));
            }
            let value = map.next_value_seed(Exact { floats: self.floats })?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exact_is_kept() {
        let texts = [
            "18446744073709551615",
            "-9223372036854775808",
            "0.1",
            "-2.5e-7",
            "1.7976931348623157e308",
            "5e-324",
            r#"{"a":[1,{"b":"1e999 \" 99999999999999999999"},0.25,null,true],"c":-0.0}"#,
        ];
        for text in texts {
            let value = parse(text.as_bytes()).unwrap();
            assert_eq!(parse(value.to_string().as_bytes()).unwrap(), value, "{text}");
        }
        assert_eq!(parse(b"1.10").unwrap(), parse(b"11e-1").unwrap());
        assert_eq!(parse(b"[1.50, 2, -0, 3.25]").unwrap().to_string(), "[1.5,2,-0.0,3.25]");
    }

    #[test]
    fn what_would_be_altered_is_refused() {
        for text in ["18446744073709551616", "-9223372036854775809", "[1, 99999999999999999999]"] {
            assert!(matches!(parse(text.as_bytes()), Err(ExactError::Integer(_))), "{text}");
        }
        for text in ["0.12345678901234567890", "1e400", "1e-400", "9007199254740993.0", "1e99999999999999999999"] {
            assert!(matches!(parse(text.as_bytes()), Err(ExactError::Float(_))), "{text}");
        }
        for text in [r#"{"a":1,"a":2}"#, "", "{", "1 2", "[1-2]", "01", "--1", "\"\\", "nul", "1.e", "\u{feff}1"] {
            assert!(matches!(parse(text.as_bytes()), Err(ExactError::Syntax(_))), "{text}");
        }
    }
}
