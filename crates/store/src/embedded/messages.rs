//! Messages in the index: adding, copying, moving, flags, expunging, and what is known of them.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::accounts;
use super::keys::Keys;
use super::txn::Txn;
use crate::numbers::{Numbers, Span};
use crate::rules::{self, micros, time, uid};
use crate::{
    Appended, BlobId, Changes, Charge, Copied, Digested, FlagChange, FlagUpdate, Flags,
    KEYWORDS_MAX, Keyword, MailboxId, ModSeq, Opened, StoreError, Summary, SystemFlags, Timestamp,
    Uid, UidSet, UidValidity,
};

const COLUMNS: &str = "uid, flags, keywords, mod_seq, octets, received, saved, blob";

/// The keywords of a mailbox; in its messages they are numbers, two octets each. Read when first
/// needed: most mailboxes have none.
struct Keywords<'a> {
    db: &'a Connection,
    mailbox: MailboxId,
    known: Option<Vec<Keyword>>,
}

impl<'a> Keywords<'a> {
    fn of(db: &'a Connection, mailbox: MailboxId) -> Self {
        Self { db, mailbox, known: None }
    }

    fn known(&mut self) -> Result<&mut Vec<Keyword>, StoreError> {
        if self.known.is_none() {
            let get = "SELECT keyword FROM keywords WHERE mailbox = ? ORDER BY number";
            let mut get = self.db.prepare_cached(get)?;
            let mut rows = get.query([self.mailbox.0.cast_signed()])?;
            let mut known = Vec::new();
            while let Some(row) = rows.next()? {
                let damaged = || StoreError::Medium("a keyword cannot be read".into());
                known.push(Keyword::parse(&row.get::<_, String>(0)?).ok_or_else(damaged)?);
            }
            self.known = Some(known);
        }
        Ok(self.known.get_or_insert_default())
    }

    fn read(&mut self, numbers: &[u8]) -> Result<BTreeSet<Keyword>, StoreError> {
        let mut keywords = BTreeSet::new();
        for number in numbers.as_chunks::<2>().0 {
            let known = self.known()?;
            let keyword = known.get(usize::from(u16::from_le_bytes(*number)));
            let damaged = || StoreError::Medium("a message has a keyword without a name".into());
            keywords.insert(keyword.ok_or_else(damaged)?.clone());
        }
        Ok(keywords)
    }

    /// The numbers of keywords, those that are new added to the mailbox's.
    fn write(&mut self, keywords: &BTreeSet<Keyword>) -> Result<Option<Vec<u8>>, StoreError> {
        if keywords.is_empty() {
            return Ok(None);
        }
        let (db, mailbox) = (self.db, self.mailbox.0.cast_signed());
        let known = self.known()?;
        let mut numbers = Vec::with_capacity(keywords.len() * 2);
        for keyword in keywords {
            let at = match known.iter().position(|one| one == keyword) {
                Some(at) => at,
                None if known.len() >= KEYWORDS_MAX => return Err(StoreError::TooManyKeywords),
                None => {
                    let at = known.len();
                    db.prepare_cached("INSERT INTO keywords VALUES (?, ?, ?)")?
                        .execute(params![mailbox, at as i64, keyword.as_str()])?;
                    known.push(keyword.clone());
                    at
                }
            };
            let at = u16::try_from(at).map_err(|_| StoreError::TooManyKeywords)?;
            numbers.extend_from_slice(&at.to_le_bytes());
        }
        Ok(Some(numbers))
    }
}

/// The flags of a message that is delivered, as far as its mailbox has room for their keywords.
pub(super) fn fitting(
    db: &Connection,
    mailbox: MailboxId,
    flags: &Flags,
) -> Result<Flags, StoreError> {
    if flags.keywords.is_empty() {
        return Ok(flags.clone());
    }
    let mut keywords = Keywords::of(db, mailbox);
    let fitting = rules::fitting(flags.keywords.clone(), keywords.known()?);
    Ok(Flags { system: flags.system, keywords: fitting })
}

fn summary(row: &Row<'_>, keywords: &mut Keywords<'_>) -> Result<Summary, StoreError> {
    let numbers = row.get_ref(2)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    let keywords = match numbers {
        Some(numbers) => keywords.read(numbers)?,
        None => BTreeSet::new(),
    };
    Ok(Summary {
        uid: uid(row.get(0)?),
        flags: Flags { system: SystemFlags(row.get(1)?), keywords },
        mod_seq: ModSeq(row.get::<_, i64>(3)?.cast_unsigned()),
        octets: row.get::<_, i64>(4)?.cast_unsigned(),
        received: time(row.get(5)?),
        saved: time(row.get(6)?),
        blob: BlobId(row.get::<_, i64>(7)?.cast_unsigned()),
    })
}

/// The messages of a set, by UID, at most `limit`.
pub(super) fn summaries(
    db: &Connection,
    mailbox: MailboxId,
    uids: &UidSet,
    limit: usize,
) -> Result<Vec<Summary>, StoreError> {
    let get = format!(
        "SELECT {COLUMNS} FROM messages WHERE mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid"
    );
    select(db, &get, mailbox, uids, limit)
}

fn select(
    db: &Connection,
    get: &str,
    mailbox: MailboxId,
    uids: &UidSet,
    limit: usize,
) -> Result<Vec<Summary>, StoreError> {
    let mut get = db.prepare_cached(get)?;
    let mut keywords = Keywords::of(db, mailbox);
    let mut messages = Vec::new();
    for (first, last) in uids.ranges() {
        let mut rows = get.query((mailbox.0.cast_signed(), first, last))?;
        while messages.len() < limit
            && let Some(row) = rows.next()?
        {
            messages.push(summary(row, &mut keywords)?);
        }
        if messages.len() >= limit {
            break;
        }
    }
    Ok(messages)
}

/// The same, each with the digest of its octets, until those have so many octets.
pub(super) fn digested(
    db: &Connection,
    mailbox: MailboxId,
    uids: &UidSet,
    limit: usize,
    octets_limit: usize,
    keys: &Keys,
) -> Result<Vec<Digested>, StoreError> {
    let mut get = db.prepare_cached(
        "SELECT m.uid, m.flags, m.keywords, m.mod_seq, m.octets, m.received, m.saved, m.blob, d.digest
         FROM messages m LEFT JOIN digests d ON d.blob = m.blob
         WHERE m.mailbox = ? AND m.uid BETWEEN ? AND ? ORDER BY m.uid",
    )?;
    let mut keywords = Keywords::of(db, mailbox);
    let mut messages = Vec::new();
    let mut octets = 0;
    for (first, last) in uids.ranges() {
        let mut rows = get.query((mailbox.0.cast_signed(), first, last))?;
        while messages.len() < limit && octets < octets_limit {
            let Some(row) = rows.next()? else { break };
            let digest = row.get::<_, Option<Vec<u8>>>(8)?.and_then(|kept| keys.open_digest(kept));
            octets += digest.as_ref().map_or(0, Vec::len);
            messages.push((summary(row, &mut keywords)?, digest));
        }
        if messages.len() >= limit || octets >= octets_limit {
            break;
        }
    }
    Ok(messages)
}

/// Keeps digests of octets that are still there.
pub(super) fn keep_digests(txn: &Txn<'_>, digests: &[(BlobId, Vec<u8>)]) -> Result<(), StoreError> {
    let mut keep = txn
        .db
        .prepare_cached("INSERT OR REPLACE INTO digests SELECT id, ?2 FROM blobs WHERE id = ?1")?;
    for (blob, digest) in digests {
        keep.execute(params![blob.0.cast_signed(), digest])?;
    }
    Ok(())
}

/// A message on its way into a mailbox.
pub(super) struct Incoming<'a> {
    pub(super) blob: BlobId,
    pub(super) flags: &'a Flags,
    pub(super) received: Timestamp,
    pub(super) saved: Timestamp,
}

/// Adds one message and charges it.
pub(super) fn add(
    txn: &mut Txn<'_>,
    mailbox: MailboxId,
    message: &Incoming<'_>,
    charge: Charge,
) -> Result<Appended, StoreError> {
    let mut numbers = Numbers::load(txn.db, mailbox)?;
    let octets = txn.octets(message.blob)?;
    accounts::charge(txn, numbers.account, octets, 1, charge)?;
    numbers.mod_seq += 1;
    let mut keywords = Keywords::of(txn.db, mailbox);
    let uid = insert(txn, &mut numbers, &mut keywords, message, octets)?;
    numbers.save(txn)?;
    Ok(Appended { uid_validity: numbers.uid_validity, uid })
}

/// Adds messages as one change and charges them together.
pub(super) fn add_all(
    txn: &mut Txn<'_>,
    mailbox: MailboxId,
    messages: &[Incoming<'_>],
) -> Result<(UidValidity, Vec<Uid>), StoreError> {
    let mut numbers = Numbers::load(txn.db, mailbox)?;
    let sizes = messages.iter().map(|message| txn.octets(message.blob));
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let count = messages.len() as u64;
    accounts::charge(txn, numbers.account, sizes.iter().sum(), count, Charge::Quota)?;
    numbers.mod_seq += 1;
    let mut keywords = Keywords::of(txn.db, mailbox);
    let mut uids = Vec::with_capacity(messages.len());
    for (message, octets) in messages.iter().zip(sizes) {
        uids.push(insert(txn, &mut numbers, &mut keywords, message, octets)?);
    }
    numbers.save(txn)?;
    Ok((numbers.uid_validity, uids))
}

/// Adds a message and removes another of the same account, whose room it may take.
pub(super) fn replace(
    txn: &mut Txn<'_>,
    mailbox: MailboxId,
    message: &Incoming<'_>,
    (from, gone): (MailboxId, Uid),
) -> Result<Appended, StoreError> {
    let account = Numbers::load(txn.db, from)?.account;
    if account != Numbers::load(txn.db, mailbox)?.account {
        return Err(StoreError::NoSuchMailbox);
    }
    let gone = summaries(txn.db, from, &std::iter::once(gone).collect(), 1)?;
    let Some(octets) = gone.first().map(|message| message.octets) else {
        return Err(StoreError::NoSuchMessage);
    };
    accounts::give_back(txn, account, octets, 1)?;
    let added = add(txn, mailbox, message, Charge::Quota)?;
    let mut source = Numbers::load(txn.db, from)?;
    if from != mailbox {
        source.mod_seq += 1;
    }
    remove(txn, &mut source, &gone)?;
    Ok(added)
}

fn insert(
    txn: &mut Txn<'_>,
    numbers: &mut Numbers,
    keywords: &mut Keywords<'_>,
    message: &Incoming<'_>,
    octets: u64,
) -> Result<Uid, StoreError> {
    let uid = numbers.take_uid()?;
    let keywords = keywords.write(&message.flags.keywords)?;
    let insert =
        format!("INSERT INTO messages (mailbox, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    txn.db.prepare_cached(&insert)?.execute(params![
        numbers.id.0.cast_signed(),
        uid.0.get(),
        message.flags.system.0,
        keywords,
        numbers.mod_seq.cast_signed(),
        octets.cast_signed(),
        micros(message.received),
        micros(message.saved),
        message.blob.0.cast_signed(),
    ])?;
    txn.refer(message.blob, 1);
    numbers.count(Span { uid: uid.0.get(), flags: message.flags.system, octets });
    Ok(uid)
}

/// Adds messages that are elsewhere already, as one change.
fn place(
    txn: &mut Txn<'_>,
    messages: &[Summary],
    to: MailboxId,
    at: Timestamp,
) -> Result<Copied, StoreError> {
    let mut target = Numbers::load(txn.db, to)?;
    let mut uids = Vec::with_capacity(messages.len());
    if !messages.is_empty() {
        target.mod_seq += 1;
        let mut keywords = Keywords::of(txn.db, to);
        for message in messages {
            let incoming = Incoming {
                blob: message.blob,
                flags: &message.flags,
                received: message.received,
                saved: at,
            };
            let new = insert(txn, &mut target, &mut keywords, &incoming, message.octets)?;
            uids.push((message.uid, new));
        }
        target.save(txn)?;
    }
    Ok(Copied { uid_validity: target.uid_validity, uids })
}

pub(super) fn copy(
    txn: &mut Txn<'_>,
    from: MailboxId,
    uids: &UidSet,
    to: MailboxId,
    at: Timestamp,
) -> Result<Copied, StoreError> {
    Numbers::load(txn.db, from)?;
    let account = Numbers::load(txn.db, to)?.account;
    let messages = summaries(txn.db, from, uids, usize::MAX)?;
    if !messages.is_empty() {
        let octets = messages.iter().map(|message| message.octets).sum();
        accounts::charge(txn, account, octets, messages.len() as u64, Charge::Quota)?;
    }
    place(txn, &messages, to, at)
}

/// Moves messages between mailboxes of one account.
pub(super) fn transfer(
    txn: &mut Txn<'_>,
    from: MailboxId,
    uids: &UidSet,
    to: MailboxId,
    at: Timestamp,
) -> Result<Copied, StoreError> {
    if Numbers::load(txn.db, from)?.account != Numbers::load(txn.db, to)?.account {
        return Err(StoreError::NoSuchMailbox);
    }
    let messages = summaries(txn.db, from, uids, usize::MAX)?;
    let moved = place(txn, &messages, to, at)?;
    if !messages.is_empty() {
        let mut source = Numbers::load(txn.db, from)?;
        if from != to {
            source.mod_seq += 1;
        }
        remove(txn, &mut source, &messages)?;
    }
    Ok(moved)
}

/// Takes messages out of a mailbox, as part of the change that its `mod_seq` counts.
fn remove(
    txn: &mut Txn<'_>,
    numbers: &mut Numbers,
    messages: &[Summary],
) -> Result<(), StoreError> {
    let mailbox = numbers.id.0.cast_signed();
    let delete = "DELETE FROM messages WHERE mailbox = ? AND uid = ?";
    let mut delete = txn.db.prepare_cached(delete)?;
    for message in messages {
        delete.execute((mailbox, message.uid.0.get()))?;
        txn.refer(message.blob, -1);
        numbers.discount(Span::of(message));
    }
    let gone: UidSet = messages.iter().map(|message| message.uid).collect();
    let mut bury = txn.db.prepare_cached("INSERT INTO expunged VALUES (?, ?, ?, ?)")?;
    for (first, last) in gone.ranges() {
        bury.execute((mailbox, numbers.mod_seq.cast_signed(), first, last))?;
    }
    numbers.save(txn)
}

/// Lets go of the octets of every message of a mailbox.
pub(super) fn release_all(txn: &mut Txn<'_>, mailbox: MailboxId) -> Result<(), StoreError> {
    let mut get = txn.db.prepare_cached("SELECT blob FROM messages WHERE mailbox = ?")?;
    let mut rows = get.query([mailbox.0.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let blob: i64 = row.get(0)?;
        txn.refer(BlobId(blob.cast_unsigned()), -1);
    }
    Ok(())
}

/// The messages of a set that nothing changed after `since`, and the others.
pub(super) fn unchanged(
    db: &Connection,
    mailbox: MailboxId,
    uids: &UidSet,
    since: ModSeq,
) -> Result<(UidSet, Vec<Uid>), StoreError> {
    let get =
        "SELECT uid, mod_seq FROM messages WHERE mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid";
    let mut get = db.prepare_cached(get)?;
    let (mut same, mut changed) = (Vec::new(), Vec::new());
    for (first, last) in uids.ranges() {
        let mut rows = get.query((mailbox.0.cast_signed(), first, last))?;
        while let Some(row) = rows.next()? {
            let mod_seq = ModSeq(row.get::<_, i64>(1)?.cast_unsigned());
            let target = if mod_seq <= since { &mut same } else { &mut changed };
            target.push(uid(row.get(0)?));
        }
    }
    Ok((same.into_iter().collect(), changed))
}

pub(super) fn change_flags(
    txn: &mut Txn<'_>,
    mailbox: MailboxId,
    uids: &UidSet,
    change: &FlagChange,
) -> Result<Vec<FlagUpdate>, StoreError> {
    let mut numbers = Numbers::load(txn.db, mailbox)?;
    let mod_seq = numbers.mod_seq + 1;
    let mut keywords = Keywords::of(txn.db, mailbox);
    let mut updates = Vec::new();
    for mut message in summaries(txn.db, mailbox, uids, usize::MAX)? {
        let flags = rules::changed(&message.flags, change);
        if flags != message.flags {
            numbers.mod_seq = mod_seq;
            numbers.discount_flags(Span::of(&message));
            let written = keywords.write(&flags.keywords)?;
            txn.db
                .prepare_cached(
                    "UPDATE messages SET flags = ?, keywords = ?, mod_seq = ?
                     WHERE mailbox = ? AND uid = ?",
                )?
                .execute(params![
                    flags.system.0,
                    written,
                    mod_seq.cast_signed(),
                    mailbox.0.cast_signed(),
                    message.uid.0.get(),
                ])?;
            let known = keywords.read(written.as_deref().unwrap_or_default())?;
            message.flags = Flags { system: flags.system, keywords: known };
            message.mod_seq = ModSeq(mod_seq);
            numbers.count_flags(Span::of(&message));
        }
        updates.push(update_of(message));
    }
    if numbers.mod_seq == mod_seq {
        numbers.save(txn)?;
    }
    Ok(updates)
}

fn update_of(message: Summary) -> FlagUpdate {
    FlagUpdate { uid: message.uid, flags: message.flags, mod_seq: message.mod_seq }
}

pub(super) fn expunge(
    txn: &mut Txn<'_>,
    mailbox: MailboxId,
    uids: &UidSet,
    limit: usize,
) -> Result<Vec<Uid>, StoreError> {
    let mut numbers = Numbers::load(txn.db, mailbox)?;
    if numbers.deleted == 0 {
        return Ok(Vec::new());
    }
    let get = format!(
        "SELECT {COLUMNS} FROM messages INDEXED BY messages_deleted
         WHERE mailbox = ? AND uid BETWEEN ? AND ? AND flags & 8 ORDER BY uid"
    );
    let gone = select(txn.db, &get, mailbox, uids, limit)?;
    if !gone.is_empty() {
        numbers.mod_seq += 1;
        let octets = gone.iter().map(|message| message.octets).sum();
        accounts::give_back(txn, numbers.account, octets, gone.len() as u64)?;
        remove(txn, &mut numbers, &gone)?;
    }
    Ok(gone.into_iter().map(|message| message.uid).collect())
}

pub(super) fn changes(
    db: &Connection,
    mailbox: MailboxId,
    since: ModSeq,
) -> Result<Changes, StoreError> {
    let numbers = Numbers::load(db, mailbox)?;
    let key = (mailbox.0.cast_signed(), since.0.min(i64::MAX as u64).cast_signed());
    let mut keywords = Keywords::of(db, mailbox);
    let get = format!(
        "SELECT {COLUMNS} FROM messages INDEXED BY messages_mod_seq
         WHERE mailbox = ? AND mod_seq > ? ORDER BY uid"
    );
    let mut get = db.prepare_cached(&get)?;
    let mut rows = get.query(key)?;
    let mut updated = Vec::new();
    while let Some(row) = rows.next()? {
        updated.push(update_of(summary(row, &mut keywords)?));
    }
    let mut get =
        db.prepare_cached("SELECT first, last FROM expunged WHERE mailbox = ? AND mod_seq > ?")?;
    let gone = get.query_map(key, |row| Ok((uid(row.get(0)?), uid(row.get(1)?))))?;
    let expunged = UidSet::from_ranges(gone.collect::<Result<Vec<_>, _>>()?);
    Ok(Changes { mod_seq: ModSeq(numbers.mod_seq), updated, expunged })
}

/// The UIDs in a mailbox: all that were given but those that went, which costs what went and not what is
/// there.
fn present(db: &Connection, numbers: &Numbers) -> Result<UidSet, StoreError> {
    let mailbox = numbers.id.0.cast_signed();
    let mut get = db.prepare_cached("SELECT first, last FROM expunged WHERE mailbox = ?")?;
    let gone = get.query_map([mailbox], |row| Ok((uid(row.get(0)?), uid(row.get(1)?))))?;
    let gone = UidSet::from_ranges(gone.collect::<Result<Vec<_>, _>>()?);
    let present = gone.gaps_below(uid(numbers.uid_next));
    if present.count() == numbers.messages {
        return Ok(present);
    }
    // UIDs were left out: then each is looked at.
    let get = "SELECT uid FROM messages WHERE mailbox = ? ORDER BY uid";
    let mut get = db.prepare_cached(get)?;
    let uids = get.query_map([mailbox], |row| Ok(uid(row.get(0)?)))?;
    Ok(uids.collect::<Result<_, _>>()?)
}

pub(super) fn open(db: &Connection, mailbox: MailboxId) -> Result<Opened, StoreError> {
    let numbers = Numbers::load(db, mailbox)?;
    let first_unseen = match numbers.unseen {
        0 => None,
        _ => db
            .prepare_cached(
                "SELECT uid FROM messages INDEXED BY messages_unseen
                 WHERE mailbox = ? AND flags & 1 = 0 ORDER BY uid LIMIT 1",
            )?
            .query_row([mailbox.0.cast_signed()], |row| Ok(uid(row.get(0)?)))
            .optional()?,
    };
    let uids = present(db, &numbers)?;
    let keywords = std::mem::take(Keywords::of(db, mailbox).known()?);
    Ok(Opened {
        status: numbers.status(),
        uids,
        recent_from: uid(numbers.recent_from),
        first_unseen,
        keywords,
    })
}

/// Makes what is `\Recent` no longer so for the next session; tells from which UID on it was.
pub(super) fn take_recent(txn: &Txn<'_>, mailbox: MailboxId) -> Result<Uid, StoreError> {
    let mut numbers = Numbers::load(txn.db, mailbox)?;
    let from = uid(numbers.recent_from);
    if numbers.recent > 0 {
        numbers.recent_from = numbers.uid_next;
        numbers.recent = 0;
        numbers.save_quietly(txn)?;
    }
    Ok(from)
}
