//! The words of an AUTH exchange (RFC 4954 §4): mechanisms by name, what the client
//! sent and what it is told. Here octets are raw; base64 is the wire's, done by the session.
//!
//! What a mechanism computes, and against which password, is the shell's.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::reply::Reply;

/// A SASL mechanism that can be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// `draft-murchison-sasl-login`: two challenges, user name and password. Outlook needs it.
    Login,
    /// RFC 7677.
    ScramSha256,
    /// The same, bound to the TLS connection it is done in: RFC 5802 §6, RFC 9266.
    ScramSha256Plus,
    /// RFC 4422 appendix A: who the TLS certificate of the client says.
    External,
}

impl Mechanism {
    /// All of them, in the order in which they are best announced: the strongest first.
    pub const ALL: [Self; 5] =
        [Self::External, Self::ScramSha256Plus, Self::ScramSha256, Self::Plain, Self::Login];
    /// Those that need nothing but TLS.
    pub const EVERYWHERE: [Self; 3] = [Self::ScramSha256, Self::Plain, Self::Login];

    /// The one place these names are spelled; [`parse`](Self::parse) searches it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::External => "EXTERNAL",
        }
    }

    /// A mechanism by its name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.as_str().eq_ignore_ascii_case(name))
    }
}

/// What the client sent in an AUTH exchange, decoded. It holds secrets: `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub enum SaslStep {
    /// AUTH itself. It begins a new exchange, whatever was left of an earlier one.
    Start {
        /// One of [`Settings::mechanisms`](crate::Settings::mechanisms).
        mechanism: Mechanism,
        /// The initial response: absent and empty are two things, RFC 4954 §4.
        initial: Option<Vec<u8>>,
    },
    /// The answer to a challenge.
    Response(Vec<u8>),
}

impl fmt::Debug for SaslStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { mechanism, initial } => f
                .debug_struct("Start")
                .field("mechanism", mechanism)
                .field("initial", &initial.as_ref().map(|_| "[redacted]"))
                .finish(),
            Self::Response(_) => f.write_str("Response([redacted])"),
        }
    }
}

/// What the shell makes of a [`SaslStep`].
#[derive(Clone, PartialEq, Eq)]
pub enum SaslAnswer {
    /// Go on: octets for the client, which may be none. LOGIN's two are `Username:` and
    /// `Password:`, to the letter, since Outlook compares them.
    Challenge(Vec<u8>),
    /// It is who it claims to be. Data that the mechanism returns with success (SCRAM's server
    /// signature) goes out as one more challenge, which the client answers with nothing:
    /// SMTP has no other place for it (RFC 4954 §4).
    Success(Option<Vec<u8>>),
    /// It is not, or cannot be told now: one of `reply::AUTH_*`.
    Failure(Reply),
}

impl fmt::Debug for SaslAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Challenge(_) => f.write_str("Challenge([redacted])"),
            Self::Success(data) => {
                f.debug_tuple("Success").field(&data.as_ref().map(|_| "[redacted]")).finish()
            }
            Self::Failure(reply) => f.debug_tuple("Failure").field(reply).finish(),
        }
    }
}

/// base64 as RFC 4954 §4 wants it: nothing outside the alphabet, padding at the end only.
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
            assert_eq!(Mechanism::parse(mechanism.as_str()), Some(mechanism));
            assert_eq!(Mechanism::parse(&mechanism.as_str().to_lowercase()), Some(mechanism));
        }
        for name in ["", "CRAM-MD5", "SCRAM-SHA-1", "PLAIN ", "PLAINX"] {
            assert_eq!(Mechanism::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn base64_is_strict() {
        assert_eq!(decode(b"").as_deref(), Some(&b""[..]));
        assert_eq!(decode(b"VXNlcm5hbWU6").as_deref(), Some(&b"Username:"[..]));
        for bad in ["=AAA", "AAA=BBB", "AAA", "A A=", "AAAA\t", "AAA-", "YQ", "YR=="] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let start =
            SaslStep::Start { mechanism: Mechanism::Plain, initial: Some(b"hunter2".into()) };
        let printed = format!(
            "{start:?} {:?} {:?} {:?}",
            SaslStep::Response(b"hunter2".into()),
            SaslAnswer::Challenge(b"hunter2".into()),
            SaslAnswer::Success(Some(b"hunter2".into())),
        );
        assert!(!printed.contains("104") && !printed.contains("hunter2"), "{printed}");
    }
}
