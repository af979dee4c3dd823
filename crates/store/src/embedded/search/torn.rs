//! The power is lost while an index of texts is filled. Nothing of it was flushed since its last
//! checkpoint, so its log may be left in any part: what is found then is what was indexed up to some
//! call, whole, and the UID up to which it had come; messages beyond are read, as those always are.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::Indexes;
use super::texts::Texts;
use crate::{AccountId, BlobId, MailboxId, MessageText, Uid, Within};

const ACCOUNT: AccountId = AccountId(1);
const MAILBOX: MailboxId = MailboxId(7);
const SECTOR: usize = 512;
const CALLS: u32 = 24;
const LOSSES: u64 = 300;

fn with<T>(dir: &Path, work: impl FnOnce(&mut Texts) -> T) -> T {
    let indexes = Indexes::open(dir).unwrap();
    indexes.with(ACCOUNT, || Ok(9_999), |texts| Ok(work(texts))).unwrap()
}

/// Indexes the message with this UID: of a word of its own, and one that all have.
fn index(texts: &mut Texts, number: u32) {
    let text = MessageText { header: format!("numero{number:04}"), body: "comune".to_owned() };
    let up_to = Uid(NonZeroU32::new(number).unwrap());
    texts.add(MAILBOX, up_to, &[(BlobId(u64::from(number)), Some(text))]).unwrap();
}

fn sure(texts: &Texts, text: &str) -> Vec<u64> {
    let found = texts.find(MAILBOX, text, Within::Message).unwrap();
    found.map_or(vec![], |found| found.sure.iter().map(|blob| blob.0).collect())
}

/// The files of the index in a store.
fn files(dir: &Path) -> [PathBuf; 2] {
    let database = dir.join("search/01/00000001.db");
    let log = database.with_extension("db-wal");
    [database, log]
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    *state >> 33
}

#[test]
fn a_torn_log_takes_the_latest_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    // What the first calls wrote is in the database: it is closed, and so checkpointed.
    with(dir.path(), |texts| (1..=4).for_each(|number| index(texts, number)));
    let image = tempfile::tempdir().unwrap();
    with(dir.path(), |texts| {
        (5..=CALLS).for_each(|number| index(texts, number));
        fs::create_dir_all(files(image.path())[0].parent().unwrap()).unwrap();
        for (from, to) in files(dir.path()).iter().zip(files(image.path())) {
            fs::copy(from, to).unwrap();
        }
    });
    let [database, log] = files(image.path()).map(|path| fs::read(path).unwrap());
    assert!(log.len() > 100 * SECTOR);
    let mut seen = BTreeSet::new();
    for loss in 0..LOSSES {
        let mut chance = loss;
        let mut left = log.clone();
        // Half of them lose a little, so that much is left before it.
        let harms = if loss % 2 == 0 { 1 } else { 1 + next(&mut chance) % 9 };
        for _ in 0..harms {
            let at = next(&mut chance) as usize % left.len().max(1) / SECTOR * SECTOR;
            let end = (at + SECTOR).min(left.len());
            match next(&mut chance) % 3 {
                0 => left.truncate(at),
                1 => left[at..end].fill(0),
                _ => left[at..end].iter_mut().for_each(|octet| *octet ^= 0x5a),
            }
        }
        let after = tempfile::tempdir().unwrap();
        let [database_after, log_after] = files(after.path());
        fs::create_dir_all(database_after.parent().unwrap()).unwrap();
        fs::write(database_after, &database).unwrap();
        fs::write(log_after, &left).unwrap();
        with(after.path(), |texts| {
            let to = texts.indexed_to(MAILBOX).unwrap();
            assert!((4..=CALLS).contains(&to), "{to}");
            seen.insert(to);
            let all: Vec<u64> = (1..=u64::from(to)).collect();
            assert_eq!(sure(texts, "comune"), all, "loss {loss}");
            for number in 1..=CALLS {
                let expected = if number <= to { vec![u64::from(number)] } else { vec![] };
                assert_eq!(sure(texts, &format!("numero{number:04}")), expected, "loss {loss}");
            }
            // And it goes on from there.
            (to + 1..=CALLS).for_each(|number| index(texts, number));
            assert_eq!(sure(texts, "comune").len() as u32, CALLS);
        });
    }
    assert!(seen.len() > 10, "{seen:?}");
}
