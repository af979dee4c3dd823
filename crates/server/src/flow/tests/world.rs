//! Two providers that know each other, a network between them that loses, repeats and holds what
//! it carries, an ordinary world beside them, and one clock for all. A third provider is in their
//! index and has no host: whoever has its key.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crypto::{Authority, LocalSigner};
use jiff::SignedDuration;
use mail::{Address, Message, ReversePath};
use pec::providers::ProviderRecord;
use store::memory::MemoryStore;
use store::{
    AccountChange, Job, LogFilter, LogRecord, MailboxName, NewAccount, Owner, Quota, Role, State,
    Store, Timestamp, Transaction, UidSet,
};

use super::scene::address;
use super::smith::find;
use crate::antivirus::Place;
use crate::antivirus::tests::Told;
use crate::clock::Clock;
use crate::config::Config;
use crate::flow::access::{self, Submitted, Trace};
use crate::flow::reception::{self, Arrival, Received};
use crate::flow::wishes::Wishes;
use crate::flow::{Task, dispatch, octets_of};
use crate::site::Site;

/// The accounts of each provider, beside its service addresses. `piena` holds next to nothing.
pub(super) const ACCOUNTS: [[&str; 4]; 2] =
    [["rossi", "bianchi", "piena", "postmaster"], ["verdi", "neri", "piena", "postmaster"]];
const DOMAINS: [&str; 2] = ["pec.alfa.example", "pec.beta.example"];
const NAMES: [&str; 2] = ["Alfa PEC S.p.A.", "Beta Certificata S.r.l."];
/// The third.
pub(super) const GAMMA_DOMAIN: &str = "pec.gamma.example";
pub(super) const GAMMA_NAME: &str = "Gamma Posta S.p.A.";
/// After so long a host that could not be reached is tried again.
const AGAIN: SignedDuration = SignedDuration::from_mins(15);

/// A certificate and its key, in PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What all worlds share: keys take a second each.
pub(super) struct Keys {
    pub(super) authority: String,
    /// Of the two, and of the third.
    pub(super) providers: [Pair; 3],
    /// The third's, which ended.
    pub(super) expired: Pair,
    /// Of the same authority, for somebody who is not in the index.
    pub(super) unknown: Pair,
    /// Of another authority, for an address of the first.
    pub(super) impostor: Pair,
    tls: Pair,
}

pub(super) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let long_ago = "2016-01-01T00:00:00Z".parse().unwrap();
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority = Authority::new("Prova CA", long_ago).unwrap();
        let issue = |authority: &Authority, name: &str, domain: &str, at| {
            let author = format!("posta-certificata@{domain}");
            let (certificate, key) = authority.issue_provider(name, &author, at).unwrap();
            Pair { certificate: certificate.to_pem(), key: key.as_str().to_owned() }
        };
        let other = Authority::new("Altra CA", at).unwrap();
        let (tls, tls_key) = authority.issue_tls(&["localhost"], &[], at).unwrap();
        Keys {
            authority: authority.certificate().to_pem(),
            providers: [
                issue(&authority, NAMES[0], DOMAINS[0], at),
                issue(&authority, NAMES[1], DOMAINS[1], at),
                issue(&authority, GAMMA_NAME, GAMMA_DOMAIN, at),
            ],
            expired: issue(&authority, GAMMA_NAME, GAMMA_DOMAIN, long_ago),
            unknown: issue(&authority, "Delta", "pec.delta.example", at),
            impostor: issue(&other, NAMES[0], DOMAINS[0], at),
            tls: Pair { certificate: tls.to_pem(), key: tls_key.as_str().to_owned() },
        }
    })
}

/// A provider.
pub(super) struct Host {
    pub(super) name: &'static str,
    pub(super) domain: &'static str,
    pub(super) site: Arc<Site>,
    pub(super) store: Arc<MemoryStore>,
    folder: tempfile::TempDir,
    key: &'static str,
    /// Finds a virus where the text `EICAR` is; none: nothing is scanned.
    scanner: Option<Told>,
    /// How many messages of each account have been told of.
    told: BTreeMap<String, usize>,
}

/// What becomes of one message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    /// The sender does not hear the answer and sends again.
    Twice,
    /// It is taken, and gone.
    Lost,
    /// It is under way for longer.
    Held,
    /// The host cannot be reached, or the connection ends before the answer: tried again.
    Down,
    /// Something takes away the field that says what it is, which no signature covers.
    Altered,
    /// Something changes an octet of what is signed.
    Damaged,
}

/// A message on its way.
pub(super) struct Passage {
    pub(super) from: usize,
    /// Nothing: to the ordinary world.
    pub(super) to: Option<usize>,
    pub(super) kind: String,
    reverse_path: ReversePath,
    recipients: Vec<Address>,
    octets: Vec<u8>,
}

impl Passage {
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

pub(super) struct World {
    pub(super) hosts: [Host; 2],
    pub(super) clock: Clock,
    pub(super) held: Vec<Passage>,
    /// What happened, a line each, since somebody looked.
    pub(super) events: Vec<String>,
    /// With what TLS messages come to port 25; none: in clear.
    pub(super) tls: Option<&'static str>,
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl World {
    pub(super) fn new(now: Timestamp) -> Self {
        let clock = Clock::set(now);
        let hosts = [0, 1].map(|number| Host::new(number, &clock));
        Self { hosts, clock, held: Vec::new(), events: Vec::new(), tls: Some("TLSv1_3") }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// `rossi@a` in full; `@x` is the ordinary world, `@g` the third provider.
    pub(super) fn full(short: &str) -> String {
        match short.split_once('@') {
            Some((local, "a")) => format!("{local}@{}", DOMAINS[0]),
            Some((local, "b")) => format!("{local}@{}", DOMAINS[1]),
            Some((local, "g")) => format!("{local}@{GAMMA_DOMAIN}"),
            Some((local, "x")) => format!("{local}@ordinaria.example"),
            _ => short.to_owned(),
        }
    }

    fn host_of(&self, address: &Address) -> Option<usize> {
        self.hosts.iter().position(|host| host.domain == address.domain().as_str())
    }

    /// A user submits; the PEC msgid.
    pub(super) fn submit(&self, from: &str, to: &[&str], message: &str) -> String {
        let from = address(&Self::full(from));
        let host = &self.hosts[self.host_of(&from).unwrap()];
        let mut spool = host.store.spool().unwrap();
        spool.write(message.as_bytes()).unwrap();
        let submitted = Submitted {
            reverse_path: from,
            forward_paths: to.iter().map(|to| address(&Self::full(to))).collect(),
            wishes: Wishes::default(),
            trace: Trace {
                hello: "pc.example".to_owned(),
                peer: [192, 0, 2, 10].into(),
                protocol: "ESMTPSA",
            },
        };
        match access::take(&host.site, &submitted, spool) {
            Ok(id) => id,
            Err(access::Refusal::Say(reply)) => panic!("{reply}"),
            Err(access::Refusal::Fault(error)) => panic!("{error:#}"),
        }
    }

    /// Somebody brings octets to port 25 of a provider.
    pub(super) fn bring(
        &self,
        host: usize,
        from: &str,
        to: &[&str],
        octets: &[u8],
    ) -> Result<(), String> {
        let reverse_path = match from {
            "" => ReversePath::Null,
            from => ReversePath::Address(address(&Self::full(from))),
        };
        let recipients: Vec<Address> = to.iter().map(|to| address(&Self::full(to))).collect();
        self.receive(host, &reverse_path, &recipients, octets)
    }

    fn receive(
        &self,
        host: usize,
        reverse_path: &ReversePath,
        recipients: &[Address],
        octets: &[u8],
    ) -> Result<(), String> {
        let site = &self.hosts[host].site;
        let mut spool = site.store.spool().unwrap();
        spool.write(octets).unwrap();
        let received = Received {
            reverse_path: reverse_path.clone(),
            forward_paths: recipients.to_vec(),
            wishes: Wishes::default(),
            arrival: Arrival {
                hello: "mx.example.org".to_owned(),
                peer: [192, 0, 2, 25].into(),
                protocol: "ESMTPS",
                tls: self.tls.map(str::to_owned),
                authenticate: None,
            },
        };
        match reception::take(site, received, spool) {
            Ok(_) => Ok(()),
            Err(access::Refusal::Say(reply)) => Err(reply.to_string()),
            Err(access::Refusal::Fault(error)) => panic!("{error:#}"),
        }
    }

    /// Everything that is due happens, on both hosts and between them, until nothing more does.
    pub(super) fn run(&mut self, fate: &mut dyn FnMut(&Passage) -> Fate) {
        loop {
            let mut moved = false;
            for host in 0..self.hosts.len() {
                moved |= self.step(host, fate);
            }
            if !moved {
                break;
            }
        }
        for host in 0..self.hosts.len() {
            let host = &mut self.hosts[host];
            for (local, messages) in host.inboxes() {
                let told = host.told.entry(local.clone()).or_default();
                for octets in messages.iter().skip(*told) {
                    self.events.push(format!("{} -> {local} {}", host.name, kind(octets)));
                }
                *told = messages.len();
            }
        }
    }

    /// Each job of a host that is due, once, and its notices; whether anything was done.
    fn step(&mut self, host: usize, fate: &mut dyn FnMut(&Passage) -> Fate) -> bool {
        let (mut moved, mut last) = (false, None);
        let site = self.hosts[host].site.clone();
        // In the order of their numbers, those for other hosts too, which have lanes of their own.
        while let Some(job) = site.store.jobs(last, 1).unwrap().pop() {
            last = Some(job.id);
            if job.due > self.now() {
                continue;
            }
            match serde_json::from_slice(&job.payload).unwrap() {
                Task::Relay(relay) => moved |= self.relay(host, &site, &job, relay, fate),
                _ => match crate::flow::perform(&site, &job) {
                    Ok(()) => moved = true,
                    Err(_) => self.put_off(&site, &job),
                },
            }
        }
        let before = site.store.log(&LogFilter::default(), 0, usize::MAX).unwrap().len();
        crate::flow::deadlines::give_due(&site, &|| false);
        moved | (site.store.log(&LogFilter::default(), 0, usize::MAX).unwrap().len() > before)
    }

    fn put_off(&self, site: &Site, job: &Job) {
        site.store.postpone(job.id, self.now() + AGAIN, "not now").unwrap();
    }

    fn relay(
        &mut self,
        from: usize,
        site: &Arc<Site>,
        job: &Job,
        relay: dispatch::Relay,
        fate: &mut dyn FnMut(&Passage) -> Fate,
    ) -> bool {
        let octets = octets_of(site, job).unwrap();
        let passage = Passage {
            from,
            to: self.hosts.iter().position(|host| host.domain == relay.domain),
            kind: kind(&octets),
            reverse_path: relay.reverse_path,
            recipients: relay.recipients.into_iter().map(|to| to.address).collect(),
            octets,
        };
        let fate = fate(&passage);
        let to = passage.to.map_or("x", |to| self.hosts[to].name);
        let how = match fate {
            Fate::Arrives => "",
            Fate::Twice => " (twice)",
            Fate::Lost => " (lost)",
            Fate::Held => " (held)",
            Fate::Down => " (down)",
            Fate::Altered => " (altered)",
            Fate::Damaged => " (damaged)",
        };
        self.events.push(format!("{} -> {to} {}{how}", self.hosts[from].name, passage.kind));
        match fate {
            Fate::Down => {
                self.put_off(site, job);
                return false;
            }
            Fate::Arrives => self.arrive(&passage),
            Fate::Twice => {
                self.arrive(&passage);
                self.arrive(&passage);
            }
            Fate::Lost => {}
            Fate::Held => self.held.push(passage),
            Fate::Altered | Fate::Damaged => {
                let octets = match fate {
                    Fate::Altered => altered(&passage.octets),
                    _ => damaged(&passage.octets),
                };
                let to = passage.to.unwrap();
                let Passage { reverse_path, recipients, .. } = passage;
                if let Err(reply) = self.receive(to, &reverse_path, &recipients, &octets) {
                    let [to, from] = [to, from].map(|host| self.hosts[host].name);
                    self.events.push(format!("{to} -> {from} {reply}"));
                }
            }
        }
        let done = Transaction { at: self.now(), consume: vec![job.id], ..Transaction::default() };
        site.store.commit(done).unwrap();
        true
    }

    fn arrive(&self, passage: &Passage) {
        let Some(to) = passage.to else { return };
        let taken = self.receive(to, &passage.reverse_path, &passage.recipients, &passage.octets);
        assert_eq!(taken, Ok(()), "{}", passage.kind);
    }

    /// What was held arrives, the last first.
    pub(super) fn release(&mut self) {
        while let Some(passage) = self.held.pop() {
            self.arrive(&passage);
        }
    }

    /// The program of a host ends, and starts again on what it had stored.
    pub(super) fn restart(&mut self, host: usize) {
        let clock = self.clock.clone();
        self.hosts[host].start(&clock);
    }

    pub(super) fn later(&self, by: SignedDuration) {
        self.clock.turn_to(self.now() + by);
    }
}

/// Without the field that says what a receipt or an envelope is.
fn altered(octets: &[u8]) -> Vec<u8> {
    // It may be the first.
    let lines = [b"\r\n", octets].concat();
    let fields = [&b"\r\nX-Ricevuta:"[..], b"\r\nX-Trasporto:"];
    let start = fields.iter().find_map(|field| find(&lines, field)).unwrap();
    let end = start + 2 + find(&lines[start + 2..], b"\r\n").unwrap();
    [&lines[..start], &lines[end..]].concat()[2..].to_vec()
}

/// With another first octet in the first part that is base64, which is signed.
fn damaged(octets: &[u8]) -> Vec<u8> {
    let part = find(octets, b"base64").unwrap();
    let start = part + find(&octets[part..], b"\r\n\r\n").unwrap() + 4;
    let mut octets = octets.to_vec();
    octets[start] = if octets[start] == b'A' { b'B' } else { b'A' };
    octets
}

/// What a message is, in a word or two.
pub(super) fn kind(octets: &[u8]) -> String {
    let message = Message::lenient(octets);
    let field = |name: &str| message.field(name).map(|field| field.unfolded());
    match (field("X-Trasporto").as_deref(), field("X-Ricevuta").as_deref()) {
        (Some("errore"), _) => "busta-anomalia".to_owned(),
        (Some(word), None) => word.to_owned(),
        (None, Some(word)) => {
            let data = super::scene::certification(octets);
            if data.error == pec::certification::ErrorKind::Virus {
                return format!("{word} {}", data.error_text.unwrap_or_default());
            }
            match data.error_text.as_deref().and_then(|text| text.split(' ').next()) {
                Some("5.4.1") if data.error_text.iter().any(|t| t.contains("ventiquattro")) => {
                    format!("{word} 24h")
                }
                Some("5.4.1") => format!("{word} 12h"),
                Some(code) if word == "errore-consegna" => format!("{word} {code}"),
                _ => word.to_owned(),
            }
        }
        _ => "posta-ordinaria".to_owned(),
    }
}

impl Host {
    fn new(number: usize, clock: &Clock) -> Self {
        let domain = DOMAINS[number];
        let folder = tempfile::tempdir().unwrap();
        let keys = keys();
        let Pair { certificate, key } = &keys.providers[number];
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("ca.pem", &keys.authority);
        put("signing.pem", certificate);
        put("signing.key", key);
        put("tls.pem", &keys.tls.certificate);
        put("tls.key", &keys.tls.key);
        let record = |name: &str, domain: &str, certificates: &[&Pair]| ProviderRecord {
            name: name.to_owned(),
            unit: None,
            certificates: certificates
                .iter()
                .map(|pair| {
                    let pem = pair.certificate.as_bytes();
                    crypto::Certificate::from_pem(pem).unwrap().to_der().to_vec()
                })
                .collect(),
            mail_receipt: address(&format!("ricevute@{domain}")),
            domains: vec![mail::Domain::parse(domain).unwrap()],
            location: None,
            description: None,
        };
        // An old certificate stays in the index (PEC-IDX-12).
        let records = [
            record(NAMES[0], DOMAINS[0], &[&keys.providers[0]]),
            record(NAMES[1], DOMAINS[1], &[&keys.providers[1]]),
            record(GAMMA_NAME, GAMMA_DOMAIN, &[&keys.providers[2], &keys.expired]),
        ];
        put("providers.ldif", &pec::providers::records_to_ldif(&records));
        let store = Arc::new(MemoryStore::new());
        let locals = ACCOUNTS[number].map(|local| (local, Role::None));
        let service = [("ricevute", Role::ServiceMailbox), ("posta-certificata", Role::Author)];
        for (local, role) in locals.into_iter().chain(service) {
            let account = NewAccount {
                address: address(&format!("{local}@{domain}")),
                user_id: None,
                owner: if role == Role::None { Owner::Holder } else { Owner::Provider },
                role,
                credentials: None,
                quota: Quota {
                    octets_max: if local == "piena" { 1024 } else { 1 << 30 },
                    messages_max: None,
                    receipt_reserve_octets: 1 << 20,
                },
                ordinary_mail: None,
            };
            store.add_account(account, clock.now()).unwrap();
        }
        let name = ["a", "b"][number];
        let site = assemble(folder.path(), number, &store, key, clock);
        Self { name, domain, site, store, folder, key, scanner: None, told: BTreeMap::new() }
    }

    fn start(&mut self, clock: &Clock) {
        let number = usize::from(self.name == "b");
        self.site = assemble(self.folder.path(), number, &self.store, self.key, clock);
        self.use_scanner();
    }

    /// From now on what it takes is scanned.
    pub(super) fn scan(&mut self) {
        self.scanner = Some(Told::start());
        self.use_scanner();
    }

    fn use_scanner(&self) {
        let Some(scanner) = &self.scanner else { return };
        let mut config = (*self.site.config.load_full()).clone();
        config.antivirus.clamd = Some(Place::Tcp(scanner.place.clone()));
        self.site.config.store(Arc::new(config));
    }

    /// The messages in the INBOX of each account.
    pub(super) fn inboxes(&self) -> Vec<(String, Vec<Vec<u8>>)> {
        let accounts = self.store.accounts().unwrap();
        let messages = |account: &store::Account| self.inbox(account.address.local());
        accounts.iter().map(|a| (a.address.local().to_owned(), messages(a))).collect()
    }

    pub(super) fn inbox(&self, local: &str) -> Vec<Vec<u8>> {
        let account = self.store.account_by_address(&self.address(local)).unwrap().unwrap();
        let inbox = self.store.mailbox(account.id, &MailboxName::inbox()).unwrap();
        let all = self.store.summaries(inbox.id, &UidSet::all(), usize::MAX).unwrap();
        all.iter().map(|m| self.store.read(m.blob, 0, m.octets).unwrap()).collect()
    }

    pub(super) fn address(&self, local: &str) -> Address {
        address(&format!("{local}@{}", self.domain))
    }

    pub(super) fn log(&self) -> Vec<LogRecord> {
        let log = self.store.log(&LogFilter::default(), 0, usize::MAX).unwrap();
        log.into_iter().map(|(_, record)| record).collect()
    }

    pub(super) fn change(&self, local: &str, change: AccountChange) {
        let account = self.store.account_by_address(&self.address(local)).unwrap().unwrap();
        self.store.change_account(account.id, change).unwrap();
    }

    pub(super) fn suspend(&self, local: &str) {
        self.change(local, AccountChange::State(State::Suspended));
    }
}

fn assemble(
    folder: &Path,
    number: usize,
    store: &Arc<MemoryStore>,
    key: &str,
    clock: &Clock,
) -> Arc<Site> {
    let toml = format!(
        "[provider]\nname = \"{}\"\ndomains = [\"{}\"]\n[trust]\nauthorities = [\"ca.pem\"]\n",
        NAMES[number], DOMAINS[number]
    );
    let config = Config::parse(&folder.join("ceralacca.toml"), &toml).unwrap();
    let signer = Arc::new(LocalSigner::from_pem(key.as_bytes()).unwrap());
    crate::serve::assemble(config, store.clone(), signer, clock.clone()).unwrap()
}

/// What a client submits.
pub(super) fn message(from: &str, to: &[&str], subject: &str) -> String {
    let to: Vec<String> = to.iter().map(|to| World::full(to)).collect();
    format!(
        "From: {}\r\nTo: {}\r\nSubject: {subject}\r\nDate: Mon, 14 Sep 2026 09:30:01 +0200\r\n\
         Message-ID: <{subject}.1@pc.example>\r\n\r\nSi allega {subject}.\r\n",
        World::full(from),
        to.join(",\r\n ")
    )
}
