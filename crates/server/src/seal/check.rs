//! Whether a log is what was sealed, and if not, at which record it begins to differ (PEC-LOG-02).
//!
//! Everything is computed anew: each record's hash from its octets and number, each interval's root from
//! these, and that held against the signed statement; each statement against the one before; signature
//! and time stamp against whom we believe. A record that was altered, dropped, put in later or moved is
//! named by its number. Whoever could write to the database could have computed the hashes beside the
//! records anew too: then the roots of 1024 records each, which the signature covers, say between which
//! two numbers it was. What no seal covers yet, nobody has signed for. Not here: a message's own proofs.

use std::collections::VecDeque;

use crypto::{Trust, VerifyError, verify_stamp};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use store::tree::{self, CHUNK_LEAVES, Hash};
use store::{LogEntry, LogRecord, Seal, Statement, Store, Timestamp};

use crate::command::{in_utc, shown};

/// Records that are looked at in one go: some MiB of them.
const PAGE_RECORDS: usize = 4096;
/// Findings that are told at most; the first is what matters.
pub(crate) const FINDINGS_MAX: usize = 20;
/// How long an interval with records may be: DM 2 Nov 2005 art. 10. A record whose commit came after the
/// end of its interval is in the next.
const INTERVAL_MAX: SignedDuration = SignedDuration::from_hours(24);
/// How long after the end of an interval it must have been sealed, the program running.
const SEALED_WITHIN: SignedDuration = SignedDuration::from_hours(1);
/// How far the clock of a time stamp authority may be behind ours; its times have whole seconds besides.
const STAMPED_EARLY_MAX: SignedDuration = SignedDuration::from_mins(1);
/// How long after the end of an interval its stamp may be: a day for what cannot be had at once, as an
/// authority that is down, and the hour within which it must have been sealed.
const STAMPED_LATE_MAX: SignedDuration = SignedDuration::from_hours(25);
/// Stamps whose times are told at most: those of the 30 months for which records are kept, each day's.
const STAMPS_MAX: usize = 1024;
/// Late stamps that a note tells of at most.
const LATE_TOLD_MAX: usize = 3;
/// Records are kept so many months: PEC-LOG-02.
pub(crate) const RETENTION_MONTHS: i64 = 30;

/// Whom we believe.
#[derive(Clone, Copy)]
pub(crate) struct Believed<'t> {
    /// Who may issue the certificates of those who sign.
    pub(crate) signers: &'t Trust,
    /// And of those who stamp.
    pub(crate) stampers: &'t Trust,
}

/// Some records that follow each other, reduced to their hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaves {
    /// Of each record, computed anew.
    pub(crate) leaves: Vec<Hash>,
    /// The time of the first.
    pub(crate) first: Option<Timestamp>,
    /// What is wrong with the record after these, if that can be seen from it alone.
    pub(crate) fault: Option<Fault>,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Its number.
    pub(crate) number: u64,
    /// In words.
    pub(crate) text: String,
}

/// A log, wherever it is.
pub(crate) trait Shelf {
    /// Seals after this number, a page of them; none when there are no more.
    fn seals(&mut self, after: u64) -> anyhow::Result<Vec<Seal>>;
    /// The roots of the chunks that are kept with a seal.
    fn chunks(&mut self, seal: u64) -> anyhow::Result<Vec<Hash>>;
    /// Records after this number, a page of them; none when there are no more.
    fn leaves(&mut self, after: u64) -> anyhow::Result<Leaves>;
    /// The number of the last record that was written.
    fn last_record(&mut self) -> anyhow::Result<u64>;
}

/// A page of records of a store.
pub(crate) fn leaves(store: &dyn Store, after: u64) -> anyhow::Result<Leaves> {
    let entries = store.log_entries(after, PAGE_RECORDS)?;
    let mut page = Leaves {
        leaves: Vec::with_capacity(entries.len()),
        first: entries.first().map(|entry| entry.time),
        fault: None,
    };
    // The records first: behind the last possible number there is none, and no number either.
    for (entry, number) in entries.iter().zip(after.saturating_add(1)..) {
        match look_at(number, entry) {
            Ok(leaf) => page.leaves.push(leaf),
            Err(text) => {
                page.fault = Some(Fault { number, text });
                break;
            }
        }
    }
    Ok(page)
}

/// A record's hash, when it is where it should be and what was written in the commit of its event.
fn look_at(number: u64, entry: &LogEntry) -> Result<Hash, String> {
    if entry.number != number {
        return Err(format!("record {number} is missing: the next one there is {}", entry.number));
    }
    let leaf = Hash::leaf(number, &entry.octets);
    if entry.leaf != leaf.0 {
        let named = named(entry);
        let stood = |other: u64| entry.leaf == Hash::leaf(other, &entry.octets).0;
        let before = number.checked_sub(1).filter(|before| stood(*before));
        return Err(match (before, stood(number + 1)) {
            (Some(before), _) => format!(
                "record {number} {named} was record {before}: another was put in later, before it"
            ),
            (None, true) => format!(
                "record {number} {named} was record {}: another was dropped before it",
                number + 1
            ),
            (None, false) => format!("record {number} {named} was altered, or is another's"),
        });
    }
    let says = serde_json::from_slice::<LogRecord>(&entry.octets);
    match says.map(|record| record.time.as_microsecond() == entry.time.as_microsecond()) {
        Ok(true) => Ok(leaf),
        Ok(false) => Err(format!("record {number} {} was moved to another time", named(entry))),
        Err(_) => Err(format!("record {number} is none of the log of certified mail")),
    }
}

/// A record for a person who looks for it.
fn named(entry: &LogEntry) -> String {
    match serde_json::from_slice::<LogRecord>(&entry.octets) {
        Ok(LogRecord { time, event, identificativo, .. }) => {
            let of = identificativo.map(|id| format!(", {id}")).unwrap_or_default();
            format!("({}, {event}{of})", shown(time))
        }
        Err(_) => "(which cannot be read)".to_owned(),
    }
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Found {
    /// Seals that were looked at.
    pub(crate) seals: u64,
    /// Records under them that were.
    pub(crate) records: u64,
    /// Records that no seal covers yet.
    pub(crate) unsealed: u64,
    /// When they were stamped, the last [`STAMPS_MAX`] of them.
    pub(crate) stamps: VecDeque<Stamped>,
    /// How many stamps came later than [`STAMPED_LATE_MAX`], and the first of these.
    #[serde(skip)]
    pub(crate) late: (u64, Vec<Stamped>),
    /// What does not hold, the first first.
    pub(crate) faults: Vec<Finding>,
    /// What could not be told, or is worth knowing.
    pub(crate) notes: Vec<String>,
}

/// When a seal was stamped, by an authority that is believed: the only time in a log that whoever keeps
/// it cannot choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Stamped {
    pub(crate) seal: u64,
    /// The end of its interval, as its signer says.
    pub(crate) until: Timestamp,
    pub(crate) stamped: Timestamp,
}

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The seal it is about.
    pub(crate) seal: Option<u64>,
    /// The record at which it begins, where that is known.
    pub(crate) record: Option<u64>,
    /// In words.
    pub(crate) text: String,
}

impl Found {
    pub(crate) fn fault(
        &mut self,
        seal: Option<u64>,
        record: Option<u64>,
        text: impl Into<String>,
    ) {
        if self.faults.len() < FINDINGS_MAX {
            self.faults.push(Finding { seal, record, text: text.into() });
        }
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        if self.notes.len() < FINDINGS_MAX {
            self.notes.push(text.into());
        }
    }

    /// A stamp of an authority that is believed.
    fn stamped(&mut self, stamped: Stamped) {
        if stamped.stamped.duration_since(stamped.until) > STAMPED_LATE_MAX {
            self.late.0 += 1;
            if self.late.1.len() < LATE_TOLD_MAX {
                self.late.1.push(stamped);
            }
        }
        if self.stamps.len() == STAMPS_MAX {
            self.stamps.pop_front();
        }
        self.stamps.push_back(stamped);
    }

    /// Tells of the stamps that came long after their intervals: until then, whoever keeps the log could
    /// have written it anew and sealed it again (PEC-LOG-03).
    pub(crate) fn tell_of_late_stamps(&mut self) {
        let (late, first) = &self.late;
        if first.is_empty() {
            return;
        }
        let told = first.iter().map(|Stamped { seal, until, stamped }| {
            format!("seal {seal}, until {}, on {}", in_utc(*until), in_utc(*stamped))
        });
        let told = told.collect::<Vec<_>>().join("; ");
        let more = late - first.len() as u64;
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        self.note(format!(
            "stamped more than {} hours after the interval had ended, and proved since then only: \
             {told}{more}",
            STAMPED_LATE_MAX.as_hours()
        ));
    }
}

/// Looks at a whole log, or at the seals of the UTC day that begins at `day`.
///
/// # Errors
///
/// When it cannot be read: what is found wrong is no error.
pub(crate) fn check(
    shelf: &mut dyn Shelf,
    believed: Believed<'_>,
    day: Option<Timestamp>,
    now: Timestamp,
) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let end_of_day = day.map(|day| day.saturating_add(INTERVAL_MAX)).transpose()?;
    let mut before: Option<(Statement, Hash)> = None;
    let (mut after, mut unstamped) = (0, Vec::new());
    loop {
        let page = shelf.seals(after)?;
        let Some(last) = page.last() else { break };
        after = last.number;
        for seal in &page {
            let number = seal.number;
            let Ok(said) = Statement::parse(&seal.octets) else {
                found.fault(Some(number), None, format!("seal {number} has no statement"));
                before = None;
                continue;
            };
            look_at_chain(&mut found, number, &said, before.as_ref());
            let is_asked = match (day, end_of_day) {
                (Some(day), Some(end)) => said.since < end && day < said.until,
                _ => true,
            };
            if is_asked {
                found.seals += 1;
                if look_at_seal(&mut found, seal, &said, believed) {
                    for number in unstamped.drain(..) {
                        let text = format!("seal {number} has no time stamp, and a later one has");
                        found.fault(Some(number), None, text);
                    }
                } else {
                    unstamped.push(number);
                }
                look_at_records(&mut found, shelf, seal, &said, now)?;
            }
            before = Some((said, Hash::of(&seal.octets)));
        }
    }
    found.tell_of_late_stamps();
    if !unstamped.is_empty() {
        let all: Vec<_> = unstamped.iter().map(ToString::to_string).collect();
        found.note(format!("no time stamp yet: seal {}", all.join(", ")));
    }
    if day.is_none() {
        let end = before.as_ref().map_or(1, |(said, _)| said.end());
        look_at_the_rest(&mut found, shelf, end, before.map(|(said, _)| said.until), now)?;
    } else if found.seals == 0 {
        found.note("no seal is of that day");
    }
    Ok(found)
}

/// Seals follow each other without gap, in numbers, records, time and hash.
fn look_at_chain(
    found: &mut Found,
    number: u64,
    said: &Statement,
    before: Option<&(Statement, Hash)>,
) {
    let mut wrong = |text: String| found.fault(Some(number), None, text);
    if said.number != number {
        wrong(format!("seal {number} was seal {}", said.number));
    }
    match before {
        None if number == 1 => {
            if said.first != 1 || said.previous.is_some() {
                wrong("the first seal does not begin with the first record".to_owned());
            }
        }
        None => wrong(format!("the seal before seal {number} is missing")),
        Some((last, hash)) => {
            if last.number + 1 != number {
                wrong(format!("seal {} is missing", last.number + 1));
            } else if said.previous != Some(*hash) {
                wrong(format!("seal {number} was made after another seal {}", last.number));
            } else if said.first != last.end() || said.since != last.until {
                wrong(format!("between seal {} and seal {number} there is a gap", last.number));
            }
        }
    }
    if said.records > 0 && said.until.duration_since(said.since) > INTERVAL_MAX {
        wrong(format!("seal {number} covers more than 24 hours"));
    }
}

/// Signature and time stamp. Whether it has its stamp.
pub(crate) fn look_at_seal(
    found: &mut Found,
    seal: &Seal,
    said: &Statement,
    believed: Believed<'_>,
) -> bool {
    let number = seal.number;
    let stamp = seal.stamp.as_ref();
    let stamp = stamp.map(|token| verify_stamp(token, &seal.signature, believed.stampers));
    let at = match &stamp {
        Some(Ok(stamp)) => stamp.time,
        _ => said.until,
    };
    match crypto::verify(&seal.signature, &seal.octets, believed.signers, at) {
        Ok(verified) => {
            let names = [verified.signer.organisation(), verified.signer.common_name()];
            if !names.iter().flatten().any(|name| *name == said.provider) {
                let text = format!("seal {number} is not signed by {} (PEC-CRT-01)", said.provider);
                found.fault(Some(number), None, text);
            }
        }
        Err(VerifyError::Signature | VerifyError::NotCms | VerifyError::NoSigner) => {
            let text = format!("seal {number} is not what was signed: it was altered");
            found.fault(Some(number), None, text);
        }
        Err(error) => found.fault(Some(number), None, format!("seal {number}: {error}")),
    }
    match stamp {
        Some(Ok(stamp)) if stamp.time.duration_since(said.until) < -STAMPED_EARLY_MAX => {
            let text = format!("seal {number} was stamped before its interval had ended");
            found.fault(Some(number), None, text);
        }
        Some(Err(error)) => found.fault(Some(number), None, format!("seal {number}: {error}")),
        Some(Ok(stamp)) => {
            found.stamped(Stamped { seal: number, until: said.until, stamped: stamp.time });
        }
        None => {}
    }
    seal.stamp.is_some()
}

/// The records under a seal are those that were sealed.
fn look_at_records(
    found: &mut Found,
    shelf: &mut dyn Shelf,
    seal: &Seal,
    said: &Statement,
    now: Timestamp,
) -> anyhow::Result<()> {
    let number = seal.number;
    if let Some(expired) = seal.expired {
        if keeps_until(said.until).is_none_or(|end| expired < end || now < end) {
            let text = format!("the records of seal {number} were removed before their 30 months");
            found.fault(Some(number), Some(said.first), text);
        } else {
            found.note(format!("the records of seal {number} were removed on {}", shown(expired)));
        }
        return Ok(());
    }
    // Chunks that were touched prove nothing; then the interval as a whole does.
    let kept = shelf.chunks(number)?;
    let chunks = Some(&kept).filter(|chunks| tree::root(chunks) == said.root);
    if chunks.is_none() {
        found.fault(Some(number), None, format!("the hashes kept with seal {number} were altered"));
    }
    let (mut own, mut chunk) = (Vec::new(), Vec::with_capacity(CHUNK_LEAVES));
    let mut next = said.first;
    while next < said.end() {
        let page = shelf.leaves(next - 1)?;
        let here = page.leaves.len().min(usize::try_from(said.end() - next).unwrap_or(usize::MAX));
        for leaf in &page.leaves[..here] {
            chunk.push(*leaf);
            next += 1;
            if chunk.len() < CHUNK_LEAVES && next < said.end() {
                continue;
            }
            let root = tree::root(&chunk);
            if let Some(chunks) = chunks
                && chunks.get(own.len()) != Some(&root)
            {
                let first = next - chunk.len() as u64;
                let text = format!(
                    "records {first} to {} are not those that were sealed: one was altered, \
                     dropped or put in later, and its hash with it",
                    next - 1
                );
                found.fault(Some(number), Some(first), text);
                return Ok(());
            }
            own.push(root);
            chunk.clear();
        }
        if next >= said.end() {
            break;
        }
        if let Some(fault) = page.fault {
            found.fault(Some(number), Some(fault.number), fault.text);
            return Ok(());
        }
        if here == 0 {
            let text = format!("record {next} is missing, and all that followed it");
            found.fault(Some(number), Some(next), text);
            return Ok(());
        }
    }
    if tree::root(&own) != said.root {
        let text = format!("records {} to {} are not those that were sealed", said.first, next - 1);
        found.fault(Some(number), Some(said.first), text);
        return Ok(());
    }
    found.records += said.records;
    Ok(())
}

/// What no seal covers: whole in itself, and not there for longer than it may be.
fn look_at_the_rest(
    found: &mut Found,
    shelf: &mut dyn Shelf,
    first: u64,
    sealed_until: Option<Timestamp>,
    now: Timestamp,
) -> anyhow::Result<()> {
    let written = shelf.last_record()?;
    let mut next = first;
    loop {
        let page = shelf.leaves(next - 1)?;
        if next == first
            && let Some(time) = page.first
        {
            let begun = sealed_until.map_or(time, |until| until.max(time));
            if now.duration_since(begun) > INTERVAL_MAX + SEALED_WITHIN {
                let text = format!(
                    "record {first} and what follows are not sealed, though their interval ended: \
                     a seal is missing, or the server has not run since {}",
                    in_utc(begun)
                );
                found.fault(None, Some(first), text);
            }
        }
        next += page.leaves.len() as u64;
        if let Some(fault) = page.fault {
            found.fault(None, Some(fault.number), fault.text);
            return Ok(());
        }
        if page.leaves.is_empty() {
            break;
        }
    }
    found.unsealed = next - first;
    // A server that runs writes on meanwhile: what is read lies between the two.
    let written_by_now = shelf.last_record()?;
    if next <= written || next > written_by_now + 1 {
        let text = format!("record {next} is missing: the last one written was {written}");
        found.fault(None, Some(next), text);
    }
    Ok(())
}

/// When records of an interval that ended then may be removed; nothing when that is beyond time.
pub(crate) fn keeps_until(until: Timestamp) -> Option<Timestamp> {
    let months = jiff::Span::new().try_months(RETENTION_MONTHS).ok()?;
    let end = until.to_zoned(jiff::tz::TimeZone::UTC).checked_add(months).ok()?;
    Some(end.timestamp())
}
