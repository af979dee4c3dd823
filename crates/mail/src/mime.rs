//! The parts of a MIME message as ranges of its octets.
//!
//! RFC 2045 §5 (Content-Type), RFC 2046 §5.1 (multipart), §5.2.1 (message/rfc822), RFC 2183
//! (Content-Disposition), RFC 2231 (parameters). The scan is iterative and bounded. A delimiter
//! counts only at the start of a line, and the CRLF before it belongs to it (RFC 2046 §5.1.1): so a
//! part's octets are exactly what a signature over it covers (RFC 1847 §2.1).

mod media;
mod scan;

use std::ops::Range;

pub use media::{ContentType, Disposition};
pub use scan::{Scanner, opaque, scan};

use crate::encoding;
use crate::message::{decode_words, without_controls};

/// Depth of nested parts at most.
pub const DEPTH_MAX: usize = 64;
/// Parts of one message at most.
pub const PARTS_MAX: usize = 2_000;
/// Octets of a boundary at most. RFC 2046 §5.1.1 allows 70; some programs write more. A multipart
/// whose boundary is longer is a leaf.
pub const BOUNDARY_OCTETS_MAX: usize = 200;

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

/// What a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Octets. So is a multipart without a usable boundary, and a `message/rfc822` in base64 or
    /// quoted-printable.
    Leaf,
    /// Parts between boundaries; its children have it as parent. It has none when no delimiter came.
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
    /// Line ends in its body.
    pub lines: usize,
}

impl Part {
    /// Header and body together: the octets that a signature over this part covers.
    pub fn octets(&self) -> Range<usize> {
        self.header.start..self.body.end
    }

    /// The name of a file, from Content-Disposition `filename` or else Content-Type `name`; decoded,
    /// also where a program put encoded words in quotes (RFC 2047 §5 forbids it; Outlook does it).
    ///
    /// It has no control characters, but it can have slashes and dots: it is no path.
    pub fn file_name(&self) -> Option<String> {
        let filename = self.disposition.as_ref().and_then(|d| d.parameter("filename"));
        [filename, self.content_type.parameter("name")]
            .into_iter()
            .flatten()
            .map(|name| without_controls(&decode_words(name)).trim().to_owned())
            .find(|name| !name.is_empty())
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

/// The body of a part with its transfer encoding removed: base64 and quoted-printable leniently
/// (what is not of their alphabet is skipped), all else as it is.
pub fn decode_body(part: &Part, octets: &[u8]) -> Vec<u8> {
    let body = octets.get(part.body.clone()).unwrap_or_default();
    match part.encoding.as_str() {
        // A composite part is not encoded whatever it says: RFC 2045 §6.4.
        _ if part.kind != Kind::Leaf => body.to_vec(),
        "base64" => encoding::decode_base64(body),
        "quoted-printable" => encoding::decode_quoted_printable(body),
        _ => body.to_vec(),
    }
}
