//! FETCH, UID FETCH: what is known of messages, and their octets.
//!
//! RFC 3501 §6.4.5, §7.4.2; BINARY, RFC 3516 §4.2 and RFC 9051 §6.4.5; MODSEQ and CHANGEDSINCE, RFC 7162
//! §3.1.4; VANISHED, RFC 7162 §3.2.6; EMAILID and THREADID, RFC 8474 §5; SAVEDATE, RFC 8514 §4.2;
//! PREVIEW, RFC 8970 §3; PARTIAL, RFC 9394 §3.3; UIDFETCH, RFC 9586 §3.3; how many
//! messages, RFC 9738 §3.1. Envelopes and structures come from the digest
//! that is kept beside a message; one that is not kept yet is made here. A job answers for as many messages as fit its
//! bounds, and asks for another for the rest. Long octets are not read here: the shell streams them from the store.

mod binary;
mod preview;
mod section;

use std::collections::VecDeque;

use imap_types::fetch::{MacroOrMessageDataItemNames, MessageDataItemName};
use jiff::tz::{Offset, TimeZone};
use store::{
    Digested, FlagChange, FlagUpdate, Flags, Store, StoreError, Summary, SystemFlags, Timestamp,
    UidSet,
};

use self::binary::Binary;
use self::section::Section;
use super::Work;
use crate::enabled::Enabled;
use crate::grammar::MessageSet;
use crate::grammar::items::{Asked, Extra};
use crate::grammar::words::Window;
use crate::job::{Context, Done, Flow, tell_cut};
use crate::refusal::Refusal;
use crate::response::{Code, Output, email_id, mod_seq, since};
use crate::selected::{Places, Selected, Tell};
use crate::session::limits;
use crate::source::Source;
use crate::texts::{MEMORY_OCTETS_LEAST, memory_octets};

/// Messages that one job answers for at most.
const BATCH_MESSAGES: usize = 500;
/// The same when their octets are marked as seen on the way: each is at most a piece of text and a
/// header in memory.
const BATCH_MESSAGES_SEEN: usize = 8;
/// Octets that one job's answer holds before it stops.
const BATCH_OCTETS: usize = 256 * 1024;
/// Octets that one job reads before it stops.
const BATCH_READ_OCTETS: u64 = 32 * 1024 * 1024;
/// Octets of digests that one job takes from the store at most, beyond the last.
const BATCH_DIGEST_OCTETS: usize = 512 * 1024;
/// Messages of a FETCH that is short.
const SHORT_MESSAGES: u64 = 32;
/// Items of one FETCH at most: each can be a part of its own.
const ITEMS_MAX: usize = 64;

/// One thing to be told of each message.
enum Item {
    Flags,
    InternalDate,
    Size,
    Uid,
    ModSeq,
    SaveDate,
    Envelope,
    /// BODY, or BODYSTRUCTURE with the extension data.
    Structure {
        extended: bool,
    },
    Section(Section),
    /// A part without its transfer encoding, or how long that is.
    Binary(Binary),
    EmailId,
    /// Which messages belong together is not kept: RFC 8474 §5.2 has it be NIL then.
    ThreadId,
    Preview {
        lazy: bool,
    },
}

/// `fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" ... ")")`
pub(crate) struct Fetch {
    messages: MessageSet,
    items: Vec<Item>,
    by_uid: bool,
    /// Some octets are fetched with BODY[...] rather than BODY.PEEK[...].
    marks_seen: bool,
    /// Only what changed since: RFC 7162 §3.1.4.1.
    changed_since: Option<u64>,
    /// And what vanished since.
    vanished: bool,
    /// Only these of them.
    partial: Option<Window>,
    /// What is left of it, once begun.
    left: Option<Places>,
    /// How many there are.
    all: usize,
    /// Some were gone.
    missed: bool,
    /// Those below were left out.
    cut: Option<Code>,
    /// Some part is in an encoding that nobody here can undo.
    unknown_encoding: bool,
    /// Nobody asked just now: NOTIFY.
    unasked: bool,
    /// Octets of memory that the next job may take to decode parts of a message.
    room: u64,
}

impl Fetch {
    pub(crate) fn new(
        messages: MessageSet,
        items: MacroOrMessageDataItemNames<'_>,
        by_uid: bool,
        asked: &Asked,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        if enabled.uid_only && !by_uid {
            return Err(Refusal::uid_required());
        }
        let names = match &items {
            MacroOrMessageDataItemNames::Macro(macro_name) => macro_name.expand(),
            MacroOrMessageDataItemNames::MessageDataItemNames(names) => names.clone(),
        };
        if names.len() + asked.items.len() > ITEMS_MAX {
            return Err(Refusal::bad("Too many items: ask for them in parts"));
        }
        let marks_seen = names.iter().any(|name| match name {
            MessageDataItemName::BodyExt { peek, .. }
            | MessageDataItemName::Binary { peek, .. } => !peek,
            MessageDataItemName::Rfc822 | MessageDataItemName::Rfc822Text => true,
            _ => false,
        });
        let mut items = names.iter().map(item).collect::<Result<Vec<_>, _>>()?;
        if asked.alone && !by_uid {
            items.clear();
        }
        items.extend(asked.items.iter().map(|extra| match *extra {
            Extra::SaveDate => Item::SaveDate,
            Extra::EmailId => Item::EmailId,
            Extra::ThreadId => Item::ThreadId,
            Extra::Preview { lazy } => Item::Preview { lazy },
        }));
        if asked.vanished && !(by_uid && enabled.qresync && asked.changed_since.is_some()) {
            return Err(Refusal::bad("VANISHED goes with UID FETCH, CHANGEDSINCE and QRESYNC"));
        }
        if asked.partial.is_some() && !by_uid {
            return Err(Refusal::bad("PARTIAL goes with UID FETCH"));
        }
        if by_uid && !items.iter().any(|item| matches!(item, Item::Uid)) {
            items.insert(0, Item::Uid);
        }
        let mut fetch = Self {
            messages,
            items,
            by_uid,
            marks_seen,
            changed_since: asked.changed_since,
            vanished: asked.vanished,
            partial: asked.partial,
            left: None,
            all: 0,
            missed: false,
            cut: None,
            unknown_encoding: false,
            unasked: false,
            room: MEMORY_OCTETS_LEAST,
        };
        if fetch.changed_since.is_some() && !fetch.asks_item(&Item::ModSeq) {
            fetch.items.push(Item::ModSeq);
        }
        if enabled.uid_only {
            // The response says it: RFC 9586 §3.3.
            fetch.items.retain(|item| !matches!(item, Item::Uid));
        }
        Ok(fetch)
    }

    /// The same of these messages, as part of what NOTIFY tells: nothing is seen by it, and nothing else is
    /// told.
    pub(crate) fn unasked(self, uids: &UidSet) -> Self {
        let ranges = uids.ranges().iter().map(|&(first, last)| (Some(first), Some(last)));
        let messages = MessageSet::Ranges(ranges.collect());
        Self { messages, unasked: true, marks_seen: false, ..self }
    }

    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        self.left.as_ref().map(|left| (self.all - left.len(), self.all))
    }

    fn asks_item(&self, item: &Item) -> bool {
        let kind = std::mem::discriminant(item);
        self.items.iter().any(|asked| std::mem::discriminant(asked) == kind)
    }

    /// Whether something is asked that a digest tells.
    fn asks_digest(&self) -> bool {
        self.items.iter().any(|item| match item {
            Item::Envelope | Item::Structure { .. } => true,
            Item::Section(section) => section.is_of_part(),
            Item::Binary(_) => true,
            _ => false,
        })
    }

    /// Whether it asks for few messages, none of them to be decoded or marked.
    pub(crate) fn is_short(&self) -> bool {
        let few = self.messages.count().is_some_and(|messages| messages <= SHORT_MESSAGES);
        few && !self.marks_seen && !self.decodes() && self.changed_since.is_none()
    }

    /// Whether it decodes parts, each in memory.
    fn decodes(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Binary(_)))
    }

    /// Whether it decodes parts to tell no more than how long they are.
    fn measures(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Binary(part) if part.is_size()))
    }

    /// Octets of memory that the next job may take for whole messages.
    pub(crate) fn holds_octets(&self) -> u64 {
        if self.decodes() { self.room } else { 0 }
    }

    pub(crate) fn asks_mod_seq(&self) -> bool {
        self.asks_item(&Item::ModSeq)
    }

    /// The messages that are asked for, but for those that did not change; tells what vanished.
    fn begin(
        &self,
        here: &Selected,
        store: &dyn Store,
        limit: u64,
        out: &mut Output,
    ) -> Result<Places, Refusal> {
        let mut places = here.places(&self.messages, self.by_uid)?;
        if let Some(mod_seq) = self.changed_since {
            let changes = store.changes(here.mailbox, since(mod_seq)).map_err(Refusal::selected)?;
            if self.vanished {
                out.vanished(true, &here.absent(&changes.expunged, Some(&self.messages)));
            }
            let changed = changes.updated.iter().filter_map(|update| here.place(update.uid));
            let changed = changed.filter(|place| places.contains(*place));
            places = Places::new(changed.map(|place| place..place + 1).collect());
        }
        Ok(match self.partial {
            Some(window) if window.len() > limit => return Err(Refusal::too_many(limit, None)),
            Some(window) => places.part(&window.of(places.len())),
            None => places,
        })
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let store = context.store;
        let zone = &context.settings.zone;
        let Some(here) = context.selected.as_deref_mut() else {
            return Err(Refusal::nothing_selected());
        };
        let mut left = match self.left.take() {
            Some(_) if self.measures() && context.worked > limits::WORK_TIME_MAX => {
                return Err(Refusal::no(Code::Limit, "It takes too long: ask in parts"));
            }
            Some(left) => left,
            None => {
                let limit = context.settings.command_messages_max;
                let mut left = self.begin(here, store, limit, context.out)?;
                // What NOTIFY tells is no command.
                self.cut = if self.unasked { None } else { here.cut(&mut left, limit) };
                self.all = left.len();
                left
            }
        };
        let marks_seen = self.marks_seen && !here.read_only;
        // From the highest down the digests of a batch must be there whole.
        let few = marks_seen || self.cut.is_some() && self.asks_digest();
        let batch = left.take(if few { BATCH_MESSAGES_SEEN } else { BATCH_MESSAGES });
        let uids: UidSet = batch.iter().filter_map(|&place| here.uids().get(place)).collect();
        let mut found = self.look_up(&uids, batch.len(), here, store)?;
        if self.decodes() {
            let largest = found.iter().map(|(summary, _)| summary.octets).max().unwrap_or(0);
            let needed = memory_octets(largest);
            if needed > std::mem::replace(&mut self.room, MEMORY_OCTETS_LEAST) {
                left.put_back(&batch);
                (self.room, self.left) = (needed, Some(left));
                return Ok(Flow::More(Work::Fetch(Box::new(self))));
            }
        }
        let seen = if marks_seen { mark_seen(&found, here, store)? } else { Vec::new() };
        let out = &mut *context.out;
        if !seen.is_empty() || self.asks_item(&Item::Flags) {
            here.announce_keywords(found.iter().map(|(summary, _)| &summary.flags), out);
        }
        let mut read = 0;
        let mut made = Vec::new();
        let last_found = found.back().map(|(summary, _)| summary.uid);
        if self.cut.is_some() {
            found.make_contiguous().reverse();
        }
        for (done, &place) in batch.iter().enumerate() {
            let enough = out.held_octets() >= BATCH_OCTETS || read >= BATCH_READ_OCTETS;
            if enough && !marks_seen {
                left.put_back(&batch[done..]);
                break;
            }
            let uid = here.uids().get(place);
            // Beyond what fitted: the next job looks again.
            if found.is_empty() && self.asks_digest() && last_found.is_some() && uid > last_found {
                left.put_back(&batch[done..]);
                break;
            }
            let Some((mut summary, digest)) =
                found.pop_front_if(|(summary, _)| Some(summary.uid) == uid)
            else {
                self.missed = true;
                continue;
            };
            let newly_seen = seen.binary_search_by_key(&summary.uid, |update| update.uid).ok();
            if let Some(update) = newly_seen.and_then(|at| seen.get(at)) {
                summary.flags.clone_from(&update.flags);
                summary.mod_seq = update.mod_seq;
            }
            let source = Source::new(store, summary.blob, summary.octets);
            let mut source = source.with_digest(digest);
            let message = Message { place, summary: &summary, here, zone };
            // Whole or not at all: an error must not end in the middle of a line.
            let before = out.mark();
            match self.write(&message, newly_seen.is_some(), &mut source, out) {
                Ok(known) => self.unknown_encoding |= !known,
                Err(error) => {
                    out.cut(before);
                    match error {
                        // It went while it was read.
                        StoreError::NoSuchMessage => self.missed = true,
                        error => return Err(Refusal::selected(error)),
                    }
                }
            }
            read += source.read;
            made.extend(source.made_digest());
        }
        if !made.is_empty() {
            store.keep_digests(made);
        }
        if !left.is_empty() {
            self.left = Some(left);
            return Ok(Flow::More(Work::Fetch(Box::new(self))));
        }
        if self.unasked {
            return Ok(Done::text("FETCH completed").tell(Tell::Nothing).into());
        }
        let refused = self.unknown_encoding || self.missed && !self.by_uid;
        if let (true, Some(cut)) = (refused, &self.cut) {
            tell_cut(cut, context.out);
        }
        if self.unknown_encoding {
            let text = "Some parts are in an encoding that is not known here: fetch their BODY";
            return Err(Refusal::no(Code::UnknownCte, text));
        }
        if self.missed && !self.by_uid {
            return Err(Refusal::no(Code::ExpungeIssued, "Some of the messages are gone"));
        }
        Ok(Done::text("FETCH completed").cut(self.cut).numbered(self.by_uid).into())
    }

    /// The messages of a set that there are, with their digests if those are needed.
    fn look_up(
        &self,
        uids: &UidSet,
        limit: usize,
        here: &Selected,
        store: &dyn Store,
    ) -> Result<VecDeque<Digested>, Refusal> {
        if uids.is_empty() {
            return Ok(VecDeque::new());
        }
        if self.asks_digest() {
            // Whoever marks messages as seen must know all of the batch, which is small then.
            let all = limit <= BATCH_MESSAGES_SEEN;
            let octets = if all { usize::MAX } else { BATCH_DIGEST_OCTETS };
            let found = store.digested(here.mailbox, uids, limit, octets);
            return Ok(found.map_err(Refusal::selected)?.into());
        }
        let found = store.summaries(here.mailbox, uids, limit).map_err(Refusal::selected)?;
        Ok(found.into_iter().map(|summary| (summary, None)).collect())
    }

    /// `* 3 FETCH (...)`; whether all encodings were known.
    fn write(
        &self,
        message: &Message<'_>,
        newly_seen: bool,
        source: &mut Source<'_>,
        out: &mut Output,
    ) -> Result<bool, StoreError> {
        let Message { place, summary, here, zone } = *message;
        here.begin_fetch(place, summary.uid, out);
        let mut known = true;
        for (at, item) in self.items.iter().enumerate() {
            if at > 0 {
                out.text(" ");
            }
            match item {
                Item::Flags => write_flags(summary, here, out),
                Item::InternalDate => {
                    out.text(&format!("INTERNALDATE \"{}\"", date_time(summary.received, zone)));
                }
                Item::SaveDate => {
                    out.text(&format!("SAVEDATE \"{}\"", date_time(summary.saved, zone)));
                }
                Item::Size => {
                    out.text("RFC822.SIZE ");
                    out.number(summary.octets);
                }
                Item::ModSeq => out.text(&format!("MODSEQ ({})", mod_seq(summary.mod_seq))),
                Item::Uid => {
                    out.text("UID ");
                    out.number(summary.uid.0.get().into());
                }
                Item::Envelope => {
                    out.text("ENVELOPE ");
                    out.push(source.digest()?.envelope());
                }
                Item::Structure { extended } => {
                    out.text(if *extended { "BODYSTRUCTURE " } else { "BODY " });
                    source.digest()?.write_structure(*extended, out);
                }
                Item::Section(section) => section.write(source, out)?,
                Item::Binary(binary) => known &= binary.write(source, out)?,
                Item::EmailId => out.text(&format!("EMAILID ({})", email_id(summary.blob))),
                Item::ThreadId => out.text("THREADID NIL"),
                Item::Preview { lazy } => preview::write(source, *lazy, out)?,
            }
        }
        if newly_seen && !self.asks_item(&Item::Flags) {
            out.text(" ");
            write_flags(summary, here, out);
        }
        if newly_seen && here.enabled.condstore {
            // As with any change of flags: RFC 7162 §3.2.4.
            if !self.asks_item(&Item::Uid) && !here.enabled.uid_only {
                out.text(&format!(" UID {}", summary.uid.0));
            }
            if !self.asks_item(&Item::ModSeq) {
                out.text(&format!(" MODSEQ ({})", mod_seq(summary.mod_seq)));
            }
        }
        out.text(")\r\n");
        Ok(known)
    }
}

/// A message that is being told of.
struct Message<'m> {
    place: usize,
    summary: &'m Summary,
    here: &'m Selected,
    zone: &'m TimeZone,
}

fn write_flags(summary: &Summary, here: &Selected, out: &mut Output) {
    out.text("FLAGS ");
    out.flags(&summary.flags, here.is_recent(summary.uid));
}

/// Marks what is about to be read as seen: RFC 3501 §6.4.5, `BODY[<section>]`.
fn mark_seen(
    found: &VecDeque<Digested>,
    here: &mut Selected,
    store: &dyn Store,
) -> Result<Vec<FlagUpdate>, Refusal> {
    let unseen = |summary: &&Summary| !summary.flags.system.contains(SystemFlags::SEEN);
    let summaries = found.iter().map(|(summary, _)| summary);
    let uids: UidSet = summaries.filter(unseen).map(|summary| summary.uid).collect();
    if uids.is_empty() {
        return Ok(Vec::new());
    }
    let seen = Flags { system: SystemFlags::SEEN, ..Flags::default() };
    let updates = store.change_flags(here.mailbox, &uids, &FlagChange::Add(seen));
    let updates = updates.map_err(Refusal::selected)?;
    here.told(&updates);
    Ok(updates)
}

/// `date-time`, RFC 3501 §9, without its quotes. Its zone has hours and minutes: where clocks differed from
/// UTC by seconds too, as Rome's did before 1893, the nearest minute is taken, and the moment is the same.
fn date_time(at: Timestamp, zone: &TimeZone) -> String {
    let mut shown = at.to_zoned(zone.clone());
    let seconds = shown.offset().seconds();
    if seconds % 60 != 0
        && let Ok(offset) = Offset::from_seconds((seconds + 30).div_euclid(60) * 60)
    {
        shown = at.to_zoned(offset.to_time_zone());
    }
    shown.strftime("%e-%b-%Y %H:%M:%S %z").to_string()
}

fn item(name: &MessageDataItemName<'_>) -> Result<Item, Refusal> {
    use MessageDataItemName as Name;
    Ok(match name {
        Name::Flags => Item::Flags,
        Name::InternalDate => Item::InternalDate,
        Name::Rfc822Size => Item::Size,
        Name::Uid => Item::Uid,
        Name::Envelope => Item::Envelope,
        Name::Body => Item::Structure { extended: false },
        Name::BodyStructure => Item::Structure { extended: true },
        Name::BodyExt { section, partial, .. } => {
            Item::Section(Section::new(section.as_ref(), *partial)?)
        }
        Name::Rfc822 => Item::Section(Section::rfc822()),
        Name::Rfc822Header => Item::Section(Section::rfc822_header()),
        Name::Rfc822Text => Item::Section(Section::rfc822_text()),
        Name::Binary { section, partial, .. } => Item::Binary(Binary::octets(section, *partial)?),
        Name::BinarySize { section } => Item::Binary(Binary::size(section)?),
        Name::ModSeq => Item::ModSeq,
    })
}
