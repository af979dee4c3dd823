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
