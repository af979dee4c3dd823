//! The parts of a MIME message as ranges of its octets.
//!
//! RFC 2045 §5 (Content-Type), RFC 2046 §5.1 (multipart), §5.2.1 (message/rfc822), RFC 2183
//! (Content-Disposition), RFC 2231 (parameters). The scan is iterative and bounded. A delimiter
//! counts only at the start of a line, and the CRLF before it belongs to it (RFC 2046 §5.1.1): so a
//! part's octets are exactly what a signature over it covers (RFC 1847 §2.1).

use std::ops::Range;

/// Depth of nested parts at most.
pub const DEPTH_MAX: usize = 64;
/// Parts of one message at most.
pub const PARTS_MAX: usize = 2_000;

/// Why a structure was not followed to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MimeError {
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("parts are nested too deeply")]
    TooDeep,
    /// More than [`PARTS_MAX`] parts.
    #[error("there are too many parts")]
    TooManyParts,
    /// A header block passes [`crate::message::HEADER_OCTETS_MAX`].
    #[error("the header of a part is too long")]
    HeaderTooLong,
}

/// A media type with its parameters; type, subtype and parameter names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType {
    /// `text`, `multipart`, ...
    pub kind: String,
    /// `plain`, `signed`, ...
    pub subtype: String,
    /// Name and value (unquoted, RFC 2231 pieces joined and decoded), in their order.
    pub parameters: Vec<(String, String)>,
}

impl ContentType {
    /// Reads the value of a Content-Type field; `None` when it is not one.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let _ = value;
        todo!()
    }

    /// Whether this is `kind/subtype`, both given in lower case.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind == kind && self.subtype == subtype
    }

    /// The value of a parameter, its name given in lower case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A disposition with its parameters (RFC 2183 §2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition {
    /// `inline`, `attachment`, ... in lower case.
    pub kind: String,
    /// As in [`ContentType`].
    pub parameters: Vec<(String, String)>,
}

/// What a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Octets.
    Leaf,
    /// Parts between boundaries; its children have it as parent.
    Multipart,
    /// One message: its root part is the only child.
    Message,
}

/// One part. All ranges are offsets in the octets that were scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Index of the part that holds this one; `None` for the root.
    pub parent: Option<usize>,
    /// Indices of the parts it holds, in their order.
    pub children: Vec<usize>,
    /// What it holds.
    pub kind: Kind,
    /// Its header block, without the empty line.
    pub header: Range<usize>,
    /// Its body: what comes after the empty line, up to the CRLF that belongs to the delimiter.
    pub body: Range<usize>,
    /// Its media type; the default of its place when it says none or a bad one
    /// (`text/plain`, in a `multipart/digest` `message/rfc822`).
    pub content_type: ContentType,
    /// Whether the media type was said, not assumed.
    pub content_type_said: bool,
    /// Its transfer encoding in lower case; `7bit` when it says none.
    pub encoding: String,
    /// Its disposition, when it says one.
    pub disposition: Option<Disposition>,
}

impl Part {
    /// Header and body together: the octets that a signature over this part covers.
    pub fn octets(&self) -> Range<usize> {
        self.header.start..self.body.end
    }

    /// The name of a file, from Content-Disposition `filename` or else Content-Type `name`; decoded.
    pub fn file_name(&self) -> Option<String> {
        todo!()
    }
}

/// The parts of a message; index 0 is the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// Parents before children, siblings in their order.
    pub parts: Vec<Part>,
}

impl Structure {
    /// The root part.
    pub fn root(&self) -> &Part {
        &self.parts[0]
    }

    /// The children of a part.
    pub fn children<'s>(&'s self, part: &'s Part) -> impl Iterator<Item = &'s Part> + 's {
        part.children.iter().map(|&index| &self.parts[index])
    }
}

/// Finds the parts of a message.
///
/// # Errors
///
/// A [`MimeError`] when a bound is passed: the caller decides whether to refuse the message or to
/// take it as one opaque leaf ([`opaque`]).
pub fn scan(octets: &[u8]) -> Result<Structure, MimeError> {
    let _ = octets;
    todo!()
}

/// A message taken as one leaf of its header's media type (`application/octet-stream` when that
/// would be composite): for a structure that [`scan`] refuses.
pub fn opaque(octets: &[u8]) -> Structure {
    let _ = octets;
    todo!()
}

/// The body of a part with its transfer encoding removed: base64 and quoted-printable leniently
/// (what is not of their alphabet is skipped), all else as it is.
pub fn decode_body(part: &Part, octets: &[u8]) -> Vec<u8> {
    let _ = (part, octets);
    todo!()
}
