//! What the store costs as a provider grows: accounts of a hundred messages each, up to 100,000 of them.
//!
//! The messages are copies of those of the first account, so that what grows is the index of accounts, mailboxes and messages, and not
//! that of octets (`store` measures those). At each size: how long until the store is open and until the whole
//! program is ready, and what small commands cost at accounts drawn by chance. `BENCH_ACCOUNTS` (100,000) is the last
//! size, and `BENCH_EACH` (100) how many messages an account has.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use benches::{say, setting, spread};
use mail::Address;
use scenarios::Demo;
use store::embedded::{self, EmbeddedStore, Options};
use store::{
    FlagChange, Flags, MailboxId, MailboxName, NewAccount, NewMessage, Octets, Owner, Quota, Role,
    Store, SystemFlags, Timestamp, UidSet,
};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Accounts that are filled at a time, so that they share flushes.
const FILLERS: usize = 16;
/// Messages of a list.
const LISTED: usize = 20;
/// How often each command is measured.
const ROUNDS: usize = 500;
/// How often the store and the program are started.
const STARTS: usize = 5;
const MESSAGE_OCTETS: usize = 20_000;

fn main() -> anyhow::Result<()> {
    let largest = setting("BENCH_ACCOUNTS", 100_000);
    let each = setting("BENCH_EACH", 100).max(LISTED);
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    Demo::start(&data)?.stop()?;
    let place = data.join("store");
    let mut there = 0;
    for accounts in SIZES.into_iter().filter(|size| *size <= largest) {
        fill(&place, there, accounts, each)?;
        there = accounts;
        say(&format!("== accounts of {each} messages"), accounts);
        commands(&place, accounts)?;
        starts(&data)?;
        let stats = embedded::stats(&place)?;
        say("octets of the index for a message", stats.index_octets / stats.messages);
    }
    Ok(())
}

fn address(number: usize) -> anyhow::Result<Address> {
    Ok(Address::parse(&format!("casella{number}@pec.alfa.example"))?)
}

/// Adds accounts from `there` to `accounts`; the first gets its messages, all others copies of them.
fn fill(place: &Path, there: usize, accounts: usize, each: usize) -> anyhow::Result<()> {
    let store = EmbeddedStore::open(place, Options::default())?;
    let first = match there {
        0 => {
            let inbox = add(&store, 0)?;
            let text = |number: usize| {
                benches::message("a@b.example", "c@d.example", &number.to_string(), 2_000)
            };
            store.append_all(inbox, (0..each).map(|number| new(text(number))).collect())?;
            inbox
        }
        _ => inbox(&store, 0)?,
    };
    let next = AtomicUsize::new(there.max(1));
    std::thread::scope(|scope| {
        let fillers: Vec<_> = (0..FILLERS)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= accounts {
                            return Ok(());
                        }
                        let inbox = add(&store, number)?;
                        store.copy(first, &UidSet::all(), inbox, Timestamp::now())?;
                    }
                })
            })
            .collect();
        fillers.into_iter().try_for_each(|filler| {
            filler.join().map_err(|_| anyhow::anyhow!("a filler panicked"))?
        })
    })
}

fn add(store: &EmbeddedStore, number: usize) -> anyhow::Result<MailboxId> {
    let account = NewAccount {
        address: address(number)?,
        user_id: None,
        owner: Owner::Holder,
        role: Role::None,
        credentials: None,
        quota: Quota { octets_max: 1 << 40, messages_max: None, receipt_reserve_octets: 0 },
        ordinary_mail: None,
    };
    let account = store.add_account(account, Timestamp::now())?;
    Ok(store.mailbox(account, &MailboxName::inbox())?.id)
}

fn inbox(store: &EmbeddedStore, number: usize) -> anyhow::Result<MailboxId> {
    let account = store.account_by_address(&address(number)?)?.context("no such account")?;
    Ok(store.mailbox(account.id, &MailboxName::inbox())?.id)
}

fn new(octets: Vec<u8>) -> NewMessage {
    let at = Timestamp::now();
    NewMessage { octets: Octets::Inline(octets.into()), flags: Flags::default(), received: at, at }
}

/// What commands cost at an account that was not asked before; none but the first account is left changed.
fn commands(place: &Path, accounts: usize) -> anyhow::Result<()> {
    let store = EmbeddedStore::open(place, Options::default())?;
    let mut chance = 88_172_645_463_325_252_u64;
    let mut drawn = || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        // The first account keeps what all others are copied from.
        1 + usize::try_from(chance % (accounts as u64 - 1)).unwrap_or_default()
    };
    let names = [
        "account and INBOX by address, ms (min median max)",
        "its use of the quota",
        "status of INBOX",
        "a list of 20 messages",
        "an append of 20 KB",
        "a flag",
        "a copy",
        "an expunge of two",
    ];
    let mut times = names.map(|_| Vec::with_capacity(ROUNDS));
    for round in 0..ROUNDS {
        let number = drawn();
        let text =
            benches::message("a@b.example", "c@d.example", &format!("n{round}"), MESSAGE_OCTETS);
        let mut clock = Laps { began: Instant::now(), times: Vec::new() };
        let account = store.account_by_address(&address(number)?)?.context("no such account")?;
        let inbox = store.mailbox(account.id, &MailboxName::inbox())?.id;
        clock.lap();
        store.usage(account.id)?;
        clock.lap();
        store.status(inbox)?;
        clock.lap();
        anyhow::ensure!(
            store.summaries(inbox, &UidSet::all(), LISTED)?.len() == LISTED,
            "a short list"
        );
        clock.lap();
        let appended = store.append(inbox, new(text))?;
        clock.lap();
        let deleted = FlagChange::Add(Flags { system: SystemFlags::DELETED, ..Flags::default() });
        let one = UidSet::from_ranges([(appended.uid, appended.uid)]);
        store.change_flags(inbox, &one, &deleted)?;
        clock.lap();
        store.copy(inbox, &one, inbox, Timestamp::now())?;
        clock.lap();
        anyhow::ensure!(store.expunge(inbox, None)?.len() == 2, "two messages were to go");
        clock.lap();
        for (times, lap) in times.iter_mut().zip(clock.times) {
            times.push(lap);
        }
    }
    for (name, times) in names.into_iter().zip(times) {
        tell(name, times);
    }
    Ok(())
}

/// Times of one thing after the other.
struct Laps {
    began: Instant,
    times: Vec<Duration>,
}

impl Laps {
    fn lap(&mut self) {
        self.times.push(self.began.elapsed());
        self.began = Instant::now();
    }
}

fn starts(data: &Path) -> anyhow::Result<()> {
    let mut opened = Vec::new();
    let mut ready = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let store = EmbeddedStore::open(&data.join("store"), Options::default())?;
        opened.push(began.elapsed());
        drop(store);
        let began = Instant::now();
        let demo = Demo::start(data)?;
        ready.push(began.elapsed());
        demo.stop()?;
    }
    tell("opening the store", opened);
    tell("the demo ready", ready);
    Ok(())
}

fn tell(what: &str, times: Vec<Duration>) {
    if let Some((least, median, most)) = spread(times) {
        let [least, median, most] = [least, median, most].map(|time| time.as_secs_f64() * 1000.0);
        say(what, format!("{least:.2} {median:.2} {most:.2}"));
    }
}
