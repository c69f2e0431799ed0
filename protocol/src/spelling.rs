//! Files of proof have one spelling: indented JSON that reads back to the same bytes, so that nothing
//! in one can be edited or left out unnoticed.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::codec::clip;

/// What is wrong with a file, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpellingError {
    #[error("{size} bytes, at most {limit} are accepted")]
    Oversized { size: usize, limit: usize },
    #[error("not a {what}: {reason}")]
    Malformed { what: &'static str, reason: String },
    #[error("not spelled as this program spells {what}s: the file was edited or reformatted (line {line})")]
    Spelling { what: &'static str, line: usize },
}

/// Its one spelling: indented JSON and a newline.
pub(crate) fn to_text<T: Serialize>(proof: &T) -> String {
    let mut text = serde_json::to_string_pretty(proof).expect("proofs always encode");
    text.push('\n');
    text
}

/// Reads `what` if it is spelled as [`to_text`] spells it, in at most `limit` bytes.
pub(crate) fn from_text<T: Serialize + DeserializeOwned>(
    what: &'static str,
    text: &str,
    limit: usize,
) -> Result<T, SpellingError> {
    if text.len() > limit {
        return Err(SpellingError::Oversized { size: text.len(), limit });
    }
    let proof: T = serde_json::from_str(text)
        .map_err(|error| SpellingError::Malformed { what, reason: clip(&error.to_string()) })?;
    let spelled = to_text(&proof);
    if spelled != text {
        let (ours, theirs) = (spelled.split('\n'), text.split('\n'));
        let differ = ours.zip(theirs).take_while(|(ours, theirs)| ours == theirs).count();
        return Err(SpellingError::Spelling { what, line: differ + 1 });
    }
    Ok(proof)
}
