//! What the shell is to do next: steps, and octets on their way to the client.

use std::collections::VecDeque;

use super::Step;

/// Octets of one [`Step::Send`] at most, but for one response that is longer.
const SEND_OCTETS: usize = 32 * 1024;

/// Steps in their order.
#[derive(Default)]
pub(super) struct Queue {
    steps: VecDeque<Step>,
    /// Octets of all that are to be sent.
    octets: usize,
}

impl Queue {
    /// Octets that wait here to be sent; those that are in the store do not count.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn push(&mut self, step: Step) {
        if let Step::Send(octets) = &step {
            self.octets += octets.len();
        }
        self.steps.push_back(step);
    }

    /// Octets, with those before them if they are few.
    pub(super) fn send(&mut self, octets: &[u8]) {
        match self.steps.back_mut() {
            Some(Step::Send(last)) if last.len() + octets.len() <= SEND_OCTETS => {
                last.extend_from_slice(octets);
                self.octets += octets.len();
            }
            _ => self.push(Step::Send(octets.to_vec())),
        }
    }

    /// The same, without a copy when they are many.
    pub(super) fn send_owned(&mut self, octets: Vec<u8>) {
        if octets.len() < SEND_OCTETS / 2 {
            self.send(&octets);
        } else {
            self.push(Step::Send(octets));
        }
    }

    /// The next. One that is empty keeps no memory.
    pub(super) fn pop(&mut self) -> Option<Step> {
        let step = self.steps.pop_front();
        match &step {
            Some(Step::Send(octets)) => self.octets -= octets.len(),
            Some(_) => {}
            None => self.steps.shrink_to_fit(),
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::Store as _;

    use super::super::{Session, Settings, Step, limits};

    /// Answers wait for the client to take them: of what it has sent ahead no more is read meanwhile.
    #[test]
    fn one_answer_past_what_may_wait_is_not_made_before_the_others_are_taken() {
        let store = store::memory::MemoryStore::new();
        assert!(store.accounts().unwrap().is_empty());
        let settings = Settings {
            host: "imap.pec.example".to_owned(),
            version: "0.1.0".to_owned(),
            append_octets_max: 1 << 20,
            saved_messages_max: limits::SAVED_MESSAGES_MAX,
            command_messages_max: limits::COMMAND_MESSAGES_MAX,
            channel_binding: true,
            background: true,
            unauthenticate: true,
            views: crate::Views::of(&store),
            zone: jiff::tz::TimeZone::UTC,
        };
        let mut session = Session::new(Arc::new(settings), true);
        while session.poll().is_some() {}
        let command = b"a CAPABILITY\r\n";
        session.handle_octets(command);
        let answer = session.out.octets();
        while session.poll().is_some() {}
        let commands = limits::PENDING_OCTETS_MAX / command.len();
        session.handle_octets(&command.repeat(commands));
        let mut answers = 0;
        loop {
            let waiting = session.out.octets();
            assert!(waiting < limits::QUEUED_OCTETS_MAX + answer, "{waiting}");
            let Some(step) = session.poll() else { break };
            let Step::Send(octets) = step else { panic!("{step:?}") };
            answers += String::from_utf8(octets).unwrap().matches("a OK CAPABILITY").count();
        }
        assert_eq!(answers, commands);
        assert!(session.wants_octets());
    }
}
