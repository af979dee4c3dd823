//! What transcripts cannot say: the shell's side of the machine, octets by the thousand, and any
//! octets at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use common::{Connection, PASSWORD, World, now};
use imap::{SaslAnswer, Session, Step, limits};
use proptest::prelude::*;
use store::{MailboxName, NewMailbox, NewMessage, Octets, Store as _, UidSet};

fn sent(connection: &Rc<RefCell<Connection>>) -> Vec<u8> {
    std::mem::take(&mut connection.borrow_mut().sent)
}

fn text(connection: &Rc<RefCell<Connection>>) -> String {
    String::from_utf8(sent(connection)).unwrap()
}

fn selected(world: &mut World) -> Rc<RefCell<Connection>> {
    let connection = world.connect(true);
    world.feed(&connection, format!("a LOGIN anna {PASSWORD}\r\nb SELECT INBOX\r\n").as_bytes());
    assert!(text(&connection).ends_with("b OK [READ-WRITE] SELECT completed\r\n"));
    connection
}

/// What the messages of one APPEND take until they are stored is bounded together.
#[test]
fn messages_that_come_together_weigh_so_much_and_no_more() {
    let mut world = World::new();
    let connection = selected(&mut world);
    let long = usize::try_from(limits::APPEND_WEIGHT_MOST).unwrap();
    let most = limits::APPEND_WEIGHT_MAX / limits::APPEND_WEIGHT_MOST;
    world.feed(&connection, b"c APPEND INBOX");
    for _ in 0..most {
        world.feed(&connection, format!(" {{{long}+}}\r\n").as_bytes());
        world.feed(&connection, &vec![b'x'; long]);
    }
    // Refused before it is sent, however short.
    world.feed(&connection, b" {1}\r\n");
    assert_eq!(text(&connection), "c NO [LIMIT] Too much at once: append in parts\r\n");
    world.feed(&connection, b"d STATUS INBOX (MESSAGES)\r\n");
    let told = "* STATUS \"INBOX\" (MESSAGES 0)\r\nd OK STATUS completed\r\n";
    assert_eq!(text(&connection), told);
    // One that is sent without asking is read, and answered at its end; but not for ever.
    let discarded =
        (world.settings.append_octets_max + limits::DISCARD_MESSAGE_OCTETS_MAX) / long as u64;
    let refused = "NO [LIMIT] Too much at once: append in parts\r\n";
    for (past, said) in [
        (1, format!("e {refused}")),
        (discarded, format!("e {refused}")),
        (discarded + 1, "* BYE Too much at once: append in parts\r\n".to_owned()),
    ] {
        world.feed(&connection, b"e APPEND INBOX");
        for _ in 0..most + past {
            world.feed(&connection, format!(" {{{long}+}}\r\n").as_bytes());
            world.feed(&connection, &vec![b'x'; long]);
        }
        world.feed(&connection, b"\r\n");
        assert_eq!(text(&connection), said, "{past}");
    }
}

/// What a command says on a store, and what `between` sees after each of its jobs.
fn in_portions(world: &World, command: &str, between: &mut dyn FnMut()) -> String {
    let mut session = Session::new(Arc::new(world.settings.clone()), true);
    session.handle_octets(b"a LOGIN anna x\r\nb SELECT INBOX\r\n");
    let mut sent = String::new();
    let mut asked = false;
    loop {
        match session.poll() {
            Some(Step::Send(octets)) => sent.push_str(&String::from_utf8(octets).unwrap()),
            Some(Step::Sasl(_)) => {
                session.authenticated(SaslAnswer::Success { account: world.anna, data: None });
            }
            Some(Step::Perform(job)) => {
                session.finish(job.run(&*world.store, now()));
                if asked {
                    between();
                }
            }
            Some(other) => panic!("{other:?}"),
            None if asked => return sent,
            None => {
                asked = true;
                sent.clear();
                session.handle_octets(format!("c {command}\r\n").as_bytes());
            }
        }
    }
}

/// A world with so many messages in INBOX.
fn full(messages: usize, flags: store::SystemFlags) -> World {
    let world = World::new();
    let message = || NewMessage {
        octets: Octets::Inline(b"S: x\r\n\r\n"[..].into()),
        flags: store::Flags { system: flags, ..store::Flags::default() },
        received: now(),
        at: now(),
    };
    let messages = std::iter::repeat_with(message).take(messages).collect();
    world.store.append_all(world.mailbox("INBOX"), messages).unwrap();
    world
}

/// Two thousand and one messages are moved in three portions, between which others may write; the client is
/// told where each went before it is told that they went. RFC 9051 §6.4.8, RFC 6851 §4.3.
#[test]
fn many_messages_are_moved_in_portions() {
    let world = full(2_001, store::SystemFlags::default());
    let (inbox, archive) = (world.mailbox("INBOX"), world.mailbox("Archivio"));
    let mut seen = Vec::new();
    let sent = in_portions(&world, "MOVE 1:* Archivio", &mut || {
        let messages = |mailbox| world.store.status(mailbox).unwrap().messages;
        seen.push((messages(inbox), messages(archive)));
    });
    assert_eq!(seen, [(1_001, 1_000), (1, 2_000), (0, 2_001)]);
    let mut lines = sent.lines();
    let validity = world.store.status(archive).unwrap().uid_validity.0;
    for range in ["1:1000", "1001:2000", "2001"] {
        let line = format!("* OK [COPYUID {validity} {range} {range}] Moved");
        assert_eq!(lines.next(), Some(line.as_str()));
    }
    for number in (1..=2_001).rev() {
        assert_eq!(lines.next(), Some(format!("* {number} EXPUNGE").as_str()));
    }
    assert_eq!(lines.collect::<Vec<_>>(), ["c OK MOVE completed"]);
}

/// So are those that are expunged, also by CLOSE, which tells of none.
#[test]
fn many_messages_are_expunged_in_portions() {
    for command in ["EXPUNGE", "UID EXPUNGE 1:*", "CLOSE"] {
        let world = full(2_001, store::SystemFlags::DELETED);
        let inbox = world.mailbox("INBOX");
        let mut left = Vec::new();
        let sent = in_portions(&world, command, &mut || {
            left.push(world.store.status(inbox).unwrap().messages);
        });
        assert_eq!(left, [1_001, 1, 0], "{command}");
        let told = if command == "CLOSE" { 0 } else { 2_001 };
        assert_eq!(sent.matches(" EXPUNGE\r\n").count(), told, "{command}");
        assert_eq!(sent.lines().last().unwrap().split(' ').nth(1), Some("OK"), "{command}");
    }
}

/// Five hundred mailboxes are watched and one more is not: RFC 5465 §3.1, §5.8.
#[test]
fn more_mailboxes_than_can_be_watched_end_the_watch() {
    const WANTED: &str = "NOTIFY SET (personal (MessageNew MessageExpunge))\r\n";
    let mut world = World::new();
    for number in 0..494 {
        let name = MailboxName::parse(&format!("m{number}")).unwrap();
        let mailbox = NewMailbox { name, special_use: None };
        world.store.create_mailbox(world.anna, mailbox, now()).unwrap();
    }
    let connection = world.connect(true);
    world.feed(&connection, format!("a LOGIN anna {PASSWORD}\r\nb {WANTED}").as_bytes());
    assert!(text(&connection).ends_with("b OK NOTIFY completed\r\n"));
    let other = world.connect(true);
    world.feed(&other, format!("a LOGIN anna {PASSWORD}\r\nb CREATE Uno\r\n").as_bytes());
    let told = "* OK [NOTIFICATIONOVERFLOW] Too many mailboxes: nothing is told\r\n";
    assert_eq!(text(&connection), told);
    world.feed(&other, b"c APPEND INBOX {5+}\r\nuno\r\n\r\n");
    assert_eq!(text(&connection), "");
    world.feed(&connection, format!("c {WANTED}").as_bytes());
    let refused = "c NO [NOTIFICATIONOVERFLOW] Too many mailboxes to be watched: name fewer\r\n";
    assert_eq!(text(&connection), refused);
}

/// `BODY[1.MIME]` followed by `BODY[1]` are the octets that the signature covers, RFC 1847 §2.1.
#[test]
fn the_signed_octets_of_a_certified_message_can_be_fetched_exactly() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/transcripts/messages/04-busta-trasporto.eml"
    );
    let message = std::fs::read(path).unwrap();
    let delimiter = b"------=_SIG_0006_PecSpecExample\r\n";
    let mut delimiters = message.windows(delimiter.len()).enumerate();
    let mut next = || delimiters.find(|(_, octets)| octets == delimiter).unwrap().0;
    // The CRLF before the second delimiter belongs to it.
    let signed = &message[next() + delimiter.len()..next() - 2];

    let mut world = World::new();
    world.deliver("INBOX", &message);
    let connection = selected(&mut world);
    let fetched = ["BODY.PEEK[1.MIME]", "BODY.PEEK[1]"].map(|section| {
        world.feed(&connection, format!("c UID FETCH 1 {section}\r\n").as_bytes());
        let sent = sent(&connection);
        let start = sent.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        let announced = std::str::from_utf8(&sent[..start - 3]).unwrap();
        let octets: usize = announced.rsplit_once('{').unwrap().1.parse().unwrap();
        sent[start..start + octets].to_vec()
    });
    assert_eq!(fetched.concat().escape_ascii().to_string(), signed.escape_ascii().to_string());
}

#[test]
fn the_shell_can_end_a_session_and_show_that_it_lives() {
    let mut world = World::new();
    let connection = selected(&mut world);
    world.with_session(&connection, Session::handle_keepalive);
    assert_eq!(text(&connection), "");
    assert!(!connection.borrow().session().is_idle());
    world.feed(&connection, b"c IDLE\r\n");
    assert_eq!(text(&connection), "+ Idling\r\n");
    assert!(connection.borrow().session().is_idle());
    world.with_session(&connection, Session::handle_keepalive);
    assert_eq!(text(&connection), "* OK Still here\r\n");
    world.with_session(&connection, Session::handle_shutdown);
    assert_eq!(text(&connection), "* BYE The server is going down: connect again later\r\n");
    assert!(connection.borrow().closed);

    let silent = world.connect(false);
    sent(&silent);
    world.with_session(&silent, Session::handle_timeout);
    assert_eq!(text(&silent), "* BYE Nothing came for too long: connect again\r\n");
    assert!(silent.borrow().closed);
}

/// PEC-GEN-07: nobody but the PEC engine puts mail into a service mailbox, not even who reads it.
#[test]
fn nothing_can_be_appended_to_a_service_mailbox() {
    let world = World::new();
    let service = world
        .store
        .add_account(
            store::NewAccount {
                address: mail::Address::parse("ricevute@pec.example").unwrap(),
                user_id: None,
                owner: store::Owner::Provider,
                role: store::Role::ServiceMailbox,
                credentials: None,
                quota: store::Quota {
                    octets_max: 1000,
                    messages_max: None,
                    receipt_reserve_octets: 0,
                },
                ordinary_mail: None,
            },
            now(),
        )
        .unwrap();
    let mut session = Session::new(Arc::new(world.settings.clone()), true);
    session.handle_octets(b"a LOGIN ricevute segreto\r\n");
    session.authenticated(SaslAnswer::Success { account: service, data: None });
    while session.poll().is_some() {}
    session.handle_octets(b"b APPEND INBOX {5}\r\n");
    let Some(Step::Perform(job)) = session.poll() else { panic!("a job") };
    session.finish(job.run(&*world.store, now()));
    let Some(Step::Send(octets)) = session.poll() else { panic!("octets") };
    assert_eq!(
        String::from_utf8(octets).unwrap(),
        "b NO [NOPERM] A service mailbox takes no messages but the provider's own\r\n"
    );
}

#[test]
fn a_shutdown_waits_for_the_job_that_runs() {
    let world = World::new();
    let mut session = Session::new(Arc::new(world.settings.clone()), true);
    while session.poll().is_some() {}
    session.handle_octets(b"a LOGIN anna segreto\r\n");
    assert!(matches!(session.poll(), Some(Step::Sasl(_))));
    assert!(!session.wants_octets());
    session.authenticated(SaslAnswer::Success { account: world.anna, data: None });
    assert!(matches!(session.poll(), Some(Step::Send(_))));
    session.handle_octets(b"b STATUS INBOX (MESSAGES)\r\nc NOOP\r\n");
    let Some(Step::Perform(job)) = session.poll() else { panic!("a job") };
    assert!(!session.wants_octets());
    session.handle_shutdown();
    assert!(session.poll().is_none());
    session.finish(job.run(&*world.store, now()));
    let Some(Step::Send(octets)) = session.poll() else { panic!("octets") };
    assert_eq!(
        String::from_utf8(octets).unwrap(),
        "* STATUS \"INBOX\" (MESSAGES 0)\r\nb OK STATUS completed\r\n\
         * BYE The server is going down: connect again later\r\n"
    );
    assert!(matches!(session.poll(), Some(Step::Close)));
    assert!(session.poll().is_none());
}

#[test]
fn octets_that_wait_are_bounded() {
    let world = World::new();
    let mut session = Session::new(Arc::new(world.settings.clone()), true);
    session.handle_octets(b"a LOGIN anna segreto\r\n");
    while session.poll().is_some() {}
    // The answer is outstanding: nothing is wanted, and too much ends it.
    session.handle_octets(&vec![b'x'; limits::PENDING_OCTETS_LIMIT]);
    assert!(session.poll().is_none());
    session.handle_octets(b"x");
    let Some(Step::Send(octets)) = session.poll() else { panic!("octets") };
    assert_eq!(octets, b"* BYE Too much at once: wait for answers\r\n");
    assert!(matches!(session.poll(), Some(Step::Close)));
}

#[test]
fn no_answer_holds_more_than_a_bounded_piece() {
    let mut world = World::new();
    let long = [b"A: b\r\n\r\n", &[b'x'; 60 * 1024][..]].concat();
    for _ in 0..40 {
        world.deliver("INBOX", &long);
    }
    let mut session = Session::new(Arc::new(world.settings.clone()), true);
    session.handle_octets(b"a LOGIN anna segreto\r\n");
    while session.poll().is_some() {}
    session.authenticated(SaslAnswer::Success { account: world.anna, data: None });
    for command in
        [&b"b SELECT INBOX\r\n"[..], b"c FETCH 1:* BODY.PEEK[]\r\n", b"d FETCH 1:* BODY[]\r\n"]
    {
        session.handle_octets(command);
        let (mut held, mut jobs) = (0, 0);
        while let Some(step) = session.poll() {
            match step {
                Step::Send(octets) => held += octets.len(),
                Step::Perform(job) => {
                    jobs += 1;
                    session.finish(job.run(&*world.store, now()));
                    assert!(held < 1024 * 1024, "{held} octets from one job");
                    held = 0;
                }
                Step::SendStored { .. } => panic!("this is short enough"),
                _ => {}
            }
        }
        assert!(command.starts_with(b"b") || jobs > 4, "{jobs} jobs");
    }
    world.settings.host.clear();
}

/// Which commands a shell may run without handing them to another thread.
#[test]
fn what_reads_little_is_short() {
    let mut world = World::new();
    let many = usize::try_from(world.settings.append_octets_max).unwrap();
    world.deliver("INBOX", &vec![b'x'; many]);
    let mut session = Session::new(Arc::new(world.settings.clone()), true);
    session.handle_octets(b"a LOGIN anna segreto\r\n");
    while session.poll().is_some() {}
    session.authenticated(SaslAnswer::Success { account: world.anna, data: None });
    for (command, short) in [
        ("SELECT INBOX", false),
        ("NOOP", true),
        ("STATUS INBOX (MESSAGES)", true),
        ("GETQUOTAROOT INBOX", true),
        ("FETCH 1 (BODY.PEEK[])", true),
        ("UID FETCH 1:32 (FLAGS ENVELOPE)", true),
        ("UID FETCH 32:1,40 (FLAGS ENVELOPE)", false),
        ("FETCH 1:* FLAGS", false),
        ("UID FETCH 1 (FLAGS) (CHANGEDSINCE 1)", false),
        ("FETCH 1 BINARY.PEEK[1]", false),
        ("FETCH 1 BODY[]", false),
        ("SEARCH ALL", false),
        ("STORE 1 FLAGS (\\Seen)", false),
        ("COPY 1 INBOX", false),
        ("EXPUNGE", false),
        ("LIST \"\" *", false),
    ] {
        session.handle_octets(format!("c {command}\r\n").as_bytes());
        let mut asked = None;
        while let Some(step) = session.poll() {
            if let Step::Perform(job) = step {
                asked.get_or_insert(job.is_short());
                session.finish(job.run(&*world.store, now()));
            }
        }
        assert_eq!(asked, Some(short), "{command}");
    }
    world.settings.host.clear();
}

/// Where the index knows it, a message is not read: not even one that cannot be.
#[test]
fn a_search_for_a_word_reads_no_message_that_is_indexed() {
    let mut world = World::new();
    for text in ["Subject: fattura\r\n\r\nnulla", "S: x\r\n\r\nFattura", "S: x\r\n\r\nno"] {
        world.deliver("INBOX", text.as_bytes());
    }
    let inbox = world.mailbox("INBOX");
    let all = world.store.summaries(inbox, &UidSet::all(), 9).unwrap();
    let texts = all.iter().map(|one| (one.blob, imap::read(&*world.store, one.blob).unwrap().text));
    let texts = texts.collect();
    world.store.index_texts(inbox, all[2].uid, texts).unwrap();
    all.iter().for_each(|one| world.store.danger_damage(one.blob));
    let connection = selected(&mut world);
    for (key, found) in [
        ("TEXT fattura", "SEARCH 1 2"),
        ("BODY fattura", "SEARCH 2"),
        ("NOT BODY FATT", "SEARCH 1 3"),
        ("SUBJECT nowhere", "SEARCH"),
    ] {
        world.feed(&connection, format!("c SEARCH {key}\r\n").as_bytes());
        assert_eq!(text(&connection), format!("* {found}\r\nc OK SEARCH completed\r\n"));
    }
    // What the index does not tell is read.
    world.feed(&connection, b"d SEARCH SUBJECT fattura\r\n");
    assert!(text(&connection).contains("d NO "));
}

#[test]
fn nothing_secret_is_printed() {
    let world = World::new();
    let mut session = Session::new(Arc::new(world.settings.clone()), true);
    session.handle_octets(b"a LOGIN anna hunter2\r\n");
    while let Some(step) = session.poll() {
        let printed = format!("{step:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("104, 117"), "{printed}");
    }
}

/// Pieces of conversations, sensible and not.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"a LOGIN anna segreto\r\n",
        b"b SELECT INBOX\r\n",
        b"c EXAMINE INBOX\r\n",
        b"d FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE)\r\n",
        b"e FETCH 1:* (BODY[] BODY[1.MIME] BODY[TEXT]<0.5> RFC822.HEADER)\r\n",
        b"f UID FETCH 1:* BODY.PEEK[HEADER.FIELDS.NOT (From)]\r\n",
        b"g STORE 1:* +FLAGS (\\Deleted x)\r\n",
        b"h EXPUNGE\r\n",
        b"i APPEND INBOX {12+}\r\nA: b\r\n\r\nuno\n\r\n",
        b"j APPEND INBOX {12}\r\n",
        b"A: b\r\n\r\nuno\n\r\n",
        b"k SEARCH OR TEXT uno NOT SUBJECT {1+}\r\nx\r\n",
        b"l IDLE\r\n",
        b"DONE\r\n",
        b"m UID COPY 1:* Cestino\r\n",
        b"n UID MOVE 1 Cestino\r\n",
        b"o LIST \"\" *\r\n",
        b"p RENAME Cestino {3+}\r\nX/Y\r\n",
        b"q CLOSE\r\n",
        b"r AUTHENTICATE PLAIN\r\n",
        b"AGFubmEAc2VncmV0bw==\r\n",
        b"s NOOP\r\n",
        b"{5+}\r\n",
        b"{",
        b"\r\n",
        b"\0\xff\n",
        b"t GETQUOTAROOT INBOX\r\n",
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn conversation(octets: &[u8], cuts: &[usize]) -> (String, bool) {
    let mut world = World::new();
    let connection = world.connect(true);
    world.feed(&connection, b"a LOGIN anna segreto\r\nb SELECT INBOX\r\n");
    let mut rest = octets;
    for &cut in cuts.iter().cycle().take(octets.len()) {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        world.feed(&connection, piece);
        rest = after;
    }
    world.feed(&connection, rest);
    let closed = connection.borrow().closed;
    (sent(&connection).escape_ascii().to_string(), closed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn however_octets_are_cut_the_same_is_answered(
        octets in pieces(),
        cuts in prop::collection::vec(1usize..40, 1..10),
    ) {
        prop_assert_eq!(conversation(&octets, &[usize::MAX]), conversation(&octets, &cuts));
    }
}

/// RFC 9051 §7.1: what the user must see comes before the tagged answer, once.
#[test]
fn an_alert_is_told_when_the_user_has_signed_in() {
    let world = World::new();
    let mut session = Session::new(Arc::new(world.settings.clone()), true);
    let told = |session: &mut Session| {
        let mut told = String::new();
        while let Some(step) = session.poll() {
            if let Step::Send(octets) = step {
                told += std::str::from_utf8(&octets).unwrap();
            }
        }
        told
    };
    told(&mut session);
    session.handle_octets(b"a LOGIN anna segreto\r\n");
    told(&mut session);
    session.handle_alert("La casella e' piena");
    session.authenticated(SaslAnswer::Success { account: store::AccountId(1), data: None });
    let told = told(&mut session);
    assert!(told.starts_with("* OK [ALERT] La casella e' piena\r\na OK "), "{told}");
}

/// RFC 3516 §4.3: what one answer holds of decoded parts is bounded, however often a command names one.
#[test]
fn no_answer_holds_more_decoded_octets_than_a_bound() {
    let mut world = World::new();
    world.limit(1 << 40);
    // Eight MiB decoded: eight of them are the bound, and the ninth is one past it.
    let line = format!("{}\r\n", "QUJD".repeat(19));
    let lines = (8 << 20) / (19 * 3) + 1;
    let header = "Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    world.deliver("INBOX", format!("{header}{}", line.repeat(lines)).as_bytes());
    let anna = selected(&mut world);
    let parts = |count: usize| vec!["BINARY.PEEK[1]"; count].join(" ");
    let count = |octets: &[u8], what: &[u8]| {
        octets.windows(what.len()).filter(|window| window == &what).count()
    };
    world.feed(&anna, format!("c FETCH 1 ({})\r\n", parts(8)).as_bytes());
    let answer = sent(&anna);
    assert!(answer.ends_with(b"c OK FETCH completed\r\n"));
    assert_eq!(count(&answer, b"BINARY[1] {"), 8);
    world.feed(&anna, format!("d FETCH 1 ({})\r\n", parts(9)).as_bytes());
    let answer = sent(&anna);
    assert_eq!((count(&answer, b"BINARY[1] {"), count(&answer, b"BINARY[1] NIL")), (8, 1));
    let end =
        b"d NO [UNKNOWN-CTE] Some parts are in an encoding that is not known here: fetch their \
                BODY\r\n";
    assert!(answer.ends_with(end));
}
