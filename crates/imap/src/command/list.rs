//! LIST, LSUB, and XLIST by which old programs ask for special uses.
//!
//! RFC 3501 §6.3.8, §6.3.9; CHILDREN, RFC 3348 §3; SPECIAL-USE, RFC 6154 §2. Special uses stand in
//! LIST and in LSUB, since some clients only look there. Nothing is ever `\Noselect` in LIST.

mod pattern;

use std::collections::{BTreeMap, BTreeSet};

use imap_types::mailbox::{ListMailbox, Mailbox};
use store::{MailboxName, SpecialUse};

use self::pattern::Pattern;
use crate::grammar;
use crate::job::{Context, Done, Flow};
use crate::mutf7;
use crate::refusal::Refusal;

/// What was asked, and what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    List,
    Lsub,
    Xlist,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::List => "LIST",
            Self::Lsub => "LSUB",
            Self::Xlist => "XLIST",
        }
    }

    const fn completed(self) -> &'static str {
        match self {
            Self::List => "LIST completed",
            Self::Lsub => "LSUB completed",
            Self::Xlist => "XLIST completed",
        }
    }
}

/// `list = "LIST" SP mailbox SP list-mailbox`, `lsub = "LSUB" SP mailbox SP list-mailbox`
pub(crate) struct List {
    verb: Verb,
    /// Reference and pattern together, in UTF-8; `None` for the empty pattern, which asks for the
    /// separator.
    pattern: Option<String>,
}

impl List {
    pub(crate) fn new(
        verb: Verb,
        reference: &Mailbox<'_>,
        pattern: &ListMailbox<'_>,
    ) -> Result<Self, Refusal> {
        let pattern: &[u8] = match pattern {
            ListMailbox::Token(token) => token.as_ref(),
            ListMailbox::String(string) => string.as_ref(),
        };
        if pattern.is_empty() {
            return Ok(Self { verb, pattern: None });
        }
        let whole = [grammar::mailbox_wire(reference), pattern].concat();
        let whole = mutf7::decode(&whole).ok_or_else(Refusal::bad_name)?;
        Ok(Self { verb, pattern: Some(whole) })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let verb = self.verb;
        let Some(pattern) = self.pattern else {
            context.out.untagged(&format!("{} (\\Noselect) \"/\" \"\"", verb.as_str()));
            return Ok(Done::text(verb.completed()).into());
        };
        let Some(pattern) = Pattern::new(&pattern) else {
            // Longer than any name: nothing matches.
            return Ok(Done::text(verb.completed()).into());
        };
        let mut known = BTreeMap::new();
        let mut parents = BTreeSet::new();
        for mailbox in context.store.mailboxes(context.account)? {
            parents.extend(mailbox.name.parents());
            known.insert(mailbox.name, mailbox.special_use);
        }
        let lines = match verb {
            Verb::List | Verb::Xlist => {
                known.keys().filter(|name| pattern.matches(name.as_str())).cloned().collect()
            }
            Verb::Lsub => {
                let subscriptions = context.store.subscriptions(context.account)?;
                subscribed(subscriptions, &pattern, context, verb)
            }
        };
        let mut inbox_first: Vec<MailboxName> = lines;
        inbox_first.sort_by_key(|name| !name.is_inbox());
        for name in inbox_first {
            let mut attributes = Vec::new();
            if verb == Verb::Xlist && name.is_inbox() {
                attributes.push("\\Inbox");
            }
            attributes.push(if parents.contains(&name) {
                "\\HasChildren"
            } else {
                "\\HasNoChildren"
            });
            attributes.extend(known.get(&name).copied().flatten().map(SpecialUse::attribute));
            write(verb, &attributes, &name, context);
        }
        Ok(Done::text(verb.completed()).into())
    }
}

/// The subscribed names that match. With `%` at the end of a pattern a name may be subscribed only
/// below what matches: then that is told, as `\Noselect`, which in LSUB says no more than that it
/// is not itself subscribed (RFC 3501 §6.3.9).
fn subscribed(
    subscriptions: Vec<MailboxName>,
    pattern: &Pattern,
    context: &mut Context<'_>,
    verb: Verb,
) -> Vec<MailboxName> {
    let (matching, others): (BTreeSet<_>, BTreeSet<_>) =
        subscriptions.into_iter().partition(|name| pattern.matches(name.as_str()));
    if pattern.ends_in_percent() {
        let above: BTreeSet<MailboxName> = others.iter().flat_map(MailboxName::parents).collect();
        for name in above.iter().filter(|name| pattern.matches(name.as_str())) {
            if !matching.contains(name) {
                write(verb, &["\\Noselect", "\\HasChildren"], name, context);
            }
        }
    }
    matching.into_iter().collect()
}

fn write(verb: Verb, attributes: &[&str], name: &MailboxName, context: &mut Context<'_>) {
    context.out.text(&format!("* {} ({}) \"/\" ", verb.as_str(), attributes.join(" ")));
    context.out.mailbox(name);
    context.out.text("\r\n");
}
