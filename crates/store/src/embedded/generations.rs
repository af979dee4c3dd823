//! Tests of how generations of the archive begin, go on beside each other, fail and begin again.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use super::archived::{Moment, Place, load, now, quick};
use super::disk::{Disk, Step};
use super::faults::{copy_dir, picture};
use super::line::Limits;
use super::stream;
use super::tests::{noise, small};
use super::*;
use crate::Flags;
use crate::contract::*;

/// A disk on which steps of the archive wait, or fail, as long as a test says so.
#[derive(Default)]
struct Gate {
    shut: Mutex<Option<(Step, ErrorKind)>>,
    /// Each step that was asked for, and whether it was refused.
    asked: Mutex<Vec<(Step, bool)>>,
}

impl Disk for Gate {
    fn step(&self, step: Step) -> std::io::Result<()> {
        let shut = self.shut.lock().unwrap().filter(|(shut, _)| *shut == step);
        let mut asked = self.asked.lock().unwrap();
        if asked.last() != Some(&(step, shut.is_some())) || step == Step::ArchiveFlush {
            asked.push((step, shut.is_some()));
        }
        shut.map_or(Ok(()), |(_, kind)| Err(Error::new(kind, "given the archive fails here")))
    }
}

impl Gate {
    fn shut(&self, step: Step) {
        self.refuse(step, ErrorKind::WouldBlock);
    }

    fn refuse(&self, step: Step, kind: ErrorKind) {
        self.asked.lock().unwrap().clear();
        *self.shut.lock().unwrap() = Some((step, kind));
    }

    fn open(&self) {
        *self.shut.lock().unwrap() = None;
    }

    /// Waits until somebody stood before it.
    fn met(&self) {
        until(|| self.asked.lock().unwrap().iter().any(|(_, refused)| *refused));
    }
}

fn until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::yield_now();
    }
}

/// As soon as one generation is whole the next commit begins another, and what failed is tried again.
fn eager() -> Limits {
    let retry = Duration::from_millis(20);
    Limits { generation: Duration::ZERO, retry, waiting_octets_max: 400_000, ..quick() }
}

/// Of these only the second.
fn patient() -> Limits {
    Limits { generation: Duration::MAX, ..eager() }
}

/// Opens the store with its archive. One that is new has its account before that.
fn begin(place: &Place, gate: &Arc<Gate>, limits: Limits) -> EmbeddedStore {
    if !place.path("store").exists() {
        let store = EmbeddedStore::open(&place.path("store"), small()).unwrap();
        store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    }
    place.open_within(Arc::clone(gate) as Arc<dyn Disk>, limits)
}

fn new() -> (Place, Arc<Gate>) {
    (Place::new(MasterKeys::default()), Arc::new(Gate::default()))
}

fn is_whole(place: &Place, generation: u64) -> bool {
    let head = place.begun(generation).and_then(|folder| stream::read_head(&folder).unwrap());
    head.is_some()
}

/// Appends some, and notes the moment.
fn some(store: &EmbeddedStore, seed: u64) -> Moment {
    for number in 0..4 {
        append(store, MailboxId(1), &noise(seed * 100 + number, 9_000));
    }
    (now(), picture(store))
}

/// All moments come back, and none is said to lack anything.
fn all_there(place: &Place, moments: &[Moment]) {
    for (number, (time, expected)) in moments.iter().enumerate() {
        let (restored, found) = place.restored(&place.path("archive"), *time);
        assert!(found == *expected, "moment {number}");
        assert_eq!(restored.missing, 0, "moment {number}");
    }
}

/// How many octets of commits a generation has by now.
fn spilled(place: &Place, generation: u64) -> u64 {
    let folder = place.begun(generation);
    folder.and_then(|folder| fs::metadata(folder.join("commits")).ok()).map_or(0, |file| file.len())
}

#[test]
fn a_copy_of_the_index_may_take_as_long_as_it_takes() {
    let (place, gate) = new();
    gate.shut(Step::ArchiveIndex);
    let store = begin(&place, &gate, patient());
    gate.met();
    let mut moments = Vec::new();
    for round in 0..12 {
        let before = spilled(&place, 1);
        moments.push(some(&store, round));
        until(|| spilled(&place, 1) > before);
    }
    assert!(!is_whole(&place, 1));
    assert!(store.upkeep().archive.unwrap().behind_since.unwrap() <= moments[0].0);
    gate.open();
    place.settle(1);
    Place::catch_up(&store);
    drop(store);
    // More than may wait in memory came meanwhile.
    let head = stream::read_head(&place.generation(1)).unwrap().unwrap();
    let mut pages = 0;
    let mut commits = stream::Reader::open(&place.generation(1), head).unwrap();
    while let Some(frame) = commits.next().unwrap() {
        pages += frame.iter().map(|commit| commit.frames.len()).sum::<usize>();
    }
    assert!(pages > patient().waiting_octets_max, "{pages}");
    all_there(&place, &moments);
}

#[test]
fn the_generation_before_goes_on_until_the_next_is_whole() {
    for step in [Step::ArchiveIndex, Step::ArchiveOctets] {
        let (place, gate) = new();
        let store = begin(&place, &gate, eager());
        Place::catch_up(&store);
        gate.shut(step);
        let mut moments = vec![some(&store, 1)];
        gate.met();
        for round in 2..10 {
            moments.push(some(&store, round));
            place.settle(1);
        }
        assert!(!is_whole(&place, 2));
        gate.open();
        until(|| is_whole(&place, 2));
        moments.push(some(&store, 10));
        drop(store);
        all_there(&place, &moments);
    }
}

/// As long as somebody has a snapshot, the WAL of the store only grows.
#[test]
fn the_snapshot_goes_before_octets_are_copied() {
    let (place, gate) = new();
    let store = begin(&place, &gate, eager());
    Place::catch_up(&store);
    gate.shut(Step::ArchiveIndex);
    some(&store, 1);
    gate.met();
    let db = rusqlite::Connection::open(place.path("store/index.db")).unwrap();
    db.busy_timeout(Duration::ZERO).unwrap();
    let begins_anew = || {
        let busy = db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0));
        busy.is_ok_and(|busy| !busy)
    };
    append(&store, MailboxId(1), b"after the snapshot");
    assert!(!begins_anew());
    gate.shut(Step::ArchiveOctets);
    gate.met();
    until(begins_anew);
    gate.open();
}

#[test]
fn a_generation_that_cannot_be_begun_leaves_nothing_and_is_begun_again() {
    let (place, gate) = new();
    let store = begin(&place, &gate, eager());
    Place::catch_up(&store);
    gate.refuse(Step::ArchiveOctets, ErrorKind::Other);
    let mut moments = vec![some(&store, 1)];
    gate.met();
    until(|| !place.generation(2).exists());
    // The one before goes on.
    moments.push(some(&store, 2));
    place.settle(1);
    // Nobody commits anything any more: it is begun all the same.
    gate.open();
    until(|| is_whole(&place, 2));
    drop(store);
    all_there(&place, &moments);
    // The same of the first.
    let (place, gate) = new();
    gate.refuse(Step::ArchiveIndex, ErrorKind::Other);
    let store = begin(&place, &gate, eager());
    gate.met();
    until(|| place.begun(1).is_none_or(|folder| !folder.exists()));
    some(&store, 1);
    gate.open();
    Place::catch_up(&store);
    let moment = some(&store, 2);
    Place::catch_up(&store);
    all_there(&place, &[moment]);
}

/// Closes a store; it has to come to an end.
fn close(store: EmbeddedStore) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        drop(store);
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(30)).expect("it is closed");
}

#[test]
fn a_stop_does_not_wait_for_a_generation() {
    let (place, gate) = new();
    gate.shut(Step::ArchiveIndex);
    let store = begin(&place, &gate, eager());
    gate.met();
    some(&store, 1);
    close(store);
    assert!(!place.generation(1).exists());
    gate.open();
    let store = begin(&place, &gate, eager());
    Place::catch_up(&store);
    // With one before it, which has everything to the last commit.
    gate.shut(Step::ArchiveOctets);
    some(&store, 2);
    gate.met();
    let moment = some(&store, 3);
    close(store);
    assert!(!place.generation(2).exists());
    let head = stream::read_head(&place.generation(1)).unwrap().unwrap();
    assert_eq!(head.commit, place.commits());
    all_there(&place, &[moment]);
}

/// After a commit that writes more than is handed over another generation begins, and none is lost.
#[test]
fn a_commit_that_is_too_large_begins_a_generation() {
    let (place, gate) = new();
    let limits = Limits { commit_octets_max: 200_000, ..quick() };
    let store = begin(&place, &gate, limits);
    let mut moments = vec![some(&store, 1)];
    place.settle(1);
    let many = (0..2_000u64).map(|number| {
        message(&[&number.to_le_bytes()[..], &noise(number, 40)].concat(), Flags::default())
    });
    store.append_all(MailboxId(2), many.collect()).unwrap();
    moments.push((now(), picture(&store)));
    until(|| is_whole(&place, 2));
    assert_eq!(place.settle(2).commit, place.commits());
    for round in 2..5 {
        moments.push(some(&store, round));
    }
    let head = place.settle(2);
    drop(store);
    assert!(!place.generation(3).exists());
    let first = stream::read_head(&place.generation(1)).unwrap().unwrap();
    let base = stream::read_base(&place.generation(2)).unwrap().unwrap();
    assert_eq!(base.commit, first.commit + 1);
    assert_eq!(place.restored(&place.path("archive"), now()).0.commit, head.commit);
    all_there(&place, &moments);
}

/// The disk of the archive lost what it had not flushed: lengths alone prove nothing.
#[test]
fn copies_are_believed_as_far_as_a_head_says() {
    let (place, gate) = new();
    let store = begin(&place, &gate, quick());
    load(&store, 1, 2);
    place.settle(1);
    drop(store);
    let archive = place.path("archive");
    let early = place.path("early");
    copy_dir(&archive, &early);
    let segments = |archive: &Path| {
        let history = fs::read_dir(archive).unwrap().next().unwrap().unwrap().path();
        let mut files: Vec<_> = fs::read_dir(history.join("segments"))
            .unwrap()
            .map(|one| one.unwrap().path())
            .collect();
        files.sort();
        files
    };
    let store = begin(&place, &gate, quick());
    for round in 0..6 {
        some(&store, round);
    }
    place.settle(1);
    drop(store);
    let whole = segments(&archive);
    for path in &whole {
        let name = path.file_name().unwrap();
        let known = segments(&early).into_iter().find(|one| one.file_name() == Some(name));
        let mut octets = vec![0; fs::metadata(path).unwrap().len() as usize];
        let target = match known {
            Some(known) => {
                let copied = fs::read(&known).unwrap();
                octets[..copied.len()].copy_from_slice(&copied);
                known
            }
            None => segments(&early)[0].with_file_name(name),
        };
        fs::write(target, octets).unwrap();
    }
    fs::remove_dir_all(&archive).unwrap();
    fs::rename(&early, &archive).unwrap();
    gate.asked.lock().unwrap().clear();
    let store = begin(&place, &gate, quick());
    place.settle(2);
    // And all that the generation claims was flushed, what had its length too.
    let flushed =
        gate.asked.lock().unwrap().iter().filter(|one| one.0 == Step::ArchiveFlush).count();
    let known = fs::read_dir(place.path("store/segments")).unwrap().count();
    assert!(flushed >= known, "{flushed} of {known}");
    let moment = (now(), picture(&store));
    drop(store);
    all_there(&place, &[moment]);
}

#[test]
fn what_could_not_be_flushed_is_written_again() {
    let (place, gate) = new();
    let store = begin(&place, &gate, patient());
    some(&store, 1);
    let head = place.settle(1);
    gate.refuse(Step::ArchiveFlush, ErrorKind::Other);
    some(&store, 2);
    gate.met();
    let (segment, end) = head.octets;
    let copy = segments::path(&place.generation(1).with_file_name("segments"), segment);
    until(|| fs::metadata(&copy).unwrap().len() == end);
    gate.open();
    until(|| is_whole(&place, 2));
    let moment = some(&store, 3);
    place.settle(2);
    drop(store);
    all_there(&place, &[moment]);
}

/// A stop and a start are no reason to copy the index: but anything that came between is.
#[test]
fn a_generation_goes_on_after_a_stop() {
    let (place, gate) = new();
    let mut moments = Vec::new();
    for round in 0..3 {
        let store = begin(&place, &gate, quick());
        moments.push(some(&store, round));
        assert!(!place.path("store/archived").exists());
        Place::catch_up(&store);
        drop(store);
        assert!(place.path("store/archived").exists());
    }
    assert!(!place.generation(2).exists());
    // It crashed; or something was written to the index before the archive heard of it.
    place.crash();
    let store = begin(&place, &gate, quick());
    moments.push(some(&store, 3));
    Place::catch_up(&store);
    drop(store);
    assert!(place.generation(2).exists() && !place.generation(3).exists());
    let written = rusqlite::Connection::open(place.path("store/index.db")).unwrap();
    written.execute_batch("UPDATE counters SET account = account + 1").unwrap();
    let store = begin(&place, &gate, quick());
    drop(written);
    moments.push(some(&store, 4));
    Place::catch_up(&store);
    drop(store);
    assert!(place.generation(3).exists());
    assert!(!place.generation(4).exists());
    // A week is over.
    let store = begin(&place, &gate, Limits { generation: Duration::ZERO, ..quick() });
    moments.push(some(&store, 5));
    until(|| is_whole(&place, 4));
    drop(store);
    all_there(&place, &moments);
}

/// Where the folder of the archive should be there is something else.
fn hide(place: &Place) {
    if place.path("archive").exists() {
        fs::rename(place.path("archive"), place.path("away")).unwrap();
    }
    fs::write(place.path("archive"), b"no folder").unwrap();
}

fn show(place: &Place) {
    fs::remove_file(place.path("archive")).unwrap();
    if place.path("away").exists() {
        fs::rename(place.path("away"), place.path("archive")).unwrap();
    }
}

#[test]
fn a_store_opens_without_its_archive_and_goes_on_with_it() {
    let (place, gate) = new();
    hide(&place);
    let store = begin(&place, &gate, patient());
    let first = some(&store, 1);
    let behind = store.upkeep().archive.unwrap().behind_since.unwrap();
    assert!(behind <= first.0);
    show(&place);
    // By itself, and in the history that it is in.
    Place::catch_up(&store);
    let moment = some(&store, 2);
    place.settle(1);
    drop(store);
    hide(&place);
    let store = begin(&place, &gate, patient());
    let unseen = some(&store, 3);
    drop(store);
    show(&place);
    let store = begin(&place, &gate, patient());
    place.settle(2);
    let last = some(&store, 4);
    drop(store);
    all_there(&place, &[last]);
    // What was done without it is told to be lacking.
    for time in [moment.0, unseen.0] {
        let (restored, found) = place.restored(&place.path("archive"), time);
        assert!(found == moment.1);
        assert!(restored.missing >= 4, "{restored:?}");
    }
}

/// A store that was put back while its archive was away must not go on in the history it had.
#[test]
fn a_store_that_was_put_back_is_found_out_later_too() {
    for while_open in [true, false] {
        let (place, gate) = new();
        let store = begin(&place, &gate, quick());
        let mut moments = vec![some(&store, 1)];
        place.settle(1);
        drop(store);
        let copy = place.path("copy");
        copy_dir(&place.path("store"), &copy);
        let store = begin(&place, &gate, quick());
        moments.push(some(&store, 2));
        place.settle(1);
        drop(store);
        fs::remove_dir_all(place.path("store")).unwrap();
        fs::rename(&copy, place.path("store")).unwrap();
        hide(&place);
        let mut store = begin(&place, &gate, patient());
        // It has more commits than its archive before anybody can see that.
        for round in 3..9 {
            some(&store, round);
        }
        if !while_open {
            drop(store);
            // A start later it is still known.
            let between = begin(&place, &gate, patient());
            some(&between, 9);
            drop(between);
            show(&place);
            store = begin(&place, &gate, patient());
        } else {
            show(&place);
        }
        let histories = || fs::read_dir(place.path("archive")).unwrap().count();
        until(|| histories() == 2);
        Place::catch_up(&store);
        moments.push(some(&store, 10));
        drop(store);
        assert_eq!(histories(), 2);
        all_there(&place, &moments);
    }
}
