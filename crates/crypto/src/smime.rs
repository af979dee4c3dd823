//! CMS signatures made: detached, over exactly the octets given.
//!
//! RFC 5652 §5, RFC 5754 §2–3 (SHA-256 and RSA), RFC 5751 §2.5 (which attributes). What is not
//! here: the MIME part around a signature and its base64 (`pec` writes that), and the key (a
//! [`Signer`] has it). A server signs some four times for each message, so all that does not
//! change from one signature to the next is encoded once, in [`Identity::new`].

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::certificate::Certificate;
use crate::der::{
    CONTEXT_0, Elements, GENERALIZED_TIME, INTEGER, OCTET_STRING, SEQUENCE, SET, UTC_TIME, element,
};
use crate::signer::{SignError, Signer};

/// `AlgorithmIdentifier` of SHA-256, parameters absent: RFC 5754 §2.
const SHA256: &[u8] = b"\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";
/// `AlgorithmIdentifier` of rsaEncryption, parameters NULL: RFC 3370 §3.2, RFC 5754 §3.2.
const RSA_ENCRYPTION: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// id-signedData, RFC 5652 §5.1.
const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
/// id-data, RFC 5652 §4.
pub(crate) const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
/// id-contentType, RFC 5652 §11.1.
const CONTENT_TYPE: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03";
/// id-messageDigest, RFC 5652 §11.2.
const MESSAGE_DIGEST: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04";
/// id-signingTime, RFC 5652 §11.3.
pub(crate) const SIGNING_TIME: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x05";
/// `version` 3: what is enclosed is not plain data, RFC 5652 §5.1.
const VERSION_3: &[u8] = b"\x02\x01\x03";
/// `version` 1: the signer is named by issuer and serial number, RFC 5652 §5.1, §5.3.
const VERSION_1: &[u8] = b"\x02\x01\x01";

/// With which certificate a provider signs, and what it sends along. The key is elsewhere.
#[derive(Debug, Clone)]
pub struct Identity {
    certificate: Certificate,
    chain: Vec<Certificate>,
    /// `version`, `digestAlgorithms`, `encapContentInfo`, `certificates`.
    head: Vec<u8>,
    /// The last of these alone.
    certificates: Vec<u8>,
    /// `version`, `sid`, `digestAlgorithm` of the SignerInfo.
    signer: Vec<u8>,
    content_type: Vec<u8>,
}

impl Identity {
    /// Signs as `certificate`, and includes it and `chain` (the authority that issued it, and so
    /// on upwards) in each signature: PEC-SIG-03.
    ///
    /// # Errors
    ///
    /// [`SignError::NotRsa`] when the certificate's key cannot make the signatures of PEC-SIG-07.
    pub fn new(certificate: Certificate, chain: Vec<Certificate>) -> Result<Self, SignError> {
        if certificate.x509().public_key()?.id() != openssl::pkey::Id::RSA {
            return Err(SignError::NotRsa);
        }
        let sid = issuer_and_serial(certificate.to_der()).ok_or(SignError::Certificate)?;
        // A SET OF is sorted by its encodings in DER, X.690 §11.6; no certificate twice.
        let mut certificates: Vec<_> =
            std::iter::once(&certificate).chain(&chain).map(Certificate::to_der).collect();
        certificates.sort_unstable();
        certificates.dedup();
        let certificates = element(CONTEXT_0, &certificates);
        let head =
            [VERSION_1, &element(SET, &[SHA256]), &element(SEQUENCE, &[DATA]), &certificates]
                .concat();
        let signer = [VERSION_1, &sid, SHA256].concat();
        let content_type = attribute(CONTENT_TYPE, DATA);
        Ok(Self { certificate, chain, head, certificates, signer, content_type })
    }

    /// The certificate that signatures name.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What is sent along with it.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// Signs `content`, as it is: no octet is changed, added or left out on the way to the digest
    /// (PEC-SIG-08). The answer is a whole ContentInfo in DER, what a `smime.p7s` part holds.
    ///
    /// What comes back is verified before it is handed on, which costs a fortieth of making it: no
    /// signature leaves that its reader would refuse.
    ///
    /// # Errors
    ///
    /// As `signer` gives them; [`SignError::OtherKey`] when its key is not the certificate's.
    pub fn sign(
        &self,
        signer: &dyn Signer,
        content: &[u8],
        at: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        let digest = openssl::sha::sha256(content);
        // In the order of their encodings, as DER wants it in a SET OF: they differ first in
        // their lengths, and contentType is the shortest, messageDigest the longest.
        let attributes = [
            self.content_type.as_slice(),
            &attribute(SIGNING_TIME, &signing_time(at)),
            &attribute(MESSAGE_DIGEST, &element(OCTET_STRING, &[&digest])),
        ];
        self.finish(signer, &self.head, &attributes)
    }

    /// Signs `content` and encloses it, as content of this type (an OBJECT IDENTIFIER in DER) and
    /// with these attributes beside the usual ones: what a time stamp is.
    ///
    /// # Errors
    ///
    /// As [`sign`](Self::sign).
    pub(crate) fn sign_enclosed(
        &self,
        signer: &dyn Signer,
        (content_type, content): (&[u8], &[u8]),
        more: &[Vec<u8>],
        at: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        let digest = openssl::sha::sha256(content);
        let own = [
            attribute(CONTENT_TYPE, content_type),
            attribute(SIGNING_TIME, &signing_time(at)),
            attribute(MESSAGE_DIGEST, &element(OCTET_STRING, &[&digest])),
        ];
        let mut attributes: Vec<_> = own.iter().chain(more).map(Vec::as_slice).collect();
        attributes.sort_unstable();
        let enclosed = element(CONTEXT_0, &[&element(OCTET_STRING, &[content])]);
        let head = [
            VERSION_3,
            &element(SET, &[SHA256]),
            &element(SEQUENCE, &[content_type, &enclosed]),
            &self.certificates,
        ]
        .concat();
        self.finish(signer, &head, &attributes)
    }

    fn finish(
        &self,
        signer: &dyn Signer,
        head: &[u8],
        attributes: &[&[u8]],
    ) -> Result<Vec<u8>, SignError> {
        // Signed with the tag of a SET, sent with that of [0]: RFC 5652 §5.4.
        let signed = element(SET, attributes);
        let signature = signer.sign(&signed)?;
        if !self.certificate.has_signed(&signed, &signature) {
            return Err(SignError::OtherKey);
        }
        let signer_info = element(
            SEQUENCE,
            &[
                &self.signer,
                &element(CONTEXT_0, attributes),
                RSA_ENCRYPTION,
                &element(OCTET_STRING, &[&signature]),
            ],
        );
        let signed_data = element(SEQUENCE, &[head, &element(SET, &[&signer_info])]);
        Ok(element(SEQUENCE, &[SIGNED_DATA, &element(CONTEXT_0, &[&signed_data])]))
    }
}

pub(crate) fn attribute(kind: &[u8], value: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[kind, &element(SET, &[value])])
}

/// UTCTime through 2049, GeneralizedTime after (and before 1950): RFC 5652 §11.3.
fn signing_time(at: Timestamp) -> Vec<u8> {
    let utc = at.to_zoned(TimeZone::UTC);
    let (tag, digits) = match utc.year() {
        1950..=2049 => (UTC_TIME, "%y%m%d%H%M%SZ"),
        _ => (GENERALIZED_TIME, "%Y%m%d%H%M%SZ"),
    };
    element(tag, &[utc.strftime(digits).to_string().as_bytes()])
}

/// `IssuerAndSerialNumber`, RFC 5652 §10.2.4, cut out of a certificate as it stands there.
fn issuer_and_serial(certificate: &[u8]) -> Option<Vec<u8>> {
    let mut tbs = Elements::new(certificate).enter(SEQUENCE)?.enter(SEQUENCE)?;
    let _version = tbs.read(CONTEXT_0);
    let serial = tbs.read(INTEGER)?;
    let _algorithm = tbs.read(SEQUENCE)?;
    let issuer = tbs.read(SEQUENCE)?;
    Some(element(SEQUENCE, &[issuer.whole, serial.whole]))
}

/// What the structure says of its one signer, read from DER that OpenSSL wrote.
pub(crate) struct Layout<'a> {
    /// How many signers there are.
    pub(crate) signers: usize,
    /// The certificates that came along, each as DER.
    pub(crate) certificates: Vec<&'a [u8]>,
    /// The type of what is signed: an OBJECT IDENTIFIER, whole.
    pub(crate) content_type: &'a [u8],
    /// The first signer's signed attributes, each whole.
    pub(crate) attributes: Vec<&'a [u8]>,
    /// The object identifier of the first signer's digest.
    pub(crate) digest: &'a [u8],
    /// The first signer's claim of when it signed.
    pub(crate) signing_time: Option<Timestamp>,
}

impl<'a> Layout<'a> {
    /// Nothing when `der` is no SignedData.
    pub(crate) fn read(der: &'a [u8]) -> Option<Self> {
        let mut info = Elements::new(der).enter(SEQUENCE)?;
        if info.next()?.whole != SIGNED_DATA {
            return None;
        }
        let mut data = info.enter(CONTEXT_0)?.enter(SEQUENCE)?;
        data.read(INTEGER)?;
        data.read(SET)?;
        let content_type = data.enter(SEQUENCE)?.next()?.whole;
        let certificates = match data.enter(CONTEXT_0) {
            Some(all) => all.filter(|one| one.tag == SEQUENCE).map(|one| one.whole).collect(),
            None => Vec::new(),
        };
        let _crls = data.read(CONTEXT_0 | 1);
        let mut infos = data.enter(SET)?;
        let signers = infos.clone().count();
        let mut layout = Self {
            signers,
            certificates,
            content_type,
            attributes: Vec::new(),
            digest: &[],
            signing_time: None,
        };
        if let Some(mut info) = infos.enter(SEQUENCE) {
            info.read(INTEGER)?;
            info.next()?; // sid
            layout.digest = info.enter(SEQUENCE)?.next()?.body;
            if let Some(attributes) = info.enter(CONTEXT_0) {
                layout.signing_time = attributes.clone().find_map(|one| time_of(one.body));
                layout.attributes = attributes.map(|one| one.whole).collect();
            }
        }
        Some(layout)
    }
}

/// The time in an attribute, if it is the attribute of the signing time.
fn time_of(attribute: &[u8]) -> Option<Timestamp> {
    let mut parts = Elements::new(attribute);
    if parts.next()?.whole != SIGNING_TIME {
        return None;
    }
    let value = parts.enter(SET)?.next()?;
    let digits = std::str::from_utf8(value.body).ok()?;
    let digits = match value.tag {
        // RFC 5280 §4.1.2.5.1: below 50 is of this century.
        UTC_TIME if digits.get(..2)? < "50" => format!("20{digits}"),
        UTC_TIME => format!("19{digits}"),
        GENERALIZED_TIME => digits.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", digits).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Elements, Identity, Layout, signing_time};
    use crate::der::{CONTEXT_0, INTEGER, SEQUENCE, SET};
    use crate::testing::{A, A_KEY, CA, at, certificate, identity, openssl, signer, today, trust};
    use crate::{SignError, Signer, verify};

    #[test]
    fn another_key_than_the_certificates_signs_nothing() {
        let other = include_bytes!("../../../certs/provider-b.key");
        let refused = identity(A).sign(&signer(other), b"prova", today()).unwrap_err();
        assert_eq!(refused, SignError::OtherKey);
    }

    #[test]
    fn openssl_verifies_what_is_signed() {
        let content = b"Content-Type: text/plain\r\n\r\nprova\r\n";
        let cms = identity(A).sign(&signer(A_KEY), content, today()).unwrap();
        let files = [("ca.pem", CA), ("cms", &cms), ("content", content)]
            .map(|(name, octets)| (name, octets.to_vec()));
        let time = today().as_second().to_string();
        let fixed = "-verify -binary -inform DER -in cms -content content -CAfile ca.pem \
                     -purpose smimesign -out out -attime";
        for command in ["cms", "smime"] {
            let mut arguments = vec![command];
            arguments.extend(fixed.split_whitespace());
            arguments.push(&time);
            assert_eq!(openssl(&files, &arguments).unwrap(), content, "{command}");
        }
        let mut files = files;
        files[2].1[0] = b'c';
        let mut arguments = vec!["cms"];
        arguments.extend(fixed.split_whitespace());
        arguments.push(&time);
        assert!(openssl(&files, &arguments).unwrap_err().contains("verification failure"));
    }

    #[test]
    fn the_structure_is_what_providers_send() {
        let cms = identity(A).sign(&signer(A_KEY), b"content", today()).unwrap();
        let layout = Layout::read(&cms).unwrap();
        // PEC-SIG-03: the signer's certificate is included; and its authority's.
        assert_eq!(layout.certificates.len(), 2);
        for pem in [A, CA] {
            assert!(layout.certificates.contains(&certificate(pem).to_der()));
        }
        assert_eq!((layout.signers, layout.signing_time), (1, Some(today())));
        let mut data = Elements::new(&cms).enter(SEQUENCE).unwrap();
        data.next();
        let mut data = data.enter(CONTEXT_0).unwrap().enter(SEQUENCE).unwrap();
        assert_eq!(data.read(INTEGER).unwrap().body, [1]);
        data.read(SET).unwrap();
        // Detached: the content is named and not enclosed.
        assert_eq!(data.enter(SEQUENCE).unwrap().count(), 1);
        // PEC-SIG-07: SHA-256, RSA PKCS#1 v1.5.
        assert_eq!(layout.digest, &super::SHA256[4..]);
        data.read(CONTEXT_0).unwrap();
        let mut info = data.enter(SET).unwrap().enter(SEQUENCE).unwrap();
        assert_eq!(info.read(INTEGER).unwrap().body, [1]);
        let rest: Vec<_> = info.collect();
        assert_eq!(rest[3].whole, super::RSA_ENCRYPTION);
        assert_eq!(rest[4].body.len(), 3072 / 8);
    }

    #[test]
    fn it_is_der_to_the_last_octet() {
        // What OpenSSL reads and writes again is the same: lengths, and the order in each SET.
        for time in [today(), at("2049-12-31T23:59:59Z"), at("2050-01-01T00:00:00Z")] {
            let cms = identity(A).sign(&signer(A_KEY), b"content", time).unwrap();
            let read = openssl::cms::CmsContentInfo::from_der(&cms).unwrap();
            assert_eq!(read.to_der().unwrap(), cms);
            assert_eq!(Layout::read(&cms).unwrap().signing_time, Some(time));
        }
    }

    #[test]
    fn every_octet_counts_and_none_is_changed() {
        let every: Vec<u8> = (0..=255).collect();
        let (identity, signer, trust) = (identity(A), signer(A_KEY), trust());
        for content in [&b""[..], b"\n", b"\r", b"\r\n", b"a\nb\r\nc\r", b"no end", &every] {
            let cms = identity.sign(&signer, content, today()).unwrap();
            assert!(verify(&cms, content, &trust, today()).is_ok(), "{content:?}");
            let more = [content, b"\n"].concat();
            assert!(verify(&cms, &more, &trust, today()).is_err(), "{content:?}");
        }
    }

    #[test]
    fn the_signing_time_is_written_as_its_year_asks() {
        for (time, written) in [
            ("2026-03-02T09:00:07.9Z", &b"\x17\x0d260302090007Z"[..]),
            ("2049-12-31T23:59:59Z", b"\x17\x0d491231235959Z"),
            ("2050-01-01T00:00:00Z", b"\x18\x0f20500101000000Z"),
            ("1949-12-31T23:59:59Z", b"\x18\x0f19491231235959Z"),
        ] {
            assert_eq!(signing_time(at(time)), written);
        }
    }

    #[test]
    fn a_signer_that_fails_is_heard_and_an_elliptic_key_is_refused() {
        struct Silent;
        impl Signer for Silent {
            fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
                Err(SignError::Unavailable("no answer".into()))
            }
        }
        let refused = identity(A).sign(&Silent, b"content", Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(refused, SignError::Unavailable("no answer".into()));
        let elliptic = certificate(include_bytes!("../../../certs/tls.pem"));
        assert_eq!(Identity::new(elliptic, Vec::new()).unwrap_err(), SignError::NotRsa);
    }
}
