//! Random numbers from a seed, which a failing test shows.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub struct Random(u64);

impl Random {
    /// From `TEST_SEED`, else from the time; prints which.
    pub fn seeded() -> Self {
        let seed = match std::env::var("TEST_SEED") {
            Ok(text) => text.parse().expect("TEST_SEED is a number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        };
        println!("TEST_SEED={seed}");
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// How many sequences to try: `TEST_SEQUENCES`, else so many.
pub fn sequences(ordinary: usize) -> usize {
    std::env::var("TEST_SEQUENCES").map_or(ordinary, |text| text.parse().expect("TEST_SEQUENCES is a number"))
}
