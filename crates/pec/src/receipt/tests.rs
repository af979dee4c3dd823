use super::*;
use crate::incoming::Class;
use crate::testing::*;

fn verified_notification(octets: &[u8], signer: &str) -> VerifiedNotification {
    match judged(octets, signer) {
        Class::Notification(notification) => *notification,
        other => panic!("no notification: {other:?}"),
    }
}

fn sealed(unsigned: Unsigned) -> String {
    String::from_utf8(unsigned.seal(b"x")).unwrap()
}

// PEC-RA-01 PEC-RA-02 PEC-RA-03 PEC-RA-04 PEC-DT-05 PEC-DT-07 PEC-FMT-01 PEC-FMT-02 PEC-FMT-05
// PEC-FMT-11 PEC-SIG-02 PEC-SIG-05
#[test]
fn the_acceptance_receipt_is_the_example() {
    let receipt = acceptance(&accepted(), &alfa(), fresh("20260914093012.a1@alfapec.example"));
    assert_is_example(&receipt, ACCEPTANCE);
}

// PEC-NA-01 PEC-NA-02 PEC-NA-03 PEC-NA-04
#[test]
fn the_non_acceptance_notice_is_the_example() {
    let header_without = with(SUBMITTED, ", info@ordinaria.example", "");
    let forward = [PROTOCOLLO, ORDINARY, UFFICIO];
    let refused = submit(&header_without, &forward, &crate::access::Limits::default());
    let refused = refused.unwrap_err();
    let id = "20260914093012.e1@alfapec.example";
    let notice = non_acceptance(&refused, &alfa(), fresh(id));
    // The example names a recipient who is not among its own `destinatari`.
    let text = sealed(notice);
    let xml = {
        let exchange = refused.exchange();
        let event = Event::NonAcceptance { reason: refused.reason() };
        Certification::of(&event, exchange, refused.at(), "Alfa PEC S.p.A.").write()
    };
    let example = include_str!("../../examples/daticert/non-accettazione.xml");
    // And says after `a causa di` what reads badly there: ours puts a noun before it.
    let example =
        example.replace("esteso>il destin", "esteso>un errore nei destinatari: il destin");
    assert_eq!(xml, example.replace("nascosto@pec.comune.example", ORDINARY));
    assert!(text.starts_with(
        "X-Ricevuta: non-accettazione\r\nDate: Mon, 14 Sep 2026 09:30:12 +0200\r\n\
         Subject: AVVISO DI NON ACCETTAZIONE:\r\n =?utf-8?q?Istanza_"
    ));
    let receipt =
        Receipt { provider: &alfa(), exchange: &exchange(), at: at("09:30:12"), fresh: fresh(id) };
    let reason =
        "il destinatario nascosto@pec.comune.example non compare nei campi To e Cc del messaggio";
    let notice = receipt.make(Event::NonAcceptance { reason }, &address(SENDER), None);
    assert_is_example(&notice, NON_ACCEPTANCE);
}

// PEC-NA-05 PEC-NA-06 PEC-NA-07 PEC-NA-08
#[test]
fn the_non_acceptance_notice_for_a_virus_is_the_example() {
    let id = fresh("20260914093012.e2@alfapec.example");
    let refused = infected("EICAR-Test-File");
    assert!(refused.is_infected());
    let notice = non_acceptance(&refused, &alfa(), id);
    assert_is_example(&notice, NON_ACCEPTANCE_VIRUS);
}

// PEC-PIC-01 PEC-PIC-03 PEC-PIC-04 PEC-PIC-05 PEC-PIC-06
#[test]
fn the_take_charge_receipt_is_the_example() {
    let ours = addresses(&[PROTOCOLLO, UFFICIO]);
    let id = fresh("20260914093014.b1@betacert.example");
    let receipt = take_charge(&envelope(), &ours, &beta(), at("09:30:14"), id);
    assert_is_example(&receipt, TAKE_CHARGE);
}

// PEC-RC-05 PEC-RC-06 PEC-RC-07 PEC-RC-08 PEC-RC-09 PEC-FMT-04
#[test]
fn delivery_receipts_are_the_examples() {
    let asked = |form: &str| {
        let octets = with(ENVELOPE, "X-TipoRicevuta: completa", &format!("X-TipoRicevuta: {form}"));
        with_data(&octets, "tipo=\"completa\"", &format!("tipo=\"{form}\""))
    };
    let (brief, concise) = (asked("breve"), asked("sintetica"));
    for (octets, recipient, id, example) in [
        (ENVELOPE, PROTOCOLLO, "20260914093015.c1@betacert.example", DELIVERY),
        (ENVELOPE, UFFICIO, "20260914093015.c2@betacert.example", DELIVERY_COPY),
        (&brief, PROTOCOLLO, "20260914093015.c3@betacert.example", DELIVERY_BRIEF),
        (&concise, PROTOCOLLO, "20260914093015.c4@betacert.example", DELIVERY_CONCISE),
    ] {
        let receipt = delivery(
            &verified(octets),
            octets,
            &address(recipient),
            Hashed::Encoded,
            &beta(),
            at("09:30:15"),
            fresh(id),
        );
        assert_is_example(&receipt, example);
    }
}

// PEC-MC-03 PEC-MC-04 PEC-MC-05 PEC-MC-07 PEC-MC-08
#[test]
fn the_non_delivery_notice_is_the_example() {
    let failure = Failure::UnknownMailbox;
    let id = fresh("20260914093015.d1@betacert.example");
    let recipient = address(PROTOCOLLO);
    let notice = non_delivery(&envelope(), &recipient, &failure, &beta(), at("09:30:15"), id);
    assert_is_example(&notice, NON_DELIVERY);
}

// PEC-RV-02 PEC-RV-03 PEC-RV-04 PEC-RV-05 PEC-RV-06
#[test]
fn the_virus_detection_notice_is_the_example() {
    let id = fresh("20260914093014.f1@betacert.example");
    let recipient = address(PROTOCOLLO);
    let notice =
        virus_found(&envelope(), &recipient, "EICAR-Test-File", &beta(), at("09:30:14"), id);
    assert_is_example(&notice, VIRUS_FOUND);
}

// PEC-MCV-01 PEC-MCV-02 PEC-MCV-03 PEC-MCV-04 PEC-MCV-05
#[test]
fn the_non_delivery_notice_for_a_virus_has_the_data_of_the_detection() {
    let found = verified_notification(VIRUS_FOUND, BETA);
    let id = fresh("20260914093020.f2@alfapec.example");
    let notice = non_delivery_virus(&found, &alfa(), at("09:30:20"), id.clone()).unwrap();
    let text = sealed(notice);
    // The subject is encoded anew from `oggetto`: no signed part has the field as it was.
    let subject = "Subject: AVVISO DI MANCATA CONSEGNA PER VIRUS:\r\n ";
    assert!(text.starts_with(&format!(
        "X-Ricevuta: errore-consegna\r\nX-VerificaSicurezza: errore\r\n\
         Date: Mon, 14 Sep 2026 09:30:20 +0200\r\n{subject}"
    )));
    assert!(text.contains("\r\nTo: mario.rossi@pec.rossi.example\r\n"));
    let same_subject = exchange();
    let receipt = Receipt {
        provider: &alfa(),
        exchange: &same_subject,
        at: at("09:30:20"),
        fresh: id.clone(),
    };
    let (recipient, virus) = (address(PROTOCOLLO), "EICAR-Test-File");
    let event = Event::NonDeliveryVirus { recipient: &recipient, virus };
    let notice = receipt.make(event, &address(SENDER), None);
    assert_is_example(&notice, NON_DELIVERY_VIRUS);
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(sealed(notice).ends_with(body));
    let taken = verified_notification(TAKE_CHARGE, BETA);
    assert_eq!(non_delivery_virus(&taken, &alfa(), at("09:30:20"), id), None);
}

// PEC-RV-06
#[test]
fn an_older_detection_has_its_recipient_in_ricezione() {
    let xml = include_str!("../../examples/daticert/rilevazione-virus.xml");
    let older = xml.replace("consegna>", "ricezione>");
    let header = header_of(VIRUS_FOUND);
    let found = verified_notification(&message(&header, Some(&older), None), BETA);
    assert!(found.is_authoritative());
    let id = fresh("a@alfapec.example");
    let notice = sealed(non_delivery_virus(&found, &alfa(), at("09:30:20"), id).unwrap());
    assert!(notice.contains("destinato all'utente \"p=\r\nrotocollo@pec.comune.example\"\r\n"));
    let nobody = older.replace(&format!("<ricezione>{PROTOCOLLO}</ricezione>"), "");
    // About nobody, it is no virus notice.
    let class = judged(&message(&header, Some(&nobody), None), BETA);
    assert!(matches!(class, Class::Anomaly(_)), "{class:?}");
}

// PEC-TO-07 PEC-TO-08 PEC-TO-09 PEC-TO-10 PEC-TO-11 PEC-TO-12
#[test]
fn the_notices_of_late_delivery_are_the_examples() {
    let second = Moment::parse("15/09/2026", "08:30:13", "+0200").unwrap();
    for (notice, at, id, example) in [
        (Notice::First, at("21:30:13"), "20260914213013.g1@alfapec.example", LATE_FIRST),
        (Notice::Second, second, "20260915083013.g2@alfapec.example", LATE_SECOND),
    ] {
        let recipient = address(PROTOCOLLO);
        let notice = late(&exchange(), &recipient, notice, &alfa(), at, fresh(id));
        assert_is_example(&notice, example);
    }
}

// PEC-AP-24
#[test]
fn a_receipt_has_an_identifier_of_its_own() {
    let text = sealed(acceptance(&accepted(), &alfa(), fresh("fresh@alfapec.example")));
    let (header, _) = text.split_once("\r\n\r\n").unwrap();
    assert!(header.contains("\r\nMessage-ID: <fresh@alfapec.example>\r\n"));
    assert!(!header.contains(IDENTIFIER));
}

// PEC-AP-23
#[test]
fn without_a_message_id_nothing_refers_to_one() {
    let id = "Message-ID: <20260914.093001.7f3a@pc-mario.example>\r\n";
    let forward = [PROTOCOLLO, ORDINARY, UFFICIO];
    let submission = submit(&with(SUBMITTED, id, ""), &forward, &Default::default()).unwrap();
    let (accepted, original) = submission.into_parts();
    let receipt = sealed(acceptance(&accepted, &alfa(), fresh("a@alfapec.example")));
    assert!(!receipt.contains("X-Riferimento-Message-ID"));
    assert!(!String::from_utf8(original).unwrap().contains("X-Riferimento-Message-ID"));
    let data = Certification::of(&Event::Acceptance, accepted.exchange(), accepted.at(), "A");
    assert!(!data.write().contains("msgid"));
}

// PEC-GEN-15
#[test]
fn receipts_go_to_the_reverse_path_whatever_reply_to_says() {
    let octets = with(SUBMITTED, "Cc: ", "Reply-To: altro@pec.rossi.example\r\nCc: ");
    let forward = [PROTOCOLLO, ORDINARY, UFFICIO];
    let (accepted, original) = submit(&octets, &forward, &Default::default()).unwrap().into_parts();
    let receipt = sealed(acceptance(&accepted, &alfa(), fresh("a@alfapec.example")));
    assert!(receipt.contains("\r\nTo: mario.rossi@pec.rossi.example\r\n"));
    let envelope = crate::envelope::enclose(&accepted, &original, &alfa(), 7).seal(b"x");
    let recipient = address(PROTOCOLLO);
    let delivery = delivery(
        &verified(&envelope),
        &envelope,
        &recipient,
        Hashed::Encoded,
        &beta(),
        at("09:30:15"),
        fresh("b@betacert.example"),
    );
    let delivery = sealed(delivery);
    let (header, _) = delivery.split_once("\r\n\r\n").unwrap();
    assert!(header.contains("\r\nTo: mario.rossi@pec.rossi.example\r\n"), "{header}");
    assert!(!header.contains("altro@"));
}

#[test]
fn each_kind_has_its_word() {
    for kind in ReceiptKind::ALL {
        assert_eq!(ReceiptKind::parse(kind.x_ricevuta()), Some(kind));
    }
    assert_eq!(ReceiptKind::parse("mancata-consegna"), None);
}

// PEC-GEN-10 PEC-DT-07
#[test]
fn receipt_and_envelope_tell_of_one_instant() {
    let (accepted, original) = submission().into_parts();
    let receipt = acceptance(&accepted, &alfa(), fresh("a@alfapec.example")).seal(b"x");
    let envelope = crate::envelope::enclose(&accepted, &original, &alfa(), 8).seal(b"x");
    for octets in [&receipt, &envelope] {
        let examination = crate::inspect::examine(octets);
        let date = examination.message().field("Date").unwrap().unfolded();
        assert_eq!(date, "Mon, 14 Sep 2026 09:30:12 +0200");
        let parts = examination.parts().unwrap();
        let xml = parts.certifications[0].certification().unwrap();
        assert_eq!(Certification::parse(&xml).unwrap().at, accepted.at());
        let text = parts.text.unwrap().text().unwrap();
        assert!(text.contains("Il giorno 14/09/2026 alle ore 09:30:12 (+0200)"));
    }
}

// PEC-PIC-02 PEC-PR-22
#[test]
fn two_kinds_are_for_providers_only() {
    let for_providers: Vec<_> =
        ReceiptKind::ALL.into_iter().filter(|k| k.is_for_providers()).collect();
    assert_eq!(for_providers, [ReceiptKind::TakeCharge, ReceiptKind::VirusFound]);
    assert_eq!(envelope().receipts_to(), &address("ricevute@alfapec.example"));
}
