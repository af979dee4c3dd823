//! Messages as certified mail has them: a transport envelope with its certification data and the message in it, which
//! has a text and an attachment. Each is different, and the same at every server and in every run.

use std::fmt::Write as _;

use scenarios::load::Random;

/// Octets of an attachment, encoded.
const ATTACHMENT_OCTETS: usize = 1_200;

const WORDS: [&str; 48] = [
    "allegato",
    "amministrazione",
    "appalto",
    "atto",
    "avviso",
    "bando",
    "bilancio",
    "bolletta",
    "cantiere",
    "cartella",
    "catasto",
    "citazione",
    "codice",
    "comunicazione",
    "conferma",
    "contratto",
    "copia",
    "decreto",
    "delibera",
    "diffida",
    "domanda",
    "fattura",
    "firma",
    "gara",
    "impresa",
    "istanza",
    "lavori",
    "modulo",
    "notifica",
    "offerta",
    "ordinanza",
    "pagamento",
    "parere",
    "perizia",
    "pratica",
    "preventivo",
    "protocollo",
    "prot.",
    "quietanza",
    "ricorso",
    "richiesta",
    "rinnovo",
    "scadenza",
    "sentenza",
    "sollecito",
    "termine",
    "ufficio",
    "verbale",
];

/// A word that is in one message of a thousand, and in no other.
pub(super) fn rare(number: usize) -> String {
    format!("raro{}", number / 1000 * 1000)
}

/// Words by chance.
fn prose(random: &mut Random, words: usize) -> String {
    let mut text = String::new();
    for at in 0..words {
        let end = if at % 11 == 10 { "\r\n" } else { " " };
        text.push_str(WORDS[random.below(WORDS.len())]);
        text.push_str(end);
    }
    text
}

/// A message of some four KiB.
pub(super) fn message(number: usize) -> Vec<u8> {
    let mut random = Random::new(number as u64 + 1);
    let subject = prose(&mut random, 5);
    let subject = subject.trim();
    let (from, to) = (random.below(400), random.below(400));
    let (day, hour, minute) = (1 + random.below(28), random.below(24), random.below(60));
    let date = format!("{day:02} Sep 2026 {hour:02}:{minute:02}:07 +0200");
    let text = prose(&mut random, 90);
    let special = if number.is_multiple_of(1000) { rare(number) } else { String::new() };
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut attachment = String::with_capacity(ATTACHMENT_OCTETS + 64);
    for at in 0..ATTACHMENT_OCTETS {
        attachment.push(char::from(alphabet[random.below(64)]));
        if at % 76 == 75 {
            attachment.push_str("\r\n");
        }
    }
    let mut out = String::with_capacity(6_000);
    // To a String nothing can fail to be written.
    let _ = write!(
        out,
        "Received: from mx.alfa.example (mx.alfa.example [192.0.2.7]) by in.beta.example with ESMTPS id {number};\r\n\
         \tMon, {date}\r\n\
         X-Trasporto: posta-certificata\r\n\
         From: \"Per conto di: mittente{from}@pec.alfa.example\" <posta-certificata@pec.alfa.example>\r\n\
         Reply-To: \"Mittente {from}\" <mittente{from}@pec.alfa.example>\r\n\
         To: \"Ufficio {to}\" <ufficio{to}@pec.beta.example>, studio{from}@pec.beta.example\r\n\
         Cc: archivio@pec.beta.example\r\n\
         Subject: POSTA CERTIFICATA: {subject}\r\n\
         Date: Mon, {date}\r\n\
         Message-ID: <opec{number}.20260914.{from}.{to}@pec.alfa.example>\r\n\
         X-Riferimento-Message-ID: <{number}.{from}@cliente.example>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"--=_a{number}\"\r\n\r\n\
         ----=_a{number}\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
         Il giorno {day:02}/09/2026 alle ore {hour:02}:{minute:02} il messaggio \"{subject}\"\r\n\
         e' stato inviato da mittente{from}@pec.alfa.example\r\n\
         ----=_a{number}\r\n\
         Content-Type: application/xml; name=\"daticert.xml\"\r\nContent-Transfer-Encoding: 7bit\r\n\
         Content-Disposition: inline; filename=\"daticert.xml\"\r\n\r\n\
         <?xml version=\"1.0\"?><postacert tipo=\"posta-certificata\" errore=\"nessuno\"><intestazione>\r\n\
         <mittente>mittente{from}@pec.alfa.example</mittente></intestazione></postacert>\r\n\
         ----=_a{number}\r\n\
         Content-Type: message/rfc822; name=\"postacert.eml\"\r\n\
         Content-Disposition: inline; filename=\"postacert.eml\"\r\n\r\n\
         From: \"Mittente {from}\" <mittente{from}@pec.alfa.example>\r\n\
         To: ufficio{to}@pec.beta.example\r\nSubject: {subject}\r\nDate: Mon, {date}\r\n\
         Message-ID: <{number}.{from}@cliente.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"--=_b{number}\"\r\n\r\n\
         ----=_b{number}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\r\n{text} {special}\r\n\
         ----=_b{number}\r\n\
         Content-Type: application/pdf; name=\"atto{number}.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"atto{number}.pdf\"\r\n\r\n{attachment}\r\n\
         ----=_b{number}--\r\n\r\n----=_a{number}--\r\n"
    );
    out.into_bytes()
}

/// A plain message of so many octets.
pub(super) fn plain(number: usize, octets: usize) -> Vec<u8> {
    let mut random = Random::new(number as u64 + 77);
    let mut out = format!(
        "From: mittente{number}@pec.alfa.example\r\nTo: ufficio@pec.beta.example\r\nSubject: grande {number}\r\n\
         Date: Mon, 14 Sep 2026 09:30:01 +0200\r\nMessage-ID: <g{number}@cliente.example>\r\n\r\n"
    );
    while out.len() < octets {
        out.push_str(&prose(&mut random, 11));
    }
    out.truncate(octets.saturating_sub(2));
    out.push_str("\r\n");
    out.into_bytes()
}

/// A message with an attachment of so many octets, encoded; made quickly.
pub(super) fn large(number: usize, octets: usize) -> Vec<u8> {
    let mut random = Random::new(number as u64 + 99);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = format!(
        "From: mittente{number}@pec.alfa.example\r\nTo: ufficio@pec.beta.example\r\nSubject: grande {number}\r\n\
         Date: Mon, 14 Sep 2026 09:30:01 +0200\r\nMessage-ID: <g{number}@cliente.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: application/pdf; name=\"atto.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n"
    )
    .into_bytes();
    out.reserve(octets + 100);
    while out.len() < octets {
        out.extend((0..76).map(|_| alphabet[random.below(64)]));
        out.extend_from_slice(b"\r\n");
    }
    out
}
