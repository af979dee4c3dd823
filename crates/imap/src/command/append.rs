//! APPEND: add a message to a mailbox.
//!
//! RFC 3501 §6.3.11; APPENDUID, RFC 4315 §3; OVERQUOTA, RFC 9208 §4.3.1. How the message comes in
//! is told in `session/append.rs`; here is what is asked of the store before, meanwhile and after.

use imap_types::datetime::DateTime;
use imap_types::extensions::binary::LiteralOrLiteral8;
use imap_types::flag::Flag;
use imap_types::mailbox::Mailbox;
use store::{
    Charge, Flags, MailboxId, MailboxName, NewMessage, Octets, Role, Spool, StoreError, Timestamp,
};

use crate::enabled::Enabled;
use crate::grammar;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Code;

/// `append = "APPEND" SP mailbox [SP flag-list] [SP date-time] SP literal`
pub(crate) struct Append {
    name: MailboxName,
    flags: Flags,
    date: Option<Timestamp>,
}

impl Append {
    pub(crate) fn new(
        mailbox: &Mailbox<'_>,
        flags: &[Flag<'_>],
        date: Option<&DateTime>,
        message: &LiteralOrLiteral8<'_>,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        if matches!(message, LiteralOrLiteral8::Literal8(_)) {
            return Err(Refusal::bad("No such literal: BINARY is not announced"));
        }
        let date = match date {
            None => None,
            Some(date) => Some(
                Timestamp::from_second(date.as_ref().timestamp())
                    .map_err(|_| Refusal::bad("Not a date"))?,
            ),
        };
        Ok(Self { name: grammar::mailbox(mailbox, enabled)?, flags: grammar::flags(flags)?, date })
    }

    /// Whether a message of so many octets may be appended at all.
    pub(crate) fn admit(self, octets: u64, octets_max: u64) -> Result<Self, Refusal> {
        if octets == 0 {
            return Err(Refusal::no(Code::Cannot, "A message cannot be empty"));
        }
        if octets > octets_max {
            return Err(Refusal::too_big("The message is too long to be kept here"));
        }
        Ok(self)
    }
}

/// Before the message comes: is there a mailbox, and room?
pub(crate) struct Opening {
    pub(crate) append: Append,
    pub(crate) octets: u64,
}

impl Opening {
    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = context.store.mailbox(context.account, &self.append.name);
        let mailbox = mailbox.map_err(Refusal::try_create)?.id;
        // PEC-GEN-07: nobody but the PEC engine puts mail there, not even who reads it.
        let account = context.store.account(context.account)?.ok_or(StoreError::NoSuchAccount)?;
        if account.role != Role::None {
            let text = "A service mailbox takes no messages but the provider's own";
            return Err(Refusal::no(Code::NoPerm, text));
        }
        if !context.store.usage(context.account)?.has_room(self.octets, 1, Charge::Quota) {
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

/// All of it came.
pub(crate) struct Storing {
    pub(crate) append: Append,
    pub(crate) mailbox: MailboxId,
    pub(crate) spool: Box<dyn Spool>,
}

impl Storing {
    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let Append { flags, date, .. } = self.append;
        let message = NewMessage {
            octets: Octets::Spooled(self.spool.finish()?),
            flags,
            received: date.unwrap_or(context.at),
            at: context.at,
        };
        let appended = context.store.append(self.mailbox, message).map_err(Refusal::try_create)?;
        let code = Code::AppendUid(appended.uid_validity, appended.uid);
        Ok(Done::text("APPEND completed").code(code).into())
    }
}
