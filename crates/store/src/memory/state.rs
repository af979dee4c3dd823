//! What the model holds, and what each call does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mail::Address;

use super::log::{Record, Sealed};
use crate::flags::KEYWORDS_MAX;
use crate::mailbox::{MAILBOXES_MAX, SUBSCRIPTIONS_MAX};
use crate::rules::{self, kept, uid};
use crate::{
    Account, AccountChange, AccountId, Annotations, Appended, BlobId, Changes, Charge, Copied,
    Digest, FlagChange, FlagUpdate, Flags, Infected, InfectedId, Job, JobId, Keyword, Mailbox,
    MailboxId, MailboxName, MailboxStatus, ModSeq, NewAccount, NewMessage, Octets, Opened,
    SpecialUse, StoreError, Summary, SystemFlags, Timestamp, Tracked, Uid, UidSet, UidValidity,
    Usage,
};

/// Octets of a message.
pub(super) type Octet = Arc<[u8]>;

#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) accounts: BTreeMap<AccountId, Account>,
    mailboxes: BTreeMap<MailboxId, Arc<Kept>>,
    subscriptions: BTreeSet<(AccountId, MailboxName)>,
    pub(super) annotations: BTreeMap<(AccountId, Option<MailboxId>), Annotations>,
    blobs: BTreeMap<BlobId, Octet>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    /// Where those wait that wait in a lane.
    pub(super) berths: BTreeMap<JobId, super::pipeline::Berth>,
    pub(super) tracker: BTreeMap<String, Arc<Followed>>,
    /// The value of each, and when it was made.
    pub(super) marks: BTreeMap<Digest, (Digest, Timestamp)>,
    pub(super) log: BTreeMap<u64, Arc<Record>>,
    pub(super) seals: Vec<Sealed>,
    pub(super) last_record: u64,
    pub(super) quarantine: BTreeMap<InfectedId, Arc<Infected>>,
    last_account: u64,
    last_mailbox: u64,
    last_blob: u64,
    pub(super) last_job: u64,
    pub(super) last_infected: u64,
    last_uid_validity: u32,
    /// What listeners are to be told, once this state is in place.
    pub(super) changed: BTreeSet<MailboxId>,
}

/// A message that is followed.
#[derive(Clone)]
pub(super) struct Followed {
    pub(super) entries: BTreeMap<Address, Tracked>,
    pub(super) second: Timestamp,
    pub(super) about: Vec<u8>,
}

/// A mailbox and what is in it.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) mailbox: Mailbox,
    messages: BTreeMap<Uid, Arc<Summary>>,
    expunged: BTreeMap<Uid, ModSeq>,
    keywords: Vec<Keyword>,
    uid_next: u32,
    pub(super) mod_seq: u64,
    recent_from: u32,
}

impl Kept {
    /// The messages of a set, by UID.
    pub(super) fn of(&self, uids: &UidSet) -> impl Iterator<Item = &Summary> {
        self.messages.values().map(|message| &**message).filter(|m| uids.contains(m.uid))
    }

    pub(super) fn status(&self) -> MailboxStatus {
        let all = || self.messages.values();
        let deleted = || all().filter(|m| m.flags.system.contains(SystemFlags::DELETED));
        MailboxStatus {
            messages: all().count() as u64,
            unseen: all().filter(|m| !m.flags.system.contains(SystemFlags::SEEN)).count() as u64,
            recent: all().filter(|m| m.uid >= uid(self.recent_from)).count() as u64,
            deleted: deleted().count() as u64,
            octets: all().map(|m| m.octets).sum(),
            deleted_octets: deleted().map(|m| m.octets).sum(),
            uid_next: uid(self.uid_next),
            uid_validity: self.mailbox.uid_validity,
            mod_seq: ModSeq(self.mod_seq),
        }
    }

    pub(super) fn changes(&self, since: ModSeq) -> Changes {
        let changed = self.messages.values().filter(|message| message.mod_seq > since);
        let gone = self.expunged.iter().filter(|(_, mod_seq)| **mod_seq > since);
        Changes {
            mod_seq: ModSeq(self.mod_seq),
            updated: changed.map(|message| update_of(message)).collect(),
            expunged: gone.map(|(uid, _)| *uid).collect(),
        }
    }

    /// The keywords as this mailbox spells them.
    fn learn(&mut self, keywords: &BTreeSet<Keyword>) -> Result<BTreeSet<Keyword>, StoreError> {
        let mut known = BTreeSet::new();
        for keyword in keywords {
            match self.keywords.iter().find(|k| *k == keyword) {
                Some(keyword) => known.insert(keyword.clone()),
                None if self.keywords.len() == KEYWORDS_MAX => {
                    return Err(StoreError::TooManyKeywords);
                }
                None => {
                    self.keywords.push(keyword.clone());
                    known.insert(keyword.clone())
                }
            };
        }
        Ok(known)
    }

    /// Adds a message under the next UID, as part of the change that `mod_seq` counts.
    fn add(&mut self, mut message: Summary) -> Result<Uid, StoreError> {
        if self.uid_next == u32::MAX {
            return Err(StoreError::OutOfUids);
        }
        message.flags.keywords = self.learn(&message.flags.keywords)?;
        message.uid = uid(self.uid_next);
        message.mod_seq = ModSeq(self.mod_seq);
        self.uid_next += 1;
        let uid = message.uid;
        self.messages.insert(uid, Arc::new(message));
        Ok(uid)
    }

    fn remove(&mut self, uids: &[Uid]) {
        for uid in uids {
            self.messages.remove(uid);
            self.expunged.insert(*uid, ModSeq(self.mod_seq));
        }
    }
}

fn update_of(message: &Summary) -> FlagUpdate {
    FlagUpdate { uid: message.uid, flags: message.flags.clone(), mod_seq: message.mod_seq }
}

// --- accounts and mailboxes

impl State {
    pub(super) fn add_account(
        &mut self,
        new: NewAccount,
        at: Timestamp,
    ) -> Result<AccountId, StoreError> {
        let taken = |login: &str| self.account_by_login(login).is_some();
        if taken(&new.address.to_string()) || new.user_id.as_deref().is_some_and(taken) {
            return Err(StoreError::AccountExists);
        }
        self.last_account += 1;
        let id = AccountId(self.last_account);
        let account = Account {
            id,
            address: new.address,
            user_id: new.user_id,
            owner: new.owner,
            role: new.role,
            state: crate::State::Active,
            credentials: new.credentials,
            quota: new.quota,
            ordinary_mail: new.ordinary_mail,
            created: kept(at),
        };
        self.accounts.insert(id, account);
        let inbox = (MailboxName::inbox(), None);
        for (name, special_use) in std::iter::once(inbox).chain(SpecialUse::folders()) {
            self.add_mailbox(id, &name, special_use, true, at)?;
            self.subscriptions.insert((id, name));
        }
        Ok(id)
    }

    pub(super) fn account_by_login(&self, login: &str) -> Option<Account> {
        let login = rules::key(login);
        let is = |account: &&Account| {
            rules::key(&account.address.to_string()) == login
                || account.user_id.as_deref().is_some_and(|user_id| rules::key(user_id) == login)
        };
        self.accounts.values().find(is).cloned()
    }

    pub(super) fn change_account(
        &mut self,
        id: AccountId,
        change: AccountChange,
    ) -> Result<(), StoreError> {
        let account = self.accounts.get_mut(&id).ok_or(StoreError::NoSuchAccount)?;
        match change {
            AccountChange::Credentials(credentials) => account.credentials = credentials,
            AccountChange::Quota(quota) => account.quota = quota,
            AccountChange::State(state) => account.state = state,
            AccountChange::OrdinaryMail(policy) => account.ordinary_mail = policy,
        }
        Ok(())
    }

    pub(super) fn remove_account(&mut self, id: AccountId) -> Result<(), StoreError> {
        self.accounts.remove(&id).ok_or(StoreError::NoSuchAccount)?;
        let its = self.mailboxes.values().filter(|kept| kept.mailbox.account == id);
        self.changed.extend(its.map(|kept| kept.mailbox.id));
        self.mailboxes.retain(|_, kept| kept.mailbox.account != id);
        self.subscriptions.retain(|(account, _)| *account != id);
        self.annotations.retain(|(account, _), _| *account != id);
        Ok(())
    }

    pub(super) fn usage(&self, id: AccountId) -> Result<Usage, StoreError> {
        let quota = self.accounts.get(&id).ok_or(StoreError::NoSuchAccount)?.quota;
        let its = self.mailboxes.values().filter(|kept| kept.mailbox.account == id);
        let status: Vec<MailboxStatus> = its.map(|kept| kept.status()).collect();
        Ok(Usage {
            octets: status.iter().map(|status| status.octets).sum(),
            messages: status.iter().map(|status| status.messages).sum(),
            quota,
        })
    }

    fn charge(
        &self,
        account: AccountId,
        octets: u64,
        messages: u64,
        charge: Charge,
    ) -> Result<(), StoreError> {
        let fits = self.usage(account)?.has_room(octets, messages, charge);
        if fits { Ok(()) } else { Err(StoreError::OverQuota(account)) }
    }

    pub(super) fn kept(&self, id: MailboxId) -> Result<&Kept, StoreError> {
        self.mailboxes.get(&id).map(|kept| &**kept).ok_or(StoreError::NoSuchMailbox)
    }

    /// For a change to the messages in it: listeners hear of it.
    pub(super) fn kept_mut(&mut self, id: MailboxId) -> Result<&mut Kept, StoreError> {
        let kept = self.mailboxes.get_mut(&id).ok_or(StoreError::NoSuchMailbox)?;
        self.changed.insert(id);
        Ok(Arc::make_mut(kept))
    }

    pub(super) fn find(&self, account: AccountId, name: &MailboxName) -> Option<MailboxId> {
        let is = |kept: &&Arc<Kept>| kept.mailbox.account == account && kept.mailbox.name == *name;
        self.mailboxes.values().find(is).map(|kept| kept.mailbox.id)
    }

    pub(super) fn mailboxes(&self, account: AccountId) -> Result<Vec<Mailbox>, StoreError> {
        self.accounts.get(&account).ok_or(StoreError::NoSuchAccount)?;
        let its = self.mailboxes.values().filter(|kept| kept.mailbox.account == account);
        let mut mailboxes: Vec<Mailbox> = its.map(|kept| kept.mailbox.clone()).collect();
        mailboxes.sort_by(|a, b| (!a.name.is_inbox(), &a.name).cmp(&(!b.name.is_inbox(), &b.name)));
        Ok(mailboxes)
    }

    fn add_mailbox(
        &mut self,
        account: AccountId,
        name: &MailboxName,
        special_use: Option<SpecialUse>,
        system: bool,
        at: Timestamp,
    ) -> Result<MailboxId, StoreError> {
        let its = self.mailboxes.values().filter(|kept| kept.mailbox.account == account);
        if its.count() >= MAILBOXES_MAX {
            return Err(StoreError::TooManyMailboxes);
        }
        let uid_validity = rules::next_uid_validity(self.last_uid_validity, at)?;
        self.last_uid_validity = uid_validity.0.get();
        self.last_mailbox += 1;
        let id = MailboxId(self.last_mailbox);
        let mailbox = Mailbox {
            id,
            account,
            name: name.clone(),
            special_use,
            system,
            uid_validity,
            created: kept(at),
        };
        let kept = Kept {
            mailbox,
            messages: BTreeMap::new(),
            expunged: BTreeMap::new(),
            keywords: Vec::new(),
            uid_next: 1,
            mod_seq: 0,
            recent_from: 1,
        };
        self.mailboxes.insert(id, Arc::new(kept));
        Ok(id)
    }

    fn add_parents(
        &mut self,
        account: AccountId,
        name: &MailboxName,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        for parent in name.parents() {
            if self.find(account, &parent).is_none() {
                self.add_mailbox(account, &parent, None, false, at)?;
            }
        }
        Ok(())
    }

    pub(super) fn create_mailbox(
        &mut self,
        account: AccountId,
        name: &MailboxName,
        special_use: Option<SpecialUse>,
        at: Timestamp,
    ) -> Result<MailboxId, StoreError> {
        self.accounts.get(&account).ok_or(StoreError::NoSuchAccount)?;
        if self.find(account, name).is_some() {
            return Err(StoreError::MailboxExists);
        }
        self.add_parents(account, name, at)?;
        self.add_mailbox(account, name, special_use, false, at)
    }

    fn below(&self, mailbox: &Mailbox) -> Vec<MailboxId> {
        let its = self.mailboxes.values().map(|kept| &kept.mailbox);
        its.filter(|m| m.account == mailbox.account && m.name.is_below(&mailbox.name))
            .map(|m| m.id)
            .collect()
    }

    pub(super) fn delete_mailbox(&mut self, id: MailboxId) -> Result<(), StoreError> {
        let mailbox = &self.kept(id)?.mailbox;
        if mailbox.system {
            return Err(StoreError::SystemMailbox);
        }
        if !self.below(mailbox).is_empty() {
            return Err(StoreError::HasChildren);
        }
        self.mailboxes.remove(&id);
        self.annotations.retain(|(_, mailbox), _| *mailbox != Some(id));
        self.changed.insert(id);
        Ok(())
    }

    pub(super) fn rename_mailbox(
        &mut self,
        id: MailboxId,
        to: &MailboxName,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let from = self.kept(id)?.mailbox.clone();
        if from.system && !from.name.is_inbox() {
            return Err(StoreError::SystemMailbox);
        }
        if self.find(from.account, to).is_some() {
            return Err(StoreError::MailboxExists);
        }
        if from.name.is_inbox() {
            let target = self.create_mailbox(from.account, to, None, at)?;
            self.move_messages(id, &UidSet::all(), target, at)?;
            return Ok(());
        }
        for id in self.below(&from).into_iter().chain([id]) {
            let kept = self.mailboxes.get_mut(&id).ok_or(StoreError::NoSuchMailbox)?;
            let name = kept.mailbox.name.moved(&from.name, to);
            if !rules::name_fits(&name) {
                return Err(StoreError::TooManyMailboxes);
            }
            Arc::make_mut(kept).mailbox.name = name;
        }
        self.add_parents(from.account, to, at)
    }

    pub(super) fn subscriptions(&self, id: AccountId) -> Result<Vec<MailboxName>, StoreError> {
        self.accounts.get(&id).ok_or(StoreError::NoSuchAccount)?;
        let its = self.subscriptions.iter().filter(|(account, _)| *account == id);
        Ok(its.map(|(_, name)| name.clone()).collect())
    }

    pub(super) fn subscribe(
        &mut self,
        id: AccountId,
        name: &MailboxName,
        subscribed: bool,
    ) -> Result<(), StoreError> {
        let entry = (id, name.clone());
        let there = self.subscriptions(id)?;
        if !subscribed {
            self.subscriptions.remove(&entry);
        } else if there.len() >= SUBSCRIPTIONS_MAX && !self.subscriptions.contains(&entry) {
            return Err(StoreError::TooManyMailboxes);
        } else {
            self.subscriptions.insert(entry);
        }
        Ok(())
    }
}

// --- messages

impl State {
    pub(super) fn octets(&self, blob: BlobId) -> Result<Octet, StoreError> {
        self.blobs.get(&blob).cloned().ok_or(StoreError::NoSuchMessage)
    }

    pub(super) fn keep(&mut self, octets: Octets) -> Result<BlobId, StoreError> {
        let octets = match octets {
            Octets::Stored(blob) => return self.octets(blob).map(|_| blob),
            Octets::Inline(octets) => octets,
            Octets::Owned(octets) => octets.into(),
            Octets::Spooled(spooled) => spooled.read(0, u64::MAX)?.into(),
        };
        self.last_blob += 1;
        self.blobs.insert(BlobId(self.last_blob), octets);
        Ok(BlobId(self.last_blob))
    }

    /// Lets go of octets that neither a message nor a job refers to.
    pub(super) fn drop_dead_blobs(&mut self) {
        let messages = self.mailboxes.values().flat_map(|kept| kept.messages.values());
        let mut live: BTreeSet<BlobId> = messages.map(|message| message.blob).collect();
        live.extend(self.jobs.values().filter_map(|job| job.blob));
        live.extend(self.quarantine.values().map(|infected| infected.blob));
        self.blobs.retain(|blob, _| live.contains(blob));
    }

    pub(super) fn open(&mut self, id: MailboxId, take_recent: bool) -> Result<Opened, StoreError> {
        let kept = self.kept(id)?;
        let unseen = |m: &&Arc<Summary>| !m.flags.system.contains(SystemFlags::SEEN);
        let opened = Opened {
            status: kept.status(),
            uids: kept.messages.keys().copied().collect(),
            recent_from: uid(kept.recent_from),
            first_unseen: kept.messages.values().find(unseen).map(|message| message.uid),
            keywords: kept.keywords.clone(),
        };
        if take_recent && opened.status.recent > 0 {
            let kept = self.mailboxes.get_mut(&id).ok_or(StoreError::NoSuchMailbox)?;
            Arc::make_mut(kept).recent_from = kept.uid_next;
        }
        Ok(opened)
    }

    pub(super) fn append(
        &mut self,
        id: MailboxId,
        message: NewMessage,
    ) -> Result<Appended, StoreError> {
        self.kept(id)?;
        let blob = self.keep(message.octets)?;
        self.add(id, blob, message.flags, (message.received, message.at), Charge::Quota)
    }

    pub(super) fn append_all(
        &mut self,
        id: MailboxId,
        messages: Vec<NewMessage>,
    ) -> Result<(UidValidity, Vec<Uid>), StoreError> {
        let account = self.kept(id)?.mailbox.account;
        let count = messages.len() as u64;
        let (mut summaries, mut octets) = (Vec::with_capacity(messages.len()), 0);
        for message in messages {
            let blob = self.keep(message.octets)?;
            let size = self.octets(blob)?.len() as u64;
            octets += size;
            summaries.push(Summary {
                uid: uid(1),
                flags: message.flags,
                mod_seq: ModSeq(0),
                octets: size,
                received: kept(message.received),
                saved: kept(message.at),
                blob,
            });
        }
        self.charge(account, octets, count, Charge::Quota)?;
        let mailbox = self.kept_mut(id)?;
        mailbox.mod_seq += 1;
        let uids = summaries.into_iter().map(|message| mailbox.add(message));
        let uids = uids.collect::<Result<Vec<_>, _>>()?;
        Ok((mailbox.mailbox.uid_validity, uids))
    }

    pub(super) fn replace(
        &mut self,
        id: MailboxId,
        message: NewMessage,
        (from, gone): (MailboxId, Uid),
    ) -> Result<Appended, StoreError> {
        if self.kept(from)?.mailbox.account != self.kept(id)?.mailbox.account {
            return Err(StoreError::NoSuchMailbox);
        }
        if !self.kept(from)?.messages.contains_key(&gone) {
            return Err(StoreError::NoSuchMessage);
        }
        let source = self.kept_mut(from)?;
        source.mod_seq += 1;
        source.remove(&[gone]);
        if from == id {
            // One change: adding counts it.
            source.mod_seq -= 1;
        }
        self.append(id, message)
    }

    /// The flags of a message that is delivered, as far as its mailbox has room for their keywords.
    pub(super) fn fitting(&self, id: MailboxId, flags: Flags) -> Result<Flags, StoreError> {
        let keywords = rules::fitting(flags.keywords, &self.kept(id)?.keywords);
        Ok(Flags { system: flags.system, keywords })
    }

    pub(super) fn add(
        &mut self,
        id: MailboxId,
        blob: BlobId,
        flags: Flags,
        (received, saved): (Timestamp, Timestamp),
        charge: Charge,
    ) -> Result<Appended, StoreError> {
        let octets = self.octets(blob)?.len() as u64;
        self.charge(self.kept(id)?.mailbox.account, octets, 1, charge)?;
        let mailbox = self.kept_mut(id)?;
        mailbox.mod_seq += 1;
        let message = Summary {
            uid: uid(1),
            flags,
            mod_seq: ModSeq(0),
            octets,
            received: kept(received),
            saved: kept(saved),
            blob,
        };
        let uid = mailbox.add(message)?;
        Ok(Appended { uid_validity: mailbox.mailbox.uid_validity, uid })
    }

    pub(super) fn copy(
        &mut self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError> {
        let messages: Vec<Summary> = self.kept(from)?.of(uids).cloned().collect();
        let octets = messages.iter().map(|message| message.octets).sum();
        let account = self.kept(to)?.mailbox.account;
        if !messages.is_empty() {
            self.charge(account, octets, messages.len() as u64, Charge::Quota)?;
        }
        self.place(messages, to, at)
    }

    fn place(
        &mut self,
        messages: Vec<Summary>,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError> {
        let uid_validity = self.kept(to)?.mailbox.uid_validity;
        let mut uids = Vec::with_capacity(messages.len());
        if !messages.is_empty() {
            let target = self.kept_mut(to)?;
            target.mod_seq += 1;
            for message in messages {
                let was = message.uid;
                uids.push((was, target.add(Summary { saved: kept(at), ..message })?));
            }
        }
        Ok(Copied { uid_validity, uids })
    }

    pub(super) fn move_messages(
        &mut self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        at: Timestamp,
    ) -> Result<Copied, StoreError> {
        let messages: Vec<Summary> = self.kept(from)?.of(uids).cloned().collect();
        if self.kept(from)?.mailbox.account != self.kept(to)?.mailbox.account {
            return Err(StoreError::NoSuchMailbox);
        }
        let moved = self.place(messages, to, at)?;
        if !moved.uids.is_empty() {
            let source = self.kept_mut(from)?;
            if from != to {
                source.mod_seq += 1;
            }
            let gone: Vec<Uid> = moved.uids.iter().map(|(was, _)| *was).collect();
            source.remove(&gone);
        }
        Ok(moved)
    }

    /// The messages of a set that nothing changed after `since`, and the others.
    pub(super) fn unchanged(
        &self,
        id: MailboxId,
        uids: &UidSet,
        since: ModSeq,
    ) -> Result<(UidSet, Vec<Uid>), StoreError> {
        let (same, changed): (Vec<&Summary>, Vec<&Summary>) =
            self.kept(id)?.of(uids).partition(|message| message.mod_seq <= since);
        let same = same.into_iter().map(|message| message.uid).collect();
        Ok((same, changed.into_iter().map(|message| message.uid).collect()))
    }

    pub(super) fn change_flags(
        &mut self,
        id: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
    ) -> Result<Vec<FlagUpdate>, StoreError> {
        let messages: Vec<Summary> = self.kept(id)?.of(uids).cloned().collect();
        let mut updates = Vec::with_capacity(messages.len());
        let mut mod_seq = None;
        for mut message in messages {
            let flags = rules::changed(&message.flags, change);
            if flags != message.flags {
                let kept = self.kept_mut(id)?;
                let mod_seq = *mod_seq.get_or_insert(kept.mod_seq + 1);
                kept.mod_seq = mod_seq;
                let keywords = kept.learn(&flags.keywords)?;
                message.flags = Flags { system: flags.system, keywords };
                message.mod_seq = ModSeq(mod_seq);
                kept.messages.insert(message.uid, Arc::new(message.clone()));
            }
            updates.push(update_of(&message));
        }
        Ok(updates)
    }

    pub(super) fn expunge(
        &mut self,
        id: MailboxId,
        uids: Option<&UidSet>,
        limit: usize,
    ) -> Result<Vec<Uid>, StoreError> {
        let all = UidSet::all();
        let deleted = |m: &&Summary| m.flags.system.contains(SystemFlags::DELETED);
        let of = self.kept(id)?.of(uids.unwrap_or(&all));
        let gone: Vec<Uid> = of.filter(deleted).take(limit).map(|m| m.uid).collect();
        if !gone.is_empty() {
            let kept = self.kept_mut(id)?;
            kept.mod_seq += 1;
            kept.remove(&gone);
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `u32::MAX` is never given, and a mailbox without UIDs refuses rather than wraps.
    #[test]
    fn a_mailbox_runs_out_of_uids() {
        let mut state = State::default();
        let quota = crate::Quota { octets_max: 9, messages_max: None, receipt_reserve_octets: 0 };
        let account = NewAccount {
            address: Address::parse("anna@pec.example").unwrap(),
            user_id: None,
            owner: crate::Owner::Holder,
            role: crate::Role::None,
            credentials: None,
            quota,
            ordinary_mail: None,
        };
        let at = Timestamp::UNIX_EPOCH;
        let anna = state.add_account(account, at).unwrap();
        let id = state.find(anna, &MailboxName::inbox()).unwrap();
        state.kept_mut(id).unwrap().uid_next = u32::MAX - 1;
        let message = || NewMessage {
            octets: Octets::Inline(Arc::from(&b"m"[..])),
            flags: Flags::default(),
            received: at,
            at,
        };
        assert_eq!(state.append(id, message()).unwrap().uid, uid(u32::MAX - 1));
        assert!(matches!(state.append(id, message()), Err(StoreError::OutOfUids)));
    }
}
