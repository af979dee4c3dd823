//! NOTIFY: what a client wants to hear of without asking again and again. RFC 5465 §3, §5, §6.
//!
//! Here is what was asked for; how it is told, in `watch.rs`. "Inboxes" are all mailboxes, RFC 5465 §6.3:
//! which of them mail is delivered to is not IMAP's to know.

use store::MailboxName;

use crate::enabled::Enabled;
use crate::grammar;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;
use crate::watch::Watch;

/// Groups of one NOTIFY at most, and events of one group, each as often as it is named.
const GROUPS_MAX: usize = 50;
/// Names of mailboxes in one NOTIFY at most.
const NAMES_MAX: usize = 500;

/// `notify = "NOTIFY" SP ("SET" [SP "STATUS"] SP event-groups / "NONE")`
pub(crate) struct Notify {
    wanted: Wanted,
    status: bool,
}

/// What is to be told. Nothing, as NOTIFY NONE has it, when it is empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) selected: Option<OfSelected>,
    pub(crate) groups: Vec<Group>,
}

/// Of the mailbox that is selected: RFC 5465 §6.1.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfSelected {
    /// What goes is told only during commands that allow it.
    pub(crate) delayed: bool,
    pub(crate) flags: bool,
    /// What is fetched of new messages, as the client wrote it.
    pub(crate) fetch: Option<Vec<u8>>,
}

/// Of other mailboxes.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    filter: Filter,
    events: Events,
}

#[derive(Debug, Clone)]
enum Filter {
    Personal,
    Subscribed,
    Subtree(Vec<MailboxName>),
    Mailboxes(Vec<MailboxName>),
}

/// RFC 5465 §5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Events {
    /// Messages come and go.
    pub(crate) messages: bool,
    pub(crate) flags: bool,
    pub(crate) names: bool,
    pub(crate) subscriptions: bool,
    pub(crate) metadata: bool,
    pub(crate) server_metadata: bool,
}

impl Events {
    fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages || other.messages,
            flags: self.flags || other.flags,
            names: self.names || other.names,
            subscriptions: self.subscriptions || other.subscriptions,
            metadata: self.metadata || other.metadata,
            server_metadata: self.server_metadata || other.server_metadata,
        }
    }
}

impl Wanted {
    /// What is wanted of a mailbox of this name: that of all groups, RFC 5465 §6.
    pub(crate) fn of(&self, name: &MailboxName, subscribed: bool) -> Events {
        let matching = self.groups.iter().filter(|group| match &group.filter {
            Filter::Personal => true,
            Filter::Subscribed => subscribed,
            Filter::Subtree(tops) => tops.iter().any(|top| name == top || name.is_below(top)),
            Filter::Mailboxes(names) => names.contains(name),
        });
        matching.fold(Events::default(), |all, group| all.and(group.events))
    }

    /// What is wanted of any mailbox.
    pub(crate) fn of_any(&self) -> Events {
        self.groups.iter().fold(Events::default(), |all, group| all.and(group.events))
    }
}

/// What one group says.
struct Read {
    new: bool,
    expunge: bool,
    events: Events,
    fetch: Option<Vec<u8>>,
}

impl Notify {
    /// What follows the verb.
    pub(crate) fn read(words: &mut Words<'_>, enabled: Enabled) -> Option<Result<Self, Refusal>> {
        words.space()?;
        let mut wanted = Wanted::default();
        match words.name()?.as_str() {
            "NONE" => {
                words.end()?;
                return Some(Ok(Self { wanted, status: false }));
            }
            "SET" => words.space()?,
            _ => return None,
        }
        let status = words.skip_name("STATUS");
        let (mut selected, mut names) = (false, 0);
        for _ in 0..GROUPS_MAX {
            match group(words, &mut names, enabled)? {
                Err(refusal) => return Some(Err(refusal)),
                Ok((None, delayed, read)) => {
                    if std::mem::replace(&mut selected, true) {
                        let text = "One group is all that is about the selected mailbox";
                        return Some(Err(Refusal::bad(text)));
                    }
                    let Read { new, events, fetch, .. } = read;
                    if events
                        != (Events {
                            messages: events.messages,
                            flags: events.flags,
                            ..Events::default()
                        })
                    {
                        let text = "Of the selected mailbox only its messages can be watched";
                        return Some(Err(Refusal::bad(text)));
                    }
                    let flags = events.flags;
                    wanted.selected = new.then_some(OfSelected { delayed, flags, fetch });
                }
                Ok((Some(_), _, Read { fetch: Some(_), .. })) => {
                    // RFC 5465 §5.2.
                    let text = "Of new messages nothing is fetched but in the selected mailbox";
                    return Some(Err(Refusal::bad(text)));
                }
                Ok((Some(filter), _, read)) => {
                    wanted.groups.push(Group { filter, events: read.events });
                }
            }
            if words.end().is_some() {
                return Some(Ok(Self { wanted, status }));
            }
            words.space()?;
        }
        None
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let watch = Watch::begin(self.wanted, self.status, context)?;
        *context.watch = Some(Box::new(watch));
        // What happened to the selected mailbox until now is told as the new words have it: RFC 5465 §3.1.
        if let (Some(here), Some(watch)) = (context.selected.as_deref_mut(), &*context.watch) {
            here.hears = watch.hears();
        }
        Ok(Done::text("NOTIFY completed").into())
    }
}

type ReadGroup = Result<(Option<Filter>, bool, Read), Refusal>;

/// `event-group = "(" filter-mailboxes SP events ")"`. No filter: the selected mailbox, and whether
/// delayed.
fn group(words: &mut Words<'_>, names: &mut usize, enabled: Enabled) -> Option<ReadGroup> {
    words.octet(b'(')?;
    let word = words.name()?;
    words.space()?;
    let filter = match word.as_str() {
        "SELECTED" | "SELECTED-DELAYED" => None,
        "INBOXES" | "PERSONAL" => Some(Filter::Personal),
        "SUBSCRIBED" => Some(Filter::Subscribed),
        "SUBTREE" | "MAILBOXES" => {
            let mailboxes = match mailboxes(words, names, enabled)? {
                Ok(mailboxes) => mailboxes,
                Err(refusal) => return Some(Err(refusal)),
            };
            words.space()?;
            Some(match word.as_str() {
                "SUBTREE" => Filter::Subtree(mailboxes),
                _ => Filter::Mailboxes(mailboxes),
            })
        }
        _ => return None,
    };
    let read = match events(words, enabled)? {
        Ok(read) => read,
        Err(refusal) => return Some(Err(refusal)),
    };
    words.octet(b')')?;
    Some(Ok((filter, word == "SELECTED-DELAYED", read)))
}

/// `one-or-more-mailbox`
fn mailboxes(
    words: &mut Words<'_>,
    names: &mut usize,
    enabled: Enabled,
) -> Option<Result<Vec<MailboxName>, Refusal>> {
    let in_list = words.octet(b'(').is_some();
    let mut mailboxes = Vec::new();
    loop {
        *names += 1;
        if *names > NAMES_MAX {
            return None;
        }
        match grammar::name(&words.astring()?, enabled) {
            Ok(name) => mailboxes.push(name),
            Err(refusal) => return Some(Err(refusal)),
        }
        if !in_list || words.octet(b')').is_some() {
            return Some(Ok(mailboxes));
        }
        words.space()?;
    }
}

/// `events = ("(" event *(SP event) ")") / "NONE"`
fn events(words: &mut Words<'_>, enabled: Enabled) -> Option<Result<Read, Refusal>> {
    let events = Events::default();
    let mut read = Read { new: false, expunge: false, events, fetch: None };
    if words.octet(b'(').is_none() {
        return (words.name()? == "NONE").then_some(Ok(read));
    }
    for _ in 0..GROUPS_MAX {
        match words.name()?.as_str() {
            "MESSAGENEW" => {
                read.new = true;
                let mut ahead = words.clone();
                if ahead.space().is_some() && ahead.next_is(b'(') {
                    let items = ahead.item_octets()?;
                    if !grammar::can_be_fetched(items, enabled) {
                        return None;
                    }
                    read.fetch = Some(items.to_vec());
                    *words = ahead;
                }
            }
            "MESSAGEEXPUNGE" => read.expunge = true,
            "FLAGCHANGE" => read.events.flags = true,
            "MAILBOXNAME" => read.events.names = true,
            "SUBSCRIPTIONCHANGE" => read.events.subscriptions = true,
            "MAILBOXMETADATACHANGE" => read.events.metadata = true,
            "SERVERMETADATACHANGE" => read.events.server_metadata = true,
            _ => {
                let text = "No such event can be watched here";
                return Some(Err(Refusal::no(Code::BadEvent, text)));
            }
        }
        if words.octet(b')').is_some() {
            if read.new != read.expunge || read.events.flags && !read.new {
                // RFC 5465 §5.
                let text = "MessageNew goes with MessageExpunge, and FlagChange with both";
                return Some(Err(Refusal::bad(text)));
            }
            read.events.messages = read.new;
            return Some(Ok(read));
        }
        words.space()?;
    }
    None
}
