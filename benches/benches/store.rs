//! What the store takes and how fast it is.
//!
//! First, stored octets for a certified exchange, as a part of what a Maildir takes for the same
//! messages: the sender's copy, acceptance and complete delivery receipt, and the recipient's
//! envelope. The store's side has the take-charge receipt too, which goes to the provider. Messages
//! go through the whole program; attachments are random, so that nothing but sharing helps them.
//!
//! Then durable appends of 20 KB by 1, 8 and 64 writers, next to a bare log in the same folder that
//! does nothing but write what has gathered, flush it and answer; and the same into a store that is
//! encrypted, and into one that is archived to a folder of the same disk. Last, how long the store of
//! the last run takes to be opened again, and how long a text is looked for in the index of texts.
//!
//! `BENCH_EXCHANGES` (0: none), `BENCH_APPENDS`, `BENCH_TEXTS` change the load.

use std::fmt::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use anyhow::Context as _;
use benches::{say, setting, spread};
use mail::Address;
use scenarios::{Demo, wire};
use store::embedded::{
    self, EmbeddedStore, KEY_OCTETS, KnownKey, MasterKeys, Options, SecretKey, Stats,
};
use store::{
    AccountChange, AccountId, Flags, MailboxId, MailboxName, MessageText, NewAccount, NewMessage,
    Octets, Owner, Quota, Role, Store, Summary, Timestamp, UidSet, Within,
};

const FROM: &str = "mario.rossi@pec.alfa.example";
const TO: &str = "studio.verdi@pec.beta.example";
const MESSAGE_OCTETS: usize = 20_000;
const WRITERS: [usize; 3] = [1, 8, 64];
/// What one flush of the bare log is shared by at most, as in the store.
const GROUP_MAX: usize = 256;

fn main() -> anyhow::Result<()> {
    let exchanges = setting("BENCH_EXCHANGES", 20);
    for (what, text, attachment) in [
        ("text of 10 KB", 10_000, 0),
        ("text of 1 KB, attachment of 7 KB (10 KB as base64)", 1_000, 7_000),
        ("text of 1 KB, attachment of 1 MB", 1_000, 1_000_000),
    ] {
        if exchanges > 0 {
            exchange(what, exchanges, text, attachment)?;
        }
    }
    let appends = setting("BENCH_APPENDS", 20_000);
    for writers in WRITERS {
        let folder = tempfile::tempdir()?;
        let bare = bare_log(folder.path(), writers, appends)?;
        say(
            &format!("appends of 20 KB a second, {writers} writers: bare log"),
            format!("{bare:.0}"),
        );
        let archive = Some(folder.path().join("archive"));
        for (what, options) in [
            ("store", Options::default()),
            ("encrypted store", Options { keys: keys(), ..Options::default() }),
            ("archived store", Options { archive, ..Options::default() }),
        ] {
            let store = folder.path().join(what);
            let stored = appended(&store, options, writers, appends)?;
            say(
                &format!("    {what}, as a part of the bare log"),
                format!("{stored:.0}, {:.2}", stored / bare),
            );
        }
        if writers == WRITERS[WRITERS.len() - 1] {
            reopened(&folder.path().join("store"), appends)?;
        }
    }
    searched(setting("BENCH_TEXTS", 20_000))
}

fn keys() -> MasterKeys {
    let key = KnownKey::new(&SecretKey([7; KEY_OCTETS]));
    MasterKeys { current: Some(Arc::new(key)), earlier: Vec::new() }
}

/// Opens a store a few times.
fn reopened(folder: &Path, messages: usize) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        let store = EmbeddedStore::open(folder, Options::default())?;
        times.push(began.elapsed());
        drop(store);
    }
    if let Some((least, median, most)) = spread(times) {
        let [least, median, most] = [least, median, most].map(|time| time.as_secs_f64() * 1000.0);
        say(
            &format!("opening a store of {messages} messages, ms (min median max)"),
            format!("{least:.1} {median:.1} {most:.1}"),
        );
    }
    Ok(())
}

/// Fills an index of texts, and looks for a word that one of them has.
fn searched(texts: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store = EmbeddedStore::open(folder.path(), Options::default())?;
    let inbox = inbox(&store)?;
    let mut chance = Chance(4711);
    for from in (0..texts).step_by(1000) {
        let some = (from..texts.min(from + 1000)).map(|number| new(format!("{number}").into()));
        store.append_all(inbox, some.collect())?;
    }
    let all = store.summaries(inbox, &UidSet::all(), usize::MAX)?;
    let began = Instant::now();
    let mut octets = 0;
    for (batch, some) in all.chunks(200).enumerate() {
        let text = |one: &Summary| {
            let body = format!("parola{:06} {}", one.uid.0, chance.prose(3_000));
            (one.blob, Some(MessageText { header: String::new(), body }))
        };
        let some_texts: Vec<_> = some.iter().map(text).collect();
        octets +=
            some_texts.iter().flat_map(|(_, text)| text).map(|text| text.body.len()).sum::<usize>();
        let last = some.last().with_context(|| format!("batch {batch} is empty"))?;
        store.index_texts(inbox, last.uid, some_texts)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let rate = octets as f64 / 1e6 / began.elapsed().as_secs_f64();
    say("texts indexed, MB a second", format!("{rate:.1}"));
    let mut times = Vec::new();
    for number in (1..=texts).step_by((texts / 500).max(1)) {
        let word = format!("parola{number:06}");
        let began = Instant::now();
        let found =
            store.find_text(inbox, &word, Within::Body)?.context("the index does not tell")?;
        times.push(began.elapsed());
        anyhow::ensure!(!found.sure.is_empty(), "{word} is not found");
    }
    if let Some((least, median, most)) = spread(times) {
        let [least, median, most] = [least, median, most].map(|time| time.as_secs_f64() * 1000.0);
        say(
            &format!("a word of one of {texts} texts of 3 KB, ms (min median max)"),
            format!("{least:.2} {median:.2} {most:.2}"),
        );
    }
    Ok(())
}

/// A reproducible source of chance.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        let mut octets = Vec::with_capacity(count + 8);
        while octets.len() < count {
            octets.extend_from_slice(&self.next().to_le_bytes());
        }
        octets.truncate(count);
        octets
    }

    /// Words of some hundred, as much as prose repeats itself.
    fn prose(&mut self, octets: usize) -> String {
        let mut text = String::with_capacity(octets + 90);
        while text.len() < octets {
            let mut line = String::new();
            while line.len() < 64 {
                let mut word = Chance(self.next() % 700 + 1);
                word.next();
                for _ in 0..2 + word.next() % 8 {
                    let letter = b"aeioaeiontrlscdpmuvgfbz"[(word.next() % 23) as usize];
                    line.push(char::from(letter));
                }
                line.push(' ');
            }
            text += line.trim_end();
            text += "\r\n";
        }
        text
    }
}

fn base64(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(octets.len() * 3 / 2);
    for line in octets.chunks(57) {
        for three in line.chunks(3) {
            let mut bits = [0; 3];
            bits[..three.len()].copy_from_slice(three);
            let bits = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
            for digit in 0..4 {
                let known = digit <= three.len();
                let value = (bits >> (18 - 6 * digit)) & 0x3f;
                text.push(if known { char::from(DIGITS[value as usize]) } else { '=' });
            }
        }
        text += "\r\n";
    }
    text
}

fn message(chance: &mut Chance, number: usize, text: usize, attachment: usize) -> Vec<u8> {
    let mut message = format!(
        "From: {FROM}\r\nTo: {TO}\r\nSubject: Pratica {number}\r\n\
         Date: Mon, 14 Sep 2026 09:30:01 +0200\r\nMessage-ID: <{number}.{}@bench.example>\r\n\
         MIME-Version: 1.0\r\n",
        chance.next()
    );
    let prose = chance.prose(text);
    if attachment == 0 {
        message += "Content-Type: text/plain; charset=utf-8\r\n\r\n";
        message += &prose;
    } else {
        let _ = write!(
            message,
            "Content-Type: multipart/mixed; boundary=\"=_b{number}\"\r\n\r\n--=_b{number}\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\n{prose}\r\n--=_b{number}\r\n\
             Content-Type: application/pdf; name=\"atto.pdf\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--=_b{number}--\r\n",
            base64(&chance.octets(attachment))
        );
    }
    message.into_bytes()
}

/// Sends messages of one kind through a provider of its own, and tells what they take.
fn exchange(what: &str, count: usize, text: usize, attachment: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let demo = Demo::start(&data)?;
    let mut chance = Chance(text as u64 * 7919 + attachment as u64 + 1);
    let mut certify = |demo: &Demo, numbers: std::ops::RangeInclusive<usize>| {
        let mut watch = demo.imap_as("mrossi")?;
        let mut client = demo.submit_as("mrossi")?;
        let mut sent = Vec::new();
        for number in numbers {
            let octets = message(&mut chance, number, text, attachment);
            client.submit(FROM, &[TO], &octets)?;
            sent.push(octets);
            while watch.count("INBOX")? < 2 * number as u64 {
                wire::pause();
            }
        }
        anyhow::Ok(sent)
    };
    // The first brings what is the provider's own: its certificate.
    certify(&demo, 1..=1)?;
    demo.stop()?;
    let before = embedded::stats(&data.join("store"))?;
    let demo = Demo::start(&data)?;
    let sent = certify(&demo, 2..=count + 1)?;
    demo.stop()?;
    let maildir = copy_and_count(&data.join("store"), &sent)?;
    let after = embedded::stats(&data.join("store"))?;
    let stored = after.stored_octets() - before.stored_octets();
    let index = index_octets(&after).saturating_sub(index_octets(&before));
    say(&format!("{what}: Maildir, octets an exchange"), maildir / count as u64);
    say("    stored, octets an exchange", stored / count as u64);
    say("    stored as a part of the Maildir", ratio(stored, maildir));
    say("    with what the index grew by (log, tracker and all)", ratio(stored + index, maildir));
    Ok(())
}

fn index_octets(stats: &Stats) -> u64 {
    stats.index_octets - stats.index_free_octets
}

fn ratio(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let ratio = part as f64 / whole as f64;
    format!("{ratio:.3}")
}

/// Adds the sender's copies, as a client does after sending, and tells what a Maildir would take
/// for all that the exchanges brought to the two.
fn copy_and_count(store: &Path, sent: &[Vec<u8>]) -> anyhow::Result<u64> {
    let store = EmbeddedStore::open(store, Options::default())?;
    let inbox = |address: &str| -> anyhow::Result<(AccountId, MailboxId)> {
        let account = store.account_by_address(&Address::parse(address)?)?.context("no account")?;
        Ok((account.id, store.mailbox(account.id, &MailboxName::inbox())?.id))
    };
    let (account, mailbox) = inbox(FROM)?;
    let mut octets = 0;
    // Each exchange brought two receipts to the one and an envelope to the other; not the first.
    for (mailbox, skip) in [(mailbox, 2), (inbox(TO)?.1, 1)] {
        let all = store.summaries(mailbox, &UidSet::all(), usize::MAX)?;
        octets += all.iter().skip(skip).map(|one| one.octets).sum::<u64>();
    }
    let quota = Quota { octets_max: 1 << 40, messages_max: None, receipt_reserve_octets: 0 };
    store.change_account(account, AccountChange::Quota(quota))?;
    for one in sent {
        octets += one.len() as u64;
        store.append(mailbox, new(one.clone()))?;
    }
    Ok(octets)
}

fn new(octets: Vec<u8>) -> NewMessage {
    let at = Timestamp::now();
    NewMessage { octets: Octets::Inline(octets.into()), flags: Flags::default(), received: at, at }
}

/// The messages of one writer: each different, a third prose and the rest an attachment.
fn messages(writer: usize, count: usize) -> Vec<Vec<u8>> {
    let mut chance = Chance(writer as u64 + 12345);
    let one =
        |number| message(&mut chance, number, MESSAGE_OCTETS / 3, MESSAGE_OCTETS * 2 / 3 * 57 / 80);
    (0..count).map(one).collect()
}

/// Has each writer write its messages one after the other, and tells how many a second they were.
fn race(
    writers: usize,
    appends: usize,
    write: &(dyn Fn(usize, Vec<u8>) -> anyhow::Result<()> + Sync),
) -> anyhow::Result<f64> {
    let each = appends.div_ceil(writers);
    let texts: Vec<_> = (0..writers).map(|writer| messages(writer, each)).collect();
    let done = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = texts
            .into_iter()
            .enumerate()
            .map(|(writer, texts)| {
                let done = &done;
                scope.spawn(move || -> anyhow::Result<()> {
                    for text in texts {
                        write(writer, text)?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok(())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    Ok(done.into_inner() as f64 / began.elapsed().as_secs_f64())
}

fn appended(
    folder: &Path,
    options: Options,
    writers: usize,
    appends: usize,
) -> anyhow::Result<f64> {
    let store = EmbeddedStore::open(folder, options)?;
    let inbox = inbox(&store)?;
    race(writers, appends, &|_, text| Ok(store.append(inbox, new(text)).map(drop)?))
}

/// The INBOX of a new account.
fn inbox(store: &EmbeddedStore) -> anyhow::Result<MailboxId> {
    let account = NewAccount {
        address: Address::parse(FROM)?,
        user_id: None,
        owner: Owner::Holder,
        role: Role::None,
        credentials: None,
        quota: Quota { octets_max: 1 << 50, messages_max: None, receipt_reserve_octets: 0 },
        ordinary_mail: None,
    };
    let account = store.add_account(account, Timestamp::now())?;
    Ok(store.mailbox(account, &MailboxName::inbox())?.id)
}

/// Octets, and who waits for them to be on disk.
type Entry = (Vec<u8>, SyncSender<()>);

fn bare_log(folder: &Path, writers: usize, appends: usize) -> anyhow::Result<f64> {
    let file = Arc::new(std::fs::File::create(folder.join("log"))?);
    rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::empty(),
        0,
        (appends * MESSAGE_OCTETS * 5 / 4) as u64,
    )?;
    file.sync_all()?;
    let (send, taken) = sync_channel::<Entry>(1024);
    let log = std::thread::spawn(move || -> std::io::Result<()> {
        let mut end = 0;
        while let Ok(first) = taken.recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = taken.try_recv()
            {
                group.push(next);
            }
            let octets = group.iter().flat_map(|(octets, _)| octets).copied().collect::<Vec<_>>();
            file.write_all_at(&octets, end)?;
            file.sync_data()?;
            end += octets.len() as u64;
            for (_, answer) in group {
                // Who does not wait any more needs no answer.
                let _ = answer.send(());
            }
        }
        Ok(())
    });
    let rate = race(writers, appends, &|_, text| {
        let (answer, answered) = sync_channel(1);
        send.send((text, answer))?;
        Ok(answered.recv()?)
    })?;
    drop(send);
    log.join().map_err(|_| anyhow::anyhow!("the log panicked"))??;
    Ok(rate)
}
