//! The JSON that a record is prepared from: kept exactly, or refused.

use serde_json::Value;

use super::memory::bounded;

/// The API's own reader. It needs nothing of the node, whose crate would bring a database along.
#[path = "../../../actors/src/admin/exact.rs"]
mod exact;

pub fn run(bytes: &[u8]) {
    let kept = bounded(bytes.len(), || exact::parse(bytes));
    let plain = serde_json::from_slice::<Value>(bytes);
    let Ok(kept) = kept else { return };
    let plain = plain.expect("what is kept is JSON to any parser");
    assert!(is_alike(&kept, &plain), "{kept} was read from {plain}");
    let again = exact::parse(kept.to_string().as_bytes()).expect("what is kept can be written and read");
    assert_eq!(again, kept);
}

/// The same but for the last place of floats, in which parsers differ.
fn is_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap_or(f64::NAN), other.as_f64().unwrap_or(f64::NAN));
            (one - other).abs() <= one.abs() * 4.0 * f64::EPSILON + f64::MIN_POSITIVE
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| is_alike(value, other)))
        }
        _ => one == other,
    }
}
