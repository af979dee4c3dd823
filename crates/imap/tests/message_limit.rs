//! In which order a command goes through more messages than one takes: transcripts take untagged responses
//! in any order. RFC 9738 §3.1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use common::{PASSWORD, World, now};
use store::{NewMessage, Octets, Store as _};

/// What a client hears of each message in a mailbox of 2,400, of which a command takes so many.
fn told(limit: u64, octets: &[u8], command: &str) -> (Vec<u32>, String) {
    let mut world = World::new();
    world.settings.command_messages_max = limit;
    let messages = (0..2_400).map(|_| NewMessage {
        octets: Octets::Inline(octets.into()),
        flags: store::Flags::default(),
        received: now(),
        at: now(),
    });
    world.store.append_all(world.mailbox("INBOX"), messages.collect()).unwrap();
    let connection = world.connect(true);
    world.feed(&connection, format!("a LOGIN anna {PASSWORD}\r\nb SELECT INBOX\r\n").as_bytes());
    connection.borrow_mut().sent.clear();
    world.feed(&connection, format!("c {command}\r\n").as_bytes());
    let sent = String::from_utf8(std::mem::take(&mut connection.borrow_mut().sent)).unwrap();
    let number = |line: &str| {
        let (number, rest) = line.strip_prefix("* ")?.split_once(' ')?;
        rest.starts_with("FETCH (").then(|| number.parse().unwrap())
    };
    (sent.lines().filter_map(number).collect(), sent.lines().last().unwrap().to_owned())
}

#[test]
fn messages_are_done_from_the_highest_to_the_lowest() {
    let falling: Vec<u32> = (201..=2_400).rev().collect();
    let end = "c OK [MESSAGELIMIT 2200 201] Only the last of them: ask for those below in parts";
    let message = b"Subject: x\r\n\r\nx\r\n";
    for command in ["FETCH 1:* UID", "FETCH 1:* (ENVELOPE)", "STORE 1:* +FLAGS (\\Seen)"] {
        let (numbers, last) = told(2_200, message, command);
        assert_eq!((numbers, last.as_str()), (falling.clone(), end), "{command}");
    }
    // Answers that are long end a batch early; what was not answered yet is gone on with.
    let long = [b"Subject: x\r\n\r\n".as_slice(), &[b'x'; 2_000], b"\r\n"].concat();
    let (numbers, last) = told(2_200, &long, "FETCH 1:* BODY.PEEK[]");
    assert_eq!((numbers, last.as_str()), (falling.clone(), end));
    let (numbers, _) = told(2_200, message, "FETCH 1:* BODY[]");
    assert_eq!(numbers, falling);
    // Nobody who asks for no more than that notices.
    let (numbers, last) = told(2_400, message, "FETCH 1:* UID");
    assert_eq!(numbers, (1..=2_400).collect::<Vec<u32>>());
    assert_eq!(last, "c OK FETCH completed");
}
