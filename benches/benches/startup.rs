//! How long until the demo is ready: the first time, again, and with a million messages in its
//! store.

use std::time::{Duration, Instant};

use benches::{say, setting, spread};
use mail::Address;
use scenarios::Demo;
use store::embedded::{EmbeddedStore, Options};
use store::{
    AccountChange, Flags, MailboxName, NewMailbox, NewMessage, Octets, Store, Timestamp, UidSet,
};

const OWNER: &str = "mario.rossi@pec.alfa.example";
const ROUNDS: usize = 5;

fn main() -> anyhow::Result<()> {
    let messages = setting("BENCH_MESSAGES", 1_000_000);
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let first = start(&data)?;
    say("first start, ms: keys and accounts are made", millis(first));
    tell("start again, ms (min median max)", &data)?;
    fill(&data, messages)?;
    tell(&format!("start with {messages} messages, ms (min median max)"), &data)?;
    let demo = Demo::start(&data)?;
    let mut imap = demo.imap_as("mrossi")?;
    let began = Instant::now();
    imap.ok("SELECT Pieno")?;
    say("SELECT of them, ms", millis(began.elapsed()));
    demo.stop()?;
    Ok(())
}

fn start(data: &std::path::Path) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let demo = Demo::start(data)?;
    let took = began.elapsed();
    demo.stop()?;
    Ok(took)
}

fn tell(what: &str, data: &std::path::Path) -> anyhow::Result<()> {
    let times = (0..ROUNDS).map(|_| start(data)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some((least, median, most)) = spread(times) {
        say(what, format!("{} {} {}", millis(least), millis(median), millis(most)));
    }
    Ok(())
}

/// One message, and copies of copies of it: what grows is the index.
fn fill(data: &std::path::Path, messages: usize) -> anyhow::Result<()> {
    let store = EmbeddedStore::open(&data.join("store"), Options::default())?;
    let at = Timestamp::now();
    let owner = Address::parse(OWNER)?;
    let account = store
        .account_by_address(&owner)?
        .ok_or_else(|| anyhow::anyhow!("the demo has no {OWNER}"))?;
    let quota = store::Quota { octets_max: u64::MAX >> 1, ..account.quota };
    store.change_account(account.id, AccountChange::Quota(quota))?;
    let name = MailboxName::parse("Pieno").ok_or_else(|| anyhow::anyhow!("no name"))?;
    let new = NewMailbox { name, special_use: None };
    let mailbox = store.create_mailbox(account.id, new, at)?.id;
    let text = benches::message(OWNER, OWNER, "una", 2000);
    let message = NewMessage {
        octets: Octets::Inline(text.into()),
        flags: Flags::default(),
        received: at,
        at,
    };
    store.append(mailbox, message)?;
    let mut held = 1;
    while held < messages {
        let more = held.min(messages - held).min(50_000);
        let first = store.summaries(mailbox, &UidSet::all(), more)?;
        let uids: UidSet = first.iter().map(|summary| summary.uid).collect();
        store.copy(mailbox, &uids, mailbox, at)?;
        held += more;
    }
    Ok(())
}

fn millis(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1000.0)
}
