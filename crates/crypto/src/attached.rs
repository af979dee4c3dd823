//! Signatures that hold their content: the signed index of providers (PEC-IDX-07).
//!
//! RFC 5652 §5.2: `eContent` is there. Made as all signatures of ours are ([`Identity`]), and
//! verified as all are, with the signer's path ([`Trust`]). Not here: who may sign what.

use jiff::Timestamp;
use openssl::cms::{CMSOptions, CmsContentInfo};

use crate::certificate::Certificate;
use crate::ffi;
use crate::signer::{SignError, Signer};
use crate::smime::{DATA, Identity, Layout};
use crate::trust::Trust;
use crate::verify::{Digest, Verified, VerifyError};

/// A signed index of every provider has some megaoctets.
pub const SIGNED_OCTETS_MAX: usize = 32 * 1024 * 1024;

/// Verifies a signature in DER or PEM, with the signer's path to `trust` at the time `at`, and gives
/// what it is over.
///
/// # Errors
///
/// As [`verify`](crate::verify()); [`VerifyError::NotCms`] also past [`SIGNED_OCTETS_MAX`] and when
/// there is no content in it.
pub fn open(
    signed: &[u8],
    trust: &Trust,
    at: Timestamp,
) -> Result<(Vec<u8>, Verified), VerifyError> {
    if signed.len() > SIGNED_OCTETS_MAX {
        return Err(VerifyError::NotCms);
    }
    let cms = if signed.starts_with(b"-----BEGIN") {
        CmsContentInfo::from_pem(signed)
    } else {
        CmsContentInfo::from_der(signed)
    };
    let mut cms = cms.map_err(|_| VerifyError::NotCms)?;
    let der = cms.to_der().map_err(|_| VerifyError::NotCms)?;
    let layout = Layout::read(&der).ok_or(VerifyError::NotCms)?;
    if layout.signers != 1 {
        return Err(VerifyError::NoSigner);
    }
    let digest = Digest::of(layout.digest).ok_or(VerifyError::Signature)?;
    let mut content = Vec::new();
    // BINARY: the content as it is. The path is Trust's to check.
    let options = CMSOptions::BINARY | CMSOptions::NO_SIGNER_CERT_VERIFY;
    cms.verify(None, None, None, Some(&mut content), options)
        .map_err(|_| VerifyError::Signature)?;
    let Some(signer) = ffi::signers(&cms).pop() else { return Err(VerifyError::NoSigner) };
    let signer =
        Certificate::from_x509(signer).map_err(|error| VerifyError::Path(error.to_string()))?;
    let revocation = trust.check(&signer, &layout.certificates, at)?;
    Ok((content, Verified { signer, digest, signing_time: layout.signing_time, revocation }))
}

impl Identity {
    /// Signs `content` and puts it into the structure: what a `.p7m` file holds, in DER.
    ///
    /// # Errors
    ///
    /// As [`sign`](Self::sign).
    pub fn sign_attached(
        &self,
        signer: &dyn Signer,
        content: &[u8],
        at: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        self.sign_enclosed(signer, (DATA, content), &[], at)
    }
}

#[cfg(test)]
mod tests {
    use super::{SIGNED_OCTETS_MAX, open};
    use crate::testing::{A, A_KEY, at, certificate, identity, openssl, signer, today, trust};
    use crate::{Digest, VerifyError};

    const LDIF: &[u8] = b"dn: o=postacert\nobjectClass: top\n\n";

    // PEC-IDX-07
    #[test]
    fn what_is_signed_opens_here_and_elsewhere() {
        let signed = identity(A).sign_attached(&signer(A_KEY), LDIF, today()).unwrap();
        let (content, verified) = open(&signed, &trust(), today()).unwrap();
        assert_eq!(content, LDIF);
        assert_eq!((verified.signer, verified.digest), (certificate(A), Digest::Sha256));
        let files = [("ca.pem", crate::testing::CA.to_vec()), ("in", signed)];
        let files = files.map(|(name, octets)| (name, octets));
        let arguments =
            "cms -verify -binary -inform DER -in in -CAfile ca.pem -purpose any -out out";
        let arguments: Vec<_> = arguments.split(' ').collect();
        assert_eq!(openssl(&files, &arguments).unwrap(), LDIF);
    }

    #[test]
    fn what_others_sign_opens_in_any_form() {
        let files = [("a.pem", A), ("a.key", A_KEY), ("in", LDIF)];
        let files = files.map(|(name, octets)| (name, octets.to_vec()));
        let fixed = "cms -sign -binary -nodetach -signer a.pem -inkey a.key -in in -out out";
        for form in ["-outform DER", "-outform PEM", "-stream -outform DER"] {
            let arguments: Vec<_> = fixed.split(' ').chain(form.split(' ')).collect();
            let signed = openssl(&files, &arguments).unwrap();
            assert_eq!(open(&signed, &trust(), today()).unwrap().0, LDIF, "{form}");
        }
    }

    // PEC-IDX-08
    #[test]
    fn what_was_altered_or_signed_by_a_stranger_does_not_open() {
        let signed = identity(A).sign_attached(&signer(A_KEY), LDIF, today()).unwrap();
        let place = signed.windows(LDIF.len()).position(|window| window == LDIF).unwrap();
        let mut altered = signed.clone();
        altered[place] ^= 1;
        assert_eq!(open(&altered, &trust(), today()).unwrap_err(), VerifyError::Signature);
        let stranger = include_bytes!("../../../certs/stranger.pem");
        let key = include_bytes!("../../../certs/stranger.key");
        let foreign = identity(stranger).sign_attached(&signer(key), LDIF, today()).unwrap();
        assert!(matches!(open(&foreign, &trust(), today()), Err(VerifyError::Path(_))));
        let late = at("2046-01-01T00:00:00Z");
        assert_eq!(open(&signed, &trust(), late).unwrap_err(), VerifyError::Expired);
        let detached = identity(A).sign(&signer(A_KEY), LDIF, today()).unwrap();
        for nothing in [&detached[..], LDIF, b"", &vec![0x30; SIGNED_OCTETS_MAX + 1]] {
            assert!(open(nothing, &trust(), today()).is_err());
        }
    }
}
