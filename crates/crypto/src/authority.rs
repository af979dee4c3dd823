//! Certificates and revocation lists, made: a small authority for installations that have none.
//!
//! The certificates with which providers sign come from the authority of the rules (PEC-SIG-12).
//! This one makes certificates of the same form for development and tests, and for a closed
//! circuit. What it issues to a provider keeps the whole profile, PEC-CRT-01 to PEC-CRT-09;
//! RFC 5280 §4.2, §5.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
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

    /// A certificate for time stamps, with a new RSA key: its only purpose, and critical (RFC 3161
    /// §2.3). `email` is who answers for it.
    ///
    /// # Errors
    ///
    /// When `name` or `email` does not fit into a certificate.
    pub fn issue_stamper(
        &self,
        name: &str,
        email: &str,
        at: Timestamp,
    ) -> Result<(Certificate, KeyPem), AuthorityError> {
        let key = PKey::from_rsa(Rsa::generate(RSA_BITS)?)?;
        let subject = subject(&[
            (Nid::COUNTRYNAME, "IT"),
            (Nid::ORGANIZATIONNAME, name),
            (Nid::COMMONNAME, "Marche temporali"),
        ])?;
        let usage = KeyUsage::new().critical().digital_signature().build()?;
        let purpose = ExtendedKeyUsage::new().critical().time_stamping().build()?;
        let mut names = SubjectAlternativeName::new();
        names.email(ascii(email)?);
        let certificate = self.issue(&subject, &key, &[usage, purpose], &names, at)?;
        Ok((certificate, KeyPem::of(&key)?))
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

    /// What every certificate but an authority's has, and `extensions`.
    pub(crate) fn issue<T: HasPublic>(
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

pub(crate) fn subject(entries: &[(Nid, &str)]) -> Result<X509Name, AuthorityError> {
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
    let span = SignedDuration::from_secs(i64::from(days) * 86_400);
    at.checked_add(span).map_err(|_| AuthorityError::Time)
}

fn asn1_time(at: Timestamp) -> Result<Asn1Time, ErrorStack> {
    Asn1Time::from_unix(at.as_second())
}

#[cfg(test)]
mod tests {
    use super::{Authority, AuthorityError};
    use crate::certificate::Certificate;
    use crate::der::{
        CONTEXT_0, Elements, INTEGER, OCTET_STRING, SEQUENCE, SET, UTC_TIME, element,
    };
    use crate::testing::{CA, CA_KEY, at, authority, certificate, openssl, today};

    const SUBJECT_KEY_ID: &[u8] = b"\x55\x1d\x0e";
    const KEY_USAGE: &[u8] = b"\x55\x1d\x0f";
    const ALT_NAME: &[u8] = b"\x55\x1d\x11";
    const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";
    const CRL_POINTS: &[u8] = b"\x55\x1d\x1f";
    const AUTHORITY_KEY_ID: &[u8] = b"\x55\x1d\x23";
    const EXTENDED_USAGE: &[u8] = b"\x55\x1d\x25";

    /// An extension as it stands in the certificate.
    struct Extension {
        oid: Vec<u8>,
        critical: bool,
        value: Vec<u8>,
    }

    /// The elements of a TBSCertificate after the version.
    fn tbs(certificate: &Certificate) -> Elements<'_> {
        let mut tbs =
            Elements::new(certificate.to_der()).enter(SEQUENCE).unwrap().enter(SEQUENCE).unwrap();
        assert_eq!(tbs.enter(CONTEXT_0).unwrap().read(INTEGER).unwrap().body, [2], "X.509 v3");
        tbs
    }

    fn extensions(certificate: &Certificate) -> Vec<Extension> {
        let mut last = tbs(certificate).last().map(|last| Elements::new(last.body)).unwrap();
        last.enter(SEQUENCE)
            .unwrap()
            .map(|one| {
                let mut parts = Elements::new(one.body);
                let oid = parts.next().unwrap().body.to_vec();
                let critical = parts.read(0x01).is_some_and(|flag| flag.body == [0xFF]);
                Extension { oid, critical, value: parts.read(OCTET_STRING).unwrap().body.to_vec() }
            })
            .collect()
    }

    fn extension(certificate: &Certificate, oid: &[u8]) -> Extension {
        let mut all: Vec<_> =
            extensions(certificate).into_iter().filter(|one| one.oid == oid).collect();
        assert_eq!(all.len(), 1, "exactly one of {oid:?}");
        all.remove(0)
    }

    fn provider() -> (Certificate, super::KeyPem) {
        authority()
            .crl_at("http://ca.example/crl.der")
            .issue_provider("Gestore C S.p.A.", "posta-certificata@c.example", today())
            .unwrap()
    }

    #[test]
    fn a_provider_has_the_profile_of_the_rules() {
        let (provider, _) = provider();
        // PEC-CRT-01
        assert_eq!(provider.subject(), "C=IT, O=Gestore C S.p.A., CN=Posta Certificata");
        // PEC-CRT-02
        assert!(!provider.subject().contains('@'));
        // PEC-CRT-07
        let names = extension(&provider, ALT_NAME);
        let mail = element(0x81, &[b"posta-certificata@c.example"]);
        assert_eq!((names.value, names.critical), (element(SEQUENCE, &[&mail]), false));
        assert_eq!(provider.emails(), ["posta-certificata@c.example"]);
        // PEC-CRT-04: seven bits are unused, and the one that is not is digitalSignature.
        let usage = extension(&provider, KEY_USAGE);
        assert_eq!((usage.value.as_slice(), usage.critical), (&b"\x03\x02\x07\x80"[..], true));
        // PEC-CRT-06: the SHA-1 of the key, RFC 5280 §4.2.1.2.
        let own = extension(&provider, SUBJECT_KEY_ID);
        assert!(!own.critical && own.value.starts_with(b"\x04\x14") && own.value.len() == 22);
        // PEC-CRT-05: the authority's own identifier, and nothing else.
        let of_the_authority = extension(&certificate(CA), SUBJECT_KEY_ID).value;
        let issuer = extension(&provider, AUTHORITY_KEY_ID);
        let expected = element(SEQUENCE, &[&element(0x80, &[&of_the_authority[2..]])]);
        assert_eq!((issuer.value, issuer.critical), (expected, false));
        // PEC-CRT-08
        assert!(extensions(&provider).iter().all(|one| one.oid != BASIC_CONSTRAINTS));
        // PEC-CRT-09
        let others: Vec<_> = extensions(&provider)
            .into_iter()
            .filter(|one| one.oid == EXTENDED_USAGE || one.oid == CRL_POINTS)
            .collect();
        assert!(others.len() == 2 && others.iter().all(|one| !one.critical));
        // PEC-CRT-03: these four, the two above, and no seventh.
        assert_eq!(extensions(&provider).len(), 6);
        let purpose = extension(&provider, EXTENDED_USAGE).value;
        assert_eq!(purpose, b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x04");
        let points = extension(&provider, CRL_POINTS).value;
        assert!(points.ends_with(&element(0x86, &[b"http://ca.example/crl.der"])));
    }

    #[test]
    fn a_provider_has_a_new_key_and_number() {
        let ((one, key), (other, _)) = (provider(), provider());
        let public = crate::LocalSigner::from_pem(key.as_bytes()).unwrap().public_key_der();
        assert!(one.has_public_key(&public.unwrap()));
        assert_eq!(one.x509().public_key().unwrap().bits(), 3072);
        assert_ne!(one.serial().unwrap(), other.serial().unwrap());
        assert_eq!(one.serial().unwrap().len(), 16);
        assert_eq!(one.not_before(), today());
        assert_eq!(one.not_after(), at("2029-03-01T09:00:00Z"));
        assert_eq!(format!("{key:?}"), "KeyPem([redacted])");
        // The key may be elsewhere: then the certificate is all that is made.
        let spki = one.public_key_der().unwrap();
        let email = "posta-certificata@c.example";
        let again = authority().issue_provider_for("Gestore C", email, &spki, today()).unwrap();
        assert!(again.has_public_key(&spki));
    }

    #[test]
    fn an_authority_may_sign_certificates_and_lists_and_nothing_else() {
        let ca = certificate(CA);
        let basic = extension(&ca, BASIC_CONSTRAINTS);
        assert_eq!((basic.value.as_slice(), basic.critical), (&b"\x30\x03\x01\x01\xff"[..], true));
        let usage = extension(&ca, KEY_USAGE);
        assert_eq!((usage.value.as_slice(), usage.critical), (&b"\x03\x02\x01\x06"[..], true));
        assert!(!extension(&ca, SUBJECT_KEY_ID).critical);
        assert_eq!(extensions(&ca).len(), 3);
        let mut fields = tbs(&ca);
        fields.read(INTEGER).unwrap();
        fields.read(SEQUENCE).unwrap();
        assert_eq!(fields.clone().read(SEQUENCE).unwrap().body[0], SET);
        fields.read(SEQUENCE).unwrap();
        let validity = fields.read(SEQUENCE).unwrap();
        assert_eq!(validity.body[..2], [UTC_TIME, 13]);
    }

    #[test]
    fn an_authority_is_written_and_read_back() {
        let (certificate, key) = authority().to_pem().unwrap();
        let again = Authority::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(again.certificate(), authority().certificate());
        assert_eq!(format!("{again:?}").matches("[redacted]").count(), 1);
        let other = include_bytes!("../../../certs/stranger-ca.key");
        assert_eq!(Authority::from_pem(CA, other).unwrap_err(), AuthorityError::Key);
        assert_eq!(Authority::from_pem(CA, b"").unwrap_err(), AuthorityError::Key);
        assert!(matches!(Authority::from_pem(CA_KEY, CA_KEY), Err(AuthorityError::Certificate(_))));
    }

    #[test]
    fn refuses_names_that_do_not_fit() {
        for email in ["", "citt\u{e0}@c.example", "a b@c.example", "a@c.example\0"] {
            let refused = authority().issue_provider("C", email, today()).unwrap_err();
            assert_eq!(refused, AuthorityError::Name(email.to_owned()));
        }
        let fault = authority().issue_provider(&"x".repeat(65), "a@c.example", today());
        assert!(matches!(fault, Err(AuthorityError::Fault(_))));
        assert!(matches!(authority().issue_tls(&[], &[], today()), Err(AuthorityError::Name(_))));
        let days = u32::MAX;
        assert_eq!(
            authority().valid_for(days).crl(&[], today()).unwrap_err(),
            AuthorityError::Time
        );
    }

    #[test]
    fn openssl_finds_the_revoked_in_the_list() {
        let (one, _) = provider();
        let (other, _) = provider();
        let (one_serial, other_serial) = (one.serial().unwrap(), other.serial().unwrap());
        let all = [one_serial.as_slice(), other_serial.as_slice()];
        for (revoked, stands) in [(&all[..0], true), (&all[1..], true), (&all[..], false)] {
            let list = authority().crl(revoked, today()).unwrap().to_pem();
            let files = [
                ("ca.pem", CA),
                ("crl.pem", list.as_bytes()),
                ("one.pem", one.to_pem().as_bytes()),
            ]
            .map(|(name, octets)| (name, octets.to_vec()));
            let time = (today().as_second() + 1).to_string();
            let arguments = "verify -crl_check -CAfile ca.pem -CRLfile crl.pem -attime";
            let mut arguments: Vec<_> = arguments.split(' ').collect();
            arguments.extend([time.as_str(), "one.pem"]);
            assert_eq!(openssl(&files, &arguments).is_ok(), stands, "{revoked:?}");
        }
    }
}
