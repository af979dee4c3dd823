//! Reads what came into mailboxes, after its delivery: its digest and its texts are kept so that listing and
//! searching need not read it, and what receipts say is marked on the sender's own copy.
//!
//! One thread of the lowest priority, which rests as long as it worked: no delivery waits for it. It remembers in the
//! index of texts how far it is in each mailbox, so that after a crash it goes on where it was; what it
//! does it may do twice. What cannot be read, or makes it panic, is told of and left out: it holds up nothing
//! behind it. A mailbox that cannot be read as a whole has its turn again later.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::{
    AccountId, BlobId, FlagChange, LogFilter, MailboxId, Share, SpecialUse, Store, StoreError,
    Summary, TrackState, Uid, UidSet,
};

use crate::keywords;
use crate::site::Site;
use crate::threads::Threads;

/// Messages that are read before what was read is kept.
const BATCH_MESSAGES: usize = 64;
/// Octets of them that are read before that.
const BATCH_OCTETS: u64 = 8 * 1024 * 1024;
/// The latest messages of *Posta inviata* among which a copy is looked for: a receipt comes within a day or
/// two of its message.
const SENT_MESSAGES: u32 = 500;
/// How long it rests after something failed.
const AFTER_FAULT: Duration = Duration::from_secs(5);
/// When mailboxes that failed have their turn again.
const FAILED_AGAIN: Duration = Duration::from_secs(600);
/// How often it is looked whether its part is another, when nothing comes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How nice its thread is to all others.
const NICE: i32 = 19;

/// The thread's work, and how it is told of it.
#[derive(Default)]
pub(crate) struct Librarian {
    desk: Mutex<Desk>,
    woken: Condvar,
}

#[derive(Default)]
struct Desk {
    changed: Queue,
    /// Those that could not be read, and when they have their turn again.
    failed: BTreeSet<MailboxId>,
    failed_until: Option<Instant>,
    stopping: bool,
}

/// Mailboxes in turn, each once: what is still to be read of one goes behind all others, so that nobody waits for
/// another's import.
#[derive(Default)]
struct Queue {
    turns: VecDeque<MailboxId>,
    there: BTreeSet<MailboxId>,
}

impl Queue {
    fn push(&mut self, mailbox: MailboxId) {
        if self.there.insert(mailbox) {
            self.turns.push_back(mailbox);
        }
    }

    fn pop(&mut self) -> Option<MailboxId> {
        let mailbox = self.turns.pop_front()?;
        self.there.remove(&mailbox);
        Some(mailbox)
    }
}

impl Librarian {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something in this mailbox changed. Called by the store's writer: returns at once.
    pub(crate) fn mailbox_changed(&self, mailbox: MailboxId) {
        self.desk().changed.push(mailbox);
        self.woken.notify_one();
    }

    /// Has [`run`](Self::run) return soon.
    pub(crate) fn stop(&self) {
        self.desk().stopping = true;
        self.woken.notify_one();
    }

    /// Works until told to stop.
    pub(crate) fn run(&self, site: &Site) {
        let mut reach = Reach::default();
        if let Err(error) = be_nice() {
            tracing::debug!(target: "librarian", %error, "the priority cannot be lowered");
        }
        let mut known = Share::NONE;
        loop {
            let share = site.store.share();
            if share != known {
                // What was another's until now may have been left where it was.
                known = share;
                match self.look_at_all(&*site.store, share) {
                    Ok(()) => reach.works(),
                    Err(error) => {
                        if !reach.is_cut(&error) {
                            tracing::warn!(target: "librarian", %error, "the mailboxes cannot be listed");
                        }
                        known = Share::NONE;
                    }
                }
            }
            let Some(turn) = self.next() else { return };
            let Some(mailbox) = turn.filter(|mailbox| share.has(*mailbox)) else { continue };
            let rest = self.take_turn(site, mailbox, &mut reach);
            if self.rest(rest) {
                return;
            }
        }
    }

    /// Reads some of a mailbox, and has it in its turn again when there is more; how long to rest.
    pub(crate) fn take_turn(&self, site: &Site, mailbox: MailboxId, reach: &mut Reach) -> Duration {
        let begun = Instant::now();
        match guarded(|| read_some(site, mailbox)) {
            Ok(true) => {
                reach.works();
                self.desk().changed.push(mailbox);
            }
            Ok(false) | Err(StoreError::NoSuchMailbox) => {
                reach.works();
                return Duration::ZERO;
            }
            // Nothing is wrong with the mailbox: it comes again as soon as anything can be read.
            Err(error) if reach.is_cut(&error) => {
                self.desk().changed.push(mailbox);
                return AFTER_FAULT;
            }
            Err(error) => {
                tracing::warn!(target: "librarian", mailbox = mailbox.0, %error, "a mailbox cannot be read");
                self.failed(mailbox);
                return AFTER_FAULT;
            }
        }
        // Half of the time is others'.
        begun.elapsed()
    }

    /// What came while nobody listened.
    fn look_at_all(&self, store: &dyn Store, share: Share) -> Result<(), StoreError> {
        if let Some(behind) = store.texts_behind()? {
            let mut desk = self.desk();
            behind
                .into_iter()
                .filter(|mailbox| share.has(*mailbox))
                .for_each(|mailbox| desk.changed.push(mailbox));
            return Ok(());
        }
        for account in store.accounts()? {
            let mailboxes = store.mailboxes(account.id)?;
            let mut desk = self.desk();
            mailboxes.iter().for_each(|mailbox| desk.changed.push(mailbox.id));
        }
        Ok(())
    }

    /// The next mailbox, or none for a while; nothing when it is told to stop.
    pub(crate) fn next(&self) -> Option<Option<MailboxId>> {
        let mut desk = self.desk();
        let mut looked = false;
        loop {
            if desk.stopping {
                return None;
            }
            let now = Instant::now();
            if desk.failed_until.is_some_and(|until| until <= now) {
                desk.failed_until = None;
                let failed = std::mem::take(&mut desk.failed);
                failed.into_iter().for_each(|mailbox| desk.changed.push(mailbox));
            }
            if let Some(mailbox) = desk.changed.pop() {
                return Some(Some(mailbox));
            }
            if looked {
                return Some(None);
            }
            looked = true;
            let wait = desk.failed_until.map_or(LOOK_EVERY, |until| LOOK_EVERY.min(until - now));
            let waited = self.woken.wait_timeout(desk, wait);
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn failed(&self, mailbox: MailboxId) {
        let mut desk = self.desk();
        desk.failed.insert(mailbox);
        desk.failed_until.get_or_insert(Instant::now() + FAILED_AGAIN);
    }

    /// Whether it is told to stop meanwhile.
    fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut desk = self.desk();
        while !desk.stopping {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            if left.is_zero() {
                break;
            }
            let waited = self.woken.wait_timeout(desk, left);
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        desk.stopping
    }
}

/// Whether the store can be reached: that it cannot is told once, and that it can again.
#[derive(Default)]
pub(crate) struct Reach {
    cut: bool,
}

impl Reach {
    /// Something was read.
    fn works(&mut self) {
        if std::mem::take(&mut self.cut) {
            tracing::info!(target: "librarian", "the mail can be reached again");
        }
    }

    /// Whether it failed because the store cannot be reached.
    fn is_cut(&mut self, error: &StoreError) -> bool {
        let cut = matches!(error, StoreError::Unavailable(_));
        if cut && !std::mem::replace(&mut self.cut, true) {
            tracing::warn!(target: "librarian", %error, "the mail cannot be reached: new mail is indexed later");
        }
        cut
    }
}

/// What panics has failed, and the thread goes on.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(StoreError::Medium("reading it panicked".to_owned())))
}

/// A message that cannot be read is told of, and left out.
fn leave_out(blob: BlobId, error: &StoreError) {
    metrics::counter!("ceralacca_librarian_left_out_total").increment(1);
    tracing::error!(target: "librarian", blob = blob.0, %error, "a message cannot be read");
}

/// On Linux this is about the thread that calls, and no other.
fn be_nice() -> rustix::io::Result<i32> {
    rustix::process::nice(NICE)
}

/// Reads the next messages of a mailbox; whether there may be more.
pub(crate) fn read_some(site: &Site, mailbox: MailboxId) -> Result<bool, StoreError> {
    let store = &*site.store;
    let Some(indexed_to) = store.texts_indexed_to(mailbox)? else { return Ok(false) };
    let (Some(from), Some(end)) = (uid(indexed_to.saturating_add(1)), uid(u32::MAX)) else {
        return Ok(false);
    };
    let new = UidSet::from_ranges([(from, end)]);
    let mut messages = store.summaries(mailbox, &new, BATCH_MESSAGES)?;
    let mut octets = 0;
    let fit = messages.iter().take_while(|message| {
        let fits = octets < BATCH_OCTETS;
        octets += message.octets;
        fits
    });
    let fit = fit.count();
    messages.truncate(fit);
    let Some(last) = messages.last().map(|message| message.uid) else { return Ok(false) };
    let blobs: Vec<BlobId> = messages.iter().map(|message| message.blob).collect();
    let mut missing = store.texts_missing(mailbox, &blobs)?;
    missing.sort_unstable();
    missing.dedup();
    let (mut digests, mut texts) = (Vec::new(), Vec::new());
    for blob in missing {
        match guarded(|| imap::read(store, blob)) {
            Ok(reading) => {
                digests.push((blob, reading.digest));
                texts.push((blob, reading.text));
            }
            // It went before it was read.
            Err(StoreError::NoSuchMessage) => {}
            // What cannot be read now is looked into when somebody searches.
            Err(error) => {
                leave_out(blob, &error);
                texts.push((blob, None));
            }
        }
    }
    if !digests.is_empty() {
        store.keep_digests(digests);
    }
    mark_copies(site, mailbox, &messages)?;
    store.index_texts(mailbox, last, texts)?;
    Ok(true)
}

fn uid(number: u32) -> Option<Uid> {
    NonZeroU32::new(number).map(Uid)
}

/// What the log and the tracker know of a message by now.
#[derive(Default)]
struct Known {
    words: BTreeSet<&'static str>,
    /// Its Message-ID, and those under which it was certified.
    identifiers: BTreeSet<String>,
}

/// Marks the sender's copies that new messages are about: receipts, and copies themselves.
fn mark_copies(site: &Site, mailbox: MailboxId, new: &[Summary]) -> Result<(), StoreError> {
    let store = &*site.store;
    let here = store.mailbox_by_id(mailbox)?;
    let is_sent = here.special_use == Some(SpecialUse::Sent);
    let mut about = BTreeSet::new();
    for message in new {
        if !is_sent && !keywords::is_receipt(&message.flags) {
            continue;
        }
        let references = match guarded(|| imap::references(store, message.blob)) {
            Ok(references) => references,
            Err(StoreError::NoSuchMessage) => continue,
            // What it says is marked by nobody, and the receipts behind it are.
            Err(error) => {
                leave_out(message.blob, &error);
                continue;
            }
        };
        if !is_sent {
            about.extend(references.about);
        } else if let Some(message_id) = references.message_id {
            let known = Known::of(store, here.account, &message_id)?;
            let copy = std::iter::once(message.uid).collect();
            known.mark(store, mailbox, &copy)?;
        }
    }
    for message_id in about {
        let known = Known::of(store, here.account, &message_id)?;
        if known.words.is_empty() {
            continue;
        }
        for sent in store.mailboxes(here.account)? {
            if sent.special_use == Some(SpecialUse::Sent) {
                let copies = copies(store, sent.id, &known.identifiers, SENT_MESSAGES)?;
                known.mark(store, sent.id, &copies)?;
            }
        }
    }
    Ok(())
}

impl Known {
    /// The log says whether it was accepted, the tracker what became of it.
    fn of(store: &dyn Store, account: AccountId, message_id: &str) -> Result<Self, StoreError> {
        let mut known = Self::default();
        let Some(sender) = store.account(account)? else { return Ok(known) };
        let sender = sender.address;
        let filter = LogFilter {
            message_id: Some(message_id.to_owned()),
            account: Some(sender.clone()),
            ..LogFilter::default()
        };
        let mut states = Vec::new();
        for (_, record) in store.log(&filter, 0, LOG_RECORDS)? {
            // Anybody can write a message of any identifier: only the sender's own count.
            let identifiers = [record.msgid, record.identificativo];
            let about = identifiers.iter().flatten().any(|identifier| identifier == message_id);
            if record.mittente != Some(sender.to_string()) || !about {
                continue;
            }
            match record.event.as_str() {
                "accettazione" => {
                    known.words.insert(keywords::ACCEPTED);
                    if let [_, Some(identifier)] = &identifiers {
                        states.extend(store.tracked(identifier)?.iter().map(|one| one.state));
                    }
                    known.identifiers.extend(identifiers.into_iter().flatten());
                }
                "non-accettazione" => {
                    known.words.insert(keywords::PROBLEM);
                    known.identifiers.extend(identifiers.into_iter().flatten());
                }
                _ => {}
            }
        }
        if states.contains(&TrackState::Failed) {
            known.words.insert(keywords::PROBLEM);
        }
        if !states.is_empty() && states.iter().all(|state| *state == TrackState::Delivered) {
            known.words.insert(keywords::DELIVERED);
        }
        Ok(known)
    }

    fn mark(
        &self,
        store: &dyn Store,
        mailbox: MailboxId,
        copies: &UidSet,
    ) -> Result<(), StoreError> {
        if self.words.is_empty() || copies.is_empty() {
            return Ok(());
        }
        let words: Vec<&str> = self.words.iter().copied().collect();
        let change = FlagChange::Add(keywords::flags(&words));
        match store.change_flags(mailbox, copies, &change) {
            // The user has given too many of their own.
            Err(StoreError::TooManyKeywords) => Ok(()),
            done => done.map(|_| ()),
        }
    }
}

/// Records of one message that are looked at: two for each of the recipients that a message can have.
const LOG_RECORDS: usize = 2_000;

/// Those of the latest messages, so many, that have one of these identifiers.
pub(crate) fn copies(
    store: &dyn Store,
    mailbox: MailboxId,
    identifiers: &BTreeSet<String>,
    latest: u32,
) -> Result<UidSet, StoreError> {
    let status = store.status(mailbox)?;
    if status.messages == 0 {
        return Ok(UidSet::default());
    }
    let latest = imap::latest(status.uid_next, latest);
    let mut damaged = |blob, error| leave_out(blob, &error);
    imap::with_message_id(store, mailbox, &latest, identifiers, &mut damaged)
}

/// Begins to work, and listens to the store.
pub(crate) fn begin(
    site: &Arc<Site>,
    threads: &Threads,
) -> std::io::Result<(Arc<Librarian>, std::thread::JoinHandle<()>)> {
    let librarian = Arc::new(Librarian::default());
    let told = Arc::downgrade(&librarian);
    site.store.listen(Box::new(move |mailbox| {
        if let Some(librarian) = told.upgrade() {
            librarian.mailbox_changed(mailbox);
        }
    }));
    let (at_work, site) = (librarian.clone(), site.clone());
    let thread = threads.start("librarian", move || at_work.run(&site))?;
    Ok((librarian, thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_has_failed_and_nothing_more() {
        let done: Result<(), StoreError> = guarded(|| panic!("it is broken"));
        assert_eq!(
            done.unwrap_err().to_string(),
            StoreError::Medium("reading it panicked".to_owned()).to_string()
        );
        assert!(guarded(|| Ok(1)).is_ok());
    }

    #[test]
    fn a_store_that_cannot_be_reached_is_told_of_once_and_so_is_its_return() {
        #[derive(Clone, Default)]
        struct Said(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Said {
            fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(octets)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let said = Said::default();
        let to = said.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut reach = Reach::default();
            reach.works();
            for _ in 0..2 {
                for _ in 0..3 {
                    assert!(reach.is_cut(&StoreError::Unavailable("gone".to_owned())));
                    assert!(!reach.is_cut(&StoreError::Medium("broken".to_owned())));
                }
                reach.works();
                reach.works();
            }
        });
        let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> =
            said.lines().map(|line| line.split("librarian: ").nth(1).unwrap()).collect();
        let (gone, back) = (
            "the mail cannot be reached: new mail is indexed later error=the store cannot be reached: gone",
            "the mail can be reached again",
        );
        assert_eq!(lines, [gone, back, gone, back]);
    }

    #[test]
    fn a_mailbox_that_failed_has_its_turn_again_behind_the_others() {
        let librarian = Librarian::default();
        let [first, second] = [MailboxId(1), MailboxId(2)];
        librarian.mailbox_changed(first);
        librarian.mailbox_changed(second);
        assert_eq!(librarian.next(), Some(Some(first)));
        librarian.failed(first);
        assert_eq!(librarian.next(), Some(Some(second)));
        librarian.desk().failed_until = Some(Instant::now());
        assert_eq!(librarian.next(), Some(Some(first)));
        assert!(librarian.desk().failed.is_empty());
    }
}
