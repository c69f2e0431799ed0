//! Whose certificate is this? The one answer for all who ask: a node that starts, `check-config`,
//! the peers' port, the API, and clients.
//!
//! A certificate names a member by its subject: exactly one `CN`, the member's name, and exactly one
//! `O`, its organisation. [`Authority::check`] believes it if the CA of that very organisation, as
//! the genesis has it, vouches for it:
//!
//! 1. A CA is self-signed, marked as a CA, and has a key of its own. The genesis is the root of
//!    trust: whoever stood above a CA, or shared its key, could name members too.
//! 2. The CA itself issued the certificate, with nothing between. An intermediate could name members
//!    too, and no genesis lists it.
//! 3. The certificate is valid now, and for its use: a server's, of whoever is dialled; a client's,
//!    of whoever dials. Nodes' are for both, users' for the latter, lest a user pass for a node.
//!
//! TLS asks less, and asks first: does *some* organisation's CA stand above the certificate
//! ([`Authority::store`])? What its owner may do is not in it at all, but in the registry.

use std::{collections::BTreeMap, fmt};

use minidlt_protocol::{
    registry::Organisation,
    types::{Identity, Name},
};
use openssl::{
    error::ErrorStack,
    nid::Nid,
    ssl::SslRef,
    stack::Stack,
    x509::{
        X509, X509Name, X509NameRef, X509PurposeId, X509Ref, X509StoreContext,
        store::{X509Store, X509StoreBuilder},
    },
};
use thiserror::Error;

/// Most bytes of CAs' names that a server tells its clients. The message has room for 64 KiB
/// (RFC 8446, 4.2.4); what a client takes may be less.
pub const MAX_NAMES_BYTES: usize = 32 << 10;

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be dialled.
    Server,
    /// To dial.
    Client,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// Why a certificate says nothing to us.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("no certificate was shown")]
    NoCertificate,
    #[error("the certificate's subject needs exactly one {0}, a name")]
    Subject(&'static str),
    #[error("the certificate is for organisation {0}, which is not of this network")]
    UnknownOrganisation(Name),
    #[error(
        "the CA of {} does not vouch for the certificate of {identity} as a {purpose}: {reason}",
        identity.organisation
    )]
    OtherAuthority { identity: Identity, purpose: Purpose, reason: String },
    #[error("the certificate is for {0}, which is not an enrolled node")]
    NotANode(Identity),
    #[error("the certificate is for {0}, who is not enrolled on this ledger")]
    NotAMember(Identity),
}

impl Refusal {
    /// A stable name for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Subject(_) => "bad-subject",
            Self::UnknownOrganisation(_) => "unknown-organisation",
            Self::OtherAuthority { .. } => "other-authority",
            Self::NotANode(_) => "not-a-node",
            Self::NotAMember(_) => "not-a-member",
        }
    }
}

/// An organisation whose CA cannot be one.
#[derive(Debug, Error)]
#[error("organisations: {organisation}: ca {fault}")]
pub struct BadCa {
    pub organisation: Name,
    pub fault: CaFault,
}

/// What is wrong with a CA.
#[derive(Debug, Error)]
pub enum CaFault {
    #[error("holds {0} certificates in PEM, exactly one is needed")]
    Count(usize),
    #[error("is not self-signed")]
    NotSelfSigned,
    #[error("is not marked as a certificate authority (basicConstraints CA:TRUE)")]
    NotMarked,
    #[error("has the key of {0}'s ca")]
    KeyOf(Name),
    #[error("has the same subject as {0}'s ca, so that TLS could not tell whose certificates are whose")]
    SubjectOf(Name),
    #[error("cannot be used: {0}")]
    Openssl(#[from] ErrorStack),
}

/// The organisations' certificate authorities.
pub struct Authority {
    cas: BTreeMap<Name, Ca>,
}

impl Authority {
    /// Of a genesis' or registry's organisations.
    pub fn new<'a>(organisations: impl IntoIterator<Item = &'a Organisation>) -> Result<Self, BadCa> {
        let (mut cas, mut owners, mut subjects) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for Organisation { name, ca } in organisations {
            let wrong = |fault| BadCa { organisation: name.clone(), fault };
            let ca = Ca::read(ca).map_err(wrong)?;
            if let Some(other) = owners.insert(ca.key().map_err(wrong)?, name.clone()) {
                return Err(wrong(CaFault::KeyOf(other)));
            }
            if let Some(other) = subjects.insert(ca.subject().map_err(wrong)?, name.clone()) {
                return Err(wrong(CaFault::SubjectOf(other)));
            }
            cas.insert(name.clone(), ca);
        }
        Ok(Self { cas })
    }

    /// Who is at the other end of a connection, by the certificate it showed: a client's where this
    /// end was dialled, a server's where this end dialled.
    pub fn identify(&self, ssl: &SslRef) -> Result<Identity, Refusal> {
        let certificate = ssl.peer_certificate().ok_or(Refusal::NoCertificate)?;
        let purpose = if ssl.is_server() { Purpose::Client } else { Purpose::Server };
        self.check(&certificate, purpose)
    }

    /// Whose certificate this is, if it may be used for this.
    pub fn check(&self, certificate: &X509Ref, purpose: Purpose) -> Result<Identity, Refusal> {
        let identity = subject(certificate)?;
        let Some(ca) = self.cas.get(&identity.organisation) else {
            return Err(Refusal::UnknownOrganisation(identity.organisation));
        };
        match ca.objection(certificate, purpose) {
            None => Ok(identity),
            Some(reason) => Err(Refusal::OtherAuthority { identity, purpose, reason }),
        }
    }

    /// All CAs, for what TLS checks by itself. It is not enough: [`Self::check`] is to follow.
    pub fn store(&self) -> Result<X509Store, ErrorStack> {
        Ok(store(self.cas.values().map(|ca| &ca.certificate))?.build())
    }

    /// All CAs' names, by which a client that has several certificates knows which to show. None
    /// where they are more than [`MAX_NAMES_BYTES`]: a client then has to know by itself.
    pub fn names(&self) -> Result<Option<Stack<X509Name>>, ErrorStack> {
        let (mut names, mut bytes) = (Stack::<X509Name>::new()?, 0);
        for ca in self.cas.values() {
            let name = ca.certificate.subject_name();
            bytes += name.to_der()?.len();
            names.push(name.to_owned()?)?;
        }
        Ok((bytes <= MAX_NAMES_BYTES).then_some(names))
    }
}

/// The member that a certificate names. Of two entries, two readers could see two members.
pub(crate) fn subject(certificate: &X509Ref) -> Result<Identity, Refusal> {
    let subject = certificate.subject_name();
    let name = only(subject, Nid::COMMONNAME).ok_or(Refusal::Subject("CN"))?;
    let organisation = only(subject, Nid::ORGANIZATIONNAME).ok_or(Refusal::Subject("O"))?;
    Ok(Identity::new(name, organisation))
}

fn only(subject: &X509NameRef, kind: Nid) -> Option<Name> {
    let mut entries = subject.entries_by_nid(kind);
    let name = entries.next()?.data().to_string().ok()?.parse().ok()?;
    entries.next().is_none().then_some(name)
}

/// One organisation's CA, alone in its stores: a chain ends there or nowhere.
struct Ca {
    certificate: X509,
    server: X509Store,
    client: X509Store,
}

impl Ca {
    /// Exactly one certificate, self-signed, marked as a CA.
    fn read(pem: &str) -> Result<Self, CaFault> {
        let mut certificates = X509::stack_from_pem(pem.as_bytes()).unwrap_or_default();
        let count = certificates.len();
        let (Some(certificate), 1) = (certificates.pop(), count) else { return Err(CaFault::Count(count)) };
        let signed = certificate.public_key().is_ok_and(|key| certificate.verify(&key).unwrap_or(false));
        let named = certificate.issuer_name().to_der()? == certificate.subject_name().to_der()?;
        if !(signed && named) {
            return Err(CaFault::NotSelfSigned);
        }
        if !marked_as_ca(&certificate.to_der()?) {
            return Err(CaFault::NotMarked);
        }
        let (server, client) = (X509PurposeId::SSL_SERVER, X509PurposeId::SSL_CLIENT);
        let (server, client) = (store_for(&certificate, server)?, store_for(&certificate, client)?);
        Ok(Self { certificate, server, client })
    }

    fn subject(&self) -> Result<Vec<u8>, CaFault> {
        Ok(self.certificate.subject_name().to_der()?)
    }

    fn key(&self) -> Result<Vec<u8>, CaFault> {
        Ok(self.certificate.public_key()?.public_key_to_der()?)
    }

    /// Why this CA does not vouch for a certificate, if it does not.
    fn objection(&self, certificate: &X509Ref, purpose: Purpose) -> Option<String> {
        let store = match purpose {
            Purpose::Server => &self.server,
            Purpose::Client => &self.client,
        };
        let verify = || {
            let (nothing_between, mut context) = (Stack::<X509>::new()?, X509StoreContext::new()?);
            context.init(store, certificate, &nothing_between, |context| {
                let verified = context.verify_cert()?;
                Ok((!verified).then(|| context.error().error_string().to_owned()))
            })
        };
        let objection = verify().unwrap_or_else(|error: ErrorStack| Some(error.to_string()));
        // What a failed check leaves in this thread's queue of errors would be taken for a failure
        // of whichever connection is served next.
        drop(ErrorStack::get());
        objection
    }
}

fn store<'a>(cas: impl IntoIterator<Item = &'a X509>) -> Result<X509StoreBuilder, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    cas.into_iter().try_for_each(|ca| store.add_cert(ca.clone()))?;
    Ok(store)
}

fn store_for(ca: &X509, purpose: X509PurposeId) -> Result<X509Store, ErrorStack> {
    let mut store = store([ca])?;
    store.set_purpose(purpose)?;
    Ok(store.build())
}

/// Does the certificate carry `basicConstraints` with `cA` true (RFC 5280, 4.2.1.9)? The crate
/// `openssl` does not tell, but the extension has few forms in DER: its object identifier, perhaps
/// "critical", then an octet string with a sequence that begins with the boolean.
fn marked_as_ca(der: &[u8]) -> bool {
    const IDENTIFIER: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x13];
    const TRUE: [u8; 3] = [0x01, 0x01, 0xff];
    der.windows(IDENTIFIER.len()).enumerate().filter(|(_, window)| *window == IDENTIFIER).any(|(at, _)| {
        let rest = &der[at + IDENTIFIER.len()..];
        let rest = rest.strip_prefix(&TRUE).unwrap_or(rest);
        matches!(rest, [0x04, _, 0x30, _, constraint @ ..] if constraint.starts_with(&TRUE))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, Kind, certificate, tls_key};

    fn organisation(name: &str, ca: &fixture::Authority) -> Organisation {
        let ca = String::from_utf8(ca.certificate.to_pem().unwrap()).unwrap();
        Organisation { name: name.parse().unwrap(), ca }
    }

    #[test]
    fn a_member_is_whom_its_own_organisations_ca_names() {
        let [one, two] = ["Org01", "Org02"].map(fixture::Authority::new);
        let authority = Authority::new(&[organisation("Org01", &one), organisation("Org02", &two)]).unwrap();
        let node = Kind::default();
        let key = tls_key();
        let between = Kind { name: "between", authority: true, ..node };
        let between = fixture::Authority { certificate: certificate(between, &key, Some(&one)), key };
        let stranger = fixture::Authority::new("Org01");
        let cases = [
            ("its own CA", node, &one, Ok("node0@Org01")),
            ("another organisation's CA", node, &two, Err("other-authority")),
            ("a stranger of the CA's name", node, &stranger, Err("other-authority")),
            ("an intermediate", node, &between, Err("other-authority")),
            ("expired", Kind { from: -9, to: -1, ..node }, &one, Err("other-authority")),
            ("not valid yet", Kind { from: 2, ..node }, &one, Err("other-authority")),
            ("two names", Kind { second_name: Some("node1"), ..node }, &one, Err("bad-subject")),
            ("one name twice", Kind { second_name: Some("node0"), ..node }, &one, Err("bad-subject")),
            ("a name that is none", Kind { name: "no name", ..node }, &one, Err("bad-subject")),
            ("an unknown organisation", Kind { organisation: "Org09", ..node }, &one, Err("unknown-organisation")),
        ];
        for (what, kind, issuer, expected) in cases {
            let certificate = certificate(kind, &tls_key(), Some(issuer));
            for purpose in [Purpose::Server, Purpose::Client] {
                let found = authority.check(&certificate, purpose).map(|identity| identity.to_string());
                let found = found.as_deref().map_err(Refusal::kind);
                assert_eq!(found, expected, "{what}, as a {purpose}");
            }
        }
    }

    #[test]
    fn two_cas_of_one_subject_are_refused_as_tls_could_not_tell_them_apart() {
        let [one, twin] = ["Org01", "Org01"].map(fixture::Authority::new);
        let both = Authority::new(&[organisation("Org01", &one), organisation("Org02", &twin)]);
        let bad = both.err().map(|bad| bad.to_string()).unwrap_or_default();
        assert!(bad.starts_with("organisations: Org02: ca has the same subject as Org01's ca"), "{bad}");
    }

    #[test]
    fn a_certificate_is_good_for_what_it_was_issued_for_alone() {
        let ca = fixture::Authority::new("Org01");
        let authority = Authority::new(&[organisation("Org01", &ca)]).unwrap();
        for issued_for in [Purpose::Server, Purpose::Client] {
            let kind = Kind { only_for: Some(issued_for), ..Kind::default() };
            let certificate = certificate(kind, &tls_key(), Some(&ca));
            for used_as in [Purpose::Server, Purpose::Client] {
                let found = authority.check(&certificate, used_as);
                assert_eq!(found.is_ok(), issued_for == used_as, "a {issued_for}'s used as a {used_as}: {found:?}");
            }
        }
    }

    #[test]
    fn a_refused_certificate_leaves_no_error_to_the_next_connection() {
        let [own, stranger] = ["Org01", "Org01"].map(fixture::Authority::new);
        let authority = Authority::new(&[organisation("Org01", &own)]).unwrap();
        let certificate = certificate(Kind::default(), &tls_key(), Some(&stranger));
        assert!(authority.check(&certificate, Purpose::Client).is_err());
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn clients_are_told_the_cas_names_if_they_fit() {
        let of = |count: usize| {
            let names = (0..count).map(|n| format!("{n:064}"));
            let cas: Vec<_> = names.map(|name| organisation(&name, &fixture::Authority::new(&name))).collect();
            Authority::new(&cas).unwrap().names().unwrap()
        };
        assert_eq!(of(2).map(|names| names.len()), Some(2));
        assert!(of(1 + MAX_NAMES_BYTES / 64).is_none());
    }
}
