//! Percentiles and means.

/// The value that `percent` of a sorted list do not exceed (nearest rank): always one that was
/// measured, never one between two.
pub fn percentile<T: Copy>(sorted: &[T], percent: f64) -> Option<T> {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// Nothing of nothing is zero.
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let hundred: Vec<u32> = (1..=100).collect();
        for (percent, expected) in [(0.0, 1), (50.0, 50), (90.0, 90), (99.0, 99), (99.1, 100), (100.0, 100)] {
            assert_eq!(percentile(&hundred, percent), Some(expected), "{percent}");
        }
        assert_eq!(percentile(&[5, 7, 9], 50.0), Some(7));
        assert_eq!(percentile(&[5], 99.0), Some(5));
        assert_eq!(percentile::<u32>(&[], 50.0), None);
        assert_eq!(ratio(1.0, 0.0), 0.0);
    }
}
