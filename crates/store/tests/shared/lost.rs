//! Commits that the database did and whose answer was lost on the way.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use store::contract::{append, at, holder, octets_max};
use store::embedded::{self, EmbeddedStore};
use store::shared::{Options, fill};
use store::{MailboxName, Store, UidSet};
use tempfile::TempDir;

use crate::{database, in_folder, open, schema};

/// A way to the database on which the answers to the next commits, so many, get lost.
struct Way {
    folder: TempDir,
    losing: Arc<AtomicU32>,
}

impl Way {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let losing = Arc::new(AtomicU32::new(0));
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let address = database().address();
        let there = address.split_whitespace().find_map(|word| word.strip_prefix("host=")).unwrap();
        let there = std::path::Path::new(there).join(".s.PGSQL.5432");
        let counter = Arc::clone(&losing);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), UnixStream::connect(&there).unwrap());
                let losing = Arc::clone(&counter);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass_on(from, to, &losing));
                thread::spawn(move || pass_on(server, client, &AtomicU32::new(0)));
            }
        });
        Self { folder, losing }
    }

    fn options(&self, folder: &TempDir) -> Options {
        let options = in_folder(database(), &schema(), folder);
        let address = options.database.split_whitespace();
        let rest: Vec<&str> = address.filter(|word| !word.starts_with("host=")).collect();
        let database = format!("host={} {}", self.folder.path().display(), rest.join(" "));
        Options { database, ..options }
    }

    fn lose(&self, answers: u32) {
        self.losing.store(answers, Ordering::SeqCst);
    }
}

/// Passes on what comes, and ends the way back when that is a commit whose answer is to be lost.
fn pass_on(mut from: UnixStream, mut to: UnixStream, losing: &AtomicU32) {
    let mut octets = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut octets) {
        let passed = &octets[..length];
        let fewer = |left: u32| left.checked_sub(1);
        if passed.windows(6).any(|word| word == b"COMMIT")
            && losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok()
        {
            // The client hears nothing more; the database does what it was told.
            from.shutdown(Shutdown::Both).unwrap_or_default();
        }
        if to.write_all(passed).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).unwrap_or_default();
}

#[test]
fn what_became_of_a_commit_is_asked_and_not_guessed() {
    let folder = TempDir::new().unwrap();
    let way = Way::new();
    let store = open(&way.options(&folder));
    let anna = store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let inbox = store.mailbox(anna, &MailboxName::inbox()).unwrap().id;
    for number in 1..=3 {
        way.lose(1);
        assert_eq!(append(&store, inbox, b"once").0.get(), number);
        assert_eq!(way.losing.load(Ordering::SeqCst), 0, "no commit was lost");
    }
    assert_eq!(store.summaries(inbox, &UidSet::all(), 9).unwrap().len(), 3);
}

#[test]
fn a_store_is_moved_though_the_answer_to_its_last_commit_is_lost() {
    let folder = TempDir::new().unwrap();
    let directory = folder.path().join("embedded");
    let source = EmbeddedStore::open(&directory, embedded::Options::default()).unwrap();
    let anna = source.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let inbox = source.mailbox(anna, &MailboxName::inbox()).unwrap().id;
    append(&source, inbox, b"moved");
    drop(source);
    let way = Way::new();
    let options = way.options(&folder);
    let filled =
        fill(&directory, embedded::Options::default(), &options, &mut |_, _| way.lose(1)).unwrap();
    assert_eq!(way.losing.load(Ordering::SeqCst), 0, "no commit was lost");
    assert_eq!((filled.accounts, filled.messages), (1, 1));
    assert_eq!(open(&options).status(inbox).unwrap().messages, 1);
}
