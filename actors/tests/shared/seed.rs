//! What a test with random input is told: its seed, and how much to try.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::random::Random;

/// Random numbers from `TEST_SEED`, else from the time; prints which.
pub fn random() -> Random {
    let seed = match std::env::var("TEST_SEED") {
        Ok(text) => text.parse().expect("TEST_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    };
    println!("TEST_SEED={seed}");
    Random::new(seed)
}

/// How many sequences to try: `TEST_SEQUENCES`, else so many.
pub fn sequences(ordinary: usize) -> usize {
    std::env::var("TEST_SEQUENCES").map_or(ordinary, |text| text.parse().expect("TEST_SEQUENCES is a number"))
}
