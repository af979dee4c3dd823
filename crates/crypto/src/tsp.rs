//! The structures of time stamps in DER: a request, a response, and what a token says.
//!
//! RFC 3161 §2.4. A reader of definite lengths only: responses are DER, and what a token encloses was
//! taken out of it by OpenSSL. Not here: signatures, and any decision.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::der::{
    BOOLEAN, Elements, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE,
    UTF8_STRING, element,
};

/// Octets of a response at most: a token with the chain of its certificates has some 10 KiB.
pub const RESPONSE_OCTETS_MAX: usize = 64 * 1024;
/// Characters that are repeated of what an authority says at most.
const SAID_CHARACTERS_MAX: usize = 200;
/// `version` 1 of all three.
const VERSION: &[u8] = b"\x02\x01\x01";
/// `AlgorithmIdentifier` of SHA-256 with NULL, as authorities have always been sent it.
const SHA256: &[u8] = b"\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00";
/// The object identifier in it.
pub(crate) const SHA256_OID: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
/// BOOLEAN TRUE.
const TRUE: &[u8] = b"\x01\x01\xff";

/// `TimeStampReq` for a SHA-256 value, with a nonce, that asks for the authority's certificate:
/// RFC 3161 §2.4.1.
pub(crate) fn request(imprint: &[u8; 32], nonce: &[u8]) -> Vec<u8> {
    let imprint = element(SEQUENCE, &[SHA256, &element(OCTET_STRING, &[imprint])]);
    element(SEQUENCE, &[VERSION, &imprint, &element(INTEGER, &[nonce]), TRUE])
}

/// What an authority answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Response<'a> {
    /// A token: a ContentInfo, whole.
    Granted(&'a [u8]),
    /// None, and why: the number of its status, and its words when it has any.
    Refused(u8, String),
}

/// Reads a `TimeStampResp`, RFC 3161 §2.4.2; nothing when it is none.
pub(crate) fn response(der: &[u8]) -> Option<Response<'_>> {
    if der.len() > RESPONSE_OCTETS_MAX {
        return None;
    }
    let mut all = Elements::new(der);
    let mut parts = all.enter(SEQUENCE)?;
    if !all.is_empty() {
        return None;
    }
    let mut status = parts.enter(SEQUENCE)?;
    let [number] = *status.read(INTEGER)?.body else { return None };
    match number {
        // granted, grantedWithMods
        0 | 1 => parts.read(SEQUENCE).map(|token| Response::Granted(token.whole)),
        _ => {
            let texts = status.enter(SEQUENCE).into_iter().flatten();
            let texts = texts.filter(|text| text.tag == UTF8_STRING);
            let said: Vec<_> = texts.map(|text| String::from_utf8_lossy(text.body)).collect();
            let said = said.join(" ").chars().take(SAID_CHARACTERS_MAX).collect();
            Some(Response::Refused(number, said))
        }
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Info<'a> {
    /// The object identifier of the digest.
    pub(crate) digest: &'a [u8],
    /// The value that it stamps.
    pub(crate) imprint: &'a [u8],
    /// When.
    pub(crate) time: Timestamp,
    /// What the request had, to tell this answer from one of another day.
    pub(crate) nonce: Option<&'a [u8]>,
}

/// Reads a `TSTInfo`, RFC 3161 §2.4.2; nothing when it is none.
pub(crate) fn info(der: &[u8]) -> Option<Info<'_>> {
    let mut all = Elements::new(der);
    let mut parts = all.enter(SEQUENCE)?;
    if !all.is_empty() || parts.next()?.whole != VERSION {
        return None;
    }
    let _policy = parts.read(OBJECT_IDENTIFIER)?;
    let mut imprint = parts.enter(SEQUENCE)?;
    let digest = imprint.enter(SEQUENCE)?.read(OBJECT_IDENTIFIER)?.body;
    let imprint = imprint.read(OCTET_STRING)?.body;
    let _serial = parts.read(INTEGER)?;
    let time = time(parts.read(GENERALIZED_TIME)?.body)?;
    let _accuracy = parts.read(SEQUENCE);
    let _ordering = parts.read(BOOLEAN);
    let nonce = parts.read(INTEGER).map(|nonce| nonce.body);
    Some(Info { digest, imprint, time, nonce })
}

/// `YYYYMMDDhhmmss[.s...]Z`, in UTC: RFC 3161 §2.4.2.
fn time(octets: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(octets).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() != 14 || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", whole).ok()?;
    let nanoseconds: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds = jiff::SignedDuration::from_nanos(nanoseconds.parse().ok()?);
    TimeZone::UTC.to_timestamp(civil).ok()?.checked_add(nanoseconds).ok()
}

/// Writes a `TSTInfo` under this policy, an OBJECT IDENTIFIER whole.
pub(crate) fn write_info(
    policy: &[u8],
    imprint: &[u8; 32],
    serial: &[u8],
    at: Timestamp,
) -> Vec<u8> {
    let imprint = element(SEQUENCE, &[SHA256, &element(OCTET_STRING, &[imprint])]);
    let time = at.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%SZ").to_string();
    let time = element(GENERALIZED_TIME, &[time.as_bytes()]);
    element(SEQUENCE, &[VERSION, policy, &imprint, &element(INTEGER, &[serial]), &time])
}

/// The first certificate's hash in an attribute that names the signer's: the object identifier of its
/// digest, none where that is SHA-1 (RFC 2634 §5.4), and its value. RFC 5816 §2.2.1.
pub(crate) fn signing_certificate<'a>(attribute: &'a [u8]) -> Option<(Option<&'a [u8]>, &'a [u8])> {
    let mut parts = Elements::new(attribute).enter(SEQUENCE)?;
    let version = parts.read(OBJECT_IDENTIFIER)?.whole;
    let first = |parts: &mut Elements<'a>| {
        parts.enter(crate::der::SET)?.enter(SEQUENCE)?.enter(SEQUENCE)?.enter(SEQUENCE)
    };
    if version == SIGNING_CERTIFICATE_V2 {
        let mut one = first(&mut parts)?;
        // Left out where it is SHA-256.
        let digest = match one.enter(SEQUENCE) {
            Some(mut algorithm) => algorithm.read(OBJECT_IDENTIFIER)?.body,
            None => SHA256_OID,
        };
        return Some((Some(digest), one.read(OCTET_STRING)?.body));
    }
    if version == SIGNING_CERTIFICATE {
        return Some((None, first(&mut parts)?.read(OCTET_STRING)?.body));
    }
    None
}

/// id-aa-signingCertificate, RFC 2634 §5.4.
const SIGNING_CERTIFICATE: &[u8] = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x0c";
/// id-aa-signingCertificateV2, RFC 5035 §3.
pub(crate) const SIGNING_CERTIFICATE_V2: &[u8] =
    b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x2f";

/// The value of that attribute for a certificate with this SHA-256 value.
pub(crate) fn write_signing_certificate(hash: &[u8; 32]) -> Vec<u8> {
    let one = element(SEQUENCE, &[&element(OCTET_STRING, &[hash])]);
    element(SEQUENCE, &[&element(SEQUENCE, &[&one])])
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &[u8] = b"\x06\x03\x2a\x03\x04";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_token_says_is_read_as_it_was_written() {
        let time = at("2026-11-27T00:00:03Z");
        let der = write_info(POLICY, &[7; 32], &[5], time);
        let read = info(&der).unwrap();
        let expected = Info { digest: SHA256_OID, imprint: &[7; 32], time, nonce: None };
        assert_eq!(read, expected);
        let optional =
            [element(SEQUENCE, &[&element(INTEGER, &[&[1]])]), TRUE.to_vec(), vec![2, 1, 9]];
        let mut body = Elements::new(&der).next().unwrap().body.to_vec();
        optional.iter().for_each(|more| body.extend(more));
        assert_eq!(info(&element(SEQUENCE, &[&body])).unwrap().nonce, Some(&[9][..]));
        assert_eq!(info(&[&der[..], b"\0"].concat()), None);
        for length in 0..der.len() {
            assert_eq!(info(&der[..length]), None, "{length} octets");
        }
    }

    #[test]
    fn times_have_fractions_and_are_utc() {
        for (text, expected) in [
            ("20261127000003Z", Some("2026-11-27T00:00:03Z")),
            ("20261127000003.25Z", Some("2026-11-27T00:00:03.25Z")),
            ("20261127000003.1234567891Z", Some("2026-11-27T00:00:03.123456789Z")),
            ("20261127000003", None),
            ("202611270000Z", None),
            ("20261327000003Z", None),
            ("20261127000003.1.2Z", None),
            ("20261127000003+0100", None),
            ("2026112700000xZ", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected.map(at), "{text}");
        }
    }

    #[test]
    fn a_response_grants_or_says_why_not() {
        let status =
            |number: u8, rest: &[u8]| element(SEQUENCE, &[&element(INTEGER, &[&[number]]), rest]);
        let token = element(SEQUENCE, &[b"\x05\x00"]);
        for number in [0, 1] {
            let der = element(SEQUENCE, &[&status(number, b""), &token]);
            assert_eq!(response(&der), Some(Response::Granted(&token)));
            assert_eq!(response(&element(SEQUENCE, &[&status(number, b"")])), None);
        }
        let text = element(UTF8_STRING, &["no\u{e8}".repeat(SAID_CHARACTERS_MAX).as_bytes()]);
        let der = element(SEQUENCE, &[&status(2, &element(SEQUENCE, &[&text]))]);
        let Some(Response::Refused(2, said)) = response(&der) else { panic!("refused") };
        assert_eq!(said.chars().count(), SAID_CHARACTERS_MAX);
        let der = element(SEQUENCE, &[&status(5, b"")]);
        assert_eq!(response(&der), Some(Response::Refused(5, String::new())));
        for none in [&b""[..], b"\x30\x00", b"<html>", &token] {
            assert_eq!(response(none), None);
        }
        // One octet past the bound.
        let fill = |octets: usize| element(SEQUENCE, &[&status(2, b""), &vec![0; octets]]);
        let fits = RESPONSE_OCTETS_MAX - fill(60_000).len() + 60_000;
        assert!(response(&fill(fits)).is_some() && response(&fill(fits + 1)).is_none());
    }
}
