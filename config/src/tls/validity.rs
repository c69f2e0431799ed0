//! How long a certificate lasts, and when that is to be said.

use std::time::SystemTime;

use minidlt_protocol::types::Timestamp;
use openssl::{asn1::Asn1Time, error::ErrorStack, x509::X509Ref};
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// How long before it expires a certificate is warned about, in days.
pub const WARNING_DAYS: i64 = 30;
const DAY_SECONDS: i64 = 24 * 3_600;

/// When a certificate ends, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Validity(i64);

/// What is to be said of a certificate's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lapse {
    /// It is near: a warning.
    Soon(String),
    /// It is past: an error.
    Over(String),
}

impl Validity {
    pub fn of(certificate: &X509Ref) -> Result<Self, ErrorStack> {
        let since = Asn1Time::from_unix(0)?.diff(certificate.not_after())?;
        Ok(Self(i64::from(since.days) * DAY_SECONDS + i64::from(since.secs)))
    }

    pub fn seconds(self) -> i64 {
        self.0
    }

    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.0).unwrap_or(0).saturating_mul(1_000))
    }

    /// Whole days until then, by this machine's clock; below 0 where it is past.
    pub fn days_left(self) -> i64 {
        (self.0 - now()).div_euclid(DAY_SECONDS)
    }

    /// As TLS has it: at its last second a certificate is valid.
    pub fn is_over(self) -> bool {
        self.0 < now()
    }

    /// What is to be said, by words for so many days left or for none.
    pub fn lapse(self, words: impl FnOnce(Option<i64>) -> String) -> Option<Lapse> {
        match self.days_left() {
            _ if self.is_over() => Some(Lapse::Over(words(None))),
            days if days < WARNING_DAYS => Some(Lapse::Soon(words(Some(days)))),
            _ => None,
        }
    }
}

/// As the API tells it.
impl Serialize for Validity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Validity", 2)?;
        fields.serialize_field("expires", &self.timestamp())?;
        fields.serialize_field("days_left", &self.days_left())?;
        fields.end()
    }
}

/// A clock before 1970 is no clock: the epoch will do.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
