//! What a host must show before it gets a message.
//!
//! Certified mail travels encrypted or not at all (PEC-BT-13). An ordinary domain says itself what it
//! wants: by the TLSA records of its hosts (RFC 7672 §2.2), or else by a policy (RFC 8461 §4); of one
//! that says nothing TLS is used where it works (RFC 7435 §3), unless the operator wants certificates that
//! hold: then no host has less to show.

use crypto::tls::dane::{Dane, Tlsa};
use crypto::tls::{Expects, Roots};
use rustls_pki_types::ServerName;
use smtp::client::TlsUse;
use smtp::sts::{Mode, Policy};

use super::tally::{Held, Kind, Problem};
use super::way::{Host, Published};
use crate::site::Site;

/// What one host must show.
#[derive(Debug, Clone)]
pub(super) enum Demand {
    /// TLS where it works; it is seen whether these vouch for its certificate.
    Opportunistic(Roots),
    /// TLS, and any certificate; it is seen whether these vouch for it.
    Encrypted(Roots),
    /// TLS, and a certificate that one of `trust.authorities` vouches for: what else would be
    /// [`Demand::Opportunistic`], [`Demand::Encrypted`] or [`Demand::Tested`], where
    /// `transport.verify = "required"`.
    Verified,
    /// TLS, and a certificate that the host's own records vouch for, looked at by this name.
    Dane { records: Dane, base: String },
    /// TLS, and a certificate that these vouch for: the domain has a policy.
    Policy(Roots),
    /// TLS where it works; a policy that is being tried out would have these vouch for it.
    Tested(Roots),
}

impl Demand {
    /// Of a host of a provider, whose signature counts on each message.
    pub(super) fn of_provider(roots: Roots, verify_required: bool) -> Self {
        if verify_required { Self::Verified } else { Self::Encrypted(roots) }
    }

    /// Of a host of this ordinary domain, which has this policy, if any. DANE comes first: what its
    /// records say no policy takes back (RFC 8461 §2). `roots` are the authorities of the web.
    ///
    /// # Errors
    ///
    /// Why nothing is sent to this host.
    pub(super) fn of(
        domain: &str,
        host: &Host,
        policy: Option<&Policy>,
        roots: Roots,
        verify_required: bool,
    ) -> Result<Self, Problem> {
        match &host.published {
            Published::Unknown(no_way) => {
                let kind =
                    if no_way.is_unproved { Kind::DnssecInvalid } else { Kind::ValidationFailure };
                Err(Problem::new(kind, no_way.why.clone()))
            }
            Published::Nothing => match policy.map(|policy| (policy.mode(), policy)) {
                // RFC 8461 §5: one in testing takes nothing away, neither from what we want.
                None | Some((Mode::None | Mode::Testing, _)) if verify_required => {
                    Ok(Self::Verified)
                }
                None | Some((Mode::None, _)) => Ok(Self::Opportunistic(roots)),
                Some((Mode::Testing, _)) => Ok(Self::Tested(roots)),
                // RFC 8461 §5: a host that it does not name gets nothing.
                Some((Mode::Enforce, policy)) if !policy.names(&host.name) => {
                    Err(unnamed(domain, host))
                }
                Some((Mode::Enforce, _)) => Ok(Self::Policy(roots)),
            },
            Published::Records { base, records } => {
                // RFC 7672 §3.2.2: the certificate may also be the domain's.
                let names = [base.as_str(), domain].into_iter();
                let names = names.filter_map(|name| ServerName::try_from(name.to_owned()).ok());
                Ok(match Dane::new(records, names.collect()) {
                    Some(records) => Self::Dane { records, base: base.clone() },
                    // RFC 7672 §2.2: of records that cannot be used the one sure thing is that the
                    // host has TLS.
                    None if verify_required => Self::Verified,
                    None => Self::Encrypted(roots),
                })
            }
        }
    }

    /// Whether the connection goes over to TLS.
    pub(super) fn tls(&self) -> TlsUse {
        match self {
            Self::Opportunistic(_) | Self::Tested(_) => TlsUse::IfOffered,
            Self::Encrypted(_) | Self::Verified | Self::Dane { .. } | Self::Policy(_) => {
                TlsUse::Required
            }
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
        let own = || Roots::new(site.trust.load().authorities());
        match self {
            Self::Dane { records, .. } => Expects::Dane(records.clone()),
            Self::Policy(roots) => Expects::Authorities(roots.clone()),
            Self::Tested(roots) => Expects::Recorded(roots.clone()),
            Self::Opportunistic(web) | Self::Encrypted(web) => Expects::Recorded(own().and(web)),
            Self::Verified => Expects::Authorities(own()),
        }
    }

    /// Who vouches for a certificate that holds, as the log has it.
    pub(super) fn voucher(&self) -> &'static str {
        match self {
            Self::Dane { .. } => " by DANE",
            Self::Policy(_) | Self::Tested(_) => " by MTA-STS",
            _ => "",
        }
    }
}

fn unnamed(domain: &str, host: &Host) -> Problem {
    let why = format!("{} is no host that the policy of {domain} names", host.name);
    Problem::new(Kind::ValidationFailure, why)
}

/// Whether the name of a host is surely one that the domain, or the operator, has for it: by DNSSEC, by
/// a policy, or by a route. A message with REQUIRETLS goes to no other (RFC 8689 §4.2.1).
pub(super) fn is_named(host: &Host, policy: Option<&Policy>) -> bool {
    let by_policy =
        policy.is_some_and(|policy| policy.mode() != Mode::None && policy.names(&host.name));
    host.is_proved || by_policy
}

/// What is wrong with a host beside its TLS, though it is no obstacle: reports have it.
pub(super) fn doubt(
    domain: &str,
    host: &Host,
    policy: Option<&Policy>,
    demand: &Demand,
) -> Option<Problem> {
    match (&host.published, demand) {
        (Published::Records { .. }, Demand::Encrypted(_) | Demand::Verified) => {
            Some(Problem::new(Kind::TlsaInvalid, "no TLSA record can be used"))
        }
        (_, Demand::Tested(_)) => {
            let names = policy.is_none_or(|policy| policy.names(&host.name));
            (!names).then(|| unnamed(domain, host))
        }
        _ => None,
    }
}

/// Against what a session with this host is held, in the words of reports (RFC 8460 §4.4).
pub(super) fn held(host: &Host, policy: Option<&Policy>) -> Held {
    match (&host.published, policy) {
        (Published::Records { records, .. }, _) => Held {
            kind: "tlsa".to_owned(),
            lines: records.iter().map(shown).collect(),
            hosts: Vec::new(),
        },
        (Published::Unknown(_), _) => Held { kind: "tlsa".to_owned(), ..Held::nothing() },
        (Published::Nothing, Some(policy)) if policy.mode() != Mode::None => Held {
            kind: "sts".to_owned(),
            lines: policy.to_string().lines().map(str::to_owned).collect(),
            hosts: policy.patterns().to_vec(),
        },
        (Published::Nothing, _) => Held::nothing(),
    }
}

/// A TLSA record as it is written, RFC 6698 §2.2.
fn shown(record: &Tlsa) -> String {
    let data: String = record.data.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{} {} {} {data}", record.usage, record.selector, record.matching)
}
