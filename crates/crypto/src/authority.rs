//! Certificates and revocation lists, made: a small authority for installations that have none.
//!
//! The certificates with which providers sign come from the authority of the rules (PEC-SIG-12).
//! This one makes certificates of the same form for development and tests, and for a closed
//! circuit. What it issues to a provider keeps the whole profile, PEC-CRT-01 to PEC-CRT-09;
//! RFC 5280 §4.2, §5.

use std::net::IpAddr;

use jiff::{Span, Timestamp};
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, CrlNumber, ExtendedKeyUsage, KeyUsage,
    SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{
    X509, X509Builder, X509CrlBuilder, X509Extension, X509Name, X509NameRef, X509RevokedBuilder,
};

use crate::certificate::{Certificate, CertificateError, Crl, asn1_integer};
use crate::der::{CONTEXT_0, SEQUENCE, URI, element};
use crate::random::random;

/// Keys of authorities and providers, in bits: enough for signatures that must last ten years.
const RSA_BITS: u32 = 3072;
/// An authority outlives what it issues: twenty years.
const AUTHORITY_DAYS: u32 = 20 * 365 + 5;
/// What an authority issues lasts three years, unless it is told otherwise.
const ISSUED_DAYS: u32 = 3 * 365;

/// Why a certificate was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The key is not an unencrypted PKCS#8 key, or not the certificate's.
    #[error("the authority's key cannot be read, or is not that of its certificate")]
    Key,
    /// A mail address or host name that is not ASCII, or empty.
    #[error("not a name that a certificate can hold: {0:?}")]
    Name(String),
    /// The validity would end after the last instant there is.
    #[error("the validity does not fit in time")]
    Time,
    /// A certificate that cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The cryptographic library refused, for example a name of more than 64 characters.
    #[error("the cryptographic library failed: {0}")]
    Fault(String),
}

impl From<ErrorStack> for AuthorityError {
    fn from(errors: ErrorStack) -> Self {
        Self::Fault(errors.to_string())
    }
}

/// A private key, PKCS#8 in PEM. Prints as `[redacted]`.
#[derive(Clone)]
pub struct KeyPem(String);

impl KeyPem {
    fn of(key: &PKeyRef<Private>) -> Result<Self, AuthorityError> {
        let pem = key.private_key_to_pem_pkcs8()?;
        String::from_utf8(pem).map(Self).map_err(|_| AuthorityError::Key)
    }

    /// The key itself: into a file that only its owner reads, and nowhere else.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same as octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for KeyPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPem([redacted])")
    }
}

/// An authority: its certificate and its key.
pub struct Authority {
    certificate: Certificate,
    key: PKey<Private>,
    days: u32,
    crl_url: Option<String>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({:?}, [redacted])", self.certificate)
    }
}

impl Authority {
    /// A new authority with a new key, valid for twenty years from `at`: basicConstraints and
    /// keyUsage critical, as RFC 5280 §4.2.1.9 and §4.2.1.3 have it.
    ///
    /// # Errors
    ///
    /// When `name` does not fit (64 characters).
    pub fn new(name: &str, at: Timestamp) -> Result<Self, AuthorityError> {
        let key = PKey::from_rsa(Rsa::generate(RSA_BITS)?)?;
        let subject = subject(&[
            (Nid::COUNTRYNAME, "IT"),
            (Nid::ORGANIZATIONNAME, name),
            (Nid::COMMONNAME, name),
        ])?;
        let mut builder = builder(&subject, &subject, &key, at, AUTHORITY_DAYS)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
        builder.append_extension(identifier)?;
        builder.sign(&key, MessageDigest::sha256())?;
        let certificate = Certificate::from_x509(builder.build())?;
        Ok(Self { certificate, key, days: ISSUED_DAYS, crl_url: None })
    }

    /// The authority whose certificate and key (PKCS#8, not encrypted) these are.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Key`] when the key is not the certificate's.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, AuthorityError> {
        let certificate = Certificate::from_pem(certificate)?;
        // A callback without an answer: otherwise OpenSSL asks the terminal for the pass phrase.
        let key =
            PKey::private_key_from_pem_callback(key, |_| Ok(0)).map_err(|_| AuthorityError::Key)?;
        if !certificate.has_public_key(&key.public_key_to_der()?) {
            return Err(AuthorityError::Key);
        }
        Ok(Self { certificate, key, days: ISSUED_DAYS, crl_url: None })
    }

    /// How many days all that is issued from now on lasts, lists included; three years otherwise.
    #[must_use]
    pub fn valid_for(mut self, days: u32) -> Self {
        self.days = days;
        self
    }

    /// Where the revocation list will be found: named in each certificate issued from now on.
    #[must_use]
    pub fn crl_at(mut self, url: &str) -> Self {
        self.crl_url = Some(url.to_owned());
        self
    }

    /// The authority's own certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Certificate and key in PEM, as [`from_pem`](Self::from_pem) takes them.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Fault`] only.
    pub fn to_pem(&self) -> Result<(String, KeyPem), AuthorityError> {
        Ok((self.certificate.to_pem(), KeyPem::of(&self.key)?))
    }

    /// A certificate for a provider's signatures, with a new RSA key: PEC-CRT-01 to PEC-CRT-09.
    ///
    /// `name` is the provider's, as in the index; `email` the address its messages come from
    /// (PEC-SIG-04).
    ///
    /// # Errors
    ///
    /// When `name` or `email` does not fit into a certificate.
    pub fn issue_provider(
        &self,
        name: &str,
        email: &str,
        at: Timestamp,
    ) -> Result<(Certificate, KeyPem), AuthorityError> {
        let key = PKey::from_rsa(Rsa::generate(RSA_BITS)?)?;
        Ok((self.provider(name, email, &key, at)?, KeyPem::of(&key)?))
    }

    /// The same for a key that is elsewhere, in a device for one, of which we have the
    /// SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// As [`issue_provider`](Self::issue_provider), and when `spki_der` is no RSA key.
    pub fn issue_provider_for(
        &self,
        name: &str,
        email: &str,
        spki_der: &[u8],
        at: Timestamp,
    ) -> Result<Certificate, AuthorityError> {
        let key = PKey::public_key_from_der(spki_der).map_err(|_| AuthorityError::Key)?;
        if key.id() != openssl::pkey::Id::RSA {
            return Err(AuthorityError::Key);
        }
        self.provider(name, email, &key, at)
    }

    fn provider<T: HasPublic>(
        &self,
        name: &str,
        email: &str,
        key: &PKeyRef<T>,
        at: Timestamp,
    ) -> Result<Certificate, AuthorityError> {
        let subject = subject(&[
            (Nid::COUNTRYNAME, "IT"),
            (Nid::ORGANIZATIONNAME, name),
            (Nid::COMMONNAME, "Posta Certificata"),
        ])?;
        let usage = KeyUsage::new().critical().digital_signature().build()?;
        let purpose = ExtendedKeyUsage::new().email_protection().build()?;
        let mut names = SubjectAlternativeName::new();
        names.email(ascii(email)?);
        self.issue(&subject, key, &[usage, purpose], &names, at)
    }

    /// A certificate for a TLS server of these names and addresses, with a new P-256 key:
    /// handshakes with it cost least.
    ///
    /// # Errors
    ///
    /// When there is neither a name nor an address, or a name is not ASCII.
    pub fn issue_tls(
        &self,
        names: &[&str],
        ips: &[IpAddr],
        at: Timestamp,
    ) -> Result<(Certificate, KeyPem), AuthorityError> {
        let key = PKey::ec_gen("P-256")?;
        let first = names.first().map(|name| (*name).to_owned());
        let first = first.or_else(|| ips.first().map(ToString::to_string));
        let first = first.ok_or_else(|| AuthorityError::Name(String::new()))?;
        let subject = subject(&[(Nid::COMMONNAME, &first)])?;
        let usage = KeyUsage::new().critical().digital_signature().build()?;
        let purpose = ExtendedKeyUsage::new().server_auth().build()?;
        let mut all = SubjectAlternativeName::new();
        for name in names {
            all.dns(ascii(name)?);
        }
        for ip in ips {
            all.ip(&ip.to_string());
        }
        let certificate = self.issue(&subject, &key, &[usage, purpose], &all, at)?;
        Ok((certificate, KeyPem::of(&key)?))
    }

    fn issue<T: HasPublic>(
        &self,
        subject: &X509NameRef,
        key: &PKeyRef<T>,
        extensions: &[X509Extension],
        names: &SubjectAlternativeName,
        at: Timestamp,
    ) -> Result<Certificate, AuthorityError> {
        let issuer = self.certificate.x509();
        let mut builder = builder(subject, issuer.subject_name(), key, at, self.days)?;
        for extension in extensions {
            builder.append_extension2(extension)?;
        }
        let identifiers = {
            let context = builder.x509v3_context(Some(issuer), None);
            [
                SubjectKeyIdentifier::new().build(&context)?,
                AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
                names.build(&context)?,
            ]
        };
        for extension in &identifiers {
            builder.append_extension2(extension)?;
        }
        if let Some(url) = &self.crl_url {
            builder.append_extension(distribution_point(ascii(url)?)?)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Certificate::from_x509(builder.build())?)
    }

    /// The list of the certificates revoked at `at`, by their [serial
    /// numbers](Certificate::serial): RFC 5280 §5. The list's number is its time.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Time`] when the list would end after the last instant there is.
    pub fn crl(&self, revoked: &[&[u8]], at: Timestamp) -> Result<Crl, AuthorityError> {
        let issuer = self.certificate.x509();
        let mut list = X509CrlBuilder::new()?;
        list.set_issuer_name(issuer.subject_name())?;
        let now = asn1_time(at)?;
        list.set_last_update(&now)?;
        let end = asn1_time(later(at, self.days)?)?;
        list.set_next_update(&end)?;
        for serial in revoked {
            let mut entry = X509RevokedBuilder::new()?;
            entry.set_serial_number(&*asn1_integer(serial)?)?;
            entry.set_revocation_date(&now)?;
            list.add_revoked(entry.build())?;
        }
        // The context wants a certificate for its subject, and reads only the issuer for this.
        let identifier = {
            let builder = X509::builder()?;
            AuthorityKeyIdentifier::new()
                .keyid(true)
                .build(&builder.x509v3_context(Some(issuer), None))?
        };
        list.append_extension(identifier)?;
        let number = BigNum::from_slice(&at.as_second().max(0).to_be_bytes())?;
        list.append_extension(CrlNumber::new(number)?.build()?)?;
        list.sort()?;
        list.sign(&self.key, MessageDigest::sha256())?;
        Ok(Crl::from_x509(list.build()?)?)
    }
}

fn builder<T: HasPublic>(
    subject: &X509NameRef,
    issuer: &X509NameRef,
    key: &PKeyRef<T>,
    at: Timestamp,
    days: u32,
) -> Result<X509Builder, AuthorityError> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?; // X.509 v3
    // 128 bits of which 126 are random: positive, never zero, always of 16 octets. RFC 5280
    // §4.1.2.2.
    let mut serial = random::<16>();
    serial[0] = serial[0] & 0x3F | 0x40;
    builder.set_serial_number(&*asn1_integer(&serial)?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*asn1_time(at)?)?;
    builder.set_not_after(&*asn1_time(later(at, days)?)?)?;
    Ok(builder)
}

fn subject(entries: &[(Nid, &str)]) -> Result<X509Name, AuthorityError> {
    let mut name = X509Name::builder()?;
    for (nid, value) in entries {
        name.append_entry_by_nid(*nid, value)?;
    }
    Ok(name.build())
}

/// `CRLDistributionPoints` of one URI, RFC 5280 §4.2.1.13, not critical.
fn distribution_point(url: &str) -> Result<X509Extension, AuthorityError> {
    let full_name = element(CONTEXT_0, &[&element(CONTEXT_0, &[&element(URI, &[url.as_bytes()])])]);
    let points = element(SEQUENCE, &[&element(SEQUENCE, &[&full_name])]);
    let oid = Asn1Object::from_str("2.5.29.31")?;
    let value = Asn1OctetString::new_from_bytes(&points)?;
    Ok(X509Extension::new_from_der(&oid, false, &value)?)
}

/// A name of the IA5String kind, without anything in it that would end it early.
fn ascii(name: &str) -> Result<&str, AuthorityError> {
    if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(AuthorityError::Name(name.to_owned()));
    }
    Ok(name)
}

fn later(at: Timestamp, days: u32) -> Result<Timestamp, AuthorityError> {
    at.checked_add(Span::new().hours(i64::from(days) * 24)).map_err(|_| AuthorityError::Time)
}

fn asn1_time(at: Timestamp) -> Result<Asn1Time, ErrorStack> {
    Asn1Time::from_unix(at.as_second())
}
