//! The content of a message as it comes in: behind DATA (RFC 5321 §4.1.1.4), and behind BDAT in chunks
//! (RFC 3030 §2).

use super::{Chunk, DISCARD_OCTETS_MAX, Open, Session, State};
use crate::content::Fault;
use crate::reply::{self, Reply};
use crate::step::{Question, Step};

impl Session {
    /// RFC 3030 §2. The chunk follows whatever is said of it, so it is read first.
    pub(super) fn bdat(&mut self, octets: u64, last: bool) {
        let refusal = match (self.closed_door(), &mut self.transaction) {
            (Some(reply), _) => Some(reply),
            (None, None) => Some(reply::MAIL_FIRST),
            (None, Some(transaction)) if transaction.recipients == 0 => Some(reply::NO_RECIPIENTS),
            (None, Some(transaction)) => {
                if let Some(content) = &mut transaction.chunks {
                    content.refuse_beyond(octets);
                }
                None
            }
        };
        if octets > DISCARD_OCTETS_MAX {
            self.reset();
            self.bad(refusal.as_ref().unwrap_or(&reply::TOO_LARGE));
            self.close();
            return;
        }
        let good = refusal.is_none();
        self.state = State::Chunk(Chunk { octets, left: octets, last, refusal });
        if good && self.transaction.as_ref().is_some_and(|now| now.chunks.is_none()) {
            self.ask(Open::Data, Question::Data);
        }
    }

    /// Reads content; says how many octets of `octets` were of it.
    pub(super) fn receive(&mut self, octets: &[u8]) -> usize {
        let content = match &mut self.state {
            State::Content(content) => content,
            State::Chunk(_) => return self.receive_chunk(octets),
            _ => return 0,
        };
        let was_good = content.fault().is_none();
        let mut taken = Vec::with_capacity(if was_good { octets.len() } else { 0 });
        let fed = content.feed(octets, &mut taken);
        let (fault, octets, discarded) = (content.fault(), content.octets(), content.discarded());
        match fault {
            None if !taken.is_empty() => self.out.push_back(Step::Content(taken)),
            Some(_) if was_good => self.out.push_back(Step::Discard),
            _ => {}
        }
        match fault {
            None if fed.ended => {
                self.state = State::Command;
                self.ask(Open::EndOfData, Question::EndOfData { octets });
            }
            Some(fault) if fed.ended || discarded > DISCARD_OCTETS_MAX => {
                self.state = State::Command;
                self.reset();
                self.refuse(&refusal_of(fault));
                // Whoever sent other line ends may see other ends of data than we do: what follows
                // could be a message that was smuggled in, so nothing that follows is heard.
                if fault != Fault::TooLarge {
                    self.close_with(&reply::FRAMING_IN_DOUBT);
                } else if !fed.ended {
                    self.close();
                }
            }
            _ => {}
        }
        fed.consumed
    }

    /// The same of a chunk. Where it ends is never in doubt: its length was said before.
    fn receive_chunk(&mut self, octets: &[u8]) -> usize {
        let State::Chunk(chunk) = &mut self.state else { return 0 };
        let count = usize::try_from(chunk.left).unwrap_or(usize::MAX).min(octets.len());
        chunk.left -= count as u64;
        let (left, last) = (chunk.left, chunk.last);
        if let Some(content) = self.transaction.as_mut().and_then(|now| now.chunks.as_mut())
            && chunk.refusal.is_none()
            && content.fault().is_none()
        {
            let mut taken = Vec::with_capacity(count);
            content.feed(&octets[..count], &mut taken);
            if left == 0 && last {
                content.end_chunks();
            }
            if content.fault().is_none() && !taken.is_empty() {
                self.out.push_back(Step::Content(taken));
            }
        }
        if left == 0 {
            self.end_of_chunk();
        }
        count
    }

    fn end_of_chunk(&mut self) {
        let State::Chunk(chunk) = std::mem::replace(&mut self.state, State::Command) else {
            return;
        };
        if let Some(reply) = chunk.refusal {
            // As with DATA, who pipelines could not know that MAIL was refused.
            match self.closed_door() {
                Some(_) => self.bad(&reply),
                None => self.refuse(&reply),
            }
            return;
        }
        let content = self.transaction.as_ref().and_then(|now| now.chunks.as_ref());
        match content.map(|content| (content.fault(), content.octets())) {
            Some((None, octets)) if chunk.last => {
                // From here on the spool is the shell's.
                self.transaction = None;
                self.ask(Open::EndOfData, Question::EndOfData { octets });
            }
            Some((None, _)) => self.send(&Reply::chunk(chunk.octets)),
            // The message has failed with this chunk: those that follow find no transaction.
            Some((Some(fault), _)) => {
                self.reset();
                self.refuse(&refusal_of(fault));
            }
            None => self.refuse(&reply::LOCAL_ERROR),
        }
    }
}

fn refusal_of(fault: Fault) -> Reply {
    match fault {
        Fault::BareCr => reply::BARE_CR,
        Fault::BareLf => reply::BARE_LF,
        Fault::Nul => reply::NUL,
        Fault::TooLarge => reply::TOO_LARGE,
    }
}
