//! The pipeline: steps and jobs.

use super::log::record;
use super::*;
use crate::{
    Amended, BlobId, FlagChange, Follow, Job, JobId, Lane, LogFilter, Mark, NewJob, Urgency,
    assert_refused,
};

fn job(due: i64, payload: &[u8], octets: Option<Source>) -> NewJob {
    NewJob { due: at(due), payload: payload.to_vec(), octets, lane: None }
}

fn relay(destination: &str, urgency: Urgency, account: &str, due: i64) -> NewJob {
    let lane = Lane { destination: destination.into(), urgency, account: account.into() };
    NewJob { lane: Some(lane), ..job(due, account.as_bytes(), Some(Source::New(0))) }
}

fn lane(store: &dyn Store, destination: &str, now: i64, limit: usize) -> Vec<u64> {
    store.lane_due(at(now), destination, limit).unwrap().iter().map(|job| job.id.0).collect()
}

fn enqueue(store: &dyn Store, job: NewJob) -> JobId {
    let octets = vec![inline(b"octets of a job")];
    let transaction = Transaction { at: at(3), octets, enqueue: vec![job], ..Default::default() };
    store.commit(transaction).unwrap().enqueued[0]
}

fn due(store: &dyn Store, now: i64) -> Vec<u64> {
    store.jobs_due(at(now), None, 99).unwrap().iter().map(|job| job.id.0).collect()
}

fn follow() -> Follow {
    Follow {
        identificativo: "id1".into(),
        recipients: vec![address("c@x.example")],
        at: at(40),
        first: at(50),
        second: at(60),
        about: vec![],
    }
}

pub fn a_step_does_all_it_says(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let bruno = store.add_account(holder("bruno@pec.example", octets_max(99)), at(0)).unwrap();
    let sent = store.mailbox(anna, &name("Posta inviata")).unwrap().id;
    let first = enqueue(&*store, job(0, b"step one", Some(Source::New(0))));
    let held_by_job = store.jobs_due(at(9), None, 9).unwrap()[0].blob.unwrap();
    let to_sent = Delivery {
        mailbox: name("Posta inviata"),
        flags: system(SystemFlags::SEEN),
        octets: Source::Stored(held_by_job),
        ..delivery("anna@pec.example", Charge::Quota)
    };
    // A mailbox that is not there: INBOX.
    let elsewhere =
        Delivery { mailbox: name("nowhere"), ..delivery("ANNA@pec.example", Charge::Quota) };
    let step = Transaction {
        at: at(40),
        consume: vec![first],
        amend: vec![],
        octets: vec![inline(b"new octets")],
        deliver: vec![to_sent, elsewhere, delivery("bruno@pec.example", Charge::Quota)],
        enqueue: vec![job(50, b"two", Some(Source::New(0))), job(50, b"three", None)],
        follow: vec![follow()],
        log: vec![record("accettazione", 40)],
        ..Transaction::default()
    };
    let done = store.commit(step).unwrap();
    assert_eq!(done.delivered.iter().map(|to| to.uid).collect::<Vec<_>>(), [uid(1); 3]);
    assert_eq!(done.delivered[0].uid_validity, store.status(sent).unwrap().uid_validity);
    assert_eq!(done.enqueued, [JobId(first.0 + 1), JobId(first.0 + 2)]);
    let mine = &store.summaries(sent, &UidSet::all(), 9).unwrap()[0];
    assert_eq!((mine.flags.system, mine.received, mine.saved), (SystemFlags::SEEN, at(40), at(40)));
    assert_eq!(store.read(mine.blob, 0, 99).unwrap(), b"octets of a job");
    let other = &store.summaries(inbox, &UidSet::all(), 9).unwrap()[0];
    assert_eq!(store.read(other.blob, 0, 99).unwrap(), b"new octets");
    assert_eq!((held(&*store, anna), held(&*store, bruno)), ((25, 2), (10, 1)));
    let jobs = store.jobs_due(at(50), None, 9).unwrap();
    let seen: Vec<_> = jobs.iter().map(|job| (&job.payload[..], job.blob)).collect();
    assert_eq!(seen, [(&b"two"[..], Some(other.blob)), (&b"three"[..], None)]);
    assert_eq!((jobs[0].queued, jobs[0].attempts, &jobs[0].last_error), (at(40), 0, &None));
    assert_eq!(store.tracked("id1").unwrap().len(), 1);
    let log = store.log(&LogFilter::default(), 0, 9).unwrap();
    assert_eq!(log, [(1, record("accettazione", 40))]);
}

pub fn a_refused_step_leaves_nothing(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let bruno = store.add_account(holder("bruno@pec.example", octets_max(5)), at(0)).unwrap();
    let first = enqueue(&*store, job(0, b"one", None));
    let step = |deliver, consume, source| Transaction {
        at: at(40),
        consume,
        amend: vec![],
        octets: vec![inline(b"new octets")],
        deliver,
        enqueue: vec![job(0, b"two", Some(source))],
        follow: vec![follow()],
        track: vec![],
        once: vec![Mark { key: [1; 32], value: [2; 32] }],
        log: vec![record("accettazione", 40)],
        ..Transaction::default()
    };
    let to = |address| delivery(address, Charge::Quota);
    let (new, none) = (Source::New(0), Source::New(1));
    let anna_too = || to("anna@pec.example");
    let over = step(vec![anna_too(), to("bruno@pec.example")], vec![first], new);
    assert_refused!(store.commit(over), StoreError::OverQuota(id) if id == bruno);
    let unknown = step(vec![anna_too(), to("nobody@pec.example")], vec![first], new);
    assert_refused!(store.commit(unknown), StoreError::NoSuchAccount);
    let gone = step(vec![anna_too()], vec![first, JobId(99)], new);
    assert_refused!(store.commit(gone), StoreError::JobGone(JobId(99)));
    let twice = step(vec![anna_too()], vec![first, first], new);
    assert_refused!(store.commit(twice), StoreError::JobGone(id) if id == first);
    let nothing = step(vec![anna_too()], vec![first], none);
    assert_refused!(store.commit(nothing), StoreError::NoSuchMessage);
    let nothing = step(vec![anna_too()], vec![first], Source::Stored(BlobId(9_999)));
    assert_refused!(store.commit(nothing), StoreError::NoSuchMessage);
    assert_eq!((held(&*store, anna), held(&*store, bruno)), ((0, 0), (0, 0)));
    let status = store.status(inbox).unwrap();
    assert_eq!((status.messages, status.uid_next, status.mod_seq.0), (0, uid(1), 0));
    assert_eq!(due(&*store, 99), [first.0]);
    assert_eq!(store.jobs_waiting().unwrap(), (1, Some(at(0))));
    assert!(store.tracked("id1").unwrap().is_empty());
    assert_eq!(store.mark(&[1; 32]).unwrap(), None);
    assert!(store.log(&LogFilter::default(), 0, 9).unwrap().is_empty());
}

pub fn a_job_is_done_once(make: Make<'_>) {
    let store = make();
    let first = enqueue(&*store, job(0, b"one", None));
    let step = || Transaction { consume: vec![first], ..Transaction::default() };
    store.commit(step()).unwrap();
    assert_refused!(store.commit(step()), StoreError::JobGone(id) if id == first);
    assert_refused!(store.postpone(first, at(1), "late"), StoreError::JobGone(id) if id == first);
    assert_eq!(store.jobs_waiting().unwrap(), (0, None));
    // Its number is not given again.
    assert!(enqueue(&*store, job(0, b"two", None)) > first);
}

pub fn two_threads_do_a_job_once(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let jobs: Vec<JobId> = (0..20).map(|_| enqueue(&*store, job(0, b"one", None))).collect();
    let work = || {
        let step = |job: &JobId| Transaction {
            consume: vec![*job],
            octets: vec![inline(b"mail")],
            deliver: vec![delivery("anna@pec.example", Charge::Quota)],
            ..Transaction::default()
        };
        jobs.iter().filter(|job| store.commit(step(job)).is_ok()).count()
    };
    let done: usize = std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((done, held(&*store, anna)), (20, (80, 20)));
}

pub fn jobs_come_when_due_in_order(make: Make<'_>) {
    let store = make();
    assert_eq!(store.jobs_waiting().unwrap(), (0, None));
    let ids: Vec<u64> =
        [30, 10, 20, 10].map(|due| enqueue(&*store, job(due, b"j", None)).0).to_vec();
    assert_eq!(due(&*store, 9), [0; 0]);
    assert_eq!(due(&*store, 10), [ids[1], ids[3]]);
    assert_eq!(due(&*store, 30), ids);
    let some = store.jobs_due(at(30), Some(JobId(ids[0])), 2).unwrap();
    assert_eq!(some.iter().map(|job| job.id.0).collect::<Vec<_>>(), ids[1..3]);
    assert!(store.jobs_due(at(30), None, 0).unwrap().is_empty());
    assert_eq!(store.jobs_waiting().unwrap(), (4, Some(at(10))));
}

pub fn a_job_is_put_off(make: Make<'_>) {
    let store = make();
    let id = enqueue(&*store, job(0, b"one", Some(Source::New(0))));
    let before = store.jobs_due(at(0), None, 9).unwrap().remove(0);
    store.postpone(id, at(60), "first").unwrap();
    store.postpone(id, at(70), "second").unwrap();
    assert_eq!(due(&*store, 69), [0; 0]);
    let after = store.jobs_due(at(70), None, 9).unwrap().remove(0);
    assert_eq!((after.attempts, after.last_error.as_deref()), (2, Some("second")));
    assert_eq!((after.due, after.queued), (at(70), at(3)));
    assert_eq!((after.payload, after.blob), (before.payload, before.blob));
    assert_refused!(store.postpone(JobId(99), at(1), "x"), StoreError::JobGone(JobId(99)));
}

pub fn a_lane_holds_up_nobody_else(make: Make<'_>) {
    let store = make();
    let here = enqueue(&*store, job(0, b"here", None));
    let ids: Vec<u64> = ["b.example", "a.example", "b.example"]
        .map(|to| enqueue(&*store, relay(to, Urgency::Envelope, "anna", 0)).0)
        .into();
    assert_eq!(due(&*store, 99), [here.0]);
    assert_eq!(store.jobs_waiting().unwrap(), (4, Some(at(0))));
    let all = store.jobs(None, 99).unwrap();
    assert_eq!(all.iter().map(|job| job.id.0).collect::<Vec<_>>(), [&[here.0], &ids[..]].concat());
    assert_eq!(store.jobs(Some(here), 1).unwrap()[0].id.0, ids[0]);
    assert_eq!(store.job(here).unwrap().unwrap().payload, b"here");
    assert_eq!(store.job(JobId(99)).unwrap(), None);
    assert_eq!(store.lanes(None, 9).unwrap(), ["a.example", "b.example"]);
    assert_eq!(store.lanes(None, 1).unwrap(), ["a.example"]);
    assert_eq!(store.lanes(Some("a.example"), 9).unwrap(), ["b.example"]);
    assert_eq!(lane(&*store, "b.example", 3, 9), [ids[0], ids[2]]);
    assert_eq!(lane(&*store, "b.example", 3, 1), [ids[0]]);
    assert_eq!(lane(&*store, "c.example", 3, 9), [0; 0]);
    store.commit(Transaction { consume: vec![JobId(ids[1])], ..Default::default() }).unwrap();
    assert_eq!(store.lanes(None, 9).unwrap(), ["b.example"]);
}

pub fn in_a_lane_accounts_take_turns(make: Make<'_>) {
    use Urgency::{Envelope, Ordinary, Receipt};
    let store = make();
    let put = |urgency, account| enqueue(&*store, relay("x.example", urgency, account, 0)).0;
    let bulk: Vec<u64> = (0..3).map(|_| put(Ordinary, "anna")).collect();
    let bruno = [put(Ordinary, "bruno"), put(Ordinary, "bruno")];
    let (envelope, receipt) = (put(Envelope, "anna"), put(Receipt, "anna"));
    let order = [receipt, envelope, bulk[0], bruno[0], bulk[1], bruno[1], bulk[2]];
    assert_eq!(lane(&*store, "x.example", 3, 9), order);
    // Who comes later does not wait for all that was there, and takes no turns that are past.
    let done = [receipt, envelope, bulk[0], bruno[0], bulk[1]].map(JobId).into();
    store.commit(Transaction { consume: done, ..Default::default() }).unwrap();
    let carla = [put(Ordinary, "carla"), put(Ordinary, "carla")];
    assert_eq!(
        lane(&*store, "x.example", 3, 9),
        [bruno[1], carla[0], bulk[2], carla[1]],
        "{bulk:?} {bruno:?} {carla:?}"
    );
}

pub fn in_a_lane_what_was_put_off_waits_for_its_time(make: Make<'_>) {
    let store = make();
    let put = |due| enqueue(&*store, relay("x.example", Urgency::Envelope, "anna", due)).0;
    let ids: Vec<u64> = (0..4).map(|_| put(0)).collect();
    let later = put(50);
    store.postpone(JobId(ids[0]), at(20), "no answer").unwrap();
    store.postpone(JobId(ids[1]), at(10), "no answer").unwrap();
    assert_eq!(lane(&*store, "x.example", 9, 9), ids[2..]);
    assert_eq!(lane(&*store, "x.example", 20, 9), [ids[2], ids[3], ids[1], ids[0]]);
    // Neither kind can starve the other.
    assert_eq!(lane(&*store, "x.example", 50, 2), [ids[2], ids[1]]);
    assert_eq!(lane(&*store, "x.example", 50, 9), [ids[2], ids[3], ids[1], ids[0], later]);
    assert_eq!(store.jobs_waiting().unwrap(), (5, None));
}

pub fn a_lane_tells_who_has_waited_longest(make: Make<'_>) {
    let store = make();
    let put = |destination, when| {
        let step = Transaction {
            at: at(when),
            enqueue: vec![relay(destination, Urgency::Envelope, "anna", 0)],
            octets: vec![Octets::Inline((*b"octets").into())],
            ..Transaction::default()
        };
        store.commit(step).unwrap().enqueued[0].0
    };
    // A clock that was set back does not make the younger one older.
    let ids = [put("x.example", 30), put("x.example", 10), put("x.example", 20)];
    put("y.example", 10);
    enqueue(&*store, job(0, b"in no lane", None));
    store.postpone(JobId(ids[1]), at(500), "no answer").unwrap();
    let queued = |until, limit| -> Vec<u64> {
        let found = store.lane_queued(at(until), "x.example", limit).unwrap();
        found.iter().map(|job| job.id.0).collect()
    };
    assert_eq!(queued(9, 9), [0; 0]);
    assert_eq!(queued(10, 9), [ids[1]]);
    assert_eq!(queued(30, 9), [ids[1], ids[2], ids[0]]);
    assert_eq!(queued(30, 2), [ids[1], ids[2]]);
}

pub fn a_job_is_done_in_part(make: Make<'_>) {
    let store = make();
    let id = enqueue(&*store, relay("x.example", Urgency::Envelope, "anna", 0));
    let before = store.job(id).unwrap().unwrap();
    let amend = |job, reason: &str| Transaction {
        amend: vec![Amended {
            job,
            due: at(60),
            payload: b"the rest".into(),
            reason: reason.into(),
        }],
        log: vec![record("trasmissione", 4)],
        ..Transaction::default()
    };
    store.commit(amend(id, "two are full")).unwrap();
    let after = store.job(id).unwrap().unwrap();
    let rest = Job {
        due: at(60),
        attempts: 1,
        last_error: Some("two are full".into()),
        payload: b"the rest".into(),
        ..before
    };
    assert_eq!(after, rest);
    assert_eq!(
        (lane(&*store, "x.example", 59, 9), lane(&*store, "x.example", 60, 9)),
        (vec![], vec![id.0])
    );
    assert_refused!(store.commit(amend(JobId(99), "x")), StoreError::JobGone(JobId(99)));
    let both = Transaction { consume: vec![id], ..amend(id, "x") };
    assert_refused!(store.commit(both), StoreError::JobGone(gone) if gone == id);
    assert_eq!(store.log(&LogFilter::default(), 0, 9).unwrap().len(), 1);
    assert_eq!(store.job(id).unwrap(), Some(rest));
}

pub fn a_job_keeps_its_octets(make: Make<'_>) {
    let (store, _, inbox) = with_anna(make);
    let id = enqueue(&*store, job(0, b"one", Some(Source::New(0))));
    let blob = store.jobs_due(at(0), None, 9).unwrap()[0].blob.unwrap();
    assert_eq!(store.read(blob, 0, 6).unwrap(), b"octets");
    // Handed on: to a message, and to the next job.
    let deliver =
        Delivery { octets: Source::Stored(blob), ..delivery("anna@pec.example", Charge::Quota) };
    let step = Transaction {
        consume: vec![id],
        deliver: vec![deliver],
        enqueue: vec![job(0, b"two", Some(Source::Stored(blob)))],
        ..Transaction::default()
    };
    let next = store.commit(step).unwrap().enqueued[0];
    let deleted = FlagChange::Add(system(SystemFlags::DELETED));
    store.change_flags(inbox, &UidSet::all(), &deleted).unwrap();
    store.expunge(inbox, None).unwrap();
    assert_eq!(store.octets(blob).unwrap(), 15);
    store.commit(Transaction { consume: vec![next], ..Transaction::default() }).unwrap();
    assert_refused!(store.octets(blob), StoreError::NoSuchMessage);
}
