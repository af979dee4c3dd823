//! The message of an APPEND on its way in: from the connection to a spool, piece by piece, or to
//! nowhere when it is refused. RFC 3501 §6.3.11; literals, RFC 3501 §4.3 and RFC 7888.

use store::{MailboxId, Spool};

use super::limits::{DISCARD_MESSAGE_OCTETS_MAX, SPOOL_OCTETS};
use super::{Doing, Session};
use crate::command::append::{Append, Opening, Storing, Writing};
use crate::command::{Command, Work};
use crate::grammar::Tagged;
use crate::job::Flow;
use crate::refusal::Refusal;
use crate::response::Code;
use crate::session::framing::Frame;

/// A message that is being read.
pub(super) struct Literal {
    tag: String,
    /// Octets still to come.
    left: u64,
    sync: bool,
    /// Gathered, and not written yet.
    gathered: Vec<u8>,
    sink: Sink,
    /// The rest of the line is there, and was not empty.
    bad_tail: bool,
}

/// Where it goes.
enum Sink {
    /// A place is being readied.
    Opening,
    /// Here.
    Spool { append: Append, mailbox: MailboxId, spool: Box<dyn Spool> },
    /// A job writes to it.
    Busy { append: Append },
    /// It is being stored.
    Storing,
    /// Nowhere: the command is refused with this once all has been read.
    Refused(Refusal),
}

impl Session {
    /// An APPEND has announced its message: `head` is all that came before it.
    pub(super) fn begin_literal(&mut self, head: Tagged, octets: u32, sync: bool) {
        let Tagged { tag, command } = head;
        let octets = u64::from(octets);
        let append = match command {
            _ if !self.is_authenticated() => Err(Refusal::bad("Sign in first")),
            Ok(Command::Append(append)) => append.admit(octets, self.settings.append_octets_max),
            Ok(_) => Err(Refusal::bad("APPEND needs a message as a literal")),
            Err(refusal) => Err(refusal),
        };
        let literal = |tag, sink| {
            Box::new(Literal {
                tag,
                left: octets,
                sync,
                gathered: Vec::new(),
                sink,
                bad_tail: false,
            })
        };
        match append {
            Ok(append) => {
                let work = Work::Opening(Opening { append, octets });
                self.perform(work, Doing::LiteralJob(literal(tag, Sink::Opening)));
            }
            Err(refusal) if sync => self.end(&tag, Err(refusal)),
            Err(_) if octets > self.settings.append_octets_max + DISCARD_MESSAGE_OCTETS_MAX => {
                self.close("The message is too long: send shorter ones");
            }
            Err(_) if !self.is_authenticated() => self.close("Sign in first"),
            Err(refusal) => self.doing = Doing::Literal(literal(tag, Sink::Refused(refusal))),
        }
    }

    /// Takes what is there of the message.
    pub(super) fn read_literal(&mut self, mut literal: Box<Literal>) -> bool {
        let wanted = usize::try_from(literal.left).unwrap_or(usize::MAX);
        let room = SPOOL_OCTETS - literal.gathered.len();
        let octets = self.pending.take(wanted.min(room));
        literal.left -= octets.len() as u64;
        let came = !octets.is_empty();
        if matches!(literal.sink, Sink::Spool { .. }) {
            if octets.contains(&0) {
                let text = "A message cannot hold NUL octets";
                literal.sink = Sink::Refused(Refusal::no(Code::Cannot, text));
                literal.gathered = Vec::new();
            } else {
                literal.gathered.extend_from_slice(octets);
            }
        }
        let full = literal.gathered.len() == SPOOL_OCTETS;
        let whole = literal.left == 0;
        if (full || whole) && !literal.gathered.is_empty() {
            self.write_gathered(literal);
            return false;
        }
        self.doing = if whole { Doing::Tail(literal) } else { Doing::Literal(literal) };
        whole || came
    }

    fn write_gathered(&mut self, mut literal: Box<Literal>) {
        match std::mem::replace(&mut literal.sink, Sink::Opening) {
            Sink::Spool { append, mailbox, spool } => {
                let octets = std::mem::take(&mut literal.gathered);
                literal.sink = Sink::Busy { append };
                let work = Work::Writing(Writing { mailbox, spool, octets });
                self.perform(work, Doing::LiteralJob(literal));
            }
            other => {
                literal.sink = other;
                self.doing = Doing::Literal(literal);
            }
        }
    }

    /// Reads the rest of the command: an empty line, since only one message can be appended.
    pub(super) fn read_tail(&mut self, mut literal: Box<Literal>) -> bool {
        match self.framer.next(&mut self.pending) {
            None => {
                self.doing = Doing::Tail(literal);
                false
            }
            Some(Frame::Endless) => {
                self.close("The command is too long: send shorter ones");
                false
            }
            Some(Frame::Announced { octets, sync }) => {
                literal.bad_tail = true;
                if sync {
                    self.framer.skip();
                    self.end_literal(literal);
                } else if self.framer.accept_to_refuse(octets) {
                    self.doing = Doing::Tail(literal);
                } else {
                    self.close("The command is too long: send shorter ones");
                    return false;
                }
                true
            }
            Some(Frame::Command) => {
                literal.bad_tail |= self.framer.message() != b"\r\n";
                self.framer.skip();
                self.end_literal(literal);
                true
            }
        }
    }

    /// All has been read: stores the message, or says why not.
    fn end_literal(&mut self, mut literal: Box<Literal>) {
        match std::mem::replace(&mut literal.sink, Sink::Storing) {
            Sink::Refused(refusal) => self.end(&literal.tag, Err(refusal)),
            _ if literal.bad_tail => {
                let refusal = Refusal::bad("Nothing may follow the message: append one at a time");
                self.end(&literal.tag, Err(refusal));
            }
            Sink::Spool { append, mailbox, spool } => {
                let work = Work::Storing(Storing { append, mailbox, spool });
                self.perform(work, Doing::LiteralJob(literal));
            }
            Sink::Opening | Sink::Busy { .. } | Sink::Storing => {
                self.end(&literal.tag, Err(Refusal::bad("APPEND needs a message as a literal")));
            }
        }
    }

    /// Goes on after a job for a message.
    pub(super) fn literal_goes_on(
        &mut self,
        mut literal: Box<Literal>,
        end: Result<Flow, Refusal>,
    ) {
        match (std::mem::replace(&mut literal.sink, Sink::Storing), end) {
            (Sink::Opening, Ok(Flow::Opened { append, mailbox, spool })) => {
                if literal.sync {
                    self.send(b"+ Go on\r\n");
                }
                literal.sink = Sink::Spool { append, mailbox, spool };
                self.doing = Doing::Literal(literal);
            }
            // The client of a synchronizing literal waits, and will not send it.
            (Sink::Opening, Err(refusal)) if literal.sync => self.end(&literal.tag, Err(refusal)),
            (Sink::Busy { append }, Ok(Flow::Written { mailbox, spool })) => {
                literal.sink = Sink::Spool { append, mailbox, spool };
                self.doing = Doing::Literal(literal);
            }
            (Sink::Opening | Sink::Busy { .. }, Err(refusal)) => {
                literal.sink = Sink::Refused(refusal);
                self.doing = Doing::Literal(literal);
            }
            (_, Ok(Flow::Done(done))) => self.end(&literal.tag, Ok((done.code, done.text))),
            (_, Err(refusal)) => self.end(&literal.tag, Err(refusal)),
            (_, Ok(_)) => self.end(&literal.tag, Err(Refusal::nothing_selected())),
        }
    }
}
