//! Transfer encodings, written and read: base64 and quoted-printable (RFC 2045 §6.7, §6.8). Written
//! with CRLF line ends, in lines of at most 76 characters; read leniently.
//!
//! base64 is mail-builder's and mail-parser's; quoted-printable is ours, since theirs changes
//! octets (ADR 0006).

use mail_builder::encoders::Base64Encoder;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode_char;

/// Characters of an encoded line at most, RFC 2045 §6.7 (5), §6.8.
const LINE_CHARACTERS_MAX: usize = 76;
/// Octets that one such line of base64 holds.
const LINE_OCTETS: usize = LINE_CHARACTERS_MAX / 4 * 3;

/// base64 in lines of 76, each ended by CRLF.
pub fn base64_lines(octets: &[u8]) -> Vec<u8> {
    let lines = octets.len().div_ceil(LINE_OCTETS);
    let mut out = Vec::with_capacity(lines * (LINE_CHARACTERS_MAX + 2));
    Base64Encoder::new().wrap_lines().encode_into(octets, &mut out);
    out
}

/// Quoted-printable of text whose line ends are CRLF; a bare CR or LF is encoded.
///
/// What a mail system may take for its own at the start of a line is encoded too: a dot, `From `,
/// and the two hyphens of a MIME delimiter (RFC 2049 §3).
pub fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 8);
    let mut column = 0;
    let mut at = 0;
    while let Some(&octet) = octets.get(at) {
        let rest = &octets[at..];
        if rest.starts_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
            column = 0;
            at += 2;
            continue;
        }
        let ends_line = rest.len() == 1 || rest[1..].starts_with(b"\r\n");
        let plain = |column| match octet {
            b' ' | b'\t' => !ends_line,
            b'=' => false,
            b'.' => column > 0,
            b'-' => column > 0 || !rest.starts_with(b"--"),
            b'F' => column > 0 || !rest.starts_with(b"From "),
            octet => octet.is_ascii_graphic(),
        };
        // The last column is for the `=` of a soft line break, unless the line ends here.
        let limit = if ends_line { LINE_CHARACTERS_MAX } else { LINE_CHARACTERS_MAX - 1 };
        let width = |column| if plain(column) { 1 } else { 3 };
        if column + width(column) > limit {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if plain(column) {
            out.push(octet);
        } else {
            out.push(b'=');
            out.push(hex(octet >> 4));
            out.push(hex(octet & 15));
        }
        column += width(column);
        at += 1;
    }
    out
}

fn hex(digit: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(digit & 15)]
}

/// base64 without its encoding; what is not of the alphabet is skipped, RFC 2045 §6.8. Data that
/// goes on after padding is decoded too.
pub fn decode_base64(text: &[u8]) -> Vec<u8> {
    base64_decode(text)
        .or_else(|| {
            let of_alphabet = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
            base64_decode(&text.iter().copied().filter(of_alphabet).collect::<Vec<_>>())
        })
        .unwrap_or_default()
}

/// Quoted-printable without its encoding; an `=` that starts nothing stands for itself, and blanks
/// at the end of a line are dropped (RFC 2045 §6.7).
pub fn decode_quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let next = crate::message::line_after(text, at);
        let line = &text[at..next];
        let content = crate::message::without_line_end(line);
        let line_end = &line[content.len()..];
        // Blanks at the end were added on the way, but only a line end shows that there is one.
        let content = if line_end.is_empty() { content } else { trim_blanks(content) };
        at = next;
        let soft = content.last() == Some(&b'=');
        let content = if soft { &content[..content.len() - 1] } else { content };
        decode_escapes(b'=', content, &mut out);
        if !soft {
            out.extend_from_slice(line_end);
        }
    }
    out
}

fn trim_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
    &line[..line.len() - blanks]
}

/// Octets in which a sign and two hexadecimal digits stand for one octet; a sign that starts no such
/// thing stands for itself.
pub(crate) fn decode_escapes(sign: u8, text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let octet = match after {
            [high, low, ..] if *first == sign => quoted_printable_decode_char(*high, *low),
            _ => None,
        };
        out.push(octet.unwrap_or(*first));
        rest = if octet.is_some() { &after[2..] } else { after };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_comes_in_lines() {
        assert_eq!(base64_lines(b""), b"");
        assert_eq!(base64_lines(b"ciao"), b"Y2lhbw==\r\n");
        let text = String::from_utf8(base64_lines(&[0; 58])).unwrap();
        assert_eq!(text, format!("{}\r\nAA==\r\n", "A".repeat(76)));
    }

    #[test]
    fn base64_is_read_leniently() {
        for (text, expected) in [
            (&b"Y2lhbw=="[..], &b"ciao"[..]),
            (b"Y2lh\r\n bw\r\n", b"ciao"),
            (b"Y2*lhb\x80w=", b"ciao"),
            (b"YQ==Yg==", b"ab"),
            (b"Y", b""),
            (b"====", b""),
        ] {
            assert_eq!(decode_base64(text), expected);
        }
    }

    #[test]
    fn quoted_printable_is_written() {
        for (text, expected) in [
            (&b"ciao\r\n"[..], &b"ciao\r\n"[..]),
            (b"citt\xe0 = a \r\n", b"citt=E0 =3D a=20\r\n"),
            (b"tab\t", b"tab=09"),
            (b"a\rb\nc\0", b"a=0Db=0Ac=00"),
            (
                b".\r\n--x\r\n-x\r\nFrom me\r\nFrom\r\n",
                b"=2E\r\n=2D-x\r\n-x\r\n=46rom me\r\nFrom\r\n",
            ),
        ] {
            assert_eq!(
                quoted_printable(text).escape_ascii().to_string(),
                expected.escape_ascii().to_string()
            );
        }
        let line = [b'x'; 77];
        assert_eq!(quoted_printable(&line[..76]), &line[..76]);
        let broken = [&line[..75], b"=\r\nxx"].concat();
        assert_eq!(quoted_printable(&line), broken);
    }

    #[test]
    fn quoted_printable_is_read_leniently() {
        for (text, expected) in [
            (&b"citt=E0 =3d a=20\r\n"[..], &b"citt\xe0 = a \r\n"[..]),
            (b"so=\r\nft =  \r\nbreak=", b"soft break"),
            (b"so=\nft  \nx", b"soft\nx"),
            (b"bad =zz = =4", b"bad =zz = =4"),
            (b"raw \xe0 ", b"raw \xe0 "),
            // mail-parser changes these, ADR 0006
            (b"a\rb\nc\r\n", b"a\rb\nc\r\n"),
            (b"a= 41==41", b"a= 41=A"),
        ] {
            assert_eq!(
                decode_quoted_printable(text).escape_ascii().to_string(),
                expected.escape_ascii().to_string()
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(octets: Vec<u8>) {
            prop_assert_eq!(decode_base64(&base64_lines(&octets)), &octets[..]);
            let text = quoted_printable(&octets);
            for line in text.split(|&b| b == b'\n') {
                prop_assert!(line.len() <= LINE_CHARACTERS_MAX + 1);
                prop_assert!(!line.starts_with(b"--") && !line.starts_with(b"."));
            }
            prop_assert!(text.is_ascii() && !text.contains(&0));
            prop_assert_eq!(decode_quoted_printable(&text), octets);
        }

        #[test]
        fn text_is_read_back(text in "([a-z.-]| |=|\r\n|\r|\n|From |\u{e8}){0,300}") {
            let encoded = quoted_printable(text.as_bytes());
            prop_assert_eq!(decode_quoted_printable(&encoded), text.as_bytes());
        }
    }
}
