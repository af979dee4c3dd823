//! What is kept of a password, and how a password is compared with it.
//!
//! Two things are kept: an Argon2id hash for PLAIN and LOGIN (RFC 9106 §4, with OWASP's second
//! set of costs), and SCRAM's keys (RFC 5802 §3). Neither gives the password back. Both are made
//! of the password as RFC 4013 (SASLprep) prepares it, so that the same word typed on another
//! keyboard is the same word.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::password_hash::{self, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::scram::ScramKeys;

/// In KiB: with two passes, about 27 ms of one core for each attempt.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// How what we keep begins: of these costs.
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";
/// Memories of 19 MiB that are kept for the next comparison: as many as cores compare at a time on a
/// small machine. Taken from the system and given back each time, they would stay with the allocator's
/// arenas, one for each of many threads.
const IDLE_MAX: usize = 2;
static IDLE: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());
/// Of our costs, and of no password: the hash is all zeros.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// No one types more; preparing and hashing must not be made costly by length.
pub const PASSWORD_OCTETS_MAX: usize = 1024;

/// Why a password cannot be kept or compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Empty, or past [`PASSWORD_OCTETS_MAX`].
    #[error("a password has 1 to 1024 octets")]
    Length,
    /// A character that RFC 4013 §2.3–2.5 prohibits: a control character, for one.
    #[error("the password holds a character that no password may hold")]
    Prohibited,
    /// What was kept is not such a hash.
    #[error("the stored password cannot be read: {0}")]
    Stored(String),
    /// The hash could not be computed.
    #[error("the password cannot be hashed: {0}")]
    Fault(String),
}

/// What is kept of one password. Prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Argon2id, with its costs and salt, as a PHC string.
    pub phc: String,
    /// For SCRAM-SHA-256.
    pub scram: ScramKeys,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

impl Secret {
    /// What to keep of `password`; `salt` is new and [random](crate::random()) each time.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Length`] or [`PasswordError::Prohibited`] of the password.
    pub fn derive(password: &str, salt: &[u8; 16]) -> Result<Self, PasswordError> {
        let password = prepare(password)?;
        let phc = argon2()?
            .hash_password_with_salt(password.as_bytes(), salt)
            .map_err(|error| PasswordError::Fault(error.to_string()))?;
        Ok(Self { phc: phc.to_string(), scram: ScramKeys::derive(&password, salt) })
    }

    /// Whether `password` is the one; takes some 27 ms, so a server remembers for a while that
    /// it was.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Stored`] or [`PasswordError::Fault`]. A password that could not be kept
    /// is a wrong one, and no error.
    pub fn verify(&self, password: &str) -> Result<bool, PasswordError> {
        verify(&self.phc, password)
    }
}

/// Whether `password` is the one that `phc` was made of. See [`Secret::verify`].
///
/// # Errors
///
/// As [`Secret::verify`].
pub fn verify(phc: &str, password: &str) -> Result<bool, PasswordError> {
    let Ok(password) = prepare(password) else { return Ok(false) };
    let hash = PasswordHash::new(phc).map_err(|error| PasswordError::Stored(error.to_string()))?;
    if hash.hash.is_none() {
        return Err(PasswordError::Stored("costs without a hash".into()));
    }
    if let (true, Some(salt), Some(expected)) = (phc.starts_with(OURS), &hash.salt, &hash.hash) {
        let mut made = [0; Params::DEFAULT_OUTPUT_LEN];
        with_blocks(|blocks| {
            argon2()?
                .hash_password_into_with_memory(password.as_bytes(), salt, &mut made, blocks)
                .map_err(|error| PasswordError::Fault(error.to_string()))
        })?;
        let made = Output::new(&made).map_err(|error| PasswordError::Fault(error.to_string()))?;
        // Compared in constant time.
        return Ok(made == *expected);
    }
    match argon2()?.verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(PasswordError::Stored(error.to_string())),
    }
}

/// Does something with memory for our costs.
fn with_blocks<T>(work: impl FnOnce(&mut [Block]) -> T) -> T {
    let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = idle().pop();
    let mut blocks = kept.unwrap_or_else(|| vec![Block::default(); MEMORY_KIB as usize]);
    let done = work(&mut blocks);
    let mut idle = idle();
    if idle.len() < IDLE_MAX {
        idle.push(blocks);
    }
    done
}

/// Spends on nobody what [`verify`] spends on someone, so that the time a refusal takes does not
/// tell who has an account. The answer would always be no, so there is none.
pub fn dummy(password: &str) {
    let _ = black_box(verify(NOBODY, black_box(password)));
}

/// SASLprep, for a string that will be stored: unassigned characters are prohibited too.
fn prepare(password: &str) -> Result<String, PasswordError> {
    // Measured before, as preparing costs by the octet; and after, as it may leave nothing.
    if password.len() > PASSWORD_OCTETS_MAX {
        return Err(PasswordError::Length);
    }
    let prepared = stringprep::saslprep(password).map_err(|_| PasswordError::Prohibited)?;
    if prepared.is_empty() {
        return Err(PasswordError::Length);
    }
    Ok(prepared.into_owned())
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(Params::DEFAULT_OUTPUT_LEN))
        .map_err(|error| PasswordError::Fault(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::{NOBODY, PASSWORD_OCTETS_MAX, PasswordError, Secret, dummy, verify};

    const SALT: &[u8; 16] = b"sixteen octets!!";

    #[test]
    fn knows_the_password_and_no_other() {
        let secret = Secret::derive("tr\u{f2}ppo lunga", SALT).unwrap();
        assert!(secret.phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", secret.phc);
        assert_eq!(secret.verify("tr\u{f2}ppo lunga"), Ok(true));
        // The same in the eyes of a reader: decomposed, and with a space that does not break.
        assert_eq!(secret.verify("tro\u{300}ppo\u{a0}lunga"), Ok(true));
        for wrong in ["tr\u{f2}ppo lung", "TR\u{d2}PPO LUNGA", "", "\0"] {
            assert_eq!(secret.verify(wrong), Ok(false), "{wrong:?}");
        }
        assert_eq!(format!("{secret:?}"), "Secret([redacted])");
    }

    #[test]
    fn refuses_what_cannot_be_a_password() {
        let longest = "x".repeat(PASSWORD_OCTETS_MAX);
        assert!(Secret::derive(&longest, SALT).is_ok());
        let longer = longest + "x";
        for (password, error) in [
            ("", PasswordError::Length),
            ("\u{ad}", PasswordError::Length), // a soft hyphen is mapped to nothing
            (&longer, PasswordError::Length),
            ("a\u{7}b", PasswordError::Prohibited),
            ("\u{627}1", PasswordError::Prohibited), // RFC 4013 §3, example 7
            ("\u{378}", PasswordError::Prohibited),  // unassigned
        ] {
            assert_eq!(Secret::derive(password, SALT).unwrap_err(), error, "{password:?}");
        }
    }

    #[test]
    fn says_when_what_was_kept_is_broken() {
        for phc in ["", "$argon2id$", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ", "$scrypt$x$y$z"] {
            assert!(matches!(verify(phc, "x"), Err(PasswordError::Stored(_))), "{phc}");
        }
    }

    #[test]
    fn spends_on_nobody_what_it_spends_on_someone() {
        let someone = Secret::derive("password", SALT).unwrap().phc;
        let fields = |phc: &str| phc.split('$').map(str::to_owned).collect::<Vec<_>>();
        let (nobody, someone) = (fields(NOBODY), fields(&someone));
        // The same algorithm and costs, salts and hashes of the same length: the same work.
        assert_eq!(nobody[..4], someone[..4]);
        assert_eq!(nobody[4..].iter().map(String::len).collect::<Vec<_>>(), [22, 43]);
        assert_eq!(someone[4..].iter().map(String::len).collect::<Vec<_>>(), [22, 43]);
        // And it is done, to the answer.
        assert_eq!(verify(NOBODY, "password"), Ok(false));
        dummy("password");
    }
}
