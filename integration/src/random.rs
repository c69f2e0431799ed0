//! Random numbers from a seed, which a failing test shows.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub struct Random(u64);

impl Random {
    /// From `TEST_SEED`, else from the time; prints which.
    pub fn seeded() -> Self {
        let seed = match std::env::var("TEST_SEED") {
            Ok(text) => text.parse().expect("TEST_SEED is a number"),
            Err(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                u64::from(since.subsec_nanos()) ^ since.as_secs().rotate_left(32)
            }
        };
        println!("TEST_SEED={seed}");
        Self(seed)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0. Its bias is below one in 2^32 for bounds below 2^32.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }

    /// One of these, of which there is at least one.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
