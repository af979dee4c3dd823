//! DANE: what a host's TLSA records say of the certificate that it shows.
//!
//! RFC 6698 §2.1, as RFC 7671 mends it and RFC 7672 §3 has it for mail. Usages DANE-TA(2) and
//! DANE-EE(3) count, selectors 0 and 1, matching types 0, 1 and 2; a record with anything else is
//! unusable, and so is one whose data cannot be what it says (RFC 6698 §4.1). Not here: whether
//! DNSSEC vouches for the records, which is for whoever asked for them.

use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, SHA512, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, Der, ServerName, TrustAnchor, UnixTime};

use crate::der::{CONTEXT_0, Elements, SEQUENCE};

/// Records of one host that are looked at: more than a change of keys and digests together needs.
pub const RECORDS_MAX: usize = 32;

/// A TLSA record as it came, RFC 6698 §2.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlsa {
    /// Certificate usage.
    pub usage: u8,
    /// What of a certificate is compared.
    pub selector: u8,
    /// In which form.
    pub matching: u8,
    /// With what.
    pub data: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    /// DANE-TA(2): an authority that the host names itself.
    Authority,
    /// DANE-EE(3): the host's own certificate or key.
    EndEntity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selector {
    Certificate,
    PublicKey,
}

/// By strength, RFC 7671 §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Matching {
    Full,
    Sha256,
    Sha512,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Usable {
    usage: Usage,
    selector: Selector,
    matching: Matching,
    data: Vec<u8>,
}

impl Usable {
    fn of(record: &Tlsa) -> Option<Self> {
        let usage = match record.usage {
            2 => Usage::Authority,
            3 => Usage::EndEntity,
            // RFC 7672 §3.1.3: what needs the authorities of the web too is of no use to mail.
            _ => return None,
        };
        let selector = match record.selector {
            0 => Selector::Certificate,
            1 => Selector::PublicKey,
            _ => return None,
        };
        let data = record.data.clone();
        let matching = match (record.matching, data.len()) {
            (0, _) => Matching::Full,
            (1, 32) => Matching::Sha256,
            (2, 64) => Matching::Sha512,
            _ => return None,
        };
        let is_whole = match (matching, selector) {
            (Matching::Full, Selector::Certificate) => {
                ParsedCertificate::try_from(&CertificateDer::from(data.as_slice())).is_ok()
            }
            (Matching::Full, Selector::PublicKey) => value(&data).is_some(),
            _ => true,
        };
        is_whole.then_some(Self { usage, selector, matching, data })
    }

    fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        let key;
        let selected: &[u8] = match self.selector {
            Selector::Certificate => certificate,
            Selector::PublicKey => match ParsedCertificate::try_from(certificate) {
                Err(_) => return false,
                Ok(parsed) => {
                    key = parsed.subject_public_key_info();
                    &key
                }
            },
        };
        match self.matching {
            Matching::Full => selected == self.data,
            Matching::Sha256 => digest(&SHA256, selected).as_ref() == self.data,
            Matching::Sha512 => digest(&SHA512, selected).as_ref() == self.data,
        }
    }
}

/// What a host's certificate is held against: at least one usable record, and the names that count.
#[derive(Debug, Clone)]
pub struct Dane {
    records: Vec<Usable>,
    names: Vec<ServerName<'static>>,
}

impl Dane {
    /// What these records say; `None` when none of them is usable. `names`: under any of which the
    /// certificate may be where an authority vouches for it (RFC 7672 §3.2.2). Records beyond
    /// [`RECORDS_MAX`] are not looked at.
    #[must_use]
    pub fn new(records: &[Tlsa], names: Vec<ServerName<'static>>) -> Option<Self> {
        let all: Vec<Usable> = records.iter().take(RECORDS_MAX).filter_map(Usable::of).collect();
        // RFC 7671 §9: of several digests of one kind the strongest counts.
        let strongest = |record: &Usable| {
            let alike = all.iter().filter(|other| {
                other.usage == record.usage
                    && other.selector == record.selector
                    && other.matching != Matching::Full
            });
            alike.map(|other| other.matching).max()
        };
        let counts = |record: &&Usable| {
            record.matching == Matching::Full || Some(record.matching) == strongest(record)
        };
        let records: Vec<Usable> = all.iter().filter(counts).cloned().collect();
        (!records.is_empty()).then_some(Self { records, names })
    }

    /// Whether the records vouch for what a host showed in its handshake, at this time. Of a
    /// DANE-EE(3) record neither names nor dates count (RFC 7671 §5.1).
    ///
    /// # Errors
    ///
    /// Why they do not: of a chain that ends where a record says, what is wrong with it.
    pub fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), Error> {
        let of = |usage| self.records.iter().filter(move |record| record.usage == usage);
        if of(Usage::EndEntity).any(|record| record.matches(end_entity)) {
            return Ok(());
        }
        let mut roots = RootCertStore::empty();
        for record in of(Usage::Authority) {
            // RFC 7671 §5.2: the authority is in the chain; or the record is the authority itself.
            let shown = intermediates.iter().filter(|shown| record.matches(shown)).cloned();
            let mut authorities: Vec<CertificateDer<'_>> = shown.collect();
            match (record.matching, record.selector) {
                (Matching::Full, Selector::Certificate) => {
                    authorities.push(CertificateDer::from(record.data.as_slice()));
                }
                (Matching::Full, Selector::PublicKey) => {
                    let chain = std::iter::once(end_entity).chain(intermediates);
                    roots.roots.extend(chain.filter_map(|shown| anchor(shown, &record.data)));
                }
                _ => {}
            }
            // One of a kind that TLS does not know vouches for nobody.
            roots.add_parsable_certificates(
                authorities.iter().map(|authority| CertificateDer::from(authority.as_ref())),
            );
        }
        if roots.is_empty() {
            return Err(none_matches(self.records.len()));
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
        let mut refused = none_matches(self.records.len());
        for name in &self.names {
            match verifier.verify_server_cert(end_entity, intermediates, name, &[], now) {
                Ok(_) => return Ok(()),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

fn none_matches(count: usize) -> Error {
    let why = format!("the certificate matches none of {count} TLSA records");
    Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::from(Box::<
        dyn std::error::Error + Send + Sync,
    >::from(
        why
    )))))
}

/// Whoever issued this certificate, if it was with this key: RFC 7671 §5.2.3.
fn anchor(shown: &[u8], key: &[u8]) -> Option<TrustAnchor<'static>> {
    // RFC 5280 §4.1: of the part that is signed, after the version, number and algorithm.
    let signed = Elements::new(value(shown)?).next().filter(|signed| signed.tag == SEQUENCE)?;
    let mut parts = Elements::new(signed.body).skip_while(|part| part.tag == CONTEXT_0);
    let issuer = parts.nth(2).filter(|issuer| issuer.tag == SEQUENCE)?;
    Some(TrustAnchor {
        subject: Der::from(issuer.body.to_vec()),
        subject_public_key_info: Der::from(value(key)?.to_vec()),
        name_constraints: None,
    })
}

/// What is in a SEQUENCE that is all there is.
fn value(der: &[u8]) -> Option<&[u8]> {
    let element = Elements::new(der).next()?;
    (element.tag == SEQUENCE && element.whole.len() == der.len()).then_some(element.body)
}

#[cfg(test)]
mod tests;
