//! CBOR of any content.

use minidlt_protocol::codec::{CodecError, Profile, decode, decode_canonical, encode, first_item, scan, to_json};
use serde_json::Value;

use super::memory::bounded;

/// The one refusal that cutting a sequence leaves to the decoding of its items.
const REPEATED_KEY: &str = "a repeated map key";

pub fn run(bytes: &[u8]) {
    let length = bytes.len();
    let scanned = scan(bytes, Profile::Protocol);
    let decoded = bounded(length, || decode::<Value>(bytes, length));
    assert!(scanned.is_ok() || decoded.is_err(), "nothing is decoded that was not scanned");
    if let Ok(json) = bounded(length, || to_json(bytes, length)) {
        let again = encode(&json);
        assert_eq!(to_json(&again, again.len()), Ok(json), "JSON comes back as it went");
        assert_eq!(scanned, Ok(()), "what JSON can say, the protocol takes");
    }
    if let Ok(value) = decode_canonical::<Value>(bytes, length) {
        assert_eq!(encode(&value), bytes);
    }
    cut(bytes);
}

/// A sequence is cut into items, each of which is one.
fn cut(mut rest: &[u8]) {
    while let Ok(size) = first_item(rest) {
        assert!((1..=rest.len()).contains(&size));
        let (item, after) = rest.split_at(size);
        match scan(item, Profile::Protocol) {
            Ok(()) | Err(CodecError::Refused { what: REPEATED_KEY, .. }) => {}
            Err(error) => panic!("the item of {size} bytes is none: {error}"),
        }
        rest = after;
    }
}
