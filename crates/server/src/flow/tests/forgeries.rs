//! The forgeries: what a stranger, or a hostile provider with a good key, makes of an envelope, each
//! with the reason for which it is not certified.

use mail::encoding::base64_lines;
use pec::incoming::AnomalyReason;

use super::smith::{Forge, find, first, replace, rfind};
use super::world::{GAMMA_DOMAIN, GAMMA_NAME, Pair, keys, message};

pub(super) type Make = fn(&Forge, &str) -> Vec<u8>;

/// An edit of the outer header of a correct envelope, which no signature covers.
macro_rules! outer {
    ($from:literal => $with:literal) => {
        |forge, to| first(&forge.envelope("mallory@g", &[to]), $from, $with)
    };
}

/// An edit of what is signed, signed again by a provider.
macro_rules! inner {
    ($from:literal => $with:literal) => {
        |forge, to| forge.edited(to, $from, $with)
    };
}

/// An edit of the certification data, signed again by a provider.
macro_rules! xml {
    ($from:literal => $with:literal) => {
        |forge, to| forge.certified(to, $from, $with)
    };
}

/// An edit after the signature was made.
macro_rules! damaged {
    ($from:literal => $with:literal) => {
        |forge, to| replace(&forge.envelope("mallory@g", &[to]), $from, $with)
    };
}

fn unsigned(header: &str, to: &str) -> Vec<u8> {
    format!("{header}\r\n{}", message("posta-certificata@a", &[to], "Offerta")).into_bytes()
}

fn signed_by(pair: &Pair, to: &str) -> Vec<u8> {
    Forge::with(pair, GAMMA_NAME, GAMMA_DOMAIN).envelope("mallory@g", &[to])
}

use AnomalyReason::{Form, NotAProvider, NotSigned, NotValid};

/// Each with the reason for which it is not certified (PEC-BA-05).
pub(super) const FORGERIES: &[(&str, AnomalyReason, Make)] = &[
    // --- without a provider's signature: PEC-PR-01 PEC-PR-08
    ("plain mail", NotSigned, |_, to| message("info@x", &[to], "Offerta").into_bytes()),
    ("plain mail with X-Trasporto", NotSigned, |_, to| {
        unsigned("X-Trasporto: posta-certificata", to)
    }),
    ("plain mail with X-Ricevuta", NotSigned, |_, to| {
        unsigned("X-Ricevuta: avvenuta-consegna", to)
    }),
    ("plain mail that says it is an anomaly", NotSigned, |_, to| {
        unsigned("X-Trasporto: errore", to)
    }),
    ("the parts of an envelope without its signature", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let examination = pec::examine(&envelope);
        let header = b"From: posta-certificata@pec.gamma.example\r\nX-Trasporto: \
                       posta-certificata\r\n";
        [&header[..], examination.entity().unwrap()].concat()
    }),
    (
        "an envelope that says it is not signed",
        NotSigned,
        outer!("multipart/signed" => "multipart/mixed"),
    ),
    ("an envelope without its boundary", NotSigned, outer!("boundary=" => "edge=")),
    (
        "an envelope of two types",
        NotSigned,
        outer!("X-Trasporto" => "Content-Type: text/plain\r\nX-Trasporto"),
    ),
    (
        "an envelope whose signature has no name",
        NotSigned,
        damaged!("application/pkcs7-signature; name" => "application/octet-stream; name"),
    ),
    ("an envelope with a third part", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let end = rfind(&envelope, b"\r\n--").unwrap();
        let close = &envelope[end..];
        let open = close.trim_ascii_end();
        let open = open.strip_suffix(b"--").unwrap();
        [&envelope[..end], open, b"\r\n\r\nx", close].concat()
    }),
    ("an envelope wrapped by a list", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let head = b"From: lista@ordinaria.example\r\nX-Trasporto: posta-certificata\r\n\
            Content-Type: multipart/mixed; boundary=lista\r\n\r\n--lista\r\n";
        [&head[..], &envelope, b"\r\n--lista--\r\n"].concat()
    }),
    ("an envelope forwarded as an attachment", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let head = b"From: info@ordinaria.example\r\nX-Trasporto: posta-certificata\r\n\
            Content-Type: message/rfc822\r\n\r\n";
        [&head[..], &envelope].concat()
    }),
    ("an opaque signature", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let examination = pec::examine(&envelope);
        let mut octets = b"X-Trasporto: posta-certificata\r\nContent-Type: \
            application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: \
            base64\r\n\r\n"
            .to_vec();
        octets.extend(base64_lines(examination.signature().unwrap()));
        octets
    }),
    ("nothing for a signature", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let name = rfind(&envelope, b"smime.p7s").unwrap();
        let start = name + find(&envelope[name..], b"\r\n\r\n").unwrap() + 4;
        let end = start + find(&envelope[start..], b"\r\n--").unwrap();
        [&envelope[..start], &envelope[end..]].concat()
    }),
    ("noise for a signature", NotSigned, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let name = rfind(&envelope, b"smime.p7s").unwrap();
        let start = name + find(&envelope[name..], b"\r\n\r\n").unwrap() + 4;
        let end = start + find(&envelope[start..], b"\r\n--").unwrap();
        [&envelope[..start], b"Y2lhbyBtb25kbw==", &envelope[end..]].concat()
    }),
    // --- signed by nobody of the circuit: PEC-PR-02
    ("an envelope whose certificate is not in the index", NotAProvider, |_, to| {
        signed_by(&keys().unknown, to)
    }),
    ("an envelope of an impostor with a provider's name", NotAProvider, |_, to| {
        signed_by(&keys().impostor, to)
    }),
    // --- a signature that does not hold: PEC-PR-03
    ("an envelope whose certificate has expired", NotValid, |_, to| signed_by(&keys().expired, to)),
    (
        "an envelope with another text",
        NotValid,
        damaged!("Messaggio di posta certificata" => "Messaggio di posta  certificata"),
    ),
    ("an envelope with another original", NotValid, damaged!("Si allega" => "Si nega")),
    (
        "an envelope with a changed part name",
        NotValid,
        damaged!("name=\"postacert.eml\"" => "name=\"altro.eml\""),
    ),
    ("the signature of another envelope", NotValid, |forge, to| {
        let (one, other) =
            (forge.envelope("mallory@g", &[to]), forge.envelope("mallory@g", &[to, "neri@b"]));
        let signature = pec::examine(&other).signature().unwrap().to_vec();
        let name = rfind(&one, b"smime.p7s").unwrap();
        let start = name + find(&one[name..], b"\r\n\r\n").unwrap() + 4;
        let end = start + find(&one[start..], b"\r\n--").unwrap();
        let signature = base64_lines(&signature);
        [&one[..start], signature.trim_ascii_end(), &one[end..]].concat()
    }),
    ("an envelope with other line ends", NotValid, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        replace(&envelope, "Si allega Offerta.\r\n", "Si allega Offerta.\n")
    }),
    (
        "an envelope with a line more",
        NotValid,
        damaged!("Si allega Offerta.\r\n" => "Si allega Offerta.\r\n\r\n"),
    ),
    // --- a provider's, of a wrong form: PEC-PR-05 PEC-PR-07, the outer header first
    (
        "an envelope that is not said to be one",
        Form,
        outer!("X-Trasporto: posta-certificata\r\n" => ""),
    ),
    (
        "an envelope that says it is an anomaly",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Trasporto: errore"),
    ),
    (
        "an envelope of an unknown transport",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Trasporto: posta certificata"),
    ),
    (
        "an envelope of two transports",
        Form,
        outer!("X-Trasporto:" => "X-Trasporto: errore\r\nX-Trasporto:"),
    ),
    (
        "an envelope that is a receipt too",
        Form,
        outer!("X-Trasporto:" => "X-Ricevuta: accettazione\r\nX-Trasporto:"),
    ),
    (
        "an envelope turned into a delivery receipt",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Ricevuta: avvenuta-consegna"),
    ),
    (
        "an envelope turned into a non-delivery notice",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Ricevuta: errore-consegna"),
    ),
    (
        "a receipt that does not exist",
        Form,
        outer!("X-Trasporto: posta-certificata" => "X-Ricevuta: mancata-consegna"),
    ),
    (
        "an envelope of two authors",
        Form,
        outer!("<posta-certificata@pec.gamma.example>" => "<posta-certificata@pec.gamma.example>, x@y.example"),
    ),
    (
        "an envelope in another provider's name",
        Form,
        outer!("<posta-certificata@pec.gamma.example>" => "<posta-certificata@pec.alfa.example>"),
    ),
    (
        "an envelope of a look-alike author",
        Form,
        outer!("<posta-certificata@pec.gamma.example>" => "<posta-certificata@pec.gannma.example>"),
    ),
    (
        "an envelope that only displays its author",
        Form,
        outer!("<posta-certificata@pec.gamma.example>" => "\"posta-certificata@pec.gamma.example\" <x@y.example>"),
    ),
    (
        "an envelope with From twice",
        Form,
        outer!("X-Trasporto:" => "From: x@y.example\r\nX-Trasporto:"),
    ),
    ("an envelope with another Message-ID", Form, outer!("Message-ID: <" => "Message-ID: <x")),
    ("an envelope without Message-ID", Form, outer!("Message-ID: <" => "X-Message-ID: <")),
    (
        "an envelope with two Message-IDs",
        Form,
        outer!("X-Trasporto:" => "Message-ID: <x@y.example>\r\nX-Trasporto:"),
    ),
    (
        "an envelope with eight bits in its header",
        Form,
        outer!("X-Trasporto:" => "X-Nota: citt\u{e0}\r\nX-Trasporto:"),
    ),
    // What a reader sees of it, and what an answer or a receipt would go by: PEC-BT-02 to PEC-BT-06
    (
        "an envelope on behalf of somebody else",
        Form,
        outer!("Per conto di: mallory@pec.gamma" => "Per conto di: tribunale@pec.giustizia"),
    ),
    (
        "an envelope on nobody's behalf",
        Form,
        outer!("\"Per conto di: mallory@pec.gamma.example\"" => "Tribunale"),
    ),
    (
        "an envelope with another subject",
        Form,
        outer!("Subject: POSTA CERTIFICATA: Offerta" => "Subject: POSTA CERTIFICATA: Sentenza"),
    ),
    (
        "an envelope with the subject of a receipt",
        Form,
        outer!("Subject: POSTA CERTIFICATA: Offerta" => "Subject: CONSEGNA: Offerta"),
    ),
    (
        "an envelope without a subject",
        Form,
        outer!("Subject: POSTA CERTIFICATA: Offerta\r\n" => ""),
    ),
    (
        "an envelope whose answers go elsewhere",
        Form,
        outer!("Reply-To: mallory@" => "Reply-To: x@"),
    ),
    (
        "an envelope whose answers go to two",
        Form,
        outer!("X-Trasporto:" => "Reply-To: x@y.example\r\nX-Trasporto:"),
    ),
    ("an envelope to somebody else", Form, outer!("To: verdi@" => "To: tribunale@")),
    (
        "an envelope with a copy for somebody else",
        Form,
        outer!("X-Trasporto:" => "Cc: tribunale@pec.giustizia.example\r\nX-Trasporto:"),
    ),
    ("an envelope of another day", Form, outer!("Date: Mon, 14 Sep" => "Date: Sun, 13 Sep")),
    (
        "an envelope with a Sender",
        Form,
        outer!("X-Trasporto:" => "Sender: tribunale@pec.giustizia.example\r\nX-Trasporto:"),
    ),
    (
        "an envelope that asks for another receipt",
        Form,
        outer!("X-TipoRicevuta: completa" => "X-TipoRicevuta: sintetica"),
    ),
    (
        "an envelope about another message",
        Form,
        outer!("X-Trasporto:" => "X-Riferimento-Message-ID: <x@y.example>\r\nX-Trasporto:"),
    ),
    // --- and what is signed: PEC-PR-12 to PEC-PR-16
    ("an envelope without certification data", Form, inner!("daticert.xml" => "altri.xml")),
    ("an envelope without an original", Form, inner!("postacert.eml" => "altro.eml")),
    ("an envelope whose original is a text", Form, inner!("message/rfc822" => "text/plain")),
    (
        "an envelope whose data are no XML by their type",
        Form,
        inner!("application/xml" => "text/plain"),
    ),
    ("an envelope of alternatives", Form, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        forge.resign(&first(&envelope, "multipart/mixed", "multipart/other"))
    }),
    ("an envelope with another identifier within", Form, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let inner = rfind(&envelope, b"\r\nMessage-ID: <").unwrap();
        let edited = first(&envelope[inner..], "Message-ID: <", "Message-ID: <x");
        forge.resign(&[&envelope[..inner], &edited].concat())
    }),
    ("an envelope with its data twice", Form, |forge, to| {
        let envelope = forge.envelope("mallory@g", &[to]);
        let name = find(&envelope, b"application/xml").unwrap();
        let start = rfind(&envelope[..name], b"\r\n--").unwrap();
        let end = name + find(&envelope[name..], b"\r\n--").unwrap();
        forge.resign(&[&envelope[..end], &envelope[start..]].concat())
    }),
    ("data that are no XML", Form, xml!("<postacert" => "<<postacert")),
    ("data that end early", Form, xml!("</postacert>" => "")),
    (
        "data with a document type",
        Form,
        xml!("<postacert" => "<!DOCTYPE p [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><postacert"),
    ),
    ("data of another root", Form, xml!("postacert" => "altro")),
    ("data of an acceptance", Form, xml!("tipo=\"posta-certificata\"" => "tipo=\"accettazione\"")),
    (
        "data of a kind that does not exist",
        Form,
        xml!("tipo=\"posta-certificata\"" => "tipo=\"raccomandata\""),
    ),
    ("data with another identifier", Form, xml!("<identificativo>" => "<identificativo>x")),
    ("data without an identifier", Form, xml!("identificativo" => "altro")),
    ("data without a provider", Form, xml!("gestore-emittente" => "altro")),
    ("data of another sender", Form, xml!("<mittente>mallory@" => "<mittente>mario@")),
    (
        "data of a sender of another provider",
        Form,
        xml!("<mittente>mallory@pec.gamma.example" => "<mittente>rossi@pec.alfa.example"),
    ),
    ("data of another subject", Form, xml!("<oggetto>Offerta" => "<oggetto>Sentenza")),
    ("data without a sender", Form, xml!("mittente" => "altro")),
    ("data whose sender is no address", Form, xml!("<mittente>mallory@" => "<mittente>mallory ")),
    ("data without recipients", Form, xml!("destinatari" => "altri")),
    (
        "data of other recipients",
        Form,
        xml!("<destinatari tipo=\"certificato\">" => "<destinatari tipo=\"certificato\">x"),
    ),
    (
        "data of recipients of an unknown kind",
        Form,
        xml!("tipo=\"certificato\"" => "tipo=\"segreto\""),
    ),
    ("data of a day that does not exist", Form, xml!("<giorno>14/09" => "<giorno>31/02")),
    ("data of a time that does not exist", Form, xml!("<ora>09:" => "<ora>25:")),
    ("data without a zone", Form, xml!("zona=\"+0200\"" => "")),
    ("data with text for markup", Form, xml!("<dati>" => "<dati>&x;")),
];

/// A forgery by its name, and the reverse-path it comes with.
pub(super) fn forgery(name: &str, to: &str) -> (Vec<u8>, String) {
    let forge = Forge::gamma();
    if name == "a correct envelope" {
        return (forge.envelope("mallory@g", &[to]), "mallory@g".to_owned());
    }
    let found = FORGERIES.iter().find(|forgery| forgery.0 == name);
    let (_, _, make) = found.unwrap_or_else(|| panic!("{name}: no such forgery"));
    (make(&forge, to), "mallory@g".to_owned())
}
