//! Plays the conversations of `tests/transcripts/imap` against session machines and the store in
//! memory, as they are written and octet by octet. What their lines mean is told in the README
//! beside them; `tests/tests/transcripts.rs` plays the same over TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;
#[path = "../../../tests/src/script.rs"]
mod script;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use common::{Connection, PASSWORD, World};
use script::{Bound, Line};
use store::{MailboxName, NewMailbox, Store};

#[test]
fn every_transcript() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/imap");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    paths.sort();
    let (mut conversations, mut failed) = (0, 0);
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for conversation in script::conversations(&text) {
            for segment_max in [usize::MAX, 1] {
                // All are played, so that one run shows all that is wrong.
                let play = || Play::new(&name, segment_max).play(&conversation);
                failed += usize::from(std::panic::catch_unwind(play).is_err());
            }
            conversations += 1;
        }
    }
    assert_eq!(failed, 0, "see above");
    assert!(conversations >= 80, "only {conversations} conversations were found");
}

struct Play<'t> {
    name: &'t str,
    segment_max: usize,
    world: World,
    connections: HashMap<String, Rc<RefCell<Connection>>>,
    bound: Bound,
}

impl<'t> Play<'t> {
    fn new(name: &'t str, segment_max: usize) -> Self {
        let world = World::new();
        Self { name, segment_max, world, connections: HashMap::new(), bound: Bound::default() }
    }

    fn play(mut self, conversation: &script::Conversation<'_>) {
        for (number, line) in conversation {
            let place = format!("{}:{number} (segments of {})", self.name, self.segment_max);
            match line {
                Line::Given(given) => self.given(given, &place),
                Line::Client(who, lines) => {
                    let octets = self.bound.octets(lines);
                    let connection = self.connection(who, &place);
                    for segment in octets.chunks(self.segment_max) {
                        self.world.feed(&connection, segment);
                    }
                }
                Line::Server(who, lines) => {
                    let connection = self.connection(who, &place);
                    let sent = std::mem::take(&mut connection.borrow_mut().sent);
                    let sent = script::responses(&sent);
                    if let Err(what) = self.bound.expect(&script::expected(lines), &sent) {
                        panic!("{place}: {what}");
                    }
                }
                Line::TlsStarts => {
                    let connection = self.connection("C", &place);
                    self.world.start_tls(&connection);
                }
                Line::Closes => {
                    assert!(self.connection("C", &place).borrow().closed, "{place}: still open");
                }
            }
        }
        for connection in self.connections.values() {
            let sent = &connection.borrow().sent;
            assert!(sent.is_empty(), "{}: nobody expected {}", self.name, sent.escape_ascii());
            assert!(connection.borrow().faults.is_empty());
        }
    }

    fn given(&mut self, given: &str, place: &str) {
        let words: Vec<&str> = given.split(' ').collect();
        match words[..] {
            ["anna", "may", "hold", octets, "octets"] => self.world.limit(octets.parse().unwrap()),
            ["anna", "may", "hold", octets, "octets", "in", messages, "messages"] => {
                let messages = messages.parse().unwrap();
                self.world.limit_messages(octets.parse().unwrap(), messages);
            }
            ["appends", "may", "have", octets, "octets"] => {
                self.world.settings.append_octets_max = octets.parse().unwrap();
            }
            ["commands", "may", "add", messages, "messages"] => {
                self.world.settings.saved_messages_max = messages.parse().unwrap();
            }
            ["commands", "may", "take", messages, "messages"] => {
                self.world.settings.command_messages_max = messages.parse().unwrap();
            }
            ["each", "job", "takes", secs, "seconds"] => {
                self.world.job_secs = secs.parse().unwrap();
            }
            // The machine never checks one: the shell does, and here it says yes.
            // Nor does it matter here what the time is: it stands.
            ["any", "proof", "holds"] | ["the", "time", "stands"] => {}
            ["the", "server", "is", "busy"] => self.world.settings.background = false,
            ["connections", "cannot", "be", "bound", "to"] => {
                self.world.settings.channel_binding = false;
            }
            ["connections", "serve", "one", "account"] => {
                self.world.settings.unauthenticate = false;
            }
            ["a", "mailbox", ..] => {
                let name = MailboxName::parse(given.strip_prefix("a mailbox ").unwrap()).unwrap();
                let mailbox = NewMailbox { name, special_use: None };
                self.world.store.create_mailbox(self.world.anna, mailbox, common::now()).unwrap();
            }
            [mailbox, "has", count, "messages", "of", octets, "octets"] => {
                let octets = octets.parse().unwrap();
                let messages =
                    (1..=count.parse().unwrap()).map(|number| script::message(number, octets));
                if self.world.job_secs > 0 {
                    // Many: only long commands show how far they have come.
                    self.world.fill(mailbox, messages);
                } else {
                    messages.for_each(|message| self.world.deliver(mailbox, &message));
                }
            }
            [mailbox, "has", file] => {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts");
                self.world.deliver(mailbox, &std::fs::read(folder.join(file)).unwrap());
            }
            [who, "in", "clear"] => self.connect(who, false, place),
            [who, "over", "TLS"] => self.connect(who, true, place),
            [who, "is", "anna"] => self.sign_in(who, place),
            [who, "is", "anna,", "with", ..] => {
                self.sign_in(who, place);
                let (_, rest) = given.split_once(" with ").unwrap();
                let mailbox = rest.strip_suffix(" selected").unwrap();
                self.run(who, &format!("g1 SELECT \"{mailbox}\""), place);
            }
            _ => panic!("{place}: what is given by {given:?}?"),
        }
    }

    fn connect(&mut self, who: &str, tls: bool, place: &str) {
        let connection = self.world.connect(tls);
        let greeting = String::from_utf8(std::mem::take(&mut connection.borrow_mut().sent));
        let greeting = greeting.unwrap();
        assert!(greeting.starts_with("* OK [CAPABILITY IMAP4rev1 "), "{place}: {greeting}");
        assert!(greeting.ends_with("] imap.pec.example ceralacca ready\r\n"), "{place}");
        self.connections.insert(who.to_owned(), connection);
    }

    fn sign_in(&mut self, who: &str, place: &str) {
        self.connect(who, true, place);
        self.run(who, &format!("g0 LOGIN anna {PASSWORD}"), place);
    }

    fn run(&mut self, who: &str, command: &str, place: &str) {
        let connection = self.connection(who, place);
        self.world.feed(&connection, format!("{command}\r\n").as_bytes());
        let sent = std::mem::take(&mut connection.borrow_mut().sent);
        let sent = String::from_utf8(sent).unwrap();
        let (tag, _) = command.split_once(' ').unwrap();
        assert!(sent.contains(&format!("{tag} OK ")), "{place}: {sent}");
    }

    fn connection(&self, who: &str, place: &str) -> Rc<RefCell<Connection>> {
        let connection = self.connections.get(who);
        Rc::clone(connection.unwrap_or_else(|| panic!("{place}: who is {who}?")))
    }
}
