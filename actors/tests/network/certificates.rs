//! Certificate authorities and what they issue.

use std::{
    ops::Range,
    time::{SystemTime, UNIX_EPOCH},
};

use minidlt_actors::tls::Credentials;
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rand::rand_bytes,
    x509::{X509, X509Builder, X509Name, extension::BasicConstraints},
};

pub struct Ca {
    certificate: X509,
    key: PKey<Private>,
    /// No genesis lists it, so it is sent along with what it issues.
    intermediate: bool,
}

impl Ca {
    pub fn new(organisation: &str) -> Self {
        Self::make(&format!("{organisation} CA"), organisation, None)
    }

    /// One under this one.
    pub fn intermediate(&self, organisation: &str) -> Self {
        Self::make("between", organisation, Some(self))
    }

    fn make(common_name: &str, organisation: &str, issuer: Option<&Self>) -> Self {
        let (own_name, key) = (name(common_name, organisation), key());
        let mut builder = builder(common_name, organisation, &key);
        builder.set_issuer_name(issuer.map_or(&*own_name, |issuer| issuer.certificate.subject_name())).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key, intermediate: issuer.is_some() }
    }

    pub fn pem(&self) -> String {
        String::from_utf8(self.certificate.to_pem().unwrap()).unwrap()
    }

    pub fn issue(&self, common_name: &str, organisation: &str) -> Credentials {
        self.issue_for(common_name, organisation, 0..1)
    }

    /// Valid from one day to another, counted from now.
    pub fn issue_for(&self, common_name: &str, organisation: &str, days: Range<i64>) -> Credentials {
        let key = key();
        let mut builder = builder(common_name, organisation, &key);
        // OpenSSL reads a coarser clock, which may be a second behind when a new one has just begun.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 - 1;
        let day = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
        builder.set_not_before(&day(days.start)).unwrap();
        builder.set_not_after(&day(days.end)).unwrap();
        builder.set_issuer_name(self.certificate.subject_name()).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        let above = self.intermediate.then(|| self.certificate.clone());
        Credentials { chain: [builder.build()].into_iter().chain(above).collect(), key }
    }
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn name(common_name: &str, organisation: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common_name).unwrap();
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, organisation).unwrap();
    name.build()
}

fn builder(common_name: &str, organisation: &str, key: &PKey<Private>) -> X509Builder {
    let mut serial = [0; 8];
    rand_bytes(&mut serial).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_slice(&serial).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name(common_name, organisation)).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder
}
