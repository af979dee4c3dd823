//! The commands on accounts, the log, the queue and the index, and the socket over which they reach the running
//! server.
//!
//! A command is a [`Request`]; [`perform`] does it on a store, whether the server has the store
//! open or the command itself does: same words, same result. The socket carries one request and
//! one answer, each a line of JSON, and answers only who runs the server, or root. Passwords do
//! not travel: what is kept of one is made where it was typed.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use mail::{Address, Domain};
use serde::{Deserialize, Serialize};
use store::tree::Hash;
use store::{
    Account, AccountChange, AccountId, Credentials, LogRecord, NewAccount, NewMailbox, Owner,
    Quota, Role, State, Store, StoreError, Timestamp,
};

use crate::config::{Config, OrdinaryMail};
use crate::registry::Refreshed;
use crate::seal::Sealed;
use crate::seal::check::Leaves;
use crate::seal::history::{History, SealText};

mod evidence;
mod infected;
mod jobs;
mod page;
mod reach;
mod records;
mod request;
mod seals;
mod serving;
mod space;

pub(crate) use evidence::Shelved;
pub(crate) use infected::InfectedView;
pub(crate) use jobs::{Holds, JobView};
pub(crate) use reach::Reach;
pub(crate) use records::Wanted;
pub(crate) use request::Request;
pub(crate) use seals::unexpected;
pub(crate) use serving::{Desk, IndexDesk, Server, serve};

/// Octets of an answer at most: a list of 100,000 accounts.
const RESPONSE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// How long either side waits for the other.
const WAIT: Duration = Duration::from_secs(30);
/// Octets of a socket's path that every system takes (`sun_path` has 108 on Linux, 104 elsewhere).
const PATH_OCTETS_MAX: usize = 100;
/// Letters of a user ID at most.
const USER_ID_MAX: usize = 64;
/// What an account may hold when nothing is said.
const DEFAULT_QUOTA_OCTETS: u64 = 1 << 30;

/// What is kept of a password, on its way to the store.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    phc: String,
    scram: String,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Kept {
    /// What to keep of a password.
    ///
    /// # Errors
    ///
    /// When it is no password: empty, too long, or with control characters.
    pub(crate) fn of(password: &str) -> Result<Self, crypto::PasswordError> {
        let secret = crypto::Secret::derive(password, &crypto::random())?;
        Ok(Self { phc: secret.phc, scram: secret.scram.encode() })
    }
}

impl From<Kept> for Credentials {
    fn from(kept: Kept) -> Self {
        Self { phc: kept.phc, scram: kept.scram }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub(crate) enum Response {
    /// It is done: a sentence says what.
    Done { text: String },
    /// The accounts asked for.
    Accounts { accounts: Vec<AccountView> },
    /// A page of the records asked for, and after which number the next begins.
    Records { records: Vec<LogRecord>, next: Option<u64> },
    /// A page of the jobs asked for, and after which number the next begins.
    Jobs { jobs: Vec<JobView>, next: Option<u64> },
    /// A page of the infected messages asked for, and after which number the next begins.
    Infected { infected: Vec<InfectedView>, next: Option<u64> },
    /// The index of providers that is in use, as LDIF, and a sentence for each record left out of it.
    Index { ldif: String, faults: Vec<String> },
    /// The log was sealed, as far as there was anything to seal.
    Sealed { sealed: Sealed },
    /// The index of providers was read again: what came of it.
    Refreshed { refreshed: Refreshed },
    /// A piece of a message, and where the next begins.
    Octets { base64: String, next: Option<u64> },
    /// So many jobs of a page are due now that were not, and after which number the next begins.
    Retried { count: u64, next: Option<u64> },
    /// So many segments were looked through, none when there is nothing more to do.
    Compacted { segments: u64, moved_octets: u64, freed_octets: u64 },
    /// A page of seals, each with when its records were removed.
    Seals { seals: Vec<(SealText, Option<Timestamp>)> },
    /// The roots of a seal's chunks.
    Chunks { hashes: Vec<Hash> },
    /// A page of hashes, and the number of the last record that was written.
    Leaves { page: Leaves, written: u64 },
    /// The history of a message.
    History { history: History },
    /// Messages that are still there.
    Places { places: Vec<Shelved> },
    /// Some octets in base64; none at the end.
    Piece { octets: String },
    /// So many records are gone; none when none is left.
    Expired { removed: u64 },
    /// It is not done: a sentence says why, and what to do.
    Refused { text: String },
}

/// An account as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountView {
    pub(crate) address: String,
    pub(crate) user_id: Option<String>,
    /// `active` or `suspended`.
    pub(crate) state: String,
    /// Whether there is a password.
    pub(crate) login: bool,
    /// Whether it is a service address of the provider.
    pub(crate) service: bool,
    /// The policy for ordinary mail, when it has its own.
    pub(crate) ordinary_mail: Option<String>,
    pub(crate) created: String,
    pub(crate) quota: QuotaView,
    pub(crate) usage: UsageView,
}

/// What an account may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuotaView {
    pub(crate) octets: u64,
    pub(crate) messages: Option<u64>,
    pub(crate) receipt_reserve_octets: u64,
}

/// What it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsageView {
    pub(crate) octets: u64,
    pub(crate) messages: u64,
}

/// What the configuration says about accounts.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) domains: Vec<Domain>,
    pub(crate) postmaster: Address,
    pub(crate) receipt_reserve: u64,
    /// The provider's name.
    pub(crate) provider: String,
    pub(crate) forward_to: Option<Address>,
}

impl Rules {
    /// Those of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            domains: config.provider.domains.clone(),
            postmaster: config.provider.postmaster.clone(),
            receipt_reserve: config.limits.receipt_reserve,
            provider: config.provider.name.clone(),
            forward_to: config.ordinary_mail.forward_to.clone(),
        }
    }
}

/// An answer, and the account whose sessions must hear of it.
pub(crate) type Performed = (Response, Option<AccountId>);

/// Does what a request wants, or says why not.
pub(crate) fn perform(
    store: &dyn Store,
    rules: &Rules,
    request: Request,
    at: Timestamp,
) -> Performed {
    perform_with(store, rules, &jobs::NoHolds, request, at)
}

/// The same beside a running server, which leaves some destinations alone for a while.
pub(crate) fn perform_with(
    store: &dyn Store,
    rules: &Rules,
    holds: &dyn Holds,
    request: Request,
    at: Timestamp,
) -> Performed {
    match attempt(store, rules, holds, request, at) {
        Ok(done) => done,
        Err(text) => (Response::Refused { text }, None),
    }
}

fn attempt(
    store: &dyn Store,
    rules: &Rules,
    holds: &dyn Holds,
    request: Request,
    at: Timestamp,
) -> Result<Performed, String> {
    let changed = |text: String, id: AccountId| Ok((Response::Done { text }, Some(id)));
    match request {
        Request::Add { address, user_id, quota_octets, ordinary_mail, password } => {
            let address = own_address(&address, &rules.domains)?;
            if let Some(user_id) = &user_id {
                check_user_id(user_id)?;
            }
            check_policy(ordinary_mail.as_deref(), rules)?;
            let can_sign_in = password.is_some();
            let account = NewAccount {
                address: address.clone(),
                user_id,
                owner: Owner::Holder,
                role: Role::None,
                credentials: password.map(Credentials::from),
                quota: Quota {
                    octets_max: quota_octets.unwrap_or(DEFAULT_QUOTA_OCTETS),
                    messages_max: None,
                    receipt_reserve_octets: rules.receipt_reserve,
                },
                ordinary_mail,
            };
            let policy = account.ordinary_mail.clone();
            let id = store.add_account(account, at).map_err(|error| sentence(&error, &address))?;
            let made = make_folder(store, id, policy.as_deref(), at)?;
            let text = match can_sign_in {
                true => format!("{address} is added{made}"),
                false => format!(
                    "{address} is added{made}; nobody can sign in until `ceralacca account passwd \
                     {address}`"
                ),
            };
            changed(text, id)
        }
        Request::List => {
            let accounts = store.accounts().map_err(|error| fault(&error))?;
            let views: Result<Vec<_>, _> =
                accounts.iter().map(|account| view(store, account)).collect();
            Ok((Response::Accounts { accounts: views? }, None))
        }
        Request::Show { address } => {
            let account = find(store, &address)?;
            Ok((Response::Accounts { accounts: vec![view(store, &account)?] }, None))
        }
        Request::Passwd { address, password } => {
            let account = find(store, &address)?;
            let text = match &password {
                Some(_) => format!("the password of {} is changed", account.address),
                None => format!("nobody can sign in as {} any more", account.address),
            };
            let credentials = password.map(Credentials::from);
            change(store, &account, AccountChange::Credentials(credentials))?;
            changed(text, account.id)
        }
        Request::Quota { address, quota_octets } => {
            let account = find(store, &address)?;
            let quota = Quota { octets_max: quota_octets, ..account.quota };
            change(store, &account, AccountChange::Quota(quota))?;
            changed(format!("{} may hold {quota_octets} octets", account.address), account.id)
        }
        Request::OrdinaryMail { address, policy } => {
            let account = find_holders(store, &address)?;
            check_policy(policy.as_deref(), rules)?;
            let made = make_folder(store, account.id, policy.as_deref(), at)?;
            let text = match &policy {
                Some(policy) => format!("ordinary mail for {}: {policy}{made}", account.address),
                None => format!("ordinary mail for {}: as ordinary_mail.policy", account.address),
            };
            change(store, &account, AccountChange::OrdinaryMail(policy))?;
            changed(text, account.id)
        }
        Request::Suspend { address } => {
            let account = find_holders(store, &address)?;
            change(store, &account, AccountChange::State(State::Suspended))?;
            changed(format!("{} is suspended", account.address), account.id)
        }
        Request::Resume { address } => {
            let account = find_holders(store, &address)?;
            change(store, &account, AccountChange::State(State::Active))?;
            changed(format!("{} is active", account.address), account.id)
        }
        Request::Remove { address } => {
            let account = find_holders(store, &address)?;
            if account.address == rules.postmaster {
                return Err(format!(
                    "{} gets the mail to postmaster: name another account in provider.postmaster \
                     first",
                    account.address
                ));
            }
            store.remove_account(account.id).map_err(|error| sentence(&error, &account.address))?;
            changed(format!("{} is removed with all its messages", account.address), account.id)
        }
        Request::FindRecords { wanted, after } => {
            records::find(store, wanted, after).map(|found| (found, None))
        }
        Request::ListSeals { after } => seals::list(store, after).map(|listed| (listed, None)),
        Request::SealChunks { seal } => seals::chunks(store, seal).map(|told| (told, None)),
        Request::LogLeaves { after } => seals::leaves(store, after).map(|told| (told, None)),
        Request::LogHistory { message_id } => {
            seals::history(store, &rules.provider, &message_id, at).map(|told| (told, None))
        }
        Request::FindMessages { message_id } => {
            evidence::find(store, &message_id).map(|found| (found, None))
        }
        Request::ReadOctets { blob, start } => {
            evidence::read(store, blob, start).map(|read| (read, None))
        }
        Request::ExpireSeal { seal } => seals::expire(store, seal, at).map(|done| (done, None)),
        Request::ListJobs { after } => jobs::list(store, after).map(|listed| (listed, None)),
        Request::ShowJob { job } => jobs::show(store, job).map(|shown| (shown, None)),
        Request::RetryJob { job } => jobs::retry(store, holds, job, at).map(|done| (done, None)),
        Request::CancelJob { job } => {
            jobs::cancel(store, holds, &rules.provider, job, at).map(|done| (done, None))
        }
        Request::RetryJobs { after } => {
            jobs::retry_all(store, holds, after, at).map(|retried| (retried, None))
        }
        Request::Compact => space::compact(store).map(|done| (done, None)),
        Request::ListInfected { after } => {
            infected::list(store, after).map(|listed| (listed, None))
        }
        Request::ShowInfected { id } => infected::show(store, id).map(|shown| (shown, None)),
        Request::ReadInfected { id, start } => {
            infected::read(store, id, start).map(|piece| (piece, None))
        }
        // The server's own affairs: see `answer`.
        Request::SealLog => Err("no server is running that could seal the log".to_owned()),
        Request::ReloadIndex
        | Request::RefreshIndex { .. }
        | Request::SignIndex
        | Request::ShowIndex => Err("no server is running that has an index in use".to_owned()),
    }
}

pub(crate) fn own_address(text: &str, domains: &[Domain]) -> Result<Address, String> {
    let address = Address::parse(text)
        .map_err(|error| format!("`{text}` is no address ({error}): write local-part@domain"))?;
    if !domains.contains(address.domain()) {
        let names: Vec<&str> = domains.iter().map(Domain::as_str).collect();
        return Err(format!(
            "{} is not a domain of this provider: take one of {}",
            address.domain(),
            names.join(", ")
        ));
    }
    Ok(address)
}

/// A policy must be one, and forward to somebody who is not here: whom it reaches would decide on
/// it again.
fn check_policy(policy: Option<&str>, rules: &Rules) -> Result<(), String> {
    let Some(text) = policy else { return Ok(()) };
    match OrdinaryMail::parse(text) {
        None => Err(format!("`{text}` is no policy: say {}", OrdinaryMail::FORMS)),
        Some(OrdinaryMail::Forward(Some(to))) if rules.domains.contains(to.domain()) => {
            Err(format!("{to} is an address of this provider: forward to an ordinary one"))
        }
        Some(OrdinaryMail::Forward(None)) if rules.forward_to.is_none() => {
            Err("ordinary_mail.forward_to does not say to whom: say forward:ADDRESS".to_owned())
        }
        Some(_) => Ok(()),
    }
}

/// The folder that a policy names, made and shown to the holder where it is not there: ordinary mail
/// would be put into INBOX without it. What the answer says of that.
fn make_folder(
    store: &dyn Store,
    account: AccountId,
    policy: Option<&str>,
    at: Timestamp,
) -> Result<String, String> {
    let Some(OrdinaryMail::Deliver(Some(name))) = policy.and_then(OrdinaryMail::parse) else {
        return Ok(String::new());
    };
    let folder = NewMailbox { name: name.clone(), special_use: None };
    match store.create_mailbox(account, folder, at) {
        Ok(_) => {}
        Err(StoreError::MailboxExists) => return Ok(String::new()),
        Err(StoreError::TooManyMailboxes) => {
            return Err(format!(
                "there is no folder {}, and no room for another: remove one first",
                name.as_str()
            ));
        }
        Err(error) => return Err(fault(&error)),
    }
    match store.subscribe(account, &name, true) {
        // The client shows it all the same, among those not subscribed.
        Ok(()) | Err(StoreError::TooManyMailboxes) => {}
        Err(error) => return Err(fault(&error)),
    }
    Ok(format!("; its folder {} is new", name.as_str()))
}

/// A user ID is told from an address by having no `@`, and needs no quotes anywhere.
fn check_user_id(user_id: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if user_id.is_empty() || user_id.len() > USER_ID_MAX || !user_id.bytes().all(plain) {
        return Err(format!(
            "`{user_id}` is no user ID: take 1 to {USER_ID_MAX} letters, digits, dots, hyphens or \
             underscores"
        ));
    }
    Ok(())
}

fn find(store: &dyn Store, text: &str) -> Result<Account, String> {
    let address = Address::parse(text)
        .map_err(|error| format!("`{text}` is no address ({error}): write local-part@domain"))?;
    let found = store.account_by_address(&address).map_err(|error| fault(&error))?;
    found.ok_or_else(|| no_such(&address))
}

/// As [`find`], and not one of the provider's own: the engine needs those.
fn find_holders(store: &dyn Store, text: &str) -> Result<Account, String> {
    let account = find(store, text)?;
    match account.owner {
        Owner::Holder => Ok(account),
        Owner::Provider => Err(format!(
            "{} is a service address, which certified mail cannot work without: leave it as it is",
            account.address
        )),
    }
}

fn change(store: &dyn Store, account: &Account, change: AccountChange) -> Result<(), String> {
    store.change_account(account.id, change).map_err(|error| sentence(&error, &account.address))
}

fn no_such(address: &Address) -> String {
    format!("there is no account {address}: see `ceralacca account list`")
}

fn sentence(error: &StoreError, address: &Address) -> String {
    match error {
        StoreError::AccountExists => {
            "the address or the user ID is taken: see `ceralacca account list`".to_owned()
        }
        StoreError::NoSuchAccount => no_such(address),
        other => fault(other),
    }
}

fn fault(error: &StoreError) -> String {
    format!("the store failed ({error}): look at the disk, then try again")
}

fn view(store: &dyn Store, account: &Account) -> Result<AccountView, String> {
    let usage = store.usage(account.id).map_err(|error| sentence(&error, &account.address))?;
    Ok(AccountView {
        address: account.address.to_string(),
        user_id: account.user_id.clone(),
        state: match account.state {
            State::Active => "active".to_owned(),
            State::Suspended => "suspended".to_owned(),
        },
        login: account.credentials.is_some(),
        service: account.owner == Owner::Provider,
        ordinary_mail: account.ordinary_mail.clone(),
        created: account.created.to_string(),
        quota: QuotaView {
            octets: account.quota.octets_max,
            messages: account.quota.messages_max,
            receipt_reserve_octets: account.quota.receipt_reserve_octets,
        },
        usage: UsageView { octets: usage.octets, messages: usage.messages },
    })
}

// --- the socket, on the side of the commands

/// Says on standard error why a request was refused: false, as the command's outcome.
///
/// # Errors
///
/// When it was not refused, and the answer is to some other request.
pub(crate) fn refused(response: Response) -> anyhow::Result<bool> {
    match response {
        Response::Refused { text } => writeln!(io::stderr(), "ceralacca: {text}")?,
        _ => anyhow::bail!("the running server answered something else: restart it"),
    }
    Ok(false)
}

/// Asks the running server; `None` when there is none.
///
/// # Errors
///
/// When there is one that does not answer.
pub(crate) fn ask(socket: &Path, request: &Request) -> anyhow::Result<Option<Response>> {
    let place = Place::of(socket)?;
    let mut stream = match UnixStream::connect(&place.path) {
        Ok(stream) => stream,
        // Nothing there, or what a server that was killed left behind.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "the running server cannot be reached over {}: run this as its user",
                    socket.display()
                )
            });
        }
    };
    let silent = || format!("the server behind {} does not answer: see its log", socket.display());
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).with_context(silent)?;
    let mut answer = Vec::new();
    let mut reader = BufReader::new(stream).take(RESPONSE_OCTETS_MAX);
    reader.read_until(b'\n', &mut answer).with_context(silent)?;
    serde_json::from_slice(&answer).with_context(silent).map(Some)
}

/// A socket's path as the system takes it: one that is too long goes by its open folder.
struct Place {
    path: PathBuf,
    /// Open as long as the path is used.
    _folder: Option<std::fs::File>,
}

impl Place {
    fn of(socket: &Path) -> io::Result<Self> {
        if socket.as_os_str().len() <= PATH_OCTETS_MAX {
            return Ok(Self { path: socket.to_owned(), _folder: None });
        }
        let name = socket.file_name().unwrap_or_default();
        let folder = std::fs::File::open(socket.parent().unwrap_or(Path::new("/")))?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }
}

#[cfg(test)]
mod tests;
