//! The MIME tree of a message of ours: made with room for the signature, and closed with it.
//!
//! PEC-FMT, PEC-SIG; RT §6.1, §7.3; multipart/signed is RFC 1847 §2.1, its S/MIME form RFC 8551
//! §3.5.3. Not here: the signature, which is made elsewhere over [`Unsigned::entity`].
//!
//! mail-builder writes each part that holds octets, header and body. The delimiters around them are
//! written here: its own have an empty line before the first and a line end after the last, which the
//! examples do not, and it knows no preamble (ADR 0006).
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
use mail_builder::headers::content_type::ContentType;
use mail_builder::mime::MimePart;

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
        put(
            &mut out,
            &[
                "MIME-Version: 1.0\r\n",
                "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; ",
                "micalg=\"sha-256\";\r\n boundary=\"",
                signed,
                "\"\r\n\r\nThis is an S/MIME signed message\r\n\r\n--",
                signed,
                "\r\n",
            ],
        );
        let start = out.len();
        put(&mut out, &["Content-Type: multipart/mixed; boundary=\"", mixed]);
        put(&mut out, &["\"\r\n\r\n--", mixed, "\r\n"]);
        put(&mut out, &["Content-Type: multipart/alternative; boundary=\"", alternative]);
        put(&mut out, &["\"\r\n\r\n--", alternative, "\r\n"]);
        text_part("text/plain", &plain).write_part(&mut out);
        put(&mut out, &["\r\n--", alternative, "\r\n"]);
        text_part("text/html", &html).write_part(&mut out);
        put(&mut out, &["\r\n--", alternative, "--\r\n"]);
        if let Some(xml) = &xml {
            put(&mut out, &["\r\n--", mixed, "\r\n"]);
            file("application/xml", "inline", "daticert.xml", "base64", xml).write_part(&mut out);
        }
        if let Some(Attached { octets, encoding }) = original {
            put(&mut out, &["\r\n--", mixed, "\r\n"]);
            file("message/rfc822", "inline", "postacert.eml", encoding, octets)
                .write_part(&mut out);
        }
        put(&mut out, &["\r\n--", mixed, "--"]);
        let entity = start..out.len();
        Self { octets: out, entity, boundary: signed.clone() }
    }

    /// The octets to sign: the first body part, header included, canonical, without the CRLF that
    /// belongs to the delimiter after it (PEC-SIG-08).
    pub fn entity(&self) -> &[u8] {
        &self.octets[self.entity.clone()]
    }

    /// Where [`entity`](Self::entity) is in the message, sealed or not.
    pub fn entity_range(&self) -> Range<usize> {
        self.entity.clone()
    }

    /// The whole message, with a detached CMS signature over [`entity`](Self::entity) in DER.
    pub fn seal(self, signature_der: &[u8]) -> Vec<u8> {
        let Self { mut octets, boundary, .. } = self;
        let signature = base64_lines(signature_der);
        put(&mut octets, &["\r\n--", &boundary, "\r\n"]);
        file("application/pkcs7-signature", "attachment", "smime.p7s", "base64", &signature)
            .write_part(&mut octets);
        put(&mut octets, &["\r\n--", &boundary, "--\r\n"]);
        octets
    }
}

fn put(out: &mut Vec<u8>, text: &[&str]) {
    for piece in text {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// A text for people, in quoted-printable.
fn text_part<'a>(kind: &'a str, body: &'a [u8]) -> MimePart<'a> {
    MimePart::new(ContentType::new(kind).attribute("charset", "iso-8859-1"), body)
        .transfer_encoding("quoted-printable")
        .header("Content-Disposition", ContentType::new("inline"))
}

/// A part with a name; its body is in the encoding already, and is written as it is.
fn file<'a>(
    kind: &'a str,
    disposition: &'a str,
    name: &'a str,
    encoding: &'a str,
    body: &'a [u8],
) -> MimePart<'a> {
    MimePart::new(ContentType::new(kind).attribute("name", name), body)
        .transfer_encoding(encoding)
        .header("Content-Disposition", ContentType::new(disposition).attribute("filename", name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Limits;
    use crate::inspect::examine;
    use crate::testing::*;

    fn envelope() -> Unsigned {
        let submission = submission();
        crate::envelope::enclose(submission.accepted(), submission.original(), &alfa(), 7)
    }

    // PEC-SIG-02 PEC-SIG-08
    #[test]
    fn what_is_signed_is_what_a_reader_takes_for_signed() {
        let unsigned = envelope();
        let entity = unsigned.entity().to_vec();
        let sealed = unsigned.seal(&[0x30, 0x80, 0, 0]);
        let examination = examine(&sealed);
        assert_eq!(examination.entity(), Some(&entity[..]));
        assert_eq!(examination.signature(), Some(&[0x30, 0x80, 0, 0][..]));
    }

    // PEC-SIG-10 PEC-FMT-08
    #[test]
    fn all_is_seven_bit_with_crlf_only() {
        let octets = with(SUBMITTED, "Si allega istanza.", "Perch\u{e9} no?");
        let forward = [PROTOCOLLO, ORDINARY, UFFICIO];
        let submission = submit(&octets, &forward, &Limits::default()).unwrap();
        let envelope =
            crate::envelope::enclose(submission.accepted(), submission.original(), &alfa(), 7);
        let sealed = envelope.seal(&[0x30; 5_000]);
        assert!(mail::sevenbit::is_seven_bit(&sealed));
        let lines = sealed.iter().filter(|&&b| b == b'\n').count();
        assert_eq!(sealed.windows(2).filter(|w| w == b"\r\n").count(), lines);
        assert_eq!(sealed.iter().filter(|&&b| b == b'\r').count(), lines);
    }

    #[test]
    fn boundaries_are_of_all_128_bits() {
        let boundaries = Boundaries::of(u128::MAX - 1);
        assert_eq!(boundaries.signed, "----=_SIG_fffffffffffffffffffffffffffffffe");
        assert!(boundaries.signed.len() <= 70, "RFC 2046 \u{a7}5.1.1");
        assert_ne!(Boundaries::of(1), Boundaries::of(2));
    }

    // PEC-BT-01: an original that plays with delimiters comes back as it was
    #[test]
    fn an_original_cannot_end_its_part() {
        let body = "------=_MIX_00000000000000000000000000000008\r\n--x--\r\n.\r\n\r\n";
        let octets = with(SUBMITTED, "Si allega istanza.", body);
        let forward = [PROTOCOLLO, ORDINARY, UFFICIO];
        let submission = submit(&octets, &forward, &Limits::default()).unwrap();
        let original = submission.original();
        let envelope = crate::envelope::enclose(submission.accepted(), original, &alfa(), 7);
        let sealed = envelope.seal(b"x");
        assert_eq!(verified(&sealed).original(&sealed), original);
        assert!(String::from_utf8_lossy(original).contains(body));
    }
}
