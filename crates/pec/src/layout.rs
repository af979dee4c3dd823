//! The MIME tree of a message of ours: made with room for the signature, and closed with it.
//!
//! PEC-FMT, PEC-SIG; RT §6.1, §7.3; multipart/signed is RFC 1847 §2.1, its S/MIME form RFC 8551
//! §3.5.3. Not here: the signature, which is made elsewhere over [`Unsigned::entity`].
//!
//! ```text
//! multipart/signed
//!   multipart/mixed               the entity that is signed
//!     multipart/alternative
//!       text/plain
//!       text/html
//!     application/xml             daticert.xml; not in anomaly envelopes
//!     message/rfc822              postacert.eml; in envelopes, complete and brief receipts
//!   application/pkcs7-signature   smime.p7s
//! ```

use std::ops::Range;

use mail::encoding::{base64_lines, quoted_printable};

use crate::text::Text;

/// Octets kept free for a signature in base64, with its certificates.
const SIGNATURE_ROOM: usize = 12 * 1024;
/// Octets of part headers, boundaries and what else is not counted.
const FRAME_ROOM: usize = 4 * 1024;

/// The three boundaries of a message of ours. Made of a number that nobody can guess, so that no
/// original message can contain them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundaries {
    pub(crate) signed: String,
    pub(crate) mixed: String,
    pub(crate) alternative: String,
}

impl Boundaries {
    /// The boundaries made of 128 random bits. They hold `=`, which base64 and quoted-printable
    /// text cannot have at that place (RFC 2045 §6.7).
    pub fn of(token: u128) -> Self {
        let boundary = |kind: &str| format!("----=_{kind}_{token:032x}");
        Self { signed: boundary("SIG"), mixed: boundary("MIX"), alternative: boundary("ALT") }
    }
}

/// A message that is attached as `postacert.eml`.
#[derive(Debug, Clone, Copy)]
pub struct Attached<'a> {
    octets: &'a [u8],
    encoding: &'static str,
}

impl<'a> Attached<'a> {
    /// A message that has been made safe for 7-bit transport (PEC-FMT-10).
    pub fn seven_bit(octets: &'a [u8]) -> Self {
        Self { octets, encoding: "7bit" }
    }

    /// A message as it came from the ordinary world: told as it is, RFC 2046 §5.2.1.
    pub fn as_it_is(octets: &'a [u8]) -> Self {
        Self { octets, encoding: if octets.is_ascii() { "7bit" } else { "8bit" } }
    }
}

/// A message of ours, complete but for its signature.
///
/// One buffer, in which the original was put once: to seal it is to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    octets: Vec<u8>,
    entity: Range<usize>,
    boundary: String,
}

impl Unsigned {
    /// `header` are the fields of the message, without those of MIME.
    pub(crate) fn lay_out(
        header: Vec<u8>,
        boundaries: &Boundaries,
        text: &Text,
        certification: Option<&str>,
        original: Option<Attached<'_>>,
    ) -> Self {
        let Boundaries { signed, mixed, alternative } = boundaries;
        let mut out = header;
        let plain = quoted_printable(&text.plain());
        let html = quoted_printable(&text.html());
        let xml = certification.map(|xml| base64_lines(xml.as_bytes()));
        let parts = plain.len()
            + html.len()
            + xml.as_ref().map_or(0, Vec::len)
            + original.map_or(0, |attached| attached.octets.len());
        out.reserve(parts + FRAME_ROOM + SIGNATURE_ROOM);
        let mut put = |text: &[&str]| {
            for piece in text {
                out.extend_from_slice(piece.as_bytes());
            }
        };
        put(&[
            "MIME-Version: 1.0\r\n",
            "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; ",
            "micalg=\"sha-256\";\r\n boundary=\"",
            signed,
            "\"\r\n\r\nThis is an S/MIME signed message\r\n\r\n--",
            signed,
            "\r\n",
        ]);
        let start = out.len();
        let mut put = |text: &[&str], body: &[u8]| {
            for piece in text {
                out.extend_from_slice(piece.as_bytes());
            }
            out.extend_from_slice(body);
        };
        put(&["Content-Type: multipart/mixed; boundary=\"", mixed, "\"\r\n\r\n--", mixed], b"\r\n");
        let open =
            ["Content-Type: multipart/alternative; boundary=\"", alternative, "\"\r\n\r\n--"];
        put(&open, b"");
        put(&[alternative, "\r\n", TEXT_PLAIN], &plain);
        put(&["\r\n--", alternative, "\r\n", TEXT_HTML], &html);
        put(&["\r\n--", alternative, "--\r\n"], b"");
        if let Some(xml) = &xml {
            put(&["\r\n--", mixed, "\r\n", DATICERT], xml);
        }
        if let Some(Attached { octets, encoding }) = original {
            put(&["\r\n--", mixed, "\r\n", POSTACERT_TYPE, encoding, POSTACERT_NAME], octets);
        }
        put(&["\r\n--", mixed, "--"], b"");
        let entity = start..out.len();
        Self { octets: out, entity, boundary: signed.clone() }
    }

    /// The octets to sign: the first body part, header included, canonical, without the CRLF that
    /// belongs to the delimiter after it (PEC-SIG-08).
    pub fn entity(&self) -> &[u8] {
        &self.octets[self.entity.clone()]
    }

    /// The whole message, with a detached CMS signature over [`entity`](Self::entity) in DER.
    pub fn seal(self, signature_der: &[u8]) -> Vec<u8> {
        let Self { mut octets, boundary, .. } = self;
        let signature = base64_lines(signature_der);
        for piece in ["\r\n--", &boundary, "\r\n", SIGNATURE] {
            octets.extend_from_slice(piece.as_bytes());
        }
        octets.extend_from_slice(&signature);
        for piece in ["\r\n--", &boundary, "--\r\n"] {
            octets.extend_from_slice(piece.as_bytes());
        }
        octets
    }
}

const TEXT_PLAIN: &str = "\
Content-Type: text/plain; charset=\"iso-8859-1\"\r\n\
Content-Transfer-Encoding: quoted-printable\r\n\
Content-Disposition: inline\r\n\r\n";

const TEXT_HTML: &str = "\
Content-Type: text/html; charset=\"iso-8859-1\"\r\n\
Content-Transfer-Encoding: quoted-printable\r\n\
Content-Disposition: inline\r\n\r\n";

const DATICERT: &str = "\
Content-Type: application/xml; name=\"daticert.xml\"\r\n\
Content-Transfer-Encoding: base64\r\n\
Content-Disposition: inline; filename=\"daticert.xml\"\r\n\r\n";

const POSTACERT_TYPE: &str = "\
Content-Type: message/rfc822; name=\"postacert.eml\"\r\n\
Content-Transfer-Encoding: ";

const POSTACERT_NAME: &str = "\r\n\
Content-Disposition: inline; filename=\"postacert.eml\"\r\n\r\n";

const SIGNATURE: &str = "\
Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n\
Content-Transfer-Encoding: base64\r\n\
Content-Disposition: attachment; filename=\"smime.p7s\"\r\n\r\n";
