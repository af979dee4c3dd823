//! Whom we believe: certification paths, revocation, and what is remembered of both.
//!
//! RFC 5280 §6, carried out by OpenSSL; PEC-PR-03, PEC-PR-04, PEC-SIG-11: the trust anchors are those
//! that the operator names, never the web's.
//!
//! A path costs several RSA verifications, and a provider signs many messages with the same
//! certificate, so a path that held is remembered, with the span of time in which nothing it
//! rests on changes: validity of each certificate in it, issue and end of each list, each date of
//! revocation. A time outside that span is checked anew. New lists make a new [`Trust`], which
//! remembers nothing. Refusals are never remembered: what anyone can make must not fill memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use openssl::error::ErrorStack;
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509StoreContext, X509VerifyResult};

use crate::certificate::{Certificate, CertificateError, Crl, same_name};
use crate::ffi;
use crate::verify::VerifyError;

/// Providers have some ten certificates each, and there are a few dozen of them. Only a path that
/// holds is remembered, so no stranger can fill this; when it is full, it is emptied.
pub const PATHS_MAX: usize = 4096;

/// Whether revocation was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// A list of the issuer, current at that time, does not name the certificate.
    Checked,
    /// There is no list of the issuer that was current at that time. What older lists say of
    /// revocations counts all the same.
    NotAvailable,
}

/// Why there can be no such trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A revocation list that none of the authorities signed; it names its issuer.
    #[error("the revocation list of {0} is not signed by a trusted authority")]
    ForeignCrl(String),
    /// A certificate among the authorities holds a key that cannot be used.
    #[error("an authority's certificate cannot be used: {0}")]
    Authority(CertificateError),
}

/// The authorities we believe, and the revocation lists that we have of them.
#[derive(Debug)]
pub struct Trust {
    authorities: Vec<Certificate>,
    crls: Vec<Crl>,
    paths: Mutex<HashMap<[u8; 32], Path>>,
}

/// A path that holds at each time in `from..until`.
#[derive(Debug, Clone, Copy)]
struct Path {
    from: Timestamp,
    until: Timestamp,
    revocation: Revocation,
}

impl Trust {
    /// Each of `authorities` is an anchor, be it a root or not. Each of `crls` must be signed by
    /// one of them.
    ///
    /// # Errors
    ///
    /// [`TrustError`] names what is wrong with the arguments.
    pub fn new(authorities: Vec<Certificate>, crls: Vec<Crl>) -> Result<Self, TrustError> {
        for crl in &crls {
            if !is_signed(crl, &authorities)? {
                return Err(TrustError::ForeignCrl(crl.issuer()));
            }
        }
        Ok(Self { authorities, crls, paths: Mutex::default() })
    }

    /// The same authorities with newer lists, and nothing remembered: PEC-PR-04.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_crls(&self, crls: Vec<Crl>) -> Result<Self, TrustError> {
        Self::new(self.authorities.clone(), crls)
    }

    /// Whether one of the authorities signed this list.
    #[must_use]
    pub fn vouches_for(&self, crl: &Crl) -> bool {
        is_signed(crl, &self.authorities).unwrap_or(false)
    }

    /// The authorities, as they were given.
    #[must_use]
    pub fn authorities(&self) -> &[Certificate] {
        &self.authorities
    }

    /// The lists, as they were given.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    /// Whether `signer` may sign mail at that time. `along` are certificates, in DER, that may be
    /// needed between it and an authority; nobody believes them for being there.
    pub(crate) fn check(
        &self,
        signer: &Certificate,
        along: &[&[u8]],
        at: Timestamp,
    ) -> Result<Revocation, VerifyError> {
        let key = openssl::sha::sha256(signer.to_der());
        let known = self.paths.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some(path) = known.filter(|path| path.from <= at && at < path.until) {
            return Ok(path.revocation);
        }
        let path = self.walk(signer, along, X509PurposeId::SMIME_SIGN, at)?;
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if paths.len() >= PATHS_MAX {
            paths.clear();
        }
        paths.insert(key, path);
        Ok(path.revocation)
    }

    /// Whether `certificate` may sign mail at that time, by its path alone.
    ///
    /// # Errors
    ///
    /// As [`verify`](crate::verify()), of the path.
    pub fn check_certificate(
        &self,
        certificate: &Certificate,
        at: Timestamp,
    ) -> Result<Revocation, VerifyError> {
        self.check(certificate, &[], at)
    }

    /// Whether `signer` may stamp times at that time: as [`check`](Self::check), for the purpose
    /// that RFC 3161 §2.3 asks for. Nothing is remembered: a seal is stamped once a day.
    pub(crate) fn check_stamper(
        &self,
        signer: &Certificate,
        along: &[&[u8]],
        at: Timestamp,
    ) -> Result<Revocation, VerifyError> {
        Ok(self.walk(signer, along, X509PurposeId::TIMESTAMP_SIGN, at)?.revocation)
    }

    fn walk(
        &self,
        signer: &Certificate,
        along: &[&[u8]],
        purpose: X509PurposeId,
        at: Timestamp,
    ) -> Result<Path, VerifyError> {
        let mut between = Stack::new()?;
        for der in along {
            // One that cannot be read helps no path; if it was needed, there is none.
            if let Ok(certificate) = X509::from_der(der) {
                between.push(certificate)?;
            }
        }
        let listed = self.crls.iter().any(|crl| crl.is_for(signer.x509()));
        let (chain, revocation) = match self.chain(signer, &between, purpose, (at, listed))? {
            Ok(chain) if listed => (chain, Revocation::Checked),
            Ok(chain) => (chain, Revocation::NotAvailable),
            Err(result) if is_of_the_list(result) => {
                // No list that counts at that time: then the path without it, and below, what
                // the lists say nevertheless.
                let chain = self.chain(signer, &between, purpose, (at, false))?.map_err(refusal)?;
                (chain, Revocation::NotAvailable)
            }
            Err(result) => return Err(refusal(result)),
        };
        let mut path = Path { from: Timestamp::MIN, until: Timestamp::MAX, revocation };
        for certificate in &chain {
            let span = Certificate::from_x509(certificate.clone()).map_err(fault)?;
            path.from = path.from.max(span.not_before());
            path.until = path.until.min(span.not_after());
            for crl in self.crls.iter().filter(|crl| crl.is_for(certificate)) {
                path.narrow(crl, certificate, at)?;
            }
        }
        Ok(path)
    }

    /// The chain that OpenSSL finds, signer first, or its reason for finding none.
    fn chain(
        &self,
        signer: &Certificate,
        along: &StackRef<X509>,
        purpose: X509PurposeId,
        (at, check_crl): (Timestamp, bool),
    ) -> Result<Result<Vec<X509>, X509VerifyResult>, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        for authority in &self.authorities {
            store.add_cert(authority.x509().clone())?;
        }
        let mut param = X509VerifyParam::new()?;
        // An authority that the operator names is an anchor, though another signed it.
        let mut flags = X509VerifyFlags::PARTIAL_CHAIN;
        if check_crl {
            flags |= X509VerifyFlags::CRL_CHECK;
            for crl in &self.crls {
                ffi::add_crl(&mut store, crl.x509())?;
            }
        }
        param.set_flags(flags)?;
        // keyUsage and extendedKeyUsage must allow signing mail, where they are there at all; those of
        // who stamps times must be there.
        param.set_purpose(purpose)?;
        param.set_time(at.as_second());
        store.set_param(&param)?;
        let store = store.build();
        X509StoreContext::new()?.init(&store, signer.x509(), along, |context| {
            if !context.verify_cert()? {
                return Ok(Err(context.error()));
            }
            let chain = context.chain().map(|chain| chain.iter().map(ToOwned::to_owned).collect());
            Ok(Ok(chain.unwrap_or_default()))
        })
    }
}

impl Path {
    /// Takes from the span all times at which `crl` might say another thing of `certificate`.
    fn narrow(&mut self, crl: &Crl, certificate: &X509, at: Timestamp) -> Result<(), VerifyError> {
        if at < crl.this_update() {
            self.until = self.until.min(crl.this_update());
        } else {
            match crl.next_update() {
                Some(end) if end <= at => self.from = self.from.max(end),
                end => {
                    self.from = self.from.max(crl.this_update());
                    self.until = self.until.min(end.unwrap_or(Timestamp::MAX));
                }
            }
        }
        match crl.revoked(certificate).map_err(fault)? {
            Some(since) if since <= at => Err(VerifyError::Revoked),
            Some(since) => {
                self.until = self.until.min(since);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Whether one of `authorities` issued and signed this list.
fn is_signed(crl: &Crl, authorities: &[Certificate]) -> Result<bool, TrustError> {
    for authority in authorities {
        let x509 = authority.x509();
        if same_name(x509.subject_name(), crl.x509().issuer_name()) {
            let key = x509.public_key().map_err(|e| TrustError::Authority(e.into()))?;
            if matches!(crl.x509().verify(&key), Ok(true)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn fault(error: CertificateError) -> VerifyError {
    VerifyError::Fault(error.to_string())
}

/// Whether the failing is the list's, not the certificate's: missing for this purpose, out of
/// date, or of a form that OpenSSL does not know.
fn is_of_the_list(result: X509VerifyResult) -> bool {
    matches!(
        result.as_raw(),
        openssl_sys::X509_V_ERR_UNABLE_TO_GET_CRL
            | openssl_sys::X509_V_ERR_CRL_NOT_YET_VALID
            | openssl_sys::X509_V_ERR_CRL_HAS_EXPIRED
            | openssl_sys::X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER
            | openssl_sys::X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION
            | openssl_sys::X509_V_ERR_DIFFERENT_CRL_SCOPE
    )
}

fn refusal(result: X509VerifyResult) -> VerifyError {
    match result.as_raw() {
        openssl_sys::X509_V_ERR_CERT_HAS_EXPIRED => VerifyError::Expired,
        openssl_sys::X509_V_ERR_CERT_NOT_YET_VALID => VerifyError::NotYetValid,
        openssl_sys::X509_V_ERR_CERT_REVOKED => VerifyError::Revoked,
        openssl_sys::X509_V_ERR_OUT_OF_MEM => VerifyError::Fault(result.error_string().into()),
        _ => VerifyError::Path(result.error_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use openssl::nid::Nid;
    use openssl::x509::extension::SubjectAlternativeName;
    use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
    use openssl::x509::{X509, X509Extension};

    use super::{PATHS_MAX, Path, Revocation, Trust, TrustError};
    use crate::authority::subject;
    use crate::testing::{A, A_KEY, CA, CRL, at, authority, certificate, signer, today, trust};
    use crate::{Authority, Certificate, Crl, Identity, VerifyError, verify};

    const CONTENT: &[u8] = b"content";

    /// A certificate for provider A's key with these extensions, by `authority`.
    fn with(authority: &Authority, extensions: &[X509Extension]) -> Certificate {
        let name = subject(&[(Nid::ORGANIZATIONNAME, "Gestore A")]).unwrap();
        let key = certificate(A).x509().public_key().unwrap();
        let mut names = SubjectAlternativeName::new();
        names.email("posta-certificata@a.example");
        authority.issue(&name, &key, extensions, &names, today()).unwrap()
    }

    fn sign(certificate: Certificate, chain: Vec<Certificate>) -> Vec<u8> {
        let identity = Identity::new(certificate, chain).unwrap();
        identity.sign(&signer(A_KEY), CONTENT, today()).unwrap()
    }

    fn list(revoked: &[&Certificate], days: u32, made: &str) -> Crl {
        let serials: Vec<_> = revoked.iter().map(|one| one.serial().unwrap()).collect();
        let serials: Vec<_> = serials.iter().map(Vec::as_slice).collect();
        authority().valid_for(days).crl(&serials, at(made)).unwrap()
    }

    fn with_lists(lists: Vec<Crl>) -> Trust {
        Trust::new(vec![certificate(CA)], lists).unwrap()
    }

    #[test]
    fn what_is_remembered_hides_neither_expiry_nor_revocation() {
        // PEC-PR-03, PEC-PR-04
        let trust = trust();
        let a = certificate(A);
        for _ in 0..2 {
            assert_eq!(trust.check_certificate(&a, today()), Ok(Revocation::Checked));
        }
        let (before, after) = (at("2025-12-31T23:59:59Z"), at("2046-01-01T00:00:00Z"));
        assert_eq!(trust.check_certificate(&a, before), Err(VerifyError::NotYetValid));
        assert_eq!(trust.check_certificate(&a, after), Err(VerifyError::Expired));
        let last = at("2045-12-31T23:59:59.9Z");
        assert_eq!(trust.check_certificate(&a, last), Ok(Revocation::Checked));
        let newer = trust.with_crls(vec![list(&[&a], 30, "2026-03-01T00:00:00Z")]).unwrap();
        assert_eq!(newer.check_certificate(&a, today()), Err(VerifyError::Revoked));
    }

    #[test]
    fn a_path_that_held_is_not_walked_again() {
        let (mut trust, a) = (trust(), certificate(A));
        trust.check_certificate(&a, today()).unwrap();
        assert_eq!(trust.paths.lock().unwrap().len(), 1);
        // Without its authorities, nothing but what is remembered can answer.
        trust.authorities.clear();
        trust.crls.clear();
        assert_eq!(trust.check_certificate(&a, today()), Ok(Revocation::Checked));
        let later = at("2046-02-01T00:00:00Z");
        assert!(matches!(trust.check_certificate(&a, later), Err(VerifyError::Path(_))));
    }

    #[test]
    fn refusals_are_not_remembered_and_the_memory_has_an_end() {
        let trust = trust();
        let stranger = certificate(include_bytes!("../../../certs/stranger.pem"));
        assert!(matches!(trust.check_certificate(&stranger, today()), Err(VerifyError::Path(_))));
        assert!(trust.paths.lock().unwrap().is_empty());
        let path = Path { from: today(), until: today(), revocation: Revocation::Checked };
        for index in 0..PATHS_MAX {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&index.to_be_bytes());
            trust.paths.lock().unwrap().insert(key, path);
        }
        trust.check_certificate(&certificate(A), today()).unwrap();
        assert_eq!(trust.paths.lock().unwrap().len(), 1);
    }

    /// Each row: the list's revocations, when it was made, for how many days; the time asked
    /// about; the answer. PEC-PR-03, and PEC-PR-04: a list that has ended is not the most recent.
    #[test]
    fn a_list_counts_for_the_time_it_is_of() {
        let a = certificate(A);
        let day = "2026-06-01T00:00:00Z";
        let table = [
            (&[][..], 30, "2026-06-01T00:00:00Z", Ok(Revocation::Checked)),
            (&[], 30, "2026-06-30T23:59:59Z", Ok(Revocation::Checked)),
            (&[], 30, "2026-07-01T00:00:00Z", Ok(Revocation::NotAvailable)),
            (&[], 30, "2026-05-31T23:59:59Z", Ok(Revocation::NotAvailable)),
            (&[&a][..], 30, "2026-05-31T23:59:59Z", Ok(Revocation::NotAvailable)),
            (&[&a][..], 30, "2026-06-01T00:00:00Z", Err(VerifyError::Revoked)),
            (&[&a][..], 30, "2027-01-01T00:00:00Z", Err(VerifyError::Revoked)),
        ];
        for (revoked, days, time, answer) in &table {
            let trust = with_lists(vec![list(revoked, *days, day)]);
            assert_eq!(trust.check_certificate(&a, at(time)), *answer, "{time}");
            // The same when another time was asked about before, and is remembered.
            for before in ["2026-05-01T00:00:00Z", "2026-06-15T00:00:00Z", "2027-06-01T00:00:00Z"] {
                let trust = with_lists(vec![list(revoked, *days, day)]);
                let _ = trust.check_certificate(&a, at(before));
                assert_eq!(trust.check_certificate(&a, at(time)), *answer, "{before} {time}");
            }
        }
    }

    #[test]
    fn without_a_list_the_path_alone_counts() {
        let trust = with_lists(Vec::new());
        let answer = trust.check_certificate(&certificate(A), today());
        assert_eq!(answer, Ok(Revocation::NotAvailable));
    }

    #[test]
    fn a_list_of_nobody_we_trust_is_refused() {
        let stranger = certificate(include_bytes!("../../../certs/stranger-ca.pem"));
        let refused = Trust::new(vec![stranger], vec![Crl::read(CRL).unwrap()]).unwrap_err();
        let issuer = "C=IT, O=Autorita di prova, CN=Autorita di prova".to_owned();
        assert_eq!(refused, TrustError::ForeignCrl(issuer));
        // The right name over another's signature.
        let mut list = Crl::read(CRL).unwrap().to_der().to_vec();
        *list.last_mut().unwrap() ^= 1;
        let forged = Trust::new(vec![certificate(CA)], vec![Crl::read(&list).unwrap()]);
        assert!(matches!(forged, Err(TrustError::ForeignCrl(_))));
    }

    #[test]
    fn the_purpose_is_asked_for_where_the_certificate_names_any() {
        let ca = authority();
        let digital = || KeyUsage::new().critical().digital_signature().build().unwrap();
        let server = || ExtendedKeyUsage::new().server_auth().build().unwrap();
        let encrypting = KeyUsage::new().critical().key_encipherment().build().unwrap();
        for (extensions, holds) in [
            (vec![], true),
            (vec![digital()], true),
            (vec![digital(), server()], false),
            (vec![server()], false),
            (vec![encrypting], false),
        ] {
            let certificate = with(&ca, &extensions);
            let cms = sign(certificate, Vec::new());
            match verify(&cms, CONTENT, &trust(), today()) {
                Ok(_) => assert!(holds),
                Err(VerifyError::Path(reason)) => {
                    assert!(!holds);
                    assert_eq!(reason, "unsuitable certificate purpose");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    /// PEC-CRT-10: what real certificates had against the profile is no reason to refuse.
    #[test]
    fn a_certificate_outside_the_profile_is_accepted() {
        let usage = KeyUsage::new().digital_signature().non_repudiation().build().unwrap();
        let basic = BasicConstraints::new().build().unwrap();
        let certificate = with(&authority(), &[usage, basic]);
        let cms = sign(certificate.clone(), Vec::new());
        assert_eq!(verify(&cms, CONTENT, &trust(), today()).unwrap().signer, certificate);
    }

    /// PEC-PR-03: the whole path. Root, authority below it, provider.
    #[test]
    fn an_authority_in_between_may_come_along_but_not_be_a_provider() {
        let between = |extensions: &[X509Extension]| {
            let (_, key) = Authority::new("Sotto", today()).unwrap().to_pem().unwrap();
            let public = openssl::pkey::PKey::private_key_from_pem(key.as_bytes()).unwrap();
            let name = subject(&[(Nid::ORGANIZATIONNAME, "Sotto")]).unwrap();
            let mut names = SubjectAlternativeName::new();
            names.email("ca@sotto.example");
            let certificate =
                authority().issue(&name, &public, extensions, &names, today()).unwrap();
            Authority::from_pem(certificate.to_pem().as_bytes(), key.as_bytes()).unwrap()
        };
        let below = between(&[
            BasicConstraints::new().critical().ca().build().unwrap(),
            KeyUsage::new().critical().key_cert_sign().crl_sign().build().unwrap(),
        ]);
        let leaf = with(&below, &[]);
        let alone = sign(leaf.clone(), Vec::new());
        let along = sign(leaf.clone(), vec![below.certificate().clone()]);
        assert!(matches!(verify(&alone, CONTENT, &trust(), today()), Err(VerifyError::Path(_))));
        assert!(verify(&along, CONTENT, &trust(), today()).is_ok());
        // Named by the operator, it is an anchor, and its own issuer need not be known.
        let anchored = Trust::new(vec![below.certificate().clone()], Vec::new()).unwrap();
        assert!(verify(&alone, CONTENT, &anchored, today()).is_ok());
        // Revoked by the root, it takes with it what it issued.
        let lists = vec![list(&[below.certificate()], 30, "2026-03-01T00:00:00Z")];
        let refused = verify(&along, CONTENT, &with_lists(lists), today()).unwrap_err();
        assert_eq!(refused, VerifyError::Revoked);

        let provider = between(&[KeyUsage::new().critical().digital_signature().build().unwrap()]);
        let forged = sign(with(&provider, &[]), vec![provider.certificate().clone()]);
        assert!(matches!(verify(&forged, CONTENT, &trust(), today()), Err(VerifyError::Path(_))));
    }

    #[test]
    fn a_certificate_signed_by_nobody_is_refused() {
        // All is as in provider A's but the signature over it.
        let a = certificate(A);
        let mut der = a.to_der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        let forged = Certificate::from_x509(X509::from_der(&der).unwrap()).unwrap();
        let refused = verify(&sign(forged, Vec::new()), CONTENT, &trust(), today()).unwrap_err();
        assert_eq!(refused, VerifyError::Path("certificate signature failure".into()));
    }
}
