//! One other node, as the Listener knows it: at most one session, and how the last one ended.

use std::time::{Duration, Instant};

use minidlt_protocol::{registry::Node, types::Identity};

use super::backoff::{self, Backoff};
use crate::{
    log_limit::{HeldBack, LogLimit, OneLine},
    messages::network::{Peer, PeerState},
    session::{Session, ended::Ended},
};

pub struct Other {
    pub node: Node,
    session: Option<Session>,
    /// Since when the session stands.
    since: Instant,
    failures: u32,
    /// Why there is no session, where one ended or an attempt failed.
    last_error: Option<String>,
    comings: LogLimit,
    goings: LogLimit,
}

impl Other {
    pub fn new(node: Node) -> Self {
        Self {
            node,
            session: None,
            since: Instant::now(),
            failures: 0,
            last_error: None,
            comings: LogLimit::default(),
            goings: LogLimit::default(),
        }
    }

    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// A session came to stand; answers the one it replaces.
    pub fn connected(&mut self, session: Session) -> Option<Session> {
        self.since = Instant::now();
        self.last_error = None;
        self.session.replace(session)
    }

    /// This session ended; `false` where it is not the one that stands. One that stood for `good` was
    /// a good one; one that ended sooner may do so again, so its failures still count.
    pub fn ended(&mut self, id: u64, why: &Ended, good: Duration) -> bool {
        if self.session.as_ref().is_none_or(|session| session.id != id) {
            return false;
        }
        self.session = None;
        self.failed(why);
        if self.since.elapsed() >= good {
            self.failures = 0;
        }
        true
    }

    /// An attempt to connect failed.
    pub fn failed(&mut self, why: &Ended) {
        self.last_error = Some(OneLine(why).to_string());
    }

    /// How long to wait before dialling again; longer each time.
    pub fn next_wait(&mut self, backoff: Backoff) -> Duration {
        let wait = backoff.wait(self.failures, backoff::random());
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Takes the session, if one stands.
    pub fn take(&mut self) -> Option<Session> {
        self.session.take()
    }

    /// Whether a line about its coming, or its going, may be logged now: a node that comes and goes
    /// all the time must not fill the log.
    pub fn may_log(&mut self, coming: bool) -> Option<HeldBack> {
        if coming { self.comings.allow() } else { self.goings.allow() }
    }

    pub fn view(&self, identity: &Identity) -> Peer {
        Peer {
            identity: identity.clone(),
            address: self.node.address.clone(),
            state: if self.session.is_some() { PeerState::Connected } else { PeerState::Disconnected },
            height: self.session.as_ref().map(Session::height),
            last_error: self.last_error.clone(),
            certificate: self.session.as_ref().and_then(|session| session.certificate),
        }
    }
}
