//! X.509 (RFC 5280): each organisation's authority, and what it issues. Keys are of P-256, which
//! every TLS 1.3 implementation and browser takes.

use std::{net::IpAddr, time::SystemTime};

use minidlt_protocol::types::{Identity, Name};
use openssl::{
    asn1::{Asn1Integer, Asn1Time},
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkcs12::Pkcs12,
    pkey::{PKey, PKeyRef, Private},
    stack::Stack,
    x509::{
        X509, X509Builder, X509Name, X509NameBuilder, X509NameRef, X509Ref, X509Req, X509ReqBuilder,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
            SubjectKeyIdentifier,
        },
    },
};

const DAY_SECONDS: i64 = 24 * 3_600;
/// Ten years.
const AUTHORITY_DAYS: i64 = 3_650;
/// The longest that browsers accept.
pub const LEAF_DAYS: u16 = 825;
/// Machines' clocks differ: what is issued now is valid a little earlier.
const BACKDATED_SECONDS: i64 = 3_600;
/// Bits of a random serial number: positive and within RFC 5280's 20 bytes.
const SERIAL_BITS: i32 = 159;
/// X.509 counts versions from 0.
const VERSION_3: i32 = 2;

/// An organisation's certificate authority.
pub struct Authority {
    organisation: Name,
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate with its key, and the authority that vouches for it.
pub struct Issued {
    certificate: X509,
    key: PKey<Private>,
    authority: X509,
}

/// What a certificate is to be good for.
pub enum Purpose<'a> {
    /// A node, reached at this host.
    Node {
        host: &'a str,
    },
    User,
}

impl Authority {
    pub fn new(organisation: &Name) -> Result<Self, ErrorStack> {
        let key = new_key()?;
        let name = subject("certificate authority", organisation)?;
        let mut builder = builder(&name, &name, &key, AUTHORITY_DAYS)?;
        builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
        builder.append_extension(identifier)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self { organisation: organisation.clone(), certificate: builder.build(), key })
    }

    pub fn organisation(&self) -> &Name {
        &self.organisation
    }

    pub fn certificate_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.certificate.to_pem()
    }

    pub fn key_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.key.private_key_to_pem_pkcs8()
    }

    /// One that was made before: its certificate and its key.
    pub fn of(organisation: Name, certificate: X509, key: PKey<Private>) -> Self {
        Self { organisation, certificate, key }
    }

    /// Issues a certificate with a new key.
    pub fn issue(&self, member: &Identity, purpose: &Purpose<'_>) -> Result<Issued, ErrorStack> {
        let name = subject(member.name.as_str(), &member.organisation)?;
        let (names, is_server) = match purpose {
            Purpose::Node { host } => (Some(alternative_names(host)), true),
            Purpose::User => (None, false),
        };
        self.certify(&name, names, is_server, LEAF_DAYS)
    }

    /// The same with a new key and other dates, for a server too if it `is_server`.
    pub fn renew(&self, old: &X509Ref, is_server: bool, days: u16) -> Result<Issued, ErrorStack> {
        self.certify(old.subject_name(), names_of(old), is_server, days)
    }

    fn certify(
        &self,
        name: &X509NameRef,
        names: Option<SubjectAlternativeName>,
        is_server: bool,
        days: u16,
    ) -> Result<Issued, ErrorStack> {
        let key = new_key()?;
        let mut builder = builder(name, self.certificate.subject_name(), &key, i64::from(days))?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        let mut usage = ExtendedKeyUsage::new();
        usage.client_auth();
        if is_server {
            usage.server_auth();
        }
        builder.append_extension(usage.build()?)?;
        self.append_identifiers(&mut builder, &self.certificate)?;
        if let Some(names) = names {
            let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
            builder.append_extension(names)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Issued { certificate: builder.build(), key, authority: self.certificate.clone() })
    }

    fn append_identifiers(&self, builder: &mut X509Builder, issuer: &X509Ref) -> Result<(), ErrorStack> {
        let subject = SubjectKeyIdentifier::new().build(&builder.x509v3_context(Some(issuer), None))?;
        builder.append_extension(subject)?;
        let authority = AuthorityKeyIdentifier::new().keyid(true).build(&builder.x509v3_context(Some(issuer), None))?;
        builder.append_extension(authority)
    }
}

impl Issued {
    pub fn certificate(&self) -> &X509Ref {
        &self.certificate
    }

    pub fn key(&self) -> &PKeyRef<Private> {
        &self.key
    }

    pub fn certificate_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.certificate.to_pem()
    }

    pub fn key_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.key.private_key_to_pem_pkcs8()
    }

    /// Certificate, key and authority in one file, as browsers import it.
    pub fn pkcs12(&self, name: &str, password: &str) -> Result<Vec<u8>, ErrorStack> {
        let mut authorities = Stack::new()?;
        authorities.push(self.authority.clone())?;
        Pkcs12::builder().name(name).pkey(&self.key).cert(&self.certificate).ca(authorities).build2(password)?.to_der()
    }
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)
}

fn subject(common_name: &str, organisation: &Name) -> Result<X509Name, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, organisation.as_str())?;
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)?;
    Ok(name.build())
}

fn builder(
    subject: &X509NameRef,
    issuer: &X509NameRef,
    key: &PKey<Private>,
    days: i64,
) -> Result<X509Builder, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(SERIAL_BITS, MsbOption::MAYBE_ZERO, false)?;
    let start = unix_seconds() - BACKDATED_SECONDS;
    let (not_before, not_after) = (Asn1Time::from_unix(start)?, Asn1Time::from_unix(start + days * DAY_SECONDS)?);
    let serial: Asn1Integer = serial.to_asn1_integer()?;
    let mut builder = X509::builder()?;
    builder.set_version(VERSION_3)?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_not_before(&not_before)?;
    builder.set_not_after(&not_after)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2)
}

/// This machine under its usual names, and the host that others know it by.
fn alternative_names(host: &str) -> SubjectAlternativeName {
    let mut names = SubjectAlternativeName::new();
    names.dns("localhost").ip("127.0.0.1");
    if host != "localhost" && host != "127.0.0.1" {
        match host.parse::<IpAddr>() {
            Ok(_) => names.ip(host),
            Err(_) => names.dns(host),
        };
    }
    names
}

/// The names by which a certificate's owner is reached.
fn names_of(certificate: &X509Ref) -> Option<SubjectAlternativeName> {
    let found = certificate.subject_alt_names()?;
    let mut names = SubjectAlternativeName::new();
    for name in &found {
        if let Some(host) = name.dnsname() {
            names.dns(host);
        } else if let Some(address) = name.ipaddress().and_then(address) {
            names.ip(&address.to_string());
        }
    }
    Some(names)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Asks an authority that is elsewhere for what [`Authority::renew`] issues: the request, and its new key.
pub fn request(old: &X509Ref) -> Result<(X509Req, PKey<Private>), ErrorStack> {
    let key = new_key()?;
    let mut builder: X509ReqBuilder = X509Req::builder()?;
    builder.set_version(0)?;
    builder.set_subject_name(old.subject_name())?;
    builder.set_pubkey(&key)?;
    if let Some(names) = names_of(old) {
        let mut extensions = Stack::new()?;
        extensions.push(names.build(&builder.x509v3_context(None))?)?;
        builder.add_extensions(&extensions)?;
    }
    builder.sign(&key, MessageDigest::sha256())?;
    Ok((builder.build(), key))
}

#[cfg(test)]
impl Issued {
    /// Of a server that shows it, and asks for none.
    pub fn acceptor(&self) -> openssl::ssl::SslAcceptorBuilder {
        let method = openssl::ssl::SslMethod::tls_server();
        let mut acceptor = openssl::ssl::SslAcceptor::mozilla_modern_v5(method).unwrap();
        acceptor.set_certificate(&self.certificate).unwrap();
        acceptor.set_private_key(&self.key).unwrap();
        acceptor
    }
}
