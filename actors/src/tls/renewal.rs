//! Taking up a renewed certificate while the node runs, and saying in time that one runs out.
//!
//! The files are looked at every [`LOOK_EVERY`], and when the operator asks (SIGHUP). A pair that does not
//! hold is refused with what is wrong with it, and the one in use stays.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use minidlt_config::tls::{Lapse, NODE, Tls, TlsFault, TlsFiles, Validity};
use tokio::{sync::Notify, time::timeout};

use super::{Certificates, Credentials, Live};

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it is said again that a certificate runs out, or has.
const SAY_AGAIN: Duration = Duration::from_secs(24 * 3_600);

/// What a look at the files came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// They hold what is in use.
    Same,
    Renewed,
    /// They hold what cannot be used; what is wrong with it.
    Refused(String),
}

/// Looks after this node's certificate.
pub struct Renewal {
    files: TlsFiles,
    live: Arc<Live>,
    /// Why the pair in the files is not used; said once.
    refused: Option<String>,
    /// What was said of a certificate's end, and when.
    said: BTreeMap<&'static str, (bool, Instant)>,
}

impl Renewal {
    pub fn new(files: TlsFiles, live: Arc<Live>) -> Self {
        Self { files, live, refused: None, said: BTreeMap::new() }
    }

    /// Goes on for as long as the node runs; `asked` is notified where the operator does not want to wait.
    pub async fn run(mut self, asked: Arc<Notify>) {
        let mut is_asked = false;
        loop {
            // Files are read on a thread that may block.
            let looking = actix_rt::task::spawn_blocking(move || {
                self.look(is_asked);
                self.say(Instant::now());
                self
            });
            // It does not panic; and a runtime that stops is the node's end.
            let Ok(looked) = looking.await else { return };
            self = looked;
            is_asked = timeout(LOOK_EVERY, asked.notified()).await.is_ok();
        }
    }

    /// Takes up what the files hold, if it is new and holds. Who asked for it has an answer in any case.
    pub fn look(&mut self, is_asked: bool) -> Looked {
        let looked = self.take_up().unwrap_or_else(Looked::Refused);
        match &looked {
            Looked::Same if is_asked => log::info!("{} holds the certificate in use", self.files.certificate.display()),
            Looked::Same => {}
            Looked::Renewed => {
                let until = self.live.now().certificate().map(|own| own.not_after().to_string()).unwrap_or_default();
                log::info!("the certificate in {} is in use now, until {until}", self.files.certificate.display());
            }
            Looked::Refused(why) if is_asked || self.refused.as_ref() != Some(why) => {
                log::warn!("the certificate in the files is not used, the one before stays in use: {why}");
            }
            Looked::Refused(_) => {}
        }
        self.refused = match &looked {
            Looked::Refused(why) => Some(why.clone()),
            Looked::Same | Looked::Renewed => None,
        };
        looked
    }

    fn take_up(&self) -> Result<Looked, String> {
        let (found, current) = (self.files.read().map_err(text)?, self.live.now());
        if current.certificate().is_some_and(|own| same(own, &found)) {
            return Ok(Looked::Same);
        }
        found.check(&current.authority, NODE).map_err(text)?;
        let Tls { certificate, key, .. } = found;
        self.live.renew(Credentials { chain: vec![certificate], key }).map_err(|error| error.to_string())?;
        Ok(Looked::Renewed)
    }

    /// Says which certificates run out soon or have, each once, then once a day; which it said now.
    pub fn say(&mut self, now: Instant) -> Vec<&'static str> {
        let (lapses, mut said_now) = (self.lapses(), Vec::new());
        self.said.retain(|which, _| lapses.iter().any(|(other, _)| which == other));
        for (which, lapse) in lapses {
            let is_over = matches!(lapse, Lapse::Over(_));
            let said = self.said.get(which);
            if said.is_some_and(|(over, at)| *over == is_over && now.duration_since(*at) < SAY_AGAIN) {
                continue;
            }
            match lapse {
                Lapse::Soon(text) => log::warn!("{text}"),
                Lapse::Over(text) => log::error!("{text}"),
            }
            self.said.insert(which, (is_over, now));
            said_now.push(which);
        }
        said_now
    }

    /// What is to be said, by which certificate it is of.
    pub fn lapses(&self) -> Vec<(&'static str, Lapse)> {
        let Certificates { own, ca, former_ca } = self.live.certificates();
        let lapse = |which, validity: Option<Validity>, words: &dyn Fn(Option<i64>) -> String| {
            Some((which, validity?.lapse(words)?))
        };
        let (path, renewal) = (self.files.certificate.display(), self.files.renewal());
        let organisation = &self.files.identity.organisation;
        let mut lapses = vec![
            lapse("own", own, &|days| match days {
                Some(days) => format!("the certificate in {path} runs out in {days} days; renew it: {renewal}"),
                None => format!(
                    "the certificate in {path} has run out: no node and no client connects with this one until it \
                     is renewed, without a restart: {renewal}"
                ),
            }),
            lapse("ca", ca, &|days| {
                let what = "nobody that it vouches for is believed from then on; replace it on the ledger";
                match days {
                    Some(days) => format!("the CA of {organisation} runs out in {days} days: {what}"),
                    None => format!("the CA of {organisation} has run out: {what}"),
                }
            }),
            lapse("former_ca", former_ca, &|days| {
                let what = "whom it vouches for needs a certificate of the new one";
                match days {
                    Some(days) => format!("the former CA of {organisation} runs out in {days} days: {what}"),
                    None => format!("the former CA of {organisation} has run out: {what}"),
                }
            }),
        ];
        lapses.push(self.distrust());
        lapses.into_iter().flatten().collect()
    }

    /// Whether the ledger's CAs believe this node at all, whatever the time.
    fn distrust(&self) -> Option<(&'static str, Lapse)> {
        let current = self.live.now();
        let own = current.certificate()?;
        let refusal = NODE.iter().find_map(|purpose| current.authority.check_undated(own, *purpose).err())?;
        let (path, renewal) = (self.files.certificate.display(), self.files.renewal());
        let text = format!(
            "{path}: {refusal}: no node and no client connects with this one; have a new one issued: {renewal}"
        );
        Some(("issuer", Lapse::Over(text)))
    }
}

fn same(own: &openssl::x509::X509Ref, found: &Tls) -> bool {
    own.to_der().is_ok_and(|own| found.certificate.to_der().is_ok_and(|found| own == found))
}

fn text(fault: TlsFault) -> String {
    fault.to_string()
}
