//! What mail to ordinary hosts goes by: keys of DNS, authorities of the web, the key for reports; and
//! what others may go by who send to us.

use super::Findings;
use crate::config::{Config, Dnssec};
use crate::{dns, material, transport};

pub(super) fn look_at(config: &Config, found: &mut Findings) {
    if config.dns.dnssec != Dnssec::Off
        && let Err(error) = dns::anchors(config.dns.trust_anchor.as_deref())
    {
        found.doubt(format!("{error:#}: without dns.trust_anchor no answer of DNS is proved"));
    }
    if config.transport.dane && config.dns.dnssec == Dnssec::Off {
        found.note("dns.dnssec is off, so TLSA records of other hosts do not count");
    }
    if config.transport.mta_sts {
        let (roots, faults) = transport::authorities(&config.transport.authorities);
        for fault in faults {
            found.doubt(format!("transport.authorities: {fault}"));
        }
        if roots.is_empty() {
            found.doubt(
                "transport.authorities has no authority of the web: no policy of MTA-STS can be \
                 had; install ca-certificates, or set transport.mta_sts = false",
            );
        }
    }
    if let Some(reports) = &config.tls_reports {
        match &reports.dkim {
            None => found.note(
                "reports on TLS are sent to web servers only: by mail they need \
                 tls_reports.dkim_key",
            ),
            Some(dkim) => {
                if let Err(error) = transport::sign(dkim, "example", b"From: a@b.example\r\n\r\n") {
                    found.doubt(format!("tls_reports.dkim_key: {error:#}"));
                }
            }
        }
    }
    // Others may hold us to our certificate, RFC 7672 §3.1.1.
    let chain = material::certificates(&config.tls.certificate).unwrap_or_default();
    if let Some(Ok(key)) = chain.first().map(crypto::Certificate::public_key_der) {
        found.note(format!(
            "where your domain has DNSSEC, publish for your mail host: _25._tcp.HOST. IN TLSA \
             3 1 1 {}",
            crypto::sha256_hex(&key)
        ));
    }
}
