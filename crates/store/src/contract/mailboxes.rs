//! Mailboxes.

use super::*;
use crate::{
    ANNOTATION_OCTETS_MAX, ANNOTATIONS_MAX, ENTRY_OCTETS_MAX, MAILBOXES_MAX, ModSeq,
    NAME_OCTETS_MAX, SUBSCRIPTIONS_MAX, SpecialUse, assert_refused,
};

fn names(store: &dyn Store, account: AccountId) -> Vec<String> {
    let own = store.mailboxes(account).unwrap().into_iter().filter(|mailbox| !mailbox.system);
    own.map(|mailbox| mailbox.name.to_string()).collect()
}

pub fn parents_are_created(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let new = NewMailbox { name: name("a/b/c"), special_use: Some(SpecialUse::Archive) };
    let made = store.create_mailbox(anna, new.clone(), at(5)).unwrap();
    assert_eq!((made.name.as_str(), made.special_use), ("a/b/c", Some(SpecialUse::Archive)));
    assert_eq!((made.system, made.created, made.account), (false, at(5), anna));
    assert_eq!(store.mailbox(anna, &name("a/b/c")).unwrap(), made);
    assert_eq!(store.mailbox(anna, &name("a/b")).unwrap().special_use, None);
    assert_eq!(names(&*store, anna), ["a", "a/b", "a/b/c"]);
    assert_refused!(store.create_mailbox(anna, new, at(5)), StoreError::MailboxExists);
    let inbox = NewMailbox { name: name("inbox"), special_use: None };
    assert_refused!(store.create_mailbox(anna, inbox, at(5)), StoreError::MailboxExists);
    assert_refused!(store.mailbox(anna, &name("A")), StoreError::NoSuchMailbox);
}

pub fn a_name_comes_back_with_a_higher_uid_validity(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let mut last = None;
    for _ in 0..3 {
        let id = create(&*store, anna, "x");
        append(&*store, id, b"m");
        let now = store.status(id).unwrap();
        assert_eq!((now.uid_next, now.mod_seq.0), (uid(2), 1));
        assert!(Some(now.uid_validity) > last);
        last = Some(now.uid_validity);
        store.delete_mailbox(id).unwrap();
        assert_refused!(store.status(id), StoreError::NoSuchMailbox);
        assert_refused!(store.delete_mailbox(id), StoreError::NoSuchMailbox);
    }
}

pub fn system_folders_stay(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    for mailbox in store.mailboxes(anna).unwrap() {
        assert_refused!(store.delete_mailbox(mailbox.id), StoreError::SystemMailbox);
        if mailbox.id != inbox {
            let renamed = store.rename_mailbox(mailbox.id, &name("y"), at(1));
            assert_refused!(renamed, StoreError::SystemMailbox);
        }
    }
    assert_eq!(store.mailboxes(anna).unwrap().len(), 6);
}

pub fn a_mailbox_with_children_stays(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let child = create(&*store, anna, "a/b");
    create(&*store, anna, "a0");
    create(&*store, anna, "a-");
    let parent = store.mailbox(anna, &name("a")).unwrap().id;
    assert_refused!(store.delete_mailbox(parent), StoreError::HasChildren);
    store.delete_mailbox(child).unwrap();
    store.delete_mailbox(parent).unwrap();
    assert_eq!(names(&*store, anna), ["a-", "a0"]);
}

pub fn a_rename_moves_what_is_below(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let leaf = create(&*store, anna, "a/b/c");
    create(&*store, anna, "ab");
    append(&*store, leaf, b"m");
    let before = store.status(leaf).unwrap();
    let a = store.mailbox(anna, &name("a")).unwrap().id;
    store.rename_mailbox(a, &name("x/y"), at(2)).unwrap();
    assert_eq!(names(&*store, anna), ["ab", "x", "x/y", "x/y/b", "x/y/b/c"]);
    assert_eq!(store.mailbox(anna, &name("x/y/b/c")).unwrap().id, leaf);
    assert_eq!(store.status(leaf).unwrap(), before);
    // Below itself: the old name is then a parent that it lacks.
    store.rename_mailbox(a, &name("x/y/z"), at(3)).unwrap();
    assert_eq!(names(&*store, anna), ["ab", "x", "x/y", "x/y/z", "x/y/z/b", "x/y/z/b/c"]);
    assert_ne!(store.mailbox(anna, &name("x/y")).unwrap().id, a);
}

pub fn a_rename_is_refused_where_the_name_is_taken_or_too_long(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let a = create(&*store, anna, "a");
    create(&*store, anna, "b");
    create(&*store, anna, "a/child");
    for taken in ["b", "a", "inbox", "Bozze"] {
        let renamed = store.rename_mailbox(a, &name(taken), at(1));
        assert_refused!(renamed, StoreError::MailboxExists);
    }
    let long = name(&"n".repeat(NAME_OCTETS_MAX));
    assert_refused!(store.rename_mailbox(a, &long, at(1)), StoreError::TooManyMailboxes);
    let nobody = MailboxId(999);
    assert_refused!(store.rename_mailbox(nobody, &name("c"), at(1)), StoreError::NoSuchMailbox);
    assert_eq!(names(&*store, anna), ["a", "a/child", "b"]);
}

/// RFC 9051 §6.3.6: INBOX stays, empty, and what is below it stays where it is.
pub fn renaming_inbox_moves_its_messages(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let below = create(&*store, anna, "INBOX/below");
    append(&*store, inbox, b"one");
    append(&*store, inbox, b"two");
    let held_before = held(&*store, anna);
    let uid_validity = store.status(inbox).unwrap().uid_validity;
    store.rename_mailbox(inbox, &name("old/mail"), at(9)).unwrap();
    let status = store.status(inbox).unwrap();
    assert_eq!((status.messages, status.uid_next, status.mod_seq.0), (0, uid(3), 3));
    assert_eq!(status.uid_validity, uid_validity);
    let target = store.mailbox(anna, &name("old/mail")).unwrap();
    assert!(!target.system && target.uid_validity > uid_validity);
    assert_eq!(store.open(target.id, false).unwrap().uids, uids(&[1, 2]));
    assert_eq!(store.mailbox(anna, &name("INBOX/below")).unwrap().id, below);
    assert_eq!(held(&*store, anna), held_before);
    assert_refused!(
        store.rename_mailbox(inbox, &MailboxName::inbox(), at(9)),
        StoreError::MailboxExists
    );
}

pub fn subscriptions_outlive_their_mailbox(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let id = create(&*store, anna, "x");
    assert!(!store.subscriptions(anna).unwrap().contains(&name("x")));
    store.subscribe(anna, &name("x"), true).unwrap();
    store.subscribe(anna, &name("x"), true).unwrap();
    store.subscribe(anna, &name("never there"), true).unwrap();
    store.rename_mailbox(id, &name("y"), at(1)).unwrap();
    store.delete_mailbox(id).unwrap();
    let names = store.subscriptions(anna).unwrap();
    assert_eq!(names.iter().filter(|one| **one == name("x")).count(), 1);
    assert!(names.contains(&name("never there")) && !names.contains(&name("y")));
    assert!(names.is_sorted());
    store.subscribe(anna, &name("x"), false).unwrap();
    store.subscribe(anna, &name("x"), false).unwrap();
    assert!(!store.subscriptions(anna).unwrap().contains(&name("x")));
}

pub fn one_mailbox_too_many_is_refused(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let mut there = store.mailboxes(anna).unwrap().len();
    // Twenty at a time: a deep name brings its parents.
    for branch in 0.. {
        let depth = (MAILBOXES_MAX - there).min(20);
        if depth == 0 {
            break;
        }
        create(&*store, anna, &format!("{branch}{}", "/x".repeat(depth - 1)));
        there += depth;
    }
    assert_eq!(store.mailboxes(anna).unwrap().len(), MAILBOXES_MAX);
    let more = NewMailbox { name: name("more"), special_use: None };
    assert_refused!(store.create_mailbox(anna, more, at(1)), StoreError::TooManyMailboxes);
    let zero = store.mailbox(anna, &name("0")).unwrap().id;
    let renamed = store.rename_mailbox(zero, &name("0/0"), at(1));
    assert_refused!(renamed, StoreError::TooManyMailboxes);
    assert_eq!(store.mailboxes(anna).unwrap().len(), MAILBOXES_MAX);
}

pub fn one_subscription_too_many_is_refused(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let there = store.subscriptions(anna).unwrap().len();
    std::thread::scope(|scope| {
        for part in 0..16 {
            let store = &store;
            scope.spawn(move || {
                for number in (there..SUBSCRIPTIONS_MAX).filter(|number| number % 16 == part) {
                    store.subscribe(anna, &name(&format!("n{number}")), true).unwrap();
                }
            });
        }
    });
    let more = name("more");
    assert_refused!(store.subscribe(anna, &more, true), StoreError::TooManyMailboxes);
    store.subscribe(anna, &MailboxName::inbox(), true).unwrap();
    store.subscribe(anna, &MailboxName::inbox(), false).unwrap();
    store.subscribe(anna, &more, true).unwrap();
}

/// A name is never a path, nor is it made equal to another that looks like it.
pub fn hostile_names_are_only_names(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let hostile = ["..", ".", "../x", "C:\\x", "' OR 1=1 --", "caf\u{e9}", "&-", "~"];
    for text in hostile {
        let id = create(&*store, anna, text);
        append(&*store, id, text.as_bytes());
    }
    for text in hostile {
        let id = store.mailbox(anna, &name(text)).unwrap().id;
        let blob = store.summaries(id, &UidSet::all(), 9).unwrap()[0].blob;
        assert_eq!(store.read(blob, 0, 99).unwrap(), text.as_bytes());
    }
    // One name, whether the accent comes with its letter or after it.
    let composed = store.mailbox(anna, &name("caf\u{e9}")).unwrap();
    assert_eq!(store.mailbox(anna, &name("cafe\u{301}")).unwrap(), composed);
    assert_eq!(composed.name.as_str(), "caf\u{e9}");
}

pub fn annotations_are_kept_with_what_they_are_about(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let carla = store.add_account(holder("carla@pec.example", octets_max(9)), at(1)).unwrap();
    let other = create(&*store, anna, "Altro");
    let set = |mailbox, changes: &[(&str, Option<&str>)]| {
        let changes = changes.iter().map(|(entry, value)| {
            ((*entry).to_owned(), value.map(|value| value.as_bytes().to_vec()))
        });
        store.annotate(anna, mailbox, changes.collect())
    };
    let kept = |mailbox| {
        let kept = store.annotations(anna, mailbox).unwrap();
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        kept.into_iter().map(|(entry, value)| (entry, text(value))).collect::<Vec<_>>()
    };
    let entry = |entry: &str, value: &str| (entry.to_owned(), value.to_owned());
    let before = store.status(inbox).unwrap().mod_seq;
    set(Some(inbox), &[("/private/comment", Some("uno")), ("/shared/b", Some(""))]).unwrap();
    assert_eq!(kept(Some(inbox)), [entry("/private/comment", "uno"), entry("/shared/b", "")]);
    assert_eq!(store.status(inbox).unwrap().mod_seq, ModSeq(before.0 + 1));
    set(Some(inbox), &[("/private/comment", Some("due")), ("/shared/b", None)]).unwrap();
    set(Some(inbox), &[("/private/comment", Some("due")), ("/shared/c", None)]).unwrap();
    assert_eq!(kept(Some(inbox)), [entry("/private/comment", "due")]);
    assert_eq!(store.status(inbox).unwrap().mod_seq, ModSeq(before.0 + 2));
    set(None, &[("/private/comment", Some("tre"))]).unwrap();
    set(Some(other), &[("/private/comment", Some("quattro"))]).unwrap();
    assert_eq!(kept(None), [entry("/private/comment", "tre")]);
    store.rename_mailbox(other, &name("Nuovo"), at(2)).unwrap();
    assert_eq!(kept(Some(other)), [entry("/private/comment", "quattro")]);
    // Nobody else's, and nothing that is gone.
    assert_refused!(store.annotations(carla, Some(inbox)), StoreError::NoSuchMailbox);
    assert_refused!(store.annotate(carla, Some(inbox), vec![]), StoreError::NoSuchMailbox);
    store.delete_mailbox(other).unwrap();
    assert_refused!(store.annotations(anna, Some(other)), StoreError::NoSuchMailbox);
    store.remove_account(anna).unwrap();
    assert_refused!(store.annotations(anna, None), StoreError::NoSuchAccount);
    assert_refused!(store.annotate(anna, None, vec![]), StoreError::NoSuchAccount);
}

pub fn annotations_are_bounded(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let entry = |number: usize| format!("/private/{number}");
    let set = |mailbox, numbers: std::ops::Range<usize>, octets: usize| {
        let changes = numbers.map(|number| (entry(number), Some(vec![b'x'; octets])));
        store.annotate(anna, mailbox, changes.collect())
    };
    let too_many = |result: Result<(), StoreError>| {
        assert_refused!(result, StoreError::TooManyAnnotations);
    };
    set(Some(inbox), 0..ANNOTATIONS_MAX, 1).unwrap();
    too_many(set(Some(inbox), 0..ANNOTATIONS_MAX + 1, 2));
    assert_eq!(store.annotations(anna, Some(inbox)).unwrap()[&entry(0)], b"x");
    too_many(set(None, 0..1, ANNOTATION_OCTETS_MAX + 1));
    set(None, 0..50, ANNOTATION_OCTETS_MAX).unwrap();
    // All of an account's together.
    let other = create(&*store, anna, "Altro");
    too_many(set(Some(other), 0..50, ANNOTATION_OCTETS_MAX));
    set(Some(other), 0..10, ANNOTATION_OCTETS_MAX).unwrap();
    store.delete_mailbox(other).unwrap();
    let other = create(&*store, anna, "Altro");
    set(Some(other), 0..10, ANNOTATION_OCTETS_MAX).unwrap();
    let long = "/".repeat(ENTRY_OCTETS_MAX + 1);
    too_many(store.annotate(anna, None, vec![(long, Some(vec![]))]));
}
