//! A message with 8-bit octets made safe for 7-bit transport, part by part.
//!
//! Doubt D-10 of the PEC specification: between providers all is 7-bit (PEC-FMT-10), and a
//! `message/rfc822` part cannot be encoded as a whole (RFC 2046 §5.2.1), so what comes with 8-bit
//! octets is converted before it becomes the original message (RFC 6152 §3 describes the task).

/// Why a message cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SevenBitError {
    /// Octets above 127 in a header field.
    #[error("a header field has octets above 127")]
    Header,
    /// The part is inside a `multipart/signed` (or is one): converting it would break a signature.
    #[error("a signed part has octets above 127")]
    Signed,
    /// The structure is past the bounds of [`crate::mime::scan`].
    #[error("the structure of the message is too complex")]
    Structure,
    /// A NUL, or a line longer than 998 octets in a part that cannot be encoded.
    #[error("the message has octets that cannot be converted")]
    Octets,
}

/// Whether a message is safe for 7-bit transport as it is: octets 1 to 127 and no line over 998.
pub fn is_seven_bit(octets: &[u8]) -> bool {
    let _ = octets;
    todo!()
}

/// Converts the leaf parts that have 8-bit octets or over-long lines (quoted-printable for text,
/// base64 for the rest), and leaves every other octet as it is.
///
/// # Errors
///
/// Any [`SevenBitError`]: the message must be refused.
pub fn make_seven_bit(octets: &[u8]) -> Result<Vec<u8>, SevenBitError> {
    let _ = octets;
    todo!()
}
