use super::*;
use crate::testing::*;

const ALL: [&str; 3] = [PROTOCOLLO, ORDINARY, UFFICIO];

fn reason(octets: &[u8], forward: &[&str]) -> Option<String> {
    let refused = submit(octets, forward, &Limits::default()).err()?;
    // It is read after `a causa di`, in every notice: a noun, and what to change (PEC-NA-02).
    let (noun, what) = refused.reason().split_once(": ").unwrap();
    assert!(noun.starts_with("un errore ne"), "{noun}");
    Some(what.to_owned())
}

/// A message to PROTOCOLLO with this header.
fn header(header: &str) -> Vec<u8> {
    format!("{}\r\n\r\nciao\r\n", header.replace('\n', "\r\n")).into_bytes()
}

// PEC-BT-01 PEC-AP-20 PEC-AP-21 PEC-AP-22 PEC-GEN-12 PEC-AP-28
#[test]
fn the_original_of_the_examples_is_certified() {
    let submission = submission();
    assert_eq!(submission.original(), ORIGINAL);
    let exchange = submission.exchange();
    assert_eq!(exchange.identifier.as_str(), IDENTIFIER);
    assert_eq!(exchange.msgid.as_deref(), Some("<20260914.093001.7f3a@pc-mario.example>"));
    assert_eq!(exchange.sender, address(SENDER));
    assert_eq!(exchange.subject_text(), "Istanza di accesso agli atti n. 12/2026 – città");
    assert_eq!(exchange.replies_to, SENDER);
}

// PEC-AP-18
#[test]
fn recipients_are_typed_by_their_domain() {
    let submission = submission();
    let recipients = &submission.exchange().recipients;
    let typed: Vec<_> = recipients.iter().map(|r| (r.address.to_string(), r.kind)).collect();
    assert_eq!(
        typed,
        [
            (PROTOCOLLO.to_owned(), RecipientKind::Certified),
            (ORDINARY.to_owned(), RecipientKind::Ordinary),
            (UFFICIO.to_owned(), RecipientKind::Certified),
        ]
    );
    let certified: Vec<_> = submission.exchange().certified().cloned().collect();
    assert_eq!(certified, addresses(&[PROTOCOLLO, UFFICIO]));
}

// PEC-AP-03 PEC-AP-04 PEC-AP-05 PEC-AP-06 PEC-AP-07 PEC-AP-09 PEC-AP-10 PEC-AP-12 PEC-AP-13
// PEC-GEN-14
#[test]
fn each_check_has_its_sentence() {
    const FROM: &str = "il campo From è assente o non valido";
    const TO: &str = "il campo To è assente o non valido";
    const BCC: &str = "il messaggio contiene destinatari nel campo Bcc";
    const CONTROL: &str = "l'intestazione del messaggio contiene caratteri di controllo: toglierli";
    const TO_OK: &str = "\nTo: protocollo@pec.comune.example";
    let ok = format!("From: mario.rossi@pec.rossi.example{TO_OK}");
    let from = |remedy: &str| format!("{FROM}: {remedy}");
    let to = |remedy: &str| format!("{TO}: {remedy}");
    let no_author = from("non contiene un indirizzo corretto, correggerlo");
    let nobody = to("non contiene indirizzi corretti, indicarvi almeno un destinatario");
    let more_fields = format!("{ok}{}", "\nX: y".repeat(FIELDS - 2));
    let longer = {
        let octets = |text: &str| text.len() + text.matches('\n').count() + "\r\n".len();
        let mut text = ok.clone() + "\nX: y";
        while octets(&text) + 903 <= HEADER_OCTETS {
            text += &format!("\n {}", "y".repeat(900));
        }
        let more = "y".repeat(HEADER_OCTETS - octets(&text) - "\r\n ".len());
        format!("{text}\n {more}")
    };
    for (text, expected) in [
        (TO_OK[1..].to_owned(), &from("manca, indicarvi l'indirizzo del mittente")[..]),
        (format!("From:{TO_OK}"), &no_author),
        (format!("From: Mario Rossi{TO_OK}"), &no_author),
        (
            format!("From: mario.rossi@pec.rossi.example, b@pec.rossi.example{TO_OK}"),
            &from("contiene più indirizzi, lasciarne uno solo"),
        ),
        (
            format!("From: altro@pec.rossi.example{TO_OK}"),
            "l'indirizzo del mittente nei dati di instradamento non coincide con il campo From",
        ),
        (
            "From: mario.rossi@pec.rossi.example".into(),
            &to("manca, indicarvi almeno un destinatario"),
        ),
        ("From: mario.rossi@pec.rossi.example\nTo: undisclosed-recipients:;".into(), &nobody),
        ("From: mario.rossi@pec.rossi.example\nTo: protocollo".into(), &nobody),
        (
            ok.clone() + "\nCc: @",
            "il campo Cc non è valido: non contiene indirizzi corretti, correggerlo",
        ),
        (ok.clone() + "\nBcc: nascosto@pec.comune.example", BCC),
        (ok.clone() + "\nBcc: non un indirizzo", BCC),
        (
            ok.replace("protocollo@", "altri@"),
            "il destinatario protocollo@pec.comune.example non compare nei campi To e Cc del \
             messaggio",
        ),
        (
            ok.clone() + "\nCc: altri@pec.comune.example",
            "l'indirizzo altri@pec.comune.example nei campi To e Cc non compare nei dati di \
             instradamento: inviare il messaggio anche a questo indirizzo, oppure toglierlo",
        ),
        (
            ok.clone() + "\nFrom: mario.rossi@pec.rossi.example",
            "il campo From compare più volte nell'intestazione del messaggio: lasciarne uno solo",
        ),
        (
            ok.clone() + "\nSubject: a\nSubject: b",
            "il campo Subject compare più volte nell'intestazione del messaggio: lasciarne uno \
             solo",
        ),
        (
            ok.clone() + "\nContent-Type: text/plain\ncontent-type: text/html",
            "il campo Content-Type compare più volte nell'intestazione del messaggio: lasciarne \
             uno solo",
        ),
        (
            ok.clone() + "\nnon un campo",
            "l'intestazione del messaggio contiene una riga che non è un campo: correggere o \
             togliere la riga",
        ),
        (ok.clone() + "\nX: a\0b", CONTROL),
        (ok.clone() + "\nX: a\rBcc: b", CONTROL),
        (
            ok.clone() + "\nReferences: <città@b.example>",
            "l'intestazione del messaggio contiene caratteri non codificati a 7 bit: codificarli \
             secondo la RFC 2047, o scriverli senza accenti",
        ),
        (
            more_fields.clone() + "\nX: y",
            "l'intestazione del messaggio ha più campi del massimo consentito, 1984: toglierne",
        ),
        (
            longer.clone() + "x",
            "l'intestazione del messaggio supera il massimo consentito, 253952 byte: accorciarne \
             i campi più lunghi",
        ),
        (
            ok.clone() + "\nContent-Type: multipart/mixed; boundary=b\n\nciao \0",
            "il messaggio contiene caratteri nulli: toglierli",
        ),
        (
            ok.clone() + "\nContent-Type: message/partial\n\n" + &"x".repeat(999),
            "il messaggio contiene una riga di oltre 998 caratteri: spezzare la riga, o codificare \
             la parte che la contiene",
        ),
        (
            ok.clone() + "\nContent-Type: message/partial\n\ncittà",
            "il messaggio contiene caratteri non codificati a 7 bit: codificare le parti che li \
             contengono",
        ),
    ] {
        let shown = text.get(..200).unwrap_or(&text);
        assert_eq!(reason(&header(&text), &[PROTOCOLLO]).as_deref(), Some(expected), "{shown}");
    }
    // The longest header and the most fields there may be.
    assert_eq!(reason(&header(&more_fields), &[PROTOCOLLO]), None);
    assert_eq!(reason(&header(&longer), &[PROTOCOLLO]), None);
    for text in [
        ok.clone(),
        ok.clone() + "\nBcc:",
        ok.clone() + "\nCc:",
        // Comments, groups, names, folding, and any case (PEC-AP-11)
        "From: (io) Mario <MARIO.Rossi@PEC.rossi.example> (Rossi)\nTo: ufficio: \"P, A\"\n \
         <Protocollo@pec.COMUNE.example>;"
            .into(),
    ] {
        assert_eq!(reason(&header(&text), &[PROTOCOLLO]), None, "{text}");
    }
    assert_eq!(
        reason(&header(&ok), &[]).as_deref(),
        Some("il messaggio non ha destinatari: indicarne almeno uno")
    );
}

// PEC-AP-11
#[test]
fn addresses_are_compared_without_case_and_names() {
    let octets =
        with(SUBMITTED, "Mario Rossi <mario.rossi@pec.rossi", "\"x@y\" <Mario.ROSSI@Pec.rossi");
    let forward = ["PROTOCOLLO@pec.comune.example", "INFO@Ordinaria.example", UFFICIO];
    assert_eq!(reason(&octets, &forward), None);
}

// PEC-AP-13: doubt D-04
#[test]
fn that_all_named_are_routed_can_be_left_unasked() {
    let lenient = Limits::new(0, 0, false);
    assert!(submit(SUBMITTED, &[PROTOCOLLO], &lenient).is_ok());
    assert_eq!(
        submit(SUBMITTED, &[PROTOCOLLO, "x@y.example"], &lenient).unwrap_err().reason(),
        "un errore nei destinatari: il destinatario x@y.example non compare nei campi To e Cc del \
         messaggio"
    );
    assert!(reason(SUBMITTED, &[PROTOCOLLO]).is_some());
}

// PEC-AP-08 PEC-AP-15 PEC-AP-16
#[test]
fn size_times_recipients_is_limited_and_the_least_is_guaranteed() {
    let limits = Limits::new(1, 1, true);
    assert_eq!(limits, Limits::new(PRODUCT_OCTETS_GUARANTEED, RECIPIENTS_GUARANTEED, true));
    assert!(limits.allow(30 * 1024 * 1024, 1));
    assert!(!limits.allow(30 * 1024 * 1024 + 1, 1));
    assert!(limits.allow(629_145, 50) && !limits.allow(629_146, 50));
    assert!(!limits.allow(usize::MAX, usize::MAX));
    assert!(Limits::new(100 * 1024 * 1024, 500, true).allow(50 * 1024 * 1024, 2));

    let mut octets =
        header("From: mario.rossi@pec.rossi.example\nTo: protocollo@pec.comune.example");
    let line = b"linea di testo, per riempire il messaggio fino al suo limite, e non oltre. \r\n";
    while octets.len() + line.len() <= 30 * 1024 * 1024 {
        octets.extend_from_slice(line);
    }
    octets.resize(30 * 1024 * 1024 - 2, b'x');
    octets.extend_from_slice(b"\r\n");
    assert_eq!(reason(&octets, &[PROTOCOLLO]), None);
    octets.splice(octets.len() - 2.., *b"x\r\n");
    assert_eq!(
        reason(&octets, &[PROTOCOLLO]).as_deref(),
        Some(
            "ecceduta la dimensione massima del messaggio, che è di 31457280 byte per un \
             destinatario: ridurre gli allegati"
        )
    );
}

// PEC-AP-15 PEC-SLA-01
#[test]
fn recipients_are_counted_once_and_bounded() {
    let names: Vec<String> = (0..501).map(|n| format!("u{n}@pec.comune.example")).collect();
    let to = |count: usize| header(&format!("From: {SENDER}\nTo: {}", names[..count].join(",\n ")));
    let forward = |count: usize| names[..count].iter().map(|n| &n[..]).collect::<Vec<_>>();
    let submission = submit(&to(500), &forward(500), &Limits::default()).unwrap();
    assert_eq!(submission.exchange().recipients.len(), 500);
    assert_eq!(
        reason(&to(501), &forward(501)).as_deref(),
        Some(
            "i destinatari del messaggio sono più del massimo consentito, 500: inviare a meno \
             destinatari per volta"
        )
    );
    let fifty = Limits::new(0, 0, true);
    assert!(submit(&to(50), &forward(50), &fifty).is_ok());
    assert!(submit(&to(51), &forward(51), &fifty).is_err());
    let twice = [PROTOCOLLO, ORDINARY, UFFICIO, "Protocollo@pec.comune.example"];
    let submission = submit(SUBMITTED, &twice, &Limits::default()).unwrap();
    assert_eq!(submission.exchange().recipients.len(), 3);
}

// PEC-AP-14
#[test]
fn what_cannot_be_read_still_gets_its_notice() {
    let refused =
        submit(b"\0\xff garbage", &[PROTOCOLLO, ORDINARY], &Limits::default()).unwrap_err();
    let exchange = refused.exchange();
    assert_eq!((exchange.subject_text(), &exchange.msgid), ("", &None));
    let recipients: Vec<_> = exchange.recipients.iter().map(|r| r.address.to_string()).collect();
    assert_eq!(recipients, [PROTOCOLLO, ORDINARY]);
    let notice = crate::receipt::non_acceptance(&refused, &alfa(), fresh("a@alfapec.example"));
    let text = String::from_utf8(notice.seal(b"x")).unwrap();
    assert!(text.contains("\r\nSubject: AVVISO DI NON ACCETTAZIONE:\r\n"));
    assert!(text.contains("\r\n\"\" proveniente da \"mario.rossi@pec.rossi.example\"\r\n"));
    assert!(text.contains(&format!("\r\n{PROTOCOLLO}\r\n{ORDINARY}\r\n")));
}

// PEC-AP-21 PEC-AP-22 PEC-AP-25
#[test]
fn what_a_user_could_forge_is_removed_and_all_else_is_kept() {
    let forged = "X-Ricevuta: avvenuta-consegna\r\nX-TRASPORTO: posta-certificata\r\n\
        X-Riferimento-Message-ID: <altro@x>\r\nX-VerificaSicurezza: errore\r\n\
        X-Mittente:\r\n altro@x\r\n";
    let kept = "X-Altro:  due   spazi \r\n\te una piega\r\n";
    let octets = [forged.as_bytes(), kept.as_bytes(), SUBMITTED].concat();
    let submission = submit(&octets, &ALL, &Limits::default()).unwrap();
    let expected = [trace(), kept.as_bytes(), &ORIGINAL[trace().len()..]].concat();
    assert_eq!(String::from_utf8_lossy(submission.original()), String::from_utf8_lossy(&expected));
}

#[test]
fn a_message_id_is_quoted_as_far_as_it_is_one() {
    for (value, msgid) in [
        (" <a@b>", Some("<a@b>")),
        (" a@b", Some("<a@b>")),
        ("\r\n <a@b> (x)", Some("<a@b>")),
        (" <a b@c>", Some("<ab@c>")),
        (" <>", None),
        ("", None),
    ] {
        let octets = with(SUBMITTED, " <20260914.093001.7f3a@pc-mario.example>", value);
        let submission = submit(&octets, &ALL, &Limits::default()).unwrap();
        assert_eq!(submission.exchange().msgid.as_deref(), msgid, "{value}");
    }
    let long = format!(" <{}>", "x".repeat(970));
    let octets = with(SUBMITTED, " <20260914.093001.7f3a@pc-mario.example>", &long);
    let submission = submit(&octets, &ALL, &Limits::default()).unwrap();
    assert_eq!(submission.exchange().msgid.as_ref().unwrap().len(), 902);
}

// PEC-FMT-08 PEC-FMT-10
#[test]
fn eight_bit_text_is_made_safe_before_it_is_certified_or_refused() {
    let eight = with(SUBMITTED, "Si allega istanza.", "Si allega già istanza.");
    let submission = submit(&eight, &ALL, &Limits::default()).unwrap();
    assert!(submission.original().is_ascii());
    let text = String::from_utf8(submission.original().to_vec()).unwrap();
    assert!(text.contains("Si allega gi=C3=A0 istanza."));
    let signed = with(&eight, "multipart/mixed", "multipart/signed");
    let subject = with(SUBMITTED, "\r\nTo:", "\r\nX-Ufficio: citt\u{e0}\r\nTo:");
    let submission = submit(&subject, &ALL, &Limits::default()).unwrap();
    let text = String::from_utf8(submission.original().to_vec()).unwrap();
    assert!(text.contains("\r\nX-Ufficio: =?utf-8?Q?citt=C3=A0?=\r\nTo:"), "{text}");
    assert_eq!(
        reason(&with(SUBMITTED, "\r\nTo:", "\r\nReply-To: nicol\u{f2}@b.example\r\nTo:"), &ALL)
            .as_deref(),
        Some(
            "l'intestazione del messaggio contiene caratteri non codificati a 7 bit: codificarli \
             secondo la RFC 2047, o scriverli senza accenti"
        )
    );
    assert_eq!(
        reason(&signed, &ALL).as_deref(),
        Some(
            "il messaggio firmato contiene caratteri non codificati a 7 bit: codificarli prima di \
             firmare il messaggio"
        )
    );
    assert!(reason(&with(SUBMITTED, "allega", "alle\0ga"), &ALL).is_some());
}

#[test]
fn the_addresses_of_the_service_take_no_mail_of_users() {
    for service in ["posta-certificata@alfapec.example", "Ricevute@ALFApec.example"] {
        let octets = header(&format!("From: {SENDER}\nTo: {service}"));
        let said = reason(&octets, &[service]).unwrap();
        assert_eq!(
            said.to_lowercase(),
            format!(
                "l'indirizzo {service} è riservato al servizio di posta certificata: toglierlo dai \
                 destinatari"
            )
            .to_lowercase()
        );
    }
}

#[test]
fn a_trace_tells_where_a_message_came_from_and_nothing_more() {
    let trace = Trace {
        client_name: "pc-mario.example",
        client: "192.0.2.10".parse().unwrap(),
        by: "smtps.alfapec.example",
        protocol: "ESMTPSA",
        id: "4XyZ01",
    };
    assert_eq!(
        String::from_utf8(trace_field(&trace, at("09:30:12"))).unwrap(),
        "Received: from pc-mario.example ([192.0.2.10])\r\n by smtps.alfapec.example with \
         ESMTPSA id 4XyZ01;\r\n Mon, 14 Sep 2026 09:30:12 +0200\r\n"
    );
    let client_name = "x\r\nX-Trasporto: posta-certificata (;";
    let trace = Trace { client_name, client: "2001:db8::1".parse().unwrap(), ..trace };
    let field = String::from_utf8(trace_field(&trace, at("09:30:12"))).unwrap();
    assert!(
        field.starts_with(
            "Received: from xX-Trasporto:posta-certificata ([IPv6:2001:db8::1])\r\n by "
        )
    );
    let trace = Trace { client_name: "\u{e8}", ..trace };
    let field = String::from_utf8(trace_field(&trace, at("09:30:12"))).unwrap();
    assert!(field.starts_with("Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n by "));
}

#[test]
fn a_job_can_carry_what_was_decided() {
    let accepted = accepted();
    let json = serde_json::to_string(&accepted).unwrap();
    assert_eq!(serde_json::from_str::<Accepted>(&json).unwrap(), accepted);
    let refused = submit(b"", &[PROTOCOLLO], &Limits::default()).unwrap_err();
    let json = serde_json::to_string(&refused).unwrap();
    assert_eq!(serde_json::from_str::<NonAcceptance>(&json).unwrap(), *refused);
}

#[test]
fn a_deep_original_is_certified_like_any_other() {
    let mut octets = format!("From: {SENDER}\r\nTo: {PROTOCOLLO}\r\nMIME-Version: 1.0\r\n");
    for depth in 0..10_000 {
        octets +=
            &format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n");
    }
    octets += "Content-Type: text/plain\r\n\r\nin fondo\r\n";
    let submission = submit(octets.as_bytes(), &[PROTOCOLLO], &Limits::default()).unwrap();
    let envelope =
        crate::envelope::enclose(submission.accepted(), submission.original(), &alfa(), 7);
    let octets = envelope.seal(b"x");
    let class = judged_for(&octets, Ok(ALFA), SENDER, &[PROTOCOLLO]);
    let crate::incoming::Class::Envelope(verified) = class else { panic!("{class:?}") };
    assert_eq!(verified.original(&octets), submission.original());
}

/// What the access point takes, however long its header, is what the incoming point holds for an
/// envelope: otherwise it would wait for ever.
// PEC-GEN-09 PEC-AP-09 PEC-BT-02
#[test]
fn the_longest_header_and_the_oddest_fields_travel() {
    let ok = format!("From: {SENDER}\nTo: {PROTOCOLLO}");
    let folded = |name: &str, lines: usize| {
        format!("{ok}\n{name}: x{}", format!("\n {}", "y".repeat(900)).repeat(lines))
    };
    let blank = format!("{ok}\nSubject: x\n \n{}", " \"?_=\" \"?_=\"\n".repeat(6_000));
    let many = format!("{ok}{}", "\nX: y".repeat(FIELDS - 2));
    for text in [
        many,
        folded("Subject", 270),
        folded("X-Altro", 270),
        folded("Reply-To", 270),
        format!("{ok}\nSubject: =?utf-8?Q?a=EF=BF=BEb=EF=BF=BF=C2=85c?="),
        format!("{ok}\nSubject: =?utf-8?Q?=0D=0ABcc:_x?= =?utf-8?B?//8=?= =?utf-7?Q?x?="),
        format!("{ok}\nSubject:"),
        // What is encoded for them
        format!(
            "{ok}\nSubject: citt\u{e0} \u{1f4e7}\n e \u{2028}altre\nReply-To: Nicol\u{f2} <a@b.example>"
        ),
        format!("From: Nicol\u{f2} <{SENDER}>\nTo: \u{abc} \u{e0} (\u{e8}) <{PROTOCOLLO}>"),
        format!("{ok}\nSubject: x{}", format!("\n {}", "\u{e0} ".repeat(200)).repeat(60)),
        format!("{ok}\nSubject: : =?x?="),
        format!("{ok}\nCc:\nReply-To:\nX-TipoRicevuta: breve\nX-TipoRicevuta: sintetica"),
        format!("{ok}\nMessage-ID: <>\nSender: altro@pec.rossi.example"),
        format!("{ok}\nMessage-ID: a b (c) <d e@f>"),
        blank.trim_end().to_owned(),
    ] {
        let shown = text.get(..200).unwrap_or(&text);
        let submission = match submit(&header(&text), &[PROTOCOLLO], &Limits::default()) {
            Ok(submission) => submission,
            // Encoded again, its subject would be too long.
            Err(refused) if text.starts_with(&blank[..100]) => {
                assert!(refused.reason().contains("253952 byte"), "{}", refused.reason());
                continue;
            }
            Err(refused) => panic!("{}: {shown}", refused.reason()),
        };
        let envelope =
            crate::envelope::enclose(submission.accepted(), submission.original(), &alfa(), 7);
        let class = judged_for(&envelope.seal(b"x"), Ok(ALFA), SENDER, &[PROTOCOLLO]);
        assert!(matches!(class, crate::incoming::Class::Envelope(_)), "{class:?}: {shown}");
    }
}

// PEC-AP-09: doubt D-31
#[test]
fn a_date_or_a_sender_that_is_none_is_remarked_and_nothing_is_changed() {
    let ok = format!("From: {SENDER}\nTo: {PROTOCOLLO}");
    for (more, remarks) in [
        ("\nDate: Mon, 14 Sep 2026 09:30:01 +0200", &[][..]),
        (
            "\nDate: Mon, 14 Sep 2026 09:30:01 +0200\nSender: Mario <mario.rossi@pec.rossi.example>",
            &[],
        ),
        ("", &["the message has no Date"]),
        ("\nDate: ieri", &["the Date of the message is none"]),
        (
            "\nSender: altro@pec.rossi.example",
            &["the message has no Date", "the Sender of the message is not who sent it"],
        ),
    ] {
        let octets = header(&format!("{ok}{more}"));
        let submission = submit(&octets, &[PROTOCOLLO], &Limits::default()).unwrap();
        assert_eq!(submission.remarks(), remarks);
        let kept = String::from_utf8(submission.original().to_vec()).unwrap();
        assert!(kept.contains(&format!("{ok}{more}").replace('\n', "\r\n")), "{kept}");
    }
}
