//! What one certified message is about, and who its provider is: the words all steps share.
//!
//! An [`Exchange`] is made once, by the access point ([`crate::access`]) or from the signed data of
//! an envelope that arrived ([`crate::incoming`]), and goes from step to step; it can be written
//! into the jobs of a queue. Not here: what happened to the message, which is a
//! [`crate::receipt::Event`].

use std::fmt;

use mail::{Address, Domain};
use serde::{Deserialize, Serialize};

use crate::subject::Subject;

/// Octets of an identifier at most: it must fit on a line of a header field, RFC 5322 §2.1.1.
pub const IDENTIFIER_OCTETS_MAX: usize = 900;

/// A message identifier without its angle brackets: `[stringa]@[dominio]` (PEC-AP-20).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PecId(String);

impl PecId {
    /// Reads an identifier: something on both sides of an `@`, printable ASCII without spaces and
    /// angle brackets. `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (left, right) = text.split_once('@')?;
        let fits = text.len() <= IDENTIFIER_OCTETS_MAX && !left.is_empty() && !right.is_empty();
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"<>".contains(&b));
        (fits && plain).then(|| Self(text.to_owned()))
    }

    /// `left@domain`, for identifiers of ours: what is no letter, digit, dot or hyphen in `left` is
    /// left out.
    pub fn of(left: &str, domain: &Domain) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || ".-".contains(*c);
        let left: String = left.chars().filter(plain).take(LEFT_OCTETS_MAX).collect();
        Self(format!("{}@{domain}", if left.is_empty() { "0" } else { &left }))
    }

    /// The identifier without angle brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of a `Message-ID` field.
    pub fn in_brackets(&self) -> String {
        format!("<{}>", self.0)
    }
}

/// Octets of the left side of an identifier of ours at most.
const LEFT_OCTETS_MAX: usize = 128;

impl fmt::Display for PecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PecId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a message identifier")
    }
}

impl From<PecId> for String {
    fn from(id: PecId) -> Self {
        id.0
    }
}

/// What a message of ours needs fresh: its identifier, and a number nobody can guess, of which the
/// boundaries of its parts are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    /// Its `Message-ID` (PEC-AP-24: never the PEC msgid of the message it talks about).
    pub message_id: PecId,
    /// 128 random bits.
    pub token: u128,
}

/// A provider that signs: ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its descriptive name, for `gestore-emittente`.
    pub name: String,
    /// The author of all it signs: `posta-certificata@[dominio_di_posta]` (PEC-GEN-08).
    pub author: Address,
    /// Where take-charge receipts and virus notices come: `mailReceipt` in the index (PEC-GEN-07).
    pub service_mailbox: Address,
}

impl Provider {
    /// Whether an address is one of the service's own, which no user may write to.
    pub fn is_service_address(&self, address: &Address) -> bool {
        *address == self.author || *address == self.service_mailbox
    }
}

/// Whether a recipient's domain is in the circuit (PEC-AP-18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecipientKind {
    /// *Posta certificata*: some provider manages the domain.
    Certified,
    /// *Posta ordinaria*: none does.
    Ordinary,
}

impl RecipientKind {
    /// The word of `destinatari/@tipo`.
    pub const fn tipo(self) -> &'static str {
        match self {
            Self::Certified => "certificato",
            Self::Ordinary => "esterno",
        }
    }

    /// The reverse of [`tipo`](Self::tipo).
    pub fn parse(tipo: &str) -> Option<Self> {
        [Self::Certified, Self::Ordinary].into_iter().find(|kind| kind.tipo() == tipo)
    }
}

/// One recipient of the original message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The forward-path.
    #[serde(with = "as_text")]
    pub address: Address,
    /// Whether it is certified.
    pub kind: RecipientKind,
}

/// How much of the original a delivery receipt brings back: `X-TipoRicevuta`, `ricevuta/@tipo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryForm {
    /// All of it.
    Complete,
    /// All but its attachments, of which it has the hashes.
    Brief,
    /// Nothing.
    Concise,
}

impl DeliveryForm {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Complete, Self::Brief, Self::Concise];

    /// The word of the field and of the XML.
    pub const fn tipo(self) -> &'static str {
        match self {
            Self::Complete => "completa",
            Self::Brief => "breve",
            Self::Concise => "sintetica",
        }
    }

    /// The reverse of [`tipo`](Self::tipo), exactly.
    pub fn parse(tipo: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.tipo() == tipo)
    }

    /// What a sender asked for with an `X-TipoRicevuta` field: any other value, or no field, means
    /// complete (PEC-RC-03).
    pub fn requested(value: Option<&str>) -> Self {
        let value = value.unwrap_or_default().trim().to_ascii_lowercase();
        Self::parse(&value).unwrap_or(Self::Complete)
    }
}

/// What one certified message is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The PEC msgid (*identificativo*).
    pub identifier: PecId,
    /// The `Message-ID` of the sender's client, with its angle brackets, when there was one.
    pub msgid: Option<String>,
    /// The reverse-path (PEC-GEN-12).
    #[serde(with = "as_text")]
    pub sender: Address,
    /// All recipients, in their order.
    pub recipients: Vec<Recipient>,
    /// `risposte`: the value of `Reply-To`, or the address in `From`.
    pub replies_to: String,
    /// The subject, when there was one.
    pub subject: Option<Subject>,
    /// The delivery receipt that the sender asked for.
    pub requested: DeliveryForm,
}

impl Exchange {
    /// The subject as people read it; empty when there is none.
    pub fn subject_text(&self) -> &str {
        self.subject.as_ref().map_or("", Subject::text)
    }

    /// The certified recipients, whom a tracker follows.
    pub fn certified(&self) -> impl Iterator<Item = &Address> {
        let certified = |r: &&Recipient| r.kind == RecipientKind::Certified;
        self.recipients.iter().filter(certified).map(|r| &r.address)
    }
}

/// An address as text, for serde.
pub mod as_text {
    use mail::Address;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes `local-part@domain`.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(address: &Address, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(address)
    }

    /// Reads `local-part@domain`.
    ///
    /// # Errors
    ///
    /// What is read is no address.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
        Address::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A reverse-path as text, for serde: empty when it is `<>`.
pub mod as_path {
    use mail::{Address, ReversePath};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes `local-part@domain`, or nothing.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(path: &ReversePath, to: S) -> Result<S::Ok, S::Error> {
        match path {
            ReversePath::Null => to.serialize_str(""),
            ReversePath::Address(address) => to.collect_str(address),
        }
    }

    /// Reads `local-part@domain`, or nothing.
    ///
    /// # Errors
    ///
    /// What is read is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ReversePath, D::Error> {
        match &String::deserialize(from)?[..] {
            "" => Ok(ReversePath::Null),
            text => Address::parse(text).map(ReversePath::Address).map_err(D::Error::custom),
        }
    }
}

/// Addresses as texts, for serde.
pub mod as_texts {
    use mail::Address;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes each as `local-part@domain`.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(addresses: &[Address], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(addresses.iter().map(ToString::to_string))
    }

    /// Reads them.
    ///
    /// # Errors
    ///
    /// One of them is no address.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Address>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| Address::parse(text).map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // PEC-AP-20
    #[test]
    fn an_identifier_has_two_sides() {
        for text in [
            "20080327125149.115789@actalis.it",
            "opec21192.20241205000210.24820.46.1.184@sicurezzapostale.it",
            "E82D9D8F.000073B6.E8F90950.8520A581.posta-certificata@postecert.it",
        ] {
            assert_eq!(PecId::parse(text).unwrap().in_brackets(), format!("<{text}>"));
        }
        let long = format!("{}@b", "a".repeat(IDENTIFIER_OCTETS_MAX - 1));
        for text in ["", "a", "@b", "a@", "<a@b>", "a b@c", "a@b\r\nX: y", "\u{e8}@b", &long] {
            assert_eq!(PecId::parse(text), None, "{text}");
        }
        let domain = Domain::parse("alfapec.example").unwrap();
        assert_eq!(PecId::of("2026.4c-1f", &domain).as_str(), "2026.4c-1f@alfapec.example");
        assert_eq!(PecId::of("<@ \r\n>", &domain).as_str(), "0@alfapec.example");
    }

    // PEC-RC-03
    #[test]
    fn what_is_neither_brief_nor_concise_is_complete() {
        for (value, form) in [
            (None, DeliveryForm::Complete),
            (Some("completa"), DeliveryForm::Complete),
            (Some("complet"), DeliveryForm::Complete),
            (Some(""), DeliveryForm::Complete),
            (Some(" Breve "), DeliveryForm::Brief),
            (Some("SINTETICA"), DeliveryForm::Concise),
            (Some("breve; x=y"), DeliveryForm::Complete),
        ] {
            assert_eq!(DeliveryForm::requested(value), form, "{value:?}");
        }
    }
}
