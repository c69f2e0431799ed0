//! The inputs that fuzzing found worth keeping, real encodings, and mutations of both, through every
//! decoder that reads what others send. Without a fuzzer, in seconds; `integration/fuzz.sh` is the
//! long run.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use minidlt_integration::{
    Random,
    fuzz::{
        TARGETS, Target,
        memory::{Counting, bounded},
        mutate,
    },
    root,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Mutations a target, unless `TEST_FUZZ_MUTATIONS` says how many.
const MUTATIONS: usize = 3_000;
/// What is kept stays small: it is read in every run, and by people.
const MOST_FILES: usize = 300;
const MOST_BYTES: usize = 1 << 20;
/// Longer than any input takes.
const LIMIT: Duration = Duration::from_secs(5);

fn folder(kind: &str, target: &Target) -> PathBuf {
    root().join("integration/fuzz").join(kind).join(target.name)
}

/// The kept inputs of a target, in the order of their names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder("corpus", target)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a folder can be read").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a kept input")).collect()
}

/// Runs a target; what makes it panic is kept where a fuzzer's finds are.
fn run(target: &Target, bytes: &[u8], what: &str) {
    let since = Instant::now();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))) {
        let folder = folder("artifacts", target);
        let path = folder.join("failed");
        fs::create_dir_all(&folder).and_then(|()| fs::write(&path, bytes)).expect("the input is kept");
        println!("{}: {what} failed; the input is in {}", target.name, path.display());
        resume_unwind(panic);
    }
    assert!(since.elapsed() < LIMIT, "{}: {what} took {:?}", target.name, since.elapsed());
}

#[test]
fn what_is_kept_and_mutations_of_it_break_no_promise() {
    let mutations = std::env::var("TEST_FUZZ_MUTATIONS").map_or(MUTATIONS, |text| text.parse().expect("a number"));
    let mut random = Random::seeded();
    for target in &TARGETS {
        let since = Instant::now();
        let inputs = [(target.seeds)(), corpus(target)].concat();
        assert!(!inputs.is_empty(), "{} begins with something", target.name);
        for (number, input) in inputs.iter().enumerate() {
            run(target, input, &format!("input {number}"));
        }
        for number in 0..mutations {
            let from: &Vec<u8> = random.choose(&inputs);
            let input = mutate(from, &inputs, &mut random);
            run(target, &input, &format!("mutation {number}"));
        }
        println!("{}: {} inputs, {mutations} mutations in {:?}", target.name, inputs.len(), since.elapsed());
    }
}

#[test]
#[should_panic(expected = "10 bytes of input took 1000000 bytes of memory")]
fn room_for_what_is_only_announced_is_noticed() {
    bounded(10, || drop(Vec::<u8>::with_capacity(1_000_000)));
}

/// For a fuzzer to begin with: `TEST_FUZZ_SEEDS` names the folder they are written to.
#[test]
fn seeds_are_written_where_asked_and_what_is_kept_is_small() {
    if let Some(seeds) = std::env::var_os("TEST_FUZZ_SEEDS") {
        for target in &TARGETS {
            let folder = PathBuf::from(&seeds).join(target.name);
            fs::create_dir_all(&folder).expect("a folder for seeds");
            for (number, seed) in (target.seeds)().iter().enumerate() {
                fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed is written");
            }
        }
    }
    let kept: Vec<Vec<u8>> = TARGETS.iter().flat_map(corpus).collect();
    let bytes: usize = kept.iter().map(Vec::len).sum();
    assert!(kept.len() < MOST_FILES && bytes < MOST_BYTES, "{} files, {bytes} bytes", kept.len());
}
