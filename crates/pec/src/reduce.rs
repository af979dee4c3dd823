//! The original of a brief receipt: its structure, with the hash of each attachment in its place.
//!
//! PEC-RB, RT §6.5.2.2, RFC 6109 §3.3.2.2. Every octet that is not an attachment's is copied. Which
//! octets are hashed is read in two ways (doubt D-05), and both are here.

use std::ops::Range;

use mail::mime::{self, Kind, Part, Structure};
use mail::{Field, Message};
use sha1::{Digest, Sha1};

/// Which octets of an attachment are hashed (PEC-RB-03).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Hashed {
    /// The body as it stands in the message, transfer encoding and all: RFC 6109 §3.3.2.2.
    #[default]
    Encoded,
    /// The file, the encoding removed: RT §6.5.2.2.
    File,
}

/// Characters of a parameter on one line, before it is continued on others (RFC 2231 §3).
const PARAMETER_CHARACTERS: usize = 60;
/// Characters of a file name at most; a longer one is cut.
const NAME_CHARACTERS_MAX: usize = 255;
/// The name of a message that has none.
const MESSAGE_NAME: &str = "messaggio.eml";
/// The name of a file whose name is empty.
const FILE_NAME: &str = "allegato";

/// Reduces an original message. One whose structure is past the bounds of [`mime::scan`] comes back
/// whole: in doubt the sender gets too much, not too little.
pub fn reduce(original: &[u8], hashed: Hashed) -> Vec<u8> {
    let Ok(structure) = mime::scan(original) else { return original.to_vec() };
    let mut out = Vec::with_capacity(original.len().min(64 * 1024));
    let mut from = 0;
    for index in replaced(&structure) {
        let part = &structure.parts[index];
        let Range { start, end } = part.octets();
        out.extend_from_slice(&original[from..start]);
        if index == 0 {
            out.extend(kept_header(original));
        }
        let unnamed = if is_message(part) { MESSAGE_NAME } else { FILE_NAME };
        let name = part.file_name().unwrap_or_else(|| unnamed.to_owned());
        out.extend_from_slice(replacement_header(&name).as_bytes());
        out.extend_from_slice(digest(part, original, hashed).as_bytes());
        from = end;
    }
    out.extend_from_slice(&original[from..]);
    out
}

/// SHA-1 of a part in hexadecimal, lower case (PEC-RB-02, PEC-RB-04).
pub fn digest(part: &Part, octets: &[u8], hashed: Hashed) -> String {
    match hashed {
        Hashed::Encoded => sha1_hex(&octets[part.body.clone()]),
        Hashed::File => sha1_hex(&mime::decode_body(part, octets)),
    }
}

/// SHA-1 in hexadecimal, lower case.
pub(crate) fn sha1_hex(octets: &[u8]) -> String {
    Sha1::digest(octets).iter().map(|b| format!("{b:02x}")).collect()
}

/// The parts to replace, in their order; none is inside another.
fn replaced(structure: &Structure) -> Vec<usize> {
    let root = structure.root();
    // PEC-RB-09, PEC-RB-10: only the type of the whole message counts.
    let opaque = ["pkcs7-mime", "x-pkcs7-mime"].contains(&&root.content_type.subtype[..]);
    if root.content_type.kind == "application" && opaque {
        return Vec::new();
    }
    let signed = root.content_type.is("multipart", "signed");
    let mut replaced = Vec::new();
    // For each part, whether it is walked into: the root is, and what is not replaced.
    let mut walked = vec![false; structure.parts.len()];
    for (index, part) in structure.parts.iter().enumerate() {
        let reached = match part.parent {
            None => true,
            // PEC-RB-08: of a signed message, the first part only.
            Some(0) if signed && root.children.first() != Some(&index) => false,
            Some(parent) => walked[parent],
        };
        if !reached {
            continue;
        }
        let named = part.content_type.parameter("name").is_some()
            || part.disposition.as_ref().is_some_and(|d| d.parameter("filename").is_some());
        match part.kind {
            Kind::Multipart => walked[index] = true,
            // PEC-RB-07; the message itself is not attached to anything.
            Kind::Message | Kind::Leaf if index > 0 && is_message(part) => replaced.push(index),
            Kind::Message | Kind::Leaf if named => replaced.push(index),
            Kind::Message | Kind::Leaf => {}
        }
    }
    // Parents come before children, and siblings in order; the octets go by place.
    replaced.sort_by_key(|&index| structure.parts[index].header.start);
    replaced
}

fn is_message(part: &Part) -> bool {
    part.content_type.is("message", "rfc822") || part.kind == Kind::Message
}

/// The fields of a message that is itself the attachment, without those that describe its body.
fn kept_header(original: &[u8]) -> Vec<u8> {
    let message = Message::lenient(original);
    let describes = |name: &str| name.get(..8).is_some_and(|n| n.eq_ignore_ascii_case("content-"));
    let kept = |field: &&Field<'_>| !describes(field.name);
    message.fields().iter().filter(kept).flat_map(|field| field.octets).copied().collect()
}

fn replacement_header(name: &str) -> String {
    let name = one_line(name) + ".hash";
    format!(
        "Content-Type: text/plain; charset=\"us-ascii\";{}\r\n\
         Content-Transfer-Encoding: 7bit\r\n\
         Content-Disposition: attachment;{}\r\n\r\n",
        parameter("name", &name),
        parameter("filename", &name)
    )
}

fn one_line(name: &str) -> String {
    let plain = |c: char| if c.is_control() { '_' } else { c };
    name.chars().map(plain).take(NAME_CHARACTERS_MAX).collect()
}

/// A parameter with the space before it: quoted when it is short and ASCII, else as RFC 2231 §4.1
/// has it, in pieces.
fn parameter(name: &str, value: &str) -> String {
    let ascii = value.bytes().all(|b| (b' '..=b'~').contains(&b));
    if ascii && value.len() <= PARAMETER_CHARACTERS {
        return format!(" {name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let mut pieces = vec![String::new()];
    for c in value.chars() {
        let mut buffer = [0; 4];
        let encoded: String = c.encode_utf8(&mut buffer).bytes().map(percent).collect();
        if let Some(piece) = pieces.last_mut().filter(|p| p.len() + encoded.len() <= 56) {
            piece.push_str(&encoded);
        } else {
            pieces.push(encoded);
        }
    }
    let lines = pieces.iter().enumerate().map(|(index, piece)| {
        let charset = if index == 0 { "utf-8''" } else { "" };
        format!("\r\n {name}*{index}*={charset}{piece}")
    });
    lines.collect::<Vec<_>>().join(";")
}

/// `attribute-char` of RFC 2231 §7, or `%` and two digits.
fn percent(octet: u8) -> String {
    if octet.is_ascii_alphanumeric() || b"-._~!#$&+^`{|}".contains(&octet) {
        char::from(octet).to_string()
    } else {
        format!("%{octet:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn reduced(message: &str) -> String {
        String::from_utf8(reduce(message.as_bytes(), Hashed::Encoded)).unwrap()
    }

    fn hash(octets: &str) -> String {
        sha1_hex(octets.as_bytes())
    }

    // PEC-RB-01 PEC-RB-02 PEC-RB-04 PEC-RB-05 PEC-RB-06
    #[test]
    fn the_example_is_reduced_as_it_should_be() {
        let original = with(ORIGINAL, "X-TipoRicevuta: completa", "X-TipoRicevuta: breve");
        let examination = crate::inspect::examine(DELIVERY_BRIEF);
        let example = examination.parts().unwrap().originals[0].body();
        let reduced = reduce(&original, Hashed::Encoded);
        assert_eq!(String::from_utf8_lossy(&reduced), String::from_utf8_lossy(example));
        let text = String::from_utf8(reduced).unwrap();
        assert!(text.contains("\r\n\r\nb6bb19352402f691fe7bb5f748c8ab570c5872d5\r\n--ORIGMIX--"));
    }

    // PEC-RB-03
    #[test]
    fn both_readings_of_what_is_hashed_are_there() {
        let structure = mime::scan(ORIGINAL).unwrap();
        let part = &structure.parts[2];
        assert_eq!(
            digest(part, ORIGINAL, Hashed::Encoded),
            "b6bb19352402f691fe7bb5f748c8ab570c5872d5"
        );
        let file = mime::decode_body(part, ORIGINAL);
        assert!(file.starts_with(b"%PDF-1.4\n"));
        assert_eq!(digest(part, ORIGINAL, Hashed::File), sha1_hex(&file));
        assert_ne!(digest(part, ORIGINAL, Hashed::File), digest(part, ORIGINAL, Hashed::Encoded));
        let reduced = reduce(ORIGINAL, Hashed::File);
        assert!(String::from_utf8(reduced).unwrap().contains(&sha1_hex(&file)));
    }

    const MIXED: &str =
        "Subject: x\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\npreamble\r\n";

    // PEC-RB-01 PEC-RB-07 PEC-RB-10 PEC-RB-11
    #[test]
    fn parts_with_names_and_messages_are_replaced_and_all_else_is_copied() {
        let message = format!(
            "{MIXED}--a\r\nContent-Type: multipart/alternative; boundary=b; name=albero\r\n\r\n\
             --b\r\n\r\ntesto\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\nfra\r\n\
             --a\r\nContent-Disposition: inline; filename=foto.png\r\n\r\nUNO\r\n\
             --a\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nciao\r\n\
             --a\r\nContent-Type: application/pkcs7-signature; name=x.p7m\r\n\r\nDUE\r\n\
             --a--\r\nepilogue\r\n"
        );
        let replacement = |name: &str, hash: &str| {
            format!(
                "Content-Type: text/plain; charset=\"us-ascii\"; name=\"{name}.hash\"\r\n\
                 Content-Transfer-Encoding: 7bit\r\n\
                 Content-Disposition: attachment; filename=\"{name}.hash\"\r\n\r\n{hash}\r\n"
            )
        };
        let expected = format!(
            "{MIXED}--a\r\nContent-Type: multipart/alternative; boundary=b; name=albero\r\n\r\n\
             --b\r\n\r\ntesto\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\nfra\r\n\
             --a\r\n{}--a\r\n{}--a\r\n{}--a--\r\nepilogue\r\n",
            replacement("foto.png", &hash("UNO")),
            replacement("messaggio.eml", &hash("Subject: y\r\n\r\nciao")),
            replacement("x.p7m", &hash("DUE")),
        );
        assert_eq!(reduced(&message), expected);
    }

    // PEC-RB-08
    #[test]
    fn of_a_signed_message_only_the_first_part_is_reduced() {
        let signed = |inner: &str| {
            format!(
                "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n{inner}\r\n--s\r\n\
                 Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n\r\nFIRMA\r\n--s--\r\n"
            )
        };
        let inner = "Content-Type: application/pdf; name=a.pdf\r\n\r\nUNO";
        let hashed = format!(
            "Content-Type: text/plain; charset=\"us-ascii\"; name=\"a.pdf.hash\"\r\n\
             Content-Transfer-Encoding: 7bit\r\n\
             Content-Disposition: attachment; filename=\"a.pdf.hash\"\r\n\r\n{}",
            hash("UNO")
        );
        assert_eq!(reduced(&signed(inner)), signed(&hashed));
        let mixed = |part: &str| {
            signed(&format!(
                "Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n{part}\r\n--m--"
            ))
        };
        assert_eq!(reduced(&mixed(inner)), mixed(&hashed));
        // Attached to another message, it is like any other part (PEC-RB-10).
        let attached = format!("{MIXED}--a\r\n{}\r\n--a--\r\n", signed("\r\ntesto"));
        assert!(reduced(&attached).contains("name=\"smime.p7s.hash\""));
    }

    // PEC-RB-09
    #[test]
    fn an_opaque_message_stays_whole() {
        for kind in ["application/pkcs7-mime", "Application/X-PKCS7-mime"] {
            let message = format!("Content-Type: {kind}; name=smime.p7m\r\n\r\nUNO\r\n");
            assert_eq!(reduced(&message), message);
        }
    }

    // PEC-RB-01
    #[test]
    fn a_message_that_is_a_file_keeps_its_header() {
        let message = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: image/png; name=a.png\r\n\
            Content-Transfer-Encoding: base64\r\nTo: y\r\n\r\nY2lhbw==\r\n";
        assert_eq!(
            reduced(message),
            format!(
                "Subject: x\r\nMIME-Version: 1.0\r\nTo: y\r\n\
                 Content-Type: text/plain; charset=\"us-ascii\"; name=\"a.png.hash\"\r\n\
                 Content-Transfer-Encoding: 7bit\r\n\
                 Content-Disposition: attachment; filename=\"a.png.hash\"\r\n\r\n{}",
                hash("Y2lhbw==\r\n")
            )
        );
        let plain = "Subject: x\r\n\r\nciao\r\n";
        assert_eq!(reduced(plain), plain);
    }

    // PEC-RB-05
    #[test]
    fn names_are_kept_whatever_is_in_them() {
        for (name, parameters) in [
            ("filename=\"a \\\"b\\\".pdf\"", "name=\"a \\\"b\\\".pdf.hash\"\r\n".to_owned()),
            (
                "filename*=utf-8''citt%C3%A0.pdf",
                "\r\n name*0*=utf-8''citt%C3%A0.pdf.hash\r\n".into(),
            ),
            ("filename=\"\"", "name=\"allegato.hash\"\r\n".into()),
        ] {
            let message = format!(
                "{MIXED}--a\r\nContent-Disposition: attachment; {name}\r\n\r\nUNO\r\n--a--\r\n"
            );
            let text = reduced(&message);
            assert!(text.contains(&parameters), "{text}");
            assert!(text.contains(&format!("\r\n\r\n{}\r\n--a--", hash("UNO"))));
        }
        let long = "à".repeat(200);
        let message = format!(
            "{MIXED}--a\r\nContent-Disposition: attachment;\r\n filename*=utf-8''{}\r\n\r\nU\r\n--a--\r\n",
            long.bytes().map(|b| format!("%{b:02X}")).collect::<String>()
        );
        let text = reduced(&message);
        assert!(text.lines().all(|line| line.len() <= 78), "{text}");
        let structure = mime::scan(text.as_bytes()).unwrap();
        assert_eq!(structure.parts[1].file_name(), Some(long + ".hash"));
    }

    #[test]
    fn what_is_too_complex_comes_back_whole() {
        let mut deep = String::new();
        for depth in 0..10_000 {
            deep +=
                &format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n");
        }
        deep += "Content-Type: image/png; name=a.png\r\n\r\nUNO\r\n";
        assert_eq!(reduced(&deep), deep);
        let wide = format!("{MIXED}{}", "--a\r\n\r\n".repeat(10_000));
        assert_eq!(reduced(&wide), wide);
    }

    #[test]
    fn sha1_is_sha1() {
        assert_eq!(hash("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
