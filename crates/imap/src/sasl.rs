//! The words of AUTHENTICATE and LOGIN (RFC 3501 §6.2.2, §6.2.3): mechanisms by name, what the
//! client sent and what it is told. Here octets are raw; base64 is the wire's, done by the session.
//!
//! What a mechanism computes, and against which password, is the shell's.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use store::AccountId;

/// A SASL mechanism that is offered, inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// `draft-murchison-sasl-login`: two challenges, user name and password.
    Login,
    /// RFC 7677.
    ScramSha256,
    /// RFC 7677, bound to the TLS connection: `tls-exporter`, RFC 9266.
    ScramSha256Plus,
}

impl Mechanism {
    /// All of them, in the order in which they are announced.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Login, Self::ScramSha256, Self::ScramSha256Plus];

    /// The one place these names are spelled; [`parse`](Self::parse) searches it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// Those that are offered where the connection can be bound to, or not.
    pub(crate) fn offered(binds: bool) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |mechanism| binds || *mechanism != Self::ScramSha256Plus)
    }

    /// A mechanism by its name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.as_str().eq_ignore_ascii_case(name))
    }
}

/// Octets that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What the client sent to prove who it is, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaslStep {
    /// AUTHENTICATE. It begins a new exchange, whatever was left of an earlier one.
    Start {
        /// The mechanism.
        mechanism: Mechanism,
        /// The initial response: absent and empty are two things, RFC 4959 §3.
        initial: Option<Secret>,
    },
    /// The answer to a challenge.
    Response(Secret),
    /// The LOGIN command: no exchange, only a yes or a no.
    Login {
        /// An address or a user ID, as sent.
        user: Secret,
        /// The password.
        password: Secret,
    },
    /// The client gave the exchange up. No answer is awaited.
    Abort,
}

/// What the shell makes of a [`SaslStep`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaslAnswer {
    /// Go on: octets for the client, which may be none. LOGIN's two are `Username:` and
    /// `Password:`.
    Challenge(Secret),
    /// It is this account. Data that the mechanism returns with success (SCRAM's server signature)
    /// goes out as one more challenge, which the client answers with nothing: RFC 4422 §4, since
    /// IMAP has no other place for it.
    Success {
        /// Whose session this is from now on.
        account: AccountId,
        /// The mechanism's last word.
        data: Option<Secret>,
    },
    /// It is not, or cannot be told now.
    Failure(SaslFailure),
}

/// Why nobody is signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslFailure {
    /// Unknown account or wrong password: the client is not told which.
    Credentials,
    /// What came is not of the mechanism.
    Malformed,
    /// The credentials are right, and the account is not to be used.
    Suspended,
    /// Too many sessions or attempts, of this account or from this network.
    TooMany,
    /// It cannot be checked now.
    Unavailable,
}

/// base64 as RFC 3501 §9 wants it: nothing outside the alphabet, padding at the end only.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub(crate) fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mechanism_is_found_by_its_name_in_any_case() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::parse(&mechanism.as_str().to_lowercase()), Some(mechanism));
        }
        for name in ["", "CRAM-MD5", "SCRAM-SHA-1", "PLAINX"] {
            assert_eq!(Mechanism::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let secret = || Secret(b"hunter2".to_vec());
        let start = SaslStep::Start { mechanism: Mechanism::Plain, initial: Some(secret()) };
        let login = SaslStep::Login { user: secret(), password: secret() };
        let printed = format!("{start:?} {login:?} {:?}", SaslAnswer::Challenge(secret()));
        assert!(!printed.contains("104") && !printed.contains("hunter2"), "{printed}");
    }
}
