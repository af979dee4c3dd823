//! Charsets by the names that mail gives them (RFC 2046 §4.1.2, RFC 2047 §2).
//!
//! The decoders are mail-parser's, but for UTF-8, which it has none for, and for the few charsets of
//! which its tables are wrong (ADR 0006): those are encoding_rs's, on which mail-parser's decoders
//! of multi-octet charsets stand too.

use encoding_rs::{Encoding, ISO_8859_7, ISO_8859_16, MACINTOSH};
use mail_parser::decoders::charsets::{DecoderFnc, map::charset_decoder};

/// Charsets in which mail-parser reads another character than is written: in ISO-8859-16 `«` for `„`,
/// in Macintosh `Ω` for `Õ`, in ISO-8859-7 none for `€`.
const READ_WRONG: [&Encoding; 3] = [ISO_8859_7, ISO_8859_16, MACINTOSH];

/// The names by which mail-parser knows UTF-7, whose last characters it loses. No program has written
/// it for long, and text that hides in ASCII serves attacks: it is not known here.
const UTF_7: [&str; 3] = ["utf-7", "utf_7", "csutf7"];

/// Octets of a charset as text; `None` when the charset is not known.
pub fn decode_charset(charset: &str, octets: &[u8]) -> Option<String> {
    Some(Charset::named(charset)?.decode(octets))
}

/// A charset that is known.
pub(super) enum Charset {
    /// One that mail-parser reads.
    Parser(DecoderFnc),
    /// One that only encoding_rs reads, or reads right.
    Standard(&'static Encoding),
}

impl Charset {
    /// The charset of a name, case and white space around it aside.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.trim();
        let standard = Encoding::for_label(name.as_bytes());
        if let Some(encoding) = standard.filter(|encoding| READ_WRONG.contains(encoding)) {
            return Some(Self::Standard(encoding));
        }
        let parser = charset_decoder(name.as_bytes())
            .filter(|_| !UTF_7.iter().any(|label| label.eq_ignore_ascii_case(name)));
        parser.map(Self::Parser).or(standard.map(Self::Standard))
    }

    pub(super) fn decode(&self, octets: &[u8]) -> String {
        match self {
            Self::Parser(decode) => decode(octets),
            Self::Standard(encoding) => encoding.decode_without_bom_handling(octets).0.into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn octets_of_a_charset_are_text() {
        for (charset, octets, expected) in [
            ("utf-8", &b"citt\xc3\xa0 \xff"[..], Some("citt\u{e0} \u{fffd}")),
            ("UTF8", b"\xe2\x82\xac", Some("\u{20ac}")),
            ("us-ascii", b"ciao", Some("ciao")),
            (" ISO-8859-1 ", b"citt\xe0", Some("citt\u{e0}")),
            ("latin1", b"\x80", Some("\u{20ac}")),
            ("iso-8859-15", b"\xa4", Some("\u{20ac}")),
            ("windows-1252", b"\x93\xe8\x94", Some("\u{201c}\u{e8}\u{201d}")),
            (
                "koi8-r",
                b"\xf0\xd2\xc9\xd7\xc5\xd4",
                Some("\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}"),
            ),
            ("ibm850", b"\x85", Some("\u{e0}")),
            ("gbk", b"\xc4\xe3\xba\xc3", Some("\u{4f60}\u{597d}")),
            ("shift_jis", b"\x93\xfa\x96{", Some("\u{65e5}\u{672c}")),
            ("iso-2022-jp", b"\x1b$BF|K\\\x1b(B", Some("\u{65e5}\u{672c}")),
            ("utf-16", b"\xfe\xff\x00\xe8", Some("\u{e8}")),
            // Where mail-parser's tables are wrong
            ("iso-8859-16", b"\xa5\xab", Some("\u{201e}\u{ab}")),
            ("macintosh", b"\xcd\xdb", Some("\u{d5}\u{20ac}")),
            ("iso-8859-7", b"\xa4", Some("\u{20ac}")),
            // It would be the empty string
            ("utf-7", b"+AOg", None),
            ("x-unknown", b"", None),
            ("", b"", None),
        ] {
            assert_eq!(decode_charset(charset, octets).as_deref(), expected, "{charset}");
        }
    }

    proptest! {
        // mail-parser asserts, where assertions are on, that its buffer was long enough.
        #[test]
        fn any_octets_are_text(octets: Vec<u8>, mixed in "[\\x1b$B(J~{a]{0,12}") {
            let octets = [mixed.as_bytes(), &octets].concat();
            for charset in [
                "utf-8", "utf-16", "utf-16be", "gbk", "gb18030", "big5", "euc-jp", "iso-2022-jp",
                "shift_jis", "euc-kr", "iso-2022-kr", "hz-gb-2312", "windows-874", "x-user-defined",
                "ibm866", "iso-8859-7",
            ] {
                prop_assert!(decode_charset(charset, &octets).is_some());
            }
        }
    }
}
