//! The records of DNS that make a provider's domains work, as an operator can paste them into a zone: a
//! suggestion, and nothing is asked of DNS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::LocalSigner;
use mail::Domain;

use crate::config::{Config, Service};

/// Octets of one string of a TXT record, RFC 7208 §3.3.
const STRING_OCTETS_MAX: usize = 255;

/// Each record, in the form of a zone file (RFC 1035 §5.1).
pub(super) fn suggested(config: &Config) -> Vec<String> {
    let Some(first) = config.provider.domains.first() else { return Vec::new() };
    let host = format!("mail.{first}");
    let mut records: Vec<String> = config
        .provider
        .domains
        .iter()
        .flat_map(|domain| of_domain(config, domain, &host))
        .collect();
    let dkim = config.tls_reports.as_ref().and_then(|reports| reports.dkim.as_ref());
    if let Some(dkim) = dkim
        // What is wrong with the key is told elsewhere; of an Ed25519 key OpenSSL's tools tell the public half.
        && let Some(key) = std::fs::read(&dkim.key).ok().and_then(|pem| public_half(&pem))
    {
        let value = format!("v=DKIM1; k=rsa; s=tlsrpt; p={key}");
        records.push(format!("{}._domainkey.{first}. IN TXT {}", dkim.selector, text(&value)));
    }
    records
}

fn of_domain(config: &Config, domain: &Domain, host: &str) -> Vec<String> {
    let postmaster = &config.provider.postmaster;
    let port = |service| config.listen_addr(service).port();
    let mut records = vec![
        format!("{domain}. IN MX 10 {host}."),
        // Whoever takes its mail sends it too.
        format!("{domain}. IN TXT {}", text("v=spf1 mx -all")),
        // Nothing is asked of others until the reports say that what is ours passes.
        format!(
            "_dmarc.{domain}. IN TXT {}",
            text(&format!("v=DMARC1; p=none; rua=mailto:{postmaster}"))
        ),
        format!(
            "_smtp._tls.{domain}. IN TXT {}",
            text(&format!("v=TLSRPTv1; rua=mailto:{postmaster}"))
        ),
    ];
    // RFC 6186 §3.2, RFC 8314 §5.1
    for (name, service) in [
        ("_submissions", Service::Submissions),
        ("_submission", Service::Submission),
        ("_imaps", Service::Imaps),
        ("_imap", Service::Imap),
    ] {
        records.push(format!("{name}._tcp.{domain}. IN SRV 0 1 {} {host}.", port(service)));
    }
    // RFC 8461 §3: it means something only beside the policy, which another web server has.
    records.push(format!(
        "_mta-sts.{domain}. IN TXT {} ; once https://mta-sts.{domain}/.well-known/mta-sts.txt has: \
         version: STSv1, mode: testing, mx: {host}, max_age: 604800, a line each",
        text("v=STSv1; id=1;")
    ));
    records
}

/// A value in strings, none longer than may be.
fn text(value: &str) -> String {
    let strings = value.as_bytes().chunks(STRING_OCTETS_MAX);
    let quoted = strings.map(|string| format!("\"{}\"", String::from_utf8_lossy(string)));
    quoted.collect::<Vec<_>>().join(" ")
}

/// Of an RSA key, as RFC 6376 §3.6.1 has it in DNS.
fn public_half(pem: &[u8]) -> Option<String> {
    Some(STANDARD.encode(LocalSigner::from_pem(pem).ok()?.public_key_der().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(more: &str, folder: &Path) -> Vec<String> {
        let toml = format!(
            "[provider]\nname = \"Alfa\"\ndomains = [\"pec.alfa.example\", \"pec.beta.example\"]\n\
             [listen]\nport_base = 0\n{more}"
        );
        suggested(&Config::parse(&folder.join("ceralacca.toml"), &toml).unwrap())
    }

    #[test]
    fn a_zone_has_what_mail_and_its_clients_look_for() {
        let policy = |domain: &str| {
            format!(
                "_mta-sts.{domain}. IN TXT \"v=STSv1; id=1;\" ; once https://mta-sts.{domain}/\
                 .well-known/mta-sts.txt has: version: STSv1, mode: testing, mx: \
                 mail.pec.alfa.example, max_age: 604800, a line each"
            )
        };
        let records = of("", Path::new("/x"));
        let expected = [
            "pec.alfa.example. IN MX 10 mail.pec.alfa.example.",
            "pec.alfa.example. IN TXT \"v=spf1 mx -all\"",
            "_dmarc.pec.alfa.example. IN TXT \"v=DMARC1; p=none; rua=mailto:postmaster@pec.alfa.example\"",
            "_smtp._tls.pec.alfa.example. IN TXT \"v=TLSRPTv1; rua=mailto:postmaster@pec.alfa.example\"",
            "_submissions._tcp.pec.alfa.example. IN SRV 0 1 465 mail.pec.alfa.example.",
            "_submission._tcp.pec.alfa.example. IN SRV 0 1 587 mail.pec.alfa.example.",
            "_imaps._tcp.pec.alfa.example. IN SRV 0 1 993 mail.pec.alfa.example.",
            "_imap._tcp.pec.alfa.example. IN SRV 0 1 143 mail.pec.alfa.example.",
            &policy("pec.alfa.example"),
        ];
        assert_eq!(records[..9], expected);
        // The second domain's, on the same host.
        assert_eq!(records[9], "pec.beta.example. IN MX 10 mail.pec.alfa.example.");
        assert_eq!(records[17], policy("pec.beta.example"));
        assert_eq!(records.len(), 18);
    }

    #[test]
    fn the_key_for_reports_is_told_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let reports =
            "[tls_reports]\nsend = true\ndkim_selector = \"s1\"\ndkim_key = \"dkim.key\"\n";
        assert_eq!(of(reports, folder.path()).len(), 18, "it cannot be read");
        let now = store::Timestamp::now();
        let (_, key) = crypto::Authority::new("Chiave", now).unwrap().to_pem().unwrap();
        std::fs::write(folder.path().join("dkim.key"), key.as_str()).unwrap();
        let record = of(reports, folder.path()).pop().unwrap();
        let start = "s1._domainkey.pec.alfa.example. IN TXT \"v=DKIM1; k=rsa; s=tlsrpt; p=MII";
        assert!(record.starts_with(start), "{record}");
        let strings: Vec<&str> = record.split('"').skip(1).step_by(2).collect();
        assert!(strings.len() > 1 && strings.iter().all(|one| one.len() <= 255), "{record}");
    }
}
