//! The configuration: every key, its default, and what is wrong with it.
//!
//! The whole file is checked at start, and every complaint carries file, line and what to write
//! instead. Not here: whether the files that it names are any good, which is [`crate::check`]'s.

mod complaint;
mod reader;
mod sections;
mod shared;
mod transport;
mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail::{Address, Domain};
use pec::reduce::Hashed;
use store::{MailboxName, Timestamp};

use crate::rates::Rate;

pub(crate) use complaint::{Complaint, ConfigErrors};
use reader::{Reader, Section};
pub(crate) use shared::{OctetsPlace, SharedStore};
pub(crate) use transport::{Dns, Dnssec, Route, TlsReports, Transport};
pub(crate) use values::{Network, size};

use crate::antivirus::Antivirus;

/// The name of the file in the folder of a provider.
pub(crate) const FILE_NAME: &str = "ceralacca.toml";
/// More than anyone writes by hand; a larger file is some other file.
pub(crate) const FILE_OCTETS_MAX: u64 = 1024 * 1024;
/// Letters of a provider's name at most: it is in the subject of certificates
/// (RFC 5280 appendix A.1, `ub-organization-name`).
pub(crate) const PROVIDER_NAME_MAX: usize = 64;
/// What is added to each standard port when nothing is said: no service needs root then.
pub(crate) const DEFAULT_PORT_BASE: u16 = 10_000;
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
    /// An LDIF file.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrdinaryMail {
    /// It is refused.
    Reject,
    /// It is delivered in an anomaly envelope: into this folder, or that of `ordinary_mail.folder`.
    Deliver(Option<MailboxName>),
    /// The anomaly envelope is forwarded to this address, or that of `ordinary_mail.forward_to`.
    Forward(Option<Address>),
}

impl OrdinaryMail {
    /// What may be said, for a suggestion.
    pub(crate) const FORMS: &'static str =
        "reject, deliver, deliver:FOLDER, forward or forward:ADDRESS";

    /// Reads a policy as it is in the configuration and in the store: `reject`, `deliver`,
    /// `deliver:Posta indesiderata`, `forward`, `forward:anna@example.org`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (word, target) = match text.split_once(':') {
            Some((word, target)) => (word, Some(target.trim())),
            None => (text, None),
        };
        match (word, target) {
            ("reject", None) => Some(Self::Reject),
            ("deliver", None) => Some(Self::Deliver(None)),
            ("deliver", Some(folder)) => MailboxName::parse(folder).map(|f| Self::Deliver(Some(f))),
            ("forward", None) => Some(Self::Forward(None)),
            ("forward", Some(to)) => Address::parse(to).ok().map(|to| Self::Forward(Some(to))),
            _ => None,
        }
    }
}

impl std::fmt::Display for OrdinaryMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reject => f.write_str("reject"),
            Self::Deliver(None) => f.write_str("deliver"),
            Self::Deliver(Some(folder)) => write!(f, "deliver:{folder}"),
            Self::Forward(None) => f.write_str("forward"),
            Self::Forward(Some(to)) => write!(f, "forward:{to}"),
        }
    }
}

/// `[ordinary_mail]`: for accounts that say nothing themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrdinaryMailConfig {
    /// `policy`
    pub(crate) policy: OrdinaryMail,
    /// `folder`
    pub(crate) folder: MailboxName,
    /// `forward_to`
    pub(crate) forward_to: Option<Address>,
}

/// `[submission]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Submission {
    /// Whether an address in `To` or `Cc` that is no forward-path refuses the message (doubt D-04).
    pub(crate) strict_recipients: bool,
    /// Whether a copy of each accepted message is kept in the sender's mailbox for sent mail.
    pub(crate) keep_sent_copy: bool,
}

/// `[deadlines]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// After so long the first notice is due (PEC-TO-01).
    pub(crate) first: Duration,
    /// And the second (PEC-TO-02, PEC-TO-13).
    pub(crate) second: Duration,
    /// So long a message is tried (PEC-BT-14).
    pub(crate) queue: Duration,
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
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// What becomes of mail that its domain does not vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refuse {
    /// It is refused, where the domain's owner wants that.
    Yes,
    /// It is written down.
    No,
}

/// `ordinary_mail.spf`, `.dmarc` and `.trusted`
#[derive(Debug, Clone)]
pub(crate) struct Authentication {
    /// Where SPF fails.
    pub(crate) spf: Refuse,
    /// Where DMARC fails.
    pub(crate) dmarc: Refuse,
    /// Networks of which nothing is asked: this machine's own, by default.
    pub(crate) trusted: Vec<Network>,
}

impl Authentication {
    /// Whether nothing is asked of mail that this host brings.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

impl Default for Authentication {
    fn default() -> Self {
        let trusted = ["127.0.0.0/8", "::1"].into_iter().filter_map(Network::parse).collect();
        Self { spf: Refuse::Yes, dmarc: Refuse::Yes, trusted }
    }
}

/// `[abuse]`: an account that does more is suspended. 0: no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Abuse {
    /// Messages in ten minutes.
    pub(crate) burst: u32,
    /// Recipients of our domains that do not exist, in an hour.
    pub(crate) unknown_recipients: u32,
    /// The hours of the night by the legal time, from the first to before the last.
    pub(crate) night: Option<(i8, i8)>,
    /// Messages in one of these nights.
    pub(crate) night_messages: u32,
}

impl Abuse {
    /// Whether there is any rule.
    pub(crate) fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// Whether this hour of the day is of the night.
    pub(crate) fn is_night(&self, hour: i8) -> bool {
        match self.night {
            None => false,
            Some((from, to)) if from <= to => (from..to).contains(&hour),
            Some((from, to)) => hour >= from || hour < to,
        }
    }
}

/// `[abuse]`, of where accounts sign in from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CountryRule {
    /// The file that says which network is in which country.
    pub(crate) file: PathBuf,
    /// Whether a new country suspends the account, or is only told.
    pub(crate) freeze: bool,
}

/// `[machines]`: an account that a program uses, and not a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Machine {
    /// Where it may sign in from; empty: anywhere.
    pub(crate) networks: Vec<Network>,
    /// The PEM file of the certificate that it may sign in with, by SASL EXTERNAL.
    pub(crate) certificate: Option<PathBuf>,
    /// Its own limits; `None`: those of all accounts.
    pub(crate) messages: Option<Rate>,
    /// The same of recipients.
    pub(crate) recipients: Option<Rate>,
}

/// `[listen]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    /// Where listeners without an address of their own listen.
    pub(crate) address: IpAddr,
    /// What is added to each standard port.
    pub(crate) port_base: u16,
    /// Listeners that have an address of their own.
    pub(crate) overrides: BTreeMap<Service, SocketAddr>,
    /// Load balancers, who say by the PROXY protocol whose connection it is.
    pub(crate) proxy_from: Vec<Network>,
}

/// `[index]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexConfig {
    /// Where it comes from.
    pub(crate) source: IndexSource,
    /// How often it is read again.
    pub(crate) refresh: Duration,
    /// As whom we appear to its server (PEC-IDX-11).
    pub(crate) client: Option<KeyPair>,
    /// Files of the authorities that may issue its server's certificate, beside those of `[trust]`.
    pub(crate) authorities: Vec<PathBuf>,
}

/// `[trust]`
#[derive(Debug, Clone)]
pub(crate) struct TrustConfig {
    /// Files of the authorities that may issue certificates of providers.
    pub(crate) authorities: Vec<PathBuf>,
    /// Files of the certificates that may sign an index, or issue those that do; none: the
    /// authorities.
    pub(crate) signers: Vec<PathBuf>,
    /// Revocation lists.
    pub(crate) crls: Vec<CrlSource>,
    /// How often lists that are fetched are fetched again.
    pub(crate) crl_refresh: Duration,
    /// Whether distribution points may lead into private networks.
    pub(crate) crl_private_networks: bool,
    /// Whether a certificate without a revocation list fails the validity test.
    pub(crate) require_crl: bool,
    /// Whether a message is an anomaly whose signer does not manage the domain of its author.
    pub(crate) strict_author: bool,
    /// Whether a signature with SHA-1 passes the validity test (doubt D-06).
    pub(crate) sha1: bool,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Octets of a message times its recipients: RFC 6109 §3.1.1.
    pub(crate) message_octets: u64,
    /// Recipients of one message.
    pub(crate) recipients: usize,
    /// Whether 8BITMIME is announced: certified mail travels in 7 bits, and what comes in 8 is
    /// converted before it is certified, or refused (doubt D-10).
    pub(crate) eight_bit: bool,
    /// Whether SMTPUTF8 is announced too: what a header says in UTF-8 is encoded before it is
    /// certified, and domains become A-labels (the same doubt).
    pub(crate) utf8: bool,
    /// From here SMTP refuses, announced as SIZE.
    pub(crate) refuse_above_octets: u64,
    /// APPENDLIMIT (RFC 7889 §2).
    pub(crate) append_octets: u64,
    /// MESSAGELIMIT (RFC 9738 §3).
    pub(crate) command_messages: u64,
    /// Octets of receipts that an account may hold beyond its quota.
    pub(crate) receipt_reserve: u64,
    /// Networks that rate limits and login delays leave alone.
    pub(crate) unthrottled: Vec<Network>,
    /// Connections at the same time, of all services together.
    pub(crate) connections_max: usize,
    /// With more connections than this, what clients fetch in the background is put off.
    pub(crate) background_connections_max: usize,
    /// Whether one IMAP connection may serve one account after the other (RFC 8437).
    pub(crate) unauthenticate: bool,
    /// Connections at the same time from one address.
    pub(crate) connections_per_address_max: usize,
    /// Messages of one account, and their recipients.
    pub(crate) account_messages: Rate,
    pub(crate) account_recipients: Rate,
    /// SMTP connections at the same time of one account.
    pub(crate) account_sessions_max: usize,
    /// Messages of one address of strangers, on port 25, and their recipients.
    pub(crate) address_messages: Rate,
    pub(crate) address_recipients: Rate,
    /// The same of one network.
    pub(crate) network_messages: Rate,
    pub(crate) network_recipients: Rate,
    /// Messages of all our users to one domain elsewhere, and their recipients there.
    pub(crate) destination_messages: Rate,
    pub(crate) destination_recipients: Rate,
    /// Failed logins of one login from one network, and of a network, within [`Self::login_window`], from
    /// which on nothing is compared.
    pub(crate) login_failures_max: usize,
    /// How long a failed login counts.
    pub(crate) login_window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_octets: 30 * 1024 * 1024,
            recipients: 500,
            eight_bit: false,
            utf8: false,
            refuse_above_octets: 100 * 1024 * 1024,
            append_octets: 100 * 1024 * 1024,
            command_messages: imap::limits::COMMAND_MESSAGES_MAX,
            receipt_reserve: 1024 * 1024,
            unthrottled: Vec::new(),
            connections_max: 10_000,
            background_connections_max: 8_000,
            unauthenticate: true,
            connections_per_address_max: 100,
            account_messages: Rate([0, 20_000, 100_000]),
            account_recipients: Rate([0, 200_000, 1_000_000]),
            account_sessions_max: 100,
            address_messages: Rate([0, 200_000, 2_000_000]),
            address_recipients: Rate([0, 2_000_000, 20_000_000]),
            network_messages: Rate([0, 0, 0]),
            network_recipients: Rate([0, 0, 0]),
            destination_messages: Rate([0, 0, 0]),
            destination_recipients: Rate([0, 0, 0]),
            login_failures_max: 10,
            login_window: Duration::from_secs(15 * 60),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// What is logged: `info`, or a filter such as `info,server=debug`.
    pub(crate) level: String,
    /// How.
    pub(crate) format: LogFormat,
}

/// A key and its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyPair {
    /// The private key, in PEM.
    pub(crate) key: PathBuf,
    /// The certificate, in PEM; for TLS with its chain.
    pub(crate) certificate: PathBuf,
}

/// Who gives time stamps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StampSource {
    /// An authority of our own.
    Internal(KeyPair),
    /// RFC 3161 over HTTP: `http://...` or `https://...`.
    Url(String),
}

/// `[timestamp]`
#[derive(Debug, Clone)]
pub(crate) struct Timestamps {
    /// Who gives them.
    pub(crate) authority: StampSource,
    /// Files of the authorities that may issue its certificate; none: those of `[trust]`.
    pub(crate) authorities: Vec<PathBuf>,
    /// How long an interval of the log is: 24 hours at most (DM 2 Nov 2005 art. 10).
    pub(crate) every: Duration,
}

/// The key and certificate that take over from those of `[signing]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextSigning {
    /// Both.
    pub(crate) pair: KeyPair,
    /// From when; nothing: as soon as the certificate is valid.
    pub(crate) from: Option<Timestamp>,
}

/// `[store]`, but for its directory
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Storing {
    /// The master key of a store that is encrypted: a file, or the URI of one in a device.
    pub(crate) key: Option<PathBuf>,
    /// Those before it.
    pub(crate) earlier_keys: Vec<PathBuf>,
    /// Where what the store was at every commit is kept.
    pub(crate) archive: Option<PathBuf>,
    /// Where it is when other machines use it too.
    pub(crate) shared: Option<SharedStore>,
}

/// The whole configuration. Paths are absolute.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The file it is of.
    pub(crate) file: PathBuf,
    /// Where the store and the control socket are: `store.directory`, by default the folder of the
    /// file.
    pub(crate) data: PathBuf,
    /// The rest of `[store]`
    pub(crate) storing: Storing,
    /// `[provider]`
    pub(crate) provider: Provider,
    /// `[listen]`
    pub(crate) listen: Listen,
    /// `[routes]`, `[transport]`
    pub(crate) transport: Transport,
    /// `[tls_reports]`; `None`: none are sent.
    pub(crate) tls_reports: Option<TlsReports>,
    /// `[deadlines]`
    pub(crate) deadlines: Deadlines,
    /// `[index]`
    pub(crate) index: IndexConfig,
    /// `[trust]`
    pub(crate) trust: TrustConfig,
    /// `[antivirus]`
    pub(crate) antivirus: Antivirus,
    /// `policy`, `folder` and `forward_to` of `[ordinary_mail]`
    pub(crate) ordinary_mail: OrdinaryMailConfig,
    /// The rest of `[ordinary_mail]`.
    pub(crate) authentication: Authentication,
    /// `[submission]`
    pub(crate) submission: Submission,
    /// `receipts.brief_hash`
    pub(crate) brief_hash: Hashed,
    /// `[dns]`
    pub(crate) dns: Dns,
    /// `[abuse]`
    pub(crate) abuse: Abuse,
    /// `[abuse]`, of where accounts sign in from; `None`: no such rule.
    pub(crate) countries: Option<CountryRule>,
    /// `[machines]`
    pub(crate) machines: BTreeMap<Address, Machine>,
    /// `[limits]`
    pub(crate) limits: Limits,
    /// `[signing]`: the provider's key.
    pub(crate) signing: KeyPair,
    /// `[timestamp]`
    pub(crate) timestamp: Timestamps,
    /// `signing.next_key` and what belongs to it.
    pub(crate) next_signing: Option<NextSigning>,
    /// `[tls]`
    pub(crate) tls: KeyPair,
    /// `[log]`
    pub(crate) log: LogConfig,
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
        let config = sections::read(&reader, Section::root(&reader, tables.get_ref()), file);
        let complaints = reader.finish();
        match config {
            Some(config) if complaints.is_empty() => Ok(config),
            _ => Err(ConfigErrors(complaints)),
        }
    }

    /// Takes over from the configuration in use what only a restart can change. Gives the sections
    /// of the file in which this one differs there.
    pub(crate) fn keep(&mut self, running: &Self) -> Vec<&'static str> {
        fn kept<T: Clone + PartialEq>(next: &mut T, running: &T) -> bool {
            let differs = *next != *running;
            next.clone_from(running);
            differs
        }
        let sections = [
            ("provider", kept(&mut self.provider, &running.provider)),
            ("listen", kept(&mut self.listen, &running.listen)),
            (
                "signing",
                kept(&mut self.signing, &running.signing)
                    | kept(&mut self.next_signing, &running.next_signing),
            ),
            ("tls", kept(&mut self.tls, &running.tls)),
            (
                "store",
                kept(&mut self.data, &running.data) | kept(&mut self.storing, &running.storing),
            ),
            ("log", kept(&mut self.log, &running.log)),
            ("dns", kept(&mut self.dns, &running.dns)),
        ];
        sections.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
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
}

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

#[cfg(test)]
mod tests;
