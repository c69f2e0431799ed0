//! The time one signature check takes on one thread of this machine.

use std::time::{Duration, Instant};

use minidlt_protocol::{
    crypto::{Domain, SecretKey, digest},
    types::Hash,
};

use super::statistics::percentile;

/// Odd, so that the median is one of them; about a tenth of a second.
const CHECKS: u64 = 2_001;

/// The median of many, so that what else the machine did meanwhile hardly counts.
pub fn median_time() -> Duration {
    let key = SecretKey::from_bytes(&[7; 32]).expect("a fixed number below the order is a key");
    let public_key = key.public_key();
    let check = |number: u64| {
        let digest = digest(Domain::Transaction, &Hash::ZERO, &[&number.to_be_bytes()]);
        let signature = key.sign(&digest);
        let began = Instant::now();
        let verified = public_key.verify(&digest, &signature);
        let time = began.elapsed();
        assert!(verified.is_ok(), "what was just signed verifies");
        time
    };
    let mut times: Vec<Duration> = (0..CHECKS).map(check).collect();
    times.sort_unstable();
    percentile(&times, 50.0).unwrap_or_default()
}
