//! The node's clock: read here and nowhere else, and handed to `protocol` as a value.

use std::time::{SystemTime, UNIX_EPOCH};

use minidlt_protocol::types::Timestamp;

/// The time now. A clock set before 1970 reads as 1970: every check against it then fails closed.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
