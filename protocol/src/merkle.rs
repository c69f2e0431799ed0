//! Merkle trees and inclusion proofs as of RFC 6962, section 2.1: leaves are hashed with a zero
//! byte in front, inner nodes with a one, so neither can stand in for the other. The tree of no
//! leaves has the hash of the empty string.

use sha2::{Digest as _, Sha256};

use crate::types::Hash;

/// Longest inclusion proof: trees have at most 2^32 leaves.
pub const MAX_PATH: usize = 32;

/// The hash of a leaf's bytes.
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    finish(Sha256::new().chain_update([0]).chain_update(bytes))
}

fn inner_hash(left: &Hash, right: &Hash) -> Hash {
    finish(Sha256::new().chain_update([1]).chain_update(left.as_bytes()).chain_update(right.as_bytes()))
}

fn finish(hasher: Sha256) -> Hash {
    Hash::from_bytes(hasher.finalize().into())
}

/// The root over leaves that are already hashed with [`leaf_hash`].
///
/// Level by level: pairing neighbours and carrying an odd last one up gives the same tree as the
/// RFC's recursive split at the largest power of two.
pub fn root(leaves: &[Hash]) -> Hash {
    if leaves.is_empty() {
        return finish(Sha256::new());
    }
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = parents(&level);
    }
    level[0]
}

fn parents(level: &[Hash]) -> Vec<Hash> {
    level.chunks(2).map(|pair| if let [left, right] = pair { inner_hash(left, right) } else { pair[0] }).collect()
}

/// The hashes that lead from leaf `index` to the root, from the bottom up, or `None` where there
/// is no such leaf.
pub fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut level, mut at, mut path) = (leaves.to_vec(), index, Vec::new());
    while level.len() > 1 {
        if let Some(sibling) = level.get(at ^ 1) {
            path.push(*sibling);
        }
        level = parents(&level);
        at /= 2;
    }
    Some(path)
}

/// The root that `leaf` at `index` of `count` leaves and `path` lead to, or `None` where the path
/// has not the length that place asks for (RFC 9162, section 2.1.3.2).
pub fn root_from_path(leaf: Hash, index: u64, count: u64, path: &[Hash]) -> Option<Hash> {
    if index >= count || path.len() > MAX_PATH {
        return None;
    }
    let (mut at, mut last, mut hash, mut path) = (index, count - 1, leaf, path.iter());
    while last > 0 {
        if at % 2 == 1 {
            hash = inner_hash(path.next()?, &hash);
        } else if at < last {
            hash = inner_hash(&hash, path.next()?);
        }
        at /= 2;
        last /= 2;
    }
    path.next().is_none().then_some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The RFC's definition, word for word.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => finish(Sha256::new()),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                inner_hash(&root_by_definition(&leaves[..split]), &root_by_definition(&leaves[split..]))
            }
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    proptest! {
        #[test]
        fn every_leaf_is_provable_and_nothing_else(count in 1usize..70, index in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>()) {
            let leaves = leaves(count);
            let index = index.index(count);
            let root = root(&leaves);
            prop_assert_eq!(root, root_by_definition(&leaves));
            let path = path(&leaves, index).unwrap();
            let (at, of) = (index as u64, count as u64);
            prop_assert_eq!(root_from_path(leaves[index], at, of, &path), Some(root));
            prop_assert_ne!(root_from_path(leaf_hash(b"other"), at, of, &path), Some(root));
            for other in (0..of).filter(|other| *other != at) {
                prop_assert_ne!(root_from_path(leaves[index], other, of, &path), Some(root));
            }
            if !path.is_empty() {
                let mut wrong = path.clone();
                wrong[flip.index(path.len())] = Hash::ZERO;
                prop_assert_ne!(root_from_path(leaves[index], at, of, &wrong), Some(root));
                prop_assert_eq!(root_from_path(leaves[index], at, of, &path[1..]), None);
            }
            prop_assert_eq!(root_from_path(leaves[index], at, of, &[&path[..], &[root]].concat()), None);
        }
    }

    #[test]
    fn known_roots() {
        // RFC 6962's test tree, as published with Certificate Transparency's reference code.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(root(&[]).to_string(), empty);
        let one = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(root(&[leaf_hash(b"")]).to_string(), one);
        assert_eq!(path(&[], 0), None);
        assert_eq!(root_from_path(Hash::ZERO, 0, 0, &[]), None);
    }
}
