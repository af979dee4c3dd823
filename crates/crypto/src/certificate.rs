//! Certificates and revocation lists, as they are read.
//!
//! RFC 5280. Nothing here asks for the profile of the rules (PEC-CRT-10): a certificate that
//! departs from it is read like any other. Trust in what is read is [`Trust`](crate::Trust)'s.

use std::sync::Arc;

use jiff::Timestamp;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::sign::Verifier;
use openssl::x509::{CrlStatus, X509, X509Crl, X509NameRef};

/// More than any certificate that was seen (about 2 KiB), less than it takes to be a burden.
pub const CERTIFICATE_OCTETS_MAX: usize = 64 * 1024;
/// A list of the largest authorities has some megaoctets; OpenSSL holds several times as much.
pub const CRL_OCTETS_MAX: usize = 16 * 1024 * 1024;

/// Why octets are no certificate, or no revocation list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not the structure, or not in DER, or with something after it.
    #[error("not a certificate or revocation list: {0}")]
    Malformed(String),
    /// Past [`CERTIFICATE_OCTETS_MAX`] or [`CRL_OCTETS_MAX`].
    #[error("larger than any certificate or revocation list may be")]
    TooLarge,
    /// The PEM holds no certificate at all.
    #[error("no certificate in the PEM")]
    None,
}

impl From<ErrorStack> for CertificateError {
    fn from(errors: ErrorStack) -> Self {
        Self::Malformed(errors.to_string())
    }
}

/// An X.509 certificate. Two are equal when their DER is, octet for octet (PEC-PR-02).
#[derive(Clone)]
pub struct Certificate {
    x509: X509,
    der: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({}, sha1 {})", self.subject(), self.sha1())
    }
}

impl Certificate {
    /// From DER: exactly one certificate, nothing after it.
    ///
    /// # Errors
    ///
    /// When it is anything else.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > CERTIFICATE_OCTETS_MAX {
            return Err(CertificateError::TooLarge);
        }
        let certificate = Self::from_x509(X509::from_der(der)?)?;
        if certificate.der != der {
            return Err(CertificateError::Malformed("not DER, or octets after it".into()));
        }
        Ok(certificate)
    }

    /// From PEM: the first certificate in it.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be read.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        Self::all_from_pem(pem)?.into_iter().next().ok_or(CertificateError::None)
    }

    /// Every certificate in a PEM file, in its order: a chain, or a set of authorities.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read. None at all is an empty list and no error.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, CertificateError> {
        X509::stack_from_pem(pem)?.into_iter().map(Self::from_x509).collect()
    }

    pub(crate) fn from_x509(x509: X509) -> Result<Self, CertificateError> {
        let der = x509.to_der()?;
        let not_before = timestamp(x509.not_before())?;
        let not_after = timestamp(x509.not_after())?;
        Ok(Self { x509, der, not_before, not_after })
    }

    pub(crate) fn x509(&self) -> &X509 {
        &self.x509
    }

    /// The certificate's octets.
    #[must_use]
    pub fn to_der(&self) -> &[u8] {
        &self.der
    }

    /// In PEM, to be written into a file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// The whole subject, for logs: `C=IT, O=Alfa PEC S.p.A., CN=Posta Certificata`.
    #[must_use]
    pub fn subject(&self) -> String {
        name(self.x509.subject_name())
    }

    /// The issuer, for logs, in the same form.
    #[must_use]
    pub fn issuer(&self) -> String {
        name(self.x509.issuer_name())
    }

    /// The subject's CommonName.
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        self.subject_entry(Nid::COMMONNAME)
    }

    /// The subject's OrganizationName: where PEC-CRT-01 lets the provider's name be.
    #[must_use]
    pub fn organisation(&self) -> Option<String> {
        self.subject_entry(Nid::ORGANIZATIONNAME)
    }

    fn subject_entry(&self, nid: Nid) -> Option<String> {
        let entry = self.x509.subject_name().entries_by_nid(nid).next()?;
        entry.data().to_string().ok()
    }

    /// The addresses the certificate speaks for: each rfc822Name of its subjectAltName, as
    /// written. The one of the subject, where old certificates had it, does not count.
    #[must_use]
    pub fn emails(&self) -> Vec<String> {
        let Some(names) = self.x509.subject_alt_names() else { return Vec::new() };
        names.iter().filter_map(|name| name.email()).map(str::to_owned).collect()
    }

    /// Where revocation lists of its issuer are: each URI of its distribution points, as written.
    #[must_use]
    pub fn crl_urls(&self) -> Vec<String> {
        let Some(points) = self.x509.crl_distribution_points() else { return Vec::new() };
        let names = points.iter().filter_map(|point| point.distpoint()?.fullname());
        names
            .flat_map(|names| {
                names.iter().filter_map(|name| name.uri().map(str::to_owned)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// SHA-1 of the DER in 40 lower-case hexadecimal digits: the key of the index of providers
    /// (PEC-PR-02). Only a key: compare the certificates themselves after.
    #[must_use]
    pub fn sha1(&self) -> String {
        hex(&openssl::sha::sha1(&self.der))
    }

    /// The first instant of its validity.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The instant at which its validity ends.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The serial number, most significant octet first: what [`Authority::crl`] takes.
    ///
    /// [`Authority::crl`]: crate::Authority::crl
    ///
    /// # Errors
    ///
    /// Only when the cryptographic library fails.
    pub fn serial(&self) -> Result<Vec<u8>, CertificateError> {
        Ok(self.x509.serial_number().to_bn()?.to_vec())
    }

    /// The public key, as a SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// When the certificate holds a key that the library does not know.
    pub fn public_key_der(&self) -> Result<Vec<u8>, CertificateError> {
        Ok(self.x509.public_key()?.public_key_to_der()?)
    }

    /// Whether this SubjectPublicKeyInfo is of this certificate's key.
    #[must_use]
    pub fn has_public_key(&self, spki_der: &[u8]) -> bool {
        self.public_key_der().is_ok_and(|own| own == spki_der)
    }

    /// Whether a [`Signer`](crate::Signer) made `signature` over `octets` with this certificate's
    /// key: asked at start, so that a key is never used with another key's certificate.
    #[must_use]
    pub fn has_signed(&self, octets: &[u8], signature: &[u8]) -> bool {
        let verified = self.x509.public_key().and_then(|key| {
            Verifier::new(MessageDigest::sha256(), &key)?.verify_oneshot(signature, octets)
        });
        // A signature that is not even one is an error there, and a plain no here.
        verified.unwrap_or(false)
    }
}

/// A certificate revocation list, RFC 5280 §5.
#[derive(Clone)]
pub struct Crl {
    x509: Arc<X509Crl>,
    der: Vec<u8>,
    this_update: Timestamp,
    next_update: Option<Timestamp>,
}

impl std::fmt::Debug for Crl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crl({}, {})", self.issuer(), self.this_update)
    }
}

impl Crl {
    /// From PEM or DER, whichever it is: distribution points serve both.
    ///
    /// # Errors
    ///
    /// When it is neither, or past [`CRL_OCTETS_MAX`].
    pub fn read(octets: &[u8]) -> Result<Self, CertificateError> {
        if octets.len() > CRL_OCTETS_MAX {
            return Err(CertificateError::TooLarge);
        }
        let x509 = if octets.first() == Some(&crate::der::SEQUENCE) {
            X509Crl::from_der(octets)?
        } else {
            X509Crl::from_pem(octets)?
        };
        Self::from_x509(x509)
    }

    pub(crate) fn from_x509(x509: X509Crl) -> Result<Self, CertificateError> {
        let der = x509.to_der()?;
        let this_update = timestamp(x509.last_update())?;
        let next_update = x509.next_update().map(timestamp).transpose()?;
        Ok(Self { x509: Arc::new(x509), der, this_update, next_update })
    }

    pub(crate) fn x509(&self) -> &X509Crl {
        &self.x509
    }

    /// The list's octets.
    #[must_use]
    pub fn to_der(&self) -> &[u8] {
        &self.der
    }

    /// In PEM, to be written into a file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem("X509 CRL", &self.der)
    }

    /// The issuer, for logs.
    #[must_use]
    pub fn issuer(&self) -> String {
        name(self.x509.issuer_name())
    }

    /// When the list was made.
    #[must_use]
    pub const fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// When there will be a newer list, and this one says nothing any more (PEC-PR-04): fetch
    /// again well before.
    #[must_use]
    pub const fn next_update(&self) -> Option<Timestamp> {
        self.next_update
    }

    /// Whether this list is by the issuer of `certificate`.
    pub(crate) fn is_for(&self, certificate: &X509) -> bool {
        same_name(self.x509.issuer_name(), certificate.issuer_name())
    }

    /// Since when `certificate` is revoked, if it is in the list.
    pub(crate) fn revoked(
        &self,
        certificate: &X509,
    ) -> Result<Option<Timestamp>, CertificateError> {
        match self.x509.get_by_cert(certificate) {
            CrlStatus::Revoked(entry) => timestamp(entry.revocation_date()).map(Some),
            CrlStatus::NotRevoked | CrlStatus::RemoveFromCrl(_) => Ok(None),
        }
    }
}

pub(crate) fn same_name(one: &X509NameRef, other: &X509NameRef) -> bool {
    one.try_cmp(other).is_ok_and(std::cmp::Ordering::is_eq)
}

/// An ASN.1 time in ours. One past the year 9999 minus two days, as "without end" is written
/// (RFC 5280 §4.1.2.5), becomes the last instant there is.
fn timestamp(time: &Asn1TimeRef) -> Result<Timestamp, CertificateError> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
    Ok(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}

pub(crate) fn asn1_integer(octets: &[u8]) -> Result<openssl::asn1::Asn1Integer, ErrorStack> {
    BigNum::from_slice(octets)?.to_asn1_integer()
}

fn name(name: &X509NameRef) -> String {
    let mut text = String::new();
    for entry in name.entries() {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(entry.object().nid().short_name().unwrap_or("OID"));
        text.push('=');
        match entry.data().to_string() {
            // A name is printed in logs: what would break a line, or hide in it, is not.
            Ok(value) => text.extend(value.chars().map(|c| if c.is_control() { '?' } else { c })),
            Err(_) => text.push('?'),
        }
    }
    text
}

pub(crate) fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    octets
        .iter()
        .flat_map(|octet| [octet >> 4, octet & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// RFC 7468 §2: base64 in lines of 64.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem + &format!("\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::{CERTIFICATE_OCTETS_MAX, CRL_OCTETS_MAX, Certificate, CertificateError, Crl};

    const ALFA: &[u8] = include_bytes!("../../../certs/spec/alfa.pem");

    #[test]
    fn reads_what_the_rules_ask_about() {
        let alfa = Certificate::from_pem(ALFA).unwrap();
        assert_eq!(alfa.subject(), "C=IT, O=Alfa PEC S.p.A., CN=Posta Certificata");
        assert_eq!(alfa.issuer(), "C=IT, O=Ente Certificatore di Prova, CN=PEC Test CA");
        assert_eq!(alfa.common_name().unwrap(), "Posta Certificata");
        assert_eq!(alfa.organisation().unwrap(), "Alfa PEC S.p.A.");
        assert_eq!(alfa.emails(), ["posta-certificata@alfapec.example"]);
        assert_eq!(alfa.not_before().to_string(), "2020-01-01T00:00:00Z");
        assert_eq!(alfa.not_after().to_string(), "2059-12-31T00:00:00Z");
        assert_eq!(alfa.serial().unwrap(), [0x03, 0xE9]);
        assert_eq!(alfa.sha1().len(), 40);
        assert!(alfa.sha1().bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
    }

    #[test]
    fn is_equal_by_its_octets() {
        let alfa = Certificate::from_pem(ALFA).unwrap();
        assert_eq!(Certificate::from_der(alfa.to_der()).unwrap(), alfa);
        assert_eq!(Certificate::from_pem(alfa.to_pem().as_bytes()).unwrap(), alfa);
        let beta = Certificate::from_pem(include_bytes!("../../../certs/spec/beta.pem")).unwrap();
        assert_ne!(alfa, beta);
        assert!(alfa.has_public_key(&alfa.public_key_der().unwrap()));
        assert!(!alfa.has_public_key(&beta.public_key_der().unwrap()));
    }

    #[test]
    fn knows_what_its_own_key_signed() {
        use crate::{Authority, LocalSigner, Signer};
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority = Authority::new("Prova CA", at).unwrap();
        let (certificate, key) = authority.issue_provider("Alfa", "a@alfa.example", at).unwrap();
        let signature = LocalSigner::from_pem(key.as_bytes()).unwrap().sign(b"octets").unwrap();
        assert!(certificate.has_signed(b"octets", &signature));
        assert!(!certificate.has_signed(b"other octets", &signature));
        assert!(!certificate.has_signed(b"octets", b"no signature"));
        assert!(!authority.certificate().has_signed(b"octets", &signature));
    }

    #[test]
    fn refuses_what_is_no_certificate() {
        let mut der = Certificate::from_pem(ALFA).unwrap().to_der().to_vec();
        der.push(0);
        let malformed = |octets: &[u8]| {
            matches!(Certificate::from_der(octets), Err(CertificateError::Malformed(_)))
        };
        assert!(malformed(&der) && malformed(b"") && malformed(b"\x30\x80\x00\x00"));
        assert_eq!(Certificate::from_pem(b"no PEM").unwrap_err(), CertificateError::None);
        assert_eq!(Certificate::all_from_pem(b"").unwrap(), []);
        let large = vec![0x30; CERTIFICATE_OCTETS_MAX + 1];
        assert_eq!(Certificate::from_der(&large).unwrap_err(), CertificateError::TooLarge);
    }

    #[test]
    fn reads_a_list_in_either_form() {
        let pem = include_bytes!("../../../certs/spec/test-ca.crl.pem");
        let list = Crl::read(pem).unwrap();
        assert_eq!(list.issuer(), "C=IT, O=Ente Certificatore di Prova, CN=PEC Test CA");
        assert_eq!(list.this_update().to_string(), "2020-01-01T00:00:00Z");
        assert_eq!(list.next_update().unwrap().to_string(), "2059-12-31T00:00:00Z");
        assert_eq!(Crl::read(list.to_der()).unwrap().to_pem(), list.to_pem());
        assert!(Crl::read(b"").is_err() && Crl::read(b"\x30\x00").is_err());
        let large = vec![0x30; CRL_OCTETS_MAX + 1];
        assert_eq!(Crl::read(&large).unwrap_err(), CertificateError::TooLarge);
    }
}
