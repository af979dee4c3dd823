//! Looking a shared store over.

use store::contract::{append, at, holder, octets_max};
use store::shared::{Options, check};
use store::{
    Checked, MailboxId, MailboxName, NewJob, Octets, Part, Seen, Source, Store, StoreError,
    Transaction, UidSet,
};
use tempfile::TempDir;

use crate::{database, in_bucket, in_folder, noise, open, schema};

/// All that a check finds, and what it looked at.
fn checked(options: &Options) -> (Checked, Vec<(Part, String)>) {
    let mut found = Vec::new();
    let mut progress = (0, 0);
    let checked = check(options, &mut |seen| match seen {
        Seen::Finding(part, text) => found.push((part, text)),
        Seen::Progress(done, all) => progress = (done, all),
    });
    let checked = checked.unwrap();
    assert_eq!(checked.findings, found.len() as u64);
    assert_eq!(progress.0, progress.1);
    (checked, found)
}

/// A store with a little of everything: 250,000 octets in two messages and a job.
fn varied(options: &Options) -> MailboxId {
    let store = open(options);
    let anna = store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let inbox = store.mailbox(anna, &MailboxName::inbox()).unwrap().id;
    append(&store, inbox, &noise(200_000));
    append(&store, inbox, &[b'x'; 30_000]);
    let job =
        NewJob { due: at(1), payload: b"x".to_vec(), octets: Some(Source::New(0)), lane: None };
    let octets = vec![Octets::Inline(noise(20_000).into())];
    let step = Transaction { at: at(1), octets, enqueue: vec![job], ..Transaction::default() };
    store.commit(step).unwrap();
    inbox
}

#[test]
fn a_store_that_holds_has_no_findings_in_a_folder_or_in_s3() {
    for place in [in_folder, in_bucket] {
        let folder = TempDir::new().unwrap();
        let options = place(database(), &schema(), &folder);
        varied(&options);
        let expected = Checked { findings: 0, messages: 2, octets: 250_000 };
        assert_eq!(checked(&options), (expected, Vec::new()));
    }
}

#[test]
fn each_thing_that_does_not_hold_is_named() {
    let folder = TempDir::new().unwrap();
    let schema = schema();
    let options = in_folder(database(), &schema, &folder);
    let inbox = varied(&options).0;
    let store = open(&options);
    let blob = store.summaries(MailboxId(inbox), &UidSet::all(), 9).unwrap()[1].blob.0;
    let job = blob + 1;
    for (damage, mend, part, finding) in [
        (
            "UPDATE accounts SET octets = octets + 1".to_owned(),
            "UPDATE accounts SET octets = octets - 1".to_owned(),
            Part::Account,
            "account anna@pec.example says 230001 octets in 2 messages, its mailboxes hold 230000 in 2"
                .to_owned(),
        ),
        (
            "UPDATE logins SET account = account + 7".into(),
            "UPDATE logins SET account = account - 7".into(),
            Part::Account,
            "nobody can sign in as anna@pec.example: the name is not there".into(),
        ),
        (
            format!("UPDATE mailboxes SET unseen = 5 WHERE id = {inbox}"),
            format!("UPDATE mailboxes SET unseen = 2 WHERE id = {inbox}"),
            Part::Mailbox,
            format!(
                "mailbox {inbox} (INBOX) says 2 messages, 230000 octets, 5 unseen, 2 recent, 0 deleted \
                 of 0 octets; counted: 2, 230000, 2, 2, 0, 0"
            ),
        ),
        (
            format!("UPDATE mailboxes SET uid_next = 2 WHERE id = {inbox}"),
            format!("UPDATE mailboxes SET uid_next = 3 WHERE id = {inbox}"),
            Part::Mailbox,
            format!("mailbox {inbox} (INBOX) gives UID 2 next and has a message with UID 2"),
        ),
        (
            format!("INSERT INTO expunged VALUES ({inbox}, 1, 2, 9)"),
            "DELETE FROM expunged".into(),
            Part::Message,
            format!("message 2 of mailbox {inbox} is there and told to be expunged"),
        ),
        (
            format!("UPDATE blobs SET refs = 3 WHERE id = {blob}"),
            format!("UPDATE blobs SET refs = 1 WHERE id = {blob}"),
            Part::References,
            format!("blob {blob} is said to be referred to 3 times, and is 1"),
        ),
        (
            format!("UPDATE jobs SET blob = {job} + 10"),
            format!("UPDATE jobs SET blob = {job}"),
            Part::Message,
            format!("job 1 has no octets: blob {} is not there", job + 10),
        ),
        (
            format!("UPDATE blobs SET start = start + 1 WHERE id = {blob}"),
            format!("UPDATE blobs SET start = start - 1 WHERE id = {blob}"),
            Part::Octets,
            format!(
                "blob {blob}: stored octets do not have their checksum; it is of message 2 of mailbox \
                 {inbox}"
            ),
        ),
    ] {
        let ask = |sql: &str| {
            database().ask(&format!("SET search_path TO {schema}; {sql};")).unwrap();
        };
        ask(&damage);
        let (_, found) = checked(&options);
        assert!(found.contains(&(part, finding.clone())), "{finding}: {found:?}");
        ask(&mend);
        assert_eq!(checked(&options).1, [], "{finding}");
    }
}

#[test]
fn where_there_is_no_store_it_says_so_and_makes_none() {
    let folder = TempDir::new().unwrap();
    let schema = schema();
    let options = in_folder(database(), &schema, &folder);
    let refused = check(&options, &mut |_| {}).unwrap_err();
    let words = format!("there is no store in the schema {schema}");
    assert!(matches!(&refused, StoreError::Medium(why) if *why == words), "{refused}");
    assert!(!store::shared::look(&options).unwrap());
}
