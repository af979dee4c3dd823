//! `[routes]`, `[transport]` and `[dns]`: how other hosts are found, and what they must prove.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail::Domain;
use toml::de::DeValue;

use super::complaint::Complaint;
use super::reader::{Reader, Section, Wrong};
use super::values::{read_bool, read_duration, read_list, read_number, read_text};
use crate::fetch::Networks;
use crate::transport::DkimKey;

/// Where a Debian system has the authorities of the web.
pub(crate) const WEB_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The port of a host that takes mail, and that of one that has a policy (RFC 5321 §4.5.4.2,
/// RFC 8461 §3.3).
const SMTP_PORT: u16 = 25;
const HTTPS_PORT: u16 = 443;

/// Where mail for a domain goes, whatever DNS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// A name, or an address.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
}

/// `[routes]` and `[transport]`: how other hosts are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transport {
    /// `[routes]`.
    pub(crate) routes: BTreeMap<Domain, Route>,
    /// `transport.verify = "required"`: a host whose TLS certificate does not hold gets nothing.
    pub(crate) verify_required: bool,
    /// `transport.dane`: what a host's TLSA records say of its certificate counts.
    pub(crate) dane: bool,
    /// `transport.mta_sts`: what a domain's policy says of its hosts counts.
    pub(crate) mta_sts: bool,
    /// The authorities of the web, who vouch for hosts with a policy: `transport.authorities`.
    pub(crate) authorities: Vec<PathBuf>,
    /// Whether hosts that DNS names may be in private networks, policies be fetched from there, and
    /// reports be brought there.
    pub(crate) private_networks: bool,
    /// The port of hosts that DNS names: another than 25 in tests only.
    pub(crate) port: u16,
    /// The port of hosts that have a policy: another than 443 in tests only.
    pub(crate) policy_port: u16,
}

impl Transport {
    /// Where hosts that DNS names may be.
    pub(crate) fn networks(&self) -> Networks {
        if self.private_networks { Networks::Any } else { Networks::Public }
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            routes: BTreeMap::new(),
            verify_required: false,
            dane: true,
            mta_sts: true,
            authorities: vec![PathBuf::from(WEB_AUTHORITIES)],
            private_networks: false,
            port: SMTP_PORT,
            policy_port: HTTPS_PORT,
        }
    }
}

/// `[tls_reports]`, when they are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsReports {
    /// How long a period is: a day.
    pub(crate) every: Duration,
    /// With what reports by mail are signed.
    pub(crate) dkim: Option<DkimKey>,
}

impl TlsReports {
    /// The same in whole seconds.
    pub(crate) fn every_secs(&self) -> i64 {
        i64::try_from(self.every.as_secs()).unwrap_or(i64::MAX).max(1)
    }
}

/// Whether answers of DNS are proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dnssec {
    /// As soon as the servers have shown that they pass proofs on.
    Auto,
    /// Always: what cannot be proved is no answer.
    On,
    /// Never; then no TLSA record counts.
    Off,
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dns {
    /// Whom to ask; empty: the machine's own.
    pub(crate) nameservers: Vec<SocketAddr>,
    /// `dns.dnssec`
    pub(crate) dnssec: Dnssec,
    /// A file of DNSKEY records that answers are followed to; none: the keys of the root.
    pub(crate) trust_anchor: Option<PathBuf>,
}

pub(super) fn read_routes(
    reader: &Reader<'_>,
    section: Section<'_, '_>,
) -> BTreeMap<Domain, Route> {
    let mut routes = BTreeMap::new();
    for (name, line, value) in section.entries() {
        let complain = |what: String, suggestion: &str| {
            reader.complain(line, format!("routes: {what}"), suggestion.to_owned());
        };
        let Ok(domain) = Domain::parse(&name) else {
            complain(format!("`{name}` is no domain"), ROUTE_EXAMPLE);
            continue;
        };
        let Some(target) = value.as_str() else {
            complain(format!("`{name}` has no target"), ROUTE_EXAMPLE);
            continue;
        };
        let split = target.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let split = split.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((host, port)) = split.filter(|(_, port)| *port != 0) else {
            complain(format!("`{target}` is no host with a port"), ROUTE_EXAMPLE);
            continue;
        };
        // An IPv6 address stands in brackets before its port, RFC 3986 §3.2.2.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        routes.insert(domain, Route { host: host.to_owned(), port });
    }
    routes
}

const ROUTE_EXAMPLE: &str = "write \"pec.beta.example\" = \"127.0.0.1:20025\", with the quotes";

/// `[transport]`, beside the routes.
pub(super) fn read_transport(
    reader: &Reader<'_>,
    mut section: Section<'_, '_>,
    routes: BTreeMap<Domain, Route>,
    folder: &Path,
    doubts: &mut Vec<Complaint>,
) -> Transport {
    let default = Transport::default();
    let verify_required = section.get("verify", |v| match read_text(v)? {
        "opportunistic" => Ok(false),
        "required" => Ok(true),
        other => {
            let what = format!("`{other}` is neither way to look at a certificate");
            Err((what, "write verify = \"opportunistic\" or \"required\"".into()))
        }
    });
    let port = |v: &DeValue<'_>| {
        read_number(v, 1..=u64::from(u16::MAX)).map(|n| u16::try_from(n).unwrap_or(u16::MAX))
    };
    let files = |v: &DeValue<'_>| read_list(v, |text| Ok(folder.join(text)));
    let read = Transport {
        routes,
        verify_required: verify_required.unwrap_or(default.verify_required),
        dane: section.get("dane", read_bool).unwrap_or(default.dane),
        mta_sts: section.get("mta_sts", read_bool).unwrap_or(default.mta_sts),
        authorities: section.get("authorities", files).unwrap_or(default.authorities),
        private_networks: section.get("private_networks", read_bool).unwrap_or(false),
        port: section.get("port", port).unwrap_or(default.port),
        policy_port: section.get("policy_port", port).unwrap_or(default.policy_port),
    };
    for (key, is, usual) in
        [("port", read.port, SMTP_PORT), ("policy_port", read.policy_port, HTTPS_PORT)]
    {
        if is != usual {
            let what = format!("transport.{key} is not {usual}: hosts elsewhere are not found");
            let suggestion = format!("leave it out, outside of tests; it is {usual} then");
            doubts.push(reader.complaint(section.line_of(key), what, suggestion));
        }
    }
    if read.private_networks {
        let what = "transport.private_networks lets anybody's DNS lead mail into private networks";
        let line = section.line_of("private_networks");
        let instead = "leave it out, and name hosts of your own in [routes]";
        doubts.push(reader.complaint(line, what.to_owned(), instead.to_owned()));
    }
    section.finish();
    read
}

pub(super) fn read_dns(mut section: Section<'_, '_>, folder: &Path) -> Dns {
    let wrong = |what: String, suggestion: &str| -> Wrong { (what, suggestion.into()) };
    let servers = |v: &DeValue<'_>| {
        read_list(v, |text| {
            let example = "write servers as in \"192.0.2.53\" or \"127.0.0.1:5353\"";
            let address = text.parse().map(|ip: IpAddr| (ip, 53).into());
            text.parse().or(address).map_err(|_| wrong(format!("`{text}` is no address"), example))
        })
    };
    let nameservers = section.get("nameservers", servers).unwrap_or_default();
    let dnssec = section.get("dnssec", |v| match read_text(v)? {
        "auto" => Ok(Dnssec::Auto),
        "on" => Ok(Dnssec::On),
        "off" => Ok(Dnssec::Off),
        other => Err(wrong(
            format!("`{other}` is none of the three"),
            "write \"auto\", \"on\" or \"off\"",
        )),
    });
    let trust_anchor = section.get("trust_anchor", |v| Ok(folder.join(read_text(v)?)));
    section.finish();
    Dns { nameservers, dnssec: dnssec.unwrap_or(Dnssec::Auto), trust_anchor }
}

/// How long a period of reports is: RFC 8460 §4.1 has it be a day of UTC.
const REPORTS_EVERY: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn read_tls_reports(
    reader: &Reader<'_>,
    mut section: Section<'_, '_>,
    folder: &Path,
    doubts: &mut Vec<Complaint>,
) -> Option<TlsReports> {
    let send = section.get("send", read_bool).unwrap_or(false);
    let every = section.get("every", |v| match read_duration(v)? {
        every if every <= REPORTS_EVERY && every.subsec_nanos() == 0 => Ok(every),
        _ => Err(("not between a second and 24 hours".into(), "write \"24h\"".into())),
    });
    let every = every.unwrap_or(REPORTS_EVERY);
    let selector = section.get("dkim_selector", |v| {
        let text = read_text(v)?;
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match text.len() <= 63 && text.split('.').all(is_label) {
            true => Ok(text.to_owned()),
            false => Err((format!("`{text}` is no selector"), "write \"tlsrpt2026\"".into())),
        }
    });
    let key = section.get("dkim_key", |v| Ok(folder.join(read_text(v)?)));
    let line = section.line_of("dkim_key").max(section.line_of("dkim_selector"));
    if every != REPORTS_EVERY {
        let what = "tls_reports.every is not a day: who gets reports expects one a day".to_owned();
        let suggestion = "leave it out, outside of tests".to_owned();
        doubts.push(reader.complaint(section.line_of("every"), what, suggestion));
    }
    section.finish();
    let dkim = match (selector, key) {
        (Some(selector), Some(key)) => Some(DkimKey { selector, key }),
        (None, None) => None,
        _ => {
            let what = "tls_reports: dkim_selector and dkim_key belong together";
            reader.complain(line, what.into(), "write both, or neither".into());
            None
        }
    };
    send.then_some(TlsReports { every, dkim })
}
