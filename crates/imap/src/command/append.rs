//! APPEND: add messages to a mailbox; REPLACE, UID REPLACE: add one in another's place.
//!
//! RFC 3501 §6.3.11; several messages, RFC 3502 §6.3.11; `literal8`, RFC 3516 §4.4; APPENDUID, RFC 4315
//! §3; REPLACE, RFC 8508 §3; OVERQUOTA, RFC 9208 §4.3.1; UTF8, RFC 9755 §4. How messages come in is told
//! in `session/append.rs`; here is what is asked of the store before, meanwhile and after.

mod copy;

use imap_codec::CommandCodec;
use imap_codec::decode::Decoder as _;
use imap_types::command::CommandBody;
use imap_types::datetime::DateTime;
use imap_types::flag::Flag;
use store::{
    Charge, Flags, MailboxId, MailboxName, NewMessage, Octets, Role, Spool, StoreError, Timestamp,
    Uid,
};

use crate::enabled::Enabled;
use crate::grammar::words::Words;
use crate::grammar::{self, MessageSet};
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;

pub use copy::COPY_KEYWORD;

/// Where messages go: `append = "APPEND" SP mailbox 1*append-message`, `replace = "REPLACE" SP seq-number
/// SP mailbox append-message`
pub(crate) struct Append {
    name: MailboxName,
    replaces: Option<Replaced>,
}

/// The message in whose place another comes.
enum Replaced {
    Named { set: MessageSet, by_uid: bool },
    Found(Uid),
}

/// `append-message = append-opts SP append-data`, but for the octets.
pub(crate) struct Arguments {
    flags: Flags,
    date: Option<Timestamp>,
    pub(crate) form: Form,
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `literal`
    Text,
    /// `literal8`
    Binary,
    /// `"UTF8" SP "(" literal8 ")"`
    Utf8,
}

impl Append {
    /// What stands before the announcement in which `octets` end. `None` when that announces something
    /// else than a message, such as the mailbox's name.
    pub(crate) fn head(
        octets: &[u8],
        enabled: Enabled,
    ) -> Option<Result<(Self, Arguments), Refusal>> {
        let mut words = Words::new(octets);
        let mut verb = words.name()?;
        let by_uid = verb == "UID";
        words.space()?;
        if by_uid {
            verb = words.name()?;
            words.space()?;
        }
        let replaces = match verb.as_str() {
            "APPEND" if !by_uid => None,
            "REPLACE" => {
                let set = words.set()?;
                words.space()?;
                match &set {
                    MessageSet::Ranges(one) if matches!(one[..], [(a, b)] if a == b) => {}
                    _ => return None,
                }
                Some(Replaced::Named { set, by_uid })
            }
            _ => return None,
        };
        let name = words.astring()?;
        let arguments = Arguments::read(&octets[octets.len() - words.left()..], enabled)?;
        if replaces.is_some() && !by_uid && enabled.uid_only {
            return Some(Err(Refusal::uid_required()));
        }
        let name = grammar::name(&name, enabled);
        Some(name.and_then(|name| Ok((Self { name, replaces }, arguments?))))
    }

    /// Whether it is REPLACE, which needs a mailbox that is selected and takes one message.
    pub(crate) fn is_replace(&self) -> bool {
        self.replaces.is_some()
    }
}

impl Arguments {
    /// What stands before the announcement in which `octets` end.
    pub(crate) fn read(octets: &[u8], enabled: Enabled) -> Option<Result<Self, Refusal>> {
        let brace = octets.iter().rposition(|&b| b == b'{')?;
        let (mut before, mut form) = (&octets[..brace], Form::Text);
        if let Some(rest) = before.strip_suffix(b"~") {
            (before, form) = (rest, Form::Binary);
            let (rest, end) = before.split_at(before.len().saturating_sub(b"UTF8 (".len()));
            if end.eq_ignore_ascii_case(b"UTF8 (") {
                (before, form) = (rest, Form::Utf8);
            }
        }
        let before = before.strip_suffix(b" ")?;
        let whole = [b"a APPEND INBOX", before, b" {0+}\r\n\r\n"].concat();
        match CommandCodec::default().decode(&whole) {
            Ok((b"", command)) => match command.body {
                CommandBody::Append { flags, date, .. } => {
                    Some(Self::new(&flags, date.as_ref(), form, enabled))
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn new(
        flags: &[Flag<'_>],
        date: Option<&DateTime>,
        form: Form,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        if form == Form::Utf8 && !enabled.utf8 {
            return Err(Refusal::bad("ENABLE UTF8=ACCEPT first"));
        }
        let date = match date {
            None => None,
            Some(date) => Some(
                Timestamp::from_second(date.as_ref().timestamp())
                    .map_err(|_| Refusal::bad("Not a date"))?,
            ),
        };
        Ok(Self { flags: grammar::flags(flags)?, date, form })
    }
}

/// Whether a message of so many octets may be appended at all.
pub(crate) fn admit(octets: u64, octets_max: u64) -> Result<(), Refusal> {
    if octets == 0 {
        return Err(Refusal::no(Code::Cannot, "A message cannot be empty"));
    }
    if octets > octets_max {
        return Err(Refusal::too_big("The message is too long to be kept here"));
    }
    Ok(())
}

/// Before a message comes: is there a mailbox, and room for it and those before it?
pub(crate) struct Opening {
    pub(crate) append: Append,
    /// Octets of all messages so far, this one among them.
    pub(crate) octets: u64,
    /// How many.
    pub(crate) messages: u64,
}

impl Opening {
    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = context.store.mailbox(context.account, &self.append.name);
        let mailbox = mailbox.map_err(Refusal::try_create)?.id;
        // PEC-GEN-07: nobody but the PEC engine puts mail there, not even who reads it.
        let account = context.store.account(context.account)?.ok_or(StoreError::NoSuchAccount)?;
        if account.role != Role::None {
            let text = "A service mailbox takes no messages but the provider's own";
            return Err(Refusal::no(Code::NoPerm, text));
        }
        let mut usage = context.store.usage(context.account)?;
        if let Some(Replaced::Named { set, by_uid }) = &self.append.replaces {
            let here = context.here_to_write()?;
            let places = here.places(set, *by_uid)?;
            let uids = here.uid_set(&places);
            let from = here.mailbox;
            let gone = context.store.summaries(from, &uids, 1).map_err(Refusal::selected)?;
            let gone = gone.first().ok_or(StoreError::NoSuchMessage)?;
            // It makes room for what comes.
            usage.octets = usage.octets.saturating_sub(gone.octets);
            usage.messages = usage.messages.saturating_sub(1);
            self.append.replaces = Some(Replaced::Found(gone.uid));
        }
        if !usage.has_room(self.octets, self.messages, Charge::Quota) {
            return Err(StoreError::OverQuota(context.account).into());
        }
        let spool = context.store.spool()?;
        Ok(Flow::Opened { append: self.append, mailbox, spool })
    }
}

/// A piece of it came.
pub(crate) struct Writing {
    pub(crate) mailbox: MailboxId,
    pub(crate) spool: Box<dyn Spool>,
    pub(crate) octets: Vec<u8>,
}

impl Writing {
    pub(crate) fn run(self) -> Result<Flow, Refusal> {
        let Self { mailbox, mut spool, octets } = self;
        spool.write(&octets)?;
        Ok(Flow::Written { mailbox, spool })
    }
}

/// All of all of them came.
pub(crate) struct Storing {
    pub(crate) append: Append,
    pub(crate) mailbox: MailboxId,
    pub(crate) messages: Vec<(Arguments, Box<dyn Spool>)>,
}

impl Storing {
    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let at = context.at;
        let message = |(arguments, spool): (Arguments, Box<dyn Spool>)| {
            Ok(NewMessage {
                octets: Octets::Spooled(spool.finish()?),
                flags: arguments.flags,
                received: arguments.date.unwrap_or(at),
                at,
            })
        };
        let messages = self.messages.into_iter().map(message);
        let mut messages = messages.collect::<Result<Vec<_>, StoreError>>()?;
        let Some(Replaced::Found(gone)) = self.append.replaces else {
            let (validity, uids) = match (messages.pop(), messages.is_empty()) {
                (Some(one), true) => {
                    let appended = match copy::of(context, self.mailbox, &one)? {
                        Some(kept) => {
                            context.store.replace(self.mailbox, one, (self.mailbox, kept))
                        }
                        None => context.store.append(self.mailbox, one),
                    };
                    let appended = appended.map_err(Refusal::try_create)?;
                    (appended.uid_validity, vec![appended.uid])
                }
                (last, _) => {
                    messages.extend(last);
                    let appended = context.store.append_all(self.mailbox, messages);
                    appended.map_err(Refusal::try_create)?
                }
            };
            let code = Code::AppendUid(validity, uids);
            return Ok(Done::text("APPEND completed").code(code).into());
        };
        let from = context.here_to_write()?.mailbox;
        let message = messages.pop().ok_or(StoreError::NoSuchMessage)?;
        let replaced = context.store.replace(self.mailbox, message, (from, gone));
        let replaced = replaced.map_err(Refusal::try_create)?;
        // Before the EXPUNGE, so that a client knows what came in its place: RFC 8508 §4.
        let code = Code::AppendUid(replaced.uid_validity, vec![replaced.uid]);
        context.out.untagged(&format!("OK [{code}] Replaced"));
        Ok(Done { expunged: true, ..Done::text("REPLACE completed") }.into())
    }
}
