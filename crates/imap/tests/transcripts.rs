//! Plays the conversations of `tests/transcripts/imap` against session machines and the store in
//! memory, as they are written and octet by octet. What their lines mean is told in the README
//! beside them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use common::{Connection, PASSWORD, World};
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
        let lines: Vec<(usize, &str)> = text.lines().enumerate().collect();
        for conversation in lines.split(|(_, line)| line.is_empty()) {
            for segment_max in [usize::MAX, 1] {
                // All are played, so that one run shows all that is wrong.
                let play = || Play::new(&name, segment_max).play(conversation);
                failed += usize::from(std::panic::catch_unwind(play).is_err());
            }
            conversations += usize::from(!conversation.is_empty());
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
    bound: HashMap<String, String>,
}

impl<'t> Play<'t> {
    fn new(name: &'t str, segment_max: usize) -> Self {
        let world = World::new();
        Self { name, segment_max, world, connections: HashMap::new(), bound: HashMap::new() }
    }

    fn play(mut self, lines: &[(usize, &str)]) {
        let mut rest = lines;
        while let Some((&(number, line), after)) = rest.split_first() {
            let place = format!("{}:{} (segments of {})", self.name, number + 1, self.segment_max);
            rest = after;
            if line.starts_with('#') {
            } else if let Some(given) = line.strip_prefix("given ") {
                self.given(given, &place);
            } else if let Some((who, _)) = client_line(line) {
                let mut octets = client_octets(line, &self.bound, &place);
                while let Some((&(_, line), after)) = rest.split_first() {
                    if client_line(line).is_none_or(|(other, _)| other != who) {
                        break;
                    }
                    octets.extend(client_octets(line, &self.bound, &place));
                    rest = after;
                }
                let connection = self.connection(who, &place);
                for segment in octets.chunks(self.segment_max) {
                    self.world.feed(&connection, segment);
                }
            } else if let Some((who, _)) = server_line(line) {
                let mut expected = server_text(line, &place);
                while let Some((&(_, line), after)) = rest.split_first() {
                    if server_line(line).is_none_or(|(other, _)| other != who) {
                        break;
                    }
                    expected.extend(server_text(line, &place));
                    rest = after;
                }
                let connection = self.connection(who, &place);
                let sent = std::mem::take(&mut connection.borrow_mut().sent);
                self.expect(&expected, &responses(&sent), &place);
            } else if line == "TLS starts" {
                let connection = self.connection("C", &place);
                self.world.start_tls(&connection);
            } else if line == "S closes" {
                assert!(self.connection("C", &place).borrow().closed, "{place}: still open");
            } else {
                panic!("{place}: what is {line:?}?");
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
            // The machine never checks one: the shell does, and here it says yes.
            ["any", "proof", "holds"] => {}
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
                for number in 1..=count.parse().unwrap() {
                    let message = message(number, octets.parse().unwrap());
                    self.world.deliver(mailbox, &message);
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

    /// Untagged responses in any order, the others where they stand.
    fn expect(&mut self, expected: &[String], sent: &[String], place: &str) {
        let told = sent.join("\n");
        let is_untagged = |text: &&String| text.starts_with("* ");
        let (mut expected, mut sent) = (expected, sent);
        loop {
            let wanted = expected.iter().take_while(is_untagged).count();
            let came = sent.iter().take_while(is_untagged).count();
            let mut open: Vec<&String> = sent[..came].iter().collect();
            for pattern in &expected[..wanted] {
                let found = open.iter().position(|text| self.matches(pattern, text));
                let Some(found) = found else {
                    panic!("{place}: expected {pattern}, came\n{told}")
                };
                open.remove(found);
            }
            assert!(open.is_empty(), "{place}: nobody expected {open:?}, came\n{told}");
            (expected, sent) = (&expected[wanted..], &sent[came..]);
            match (expected.split_first(), sent.split_first()) {
                (None, None) => return,
                (Some((pattern, rest)), Some((text, after))) => {
                    assert!(self.matches(pattern, text), "{place}: expected {pattern}: {told}");
                    (expected, sent) = (rest, after);
                }
                (Some((pattern, _)), None) => panic!("{place}: expected {pattern}, came\n{told}"),
                (None, Some((text, _))) => panic!("{place}: nobody expected {text}"),
            }
        }
    }

    fn matches(&mut self, pattern: &str, text: &str) -> bool {
        let mut bound = self.bound.clone();
        let (mut pattern, mut text) = (pattern, text);
        while let Some((before, name, after)) = variable(pattern) {
            let Some(value) = text.strip_prefix(before) else { return false };
            let until = variable(after).map_or(after, |(before, ..)| before);
            let end = if until.is_empty() { Some(value.len()) } else { value.find(until) };
            let Some(end) = end else { return false };
            let (value, rest) = value.split_at(end);
            if bound.entry(name.to_owned()).or_insert_with(|| value.to_owned()) != value {
                return false;
            }
            (pattern, text) = (after, rest);
        }
        let same = pattern == text;
        if same {
            self.bound = bound;
        }
        same
    }
}

/// The first `{name}` of a pattern; `{12}` is a literal's length and none.
fn variable(pattern: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + pattern[from..].find('{')?;
        let end = start + pattern[start..].find('}')?;
        let name = &pattern[start + 1..end];
        if name.chars().all(|c| c.is_ascii_lowercase()) && !name.is_empty() {
            return Some((&pattern[..start], name, &pattern[end + 1..]));
        }
        from = end;
    }
}

fn client_line(line: &str) -> Option<(&str, &str)> {
    let (who, text) = line.split_once([':', '!'])?;
    (who.starts_with('C') && who[1..].chars().all(|c| c.is_ascii_digit())).then_some((who, text))
}

/// Who the server speaks to.
fn server_line(line: &str) -> Option<(&str, &str)> {
    let (who, text) = line.split_once([':', '!'])?;
    let number = who.strip_prefix('S')?;
    let client = match number {
        "" => "C",
        "2" => "C2",
        "3" => "C3",
        _ => return None,
    };
    Some((client, text))
}

fn client_octets(line: &str, bound: &HashMap<String, String>, place: &str) -> Vec<u8> {
    let (_, text) = client_line(line).unwrap();
    let text = text.strip_prefix(' ').unwrap();
    let escaped = line[..line.len() - text.len()].ends_with("! ");
    let mut text = text.to_owned();
    for (name, value) in bound {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    if escaped { unescape(&text, place) } else { format!("{text}\r\n").into_bytes() }
}

/// The responses that a line stands for: one, or with escapes more.
fn server_text(line: &str, place: &str) -> Vec<String> {
    let (_, text) = server_line(line).unwrap();
    let text = text.strip_prefix(' ').unwrap();
    if line[..line.len() - text.len()].ends_with("! ") {
        let mut octets = unescape(text, place);
        octets.extend_from_slice(b"\r\n");
        responses(&octets)
    } else {
        vec![text.to_owned()]
    }
}

/// Parts what was sent into responses; a literal does not end one.
fn responses(sent: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < sent.len() {
        let end = at + sent[at..].windows(2).position(|two| two == b"\r\n").expect("a line end");
        let line = String::from_utf8_lossy(&sent[at..end]);
        let literal = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'));
        at = end + 2;
        match literal.and_then(|(_, octets)| octets.parse::<usize>().ok()) {
            Some(octets) => at += octets,
            None => {
                all.push(String::from_utf8_lossy(&sent[start..end]).into_owned());
                start = at;
            }
        }
    }
    all
}

/// A message of so many octets.
fn message(number: usize, octets: usize) -> Vec<u8> {
    let mut message = format!(
        "From: Carla <carla@pec.example>\r\nTo: anna@pec.example\r\nSubject: Message {number}\r\n\
         Date: Mon, 2 Mar 2026 09:00:00 +0100\r\nMessage-ID: <{number}@pec.example>\r\n\r\n"
    )
    .into_bytes();
    assert!(message.len() + 2 <= octets, "a message needs {} octets", message.len() + 2);
    message.resize(octets - 2, b'x');
    message.extend_from_slice(b"\r\n");
    message
}

/// `\r \n \t \0 \\ \xHH`, and `\(600*a)` for 600 times what stands there.
fn unescape(text: &str, place: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next().unwrap_or_else(|| panic!("{place}: a lone backslash"));
        rest = &rest[escape.len_utf8()..];
        match escape {
            'r' => octets.push(b'\r'),
            'n' => octets.push(b'\n'),
            't' => octets.push(b'\t'),
            '0' => octets.push(0),
            '\\' => octets.push(b'\\'),
            'x' => {
                octets.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            '(' => {
                let (inner, after) = rest.split_once(')').unwrap();
                let (count, what) = inner.split_once('*').unwrap();
                octets.extend(unescape(what, place).repeat(count.parse().unwrap()));
                rest = after;
            }
            other => panic!("{place}: \\{other} means nothing"),
        }
    }
    octets
}
