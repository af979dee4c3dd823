//! Messages: adding, copying, moving, flags, expunging, and what is known of them.
//!
//! What is written to many messages at once is one statement with arrays: a statement costs a journey
//! to the database and back, whatever it carries.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use super::connection::{Db, Value, get, number, short};
use super::numbers::{self, Keywords};
use super::txn::Txn;
use super::{accounts, clamp};
use crate::numbers::{Numbers, Span};
use crate::rules::{self, micros, time, uid};
use crate::{
    Appended, BlobId, Changes, Charge, Copied, Digested, FlagChange, FlagUpdate, Flags, Keyword,
    MailboxId, ModSeq, Opened, StoreError, Summary, SystemFlags, Timestamp, Uid, UidSet,
    UidValidity,
};

const COLUMNS: &str = "uid, flags, keywords, mod_seq, octets, received, saved, blob";

fn summary(row: &Row) -> Result<Summary, StoreError> {
    let keywords = match get::<Option<Vec<String>>>(row, 2)? {
        Some(texts) => numbers::keywords(texts).collect::<Result<_, _>>()?,
        None => BTreeSet::new(),
    };
    let system = u8::try_from(number(row, 1)?)
        .map_err(|_| StoreError::Medium("a message has flags that are none".into()))?;
    Ok(Summary {
        uid: uid(short(row, 0)?),
        flags: Flags { system: SystemFlags(system), keywords },
        mod_seq: ModSeq(number(row, 3)?),
        octets: number(row, 4)?,
        received: time(get(row, 5)?),
        saved: time(get(row, 6)?),
        blob: BlobId(number(row, 7)?),
    })
}

/// Keywords as a row has them: most have none.
fn texts(keywords: &BTreeSet<Keyword>) -> Option<Vec<&str>> {
    (!keywords.is_empty()).then(|| keywords.iter().map(Keyword::as_str).collect())
}

/// The rows of a set of UIDs, each range asked for by itself, so that the index of UIDs is walked and
/// nothing else; `which` narrows them down.
fn select(
    db: &Db,
    columns: &str,
    (mailbox, uids): (MailboxId, &UidSet),
    which: &str,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let select = format!(
        "SELECT m.* FROM unnest($2::bigint[], $3::bigint[]) AS asked (first, last)
         CROSS JOIN LATERAL (
             SELECT {columns} FROM messages AS m
             WHERE m.mailbox = $1 AND m.uid BETWEEN asked.first AND asked.last {which}
             ORDER BY m.uid LIMIT $4) AS m
         ORDER BY m.uid LIMIT $4"
    );
    let (first, last): (Vec<i64>, Vec<i64>) =
        uids.ranges().iter().map(|&(first, last)| (i64::from(first), i64::from(last))).unzip();
    db.query(&select, &[&mailbox.0.cast_signed(), &first, &last, &clamp(limit)])
}

/// The messages of a set, by UID, at most `limit`.
pub(super) fn summaries(
    db: &Db,
    mailbox: MailboxId,
    uids: &UidSet,
    limit: usize,
) -> Result<Vec<Summary>, StoreError> {
    select(db, COLUMNS, (mailbox, uids), "", limit)?.iter().map(summary).collect()
}

/// The same, each with the digest of its octets, until those have so many octets.
pub(super) fn digested(
    db: &Db,
    mailbox: MailboxId,
    uids: &UidSet,
    limit: usize,
    octets_limit: usize,
) -> Result<Vec<Digested>, StoreError> {
    let columns = format!(
        "{COLUMNS}, (SELECT octet_length(digest) FROM digests WHERE blob = m.blob)::bigint"
    );
    let (mut octets, mut messages) = (0, Vec::new());
    for row in select(db, &columns, (mailbox, uids), "", limit)? {
        if octets >= octets_limit {
            break;
        }
        let length = get::<Option<i64>>(&row, 8)?;
        octets += usize::try_from(length.unwrap_or_default()).unwrap_or(usize::MAX);
        messages.push((summary(&row)?, None));
    }
    let blobs: Vec<i64> =
        messages.iter().map(|(message, _)| message.blob.0.cast_signed()).collect();
    let digests = "SELECT blob, digest FROM digests WHERE blob = ANY($1)";
    let mut known = std::collections::HashMap::new();
    for row in db.query(digests, &[&blobs])? {
        known.insert(BlobId(number(&row, 0)?), get::<Vec<u8>>(&row, 1)?);
    }
    for (message, digest) in &mut messages {
        *digest = known.get(&message.blob).cloned();
    }
    Ok(messages)
}

/// Keeps digests of octets that are still there.
pub(super) fn keep_digests(db: &Db, digests: &[(BlobId, Vec<u8>)]) -> Result<(), StoreError> {
    let blobs: Vec<i64> = digests.iter().map(|(blob, _)| blob.0.cast_signed()).collect();
    let digests: Vec<&[u8]> = digests.iter().map(|(_, digest)| &digest[..]).collect();
    // The lock keeps them from going meanwhile.
    let keep = "INSERT INTO digests
                SELECT there.id, new.digest FROM unnest($1::bigint[], $2::bytea[]) AS new (id, digest)
                JOIN (SELECT id FROM blobs WHERE id = ANY($1) ORDER BY id FOR SHARE) AS there
                    ON there.id = new.id
                ON CONFLICT (blob) DO UPDATE SET digest = excluded.digest";
    db.execute(keep, &[&blobs, &digests]).map(drop)
}

/// A message on its way into a mailbox.
pub(super) struct Incoming<'a> {
    pub(super) blob: BlobId,
    pub(super) flags: &'a Flags,
    pub(super) received: Timestamp,
    pub(super) saved: Timestamp,
}

/// Adds one message and charges it; the account is locked.
pub(super) fn add(
    txn: &mut Txn<'_>,
    mailbox: MailboxId,
    message: &Incoming<'_>,
    charge: Charge,
) -> Result<Appended, StoreError> {
    let mut numbers = numbers::load(txn.db, mailbox)?;
    let octets = txn.octets(message.blob)?;
    accounts::charge(txn, numbers.account, octets, 1, charge)?;
    numbers.mod_seq += 1;
    let uids = insert(txn, &mut numbers, std::slice::from_ref(message), &[octets])?;
    numbers::save(txn, &numbers)?;
    let uid = uids.first().copied().ok_or(StoreError::OutOfUids)?;
    Ok(Appended { uid_validity: numbers.uid_validity, uid })
}

/// Adds messages as one change and charges them together.
pub(super) fn add_all(
    txn: &mut Txn<'_>,
    mailbox: MailboxId,
    messages: &[Incoming<'_>],
) -> Result<(UidValidity, Vec<Uid>), StoreError> {
    txn.lock_mailboxes(&[mailbox])?;
    let mut numbers = numbers::load(txn.db, mailbox)?;
    let sizes = messages.iter().map(|message| txn.octets(message.blob));
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let count = messages.len() as u64;
    accounts::charge(txn, numbers.account, sizes.iter().sum(), count, Charge::Quota)?;
    numbers.mod_seq += 1;
    let uids = insert(txn, &mut numbers, messages, &sizes)?;
    numbers::save(txn, &numbers)?;
    Ok((numbers.uid_validity, uids))
}

/// Adds a message and removes another of the same account, whose room it may take.
pub(super) fn replace(
    txn: &mut Txn<'_>,
    mailbox: MailboxId,
    message: &Incoming<'_>,
    (from, gone): (MailboxId, Uid),
) -> Result<Appended, StoreError> {
    txn.lock_mailboxes(&[from, mailbox])?;
    let account = numbers::load(txn.db, from)?.account;
    if account != numbers::load(txn.db, mailbox)?.account {
        return Err(StoreError::NoSuchMailbox);
    }
    let gone = summaries(txn.db, from, &std::iter::once(gone).collect(), 1)?;
    let Some(octets) = gone.first().map(|message| message.octets) else {
        return Err(StoreError::NoSuchMessage);
    };
    accounts::give_back(txn, account, octets, 1)?;
    let added = add(txn, mailbox, message, Charge::Quota)?;
    let mut source = numbers::load(txn.db, from)?;
    if from != mailbox {
        source.mod_seq += 1;
    }
    remove(txn, &mut source, &gone)?;
    Ok(added)
}

/// Gives messages the next UIDs of a mailbox.
fn insert(
    txn: &mut Txn<'_>,
    numbers: &mut Numbers,
    messages: &[Incoming<'_>],
    sizes: &[u64],
) -> Result<Vec<Uid>, StoreError> {
    let mut learned = Keywords::of(txn.db, numbers.id);
    let mut uids = Vec::with_capacity(messages.len());
    let (mut plain, mut with_keywords) = (Rows::default(), Vec::new());
    for (message, octets) in messages.iter().zip(sizes) {
        let uid = numbers.take_uid()?;
        let keywords = learned.learn(&message.flags.keywords)?;
        if !keywords.is_empty() {
            with_keywords.push((i64::from(uid.0.get()), keywords));
        }
        plain.uid.push(i64::from(uid.0.get()));
        plain.flags.push(i64::from(message.flags.system.0));
        plain.octets.push(octets.cast_signed());
        plain.received.push(micros(message.received));
        plain.saved.push(micros(message.saved));
        plain.blob.push(message.blob.0.cast_signed());
        txn.refer(message.blob, 1);
        let (uid_number, flags) = (uid.0.get(), message.flags.system);
        numbers.count(Span { uid: uid_number, flags, octets: *octets });
        uids.push(uid);
    }
    let (mailbox, mod_seq) = (numbers.id.0.cast_signed(), numbers.mod_seq.cast_signed());
    let insert = "INSERT INTO messages
                      (mailbox, mod_seq, uid, flags, octets, received, saved, blob)
                  SELECT $1, $2, * FROM unnest($3::bigint[], $4::bigint[], $5::bigint[],
                      $6::bigint[], $7::bigint[], $8::bigint[])";
    let Rows { uid, flags, octets, received, saved, blob } = &plain;
    let values: [Value<'_>; 8] = [&mailbox, &mod_seq, uid, flags, octets, received, saved, blob];
    txn.db.execute(insert, &values)?;
    for (uid, keywords) in with_keywords {
        let set = "UPDATE messages SET keywords = $1 WHERE mailbox = $2 AND uid = $3";
        txn.db.execute(set, &[&texts(&keywords), &mailbox, &uid])?;
    }
    Ok(uids)
}

/// Rows as columns.
#[derive(Default)]
struct Rows {
    uid: Vec<i64>,
    flags: Vec<i64>,
    octets: Vec<i64>,
    received: Vec<i64>,
    saved: Vec<i64>,
    blob: Vec<i64>,
}

/// Adds messages that are elsewhere already, as one change.
fn place(
    txn: &mut Txn<'_>,
    messages: &[Summary],
    to: MailboxId,
    at: Timestamp,
) -> Result<Copied, StoreError> {
    let mut target = numbers::load(txn.db, to)?;
    let mut uids = Vec::new();
    if !messages.is_empty() {
        target.mod_seq += 1;
        let incoming = messages.iter().map(|message| Incoming {
            blob: message.blob,
            flags: &message.flags,
            received: message.received,
            saved: at,
        });
        let sizes: Vec<u64> = messages.iter().map(|message| message.octets).collect();
        let new = insert(txn, &mut target, &incoming.collect::<Vec<_>>(), &sizes)?;
        uids = messages.iter().map(|message| message.uid).zip(new).collect();
        numbers::save(txn, &target)?;
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
    txn.lock_mailboxes(&[from, to])?;
    numbers::load(txn.db, from)?;
    let account = numbers::load(txn.db, to)?.account;
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
    txn.lock_mailboxes(&[from, to])?;
    if numbers::load(txn.db, from)?.account != numbers::load(txn.db, to)?.account {
        return Err(StoreError::NoSuchMailbox);
    }
    let messages = summaries(txn.db, from, uids, usize::MAX)?;
    let moved = place(txn, &messages, to, at)?;
    if !messages.is_empty() {
        let mut source = numbers::load(txn.db, from)?;
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
    for message in messages {
        txn.refer(message.blob, -1);
        numbers.discount(Span::of(message));
    }
    let gone: UidSet = messages.iter().map(|message| message.uid).collect();
    let (first, last): (Vec<i64>, Vec<i64>) =
        gone.ranges().iter().map(|&(first, last)| (i64::from(first), i64::from(last))).unzip();
    // Every message of a run of UIDs that went is among them, or was gone before.
    let uids: Vec<i64> = messages.iter().map(|message| i64::from(message.uid.0.get())).collect();
    let delete = "DELETE FROM messages WHERE mailbox = $1 AND uid = ANY($2)";
    txn.db.execute(delete, &[&mailbox, &uids])?;
    let bury = "INSERT INTO expunged
                SELECT $1, $2, * FROM unnest($3::bigint[], $4::bigint[])";
    txn.db.execute(bury, &[&mailbox, &numbers.mod_seq.cast_signed(), &first, &last])?;
    numbers::save(txn, numbers)
}

/// Lets go of the octets of every message of a mailbox.
pub(super) fn release_all(txn: &mut Txn<'_>, mailbox: MailboxId) -> Result<(), StoreError> {
    let all = "SELECT blob, count(*) FROM messages WHERE mailbox = $1 GROUP BY blob";
    for row in txn.db.query(all, &[&mailbox.0.cast_signed()])? {
        txn.refer(BlobId(number(&row, 0)?), -get::<i64>(&row, 1)?);
    }
    Ok(())
}

/// The flags of a message that is delivered, as far as its mailbox has room for their keywords.
pub(super) fn fitting(db: &Db, mailbox: MailboxId, flags: &Flags) -> Result<Flags, StoreError> {
    if flags.keywords.is_empty() {
        return Ok(flags.clone());
    }
    let mut keywords = Keywords::of(db, mailbox);
    let fitting = rules::fitting(flags.keywords.clone(), keywords.known()?);
    Ok(Flags { system: flags.system, keywords: fitting })
}

/// Changes flags, only of messages that nothing changed after `unchanged_since`; tells the new flags
/// of those, and which the others are.
pub(super) fn change_flags(
    txn: &mut Txn<'_>,
    mailbox: MailboxId,
    uids: &UidSet,
    change: &FlagChange,
    unchanged_since: Option<ModSeq>,
) -> Result<(Vec<FlagUpdate>, Vec<Uid>), StoreError> {
    txn.lock_mailboxes(&[mailbox])?;
    let mut numbers = numbers::load(txn.db, mailbox)?;
    let mod_seq = numbers.mod_seq + 1;
    let mut learned = Keywords::of(txn.db, mailbox);
    let (mut updates, mut changed) = (Vec::new(), Vec::new());
    let (mut uids_set, mut flags_set, mut with_keywords) = (Vec::new(), Vec::new(), Vec::new());
    for mut message in summaries(txn.db, mailbox, uids, usize::MAX)? {
        if unchanged_since.is_some_and(|since| message.mod_seq > since) {
            changed.push(message.uid);
            continue;
        }
        let flags = rules::changed(&message.flags, change);
        if flags != message.flags {
            numbers.mod_seq = mod_seq;
            numbers.discount_flags(Span::of(&message));
            let keywords = learned.learn(&flags.keywords)?;
            let uid = i64::from(message.uid.0.get());
            uids_set.push(uid);
            flags_set.push(i64::from(flags.system.0));
            if keywords != message.flags.keywords {
                with_keywords.push((uid, keywords.clone()));
            }
            message.flags = Flags { system: flags.system, keywords };
            message.mod_seq = ModSeq(mod_seq);
            numbers.count_flags(Span::of(&message));
        }
        updates.push(update_of(message));
    }
    if numbers.mod_seq == mod_seq {
        let mailbox = mailbox.0.cast_signed();
        let set = "UPDATE messages SET flags = new.flags, mod_seq = $2
                   FROM unnest($3::bigint[], $4::bigint[]) AS new (uid, flags)
                   WHERE messages.mailbox = $1 AND messages.uid = new.uid";
        txn.db.execute(set, &[&mailbox, &mod_seq.cast_signed(), &uids_set, &flags_set])?;
        for (uid, keywords) in with_keywords {
            let set = "UPDATE messages SET keywords = $1 WHERE mailbox = $2 AND uid = $3";
            txn.db.execute(set, &[&texts(&keywords), &mailbox, &uid])?;
        }
        numbers::save(txn, &numbers)?;
    }
    Ok((updates, changed))
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
    txn.lock_mailboxes(&[mailbox])?;
    let mut numbers = numbers::load(txn.db, mailbox)?;
    if numbers.deleted == 0 {
        return Ok(Vec::new());
    }
    let rows = select(txn.db, COLUMNS, (mailbox, uids), "AND m.flags & 8 <> 0", limit)?;
    let gone = rows.iter().map(summary).collect::<Result<Vec<_>, _>>()?;
    if !gone.is_empty() {
        numbers.mod_seq += 1;
        let octets = gone.iter().map(|message| message.octets).sum();
        accounts::give_back(txn, numbers.account, octets, gone.len() as u64)?;
        remove(txn, &mut numbers, &gone)?;
    }
    Ok(gone.into_iter().map(|message| message.uid).collect())
}

/// UIDs as a query of ranges has them.
fn ranges(rows: &[Row]) -> Result<UidSet, StoreError> {
    let ranges = rows.iter().map(|row| Ok((uid(short(row, 0)?), uid(short(row, 1)?))));
    Ok(UidSet::from_ranges(ranges.collect::<Result<Vec<_>, StoreError>>()?))
}

pub(super) fn changes(db: &Db, mailbox: MailboxId, since: ModSeq) -> Result<Changes, StoreError> {
    let numbers = numbers::load(db, mailbox)?;
    let (mailbox, since) = (mailbox.0.cast_signed(), since.0.min(i64::MAX as u64).cast_signed());
    let updated =
        format!("SELECT {COLUMNS} FROM messages WHERE mailbox = $1 AND mod_seq > $2 ORDER BY uid");
    let rows = db.query(&updated, &[&mailbox, &since])?;
    let updated = rows.iter().map(|row| summary(row).map(update_of));
    let updated = updated.collect::<Result<_, _>>()?;
    let gone = "SELECT first, last FROM expunged WHERE mailbox = $1 AND mod_seq > $2";
    let expunged = ranges(&db.query(gone, &[&mailbox, &since])?)?;
    Ok(Changes { mod_seq: ModSeq(numbers.mod_seq), updated, expunged })
}

/// The UIDs in a mailbox: all that were given but those that went, which costs what went and not what
/// is there.
fn present(db: &Db, numbers: &Numbers) -> Result<UidSet, StoreError> {
    let mailbox = numbers.id.0.cast_signed();
    let gone = "SELECT first, last FROM expunged WHERE mailbox = $1";
    let gone = ranges(&db.query(gone, &[&mailbox])?)?;
    let present = gone.gaps_below(uid(numbers.uid_next));
    if present.count() == numbers.messages {
        return Ok(present);
    }
    Err(StoreError::Medium(format!("mailbox {mailbox} does not have the messages it counts")))
}

pub(super) fn open(db: &Db, mailbox: MailboxId) -> Result<Opened, StoreError> {
    let numbers = numbers::load(db, mailbox)?;
    let first_unseen = match numbers.unseen {
        0 => None,
        _ => {
            let first = "SELECT uid FROM messages WHERE mailbox = $1 AND flags & 1 = 0
                         ORDER BY uid LIMIT 1";
            let first = db.first(first, &[&mailbox.0.cast_signed()])?;
            first.map(|row| Ok::<_, StoreError>(uid(short(&row, 0)?))).transpose()?
        }
    };
    let uids = present(db, &numbers)?;
    let keywords = std::mem::take(Keywords::of(db, mailbox).known()?);
    let (status, recent_from) = (numbers.status(), uid(numbers.recent_from));
    Ok(Opened { status, uids, recent_from, first_unseen, keywords })
}

/// Makes what is `\Recent` no longer so for the next session; tells from which UID on it was.
pub(super) fn take_recent(txn: &Txn<'_>, mailbox: MailboxId) -> Result<Uid, StoreError> {
    txn.lock_mailboxes(&[mailbox])?;
    let mut numbers = numbers::load(txn.db, mailbox)?;
    let from = uid(numbers.recent_from);
    if numbers.recent > 0 {
        numbers.recent_from = numbers.uid_next;
        numbers.recent = 0;
        numbers::save_quietly(txn, &numbers)?;
    }
    Ok(from)
}
