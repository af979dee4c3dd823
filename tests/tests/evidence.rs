//! Every kind of message that a provider emits, made by a demo provider, fetched by IMAP and held
//! against the law with other people's programs: `openssl cms`, `xmllint` with the DTD, `date`.
//!
//! The scene is played once and then only looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod evidence {
    pub(crate) mod message;
    pub(crate) mod scene;
}

use std::collections::HashSet;
use std::path::Path;

use evidence::scene::{AUTHOR, BRIEF, COMPLETE, FORGED, Scene, scene};
use scenarios::tools::{self, run, tool};

/// The kinds that this release emits, and how many of each the scene has.
const EMITTED: [(&str, usize); 6] = [
    ("accettazione", 7),
    ("posta-certificata", 7),
    ("presa-in-carico", 7),
    ("avvenuta-consegna", 7),
    ("errore-consegna", 3),
    ("non-accettazione", 10),
];

#[test]
fn the_scene_has_every_kind() {
    for (kind, count) in EMITTED {
        let found = scene().messages.iter().filter(|message| message.kind() == kind).count();
        assert_eq!(found, count, "{kind}");
    }
    assert_eq!(scene().messages.len(), EMITTED.iter().map(|(_, count)| count).sum::<usize>());
}

/// OpenSSL, which knows nothing of us, finds each signature good, made under the authority over just
/// the octets of the first part, and by a certificate within whose address is the one in `From`.
// PEC-SIG-01 PEC-SIG-02 PEC-SIG-03 PEC-SIG-04 PEC-SIG-05 PEC-SIG-07 PEC-SIG-08 PEC-BT-04
#[test]
fn openssl_verifies_each_signature() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ca.pem"), &scene().ca).unwrap();
    for message in &scene().messages {
        std::fs::write(path("message.eml"), &message.octets).unwrap();
        let mut verify = tool("openssl", "openssl").unwrap();
        verify.current_dir(folder.path()).args(["cms", "-verify", "-in", "message.eml"]);
        verify.args(["-CAfile", "ca.pem", "-out", "content", "-signer", "signer.pem"]);
        run(&mut verify).unwrap().ok().unwrap();
        let content = std::fs::read(path("content")).unwrap();
        assert!(content == message.signed(), "{message}: not the octets of the first part");

        let mut signer = tool("openssl", "openssl").unwrap();
        signer.current_dir(folder.path()).args(["x509", "-in", "signer.pem", "-noout", "-email"]);
        assert_eq!(run(&mut signer).unwrap().ok().unwrap(), format!("{AUTHOR}\n"), "{message}");
        assert_eq!(message.author(), AUTHOR, "{message}");

        let content_type = message.field("Content-Type").unwrap();
        let (signed, _) = content_type.split_once("; boundary=").unwrap();
        assert_eq!(
            signed,
            "multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=\"sha-256\""
        );
        assert_eq!(
            message.part("2.MIME"),
            "Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n\
             Content-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment; filename=\"smime.p7s\"\r\n\r\n",
            "{message}"
        );
        let mut print = tool("openssl", "openssl").unwrap();
        print.current_dir(folder.path()).args(["cms", "-cmsout", "-print", "-noout"]);
        let printed = run(print.args(["-in", "message.eml"])).unwrap().ok().unwrap();
        for algorithm in ["algorithm: sha256 (", "algorithm: rsaEncryption ("] {
            assert!(printed.contains(algorithm), "{message}: {printed}");
        }
        assert!(printed.contains("eContent: <ABSENT>"), "{message}: not detached: {printed}");
    }
}

/// Altering one octet anywhere in what is signed is seen.
// PEC-SIG-08
#[test]
fn openssl_refuses_what_was_altered() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), &scene().ca).unwrap();
    let message = scene().only("avvenuta-consegna", COMPLETE, "studio.verdi");
    let start = find(&message.octets, message.signed());
    for place in [0, 30, message.signed().len() / 2, message.signed().len() - 1] {
        let mut altered = message.octets.clone();
        altered[start + place] ^= 1;
        std::fs::write(folder.path().join("message.eml"), altered).unwrap();
        let mut verify = tool("openssl", "openssl").unwrap();
        verify.current_dir(folder.path()).args(["cms", "-verify", "-in", "message.eml"]);
        let told = run(verify.args(["-CAfile", "ca.pem", "-out", "content"])).unwrap();
        assert_ne!(told.status, Some(0), "octet {place}");
    }
}

// PEC-XML-01 PEC-XML-02 PEC-XML-03 PEC-FMT-05
#[test]
fn xmllint_finds_each_daticert_valid() {
    let folder = tempfile::tempdir().unwrap();
    let dtd = tools::here().join("../crates/pec/examples/daticert.dtd");
    for message in &scene().messages {
        let xml = message.certification();
        assert!(
            xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<postacert "),
            "{xml}"
        );
        std::fs::write(folder.path().join("daticert.xml"), &xml).unwrap();
        let mut lint = tool("xmllint", "libxml2-utils").unwrap();
        lint.current_dir(folder.path()).args(["--noout", "--nonet", "--dtdvalid"]).arg(&dtd);
        let told = run(lint.arg("daticert.xml")).unwrap();
        assert_eq!((told.status, told.err.as_str()), (Some(0), ""), "{message}: {told}");
    }
}

/// Text first, in both forms with the same words; then the certification data and, where there is
/// one, the original, each by its name. All of it, header included, in 7 bits.
// PEC-FMT-01 PEC-FMT-02 PEC-FMT-03 PEC-FMT-04 PEC-FMT-08 PEC-FMT-10 PEC-SIG-10
#[test]
fn the_layout_is_that_of_the_law() {
    for message in &scene().messages {
        assert!(message.octets.is_ascii(), "{message}: not 7-bit");
        assert!(message.part("1.MIME").starts_with("Content-Type: multipart/mixed;"), "{message}");
        let alternative = message.part("1.1.MIME");
        assert!(alternative.starts_with("Content-Type: multipart/alternative;"), "{message}");
        for (part, kind) in [("1.1.1.MIME", "plain"), ("1.1.2.MIME", "html")] {
            let header = message.part(part);
            let expected = format!("Content-Type: text/{kind}; charset=\"iso-8859-1\"\r\n");
            assert!(header.starts_with(&expected), "{message}: {header}");
        }
        let html = message.html();
        for active in ["<script", "<img", "<a ", "<link", "<style", "src=", "href=", "http:"] {
            assert!(!html.contains(active), "{message}: {html}");
        }
        let (_, body) = html.split_once("<body>").unwrap();
        let words = body.replace("<br>", "").replace("<p>", "").replace("</p>", "");
        let words = words.replace("</body>", "").replace("</html>", "").replace("&quot;", "\"");
        let words = words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        assert_eq!(words.trim(), message.text().trim(), "{message}");
        if let Some((header, _)) = message.named("postacert.eml") {
            assert_eq!(
                header,
                "Content-Type: message/rfc822; name=\"postacert.eml\"\r\n\
                 Content-Transfer-Encoding: 7bit\r\n\
                 Content-Disposition: inline; filename=\"postacert.eml\"\r\n\r\n"
            );
        }
    }
}

/// One time in header, text and XML, which is the legal one in Italy.
// PEC-DT-01 PEC-DT-02 PEC-DT-03 PEC-DT-04 PEC-DT-05 PEC-DT-07
#[test]
fn header_text_and_data_tell_one_time() {
    for message in &scene().messages {
        let xml = message.certification();
        let told = |tag: &str| between(&xml, &format!("<{tag}>"), &format!("</{tag}>")).to_owned();
        let zone = between(&xml, "<data zona=\"", "\"");
        let time = format!("{} {} {zone}", told("giorno"), told("ora"));
        let date = message.field("Date").unwrap();
        let mut local = tool("date", "coreutils").unwrap();
        local.env("TZ", "Europe/Rome").args(["--date", &date, "+%d/%m/%Y %H:%M:%S %z"]);
        assert_eq!(run(&mut local).unwrap().ok().unwrap(), format!("{time}\n"), "{message}");
        assert!(date.ends_with(zone), "{message}: {date}");
        let text = format!("Il giorno {} alle ore {} ({zone}) ", told("giorno"), told("ora"));
        assert!(message.text().contains(&text), "{message}: {}", message.text());
    }
}

/// The acceptance and the envelope are of one instant.
// PEC-DT-07 PEC-BT-03
#[test]
fn acceptance_and_envelope_have_one_date() {
    for envelope in scene().of("posta-certificata") {
        let subject = envelope.original_subject();
        let acceptance = scene().only("accettazione", &subject, "");
        assert_eq!(acceptance.field("Date"), envelope.field("Date"), "{envelope}");
    }
}

/// Header, text and data, each whole: what stands in `tests/tests/evidence/*.txt`.
// PEC-RA-01 PEC-RA-02 PEC-RA-03 PEC-RA-04 PEC-AP-18 PEC-AP-20 PEC-FMT-07 PEC-FMT-09 PEC-FMT-11
#[test]
fn an_acceptance() {
    let message = scene().only("accettazione", COMPLETE, "");
    message.is(scene(), include_str!("evidence/accettazione.txt"));
    assert!(message.named("postacert.eml").is_none());
}

// PEC-BT-02 PEC-BT-03 PEC-BT-05 PEC-BT-06 PEC-BT-07 PEC-BT-08 PEC-BT-09 PEC-BT-10 PEC-BT-11 PEC-FMT-07
#[test]
fn a_transport_envelope() {
    let message = scene().only("posta-certificata", COMPLETE, "studio.verdi");
    message.is(scene(), include_str!("evidence/posta-certificata.txt"));
    // The copy of the other recipient says the same, save for the boundaries.
    let copy = scene().only("posta-certificata", COMPLETE, "comune");
    copy.is(scene(), include_str!("evidence/posta-certificata.txt"));
}

// PEC-PIC-01 PEC-PIC-02 PEC-PIC-03 PEC-PIC-04 PEC-PIC-05 PEC-PIC-06
#[test]
fn a_take_charge_receipt() {
    let message = scene().only("presa-in-carico", COMPLETE, "");
    message.is(scene(), include_str!("evidence/presa-in-carico.txt"));
    assert!(message.named("postacert.eml").is_none());
    let index = String::from_utf8(scene().index.clone()).unwrap();
    assert!(index.contains("\nmailReceipt: ricevute@pec.alfa.example\n"), "{index}");
    for message in scene().of("presa-in-carico") {
        assert_eq!(message.login, "ricevute@pec.alfa.example", "no user gets one");
    }
}

// PEC-RC-05 PEC-RC-06 PEC-RC-07 PEC-RC-08 PEC-RC-10
#[test]
fn a_complete_delivery_receipt() {
    let message = scene().only("avvenuta-consegna", COMPLETE, "studio.verdi");
    message.is(scene(), include_str!("evidence/avvenuta-consegna.txt"));
    let envelope = scene().only("posta-certificata", COMPLETE, "studio.verdi");
    assert!(message.original() == envelope.original(), "the original, octet by octet");
}

// PEC-RC-01 PEC-RC-04 PEC-RC-06 PEC-RC-09
#[test]
fn a_recipient_in_copy_gives_a_receipt_without_the_original() {
    let message = scene().only("avvenuta-consegna", COMPLETE, "comune");
    message.is(scene(), include_str!("evidence/avvenuta-consegna-cc.txt"));
    assert!(message.named("postacert.eml").is_none());
}

/// What the sender asks for is in the envelope and in the data, and decides the receipt; a value
/// that does not exist means a complete one.
// PEC-RC-01 PEC-RC-03 PEC-RC-09 PEC-BT-06 PEC-BT-10
#[test]
fn the_sender_chooses_the_kind_of_receipt() {
    for (subject, asked, tipo, first_line, has_original) in [
        (COMPLETE, "completa", "completa", "Ricevuta di avvenuta consegna", true),
        (BRIEF, "breve", "breve", "Ricevuta breve di avvenuta consegna", true),
        ("Sintetica", "sintetica", "sintetica", "Ricevuta sintetica di avvenuta consegna", false),
        ("Altra", "complet", "completa", "Ricevuta di avvenuta consegna", true),
    ] {
        let envelope = scene().only("posta-certificata", subject, "studio.verdi");
        assert_eq!(envelope.field("X-TipoRicevuta").unwrap(), asked, "{subject}");
        let receipt = scene().only("avvenuta-consegna", subject, "studio.verdi");
        for message in [envelope, receipt] {
            let xml = message.certification();
            assert!(xml.contains(&format!("<ricevuta tipo=\"{tipo}\"/>")), "{message}: {xml}");
        }
        assert_eq!(receipt.field("X-TipoRicevuta"), None, "{subject}");
        assert_eq!(receipt.text().lines().next(), Some(first_line), "{subject}");
        assert_eq!(receipt.named("postacert.eml").is_some(), has_original, "{subject}");
    }
}

/// A brief receipt has the original's structure, with the hash of each attached file in its place.
// PEC-RB-01 PEC-RB-02 PEC-RB-03 PEC-RB-04 PEC-RB-05 PEC-RB-06 PEC-RB-11
#[test]
fn a_brief_receipt_holds_hashes() {
    let envelope = scene().only("posta-certificata", BRIEF, "studio.verdi");
    let original = String::from_utf8(envelope.original()).unwrap();
    let start = original.find("Content-Type: application/pdf").unwrap();
    let end = start + original[start..].find("\r\n--").unwrap();
    let (_, encoded) = original[start..end].split_once("\r\n\r\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("part"), encoded).unwrap();
    let mut sum = tool("sha1sum", "coreutils").unwrap();
    let sum = run(sum.current_dir(folder.path()).arg("part")).unwrap().ok().unwrap();
    let hash = &sum[..40];
    let expected = format!(
        "{}Content-Type: text/plain; charset=\"us-ascii\"; name=\"istanza.pdf.hash\"\r\n\
         Content-Transfer-Encoding: 7bit\r\n\
         Content-Disposition: attachment; filename=\"istanza.pdf.hash\"\r\n\r\n{hash}{}",
        &original[..start],
        &original[end..]
    );
    let receipt = scene().only("avvenuta-consegna", BRIEF, "studio.verdi");
    assert_eq!(String::from_utf8(receipt.original()).unwrap(), expected);
}

/// What was submitted is what is certified, octet by octet, save for the identifier and the trace.
// PEC-BT-01 PEC-AP-21 PEC-AP-22 PEC-AP-23 PEC-AP-25
#[test]
fn the_original_is_what_was_submitted() {
    for (subject, message_id) in [
        (COMPLETE, Some("<completa@client.example>")),
        (BRIEF, Some("<breve@client.example>")),
        ("", None),
    ] {
        let envelope = scene().only("posta-certificata", subject, "studio.verdi");
        let id = envelope.identificativo();
        let original = String::from_utf8(envelope.original()).unwrap();
        // The trace field that submission adds, folded, before all others.
        let trace = original
            .split_inclusive("\r\n")
            .take_while(|line| line.starts_with("Received: ") || line.starts_with(' '));
        let trace: String = trace.collect();
        let (_, stamp) = id.split_once('.').unwrap();
        assert!(trace.contains(stamp.split('@').next().unwrap()), "{trace}");
        // It is in the envelope as it is in the original. PEC-BT-02
        let received = format!("Received: {}\r\n", envelope.field("Received").unwrap());
        assert_eq!(trace.replace("\r\n ", " "), received);
        let rest = &original[trace.len()..];
        let mut submitted = scene().submitted(subject).to_owned();
        match message_id {
            Some(old) => {
                let new =
                    format!("\r\nMessage-ID: <{id}>\r\nX-Riferimento-Message-ID: {old}\r\n\r\n");
                submitted = submitted.replacen(&format!("Message-ID: {old}\r\n"), "", 1);
                submitted = submitted.replacen("\r\n\r\n", &new, 1);
                assert_eq!(envelope.field("X-Riferimento-Message-ID").as_deref(), Some(old));
                let xml = envelope.certification();
                let escaped = old.replace('<', "&lt;").replace('>', "&gt;");
                assert!(xml.contains(&format!("<msgid>{escaped}</msgid>")), "{xml}");
            }
            None => {
                let new = format!("\r\nMessage-ID: <{id}>\r\n\r\n");
                submitted = submitted.replacen("\r\n\r\n", &new, 1).replacen(FORGED, "", 1);
                assert_eq!(envelope.field("X-Riferimento-Message-ID"), None);
                assert!(!envelope.certification().contains("msgid"));
            }
        }
        assert_eq!(rest, submitted, "{subject:?}");
        assert_eq!(envelope.field("Message-ID"), Some(format!("<{id}>")));
    }
}

/// What comes with 8 bits is made safe for 7 before it is certified; what it says stays.
// PEC-FMT-08 PEC-FMT-10 PEC-BT-01
#[test]
fn eight_bit_text_is_certified_in_seven() {
    let submitted = scene().submitted("Otto bit");
    assert!(!submitted.is_ascii());
    let envelope = scene().only("posta-certificata", "Otto bit", "studio.verdi");
    let original = String::from_utf8(envelope.original()).unwrap();
    assert!(original.is_ascii(), "{original}");
    let (header, body) = original.split_once("\r\n\r\n").unwrap();
    assert!(header.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"), "{header}");
    assert!(header.contains("\r\nContent-Transfer-Encoding: quoted-printable"), "{header}");
    assert_eq!(body, "Perch=C3=A9 costa 5 =E2=82=AC.\r\n");
}

/// A notification has an identifier of its own.
// PEC-AP-20 PEC-AP-24
#[test]
fn every_notification_has_its_own_identifier() {
    let mut seen = HashSet::new();
    let identifiers: HashSet<_> =
        scene().messages.iter().map(|message| format!("<{}>", message.identificativo())).collect();
    for message in &scene().messages {
        let id = message.field("Message-ID").unwrap();
        assert!(id.ends_with("@pec.alfa.example>"), "{message}: {id}");
        if message.kind() == "posta-certificata" {
            assert_eq!(id, format!("<{}>", message.identificativo()));
        } else {
            assert!(!identifiers.contains(&id), "{message}: {id} is a message's own");
            assert!(seen.insert(id), "{message}: twice the same");
        }
    }
}

/// One notice for each recipient that could not be reached, in the words of NOTA 12.
// PEC-MC-01 PEC-MC-03 PEC-MC-04 PEC-MC-05 PEC-MC-06 PEC-MC-07 PEC-MC-08
#[test]
fn non_delivery_notices() {
    for (recipient, expected) in [
        ("nessuno", include_str!("evidence/errore-consegna-nessuno.txt")),
        ("piena", include_str!("evidence/errore-consegna-piena.txt")),
        ("anna.bianchi", include_str!("evidence/errore-consegna-sospesa.txt")),
    ] {
        let message = scene().only("errore-consegna", "Errori", recipient);
        message.is(scene(), expected);
        assert!(message.named("postacert.eml").is_none());
    }
}

// PEC-NA-01 PEC-NA-02 PEC-NA-03 PEC-NA-04
#[test]
fn a_non_acceptance_notice() {
    let message = scene().only("non-accettazione", "Nascosto", "");
    message.is(scene(), include_str!("evidence/non-accettazione.txt"));
}

/// Each formal check that fails is told with its reason, and nothing is delivered.
// PEC-AP-03 PEC-AP-04 PEC-AP-05 PEC-AP-06 PEC-AP-07 PEC-AP-08 PEC-AP-09 PEC-AP-10 PEC-AP-12 PEC-AP-13
// PEC-AP-14 PEC-NA-03 PEC-NA-04
#[test]
fn each_failed_check_has_its_notice() {
    for (subject, cause) in evidence::scene::REFUSED {
        let message = scene().only("non-accettazione", subject, "");
        let xml = message.certification();
        assert!(xml.contains("<postacert tipo=\"non-accettazione\" errore=\"altro\">"), "{xml}");
        let escaped = cause.replace('\'', "&apos;");
        let told = between(&xml, "<errore-esteso>", "</errore-esteso>");
        assert!(told == cause || told == escaped, "{subject}: {told}");
        let text = message.text();
        assert!(text.contains(&format!("\r\na causa di {cause}.\r\n")), "{subject}: {text}");
        assert!(message.named("postacert.eml").is_none(), "{subject}");
        for kind in ["accettazione", "posta-certificata"] {
            assert_eq!(scene().find(kind, subject, "").len(), 0, "{subject}");
        }
    }
}

/// `ceralacca verify` agrees with all of the above, and names what does not hold.
#[test]
fn verify_judges_each_message() {
    let folder = tempfile::tempdir().unwrap();
    for message in &scene().messages {
        let (status, told) = verify(scene(), folder.path(), &message.octets);
        assert_eq!(
            (status, told["verdict"].as_str()),
            (Some(0), Some("valid")),
            "{message}: {told}"
        );
        assert_eq!(told["kind"], message.kind(), "{message}");
        assert_eq!(told["identificativo"], message.identificativo(), "{message}");
        assert_eq!(told["mittente"], "mario.rossi@pec.alfa.example", "{message}");
        assert_eq!(told["gestore"], "Demo PEC S.p.A.", "{message}");
        assert_eq!(told["signer"]["email"], AUTHOR, "{message}");
    }
}

#[test]
fn verify_names_what_was_tampered_with() {
    let folder = tempfile::tempdir().unwrap();
    let envelope = scene().only("posta-certificata", COMPLETE, "studio.verdi");
    let receipt = scene().only("avvenuta-consegna", COMPLETE, "studio.verdi");
    let cases = [
        (envelope, "Messaggio di posta certificata", "Messaggio di posta certificatA", "PEC-PR-03"),
        (envelope, "Q?Offerta_", "Q?Rifiuto_", "PEC-FMT-07"),
        (envelope, "X-Trasporto: posta-certificata", "X-Trasporto: errore", "PEC-BA-06"),
        (envelope, "<posta-certificata@pec.alfa", "<posta-certificata@pec.beta", "PEC-PR-15"),
        (envelope, "Message-ID: <2", "Message-ID: <3", "PEC-PR-14"),
        (envelope, "Message-ID: <completa", "Message-ID: <complete", "PEC-AP-22"),
        (receipt, "X-Ricevuta: avvenuta-consegna", "X-Ricevuta: errore-consegna", "PEC-PR-13"),
        (receipt, "To: mario.rossi@", "To: maria.rossi@", "PEC-GEN-15"),
        (receipt, "multipart/signed; protocol", "multipart/mixed; protocol", "PEC-PR-01"),
    ];
    for (message, what, with, rule) in cases {
        let text = String::from_utf8(message.octets.clone()).unwrap();
        let tampered = text.replacen(what, with, 1);
        assert_ne!(tampered, text, "{what}");
        let (status, told) = verify(scene(), folder.path(), tampered.as_bytes());
        assert_eq!(
            (status, told["verdict"].as_str()),
            (Some(1), Some("invalid")),
            "{with}: {told}"
        );
        let checks = told["checks"].as_array().unwrap();
        let failed: Vec<_> = checks.iter().filter(|check| check["ok"] == false).collect();
        assert!(failed.iter().any(|check| check["rule"] == rule), "{with}: {failed:?}");
    }
}

/// Exit status and the one object of `ceralacca verify --json`.
fn verify(scene: &Scene, folder: &Path, octets: &[u8]) -> (Option<i32>, serde_json::Value) {
    std::fs::write(folder.join("ca.pem"), &scene.ca).unwrap();
    std::fs::write(folder.join("providers.ldif"), &scene.index).unwrap();
    std::fs::write(folder.join("message.eml"), octets).unwrap();
    let mut verify = std::process::Command::new(scenarios::demo::program().unwrap());
    verify.current_dir(folder).args(["verify", "--json", "--ca", "ca.pem"]);
    let told = run(verify.args(["--index", "providers.ldif", "message.eml"])).unwrap();
    (told.status, serde_json::from_slice(&told.out).unwrap_or_else(|_| panic!("{told}")))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split_once(after).unwrap().0
}

fn find(octets: &[u8], wanted: &[u8]) -> usize {
    octets.windows(wanted.len()).position(|window| window == wanted).unwrap()
}
