//! What certified mail is marked with in mailboxes, and where receipts go.

use store::{FlagChange, Keyword, MailboxName, NewMailbox, NewMessage, Octets, UidSet};

use super::scene::{BIANCHI, ROSSI, Scene, address, now, offer};
use crate::keywords;
use crate::librarian::{self, Librarian, Reach};

/// The keywords of the messages of a mailbox, in their order.
fn marks(scene: &Scene, of: &str, mailbox: &str) -> Vec<String> {
    let store = &scene.site.store;
    let account = store.account_by_address(&address(of)).unwrap().unwrap().id;
    let mailbox = store.mailbox(account, &MailboxName::parse(mailbox).unwrap()).unwrap().id;
    let words = |flags: &store::Flags| {
        flags.keywords.iter().map(Keyword::as_str).collect::<Vec<_>>().join(" ")
    };
    let all = store.summaries(mailbox, &UidSet::all(), 99).unwrap();
    all.iter().map(|message| words(&message.flags)).collect()
}

/// Has the librarian read all mailboxes of an account.
fn read(scene: &Scene, of: &str) {
    let store = &scene.site.store;
    let account = store.account_by_address(&address(of)).unwrap().unwrap().id;
    for mailbox in store.mailboxes(account).unwrap() {
        while librarian::read_some(&scene.site, mailbox.id).unwrap() {}
    }
}

fn keep_copy(scene: &Scene, message_id: &str) {
    let store = &scene.site.store;
    let account = store.account_by_address(&address(ROSSI)).unwrap().unwrap().id;
    let sent = store.mailbox(account, &MailboxName::parse("Posta inviata").unwrap()).unwrap().id;
    let octets = format!("Message-ID: <{message_id}>\r\nSubject: copia\r\n\r\ntesto\r\n");
    let message = NewMessage {
        octets: Octets::Inline(octets.as_bytes().into()),
        flags: store::Flags::default(),
        received: now(),
        at: now(),
    };
    store.append(sent, message).unwrap();
}

#[test]
fn certified_mail_comes_with_a_keyword_of_its_kind() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI, "nessuno@pec.beta.example"]);
    scene.run();
    let mut found = marks(&scene, ROSSI, "INBOX");
    found.sort();
    assert_eq!(found, ["$PecAccettazione", "$PecConsegna", "$PecMancataConsegna"]);
    assert_eq!(marks(&scene, BIANCHI, "INBOX"), ["$PecBusta"]);
}

#[test]
fn receipts_go_where_an_account_wants_them() {
    let scene = Scene::new();
    let store = &scene.site.store;
    let account = store.account_by_address(&address(ROSSI)).unwrap().unwrap().id;
    let name = MailboxName::parse("Ricevute").unwrap();
    store.create_mailbox(account, NewMailbox { name, special_use: None }, now()).unwrap();
    offer(&scene, &[BIANCHI]);
    scene.run();
    assert_eq!(marks(&scene, ROSSI, "Ricevute"), ["$PecAccettazione", "$PecConsegna"]);
    assert_eq!(marks(&scene, ROSSI, "INBOX"), [""; 0]);
}

/// Whichever comes first, the copy or the receipts: the copy says what became of the message.
#[test]
fn the_senders_copy_says_what_became_of_the_message() {
    let scene = Scene::new();
    keep_copy(&scene, "cliente.1@pc.example");
    keep_copy(&scene, "altro@pc.example");
    offer(&scene, &[BIANCHI]);
    read(&scene, ROSSI);
    assert_eq!(marks(&scene, ROSSI, "Posta inviata"), ["$PecAccettata", ""]);
    scene.run();
    read(&scene, ROSSI);
    let done = "$PecAccettata $PecConsegnata";
    assert_eq!(marks(&scene, ROSSI, "Posta inviata"), [done, ""]);
    keep_copy(&scene, "cliente.1@pc.example");
    read(&scene, ROSSI);
    assert_eq!(marks(&scene, ROSSI, "Posta inviata"), [done, "", done]);
    // What its owner takes away stays away, until something new is known.
    let store = &scene.site.store;
    let account = store.account_by_address(&address(ROSSI)).unwrap().unwrap().id;
    let sent = store.mailbox(account, &MailboxName::parse("Posta inviata").unwrap()).unwrap().id;
    let change = FlagChange::Remove(keywords::flags(&[keywords::ACCEPTED]));
    store.change_flags(sent, &UidSet::all(), &change).unwrap();
    read(&scene, ROSSI);
    assert_eq!(marks(&scene, ROSSI, "Posta inviata")[0], "$PecConsegnata");
}

/// One account's import, however much it is, keeps nobody's copy waiting for longer than one of its portions.
#[test]
fn another_accounts_import_is_read_in_turns() {
    let scene = Scene::new();
    let store = &scene.site.store;
    let inbox = |of: &str| {
        let account = store.account_by_address(&address(of)).unwrap().unwrap().id;
        store.mailbox(account, &MailboxName::inbox()).unwrap().id
    };
    keep_copy(&scene, "cliente.1@pc.example");
    offer(&scene, &[BIANCHI]);
    scene.run();
    let import = |number: usize| NewMessage {
        octets: Octets::Inline(format!("Subject: {number}\r\n\r\ntesto\r\n").into_bytes().into()),
        flags: store::Flags::default(),
        received: now(),
        at: now(),
    };
    store.append_all(inbox(BIANCHI), (0..300).map(import).collect()).unwrap();
    let (librarian, mut reach) = (Librarian::default(), Reach::default());
    for mailbox in [inbox(BIANCHI), inbox(ROSSI), inbox(BIANCHI)] {
        librarian.mailbox_changed(mailbox);
    }
    let mut turn = |of: &str| {
        assert_eq!(librarian.next(), Some(Some(inbox(of))));
        librarian.take_turn(&scene.site, inbox(of), &mut reach);
    };
    turn(BIANCHI);
    assert_eq!(marks(&scene, ROSSI, "Posta inviata"), [""]);
    turn(ROSSI);
    assert_eq!(marks(&scene, ROSSI, "Posta inviata"), ["$PecAccettata $PecConsegnata"]);
    turn(BIANCHI);
    assert!(store.texts_indexed_to(inbox(BIANCHI)).unwrap().unwrap() < 300);
}

/// One receipt that the disk has lost keeps nobody from reading what came after it, nor does one copy.
#[test]
fn what_cannot_be_read_holds_up_nothing_behind_it() {
    let scene = Scene::new();
    keep_copy(&scene, "altro@pc.example");
    keep_copy(&scene, "cliente.1@pc.example");
    offer(&scene, &[BIANCHI]);
    scene.run();
    let store = &scene.site.store;
    let account = store.account_by_address(&address(ROSSI)).unwrap().unwrap().id;
    let blobs = |name: &str| {
        let mailbox = store.mailbox(account, &MailboxName::parse(name).unwrap()).unwrap().id;
        let all = store.summaries(mailbox, &UidSet::all(), 99).unwrap();
        all.iter().map(|message| message.blob).collect::<Vec<_>>()
    };
    scene.memory.danger_damage(blobs("INBOX")[0]);
    scene.memory.danger_damage(blobs("Posta inviata")[0]);
    read(&scene, ROSSI);
    assert_eq!(marks(&scene, ROSSI, "Posta inviata"), ["", "$PecAccettata $PecConsegnata"]);
    for mailbox in store.mailboxes(account).unwrap() {
        let behind = store.summaries(mailbox.id, &UidSet::all(), 99).unwrap();
        let last = behind.last().map_or(0, |message| message.uid.0.get());
        assert!(store.texts_indexed_to(mailbox.id).unwrap().unwrap() >= last);
    }
}

#[test]
fn a_message_that_did_not_reach_all_is_a_problem() {
    let scene = Scene::new();
    keep_copy(&scene, "cliente.1@pc.example");
    offer(&scene, &[BIANCHI, "nessuno@pec.beta.example"]);
    scene.run();
    read(&scene, ROSSI);
    assert_eq!(marks(&scene, ROSSI, "Posta inviata"), ["$PecAccettata $PecProblema"]);
    // Another's copy of the same message is another's.
    assert_eq!(marks(&scene, BIANCHI, "INBOX"), ["$PecBusta"]);
}
