//! Evidence bundles as `evidence` makes them, and such as anybody can make without a key.

use std::collections::BTreeMap;

use crypto::{Authority, Identity, LocalSigner, stamp};
use jiff::SignedDuration;
use store::memory::MemoryStore;
use store::tree::Hash;
use store::{LogRecord, Store as _, Transaction};

use super::signed::{A, A_KEY, Apart, OWN_CA, ground_with_a};
use super::*;
use crate::evidence::bundle::{Format, HISTORY, MANIFEST, Manifest, PAGE};
use crate::evidence::{Kept, Made, assemble};
use crate::seal::Sealer;
use crate::seal::history::History;

const OWN_CA_KEY: &[u8] = include_bytes!("../../../../../certs/ca.key");
const NON_DELIVERY: &[u8] = include_bytes!("../../../../pec/examples/eml/10-errore-consegna.eml");
const IDENTIFIER: &str = "20260914093012.4c1f9e27@alfapec.example";
const PROVIDER: &str = "Gestore A S.p.A.";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The files of a bundle, by their names.
type Files = BTreeMap<String, Vec<u8>>;

/// A bundle of two messages whose records are sealed, and stamped at `stamped`.
fn made(stamped: &str) -> Files {
    let examples = [("accettazione", ACCEPTANCE), ("errore-consegna", NON_DELIVERY)];
    let messages = examples.map(|(kind, octets)| {
        let octets = Apart::of(octets).sign();
        let id = mail::Message::lenient(&octets).field("Message-ID").unwrap().unfolded();
        (id.trim().trim_matches(['<', '>']).to_owned(), Kept { kind, octets })
    });
    let store = MemoryStore::new();
    let log = messages.iter().map(|(id, kept)| LogRecord {
        time: at("2026-09-14T07:30:15Z"),
        event: kept.kind.to_owned(),
        identificativo: Some(IDENTIFIER.to_owned()),
        message_id: Some(id.clone()),
        mittente: Some("mario.rossi@pec.rossi.example".to_owned()),
        ..LogRecord::default()
    });
    store.commit(Transaction { log: log.collect(), ..Transaction::default() }).unwrap();
    let ca = Certificate::from_pem(OWN_CA).unwrap();
    let identity = Identity::new(Certificate::from_pem(A).unwrap(), vec![ca.clone()]).unwrap();
    let signer = LocalSigner::from_pem(A_KEY).unwrap();
    let sealer = Sealer {
        store: &store,
        provider: PROVIDER,
        signing: Box::new(|_| (&identity, &signer)),
        every: SignedDuration::from_hours(24),
    };
    assert_eq!(sealer.seal_due(at("2026-09-15T00:00:01Z")).unwrap(), 1);
    let authority = Authority::from_pem(OWN_CA, OWN_CA_KEY).unwrap();
    let begun = at("2026-01-01T00:00:00Z");
    let (stamper, key) =
        authority.issue_stamper(PROVIDER, "posta-certificata@a.example", begun).unwrap();
    let stamper = Identity::new(stamper, vec![ca]).unwrap();
    let key = LocalSigner::from_pem(key.as_bytes()).unwrap();
    for seal in store.unstamped_seals(1).unwrap() {
        let token = stamp(&stamper, &key, &seal.signature, at(stamped)).unwrap();
        store.stamp_seal(seal.number, &token).unwrap();
    }
    let now = at("2026-09-16T00:00:00Z");
    let history = History::of(&store, PROVIDER, IDENTIFIER, now).unwrap();
    let (ground, records) = (ground(), history.log().unwrap());
    let messages = messages.into_iter().collect();
    let Made { files, .. } =
        assemble(IDENTIFIER, &history, &records, messages, &ground, now).unwrap();
    files.into_iter().collect()
}

fn ground() -> Ground {
    let ground = ground_with_a();
    Ground { stampers: ground.trust.with_crls(Vec::new()).unwrap(), ..ground }
}

/// As [`run`] does with a file that these files make.
fn told(files: &Files, ground: &Ground) -> Report {
    tried(files, ground).unwrap()
}

fn tried(files: &Files, ground: &Ground) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prove.zip");
    let files = files.iter().map(|(name, octets)| (&**name, &**octets));
    crate::evidence::bundle::write(File::create(&path).unwrap(), files).unwrap();
    bundle::report(&path, ground, false, at("2026-11-28T00:00:00Z"))
}

/// With the manifest changed, and the hash of each file in it made anew.
fn listed(mut files: Files, change: impl Fn(&mut Manifest)) -> Files {
    let mut manifest: Manifest = serde_json::from_slice(&files[MANIFEST]).unwrap();
    change(&mut manifest);
    manifest.files.retain(|listed| files.contains_key(&listed.name));
    for listed in &mut manifest.files {
        listed.sha256 = Hash::of(&files[&listed.name]);
    }
    files.insert(MANIFEST.to_owned(), serde_json::to_vec(&manifest).unwrap());
    files
}

/// With the page that belongs to the rest: whoever forges a bundle has this program too.
fn with_page(mut files: Files) -> Files {
    let manifest: Manifest = serde_json::from_slice(&files[MANIFEST]).unwrap();
    let history = History::read(&files[HISTORY]).unwrap();
    let page = pec::evidence::page(&crate::evidence::story::of(&manifest, &history).unwrap());
    files.insert(PAGE.to_owned(), page.into_bytes());
    files
}

fn edited(files: &Files, name: &str, from: &str, to: &str) -> Files {
    let mut files = files.clone();
    let octets = replaced(&files[name], from, to);
    files.insert(name.to_owned(), octets);
    files
}

fn complaints(report: &Report) -> Vec<(&'static str, &str)> {
    let wrong = report.checks.iter().filter(|check| !check.ok);
    wrong.map(|check| (check.rule, &check.text[..])).collect()
}

const STAMPED: &str = "2026-09-15T00:00:05Z";

#[test]
fn a_bundle_that_is_as_it_was_made_is_valid() {
    let report = told(&made(STAMPED), &ground());
    assert_eq!((report.verdict, complaints(&report)), (VALID, vec![]));
    assert_eq!(report.certified.identificativo.as_deref(), Some(IDENTIFIER));
}

/// PEC-LOG-02: the page is what a person reads, whichever program says that it made it.
#[test]
fn a_page_that_says_something_else_is_wrong_whatever_version_made_it() {
    let files = made(STAMPED);
    let delivered = "Il messaggio è stato CONSEGNATO";
    let files = edited(&files, PAGE, "Il messaggio non è stato consegnato", delivered);
    for program in [env!("CARGO_PKG_VERSION"), "0.0.9", "9.0.0"] {
        let files = listed(files.clone(), |manifest| program.clone_into(&mut manifest.program));
        let report = told(&files, &ground());
        assert_eq!(report.verdict, INVALID, "{program}");
        let expected = ("PEC-LOG-02", "leggimi.html says something else");
        assert_eq!(complaints(&report), [expected], "{program}");
    }
    // And what another version made is as good as ours, if it says the same.
    let other = listed(made(STAMPED), |manifest| "0.0.9".clone_into(&mut manifest.program));
    assert_eq!(told(&other, &ground()).verdict, VALID);
}

#[test]
fn a_bundle_of_an_earlier_format_is_to_be_made_again() {
    let old = listed(made(STAMPED), |manifest| manifest.format = Format::One);
    assert_eq!(
        tried(&old, &ground()).unwrap_err().to_string(),
        format!(
            "it is a bundle of an earlier program, whose page had other words: make it again with \
             `ceralacca evidence '<{IDENTIFIER}>' -o prove.zip` where the message is kept"
        )
    );
}

/// PEC-LOG-03: a failure is taken out, and a delivery put in that no seal covers.
#[test]
fn a_record_without_a_seal_makes_a_bundle_invalid() {
    let mut files = made(STAMPED);
    let mut history: serde_json::Value = serde_json::from_slice(&files[HISTORY]).unwrap();
    let records = history["records"].as_array_mut().unwrap();
    let mut failed: LogRecord =
        serde_json::from_str(records.pop().unwrap()["record"].as_str().unwrap()).unwrap();
    failed.event = "avvenuta-consegna".to_owned();
    records.push(serde_json::json!({
        "number": 3, "record": serde_json::to_string(&failed).unwrap(), "seal": null, "path": [],
    }));
    files.insert(HISTORY.to_owned(), serde_json::to_vec(&history).unwrap());
    files.retain(|name, _| !name.ends_with("-errore-consegna.eml"));
    let report = told(&with_page(listed(files, |_| ())), &ground());
    assert_eq!(report.verdict, INVALID);
    let expected = ("PEC-LOG-03", "registro.json: records that no seal covers: 1");
    assert_eq!(complaints(&report), [expected]);
}

/// PEC-LOG-01 PEC-LOG-02: nothing proves nothing, about whatever identifier.
#[test]
fn a_bundle_without_message_or_record_is_invalid() {
    let of = "inventato@pec.alfa.example";
    let bare = |mut files: Files, records: bool, messages: bool| {
        let mut history: serde_json::Value = serde_json::from_slice(&files[HISTORY]).unwrap();
        if !records {
            history["records"] = serde_json::json!([]);
            history["seals"] = serde_json::json!([]);
        }
        files.insert(HISTORY.to_owned(), serde_json::to_vec(&history).unwrap());
        files.retain(|name, _| messages || !name.starts_with("messaggi/"));
        with_page(listed(files, |manifest| {
            if !records && !messages {
                of.clone_into(&mut manifest.identificativo);
            }
        }))
    };
    let no_message = ("PEC-LOG-02", "there is no message in the bundle");
    let none = ("PEC-LOG-03", "registro.json: there is no record of the log");
    let report = told(&bare(made(STAMPED), false, false), &ground());
    let no_record = format!("registro.json has no record of {of}");
    assert_eq!(complaints(&report), [no_message, ("PEC-LOG-01", &no_record), none]);
    assert_eq!(report.verdict, INVALID);
    let report = told(&bare(made(STAMPED), true, false), &ground());
    assert_eq!((report.verdict, complaints(&report)), (INVALID, vec![no_message]));
    let report = told(&bare(made(STAMPED), false, true), &ground());
    assert!(complaints(&report).contains(&none), "{:?}", report.checks);
    assert_eq!(report.verdict, INVALID);
}

/// PEC-PR-03: a list in the bundle is its authority's word, also where that is named.
#[test]
fn a_list_in_the_bundle_revokes_for_an_authority_that_is_named() {
    let mut files = made(STAMPED);
    let authority = Authority::from_pem(OWN_CA, OWN_CA_KEY).unwrap();
    let a = Certificate::from_pem(A).unwrap();
    let serial = a.serial().unwrap();
    let list = authority.crl(&[&serial], at("2026-09-01T00:00:00Z")).unwrap();
    let name = files.keys().find(|name| name.starts_with("crl/")).unwrap().clone();
    files.insert(name.clone(), list.to_pem().into_bytes());
    let files = with_page(listed(files, |_| ()));
    let named = || Ground { trust: ground().trust.with_crls(Vec::new()).unwrap(), ..ground() };
    let nobody = || Trust::new(Vec::new(), Vec::new()).unwrap();
    for ground in [named(), Ground { trust: nobody(), stampers: nobody(), ..ground() }] {
        let report = told(&files, &ground);
        assert_eq!(report.verdict, INVALID);
        let revoked = complaints(&report);
        assert!(revoked.iter().any(|(_, text)| text.ends_with("is revoked")), "{revoked:?}");
    }
    // The word of somebody else is none, and no reason to refuse the rest.
    let mut files = made(STAMPED);
    let stranger = Authority::new("Estraneo", at("2026-01-01T00:00:00Z")).unwrap();
    let list = stranger.crl(&[&serial], at("2026-09-01T00:00:00Z")).unwrap();
    files.insert(name, list.to_pem().into_bytes());
    let report = told(&with_page(listed(files, |_| ())), &named());
    assert_eq!((report.verdict, complaints(&report)), (VALID, vec![]));
}

/// PEC-LOG-03
#[test]
fn a_bundle_says_when_its_seals_were_stamped() {
    let files = made("2026-11-27T10:00:00Z");
    let page = String::from_utf8(files[PAGE].clone()).unwrap();
    assert!(page.contains("con marca temporale del 27/11/2026 11:00:00 (+0100)"), "{page}");
    let report = told(&files, &ground());
    let late = "registro.json: stamped more than 25 hours after the interval had ended, and proved \
                since then only: seal 1, until 2026-09-15 00:00:00 UTC, on 2026-11-27 10:00:00 UTC";
    assert!(report.notes.iter().any(|note| note == late), "{:?}", report.notes);
    assert_eq!(report.verdict, VALID);
}
