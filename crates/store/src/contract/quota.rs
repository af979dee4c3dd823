//! Quotas: exact, and charged in the commit that makes a message visible (RFC 9208 §5).

use super::*;
use crate::{AccountChange, FlagChange, assert_refused};

fn with_quota(make: Make<'_>, quota: Quota) -> (Box<dyn Store>, AccountId, MailboxId) {
    let (store, anna, inbox) = with_anna(make);
    store.change_account(anna, AccountChange::Quota(quota)).unwrap();
    (store, anna, inbox)
}

pub fn a_message_is_charged_when_it_appears(make: Make<'_>) {
    let (store, anna, inbox) = with_quota(make, octets_max(10));
    append(&*store, inbox, b"123456");
    assert_eq!(held(&*store, anna), (6, 1));
    let refused = store.append(inbox, message(b"12345", Flags::default()));
    assert_refused!(refused, StoreError::OverQuota(_));
    assert_eq!(held(&*store, anna), (6, 1));
    let status = store.status(inbox).unwrap();
    assert_eq!((status.messages, status.uid_next, status.mod_seq.0), (1, uid(2), 1));
    append(&*store, inbox, b"1234");
    append(&*store, inbox, b"");
    assert_eq!(held(&*store, anna), (10, 3));
    let refused = deliver(&*store, "anna@pec.example", b"1", Charge::Quota);
    assert_refused!(refused, StoreError::OverQuota(id) if id == anna);
}

pub fn copies_charge_and_moves_do_not(make: Make<'_>) {
    let (store, anna, inbox) = with_quota(make, octets_max(10));
    let other = create(&*store, anna, "other");
    append(&*store, inbox, b"123");
    append(&*store, inbox, b"123");
    // All or none: one of the two would fit.
    let refused = store.copy(inbox, &UidSet::all(), other, at(1));
    assert_refused!(refused, StoreError::OverQuota(id) if id == anna);
    assert_eq!(store.status(other).unwrap().messages, 0);
    store.copy(inbox, &uids(&[1]), other, at(1)).unwrap();
    assert_eq!(held(&*store, anna), (9, 3));
    store.move_messages(inbox, &UidSet::all(), other, at(1)).unwrap();
    assert_eq!(held(&*store, anna), (9, 3));
    // A full account can still move, and copy nothing.
    store.change_account(anna, AccountChange::Quota(octets_max(1))).unwrap();
    store.move_messages(other, &UidSet::all(), inbox, at(1)).unwrap();
    store.copy(inbox, &uids(&[99]), other, at(1)).unwrap();
    assert_eq!(held(&*store, anna), (9, 3));
    // A copy to somebody is charged to them.
    let bruno = store.add_account(holder("bruno@pec.example", octets_max(3)), at(0)).unwrap();
    let his = store.mailbox(bruno, &MailboxName::inbox()).unwrap().id;
    let one: UidSet = store.open(inbox, false).unwrap().uids.iter().take(1).collect();
    store.copy(inbox, &one, his, at(1)).unwrap();
    assert_eq!(held(&*store, bruno), (3, 1));
    let refused = store.copy(inbox, &one, his, at(1));
    assert_refused!(refused, StoreError::OverQuota(id) if id == bruno);
}

pub fn what_goes_is_given_back(make: Make<'_>) {
    let (store, anna, inbox) = with_quota(make, octets_max(100));
    let other = create(&*store, anna, "other");
    for _ in 0..3 {
        append(&*store, inbox, b"12345");
        append(&*store, other, b"1234567");
    }
    assert_eq!(held(&*store, anna), (36, 6));
    let deleted = FlagChange::Add(system(SystemFlags::DELETED));
    store.change_flags(inbox, &uids(&[1, 2]), &deleted).unwrap();
    assert_eq!(held(&*store, anna), (36, 6));
    store.expunge(inbox, None).unwrap();
    assert_eq!(held(&*store, anna), (26, 4));
    store.delete_mailbox(other).unwrap();
    assert_eq!(held(&*store, anna), (5, 1));
}

pub fn receipts_have_a_reserve_and_the_provider_no_limit(make: Make<'_>) {
    let quota = Quota { octets_max: 10, messages_max: Some(1), receipt_reserve_octets: 5 };
    let (store, anna, _) = with_quota(make, quota);
    let deliver = |octets, charge| deliver(&*store, "anna@pec.example", octets, charge);
    deliver(b"1234567890", Charge::Quota).unwrap();
    assert_refused!(deliver(b"", Charge::Quota), StoreError::OverQuota(_));
    deliver(b"12345", Charge::Receipt).unwrap();
    assert_refused!(deliver(b"1", Charge::Receipt), StoreError::OverQuota(_));
    deliver(b"1234", Charge::Unlimited).unwrap();
    assert_eq!(held(&*store, anna), (19, 3));
}

pub fn messages_are_limited_too(make: Make<'_>) {
    let quota = Quota { octets_max: 99, messages_max: Some(2), receipt_reserve_octets: 0 };
    let (store, anna, inbox) = with_quota(make, quota);
    append(&*store, inbox, b"1");
    assert_refused!(
        store.copy(inbox, &uids(&[1]), inbox, at(1)).and_then(|_| store.copy(
            inbox,
            &uids(&[1]),
            inbox,
            at(1)
        )),
        StoreError::OverQuota(_)
    );
    assert_refused!(store.append(inbox, message(b"", Flags::default())), StoreError::OverQuota(_));
    assert_eq!(held(&*store, anna), (2, 2));
}

pub fn a_lowered_quota_lets_nothing_in(make: Make<'_>) {
    let (store, anna, inbox) = with_quota(make, octets_max(100));
    append(&*store, inbox, &[0; 50]);
    store.change_account(anna, AccountChange::Quota(octets_max(20))).unwrap();
    assert_refused!(store.append(inbox, message(b"", Flags::default())), StoreError::OverQuota(_));
    assert_eq!(held(&*store, anna), (50, 1));
}

pub fn parallel_deliveries_stop_at_the_edge(make: Make<'_>) {
    let (store, anna, inbox) = with_quota(make, octets_max(1000));
    let accepted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let store = &store;
                scope.spawn(move || {
                    let once = |_: &i32| {
                        deliver(&**store, "anna@pec.example", &[1; 33], Charge::Quota).is_ok()
                    };
                    (0..13).filter(once).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(accepted, 30);
    assert_eq!(held(&*store, anna), (990, 30));
    let opened = store.open(inbox, false).unwrap();
    assert_eq!(opened.uids, (1..=30).map(uid).collect());
    assert_eq!((opened.status.octets, opened.status.uid_next), (990, uid(31)));
}
