//! What a host must show before it gets a message.
//!
//! Certified mail travels encrypted or not at all (PEC-BT-13). An ordinary domain says itself what it
//! wants: by the TLSA records of its hosts (RFC 7672 §2.2), or else by a policy (RFC 8461 §4); of one
//! that says nothing TLS is used where it works (RFC 7435 §3).

use crypto::tls::Expects;
use crypto::tls::dane::Dane;
use rustls_pki_types::ServerName;
use smtp::client::TlsUse;

use super::way::{Host, Published};
use crate::site::Site;

/// What one host must show.
#[derive(Debug, Clone)]
pub(super) enum Demand {
    /// TLS where it works.
    Opportunistic,
    /// TLS, and any certificate.
    Encrypted,
    /// TLS, and a certificate that the host's own records vouch for, looked at by this name.
    Dane { records: Dane, base: String },
}

impl Demand {
    /// Of a host of this ordinary domain.
    pub(super) fn of(domain: &str, host: &Host) -> Self {
        match &host.published {
            Published::Nothing | Published::Unknown(_) => Self::Opportunistic,
            Published::Records { base, records } => {
                // RFC 7672 §3.2.2: the certificate may also be the domain's.
                let names = [base.as_str(), domain].into_iter();
                let names = names.filter_map(|name| ServerName::try_from(name.to_owned()).ok());
                match Dane::new(records, names.collect()) {
                    Some(records) => Self::Dane { records, base: base.clone() },
                    // RFC 7672 §2.2: of records that cannot be used the one sure thing is that the
                    // host has TLS.
                    None => Self::Encrypted,
                }
            }
        }
    }

    /// Whether the connection goes over to TLS.
    pub(super) fn tls(&self) -> TlsUse {
        match self {
            Self::Opportunistic => TlsUse::IfOffered,
            Self::Encrypted | Self::Dane { .. } => TlsUse::Required,
        }
    }

    /// By which name TLS asks for the host, RFC 7672 §8.1.
    pub(super) fn name<'a>(&'a self, host: &'a str) -> &'a str {
        match self {
            Self::Dane { base, .. } => base,
            _ => host,
        }
    }

    /// What the certificate is held against.
    pub(super) fn expects(&self, site: &Site) -> Expects {
        match self {
            Self::Dane { records, .. } => Expects::Dane(records.clone()),
            Self::Opportunistic | Self::Encrypted => {
                let roots = crypto::tls::Roots::new(site.trust.load().authorities());
                match site.config.load().transport.verify_required {
                    true => Expects::Authorities(roots),
                    false => Expects::Recorded(roots),
                }
            }
        }
    }

    /// Who vouches for a certificate that holds, as the log has it.
    pub(super) fn voucher(&self) -> &'static str {
        match self {
            Self::Dane { .. } => " by DANE",
            _ => "",
        }
    }
}
