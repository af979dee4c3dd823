//! What providers were seen to do otherwise than we do: each is taken.

use super::signed::{A_ADDRESS, Apart, SIGNATURE, ground_with_a};
use super::*;

const DELIVERY: &[u8] =
    include_bytes!("../../../../pec/examples/eml/06-avvenuta-consegna-completa.eml");

/// Valid, with these notes beside that `gestore-emittente` is another than who signed here, and that
/// OpenSSL signed it today.
fn taken(name: &str, octets: &[u8]) -> Vec<String> {
    let report = looked_at(octets, &ground_with_a());
    assert_eq!((report.verdict, wrong(&report)), (VALID, vec![]), "{name}: {:?}", report.checks);
    let notes = report.notes.into_iter();
    let of_the_test = ["gestore-emittente", "certified on"];
    notes.filter(|note| !of_the_test.iter().any(|begin| note.starts_with(begin))).collect()
}

const MODEL: &str = "the text is not of our model: it was not compared";

/// PEC-SIG-05 PEC-SIG-07 PEC-SIG-09 PEC-XML-05 PEC-FMT-06 PEC-CRT-10
#[test]
fn what_other_providers_do_otherwise_is_taken() {
    let delivery = || Apart::of(DELIVERY);
    let envelope = || Apart::of(ENVELOPE);
    let none: [&str; 0] = [];
    assert_eq!(taken("as it is", &delivery().sign()), none);
    assert_eq!(taken("as it is", &envelope().sign()), none);
    let mut count = 0;
    // 1. The case of names of fields.
    let octets = envelope().outer("X-TipoRicevuta", "X-Tiporicevuta").sign();
    assert_eq!(taken("X-Tiporicevuta", &octets), none);
    let octets = delivery().outer("X-Ricevuta", "X-RICEVUTA").outer("From:", "FROM:").sign();
    assert_eq!(taken("upper case", &octets), none);
    count += 2;
    // 2. How the signature is announced, and with which digest it is made.
    let sha1 = "the signature is made with SHA-1, as was usual once";
    for (micalg, digest, notes) in [
        ("micalg=\"sha1\"", "sha1", &[sha1][..]),
        ("micalg=sha1", "sha1", &[sha1]),
        ("micalg=sha-256", "sha256", &[]),
        ("micalg=\"sha-256\"", "sha256", &[]),
        // A hint, and a wrong one.
        ("micalg=\"sha-256\"", "sha1", &[sha1]),
    ] {
        for protocol in ["application/pkcs7-signature", "application/x-pkcs7-signature"] {
            let apart = delivery()
                .outer("micalg=\"sha-256\"", micalg)
                .outer("application/pkcs7-signature", protocol);
            let part = format!("{protocol}; name=smime.p7s");
            let octets = apart.around(&apart.openssl(&["-md", digest]), "", &part);
            assert_eq!(taken(micalg, &octets), notes, "{micalg} {protocol} {digest}");
            count += 1;
        }
    }
    // 3. Something before the first part, or blank lines.
    let apart = delivery();
    let signature = apart.openssl(&[]);
    for preamble in ["This is an S/MIME signed message\r\n\r\n", "", "\r\n", "\r\n\r\n\r\n"] {
        assert_eq!(taken("preamble", &apart.around(&signature, preamble, SIGNATURE)), none);
        count += 1;
    }
    // 4. A text alone, and an encoding where there is nothing to encode.
    let text = "multipart/alternative; boundary=\"----=_ALT_0011_PecSpecExample\"\r\n\r\n\
                ------=_ALT_0011_PecSpecExample\r\nContent-Type: ";
    let mut apart = delivery().edit(text, "");
    let html = apart.entity.find("\r\n------=_ALT_0011_PecSpecExample\r\n").unwrap();
    let end = "------=_ALT_0011_PecSpecExample--\r\n";
    let after = apart.entity.find(end).unwrap() + end.len();
    apart.entity.replace_range(html + 2..after, "");
    assert_eq!(taken("text alone", &apart.sign()), none);
    let mixed = "Content-Type: multipart/mixed;";
    let octets =
        delivery().edit(mixed, &format!("Content-Transfer-Encoding: binary\r\n{mixed}")).sign();
    assert_eq!(taken("binary", &octets), none);
    count += 2;
    // 5. Names without quotes, and attachments that are not inline.
    let octets = delivery()
        .edit("name=\"daticert.xml\"", "name=daticert.xml")
        .edit("name=\"postacert.eml\"", "name=postacert.eml")
        .sign();
    assert_eq!(taken("no quotes", &octets), none);
    let inline = "Content-Disposition: inline; filename";
    let octets = delivery().edit(inline, "Content-Disposition: attachment; filename").sign();
    assert_eq!(taken("attachment", &octets), none);
    count += 2;
    // 6. Boundaries of every kind.
    for boundary in ["----------------------------------A", "=_b.1_2=", "_=aperta'(+)/:?", "a b"] {
        assert_eq!(taken(boundary, &delivery().boundary(boundary).sign()), none);
        count += 1;
    }
    // 7. Texts that are longer than the model, or decorated.
    let title = "\r\n\r\nRicevuta di avvenuta consegna\r\n";
    for text in [
        "\r\n\r\n-- Ricevuta di avvenuta consegna --\r\n",
        "\r\n\r\nRicevuta di avvenuta consegna\r\nDelivery receipt, see below\r\n----------\r\n",
    ] {
        assert_eq!(taken("text", &delivery().edit(title, text).sign()), [MODEL]);
        count += 1;
    }
    // 8. White space around and in the certification data.
    for (from, to) in [
        ("</postacert>\n", "</postacert>\r\n\r\n"),
        ("    <dati>", "\r\n\r\n    <dati>\n\n"),
        ("<ricevuta tipo=\"completa\"/>", "<ricevuta tipo=\"completa\" />"),
        ("<consegna>", "<consegna>\n  "),
        (" errore=\"nessuno\"", ""),
        (" tipo=\"certificato\"", ""),
    ] {
        assert_eq!(taken(from, &delivery().data(from, to).sign()), none, "{from}");
        count += 1;
    }
    // 9. Fields that we do not write.
    for field in [
        "X-Attachment: 2",
        "X-REM-Subject: Istanza",
        "X-Namirial-Details: a=b; c=d",
        "Delivered-To: mario.rossi@pec.rossi.example",
        "DKIM-Signature: v=1; a=rsa-sha256; d=betacert.example; b=AAAA",
    ] {
        let octets = delivery().outer("MIME-Version:", &format!("{field}\r\nMIME-Version:")).sign();
        assert_eq!(taken(field, &octets), none);
        count += 1;
    }
    // 10. A date with a comment.
    let octets = delivery().outer("09:30:15 +0200", "09:30:15 +0200 (CEST)").sign();
    assert_eq!(taken("comment", &octets), none);
    count += 1;
    // 11. BER of indefinite length, no attributes of S/MIME, another way to name the signer.
    for options in [&["-stream"][..], &["-noattr"], &["-keyid"], &["-nosmimecap"]] {
        assert_eq!(taken("CMS", &delivery().sign_with(options)), none, "{options:?}");
        count += 1;
    }
    let ber = delivery().openssl(&["-stream"]);
    assert_eq!(ber[..2], [0x30, 0x80], "the test needs BER");
    // 12. Identifiers with many dots, of another domain than the sender's.
    let id = "20260914093012.4c1f9e27@alfapec.example";
    let other = "opec2941.20260914093012.12345.678.1.57@pec.altro.example";
    let octets = Apart::of(ACCEPTANCE).data(id, other).edit(id, other).sign();
    assert_eq!(taken("identificativo", &octets), none);
    count += 1;
    // 13. The provider's name as it likes to be written.
    for name in ["BETA CERTIFICATA S.R.L.", "beta-certificata - s.r.l.", "Beta &amp; C. S.p.A."] {
        let octets = delivery().data("Beta Certificata S.r.l.", name).sign();
        assert_eq!(taken(name, &octets), none);
        count += 1;
    }
    // 14. A recipient in another case than among the recipients.
    let octets = delivery()
        .data("<consegna>protocollo@", "<consegna>Protocollo@")
        .edit("ed indirizzato a \"protocollo@", "ed indirizzato a \"Protocollo@")
        .sign();
    assert_eq!(taken("case", &octets), none);
    count += 1;
    // 15. Fields that a receipt inherits, and a name that nobody signed.
    for (from, to, note) in [
        (
            "MIME-Version:",
            "Reply-To: mario.rossi@pec.rossi.example\r\nMIME-Version:",
            "Reply-To is",
        ),
        ("MIME-Version:", "Cc: anna@pec.rossi.example\r\nMIME-Version:", "Cc is"),
        (
            "From: posta-certificata@a.example",
            "From: \"Posta\" <posta-certificata@a.example>",
            "the name that From",
        ),
        ("\r\nMessage-ID:", "\r\nX-Altro:", "Message-ID is there 0 times"),
        ("MIME-Version:", "Message-ID: <x@y.example>\r\nMIME-Version:", "Message-ID is there 2"),
        ("MIME-Version:", "X-Mittente: mario.rossi@pec.rossi.example\r\nMIME-Version:", ""),
        ("MIME-Version:", "X-VerificaSicurezza: nessuno\r\nMIME-Version:", "X-VerificaSicurezza"),
        ("MIME-Version:", ">From qui\r\nMIME-Version:", "lines of the header that are no field: 1"),
    ] {
        let octets = delivery().outer(from, to).sign();
        let notes = taken(to, &octets);
        let expected = usize::from(!note.is_empty());
        assert!(notes.len() == expected && notes.iter().all(|n| n.starts_with(note)), "{notes:?}");
        count += 1;
    }
    // 16. Elements more than the kind has, and a recipient whom his provider knows and the sender's not.
    let recipient = "protocollo@pec.comune.example";
    for (from, to, note) in [
        (
            "</consegna>",
            &format!("</consegna><ricezione>{recipient}</ricezione>")[..],
            "daticert.xml has ricezione, which avvenuta-consegna has not",
        ),
        (
            &format!("\"certificato\">{recipient}"),
            &format!("\"esterno\">{recipient}"),
            "protocollo@pec.comune.example is an ordinary recipient (esterno)",
        ),
    ] {
        assert_eq!(taken(to, &delivery().data(from, to).sign()), [note]);
        count += 1;
    }
    // PEC-RV-06: older virus notices.
    let virus = include_bytes!("../../../../pec/examples/eml/13-rilevazione-virus.eml");
    let (open, close) = ("<consegna>", "</consegna>");
    let older = Apart::of(virus).data(open, "<ricezione>").data(close, "</ricezione>");
    assert_eq!(taken("ricezione", &older.sign()), none);
    let older = Apart::of(virus).data(" errore=\"virus\"", "");
    assert_eq!(taken("errore", &older.sign()), ["the data of a virus notice have no errore"]);
    count += 2;
    // Parts more, which a provider may add.
    let end = "------=_MIX_0010_PecSpecExample--";
    let more = format!(
        "------=_MIX_0010_PecSpecExample\r\nContent-Type: application/pdf; name=\"nota.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n{end}"
    );
    assert_eq!(taken("part", &delivery().edit(end, &more).sign()), none);
    // A file saved with LF.
    let mut lf = delivery().sign();
    lf.retain(|octet| *octet != b'\r');
    let note = "the file has LF line ends: it was read as with CRLF";
    assert_eq!(taken("LF", &lf), [note]);
    count += 2;
    let told = format!("{count} ways of other providers are taken\n");
    Write::write_all(&mut std::io::stderr(), told.as_bytes()).unwrap();
    assert!(A_ADDRESS.contains('@') && count >= 45, "{count}");
}

/// PEC-RB-03 PEC-RB-04: the hashes are held against the envelope that is verified along with it.
#[test]
fn a_brief_receipt_is_held_against_its_envelope() {
    let brief = include_bytes!("../../../../pec/examples/eml/08-avvenuta-consegna-breve.eml");
    let report = |octets: &[u8], envelope: Option<&[u8]>| {
        let originals = envelope.and_then(original).into_iter().collect();
        let mut report = looked_at(octets, &ground_with_a());
        look_at_brief(&mut report, octets, &originals, false);
        report
    };
    let signed = Apart::of(brief).sign();
    let held = report(&signed, Some(ENVELOPE));
    assert_eq!((held.verdict, wrong(&held)), (VALID, vec![]));
    let last = held.checks.last().unwrap();
    assert_eq!(last.rule, "PEC-RB-03");
    assert_eq!(last.text, "the hashes are those of the attachments, as they are encoded");
    let alone = report(&signed, None);
    assert!(alone.notes.last().unwrap().starts_with("a brief receipt: "), "{:?}", alone.notes);
    // The hash of the file, which is the other reading; and of another.
    let text = String::from_utf8(brief.to_vec()).unwrap();
    let encoded = "b6bb19352402f691fe7bb5f748c8ab570c5872d5";
    assert!(text.contains(encoded));
    let (_, original) = original(ENVELOPE).unwrap();
    let reduced = pec::reduce::reduce(&original, Hashed::File);
    let reduced = String::from_utf8(reduced).unwrap();
    let (_, rest) = reduced.split_once(".hash\"\r\n\r\n").unwrap();
    let file = &rest[..40];
    assert_ne!(file, encoded);
    let held = report(&Apart::of(brief).edit(encoded, file).sign(), Some(ENVELOPE));
    assert_eq!(held.checks.last().unwrap().text, "the hashes are those of the attached files");
    let other = encoded.replace('b', "c");
    let held = report(&Apart::of(brief).edit(encoded, &other).sign(), Some(ENVELOPE));
    assert_eq!((held.verdict, wrong(&held)), (INVALID, vec!["PEC-RB-03"]));
}
