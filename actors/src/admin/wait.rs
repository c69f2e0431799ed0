//! Waiting until transactions are committed: woken by each new head, never by the clock, but for
//! the one limit on all of it.

use std::{collections::BTreeMap, time::Duration};

use actix_web::web;
use minidlt_protocol::types::Hash;
use serde::Deserialize;
use tokio::time::Instant;

use super::{State, blocking, problem::Problem};
use crate::store::reader::Located;

/// `?wait=committed&timeout=5s`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    wait: Option<String>,
    timeout: Option<String>,
}

/// How long to wait where the caller does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

impl WaitQuery {
    /// How long the caller wants to wait, if at all.
    pub fn time(&self, longest: Duration) -> Result<Option<Duration>, Problem> {
        match (self.wait.as_deref(), &self.timeout) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Problem::bad_request("timeout without wait=committed")),
            (Some("committed"), None) => Ok(Some(DEFAULT_WAIT.min(longest))),
            (Some("committed"), Some(text)) => match duration(text) {
                Some(time) if time <= longest => Ok(Some(time)),
                Some(_) => Err(Problem::bad_request(format!("timeout={text}: at most {} s", longest.as_secs()))),
                None => Err(Problem::bad_request(format!("timeout={text}: say it like 5s or 500ms"))),
            },
            (Some(other), _) => Err(Problem::bad_request(format!("wait={other}: only 'committed' can be waited for"))),
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    if let Some(millis) = text.strip_suffix("ms") {
        return millis.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s').unwrap_or(text).parse().ok().map(Duration::from_secs)
}

type Places = BTreeMap<Hash, Located>;

/// Where these transactions are committed, waiting up to `time` until all are. Those not in the
/// answer are not committed.
pub async fn committed(state: &web::Data<State>, ids: Vec<Hash>, time: Duration) -> Result<Places, Problem> {
    let deadline = Instant::now() + time;
    let (mut found, mut missing) = (Places::new(), ids);
    let mut heads = state.api.ledger.heads();
    while !missing.is_empty() {
        // Marked as seen before looking: a block committed while looking wakes again.
        heads.borrow_and_update();
        let node = state.clone();
        (found, missing) = blocking(move || look(&node, found, missing)).await?;
        if missing.is_empty() || Instant::now() >= deadline {
            break;
        }
        tokio::select! {
            changed = heads.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(deadline) => break,
            () = state.closed() => break,
        }
    }
    Ok(found)
}

/// Looks once for each that is missing; answers what is found by now, and what is still missing.
fn look(state: &State, mut found: Places, missing: Vec<Hash>) -> Result<(Places, Vec<Hash>), Problem> {
    let mut still_missing = Vec::new();
    for id in missing {
        match state.api.ledger.locate(&id)? {
            Some(located) => drop(found.insert(id, located)),
            None => still_missing.push(id),
        }
    }
    Ok((found, still_missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [("5s", 5_000), ("500ms", 500), ("5", 5_000), ("0s", 0)];
        for (text, millis) in cases {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1m", "99999999999999999999s", "1.5s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
