//! Networks as `init` lays them out, renewed.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use minidlt_config::{Flags, authority::Purpose, network::Local, network::Network};
use minidlt_protocol::vote::ConsensusMode;
use openssl::{asn1::Asn1Time, hash::MessageDigest, pkcs12::Pkcs12, x509::X509Req};
use tempfile::TempDir;

use super::*;
use crate::init::{Stop, lay_out};

fn network() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("network");
    let local = Local { nodes: 2, consensus: ConsensusMode::Bft, base_port: 3401 };
    lay_out(&Network::local(local).unwrap(), &dir, &Stop::default()).unwrap();
    (parent, dir)
}

fn renew(path: PathBuf, ca: PathBuf) -> Result<(), Failure> {
    Renew { path, ca: Some(ca), days: 40, csr: None, issued: None }.run()
}

fn certificate(dir: &Path) -> X509 {
    X509::from_pem(&fs::read(dir.join("tls.crt")).unwrap()).unwrap()
}

/// Whom a certificate is for, where, and for what: all that a renewal keeps.
fn kept(dir: &Path, network: &Path) -> (String, Vec<String>, [bool; 2]) {
    let certificate = certificate(dir);
    let names = certificate.subject_alt_names().into_iter().flatten();
    let names = names.map(|name| format!("{:?} {:?}", name.dnsname(), name.ipaddress())).collect();
    let authority = minidlt_config::load(&network.join("node0"), Flags::default()).unwrap().authority;
    let purposes = [Purpose::Server, Purpose::Client].map(|purpose| authority.check(&certificate, purpose).is_ok());
    (format!("{:?}", certificate.subject_name()), names, purposes)
}

#[test]
fn nodes_and_users_keep_their_names_and_uses_and_get_another_key() {
    let (_parent, dir) = network();
    for member in ["node0", "users/trader"] {
        let at = dir.join(member);
        let (before, old) = (kept(&at, &dir), certificate(&at));
        renew(at.clone(), dir.join("organisations/Org01")).unwrap_or_else(|failure| panic!("{failure}"));
        let new = certificate(&at);
        assert_eq!(kept(&at, &dir), before);
        assert!(!new.public_key().unwrap().public_eq(&old.public_key().unwrap()), "{member}");
        let left = Asn1Time::days_from_now(0).unwrap().diff(new.not_after()).unwrap().days;
        assert!(left == 39 || left == 40, "{left}");
        let mode = |name: &str| at.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("tls.key"), mode("tls.crt")), (0o600, 0o644));
        assert_eq!(at.join("tls.key").metadata().unwrap().nlink(), 1);
    }
    assert_eq!(minidlt_config::load(&dir.join("node0"), Flags::default()).unwrap().warnings, Vec::<String>::new());
    let trader = dir.join("users/trader");
    assert_eq!(user::load(&trader).unwrap().warnings, Vec::<String>::new());
    let bundle = Pkcs12::from_der(&fs::read(trader.join("tls.p12")).unwrap()).unwrap().parse2(P12_PASSWORD).unwrap();
    let (own, key) = (bundle.cert.unwrap(), bundle.pkey.unwrap());
    assert_eq!(own.to_der().unwrap(), certificate(&trader).to_der().unwrap());
    assert!(own.public_key().unwrap().public_eq(&key));
}

#[test]
fn what_cannot_be_renewed_is_said_and_the_old_pair_stays() {
    let (_parent, dir) = network();
    let node = dir.join("node0");
    let before = fs::read(node.join("tls.crt")).unwrap();
    let own = dir.join("organisations/Org01");
    let mixed = dir.join("organisations/mixed");
    fs::create_dir(&mixed).unwrap();
    fs::copy(own.join("ca.crt"), mixed.join("ca.crt")).unwrap();
    fs::copy(dir.join("organisations/Org02/ca.key"), mixed.join("ca.key")).unwrap();
    let leaf = dir.join("organisations/leaf");
    fs::create_dir(&leaf).unwrap();
    fs::copy(node.join("tls.crt"), leaf.join("ca.crt")).unwrap();
    fs::copy(node.join("tls.key"), leaf.join("ca.key")).unwrap();
    let cases = [
        (dir.join("nowhere"), "ca.crt cannot be read: "),
        (mixed, "is not the key of the ca.crt beside it"),
        (leaf, "ca is not self-signed"),
    ];
    for (ca, expected) in cases {
        let said = renew(node.clone(), ca).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(fs::read(node.join("tls.crt")).unwrap(), before);
    assert!(minidlt_config::load(&node, Flags::default()).is_ok());
    // What another organisation issues is taken, with a warning: the ledger may know better.
    renew(node.clone(), dir.join("organisations/Org02")).unwrap_or_else(|failure| panic!("{failure}"));
    let warnings = minidlt_config::load(&node, Flags::default()).unwrap().warnings;
    assert!(warnings[0].contains("the CA of Org01 does not vouch for"), "{warnings:?}");
}

#[test]
fn an_authority_elsewhere_is_asked_and_what_it_issues_is_taken() {
    let (_parent, dir) = network();
    let (node, request, issued) = (dir.join("node0"), dir.join("node0.csr"), dir.join("node0.crt"));
    let run = |csr: Option<&PathBuf>, issued: Option<&PathBuf>| {
        Renew { path: node.clone(), ca: None, days: LEAF_DAYS, csr: csr.cloned(), issued: issued.cloned() }.run()
    };
    let said = run(None, Some(&issued)).unwrap_err().to_string();
    assert!(said.contains("write one with --csr"), "{said}");
    run(Some(&request), None).unwrap_or_else(|failure| panic!("{failure}"));
    let before = kept(&node, &dir);
    let asked = X509Req::from_pem(&fs::read(&request).unwrap()).unwrap();
    assert!(asked.verify(&asked.public_key().unwrap()).unwrap());

    // What an authority of other means makes of it.
    let ca = dir.join("organisations/Org01");
    let issuer = X509::from_pem(&fs::read(ca.join("ca.crt")).unwrap()).unwrap();
    let key = PKey::private_key_from_pem(&fs::read(ca.join("ca.key")).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(asked.subject_name()).unwrap();
    builder.set_issuer_name(issuer.subject_name()).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(90).unwrap()).unwrap();
    builder.set_pubkey(&asked.public_key().unwrap()).unwrap();
    for extension in &asked.extensions().unwrap() {
        builder.append_extension2(extension).unwrap();
    }
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    fs::copy(dir.join("node1/tls.crt"), &issued).unwrap();
    let said = run(None, Some(&issued)).unwrap_err().to_string();
    assert!(said.contains("is not the key of the certificate"), "{said}");
    fs::write(&issued, builder.build().to_pem().unwrap()).unwrap();
    run(None, Some(&issued)).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(kept(&node, &dir), before);
    assert!(certificate(&node).public_key().unwrap().public_eq(&asked.public_key().unwrap()));
    assert!(!node.join("tls.key.next").exists());
}
