//! The list of pieces that octets are made of, as it lies in the index.
//!
//! For each piece its number, then how many octets it has, both in groups of seven bits, the lowest
//! first, the high bit set on all but the last: a message of three pieces takes some ten octets.

use crate::StoreError;

/// The list as it lies in the index.
pub(super) fn write(pieces: &[(u64, u64)]) -> Vec<u8> {
    let mut list = Vec::with_capacity(pieces.len() * 6);
    for (number, octets) in pieces {
        for mut value in [*number, *octets] {
            while value >= 0x80 {
                list.push(value as u8 | 0x80);
                value >>= 7;
            }
            list.push(value as u8);
        }
    }
    list
}

/// What it says.
pub(super) fn read(list: &[u8]) -> Result<Vec<(u64, u64)>, StoreError> {
    let damaged = || StoreError::Medium("a list of pieces cannot be read".into());
    let mut rest = list.iter();
    let mut pieces = Vec::new();
    while !rest.as_slice().is_empty() {
        let mut pair = [0u64; 2];
        for value in &mut pair {
            let mut shift = 0;
            loop {
                let octet = u64::from(*rest.next().ok_or_else(damaged)?);
                let bits = octet & 0x7f;
                if shift > 63 || bits << shift >> shift != bits {
                    return Err(damaged());
                }
                *value |= bits << shift;
                if octet < 0x80 {
                    break;
                }
                shift += 7;
            }
        }
        let [number, octets] = pair;
        pieces.push((number, octets));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_cut_short_or_too_large_is_no_list() {
        assert_eq!(read(&[]).unwrap(), []);
        assert_eq!(write(&[(1, 300)]), [1, 0xac, 2]);
        for damaged in [
            &[1][..],
            &[1, 0x80],
            &[0xff; 11],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 1],
        ] {
            assert!(read(damaged).is_err(), "{damaged:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pieces in proptest::collection::vec(any::<(u64, u64)>(), 0..9)) {
            prop_assert_eq!(read(&write(&pieces)).unwrap(), pieces);
        }

        #[test]
        fn any_octets_are_a_list_or_none(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = read(&octets);
        }
    }
}
