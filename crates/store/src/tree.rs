//! The tree over the records of the log: one hash that stands for all of them, and short proofs that a
//! record is among them.
//!
//! The Merkle tree of RFC 9162 §2.1.1, with SHA-256: a leaf and a node begin with different octets, so
//! that neither can be taken for the other. A leaf is a record's number and its octets: a record that
//! stands at another place is another leaf. Not here: who signs the root.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Leaves of a chunk, a whole subtree. Kept for each seal, the roots of its chunks make a proof cost
/// two chunks' worth of hashing and not a day's.
pub const CHUNK_LEAVES: usize = 1024;

/// Hashes in a proof at most: the height of a tree of 2^64 leaves.
pub const PATH_MAX: usize = 64;

/// A SHA-256 value; written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Of these octets, without any prefix.
    pub fn of(octets: &[u8]) -> Self {
        Self(Sha256::digest(octets).into())
    }

    /// Of a record: RFC 9162 §2.1.1, over its number (eight octets, the highest first) and its octets.
    pub fn leaf(number: u64, octets: &[u8]) -> Self {
        let leaf = Sha256::new().chain_update([0]).chain_update(number.to_be_bytes());
        Self(leaf.chain_update(octets).finalize().into())
    }

    /// Of two subtrees, left and right: RFC 9162 §2.1.1.
    pub fn node(left: Self, right: Self) -> Self {
        Self(
            Sha256::new()
                .chain_update([1])
                .chain_update(left.0)
                .chain_update(right.0)
                .finalize()
                .into(),
        )
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 value")]
pub struct NoHash;

impl FromStr for Hash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let digit = |octet: u8| match octet {
            b'0'..=b'9' => Ok(octet - b'0'),
            b'a'..=b'f' => Ok(octet - b'a' + 10),
            _ => Err(NoHash),
        };
        let octets: &[u8; 64] = text.as_bytes().try_into().map_err(|_| NoHash)?;
        let mut hash = [0; 32];
        for (octet, pair) in hash.iter_mut().zip(octets.chunks_exact(2)) {
            *octet = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The root over subtrees of equal size, the last of which may be smaller: RFC 9162 §2.1.1. Over none it
/// is the hash of nothing.
pub fn root(subtrees: &[Hash]) -> Hash {
    // One whole subtree for each bit of how many there were so far, the largest first.
    let mut whole: Vec<(u32, Hash)> = Vec::new();
    for subtree in subtrees {
        let mut last = (0, *subtree);
        while let Some(&(height, left)) = whole.last()
            && height == last.0
        {
            whole.pop();
            last = (height + 1, Hash::node(left, last.1));
        }
        whole.push(last);
    }
    let mut hashes = whole.into_iter().rev().map(|(_, hash)| hash);
    let Some(last) = hashes.next() else { return Hash::of(b"") };
    hashes.fold(last, |right, left| Hash::node(left, right))
}

/// The proof that subtree `at` is under [`root`] of them, nearest sibling first: RFC 9162 §2.1.3.1.
pub fn path(subtrees: &[Hash], at: usize) -> Vec<Hash> {
    let (mut left, mut at, mut path) = (subtrees, at, Vec::new());
    while left.len() > 1 && at < left.len() {
        // The largest power of two below their number.
        let half = left.len().next_power_of_two() / 2;
        let (first, second) = left.split_at(half);
        if at < half {
            path.push(root(second));
            left = first;
        } else {
            path.push(root(first));
            (left, at) = (second, at - half);
        }
    }
    path.reverse();
    path
}

/// The root that a leaf at place `at` of `leaves` has with this proof; nothing when there is no such
/// proof: RFC 9162 §2.1.3.2.
pub fn root_by(leaf: Hash, at: u64, leaves: u64, path: &[Hash]) -> Option<Hash> {
    if at >= leaves || path.len() > PATH_MAX {
        return None;
    }
    let (mut at, mut last, mut root) = (at, leaves - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = Hash::node(*sibling, root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = Hash::node(root, *sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|number| Hash::leaf(number as u64, b"record")).collect()
    }

    /// As RFC 9162 §2.1.1 defines it, word by word.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of(b""),
            [one] => *one,
            more => {
                let half =
                    (1..).map(|bit| 1 << bit).take_while(|k| *k < more.len()).last().unwrap_or(1);
                Hash::node(defined(&more[..half]), defined(&more[half..]))
            }
        }
    }

    #[test]
    fn the_root_is_the_defined_one_and_each_leaf_has_a_proof_of_its_place() {
        for count in 0..70 {
            let all = leaves(count);
            let whole = root(&all);
            assert_eq!(whole, defined(&all), "{count} leaves");
            for at in 0..count {
                let proof = path(&all, at);
                let proved =
                    |leaf, at: usize, of: usize| root_by(leaf, at as u64, of as u64, &proof);
                assert_eq!(proved(all[at], at, count), Some(whole), "{at} of {count}");
                assert_ne!(proved(Hash::of(b"x"), at, count), Some(whole));
                for other in (0..count).filter(|other| *other != at) {
                    assert_ne!(
                        proved(all[at], other, count),
                        Some(whole),
                        "{at} of {count} as {other}"
                    );
                }
                let longer = [&proof[..], &[whole]].concat();
                assert_eq!(root_by(all[at], at as u64, count as u64, &longer), None);
                if let Some((_, shorter)) = proof.split_last() {
                    assert_ne!(root_by(all[at], at as u64, count as u64, shorter), Some(whole));
                }
            }
        }
    }

    #[test]
    fn a_proof_over_chunks_is_the_proof_over_leaves() {
        for count in [1, CHUNK_LEAVES, CHUNK_LEAVES + 1, 3 * CHUNK_LEAVES + 7] {
            let all = leaves(count);
            let chunks: Vec<_> = all.chunks(CHUNK_LEAVES).map(root).collect();
            assert_eq!(root(&chunks), root(&all));
            for at in [0, count / 2, count - 1] {
                let chunk = at / CHUNK_LEAVES;
                let inside = all.chunks(CHUNK_LEAVES).nth(chunk).unwrap();
                let mut proof = path(inside, at % CHUNK_LEAVES);
                proof.extend(path(&chunks, chunk));
                assert_eq!(proof, path(&all, at), "{at} of {count}");
            }
        }
    }

    #[test]
    fn there_is_no_proof_of_nothing_or_past_the_bound() {
        let one = leaves(1)[0];
        assert_eq!(root_by(one, 0, 0, &[]), None);
        assert_eq!(root_by(one, 1, 1, &[]), None);
        assert_eq!(root_by(one, 0, 1, &[]), Some(one));
        assert!(root_by(one, 0, u64::MAX, &[one; PATH_MAX]).is_some());
        assert_eq!(root_by(one, 0, u64::MAX, &[one; PATH_MAX + 1]), None);
    }

    /// The values of another implementation: `printf '\0\0\0\0\0\0\0\0\1a' | sha256sum`.
    #[test]
    fn leaf_and_node_have_their_prefix() {
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(root(&[]).to_string(), nothing);
        assert_eq!(Hash::leaf(1, b"a"), Hash::of(b"\0\0\0\0\0\0\0\0\x01a"));
        let (left, right) = (Hash::of(b"l"), Hash::of(b"r"));
        assert_eq!(Hash::node(left, right), Hash::of(&[&[1], &left.0[..], &right.0].concat()));
        assert_eq!(nothing.parse(), Ok(root(&[])));
        for other in ["", &nothing[1..], &nothing.to_uppercase(), &nothing.replace('e', "g")] {
            assert_eq!(other.parse::<Hash>(), Err(NoHash));
        }
    }
}
