//! What a session with NOTIFY has told, and what it tells when something is otherwise: RFC 5465 §5.
//!
//! It looks at all mailboxes of its account whenever something happened to one, and tells what differs
//! from the last look. What the client did itself is told too, which RFC 5465 §5 would rather not have, and
//! allows. Not here: the messages of the selected mailbox, which are `selected`'s.

use std::collections::{BTreeMap, BTreeSet};

use store::{Annotations, Mailbox, MailboxId, MailboxName, MailboxStatus, SpecialUse, StoreError};

use crate::command::notify::{Events, Wanted};
use crate::job::Context;
use crate::refusal::Refusal;
use crate::response::{Code, mod_seq};
use crate::selected::Hears;

/// Mailboxes whose messages or annotations are watched at most: each is looked at when something
/// happens to one of them.
const WATCHED_MAX: usize = 500;

/// What was asked for, and how things were at the last look.
pub(crate) struct Watch {
    pub(crate) wanted: Wanted,
    seen: View,
    /// Counts looks that found other mailboxes than before.
    version: u64,
}

/// How things are.
#[derive(Default)]
struct View {
    mailboxes: BTreeMap<MailboxId, Seen>,
    subscriptions: BTreeSet<MailboxName>,
    account: Annotations,
}

struct Seen {
    mailbox: Mailbox,
    events: Events,
    status: Option<MailboxStatus>,
    annotations: Option<Annotations>,
}

/// Why there was no look.
enum Failure {
    TooMany,
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Watch {
    /// Looks for the first time; with `status`, tells how things are.
    pub(crate) fn begin(
        wanted: Wanted,
        status: bool,
        context: &mut Context<'_>,
    ) -> Result<Self, Refusal> {
        let seen = match look(&wanted, context) {
            Ok(seen) => seen,
            Err(Failure::TooMany) => {
                let text = "Too many mailboxes to be watched: name fewer";
                return Err(Refusal::no(Code::NotificationOverflow, text));
            }
            Err(Failure::Store(error)) => return Err(error.into()),
        };
        let selected = context.selected.as_ref().map(|here| here.mailbox);
        let watched = seen.mailboxes.iter().filter(|(id, _)| status && Some(**id) != selected);
        for (_, Seen { mailbox, events, status, .. }) in watched {
            let Some(status) = status else { continue };
            let mut items = vec![
                format!("MESSAGES {}", status.messages),
                format!("UIDNEXT {}", status.uid_next.0),
                format!("UIDVALIDITY {}", status.uid_validity.0),
            ];
            if events.flags {
                items.push(format!("HIGHESTMODSEQ {}", mod_seq(status.mod_seq)));
            }
            write_status(&mailbox.name, &items, context);
        }
        Ok(Self { wanted, seen, version: 1 })
    }

    /// Whether anything is ever told of other mailboxes.
    pub(crate) fn looks(&self) -> bool {
        !self.wanted.groups.is_empty()
    }

    /// The mailboxes that are known; another number when they are others than before.
    pub(crate) fn mailboxes(&self) -> (u64, impl Iterator<Item = MailboxId> + '_) {
        (self.version, self.seen.mailboxes.keys().copied())
    }

    /// What is told of the selected mailbox.
    pub(crate) fn hears(&self) -> Hears {
        match &self.wanted.selected {
            None => Hears { messages: false, flags: false, collects: false, uids: false },
            Some(selected) => Hears {
                messages: true,
                flags: selected.flags,
                collects: selected.fetch.is_some(),
                uids: true,
            },
        }
    }

    /// Looks again, and tells what is otherwise.
    pub(crate) fn look_again(
        mut self: Box<Self>,
        context: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        if self.looks() {
            match look(&self.wanted, context) {
                Ok(now) => {
                    let before = std::mem::replace(&mut self.seen, now);
                    if !before.mailboxes.keys().eq(self.seen.mailboxes.keys()) {
                        self.version += 1;
                    }
                    self.tell(&before, context);
                }
                Err(Failure::TooMany) => {
                    let code = Code::NotificationOverflow;
                    context
                        .out
                        .untagged(&format!("OK [{code}] Too many mailboxes: nothing is told"));
                    self.wanted = Wanted::default();
                    self.seen = View::default();
                    self.version += 1;
                }
                Err(Failure::Store(error)) => {
                    *context.watch = Some(self);
                    return Err(error.into());
                }
            }
        }
        *context.watch = Some(self);
        Ok(())
    }

    fn tell(&self, before: &View, context: &mut Context<'_>) {
        self.tell_names(before, context);
        let selected = context.selected.as_ref().map(|here| here.mailbox);
        for (id, now) in &self.seen.mailboxes {
            let was = before.mailboxes.get(id);
            if let Some(status) = now.status.filter(|_| Some(*id) != selected) {
                let was = was.and_then(|was| was.status);
                let items = changed(now.events, was, status, context.enabled.condstore);
                if !items.is_empty() {
                    write_status(&now.mailbox.name, &items, context);
                }
            }
            if let Some(annotations) = &now.annotations {
                let none = Annotations::new();
                let was = was.and_then(|was| was.annotations.as_ref()).unwrap_or(&none);
                write_entries(Some(&now.mailbox.name), was, annotations, context);
            }
        }
        if self.wanted.of_any().server_metadata {
            write_entries(None, &before.account, &self.seen.account, context);
        }
    }

    /// Names that came, went or changed, and subscriptions.
    fn tell_names(&self, before: &View, context: &mut Context<'_>) {
        let now = &self.seen;
        // Each name that is to be told, and what it was called before.
        let mut told: BTreeMap<MailboxName, Option<MailboxName>> = BTreeMap::new();
        let names = |name: &MailboxName| {
            let subscribed =
                now.subscriptions.contains(name) || before.subscriptions.contains(name);
            self.wanted.of(name, subscribed)
        };
        let mut affected = |name: &MailboxName| {
            // The mailbox itself and the one above it: RFC 5465 §5.4.
            for name in name.parents().last().into_iter().chain([name]) {
                if names(name).names {
                    told.entry(name.clone()).or_default();
                }
            }
        };
        let mut renamed = Vec::new();
        for (id, seen) in &now.mailboxes {
            match before.mailboxes.get(id) {
                None => affected(&seen.mailbox.name),
                Some(was) if was.mailbox.name != seen.mailbox.name => {
                    renamed.push((was.mailbox.name.clone(), seen.mailbox.name.clone()));
                }
                Some(_) => {}
            }
        }
        for (id, was) in &before.mailboxes {
            if !now.mailboxes.contains_key(id) {
                affected(&was.mailbox.name);
            }
        }
        for (from, to) in &renamed {
            // What is below goes along, and is not told.
            let goes_along =
                renamed.iter().any(|(top, new)| from.is_below(top) && from.moved(top, new) == *to);
            if !goes_along && (names(from).names || names(to).names) {
                told.insert(to.clone(), Some(from.clone()));
            }
        }
        for name in now.subscriptions.symmetric_difference(&before.subscriptions) {
            if names(name).subscriptions {
                told.entry(name.clone()).or_default();
            }
        }
        for (name, old_name) in told {
            self.write_list(&name, old_name.as_ref(), context);
        }
    }

    /// `* LIST (...) "/" name`, all attributes as they are: RFC 5465 §5.5.
    fn write_list(
        &self,
        name: &MailboxName,
        old_name: Option<&MailboxName>,
        context: &mut Context<'_>,
    ) {
        let all = || self.seen.mailboxes.values().map(|seen| &seen.mailbox);
        let mailbox = all().find(|mailbox| mailbox.name == *name);
        let mut attributes = Vec::new();
        if mailbox.is_none() {
            attributes.push("\\NonExistent");
        }
        if self.seen.subscriptions.contains(name) {
            attributes.push("\\Subscribed");
        }
        let has_children = all().any(|mailbox| mailbox.name.is_below(name));
        attributes.push(if has_children { "\\HasChildren" } else { "\\HasNoChildren" });
        let special_use = mailbox.and_then(|mailbox| mailbox.special_use);
        attributes.extend(special_use.map(SpecialUse::attribute));
        let out = &mut *context.out;
        out.text(&format!("* LIST ({}) \"/\" ", attributes.join(" ")));
        out.mailbox(name);
        if let Some(old_name) = old_name {
            out.text(" (\"OLDNAME\" (");
            out.mailbox(old_name);
            out.text("))");
        }
        out.text("\r\n");
    }
}

/// How things are now.
fn look(wanted: &Wanted, context: &Context<'_>) -> Result<View, Failure> {
    let (store, account) = (context.store, context.account);
    if wanted.groups.is_empty() {
        return Ok(View::default());
    }
    let subscriptions: BTreeSet<MailboxName> = store.subscriptions(account)?.into_iter().collect();
    let mut watched = 0;
    let mut mailboxes = BTreeMap::new();
    for mailbox in store.mailboxes(account)? {
        let events = wanted.of(&mailbox.name, subscriptions.contains(&mailbox.name));
        let (counts, annotated) = (events.messages || events.flags, events.metadata);
        watched += usize::from(counts || annotated);
        if watched > WATCHED_MAX {
            return Err(Failure::TooMany);
        }
        let id = mailbox.id;
        let status = counts.then(|| store.status(id)).transpose();
        let annotations = annotated.then(|| store.annotations(account, Some(id))).transpose();
        match (status, annotations) {
            (Ok(status), Ok(annotations)) => {
                mailboxes.insert(id, Seen { mailbox, events, status, annotations });
            }
            // Deleted meanwhile.
            (Err(StoreError::NoSuchMailbox), _) | (_, Err(StoreError::NoSuchMailbox)) => {}
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        }
    }
    let account = match wanted.of_any().server_metadata {
        true => store.annotations(account, None)?,
        false => Annotations::new(),
    };
    Ok(View { mailboxes, subscriptions, account })
}

/// The items of STATUS that tell a change: RFC 5465 §5.1 to §5.3.
fn changed(
    events: Events,
    was: Option<MailboxStatus>,
    now: MailboxStatus,
    condstore: bool,
) -> Vec<String> {
    let mut items = Vec::new();
    let other_messages = match was {
        Some(was) => was.messages != now.messages || was.uid_next != now.uid_next,
        None => now.messages > 0,
    };
    let other_flags = was.is_some_and(|was| was.mod_seq != now.mod_seq);
    let other_unseen = was.is_some_and(|was| was.unseen != now.unseen);
    if events.messages && other_messages {
        items.push(format!("UIDNEXT {}", now.uid_next.0));
        items.push(format!("MESSAGES {}", now.messages));
    }
    let tells_flags = events.flags && (other_unseen || condstore && other_flags);
    if tells_flags {
        items.push(format!("UNSEEN {}", now.unseen));
        items.push(format!("UIDVALIDITY {}", now.uid_validity.0));
    }
    if condstore && !items.is_empty() {
        items.push(format!("HIGHESTMODSEQ {}", mod_seq(now.mod_seq)));
    }
    items
}

fn write_status(name: &MailboxName, items: &[String], context: &mut Context<'_>) {
    context.out.text("* STATUS ");
    context.out.mailbox(name);
    context.out.text(&format!(" ({})\r\n", items.join(" ")));
}

/// `* METADATA name entry ...`: the names of what changed, RFC 5464 §4.4.2.
fn write_entries(
    name: Option<&MailboxName>,
    was: &Annotations,
    now: &Annotations,
    context: &mut Context<'_>,
) {
    let entries: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let changed: Vec<&String> =
        entries.into_iter().filter(|entry| was.get(*entry) != now.get(*entry)).collect();
    if changed.is_empty() {
        return;
    }
    context.out.text("* METADATA ");
    match name {
        Some(name) => context.out.mailbox(name),
        None => context.out.text("\"\""),
    }
    for entry in changed {
        context.out.text(" ");
        context.out.entry(entry);
    }
    context.out.text("\r\n");
}
