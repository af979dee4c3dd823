//! What every store decides alike: the small functions that carry a meaning of the contract.
//!
//! Not here: anything that keeps something.

use std::collections::BTreeSet;

use mail::Address;

use crate::mailbox::{NAME_DEPTH_MAX, NAME_OCTETS_MAX, SEPARATOR};
use crate::{
    FlagChange, Flags, KEYWORDS_MAX, Keyword, LogRecord, MailboxName, Overdue, StoreError,
    SystemFlags, Timestamp, TrackState, Uid, UidValidity, Urgency,
};

/// A time as it is kept: to the microsecond.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// The time that [`micros`] made a number of.
pub(crate) fn time(micros: i64) -> Timestamp {
    let end = if micros < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(micros).unwrap_or(end)
}

/// A time after it was kept.
pub(crate) fn kept(at: Timestamp) -> Timestamp {
    time(micros(at))
}

/// The class of jobs that were put off: they wait for their time, and not for their turn.
pub(crate) const CLASS_PUT_OFF: u8 = 8;

/// The class of a job in its lane; lower ones go first.
pub(crate) fn class_of(urgency: Urgency) -> u8 {
    match urgency {
        Urgency::Receipt => 0,
        Urgency::Envelope => 1,
        Urgency::Ordinary => 2,
    }
}

/// The turn of a job that comes into a lane: after the last of its account's, and not before the
/// first of all that wait. So an account that comes later does not wait for all that another has
/// queued (start-time fair queueing).
pub(crate) fn turn(first_of_all: Option<i64>, last_of_account: Option<i64>) -> i64 {
    let own = last_of_account.map_or(0, |last| last.saturating_add(1));
    own.max(first_of_all.unwrap_or(0))
}

/// Of a lane's jobs that never failed and those put off, each in its order, those that are to be
/// done: at most `limit`.
pub(crate) fn mix<T>(mut fresh: Vec<T>, mut put_off: Vec<T>, limit: usize) -> Vec<T> {
    put_off.truncate(limit - fresh.len().min(limit - limit / 2).min(limit));
    fresh.truncate(limit - put_off.len());
    fresh.append(&mut put_off);
    fresh
}

/// What somebody signs in with, or an address in the log, for comparison: case aside, and an
/// address without the quotes that it does not need.
pub(crate) fn key(text: &str) -> String {
    match Address::parse(text) {
        Ok(address) => address.to_string().to_lowercase(),
        Err(_) => text.to_lowercase(),
    }
}

/// A UIDVALIDITY above every one that this store gave before: the seconds of the time where that
/// is enough, so that a new store at an old place continues.
pub(crate) fn next_uid_validity(last: u32, at: Timestamp) -> Result<UidValidity, StoreError> {
    // Half the range is left to count on in, whatever the clock says.
    let seconds = at.as_second().clamp(1, i64::from(u32::MAX / 2));
    let seconds = u32::try_from(seconds).unwrap_or(1);
    let next = last.checked_add(1).map(|next| next.max(seconds));
    next.and_then(std::num::NonZeroU32::new).map(UidValidity).ok_or(StoreError::OutOfUids)
}

/// A UID from a number that is one.
pub(crate) fn uid(number: u32) -> Uid {
    Uid(std::num::NonZeroU32::new(number).unwrap_or(std::num::NonZeroU32::MIN))
}

/// The flags of a message after a change.
pub(crate) fn changed(flags: &Flags, change: &FlagChange) -> Flags {
    let (system, keywords): (SystemFlags, BTreeSet<_>) = match change {
        FlagChange::Replace(with) => (with.system, with.keywords.clone()),
        FlagChange::Add(these) => (
            flags.system.with(these.system),
            flags.keywords.union(&these.keywords).cloned().collect(),
        ),
        FlagChange::Remove(these) => (
            flags.system.without(these.system),
            flags.keywords.difference(&these.keywords).cloned().collect(),
        ),
    };
    Flags { system, keywords }
}

/// Of the keywords of a message that is delivered, those that its mailbox knows or has room for: a
/// mailbox that its holder filled with keywords must not keep certified mail out.
pub(crate) fn fitting(keywords: BTreeSet<Keyword>, known: &[Keyword]) -> BTreeSet<Keyword> {
    let mut room = KEYWORDS_MAX.saturating_sub(known.len());
    let fits = |keyword: &Keyword| {
        let is_known = known.contains(keyword);
        let fits = is_known || room > 0;
        if !is_known {
            room = room.saturating_sub(1);
        }
        fits
    };
    keywords.into_iter().filter(fits).collect()
}

/// The state of a tracker entry in state `now` that learns `new`; nothing when that changes
/// nothing. The automaton of the tracker: forward only, and a final state stays
/// (PEC-PR-28).
pub(crate) fn advance(now: TrackState, new: TrackState) -> Option<TrackState> {
    use TrackState::{Delivered, Expired, Failed, Sent, TakenInCharge, TakenLate, Warned};
    match (now, new) {
        (Sent, Warned | TakenInCharge) => Some(new),
        (Warned, TakenInCharge | TakenLate) => Some(TakenLate),
        (Sent | Warned | TakenInCharge | TakenLate, Delivered | Failed | Expired) => Some(new),
        _ => None,
    }
}

/// The order in which notices are due.
pub(crate) fn overdue_key(entry: &Overdue) -> (Timestamp, String, String) {
    (entry.due, entry.identificativo.clone(), key(&entry.entry.recipient.to_string()))
}

/// Whether a name that a rename makes is within the bounds of names.
pub(crate) fn name_fits(name: &MailboxName) -> bool {
    let name = name.as_str();
    name.len() <= NAME_OCTETS_MAX && name.split(SEPARATOR).count() <= NAME_DEPTH_MAX
}

/// The octets of a record that are hashed, sealed and kept: made once, and never again from what was
/// read.
pub(crate) fn canonical(record: &LogRecord) -> Result<String, StoreError> {
    serde_json::to_string(record)
        .map_err(|error| StoreError::Medium(format!("a log record cannot be written: {error}")))
}

/// What a record can be found by: each identifier in it, once.
pub(crate) fn identifiers(record: &LogRecord) -> BTreeSet<&str> {
    [&record.identificativo, &record.message_id, &record.msgid]
        .into_iter()
        .filter_map(Option::as_deref)
        .collect()
}

/// Whose a record is: the [`key`] of each address in it, once. One about a single delivery is the
/// sender's and that recipient's: all the others find it by the message, and a message to
/// hundreds costs no square of them.
pub(crate) fn parties(record: &LogRecord) -> BTreeSet<String> {
    let sender = record.mittente.iter();
    let all = match &record.consegna {
        Some(one) => sender.chain([one]).map(String::as_str).collect::<Vec<_>>(),
        None => {
            let recipients = record.destinatari.iter().map(|recipient| &recipient.address);
            sender.chain(&record.ricezione).chain(recipients).map(String::as_str).collect()
        }
    };
    all.into_iter().map(key).collect()
}

/// `start..end` clipped to `octets`, as places in memory.
pub(crate) fn clip(start: u64, end: u64, octets: u64) -> std::ops::Range<u64> {
    let end = end.min(octets);
    start.min(end)..end
}
