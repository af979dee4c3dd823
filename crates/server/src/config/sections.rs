//! Each section of the file, read into its part of [`Config`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use imap::limits::{COMMAND_MESSAGES_LEAST, COMMAND_MESSAGES_MAX};
use mail::{Address, Domain};
use pec::access::{PRODUCT_OCTETS_GUARANTEED, RECIPIENTS_GUARANTEED};
use pec::reduce::Hashed;
use store::MailboxName;
use toml::de::DeValue;

use crate::antivirus::{Antivirus, Place};
use crate::signer::device::{self, DeviceKey};

use super::complaint::Complaint;
use super::reader::{Reader, Section, Wrong};
use super::shared::read_store;
use super::transport::{read_dns, read_routes, read_tls_reports, read_transport};
use super::values::{
    Network, read_bool, read_duration, read_list, read_number, read_size, read_socket, read_text,
};
use super::{
    Abuse, Authentication, Config, CountryRule, CrlSource, DEFAULT_PORT_BASE, Deadlines,
    IndexConfig, IndexSource, KeyPair, Limits, Listen, LogConfig, LogFormat, Machine, NextSigning,
    OrdinaryMail, OrdinaryMailConfig, Provider, Rate, Refuse, Service, StampSource, Storing,
    Submission, Timestamps, TrustConfig, check_provider_name,
};

/// The deadlines of the law: RFC 6109 §3.1.6, RT §6.3.5.
const LEGAL_FIRST: Duration = Duration::from_secs(12 * 3_600);
const LEGAL_SECOND: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(22 * 3_600)..=Duration::from_secs(24 * 3_600);
/// How long an interval of the log may be: DM 2 Nov 2005 art. 10 allows 24 hours at most.
const STAMP_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3_600);
const LEGAL_QUEUE: Duration = Duration::from_secs(24 * 3_600);

/// Reads all sections; nothing when one that is needed cannot be.
pub(super) fn read(reader: &Reader<'_>, mut root: Section<'_, '_>, file: &Path) -> Option<Config> {
    let folder = file.parent().unwrap_or(Path::new("/"));

    let provider = read_provider(reader, root.section("provider"));
    let listen = read_listen(root.section("listen"));
    let routes = read_routes(reader, root.section("routes"));
    let section = root.section("transport");
    let mut doubts = Vec::new();
    let transport = read_transport(reader, section, routes, folder, &mut doubts);
    let section = root.section("tls_reports");
    let tls_reports = read_tls_reports(reader, section, folder, &mut doubts);
    let index = read_index(reader, root.section("index"), folder);
    let trust = read_trust(root.section("trust"), folder);

    let antivirus = read_antivirus(root.section("antivirus"), folder);

    let timestamp = read_timestamp(root.section("timestamp"), folder);

    let deadlines = read_deadlines(reader, root.section("deadlines"), &mut doubts);
    let domains = provider.as_ref().map(|provider| &provider.domains[..]).unwrap_or_default();
    let (ordinary_mail, authentication) =
        read_ordinary_mail(reader, root.section("ordinary_mail"), domains);

    let mut section = root.section("submission");
    let strict_recipients = section.get("strict_recipients", read_bool).unwrap_or(true);
    let keep_sent_copy = section.get("keep_sent_copy", read_bool).unwrap_or(false);
    section.finish();

    let mut section = root.section("receipts");
    let brief_hash = section.get("brief_hash", |v| match read_text(v)? {
        "encoded" => Ok(Hashed::Encoded),
        "file" => Ok(Hashed::File),
        other => Err(wrong(format!("`{other}` is no hash"), "write \"encoded\" or \"file\"")),
    });
    section.finish();

    let limits = read_limits(root.section("limits"));
    let (abuse, countries) = read_abuse(root.section("abuse"), folder);
    let machines = read_machines(reader, root.section("machines"), provider.as_ref(), folder);
    let dns = read_dns(root.section("dns"), folder);
    let (signing, next_signing) = read_signing(reader, root.section("signing"), folder);
    let tls = read_pair(root.section("tls"), folder, "tls");

    let mut section = root.section("store");
    let data = section.get("directory", |v| read_path(v, folder));
    let key = section.get("key", |v| read_key(v, folder));
    let keys = |v: &DeValue<'_>| read_list(v, |text| key_of(text, folder));
    let earlier_keys = section.get("earlier_keys", keys).unwrap_or_default();
    if key.is_none() && !earlier_keys.is_empty() {
        let what = "store: earlier_keys without the key that took over from them";
        let line = section.line_of("earlier_keys");
        reader.complain(line, what.into(), "write key too".into());
    }
    let archive = section.get("archive", |v| read_path(v, folder));
    let shared = read_store(reader, &mut section, folder);
    section.finish();
    let storing = Storing { key, earlier_keys, archive, shared };

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
        storing,
        provider: provider?,
        listen,
        transport,
        tls_reports,
        index,
        trust,
        antivirus,
        ordinary_mail,
        authentication,
        submission: Submission { strict_recipients, keep_sent_copy },
        brief_hash: brief_hash.unwrap_or_default(),
        deadlines,
        dns,
        abuse,
        countries,
        machines,
        limits,
        signing,
        timestamp,
        next_signing,
        tls,
        log,
        doubts,
    })
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

fn read_listen(mut section: Section<'_, '_>) -> Listen {
    let address = section.get("address", |v| {
        let text = read_text(v)?;
        let example = "write \"127.0.0.1\" or \"::\"; a name is not looked up";
        text.parse().map_err(|_| wrong(format!("`{text}` is no IP address"), example))
    });
    let port_base =
        section.get("port_base", |v| read_number(v, 0..=u64::from(Service::PORT_BASE_MAX)));
    let proxy_from = section.get("proxy_from", read_networks).unwrap_or_default();
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
        proxy_from,
    }
}

fn read_index(reader: &Reader<'_>, mut section: Section<'_, '_>, folder: &Path) -> IndexConfig {
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
    let refresh = section.get("refresh", read_duration);
    let certificate = section.get("client_certificate", |v| read_path(v, folder));
    let key = section.get("client_key", |v| read_path(v, folder));
    let line = section.line_of("client_certificate").max(section.line_of("client_key"));
    let files = |v: &DeValue<'_>| read_list(v, |text| Ok(folder.join(text)));
    let authorities = section.get("authorities", files).unwrap_or_default();
    section.finish();
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(KeyPair { key, certificate }),
        (None, None) => None,
        _ => {
            let what = "index: a client certificate without its key, or a key without it";
            reader.complain(line, what.into(), "write both, or neither".into());
            None
        }
    };
    IndexConfig {
        source: source.unwrap_or_else(|| IndexSource::File(folder.join("providers.ldif"))),
        // PEC-IDX-09
        refresh: refresh.unwrap_or(Duration::from_secs(24 * 3_600)),
        client,
        authorities,
    }
}

fn read_trust(mut section: Section<'_, '_>, folder: &Path) -> TrustConfig {
    let files = |v: &DeValue<'_>| read_list(v, |text| Ok(folder.join(text)));
    let authorities = section.get("authorities", |v| match files(v)? {
        none if none.is_empty() => {
            Err(wrong("nobody would be trusted", "write authorities = [\"ca.pem\"]"))
        }
        some => Ok(some),
    });
    let signers = section.get("signers", files).unwrap_or_default();
    let crls = section.get("crls", |v| {
        read_list(v, |text| {
            if text.starts_with("http://") || text.starts_with("https://") {
                return Ok(CrlSource::Url(text.to_owned()));
            }
            if text.contains("://") {
                let what = format!("`{text}` is no list that can be fetched");
                return Err(wrong(what, "write a file, http://... or https://..."));
            }
            Ok(CrlSource::File(folder.join(text)))
        })
    });
    let crls = crls.unwrap_or_default();
    let crl_refresh = section.get("crl_refresh", read_duration);
    let crl_private_networks = section.get("crl_private_networks", read_bool).unwrap_or(false);
    let require_crl = section.get("require_crl", read_bool).unwrap_or(false);
    let strict_author = section.get("strict_author", read_bool).unwrap_or(false);
    let sha1 = section.get("sha1", read_bool).unwrap_or(true);
    section.finish();
    TrustConfig {
        authorities: authorities.unwrap_or_else(|| vec![folder.join("ca.pem")]),
        signers,
        crls,
        crl_refresh: crl_refresh.unwrap_or(Duration::from_secs(3_600)),
        crl_private_networks,
        require_crl,
        strict_author,
        sha1,
    }
}

fn read_antivirus(mut section: Section<'_, '_>, folder: &Path) -> Antivirus {
    let clamd = section.get("clamd", |v| {
        let text = read_text(v)?;
        if text == "off" {
            return Ok(None);
        }
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Some(Place::Unix(folder.join(path))));
        }
        let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        match port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0) {
            Some(_) => Ok(Some(Place::Tcp(text.to_owned()))),
            None => Err(wrong(format!("`{text}` is no place where clamd listens"), CLAMD_EXAMPLE)),
        }
    });
    let timeout = section.get("timeout", read_duration);
    section.finish();
    let default = Antivirus::default();
    Antivirus { clamd: clamd.flatten(), timeout: timeout.unwrap_or(default.timeout) }
}

const CLAMD_EXAMPLE: &str = "write \"off\", \"unix:/run/clamav/clamd.ctl\" or \"127.0.0.1:3310\"";

fn read_timestamp(mut section: Section<'_, '_>, folder: &Path) -> Timestamps {
    let url = section.get("authority", |v| match read_text(v)? {
        "internal" => Ok(None),
        url if url.starts_with("http://") || url.starts_with("https://") => {
            Ok(Some(url.to_owned()))
        }
        other => Err(wrong(
            format!("`{other}` is no authority"),
            "write \"internal\", or the http or https URL of one",
        )),
    });
    let files = |v: &DeValue<'_>| read_list(v, |text| Ok(folder.join(text)));
    let authorities = section.get("authorities", files).unwrap_or_default();
    let every = section.get("every", |v| match read_duration(v)? {
        every if STAMP_EVERY.contains(&every) && every.subsec_nanos() == 0 => Ok(every),
        _ => Err(wrong(
            "not between a second and 24 hours",
            "write \"24h\": the law allows no longer interval",
        )),
    });
    // The file of an authority of our own is asked for in any case: its keys are keys.
    let key = section.get("key", |v| read_path(v, folder));
    let certificate = section.get("certificate", |v| read_path(v, folder));
    section.finish();
    let internal = KeyPair {
        key: key.unwrap_or_else(|| folder.join("timestamp.key")),
        certificate: certificate.unwrap_or_else(|| folder.join("timestamp.pem")),
    };
    Timestamps {
        authority: url.flatten().map_or(StampSource::Internal(internal), StampSource::Url),
        authorities,
        every: every.unwrap_or(*STAMP_EVERY.end()),
    }
}

fn read_deadlines(
    reader: &Reader<'_>,
    mut section: Section<'_, '_>,
    doubts: &mut Vec<Complaint>,
) -> Deadlines {
    let first = section.get("first", read_duration).unwrap_or(LEGAL_FIRST);
    let default = Duration::from_secs(23 * 3_600);
    let second = section.get("second", read_duration).unwrap_or(default);
    let queue = section.get("queue", read_duration).unwrap_or(LEGAL_QUEUE);
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
    Deadlines { first, second, queue }
}

fn read_ordinary_mail(
    reader: &Reader<'_>,
    mut section: Section<'_, '_>,
    domains: &[Domain],
) -> (OrdinaryMailConfig, Authentication) {
    let policy = section.get("policy", read_policy).unwrap_or(OrdinaryMail::Reject);
    let folder = section.get("folder", |v| {
        let text = read_text(v)?;
        MailboxName::parse(text)
            .ok_or_else(|| wrong(format!("`{text}` is no folder"), "write \"INBOX\""))
    });
    let forward_to = section.get("forward_to", |v| {
        let text = read_text(v)?;
        let example = "write an ordinary address, as in \"archivio@example.org\"";
        let address = Address::parse(text);
        let address = address.map_err(|error| wrong(format!("`{text}`: {error}"), example))?;
        match domains.contains(address.domain()) {
            true => Err(wrong(format!("{address} is an address of this provider"), example)),
            false => Ok(address),
        }
    });
    if policy == OrdinaryMail::Forward(None) && forward_to.is_none() {
        let line = section.line_of("policy");
        let what = "ordinary_mail.policy: accounts without a policy of their own would have their \
                    mail forwarded to nobody";
        let suggestion = "write forward_to = \"archivio@example.org\" below it, or policy = \
                          \"forward:archivio@example.org\"; to forward for single accounts only, \
                          leave it at \"reject\" and give each `account ordinary-mail`";
        reader.complain(line, what.to_owned(), suggestion.to_owned());
    }
    let mut authentication = Authentication::default();
    set(&mut authentication.spf, section.get("spf", read_refuse));
    set(&mut authentication.dmarc, section.get("dmarc", read_refuse));
    set(&mut authentication.trusted, section.get("trusted", read_networks));
    section.finish();
    let folder = folder.unwrap_or_else(MailboxName::inbox);
    (OrdinaryMailConfig { policy, folder, forward_to }, authentication)
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
    // What is guaranteed to every user is accepted whatever is written here, so less is a mistake.
    let product = |v: &DeValue<'_>| match read_size(v)? {
        octets if octets >= PRODUCT_OCTETS_GUARANTEED => Ok(octets),
        _ => Err(wrong(
            "less than what the law guarantees, 30 MB times recipients (PEC-AP-15)",
            format!("write {PRODUCT_OCTETS_GUARANTEED} or more"),
        )),
    };
    let recipients = |v: &DeValue<'_>| match count(v)? {
        recipients if recipients >= RECIPIENTS_GUARANTEED => Ok(recipients),
        _ => Err(wrong(
            "less than what the law guarantees, 50 recipients (PEC-AP-16)",
            format!("write {RECIPIENTS_GUARANTEED} or more"),
        )),
    };
    let messages = |v: &DeValue<'_>| read_number(v, COMMAND_MESSAGES_LEAST..=COMMAND_MESSAGES_MAX);
    let mut limits = Limits::default();
    let read = &mut limits;
    set(&mut read.message_octets, section.get("message_octets", product));
    set(&mut read.recipients, section.get("recipients", recipients));
    set(&mut read.eight_bit, section.get("eight_bit", read_bool));
    set(&mut read.utf8, section.get("utf8", read_bool));
    set(&mut read.refuse_above_octets, section.get("refuse_above_octets", octets));
    set(&mut read.append_octets, section.get("append_octets", octets));
    set(&mut read.command_messages, section.get("command_messages", messages));
    set(&mut read.receipt_reserve, section.get("receipt_reserve", read_size));
    set(&mut read.unthrottled, section.get("unthrottled", read_networks));
    set(&mut read.account_messages, section.get("account_messages", read_rate));
    set(&mut read.account_recipients, section.get("account_recipients", read_rate));
    set(&mut read.account_sessions_max, section.get("account_sessions_max", count));
    set(&mut read.address_messages, section.get("address_messages", read_rate));
    set(&mut read.address_recipients, section.get("address_recipients", read_rate));
    set(&mut read.network_messages, section.get("network_messages", read_rate));
    set(&mut read.network_recipients, section.get("network_recipients", read_rate));
    set(&mut read.destination_messages, section.get("destination_messages", read_rate));
    set(&mut read.destination_recipients, section.get("destination_recipients", read_rate));
    set(&mut read.connections_max, section.get("connections_max", count));
    let background = section.get("background_connections_max", count);
    set(&mut read.background_connections_max, background);
    set(&mut read.unauthenticate, section.get("unauthenticate", read_bool));
    let per_address = section.get("connections_per_address_max", count);
    set(&mut read.connections_per_address_max, per_address);
    set(&mut read.login_failures_max, section.get("login_failures_max", count));
    set(&mut read.login_window, section.get("login_window", read_duration));
    section.finish();
    limits
}

fn read_abuse(mut section: Section<'_, '_>, folder: &Path) -> (Abuse, Option<CountryRule>) {
    let count = |v: &DeValue<'_>| {
        read_number(v, 0..=1_000_000).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    };
    let mut abuse = Abuse::default();
    set(&mut abuse.burst, section.get("burst", count));
    set(&mut abuse.unknown_recipients, section.get("unknown_recipients", count));
    set(&mut abuse.night_messages, section.get("night_messages", count));
    abuse.night = section.get("night", |v| {
        let text = read_text(v)?;
        let hour = |text: &str| text.trim().parse().ok().filter(|hour| (0..=24).contains(hour));
        let hours = text.split_once('-').and_then(|(from, to)| Some((hour(from)?, hour(to)?)));
        hours.ok_or_else(|| wrong(format!("`{text}` are no hours"), "write night = \"22-6\""))
    });
    let file = section.get("countries", |v| read_path(v, folder));
    let freeze = section.get("new_country", |v| match read_text(v)? {
        "warn" => Ok(false),
        "suspend" => Ok(true),
        other => Err(wrong(format!("`{other}` is no answer"), "write \"warn\" or \"suspend\"")),
    });
    section.finish();
    (abuse, file.map(|file| CountryRule { file, freeze: freeze.unwrap_or(false) }))
}

/// Each key is an account's address, each value a table of what is its own.
fn read_machines(
    reader: &Reader<'_>,
    section: Section<'_, '_>,
    provider: Option<&Provider>,
    folder: &Path,
) -> BTreeMap<Address, Machine> {
    let mut machines = BTreeMap::new();
    for (name, line, value) in section.entries() {
        let complain = |what: String, suggestion: &str| {
            reader.complain(line, format!("machines: {what}"), suggestion.to_owned());
        };
        let DeValue::Table(table) = value else {
            complain(format!("`{name}` is no table"), MACHINE_EXAMPLE);
            continue;
        };
        let ours = |address: &Address| {
            provider.is_none_or(|provider| provider.domains.contains(address.domain()))
        };
        let Some(address) = Address::parse(&name).ok().filter(ours) else {
            complain(format!("`{name}` is no address of this provider"), MACHINE_EXAMPLE);
            continue;
        };
        let mut own = Section::named(reader, &name, table, line);
        let machine = Machine {
            networks: own.get("networks", read_networks).unwrap_or_default(),
            certificate: own.get("certificate", |v| read_path(v, folder)),
            messages: own.get("messages", read_rate),
            recipients: own.get("recipients", read_rate),
        };
        own.finish();
        machines.insert(address, machine);
    }
    machines
}

const MACHINE_EXAMPLE: &str =
    "write [machines.\"robot@pec.alfa.example\"], and below it networks = [\"192.0.2.0/24\"]";

/// Three numbers: in a minute, an hour, a day; 0 for no limit.
fn read_rate(value: &DeValue<'_>) -> Result<Rate, Wrong> {
    let three = value.as_array().filter(|list| list.len() == 3).map(|list| {
        let mut rate = [0; 3];
        for (place, member) in rate.iter_mut().zip(list.iter()) {
            let number = read_number(member.get_ref(), 0..=u64::from(u32::MAX))?;
            *place = u32::try_from(number).unwrap_or(u32::MAX);
        }
        Ok(Rate(rate))
    });
    three.unwrap_or_else(|| {
        Err(wrong(
            "not how many in a minute, an hour and a day",
            "write three numbers, as in [100, 1000, 5000]; 0 for no limit",
        ))
    })
}

fn read_networks(value: &DeValue<'_>) -> Result<Vec<Network>, Wrong> {
    read_list(value, |text| {
        let example = "write networks as in \"127.0.0.0/8\"";
        Network::parse(text).ok_or_else(|| wrong(format!("`{text}` is no network"), example))
    })
}

fn read_refuse(value: &DeValue<'_>) -> Result<Refuse, Wrong> {
    match read_text(value)? {
        "reject" => Ok(Refuse::Yes),
        "record" => Ok(Refuse::No),
        other => Err(wrong(format!("`{other}` is neither"), "write \"reject\" or \"record\"")),
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn read_signing(
    reader: &Reader<'_>,
    mut section: Section<'_, '_>,
    folder: &Path,
) -> (KeyPair, Option<NextSigning>) {
    let read_key = |v: &DeValue<'_>| read_key(v, folder);
    let key = section.get("key", read_key);
    let certificate = section.get("certificate", |v| read_path(v, folder));
    let next_key = section.get("next_key", read_key);
    let next_certificate = section.get("next_certificate", |v| read_path(v, folder));
    let from = section.get("next_from", |v| {
        let example = "write a time as in \"2026-12-01T00:00:00+01:00\"";
        let text = read_text(v)?;
        text.parse().map_err(|_| wrong(format!("`{text}` is no time"), example))
    });
    let line = ["next_key", "next_certificate", "next_from"].map(|key| section.line_of(key));
    section.finish();
    let next = match (next_key, next_certificate) {
        (Some(key), Some(certificate)) => {
            Some(NextSigning { pair: KeyPair { key, certificate }, from })
        }
        (None, None) if from.is_none() => None,
        _ => {
            let what = "signing: next_key and next_certificate belong together";
            let line = line.into_iter().max().unwrap_or(0);
            reader.complain(line, what.into(), "write both, or neither".into());
            None
        }
    };
    let pair = KeyPair {
        key: key.unwrap_or_else(|| folder.join("signing.key")),
        certificate: certificate.unwrap_or_else(|| folder.join("signing.pem")),
    };
    (pair, next)
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

const DEVICE_EXAMPLE: &str =
    "write \"pkcs11:token=...;object=...?module-path=/...&pin-source=/...\"";

/// A file with a key, or the URI of one in a device.
fn read_key(value: &DeValue<'_>, folder: &Path) -> Result<PathBuf, Wrong> {
    key_of(read_text(value)?, folder)
}

fn key_of(text: &str, folder: &Path) -> Result<PathBuf, Wrong> {
    if text.starts_with(device::SCHEME) {
        DeviceKey::parse(text).map_err(|what| (what, DEVICE_EXAMPLE.to_owned()))?;
        return Ok(PathBuf::from(text));
    }
    Ok(folder.join(text))
}

pub(super) fn read_path(value: &DeValue<'_>, folder: &Path) -> Result<PathBuf, Wrong> {
    Ok(folder.join(read_text(value)?))
}

fn read_policy(value: &DeValue<'_>) -> Result<OrdinaryMail, Wrong> {
    let word = read_text(value)?;
    OrdinaryMail::parse(word).ok_or_else(|| {
        wrong(format!("`{word}` is no policy"), format!("write {}", OrdinaryMail::FORMS))
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
