//! The commands: a file for each, or for each few that are one idea. Here is which is which, and
//! who carries it out.

pub(crate) mod append;
pub(crate) mod capability;
mod copy;
mod expunge;
pub(crate) mod fetch;
mod list;
mod mailbox;
mod metadata;
pub(crate) mod notify;
mod quota;
mod search;
mod select;
mod sort;
mod status;
mod store;
mod thread;

use imap_types::command::CommandBody;
use imap_types::core::{IString, NString};
use imap_types::sequence::SequenceSet;

use self::append::{Opening, Storing, Writing};
use self::copy::Copy;
use self::expunge::Expunge;
use self::fetch::Fetch;
use self::list::List;
use self::mailbox::{Create, Delete, Rename, Subscribe};
use self::metadata::{GetMetadata, SetMetadata};
use self::notify::Notify;
use self::quota::GetQuota;
use self::search::Search;
use self::select::{Changed, Select};
use self::sort::Sort;
use self::status::Status;
use self::store::Store;
use self::thread::Thread;
use crate::enabled::Enabled;
use crate::grammar;
use crate::grammar::words::Words;
use crate::grammar::{Cut, MessageSet};
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::sasl::Secret;
use crate::selected::Tell;

/// A command, read.
pub(crate) enum Command {
    Capability,
    Noop,
    Logout,
    /// With `background`, one for work that can wait: TN3189.
    Id {
        background: bool,
    },
    Compress,
    Unauthenticate,
    StartTls,
    Authenticate {
        mechanism: String,
        initial: Option<Secret>,
    },
    Login {
        user: Secret,
        password: Secret,
    },
    Enable(Enabled),
    Namespace,
    Idle,
    /// An APPEND without a message.
    Append,
    /// All that needs the store.
    Work(Needs, Work),
}

/// In which state a command is valid, RFC 3501 §3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Authenticated,
    Selected,
}

/// What a job does.
pub(crate) enum Work {
    /// NOOP, and in IDLE: tells what happened.
    Sync,
    /// The same by another name: RFC 3501 §6.4.1.
    Check,
    Notify(Notify),
    /// Something happened that NOTIFY asked to be told; whether the client idles.
    Notified {
        idle: bool,
    },
    Select(Select),
    /// What changed since, after a SELECT.
    Changed(Changed),
    /// CLOSE, UNSELECT
    Close {
        expunge: bool,
    },
    Create(Create),
    Delete(Delete),
    Rename(Rename),
    Subscribe(Subscribe),
    List(List),
    Status(Status),
    GetQuota(GetQuota),
    GetMetadata(GetMetadata),
    SetMetadata(SetMetadata),
    Opening(Opening),
    Writing(Writing),
    Storing(Storing),
    Expunge(Expunge),
    Copy(Box<Copy>),
    Store(Box<Store>),
    Fetch(Box<Fetch>),
    Search(Box<Search>),
    Sort(Box<Sort>),
    Thread(Box<Thread>),
}

impl Work {
    /// For a log: never an argument of a client's.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Sync | Self::Check => "sync",
            Self::Notify(_) | Self::Notified { .. } => "notify",
            Self::Select(_) | Self::Changed(_) => "select",
            Self::Close { .. } => "close",
            Self::Create(_) => "create",
            Self::Delete(_) => "delete",
            Self::Rename(_) => "rename",
            Self::Subscribe(_) => "subscribe",
            Self::List(_) => "list",
            Self::Status(_) => "status",
            Self::GetQuota(_) => "quota",
            Self::GetMetadata(_) | Self::SetMetadata(_) => "metadata",
            Self::Opening(_) | Self::Writing(_) | Self::Storing(_) => "append",
            Self::Expunge(_) => "expunge",
            Self::Copy(_) => "copy",
            Self::Store(_) => "store",
            Self::Fetch(_) => "fetch",
            Self::Search(_) => "search",
            Self::Sort(_) => "sort",
            Self::Thread(_) => "thread",
        }
    }

    /// Whether it shows that the client wants mod-sequences: RFC 7162 §3.1, "CONDSTORE enabling
    /// commands".
    pub(crate) fn enables_condstore(&self) -> bool {
        match self {
            Self::Select(select) => select.condstore,
            Self::Status(status) => status.asks_mod_seq(),
            Self::List(list) => list.asks_mod_seq(),
            Self::Store(store) => store.is_conditional(),
            Self::Fetch(fetch) => fetch.asks_mod_seq(),
            Self::Search(search) => search.asks_mod_seq(),
            Self::Sort(sort) => sort.asks_mod_seq(),
            Self::Thread(thread) => thread.asks_mod_seq(),
            _ => false,
        }
    }

    /// Whether it can change what NOTIFY tells of an account beside messages and flags.
    pub(crate) fn touches_account(&self) -> bool {
        matches!(
            self,
            Self::Create(_)
                | Self::Delete(_)
                | Self::Rename(_)
                | Self::Subscribe(_)
                | Self::SetMetadata(_)
        )
    }

    /// Octets of memory that the command takes from one job to the next, where that is much.
    pub(crate) fn keeps_octets(&self) -> u64 {
        match self {
            Self::Sort(sort) => sort.keeps_octets(),
            Self::Thread(thread) => thread.keeps_octets(),
            _ => 0,
        }
    }

    /// How many messages are done, and of how many; `None` where a response may be half written.
    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        match self {
            Self::Store(store) => store.progress(),
            Self::Fetch(fetch) => fetch.progress(),
            Self::Copy(copy) => copy.progress(),
            Self::Search(search) => search.progress(),
            Self::Sort(sort) => sort.progress(),
            Self::Thread(thread) => thread.progress(),
            _ => None,
        }
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        match self {
            // That nothing happened is only said by who would know.
            Self::Sync => {
                context.store.is_reached()?;
                Ok(Done::text("NOOP completed").into())
            }
            Self::Check => {
                context.store.is_reached()?;
                Ok(Done::text("CHECK completed").into())
            }
            Self::Notify(notify) => notify.run(context),
            Self::Notified { idle } => notified(idle, context),
            Self::Select(select) => select.run(context),
            Self::Changed(changed) => changed.run(context),
            Self::Close { expunge } => select::close(expunge, context),
            Self::Create(create) => create.run(context),
            Self::Delete(delete) => delete.run(context),
            Self::Rename(rename) => rename.run(context),
            Self::Subscribe(subscribe) => subscribe.run(context),
            Self::List(list) => list.run(context),
            Self::Status(status) => status.run(context),
            Self::GetQuota(quota) => quota.run(context),
            Self::GetMetadata(metadata) => metadata.run(context),
            Self::SetMetadata(metadata) => metadata.run(context),
            Self::Opening(opening) => opening.run(context),
            Self::Writing(writing) => writing.run(),
            Self::Storing(storing) => storing.run(context),
            Self::Expunge(expunge) => expunge.run(context),
            Self::Copy(copy) => copy.run(context),
            Self::Store(store) => store.run(context),
            Self::Fetch(fetch) => fetch.run(context),
            Self::Search(search) => search.run(context),
            Self::Sort(sort) => sort.run(context),
            Self::Thread(thread) => thread.run(context),
        }
    }
}

/// Tells what happened, and fetches what is wanted of new messages: RFC 5465 §5.2.
fn notified(idle: bool, context: &mut Context<'_>) -> Result<Flow, Refusal> {
    let Some(watch) = context.watch.take() else {
        return Ok(Done::text("NOOP completed").into());
    };
    watch.look_again(context)?;
    let selected = context.watch.as_ref().and_then(|watch| watch.wanted.selected.clone());
    let (Some(here), Some(selected)) = (context.selected.as_deref_mut(), selected) else {
        return Ok(Done::text("NOOP completed").tell(Tell::Nothing).into());
    };
    let tell = if selected.delayed && !idle { Tell::NoExpunges } else { Tell::All };
    here.sync(context.store, tell, true, context.out).map_err(Refusal::selected)?;
    let new = here.take_arrived();
    if let (false, Some(items)) = (new.is_empty(), &selected.fetch)
        && let Some(fetch) = grammar::fetch(items, context.enabled)
    {
        return Ok(Flow::More(Work::Fetch(Box::new(fetch.unasked(&new)))));
    }
    Ok(Done::text("NOOP completed").tell(Tell::Nothing).into())
}

/// A command that imap-codec does not speak, or not all of; `None` when it is not one of these.
pub(crate) fn extended(
    tag: &str,
    octets: &[u8],
    enabled: Enabled,
) -> Option<Result<Command, Refusal>> {
    let mut words = Words::new(octets);
    let verb = words.name()?;
    let by_uid = verb == "UID";
    let verb = if by_uid { words.space().and_then(|()| words.name())? } else { verb };
    let command = match verb.as_str() {
        "STATUS" if !by_uid => Status::read(&mut words, enabled)
            .unwrap_or_else(|| Err(Refusal::malformed()))
            .map(|status| Command::Work(Needs::Authenticated, Work::Status(status))),
        "NOTIFY" if !by_uid => Notify::read(&mut words, enabled)
            .unwrap_or_else(|| Err(Refusal::malformed()))
            .map(|notify| Command::Work(Needs::Authenticated, Work::Notify(notify))),
        "CREATE" if !by_uid => Create::read(&mut words, enabled)
            .unwrap_or_else(|| Err(Refusal::malformed()))
            .map(|create| Command::Work(Needs::Authenticated, Work::Create(create))),
        "LIST" | "LSUB" | "XLIST" if !by_uid => {
            let verb = match verb.as_str() {
                "LIST" => list::Verb::List,
                "LSUB" => list::Verb::Lsub,
                // LIST by an older name: answered, not advertised.
                _ => list::Verb::Xlist,
            };
            List::read(verb, &mut words, enabled)
                .map(|list| Command::Work(Needs::Authenticated, Work::List(list)))
        }
        // RFC 8437 §6.
        "UNAUTHENTICATE" if !by_uid && words.end().is_some() => Ok(Command::Unauthenticate),
        "SEARCH" => Search::read(tag, &mut words, by_uid, enabled)
            .map(|search| Command::Work(Needs::Selected, Work::Search(Box::new(search)))),
        "SORT" => Sort::read(tag, &mut words, by_uid, enabled)
            .map(|sort| Command::Work(Needs::Selected, Work::Sort(Box::new(sort)))),
        "THREAD" => Thread::read(&mut words, by_uid, enabled)
            .map(|thread| Command::Work(Needs::Selected, Work::Thread(Box::new(thread)))),
        _ => return None,
    };
    Some(command)
}

/// What a parsed command is to us, with what was cut out of it before.
pub(crate) fn interpret(
    body: CommandBody<'_>,
    cut: Cut,
    enabled: Enabled,
) -> Result<Command, Refusal> {
    let Cut { saved, fetch } = cut;
    use Needs::{Authenticated, Selected};
    let messages = |set: &SequenceSet| {
        if saved { Ok(MessageSet::Saved) } else { MessageSet::new(set) }
    };
    let secret = |octets: &[u8]| Secret(octets.to_vec());
    Ok(match body {
        CommandBody::Capability => Command::Capability,
        CommandBody::Noop => Command::Noop,
        CommandBody::Logout => Command::Logout,
        CommandBody::Id { parameters } => {
            let parameters = parameters.unwrap_or_default();
            let value = |name: &str| {
                let named = |(known, _): &&(IString<'_>, NString<'_>)| {
                    known.as_ref().eq_ignore_ascii_case(name.as_bytes())
                };
                let found = parameters.iter().find(named)?.1.0.as_ref()?;
                Some(String::from_utf8_lossy(found.as_ref()).into_owned())
            };
            let is_apple = value("name").is_some_and(|name| name.starts_with("com.apple."));
            let event = value("event").unwrap_or_default();
            let can_wait = ["indexer", "back-fill"].iter().any(|word| event.contains(word));
            Command::Id { background: is_apple && can_wait }
        }
        CommandBody::Compress { .. } => Command::Compress,
        CommandBody::StartTLS => Command::StartTls,
        CommandBody::Authenticate { mechanism, initial_response } => Command::Authenticate {
            mechanism: mechanism.as_ref().to_owned(),
            initial: initial_response.map(|response| secret(response.declassify())),
        },
        CommandBody::Login { username, password } => Command::Login {
            user: secret(username.as_ref()),
            password: secret(password.declassify().as_ref()),
        },
        CommandBody::Enable { capabilities } => {
            let names: Vec<String> =
                capabilities.as_ref().iter().map(ToString::to_string).collect();
            Command::Enable(Enabled::of(names.iter().map(String::as_str)))
        }
        CommandBody::Namespace => Command::Namespace,
        CommandBody::Idle => Command::Idle,
        CommandBody::Append { .. } => Command::Append,
        CommandBody::Check => Command::Work(Selected, Work::Check),
        CommandBody::Select { mailbox, parameters } => Command::Work(
            Authenticated,
            Work::Select(Select::new(&mailbox, &parameters, false, enabled)?),
        ),
        CommandBody::Examine { mailbox, parameters } => Command::Work(
            Authenticated,
            Work::Select(Select::new(&mailbox, &parameters, true, enabled)?),
        ),
        CommandBody::Close => Command::Work(Selected, Work::Close { expunge: true }),
        CommandBody::Unselect => Command::Work(Selected, Work::Close { expunge: false }),
        CommandBody::Delete { mailbox } => {
            let name = grammar::mailbox(&mailbox, enabled)?;
            Command::Work(Authenticated, Work::Delete(Delete { name }))
        }
        CommandBody::Rename { from, to } => {
            let from = grammar::mailbox(&from, enabled)?;
            let (to, _) = grammar::new_name(grammar::mailbox_wire(&to), enabled)?;
            Command::Work(Authenticated, Work::Rename(Rename { from, to }))
        }
        CommandBody::Subscribe { mailbox } => {
            let name = grammar::mailbox(&mailbox, enabled)?;
            Command::Work(Authenticated, Work::Subscribe(Subscribe { name, subscribed: true }))
        }
        CommandBody::Unsubscribe { mailbox } => {
            let name = grammar::mailbox(&mailbox, enabled)?;
            Command::Work(Authenticated, Work::Subscribe(Subscribe { name, subscribed: false }))
        }
        CommandBody::GetQuota { root } => {
            Command::Work(Authenticated, Work::GetQuota(GetQuota::of_root(root.as_ref())?))
        }
        CommandBody::GetQuotaRoot { mailbox } => {
            Command::Work(Authenticated, Work::GetQuota(GetQuota::of_mailbox(&mailbox, enabled)?))
        }
        CommandBody::GetMetadata { options, mailbox, entries } => {
            let get = GetMetadata::new(&mailbox, &options, entries.as_ref(), enabled)?;
            Command::Work(Authenticated, Work::GetMetadata(get))
        }
        CommandBody::SetMetadata { mailbox, entry_values } => {
            let set = SetMetadata::new(&mailbox, entry_values.as_ref(), enabled)?;
            Command::Work(Authenticated, Work::SetMetadata(set))
        }
        CommandBody::SetQuota { .. } => return Err(quota::not_to_be_set()),
        CommandBody::Expunge => Command::Work(Selected, Work::Expunge(Expunge::all())),
        CommandBody::ExpungeUid { sequence_set } => {
            Command::Work(Selected, Work::Expunge(Expunge::of(messages(&sequence_set)?)))
        }
        CommandBody::Copy { sequence_set, mailbox, uid } => Command::Work(
            Selected,
            Work::Copy(Box::new(Copy::new(
                messages(&sequence_set)?,
                &mailbox,
                uid,
                false,
                enabled,
            )?)),
        ),
        CommandBody::Move { sequence_set, mailbox, uid } => Command::Work(
            Selected,
            Work::Copy(Box::new(Copy::new(
                messages(&sequence_set)?,
                &mailbox,
                uid,
                true,
                enabled,
            )?)),
        ),
        CommandBody::Store { sequence_set, kind, response, flags, uid, modifiers } => {
            let store = Store::new(messages(&sequence_set)?, kind, response, &flags, uid, enabled)?;
            let store = store.with(&modifiers);
            Command::Work(Selected, Work::Store(Box::new(store)))
        }
        CommandBody::Fetch { sequence_set, macro_or_item_names, uid, .. } => {
            let messages = messages(&sequence_set)?;
            let fetch = Fetch::new(messages, macro_or_item_names, uid, &fetch, enabled)?;
            Command::Work(Selected, Work::Fetch(Box::new(fetch)))
        }
        _ => return Err(Refusal::bad("No such command: see CAPABILITY")),
    })
}
