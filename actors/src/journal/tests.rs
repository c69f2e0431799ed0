use super::*;
use minidlt_protocol::{
    crypto::Signature,
    types::{Hash, Round},
    vote::{Phase, Vote},
};
use tempfile::TempDir;

fn vote(height: u64, round: u32) -> Record {
    let vote = Vote {
        phase: Phase::Prevote,
        height: Height::new(height),
        round: Round::new(round),
        block: Some(Hash::from_bytes([round as u8; 32])),
    };
    let signature = Signature::from_bytes([7; 64]);
    Record::Vote(SignedVote { voter: "n@o".parse().unwrap(), vote, signature })
}

fn entry(text: &str) -> Record {
    Record::Entry(text.as_bytes().to_vec())
}

/// Opens it, or makes that of a new node.
fn open(directory: &Path) -> (Journal, Vec<Record>) {
    let new = directory.join(of_a_new_node().0);
    if !new.exists() {
        std::fs::write(new, of_a_new_node().1).unwrap();
    }
    Journal::open(directory).unwrap().expect("there is a log")
}

fn write(directory: &Path, height: u64, batches: &[&[Record]]) -> u64 {
    let (mut journal, _) = open(directory);
    journal.begin(Height::new(height)).unwrap();
    for batch in batches {
        batch.iter().for_each(|record| journal.append(record).unwrap());
        journal.sync().unwrap();
    }
    journal.end
}

fn read(directory: &Path) -> (u64, Vec<Record>) {
    let (journal, records) = open(directory);
    (journal.height().get(), records)
}

/// The file with the log of the latest height.
fn active(directory: &Path) -> PathBuf {
    let (journal, _) = open(directory);
    journal.halves[journal.active].path.clone()
}

#[test]
fn records_are_found_again_in_order() {
    let dir = TempDir::new().unwrap();
    assert_eq!(read(dir.path()), (0, vec![]));
    write(dir.path(), 5, &[&[vote(5, 0), entry("a")], &[entry("")]]);
    assert_eq!(read(dir.path()), (5, vec![vote(5, 0), entry("a"), entry("")]));
}

#[test]
fn what_was_not_synced_may_go_but_a_signature_never_by_beginning_anew() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    journal.begin(Height::new(1)).unwrap();
    journal.append(&entry("lost")).unwrap();
    journal.begin(Height::new(2)).unwrap();
    journal.append(&vote(2, 0)).unwrap();
    journal.begin(Height::new(3)).unwrap();
    drop(journal);
    assert_eq!(read(dir.path()), (2, vec![vote(2, 0)]));
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let dir = TempDir::new().unwrap();
    let first = write(dir.path(), 5, &[&[vote(5, 0), entry("a")]]);
    let path = active(dir.path());
    let second = write(dir.path(), 5, &[&[vote(5, 1)]]);
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..=second as usize {
        let expected = match cut as u64 {
            cut if cut < first => (0, vec![]),
            cut if cut < second => (5, vec![vote(5, 0), entry("a")]),
            _ => (5, vec![vote(5, 0), entry("a"), vote(5, 1)]),
        };
        // Zeros in the place of what was not written, as preallocation leaves them.
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(read(dir.path()), expected, "zeros from {cut} on");
        if cut % 16 == 0 {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(dir.path()), expected, "ends at {cut}");
        }
    }
}

#[test]
fn a_torn_first_batch_leaves_the_height_before() {
    let dir = TempDir::new().unwrap();
    for height in 1..=4 {
        write(dir.path(), height, &[&[vote(height, 0)], &[vote(height, 1), entry("z")]]);
    }
    let (mut journal, _) = open(dir.path());
    let path = journal.halves[1 - journal.active].path.clone();
    let old = std::fs::read(&path).unwrap();
    journal.begin(Height::new(5)).unwrap();
    journal.append(&vote(5, 0)).unwrap();
    journal.sync().unwrap();
    let end = journal.end as usize;
    drop(journal);
    let new = std::fs::read(&path).unwrap();
    // The file held height 3; only the bytes up to `at`, or only those from it on, got through.
    for at in 1..end {
        let head = [&new[..at], &old[at..]].concat();
        let tail = [&old[..at], &new[at..]].concat();
        for bytes in [head, tail] {
            if bytes == new {
                continue;
            }
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read(dir.path()), (4, vec![vote(4, 0), vote(4, 1), entry("z")]), "at {at}");
        }
    }
}

#[test]
fn a_flipped_byte_in_the_middle_refuses_to_start_and_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), 8, &[&[vote(8, 0)]]);
    let middle = write(dir.path(), 9, &[&[vote(9, 0)], &[vote(9, 1), entry("b")]]);
    let path = active(dir.path());
    write(dir.path(), 9, &[&[vote(9, 2)]]);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..middle as usize {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        std::fs::write(&path, &bytes).unwrap();
        let Err(error) = Journal::open(dir.path()) else { panic!("opened with byte {at} flipped") };
        let text = error.to_string();
        assert!(matches!(error, JournalError::Damaged { height, .. } if height.get() == 9), "{text}");
        assert!(text.contains("Remove signer-0.log and signer-1.log") && !text.contains('\n'), "{text}");
    }
}

#[test]
fn two_processes_cannot_hold_it() {
    let dir = TempDir::new().unwrap();
    let held = open(dir.path());
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::Locked { .. })));
    drop(held);
    assert!(Journal::open(dir.path()).is_ok());
}

#[test]
fn it_grows_past_what_was_allocated() {
    let dir = TempDir::new().unwrap();
    let big = Record::Entry(vec![3; 3 << 20]);
    write(dir.path(), 1, &[&[vote(1, 0), big.clone()], &[vote(1, 1)]]);
    assert_eq!(read(dir.path()), (1, vec![vote(1, 0), big, vote(1, 1)]));
}

#[test]
fn a_lost_log_is_told_from_a_new_one_and_one_begun_anew_says_from_where() {
    let dir = TempDir::new().unwrap();
    assert!(Journal::open(dir.path()).unwrap().is_none(), "nothing is there");
    assert_eq!(read(dir.path()), (0, vec![]), "a new node's");
    write(dir.path(), 1, &[&[vote(1, 0)]]);
    let second = dir.path().join(FILES[1]);
    let kept = std::fs::read(&second).unwrap();
    std::fs::remove_file(&second).unwrap();
    assert!(Journal::open(dir.path()).unwrap().is_none(), "half of it is gone");
    std::fs::write(&second, kept).unwrap();
    assert_eq!(read(dir.path()), (1, vec![vote(1, 0)]));
    for file in FILES {
        std::fs::write(dir.path().join(file), vec![0; 4096]).unwrap();
    }
    assert!(Journal::open(dir.path()).unwrap().is_none(), "nothing in it is valid");
    drop(Journal::begin_at(dir.path(), Height::new(7)).unwrap());
    assert_eq!(read(dir.path()), (7, vec![]));
    write(dir.path(), 7, &[&[vote(7, 0)]]);
    assert_eq!(read(dir.path()), (7, vec![vote(7, 0)]));
}
