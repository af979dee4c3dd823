//! The configuration: every key, its default, and what is wrong with it.
//!
//! The whole file is checked at start, and every complaint carries file, line and what to write
//! instead. A key that asks for something this program does not do yet is read and remembered in
//! [`Config::unbuilt`]: `check` names it, and `serve` does not start, so that nobody believes in a
//! virus scan that does not happen. Not here: whether the files that it names are any good, which
//! is [`crate::check`]'s.

mod complaint;
mod reader;
mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail::{Address, Domain};
use toml::de::DeValue;

pub(crate) use complaint::{Complaint, ConfigErrors};
use reader::{Reader, Section, Wrong};
pub(crate) use values::{Network, size};
use values::{read_bool, read_duration, read_list, read_number, read_size, read_socket, read_text};

/// The name of the file in the folder of a provider.
pub(crate) const FILE_NAME: &str = "ceralacca.toml";
/// More than anyone writes by hand; a larger file is some other file.
pub(crate) const FILE_OCTETS_MAX: u64 = 1024 * 1024;
/// Letters of a provider's name at most: it is in the subject of certificates
/// (RFC 5280 appendix A.1, `ub-organization-name`).
pub(crate) const PROVIDER_NAME_MAX: usize = 64;
/// What is added to each standard port when nothing is said: no service needs root then.
pub(crate) const DEFAULT_PORT_BASE: u16 = 10_000;
/// The deadlines of the law: RFC 6109 §3.1.6, RT §6.3.5.
const LEGAL_FIRST: Duration = Duration::from_secs(12 * 3_600);
const LEGAL_SECOND: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(22 * 3_600)..=Duration::from_secs(24 * 3_600);
const LEGAL_QUEUE: Duration = Duration::from_secs(24 * 3_600);

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Service {
    /// SMTP from other providers, and submission after AUTH; STARTTLS.
    Smtp,
    /// Health, metrics and client autoconfiguration.
    Http,
    /// IMAP, STARTTLS.
    Imap,
    /// Submission, implicit TLS.
    Submissions,
    /// Submission, STARTTLS.
    Submission,
    /// IMAP, implicit TLS.
    Imaps,
    /// POP3, implicit TLS.
    Pop3s,
}

impl Service {
    /// All of them, by port.
    pub(crate) const ALL: [Self; 7] = [
        Self::Smtp,
        Self::Http,
        Self::Imap,
        Self::Submissions,
        Self::Submission,
        Self::Imaps,
        Self::Pop3s,
    ];

    /// Its name in the configuration and in the ready line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Http => "http",
            Self::Imap => "imap",
            Self::Submissions => "submissions",
            Self::Submission => "submission",
            Self::Imaps => "imaps",
            Self::Pop3s => "pop3s",
        }
    }

    /// Its port where the base is 0.
    pub(crate) const fn standard_port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Http => 80,
            Self::Imap => 143,
            Self::Submissions => 465,
            Self::Submission => 587,
            Self::Imaps => 993,
            Self::Pop3s => 995,
        }
    }

    /// The highest base with which every service still has a port.
    pub(crate) const PORT_BASE_MAX: u16 = u16::MAX - 995;
}

/// Where the index of providers comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IndexSource {
    /// An LDIF file, or one signed (`.p7m`).
    File(PathBuf),
    /// `https://...` or `ldaps://...`.
    Url(String),
}

/// Where a revocation list comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CrlSource {
    /// A file.
    File(PathBuf),
    /// A distribution point.
    Url(String),
}

/// What becomes of a message that is no certified mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrdinaryMail {
    /// It is refused.
    Reject,
    /// It is delivered in an anomaly envelope.
    Deliver,
    /// It is forwarded to an ordinary address.
    Forward,
}

impl OrdinaryMail {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Reject, Self::Deliver, Self::Forward];

    /// Its word in the configuration and in the store.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Deliver => "deliver",
            Self::Forward => "forward",
        }
    }

    /// The policy that `word` names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.word() == word)
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// A line a person reads.
    Text,
    /// A JSON object a line.
    Json,
}

/// `[provider]`
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    /// As in `providerName` of the index.
    pub(crate) name: String,
    /// The domains it manages, in the order of the file: the first has the service addresses.
    pub(crate) domains: Vec<Domain>,
    /// The account that `postmaster@` each domain reaches.
    pub(crate) postmaster: Address,
}

impl Provider {
    /// `posta-certificata@<first domain>`, author of envelopes and receipts.
    pub(crate) fn author(&self) -> Option<Address> {
        self.service("posta-certificata")
    }

    /// `ricevute@<first domain>`, where take-charge receipts and virus notices go.
    pub(crate) fn service_mailbox(&self) -> Option<Address> {
        self.service("ricevute")
    }

    fn service(&self, local: &str) -> Option<Address> {
        Address::parse(&format!("{local}@{}", self.domains.first()?)).ok()
    }
}

/// `[listen]`
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    /// Where listeners without an address of their own listen.
    pub(crate) address: IpAddr,
    /// What is added to each standard port.
    pub(crate) port_base: u16,
    /// Listeners that have an address of their own.
    pub(crate) overrides: BTreeMap<Service, SocketAddr>,
}

/// `[trust]`
#[derive(Debug, Clone)]
pub(crate) struct TrustConfig {
    /// Files of the authorities that may issue certificates of providers.
    pub(crate) authorities: Vec<PathBuf>,
    /// Files of the certificates that may sign an index; empty: what the authorities issued.
    pub(crate) signers: Vec<PathBuf>,
    /// Revocation lists.
    pub(crate) crls: Vec<CrlSource>,
    /// Whether a certificate without a revocation list fails the validity test.
    pub(crate) require_crl: bool,
}

/// `[deadlines]`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// From dispatch to the first notice.
    pub(crate) first: Duration,
    /// From dispatch to the second.
    pub(crate) second: Duration,
    /// How long ordinary mail is tried.
    pub(crate) queue: Duration,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Octets of a message times its recipients: RFC 6109 §3.1.1.
    pub(crate) message_octets: u64,
    /// Recipients of one message.
    pub(crate) recipients: usize,
    /// From here SMTP refuses, announced as SIZE.
    pub(crate) refuse_above_octets: u64,
    /// APPENDLIMIT (RFC 7889 §2).
    pub(crate) append_octets: u64,
    /// Octets of receipts that an account may hold beyond its quota.
    pub(crate) receipt_reserve: u64,
    /// Networks that rate limits and login delays leave alone.
    pub(crate) unthrottled: Vec<Network>,
    /// Connections at the same time, of all services together.
    pub(crate) connections_max: usize,
    /// Connections at the same time from one address.
    pub(crate) connections_per_address_max: usize,
    /// Failed logins of one address within [`Self::login_window`], from which on it must wait.
    pub(crate) login_failures_max: usize,
    /// How long a failed login counts.
    pub(crate) login_window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_octets: 30 * 1024 * 1024,
            recipients: 500,
            refuse_above_octets: 100 * 1024 * 1024,
            append_octets: 100 * 1024 * 1024,
            receipt_reserve: 1024 * 1024,
            unthrottled: Vec::new(),
            connections_max: 10_000,
            connections_per_address_max: 100,
            login_failures_max: 10,
            login_window: Duration::from_secs(15 * 60),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone)]
pub(crate) struct LogConfig {
    /// What is logged: `info`, or a filter such as `info,server=debug`.
    pub(crate) level: String,
    /// How.
    pub(crate) format: LogFormat,
}

/// A key and its certificate.
#[derive(Debug, Clone)]
pub(crate) struct KeyPair {
    /// The private key, in PEM.
    pub(crate) key: PathBuf,
    /// The certificate, in PEM; for TLS with its chain.
    pub(crate) certificate: PathBuf,
}

/// The whole configuration. Paths are absolute.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The file it is of.
    pub(crate) file: PathBuf,
    /// Where the store and the control socket are: `store.directory`, by default the folder of the
    /// file.
    pub(crate) data: PathBuf,
    /// `[provider]`
    pub(crate) provider: Provider,
    /// `[listen]`
    pub(crate) listen: Listen,
    /// `[routes]`: a domain and `host:port` of its SMTP server.
    pub(crate) routes: BTreeMap<Domain, String>,
    /// `index.source`
    pub(crate) index: IndexSource,
    /// `[trust]`
    pub(crate) trust: TrustConfig,
    /// `antivirus.clamd`; `None`: off.
    pub(crate) clamd: Option<String>,
    /// `timestamp.authority`; `None`: internal.
    pub(crate) timestamp_authority: Option<String>,
    /// `[deadlines]`
    pub(crate) deadlines: Deadlines,
    /// `ordinary_mail.policy`
    pub(crate) ordinary_mail: OrdinaryMail,
    /// `[limits]`
    pub(crate) limits: Limits,
    /// `[signing]`: the provider's key.
    pub(crate) signing: KeyPair,
    /// `[tls]`
    pub(crate) tls: KeyPair,
    /// `[log]`
    pub(crate) log: LogConfig,
    /// What the file asks for and this program does not do yet: it does not start then.
    pub(crate) unbuilt: Vec<Complaint>,
    /// What is allowed and doubtful: a warning at start.
    pub(crate) doubts: Vec<Complaint>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigErrors> {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let unreadable = |cause: String| {
            let suggestion = "name another file with --config, or make one with `ceralacca init`";
            let what = format!("cannot be read ({cause})");
            ConfigErrors(vec![Complaint {
                file: file.clone(),
                line: 0,
                what,
                suggestion: suggestion.into(),
            }])
        };
        let octets = std::fs::metadata(&file).map_err(|e| unreadable(e.to_string()))?.len();
        if octets > FILE_OCTETS_MAX {
            return Err(unreadable("larger than any configuration".into()));
        }
        let text = std::fs::read_to_string(&file).map_err(|e| unreadable(e.to_string()))?;
        Self::parse(&file, &text)
    }

    /// Checks the text of the file named `file`, whose folder relative paths start from.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let reader = Reader::new(file, text);
        let tables = reader.parse();
        let config = read(&reader, Section::root(&reader, tables.get_ref()), file);
        let complaints = reader.finish();
        match config {
            Some(config) if complaints.is_empty() => Ok(config),
            _ => Err(ConfigErrors(complaints)),
        }
    }

    /// Where a service listens.
    pub(crate) fn listen_addr(&self, service: Service) -> SocketAddr {
        match self.listen.overrides.get(&service) {
            Some(address) => *address,
            // The base was checked against the highest port, or is an option that was.
            None => SocketAddr::new(
                self.listen.address,
                self.listen.port_base.saturating_add(service.standard_port()),
            ),
        }
    }

    /// The folder of the store.
    pub(crate) fn store_directory(&self) -> PathBuf {
        self.data.join("store")
    }

    /// The socket over which commands reach the running server.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.data.join("control.sock")
    }

    /// Whether rate limits and login delays leave an address alone.
    pub(crate) fn is_unthrottled(&self, address: IpAddr) -> bool {
        self.limits.unthrottled.iter().any(|network| network.contains(address))
    }
}

fn read(reader: &Reader<'_>, mut root: Section<'_, '_>, file: &Path) -> Option<Config> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut unbuilt = Unbuilt { reader, found: Vec::new() };

    let provider = read_provider(reader, root.section("provider"));
    let listen = read_listen(root.section("listen"));
    let routes = read_routes(reader, root.section("routes"), &mut unbuilt);
    let index = read_index(root.section("index"), folder, &mut unbuilt);
    let trust = read_trust(root.section("trust"), folder, &mut unbuilt);

    let mut section = root.section("antivirus");
    let clamd = section.get("clamd", |v| read_text(v).map(str::to_owned));
    let clamd = clamd.filter(|word| word != "off");
    if clamd.is_some() {
        unbuilt.add(section.line_of("clamd"), "scanning with clamd", "write clamd = \"off\"");
    }
    section.finish();

    let mut section = root.section("timestamp");
    let authority = section.get("authority", |v| read_text(v).map(str::to_owned));
    let authority = authority.filter(|word| word != "internal");
    if authority.is_some() {
        let line = section.line_of("authority");
        unbuilt.add(line, "an outside timestamp authority", "write authority = \"internal\"");
    }
    section.finish();

    let (deadlines, doubts) = read_deadlines(reader, root.section("deadlines"));

    let mut section = root.section("ordinary_mail");
    let ordinary_mail = section.get("policy", read_policy).unwrap_or(OrdinaryMail::Reject);
    if ordinary_mail == OrdinaryMail::Forward {
        let line = section.line_of("policy");
        unbuilt.add(line, "forwarding ordinary mail", "write policy = \"reject\" or \"deliver\"");
    }
    section.finish();

    let limits = read_limits(root.section("limits"));
    let signing = read_pair(root.section("signing"), folder, "signing");
    let tls = read_pair(root.section("tls"), folder, "tls");

    let mut section = root.section("store");
    let data = section.get("directory", |v| read_path(v, folder));
    section.finish();

    let mut section = root.section("log");
    let log = LogConfig {
        level: section.get("level", read_level).unwrap_or_else(|| "info".into()),
        format: section.get("format", read_format).unwrap_or(LogFormat::Text),
    };
    section.finish();
    root.finish();

    Some(Config {
        file: file.to_owned(),
        data: data.unwrap_or_else(|| folder.to_owned()),
        provider: provider?,
        listen,
        routes,
        index,
        trust,
        clamd,
        timestamp_authority: authority,
        deadlines,
        ordinary_mail,
        limits,
        signing,
        tls,
        log,
        unbuilt: unbuilt.found,
        doubts,
    })
}

/// What is asked for and not built.
struct Unbuilt<'r, 'a> {
    reader: &'r Reader<'a>,
    found: Vec<Complaint>,
}

impl Unbuilt<'_, '_> {
    fn add(&mut self, line: usize, what: &str, suggestion: &str) {
        let what = format!("this version of ceralacca cannot do it yet: {what}");
        self.found.push(self.reader.complaint(line, what, suggestion.to_owned()));
    }
}

fn read_provider(reader: &Reader<'_>, mut section: Section<'_, '_>) -> Option<Provider> {
    let name = section.require("name", "name = \"Alfa PEC S.p.A.\"", |v| {
        let name = read_text(v)?;
        check_provider_name(name).map_err(|what| (what, "write the provider's name".into()))?;
        Ok(name.to_owned())
    });
    let domains = section.require("domains", "domains = [\"pec.alfa.example\"]", |v| {
        let domains = read_list(v, |text| {
            Domain::parse(text).map_err(|_| wrong(format!("`{text}` is no domain"), DOMAIN_EXAMPLE))
        })?;
        if domains.is_empty() {
            return Err(wrong("a provider without a domain", DOMAIN_EXAMPLE));
        }
        match domains.iter().enumerate().find(|(at, domain)| domains[..*at].contains(domain)) {
            Some((_, twice)) => Err(wrong(format!("`{twice}` is there twice"), "remove one")),
            None => Ok(domains),
        }
    });
    let postmaster = section.get("postmaster", |v| {
        let text = read_text(v)?;
        let example = "write an account's address, as in \"postmaster@pec.alfa.example\"";
        Address::parse(text).map_err(|error| wrong(format!("`{text}`: {error}"), example))
    });
    let line = section.line_of("postmaster");
    section.finish();
    let domains = domains?;
    let postmaster = match postmaster {
        Some(address) => address,
        None => Address::parse(&format!("postmaster@{}", domains.first()?)).ok()?,
    };
    if !domains.contains(postmaster.domain()) {
        let what = format!("provider.postmaster: {postmaster} is of none of provider.domains");
        reader.complain(line, what, "name an account of this provider".into());
    }
    Some(Provider { name: name?, domains, postmaster })
}

const DOMAIN_EXAMPLE: &str = "write domains as in [\"pec.alfa.example\"]";

/// What is wrong with a provider's name, if anything.
///
/// # Errors
///
/// A phrase that says it.
pub(crate) fn check_provider_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err("the name is empty or has control characters".into());
    }
    if name.chars().count() > PROVIDER_NAME_MAX {
        return Err(format!("the name is longer than {PROVIDER_NAME_MAX} letters"));
    }
    Ok(())
}

fn read_listen(mut section: Section<'_, '_>) -> Listen {
    let address = section.get("address", |v| {
        let text = read_text(v)?;
        let example = "write \"127.0.0.1\" or \"::\"; a name is not looked up";
        text.parse().map_err(|_| wrong(format!("`{text}` is no IP address"), example))
    });
    let port_base =
        section.get("port_base", |v| read_number(v, 0..=u64::from(Service::PORT_BASE_MAX)));
    let mut overrides = BTreeMap::new();
    for service in Service::ALL {
        if let Some(address) = section.get(service.name(), read_socket) {
            overrides.insert(service, address);
        }
    }
    section.finish();
    Listen {
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port_base: port_base.and_then(|base| u16::try_from(base).ok()).unwrap_or(DEFAULT_PORT_BASE),
        overrides,
    }
}

fn read_routes(
    reader: &Reader<'_>,
    section: Section<'_, '_>,
    unbuilt: &mut Unbuilt<'_, '_>,
) -> BTreeMap<Domain, String> {
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
        let port = target.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
            complain(format!("`{target}` is no host with a port"), ROUTE_EXAMPLE);
            continue;
        }
        unbuilt.add(line, "mail to other providers", "remove the route");
        routes.insert(domain, target.to_owned());
    }
    routes
}

const ROUTE_EXAMPLE: &str = "write \"pec.beta.example\" = \"127.0.0.1:20025\", with the quotes";

fn read_index(
    mut section: Section<'_, '_>,
    folder: &Path,
    unbuilt: &mut Unbuilt<'_, '_>,
) -> IndexSource {
    let source = section.get("source", |v| {
        let text = read_text(v)?;
        if text.starts_with("https://") || text.starts_with("ldaps://") {
            return Ok(IndexSource::Url(text.to_owned()));
        }
        if text.contains("://") {
            let what = format!("`{text}` is not protected on its way");
            return Err(wrong(what, "write a file, https://... or ldaps://..."));
        }
        Ok(IndexSource::File(folder.join(text)))
    });
    if let Some(IndexSource::Url(_)) = source {
        let line = section.line_of("source");
        unbuilt.add(line, "fetching the index", "write source = \"providers.ldif\"");
    }
    section.finish();
    source.unwrap_or_else(|| IndexSource::File(folder.join("providers.ldif")))
}

fn read_trust(
    mut section: Section<'_, '_>,
    folder: &Path,
    unbuilt: &mut Unbuilt<'_, '_>,
) -> TrustConfig {
    let files = |v: &DeValue<'_>| read_list(v, |text| Ok(folder.join(text)));
    let authorities = section.get("authorities", |v| match files(v)? {
        none if none.is_empty() => {
            Err(wrong("nobody would be trusted", "write authorities = [\"ca.pem\"]"))
        }
        some => Ok(some),
    });
    let signers = section.get("signers", files);
    let crls = section.get("crls", |v| {
        read_list(v, |text| {
            Ok(match text.contains("://") {
                true => CrlSource::Url(text.to_owned()),
                false => CrlSource::File(folder.join(text)),
            })
        })
    });
    let crls = crls.unwrap_or_default();
    if crls.iter().any(|crl| matches!(crl, CrlSource::Url(_))) {
        let line = section.line_of("crls");
        unbuilt.add(line, "fetching revocation lists", "write crls with files only");
    }
    let require_crl = section.get("require_crl", read_bool).unwrap_or(false);
    section.finish();
    TrustConfig {
        authorities: authorities.unwrap_or_else(|| vec![folder.join("ca.pem")]),
        signers: signers.unwrap_or_default(),
        crls,
        require_crl,
    }
}

fn read_deadlines(
    reader: &Reader<'_>,
    mut section: Section<'_, '_>,
) -> (Deadlines, Vec<Complaint>) {
    let first = section.get("first", read_duration).unwrap_or(LEGAL_FIRST);
    let default = Duration::from_secs(23 * 3_600);
    let second = section.get("second", read_duration).unwrap_or(default);
    let queue = section.get("queue", read_duration).unwrap_or(LEGAL_QUEUE);
    let mut doubts = Vec::new();
    let mut doubt = |key: &str, what: &str, legal: &str| {
        let what = format!("deadlines.{key} is not the legal one: {what}");
        doubts.push(reader.complaint(section.line_of(key), what, format!("write \"{legal}\"")));
    };
    if first != LEGAL_FIRST {
        doubt("first", "the first notice is due after 12 hours", "12h");
    }
    if !LEGAL_SECOND.contains(&second) {
        doubt("second", "the second notice is due between 22 and 24 hours", "23h");
    }
    if queue != LEGAL_QUEUE {
        doubt("queue", "a message is tried for 24 hours", "24h");
    }
    if first >= second {
        let line = section.line_of("first");
        let what = "deadlines.first is not before deadlines.second".to_owned();
        reader.complain(line, what, "write first = \"12h\" and second = \"23h\"".into());
    }
    section.finish();
    (Deadlines { first, second, queue }, doubts)
}

fn read_limits(mut section: Section<'_, '_>) -> Limits {
    // No limit may be so low that nothing works, nor higher than what the machine can count.
    let count = |v: &DeValue<'_>| {
        read_number(v, 1..=1_000_000).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    };
    let octets = |v: &DeValue<'_>| match read_size(v)? {
        octets if octets >= 1024 => Ok(octets),
        _ => Err(wrong("too small for any message", "write at least 1024 octets")),
    };
    let mut limits = Limits::default();
    let read = &mut limits;
    set(&mut read.message_octets, section.get("message_octets", octets));
    set(&mut read.recipients, section.get("recipients", count));
    set(&mut read.refuse_above_octets, section.get("refuse_above_octets", octets));
    set(&mut read.append_octets, section.get("append_octets", octets));
    set(&mut read.receipt_reserve, section.get("receipt_reserve", read_size));
    let networks = |v: &DeValue<'_>| {
        read_list(v, |text| {
            let example = "write networks as in \"127.0.0.0/8\"";
            Network::parse(text).ok_or_else(|| wrong(format!("`{text}` is no network"), example))
        })
    };
    set(&mut read.unthrottled, section.get("unthrottled", networks));
    set(&mut read.connections_max, section.get("connections_max", count));
    let per_address = section.get("connections_per_address_max", count);
    set(&mut read.connections_per_address_max, per_address);
    set(&mut read.login_failures_max, section.get("login_failures_max", count));
    set(&mut read.login_window, section.get("login_window", read_duration));
    section.finish();
    limits
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn read_pair(mut section: Section<'_, '_>, folder: &Path, stem: &str) -> KeyPair {
    let key = section.get("key", |v| read_path(v, folder));
    let certificate = section.get("certificate", |v| read_path(v, folder));
    section.finish();
    KeyPair {
        key: key.unwrap_or_else(|| folder.join(format!("{stem}.key"))),
        certificate: certificate.unwrap_or_else(|| folder.join(format!("{stem}.pem"))),
    }
}

fn read_path(value: &DeValue<'_>, folder: &Path) -> Result<PathBuf, Wrong> {
    Ok(folder.join(read_text(value)?))
}

fn read_policy(value: &DeValue<'_>) -> Result<OrdinaryMail, Wrong> {
    let word = read_text(value)?;
    OrdinaryMail::parse(word).ok_or_else(|| {
        wrong(format!("`{word}` is no policy"), "write \"reject\", \"deliver\" or \"forward\"")
    })
}

fn read_level(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = read_text(value)?;
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(wrong(error.to_string(), "write \"info\", or \"info,server=debug\"")),
    }
}

fn read_format(value: &DeValue<'_>) -> Result<LogFormat, Wrong> {
    match read_text(value)? {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(wrong(format!("`{other}` is no format"), "write \"text\" or \"json\"")),
    }
}

fn wrong(what: impl Into<String>, suggestion: impl Into<String>) -> Wrong {
    (what.into(), suggestion.into())
}

#[cfg(test)]
mod tests;
