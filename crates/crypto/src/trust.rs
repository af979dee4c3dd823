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
            let mut signed = false;
            for authority in &authorities {
                let x509 = authority.x509();
                if same_name(x509.subject_name(), crl.x509().issuer_name()) {
                    let key = x509.public_key().map_err(|e| TrustError::Authority(e.into()))?;
                    signed |= matches!(crl.x509().verify(&key), Ok(true));
                }
            }
            if !signed {
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

    /// Whether `signer` may sign mail at that time. `along` are certificates that may be needed
    /// between it and an authority; nobody believes them for being there.
    pub(crate) fn check(
        &self,
        signer: &Certificate,
        along: &StackRef<X509>,
        at: Timestamp,
    ) -> Result<Revocation, VerifyError> {
        let key = openssl::sha::sha256(signer.to_der());
        let known = self.paths.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some(path) = known.filter(|path| path.from <= at && at < path.until) {
            return Ok(path.revocation);
        }
        let path = self.walk(signer, along, at)?;
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if paths.len() >= PATHS_MAX {
            paths.clear();
        }
        paths.insert(key, path);
        Ok(path.revocation)
    }

    fn walk(
        &self,
        signer: &Certificate,
        along: &StackRef<X509>,
        at: Timestamp,
    ) -> Result<Path, VerifyError> {
        let listed = self.crls.iter().any(|crl| crl.is_for(signer.x509()));
        let (chain, revocation) = match self.chain(signer, along, at, listed)? {
            Ok(chain) if listed => (chain, Revocation::Checked),
            Ok(chain) => (chain, Revocation::NotAvailable),
            Err(result) if is_of_the_list(result) => {
                // No list that counts at that time: then the path without it, and below, what
                // the lists say nevertheless.
                let chain = self.chain(signer, along, at, false)?.map_err(refusal)?;
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
        at: Timestamp,
        check_crl: bool,
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
        // keyUsage and extendedKeyUsage must allow signing mail, where they are there at all.
        param.set_purpose(X509PurposeId::SMIME_SIGN)?;
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

/// No certificates along: for those who have the signer's certificate only.
impl Trust {
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
        let along: Stack<X509> = Stack::new()?;
        self.check(certificate, &along, at)
    }
}
