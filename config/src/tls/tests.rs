//! Two files that are one.

use super::*;
use crate::fixture::{Fixture, Kind, certificate, tls_key};

fn files(fixture: &Fixture) -> TlsFiles {
    let directory = fixture.path("node0");
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| directory.join(name));
    TlsFiles { identity: "node0@Org01".parse().unwrap(), directory, certificate, key }
}

/// The certificate that is read, by its key.
fn found(files: &TlsFiles) -> Vec<u8> {
    let tls = files.read().unwrap_or_else(|fault| panic!("{fault}"));
    tls.certificate.public_key().unwrap().public_key_to_der().unwrap()
}

#[test]
fn a_renewal_that_is_cut_off_anywhere_leaves_a_pair_and_the_next_puts_the_rest_right() {
    let fixture = Fixture::new();
    let files = files(&fixture);
    for cut in 0..=3 {
        let old = found(&files);
        let key = tls_key();
        let issued = certificate(Kind::default(), &key, Some(&fixture.authority));
        let new = key.public_key_to_der().unwrap();
        let steps = files.steps(&issued, &key).unwrap();
        assert_eq!(steps.len(), 3);
        steps.iter().take(cut).for_each(|step| step.take().unwrap());
        assert_eq!(found(&files), if cut < 2 { old } else { new }, "after {cut} steps");
        // One that was killed while it wrote.
        fixture.write("node0/tls.key.new", "-----BEGIN PRI");
    }
    let key = tls_key();
    let turn = files.turn().unwrap();
    files.replace(&turn, &certificate(Kind::default(), &key, Some(&fixture.authority)), &key).unwrap();
    assert_eq!(std::fs::read(&files.key).unwrap(), key.private_key_to_pem_pkcs8().unwrap(), "one key is left");
    let names: Vec<_> = fixture.path("node0").read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{names:?}");
    assert!(matches!(files.turn(), Err(ReplaceError::Busy(_))), "one at a time");
}

#[test]
fn a_reader_beside_renewals_never_sees_halves_of_two() {
    let fixture = Fixture::new();
    let files = files(&fixture);
    std::thread::scope(|scope| {
        let renewing = scope.spawn(|| {
            let turn = files.turn().unwrap();
            for _ in 0..30 {
                let key = tls_key();
                files.replace(&turn, &certificate(Kind::default(), &key, Some(&fixture.authority)), &key).unwrap();
            }
        });
        let mut seen = std::collections::BTreeSet::new();
        while !renewing.is_finished() {
            seen.insert(found(&files));
        }
        assert!(seen.len() > 1, "it read beside them");
    });
}

#[test]
fn one_file_may_hold_both_and_a_link_stays_one() {
    let fixture = Fixture::new();
    let both = fixture.path("node0/real.pem");
    let link = fixture.path("node0/tls.pem");
    std::os::unix::fs::symlink(&both, &link).unwrap();
    let files = TlsFiles { certificate: link.clone(), key: link.clone(), ..files(&fixture) };
    let turn = files.turn().unwrap();
    fixture.write_private("node0/real.pem", "");
    for _ in 0..2 {
        let key = tls_key();
        files.replace(&turn, &certificate(Kind::default(), &key, Some(&fixture.authority)), &key).unwrap();
        assert_eq!(found(&files), key.public_key_to_der().unwrap());
    }
    assert!(link.is_symlink());
}

#[test]
fn a_certificates_end_is_told_a_month_before_and_after() {
    let fixture = Fixture::new();
    let files = files(&fixture);
    let lapse = |to: i64| {
        fixture.issue("node0", Kind { from: -60, to, ..Kind::default() });
        let tls = files.read().unwrap();
        let left = tls.validity().unwrap().days_left();
        assert!(left == to || left == to - 1, "a second may have passed since: {left} of {to}");
        tls.lapse().unwrap()
    };
    assert_eq!(lapse(WARNING_DAYS + 2), None);
    let at = files.certificate.display().to_string();
    let command = format!("minidlt renew {} --ca ORGANISATION, where", files.directory.display());
    let Some(Lapse::Soon(text)) = lapse(10) else { panic!("a warning") };
    assert!(text.starts_with(&format!("{at} expires on ")), "{text}");
    assert!(text.contains(", in 9 days; ") || text.contains(", in 10 days; "), "{text}");
    assert!(text.contains(&command), "{text}");
    std::fs::create_dir_all(fixture.path("organisations/Org01")).unwrap();
    fixture.write("organisations/Org01/ca.key", "");
    let Some(Lapse::Over(text)) = lapse(-3) else { panic!("an error") };
    let ca = fixture.path("organisations/Org01");
    assert!(text.starts_with(&format!("{at} expired on ")), "{text}");
    assert!(text.ends_with(&format!("minidlt renew {} --ca {}", files.directory.display(), ca.display())), "{text}");
}
