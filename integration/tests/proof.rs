//! Proof that holds only while nothing is changed: what `verify` says of a ledger in which a byte was
//! flipped, and `verify-receipt` of a receipt that was edited, at random.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use minidlt_integration::{Cluster, Mode, Random, binary, output_within, program, root, run};
use serde_json::Value;

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
    let value: Value = serde_json::from_str(&original).expect("JSON");
    let edited = cluster.directory.path().join("edited.json");
    let genesis = cluster.network().join("genesis.yaml");
    let verify = || {
        output_within(program(&[]).arg("verify-receipt").arg(&edited).arg("--genesis").arg(&genesis), CHECKED_WITHIN)
    };
    fs::write(&edited, &original).expect("written");
    let (out, _) = said(&verify(), "the receipt as it is");
    assert!(out.starts_with("ok: transaction "), "{out}");

    let mut same = 0;
    for _ in 0..EDITS {
        let (what, bytes) = edit(&mut random, &original);
        fs::write(&edited, &bytes).expect("written");
        let output = verify();
        let (out, errors) = said(&output, &what);
        if output.status.success() {
            let read = serde_json::from_slice::<Value>(&bytes).ok();
            assert_eq!(read.as_ref(), Some(&value), "{what}: only what reads as the receipt is one");
            same += 1;
        } else {
            assert!(out.starts_with("bad: ") && out.lines().count() == 1, "{what}: it says what is bad: {out}{errors}");
        }
    }
    println!("{} of {EDITS} edits refused, {same} read as before", EDITS - same);
}

/// The receipt with one thing changed, and what.
fn edit(random: &mut Random, original: &str) -> (String, Vec<u8>) {
    loop {
        let mut lines: Vec<String> = original.lines().map(str::to_owned).collect();
        let (one, other) = (random.below(lines.len()), random.below(lines.len()));
        let (what, bytes) = match random.below(6) {
            0 => flip(random, original),
            1 => digit(random, original),
            2 => swap(&mut lines, one, other),
            3 => (format!("line {one} dropped: {}", lines.remove(one)), joined(&lines)),
            4 => {
                lines.insert(other, lines[one].clone());
                (format!("line {one} repeated at {other}"), joined(&lines))
            }
            _ => {
                let length = random.below(original.len());
                (format!("cut to {length} bytes"), original.as_bytes()[..length].to_vec())
            }
        };
        if bytes != original.as_bytes() {
            return (what, bytes);
        }
    }
}

fn joined(lines: &[String]) -> Vec<u8> {
    (lines.join("\n") + "\n").into_bytes()
}

fn flip(random: &mut Random, original: &str) -> (String, Vec<u8>) {
    let mut bytes = original.as_bytes().to_vec();
    let at = random.below(bytes.len());
    bytes[at] ^= 1_u8 << random.below(8);
    (format!("byte {at} is {:#04x} for {:#04x}", bytes[at], original.as_bytes()[at]), bytes)
}

/// Another digit for one, so that hashes, signatures and numbers stay well-formed.
fn digit(random: &mut Random, original: &str) -> (String, Vec<u8>) {
    let mut bytes = original.as_bytes().to_vec();
    let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
    let at = *random.choose(&digits);
    bytes[at] = *random.choose(b"0123456789");
    (format!("digit {at} is {} for {}", char::from(bytes[at]), char::from(original.as_bytes()[at])), bytes)
}

/// Swaps the values in two lines, where both have one, and keeps the spelling.
fn swap(lines: &mut [String], one: usize, other: usize) -> (String, Vec<u8>) {
    if let (Some(of_one), Some(of_other)) = (value(&lines[one]), value(&lines[other])) {
        let values = (lines[one][of_one.clone()].to_owned(), lines[other][of_other.clone()].to_owned());
        lines[one].replace_range(of_one, &values.1);
        if one != other {
            lines[other].replace_range(of_other, &values.0);
        }
    }
    (format!("values of lines {one} and {other} swapped"), joined(lines))
}

/// Where a line of indented JSON has a value, other than one that spans lines.
fn value(line: &str) -> Option<Range<usize>> {
    let start = line.find("\": ").map_or(line.len() - line.trim_start().len(), |key| key + 3);
    let end = line.trim_end_matches(',').len();
    let value = line.get(start..end)?;
    (!value.is_empty() && !value.contains(['{', '}', '[', ']'])).then_some(start..end)
}
