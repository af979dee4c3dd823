//! What octets take on their medium, and tables of an earlier format.

use store::contract::{append, at, holder, octets_max};
use store::shared::{Options, Place, look};
use store::{MailboxId, MailboxName, Store, StoreError, UidSet};
use tempfile::TempDir;

use crate::{database, in_folder, noise, open, schema};

const CHUNK: usize = 64 * 1024;

fn inbox(store: &dyn Store) -> MailboxId {
    let anna = store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    store.mailbox(anna, &MailboxName::inbox()).unwrap().id
}

/// Octets of the objects of these options.
fn taken(options: &Options) -> u64 {
    let Place::Folder(folder) = &options.octets else { panic!("they are in a folder") };
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let objects = entries.filter(|entry| entry.file_name() != "store.id");
    objects.map(|entry| entry.metadata().unwrap().len()).sum()
}

#[test]
fn a_text_takes_less_than_it_is_and_counts_as_what_it_is() {
    let folder = TempDir::new().unwrap();
    let options = in_folder(database(), &schema(), &folder);
    let store = open(&options);
    let inbox = inbox(&store);
    let text = b"Si trasmette quanto richiesto, e si resta in attesa.\r\n".repeat(4_000);
    let before = taken(&options);
    append(&store, inbox, &text);
    let after = taken(&options);
    assert!((after - before) * 20 < text.len() as u64, "{before} to {after}");
    assert_eq!(store.status(inbox).unwrap().octets, text.len() as u64);
    let blob = store.summaries(inbox, &UidSet::all(), 9).unwrap()[0].blob;
    assert_eq!(store.read(blob, 0, u64::MAX).unwrap(), text);
    for (start, end) in [(0, 1), (CHUNK - 1, CHUNK + 1), (CHUNK, 2 * CHUNK), (150_000, 400_000)] {
        let part = &text[start..end.min(text.len())];
        assert_eq!(store.read(blob, start as u64, end as u64).unwrap(), part, "{start}..{end}");
    }
}

#[test]
fn a_store_of_format_1_is_read_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let schema = schema();
    let options = in_folder(database(), &schema, &folder);
    let store = open(&options);
    let inbox = inbox(&store);
    let earlier = noise(100_000);
    append(&store, inbox, &earlier);
    drop(store);
    // As the program before had it: a checksum of each chunk, which lay as it was.
    let told = database().ask(&format!(
        "SET search_path TO {schema};
         UPDATE blobs SET chunks = substr(chunks, 6, 4) || substr(chunks, 15, 4);
         ALTER TABLE blobs RENAME COLUMN chunks TO crcs;
         UPDATE format SET version = 1;
         SELECT length(crcs) FROM blobs"
    ));
    assert_eq!(told.unwrap().trim(), "8");
    assert!(look(&options).unwrap());
    let store = open(&options);
    let format = || database().ask(&format!("SELECT version FROM {schema}.format")).unwrap();
    assert_eq!(format().trim(), "2");
    append(&store, inbox, &[b'x'; 100_000]);
    let blobs = store.summaries(inbox, &UidSet::all(), 9).unwrap();
    assert_eq!(store.read(blobs[0].blob, 0, u64::MAX).unwrap(), earlier);
    assert_eq!(store.read(blobs[0].blob, 65_000, 66_000).unwrap(), earlier[65_000..66_000]);
    assert_eq!(store.read(blobs[1].blob, 0, u64::MAX).unwrap(), [b'x'; 100_000]);
    drop(store);
    // And one of a program to come is left alone.
    database().ask(&format!("UPDATE {schema}.format SET version = 3")).unwrap();
    let refused = store::shared::SharedStore::open(&options).err().unwrap();
    let words = format!("the tables in {schema} have format 3, this program knows 2");
    assert!(matches!(&refused, StoreError::Medium(why) if *why == words), "{refused}");
}
