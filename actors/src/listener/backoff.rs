//! How long to wait before dialling again.

use std::time::Duration;

/// Between which bounds the waits grow.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub least: Duration,
    pub most: Duration,
}

impl Backoff {
    /// Doubles with each failure up to the most, then takes off up to half, so that nodes that
    /// failed together do not come back together. `random` is any number.
    pub fn wait(&self, failures: u32, random: u32) -> Duration {
        let doubled = self.least.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let whole = doubled.min(self.most);
        whole - whole.mul_f64(0.5 * f64::from(random) / f64::from(u32::MAX))
    }
}

/// Any number. Without a source of them all nodes wait alike, which harms nobody.
pub fn random() -> u32 {
    let mut bytes = [0; 4];
    match openssl::rand::rand_bytes(&mut bytes) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_at_most_half_is_taken_off() {
        let backoff = Backoff { least: Duration::from_millis(100), most: Duration::from_secs(5) };
        let whole: Vec<u128> = [0, 1, 2, 5, 6, 31, 32, u32::MAX].map(|n| backoff.wait(n, 0).as_millis()).to_vec();
        assert_eq!(whole, [100, 200, 400, 3_200, 5_000, 5_000, 5_000, 5_000]);
        assert_eq!(backoff.wait(0, u32::MAX), Duration::from_millis(50));
    }
}
