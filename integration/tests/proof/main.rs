//! Proof that holds only while nothing is changed: what `verify` says of a ledger in which a byte was
//! flipped, and `verify-receipt` of a receipt or a state proof that was edited, at random.

mod edits;
mod state;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use minidlt_integration::{Cluster, Mode, Random, binary, output_within, program, root, run};
use serde_json::Value;

use edits::edit;

/// Flips where the ledger is, and in the files beside it that RocksDB keeps for people.
const FLIPS: usize = 40;
const FLIPS_BESIDE: usize = 8;
const EDITS: usize = 300;
/// Checking 560 transactions takes a tenth of a second.
const CHECKED_WITHIN: Duration = Duration::from_secs(20);

/// A network that has committed the trades, and the directory with a receipt of each.
fn committed_trades() -> (Cluster, PathBuf) {
    let cluster = Cluster::start(4, Mode::Bft);
    let receipts = cluster.directory.path().join("receipts");
    run(Command::new(binary())
        .args(["submit", "--wait", "--as"])
        .arg(cluster.user("trader"))
        .arg("--receipts")
        .arg(&receipts)
        .arg(root().join("integration/data/trades.csv")));
    (cluster, receipts)
}

/// What it printed and what it said of errors; it must have ended as a program that was asked does.
fn said(output: &Output, what: &str) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{what}: exit code {code:?}: {errors}");
    assert!(!errors.contains("panicked"), "{what}: {errors}");
    (out, errors)
}

#[test]
fn a_flipped_byte_is_found_or_is_one_that_nothing_hangs_on() {
    let mut random = Random::seeded();
    let (mut cluster, _) = committed_trades();
    assert_eq!(cluster.stop_node(0), 0);
    let copy = cluster.directory.path().join("copy");
    run(Command::new("cp").arg("-r").arg(cluster.node(0).join("data/ledger")).arg(&copy));
    let verify =
        || output_within(program(&[]).arg("verify").arg(cluster.node(0)).arg("--data").arg(&copy), CHECKED_WITHIN);
    let (sound, _) = said(&verify(), "the copy as it is");
    assert!(sound.starts_with("ok: ") && sound.contains("560 transactions"), "{sound}");

    let (ledger, beside): (Vec<_>, Vec<_>) = files(&copy).into_iter().partition(|(path, _)| holds_the_ledger(path));
    let mut found = 0;
    for (files, flips) in [(&ledger, FLIPS), (&beside, FLIPS_BESIDE)] {
        for _ in 0..flips {
            let (path, at) = any_byte(&mut random, files);
            let original = fs::read(path).expect("a file of the ledger");
            let mut flipped = original.clone();
            flipped[at] ^= 1_u8 << random.below(8);
            fs::write(path, &flipped).expect("written");
            let what = format!("{} at {at}: {:#04x} for {:#04x}", path.display(), flipped[at], original[at]);
            let is_found = assert_found_or_sound(&verify(), &what, &sound, &copy);
            assert!(!is_found || holds_the_ledger(path), "{what}: the ledger does not hang on it");
            found += usize::from(is_found);
            fs::write(path, &original).expect("written back");
        }
    }
    println!("{found} of {FLIPS} flips found, {} changed nothing", FLIPS - found);
    assert!(found > FLIPS / 2, "most are found: {found} of {FLIPS}");
    assert_eq!(said(&verify(), "the copy put right").0, sound);
}

/// Whether the flip was found: then one line names the height or the damaged file. Else the ledger
/// is told to be what it was.
fn assert_found_or_sound(output: &Output, what: &str, sound: &str, copy: &Path) -> bool {
    let (out, errors) = said(output, what);
    if output.status.success() {
        assert_eq!((out.as_str(), errors.as_str()), (sound, ""), "{what}");
        return false;
    }
    assert_eq!((out.as_str(), errors.lines().count()), ("", 1), "{what}: {errors}");
    let names = ["minidlt: height ".to_owned(), format!("minidlt: {}: ", copy.display())];
    assert!(names.iter().any(|name| errors.starts_with(name)), "{what}: {errors}");
    true
}

/// The files of a directory that hold anything, and how many bytes.
fn files(directory: &Path) -> Vec<(PathBuf, usize)> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let sizes = entries.map(|path| {
        let size = fs::metadata(&path).expect("a file").len();
        (path, usize::try_from(size).expect("a small file"))
    });
    let mut files: Vec<(PathBuf, usize)> = sizes.filter(|(_, size)| *size > 0).collect();
    // In an order of their own, so that a seed leads to the same bytes again.
    files.sort();
    files
}

/// Tables, what is not sorted into them yet, their list, and its name. The rest is for people.
fn holds_the_ledger(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.ends_with(".sst") || name.ends_with(".log") || name.starts_with("MANIFEST-") || name == "CURRENT"
}

/// A byte of all these files, each as likely as any other.
fn any_byte<'a>(random: &mut Random, files: &'a [(PathBuf, usize)]) -> (&'a Path, usize) {
    let mut at = random.below(files.iter().map(|(_, size)| size).sum());
    for (path, size) in files {
        if at < *size {
            return (path.as_path(), at);
        }
        at -= size;
    }
    unreachable!("it is below the sum")
}

#[test]
fn an_edited_receipt_proves_nothing() {
    let mut random = Random::seeded();
    let (cluster, receipts) = committed_trades();
    let all = files(&receipts);
    let (path, _) = random.choose(&all);
    let original = fs::read_to_string(path).expect("a receipt");
    assert_edits_prove_nothing(&mut random, &cluster, &original, "ok: transaction ", EDITS);
}

/// `verify-receipt` of a file that is good, and of what becomes of it by so many edits, one at a time.
fn assert_edits_prove_nothing(random: &mut Random, cluster: &Cluster, original: &str, proves: &str, edits: usize) {
    let value: Value = serde_json::from_str(original).expect("JSON");
    let edited = cluster.directory.path().join("edited.json");
    let genesis = cluster.network().join("genesis.yaml");
    let verify = || {
        output_within(program(&[]).arg("verify-receipt").arg(&edited).arg("--genesis").arg(&genesis), CHECKED_WITHIN)
    };
    fs::write(&edited, original).expect("written");
    let (out, _) = said(&verify(), "the file as it is");
    assert!(out.starts_with(proves), "{out}");

    let mut same = 0;
    for _ in 0..edits {
        let (what, bytes) = edit(random, original);
        fs::write(&edited, &bytes).expect("written");
        let output = verify();
        let (out, errors) = said(&output, &what);
        if output.status.success() {
            let read = serde_json::from_slice::<Value>(&bytes).ok();
            assert_eq!(read.as_ref(), Some(&value), "{what}: only what reads as the file is one");
            same += 1;
        } else {
            assert!(out.starts_with("bad: ") && out.lines().count() == 1, "{what}: it says what is bad: {out}{errors}");
        }
    }
    println!("{} of {edits} edits refused, {same} read as before", edits - same);
}
