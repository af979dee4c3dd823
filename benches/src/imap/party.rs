//! The servers: each with the same users and the same mailboxes, started and stopped alike.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mail::Address;
use rustix::fs::{Advice, fadvise};
use rustls::ClientConfig;
use scenarios::demo::PASSWORD;
use scenarios::{Demo, wire};
use store::embedded::{EmbeddedStore, Options};
use store::{NewAccount, Owner, Quota, Role, Store as _, Timestamp};

use super::client::{self, Client};
use super::corpus;
use crate::dovecot::{Dovecot, Format, Plan};

/// Users of the rows that want several; the first also has the mailboxes that are only read.
pub(super) const USERS: usize = 64;
/// Messages of one APPEND while a mailbox is filled.
const FILL_TOGETHER: usize = 100;
/// A server that did nothing for so long is at rest.
const REST: Duration = Duration::from_millis(500);
/// How long that may take to come: an index of many messages takes its time.
const REST_WAIT: Duration = Duration::from_secs(900);
/// An account of the demo, whose credentials all users get.
const MODEL: &str = "mario.rossi@pec.alfa.example";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ceralacca,
    Maildir,
    Mdbox,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Ceralacca, Self::Maildir, Self::Mdbox];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ceralacca => "ceralacca",
            Self::Maildir => "dovecot-maildir",
            Self::Mdbox => "dovecot-mdbox",
        }
    }
}

/// The name of a user.
pub(super) fn user(number: usize) -> String {
    format!("utente{number}@pec.alfa.example")
}

/// A folder that those who are not root may enter.
pub(super) fn enterable(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    Ok(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?)
}

enum Running {
    Ceralacca(Demo),
    Dovecot(Dovecot),
}

/// A server that takes part.
pub(super) struct Party {
    pub(super) kind: Kind,
    folder: PathBuf,
    /// The certificates of all.
    identity: PathBuf,
    tls: Arc<ClientConfig>,
    running: Option<Running>,
    durable: bool,
}

impl Party {
    /// Makes it where it is not there, and starts it. Ours comes first: the others show its certificate.
    pub(super) fn prepare(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        let identity = folder.join(Kind::Ceralacca.word());
        if !identity.join("tls.pem").is_file() {
            Demo::start(&identity)?.stop()?;
            add_users(&identity)?;
        }
        let tls = client::tls(&std::fs::read(identity.join("ca.pem"))?)?;
        let folder = folder.join(kind.word());
        let mut party = Self { kind, folder, identity, tls, running: None, durable: true };
        party.start()?;
        Ok(party)
    }

    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let format = match self.kind {
            Kind::Ceralacca => {
                self.running = Some(Running::Ceralacca(Demo::start(&self.folder)?));
                return Ok(());
            }
            Kind::Maildir => Format::Maildir,
            Kind::Mdbox => Format::Mdbox,
        };
        let plan = Plan {
            folder: self.folder.clone(),
            format,
            certificate: self.identity.join("tls.pem"),
            key: self.identity.join("tls.key"),
            password: PASSWORD.to_owned(),
            durable: self.durable,
        };
        self.running = Some(Running::Dovecot(Dovecot::start(&plan)?));
        Ok(())
    }

    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.halt()
    }

    fn halt(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(Running::Ceralacca(demo)) => demo.stop().map(drop),
            Some(Running::Dovecot(dovecot)) => dovecot.stop(),
            None => Ok(()),
        }
    }

    /// Stops and starts it, with nothing of its files left in memory.
    pub(super) fn restart_cold(&mut self) -> anyhow::Result<()> {
        self.halt()?;
        rustix::fs::sync();
        forget(&self.folder)?;
        self.start()
    }

    fn imaps(&self) -> anyhow::Result<SocketAddr> {
        match self.running.as_ref().context("not started")? {
            Running::Ceralacca(demo) => demo.address("imaps"),
            Running::Dovecot(dovecot) => Ok(dovecot.imaps),
        }
    }

    /// Its demo, of ours.
    pub(super) fn demo(&self) -> Option<&Demo> {
        match &self.running {
            Some(Running::Ceralacca(demo)) => Some(demo),
            _ => None,
        }
    }

    /// Where it takes deliveries, of Dovecot.
    pub(super) fn lmtp(&self) -> Option<SocketAddr> {
        match &self.running {
            Some(Running::Dovecot(dovecot)) => Some(dovecot.lmtp),
            _ => None,
        }
    }

    /// Its processes.
    pub(super) fn processes(&self) -> anyhow::Result<Vec<u32>> {
        match self.running.as_ref().context("not started")? {
            Running::Ceralacca(demo) => Ok(vec![demo.pid()]),
            Running::Dovecot(dovecot) => dovecot.processes(),
        }
    }

    /// How to get in, for other threads.
    pub(super) fn door(&self) -> anyhow::Result<Door> {
        Ok(Door { address: self.imaps()?, tls: self.tls.clone() })
    }

    /// A client of one of the users.
    pub(super) fn enter(&self, number: usize) -> anyhow::Result<Client> {
        self.door()?.enter(number)
    }

    /// Sees to it that the first user has a mailbox with so many messages, and tells its name.
    pub(super) fn mailbox_of(&mut self, messages: usize) -> anyhow::Result<String> {
        let name = format!("di{messages}");
        let there = self.enter(0)?.count(&name)?;
        if there == Some(messages) {
            return Ok(name);
        }
        self.lasting(false)?;
        let mut client = self.enter(0)?;
        if there.is_some() {
            client.ok(&format!("DELETE {name}"))?;
        }
        client.ok(&format!("CREATE {name}"))?;
        for first in (0..messages).step_by(FILL_TOGETHER) {
            let texts: Vec<Vec<u8>> =
                (first..messages.min(first + FILL_TOGETHER)).map(corpus::message).collect();
            append_all(&mut client, &name, &texts)?;
        }
        ensure!(client.count(&name)? == Some(messages), "{name} is not full");
        drop(client);
        self.lasting(true)?;
        Ok(name)
    }

    /// Gives a user a mailbox with these messages, and no others.
    pub(super) fn fill(
        &mut self,
        number: usize,
        name: &str,
        texts: &[Vec<u8>],
    ) -> anyhow::Result<()> {
        let mut client = self.enter(number)?;
        if client.count(name)?.is_some() {
            client.ok(&format!("DELETE {name}"))?;
        }
        client.ok(&format!("CREATE {name}"))?;
        texts.chunks(FILL_TOGETHER).try_for_each(|texts| append_all(&mut client, name, texts))
    }

    /// Whether what is acknowledged is on disk: ours always, the others not while they are filled.
    fn lasting(&mut self, durable: bool) -> anyhow::Result<()> {
        if self.kind == Kind::Ceralacca {
            return Ok(());
        }
        self.durable = durable;
        self.halt()?;
        self.start()
    }

    /// Waits until it does nothing any more: it has made all that it makes of messages after they came.
    pub(super) fn settle(&self) -> anyhow::Result<()> {
        let processes = self.processes()?;
        wire::until_within("a server at rest", REST_WAIT, || {
            let before = ticks(&processes);
            let until = Instant::now() + REST;
            while Instant::now() < until {
                wire::pause();
            }
            Ok((ticks(&processes) <= before + 1).then_some(()))
        })
    }
}

/// What these processes have taken of the processors, in hundredths of a second.
fn ticks(processes: &[u32]) -> u64 {
    let of = |pid: &u32| -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit(") ").next()?.split(' ').skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    };
    // One that has ended does nothing.
    processes.iter().filter_map(of).sum()
}

impl Drop for Party {
    fn drop(&mut self) {
        // An error was told by whoever came first.
        let _ = self.halt();
    }
}

/// Where a server is, and how to speak to it.
#[derive(Clone)]
pub(super) struct Door {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Door {
    /// A client that has signed in.
    pub(super) fn enter(&self, number: usize) -> anyhow::Result<Client> {
        let mut client = Client::connect(self.address, &self.tls)?;
        client.login(&user(number), PASSWORD)?;
        Ok(client)
    }
}

/// One APPEND of several messages, RFC 3502.
fn append_all(client: &mut Client, mailbox: &str, texts: &[Vec<u8>]) -> anyhow::Result<()> {
    let first = format!("APPEND {mailbox}");
    let parts: Vec<(&str, &[u8])> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| (if at == 0 { first.as_str() } else { "" }, text.as_slice()))
        .collect();
    client.with_literals(&parts).map(drop)
}

fn add_users(demo: &Path) -> anyhow::Result<()> {
    let store = EmbeddedStore::open(&demo.join("store"), Options::default())?;
    let model = store.account_by_address(&Address::parse(MODEL)?)?.context("no model")?;
    for number in 0..USERS {
        let account = NewAccount {
            address: Address::parse(&user(number))?,
            user_id: None,
            owner: Owner::Holder,
            role: Role::None,
            credentials: model.credentials.clone(),
            quota: Quota { octets_max: 1 << 50, messages_max: None, receipt_reserve_octets: 0 },
            ordinary_mail: None,
        };
        store.add_account(account, Timestamp::now())?;
    }
    Ok(())
}

/// Has the system forget what it keeps in memory of the files below a folder.
fn forget(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            forget(&entry.path())?;
        } else if kind.is_file() {
            fadvise(std::fs::File::open(entry.path())?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
