//! The model: every store behaves as this one, which is small enough to be believed.
//!
//! One lock over plain maps. A call works on a copy and puts it in place when it succeeded, so that
//! it happens whole or not at all by construction. Counters are counted and usage is summed when
//! somebody asks. Not here: speed, and durability.

mod annotations;
mod log;
mod pipeline;
mod state;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mail::Address;

use self::state::{Octet, State};
use self::texts::Texts;
use crate::rules::clip;
use crate::tree::Hash;
use crate::{
    Account, AccountChange, AccountId, Annotations, Appended, BlobId, Candidates, Changes,
    Committed, Copied, Digest, Digested, FlagChange, FlagUpdate, Held, Infected, Job, JobId,
    Listener, LogEntry, LogFilter, LogLeaf, LogRecord, Mailbox, MailboxId, MailboxName,
    MailboxStatus, MessageText, ModSeq, NewAccount, NewMailbox, NewMessage, NewSeal, Opened,
    Overdue, Seal, Spool, Spooled, Store, StoreError, Summary, Timestamp, Tracked, Transaction,
    Uid, UidSet, UidValidity, Usage, Within,
};

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    listeners: Mutex<Vec<Listener>>,
    digests: Mutex<BTreeMap<BlobId, Vec<u8>>>,
    texts: Mutex<Texts>,
    damaged: Mutex<BTreeSet<BlobId>>,
    refusals: Mutex<u32>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on these octets cannot be read, as where a disk has lost them.
    pub fn danger_damage(&self, blob: BlobId) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(blob);
    }

    /// So many commits from now on are refused, as where a database cannot be reached; how many were
    /// still to be refused is given back.
    pub fn danger_refuse_commits(&self, count: u32) -> u32 {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *refusals, count)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A state is put in place whole: a panic elsewhere leaves it as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index of texts, for a mailbox that is there.
    fn texts(&self, mailbox: MailboxId) -> Result<MutexGuard<'_, Texts>, StoreError> {
        self.state().kept(mailbox)?;
        Ok(self.texts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does `what` to a copy of the state, puts it in place when it succeeded, and tells listeners.
    fn change<T>(
        &self,
        what: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state();
        let mut next = state.clone();
        let done = what(&mut next)?;
        let changed = std::mem::take(&mut next.changed);
        next.drop_dead_blobs();
        *state = next;
        drop(state);
        for listener in &*self.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
            changed.iter().for_each(|mailbox| listener(*mailbox));
        }
        Ok(done)
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl Store for MemoryStore {
    fn add_account(&self, account: NewAccount, at: Timestamp) -> Result<AccountId, StoreError> {
        self.change(|state| state.add_account(account, at))
    }

    fn account_by_login(&self, login: &str) -> Result<Option<Account>, StoreError> {
        Ok(self.state().account_by_login(login))
    }

    fn account_by_address(&self, address: &Address) -> Result<Option<Account>, StoreError> {
        Ok(self.state().accounts.values().find(|account| account.address == *address).cloned())
    }

    fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self.state().accounts.get(&id).cloned())
    }

    fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        let mut accounts: Vec<Account> = self.state().accounts.values().cloned().collect();
        accounts.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(accounts)
    }

    fn change_account(&self, id: AccountId, change: AccountChange) -> Result<(), StoreError> {
        self.change(|state| state.change_account(id, change))
    }

    fn remove_account(&self, id: AccountId) -> Result<(), StoreError> {
        self.change(|state| state.remove_account(id))
    }

    fn usage(&self, id: AccountId) -> Result<Usage, StoreError> {
        self.state().usage(id)
    }

    fn mailboxes(&self, account: AccountId) -> Result<Vec<Mailbox>, StoreError> {
        self.state().mailboxes(account)
    }

    fn mailbox(&self, account: AccountId, name: &MailboxName) -> Result<Mailbox, StoreError> {
        let state = self.state();
        let id = state.find(account, name).ok_or(StoreError::NoSuchMailbox)?;
        Ok(state.kept(id)?.mailbox.clone())
    }

    fn mailbox_by_id(&self, mailbox: MailboxId) -> Result<Mailbox, StoreError> {
        Ok(self.state().kept(mailbox)?.mailbox.clone())
    }

    fn create_mailbox(
        &self,
        account: AccountId,
        mailbox: NewMailbox,
        at: Timestamp,
    ) -> Result<Mailbox, StoreError> {
        self.change(|state| {
            let id = state.create_mailbox(account, &mailbox.name, mailbox.special_use, at)?;
            Ok(state.kept(id)?.mailbox.clone())
        })
    }

    fn delete_mailbox(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        self.change(|state| state.delete_mailbox(mailbox))
    }

    fn rename_mailbox(
        &self,
        mailbox: MailboxId,
        to: &MailboxName,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.change(|state| state.rename_mailbox(mailbox, to, at))
    }

    fn subscriptions(&self, account: AccountId) -> Result<Vec<MailboxName>, StoreError> {
        self.state().subscriptions(account)
    }

    fn subscribe(
        &self,
        account: AccountId,
        name: &MailboxName,
        subscribed: bool,
    ) -> Result<(), StoreError> {
        // One step, checked before it is done: it needs no copy.
        self.state().subscribe(account, name, subscribed)
    }

    fn annotations(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
    ) -> Result<Annotations, StoreError> {
        self.state().annotations(account, mailbox)
    }

    fn annotate(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        self.change(|state| state.annotate(account, mailbox, changes))
    }

    fn status(&self, mailbox: MailboxId) -> Result<MailboxStatus, StoreError> {
        Ok(self.state().kept(mailbox)?.status())
    }

    fn open(&self, mailbox: MailboxId, take_recent: bool) -> Result<Opened, StoreError> {
        self.change(|state| state.open(mailbox, take_recent))
    }

    fn summaries(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        Ok(self.state().kept(mailbox)?.of(uids).take(limit).cloned().collect())
    }

    fn changes(&self, mailbox: MailboxId, since: ModSeq) -> Result<Changes, StoreError> {
        Ok(self.state().kept(mailbox)?.changes(since))
    }

    fn read(&self, blob: BlobId, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        if self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&blob) {
            return Err(StoreError::Medium("damaged".to_owned()));
        }
        Ok(slice(&self.state().octets(blob)?, start, end))
    }

    fn hold(&self, blob: BlobId, _: u64, _: u64) -> Result<Arc<dyn Held>, StoreError> {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&blob);
        Ok(Arc::new(MemoryHeld { octets: self.state().octets(blob)?, damaged }))
    }

    fn digested(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        limit: usize,
        octets_limit: usize,
    ) -> Result<Vec<Digested>, StoreError> {
        let state = self.state();
        let digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut octets = 0;
        let mut found = Vec::new();
        for summary in state.kept(mailbox)?.of(uids).take(limit) {
            if octets >= octets_limit {
                break;
            }
            let digest = digests.get(&summary.blob).cloned();
            octets += digest.as_ref().map_or(0, Vec::len);
            found.push((summary.clone(), digest));
        }
        Ok(found)
    }

    fn keep_digests(&self, digests: Vec<(BlobId, Vec<u8>)>) {
        let state = self.state();
        let mut kept = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|blob, _| state.octets(*blob).is_ok());
        kept.extend(digests.into_iter().filter(|(blob, _)| state.octets(*blob).is_ok()));
    }

    fn find_text(
        &self,
        mailbox: MailboxId,
        text: &str,
        within: Within,
    ) -> Result<Option<Candidates>, StoreError> {
        Ok(self.texts(mailbox)?.find(mailbox, text, within))
    }

    fn texts_indexed_to(&self, mailbox: MailboxId) -> Result<Option<u32>, StoreError> {
        Ok(Some(self.texts(mailbox)?.indexed_to(mailbox)))
    }

    fn texts_missing(
        &self,
        mailbox: MailboxId,
        blobs: &[BlobId],
    ) -> Result<Vec<BlobId>, StoreError> {
        Ok(self.texts(mailbox)?.missing(blobs))
    }

    fn index_texts(
        &self,
        mailbox: MailboxId,
        up_to: Uid,
        texts: Vec<(BlobId, Option<MessageText>)>,
    ) -> Result<(), StoreError> {
        self.texts(mailbox)?.add(mailbox, up_to, texts);
        Ok(())
    }

    fn octets(&self, blob: BlobId) -> Result<u64, StoreError> {
        Ok(self.state().octets(blob)?.len() as u64)
    }

    fn spool(&self) -> Result<Box<dyn Spool>, StoreError> {
        Ok(Box::new(MemorySpool(Vec::new())))
    }

    fn append(&self, mailbox: MailboxId, message: NewMessage) -> Result<Appended, StoreError> {
        self.change(|state| state.append(mailbox, message))
    }

    fn append_all(
        &self,
        mailbox: MailboxId,
        messages: Vec<NewMessage>,
    ) -> Result<(UidValidity, Vec<Uid>), StoreError> {
        self.change(|state| state.append_all(mailbox, messages))
    }

    fn replace(
        &self,
        mailbox: MailboxId,
        message: NewMessage,
        gone: (MailboxId, Uid),
    ) -> Result<Appended, StoreError> {
        self.change(|state| state.replace(mailbox, message, gone))
    }

    fn copy(
        &self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError> {
        self.change(|state| state.copy(from, uids, to, at))
    }

    fn move_messages(
        &self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError> {
        self.change(|state| state.move_messages(from, uids, to, at))
    }

    fn change_flags(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
    ) -> Result<Vec<FlagUpdate>, StoreError> {
        self.change(|state| state.change_flags(mailbox, uids, change))
    }

    fn change_flags_unchanged(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
        unchanged_since: ModSeq,
    ) -> Result<(Vec<FlagUpdate>, Vec<Uid>), StoreError> {
        self.change(|state| {
            let (same, changed) = state.unchanged(mailbox, uids, unchanged_since)?;
            Ok((state.change_flags(mailbox, &same, change)?, changed))
        })
    }

    fn expunge_some(
        &self,
        mailbox: MailboxId,
        uids: Option<&UidSet>,
        limit: usize,
    ) -> Result<Vec<Uid>, StoreError> {
        self.change(|state| state.expunge(mailbox, uids, limit))
    }

    fn listen(&self, listener: Listener) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = refusals.checked_sub(1) {
            *refusals = rest;
            return Err(StoreError::Unavailable("as a test wants it".to_owned()));
        }
        drop(refusals);
        self.change(|state| state.commit(transaction))
    }

    fn jobs_due(
        &self,
        now: Timestamp,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let now = crate::rules::kept(now);
        let state = self.state();
        let of_pipeline = state.jobs.values().filter(|job| !state.berths.contains_key(&job.id));
        let due = of_pipeline.filter(|job| job.due <= now && Some(job.id) > after);
        Ok(due.take(limit).cloned().collect())
    }

    fn jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<Job>, StoreError> {
        let state = self.state();
        let all = state.jobs.values().filter(|job| Some(job.id) > after);
        Ok(all.take(limit).cloned().collect())
    }

    fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.state().jobs.get(&id).cloned())
    }

    fn lanes(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
        Ok(self.state().lanes(after, limit))
    }

    fn lane_due(
        &self,
        now: Timestamp,
        destination: &str,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        Ok(self.state().lane_due(now, destination, limit))
    }

    fn lane_queued(
        &self,
        until: Timestamp,
        destination: &str,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        Ok(self.state().lane_queued(until, destination, limit))
    }

    fn jobs_waiting(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        let state = self.state();
        let of_pipeline = state.jobs.values().filter(|job| !state.berths.contains_key(&job.id));
        Ok((state.jobs.len() as u64, of_pipeline.map(|job| job.due).min()))
    }

    fn postpone(&self, job: JobId, due: Timestamp, reason: &str) -> Result<(), StoreError> {
        self.change(|state| state.postpone(job, due, reason))
    }

    fn quarantined(&self, after: u64, limit: usize) -> Result<Vec<Infected>, StoreError> {
        let state = self.state();
        let above = state.quarantine.values().filter(|infected| infected.id.0 > after);
        Ok(above.take(limit).map(|infected| Infected::clone(infected)).collect())
    }

    fn quarantine_ended(&self, now: Timestamp, limit: usize) -> Result<Vec<Infected>, StoreError> {
        let now = crate::rules::kept(now);
        let state = self.state();
        let mut ended: Vec<_> =
            state.quarantine.values().filter(|infected| infected.keep_until <= now).collect();
        ended.sort_by_key(|infected| (infected.keep_until, infected.id));
        Ok(ended.into_iter().take(limit).map(|infected| Infected::clone(infected)).collect())
    }

    fn tracked(&self, identificativo: &str) -> Result<Vec<Tracked>, StoreError> {
        Ok(self.state().tracked(identificativo))
    }

    fn overdue(
        &self,
        now: Timestamp,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Result<Vec<Overdue>, StoreError> {
        Ok(self.state().overdue(now, after, limit))
    }

    fn mark(&self, key: &Digest) -> Result<Option<Digest>, StoreError> {
        Ok(self.state().marks.get(key).map(|(value, _)| *value))
    }

    fn forget_marks(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.change(|state| Ok(state.forget_marks(before, limit)))
    }

    fn log(
        &self,
        filter: &LogFilter,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        Ok(self.state().log(filter, after, limit))
    }

    fn log_entries(&self, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        Ok(self.state().log_entries(after, limit))
    }

    fn log_leaves(&self, after: u64, limit: usize) -> Result<Vec<LogLeaf>, StoreError> {
        Ok(self.state().log_leaves(after, limit))
    }

    fn last_record(&self) -> Result<u64, StoreError> {
        Ok(self.state().last_record)
    }

    fn seals(&self, after: u64, limit: usize) -> Result<Vec<Seal>, StoreError> {
        Ok(self.state().seals(after, limit))
    }

    fn last_seal(&self) -> Result<Option<Seal>, StoreError> {
        Ok(self.state().last_seal())
    }

    fn seal_of(&self, record: u64) -> Result<Option<Seal>, StoreError> {
        Ok(self.state().seal_of(record))
    }

    fn unstamped_seals(&self, limit: usize) -> Result<Vec<Seal>, StoreError> {
        Ok(self.state().unstamped_seals(limit))
    }

    fn seal_chunks(&self, number: u64) -> Result<Vec<Hash>, StoreError> {
        Ok(self.state().seal_chunks(number))
    }

    fn add_seal(&self, seal: NewSeal) -> Result<(), StoreError> {
        self.change(|state| state.add_seal(seal))
    }

    fn stamp_seal(&self, number: u64, stamp: &[u8]) -> Result<(), StoreError> {
        self.change(|state| {
            state.stamp_seal(number, stamp);
            Ok(())
        })
    }

    fn expire_seal(&self, number: u64, at: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.change(|state| Ok(state.expire_seal(number, at, limit)))
    }
}

fn slice(octets: &[u8], start: u64, end: u64) -> Vec<u8> {
    let range = clip(start, end, octets.len() as u64);
    octets.get(range.start as usize..range.end as usize).unwrap_or_default().to_vec()
}

struct MemorySpool(Vec<u8>);

impl Spool for MemorySpool {
    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.0.extend_from_slice(octets);
        Ok(())
    }

    /// There is no other place.
    fn keep_nothing(&mut self) {}

    fn finish(self: Box<Self>) -> Result<Box<dyn Spooled>, StoreError> {
        Ok(Box::new(MemorySpooled(self.0.into())))
    }
}

struct MemorySpooled(Octet);

impl Spooled for MemorySpooled {
    fn octets(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        Ok(slice(&self.0, start, end))
    }

    fn into_octets(self: Box<Self>) -> Result<Vec<u8>, StoreError> {
        Ok(self.0.to_vec())
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

/// What is held: never too much memory, for it is the store's own.
struct MemoryHeld {
    octets: Octet,
    damaged: bool,
}

impl Held for MemoryHeld {
    fn read(&self, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        if self.damaged {
            return Err(StoreError::Medium("damaged".to_owned()));
        }
        Ok(slice(&self.octets, start, end))
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Make, as_tests};

    fn run(case: fn(Make<'_>)) {
        case(&|| Box::new(MemoryStore::new()));
    }

    crate::contract_cases!(as_tests!(run));
}
