//! The examples of `examples/`, for the tests: one transaction from submission to timeout, between
//! two invented providers.

use mail::{Address, Domain, ReversePath};

use crate::access::{Accepted, Draft, Limits, NonAcceptance, Submission, admit, refuse_infected};
use crate::exchange::{Exchange, Fresh, PecId, Provider, RecipientKind};
use crate::incoming::{Class, OriginFault, Routing, SignedBy, VerifiedEnvelope, judge};
use crate::inspect::examine;
use crate::layout::{Attached, Boundaries, Unsigned};
use crate::moment::Moment;
use crate::providers::Index;
use crate::receipt::Event;
use crate::text::Text;

macro_rules! eml {
    ($name:literal) => {
        include_bytes!(concat!("../examples/eml/", $name, ".eml"))
    };
}

pub(crate) const SUBMITTED: &[u8] = eml!("01-originale-sottomesso");
pub(crate) const ORIGINAL: &[u8] = eml!("02-originale-con-pec-msgid");
pub(crate) const ACCEPTANCE: &[u8] = eml!("03-accettazione");
pub(crate) const ENVELOPE: &[u8] = eml!("04-busta-trasporto");
pub(crate) const TAKE_CHARGE: &[u8] = eml!("05-presa-in-carico");
pub(crate) const DELIVERY: &[u8] = eml!("06-avvenuta-consegna-completa");
pub(crate) const DELIVERY_COPY: &[u8] = eml!("07-avvenuta-consegna-cc");
pub(crate) const DELIVERY_BRIEF: &[u8] = eml!("08-avvenuta-consegna-breve");
pub(crate) const DELIVERY_CONCISE: &[u8] = eml!("09-avvenuta-consegna-sintetica");
pub(crate) const NON_DELIVERY: &[u8] = eml!("10-errore-consegna");
pub(crate) const NON_ACCEPTANCE: &[u8] = eml!("11-non-accettazione");
pub(crate) const NON_ACCEPTANCE_VIRUS: &[u8] = eml!("12-non-accettazione-virus");
pub(crate) const VIRUS_FOUND: &[u8] = eml!("13-rilevazione-virus");
pub(crate) const NON_DELIVERY_VIRUS: &[u8] = eml!("14-mancata-consegna-virus");
pub(crate) const LATE_FIRST: &[u8] = eml!("15-preavviso-12h");
pub(crate) const LATE_SECOND: &[u8] = eml!("16-preavviso-24h");
pub(crate) const ANOMALY: &[u8] = eml!("17-busta-anomalia");
pub(crate) const INDEX: &[u8] = include_bytes!("../examples/index/provider-index-sample.ldif");

pub(crate) const SENDER: &str = "mario.rossi@pec.rossi.example";
pub(crate) const PROTOCOLLO: &str = "protocollo@pec.comune.example";
pub(crate) const UFFICIO: &str = "ufficio@pec.comune.example";
pub(crate) const ORDINARY: &str = "info@ordinaria.example";
pub(crate) const ALFA: &str = "posta-certificata@alfapec.example";
pub(crate) const BETA: &str = "posta-certificata@betacert.example";
pub(crate) const IDENTIFIER: &str = "20260914093012.4c1f9e27@alfapec.example";

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(crate) fn addresses(texts: &[&str]) -> Vec<Address> {
    texts.iter().map(|text| address(text)).collect()
}

pub(crate) fn alfa() -> Provider {
    Provider {
        name: "Alfa PEC S.p.A.".into(),
        author: address(ALFA),
        service_mailbox: address("ricevute@alfapec.example"),
    }
}

pub(crate) fn beta() -> Provider {
    Provider {
        name: "Beta Certificata S.r.l.".into(),
        author: address(BETA),
        service_mailbox: address("presaincarico@betacert.example"),
    }
}

/// A time of day on 14 Sep 2026.
pub(crate) fn at(time: &str) -> Moment {
    Moment::parse("14/09/2026", time, "+0200").unwrap()
}

pub(crate) fn fresh(message_id: &str) -> Fresh {
    Fresh { message_id: PecId::parse(message_id).unwrap(), token: 7 }
}

pub(crate) fn kind_of(domain: &Domain) -> RecipientKind {
    let certified = ["pec.rossi.example", "pec.comune.example", "alfapec.example"];
    if certified.contains(&domain.as_str()) {
        RecipientKind::Certified
    } else {
        RecipientKind::Ordinary
    }
}

/// The first field of the original of the examples.
pub(crate) fn trace() -> &'static [u8] {
    let from = ORIGINAL.windows(6).position(|w| w == b"\nFrom:").unwrap();
    &ORIGINAL[..=from]
}

pub(crate) fn submit(
    octets: &[u8],
    forward_paths: &[&str],
    limits: &Limits,
) -> Result<Submission, Box<NonAcceptance>> {
    let draft = Draft {
        reverse_path: &address(SENDER),
        forward_paths: &addresses(forward_paths),
        octets,
        trace: trace(),
    };
    let identifier = PecId::parse(IDENTIFIER).unwrap();
    admit(&draft, &alfa(), limits, &kind_of, identifier, at("09:30:12"))
}

/// The message of the examples, with a virus in it.
pub(crate) fn infected(virus: &str) -> Box<NonAcceptance> {
    let draft = Draft {
        reverse_path: &address(SENDER),
        forward_paths: &addresses(&[PROTOCOLLO, ORDINARY, UFFICIO]),
        octets: SUBMITTED,
        trace: trace(),
    };
    let identifier = PecId::parse(IDENTIFIER).unwrap();
    refuse_infected(&draft, &kind_of, identifier, at("09:30:12"), virus)
}

/// The message of the examples, admitted.
pub(crate) fn submission() -> Submission {
    submit(SUBMITTED, &[PROTOCOLLO, ORDINARY, UFFICIO], &Limits::default()).unwrap()
}

pub(crate) fn accepted() -> Accepted {
    submission().into_parts().0
}

pub(crate) fn exchange() -> Exchange {
    accepted().exchange().clone()
}

/// What the recipient's provider makes of a message that this one signed.
pub(crate) fn judged(octets: &[u8], signer: &str) -> Class {
    let forward = [PROTOCOLLO, UFFICIO];
    judged_for(octets, Ok(signer), SENDER, &forward)
}

pub(crate) fn judged_for(
    octets: &[u8],
    signer: Result<&str, OriginFault>,
    sender: &str,
    forward_paths: &[&str],
) -> Class {
    let (index, _) = Index::from_ldif(INDEX).unwrap();
    let emails: Vec<String> = signer.iter().map(|email| (*email).to_owned()).collect();
    let records: Vec<_> =
        signer.iter().filter_map(|email| index.by_domain(address(email).domain())).collect();
    let origin = signer.map(|_| SignedBy {
        records: &records,
        emails: &emails,
        index: &index,
        strict_author: false,
    });
    let reverse_path = ReversePath::Address(address(sender));
    let forward_paths = addresses(forward_paths);
    let routing = Routing { reverse_path: &reverse_path, forward_paths: &forward_paths };
    judge(&examine(octets), origin, &routing)
}

/// The envelope of the examples, verified.
pub(crate) fn envelope() -> VerifiedEnvelope {
    verified(ENVELOPE)
}

pub(crate) fn verified(octets: &[u8]) -> VerifiedEnvelope {
    match judged(octets, ALFA) {
        Class::Envelope(envelope) => *envelope,
        other => panic!("no envelope: {other:?}"),
    }
}

/// A message with something in its place, wherever it stands.
pub(crate) fn with(octets: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(octets.to_vec()).unwrap();
    assert!(text.contains(from), "no {from:?}");
    text.replace(from, to).into_bytes()
}

/// A message with something else in its certification data.
pub(crate) fn with_data(octets: &[u8], from: &str, to: &str) -> Vec<u8> {
    let range = examine(octets).parts().unwrap().certifications[0].range.clone();
    let xml = mail::encoding::decode_base64(&octets[range.clone()]);
    let xml = mail::encoding::base64_lines(&with(&xml, from, to));
    let xml = xml.strip_suffix(b"\r\n").unwrap_or(&xml);
    [&octets[..range.start], xml, &octets[range.end..]].concat()
}

/// The outer header of a message, without its structure.
pub(crate) fn header_of(octets: &[u8]) -> String {
    let text = String::from_utf8(octets.to_vec()).unwrap();
    text.split_once("MIME-Version").unwrap().0.to_owned()
}

/// As text, folding undone and boundaries alike.
fn comparable(octets: &[u8]) -> String {
    let text = String::from_utf8(octets.to_vec()).unwrap().replace("\r\n ", " ");
    let mut out = String::new();
    let mut rest = &text[..];
    while let Some(at) = rest.find("----=_") {
        let (before, from) = rest.split_at(at + "----=_SIG_".len());
        out.push_str(before);
        rest = from.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    }
    out + rest
}

/// Whether a message of ours, once sealed, is the example in all but its signature. Folding is free,
/// boundaries are random, and `Return-Path` is written at delivery (doubt D-16).
pub(crate) fn assert_is_example(unsigned: &Unsigned, example: &[u8]) {
    const SIGNATURE: &str = "Content-Type: application/pkcs7-signature;";
    let ours = comparable(&unsigned.clone().seal(b"signature"));
    let (ours, signature) = ours.split_once(SIGNATURE).unwrap();
    assert_eq!(
        signature,
        " name=\"smime.p7s\"\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"smime.p7s\"\r\n\r\nc2lnbmF0dXJl\r\n\r\n\
         ------=_SIG_--\r\n"
    );
    let example = comparable(example);
    let (_, example) = example.split_once("\r\n").unwrap();
    let (example, _) = example.split_once(SIGNATURE).unwrap();
    assert_eq!(ours, example);
}

/// A signed message of any content: fields, `daticert.xml`, `postacert.eml`.
pub(crate) fn message(header: &str, xml: Option<&str>, original: Option<&[u8]>) -> Vec<u8> {
    let boundaries = Boundaries::of(7);
    let text = Text::of(&Event::Transport, &exchange(), at("09:30:12"), None);
    let original = original.map(Attached::seven_bit);
    let header = header.as_bytes().to_vec();
    Unsigned::lay_out(header, &boundaries, &text, xml, original).seal(b"x")
}
