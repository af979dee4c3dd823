//! Time stamps: asked for, given by an authority of our own, and verified.
//!
//! RFC 3161, with the certificate's hash as RFC 5816 has it; DM 2 Nov 2005 art. 10 wants one on each
//! interval of the log (PEC-LOG-03). A stamp is a token: a CMS structure that encloses the SHA-256
//! value of what it stamps and the time, signed by an authority whose certificate is for that alone.
//! Not here: the way to an authority, which is HTTP and the server's.

use jiff::Timestamp;
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::hash::MessageDigest;

use crate::certificate::Certificate;
use crate::ffi;
use crate::random::random;
use crate::signer::{SignError, Signer};
use crate::smime::{Identity, Layout, attribute};
use crate::trust::{Revocation, Trust};
use crate::tsp::{self, Response};
use crate::verify::VerifyError;

/// The content type of a request sent by HTTP: RFC 3161 §3.4.
pub const REQUEST_TYPE: &str = "application/timestamp-query";
/// The content type of its answer.
pub const RESPONSE_TYPE: &str = "application/timestamp-reply";
pub use crate::tsp::RESPONSE_OCTETS_MAX;

/// id-ct-TSTInfo, RFC 3161 §2.4.2.
const TST_INFO: &[u8] = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x04";
/// The policy of our own authority: anyPolicy of RFC 5280 §4.2.1.4, since no other was registered.
const ANY_POLICY: &[u8] = b"\x06\x04\x55\x1d\x20\x00";

/// Why there is no time stamp, or none that holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// No response, or no token, in the form of RFC 3161.
    #[error("not a time stamp in the form of RFC 3161")]
    Form,
    /// The authority refused: the number of its status and its words.
    #[error("the authority refused, status {0}: {1}")]
    Refused(u8, String),
    /// It is of something else, or the answer to another request.
    #[error("the time stamp is of something else")]
    OtherImprint,
    /// The signature does not hold, or is not by the certificate that the token names.
    #[error("the signature of the time stamp does not hold: {0}")]
    Signature(VerifyError),
    /// Who signed is nobody whose stamps we believe.
    #[error("the time stamp is by nobody who is believed: {0}")]
    Path(VerifyError),
}

/// A time stamp that holds: there is no other way to one of these than [`verify_stamp`].
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The time that it proves: what is stamped was there then.
    pub time: Timestamp,
    /// Who says so.
    pub authority: Certificate,
    /// Whether a revocation list of that time said that its certificate stands.
    pub revocation: Revocation,
}

/// A request for a time stamp, and what its answer must have.
#[derive(Debug, Clone)]
pub struct StampRequest {
    imprint: [u8; 32],
    nonce: [u8; 16],
    octets: Vec<u8>,
}

impl StampRequest {
    /// For a stamp on these octets.
    #[must_use]
    pub fn new(stamped: &[u8]) -> Self {
        let imprint = openssl::sha::sha256(stamped);
        // Positive and of always the same length, as DER writes it.
        let mut nonce = random::<16>();
        nonce[0] = nonce[0] & 0x3F | 0x40;
        Self { imprint, nonce, octets: tsp::request(&imprint, &nonce) }
    }

    /// What is sent, as [`REQUEST_TYPE`].
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The token in the authority's answer, which is verified before anybody keeps it.
    ///
    /// # Errors
    ///
    /// [`StampError`] when there is none, or when it would not hold later.
    pub fn token(&self, response: &[u8], trust: &Trust) -> Result<Vec<u8>, StampError> {
        let token = match tsp::response(response).ok_or(StampError::Form)? {
            Response::Granted(token) => token,
            Response::Refused(status, said) => return Err(StampError::Refused(status, said)),
        };
        verify_token(token, &self.imprint, Some(&self.nonce), trust)?;
        Ok(token.to_vec())
    }
}

/// Stamps these octets as an authority of our own, at the time `at`.
///
/// # Errors
///
/// As `signer` gives them.
pub fn stamp(
    identity: &Identity,
    signer: &dyn Signer,
    stamped: &[u8],
    at: Timestamp,
) -> Result<Vec<u8>, SignError> {
    let mut serial = random::<16>();
    serial[0] = serial[0] & 0x3F | 0x40;
    let info = tsp::write_info(ANY_POLICY, &openssl::sha::sha256(stamped), &serial, at);
    let hash = openssl::sha::sha256(identity.certificate().to_der());
    let named = attribute(tsp::SIGNING_CERTIFICATE_V2, &tsp::write_signing_certificate(&hash));
    identity.sign_enclosed(signer, (TST_INFO, &info), &[named], at)
}

/// Verifies that a token stamps these octets, with its authority's path to `trust` at the time that it
/// says.
///
/// # Errors
///
/// [`StampError`] says which of the checks failed first.
pub fn verify_stamp(token: &[u8], stamped: &[u8], trust: &Trust) -> Result<Stamp, StampError> {
    verify_token(token, &openssl::sha::sha256(stamped), None, trust)
}

fn verify_token(
    token: &[u8],
    imprint: &[u8; 32],
    nonce: Option<&[u8]>,
    trust: &Trust,
) -> Result<Stamp, StampError> {
    let (cms, der, enclosed) = open(token)?;
    let layout = Layout::read(&der).ok_or(StampError::Form)?;
    let signer = ffi::signers(&cms).pop().ok_or(StampError::Form)?;
    let authority = Certificate::from_x509(signer).map_err(|_| StampError::Form)?;
    let info = tsp::info(&enclosed).ok_or(StampError::Form)?;
    let is_ours = info.digest == tsp::SHA256_OID
        && info.imprint == imprint
        && nonce.is_none_or(|nonce| info.nonce == Some(nonce));
    if !is_ours {
        return Err(StampError::OtherImprint);
    }
    if !names(&layout, &authority) {
        return Err(StampError::Signature(VerifyError::NoSigner));
    }
    let revocation = trust
        .check_stamper(&authority, &layout.certificates, info.time)
        .map_err(StampError::Path)?;
    Ok(Stamp { time: info.time, authority, revocation })
}

/// A token's structure, the same in DER, and what it encloses: signed by one certificate, which nobody
/// has looked at.
fn open(token: &[u8]) -> Result<(CmsContentInfo, Vec<u8>, Vec<u8>), StampError> {
    if token.len() > RESPONSE_OCTETS_MAX {
        return Err(StampError::Form);
    }
    let mut cms = CmsContentInfo::from_der(token).map_err(|_| StampError::Form)?;
    let der = cms.to_der().map_err(|_| StampError::Form)?;
    let layout = Layout::read(&der).ok_or(StampError::Form)?;
    if layout.content_type != TST_INFO || layout.signers != 1 {
        return Err(StampError::Form);
    }
    let mut enclosed = Vec::new();
    let options = CMSOptions::BINARY | CMSOptions::NO_SIGNER_CERT_VERIFY;
    cms.verify(None, None, None, Some(&mut enclosed), options)
        .map_err(|_| StampError::Signature(VerifyError::Signature))?;
    Ok((cms, der, enclosed))
}

/// The time that a token tells, by whomever: for a text that says what it tells, and proves nothing.
/// [`verify_stamp`] is for who wants to know whether it was so.
#[must_use]
pub fn told_time(token: &[u8]) -> Option<Timestamp> {
    let (_, _, enclosed) = open(token).ok()?;
    tsp::info(&enclosed).map(|info| info.time)
}

/// Whether the signed attributes name this certificate by its hash: a certificate put in the place of
/// another with the same key is found by it (RFC 5816 §2.2.1).
fn names(layout: &Layout<'_>, authority: &Certificate) -> bool {
    let named = layout.attributes.iter().find_map(|one| tsp::signing_certificate(one));
    let Some((digest, value)) = named else { return false };
    let digest = match digest {
        None => Some(MessageDigest::sha1()),
        Some(oid) => crate::verify::Digest::of(oid).map(|digest| digest.message_digest()),
    };
    digest.is_some_and(|digest| {
        openssl::hash::hash(digest, authority.to_der()).is_ok_and(|hash| &*hash == value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{A, A_KEY, CA, at, authority, certificate, openssl, signer, today, trust};
    use crate::{KeyPem, LocalSigner};

    const STAMPED: &[u8] = b"the signature of a seal";

    fn stamper() -> (Identity, LocalSigner, Certificate, KeyPem) {
        let (stamper, key) =
            authority().issue_stamper("Gestore A", "posta-certificata@a.example", today()).unwrap();
        let identity = Identity::new(stamper.clone(), vec![certificate(CA)]).unwrap();
        (identity, LocalSigner::from_pem(key.as_bytes()).unwrap(), stamper, key)
    }

    /// PEC-LOG-03: a stamp of ours holds here, and for a stranger's program.
    #[test]
    fn a_stamp_of_ours_holds_and_openssl_verifies_it() {
        let (identity, signer, stamper, _) = stamper();
        let token = stamp(&identity, &signer, STAMPED, today()).unwrap();
        let held = verify_stamp(&token, STAMPED, &trust()).unwrap();
        assert_eq!((held.time, held.authority), (today(), stamper));
        assert_eq!(held.revocation, Revocation::Checked);
        assert_eq!((told_time(&token), told_time(&token[1..])), (Some(today()), None));
        let again = CmsContentInfo::from_der(&token).unwrap().to_der().unwrap();
        assert_eq!(again, token, "it is DER to the last octet");
        let files = [("ca.pem", CA), ("token", &token), ("data", STAMPED)]
            .map(|(name, octets)| (name, octets.to_vec()));
        let fixed = "ts -verify -token_in -in token -data data -CAfile ca.pem";
        let arguments: Vec<_> = fixed.split(' ').collect();
        openssl(&files, &[&arguments[..], &["-attime", &today().as_second().to_string()]].concat())
            .unwrap();
        let mut other = files;
        other[2].1[0] ^= 1;
        assert!(openssl(&other, &arguments).is_err());
    }

    /// Each failing has its own name.
    #[test]
    fn what_does_not_hold_is_told_apart() {
        let (identity, signer_, _, _) = stamper();
        let token = stamp(&identity, &signer_, STAMPED, today()).unwrap();
        let told =
            |token: &[u8], stamped: &[u8]| verify_stamp(token, stamped, &trust()).unwrap_err();
        assert_eq!(told(&token, b"another"), StampError::OtherImprint);
        let mut value = token.clone();
        *value.last_mut().unwrap() ^= 1;
        assert_eq!(told(&value, STAMPED), StampError::Signature(VerifyError::Signature));
        assert_eq!(told(b"", STAMPED), StampError::Form);
        assert_eq!(told(&token[..token.len() - 1], STAMPED), StampError::Form);
        // A signature of another kind over another kind of content.
        let mail = crate::testing::identity(A).sign(&signer(A_KEY), STAMPED, today()).unwrap();
        assert_eq!(told(&mail, STAMPED), StampError::Form);
        // Who may sign mail may not stamp, and who stamps was valid then.
        let other = stamp(&crate::testing::identity(A), &signer(A_KEY), STAMPED, today()).unwrap();
        let Err(StampError::Path(VerifyError::Path(_))) = verify_stamp(&other, STAMPED, &trust())
        else {
            panic!("a certificate for mail")
        };
        let late = stamp(&identity, &signer_, STAMPED, at("2046-01-01T00:00:00Z")).unwrap();
        assert_eq!(told(&late, STAMPED), StampError::Path(VerifyError::Expired));
        let nobody = Trust::new(Vec::new(), Vec::new()).unwrap();
        assert!(matches!(verify_stamp(&token, STAMPED, &nobody), Err(StampError::Path(_))));
    }

    #[test]
    fn a_flipped_bit_never_moves_the_time() {
        let (identity, signer, stamper, _) = stamper();
        let token = stamp(&identity, &signer, STAMPED, today()).unwrap();
        let trust = trust();
        for index in 0..token.len() {
            let mut other = token.clone();
            other[index] ^= 1;
            if let Ok(held) = verify_stamp(&other, STAMPED, &trust) {
                assert_eq!(
                    (held.time, held.authority),
                    (today(), stamper.clone()),
                    "octet {index}"
                );
            }
        }
    }

    /// The answers of a real authority, which is `openssl ts`, as a client gets them.
    #[test]
    fn the_answers_of_openssl_are_taken() {
        let (_, _, stamper, key) = stamper();
        let request = StampRequest::new(STAMPED);
        let config = "[tsa]\ndefault_tsa = t\n[t]\nserial = ./serial\ncrypto_device = builtin\n\
                      signer_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = DIGESTS\n\
                      accuracy = secs:1\nordering = yes\ness_cert_id_alg = ESS\n";
        let answer = |digests: &str, ess: &str, request: &StampRequest| {
            let config = config.replace("DIGESTS", digests).replace("ESS", ess);
            let files = [
                ("tsa.cnf", config.into_bytes()),
                ("serial", b"01\n".to_vec()),
                ("tsa.pem", stamper.to_pem().into_bytes()),
                ("tsa.key", key.as_bytes().to_vec()),
                ("ca.pem", CA.to_vec()),
                ("query", request.octets().to_vec()),
            ];
            let fixed = "ts -reply -config tsa.cnf -section t -queryfile query -signer tsa.pem \
                         -inkey tsa.key -chain ca.pem -out out";
            openssl(&files, &fixed.split_whitespace().collect::<Vec<_>>()).unwrap()
        };
        // The real time, at which the certificates of the tests are valid too.
        for ess in ["sha1", "sha256", "sha512"] {
            let response = answer("sha256", ess, &request);
            let token = request.token(&response, &trust()).unwrap();
            assert!(verify_stamp(&token, STAMPED, &trust()).is_ok(), "{ess}");
            // Of the same octets, but the answer to somebody else's request.
            let other = StampRequest::new(STAMPED);
            assert_eq!(other.token(&response, &trust()), Err(StampError::OtherImprint));
        }
        let Err(StampError::Refused(2, said)) =
            request.token(&answer("sha512", "sha256", &request), &trust())
        else {
            panic!("a digest that it does not take")
        };
        assert!(!said.is_empty());
        assert_eq!(request.token(b"<html>", &trust()), Err(StampError::Form));
        assert_eq!(
            request.token(b"\x30\x05\x30\x03\x02\x01\x02", &trust()),
            Err(StampError::Refused(2, String::new()))
        );
    }
}
