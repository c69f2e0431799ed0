//! Whose certificate is this? The one answer for all who ask: a node that starts, `check-config`,
//! the peers' port, the API, and clients.
//!
//! A certificate names a member by its subject: exactly one `CN`, the member's name, and exactly one
//! `O`, its organisation. [`Authority::check`] believes it if the CA of that very organisation, as
//! the genesis or the ledger has it, vouches for it, or the CA that the organisation had before:
//!
//! 1. A CA is self-signed, marked as a CA, and has a key of its own. The genesis is the root of
//!    trust: whoever stood above a CA, or shared its key, could name members too. No two organisations'
//!    CAs have one subject; an organisation's own two may.
//! 2. The CA itself issued the certificate, with nothing between. An intermediate could name members
//!    too, and no genesis lists it.
//! 3. The certificate is valid now, and for its use: a server's, of whoever is dialled; a client's,
//!    of whoever dials. Nodes' are for both, users' for the latter, lest a user pass for a node.
//!
//! TLS asks less, and asks first: does *some* organisation's CA stand above the certificate
//! ([`Authority::store`])? Of an organisation's two CAs of one subject it may try the wrong one alone,
//! and is then told better ([`Authority::overrules`]). What a certificate's owner may do is not in it at all, but in the registry.

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
        X509, X509Name, X509NameRef, X509PurposeId, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult,
        store::{X509Store, X509StoreBuilder},
        verify::X509VerifyFlags,
    },
};
use thiserror::Error;

/// Most bytes of CAs' names that a server tells its clients. The message has room for 64 KiB
/// (RFC 8446, 4.2.4); what a client takes may be less.
pub const MAX_NAMES_BYTES: usize = 32 << 10;
/// OpenSSL's `X509_V_ERR_CERT_SIGNATURE_FAILURE`: the CA that it took for a certificate's issuer is not.
const NOT_SIGNED_BY_THAT_CA: i32 = 7;

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
#[error("organisations: {organisation}: {which} {fault}")]
pub struct BadCa {
    pub organisation: Name,
    pub which: Which,
    pub fault: CaFault,
}

/// Which of an organisation's CAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    Current,
    /// Believed still, while members renew their certificates.
    Former,
}

impl Which {
    /// As the genesis, the status and metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "ca",
            Self::Former => "former_ca",
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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
    #[error("has the key of {0}'s {1}")]
    KeyOf(Name, Which),
    #[error("has the same subject as {0}'s {1}, so that TLS could not tell whose certificates are whose")]
    SubjectOf(Name, Which),
    #[error("cannot be used: {0}")]
    Openssl(#[from] ErrorStack),
}

/// The organisations' certificate authorities.
pub struct Authority {
    cas: BTreeMap<Name, Cas>,
}

impl Authority {
    /// Of a genesis' or registry's organisations.
    pub fn new<'a>(organisations: impl IntoIterator<Item = &'a Organisation>) -> Result<Self, BadCa> {
        let mut taken = Taken::default();
        let mut cas = BTreeMap::new();
        for organisation in organisations {
            cas.insert(organisation.name.clone(), Cas::read(organisation, &mut taken)?);
        }
        Ok(Self { cas })
    }

    /// Of a ledger's organisations. One whose CA cannot be one is left out, so that nobody of it is believed,
    /// and the others are: where two cannot stand together, the one that comes first.
    pub fn of_those_that_hold<'a>(organisations: impl IntoIterator<Item = &'a Organisation>) -> (Self, Vec<BadCa>) {
        let (mut taken, mut cas, mut bad) = (Taken::default(), BTreeMap::new(), Vec::new());
        for organisation in organisations {
            match Cas::read(organisation, &mut taken) {
                Ok(read) => drop(cas.insert(organisation.name.clone(), read)),
                Err(fault) => bad.push(fault),
            }
        }
        (Self { cas }, bad)
    }

    /// Whether an organisation's CAs are those of this certificate authority, to the byte.
    pub fn has(&self, organisation: &Organisation) -> bool {
        let Ok(found) = Cas::read(organisation, &mut Taken::default()) else { return false };
        self.cas.get(&organisation.name).is_some_and(|cas| cas.same_as(&found))
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
        self.check_by(certificate, purpose, Ca::objection)
    }

    /// As [`Self::check`], whatever the time: for who says so itself where a certificate has run out.
    pub fn check_undated(&self, certificate: &X509Ref, purpose: Purpose) -> Result<Identity, Refusal> {
        self.check_by(certificate, purpose, Ca::undated_objection)
    }

    fn check_by(
        &self,
        certificate: &X509Ref,
        purpose: Purpose,
        objection: impl Fn(&Ca, &X509Ref, Purpose) -> Option<String>,
    ) -> Result<Identity, Refusal> {
        let identity = subject(certificate)?;
        let Some(cas) = self.cas.get(&identity.organisation) else {
            return Err(Refusal::UnknownOrganisation(identity.organisation));
        };
        let objection = objection(cas.issuer_of(certificate), certificate, purpose);
        // What a failed check leaves in this thread's queue of errors would be taken for a failure
        // of whichever connection is served next.
        drop(ErrorStack::get());
        match objection {
            None => Ok(identity),
            Some(reason) => Err(Refusal::OtherAuthority { identity, purpose, reason }),
        }
    }

    /// To be asked in TLS' verify callback, where OpenSSL holds something against a certificate: whether
    /// to believe it all the same. An organisation's two CAs may have one subject, and where a certificate
    /// does not say which key signed it (authorityKeyIdentifier), OpenSSL tries one of them alone.
    pub fn overrules(&self, context: &mut X509StoreContextRef, purpose: Purpose) -> bool {
        if context.error().as_raw() != NOT_SIGNED_BY_THAT_CA || context.error_depth() != 0 {
            return false;
        }
        let believed = context.current_cert().is_some_and(|leaf| self.check(leaf, purpose).is_ok());
        if believed {
            context.set_error(X509VerifyResult::OK);
        }
        believed
    }

    /// An organisation's CAs: the one it has, and the one it had before if that is believed still.
    pub fn of(&self, organisation: &Name) -> impl Iterator<Item = (Which, &X509Ref)> {
        self.cas.get(organisation).into_iter().flat_map(Cas::both)
    }

    /// All CAs, for what TLS checks by itself. It is not enough: [`Self::check`] is to follow.
    pub fn store(&self) -> Result<X509Store, ErrorStack> {
        Ok(store(self.all())?.build())
    }

    fn all(&self) -> impl Iterator<Item = &X509Ref> {
        self.cas.values().flat_map(Cas::both).map(|(_, ca)| ca)
    }

    /// All CAs' names, by which a client that has several certificates knows which to show. None
    /// where they are more than [`MAX_NAMES_BYTES`]: a client then has to know by itself.
    pub fn names(&self) -> Result<Option<Stack<X509Name>>, ErrorStack> {
        let (mut names, mut bytes) = (Stack::<X509Name>::new()?, 0);
        for ca in self.all() {
            let name = ca.subject_name();
            bytes += name.to_der()?.len();
            names.push(name.to_owned()?)?;
        }
        Ok((bytes <= MAX_NAMES_BYTES).then_some(names))
    }
}

/// The member that a certificate names. Of two entries, two readers could see two members.
pub fn subject(certificate: &X509Ref) -> Result<Identity, Refusal> {
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

/// Which keys and subjects are taken, and by whose CA.
#[derive(Default)]
struct Taken {
    keys: BTreeMap<Vec<u8>, (Name, Which)>,
    subjects: BTreeMap<Vec<u8>, (Name, Which)>,
}

impl Taken {
    /// A CA with a key of its own, and a subject that no other organisation's has.
    fn read(&mut self, organisation: &Name, which: Which, pem: &str) -> Result<Ca, BadCa> {
        let wrong = |fault| BadCa { organisation: organisation.clone(), which, fault };
        let ca = Ca::read(pem).map_err(wrong)?;
        let (key, subject) = (ca.key().map_err(wrong)?, ca.subject().map_err(wrong)?);
        if let Some((other, which)) = self.keys.get(&key) {
            return Err(wrong(CaFault::KeyOf(other.clone(), *which)));
        }
        if let Some((other, which)) = self.subjects.get(&subject).filter(|(other, _)| other != organisation) {
            return Err(wrong(CaFault::SubjectOf(other.clone(), *which)));
        }
        self.keys.insert(key, (organisation.clone(), which));
        self.subjects.insert(subject, (organisation.clone(), which));
        Ok(ca)
    }
}

/// One organisation's CAs.
struct Cas {
    current: Ca,
    former: Option<Ca>,
}

impl Cas {
    fn read(organisation: &Organisation, taken: &mut Taken) -> Result<Self, BadCa> {
        let Organisation { name, ca, former_ca, .. } = organisation;
        let current = taken.read(name, Which::Current, ca)?;
        let former = former_ca.as_ref().map(|ca| taken.read(name, Which::Former, ca)).transpose()?;
        Ok(Self { current, former })
    }

    fn same_as(&self, other: &Self) -> bool {
        let der =
            |cas: &Self| -> Option<Vec<_>> { cas.both().map(|(which, ca)| Some((which, ca.to_der().ok()?))).collect() };
        der(self).is_some_and(|own| der(other) == Some(own))
    }

    /// Whoever issued the certificate; where neither did, it is the current one that objects.
    fn issuer_of(&self, certificate: &X509Ref) -> &Ca {
        let former = self.former.as_ref().filter(|former| former.signed(certificate));
        former.unwrap_or(&self.current)
    }

    fn both(&self) -> impl Iterator<Item = (Which, &X509Ref)> {
        let former = self.former.as_ref().map(|former| (Which::Former, &*former.certificate));
        [(Which::Current, &*self.current.certificate)].into_iter().chain(former)
    }
}

/// One CA, alone in its stores: a chain ends there or nowhere.
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
        let (server, client) = (Purpose::Server, Purpose::Client);
        let dated = X509VerifyFlags::empty();
        let (server, client) = (store_for(&certificate, server, dated)?, store_for(&certificate, client, dated)?);
        Ok(Self { certificate, server, client })
    }

    fn subject(&self) -> Result<Vec<u8>, CaFault> {
        Ok(self.certificate.subject_name().to_der()?)
    }

    fn key(&self) -> Result<Vec<u8>, CaFault> {
        Ok(self.certificate.public_key()?.public_key_to_der()?)
    }

    fn signed(&self, certificate: &X509Ref) -> bool {
        self.certificate.public_key().and_then(|key| certificate.verify(&key)).unwrap_or(false)
    }

    /// Why this CA does not vouch for a certificate, if it does not.
    fn objection(&self, certificate: &X509Ref, purpose: Purpose) -> Option<String> {
        let store = match purpose {
            Purpose::Server => &self.server,
            Purpose::Client => &self.client,
        };
        objection(store, certificate).unwrap_or_else(|error| Some(error.to_string()))
    }

    fn undated_objection(&self, certificate: &X509Ref, purpose: Purpose) -> Option<String> {
        let store = store_for(&self.certificate, purpose, X509VerifyFlags::NO_CHECK_TIME);
        store.and_then(|store| objection(&store, certificate)).unwrap_or_else(|error| Some(error.to_string()))
    }
}

fn objection(store: &X509Store, certificate: &X509Ref) -> Result<Option<String>, ErrorStack> {
    let (nothing_between, mut context) = (Stack::<X509>::new()?, X509StoreContext::new()?);
    context.init(store, certificate, &nothing_between, |context| {
        let verified = context.verify_cert()?;
        Ok((!verified).then(|| context.error().error_string().to_owned()))
    })
}

fn store<'a>(cas: impl IntoIterator<Item = &'a X509Ref>) -> Result<X509StoreBuilder, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    cas.into_iter().try_for_each(|ca| store.add_cert(ca.to_owned()))?;
    Ok(store)
}

fn store_for(ca: &X509Ref, purpose: Purpose, flags: X509VerifyFlags) -> Result<X509Store, ErrorStack> {
    let mut store = store([ca])?;
    store.set_purpose(match purpose {
        Purpose::Server => X509PurposeId::SSL_SERVER,
        Purpose::Client => X509PurposeId::SSL_CLIENT,
    })?;
    store.set_flags(flags)?;
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
mod tests;
