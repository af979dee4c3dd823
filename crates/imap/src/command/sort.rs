//! SORT, UID SORT: the messages that are as asked, in an order.
//!
//! RFC 5256 §3; DISPLAYFROM and DISPLAYTO, RFC 5957 §3; RETURN, RFC 5267 §3.1; SAVE, RFC 5182 §2.1. The order is by what the
//! digest of each message says, so that no octets are read; texts are compared as RFC 5051 has it.

use std::cmp::Ordering;

use store::{ModSeq, StoreError, Summary, UidSet};

use super::Work;
use super::search::Query;
use super::search::found::Returns;
use crate::digest::Keys;
use crate::enabled::Enabled;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::{Code, mod_seq};
use crate::selected::{Places, Tell};
use crate::session::limits::ORDER_OCTETS_MAX;
use crate::source::Source;

/// Messages that are put in order at most.
pub(super) const MESSAGES_MAX: usize = 500_000;
/// Criteria at most: there are nine, and one that comes twice decides nothing.
const CRITERIA_MAX: usize = 16;
/// Numbers that one job writes.
const NUMBERS_MAX: usize = 20_000;
/// Octets of digests that are taken from the store at once, beyond the last.
const DIGEST_OCTETS: usize = 1024 * 1024;

/// What decides the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Criterion {
    Arrival,
    Cc,
    Date,
    DisplayFrom,
    DisplayTo,
    From,
    Size,
    Subject,
    To,
}

impl Criterion {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ARRIVAL" => Self::Arrival,
            "CC" => Self::Cc,
            "DATE" => Self::Date,
            "DISPLAYFROM" => Self::DisplayFrom,
            "DISPLAYTO" => Self::DisplayTo,
            "FROM" => Self::From,
            "SIZE" => Self::Size,
            "SUBJECT" => Self::Subject,
            "TO" => Self::To,
            _ => return None,
        })
    }

    fn needs_digest(self) -> bool {
        !matches!(self, Self::Arrival | Self::Size)
    }

    fn value(self, summary: &Summary, keys: &mut Keys) -> Value {
        let text = |text: &mut String| Value::Text(std::mem::take(text).into_boxed_str());
        match self {
            Self::Arrival => Value::Number(summary.received.as_microsecond()),
            Self::Size => Value::Number(summary.octets.cast_signed()),
            Self::Date => Value::Number(sent(summary, keys)),
            Self::Cc => text(&mut keys.cc),
            Self::DisplayFrom => text(&mut keys.display_from),
            Self::DisplayTo => text(&mut keys.display_to),
            Self::From => text(&mut keys.from),
            Self::Subject => text(&mut keys.subject),
            Self::To => text(&mut keys.to),
        }
    }
}

/// The sent date in seconds, RFC 5256 §2.2: without one, when the message came.
pub(super) fn sent(summary: &Summary, keys: &Keys) -> i64 {
    keys.sent.unwrap_or_else(|| summary.received.as_second())
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Number(i64),
    Text(Box<str>),
}

/// A message that was found.
struct Entry {
    place: usize,
    number: u32,
    mod_seq: ModSeq,
    values: Box<[Value]>,
}

/// `sort = ["UID" SP] "SORT" [SP "RETURN" ...] SP sort-criteria SP search-criteria`
pub(crate) struct Sort {
    tag: String,
    query: Query,
    by_uid: bool,
    returns: Option<Returns>,
    /// Each with whether it is reversed.
    criteria: Vec<(Criterion, bool)>,
    found: Vec<Entry>,
    /// What they take in memory.
    octets: usize,
    /// All are found and in order.
    told: Option<Told>,
}

/// What is left of messages that are in order, while it is written.
struct Told {
    numbers: Vec<u32>,
    /// So many are written.
    written: usize,
    highest: Option<ModSeq>,
}

impl Sort {
    /// What follows the verb.
    pub(crate) fn read(
        tag: &str,
        words: &mut Words<'_>,
        by_uid: bool,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        words.space().ok_or_else(Refusal::malformed)?;
        let returns = Returns::read_if_said(words)?;
        if returns.is_some_and(Returns::asks_partial) {
            return Err(Refusal::bad("Parts of an order are not told: CONTEXT is not announced"));
        }
        let criteria = criteria(words)?;
        words.space().ok_or_else(Refusal::malformed)?;
        let charset_known = Query::read_charset(words)?;
        let query = Query::read(words, charset_known, by_uid, enabled)?;
        Ok(Self {
            tag: tag.to_owned(),
            query,
            by_uid,
            returns,
            criteria,
            found: Vec::new(),
            octets: 0,
            told: None,
        })
    }

    pub(crate) fn asks_mod_seq(&self) -> bool {
        self.query.by_mod_seq
    }

    pub(crate) fn holds_octets(&self) -> u64 {
        if self.told.is_some() { 0 } else { self.query.holds_octets() }
    }

    /// Octets of memory that it takes at most from one job to the next, but for the numbers that are
    /// told.
    pub(crate) fn keeps_octets(&self) -> u64 {
        if self.told.is_some() { 0 } else { ORDER_OCTETS_MAX as u64 }
    }

    /// How far it has come; nothing once the response has begun.
    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        if self.told.is_some() { None } else { self.query.progress() }
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let done = match self.told.take() {
            Some(told) => self.write_some(told, context),
            None => match self.look(context) {
                Ok(done) => done && self.begin(context)?,
                Err(refusal) => {
                    // A search that failed has found nothing: RFC 5182 §2.1.
                    if self.returns.is_some_and(|returns| returns.save) {
                        context.here()?.save(&Places::default());
                    }
                    return Err(refusal);
                }
            },
        };
        if !done {
            return Ok(Flow::More(Work::Sort(Box::new(self))));
        }
        let tell = if self.query.renumbers { Tell::All } else { Tell::NoExpunges };
        let done = Done::text(self.query.completed("SORT completed"));
        Ok(done.numbered(self.by_uid).tell(tell).into())
    }

    /// Looks for some more; whether all are found.
    fn look(&mut self, context: &mut Context<'_>) -> Result<bool, Refusal> {
        self.query.begin(true, context)?;
        let mut found = Vec::new();
        let done = self.query.look(context, &mut |place, summary| {
            found.push((place, summary.clone()));
            false
        });
        let done = done.map_err(Refusal::selected)?;
        let criteria = &self.criteria;
        let by_uid = self.by_uid;
        let (entries, octets) = (&mut self.found, &mut self.octets);
        let needs_digest = criteria.iter().any(|(criterion, _)| criterion.needs_digest());
        with_keys(found, needs_digest, context, &mut |place, summary, mut keys| {
            let values: Box<[Value]> =
                criteria.iter().map(|(by, _)| by.value(summary, &mut keys)).collect();
            *octets += held(&values);
            let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
            let number = if by_uid { summary.uid.0.get() } else { number };
            entries.push(Entry { place, number, mod_seq: summary.mod_seq, values });
        })
        .map_err(Refusal::selected)?;
        check_size(self.found.len(), self.octets)?;
        Ok(done)
    }

    fn compare(&self, one: &Entry, other: &Entry) -> Ordering {
        for (at, (_, reversed)) in self.criteria.iter().enumerate() {
            let order = one.values.get(at).cmp(&other.values.get(at));
            let order = if *reversed { order.reverse() } else { order };
            if order.is_ne() {
                return order;
            }
        }
        // What is equal comes in the order of the mailbox: RFC 5256 §3.
        one.place.cmp(&other.place)
    }

    /// Puts them in order and begins to write; whether that is done.
    fn begin(&mut self, context: &mut Context<'_>) -> Result<bool, Refusal> {
        let mut found = std::mem::take(&mut self.found);
        found.sort_unstable_by(|one, other| self.compare(one, other));
        if let Some(returns) = self.returns
            && returns.save
        {
            context.here()?.save(&saved(returns, &found));
        }
        let highest = found.iter().map(|entry| entry.mod_seq).max();
        let numbers: Vec<u32> = found.into_iter().map(|entry| entry.number).collect();
        let out = &mut *context.out;
        match self.returns {
            None => out.text("* SORT"),
            Some(returns) if returns.responds() => {
                let uid = if self.by_uid { " UID" } else { "" };
                out.text(&format!("* ESEARCH (TAG \"{}\"){uid}", self.tag));
                let ends = [("MIN", returns.min, numbers.first())];
                let ends = ends.into_iter().chain([("MAX", returns.max, numbers.last())]);
                for (name, _, number) in ends.filter(|(_, asked, _)| *asked) {
                    if let Some(number) = number {
                        out.text(&format!(" {name} {number}"));
                    }
                }
                if returns.count {
                    out.text(&format!(" COUNT {}", numbers.len()));
                }
                if returns.all && !numbers.is_empty() {
                    out.text(" ALL ");
                }
            }
            Some(_) => return Ok(true),
        }
        Ok(self.write_some(Told { numbers, written: 0, highest }, context))
    }

    /// Writes the next numbers, as many as a job should; whether those were the last.
    fn write_some(&mut self, told: Told, context: &mut Context<'_>) -> bool {
        let out = &mut *context.out;
        let Told { numbers, written, highest } = told;
        let mut at = written;
        let end = numbers.len().min(at + NUMBERS_MAX);
        match self.returns {
            None => {
                for number in &numbers[at..end] {
                    out.text(&format!(" {number}"));
                }
                at = end;
            }
            Some(returns) if returns.all => {
                // A set in the order of the messages: RFC 5267 §3.1.
                while at < end {
                    let first = numbers[at];
                    let run = numbers[at..].iter().zip(first..);
                    let length = run.take_while(|(number, next)| *number == next).count();
                    let comma = if at > 0 { "," } else { "" };
                    let last = first + u32::try_from(length - 1).unwrap_or(0);
                    let run = if length == 1 { String::new() } else { format!(":{last}") };
                    out.text(&format!("{comma}{first}{run}"));
                    at += length;
                }
            }
            Some(_) => at = numbers.len(),
        }
        if at < numbers.len() {
            self.told = Some(Told { numbers, written: at, highest });
            return false;
        }
        if self.query.by_mod_seq {
            match (highest, self.returns) {
                (Some(highest), None) => out.text(&format!(" (MODSEQ {})", mod_seq(highest))),
                (Some(highest), Some(_)) => out.text(&format!(" MODSEQ {}", mod_seq(highest))),
                (None, _) => {}
            }
        }
        out.text("\r\n");
        true
    }
}

/// What `$` stands for from now on.
fn saved(returns: Returns, found: &[Entry]) -> Places {
    let place = |entry: &Entry| entry.place..entry.place + 1;
    if returns.only_ends() {
        let first = found.first().filter(|_| returns.min);
        let last = found.last().filter(|_| returns.max);
        return Places::new(first.into_iter().chain(last).map(place).collect());
    }
    Places::new(found.iter().map(place).collect())
}

/// Octets of memory that a message takes that has these: a list of messages has room for as many again, and what
/// is by itself in memory takes up to 16 more.
fn held(values: &[Value]) -> usize {
    let text = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::Text(text) => text.len() + 16,
    };
    2 * size_of::<Entry>() + size_of_val(values) + 16 + values.iter().map(text).sum::<usize>()
}

/// `sort-criteria = "(" sort-criterion *(SP sort-criterion) ")"`
fn criteria(words: &mut Words<'_>) -> Result<Vec<(Criterion, bool)>, Refusal> {
    words.octet(b'(').ok_or_else(Refusal::malformed)?;
    let mut criteria = Vec::new();
    loop {
        let reversed = words.skip_name("REVERSE");
        let name = words.name().ok_or_else(Refusal::malformed)?;
        let criterion = Criterion::named(&name).ok_or_else(Refusal::malformed)?;
        criteria.push((criterion, reversed));
        if words.octet(b')').is_some() {
            return Ok(criteria);
        }
        if criteria.len() == CRITERIA_MAX {
            return Err(Refusal::bad("Too many criteria to sort by"));
        }
        words.space().ok_or_else(Refusal::malformed)?;
    }
}

/// That what is held to be ordered stays within bounds.
pub(super) fn check_size(messages: usize, octets: usize) -> Result<(), Refusal> {
    if messages <= MESSAGES_MAX && octets <= ORDER_OCTETS_MAX {
        return Ok(());
    }
    Err(Refusal::no(Code::Limit, "Too many messages to put in order: ask for fewer"))
}

/// Hands on messages with their keys, from the digests that are kept or made and kept now.
pub(super) fn with_keys(
    found: Vec<(usize, Summary)>,
    needs_digest: bool,
    context: &Context<'_>,
    take: &mut dyn FnMut(usize, &Summary, Keys),
) -> Result<(), StoreError> {
    if !needs_digest {
        found.iter().for_each(|(place, summary)| take(*place, summary, Keys::default()));
        return Ok(());
    }
    let store = context.store;
    let Some(here) = context.selected.as_deref() else { return Ok(()) };
    let mut found = found.as_slice();
    while !found.is_empty() {
        let uids: UidSet = found.iter().map(|(_, summary)| summary.uid).collect();
        let digested = store.digested(here.mailbox, &uids, found.len(), DIGEST_OCTETS)?;
        // All gone.
        let Some(last) = digested.last().map(|(summary, _)| summary.uid) else { return Ok(()) };
        let mut made = Vec::new();
        let mut digested = digested.into_iter().peekable();
        let looked_up = found.partition_point(|(_, summary)| summary.uid <= last);
        for (place, summary) in &found[..looked_up] {
            let digest = digested.next_if(|(found, _)| found.uid == summary.uid);
            let Some((_, digest)) = digest else { continue };
            let source = Source::new(store, summary.blob, summary.octets);
            let mut source = source.with_digest(digest);
            match source.digest() {
                Ok(digest) => take(*place, summary, digest.keys()),
                // It went meanwhile.
                Err(StoreError::NoSuchMessage) => {}
                Err(error) => return Err(error),
            }
            made.extend(source.made_digest());
        }
        if !made.is_empty() {
            store.keep_digests(made);
        }
        found = &found[looked_up..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criteria_are_read_and_bounded() {
        let read = |text: &str| criteria(&mut Words::new(text.as_bytes()));
        assert_eq!(
            read("(REVERSE DATE subject)").unwrap(),
            [(Criterion::Date, true), (Criterion::Subject, false)]
        );
        let many = |count: usize| format!("({})", vec!["SIZE"; count].join(" "));
        assert_eq!(read(&many(CRITERIA_MAX)).unwrap().len(), CRITERIA_MAX);
        for text in
            ["", "()", "(REVERSE)", "(COLOUR)", "(DATE", "(DATE  CC)", &many(CRITERIA_MAX + 1)]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_put_in_order_is_bounded() {
        assert!(check_size(MESSAGES_MAX, ORDER_OCTETS_MAX).is_ok());
        assert!(check_size(MESSAGES_MAX + 1, 0).is_err());
        assert!(check_size(0, ORDER_OCTETS_MAX + 1).is_err());
    }

    #[test]
    fn a_message_weighs_what_it_takes() {
        let number = held(&[Value::Number(1)]);
        assert!((100..160).contains(&number), "{number}");
        let text = held(&[Value::Number(1), Value::Text("x".repeat(100).into())]);
        assert_eq!(text, number + size_of::<Value>() + 116);
        assert_eq!(held(&[Value::Text("".into())]), number + 16);
    }
}
