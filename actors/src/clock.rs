//! The wall clock, read here and nowhere else.

use std::time::{SystemTime, UNIX_EPOCH};

use minidlt_protocol::types::Timestamp;

/// The time now; a clock set before 1970 reads as 1970.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
