//! Whose certificates are believed.

use super::*;
use crate::fixture::{self, Kind, certificate, tls_key};

fn organisation(name: &str, ca: &fixture::Authority) -> Organisation {
    let ca = String::from_utf8(ca.certificate.to_pem().unwrap()).unwrap();
    Organisation::new(name.parse().unwrap(), ca)
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

/// An organisation that replaces one CA by another.
fn replacing(name: &str, ca: &fixture::Authority, former: &fixture::Authority) -> Organisation {
    Organisation { former_ca: Some(organisation(name, former).ca), ..organisation(name, ca) }
}

#[test]
fn during_an_overlap_both_cas_of_an_organisation_are_believed_and_afterwards_one() {
    // Of one subject, as an organisation's CAs will be.
    let [ca, former, stranger] = ["Org01", "Org01", "Org01"].map(fixture::Authority::new);
    let believed = |authority: &Authority, issuer| {
        let certificate = certificate(Kind::default(), &tls_key(), Some(issuer));
        [Purpose::Server, Purpose::Client].map(|purpose| authority.check(&certificate, purpose).is_ok())
    };
    let overlap = Authority::new(&[replacing("Org01", &ca, &former)]).unwrap();
    assert_eq!([&ca, &former, &stranger].map(|issuer| believed(&overlap, issuer)), [[true; 2], [true; 2], [false; 2]]);
    let after = Authority::new(&[organisation("Org01", &ca)]).unwrap();
    assert_eq!([&ca, &former].map(|issuer| believed(&after, issuer)), [[true; 2], [false; 2]]);
    let which: Vec<_> = overlap.of(&"Org01".parse().unwrap()).map(|(which, _)| which).collect();
    assert_eq!(which, [Which::Current, Which::Former]);
    let expired = certificate(Kind { from: -9, to: -1, ..Kind::default() }, &tls_key(), Some(&former));
    let refusal = overlap.check(&expired, Purpose::Client).unwrap_err().to_string();
    assert!(refusal.ends_with("certificate has expired"), "the one that issued it objects: {refusal}");
    assert!(overlap.check_undated(&expired, Purpose::Client).is_ok());
    assert!(after.check_undated(&expired, Purpose::Client).is_err());
}

#[test]
fn of_two_organisations_no_cas_share_a_key_or_subject_and_of_one_no_key() {
    let [one, two, other] = ["Org01", "Org02", "Org03"].map(fixture::Authority::new);
    let renamed = fixture::Authority {
        certificate: certificate(Kind { name: "new", authority: true, ..Kind::default() }, &one.key, None),
        key: one.key.clone(),
    };
    let twin = fixture::Authority::new("Org01");
    let two = |former| vec![organisation("Org01", &one), replacing("Org02", &two, former)];
    let cases = [
        (vec![replacing("Org01", &one, &one)], "Org01: former_ca has the key of Org01's ca"),
        (vec![replacing("Org01", &renamed, &one)], "Org01: former_ca has the key of Org01's ca"),
        (two(&one), "Org02: former_ca has the key of Org01's ca"),
        (two(&renamed), "Org02: former_ca has the key of Org01's ca"),
        (two(&twin), "Org02: former_ca has the same subject as Org01's ca, so that"),
        (
            vec![replacing("Org01", &other, &one), organisation("Org02", &twin)],
            "Org02: ca has the same subject as Org01's former_ca, so that",
        ),
        (
            vec![Organisation { former_ca: Some("junk".into()), ..organisation("Org01", &one) }],
            "Org01: former_ca holds 0 certificates in PEM",
        ),
    ];
    for (organisations, expected) in cases {
        let bad = Authority::new(&organisations).err().map(|bad| bad.to_string()).unwrap_or_default();
        assert!(bad.starts_with(&format!("organisations: {expected}")), "{expected}: {bad}");
    }
    assert!(Authority::new(&[replacing("Org01", &one, &twin)]).is_ok(), "one subject, two keys");
}

#[test]
fn of_a_ledger_an_organisation_whose_ca_cannot_be_one_is_left_out_alone() {
    let [one, two, three] = ["Org01", "Org02", "Org03"].map(fixture::Authority::new);
    let junk = Organisation { ca: "junk".into(), ..organisation("Org02", &two) };
    let copied = replacing("Org03", &three, &one);
    let (authority, bad) = Authority::of_those_that_hold(&[organisation("Org01", &one), junk, copied]);
    let bad: Vec<_> = bad.iter().map(|bad| bad.organisation.as_str()).collect();
    assert_eq!(bad, ["Org02", "Org03"]);
    let certificate = certificate(Kind::default(), &tls_key(), Some(&one));
    assert!(authority.check(&certificate, Purpose::Client).is_ok());
    assert!(authority.has(&organisation("Org01", &one)) && !authority.has(&organisation("Org01", &three)));
    assert!(!authority.has(&replacing("Org01", &one, &three)) && !authority.has(&organisation("Org03", &three)));
}
