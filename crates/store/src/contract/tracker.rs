//! The tracker, its deadlines, and the marks of what happened.

use super::*;
use crate::TrackState::{Delivered, Expired, Failed, Sent, TakenInCharge, TakenLate, Warned};
use crate::{Follow, Mark, Overdue, Track, TrackState, Tracked, assert_refused};

/// Follows a message from `second` on: its notices are due 100 and 200 seconds later.
fn follow(store: &dyn Store, id: &str, recipients: &[&str], second: i64) {
    let follow = Follow {
        identificativo: id.into(),
        recipients: recipients.iter().map(|to| address(to)).collect(),
        at: at(second),
        first: at(second + 100),
        second: at(second + 200),
        about: format!("about {id}").into_bytes(),
    };
    store.commit(Transaction { follow: vec![follow], ..Transaction::default() }).unwrap();
}

fn learn(
    store: &dyn Store,
    id: &str,
    to: &str,
    state: TrackState,
    only_from: Option<TrackState>,
    second: i64,
) -> Result<(), StoreError> {
    let (identificativo, recipient) = (id.into(), address(to));
    let track = Track { identificativo, recipient, state, only_from, at: at(second) };
    store.commit(Transaction { track: vec![track], ..Transaction::default() }).map(|_| ())
}

fn track(store: &dyn Store, id: &str, to: &str, state: TrackState, second: i64) {
    learn(store, id, to, state, None, second).unwrap();
}

pub fn the_tracker_never_goes_back(make: Make<'_>) {
    let store = make();
    // PEC-PR-23, PEC-PR-25, PEC-PR-28, PEC-TO-04
    let cases: [(&[TrackState], TrackState, i64); 15] = [
        (&[], Sent, 0),
        (&[Sent], Sent, 0),
        (&[TakenInCharge], TakenInCharge, 1),
        (&[TakenInCharge, TakenInCharge, Sent], TakenInCharge, 1),
        (&[TakenInCharge, Warned], TakenInCharge, 1),
        (&[Warned, Warned], Warned, 1),
        (&[Warned, TakenInCharge], TakenLate, 2),
        (&[Warned, TakenInCharge, Delivered], Delivered, 3),
        (&[Delivered], Delivered, 1),
        (&[TakenInCharge, Delivered, Delivered], Delivered, 2),
        (&[Delivered, TakenInCharge, Failed, Sent, Expired], Delivered, 1),
        (&[Failed, Delivered], Failed, 1),
        (&[TakenInCharge, Failed], Failed, 2),
        (&[Warned, Expired], Expired, 2),
        (&[Warned, Expired, TakenInCharge, Delivered, Failed], Expired, 2),
    ];
    for (number, (states, last, since)) in cases.into_iter().enumerate() {
        let id = format!("id{number}");
        follow(&*store, &id, &["Bruno@x.example"], 0);
        for (second, state) in (1..).zip(states) {
            track(&*store, &id, "bruno@X.example", *state, second);
        }
        let due = match last {
            Sent => Some(at(100)),
            state => (!state.is_final()).then_some(at(200)),
        };
        let recipient = address("bruno@x.example");
        let expected = Tracked { recipient, state: last, sent: at(0), since: at(since), due };
        assert_eq!(store.tracked(&id).unwrap(), [expected], "{states:?}");
    }
}

pub fn the_tracker_knows_only_what_it_sent(make: Make<'_>) {
    let store = make();
    // PEC-PR-27
    follow(&*store, "id1", &["b@x.example", "a@x.example", "B@x.example"], 1);
    // A message is followed once.
    follow(&*store, "id1", &["d@x.example"], 2);
    follow(&*store, "id3", &[], 2);
    track(&*store, "id1", "c@x.example", Delivered, 3);
    track(&*store, "id2", "b@x.example", Delivered, 3);
    track(&*store, "ID1", "b@x.example", Delivered, 3);
    track(&*store, "id1", "B@X.example", TakenInCharge, 4);
    let entries = store.tracked("id1").unwrap();
    let seen: Vec<_> = entries.iter().map(|e| (e.recipient.to_string(), e.state)).collect();
    let expected = [("a@x.example".to_owned(), Sent), ("b@x.example".to_owned(), TakenInCharge)];
    assert_eq!(seen, expected);
    for id in ["id2", "ID1", "id3"] {
        assert!(store.tracked(id).unwrap().is_empty());
    }
}

fn due(store: &dyn Store, second: i64) -> Vec<String> {
    let due = store.overdue(at(second), None, 99).unwrap();
    due.iter().map(named).collect()
}

fn named(due: &Overdue) -> String {
    format!("{} {} {:?}", due.identificativo, due.entry.recipient.local(), due.entry.state)
}

pub fn what_is_due_is_found_in_its_order(make: Make<'_>) {
    let store = make();
    follow(&*store, "id2", &["b@x.example", "a@x.example"], 0);
    follow(&*store, "id1", &["c@x.example"], 0);
    follow(&*store, "id0", &["d@x.example"], 50);
    // PEC-TO-01, PEC-TO-03: taken in charge is enough for the first notice not to be due.
    track(&*store, "id2", "a@x.example", TakenInCharge, 1);
    assert!(due(&*store, 99).is_empty());
    assert_eq!(due(&*store, 100), ["id1 c Sent", "id2 b Sent"]);
    let all = ["id1 c Sent", "id2 b Sent", "id0 d Sent", "id2 a TakenInCharge"];
    assert_eq!(due(&*store, 200), all);
    let first = &store.overdue(at(200), None, 1).unwrap()[0];
    assert_eq!((first.due, &first.about[..]), (at(100), &b"about id1"[..]));
    // Page by page, as in one.
    let (mut pages, mut last) = (Vec::new(), None);
    while let Some(next) = store.overdue(at(200), last.as_ref(), 1).unwrap().pop() {
        pages.push(named(&next));
        last = Some(next);
    }
    assert_eq!(pages, all);
    // PEC-TO-05
    track(&*store, "id1", "c@x.example", Failed, 150);
    track(&*store, "id2", "b@x.example", Delivered, 150);
    track(&*store, "id0", "d@x.example", Warned, 160);
    assert_eq!(due(&*store, 249), ["id2 a TakenInCharge"]);
    assert_eq!(due(&*store, 250), ["id2 a TakenInCharge", "id0 d Warned"]);
    track(&*store, "id0", "d@x.example", Expired, 250);
    track(&*store, "id2", "a@x.example", Expired, 250);
    assert!(due(&*store, 9_999).is_empty());
}

pub fn a_notice_is_given_once(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    follow(&*store, "id1", &["b@x.example"], 0);
    let notice = |from, to| Transaction {
        at: at(100),
        octets: vec![inline(b"notice")],
        deliver: vec![delivery("anna@pec.example", Charge::Receipt)],
        track: vec![Track {
            identificativo: "id1".into(),
            recipient: address("b@x.example"),
            state: to,
            only_from: Some(from),
            at: at(100),
        }],
        ..Transaction::default()
    };
    store.commit(notice(Sent, Warned)).unwrap();
    assert_refused!(store.commit(notice(Sent, Warned)), StoreError::Overtaken);
    // A receipt came between the look and the notice.
    track(&*store, "id1", "b@x.example", TakenInCharge, 101);
    assert_refused!(store.commit(notice(Warned, Expired)), StoreError::Overtaken);
    store.commit(notice(TakenLate, Expired)).unwrap();
    assert_refused!(store.commit(notice(TakenLate, Expired)), StoreError::Overtaken);
    let unknown = learn(&*store, "id9", "b@x.example", Warned, Some(Sent), 102);
    assert_refused!(unknown, StoreError::Overtaken);
    assert_eq!(held(&*store, anna).1, 2);
}

pub fn what_happened_is_marked_once(make: Make<'_>) {
    let store = make();
    let mark = |key: u8, value: u8| Mark { key: [key; 32], value: [value; 32] };
    let commit = |once| store.commit(Transaction { once, ..Transaction::default() });
    commit(vec![mark(1, 7), mark(2, 8)]).unwrap();
    // All or none.
    assert_refused!(commit(vec![mark(3, 7), mark(1, 9)]), StoreError::Marked);
    assert_refused!(commit(vec![mark(4, 7), mark(4, 7)]), StoreError::Marked);
    let values: Vec<_> = (0..5).map(|key| store.mark(&[key; 32]).unwrap()).collect();
    assert_eq!(values, [None, Some([7; 32]), Some([8; 32]), None, None]);
}

pub fn marks_are_forgotten_when_they_are_old(make: Make<'_>) {
    let store = make();
    let key = |n: u8| [n; 32];
    for (n, second) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
        let once = vec![Mark { key: key(n), value: key(n + 100) }];
        store.commit(Transaction { at: at(second), once, ..Transaction::default() }).unwrap();
    }
    let there = || (1..=4).filter(|n| store.mark(&key(*n)).unwrap().is_some()).collect::<Vec<_>>();
    assert_eq!(store.forget_marks(at(10), 9).unwrap(), 0, "not what was made then");
    assert_eq!(there(), [1, 2, 3, 4]);
    assert_eq!(store.forget_marks(at(31), 2).unwrap(), 2);
    assert_eq!(store.forget_marks(at(31), 9).unwrap(), 1);
    assert_eq!(store.forget_marks(at(31), 9).unwrap(), 0);
    assert_eq!(there(), [4]);
    // What comes again after that is new.
    let once = || vec![Mark { key: key(1), value: key(1) }];
    store.commit(Transaction { at: at(50), once: once(), ..Transaction::default() }).unwrap();
    let again = Transaction { at: at(50), once: once(), ..Transaction::default() };
    assert_refused!(store.commit(again), StoreError::Marked);
}
