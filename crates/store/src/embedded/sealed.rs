//! Tests of a store that is encrypted at rest.

use std::cell::Cell;
use std::path::Path;

use tempfile::TempDir;

use super::faults::picture;
use super::tests::{noise, small};
use super::*;
use crate::contract::*;
use crate::{FlagChange, SystemFlags};

/// A master key.
pub(super) fn master(number: u8) -> Arc<dyn MasterKey> {
    Arc::new(KnownKey::new(&SecretKey([number; KEY_OCTETS])))
}

/// The keys of a configuration: the one in use, and those before it.
pub(super) fn under(current: u8, earlier: &[u8]) -> MasterKeys {
    let earlier = earlier.iter().map(|number| master(*number)).collect();
    MasterKeys { current: Some(master(current)), earlier }
}

fn with(keys: MasterKeys) -> Options {
    Options { keys, ..small() }
}

fn run(case: fn(Make<'_>)) {
    let dir = TempDir::new().unwrap();
    let made = Cell::new(0);
    case(&|| {
        made.set(made.get() + 1);
        let dir = dir.path().join(made.get().to_string());
        Box::new(EmbeddedStore::open(&dir, with(under(1, &[]))).unwrap())
    });
}

crate::contract_cases!(as_tests!(run));

/// The files below a folder that hold these octets.
fn holding(dir: &Path, marks: &[&[u8]]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, marks));
            continue;
        }
        let octets = std::fs::read(&path).unwrap();
        let holds = |mark: &&[u8]| memchr::memmem::find(&octets, mark).is_some();
        if marks.iter().any(holds) {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

const MARK: &[u8] = b"q8ZrT5mKx2WnV7cJ";

/// A text with the mark, shorter and longer than a spool keeps in memory.
fn texts() -> [Vec<u8>; 2] {
    [3_000, 700_000].map(|octets| [&noise(7, octets)[..], MARK, &noise(8, 40)].concat())
}

/// Fills a store with texts that have the mark, in all that is made of them.
fn fill(store: &EmbeddedStore) {
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let inbox = MailboxId(1);
    let uids: Vec<Uid> = texts().iter().map(|text| append(store, inbox, text)).collect();
    let blobs: Vec<BlobId> =
        store.summaries(inbox, &UidSet::all(), 9).unwrap().iter().map(|one| one.blob).collect();
    store.keep_digests(vec![(blobs[0], MARK.to_vec())]);
    let text = String::from_utf8(MARK.to_vec()).unwrap();
    let text = MessageText { header: text.clone(), body: text };
    store.index_texts(inbox, uids[1], vec![(blobs[0], Some(text))]).unwrap();
    // Behind the digests, in the queue of the writer.
    append(store, inbox, b"last");
    assert_eq!(
        store.digested(inbox, &uids.iter().copied().collect(), 1, 99).unwrap()[0].1.as_deref(),
        Some(MARK)
    );
}

/// What a piece of these texts is known by where nothing is encrypted.
fn guess() -> [u8; 32] {
    let pieces = cut(&texts()[0]);
    *blake3::hash(&texts()[0][pieces[0].clone()]).as_bytes()
}

#[test]
fn no_file_holds_what_is_in_messages() {
    let clear = TempDir::new().unwrap();
    fill(&EmbeddedStore::open(clear.path(), small()).unwrap());
    // That the mark would be found is what makes it a test.
    let found = holding(clear.path(), &[MARK]);
    assert!(found.iter().any(|name| name.starts_with("index.db")), "{found:?}");
    assert!(found.iter().any(|name| name.starts_with("0000")), "{found:?}");
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), with(under(1, &[]))).unwrap();
    fill(&store);
    assert_eq!(holding(dir.path(), &[MARK]), [""; 0]);
    assert!(!dir.path().join("search").exists());
    // Nor what a piece is known by to who guesses it.
    let guess = guess();
    assert!(!holding(clear.path(), &[&guess]).is_empty());
    assert_eq!(holding(dir.path(), &[&guess]), [""; 0]);
}

#[test]
fn what_is_equal_is_stored_once_and_never_looks_the_same() {
    let ciphertext = || {
        let dir = TempDir::new().unwrap();
        let store = EmbeddedStore::open(dir.path(), with(under(1, &[]))).unwrap();
        store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
        append(&store, MailboxId(1), &noise(1, 5_000));
        append(&store, MailboxId(2), &noise(1, 5_000));
        assert_eq!(stats(dir.path()).unwrap().pieces, 1);
        std::fs::read(dir.path().join("segments/00000001")).unwrap()
    };
    let (one, two) = (ciphertext(), ciphertext());
    let record = record::HEADER_OCTETS as usize;
    let same = one[record + 4..5_000].iter().zip(&two[record + 4..5_000]).filter(|(a, b)| a == b);
    // One in 256 by chance.
    assert!(same.count() < 60);
}

#[test]
fn without_its_key_a_store_is_refused_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    fill(&EmbeddedStore::open(dir.path(), with(under(1, &[]))).unwrap());
    let names: Vec<String> = [1, 2].iter().map(|number| master(*number).name()).collect();
    let to_do =
        "name that key as store.key, or in store.earlier_keys when another has taken its place";
    let refused = |keys: MasterKeys, instead: &str| {
        let expected = format!(
            "the medium failed: the store is encrypted under the key `{}`, and {instead}: {to_do}",
            names[0]
        );
        let opened = EmbeddedStore::open(dir.path(), with(keys.clone())).unwrap_err();
        assert_eq!(opened.to_string(), expected);
        let checked = check(dir.path(), &keys, &mut |_| {}).unwrap_err();
        assert_eq!(checked.to_string(), expected);
    };
    refused(MasterKeys::default(), "the configuration names none");
    refused(under(2, &[]), &format!("the configuration names `{}`", names[1]));
    // And what lies under it is refused when it was changed.
    let db = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    db.execute_batch("UPDATE keys SET wrapped = zeroblob(72) WHERE id = 1").unwrap();
    drop(db);
    let opened = EmbeddedStore::open(dir.path(), with(under(1, &[]))).unwrap_err().to_string();
    assert!(opened.ends_with("it lies under another key"), "{opened}");
}

fn compact_all(store: &EmbeddedStore) {
    while store.compact().unwrap().segments > 0 {}
    // A call later, so that the writer has done its work after the reply.
    store.expunge(MailboxId(1), None).unwrap();
}

#[test]
fn a_store_in_clear_is_encrypted_and_goes_from_key_to_key() {
    let dir = TempDir::new().unwrap();
    let mut expected = {
        let store = EmbeddedStore::open(dir.path(), small()).unwrap();
        fill(&store);
        picture(&store)
    };
    let guess = guess();
    assert!(holding(dir.path(), &[&guess]).contains(&"index.db".to_owned()));
    let holds = |keys: &MasterKeys| {
        let mut tell = |seen| assert!(!matches!(seen, crate::Seen::Finding(..)), "{seen:?}");
        check(dir.path(), keys, &mut tell).unwrap();
    };
    let segments = dir.path().join("segments");
    let keys = || {
        let db = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
        let mut get = db.prepare("SELECT id FROM keys ORDER BY id").unwrap();
        let ids = get.query_map([], |row| row.get::<_, u32>(0)).unwrap();
        ids.collect::<Result<Vec<_>, _>>().unwrap()
    };
    // Each time another key takes over: what is there is read, and after compaction lies under it.
    for (current, earlier, during, after) in [
        (1, &[][..], &[0, 1][..], &[0, 1][..]),
        (2, &[1], &[0, 1, 2], &[0, 2]),
        (3, &[2], &[0, 2, 3], &[0, 3]),
    ] {
        let store = EmbeddedStore::open(dir.path(), with(under(current, earlier))).unwrap();
        assert_eq!(picture(&store), expected);
        holds(&under(current, earlier));
        assert_eq!(keys(), during);
        assert_eq!(holding(&segments, &[MARK]).is_empty(), current > 1);
        // Nor is it in what the index does not use any more: only in octets not yet encrypted.
        let left = holding(dir.path(), &[MARK]);
        assert!(left.iter().all(|name| name.starts_with("0000")), "{left:?}");
        append(&store, MailboxId(2), &texts()[0]);
        expected = picture(&store);
        compact_all(&store);
        assert_eq!(holding(&segments, &[MARK]), [""; 0]);
        assert_eq!(picture(&store), expected);
        drop(store);
        assert_eq!(holding(dir.path(), &[MARK, &guess]), [""; 0]);
        // The key before it is needed no more.
        let store = EmbeddedStore::open(dir.path(), with(under(current, &[]))).unwrap();
        assert_eq!(keys(), after);
        assert_eq!(picture(&store), expected);
        holds(&under(current, &[]));
    }
}

/// Digests that were let go of before there was a key lie in pages that others use now.
#[test]
fn the_first_key_leaves_no_digest_in_clear() {
    const GONE: &[u8] = b"w4XnC9dLp1BvH6sR";
    let dir = TempDir::new().unwrap();
    let in_index = || {
        let mut found = holding(dir.path(), &[MARK, GONE]);
        found.retain(|name| name.starts_with("index.db"));
        found
    };
    {
        let store = EmbeddedStore::open(dir.path(), small()).unwrap();
        fill(&store);
        let blobs: Vec<BlobId> = (0..40u64)
            .map(|number| {
                let uid = append(&store, MailboxId(2), &noise(number, 300));
                let of: UidSet = [uid].into_iter().collect();
                store.summaries(MailboxId(2), &of, 1).unwrap()[0].blob
            })
            .collect();
        let long = GONE.repeat(200);
        store.keep_digests(blobs.into_iter().map(|blob| (blob, long.clone())).collect());
        let deleted = FlagChange::Add(system(SystemFlags::DELETED));
        store.change_flags(MailboxId(2), &UidSet::all(), &deleted).unwrap();
        store.expunge(MailboxId(2), None).unwrap();
        for number in 0..200 {
            append(&store, MailboxId(3), &noise(number, 90));
        }
    }
    assert_eq!(in_index(), ["index.db"]);
    // Somebody who reads keeps the log from being cut off: then it is owed.
    let reader = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM blobs").unwrap();
    let owed = || {
        let get = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'unwiped')";
        reader.query_row(get, [], |row| row.get::<_, bool>(0)).unwrap()
    };
    drop(EmbeddedStore::open(dir.path(), with(under(1, &[]))).unwrap());
    reader.execute_batch("COMMIT").unwrap();
    assert!(owed());
    let store = EmbeddedStore::open(dir.path(), with(under(1, &[]))).unwrap();
    assert!(!owed());
    assert_eq!(in_index(), [""; 0]);
    // And what is made from then on is never there.
    append(&store, MailboxId(1), b"last");
    assert_eq!(in_index(), [""; 0]);
}

#[test]
fn octets_that_were_changed_are_not_handed_out() {
    use std::os::unix::fs::FileExt as _;
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path(), with(under(1, &[]))).unwrap();
    store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    append(&store, MailboxId(1), &noise(1, 900));
    let path = dir.path().join("segments/00000001");
    let octets = std::fs::read(&path).unwrap();
    let payload = record::HEADER_OCTETS as usize..record::HEADER_OCTETS as usize + 944;
    // With the checksum that belongs to the change.
    let mut changed = octets[payload.clone()].to_vec();
    changed[500] ^= 1;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&changed, payload.start as u64).unwrap();
    file.write_all_at(&record::Crcs::of(&changed).table(), payload.end as u64).unwrap();
    let read = store.read(BlobId(1), 0, 9).unwrap_err().to_string();
    assert_eq!(read, "the medium failed: a stored piece cannot be decrypted");
    let mut found = Vec::new();
    check(dir.path(), &under(1, &[]), &mut |seen| {
        if let crate::Seen::Finding(_, text) = seen {
            found.push(text);
        }
    })
    .unwrap();
    assert!(found[0].contains("cannot be decrypted; anna@pec.example, INBOX, UID 1"), "{found:?}");
}

#[test]
fn a_copy_is_encrypted_as_the_store_is() {
    let (dir, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = EmbeddedStore::open(dir.path(), with(under(1, &[]))).unwrap();
    fill(&store);
    let copy = to.path().join("copy");
    backup(dir.path(), &copy, &mut |_, _| {}).unwrap();
    assert_eq!(holding(&copy, &[MARK]), [""; 0]);
    EmbeddedStore::open(&copy, small()).unwrap_err();
    assert_eq!(picture(&EmbeddedStore::open(&copy, with(under(1, &[]))).unwrap()), picture(&store));
}
