//! The certificate that this node shows and the CAs that it believes, as they are now.
//!
//! Whoever accepts or dials asks for both as the connection begins ([`Live::now`]); what stands is not cut
//! by a change. The API's server holds an acceptor made once, so its handshakes each change over to the
//! context of the moment, when the client's first message has come.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use minidlt_config::{authority::Which, tls::Validity};
use minidlt_protocol::{registry::Organisation, types::Identity};
use openssl::{
    error::ErrorStack,
    ssl::{ClientHelloResponse, SslAcceptorBuilder, SslContext},
    x509::X509Ref,
};
use serde::Serialize;

use super::{Authority, Credentials, TlsError, VERIFY, api_acceptor, peer_context, verifying};
use crate::metrics::{Metrics, certificate_gauge};

/// What connections that begin now show and believe.
pub struct Current {
    pub authority: Arc<Authority>,
    credentials: Credentials,
    /// Between nodes, both directions.
    pub peer: SslContext,
    api: SslContext,
}

impl Current {
    fn new(credentials: Credentials, authority: Arc<Authority>) -> Result<Arc<Self>, TlsError> {
        let peer = peer_context(&credentials, &authority)?;
        let api = api_acceptor(&credentials, &authority)?.build().into_context();
        Ok(Arc::new(Self { authority, credentials, peer, api }))
    }

    /// This node's certificate.
    pub fn certificate(&self) -> Option<&X509Ref> {
        self.credentials.chain.first().map(|certificate| &**certificate)
    }
}

/// How long certificates last.
#[derive(Debug, Clone, Serialize)]
pub struct Certificates {
    /// This node's.
    pub own: Option<Validity>,
    /// Its organisation's CA's, and that of the one before, where that is believed still.
    pub ca: Option<Validity>,
    pub former_ca: Option<Validity>,
}

/// Shared by all who begin connections.
pub struct Live {
    me: Identity,
    metrics: Arc<Metrics>,
    current: RwLock<Arc<Current>>,
    /// One change at a time, which keeps no connection waiting.
    changing: Mutex<()>,
}

impl Live {
    pub fn new(
        me: Identity,
        credentials: Credentials,
        authority: Arc<Authority>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(Current::new(credentials, authority)?);
        let live = Self { me, metrics, current, changing: Mutex::default() };
        live.measure();
        Ok(Arc::new(live))
    }

    /// For a connection that begins now.
    pub fn now(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows another certificate from now on.
    pub fn renew(&self, credentials: Credentials) -> Result<(), TlsError> {
        self.change(|current| Current::new(credentials, current.authority.clone()))
    }

    /// Believes the CAs of these organisations from now on: those of the registry in force. One whose CA
    /// cannot be one is left out, and said in the log; so is one that took the key or the subject of
    /// another's, which had it before.
    pub fn set_authority<'a>(&self, organisations: impl IntoIterator<Item = &'a Organisation>) -> Result<(), TlsError> {
        self.change(|current| {
            let (mut ordered, changed): (Vec<_>, Vec<_>) =
                organisations.into_iter().partition(|organisation| current.authority.has(organisation));
            ordered.extend(changed);
            let (authority, bad) = Authority::of_those_that_hold(ordered);
            bad.iter().for_each(|bad| log::error!("nobody of {} is believed: {bad}", bad.organisation));
            Current::new(current.credentials.clone(), Arc::new(authority))
        })
    }

    fn change(&self, change: impl FnOnce(&Current) -> Result<Arc<Current>, TlsError>) -> Result<(), TlsError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&self.now())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = changed;
        self.measure();
        Ok(())
    }

    /// For the API's server. OpenSSL calls back for every first message of a client, with a server's name in
    /// it or without.
    pub fn acceptor(self: &Arc<Self>) -> Result<SslAcceptorBuilder, TlsError> {
        let (live, current) = (self.clone(), self.now());
        let mut acceptor = api_acceptor(&current.credentials, &current.authority)?;
        acceptor.set_client_hello_callback(move |ssl, _| {
            let current = live.now();
            ssl.set_ssl_context(&current.api)?;
            // A connection's own, which it has of the context that it was made by, and keeps.
            ssl.set_verify_callback(VERIFY, verifying(&current.authority));
            Ok::<_, ErrorStack>(ClientHelloResponse::SUCCESS)
        });
        Ok(acceptor)
    }

    pub fn certificates(&self) -> Certificates {
        let current = self.now();
        let valid = |certificate: &X509Ref| Validity::of(certificate).ok();
        let ca = |which| {
            let mut cas = current.authority.of(&self.me.organisation);
            cas.find(|(found, _)| *found == which).and_then(|(_, ca)| valid(ca))
        };
        Certificates {
            own: current.certificate().and_then(valid),
            ca: ca(Which::Current),
            former_ca: ca(Which::Former),
        }
    }

    fn measure(&self) {
        let Certificates { own, ca, former_ca } = self.certificates();
        let all = [("own", own), (Which::Current.name(), ca), (Which::Former.name(), former_ca)];
        all.into_iter().for_each(|(which, validity)| certificate_gauge(&self.metrics, which, validity));
    }
}
