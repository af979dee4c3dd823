use super::*;
use crate::exchange::RecipientKind;
use crate::testing::*;

const XML: &str = include_str!("../../examples/daticert/posta-certificata.xml");
const RECEIPT_XML: &str = include_str!("../../examples/daticert/avvenuta-consegna-completa.xml");

fn fault(octets: &[u8], signer: &str) -> FormFault {
    match judged(octets, signer) {
        Class::Anomaly(fault) => fault,
        other => panic!("not an anomaly: {other:?}"),
    }
}

// PEC-PR-05 PEC-PR-10 PEC-PR-11 PEC-PR-13 PEC-PR-14 PEC-PR-15 PEC-PR-16 PEC-PR-17
#[test]
fn the_examples_are_what_they_are() {
    use ReceiptKind as Kind;
    let class = judged(ENVELOPE, ALFA);
    let Class::Envelope(envelope) = class else { panic!("{class:?}") };
    assert_eq!(envelope.exchange(), &exchange());
    assert_eq!(envelope.signer(), "Alfa PEC S.p.A.");
    assert_eq!(envelope.original(ENVELOPE), ORIGINAL);
    assert_eq!(envelope.original(b"short"), b"");
    assert!(envelope.manages_author());
    assert_eq!(envelope.place(&address(PROTOCOLLO)), Place::Primary);
    assert_eq!(envelope.place(&address(UFFICIO)), Place::Copy);
    for (octets, signer, kind) in [
        (ACCEPTANCE, ALFA, Kind::Acceptance),
        (TAKE_CHARGE, BETA, Kind::TakeCharge),
        (DELIVERY, BETA, Kind::Delivery),
        (DELIVERY_COPY, BETA, Kind::Delivery),
        (DELIVERY_BRIEF, BETA, Kind::Delivery),
        (DELIVERY_CONCISE, BETA, Kind::Delivery),
        (NON_DELIVERY, BETA, Kind::NonDelivery),
        (NON_ACCEPTANCE, ALFA, Kind::NonAcceptance),
        (NON_ACCEPTANCE_VIRUS, ALFA, Kind::NonAcceptance),
        (VIRUS_FOUND, BETA, Kind::VirusFound),
        (LATE_FIRST, ALFA, Kind::LateDelivery),
        (LATE_SECOND, ALFA, Kind::LateDelivery),
    ] {
        let class = judged(octets, signer);
        let Class::Notification(notification) = class else { panic!("{class:?}") };
        assert_eq!(notification.kind(), kind);
        assert_eq!(notification.certification().identifier.as_str(), IDENTIFIER);
        assert!(notification.is_authoritative() && notification.manages_author());
    }
    // Signed by the sender's own provider, about a recipient who is another's: the data come from
    // the detection, and no tracker waits for it.
    let class = judged(NON_DELIVERY_VIRUS, ALFA);
    let Class::Notification(notification) = class else { panic!("{class:?}") };
    assert!(!notification.is_authoritative());
    // An anomaly envelope is no certified mail, whoever signed it.
    assert_eq!(fault(ANOMALY, BETA), FormFault::Kind);
}

// PEC-PR-01 PEC-PR-08
#[test]
fn what_is_not_proved_to_come_from_a_provider_is_ordinary() {
    for reason in [OriginFault::NotSigned, OriginFault::NotAProvider, OriginFault::NotValid] {
        let class = judged_for(ENVELOPE, Err(reason), SENDER, &[PROTOCOLLO]);
        assert_eq!(class, Class::Ordinary(reason));
    }
    assert_eq!(
        judged(ENVELOPE, "posta-certificata@nessuno.example"),
        Class::Ordinary(OriginFault::NotAProvider)
    );
}

// PEC-PR-18
#[test]
fn names_of_fields_have_no_case() {
    let octets =
        with(ENVELOPE, "X-Trasporto: posta-certificata", "x-trasporto:  Posta-Certificata ");
    let octets = with(&octets, "X-TipoRicevuta: completa", "X-Tiporicevuta: breve");
    let octets = with_data(&octets, "tipo=\"completa\"", "tipo=\"breve\"");
    assert_eq!(verified(&octets).exchange().requested, DeliveryForm::Brief);
}

// PEC-PR-07 PEC-PR-10 PEC-PR-11 PEC-PR-13 PEC-PR-14 PEC-PR-15 PEC-FMT-10
#[test]
fn an_edited_header_makes_an_anomaly() {
    const X: &str = "X-Trasporto: posta-certificata\r\n";
    const ID: &str = "\r\nMessage-ID: <20260914093012.4c1f9e27@alfapec.example>\r\nX-Riferimento-Message-ID: <20260914.093001.7f3a@pc-mario.example>\r\nX-TipoRicevuta";
    const FROM: &str = " <posta-certificata@alfapec.example>";
    for (from, to, expected) in [
        (X, "", FormFault::Kind),
        (X, "X-Trasporto: errore\r\n", FormFault::Kind),
        (X, &X.repeat(2), FormFault::Kind),
        (X, &format!("{X}X-Ricevuta: accettazione\r\n"), FormFault::Kind),
        (X, "X-Ricevuta: mancata-consegna\r\n", FormFault::Kind),
        // A signed envelope cannot be turned into a receipt.
        (X, "X-Ricevuta: avvenuta-consegna\r\n", FormFault::KindDiffers),
        (
            ID,
            "\r\nMessage-ID: <altro@alfapec.example>\r\nX-TipoRicevuta",
            FormFault::IdentifierDiffers,
        ),
        (ID, "\r\nX-TipoRicevuta", FormFault::IdentifierDiffers),
        (FROM, " <altro@alfapec.example>", FormFault::Author),
        (FROM, " <posta-certificata@alfapec.example>, a@b.example", FormFault::Author),
        (FROM, " <posta-certificata@alfapec.example>\r\nFrom: a@b.example", FormFault::Author),
        (X, &format!("{X}X-Altro: citt\u{e0}\r\n"), FormFault::HeaderNotAscii),
        (ALFA, "posta-certificata@betacert.example", FormFault::Author),
    ] {
        let text = String::from_utf8(ENVELOPE.to_vec()).unwrap();
        let octets = text.replacen(from, to, 1).into_bytes();
        assert_ne!(octets, ENVELOPE);
        assert_eq!(fault(&octets, ALFA), expected, "{to}");
    }
    // Nor a receipt of one kind into another.
    let octets = with(NON_DELIVERY, "X-Ricevuta: errore-consegna", "X-Ricevuta: avvenuta-consegna");
    assert_eq!(fault(&octets, BETA), FormFault::KindDiffers);
}

// PEC-PR-05 PEC-BT-02 PEC-BT-03 PEC-BT-05 PEC-BT-06 PEC-FMT-07 PEC-DT-05 PEC-AP-22 PEC-GEN-15
// PEC-RV-03: no signature covers it, and it is what a reader sees
#[test]
fn an_outer_header_tells_what_is_signed() {
    const SUBJECT: &str = "=?utf-8?q?Istanza_";
    const FORM: &str = "X-TipoRicevuta: completa";
    for (octets, signer, from, to, rule) in [
        (ENVELOPE, ALFA, "conto di: mario.rossi", "conto di: tribunale", "PEC-BT-03"),
        (ENVELOPE, ALFA, "Per conto di: ", "", "PEC-BT-03"),
        (ENVELOPE, ALFA, "Reply-To: mario.rossi", "Reply-To: altro", "PEC-BT-03"),
        (ENVELOPE, ALFA, SUBJECT, "=?utf-8?q?Fattura_", "PEC-FMT-07"),
        (ENVELOPE, ALFA, "POSTA CERTIFICATA", "CONSEGNA", "PEC-FMT-07"),
        (ENVELOPE, ALFA, "To: \"Protocollo\" <protocollo", "To: <ufficio", "PEC-BT-02"),
        (ENVELOPE, ALFA, "Cc: ufficio", "Cc: altri", "PEC-BT-02"),
        (ENVELOPE, ALFA, "Date: Mon, 14", "Date: Tue, 15", "PEC-DT-05"),
        (ENVELOPE, ALFA, FORM, "X-TipoRicevuta: breve", "PEC-BT-06"),
        (ENVELOPE, ALFA, FORM, "Sender: altro@pec.rossi.example", "PEC-BT-05"),
        (ENVELOPE, ALFA, ".7f3a@pc-mario", ".7f3b@pc-mario", "PEC-AP-22"),
        (DELIVERY, BETA, "To: mario.rossi", "To: luigi.rossi", "PEC-GEN-15"),
        (DELIVERY, BETA, "CONSEGNA:", "AVVISO DI MANCATA CONSEGNA:", "PEC-FMT-07"),
        (DELIVERY, BETA, SUBJECT, "=?utf-8?q?Fattura_", "PEC-FMT-07"),
        (DELIVERY, BETA, "Date: Mon, 14", "Date: Tue, 15", "PEC-DT-05"),
        (VIRUS_FOUND, BETA, "X-Mittente: mario", "X-Mittente: luigi", "PEC-RV-03"),
    ] {
        let text = String::from_utf8(octets.to_vec()).unwrap();
        let edited = text.replacen(from, to, 1);
        assert_ne!(edited, text, "{from}");
        let (FormFault::Header(found, _), true) =
            (fault(edited.as_bytes(), signer), edited.find(to) < edited.find("\r\n\r\n"))
        else {
            panic!("{from}: no fault of the header")
        };
        assert_eq!(found, rule, "{from}");
    }
    // What was believed once is not asked again: an older release may have taken it.
    let octets = with(ENVELOPE, "conto di: mario.rossi", "conto di: tribunale");
    let (examination, provenance) = (crate::inspect::examine(&octets), envelope().provenance);
    let reverse_path = ReversePath::Address(address(SENDER));
    let routing = Routing { reverse_path: &reverse_path, forward_paths: &[] };
    assert!(matches!(recall(&examination, &provenance, &routing), Class::Envelope(_)));
}

// PEC-FMT-07 PEC-BT-02 PEC-BT-03: other providers read encoded words with other programs, and fold and
// quote in their own way
#[test]
fn what_another_program_wrote_in_its_own_way_is_no_contradiction() {
    let replaced = |text: &str, pairs: &[(&str, &str)]| {
        pairs.iter().fold(text.to_owned(), |text, (from, to)| {
            let edited = text.replacen(from, to, 1);
            assert_ne!(edited, text, "{from}");
            edited
        })
    };
    let subject_of = |octets: &str| {
        let rest = octets.split_once("\nSubject: ").unwrap().1;
        let end =
            rest.match_indices("\r\n").find(|(at, _)| !rest[at + 2..].starts_with(' ')).unwrap();
        rest[..end.0].to_owned()
    };
    let header = header_of(ENVELOPE);
    let original = String::from_utf8(ORIGINAL.to_vec()).unwrap();
    let (outer, inner) = (subject_of(&header), subject_of(&original));
    let certified = XML.split_once("<oggetto>").unwrap().1.split_once("</oggetto>").unwrap().0;
    for (outer_is, inner_is, oggetto) in [
        // Read as Latin-1 there, as Windows-1252 here.
        (
            "POSTA CERTIFICATA: =?iso-8859-1?Q?L=92avviso?=",
            "=?iso-8859-1?Q?L=92avviso?=",
            "L avviso",
        ),
        // A character in two words, each read by itself there.
        (
            "POSTA CERTIFICATA: =?utf-8?Q?perch=C3?= =?utf-8?Q?=A9?=",
            "=?utf-8?Q?perch=C3?= =?utf-8?Q?=A9?=",
            "perch\u{fffd}\u{fffd}",
        ),
    ] {
        let header = replaced(&header, &[(&outer, outer_is)]);
        let original = replaced(&original, &[(&inner, inner_is)]);
        let xml = replaced(XML, &[(certified, oggetto)]);
        let octets = message(&header, Some(&xml), Some(original.as_bytes()));
        let class = judged(&octets, ALFA);
        assert!(matches!(class, Class::Envelope(_)), "{oggetto}: {class:?}");
    }
    for (from, to) in [
        ("To: \"Protocollo\" <protocollo@", "To: Protocollo\r\n  <protocollo@"),
        ("\r\nReply-To: mario.rossi@pec.rossi.example", ""),
    ] {
        let octets = replaced(std::str::from_utf8(ENVELOPE).unwrap(), &[(from, to)]);
        let class = judged(octets.as_bytes(), ALFA);
        assert!(matches!(class, Class::Envelope(_)), "{from}: {class:?}");
    }
    let receipt = String::from_utf8(DELIVERY.to_vec()).unwrap();
    let said = subject_of(&header_of(DELIVERY));
    let octets = replaced(&receipt, &[(&said, &said.replacen("=E2=80=93", "=3F", 1))]);
    let class = judged(octets.as_bytes(), BETA);
    assert!(matches!(class, Class::Notification(_)), "{class:?}");
}

// PEC-PR-05: doubt D-30
#[test]
fn nobody_is_sender_in_the_name_of_another_providers_user() {
    let sent = |sender: &str| {
        let header = header_of(ENVELOPE).replace(SENDER, sender);
        let octets = message(&header, Some(&XML.replace(SENDER, sender)), Some(ORIGINAL));
        judged_for(&octets, Ok(ALFA), sender, &[PROTOCOLLO])
    };
    // Of the recipient's own provider, and of an environment of it.
    for domain in ["pec.comune.example", "personale.betacert.example"] {
        let text = format!("the signer speaks for neri@{domain}, of Beta Certificata S.r.l.");
        let fault =
            FormFault::Mandate(text, Moment::parse("14/09/2026", "09:30:12", "+0200").unwrap());
        assert_eq!(sent(&format!("neri@{domain}")), Class::Anomaly(fault));
    }
    let nobodys = sent("neri@altrove.example");
    assert!(matches!(nobodys, Class::Envelope(_)), "{nobodys:?}");
    assert_eq!(nobodys.remarks(), ["no provider of the index manages altrove.example"]);
    let own = sent("altro@alfapec.example");
    assert!(matches!(own, Class::Envelope(_)) && own.remarks().is_empty(), "{own:?}");
}

// PEC-RC-07 PEC-MC-06 PEC-PR-25: and closes nobody
#[test]
fn a_receipt_that_contradicts_itself_is_not_believed() {
    const ERROR: &str = "errore=\"nessuno\"";
    const VIRUS: &str = "errore=\"virus\"";
    let xml = |octets: &[u8]| {
        let examination = crate::inspect::examine(octets);
        let parts = examination.parts().unwrap();
        let xml = parts.certifications[0].certification().unwrap().into_owned();
        String::from_utf8(xml).unwrap()
    };
    for (octets, signer, from, to, said) in [
        (
            DELIVERY,
            BETA,
            ERROR,
            "errore=\"no-dest\"",
            "it attests a delivery, and its data tell of an error",
        ),
        (
            TAKE_CHARGE,
            BETA,
            ERROR,
            "errore=\"altro\"",
            "it attests that a message was taken in charge, and its data tell of an error",
        ),
        (
            ACCEPTANCE,
            ALFA,
            ERROR,
            "errore=\"altro\"",
            "it attests an acceptance, and its data tell of an error",
        ),
        (
            NON_DELIVERY,
            BETA,
            "errore=\"no-dest\"",
            ERROR,
            "it tells of an error, and its data of none",
        ),
        (
            NON_ACCEPTANCE,
            ALFA,
            "errore=\"altro\"",
            ERROR,
            "it tells of an error, and its data of none",
        ),
        (
            VIRUS_FOUND,
            BETA,
            VIRUS,
            "errore=\"altro\"",
            "it tells of a virus, and its data of another error",
        ),
    ] {
        let (header, data) = (header_of(octets), xml(octets));
        let straight = judged(&message(&header, Some(&data), None), signer);
        let Class::Notification(straight) = straight else { panic!("{straight:?}") };
        assert!(straight.is_authoritative() && straight.contradiction().is_none(), "{said}");
        assert!(data.contains(from), "{data}");
        let class = judged(&message(&header, Some(&data.replace(from, to)), None), signer);
        assert_eq!(class.remarks(), [said]);
        let Class::Notification(notification) = class else { panic!("{class:?}") };
        assert!(!notification.is_authoritative(), "{said}");
    }
    // Some tell of a virus and of no error: PEC-RV-06.
    let data = xml(VIRUS_FOUND).replace(VIRUS, ERROR);
    let class = judged(&message(&header_of(VIRUS_FOUND), Some(&data), None), BETA);
    let Class::Notification(notification) = class else { panic!("{class:?}") };
    assert!(notification.is_authoritative());
}

// PEC-RV-06
#[test]
fn older_virus_notices_name_the_recipient_as_taken_in_charge() {
    let (header, xml) =
        (header_of(VIRUS_FOUND), include_str!("../../examples/daticert/rilevazione-virus.xml"));
    for data in [xml.to_owned(), xml.replace("consegna>", "ricezione>")] {
        let class = judged(&message(&header, Some(&data), None), BETA);
        let Class::Notification(notification) = class else { panic!("{class:?}") };
        assert!(notification.is_authoritative());
        assert_eq!(notification.recipient(), Some(&address(PROTOCOLLO)));
    }
}

// PEC-PR-16
#[test]
fn the_paths_are_those_that_are_certified() {
    let other = judged_for(ENVELOPE, Ok(ALFA), "altro@pec.rossi.example", &[PROTOCOLLO]);
    assert_eq!(other, Class::Anomaly(FormFault::Sender));
    let hidden = judged_for(ENVELOPE, Ok(ALFA), SENDER, &[PROTOCOLLO, "x@pec.comune.example"]);
    let fault = FormFault::Recipient(address("x@pec.comune.example"));
    assert_eq!(hidden, Class::Anomaly(fault));
    let upper = ["PROTOCOLLO@PEC.comune.example"];
    let case = judged_for(ENVELOPE, Ok(ALFA), "Mario.Rossi@pec.ROSSI.example", &upper);
    assert!(matches!(case, Class::Envelope(_)));
}

// PEC-PR-12 PEC-FMT-06
#[test]
fn there_is_one_daticert_where_providers_put_it() {
    let header = &header_of(ENVELOPE)[..];
    assert!(matches!(
        judged(&message(header, Some(XML), Some(ORIGINAL)), ALFA),
        Class::Envelope(_)
    ));
    let none = message(header, None, Some(ORIGINAL));
    assert_eq!(fault(&none, ALFA), FormFault::CertificationCount);
    let no_original = message(header, Some(XML), None);
    assert_eq!(fault(&no_original, ALFA), FormFault::OriginalCount);
    let bad = message(header, Some("<postacert/>"), Some(ORIGINAL));
    let missing = CertificationError::Missing("postacert/@tipo");
    assert_eq!(fault(&bad, ALFA), FormFault::Certification(missing));
    // A file of the user's with the same name, inside the original, is none.
    let user = with(ORIGINAL, "istanza.pdf", "daticert.xml");
    let class = judged(&message(header, Some(XML), Some(&user)), ALFA);
    assert!(matches!(class, Class::Envelope(_)), "{class:?}");
    let class = judged(&message(header, None, Some(&user)), ALFA);
    assert_eq!(class, Class::Anomaly(FormFault::CertificationCount));
    // The original must be the one that is certified.
    let other = with(ORIGINAL, "4c1f9e27@", "00000000@");
    let class = judged(&message(header, Some(XML), Some(&other)), ALFA);
    assert_eq!(class, Class::Anomaly(FormFault::IdentifierDiffers));
    // By name, not by place: another part between the two, and the two in another order
    let octets = with(
        ENVELOPE,
        "------=_MIX_0004_PecSpecExample\r\nContent-Type: application/xml; name=\"daticert.xml\"",
        "------=_MIX_0004_PecSpecExample\r\nContent-Type: application/pdf; name=\"guida.pdf\"\r\n\r\nx\r\n\
         ------=_MIX_0004_PecSpecExample\r\nContent-Type: Application/XML; name=DATICERT.xml",
    );
    assert!(matches!(judged(&octets, ALFA), Class::Envelope(_)));
    let encoded = with(
        ENVELOPE,
        "name=\"postacert.eml\"\r\nContent-Transfer-Encoding: 7bit",
        "name=\"postacert.eml\"\r\nContent-Transfer-Encoding: base64",
    );
    assert_eq!(fault(&encoded, ALFA), FormFault::OriginalCount);
    let typed = with(ENVELOPE, "application/xml", "text/plain");
    assert_eq!(fault(&typed, ALFA), FormFault::CertificationCount);
    let layout =
        with(ENVELOPE, "multipart/mixed; boundary=\"----", "multipart/related; boundary=\"----");
    assert_eq!(fault(&layout, ALFA), FormFault::Layout);
}

// PEC-PR-09
#[test]
fn a_virus_does_not_make_an_envelope_incorrect() {
    let eicar = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";
    let infected = with(ENVELOPE, "Si allega istanza.", eicar);
    assert!(matches!(judged(&infected, ALFA), Class::Envelope(_)));
}

// PEC-BA-09 PEC-MC-02 PEC-PC-01 PEC-PC-02: receipts are made of a `VerifiedEnvelope`, and neither
// an anomaly envelope, nor ordinary mail, nor a receipt, ever becomes one
#[test]
fn only_a_correct_envelope_can_be_answered() {
    for (octets, signer) in [(ANOMALY, BETA), (DELIVERY, BETA), (ACCEPTANCE, ALFA)] {
        assert!(!matches!(judged(octets, signer), Class::Envelope(_)));
    }
    let ordinary = judged_for(ORIGINAL, Err(OriginFault::NotSigned), SENDER, &[PROTOCOLLO]);
    assert_eq!(ordinary, Class::Ordinary(OriginFault::NotSigned));
}

// PEC-PR-27
#[test]
fn a_receipt_counts_only_from_the_provider_of_its_recipient() {
    let header = header_of(DELIVERY);
    let from = "From: posta-certificata@";
    let another = header.replace(&format!("{from}betacert"), &format!("{from}alfapec"));
    let by_another = message(&another, Some(RECEIPT_XML), None);
    let text = "the signer speaks for protocollo@pec.comune.example, of Beta Certificata S.r.l.";
    let FormFault::Mandate(told, _) = fault(&by_another, ALFA) else { panic!("believed") };
    assert_eq!(told, text);
    // What the sender's own provider tells, no other does.
    for (octets, from) in
        [(ACCEPTANCE, ALFA), (NON_ACCEPTANCE, ALFA), (LATE_FIRST, ALFA), (NON_DELIVERY_VIRUS, ALFA)]
    {
        let octets = with(octets, &format!("From: {from}"), &format!("From: {BETA}"));
        let octets = with_data(&octets, "protocollo@pec.comune", "protocollo@pec.rossi");
        let FormFault::Mandate(..) = fault(&octets, BETA) else { panic!("believed") };
    }
    let class = judged(&message(&header, Some(RECEIPT_XML), None), BETA);
    let Class::Notification(notification) = class else { panic!("{class:?}") };
    assert!(notification.is_authoritative());
    // One of several is another's
    let xml = include_str!("../../examples/daticert/presa-in-carico.xml");
    let xml = xml.replace("<ricezione>ufficio@pec.comune", "<ricezione>info@ordinaria");
    let class = judged(&message(&header_of(TAKE_CHARGE), Some(&xml), None), BETA);
    assert_eq!(class.remarks(), ["no provider of the index manages ordinaria.example"]);
    let Class::Notification(notification) = class else { panic!("{class:?}") };
    assert!(!notification.is_authoritative());
}

// PEC-PR-06: doubt D-21
#[test]
fn an_author_of_a_domain_that_is_not_managed_is_told_of() {
    let (index, _) = Index::from_ldif(INDEX).unwrap();
    let records = [&index.records()[0]];
    let emails = ["posta-certificata@altrove.example".to_owned()];
    let octets = with(ACCEPTANCE, ALFA, &emails[0]);
    let examination = crate::inspect::examine(&octets);
    let routing = Routing { reverse_path: &ReversePath::Null, forward_paths: &[] };
    let signed_by = |strict_author| SignedBy {
        records: &records,
        emails: &emails,
        index: &index,
        strict_author,
    };
    let class = judge(&examination, Ok(signed_by(false)), &routing);
    assert_eq!(class.remarks(), ["altrove.example is no domain of the signer (PEC-PR-06)"]);
    let Class::Notification(notification) = class else { panic!("{class:?}") };
    assert!(!notification.manages_author());
    let class = judge(&examination, Ok(signed_by(true)), &routing);
    let fault = FormFault::AuthorNotManaged(Domain::parse("altrove.example").unwrap());
    assert_eq!(class, Class::Anomaly(fault));
}

// PEC-IDX-13 PEC-PIC-04
#[test]
fn of_several_records_the_one_of_the_senders_domain_is_meant() {
    let (index, _) = Index::from_ldif(INDEX).unwrap();
    let [alfa, beta, unit] = index.records() else { panic!("three records") };
    let domain = |text: &str| Domain::parse(text).unwrap();
    let both = [unit, beta];
    let found = |sender: &str| record(&both, &domain(sender)).unwrap().mail_receipt.to_string();
    assert_eq!(found("personale.betacert.example"), "presaincarico@sec.betacert.example");
    assert_eq!(found("pec.comune.example"), "presaincarico@betacert.example");
    assert_eq!(found("altrove.example"), "presaincarico@betacert.example");
    assert_eq!(record(&[], &domain("x.example")), None);
    let receipts_to = envelope().receipts_to().clone();
    assert_eq!(receipts_to, alfa.mail_receipt);
}

#[test]
fn a_job_can_carry_what_was_judged() {
    let envelope = envelope();
    let json = serde_json::to_string(&envelope).unwrap();
    assert_eq!(serde_json::from_str::<VerifiedEnvelope>(&json).unwrap(), envelope);
    assert_eq!(envelope.exchange().recipients[1].kind, RecipientKind::Ordinary);
}
