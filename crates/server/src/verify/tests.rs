//! The examples of every kind of message, as they are and tampered with.

use std::path::PathBuf;

use super::*;

mod bundles;
mod mutations;
mod signed;
mod world;

/// The test authority's certificate and its revocation list.
const CA: &[u8] = include_bytes!("../../../../certs/spec/test-ca.pem");
const CRL: &[u8] = include_bytes!("../../../../certs/spec/test-ca.crl.pem");
const STRANGER: &[u8] = include_bytes!("../../../../certs/stranger-ca.pem");
const INDEX: &[u8] = include_bytes!("../../../pec/examples/index/provider-index-sample.ldif");
const ACCEPTANCE: &[u8] = include_bytes!("../../../pec/examples/eml/03-accettazione.eml");
const ENVELOPE: &[u8] = include_bytes!("../../../pec/examples/eml/04-busta-trasporto.eml");
const TAKE_CHARGE: &[u8] = include_bytes!("../../../pec/examples/eml/05-presa-in-carico.eml");
const ORDINARY: &[u8] = include_bytes!("../../../pec/examples/eml/01-originale-sottomesso.eml");

fn ground() -> Ground {
    let authorities = Certificate::all_from_pem(CA).unwrap();
    Ground {
        trust: Trust::new(authorities, vec![Crl::read(CRL).unwrap()]).unwrap(),
        stampers: Trust::new(Vec::new(), Vec::new()).unwrap(),
        index: Some(Index::from_ldif(INDEX).unwrap().0),
    }
}

fn looked_at(octets: &[u8], ground: &Ground) -> Report {
    report(Path::new("a.eml"), octets, ground, false, now())
}

/// Some weeks after the examples.
fn now() -> Timestamp {
    "2026-11-28T10:00:00Z".parse().unwrap()
}

/// The rules that do not hold.
fn wrong(report: &Report) -> Vec<&'static str> {
    report.checks.iter().filter(|check| !check.ok).map(|check| check.rule).collect()
}

fn replaced(octets: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(octets.to_vec()).unwrap();
    assert!(text.contains(from));
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn every_kind_of_message_is_valid() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../pec/examples/eml");
    let ground = ground();
    let mut kinds = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let report = looked_at(&std::fs::read(&path).unwrap(), &ground);
        if name.starts_with("01-") || name.starts_with("02-") {
            assert_eq!(report.verdict, INVALID, "{name}");
            assert_eq!(wrong(&report)[0], "PEC-PR-01", "{name}");
        } else {
            assert_eq!((report.verdict, wrong(&report)), (VALID, vec![]), "{name}");
            kinds.extend(report.kind);
        }
    }
    let all = [
        "accettazione",
        "anomalia",
        "avvenuta-consegna",
        "errore-consegna",
        "non-accettazione",
        "posta-certificata",
        "preavviso-errore-consegna",
        "presa-in-carico",
        "rilevazione-virus",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn what_is_tampered_with_is_named() {
    let ground = ground();
    let table = [
        // What is signed.
        (replaced(ACCEPTANCE, "Il giorno", "Un giorno"), "PEC-PR-03"),
        // The header, which is not.
        (replaced(ACCEPTANCE, "X-Ricevuta: accettazione", "X-Ricevuta: dubbio"), "PEC-PR-11"),
        (
            replaced(ACCEPTANCE, "X-Ricevuta: accettazione", "X-Ricevuta: avvenuta-consegna"),
            "PEC-PR-13",
        ),
        (replaced(ACCEPTANCE, "From: posta-certificata@", "From: impostore@"), "PEC-PR-15"),
        (replaced(ACCEPTANCE, "Date: Mon, 14", "Date: Mon, 7"), "PEC-DT-05"),
        (replaced(ENVELOPE, "Per conto di: mario", "Per conto di: anna"), "PEC-BT-03"),
        (replaced(ENVELOPE, "Reply-To: mario", "Reply-To: anna"), "PEC-BT-03"),
        (replaced(ENVELOPE, "To: \"Protocollo\" <protocollo", "To: <altro"), "PEC-BT-02"),
        (replaced(ENVELOPE, "X-TipoRicevuta: completa", "X-TipoRicevuta: breve"), "PEC-BT-06"),
        // The index knows where it goes.
        (replaced(TAKE_CHARGE, "To: ricevute@", "To: altro@"), "PEC-PIC-04"),
    ];
    for (octets, rule) in table {
        let report = looked_at(&octets, &ground);
        assert_eq!(report.verdict, INVALID);
        assert!(wrong(&report).contains(&rule), "{rule}: {:?}", report.checks);
    }
}

#[test]
fn who_signed_and_who_issued_count() {
    let mut other = ground();
    other.index = Some(Index::new(Vec::new(), None).unwrap());
    assert_eq!(wrong(&looked_at(ACCEPTANCE, &other)), ["PEC-PR-02"]);
    let stranger = Certificate::all_from_pem(STRANGER).unwrap();
    other = Ground { trust: Trust::new(stranger, Vec::new()).unwrap(), ..ground() };
    assert_eq!(wrong(&looked_at(ACCEPTANCE, &other)), ["PEC-PR-03"]);
}

#[test]
fn what_cannot_be_checked_is_a_note_and_strict_counts_notes() {
    let nothing =
        Ground { trust: Trust::new(Vec::new(), Vec::new()).unwrap(), index: None, ..ground() };
    let report = looked_at(ACCEPTANCE, &nothing);
    assert_eq!((report.verdict, wrong(&report)), (VALID, vec![]));
    assert_eq!(
        report.notes[..2],
        [
            "no index of providers: who signed was not looked up",
            "no authority was named: who issued the certificate was not checked"
        ]
    );
    let strict = super::report(Path::new("a"), ACCEPTANCE, &nothing, true, now());
    assert_eq!(strict.verdict, INVALID);
    // And what is tampered with is found all the same.
    let tampered = replaced(ACCEPTANCE, "Il giorno", "Un giorno");
    assert!(wrong(&looked_at(&tampered, &nothing)).contains(&"PEC-PR-03"));
}

#[test]
fn a_person_reads_first_that_nobody_could_tell_who_signed() {
    let trust = || Trust::new(Vec::new(), Vec::new()).unwrap();
    let (index, signer) = (ground().index, "who signed it (needs --index)");
    let issuer = "who issued the certificate (needs --ca)";
    for (ground, unproved) in [
        (ground(), String::new()),
        (Ground { index: None, ..ground() }, signer.to_owned()),
        (Ground { trust: trust(), index, ..ground() }, issuer.to_owned()),
        (Ground { trust: trust(), index: None, ..ground() }, format!("{signer}, {issuer}")),
    ] {
        let text = looked_at(ACCEPTANCE, &ground).text();
        let expected = match &unproved[..] {
            "" => "a.eml: valid".to_owned(),
            unproved => {
                format!("a.eml: valid as far as it could be checked. NOT checked: {unproved}")
            }
        };
        assert_eq!(text.lines().next().unwrap(), expected);
        // What does not hold is told without any if.
        let tampered = replaced(ACCEPTANCE, "Il giorno", "Un giorno");
        let text = looked_at(&tampered, &ground).text();
        assert_eq!(text.lines().next().unwrap(), "a.eml: invalid");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_to_a_program_too() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing.eml"), folder.path().to_owned()] {
        let error = read(&path).unwrap_err();
        let line = unreadable(&path, &error).line().unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(told["file"], path.to_str().unwrap());
        assert_eq!(told["verdict"], INVALID);
        let reason = format!("{} cannot be read: ", path.display());
        assert!(told["notes"][0].as_str().unwrap().starts_with(&reason), "{told}");
        assert_eq!((&told["checks"], &told["kind"]), (&serde_json::json!([]), &().into()));
    }
    // One octet more than any message has.
    let path = folder.path().join("large.eml");
    File::create(&path).unwrap().set_len(MESSAGE_OCTETS_MAX + 1).unwrap();
    let error = read(&path).unwrap_err();
    assert!(error.to_string().ends_with("large.eml is larger than any message"), "{error}");
}

#[test]
fn a_file_that_was_saved_with_lf_is_read() {
    let saved: Vec<u8> = ACCEPTANCE.iter().copied().filter(|octet| *octet != b'\r').collect();
    let report = looked_at(&saved, &ground());
    assert_eq!((report.verdict, wrong(&report)), (VALID, vec![]));
    assert!(report.notes[0].starts_with("the file has LF line ends"));
}

#[test]
fn the_time_of_the_message_counts() {
    // Long after the certificate ended.
    let later = "2070-01-01T00:00:00Z".parse().unwrap();
    let report = report(Path::new("a"), ACCEPTANCE, &ground(), false, later);
    assert_eq!(report.verdict, VALID);
    assert!(report.notes.contains(&"the certificate ended on 2059-12-31T00:00:00Z".to_owned()));
}

// PEC-DT-06 PEC-DT-05: certified at a time that is to come, and signed at another
#[test]
fn a_time_that_cannot_be_is_told() {
    let at = |now: &str| {
        let report = report(Path::new("a"), ACCEPTANCE, &ground(), false, now.parse().unwrap());
        (report.verdict, wrong(&report))
    };
    // Certified at 07:30:12.
    assert_eq!(at("2026-09-14T07:20:12Z"), (VALID, vec![]));
    assert_eq!(at("2026-09-14T07:20:11Z"), (INVALID, vec!["PEC-DT-06"]));
    assert_eq!(at("2024-09-14T07:20:11Z"), (INVALID, vec!["PEC-DT-06"]));
    let signed = |at: &str| {
        let octets = signed::Apart::of(ACCEPTANCE).sign_at(at.parse().unwrap());
        let report = looked_at(&octets, &signed::ground_with_a());
        assert_eq!((report.verdict, wrong(&report)), (VALID, vec![]));
        report.notes.into_iter().filter(|note| note.starts_with("certified on")).collect::<Vec<_>>()
    };
    assert_eq!(signed("2026-09-15T07:30:12Z"), [""; 0]);
    assert_eq!(signed("2026-09-13T07:30:12Z"), [""; 0]);
    let note = "certified on 2026-09-14T07:30:12Z, and by its own word signed on \
                2030-01-01T00:00:00Z";
    assert_eq!(signed("2030-01-01T00:00:00Z"), [note]);
}

#[test]
fn a_program_reads_every_name_of_the_interface() {
    let of = |octets| serde_json::to_value(looked_at(octets, &ground())).unwrap();
    let (receipt, ordinary) = (of(ACCEPTANCE), of(ORDINARY));
    for name in [
        "file",
        "verdict",
        "kind",
        "identificativo",
        "gestore",
        "mittente",
        "destinatari",
        "time",
        "signer",
        "checks",
        "notes",
    ] {
        assert!(receipt.get(name).is_some_and(|value| !value.is_null()), "{name}");
        assert!(ordinary.get(name).is_some(), "{name}");
    }
    for name in ["subject", "email", "sha1", "not_after"] {
        assert!(receipt["signer"][name].is_string(), "{name}");
    }
    for name in ["rule", "ok", "text"] {
        assert!(receipt["checks"][0].get(name).is_some(), "{name}");
    }
    assert!(receipt["destinatari"][0]["address"].is_string());
    assert!(receipt["time"].as_str().unwrap().contains("+0"), "{}", receipt["time"]);
}

#[test]
fn nothing_steers_the_terminal() {
    let octets = replaced(ACCEPTANCE, "X-Ricevuta: accettazione", "X-Ricevuta: \x1b[2Jx");
    let text = looked_at(&octets, &ground()).text();
    assert!(text.lines().count() > 5 && !text.contains('\x1b'));
}
