//! Reading on: commands, announced literals, and the lines that are no commands.
//!
//! RFC 3501 §2.2.1, §4.3, §7.5; IDLE's DONE, RFC 2177 §3. What a command means is told elsewhere.

use super::framing::Frame;
use super::{Doing, Place, Session, limits};
use crate::command::Work;
use crate::grammar;
use crate::refusal::Refusal;

/// A line that is no command.
pub(super) enum Line {
    Whole(Vec<u8>),
    TooLong,
}

impl Session {
    pub(super) fn read_command(&mut self) -> bool {
        match self.framer.next(&mut self.pending) {
            None => false,
            Some(Frame::Endless) => {
                self.close("The command is too long: send shorter ones");
                false
            }
            Some(Frame::Announced { octets, sync }) => {
                self.announced(octets, sync);
                true
            }
            Some(Frame::Command) => {
                let too_long = self.framer.is_too_long();
                let parsed = if too_long {
                    None
                } else {
                    grammar::parse(self.framer.message(), self.enabled)
                };
                let tag = match &parsed {
                    Some(parsed) => Some(parsed.tag.clone()),
                    None => grammar::tag_of_malformed(self.framer.message()),
                };
                let unwanted = self.framer.is_unwanted();
                self.framer.skip();
                match (tag, parsed) {
                    (Some(tag), None) if unwanted => {
                        self.end(&tag, Err(Refusal::bad("Sign in first")));
                    }
                    (Some(tag), Some(parsed)) => self.obey(tag, parsed.command),
                    (Some(tag), None) if too_long => {
                        self.end(
                            &tag,
                            Err(Refusal::bad("The command is too long: send it in parts")),
                        );
                    }
                    (Some(tag), None) => {
                        self.end(
                            &tag,
                            Err(Refusal::bad("A tag, a space and a command are needed")),
                        );
                    }
                    (None, _) => {
                        self.send(b"* BAD A tag, a space and a command are needed\r\n");
                        self.count_bad();
                    }
                }
                true
            }
        }
    }

    /// A literal is announced: a message to APPEND, or an argument.
    pub(super) fn announced(&mut self, octets: u32, sync: bool) {
        if !self.framer.is_too_long()
            && let Some(head) = grammar::append_head(self.framer.message(), self.enabled)
        {
            self.framer.skip();
            self.begin_literal(head, octets, sync);
        } else if !self.is_authenticated() && !grammar::takes_literals(self.framer.message()) {
            self.unwanted(octets, sync);
        } else if self.framer.fits(octets) {
            self.framer.accept(octets);
            if sync {
                self.send(b"+ Go on\r\n");
            }
        } else if sync {
            // The client waits and will not send it.
            let tag = grammar::tag_of_malformed(self.framer.message());
            self.framer.skip();
            let refusal =
                Refusal::too_big("The literals of a command are too long: send shorter ones");
            match tag {
                Some(tag) => self.end(&tag, Err(refusal)),
                None => self.close("The command is too long: send shorter ones"),
            }
        } else if !self.framer.accept_to_refuse(octets) {
            self.close("The command is too long: send shorter ones");
        }
    }

    /// A literal of a command that is not for strangers.
    fn unwanted(&mut self, octets: u32, sync: bool) {
        if !sync {
            // It comes all the same, and is no command.
            self.framer.refuse_unwanted();
            if !self.framer.accept_to_refuse(octets) {
                self.close("Sign in first");
            }
            return;
        }
        let tag = grammar::tag_of_malformed(self.framer.message());
        self.framer.skip();
        match tag {
            Some(tag) => self.end(&tag, Err(Refusal::bad("Sign in first"))),
            None => self.close("Sign in first"),
        }
    }

    /// A line outside commands: a SASL response, or DONE. `None` until it is whole.
    pub(super) fn line(&mut self, line: &mut Vec<u8>) -> Option<Line> {
        let limit = limits::LINE_OCTETS_MAX_BEFORE_LOGIN + 1 - line.len();
        let (octets, ended) = self.pending.take_line(limit);
        line.extend_from_slice(octets);
        if line.len() > limits::LINE_OCTETS_MAX_BEFORE_LOGIN {
            return Some(Line::TooLong);
        }
        if !ended {
            return None;
        }
        let octets = line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n"));
        Some(Line::Whole(octets.unwrap_or(line).to_vec()))
    }

    pub(super) fn read_done(&mut self, tag: String, mut line: Vec<u8>) -> bool {
        match self.line(&mut line) {
            Some(Line::Whole(word)) if word.eq_ignore_ascii_case(b"DONE") => {
                self.end(&tag, Ok((None, "IDLE completed")));
                true
            }
            Some(Line::Whole(_)) => {
                self.end(&tag, Err(Refusal::bad("DONE ends IDLE, and nothing else")));
                true
            }
            Some(Line::TooLong) => {
                self.close("DONE ends IDLE, and nothing else");
                false
            }
            None if self.must_tell() => {
                self.perform(Work::Notified { idle: true }, Doing::IdleJob { tag, line });
                false
            }
            // Where nothing is selected it is only seen whether there is anything to wait for.
            None if self.changed
                && match self.place {
                    Place::Selected(..) => self.watch.is_none(),
                    Place::Authenticated(_) => true,
                    Place::NotAuthenticated | Place::Away(..) => false,
                } =>
            {
                self.perform(Work::Sync, Doing::IdleJob { tag, line });
                false
            }
            None => {
                self.doing = Doing::Idle { tag, line };
                false
            }
        }
    }
}
