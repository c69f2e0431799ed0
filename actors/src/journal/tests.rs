use std::os::unix::fs::PermissionsExt;

#[path = "../../tests/shared/random.rs"]
mod random;

use self::random::Random;
use super::{scan::BATCH_HEAD_BYTES, *};
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
    if !directory.join(FILES[0]).exists() {
        drop(Journal::begin_at(directory, Height::GENESIS).unwrap());
    }
    Journal::open(directory).unwrap().expect("there is a log")
}

/// Why it does not open.
fn refusal(directory: &Path) -> JournalError {
    let Err(error) = Journal::open(directory) else { panic!("it opens") };
    let text = error.to_string();
    assert!(text.contains("Remove signer-0.log and signer-1.log") && !text.contains('\n'), "{text}");
    error
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
    for cut in HEAD_BYTES..=second as usize {
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
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(read(dir.path()), expected, "ends at {cut}");
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
    for at in HEAD_BYTES..end {
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
        match refusal(dir.path()) {
            JournalError::Damaged { height, .. } => assert!(height.get() == 9 && at >= HEAD_BYTES, "byte {at}"),
            JournalError::DamagedHead { .. } => assert!(at < HEAD_BYTES, "byte {at}"),
            other => panic!("byte {at}: {other}"),
        }
    }
}

/// What opening makes of these bytes in the file of the log's latest height: records, or where damage
/// is. `other` is the other file's height.
fn found(half: &Half, bytes: &[u8], other: u64) -> Result<Vec<Record>, usize> {
    let scanned = scan(&half.secret(bytes).map_err(|_| 0usize)?, bytes);
    match refuse_damage(half, &scanned, Some(Height::new(other))) {
        Ok(()) => Ok(scanned.records),
        Err(JournalError::Damaged { at, .. }) => Err(at),
        Err(other) => panic!("{other}"),
    }
}

/// Three batches of height 9, the last over several sectors, in a file that held height 7 before; and
/// where each ends. The other file is of height 8.
fn three_batches(dir: &Path) -> (Half, Vec<u8>, [usize; 3]) {
    write(dir, 7, &[&[vote(7, 0), Record::Entry(vec![1; 900])], &[vote(7, 1), Record::Entry(vec![2; 12_000])]]);
    write(dir, 8, &[&[vote(8, 0)]]);
    let first = write(dir, 9, &[&[vote(9, 0), entry("a")]]) as usize;
    let second = write(dir, 9, &[&[vote(9, 1), Record::Entry(vec![3; 700])]]) as usize;
    let third = write(dir, 9, &[&[vote(9, 2), Record::Entry(vec![4; 10_000])]]) as usize;
    let path = active(dir);
    let (half, mut bytes) = Half::open(path).unwrap();
    // The rest is zeros or of height 7, of which some is kept: more would only take time.
    bytes.truncate(20 << 10);
    (half, bytes, [first, second, third])
}

#[test]
fn any_flipped_bit_of_an_earlier_batch_is_damage_and_of_the_last_one_the_end() {
    let dir = TempDir::new().unwrap();
    let (half, bytes, [first, second, third]) = three_batches(dir.path());
    let before_last = found(&half, &bytes[..second], 8).unwrap();
    assert_eq!(found(&half, &bytes, 8).unwrap().len(), 6);
    // Every bit of what is not a long entry's bytes, and one bit of each of those.
    for bit in (0..8 * third)
        .filter(|bit| bit % 8 == bit / 8 % 8 || bit / 8 < first || (second..second + 400).contains(&(bit / 8)))
    {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match found(&half, &flipped, 8) {
            Err(at) => assert!(bit / 8 < second && at <= bit / 8, "bit {bit}: damage told at byte {at}"),
            Ok(records) => {
                assert!(bit / 8 >= second, "bit {bit}: not noticed");
                assert_eq!(records, before_last, "bit {bit}");
            }
        }
    }
}

#[test]
fn a_last_batch_of_which_only_some_sectors_were_written_is_cut() {
    let dir = TempDir::new().unwrap();
    let (half, new, [_, second, third]) = three_batches(dir.path());
    let [whole, before_last] = [third, second].map(|end| found(&half, &new[..end], 8).unwrap());
    // Beneath lie zeros, or a log of height 7.
    let mut zeros = new.clone();
    zeros[second..].fill(0);
    let mut older = new.clone();
    let batch = scan::batch(&half.secret(&new).unwrap(), Height::new(7), second as u64, &[0x5a; 9_000]);
    older[second..second + batch.len()].copy_from_slice(&batch);
    for (old, size) in [(&zeros, 512), (&zeros, 4_096), (&older, 512), (&older, 4_096)] {
        let sectors: Vec<usize> = (second / size * size..third).step_by(size).collect();
        assert!(sectors.len() >= 3, "{sectors:?}");
        // All subsets of few sectors; of many, those without one, and those with one alone.
        let subsets: Vec<u32> = match sectors.len() {
            few if few <= 8 => (0..1 << few).collect(),
            many => (0..many).flat_map(|one| [1 << one, ((1u32 << many) - 1) ^ (1 << one)]).collect(),
        };
        for written in subsets {
            let mut torn = old.clone();
            for (number, sector) in sectors.iter().enumerate().filter(|(number, _)| written >> number & 1 == 1) {
                let range = *sector..new.len().min(sector + size);
                torn[range.clone()].copy_from_slice(&new[range]);
                let _all_the_same = number;
            }
            let expected = if torn[..third] == new[..third] { &whole } else { &before_last };
            assert_eq!(found(&half, &torn, 8).as_ref(), Ok(expected), "sectors of {size}: {written:b}");
        }
    }
}

#[test]
fn zeroed_sectors_at_the_end_are_cut_and_before_it_damage() {
    let dir = TempDir::new().unwrap();
    let (half, bytes, [first, second, third]) = three_batches(dir.path());
    let before_last = found(&half, &bytes[..second], 8).unwrap();
    for size in [512, 4_096] {
        for sector in (HEAD_BYTES..third).step_by(size) {
            let mut tail = bytes.clone();
            tail[sector..].fill(0);
            let records = found(&half, &tail, 8).unwrap();
            assert!(
                records.len() < 6 && before_last.starts_with(&records[..records.len().min(4)]),
                "zeros from {sector} on"
            );
            let mut hole = bytes.clone();
            hole[sector..third.min(sector + size)].fill(0);
            match found(&half, &hole, 8) {
                // The last batch is whole, so what it followed had been synced.
                Err(at) => assert!(sector < second && sector + size <= second && at <= first, "{sector}: {at}"),
                Ok(records) => {
                    assert!(sector + size > second && records.len() < 6, "a hole at {sector} is not noticed")
                }
            }
        }
    }
}

/// A node's life: batches of any size over many heights, and crashes in which any sectors of the
/// write under way are on the disk. Nothing that was synced at the latest height is ever missed.
#[test]
fn whatever_sectors_of_the_last_write_a_crash_leaves_all_that_was_synced_is_there() {
    const SEED: u64 = 7;
    const CRASHES: usize = 150;
    let dir = TempDir::new().unwrap();
    let mut random = Random::new(SEED);
    let (mut height, mut round, mut crashes, mut torn_batches) = (1, 0, 0, 0);
    let mut synced: Vec<Record> = Vec::new();
    while crashes < CRASHES {
        let (mut journal, records) = open(dir.path());
        assert_eq!(records, synced, "seed {SEED}, after crash {crashes}");
        loop {
            let crash = random.below(4) == 0;
            if !synced.is_empty() && random.below(3) == 0 {
                (height, round) = (height + 1, 0);
            }
            let batch: Vec<Record> = (0..1 + random.below(3))
                .map(|_| {
                    round += 1;
                    if random.below(2) == 0 {
                        vote(height, round)
                    } else {
                        Record::Entry(vec![round as u8; random.below(9_000)])
                    }
                })
                .collect();
            let later = journal.height() < Height::new(height);
            journal.begin(Height::new(height)).unwrap();
            let path = journal.halves[journal.active].path.clone();
            let old = std::fs::read(&path).unwrap();
            batch.iter().for_each(|record| journal.append(record).unwrap());
            journal.sync().unwrap();
            let whole = !crash || {
                let new = std::fs::read(&path).unwrap();
                let mut torn = new.clone();
                for sector in (HEAD_BYTES..journal.end as usize).step_by(512) {
                    let range = sector..new.len().min(sector + 512);
                    if random.below(2) == 0 && range.end <= old.len() {
                        torn[range.clone()].copy_from_slice(&old[range]);
                    }
                }
                std::fs::write(&path, &torn).unwrap();
                torn == new
            };
            if whole {
                if later {
                    synced.clear();
                }
                synced.extend(batch);
            } else {
                torn_batches += 1;
                if later {
                    height -= 1;
                }
            }
            if crash {
                crashes += 1;
                break;
            }
        }
    }
    assert!(torn_batches > CRASHES / 2, "{torn_batches}");
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
    drop(Journal::begin_at(dir.path(), Height::new(7)).unwrap());
    assert_eq!(read(dir.path()), (7, vec![]));
    write(dir.path(), 7, &[&[vote(7, 0)]]);
    assert_eq!(read(dir.path()), (7, vec![vote(7, 0)]));
}

#[test]
fn a_log_is_begun_whole_or_not_at_all_whatever_of_it_a_crash_leaves() {
    let dir = TempDir::new().unwrap();
    let [first, second] = FILES.map(|file| dir.path().join(file));
    let put = |path: &Path, bytes: Option<&Vec<u8>>| match bytes {
        Some(bytes) => std::fs::write(path, bytes).unwrap(),
        None => drop(std::fs::remove_file(path)),
    };
    write(dir.path(), 3, &[&[vote(3, 0)]]);
    let old = FILES.map(|file| std::fs::read(dir.path().join(file)).unwrap());
    drop(Journal::begin_at(dir.path(), Height::new(9)).unwrap());
    let new = FILES.map(|file| std::fs::read(dir.path().join(file)).unwrap());
    assert_eq!(read(dir.path()), (9, vec![]), "nothing of the old one is left");
    for path in [&first, &second] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE, "{}", path.display());
    }

    // One file after the other goes, and one after the other comes: each alone is no log.
    for (zero, one) in [(None, Some(&old[1])), (Some(&old[0]), None), (Some(&new[0]), None), (None, Some(&new[1]))] {
        put(&first, zero);
        put(&second, one);
        assert!(Journal::open(dir.path()).unwrap().is_none(), "half of one");
    }
    // What no crash leaves, since the disk has the old ones' going before the new ones' coming.
    for (zero, one) in [(&new[0], &old[1]), (&old[0], &new[1])] {
        put(&first, Some(zero));
        put(&second, Some(one));
        assert!(matches!(refusal(dir.path()), JournalError::DamagedHead { .. }));
    }
    // Where the second cannot be made, the first alone is there, and nothing of the old one.
    for (path, bytes) in [&first, &second].into_iter().zip(&old) {
        put(path, Some(bytes));
    }
    let in_the_way = dir.path().join(format!("{}.new", FILES[1]));
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(Journal::begin_at(dir.path(), Height::new(9)).is_err());
    assert!(first.exists() && Journal::open(dir.path()).unwrap().is_none());
    std::fs::remove_dir(&in_the_way).unwrap();
    // What is left of an earlier attempt is in nobody's way.
    for file in FILES {
        std::fs::write(dir.path().join(format!("{file}.new")), vec![0x5a; 9_000]).unwrap();
    }
    drop(Journal::begin_at(dir.path(), Height::new(11)).unwrap());
    assert_eq!(read(dir.path()), (11, vec![]));
}

/// With the latest height's file out of the way, the one before it would be taken for all that was signed.
#[test]
fn a_head_that_does_not_hold_is_damage_and_never_an_empty_file() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), 4, &[&[vote(4, 0)]]);
    write(dir.path(), 5, &[&[vote(5, 0)]]);
    for path in FILES.map(|file| dir.path().join(file)) {
        let whole = std::fs::read(&path).unwrap();
        let mut zeros = whole.clone();
        zeros[..HEAD_BYTES].fill(0);
        let others = Secret::draw().unwrap().head();
        let another = [&others[..], &whole[HEAD_BYTES..]].concat();
        let cases = [zeros, another, vec![0; whole.len()], Vec::new(), whole[..HEAD_BYTES - 1].to_vec()];
        for (case, bytes) in cases.iter().enumerate() {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(refusal(dir.path()), JournalError::DamagedHead { .. }), "{}: {case}", path.display());
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(dir.path()), (5, vec![vote(5, 0)]));
    }
    assert_eq!(Secret::of(&Secret::draw().unwrap().head_of_version(7)).err(), Some(BadHead::OtherVersion(7)));
    for path in FILES.map(|file| dir.path().join(file)) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEAD_BYTES..].fill(0);
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(matches!(refusal(dir.path()), JournalError::NothingSound { .. }));
}

#[test]
fn a_batch_holds_where_it_was_written_and_nowhere_else() {
    let secret = Secret::draw().unwrap();
    let batch = scan::batch(&secret, Height::new(9), HEAD_BYTES as u64, b"");
    let at = |offset: usize| [secret.head(), vec![0; offset - HEAD_BYTES], batch.clone()].concat();
    assert_eq!(scan(&secret, &at(HEAD_BYTES)).height, Some(Height::new(9)));
    for offset in HEAD_BYTES + 1..HEAD_BYTES + 1_100 {
        let scanned = scan(&secret, &at(offset));
        assert_eq!((scanned.height, scanned.latest_after_end), (None, None), "at {offset}");
    }
}

/// A submitter's bytes come to lie in the log within a block. A batch among them, for the very place in
/// which it will stand, must not make a torn write look like damage to what had been synced.
#[test]
fn a_batch_in_what_others_wrote_does_not_turn_a_torn_last_write_into_damage() {
    let dir = TempDir::new().unwrap();
    let end = write(dir.path(), 9, &[&[vote(9, 0)], &[entry("a")]]) as usize;
    let path = active(dir.path());
    let secret = Secret::of(&std::fs::read(&path).unwrap()).unwrap();
    let synced = read(dir.path());

    // The whole of the write's first sectors, so that what stands before the planted batch can be missing.
    let text = end + BATCH_HEAD_BYTES + RECORD_HEAD_BYTES;
    let planted_at = (text + 1_024).next_multiple_of(512);
    let mut records = Vec::new();
    vote(9, 7).encode_to(&mut records);
    let others = Secret::draw().unwrap();
    let unmarked = Secret { mark: others.mark, key: secret.key };
    let guessed_mark = Secret { mark: secret.mark, key: others.key };
    let planted = [
        (scan::batch(&others, Height::new(9), planted_at as u64, &records), false),
        (scan::batch(&unmarked, Height::new(9), planted_at as u64, &records), false),
        (scan::batch(&guessed_mark, Height::new(9), planted_at as u64, &records), false),
        (scan::batch(&secret, Height::new(9), planted_at as u64 + 512, &records), false),
        // What only this node can make: to see that it would be found.
        (scan::batch(&secret, Height::new(9), planted_at as u64, &records), true),
    ];
    let before = std::fs::read(&path).unwrap();
    for (case, (planted, is_one)) in planted.into_iter().enumerate() {
        std::fs::write(&path, &before).unwrap();
        let text = [vec![b'x'; planted_at - text], planted, vec![b'x'; 700]].concat();
        write(dir.path(), 9, &[&[Record::Entry(text)]]);
        let mut torn = std::fs::read(&path).unwrap();
        let missing = end.next_multiple_of(512);
        torn[missing..missing + 512].fill(0);
        std::fs::write(&path, &torn).unwrap();
        if is_one {
            assert!(matches!(refusal(dir.path()), JournalError::Damaged { .. }), "{case}");
        } else {
            assert_eq!(read(dir.path()), synced, "{case}");
        }
    }
}
