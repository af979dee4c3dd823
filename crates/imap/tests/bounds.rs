//! What a session bears: one past each bound that transcripts cannot show, and what has none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;

use common::{Connection, PASSWORD, World, now};
use store::{NewMessage, Octets, Store as _};

fn text(connection: &Rc<RefCell<Connection>>) -> String {
    String::from_utf8(std::mem::take(&mut connection.borrow_mut().sent)).unwrap()
}

fn selected(world: &mut World) -> Rc<RefCell<Connection>> {
    let connection = world.connect(true);
    world.feed(&connection, format!("a LOGIN anna {PASSWORD}\r\nb SELECT INBOX\r\n").as_bytes());
    assert!(text(&connection).ends_with("b OK [READ-WRITE] SELECT completed\r\n"));
    connection
}

fn messages(count: usize) -> Vec<NewMessage> {
    let message = |_| NewMessage {
        octets: Octets::Inline(b"S: x\r\n\r\n"[..].into()),
        flags: store::Flags::default(),
        received: now(),
        at: now(),
    };
    (0..count).map(message).collect()
}

/// What NOTIFY fetches of new messages it fetches of all, however many come at once: RFC 5465 §5.2.
#[test]
fn of_any_number_of_new_messages_what_notify_asks_is_told() {
    let mut world = World::new();
    let connection = selected(&mut world);
    let notify = "c NOTIFY SET (selected (MessageNew (UID RFC822.SIZE) MessageExpunge))\r\n";
    world.feed(&connection, notify.as_bytes());
    assert_eq!(text(&connection), "c OK NOTIFY completed\r\n");
    let inbox = world.mailbox("INBOX");
    let mut before = 0;
    // More than one job tells of.
    for count in [1, 500, 501, 1_201] {
        world.store.append_all(inbox, messages(count)).unwrap();
        world.tell();
        let all = before + count;
        let mut expected = format!("* {all} EXISTS\r\n* {all} RECENT\r\n");
        for number in before + 1..=all {
            write!(expected, "* {number} FETCH (UID {number} RFC822.SIZE 8)\r\n").unwrap();
        }
        assert!(text(&connection) == expected, "of {count}");
        before = all;
    }
    // In two commits, the first of them gone again, before it is told.
    world.store.append_all(inbox, messages(300)).unwrap();
    let gone = store::FlagChange::Add(store::contract::system(store::SystemFlags::DELETED));
    let some =
        store::UidSet::from_ranges([(store::contract::uid(2_204), store::contract::uid(2_503))]);
    world.store.change_flags(inbox, &some, &gone).unwrap();
    world.store.expunge(inbox, None).unwrap();
    world.store.append_all(inbox, messages(300)).unwrap();
    world.tell();
    let told = text(&connection);
    assert_eq!(told.lines().filter(|line| line.contains(" FETCH (UID ")).count(), 300);
    assert!(told.ends_with("* 2503 FETCH (UID 2803 RFC822.SIZE 8)\r\n"));
}
