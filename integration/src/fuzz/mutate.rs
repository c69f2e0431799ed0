//! Changes to an input, as a fuzzer makes them, from a seed.

use crate::Random;

/// Longest input that mutation makes, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// Numbers on the edges of lengths and types, as CBOR's heads and others write them.
const EDGES: [&[u8]; 10] = [
    &[0x00],
    &[0x17],
    &[0x18, 0xff],
    &[0x19, 0xff, 0xff],
    &[0x1a, 0xff, 0xff, 0xff, 0xff],
    &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x5a, 0x7f, 0xff, 0xff, 0xff],
    &[0x9a, 0x7f, 0xff, 0xff, 0xff],
    &[0xba, 0x7f, 0xff, 0xff, 0xff],
    &[0xf6],
];

/// One to four changes to `bytes`; `others` are inputs to borrow from, at least one.
pub fn mutate(bytes: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        change(&mut bytes, others, random);
    }
    bytes.truncate(MOST_BYTES);
    bytes
}

fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    if bytes.is_empty() {
        return bytes.clone_from(random.choose::<Vec<u8>>(others));
    }
    let at = random.below(bytes.len());
    let some = 1 + random.below((bytes.len() - at).min(16));
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.below(256) as u8,
        2 => drop(bytes.drain(at..at + some)),
        3 => {
            let again = bytes[at..at + some].to_vec();
            bytes.splice(at..at, again);
        }
        4 => {
            let edge = *random.choose(&EDGES);
            let end = if random.below(2) == 0 { at } else { bytes.len().min(at + edge.len()) };
            bytes.splice(at..end, edge.iter().copied());
        }
        5 => bytes.truncate(at),
        6 => bytes[at] = bytes[at].wrapping_add(if random.below(2) == 0 { 1 } else { 0xff }),
        _ => {
            let other = random.choose(others);
            if !other.is_empty() {
                let from = random.below(other.len());
                let piece = &other[from..other.len().min(from + 1 + random.below(64))];
                bytes.splice(at..at + some, piece.iter().copied());
            }
        }
    }
}
