//! Edits of a file of proof, at random.

use std::ops::Range;

use minidlt_integration::Random;

/// A file of proof with one thing changed, and what.
pub fn edit(random: &mut Random, original: &str) -> (String, Vec<u8>) {
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
