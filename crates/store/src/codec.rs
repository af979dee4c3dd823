//! How a piece lies on disk: as it is, or made smaller by zstd, with or without a dictionary.
//!
//! The dictionary has what receipts and envelopes have in common: header fields, sentences, the
//! beginning of their XML. It is part of the program and has a number, which is in the index beside
//! each piece of an embedded store and each chunk of a shared one: a later one gets another number, and this one stays as long as there are stores. How
//! it was made is told in `dictionary/README.md`.

use std::borrow::Cow;
use std::sync::{LazyLock, Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

use crate::StoreError;

/// Fast, and two thirds of what the slow ones save.
const LEVEL: i32 = 1;
/// Up to this the dictionary helps: it has 16 KiB itself.
const DICTIONARY_FOR_OCTETS_MAX: usize = 16 * 1024;
/// Compressors that wait for the next piece: as many as cores work at a time.
const IDLE_MAX: usize = 16;

static DICTIONARY_1: &[u8] = include_bytes!("dictionary/1.zdict");
static ENCODER_1: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(DICTIONARY_1, LEVEL));
static DECODER_1: LazyLock<DecoderDictionary<'static>> =
    LazyLock::new(|| DecoderDictionary::copy(DICTIONARY_1));

/// What was done to a piece. The numbers are in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Nothing.
    Plain,
    /// A frame of zstd.
    Zstd,
    /// The same, with the first dictionary.
    Dictionary1,
}

impl Codec {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Zstd => 1,
            Self::Dictionary1 => 2,
        }
    }

    pub(crate) const fn of_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Plain),
            1 => Some(Self::Zstd),
            2 => Some(Self::Dictionary1),
            _ => None,
        }
    }
}

/// Those that are not in use, of each kind.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn with<R>(
        &self,
        make: impl FnOnce() -> std::io::Result<T>,
        work: impl FnOnce(&mut T) -> std::io::Result<R>,
    ) -> std::io::Result<R> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut one = match idle {
            Some(one) => one,
            None => make()?,
        };
        let done = work(&mut one);
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(one);
        }
        done
    }
}

/// Makes a piece smaller, if that is worth it.
pub(crate) fn shrink(piece: &[u8]) -> Result<(Codec, Cow<'_, [u8]>), StoreError> {
    static PLAIN: Pool<Compressor<'static>> = Pool::new();
    static WITH_1: Pool<Compressor<'static>> = Pool::new();
    let (codec, small) = if piece.len() <= DICTIONARY_FOR_OCTETS_MAX {
        let make = || Compressor::with_prepared_dictionary(&ENCODER_1);
        (Codec::Dictionary1, WITH_1.with(make, |one| one.compress(piece))?)
    } else {
        (Codec::Zstd, PLAIN.with(|| Compressor::new(LEVEL), |one| one.compress(piece))?)
    };
    // Reading back must be worth it too.
    if small.len() + small.len() / 16 < piece.len() {
        Ok((codec, Cow::Owned(small)))
    } else {
        Ok((Codec::Plain, Cow::Borrowed(piece)))
    }
}

/// What `stored` was before it was shrunk: so many octets, or it is damaged.
pub(crate) fn expand(codec: Codec, stored: Vec<u8>, octets: u64) -> Result<Vec<u8>, StoreError> {
    static PLAIN: Pool<Decompressor<'static>> = Pool::new();
    static WITH_1: Pool<Decompressor<'static>> = Pool::new();
    let damaged = || StoreError::Medium("a stored piece cannot be expanded".into());
    let room = usize::try_from(octets).map_err(|_| damaged())?;
    let expanded = match codec {
        Codec::Plain => Ok(stored),
        Codec::Zstd => PLAIN.with(Decompressor::new, |one| one.decompress(&stored, room)),
        Codec::Dictionary1 => {
            let make = || Decompressor::with_prepared_dictionary(&DECODER_1);
            WITH_1.with(make, |one| one.decompress(&stored, room))
        }
    };
    expanded.ok().filter(|expanded| expanded.len() == room).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECEIPT: &[u8] = b"X-Ricevuta: accettazione\r\nSubject: ACCETTAZIONE: prova\r\n\
        From: posta-certificata@pec.alfa.example\r\nContent-Type: multipart/signed; \
        protocol=\"application/pkcs7-signature\"; micalg=\"sha-256\";\r\n";

    #[test]
    fn the_dictionary_knows_receipts() {
        let (codec, stored) = shrink(RECEIPT).unwrap();
        assert_eq!(codec, Codec::Dictionary1);
        assert!(stored.len() * 3 < RECEIPT.len(), "{}", stored.len());
        assert_eq!(expand(codec, stored.into_owned(), RECEIPT.len() as u64).unwrap(), RECEIPT);
    }

    /// Stores hold pieces made with it: it must stay what it is.
    #[test]
    fn the_dictionary_is_the_one_that_was_shipped() {
        let hash = blake3::hash(DICTIONARY_1).to_hex();
        assert_eq!(
            hash.as_str(),
            "c39e94a6b016608258d6d627a3c5831b9fece95b4eef318d9af10800badc17df"
        );
    }

    #[test]
    fn numbers_stay() {
        for number in 0..=3 {
            let back = Codec::of_number(number).map(Codec::number);
            assert_eq!(back, Some(number).filter(|number| *number < 3));
        }
    }

    #[test]
    fn what_is_damaged_does_not_expand() {
        let (codec, stored) = shrink(RECEIPT).unwrap();
        let octets = RECEIPT.len() as u64;
        for wrong in [octets - 1, octets + 1] {
            assert!(expand(codec, stored.to_vec(), wrong).is_err());
        }
        let mut cut = stored.to_vec();
        cut.pop();
        assert!(expand(codec, cut, octets).is_err());
        assert!(expand(Codec::Plain, vec![1], 2).is_err());
        assert!(expand(Codec::Zstd, b"nothing of the kind".to_vec(), octets).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shrunk_expands(piece in proptest::collection::vec(0u8..9, 0..40_000)) {
            let (codec, stored) = shrink(&piece).unwrap();
            prop_assert!(stored.len() <= piece.len());
            let back = expand(codec, stored.into_owned(), piece.len() as u64).unwrap();
            prop_assert_eq!(back, piece);
        }
    }
}
