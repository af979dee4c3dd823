//! CMS signatures verified: the value, the digest, the signer's path.
//!
//! RFC 5652 §5.4, §5.6; what a provider verifies is PEC-PR-02 and PEC-PR-03. What is not here: that
//! the signer is in the index of providers, and that it manages the domain it writes from; those
//! who know the index ask that, with the [`Verified::signer`] they get.
//!
//! Octets come from anywhere, so OpenSSL reads them (BER or DER, with its own limit on depth),
//! and only what OpenSSL wrote again in DER is looked at by us.

use jiff::Timestamp;
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;

use crate::certificate::Certificate;
use crate::ffi;
use crate::smime::Layout;
use crate::trust::{Revocation, Trust};

/// A signature with the chain of its certificates has 3 to 10 KiB; past this it is an attack on
/// our time, since each signer and certificate in it costs some.
pub const CMS_OCTETS_MAX: usize = 64 * 1024;

/// `ERR_LIB_CMS` and `CMS_R_SIGNER_CERTIFICATE_NOT_FOUND` of OpenSSL: the certificate that the
/// signature names did not come along. Reasons are numbered in each library anew.
const SIGNER_CERTIFICATE_NOT_FOUND: (i32, i32) = (46, 138);

/// The digest of a signature, from the signature itself; `micalg` is but a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// Seen from real providers until today, and accepted: PEC-SIG-07. Callers may note it.
    Sha1,
    /// What we sign with.
    Sha256,
    /// Stronger than what the rules ask for.
    Sha384,
    /// Stronger than what the rules ask for.
    Sha512,
}

impl Digest {
    pub(crate) fn of(oid: &[u8]) -> Option<Self> {
        match oid {
            b"\x2b\x0e\x03\x02\x1a" => Some(Self::Sha1),
            b"\x60\x86\x48\x01\x65\x03\x04\x02\x01" => Some(Self::Sha256),
            b"\x60\x86\x48\x01\x65\x03\x04\x02\x02" => Some(Self::Sha384),
            b"\x60\x86\x48\x01\x65\x03\x04\x02\x03" => Some(Self::Sha512),
            _ => None,
        }
    }

    pub(crate) fn message_digest(self) -> MessageDigest {
        match self {
            Self::Sha1 => MessageDigest::sha1(),
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }
}

/// A signature that holds: there is no other way to one of these than [`verify`].
#[derive(Debug, Clone)]
pub struct Verified {
    /// Who signed.
    pub signer: Certificate,
    /// With which digest.
    pub digest: Digest,
    /// When, by the signer's own word.
    pub signing_time: Option<Timestamp>,
    /// Whether a current revocation list said that the signer's certificate stands.
    pub revocation: Revocation,
}

/// Why a signature does not hold. All but [`Fault`](Self::Fault) are the message's failing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No CMS SignedData, or one past [`CMS_OCTETS_MAX`].
    #[error("not a CMS signature")]
    NotCms,
    /// The signer's certificate is not in the structure (PEC-SIG-03), or there is not exactly
    /// one signer: a provider signs alone.
    #[error("the certificate of one signer is not in the signature")]
    NoSigner,
    /// The value or the digest is not that of the content; or the digest is one that nobody
    /// should trust, as MD5.
    #[error("the signature is not of this content")]
    Signature,
    /// No path for this purpose to an authority that we trust; OpenSSL's words for the log.
    #[error("no certification path: {0}")]
    Path(String),
    /// A certificate of the path had ended at the given time.
    #[error("the certificate has expired")]
    Expired,
    /// A certificate of the path had not begun at the given time.
    #[error("the certificate is not yet valid")]
    NotYetValid,
    /// A certificate of the path was revoked by the given time.
    #[error("the certificate is revoked")]
    Revoked,
    /// We failed, not the message: out of memory, for one.
    #[error("the cryptographic library failed: {0}")]
    Fault(String),
}

impl From<ErrorStack> for VerifyError {
    fn from(errors: ErrorStack) -> Self {
        Self::Fault(errors.to_string())
    }
}

/// Verifies a detached signature over `content`, as it was received (PEC-SIG-09), with the signer's
/// path to `trust` at the time `at`: PEC-PR-03. The profile of certificates is not asked for
/// (PEC-CRT-10).
///
/// # Errors
///
/// [`VerifyError`] says which of the checks failed first: structure, value, path.
pub fn verify(
    cms: &[u8],
    content: &[u8],
    trust: &Trust,
    at: Timestamp,
) -> Result<Verified, VerifyError> {
    let (mut cms, der) = read(cms)?;
    let layout = Layout::read(&der).ok_or(VerifyError::NotCms)?;
    if layout.signers != 1 {
        return Err(VerifyError::NoSigner);
    }
    let digest = Digest::of(layout.digest).ok_or(VerifyError::Signature)?;
    let signer = run(&mut cms, content, CMSOptions::empty())?;
    let revocation = trust.check(&signer, &layout.certificates, at)?;
    Ok(Verified { signer, digest, signing_time: layout.signing_time, revocation })
}

/// The certificate that a signature names, with nothing verified: where PEC-PR-02 begins.
///
/// # Errors
///
/// [`VerifyError::NotCms`] or [`VerifyError::NoSigner`].
pub fn signer_certificate(cms: &[u8]) -> Result<Certificate, VerifyError> {
    let (mut cms, der) = read(cms)?;
    if Layout::read(&der).ok_or(VerifyError::NotCms)?.signers != 1 {
        return Err(VerifyError::NoSigner);
    }
    run(&mut cms, b"", CMSOptions::NO_ATTR_VERIFY | CMSOptions::NO_CONTENT_VERIFY)
}

/// The structure, and the same again in DER.
fn read(cms: &[u8]) -> Result<(CmsContentInfo, Vec<u8>), VerifyError> {
    if cms.len() > CMS_OCTETS_MAX {
        return Err(VerifyError::NotCms);
    }
    let cms = CmsContentInfo::from_der(cms).map_err(|_| VerifyError::NotCms)?;
    let der = cms.to_der().map_err(|_| VerifyError::NotCms)?;
    Ok((cms, der))
}

/// Has OpenSSL find the signer and verify all but its path, which [`Trust`] does.
fn run(
    cms: &mut CmsContentInfo,
    content: &[u8],
    less: CMSOptions,
) -> Result<Certificate, VerifyError> {
    // BINARY: or OpenSSL would rewrite the line ends of what it digests.
    let options = CMSOptions::BINARY | CMSOptions::NO_SIGNER_CERT_VERIFY | less;
    cms.verify(None, None, Some(content), None, options).map_err(|errors| {
        let mut codes = errors.errors().iter().map(|e| (e.library_code(), e.reason_code()));
        if codes.any(|code| code == SIGNER_CERTIFICATE_NOT_FOUND) {
            VerifyError::NoSigner
        } else {
            VerifyError::Signature
        }
    })?;
    match ffi::signers(cms).pop() {
        Some(signer) => {
            Certificate::from_x509(signer).map_err(|error| VerifyError::Path(error.to_string()))
        }
        None => Err(VerifyError::NoSigner),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::{CMS_OCTETS_MAX, Digest, VerifyError, signer_certificate, verify};
    use crate::testing::{
        A, A_KEY, CA, at, authority, certificate, identity, openssl, signer, today, trust,
    };
    use crate::{Certificate, Crl, Revocation, Trust};

    const CONTENT: &[u8] = b"Content-Type: text/plain\r\n\r\nprova\r\n";
    const B: &[u8] = include_bytes!("../../../certs/provider-b.pem");
    const B_KEY: &[u8] = include_bytes!("../../../certs/provider-b.key");
    const REVOKED: &[u8] = include_bytes!("../../../certs/revoked.pem");
    const REVOKED_KEY: &[u8] = include_bytes!("../../../certs/revoked.key");
    const STRANGER: &[u8] = include_bytes!("../../../certs/stranger.pem");
    const STRANGER_KEY: &[u8] = include_bytes!("../../../certs/stranger.key");

    fn signed(certificate: &[u8], key: &[u8]) -> Vec<u8> {
        identity(certificate).sign(&signer(key), CONTENT, today()).unwrap()
    }

    /// Signed by another's implementation, with these options more.
    fn signed_by_openssl(options: &[&str]) -> Vec<u8> {
        let files = [("a.pem", A), ("a.key", A_KEY), ("b.pem", B), ("b.key", B_KEY)];
        let mut files = files.map(|(name, octets)| (name, octets.to_vec())).to_vec();
        files.push(("in", CONTENT.to_vec()));
        let fixed = "cms -sign -binary -signer a.pem -inkey a.key -outform DER -in in -out out";
        let arguments: Vec<_> = fixed.split(' ').chain(options.iter().copied()).collect();
        openssl(&files, &arguments).unwrap()
    }

    #[test]
    fn a_signature_of_ours_holds() {
        let verified = verify(&signed(A, A_KEY), CONTENT, &trust(), today()).unwrap();
        assert_eq!(verified.signer, certificate(A));
        assert_eq!(verified.digest, Digest::Sha256);
        assert_eq!(verified.signing_time, Some(today()));
        assert_eq!(verified.revocation, Revocation::Checked);
    }

    /// PEC-PR-03: the value, the path, the list and the validity, each refused for what it is.
    #[test]
    fn each_failing_has_its_own_name() {
        let good = signed(A, A_KEY);
        let mut value = good.clone();
        *value.last_mut().unwrap() ^= 1;
        let changed = [CONTENT, b" "].concat();
        let mut flipped = CONTENT.to_vec();
        flipped[30] ^= 1;
        let (none, day) = (Vec::new(), today());
        let stranger = signed(STRANGER, STRANGER_KEY);
        let revoked = signed(REVOKED, REVOKED_KEY);
        let no_certificate = signed_by_openssl(&["-nocerts"]);
        let two = signed_by_openssl(&["-signer", "b.pem", "-inkey", "b.key"]);
        let weak = signed_by_openssl(&["-md", "md5"]);
        let path = VerifyError::Path("unable to get local issuer certificate".into());
        let before = at("2025-12-31T23:59:59Z");
        let after = at("2046-01-01T00:00:00Z");
        for (case, cms, content, time, error) in [
            ("no CMS", &none, CONTENT, day, VerifyError::NotCms),
            ("value", &value, CONTENT, day, VerifyError::Signature),
            ("content, longer", &good, &changed, day, VerifyError::Signature),
            ("content, a bit", &good, &flipped, day, VerifyError::Signature),
            ("content, none", &good, b"", day, VerifyError::Signature),
            ("MD5", &weak, CONTENT, day, VerifyError::Signature),
            ("another authority", &stranger, CONTENT, day, path),
            ("revoked", &revoked, CONTENT, day, VerifyError::Revoked),
            ("not yet", &good, CONTENT, before, VerifyError::NotYetValid),
            ("no more", &good, CONTENT, after, VerifyError::Expired),
            ("no certificate", &no_certificate, CONTENT, day, VerifyError::NoSigner),
            ("two signers", &two, CONTENT, day, VerifyError::NoSigner),
        ] {
            assert_eq!(verify(cms, content, &trust(), time).unwrap_err(), error, "{case}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_never_a_signature_of_another_content() {
        let good = signed(A, A_KEY);
        let trust = trust();
        let mut changed = CONTENT.to_vec();
        changed[30] ^= 1;
        for index in 0..good.len() {
            let mut cms = good.clone();
            cms[index] ^= 1;
            assert!(verify(&cms, &changed, &trust, today()).is_err(), "octet {index}");
            // Some octets are not signed, as those of the authority's certificate. Whatever is
            // accepted then is still the signer's.
            if let Ok(verified) = verify(&cms, CONTENT, &trust, today()) {
                assert_eq!(verified.signer, certificate(A), "octet {index}");
            }
        }
    }

    #[test]
    fn not_even_a_truncated_signature_is_read_past_its_end() {
        let (good, trust) = (signed(A, A_KEY), trust());
        for length in 0..good.len() {
            let refused = verify(&good[..length], CONTENT, &trust, today()).unwrap_err();
            assert_eq!(refused, VerifyError::NotCms, "{length} octets");
        }
    }

    #[test]
    fn one_octet_past_the_bound_is_not_read() {
        // OpenSSL reads the structure and not what follows it: padding makes any length.
        let mut padded = signed(A, A_KEY);
        padded.resize(CMS_OCTETS_MAX, 0);
        assert!(verify(&padded, CONTENT, &trust(), today()).is_ok());
        padded.push(0);
        assert_eq!(verify(&padded, CONTENT, &trust(), today()).unwrap_err(), VerifyError::NotCms);
        assert_eq!(signer_certificate(&padded).unwrap_err(), VerifyError::NotCms);
    }

    /// PEC-SIG-07, the reading half: older digests are accepted and named.
    #[test]
    fn the_digest_is_taken_from_the_signature() {
        for (name, digest) in [
            ("sha1", Digest::Sha1),
            ("sha256", Digest::Sha256),
            ("sha384", Digest::Sha384),
            ("sha512", Digest::Sha512),
        ] {
            let cms = signed_by_openssl(&["-md", name]);
            let verified = verify(&cms, CONTENT, &trust(), today()).unwrap();
            assert_eq!(verified.digest, digest);
            assert!(verified.signing_time.is_some());
        }
    }

    #[test]
    fn ber_of_indefinite_length_is_read() {
        let cms = signed_by_openssl(&["-stream"]);
        assert_eq!(cms[..2], [0x30, 0x80], "the test needs BER");
        let verified = verify(&cms, CONTENT, &trust(), today()).unwrap();
        assert_eq!(verified.signer, certificate(A));
        assert_eq!(signer_certificate(&cms).unwrap(), certificate(A));
    }

    #[test]
    fn a_signature_without_attributes_or_by_key_identifier_holds() {
        let bare = verify(&signed_by_openssl(&["-noattr"]), CONTENT, &trust(), today()).unwrap();
        assert_eq!((bare.signing_time, bare.digest), (None, Digest::Sha256));
        let keyed = signed_by_openssl(&["-keyid"]);
        assert_eq!(verify(&keyed, CONTENT, &trust(), today()).unwrap().signer, certificate(A));
    }

    /// The content given counts, whatever the structure may enclose.
    #[test]
    fn an_enclosed_content_is_not_what_is_verified() {
        let cms = signed_by_openssl(&["-nodetach"]);
        assert!(verify(&cms, CONTENT, &trust(), today()).is_ok());
        assert_eq!(
            verify(&cms, b"another", &trust(), today()).unwrap_err(),
            VerifyError::Signature
        );
    }

    #[test]
    fn the_signer_is_found_without_verifying() {
        let stranger = signer_certificate(&signed(STRANGER, STRANGER_KEY)).unwrap();
        assert_eq!(stranger, certificate(STRANGER));
        let mut value = signed(A, A_KEY);
        *value.last_mut().unwrap() ^= 1;
        assert_eq!(signer_certificate(&value).unwrap().sha1(), certificate(A).sha1());
        let none = signed_by_openssl(&["-nocerts"]);
        assert_eq!(signer_certificate(&none).unwrap_err(), VerifyError::NoSigner);
        for no_cms in [&b""[..], b"0", b"\x30\x80\x00\x00", CA] {
            assert_eq!(signer_certificate(no_cms).unwrap_err(), VerifyError::NotCms);
        }
    }

    /// The parts of the outermost multipart/signed, as they stand: what is signed, and the
    /// signature.
    fn parts(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let text = String::from_utf8(message.to_vec()).unwrap();
        let signed = text.find("multipart/signed").unwrap();
        let from = signed + text[signed..].find("boundary=\"").unwrap() + 10;
        let boundary = text[from..].split('"').next().unwrap();
        let delimiter = format!("\r\n--{boundary}");
        let parts: Vec<_> = text.split(&delimiter).collect();
        let signature = parts[2].split_once("\r\n\r\n").unwrap().1.replace("\r\n", "");
        let signature = base64::engine::general_purpose::STANDARD.decode(signature).unwrap();
        (parts[1].as_bytes()[2..].to_vec(), signature)
    }

    fn examples() -> Trust {
        let authority = certificate(include_bytes!("../../../certs/spec/test-ca.pem"));
        let list = Crl::read(include_bytes!("../../../certs/spec/test-ca.crl.pem")).unwrap();
        Trust::new(vec![authority], vec![list]).unwrap()
    }

    fn example(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../pec/examples/eml");
        std::fs::read(format!("{folder}/{name}.eml")).unwrap()
    }

    /// PEC-SIG-08: what is signed is the first part, its header and all, without the last CRLF.
    #[test]
    fn the_examples_hold() {
        let alfa = certificate(include_bytes!("../../../certs/spec/alfa.pem"));
        let beta = certificate(include_bytes!("../../../certs/spec/beta.pem"));
        for (name, by) in [
            ("03-accettazione", &alfa),
            ("04-busta-trasporto", &alfa),
            ("05-presa-in-carico", &beta),
            ("06-avvenuta-consegna-completa", &beta),
            ("10-errore-consegna", &beta),
            ("17-busta-anomalia", &beta),
        ] {
            let (content, cms) = parts(&example(name));
            let verified = verify(&cms, &content, &examples(), today()).unwrap();
            assert_eq!(verified.signer, *by, "{name}");
            assert_eq!(verified.revocation, Revocation::Checked);
            // PEC-SIG-11: trusted by those who trust this authority, and by nobody else.
            assert!(matches!(verify(&cms, &content, &trust(), today()), Err(VerifyError::Path(_))));
        }
    }

    /// PEC-SIG-09: the octets as received; an LF for a CRLF, or a header folded otherwise, is
    /// another content.
    #[test]
    fn an_octet_written_otherwise_is_another_content() {
        let (content, cms) = parts(&example("04-busta-trasporto"));
        let text = String::from_utf8(content).unwrap();
        for other in [
            text.replace("\r\n", "\n"),
            text.replacen("\r\n", "\n", 1),
            text.replacen("; ", ";\r\n ", 1),
            format!("{text}\r\n"),
        ] {
            assert_eq!(
                verify(&cms, other.as_bytes(), &examples(), today()).unwrap_err(),
                VerifyError::Signature
            );
        }
        assert!(verify(&cms, text.as_bytes(), &examples(), today()).is_ok());
    }

    /// PEC-SIG-12: one provider, several certificates.
    #[test]
    fn two_certificates_of_one_provider_sign_side_by_side() {
        let (name, email) = ("Gestore A S.p.A.", "posta-certificata@a.example");
        let (second, key) = authority().issue_provider(name, email, today()).unwrap();
        let pem = second.to_pem();
        let trust = trust();
        for (certificate, key) in [(A, A_KEY), (pem.as_bytes(), key.as_bytes())] {
            let cms = signed(certificate, key);
            let verified = verify(&cms, CONTENT, &trust, today()).unwrap();
            assert_eq!(verified.signer, Certificate::from_pem(certificate).unwrap());
            assert_eq!(verified.signer.emails(), [email]);
        }
    }
}
