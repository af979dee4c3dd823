//! The messages of an APPEND on their way in: from the connection to spools, piece by piece, or to
//! nowhere when they are refused. RFC 3501 §6.3.11, RFC 3502; literals, RFC 3501 §4.3 and RFC 7888.

use store::{MailboxId, Spool};

use super::limits::{
    APPEND_WEIGHT_LEAST, APPEND_WEIGHT_MAX, APPEND_WEIGHT_MOST, DISCARD_MESSAGE_OCTETS_MAX,
    SPOOL_OCTETS,
};
use super::{Doing, Place, Session};
use crate::command::Work;
use crate::command::append::{Append, Arguments, Form, Opening, Storing, Writing, admit};
use crate::grammar::AppendHead;
use crate::job::Flow;
use crate::refusal::Refusal;
use crate::response::Code;
use crate::session::framing::Frame;

/// A message that is being read, and those before it.
pub(super) struct Literal {
    tag: String,
    /// Where they go, but while a job has it.
    append: Option<Append>,
    /// It is REPLACE, which takes one.
    is_replace: bool,
    /// Where they are to be stored, once a place was readied.
    mailbox: Option<MailboxId>,
    /// Those that came.
    whole: Vec<(Arguments, Box<dyn Spool>)>,
    /// What was said of this one; none when it is refused for it.
    arguments: Option<Arguments>,
    form: Form,
    /// Octets of all so far.
    octets: u64,
    messages: u64,
    /// What all of them take until they are stored.
    weight: u64,
    /// Octets of those past what one command takes, which are dropped.
    past: u64,
    /// Octets of this one still to come.
    left: u64,
    sync: bool,
    /// Gathered, and not written yet.
    gathered: Vec<u8>,
    sink: Sink,
    /// The rest of the line is there, and was not empty.
    bad_tail: bool,
}

impl Literal {
    /// What follows a message, after the parenthesis that ends one in UTF8.
    fn tail<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        if self.form == Form::Utf8 { text.strip_prefix(b")") } else { Some(text) }
    }

    /// The message has come: it goes to those that did.
    fn next(&mut self) {
        match std::mem::replace(&mut self.sink, Sink::Storing) {
            Sink::Spool { spool, .. } => {
                self.whole.extend(self.arguments.take().map(|arguments| (arguments, spool)));
            }
            other => self.sink = other,
        }
    }
}

/// Where it goes.
enum Sink {
    /// A place is being readied.
    Opening,
    /// Here.
    Spool { mailbox: MailboxId, spool: Box<dyn Spool> },
    /// A job writes to it.
    Busy,
    /// They are being stored.
    Storing,
    /// Nowhere: the command is refused with this once all has been read.
    Refused(Refusal),
}

impl Session {
    /// An APPEND has announced its first message: `head` is all that came before it.
    pub(super) fn begin_literal(&mut self, head: AppendHead, octets: u32, sync: bool) {
        let AppendHead { tag, append } = head;
        let append = match append {
            _ if !self.is_authenticated() => Err(Refusal::bad("Sign in first")),
            Ok((append, _))
                if append.is_replace() && !matches!(self.place, Place::Selected(..)) =>
            {
                Err(Refusal::nothing_selected())
            }
            append => append,
        };
        let (append, arguments) = match append {
            Ok((append, arguments)) => (Some(append), Ok(arguments)),
            Err(refusal) => (None, Err(refusal)),
        };
        let literal = Box::new(Literal {
            tag,
            is_replace: append.as_ref().is_some_and(Append::is_replace),
            append,
            mailbox: None,
            whole: Vec::new(),
            arguments: None,
            form: Form::Text,
            octets: 0,
            messages: 0,
            weight: 0,
            past: 0,
            left: 0,
            sync,
            gathered: Vec::new(),
            sink: Sink::Opening,
            bad_tail: false,
        });
        self.begin_message(literal, arguments, octets, sync);
    }

    /// A message is announced.
    fn begin_message(
        &mut self,
        mut literal: Box<Literal>,
        arguments: Result<Arguments, Refusal>,
        octets: u32,
        sync: bool,
    ) {
        let octets = u64::from(octets);
        literal.messages += 1;
        literal.octets += octets;
        literal.weight += octets.clamp(APPEND_WEIGHT_LEAST, APPEND_WEIGHT_MOST);
        literal.left = octets;
        literal.sync = sync;
        if literal.messages > self.settings.saved_max() || literal.weight > APPEND_WEIGHT_MAX {
            literal.past += octets.max(APPEND_WEIGHT_LEAST);
        }
        let discard_max = self.settings.append_octets_max + DISCARD_MESSAGE_OCTETS_MAX;
        let arguments = arguments.and_then(|arguments| {
            literal.form = arguments.form;
            if literal.messages > self.settings.saved_max() {
                // Without a UID, since none is there yet: RFC 9738 §3.1.
                return Err(Refusal::too_many(self.settings.saved_max(), None));
            }
            if literal.weight > APPEND_WEIGHT_MAX {
                return Err(Refusal::no(Code::Limit, "Too much at once: append in parts"));
            }
            admit(octets, self.settings.append_octets_max).map(|()| arguments)
        });
        let arguments = match std::mem::replace(&mut literal.sink, Sink::Opening) {
            Sink::Refused(refusal) => Err(refusal),
            _ => arguments,
        };
        match (arguments, literal.append.take()) {
            (Ok(arguments), Some(append)) => {
                literal.arguments = Some(arguments);
                let (octets, messages) = (literal.octets, literal.messages);
                let work = Work::Opening(Opening { append, octets, messages });
                self.perform(work, Doing::LiteralJob(literal));
            }
            (Err(refusal), _) if sync => self.end(&literal.tag, Err(refusal)),
            (Err(_), _) if octets > discard_max => {
                self.close("The message is too long: send shorter ones");
            }
            (Err(_), _) if !self.is_authenticated() => self.close("Sign in first"),
            (Err(_), _) if literal.past > discard_max => {
                self.close("Too much at once: append in parts");
            }
            (Err(refusal), _) => {
                literal.sink = Sink::Refused(refusal);
                literal.whole = Vec::new();
                self.doing = Doing::Literal(literal);
            }
            (Ok(_), None) => self.end(&literal.tag, Err(Refusal::malformed())),
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
                literal.sink = Sink::Refused(match literal.form {
                    Form::Text => Refusal::no(Code::Cannot, "A message cannot hold NUL octets"),
                    // RFC 3516 §4.4.
                    _ => Refusal::no(Code::UnknownCte, "Binary octets are not kept: encode them"),
                });
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
        match std::mem::replace(&mut literal.sink, Sink::Busy) {
            Sink::Spool { mailbox, spool } => {
                let octets = std::mem::take(&mut literal.gathered);
                let work = Work::Writing(Writing { mailbox, spool, octets });
                self.perform(work, Doing::LiteralJob(literal));
            }
            other => {
                literal.sink = other;
                self.doing = Doing::Literal(literal);
            }
        }
    }

    /// Reads the rest of the command: an empty line, or what announces another message.
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
                if let Some(arguments) = self.another(&literal) {
                    self.framer.skip();
                    literal.next();
                    self.begin_message(literal, arguments, octets, sync);
                    return true;
                }
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
                let tail = literal.tail(self.framer.message());
                literal.bad_tail |= tail != Some(b"\r\n");
                self.framer.skip();
                self.end_literal(literal);
                true
            }
        }
    }

    /// What is said of another message, when the line announces one.
    fn another(&self, literal: &Literal) -> Option<Result<Arguments, Refusal>> {
        if literal.bad_tail || self.framer.is_too_long() || literal.is_replace {
            return None;
        }
        Arguments::read(literal.tail(self.framer.message())?, self.enabled)
    }

    /// All has been read: stores the messages, or says why not.
    fn end_literal(&mut self, mut literal: Box<Literal>) {
        literal.next();
        match std::mem::replace(&mut literal.sink, Sink::Storing) {
            Sink::Refused(refusal) => self.end(&literal.tag, Err(refusal)),
            _ if literal.bad_tail => {
                let refusal = Refusal::bad("Nothing but another message may follow a message");
                self.end(&literal.tag, Err(refusal));
            }
            _ => match (literal.append.take(), literal.mailbox) {
                (Some(append), Some(mailbox)) => {
                    let messages = std::mem::take(&mut literal.whole);
                    let work = Work::Storing(Storing { append, mailbox, messages });
                    self.perform(work, Doing::LiteralJob(literal));
                }
                _ => self.end(&literal.tag, Err(Refusal::malformed())),
            },
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
                literal.append = Some(append);
                literal.mailbox = Some(mailbox);
                literal.sink = Sink::Spool { mailbox, spool };
                self.doing = Doing::Literal(literal);
            }
            // The client of a synchronizing literal waits, and will not send it.
            (Sink::Opening, Err(refusal)) if literal.sync => self.end(&literal.tag, Err(refusal)),
            (Sink::Busy, Ok(Flow::Written { mailbox, spool })) => {
                literal.sink = Sink::Spool { mailbox, spool };
                self.doing = Doing::Literal(literal);
            }
            (Sink::Opening | Sink::Busy, Err(refusal)) => {
                literal.sink = Sink::Refused(refusal);
                literal.whole = Vec::new();
                self.doing = Doing::Literal(literal);
            }
            (_, Ok(Flow::Done(done))) => self.end(&literal.tag, Ok((done.code, done.text))),
            (_, Err(refusal)) => self.end(&literal.tag, Err(refusal)),
            (_, Ok(_)) => self.end(&literal.tag, Err(Refusal::nothing_selected())),
        }
    }
}
