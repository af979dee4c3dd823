//! Mailbox names on the wire: modified UTF-7, RFC 3501 §5.1.3.
//!
//! Only the one right spelling of a name is read, so that two clients cannot make two names that
//! look alike out of one.

/// The alphabet of modified base64.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// A name in modified UTF-7.
pub(crate) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut shifted: Vec<u16> = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut out, &mut shifted);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            shifted.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    flush(&mut out, &mut shifted);
    out
}

fn flush(out: &mut String, shifted: &mut Vec<u16>) {
    if shifted.is_empty() {
        return;
    }
    out.push('&');
    let octets: Vec<u8> = shifted.drain(..).flat_map(u16::to_be_bytes).collect();
    for group in octets.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..=group.len() {
            let index = (bits >> (18 - 6 * digit)) & 63;
            out.push(char::from(ALPHABET[index as usize]));
        }
    }
    out.push('-');
}

/// The name that modified UTF-7 spells; `None` when it is no modified UTF-7, or not the spelling
/// that [`encode`] gives.
pub(crate) fn decode(wire: &[u8]) -> Option<String> {
    let mut name = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((&first, after)) = rest.split_first() {
        match first {
            b'&' => {
                let end = after.iter().position(|&b| b == b'-')?;
                if end == 0 {
                    name.push('&');
                } else {
                    name.push_str(&shifted(&after[..end])?);
                }
                rest = &after[end + 1..];
            }
            b' '..=b'~' => {
                name.push(char::from(first));
                rest = after;
            }
            _ => return None,
        }
    }
    (encode(&name).as_bytes() == wire).then_some(name)
}

fn shifted(digits: &[u8]) -> Option<String> {
    let mut bits: u32 = 0;
    let mut count = 0;
    let mut units = Vec::new();
    for digit in digits {
        let value = ALPHABET.iter().position(|b| b == digit)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push(u16::try_from((bits >> count) & 0xffff).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_one_spelling() {
        for (name, wire) in [
            ("INBOX", "INBOX"),
            ("A & B", "A &- B"),
            ("Attività", "Attivit&AOA-"),
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("😀", "&2D3eAA-"),
            ("", ""),
        ] {
            assert_eq!(encode(name), wire);
            assert_eq!(decode(wire.as_bytes()).as_deref(), Some(name), "{wire}");
        }
    }

    #[test]
    fn another_spelling_is_none() {
        for wire in [
            "Attivit\u{e0}",      // not ASCII
            "&",                  // never ends
            "&AOA",               // likewise
            "&AGE-",              // an `a` that needs no shifting
            "&Jjo!",              // not of the alphabet
            "&U,BTFw-&ZeVnLIqe-", // two shifts where one would do
            "&2D0-",              // half a surrogate pair
            "&AOB-",              // bits left over that are not zero
            "a\tb",
        ] {
            assert_eq!(decode(wire.as_bytes()), None, "{wire}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(name in "\\PC{0,40}") {
            let wire = encode(&name);
            prop_assert!(wire.is_ascii());
            prop_assert_eq!(decode(wire.as_bytes()), Some(name));
        }

        #[test]
        fn any_octets_are_read_or_not(wire: Vec<u8>) {
            if let Some(name) = decode(&wire) {
                prop_assert_eq!(encode(&name).into_bytes(), wire);
            }
        }
    }
}
