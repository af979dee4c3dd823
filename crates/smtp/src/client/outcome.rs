//! What became of a message for each recipient, and why.

use std::fmt;

use super::answer::{AnswerError, PeerReply};

/// What becomes of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The peer has it: it answered so for the whole message.
    Delivered,
    /// It is to be tried again.
    Deferred,
    /// It is not.
    Failed,
}

/// For one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of him.
    pub fate: Fate,
    /// Who says so.
    pub why: Why,
}

impl Verdict {
    /// 2xx delivers, 5xx fails; all else is tried again (RFC 5321 §4.2.1).
    pub(super) fn of(command: Command, reply: PeerReply) -> Self {
        let fate = match reply.code / 100 {
            2 if command == Command::End => Fate::Delivered,
            5 => Fate::Failed,
            _ => Fate::Deferred,
        };
        Self { fate, why: Why::Replied(command, reply) }
    }

    /// To RCPT, where 552 is what old servers say for 452 (RFC 5321 §4.5.3.1.10).
    pub(super) fn of_recipient(reply: PeerReply) -> Self {
        let fate = match reply.code {
            552 => Fate::Deferred,
            code if code / 100 == 5 => Fate::Failed,
            _ => Fate::Deferred,
        };
        Self { fate, why: Why::Replied(Command::Recipient, reply) }
    }
}

/// Who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The peer, in answer to this.
    Replied(Command, PeerReply),
    /// We, because of this.
    Fault(Fault),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replied(command, reply) => write!(f, "to {command}: {reply}"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

/// What a reply answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The connection.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// STARTTLS.
    StartTls,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA, or a BDAT that is not the last.
    Data,
    /// The end of the content.
    End,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the connection",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Mail => "MAIL",
            Self::Recipient => "RCPT",
            Self::Data => "DATA",
            Self::End => "the end of data",
            Self::Reset => "RSET",
            Self::Quit => "QUIT",
        })
    }
}

/// What was wrong, when it is not the peer that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The connection ended.
    #[error("the connection was lost")]
    Lost,
    /// The connection ended after the whole message was sent and before it was answered: the peer
    /// may have it.
    #[error("the connection was lost after the message was sent and before it was answered")]
    InDoubt,
    /// Nothing came in time.
    #[error("no answer to {0} in time")]
    TimedOut(Command),
    /// What came is no reply.
    #[error("what was answered is not SMTP: {0}")]
    Malformed(AnswerError),
    /// A reply that nothing had asked for.
    #[error("the peer answered what it was not asked")]
    Unexpected,
    /// TLS is required.
    #[error("the peer does not offer STARTTLS, which is required")]
    TlsNotOffered,
    /// The peer has our name.
    #[error("the way leads back to ourselves")]
    Ourselves,
    /// Larger than the peer said it takes.
    #[error("the message is larger than the peer takes")]
    TooLarge,
    /// The content has octets above 127, the peer takes none.
    #[error("the peer does not take 8-bit content")]
    NoEightBit,
    /// RFC 8689.
    #[error("5.7.30 the peer does not offer REQUIRETLS, which the message asks for")]
    NoRequireTls,
    /// The content has a bare CR or LF.
    #[error("the message has a bare CR or LF and cannot be sent")]
    BareLineEnd,
}
