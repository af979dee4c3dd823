//! SELECT, EXAMINE, CLOSE, UNSELECT: open a mailbox, and leave it.
//!
//! RFC 3501 §6.3.1, §6.3.2, §6.4.2; what IMAP4rev2 has otherwise, RFC 9051 §6.3.2; UNSELECT, RFC 3691;
//! HIGHESTMODSEQ and QRESYNC, RFC 7162 §3.1.2.1, §3.2.5; MAILBOXID, RFC 8474 §4.2.

use imap_types::command::SelectParameter;
use imap_types::mailbox::Mailbox;
use store::{FlagUpdate, MailboxName};

use super::Work;
use super::expunge::EXPUNGED_AT_ONCE;
use crate::enabled::Enabled;
use crate::grammar::{self, MessageSet};
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::{Code, mailbox_id, since};
use crate::selected::{Selected, Tell};

/// Changed messages that one job tells of at most.
const BATCH_MESSAGES: usize = 2_000;

/// `select = "SELECT" SP mailbox`, `examine = "EXAMINE" SP mailbox`
pub(crate) struct Select {
    name: MailboxName,
    read_only: bool,
    /// With the parameter CONDSTORE (RFC 7162 §3.1.8), or with QRESYNC.
    pub(crate) condstore: bool,
    known: Option<Known>,
}

/// What a client knows of the mailbox: RFC 7162 §3.2.5.
struct Known {
    uid_validity: u32,
    mod_seq: u64,
    /// `None`: all there ever were.
    uids: Option<MessageSet>,
}

impl Select {
    pub(crate) fn new(
        mailbox: &Mailbox<'_>,
        parameters: &[SelectParameter],
        read_only: bool,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        let mut known = None;
        for parameter in parameters {
            let SelectParameter::QResync {
                uid_validity,
                mod_sequence_value,
                known_uids,
                seq_match_data,
            } = parameter
            else {
                continue;
            };
            if !enabled.qresync {
                return Err(Refusal::bad("ENABLE QRESYNC first"));
            }
            if seq_match_data.is_some() && enabled.uid_only {
                return Err(Refusal::uid_required());
            }
            // What is expunged is remembered as long as the mailbox, so that the pairs of numbers and
            // UIDs tell nothing that the mod-sequence does not: RFC 7162 §3.2.5.2. They must be sets.
            if let Some((numbers, uids)) = seq_match_data {
                known_set(numbers)?;
                known_set(uids)?;
            }
            let uids = known_uids.as_ref().map(known_set).transpose()?;
            let (uid_validity, mod_seq) = (uid_validity.get(), mod_sequence_value.get());
            known = Some(Known { uid_validity, mod_seq, uids });
        }
        let condstore = !parameters.is_empty();
        Ok(Self { name: grammar::mailbox(mailbox, enabled)?, read_only, condstore, known })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        // Also when it fails, nothing is selected any more: RFC 3501 §6.3.1.
        if context.selected.take().is_some() {
            // What follows is about another mailbox: RFC 7162 §3.2.11, RFC 9051 §7.1.
            context.out.untagged("OK [CLOSED] The mailbox before is closed");
        }
        let mailbox = context.store.mailbox(context.account, &self.name)?;
        let opened = context.store.open(mailbox.id, !self.read_only)?;
        let status = opened.status;
        let first_unseen = opened.first_unseen;
        let entered = context.settings.views.enter(mailbox.id, opened);
        let mut selected = Selected::new(mailbox.id, entered, self.read_only);
        selected.enabled = context.enabled;
        let out = &mut *context.out;
        selected.write_flags(out);
        selected.write_exists(out);
        if context.enabled.rev2 {
            out.text("* LIST () \"/\" ");
            out.mailbox(&mailbox.name);
            out.text("\r\n");
        } else if let Some(place) = first_unseen.and_then(|uid| selected.place(uid))
            && !context.enabled.uid_only
        {
            out.untagged(&format!("OK [UNSEEN {}] The first not seen", place + 1));
        }
        out.untagged(&format!("OK [UIDVALIDITY {}] UIDs are valid", status.uid_validity.0));
        out.untagged(&format!("OK [UIDNEXT {}] The next UID", status.uid_next.0));
        out.untagged(&selected.highest_mod_seq());
        out.untagged(&format!("OK [MAILBOXID ({})] Its name for ever", mailbox_id(mailbox.id)));
        *context.selected = Some(Box::new(selected));
        let done = if self.read_only {
            Done::text("EXAMINE completed").code(Code::ReadOnly)
        } else {
            Done::text("SELECT completed").code(Code::ReadWrite)
        };
        let done = done.tell(Tell::Nothing);
        match self.known {
            Some(known) if known.uid_validity == status.uid_validity.0.get() => {
                tell_changes(&known, done, context)
            }
            _ => Ok(done.into()),
        }
    }
}

/// A set in which no `*` stands: RFC 7162 §7, `known-uids`.
fn known_set(set: &imap_types::sequence::SequenceSet) -> Result<MessageSet, Refusal> {
    let set = MessageSet::new(set)?;
    match &set {
        MessageSet::Ranges(ranges) if ranges.iter().any(|(a, b)| a.is_none() || b.is_none()) => {
            Err(Refusal::malformed())
        }
        _ => Ok(set),
    }
}

/// What happened since the client last saw the mailbox: first what went, then what changed.
fn tell_changes(known: &Known, done: Done, context: &mut Context<'_>) -> Result<Flow, Refusal> {
    let store = context.store;
    let here = context.here()?;
    let changes = store.changes(here.mailbox, since(known.mod_seq)).map_err(Refusal::selected)?;
    let vanished = here.absent(&changes.expunged, known.uids.as_ref());
    let places = known.uids.as_ref().map(|uids| here.places(uids, true)).transpose()?;
    let is_known = |update: &FlagUpdate| match (&places, here.place(update.uid)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(places), Some(place)) => places.contains(place),
    };
    let changed: Vec<FlagUpdate> = changes.updated.into_iter().filter(is_known).collect();
    context.out.vanished(true, &vanished);
    Changed { changed: changed.into(), done: Box::new(done) }.run(context)
}

/// Messages that changed since, still to be told of.
pub(crate) struct Changed {
    changed: std::collections::VecDeque<FlagUpdate>,
    done: Box<Done>,
}

impl Changed {
    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let (Some(here), out) = (context.selected.as_deref_mut(), &mut *context.out) else {
            return Err(Refusal::nothing_selected());
        };
        let batch: Vec<FlagUpdate> =
            self.changed.drain(..self.changed.len().min(BATCH_MESSAGES)).collect();
        here.announce_keywords(batch.iter().map(|update| &update.flags), out);
        for update in &batch {
            if let Some(place) = here.place(update.uid) {
                here.write_flag_update(place, update, true, out);
            }
        }
        if self.changed.is_empty() {
            Ok((*self.done).into())
        } else {
            Ok(Flow::More(Work::Changed(self)))
        }
    }
}

/// Leaves the mailbox; CLOSE first removes what is marked `\Deleted`, and says nothing of it.
pub(crate) fn close(expunge: bool, context: &mut Context<'_>) -> Result<Flow, Refusal> {
    let here = context.here()?;
    let (mailbox, read_only) = (here.mailbox, here.read_only);
    if expunge && !read_only {
        let gone = context.store.expunge_some(mailbox, None, EXPUNGED_AT_ONCE);
        if gone.map_err(Refusal::selected)?.len() == EXPUNGED_AT_ONCE {
            return Ok(Flow::More(Work::Close { expunge }));
        }
    }
    *context.selected = None;
    let text = if expunge { "CLOSE completed" } else { "UNSELECT completed" };
    Ok(Done::text(text).into())
}
