//! The copy of what a user sent that the server keeps where it is told to.

use std::sync::Arc;

use store::{AccountChange, AccountId, MailboxId, MailboxName, NewMessage, Octets, Quota, UidSet};

use super::scene::{BIANCHI, ROSSI, Scene, address, message, now, offer};
use crate::flow::access::Refusal;
use crate::flow::sent::JUST_NOW;
use crate::librarian;

fn keeping() -> Scene {
    let scene = Scene::new();
    let mut config = crate::config::Config::clone(&scene.site.config.load());
    config.submission.keep_sent_copy = true;
    scene.site.config.store(Arc::new(config));
    scene
}

fn rossi(scene: &Scene) -> (AccountId, MailboxId) {
    let store = &scene.site.store;
    let account = store.account_by_address(&address(ROSSI)).unwrap().unwrap().id;
    let sent = store.mailbox(account, &MailboxName::parse("Posta inviata").unwrap()).unwrap();
    (account, sent.id)
}

/// Octets, whether it is seen, and keywords of each message in *Posta inviata*.
fn copies(scene: &Scene) -> Vec<(String, bool, String)> {
    let store = &scene.site.store;
    let (_, sent) = rossi(scene);
    while librarian::read_some(&scene.site, sent).unwrap() {}
    let all = store.summaries(sent, &UidSet::all(), 99).unwrap();
    let copy = |one: store::Summary| {
        let octets = store.read(one.blob, 0, one.octets).unwrap();
        let words: Vec<_> = one.flags.keywords.iter().map(store::Keyword::as_str).collect();
        let seen = one.flags.system.contains(store::SystemFlags::SEEN);
        (String::from_utf8(octets).unwrap(), seen, words.join(" "))
    };
    all.into_iter().map(copy).collect()
}

#[test]
fn no_copy_is_kept_unless_the_provider_wants_it() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    scene.run();
    assert!(copies(&scene).is_empty());
}

#[test]
fn a_copy_is_what_the_client_sent_and_counts_once() {
    let scene = keeping();
    let (account, _) = rossi(&scene);
    let text = message(ROSSI, &[BIANCHI], "Offerta");
    offer(&scene, &[BIANCHI]);
    assert_eq!(copies(&scene), [(text.clone(), true, "$PecAccettata $PecCopia".to_owned())]);
    let usage = scene.site.store.usage(account).unwrap();
    assert_eq!((usage.octets, usage.messages), (text.len() as u64, 1));
    scene.run();
    let read = scene.site.store.mailbox(account, &MailboxName::inbox()).unwrap().id;
    while librarian::read_some(&scene.site, read).unwrap() {}
    let marked = "$PecAccettata $PecConsegnata $PecCopia".to_owned();
    assert_eq!(copies(&scene), [(text, true, marked)]);
}

/// A message that is not accepted was not sent.
#[test]
fn of_what_is_refused_there_is_no_copy() {
    let scene = keeping();
    let bcc = format!("Bcc: {BIANCHI}\r\n{}", message(ROSSI, &[BIANCHI], "Offerta"));
    scene.submit(ROSSI, &[BIANCHI], &bcc);
    scene.run();
    assert!(copies(&scene).is_empty());
}

#[test]
fn where_the_copy_does_not_fit_nothing_is_taken() {
    let scene = keeping();
    let (account, _) = rossi(&scene);
    let text = message(ROSSI, &[BIANCHI], "Offerta");
    let quota = |octets_max| {
        let quota = Quota { octets_max, messages_max: None, receipt_reserve_octets: 1 << 20 };
        AccountChange::Quota(quota)
    };
    scene.site.store.change_account(account, quota(text.len() as u64 - 1)).unwrap();
    match scene.try_submit(ROSSI, &[BIANCHI], &text) {
        Err(Refusal::Say(reply)) => assert_eq!(reply, smtp::reply::COPY_TOO_LARGE),
        Err(Refusal::Fault(error)) => panic!("{error:#}"),
        Ok(id) => panic!("taken as {id}"),
    }
    assert!(copies(&scene).is_empty());
    assert!(scene.records("cliente.1@pc.example").is_empty());
    assert!(!scene.step(), "a job was left");
    // With an octet more it fits, and is taken.
    scene.site.store.change_account(account, quota(text.len() as u64)).unwrap();
    scene.submit(ROSSI, &[BIANCHI], &text);
    assert_eq!(copies(&scene).len(), 1);
}

fn append(scene: &Scene, octets: &str) {
    let (_, sent) = rossi(scene);
    let message = NewMessage {
        octets: Octets::Inline(octets.as_bytes().into()),
        flags: store::Flags::default(),
        received: now(),
        at: now(),
    };
    scene.site.store.append(sent, message).unwrap();
}

/// Looked for among the latest only: a long *Posta inviata* costs no submission anything.
#[test]
fn a_copy_that_was_kept_long_ago_is_none_of_this_message() {
    for (later, kept) in [(JUST_NOW - 1, 0), (JUST_NOW, 1)] {
        let scene = keeping();
        append(&scene, "Message-ID: <cliente.1@pc.example>\r\n\r\ntesto\r\n");
        (0..later).for_each(|_| append(&scene, "Subject: altro\r\n\r\ntesto\r\n"));
        offer(&scene, &[BIANCHI]);
        let before = usize::try_from(later + 1).unwrap();
        assert_eq!(copies(&scene).len(), before + kept, "after {later} others");
    }
}

/// Some clients keep their own copy first.
#[test]
fn where_a_copy_is_already_no_other_is_kept() {
    let scene = keeping();
    let own = "Message-ID: <cliente.1@pc.example>\r\nSubject: Offerta\r\n\r\ntesto\r\n";
    append(&scene, own);
    offer(&scene, &[BIANCHI]);
    let kept = copies(&scene);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].0, own);
}
