//! Randomness, from one place: the operating system's, through aws-lc.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// `N` octets that nobody can guess: salts, nonces, serial numbers, identifiers.
///
/// When the operating system has none to give, the process ends: to go on with octets that can be
/// guessed would be worse.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    if SystemRandom::new().fill(&mut octets).is_err() {
        std::process::abort();
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::random;

    #[test]
    fn no_two_are_alike() {
        assert_ne!(random::<16>(), random::<16>());
        assert_eq!(random::<0>(), []);
    }
}
