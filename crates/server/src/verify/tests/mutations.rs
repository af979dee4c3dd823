//! The examples, each tampered with in many ways: every one is refused, and for the right reason.

use mail::Message;

use super::signed::{Apart, ground_with_a, ground_with_a_alone};
use super::*;

/// Every example that is signed, by its name.
fn examples() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../pec/examples/eml");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    all.sort();
    all
}

/// With another value for a field of the outer header; none: without the field.
fn field(octets: &[u8], name: &str, value: Option<&str>) -> Vec<u8> {
    let message = Message::lenient(octets);
    let (mut out, mut value) = (Vec::new(), value);
    for field in message.fields() {
        if !field.name.eq_ignore_ascii_case(name) {
            out.extend_from_slice(field.octets);
        } else if let Some(value) = value.take() {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    if let Some(value) = value {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    [&out[..], b"\r\n", message.body()].concat()
}

/// With one octet more or less of itself, at the first place where these words are.
fn flipped(octets: &[u8], words: &str) -> Vec<u8> {
    let mut out = octets.to_vec();
    let at = octets.windows(words.len()).position(|w| w == words.as_bytes()).unwrap();
    out[at] ^= 1;
    out
}

/// The base64 of the signature, which is the last part.
fn signature(octets: &[u8]) -> std::ops::Range<usize> {
    let text = std::str::from_utf8(octets).unwrap();
    let part = text.rfind("name=\"smime.p7s\"").or(text.rfind("smime.p7s")).unwrap();
    let start = part + text[part..].find("\r\n\r\n").unwrap() + 4;
    start..start + text[start..].find("\r\n--").unwrap()
}

type Case = (String, Vec<u8>, &'static str);

/// What is done to each of them.
fn of_each(name: &str, octets: &[u8], next: &[u8]) -> Vec<Case> {
    let told = |what: &str| format!("{name}: {what}");
    let kind = if Message::lenient(octets).field("X-Trasporto").is_some() {
        "X-Trasporto"
    } else {
        "X-Ricevuta"
    };
    let range = signature(octets);
    let mut short = octets.to_vec();
    short.drain(range.start..range.start + 76);
    let mut other_signature = octets.to_vec();
    other_signature.splice(range.clone(), next[signature(next)].iter().copied());
    let mut value = octets.to_vec();
    let middle = range.end - 120;
    value[middle] = if value[middle] == b'A' { b'B' } else { b'A' };
    let mut wrapped = b"Content-Type: multipart/mixed; boundary=\"w\"\r\n\r\n--w\r\n".to_vec();
    wrapped.extend_from_slice(octets);
    wrapped.extend_from_slice(b"\r\n--w--\r\n");
    let to = Message::lenient(octets).field("Subject").map(|field| field.unfolded()).unwrap();
    vec![
        (told("a letter of the text"), flipped(octets, "giorno"), "PEC-PR-03"),
        (
            told("a letter of the certification data or the original"),
            {
                let part =
                    if name.starts_with("17") { "Content-Disposition: inline; f" } else { "PD94" };
                flipped(octets, part)
            },
            "PEC-PR-03",
        ),
        (told("a bit of the signature's value"), value, "PEC-PR-03"),
        (told("a line of the signature is missing"), short, "PEC-PR-01"),
        (told("the signature of another message"), other_signature, "PEC-PR-03"),
        (
            told("no signature"),
            replaced(octets, "multipart/signed", "multipart/mixed"),
            "PEC-PR-01",
        ),
        (told("in a wrapper of a mailing list"), wrapped, "PEC-PR-01"),
        (told("another author"), field(octets, "From", Some("anna@pec.evil.example")), "PEC-PR-15"),
        (told("no author"), field(octets, "From", None), "PEC-PR-15"),
        (
            told("another day"),
            field(octets, "Date", Some("Mon, 7 Sep 2026 09:30:12 +0200")),
            "PEC-DT-05",
        ),
        (told("another subject"), field(octets, "Subject", Some("Saluti")), "PEC-FMT-07"),
        (
            told("a subject with more"),
            field(octets, "Subject", Some(&format!("{to} bis"))),
            "PEC-FMT-07",
        ),
        (told("no kind"), field(octets, kind, None), "PEC-PR-11"),
        (told("an unknown kind"), field(octets, kind, Some("dubbio")), "PEC-PR-11"),
        (
            told("another Sender"),
            field(octets, "Sender", Some("anna@pec.evil.example")),
            "PEC-BT-05",
        ),
    ]
}

/// What is done to one kind: the header alone, which no signature covers.
fn of_some(of: &dyn Fn(&str) -> Vec<u8>) -> Vec<Case> {
    let set = |example: &str, name: &str, value: Option<&str>, rule| {
        let told = format!("{example}: {name} {}", value.unwrap_or("is missing"));
        (told, field(&of(example), name, value), rule)
    };
    let evil = Some("anna@pec.evil.example");
    let on_behalf =
        Some("\"Per conto di: anna@pec.evil.example\" <posta-certificata@alfapec.example>");
    vec![
        set("01", "X-Ricevuta", Some("accettazione"), "PEC-PR-01"),
        set("02", "X-Trasporto", Some("posta-certificata"), "PEC-PR-01"),
        set("03", "To", evil, "PEC-GEN-15"),
        set("03", "X-Ricevuta", Some("avvenuta-consegna"), "PEC-PR-13"),
        set("03", "X-Riferimento-Message-ID", Some("<altro@pc.example>"), "PEC-AP-22"),
        set("03", "X-Riferimento-Message-ID", None, "PEC-AP-22"),
        set("03", "X-Altro", Some("citt\u{e0}"), "PEC-FMT-10"),
        set("04", "From", on_behalf, "PEC-BT-03"),
        set("04", "Reply-To", evil, "PEC-BT-03"),
        set("04", "To", evil, "PEC-BT-02"),
        set("04", "Cc", evil, "PEC-BT-02"),
        set("04", "Cc", None, "PEC-BT-02"),
        set("04", "X-TipoRicevuta", Some("sintetica"), "PEC-BT-06"),
        set("04", "Message-ID", Some("<altro@alfapec.example>"), "PEC-PR-14"),
        set("04", "X-Trasporto", Some("errore"), "PEC-BA-06"),
        set("05", "To", evil, "PEC-PIC-04"),
        set("05", "X-Ricevuta", Some("rilevazione-virus"), "PEC-PR-13"),
        set("06", "To", evil, "PEC-GEN-15"),
        set("06", "X-Ricevuta", Some("errore-consegna"), "PEC-PR-13"),
        set("10", "X-Ricevuta", Some("avvenuta-consegna"), "PEC-PR-13"),
        set("10", "X-VerificaSicurezza", Some("errore"), "PEC-MCV-02"),
        set("11", "X-VerificaSicurezza", Some("errore"), "PEC-NA-05"),
        set("12", "X-VerificaSicurezza", None, "PEC-NA-05"),
        set("13", "To", evil, "PEC-RV-03"),
        set("13", "X-Mittente", evil, "PEC-RV-03"),
        set("13", "X-Mittente", None, "PEC-RV-03"),
        set("14", "X-VerificaSicurezza", None, "PEC-MCV-02"),
        set("15", "To", evil, "PEC-GEN-15"),
        set("16", "X-Ricevuta", Some("errore-consegna"), "PEC-PR-13"),
        set("17", "From", on_behalf, "PEC-BA-03"),
        set("17", "Reply-To", evil, "PEC-BA-03"),
        set("17", "To", evil, "PEC-BA-02"),
        set("17", "Message-ID", Some("<altro@ordinaria.example>"), "PEC-BA-02"),
        set("17", "X-Trasporto", Some("posta-certificata"), "PEC-PR-12"),
        set("03", "X-VerificaSicurezza", Some("errore"), "PEC-MCV-02"),
        set("04", "X-VerificaSicurezza", Some("errore"), "PEC-MCV-02"),
        set("06", "X-VerificaSicurezza", Some("errore"), "PEC-MCV-02"),
        set("15", "X-VerificaSicurezza", Some("errore"), "PEC-MCV-02"),
        set("06", "X-Mittente", evil, "PEC-RV-03"),
        set("06", "X-Altro", Some("a\rSubject: Altro"), "PEC-FMT-10"),
        set("04", "X-Altro", Some("a\0b"), "PEC-FMT-10"),
    ]
}

/// What a provider signed that should not have: the signature holds, and the message does not.
fn of_a_provider(of: &dyn Fn(&str) -> Vec<u8>) -> Vec<Case> {
    let data = |example: &str, from: &str, to: &str, rule| {
        let told = format!("{example}, signed: {from} is {to}");
        (told, Apart::of(&of(example)).data(from, to).sign(), rule)
    };
    let edit = |example: &str, from: &str, to: &str, rule| {
        let told = format!("{example}, signed: {from:?} is {to:?}");
        (told, Apart::of(&of(example)).edit(from, to).sign(), rule)
    };
    // All elements of this name.
    let without = |example: &str, element: &str, rule| {
        let mut apart = Apart::of(&of(example));
        while let Some(from) = apart.element(element) {
            apart = apart.data(&from, "");
        }
        (format!("{example}, signed: without {element}"), apart.sign(), rule)
    };
    let doctype = "<!DOCTYPE postacert [<!ENTITY x \"y\">]>\n<postacert";
    vec![
        data("03", "tipo=\"accettazione\"", "tipo=\"avvenuta-consegna\"", "PEC-PR-13"),
        data("03", "tipo=\"accettazione\"", "tipo=\"non-accettazione\"", "PEC-PR-13"),
        data("03", "tipo=\"accettazione\"", "tipo=\"ricevuta\"", "PEC-PR-12"),
        data("03", "<mittente>mario.rossi", "<mittente>anna.bianchi", "PEC-GEN-15"),
        data("03", "<oggetto>Istanza", "<oggetto>Rinuncia", "PEC-FMT-07"),
        data("03", "<giorno>14", "<giorno>13", "PEC-DT-05"),
        data("03", "<ora>09:30:12", "<ora>09:30:13", "PEC-DT-05"),
        data("03", "zona=\"+0200\"", "zona=\"+0100\"", "PEC-DT-05"),
        data("03", "&lt;20260914", "&lt;20260915", "PEC-AP-22"),
        data("03", "<mittente>mario.rossi@pec.rossi.example</mittente>", "", "PEC-PR-12"),
        data("03", "<postacert", doctype, "PEC-PR-12"),
        data("03", "<dati>", "<dati><dati>", "PEC-PR-12"),
        data("03", "mario.rossi@", "&x;mario.rossi@", "PEC-PR-12"),
        data("04", "<identificativo>2026", "<identificativo>2025", "PEC-PR-14"),
        data("06", "<identificativo>2026", "<identificativo>2025", "PEC-RC-08"),
        data("06", "<consegna>protocollo@", "<consegna>altro@", "PEC-FMT-11"),
        // What contradicts its kind, or is about nobody.
        data("03", "errore=\"nessuno\"", "errore=\"altro\"", "PEC-RA-04"),
        data("04", "errore=\"nessuno\"", "errore=\"virus\"", "PEC-BT-10"),
        data("05", "errore=\"nessuno\"", "errore=\"altro\"", "PEC-PIC-06"),
        data("06", "errore=\"nessuno\"", "errore=\"no-dest\"", "PEC-RC-07"),
        data("10", "errore=\"no-dest\"", "errore=\"nessuno\"", "PEC-MC-06"),
        data("11", "errore=\"altro\"", "errore=\"nessuno\"", "PEC-NA-03"),
        data("11", "errore=\"altro\"", "errore=\"no-dest\"", "PEC-NA-03"),
        data("13", "errore=\"virus\"", "errore=\"altro\"", "PEC-RV-06"),
        without("05", "ricezione", "PEC-PIC-06"),
        without("06", "consegna", "PEC-RC-07"),
        without("10", "consegna", "PEC-MC-06"),
        without("13", "consegna", "PEC-RV-06"),
        without("15", "consegna", "PEC-TO-07"),
        data("06", "<consegna>protocollo@", "<consegna>nessuno@", "PEC-LOG-10"),
        data("05", "<ricezione>protocollo@", "<ricezione>nessuno@", "PEC-LOG-10"),
        data("06", "tipo=\"completa\"/>", "tipo=\"sintetica\"/>", "PEC-RC-09"),
        edit("06", "name=\"postacert.eml\"", "name=\"altro.eml\"", "PEC-RC-08"),
        edit("08", "name=\"postacert.eml\"", "name=\"altro.eml\"", "PEC-RC-08"),
        edit("09", "sintetica di", "di", "PEC-RC-08"),
        edit("06", "Ricevuta di avvenuta", "Ricevuta sintetica di avvenuta", "PEC-RC-09"),
        edit(
            "04",
            "\r\nFrom: Mario",
            "\r\nFrom: <anna@pec.rossi.example>\r\nX-Altro: Mario",
            "PEC-AP-05",
        ),
        edit(
            "06",
            "\r\nFrom: Mario",
            "\r\nFrom: <anna@pec.rossi.example>\r\nX-Altro: Mario",
            "PEC-AP-05",
        ),
        edit("03", "proveniente da", "spedito da", "PEC-FMT-11"),
        edit("03", "name=\"daticert.xml\"", "name=\"dati.xml\"", "PEC-PR-12"),
        edit("04", "name=\"postacert.eml\"", "name=\"posta.eml\"", "PEC-PR-14"),
        edit(
            "04",
            "message/rfc822; name=\"postacert.eml\"",
            "application/octet-stream; name=\"postacert.eml\"",
            "PEC-PR-14",
        ),
        edit(
            "04",
            "multipart/mixed; boundary=\"----=_MIX",
            "multipart/related; boundary=\"----=_MIX",
            "PEC-FMT-01",
        ),
    ]
}

/// PEC-PR-01 PEC-PR-03 PEC-PR-11 PEC-PR-12 PEC-PR-13 PEC-PR-14 PEC-PR-15: and what else each kind has
#[test]
fn every_mutation_is_refused_for_the_right_reason() {
    let examples = examples();
    assert_eq!(examples.len(), 17);
    let of = |number: &str| {
        let found = examples.iter().find(|(name, _)| name.starts_with(number));
        found.map(|(_, octets)| octets.clone()).unwrap()
    };
    let mut cases = of_some(&of);
    for (at, (name, octets)) in examples.iter().enumerate().skip(2) {
        let next = if at + 1 < examples.len() { at + 1 } else { 2 };
        cases.extend(of_each(name, octets, &examples[next].1));
    }
    let own = cases.len();
    cases.extend(of_a_provider(&of));
    let (ground, with_a) = (ground(), ground_with_a());
    let mut names = std::collections::BTreeSet::new();
    for (at, (name, octets, rule)) in cases.iter().enumerate() {
        let report = looked_at(octets, if at < own { &ground } else { &with_a });
        assert_eq!(report.verdict, INVALID, "{name}");
        assert!(wrong(&report).contains(rule), "{name}: not {rule}: {:?}", report.checks);
        assert!(names.insert(name), "{name} is there twice");
    }
    let told =
        format!("{} mutations of the 17 examples are refused, each for its reason\n", names.len());
    Write::write_all(&mut std::io::stderr(), told.as_bytes()).unwrap();
    assert!(names.len() >= 60, "{}", names.len());
}

/// PEC-PR-27 PEC-PR-02: a provider of the index that speaks for another's users, whatever it signs. One
/// address that nobody manages is a note.
#[test]
fn a_provider_that_speaks_for_the_users_of_another_is_refused() {
    for (name, octets) in examples().iter().skip(2) {
        let octets = Apart::of(octets).sign();
        assert_eq!(looked_at(&octets, &ground_with_a()).verdict, VALID, "{name}");
        let report = looked_at(&octets, &ground_with_a_alone());
        let rules = match &name[..2] {
            // Nothing in it is certified.
            "17" => vec![],
            "04" => vec!["PEC-PR-02"],
            _ => vec!["PEC-PR-27"],
        };
        assert_eq!(wrong(&report), rules, "{name}: {:?}", report.checks);
    }
    let octets = Apart::of(ACCEPTANCE).data("@pec.rossi.example", "@pec.nessuno.example").sign();
    let report = looked_at(&octets, &ground_with_a_alone());
    let note = "no provider of the index manages pec.nessuno.example".to_owned();
    assert!(report.notes.contains(&note), "{:?}", report.notes);
    assert!(!wrong(&report).contains(&"PEC-PR-27"));
}

/// PEC-PR-02 PEC-PR-03: who signed counts, whatever is signed.
#[test]
fn a_signer_that_nobody_knows_or_believes_is_refused() {
    let octets = Apart::of(ACCEPTANCE).sign();
    assert_eq!(looked_at(&octets, &ground_with_a()).verdict, VALID);
    // Its authority is not believed, and the index does not have it.
    assert_eq!(wrong(&looked_at(&octets, &ground())), ["PEC-PR-02", "PEC-PR-03"]);
    let known = Ground { index: ground_with_a().index, ..ground() };
    assert_eq!(wrong(&looked_at(&octets, &known)), ["PEC-PR-03"]);
}
