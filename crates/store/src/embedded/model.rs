//! Random calls: the embedded store does and says what the model does and says.

use std::fmt::Debug;

use proptest::prelude::*;
use tempfile::TempDir;

use super::faults::picture;
use super::tests::small;
use super::*;
use crate::contract::*;
use crate::memory::MemoryStore;
use crate::{
    Amended, Charge, Delivery, FlagChange, Flags, Follow, InfectedId, Infection, Lane, Mark,
    NewInfected, NewJob, Quota, Source, SystemFlags, Track, TrackState, Urgency,
};

/// A call, its arguments small so that they often meet.
#[derive(Debug, Clone)]
enum Call {
    Append(u64, usize, Flags),
    Copy(u64, (u32, u32), u64),
    Move(u64, (u32, u32), u64),
    Change(u64, (u32, u32), FlagChange),
    Expunge(u64, Option<(u32, u32)>),
    Create(u64, &'static str),
    Delete(u64),
    Rename(u64, &'static str),
    Subscribe(u64, &'static str, bool),
    Open(u64, bool),
    Quota(u64, Quota),
    Remove(u64),
    Add(&'static str),
    Step(Vec<u64>, Vec<(&'static str, Charge, usize)>, bool, Known),
    /// Keeps so many octets until then, and discards what has this number.
    Infect(usize, i64, Option<u64>),
    Postpone(u64),
    Changes(u64, u64),
    Reopen,
}

/// What a step tells the tracker, from which state only, and what it marks.
type Known = (TrackState, Option<TrackState>, Option<u8>);

const WHO: [&str; 3] = ["anna@pec.example", "bruno@pec.example", "carla@pec.example"];
const NAMES: [&str; 7] = ["a", "a/b", "a/b/c", "b", "INBOX", "INBOX/x", "Bozze"];
const LENGTHS: [usize; 5] = [0, 10, 500, 66_000, 1_100_000];

fn flags() -> impl Strategy<Value = Flags> {
    let words = proptest::collection::vec(prop_oneof![Just("k1"), Just("K1"), Just("k2")], 0..3);
    (0u8..32, words).prop_map(|(bits, words)| {
        let mut flags = keywords(&words);
        flags.system = SystemFlags(bits);
        flags
    })
}

fn call() -> impl Strategy<Value = Call> {
    let mailbox = || 1u64..16;
    let range = || (1u32..9, 1u32..9);
    let name = || proptest::sample::select(&NAMES[..]);
    let who = || proptest::sample::select(&WHO[..]);
    let length = || proptest::sample::select(&LENGTHS[..]);
    let change = prop_oneof![
        flags().prop_map(FlagChange::Add),
        flags().prop_map(FlagChange::Remove),
        flags().prop_map(FlagChange::Replace)
    ];
    let charge =
        || prop_oneof![Just(Charge::Quota), Just(Charge::Receipt), Just(Charge::Unlimited)];
    let state = || proptest::sample::select(&TrackState::ALL[..]);
    let state = (state(), proptest::option::weighted(0.2, state()), proptest::option::of(0u8..9));
    let quota = (0u64..4_000_000, proptest::option::of(0u64..20), 0u64..900).prop_map(
        |(octets_max, messages_max, receipt_reserve_octets)| Quota {
            octets_max,
            messages_max,
            receipt_reserve_octets,
        },
    );
    let deliveries = proptest::collection::vec((who(), charge(), 0usize..2), 0..3);
    prop_oneof![
        8 => (mailbox(), length(), flags()).prop_map(|(m, l, f)| Call::Append(m, l, f)),
        3 => (mailbox(), range(), mailbox()).prop_map(|(m, r, t)| Call::Copy(m, r, t)),
        3 => (mailbox(), range(), mailbox()).prop_map(|(m, r, t)| Call::Move(m, r, t)),
        4 => (mailbox(), range(), change).prop_map(|(m, r, c)| Call::Change(m, r, c)),
        3 => (mailbox(), proptest::option::of(range())).prop_map(|(m, r)| Call::Expunge(m, r)),
        3 => (1u64..4, name()).prop_map(|(a, n)| Call::Create(a, n)),
        1 => mailbox().prop_map(Call::Delete),
        2 => (mailbox(), name()).prop_map(|(m, n)| Call::Rename(m, n)),
        1 => (1u64..4, name(), any::<bool>()).prop_map(|(a, n, s)| Call::Subscribe(a, n, s)),
        2 => (mailbox(), any::<bool>()).prop_map(|(m, t)| Call::Open(m, t)),
        1 => (1u64..4, quota).prop_map(|(a, q)| Call::Quota(a, q)),
        1 => (1u64..4).prop_map(Call::Remove),
        1 => who().prop_map(Call::Add),
        5 => (proptest::collection::vec(1u64..9, 0..2), deliveries, any::<bool>(), state)
            .prop_map(|(c, d, e, t)| Call::Step(c, d, e, t)),
        1 => (length(), 50i64..80, proptest::option::of(1u64..5))
            .prop_map(|(l, u, d)| Call::Infect(l, u, d)),
        1 => (1u64..9).prop_map(Call::Postpone),
        2 => (mailbox(), 0u64..12).prop_map(|(m, s)| Call::Changes(m, s)),
        1 => Just(Call::Reopen),
    ]
}

/// Does a call, and tells all that it answered.
fn perform(store: &dyn Store, call: &Call) -> String {
    fn told<T: Debug>(answer: Result<T, StoreError>) -> String {
        format!("{answer:?}")
    }
    let set = |(a, b): &(u32, u32)| UidSet::from_ranges([(uid(*a), uid(*b))]);
    let m = |id: &u64| MailboxId(*id);
    match call {
        Call::Append(to, length, flags) => {
            told(store.append(m(to), message(&vec![7; *length], flags.clone())))
        }
        Call::Copy(from, range, to) => told(store.copy(m(from), &set(range), m(to), at(50))),
        Call::Move(from, range, to) => {
            told(store.move_messages(m(from), &set(range), m(to), at(51)))
        }
        Call::Change(of, range, change) => told(store.change_flags(m(of), &set(range), change)),
        Call::Expunge(of, range) => told(store.expunge(m(of), range.as_ref().map(set).as_ref())),
        Call::Create(who, text) => {
            let new = NewMailbox { name: name(text), special_use: None };
            told(store.create_mailbox(AccountId(*who), new, at(52)))
        }
        Call::Delete(of) => told(store.delete_mailbox(m(of))),
        Call::Rename(of, to) => told(store.rename_mailbox(m(of), &name(to), at(53))),
        Call::Subscribe(who, text, on) => told(store.subscribe(AccountId(*who), &name(text), *on)),
        Call::Open(of, take) => told(store.open(m(of), *take)),
        Call::Quota(who, quota) => {
            told(store.change_account(AccountId(*who), AccountChange::Quota(*quota)))
        }
        Call::Remove(who) => told(store.remove_account(AccountId(*who))),
        Call::Add(who) => told(store.add_account(holder(who, octets_max(3_000_000)), at(54))),
        Call::Step(consume, deliveries, enqueue, state) => {
            let deliver = deliveries.iter().map(|(to, charge, source)| Delivery {
                octets: Source::New(*source),
                ..delivery(to, *charge)
            });
            let (state, only_from, mark) = *state;
            let lane = (deliveries.len() != 1).then(|| Lane {
                destination: WHO[deliveries.len() / 2].into(),
                urgency: if state == TrackState::Sent {
                    Urgency::Receipt
                } else {
                    Urgency::Ordinary
                },
                account: format!("{state:?}"),
            });
            let due = at(if state == TrackState::Failed { 65 } else { 60 });
            let octets = Some(Source::New(0));
            let job = NewJob { due, payload: vec![1], octets, lane };
            let amend = consume.iter().filter(|_| state == TrackState::Delivered);
            let amend = amend.map(|job| Amended {
                job: JobId(job + 1),
                due: at(71),
                payload: vec![2],
                reason: "in part".into(),
            });
            let track = Track {
                identificativo: "id".into(),
                recipient: address(WHO[0]),
                state,
                only_from,
                at: at(61),
            };
            let follow = Follow {
                identificativo: "id".into(),
                recipients: WHO.map(address).into(),
                at: at(60),
                first: at(70),
                second: at(80),
                about: vec![7],
            };
            told(store.commit(Transaction {
                at: at(62),
                consume: consume.iter().map(|job| JobId(*job)).collect(),
                amend: amend.collect(),
                octets: vec![inline(&[1; 700]), inline(b"")],
                deliver: deliver.collect(),
                enqueue: enqueue.then_some(job).into_iter().collect(),
                follow: (state == TrackState::Sent).then_some(follow).into_iter().collect(),
                track: vec![track],
                once: mark.map(|n| Mark { key: [n; 32], value: [1; 32] }).into_iter().collect(),
                log: vec![LogRecord { event: format!("{state:?}"), ..LogRecord::default() }],
                ..Transaction::default()
            }))
        }
        Call::Infect(length, until, discard) => told(store.commit(Transaction {
            at: at(65),
            octets: vec![inline(&vec![9; *length])],
            quarantine: vec![NewInfected {
                octets: Source::New(0),
                keep_until: at(*until),
                infection: Infection::default(),
            }],
            discard: discard.iter().map(|id| InfectedId(*id)).collect(),
            ..Transaction::default()
        })),
        Call::Postpone(job) => told(store.postpone(JobId(*job), at(70), "later")),
        Call::Changes(of, since) => told(store.changes(m(of), ModSeq(*since))),
        Call::Reopen => String::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_agree_with_the_model(calls in proptest::collection::vec(call(), 1..60)) {
        let dir = TempDir::new().unwrap();
        let model = MemoryStore::new();
        let mut store = Some(EmbeddedStore::open(dir.path(), small()).unwrap());
        for who in &WHO[..2] {
            for one in [&model as &dyn Store, store.as_ref().unwrap()] {
                one.add_account(holder(who, octets_max(3_000_000)), at(0)).unwrap();
            }
        }
        for call in &calls {
            if matches!(call, Call::Reopen) {
                drop(store.take());
                store = Some(EmbeddedStore::open(dir.path(), small()).unwrap());
            }
            let store = store.as_ref().unwrap();
            prop_assert_eq!(perform(store, call), perform(&model, call), "{:?}", call);
        }
        prop_assert_eq!(picture(store.as_ref().unwrap()), picture(&model));
    }
}
