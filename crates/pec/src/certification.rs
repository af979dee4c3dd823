//! The certification data: `daticert.xml`, written and read.
//!
//! PEC-XML, RT §7.4, RFC 6109 §4.4; the DTD is in `examples/daticert.dtd`. The one part of a receipt
//! that machines may read (PEC-GEN-11).

mod read;

use mail::Address;
use serde::{Deserialize, Serialize};

pub use read::{CERTIFICATION_OCTETS_MAX, CertificationError, RECIPIENTS_MAX};

use crate::exchange::{DeliveryForm, Exchange, PecId, Recipient, as_text, as_texts};
use crate::moment::Moment;
use crate::receipt::{Event, ReceiptKind};
use crate::text::escape;

/// `postacert/@tipo`: which message carries the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CertifiedKind {
    /// A transport envelope.
    Transport,
    /// A receipt.
    Receipt(ReceiptKind),
}

impl CertifiedKind {
    /// The word of the DTD.
    pub const fn tipo(self) -> &'static str {
        match self {
            Self::Transport => "posta-certificata",
            Self::Receipt(kind) => kind.x_ricevuta(),
        }
    }

    /// The kind of this word, exactly.
    pub fn parse(tipo: &str) -> Option<Self> {
        if tipo == Self::Transport.tipo() {
            return Some(Self::Transport);
        }
        ReceiptKind::parse(tipo).map(Self::Receipt)
    }
}

/// `postacert/@errore`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ErrorKind {
    /// None.
    #[default]
    None,
    /// Wrong recipient.
    NoRecipient,
    /// Wrong domain.
    NoDomain,
    /// A virus.
    Virus,
    /// Another.
    Other,
}

impl ErrorKind {
    /// All five.
    pub const ALL: [Self; 5] =
        [Self::None, Self::NoRecipient, Self::NoDomain, Self::Virus, Self::Other];

    /// The word of the DTD.
    pub const fn errore(self) -> &'static str {
        match self {
            Self::None => "nessuno",
            Self::NoRecipient => "no-dest",
            Self::NoDomain => "no-dominio",
            Self::Virus => "virus",
            Self::Other => "altro",
        }
    }

    /// The kind of this word, exactly.
    pub fn parse(errore: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.errore() == errore)
    }
}

/// All that a `daticert.xml` says, in the order of its DTD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certification {
    /// `postacert/@tipo`
    pub kind: CertifiedKind,
    /// `postacert/@errore`
    pub error: ErrorKind,
    /// `mittente`
    #[serde(with = "as_text")]
    pub sender: Address,
    /// `destinatari`, one at least
    pub recipients: Vec<Recipient>,
    /// `risposte`
    pub replies_to: String,
    /// `oggetto`
    pub subject: Option<String>,
    /// `gestore-emittente`: who certifies
    pub provider: String,
    /// `data`, `giorno`, `ora`, `zona`
    pub at: Moment,
    /// `identificativo`
    pub identifier: PecId,
    /// `msgid`, with its angle brackets
    pub msgid: Option<String>,
    /// `ricevuta/@tipo`: what the sender asked for
    pub requested: Option<DeliveryForm>,
    /// `consegna`: the recipient concerned
    #[serde(with = "optional_text")]
    pub delivery: Option<Address>,
    /// `ricezione`: the recipients taken in charge
    #[serde(with = "as_texts")]
    pub taken: Vec<Address>,
    /// `errore-esteso`
    pub error_text: Option<String>,
}

impl Certification {
    /// The data that certify an event.
    pub fn of(event: &Event<'_>, exchange: &Exchange, at: Moment, provider: &str) -> Self {
        let (delivery, taken) = match event {
            Event::Transport
            | Event::Acceptance
            | Event::NonAcceptance { .. }
            | Event::NonAcceptanceVirus { .. } => (None, Vec::new()),
            Event::TakeCharge { recipients } => (None, recipients.to_vec()),
            Event::Delivery { recipient, .. }
            | Event::NonDelivery { recipient, .. }
            | Event::NonDeliveryVirus { recipient, .. }
            | Event::VirusFound { recipient, .. }
            | Event::Late { recipient, .. } => (Some((*recipient).clone()), Vec::new()),
        };
        let requested = matches!(event, Event::Transport | Event::Delivery { .. });
        Self {
            kind: event.kind().map_or(CertifiedKind::Transport, CertifiedKind::Receipt),
            error: event.error(),
            sender: exchange.sender.clone(),
            recipients: exchange.recipients.clone(),
            replies_to: exchange.replies_to.clone(),
            subject: exchange.subject.as_ref().map(|subject| subject.text().to_owned()),
            provider: provider.to_owned(),
            at,
            identifier: exchange.identifier.clone(),
            msgid: exchange.msgid.clone(),
            requested: requested.then_some(exchange.requested),
            delivery,
            taken,
            error_text: event.reason(provider),
        }
    }

    /// The file, in UTF-8, elements in the order of the DTD, no DOCTYPE (PEC-XML-01 to 03).
    pub fn write(&self) -> String {
        let mut out = Writer(String::with_capacity(1024 + 80 * self.recipients.len()));
        out.line(0, r#"<?xml version="1.0" encoding="UTF-8"?>"#);
        let (tipo, errore) = (self.kind.tipo(), self.error.errore());
        out.line(0, &format!(r#"<postacert tipo="{tipo}" errore="{errore}">"#));
        out.line(1, "<intestazione>");
        out.element(2, "mittente", &self.sender.to_string());
        for Recipient { address, kind } in &self.recipients {
            let address = escape(&address.to_string());
            let tipo = kind.tipo();
            out.line(2, &format!(r#"<destinatari tipo="{tipo}">{address}</destinatari>"#));
        }
        out.element(2, "risposte", &self.replies_to);
        out.optional(2, "oggetto", self.subject.as_deref());
        out.line(1, "</intestazione>");
        out.line(1, "<dati>");
        out.element(2, "gestore-emittente", &self.provider);
        out.line(2, &format!(r#"<data zona="{}">"#, self.at.zone()));
        out.element(3, "giorno", &self.at.date());
        out.element(3, "ora", &self.at.time());
        out.line(2, "</data>");
        out.element(2, "identificativo", self.identifier.as_str());
        out.optional(2, "msgid", self.msgid.as_deref());
        if let Some(form) = self.requested {
            out.line(2, &format!(r#"<ricevuta tipo="{}"/>"#, form.tipo()));
        }
        if let Some(address) = &self.delivery {
            out.element(2, "consegna", &address.to_string());
        }
        for address in &self.taken {
            out.element(2, "ricezione", &address.to_string());
        }
        out.optional(2, "errore-esteso", self.error_text.as_deref());
        out.line(1, "</dati>");
        out.line(0, "</postacert>");
        out.0
    }
}

/// A file that grows by lines.
struct Writer(String);

impl Writer {
    fn line(&mut self, depth: usize, text: &str) {
        for _ in 0..depth {
            self.0.push_str("    ");
        }
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn element(&mut self, depth: usize, name: &str, text: &str) {
        self.line(depth, &format!("<{name}>{}</{name}>", escape(&xml_text(text))));
    }

    fn optional(&mut self, depth: usize, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.element(depth, name, text);
        }
    }
}

/// A text on one line, of characters that XML 1.0 §2.2 has; others become `?`.
fn xml_text(text: &str) -> String {
    let allowed = |c| match c {
        '\u{fffe}' | '\u{ffff}' => '?',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(allowed).collect::<String>().trim().to_owned()
}

/// An address that may be missing, for serde.
mod optional_text {
    use mail::Address;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::as_text;

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "as_text")] Address);

    pub(super) fn serialize<S: Serializer>(
        address: &Option<Address>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        address.clone().map(Text).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Address>, D::Error> {
        Ok(Option::<Text>::deserialize(from)?.map(|text| text.0))
    }
}

#[cfg(test)]
mod tests;
