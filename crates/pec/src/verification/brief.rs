//! A brief receipt held against the message whose attachments it names by their hashes (PEC-RB-02).
//!
//! Both readings of the rule are taken (PEC-RB-03, doubt D-05): of the attachment as it stands in the
//! message, and of the file. Only the hashes are compared, not how the rest of the reduced message was
//! written.

use mail::mime;

use crate::reduce::{Hashed, reduce};

/// Digits of a hash (PEC-RB-04).
const DIGITS: usize = 40;

/// What the hashes of a reduced message are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashes {
    /// There are none: the original has no attachment.
    None,
    /// Those of the original, in this reading.
    Of(Hashed),
    /// Of something else.
    Other,
}

/// Which hashes the `postacert.eml` of a brief receipt has, of this original.
pub fn hashes(reduced: &[u8], original: &[u8]) -> Hashes {
    let said = hashes_in(reduced);
    let readings = [Hashed::Encoded, Hashed::File];
    match readings.into_iter().find(|hashed| hashes_in(&reduce(original, *hashed)) == said) {
        Some(_) if said.is_empty() => Hashes::None,
        Some(hashed) => Hashes::Of(hashed),
        None => Hashes::Other,
    }
}

/// The hashes in a reduced message, in their order: each the whole text of a part with a name that
/// ends in `.hash` (PEC-RB-05, PEC-RB-06).
fn hashes_in(reduced: &[u8]) -> Vec<String> {
    let Ok(structure) = mime::scan(reduced) else { return Vec::new() };
    let named = structure.parts.iter().filter(|part| {
        let name = part.file_name().unwrap_or_default().to_lowercase();
        name.ends_with(".hash") && part.content_type.is("text", "plain")
    });
    let texts = named.map(|part| mime::decode_body(part, reduced));
    let texts = texts.map(|text| String::from_utf8_lossy(&text).trim().to_lowercase());
    texts
        .filter(|text| text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: &[u8] =
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntesto\r\n--b\r\n\
        Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        JVBERg==\r\n--b--\r\n";

    // PEC-RB-03 PEC-RB-04
    #[test]
    fn both_readings_are_taken_and_told_apart() {
        for hashed in [Hashed::Encoded, Hashed::File] {
            assert_eq!(hashes(&reduce(ORIGINAL, hashed), ORIGINAL), Hashes::Of(hashed));
        }
        let upper = String::from_utf8(reduce(ORIGINAL, Hashed::File)).unwrap();
        let hash = hashes_in(upper.as_bytes()).remove(0);
        let upper = upper.replace(&hash, &hash.to_uppercase());
        assert_eq!(hashes(upper.as_bytes(), ORIGINAL), Hashes::Of(Hashed::File));
    }

    #[test]
    fn another_file_or_none_is_seen() {
        let reduced = reduce(ORIGINAL, Hashed::Encoded);
        let other = String::from_utf8(ORIGINAL.to_vec()).unwrap().replace("JVBERg", "JVBERh");
        assert_eq!(hashes(&reduced, other.as_bytes()), Hashes::Other);
        let plain = b"Content-Type: text/plain\r\n\r\ntesto\r\n";
        assert_eq!(hashes(&reduced, plain), Hashes::Other);
        assert_eq!(hashes(&reduce(plain, Hashed::File), plain), Hashes::None);
        assert_eq!(hashes(b"", plain), Hashes::None);
    }
}
