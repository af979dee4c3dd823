//! The pipeline's steps, each one transaction.

use std::collections::{BTreeSet, HashMap};

use super::messages::{self, Incoming};
use super::txn::Txn;
use super::{accounts, jobs, mailboxes, quarantine, tracker};
use crate::{
    AccountId, Amended, BlobId, Committed, Delivery, Follow, InfectedId, JobId, LogRecord,
    MailboxName, Mark, NewInfected, NewJob, Source, StoreError, Timestamp, Track,
};

/// All of a transaction but its octets, which are there already.
pub(super) struct Step {
    pub(super) at: Timestamp,
    pub(super) consume: Vec<JobId>,
    pub(super) amend: Vec<Amended>,
    pub(super) deliver: Vec<Delivery>,
    pub(super) enqueue: Vec<NewJob>,
    pub(super) follow: Vec<Follow>,
    pub(super) track: Vec<Track>,
    pub(super) once: Vec<Mark>,
    pub(super) log: Vec<LogRecord>,
    pub(super) quarantine: Vec<NewInfected>,
    pub(super) discard: Vec<InfectedId>,
}

pub(super) fn commit(
    txn: &mut Txn<'_>,
    step: &Step,
    new: &[BlobId],
) -> Result<Committed, StoreError> {
    let at = step.at;
    let mut done = Committed::default();
    let accounts = lock_accounts(txn, &step.deliver)?;
    for job in &step.consume {
        jobs::consume(txn, *job)?;
    }
    for amended in &step.amend {
        jobs::amend(txn, amended)?;
    }
    for delivery in &step.deliver {
        let account = accounts.get(&delivery.to.to_string()).copied();
        let account = account.ok_or(StoreError::NoSuchAccount)?;
        let mailbox = match mailboxes::find(txn.db, account, &delivery.mailbox)? {
            Some(mailbox) => mailbox,
            None => mailboxes::find(txn.db, account, &MailboxName::inbox())?
                .ok_or(StoreError::NoSuchMailbox)?,
        };
        let blob = blob(txn, delivery.octets, new)?;
        let flags = messages::fitting(txn.db, mailbox, &delivery.flags)?;
        let message = Incoming { blob, flags: &flags, received: at, saved: at };
        done.delivered.push(messages::add(txn, mailbox, &message, delivery.charge)?);
    }
    for job in &step.enqueue {
        let blob = job.octets.map(|source| blob(txn, source, new)).transpose()?;
        done.enqueued.push(jobs::enqueue(txn, job, blob, at)?);
    }
    for infected in &step.quarantine {
        let blob = blob(txn, infected.octets, new)?;
        done.quarantined.push(quarantine::add(txn, infected, blob, at)?);
    }
    for id in &step.discard {
        quarantine::discard(txn, *id, at)?;
    }
    for message in &step.follow {
        tracker::follow(txn, message)?;
    }
    for entry in &step.track {
        tracker::track(txn, entry)?;
    }
    for mark in &step.once {
        tracker::make(txn, mark, at)?;
    }
    for record in &step.log {
        txn.write_log(record.clone());
    }
    Ok(done)
}

/// The accounts that are delivered to, locked, by address.
fn lock_accounts(
    txn: &Txn<'_>,
    deliveries: &[Delivery],
) -> Result<HashMap<String, AccountId>, StoreError> {
    let mut found = HashMap::new();
    for delivery in deliveries {
        let address = delivery.to.to_string();
        if !found.contains_key(&address)
            && let Some(account) = accounts::by_address(txn.db, &delivery.to)?
        {
            found.insert(address, account.id);
        }
    }
    let ids: BTreeSet<AccountId> = found.values().copied().collect();
    if !ids.is_empty() {
        let there = txn.lock(&ids)?;
        found.retain(|_, id| there.contains(id));
    }
    Ok(found)
}

fn blob(txn: &Txn<'_>, source: Source, new: &[BlobId]) -> Result<BlobId, StoreError> {
    let blob = match source {
        Source::New(at) => new.get(at).copied().ok_or(StoreError::NoSuchMessage)?,
        Source::Stored(blob) => blob,
    };
    txn.octets(blob).map(|_| blob)
}
