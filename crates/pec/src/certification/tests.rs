use proptest::prelude::*;

use super::*;
use crate::delivery::Failure;
use crate::exchange::RecipientKind;
use crate::receipt::Notice;
use crate::testing::*;

macro_rules! xml {
    ($name:literal) => {
        include_str!(concat!("../../examples/daticert/", $name, ".xml"))
    };
}

const SIMPLE: &str = "<postacert tipo='accettazione'><intestazione><mittente>a@b.example</mittente>\
    <destinatari>c@d.example</destinatari><risposte>a@b.example</risposte></intestazione><dati>\
    <gestore-emittente>G</gestore-emittente><data zona='+0100'><giorno>01/02/2026</giorno>\
    <ora>10:11:12</ora></data><identificativo>x@y</identificativo></dati></postacert>";

// PEC-XML-01 PEC-XML-02 PEC-DT-04 PEC-RA-04 PEC-NA-03 PEC-NA-07 PEC-BT-10 PEC-BT-11 PEC-PIC-06
// PEC-RC-07 PEC-MC-06 PEC-MCV-04 PEC-RV-06 PEC-TO-11
#[test]
fn each_event_is_certified_as_in_its_example() {
    let (mut exchange, alfa, beta) = (exchange(), alfa().name, beta().name);
    let protocollo = address(PROTOCOLLO);
    let ufficio = address(UFFICIO);
    let recipient = &protocollo;
    let ours = [protocollo.clone(), ufficio.clone()];
    let next_day = Moment::parse("15/09/2026", "08:30:13", "+0200").unwrap();
    let virus = "EICAR-Test-File";
    let reason =
        "il destinatario nascosto@pec.comune.example non compare nei campi To e Cc del messaggio";
    let complete = DeliveryForm::Complete;
    for (event, provider, time, example) in [
        (Event::Transport, &alfa, at("09:30:12"), xml!("posta-certificata")),
        (Event::Acceptance, &alfa, at("09:30:12"), xml!("accettazione")),
        (Event::NonAcceptance { reason }, &alfa, at("09:30:12"), xml!("non-accettazione")),
        (
            Event::NonAcceptanceVirus { virus },
            &alfa,
            at("09:30:12"),
            xml!("non-accettazione-virus"),
        ),
        (Event::TakeCharge { recipients: &ours }, &beta, at("09:30:14"), xml!("presa-in-carico")),
        (
            Event::Delivery { recipient, form: complete },
            &beta,
            at("09:30:15"),
            xml!("avvenuta-consegna-completa"),
        ),
        (
            // Doubt D-08: the form that was asked for, not the one sent.
            Event::Delivery { recipient: &ufficio, form: DeliveryForm::Concise },
            &beta,
            at("09:30:15"),
            xml!("avvenuta-consegna-cc"),
        ),
        (
            Event::NonDelivery { recipient, failure: &Failure::UnknownMailbox },
            &beta,
            at("09:30:15"),
            xml!("errore-consegna-no-dest"),
        ),
        (
            Event::NonDelivery { recipient, failure: &Failure::UnmanagedDomain },
            &beta,
            at("09:30:15"),
            xml!("errore-consegna-no-dominio"),
        ),
        (
            Event::NonDelivery { recipient, failure: &Failure::Full },
            &beta,
            at("09:30:15"),
            xml!("errore-consegna-altro"),
        ),
        (
            Event::NonDeliveryVirus { recipient, virus },
            &alfa,
            at("09:30:20"),
            xml!("errore-consegna-virus"),
        ),
        (Event::VirusFound { recipient, virus }, &beta, at("09:30:14"), xml!("rilevazione-virus")),
        (
            Event::Late { recipient, notice: Notice::First },
            &alfa,
            at("21:30:13"),
            xml!("preavviso-errore-consegna-12h"),
        ),
        (
            Event::Late { recipient, notice: Notice::Second },
            &alfa,
            next_day,
            xml!("preavviso-errore-consegna-24h"),
        ),
    ] {
        let data = Certification::of(&event, &exchange, time, provider);
        assert_eq!(data.write(), example);
        assert_eq!(Certification::parse(example.as_bytes()).unwrap(), data);
    }
    for (requested, example) in [
        (DeliveryForm::Brief, xml!("avvenuta-consegna-breve")),
        (DeliveryForm::Concise, xml!("avvenuta-consegna-sintetica")),
    ] {
        exchange.requested = requested;
        let event = Event::Delivery { recipient, form: requested };
        let data = Certification::of(&event, &exchange, at("09:30:15"), &beta);
        assert_eq!(data.write(), example);
        assert_eq!(Certification::parse(example.as_bytes()).unwrap(), data);
    }
}

// PEC-XML-04
#[test]
fn attributes_that_are_missing_have_their_defaults() {
    let data = Certification::parse(SIMPLE.as_bytes()).unwrap();
    assert_eq!(data.error, ErrorKind::None);
    assert_eq!(data.recipients[0].kind, RecipientKind::Certified);
    // The default is that of the element, not of the one before it.
    let two = SIMPLE.replace(
        "<destinatari>",
        "<destinatari tipo='esterno'>x@y.example</destinatari><destinatari>",
    );
    let data = Certification::parse(two.as_bytes()).unwrap();
    let kinds: Vec<_> = data.recipients.iter().map(|r| r.kind).collect();
    assert_eq!(kinds, [RecipientKind::Ordinary, RecipientKind::Certified]);
}

// PEC-XML-05
#[test]
fn what_real_files_have_is_tolerated() {
    let plain = Certification::parse(SIMPLE.as_bytes()).unwrap();
    for tolerated in [
        format!("\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n{SIMPLE}\r\n\r\n"),
        SIMPLE.replace("a@b.example", "\r\n\t a@b.example \r\n"),
        SIMPLE.replace("<dati>", "stray text <!-- a comment --><dati>\n\n"),
        SIMPLE.replace(">G<", "><![CDATA[G]]><"),
        SIMPLE.replace(">x@y<", ">&#120;&#x40;y<"),
        SIMPLE.replace("'", "\""),
    ] {
        assert_eq!(Certification::parse(tolerated.as_bytes()), Ok(plain.clone()), "{tolerated}");
    }
    for empty in [
        "<ricevuta tipo='breve' />",
        "<ricevuta tipo='breve'/>",
        "<ricevuta tipo='breve'></ricevuta>",
    ] {
        let file = SIMPLE.replace("</dati>", &format!("{empty}</dati>"));
        let data = Certification::parse(file.as_bytes()).unwrap();
        assert_eq!(data.requested, Some(DeliveryForm::Brief));
    }
}

// PEC-XML-02 PEC-PR-12
#[test]
fn what_the_dtd_does_not_have_is_refused() {
    use CertificationError as E;
    let not_in_dtd = |what: &str| E::NotInDtd(what.to_owned());
    for (from, to, error) in [
        // Order
        (
            "<risposte>a@b.example</risposte></intestazione>",
            "<oggetto>x</oggetto><risposte>a@b.example</risposte></intestazione>",
            E::Missing("risposte"),
        ),
        ("<mittente>a@b.example</mittente>", "", E::Missing("mittente")),
        ("<destinatari>c@d.example</destinatari>", "", E::Missing("destinatari")),
        ("<ora>10:11:12</ora>", "", E::Missing("ora")),
        ("<identificativo>x@y</identificativo>", "", E::Missing("identificativo")),
        ("</dati></postacert>", "</dati><dati/></postacert>", not_in_dtd("dati")),
        ("</mittente>", "</mittente><mittente>e@f.example</mittente>", not_in_dtd("mittente")),
        (
            "</dati>",
            "<consegna>a@b.c</consegna><consegna>a@b.c</consegna></dati>",
            not_in_dtd("consegna"),
        ),
        ("</dati>", "<errore-esteso>x</errore-esteso><msgid>y</msgid></dati>", not_in_dtd("msgid")),
        ("<mittente>", "<mittente><b/>", not_in_dtd("b")),
        ("</dati>", "<ricevuta tipo='breve'>x</ricevuta></dati>", not_in_dtd("ricevuta")),
        // Attributes and their values
        ("tipo='accettazione'", "tipo='consegna'", not_in_dtd("postacert/@tipo")),
        ("tipo='accettazione'", "", E::Missing("postacert/@tipo")),
        (
            "tipo='accettazione'",
            "tipo='accettazione' errore='boh'",
            not_in_dtd("postacert/@errore"),
        ),
        ("tipo='accettazione'", "tipo='accettazione' x='y'", not_in_dtd("postacert/@x")),
        ("<mittente>", "<mittente x='y'>", not_in_dtd("mittente/@x")),
        ("<destinatari>", "<destinatari tipo='boh'>", not_in_dtd("destinatari/@tipo")),
        (" zona='+0100'", "", E::Missing("data/@zona")),
        ("</dati>", "<ricevuta/></dati>", E::Missing("ricevuta/@tipo")),
        // Texts
        ("10:11:12", "25:11:12", E::BadText("data")),
        ("'+0100'", "'CET'", E::BadText("data")),
        ("x@y", "x", E::BadText("identificativo")),
        ("c@d.example", "c", E::BadText("destinatari")),
        // PEC-PR-17
        (">G<", "> <", E::Missing("gestore-emittente")),
        // Not well-formed
        ("</postacert>", "", E::NotXml),
        ("</dati>", "</altro>", E::NotXml),
        ("<postacert", "<p></p><postacert", not_in_dtd("p")),
        ("</postacert>", "</postacert><postacert tipo='accettazione'/>", not_in_dtd("postacert")),
        ("tipo='accettazione'", "tipo='accettazione' tipo='accettazione'", E::NotXml),
        ("<postacert", "testo<postacert", E::NotXml),
        ("<postacert", "&#32;<postacert", E::NotXml),
        ("</postacert>", "</postacert>testo", E::NotXml),
        ("</postacert>", "</postacert>&lt;", E::NotXml),
        ("</postacert>", "</postacert><![CDATA[ ]]>", E::NotXml),
        // PEC-XML-01: another encoding is another text, unless all of it is ASCII.
        (">G<", ">Città<", E::NotUtf8),
    ] {
        assert!(SIMPLE.contains(from), "{from}");
        let mut file = SIMPLE.replacen(from, to, 1);
        if error == E::NotUtf8 {
            let utf8 = format!("<?xml version='1.0' encoding='utf-8'?>{file}");
            assert!(Certification::parse(utf8.as_bytes()).is_ok());
            file = format!("<?xml version='1.0' encoding='ISO-8859-1'?>{file}");
        }
        assert_eq!(Certification::parse(file.as_bytes()), Err(error), "{file}");
    }
    assert_eq!(Certification::parse(b""), Err(E::NotXml));
    for taken in [
        format!("<?xml version='1.0' encoding='ISO-8859-1'?>\n{SIMPLE}"),
        format!("<!-- x --> \r\n{SIMPLE}<!-- y -->\r\n\r\n"),
    ] {
        assert!(Certification::parse(taken.as_bytes()).is_ok(), "{taken}");
    }
    assert_eq!(Certification::parse(b"<postacert tipo='\xff'/>"), Err(E::NotUtf8));
}

// PEC-XML-03
#[test]
fn entities_are_neither_declared_nor_expanded() {
    use CertificationError as E;
    for bomb in [
        format!("<!DOCTYPE postacert SYSTEM \"http://evil.example/x.dtd\">{SIMPLE}"),
        format!(
            "<!DOCTYPE postacert [<!ENTITY a \"aaaaaaaaaa\">]>{}",
            SIMPLE.replace(">G<", ">&a;<")
        ),
        format!("<!DOCTYPE p [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>{SIMPLE}"),
        SIMPLE.replace(">G<", ">&a;<"),
        SIMPLE.replace(">G<", ">&nbsp;<"),
    ] {
        assert_eq!(Certification::parse(bomb.as_bytes()), Err(E::Entity), "{bomb}");
    }
    assert!(!exchange_data().write().contains("DOCTYPE"));
}

#[test]
fn size_recipients_depth_and_attributes_are_bounded() {
    use CertificationError as E;
    let many =
        |element: &str, count: usize| format!("<{element}>a@b.example</{element}>").repeat(count);
    for (place, element) in [("<destinatari>", "destinatari"), ("</dati>", "ricezione")] {
        let full = RECIPIENTS_MAX - usize::from(element == "destinatari");
        let file = SIMPLE.replace(place, &(many(element, full) + place));
        assert!(Certification::parse(file.as_bytes()).is_ok());
        let file = SIMPLE.replace(place, &(many(element, full + 1) + place));
        assert_eq!(Certification::parse(file.as_bytes()), Err(E::TooManyRecipients));
    }
    let padded = |octets: usize| format!("{SIMPLE}{}", " ".repeat(octets - SIMPLE.len()));
    assert!(Certification::parse(padded(CERTIFICATION_OCTETS_MAX).as_bytes()).is_ok());
    let over = padded(CERTIFICATION_OCTETS_MAX + 1);
    assert_eq!(Certification::parse(over.as_bytes()), Err(E::TooLong));
    let deep = "<postacert tipo='accettazione'>".repeat(10_000);
    assert_eq!(Certification::parse(deep.as_bytes()), Err(E::NotInDtd("postacert".into())));
    let attributes: String = (0..50_000).map(|n| format!(" a{n}='x'")).collect();
    let wide = SIMPLE.replace("<mittente>", &format!("<mittente{attributes}>"));
    assert_eq!(Certification::parse(wide.as_bytes()), Err(E::NotInDtd("mittente/@a0".into())));
}

fn exchange_data() -> Certification {
    Certification::of(&Event::Transport, &exchange(), at("09:30:12"), "Alfa PEC S.p.A.")
}

// PEC-FMT-09
#[test]
fn texts_are_kept_exactly_and_cannot_become_elements() {
    let mut data = exchange_data();
    for (subject, read) in [
        ("citt\u{e0} \u{2013} \u{1f4e7}", "citt\u{e0} \u{2013} \u{1f4e7}"),
        (
            "</oggetto><mittente>x@y.example</mittente>",
            "</oggetto><mittente>x@y.example</mittente>",
        ),
        ("a & b &amp; &#65; ]]> \"'", "a & b &amp; &#65; ]]> \"'"),
        ("a\r\n<b>\u{0}\u{1b}", "a  <b>"),
        ("\u{fffe}x", "?x"),
        ("", ""),
    ] {
        data.subject = Some(subject.to_owned());
        let again = Certification::parse(data.write().as_bytes()).unwrap();
        assert_eq!(again.subject.as_deref(), Some(read));
    }
}

#[test]
fn a_job_can_carry_the_data() {
    let mut data = exchange_data();
    data.delivery = Some(address(PROTOCOLLO));
    let json = serde_json::to_string(&data).unwrap();
    assert_eq!(serde_json::from_str::<Certification>(&json).unwrap(), data);
}

fn some_text() -> impl Strategy<Value = String> {
    "[ -~àèé€–]{0,40}".prop_map(|text| text.trim().to_owned())
}

fn some_address() -> impl Strategy<Value = Address> {
    "[a-z&']{1,8}@[a-z]{1,8}\\.example".prop_map(|text| Address::parse(&text).unwrap())
}

fn some_recipient() -> impl Strategy<Value = Recipient> {
    let kinds = prop_oneof![Just(RecipientKind::Certified), Just(RecipientKind::Ordinary)];
    (some_address(), kinds).prop_map(|(address, kind)| Recipient { address, kind })
}

fn some_data() -> impl Strategy<Value = Certification> {
    let header = (
        some_address(),
        prop::collection::vec(some_recipient(), 1..5),
        some_text(),
        prop::option::of(some_text()),
        "[A-Z&<]{1,8}",
    );
    let optional = (
        prop::option::of("<[a-z]{1,5}@b>"),
        prop::option::of(prop::sample::select(&DeliveryForm::ALL[..])),
        prop::option::of(some_address()),
        prop::collection::vec(some_address(), 0..4),
        prop::option::of(some_text()),
    );
    let fixed = (
        prop::sample::select(&ReceiptKind::ALL[..]),
        prop::sample::select(&ErrorKind::ALL[..]),
        0_i64..4_000_000_000,
    );
    (header, optional, fixed).prop_map(
        |(
            (sender, recipients, replies_to, subject, provider),
            (msgid, requested, delivery, taken, error_text),
            (kind, error, instant),
        )| Certification {
            kind: CertifiedKind::Receipt(kind),
            error,
            sender,
            recipients,
            replies_to,
            subject,
            provider,
            at: Moment::of(jiff::Timestamp::from_second(instant).unwrap()),
            identifier: PecId::parse("a&b@c").unwrap(),
            msgid,
            requested,
            delivery,
            taken,
            error_text,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(data in some_data()) {
        prop_assert_eq!(Certification::parse(data.write().as_bytes()), Ok(data));
    }

    #[test]
    fn any_text_is_read_or_refused(
        text in "(<|>|/|!|\\?|&|;|postacert|dati|mittente|tipo='accettazione'|a@b|[ -~]){0,60}"
    ) {
        let _ = Certification::parse(text.as_bytes());
    }
}
