//! What a session bears: one past each bound that transcripts cannot show, and what has none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::{Connection, PASSWORD, World, now};
use imap::{SaslAnswer, Session, Step, limits};
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

/// What a command says, and how much each of its jobs may hold in memory; each takes so long, and is at work
/// so long.
fn slowly(world: &World, command: &str, takes: Duration, works: Duration) -> (String, Vec<u64>) {
    let mut holds = Vec::new();
    let sent = jobs(world, command, takes, works, &mut |held, _| holds.push(held));
    (sent, holds)
}

/// The same, and for each job what its command holds: from it on, and after it.
fn keeping(world: &World, command: &str, works: Duration) -> (String, Vec<(u64, u64)>) {
    let mut keeps = Vec::new();
    let sent = jobs(world, command, Duration::ZERO, works, &mut |_, kept| keeps.push(kept));
    (sent, keeps)
}

fn jobs(
    world: &World,
    command: &str,
    takes: Duration,
    works: Duration,
    each: &mut dyn FnMut(u64, (u64, u64)),
) -> String {
    let mut session = Session::new(Arc::new(world.settings.clone()), true);
    session.handle_octets(b"a LOGIN anna x\r\nb SELECT INBOX\r\n");
    let (mut at, mut sent) = (now(), String::new());
    let mut asked = false;
    loop {
        match session.poll() {
            Some(Step::Send(octets)) => sent.push_str(&String::from_utf8(octets).unwrap()),
            Some(Step::Sasl(_)) => {
                session.authenticated(SaslAnswer::Success { account: world.anna, data: None });
            }
            Some(Step::Perform(job)) => {
                let (holds, keeps) = (job.holds_octets(), job.keeps_octets());
                at += if asked { takes } else { Duration::ZERO };
                let answer = job.run(&*world.store, at).worked(works);
                if asked {
                    each(holds, (keeps, answer.keeps_octets()));
                }
                session.finish(answer);
            }
            Some(other) => panic!("{other:?}"),
            None if asked => return sent,
            None => {
                sent.clear();
                session.handle_octets(format!("c {command}\r\n").as_bytes());
                asked = true;
            }
        }
    }
}

fn full(count: usize) -> World {
    let world = World::new();
    world.store.append_all(world.mailbox("INBOX"), messages(count)).unwrap();
    world
}

/// Who waits hears how far it has come, once in ten seconds: RFC 9585 §4.
#[test]
fn a_long_command_tells_how_far_it_has_come() {
    let (sent, _) =
        slowly(&full(1_600), "UID FETCH 1:* UID", Duration::from_secs(6), Duration::ZERO);
    let told: Vec<&str> =
        sent.lines().filter(|line| line.starts_with("* OK [INPROGRESS ")).collect();
    assert_eq!(told, ["* OK [INPROGRESS (\"c\" 1500 1600)] Still at it"]);
    assert!(sent.ends_with("c OK FETCH completed\r\n"));
}

/// What counts is the time at work: a search that waits for others goes on.
#[test]
fn a_command_that_works_too_long_is_given_up() {
    let world = full(6_000);
    let half = limits::WORK_TIME_MAX / 2;
    let day = Duration::from_secs(86_400);
    for (command, jobs, parts) in [
        ("SEARCH SEEN", 2, "search"),
        ("SORT (DATE) UTF-8 SEEN", 2, "search"),
        ("THREAD REFERENCES UTF-8 SEEN", 2, "search"),
        ("FETCH 1:1500 BINARY.SIZE[1]", 2, "ask"),
    ] {
        // The last of three jobs begins after two have worked as long as a command may, or longer.
        let (sent, holds) = slowly(&world, command, day, half);
        assert!(sent.ends_with(" completed\r\n") && holds.len() == 3, "{command}: {sent}");
        let (sent, holds) = slowly(&world, command, Duration::ZERO, half + Duration::from_nanos(1));
        let refused = format!("c NO [LIMIT] It takes too long: {parts} in parts\r\n");
        assert!(sent.ends_with(&refused) && holds.len() == jobs + 1, "{command}: {sent}");
        assert!(!command.starts_with('S') || sent == refused, "{sent}");
    }
    // What answers as much as it works goes on.
    let (sent, _) = slowly(&world, "FETCH 1:1500 (UID)", Duration::ZERO, limits::WORK_TIME_MAX * 2);
    assert!(sent.ends_with("c OK FETCH completed\r\n"));
}

#[test]
fn only_what_reads_texts_waits_for_a_turn() {
    let world = full(1);
    for (keys, reads) in [
        ("ALL", false),
        ("UNSEEN SUBJECT x", false),
        ("TEXT \"\"", false),
        ("NOT TEXT x", true),
        ("OR SEEN (BODY x)", true),
    ] {
        for command in ["SEARCH", "SORT (DATE) UTF-8", "THREAD REFERENCES UTF-8"] {
            let command = format!("{command} {keys}");
            let (_, holds) = slowly(&world, &command, Duration::ZERO, Duration::ZERO);
            assert_eq!(holds[0] > 0, reads, "{command}");
        }
    }
}

/// What a job holds in memory it says before: of long messages each has a job that says how much.
#[test]
fn a_job_holds_no_longer_message_than_it_said() {
    let world = World::new();
    let message = |octets: usize, word: &str| {
        let text = "parole e parole\r\n".repeat(octets / 17);
        format!("Subject: x\r\n\r\n{text}{word}\r\n").into_bytes()
    };
    const MIB: usize = 1024 * 1024;
    // Each of a length, so that it is clear which is meant.
    let lengths = [100, 3 * MIB, 200, 2 * MIB, 5 * MIB, 300];
    world.fill("INBOX", lengths.iter().map(|octets| message(*octets, "fine")));
    let stored = world.store.summaries(world.mailbox("INBOX"), &store::UidSet::all(), 9).unwrap();
    let needed = |at: usize| 7 * stored[at].octets;
    let (sent, holds) = slowly(&world, "SEARCH TEXT fine", Duration::ZERO, Duration::ZERO);
    assert_eq!(sent, "* SEARCH 1 2 3 4 5 6\r\nc OK SEARCH completed\r\n");
    let least = 7 * MIB as u64;
    // What the second asked for is enough for the fourth too.
    assert_eq!(holds, [least, needed(1), needed(4)]);
    // In a batch all are decoded together with the longest.
    let (sent, holds) = slowly(&world, "FETCH 1:6 BINARY.SIZE[1]", Duration::ZERO, Duration::ZERO);
    assert!(sent.ends_with("c OK FETCH completed\r\n"));
    assert_eq!(sent.lines().count(), 7, "{sent}");
    assert_eq!(holds, [least, needed(4)]);
    // Marked as seen once, and told so.
    let (sent, _) = slowly(&world, "FETCH 1,2 BINARY[1]<0.6>", Duration::ZERO, Duration::ZERO);
    assert_eq!(sent.matches("{6}\r\nparole FLAGS (\\Seen))\r\n").count(), 2, "{sent}");
}

/// Of a text that is longer than is looked into the user hears so.
#[test]
fn a_search_tells_that_it_did_not_look_into_all_of_a_text() {
    let world = World::new();
    let text = "parole e parole\r\n".repeat(32 * 1024 * 1024 / 17);
    let long = format!("Subject: x\r\n\r\nprima{text}ultima\r\n").into_bytes();
    world.fill("INBOX", [b"Subject: y\r\n\r\nultima\r\n".to_vec(), long].into_iter());
    let told = "c OK Completed, but of texts beyond 32 MiB only the beginning was looked into\r\n";
    for (key, found) in [("prima", " 2"), ("ultima", " 1")] {
        let command = format!("SEARCH BODY {key}");
        let (sent, _) = slowly(&world, &command, Duration::ZERO, Duration::ZERO);
        assert_eq!(sent, format!("* SEARCH{found}\r\n{told}"), "{key}");
    }
    let (sent, _) = slowly(&world, "SEARCH 1 BODY ultima", Duration::ZERO, Duration::ZERO);
    assert_eq!(sent, "* SEARCH 1\r\nc OK SEARCH completed\r\n");
}

/// Mailboxes that NOTIFY watches, each of which is looked at when something happens to one: RFC 5465 §5.8.
#[test]
fn one_mailbox_more_than_can_be_watched_is_told() {
    let mut world = World::new();
    let create = |world: &World, number: usize| {
        let name = store::MailboxName::parse(&format!("Pratica {number}")).unwrap();
        let new = store::NewMailbox { name, special_use: None };
        world.store.create_mailbox(world.anna, new, now()).unwrap();
    };
    let there = world.store.mailboxes(world.anna).unwrap().len();
    (there..500).for_each(|number| create(&world, number));
    let connection = world.connect(true);
    world.feed(&connection, format!("a LOGIN anna {PASSWORD}\r\n").as_bytes());
    text(&connection);
    let notify = b"b NOTIFY SET (personal (MessageNew MessageExpunge))\r\n";
    world.feed(&connection, notify);
    assert_eq!(text(&connection), "b OK NOTIFY completed\r\n");
    create(&world, 500);
    world.deliver("INBOX", b"S: x\r\n\r\n");
    world.tell();
    let told = "* OK [NOTIFICATIONOVERFLOW] Too many mailboxes: nothing is told\r\n";
    assert_eq!(text(&connection), told);
    // Nothing is told any more.
    world.deliver("INBOX", b"S: x\r\n\r\n");
    world.tell();
    assert_eq!(text(&connection), "");
    world.feed(&connection, notify);
    let refused = "b NO [NOTIFICATIONOVERFLOW] Too many mailboxes to be watched: name fewer\r\n";
    assert_eq!(text(&connection), refused);
}

/// Who puts messages in order has a place from the first job to the last that holds what they are ordered by, and
/// none while the client is told; making threads is work too, and ends where it takes too long.
#[test]
fn an_order_is_held_until_it_is_told() {
    let world = full(21_000);
    let most = limits::ORDER_OCTETS_MAX as u64;
    let (sent, keeps) = keeping(&world, "SORT (SIZE) UTF-8 ALL", Duration::ZERO);
    assert!(sent.ends_with("c OK SORT completed\r\n"));
    let looked = 21_000_usize.div_ceil(2_000);
    assert!(keeps[..looked - 1].iter().all(|kept| *kept == (most, most)), "{keeps:?}");
    assert_eq!(keeps[looked - 1..], [(most, 0), (0, 0)], "{keeps:?}");
    let (_, keeps) = keeping(&world, "SEARCH ALL", Duration::ZERO);
    assert!(keeps.iter().all(|kept| *kept == (0, 0)));
    // Each refers to what is deep in a thread, fifty times, and each time it is gone through.
    let world = World::new();
    let message = |ids: Vec<String>| {
        let ids: Vec<String> = ids.iter().map(|id| format!(" <{id}@x>\r\n")).collect();
        format!("Subject: x\r\nReferences:{}\r\nx\r\n", ids.concat()).into_bytes()
    };
    let chain = |from: usize| message((from..from + 100).map(|at| format!("r{at}")).collect());
    let deep = |message_at: usize| {
        let pair = |at: usize| [format!("r{}", 900 + at), format!("x{message_at}.{at}")];
        message((0..50).flat_map(pair).collect())
    };
    world.fill("INBOX", (0..990).step_by(99).map(chain).chain((0..300).map(deep)));
    let command = "THREAD REFERENCES UTF-8 ALL";
    let (sent, keeps) = keeping(&world, command, Duration::ZERO);
    assert!(sent.ends_with("c OK THREAD completed\r\n"));
    assert_eq!(keeps, [(most, most), (most, 0)]);
    let (sent, keeps) = keeping(&world, command, limits::WORK_TIME_MAX + Duration::from_nanos(1));
    assert_eq!(sent, "c NO [LIMIT] It takes too long: search in parts\r\n");
    assert_eq!(keeps, [(most, most), (most, 0)]);
}
