//! Messages, flags, and what a session is told.

use std::sync::Mutex;

use super::*;
use crate::{
    AccountChange, BlobId, FlagChange, KEYWORDS_MAX, MessageText, ModSeq, Summary, Within,
    assert_refused,
};

pub fn what_is_appended_is_read_back(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    let mut flags = keywords(&["$Forwarded", "Cliente"]);
    flags.system = SystemFlags::SEEN.with(SystemFlags::FLAGGED);
    let first = store.append(inbox, message(b"octets\r\n", flags.clone())).unwrap();
    assert_eq!(first.uid, uid(1));
    assert_eq!(first.uid_validity, store.status(inbox).unwrap().uid_validity);
    assert_eq!(append(&*store, inbox, b""), uid(2));
    let summaries = store.summaries(inbox, &UidSet::all(), 9).unwrap();
    assert_eq!(summaries.len(), 2);
    let one = &summaries[0];
    assert_eq!((one.uid, &one.flags, one.mod_seq), (uid(1), &flags, ModSeq(1)));
    assert_eq!((one.octets, one.received, one.saved), (8, at(10), at(20)));
    assert_eq!(store.read(one.blob, 0, u64::MAX).unwrap(), b"octets\r\n");
    assert_eq!(store.octets(one.blob).unwrap(), 8);
    assert_eq!(store.read(summaries[1].blob, 0, 9).unwrap(), b"");
    assert_eq!(store.octets(summaries[1].blob).unwrap(), 0);
    // Octets that are there already can be appended again, and those that are gone cannot.
    let again = NewMessage { octets: Octets::Stored(one.blob), ..message(b"", flags) };
    assert_eq!(store.append(inbox, again).unwrap().uid, uid(3));
    let gone = BlobId(u64::MAX >> 1);
    let none = NewMessage { octets: Octets::Stored(gone), ..message(b"", Flags::default()) };
    assert_refused!(store.append(inbox, none), StoreError::NoSuchMessage);
    assert_refused!(store.read(gone, 0, 1), StoreError::NoSuchMessage);
    assert_refused!(store.octets(gone), StoreError::NoSuchMessage);
    assert_eq!(store.status(inbox).unwrap().messages, 3);
}

pub fn several_are_added_together_or_not_at_all(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let three = |first: &[u8]| {
        let octets = [first, b"due", b""];
        octets.map(|octets| message(octets, system(SystemFlags::SEEN))).into_iter().collect()
    };
    let (validity, added) = store.append_all(inbox, three(b"uno")).unwrap();
    assert_eq!(validity, store.status(inbox).unwrap().uid_validity);
    assert_eq!(added, [uid(1), uid(2), uid(3)]);
    let summaries = store.summaries(inbox, &UidSet::all(), 9).unwrap();
    let told: Vec<_> = summaries.iter().map(|one| (one.octets, one.mod_seq)).collect();
    assert_eq!(told, [(3, ModSeq(1)), (3, ModSeq(1)), (0, ModSeq(1))]);
    assert_eq!(store.read(summaries[1].blob, 0, 9).unwrap(), b"due");
    assert_eq!(held(&*store, anna), (6, 3));
    assert_eq!(store.append_all(inbox, vec![]).unwrap().1, []);
    // The last one would not fit: none is there.
    store.change_account(anna, AccountChange::Quota(octets_max(13))).unwrap();
    assert_refused!(store.append_all(inbox, three(b"cinque")), StoreError::OverQuota(_));
    let gone = NewMessage {
        octets: Octets::Stored(BlobId(u64::MAX >> 1)),
        ..message(b"", Flags::default())
    };
    let refused = store.append_all(inbox, vec![message(b"x", Flags::default()), gone]);
    assert_refused!(refused, StoreError::NoSuchMessage);
    assert_eq!(held(&*store, anna), (6, 3));
    assert_eq!(store.status(inbox).unwrap().uid_next, uid(4));
    assert_refused!(store.append_all(MailboxId(9_999), vec![]), StoreError::NoSuchMailbox);
}

pub fn one_is_replaced_by_another_in_one_step(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let other = create(&*store, anna, "Altro");
    let old = append(&*store, inbox, b"bozza");
    store.change_account(anna, AccountChange::Quota(octets_max(6))).unwrap();
    let new = |octets: &[u8]| message(octets, system(SystemFlags::DRAFT));
    // What goes makes room for what comes, and no more than that.
    assert_refused!(store.replace(inbox, new(b"bozza 2"), (inbox, old)), StoreError::OverQuota(_));
    let before = store.status(inbox).unwrap().mod_seq;
    let added = store.replace(inbox, new(b"bozza2"), (inbox, old)).unwrap();
    assert_eq!(added.uid, uid(2));
    let changes = store.changes(inbox, before).unwrap();
    assert_eq!(changes.mod_seq, ModSeq(before.0 + 1));
    assert_eq!(changes.expunged, uids(&[1]));
    assert_eq!(changes.updated.iter().map(|update| update.uid).collect::<Vec<_>>(), [uid(2)]);
    assert_eq!(held(&*store, anna), (6, 1));
    assert_refused!(store.replace(inbox, new(b"x"), (inbox, old)), StoreError::NoSuchMessage);
    // Across mailboxes, each of which counts a change.
    let there = store.status(other).unwrap().mod_seq;
    let moved = store.replace(other, new(b"inviata"), (inbox, uid(2)));
    assert_refused!(moved, StoreError::OverQuota(_));
    assert_eq!(store.replace(other, new(b"invio"), (inbox, uid(2))).unwrap().uid, uid(1));
    assert_eq!(store.status(inbox).unwrap().messages, 0);
    assert_eq!(store.changes(inbox, changes.mod_seq).unwrap().expunged, uids(&[2]));
    assert_eq!(store.status(other).unwrap().mod_seq, ModSeq(there.0 + 1));
    assert_eq!(held(&*store, anna), (5, 1));
}

pub fn octets_are_read_in_pieces(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    for length in [1usize, 65_535, 65_536, 65_537, 300_000, 1_048_577] {
        let octets: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let uid = append(&*store, inbox, &octets);
        let set = std::iter::once(uid).collect();
        let blob = store.summaries(inbox, &set, 1).unwrap()[0].blob;
        let length = length as u64;
        let edges =
            [0, 1, 65_535, 65_536, 65_537, 131_072, length / 2, length - 1, length, length + 9];
        for start in edges {
            for end in edges {
                let to = end.min(length) as usize;
                let from = (start as usize).min(to);
                let read = store.read(blob, start, end).unwrap();
                assert!(read == octets[from..to], "{start}..{end} of {length}");
            }
        }
    }
}

pub fn a_spool_is_stored_at_any_size(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let mut total = 0;
    for length in
        [0usize, 10, 262_144, 262_145, 700_000, 1_048_576, 1_048_577, 3_000_000, 6_000_001]
    {
        // Nothing comes twice: each piece has its place.
        let octet = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
        let octets: Vec<u8> = (0..length).map(octet).collect();
        let mut spool = store.spool().unwrap();
        for piece in octets.chunks(100_001) {
            spool.write(piece).unwrap();
        }
        let spooled = spool.finish().unwrap();
        assert_eq!(spooled.octets(), length as u64);
        assert!(spooled.read(0, u64::MAX).unwrap() == octets);
        assert!(spooled.read(5, 9).unwrap() == octets[5.min(length)..9.min(length)]);
        let new = NewMessage { octets: Octets::Spooled(spooled), ..message(b"", Flags::default()) };
        let uid = store.append(inbox, new).unwrap().uid;
        let set = std::iter::once(uid).collect();
        let stored = &store.summaries(inbox, &set, 1).unwrap()[0];
        assert_eq!(stored.octets, length as u64);
        assert!(store.read(stored.blob, 0, u64::MAX).unwrap() == octets);
        total += length as u64;
    }
    assert_eq!(held(&*store, anna), (total, 9));
    // One that is dropped leaves nothing, and a refused one neither.
    store.spool().unwrap().write(&[0; 400_000]).unwrap();
    let mut spool = store.spool().unwrap();
    spool.write(&[0; 2_000_000]).unwrap();
    let octets = Octets::Spooled(spool.finish().unwrap());
    let new = NewMessage { octets, ..message(b"", Flags::default()) };
    assert_refused!(store.append(MailboxId(999), new), StoreError::NoSuchMailbox);
    assert_eq!(held(&*store, anna), (total, 9));
}

pub fn summaries_come_in_order_and_bounded(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    for _ in 0..9 {
        append(&*store, inbox, b"m");
    }
    let found = |set: &UidSet, limit| -> Vec<u32> {
        let found = store.summaries(inbox, set, limit).unwrap();
        found.iter().map(|summary| summary.uid.0.get()).collect()
    };
    assert_eq!(found(&uids(&[9, 1, 3, 77]), 99), [1, 3, 9]);
    assert_eq!(found(&UidSet::all(), 4), [1, 2, 3, 4]);
    assert_eq!(found(&UidSet::from_ranges([(uid(5), uid(u32::MAX))]), 2), [5, 6]);
    assert_eq!(found(&UidSet::all(), 0), [0; 0]);
    assert_eq!(found(&UidSet::default(), 9), [0; 0]);
}

pub fn flags_change_and_count(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    for octets in [&b"one"[..], b"two2", b"three"] {
        append(&*store, inbox, octets);
    }
    let seen = system(SystemFlags::SEEN);
    let both = SystemFlags::SEEN.with(SystemFlags::DELETED);
    let updates = store.change_flags(inbox, &uids(&[1, 3, 9]), &FlagChange::Add(seen)).unwrap();
    let told: Vec<_> = updates.iter().map(|u| (u.uid.0.get(), u.mod_seq.0)).collect();
    assert_eq!(told, [(1, 4), (3, 4)]);
    // A message that has them already keeps its MODSEQ, and is told all the same.
    let add = FlagChange::Add(system(both));
    let updates = store.change_flags(inbox, &uids(&[1]), &add).unwrap();
    assert_eq!((updates[0].flags.system, updates[0].mod_seq), (both, ModSeq(5)));
    let updates = store.change_flags(inbox, &uids(&[1]), &add).unwrap();
    assert_eq!(updates[0].mod_seq, ModSeq(5));
    let status = store.status(inbox).unwrap();
    assert_eq!((status.unseen, status.deleted), (1, 1));
    assert_eq!((status.octets, status.deleted_octets), (12, 3));
    assert_eq!(status.mod_seq, ModSeq(5));
    // Keywords: case aside, and spelled as the mailbox saw them first.
    let replace = FlagChange::Replace(keywords(&["Cliente", "$Junk"]));
    store.change_flags(inbox, &uids(&[1]), &replace).unwrap();
    let add = FlagChange::Add(keywords(&["CLIENTE"]));
    let updates = store.change_flags(inbox, &uids(&[1, 2]), &add).unwrap();
    assert_eq!((updates[0].mod_seq, updates[1].mod_seq), (ModSeq(6), ModSeq(7)));
    let spelled: Vec<_> = updates[1].flags.keywords.iter().map(|k| k.as_str()).collect();
    assert_eq!(spelled, ["Cliente"]);
    let remove = FlagChange::Remove(keywords(&["cliente"]));
    let updates = store.change_flags(inbox, &UidSet::all(), &remove).unwrap();
    assert_eq!(updates[0].flags, keywords(&["$junk"]));
    assert_eq!(updates[1].flags, Flags::default());
    // They stay known, and removing one that never was makes none known.
    let remove = FlagChange::Remove(keywords(&["never"]));
    store.change_flags(inbox, &UidSet::all(), &remove).unwrap();
    let known = store.open(inbox, false).unwrap().keywords;
    let known: Vec<_> = known.iter().map(|k| k.as_str()).collect();
    assert_eq!(known, ["$Junk", "Cliente"]);
    let status = store.status(inbox).unwrap();
    assert_eq!((status.unseen, status.deleted, status.deleted_octets), (2, 0, 0));
}

pub fn flags_change_only_where_nothing_else_did(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    for octets in [&b"one"[..], b"two", b"three"] {
        append(&*store, inbox, octets);
    }
    // Of 1 to 3 the mod-sequences are 1, 4 and 3.
    let seen = FlagChange::Add(system(SystemFlags::SEEN));
    store.change_flags(inbox, &uids(&[2]), &seen).unwrap();
    let flag = FlagChange::Add(system(SystemFlags::FLAGGED));
    let change = |set: &[u32], since| {
        store.change_flags_unchanged(inbox, &uids(set), &flag, ModSeq(since)).unwrap()
    };
    let told = |updates: Vec<crate::FlagUpdate>| -> Vec<(u32, u64)> {
        updates.iter().map(|update| (update.uid.0.get(), update.mod_seq.0)).collect()
    };
    let (updates, others) = change(&[1, 2, 3, 9], 3);
    assert_eq!((told(updates), others), (vec![(1, 5), (3, 5)], vec![uid(2)]));
    let kept = &store.summaries(inbox, &uids(&[2]), 1).unwrap()[0];
    assert_eq!((&kept.flags, kept.mod_seq), (&system(SystemFlags::SEEN), ModSeq(4)));
    // What was just changed has changed, and nothing is unchanged since ever.
    let (updates, others) = change(&[1, 2], 4);
    assert_eq!((told(updates), others), (vec![(2, 6)], vec![uid(1)]));
    let (updates, others) = change(&[1, 2, 3], 0);
    assert_eq!((told(updates), others), (vec![], vec![uid(1), uid(2), uid(3)]));
    assert_eq!(store.status(inbox).unwrap().mod_seq, ModSeq(6));
    // One that has the flags already keeps its mod-sequence.
    let (updates, others) = change(&[1, 2, 3], 6);
    assert_eq!((told(updates), others), (vec![(1, 5), (2, 6), (3, 5)], vec![]));
    let gone = MailboxId(999);
    let refused = store.change_flags_unchanged(gone, &uids(&[1]), &flag, ModSeq(9));
    assert_refused!(refused, StoreError::NoSuchMailbox);
}

pub fn one_keyword_too_many_is_refused(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let other = create(&*store, anna, "other");
    let text: Vec<String> = (0..KEYWORDS_MAX).map(|number| format!("k{number}")).collect();
    let text: Vec<&str> = text.iter().map(String::as_str).collect();
    store.append(inbox, message(b"m", keywords(&text))).unwrap();
    let one_more = FlagChange::Replace(keywords(&["k0", "one-more"]));
    let refused = store.change_flags(inbox, &uids(&[1]), &one_more);
    assert_refused!(refused, StoreError::TooManyKeywords);
    let refused = store.append(inbox, message(b"m", keywords(&["one-more"])));
    assert_refused!(refused, StoreError::TooManyKeywords);
    store.append(inbox, message(b"m", keywords(&["K7"]))).unwrap();
    store.append(other, message(b"m", keywords(&["one-more"]))).unwrap();
    let refused = store.copy(other, &uids(&[1]), inbox, at(9));
    assert_refused!(refused, StoreError::TooManyKeywords);
    let refused = store.move_messages(other, &uids(&[1]), inbox, at(9));
    assert_refused!(refused, StoreError::TooManyKeywords);
    assert_eq!(store.status(inbox).unwrap().messages, 2);
    assert_eq!(held(&*store, anna), (3, 3));
    // Whoever filled a mailbox with keywords is delivered to all the same.
    let flags = keywords(&["K7", "one-more"]);
    let delivery = Delivery { flags, ..delivery("anna@pec.example", Charge::Quota) };
    let step = Transaction {
        octets: vec![Octets::Inline(b"m".to_vec().into())],
        deliver: vec![delivery],
        ..Transaction::default()
    };
    store.commit(step).unwrap();
    let delivered = store.summaries(inbox, &uids(&[3]), 9).unwrap();
    assert_eq!(delivered[0].flags, keywords(&["k7"]));
}

pub fn changes_are_told_since_any_time(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    for _ in 0..4 {
        append(&*store, inbox, b"m");
    }
    let deleted = FlagChange::Add(system(SystemFlags::DELETED));
    store.change_flags(inbox, &uids(&[2, 3]), &deleted).unwrap();
    store.expunge(inbox, None).unwrap();
    append(&*store, inbox, b"m");
    let told = |since| {
        let changes = store.changes(inbox, ModSeq(since)).unwrap();
        let updated: Vec<_> =
            changes.updated.iter().map(|u| (u.uid.0.get(), u.mod_seq.0)).collect();
        (changes.mod_seq.0, updated, changes.expunged)
    };
    assert_eq!(told(0), (7, vec![(1, 1), (4, 4), (5, 7)], uids(&[2, 3])));
    assert_eq!(told(4), (7, vec![(5, 7)], uids(&[2, 3])));
    assert_eq!(told(6), (7, vec![(5, 7)], UidSet::default()));
    assert_eq!(told(7), (7, vec![], UidSet::default()));
    assert_eq!(told(u64::MAX), (7, vec![], UidSet::default()));
}

pub fn recent_is_told_once(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    append(&*store, inbox, b"one");
    append(&*store, inbox, b"two");
    let examined = store.open(inbox, false).unwrap();
    assert_eq!((examined.status.recent, examined.recent_from), (2, uid(1)));
    assert_eq!(examined.first_unseen, Some(uid(1)));
    let selected = store.open(inbox, true).unwrap();
    assert_eq!(selected, examined);
    let next = store.open(inbox, true).unwrap();
    assert_eq!((next.status.recent, next.recent_from), (0, uid(3)));
    assert_eq!(next.status.mod_seq, examined.status.mod_seq);
    append(&*store, inbox, b"three");
    let deleted = FlagChange::Add(system(SystemFlags::DELETED.with(SystemFlags::SEEN)));
    store.change_flags(inbox, &uids(&[1, 3]), &deleted).unwrap();
    assert_eq!(store.status(inbox).unwrap().recent, 1);
    assert_eq!(store.open(inbox, false).unwrap().first_unseen, Some(uid(2)));
    store.expunge(inbox, None).unwrap();
    assert_eq!(store.status(inbox).unwrap().recent, 0);
}

pub fn copies_keep_flags_and_dates(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let other = create(&*store, anna, "other");
    let mut flags = keywords(&["Cliente"]);
    flags.system = SystemFlags::SEEN;
    store.append(inbox, message(b"one", flags.clone())).unwrap();
    append(&*store, inbox, b"two");
    append(&*store, inbox, b"three");
    let copied = store.copy(inbox, &uids(&[3, 1, 8]), other, at(50)).unwrap();
    assert_eq!(copied.uid_validity, store.status(other).unwrap().uid_validity);
    assert_eq!(copied.uids, [(uid(1), uid(1)), (uid(3), uid(2))]);
    let there = store.summaries(other, &UidSet::all(), 9).unwrap();
    assert_eq!((&there[0].flags, there[0].received, there[0].saved), (&flags, at(10), at(50)));
    assert_eq!((there[0].mod_seq, there[1].mod_seq), (ModSeq(1), ModSeq(1)));
    assert_eq!(store.read(there[1].blob, 0, 9).unwrap(), b"three");
    let status = store.status(other).unwrap();
    assert_eq!((status.messages, status.unseen, status.recent, status.octets), (2, 1, 2, 8));
    // Nothing to copy changes nothing; a copy may stay in its mailbox.
    assert!(store.copy(inbox, &uids(&[9]), other, at(50)).unwrap().uids.is_empty());
    assert_eq!(store.status(other).unwrap(), status);
    let here = store.copy(other, &uids(&[2]), other, at(51)).unwrap();
    assert_eq!(here.uids, [(uid(2), uid(3))]);
    assert_eq!(store.status(inbox).unwrap().mod_seq, ModSeq(3));
}

pub fn moves_vanish_here_and_appear_there(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let other = create(&*store, anna, "other");
    for octets in [&b"one"[..], b"two", b"three"] {
        append(&*store, inbox, octets);
    }
    let moved = store.move_messages(inbox, &uids(&[3, 1]), other, at(50)).unwrap();
    assert_eq!(moved.uids, [(uid(1), uid(1)), (uid(3), uid(2))]);
    assert_eq!(store.open(inbox, false).unwrap().uids, uids(&[2]));
    assert_eq!(store.changes(inbox, ModSeq(3)).unwrap().expunged, uids(&[1, 3]));
    assert_eq!(store.status(inbox).unwrap().mod_seq, ModSeq(4));
    assert_eq!(store.status(inbox).unwrap().octets, 3);
    assert_eq!(store.status(other).unwrap().octets, 8);
    // Within a mailbox: new UIDs for old, in one change.
    let moved = store.move_messages(other, &uids(&[1]), other, at(51)).unwrap();
    assert_eq!(moved.uids, [(uid(1), uid(3))]);
    let changes = store.changes(other, ModSeq(1)).unwrap();
    assert_eq!((changes.mod_seq, changes.expunged), (ModSeq(2), uids(&[1])));
    assert_eq!(store.status(other).unwrap().messages, 2);
    // Not out of an account.
    let bruno = store.add_account(holder("bruno@pec.example", octets_max(99)), at(0)).unwrap();
    let his = store.mailbox(bruno, &MailboxName::inbox()).unwrap().id;
    let refused = store.move_messages(other, &UidSet::all(), his, at(9));
    assert_refused!(refused, StoreError::NoSuchMailbox);
    assert_eq!(held(&*store, anna), (11, 3));
}

pub fn only_what_is_deleted_is_expunged(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    for _ in 0..5 {
        append(&*store, inbox, b"m");
    }
    assert!(store.expunge(inbox, None).unwrap().is_empty());
    let deleted = FlagChange::Add(system(SystemFlags::DELETED));
    store.change_flags(inbox, &uids(&[1, 2, 5]), &deleted).unwrap();
    let mod_seq = store.status(inbox).unwrap().mod_seq;
    assert!(store.expunge(inbox, Some(&uids(&[3, 4]))).unwrap().is_empty());
    assert_eq!(store.status(inbox).unwrap().mod_seq, mod_seq);
    assert_eq!(store.expunge(inbox, Some(&uids(&[2, 3]))).unwrap(), [uid(2)]);
    assert_eq!(store.expunge_some(inbox, None, 1).unwrap(), [uid(1)]);
    assert_eq!(store.expunge_some(inbox, None, 0).unwrap(), []);
    assert_eq!(store.expunge_some(inbox, None, 2).unwrap(), [uid(5)]);
    let opened = store.open(inbox, false).unwrap();
    assert_eq!((opened.uids, opened.status.uid_next), (uids(&[3, 4]), uid(6)));
    assert_eq!((opened.status.deleted, opened.status.deleted_octets), (0, 0));
}

pub fn a_mailbox_that_is_gone_is_named_so(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let gone = create(&*store, anna, "gone");
    append(&*store, inbox, b"m");
    store.delete_mailbox(gone).unwrap();
    let all = UidSet::all();
    assert_refused!(store.status(gone), StoreError::NoSuchMailbox);
    assert_refused!(store.open(gone, true), StoreError::NoSuchMailbox);
    assert_refused!(store.open(gone, false), StoreError::NoSuchMailbox);
    assert_refused!(store.summaries(gone, &all, 9), StoreError::NoSuchMailbox);
    assert_refused!(store.changes(gone, ModSeq(0)), StoreError::NoSuchMailbox);
    let new = message(b"m", Flags::default());
    assert_refused!(store.append(gone, new), StoreError::NoSuchMailbox);
    assert_refused!(store.copy(gone, &all, inbox, at(0)), StoreError::NoSuchMailbox);
    assert_refused!(store.copy(inbox, &all, gone, at(0)), StoreError::NoSuchMailbox);
    assert_refused!(store.move_messages(gone, &all, inbox, at(0)), StoreError::NoSuchMailbox);
    assert_refused!(store.move_messages(inbox, &all, gone, at(0)), StoreError::NoSuchMailbox);
    let change = FlagChange::Add(system(SystemFlags::SEEN));
    assert_refused!(store.change_flags(gone, &all, &change), StoreError::NoSuchMailbox);
    assert_refused!(store.expunge(gone, None), StoreError::NoSuchMailbox);
    assert_eq!(held(&*store, anna), (1, 1));
}

pub fn octets_live_as_long_as_somebody_refers_to_them(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let other = create(&*store, anna, "other");
    let large = vec![7; 1_500_000];
    for octets in [&b"small"[..], &large] {
        let uid = append(&*store, inbox, octets);
        let one: UidSet = std::iter::once(uid).collect();
        let blob = store.summaries(inbox, &one, 1).unwrap()[0].blob;
        store.copy(inbox, &one, other, at(1)).unwrap();
        let deleted = FlagChange::Add(system(SystemFlags::DELETED));
        store.change_flags(inbox, &one, &deleted).unwrap();
        store.expunge(inbox, None).unwrap();
        assert!(store.read(blob, 0, u64::MAX).unwrap() == octets);
        store.change_flags(other, &UidSet::all(), &deleted).unwrap();
        store.expunge(other, None).unwrap();
        assert_refused!(store.read(blob, 0, 1), StoreError::NoSuchMessage);
        assert_refused!(store.octets(blob), StoreError::NoSuchMessage);
    }
}

pub fn octets_that_are_held_are_read_although_nobody_refers_to_them(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    // Nothing comes twice: each piece has its place.
    let octet = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
    for length in [1_usize, 65_537, 1_500_000] {
        let octets: Vec<u8> = (length..2 * length).map(octet).collect();
        let uid = append(&*store, inbox, &octets);
        let one: UidSet = std::iter::once(uid).collect();
        let blob = store.summaries(inbox, &one, 1).unwrap()[0].blob;
        let whole = store.hold(blob, 0, u64::MAX).unwrap();
        let (from, until) = (length / 3, length - length / 3);
        let part = store.hold(blob, from as u64, until as u64).unwrap();
        let nothing = store.hold(blob, length as u64, u64::MAX).unwrap();
        let deleted = FlagChange::Add(system(SystemFlags::DELETED));
        store.change_flags(inbox, &one, &deleted).unwrap();
        store.expunge(inbox, None).unwrap();
        // What comes after it, so that the store has a reason to tidy up.
        append(&*store, inbox, b"altro");
        while store.compact().unwrap().segments > 0 {}
        assert_refused!(store.read(blob, 0, 1), StoreError::NoSuchMessage);
        assert_refused!(store.hold(blob, 0, 1), StoreError::NoSuchMessage);
        for (start, end) in [(0, length), (from, until), (from + 1, until - until / 7), (5, 5)] {
            let (start, end) = (start.min(length), end.min(length));
            let read = whole.read(start as u64, end as u64).unwrap();
            assert!(read == octets.get(start..end).unwrap_or_default(), "{length}: {start}..{end}");
        }
        for piece in (from..until).step_by(10_000) {
            let end = until.min(piece + 10_000);
            let read = part.read(piece as u64, end as u64).unwrap();
            assert!(read == octets[piece..end], "{length}: {piece}..{end}");
        }
        assert_eq!(nothing.read(length as u64, u64::MAX).unwrap(), b"");
        assert!(whole.weight() >= part.weight() && part.weight() > 0);
    }
}

pub fn listeners_hear_of_each_change(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let other = create(&*store, anna, "other");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&heard);
    store.listen(Box::new(move |mailbox| tell.lock().unwrap().push(mailbox)));
    let heard = || std::mem::take(&mut *heard.lock().unwrap());
    append(&*store, inbox, b"m");
    assert_eq!(heard(), [inbox]);
    store.copy(inbox, &uids(&[1]), other, at(1)).unwrap();
    assert_eq!(heard(), [other]);
    store.move_messages(other, &uids(&[1]), inbox, at(1)).unwrap();
    assert_eq!(heard(), [inbox, other]);
    let deleted = FlagChange::Add(system(SystemFlags::DELETED));
    store.change_flags(inbox, &UidSet::all(), &deleted).unwrap();
    assert_eq!(heard(), [inbox]);
    // What changes nothing, and what is refused, is not heard of.
    store.change_flags(inbox, &UidSet::all(), &deleted).unwrap();
    store.expunge(other, None).unwrap();
    assert_refused!(
        deliver(&*store, "nobody@pec.example", b"m", Charge::Quota),
        StoreError::NoSuchAccount
    );
    assert_eq!(heard(), []);
    store.expunge(inbox, None).unwrap();
    assert_eq!(heard(), [inbox]);
    deliver(&*store, "anna@pec.example", b"m", Charge::Quota).unwrap();
    assert_eq!(heard(), [inbox]);
    store.delete_mailbox(other).unwrap();
    assert_eq!(heard(), [other]);
}

/// A digest is kept with octets, whoever refers to them, and goes when they go.
pub fn digests_live_as_long_as_their_octets(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let archive = store.mailbox(anna, &MailboxName::parse("Archivio").unwrap()).unwrap().id;
    for text in [&b"one"[..], b"two", b"three"] {
        append(&*store, inbox, text);
    }
    let all = UidSet::all();
    let blobs: Vec<BlobId> =
        store.summaries(inbox, &all, 9).unwrap().iter().map(|summary| summary.blob).collect();
    store.keep_digests(vec![(blobs[0], b"first".to_vec()), (blobs[2], b"third".to_vec())]);
    // Kept in the order of calls: what comes after the next write is there.
    append(&*store, inbox, b"four");
    let digests = |mailbox, limit, octets| -> Vec<(u32, Option<Vec<u8>>)> {
        let found = store.digested(mailbox, &all, limit, octets).unwrap();
        found.into_iter().map(|(summary, digest)| (summary.uid.0.get(), digest)).collect()
    };
    let (first, third) = (Some(b"first".to_vec()), Some(b"third".to_vec()));
    let everything = vec![(1, first.clone()), (2, None), (3, third.clone()), (4, None)];
    assert_eq!(digests(inbox, 9, 1000), everything);
    assert_eq!(digests(inbox, 2, 1000), everything[..2]);
    // It ends with the one that reaches the bound.
    assert_eq!(digests(inbox, 9, 5), everything[..1]);
    assert_eq!(digests(inbox, 9, 6), everything[..3]);
    let summaries = store.summaries(inbox, &all, 9).unwrap();
    let same =
        store.digested(inbox, &all, 9, 1000).unwrap().into_iter().map(|(summary, _)| summary);
    assert_eq!(same.collect::<Vec<_>>(), summaries);

    // A copy has it too, also when the message it was made of is gone.
    store.copy(inbox, &uids(&[3]), archive, at(9)).unwrap();
    store
        .change_flags(inbox, &uids(&[1, 3]), &FlagChange::Add(system(SystemFlags::DELETED)))
        .unwrap();
    store.expunge(inbox, None).unwrap();
    assert_eq!(digests(archive, 9, 1000), [(1, third)]);
    // What is made anew takes the place of what was there; of octets that are gone nothing is kept.
    store.keep_digests(vec![(blobs[2], b"again".to_vec()), (blobs[0], b"late".to_vec())]);
    append(&*store, inbox, b"five");
    assert_eq!(digests(archive, 9, 1000), [(1, Some(b"again".to_vec()))]);
    assert_refused!(store.digested(MailboxId(99), &all, 1, 1), StoreError::NoSuchMailbox);
}

/// What is not indexed may hold anything; of what is, only what holds a text does, or was too long.
pub fn texts_are_found_where_they_are_indexed(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let archive = store.mailbox(anna, &MailboxName::parse("Archivio").unwrap()).unwrap().id;
    for text in [&b"one"[..], b"two", b"three", b"four"] {
        append(&*store, inbox, text);
    }
    let summaries = store.summaries(inbox, &UidSet::all(), 9).unwrap();
    let blobs: Vec<BlobId> = summaries.iter().map(|summary| summary.blob).collect();
    if store.texts_indexed_to(inbox).unwrap().is_none() {
        // A store may have no index: then a text can be anywhere.
        assert_eq!(store.find_text(inbox, "perché", Within::Message).unwrap(), None);
        assert_eq!(store.texts_missing(inbox, &blobs).unwrap(), blobs);
        return store.index_texts(inbox, uid(3), Vec::new()).unwrap();
    }
    assert_eq!(store.texts_indexed_to(inbox).unwrap(), Some(0));
    assert_eq!(store.find_text(inbox, "perché", Within::Message).unwrap(), None);
    assert_eq!(store.texts_missing(inbox, &blobs).unwrap(), blobs);
    let text =
        |header: &str, body: &str| MessageText { header: header.to_owned(), body: body.to_owned() };
    let texts = vec![
        (blobs[0], Some(text("subject: nulla", "ecco perché no"))),
        (blobs[1], Some(text("perch\u{e9}", "nullaosta"))),
        (blobs[2], None),
    ];
    store.index_texts(inbox, uid(3), texts).unwrap();
    assert_eq!(store.texts_indexed_to(inbox).unwrap(), Some(3));
    assert_eq!(store.texts_missing(inbox, &blobs).unwrap(), [blobs[3]]);
    let find = |mailbox, text: &str, within| -> Option<(Vec<u32>, Vec<u32>)> {
        let found = store.find_text(mailbox, text, within).unwrap()?;
        let all = store.summaries(mailbox, &UidSet::all(), 9).unwrap();
        let uids = |holds: &dyn Fn(&Summary) -> bool| {
            all.iter().filter(|one| holds(one)).map(|one| one.uid.0.get()).collect()
        };
        Some((uids(&|one| !found.rules_out(one)), uids(&|one| found.proves(one))))
    };
    let open = |mailbox, text: &str| Some(find(mailbox, text, Within::Message)?.0);
    assert_eq!(open(inbox, "ecco"), Some(vec![1, 3, 4]));
    assert_eq!(open(inbox, "ecco perché"), Some(vec![1, 3, 4]));
    assert_eq!(open(inbox, "nowhere"), Some(vec![3, 4]));
    // One word is found for sure.
    let all = find(inbox, "perché", Within::Message);
    assert_eq!(all, Some((vec![1, 2, 3, 4], vec![1, 2])));
    assert_eq!(find(inbox, "perché", Within::Header), Some((vec![2, 3, 4], vec![2])));
    assert_eq!(find(inbox, "perché", Within::Body), Some((vec![1, 3, 4], vec![1])));
    assert_eq!(find(inbox, "ull", Within::Header), Some((vec![1, 3, 4], vec![1])));
    // Too short for an index.
    assert_eq!(open(inbox, "no"), None);
    // Octets are indexed once for all mailboxes, and each mailbox says how far it is.
    store.copy(inbox, &uids(&[1, 4]), archive, at(9)).unwrap();
    assert_eq!(open(archive, "ecco"), None);
    store.index_texts(archive, uid(1), Vec::new()).unwrap();
    assert_eq!(open(archive, "nowhere"), Some(vec![2]));
    // It is never less than it was.
    store.index_texts(inbox, uid(1), Vec::new()).unwrap();
    assert_eq!(store.texts_indexed_to(inbox).unwrap(), Some(3));
    assert_refused!(store.find_text(MailboxId(99), "x", Within::Body), StoreError::NoSuchMailbox);
    assert_refused!(store.texts_indexed_to(MailboxId(99)), StoreError::NoSuchMailbox);
}
