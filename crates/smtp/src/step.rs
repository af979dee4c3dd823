//! What goes between a session and its shell: settings in, [`Step`]s out, and one [`Question`] at
//! a time with its [`Answer`].

use mail::{ForwardPath, ReversePath};

use crate::command::MailOptions;
use crate::dsn::RecipientDsn;
use crate::reply::Reply;
use crate::sasl::{Mechanism, SaslAnswer, SaslStep};

/// What the listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Port 25: other hosts, also in clear (PEC-PR-29); after AUTH also submission.
    Transport,
    /// Ports 465 and 587: no mail before AUTH, and no AUTH before TLS (PEC-AP-01).
    Submission,
}

/// What one listener's sessions have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our name, in the greeting and in the answers to HELO and EHLO.
    pub host: String,
    /// What the listener is for.
    pub role: Role,
    /// Octets of a message at most: announced as SIZE, and what is larger is refused (PEC-AP-17).
    pub size_max: u64,
    /// Recipients of one transaction at most. RFC 5321 §4.5.3.1.8 wants 100 or more.
    pub recipients_max: usize,
    /// Whether 8BITMIME is announced (doubt D-10 of certified mail: not by default).
    pub eight_bit: bool,
    /// Whether SMTPUTF8 is announced on submission, and 8BITMIME with it as RFC 6531 §3.1 wants (the same
    /// doubt). Not to other hosts: what they bring is enclosed as `message/rfc822`, whose header is ASCII
    /// (RFC 6532 §3.7).
    pub utf8: bool,
    /// In the order in which they are announced. None: AUTH is not offered. Those that a connection
    /// adds, [`Session::offer`](crate::Session::offer).
    pub mechanisms: Vec<Mechanism>,
    /// Whether STARTTLS is offered on a connection in clear.
    pub starttls: bool,
}

/// What the shell does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these octets.
    Send(Vec<u8>),
    /// Find the answer, and give it to [`Session::answer`](crate::Session::answer). Until then no
    /// other question comes.
    Ask(Question),
    /// The next octets of the message, without doubled dots: append them to the spool that
    /// [`Question::Data`] opened.
    Content(Vec<u8>),
    /// Drop the spool: the message will be refused, or the connection ended inside it.
    Discard,
    /// Drop what the SASL exchange left, an identity that it had just proved included.
    SaslAbort,
    /// Send what is to be sent, then do the TLS handshake and call
    /// [`Session::handle_tls_started`](crate::Session::handle_tls_started). Octets that came in clear behind the command, also those in a buffer of the shell's, are
    /// dropped unread (RFC 3207 §6).
    StartTls,
    /// Send what is to be sent and close. No step comes after it, save the one that undoes the
    /// answer to a question that was open when the peer went away.
    Close,
}

/// What only the shell can know. One is open at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The next step of an AUTH exchange. Answer: [`Answer::Sasl`].
    Sasl(SaslStep),
    /// May this transaction begin? Answer: [`Answer::Accept`] or [`Answer::Refuse`].
    Mail {
        /// Is it one that the account may use, or, without AUTH, one that a stranger may?
        path: ReversePath,
        /// What else MAIL said; the size is within [`Settings::size_max`].
        options: MailOptions,
    },
    /// Is this recipient to be taken? Answer: [`Answer::Accept`] or [`Answer::Refuse`].
    Recipient {
        /// As the client gave it, source route aside.
        path: ForwardPath,
        /// What else RCPT said.
        dsn: RecipientDsn,
    },
    /// Open a spool: content follows. Answer: [`Answer::Accept`] or [`Answer::Refuse`].
    Data,
    /// All content is here, and well formed. Answer: [`Answer::Accepted`] once it is durable, or
    /// [`Answer::Refuse`]. Either way the transaction is over.
    EndOfData {
        /// How many octets were handed over as [`Step::Content`].
        octets: u64,
    },
}

/// The shell's answer to the open [`Question`]. One that does not fit it counts as
/// [`LOCAL_ERROR`](crate::reply::LOCAL_ERROR): a mistake of ours accepts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Sasl`].
    Sasl(SaslAnswer),
    /// Yes, to all but [`Question::Sasl`] and [`Question::EndOfData`].
    Accept,
    /// Yes, to [`Question::EndOfData`]: the message is durably ours.
    Accepted {
        /// How to ask about it; told to the client.
        id: String,
    },
    /// No, to all but [`Question::Sasl`]. A 421 also ends the connection.
    Refuse(Reply),
}
