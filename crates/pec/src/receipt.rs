//! The seven kinds of receipt, and what each holds.
//!
//! RT §6.3.2 to §6.5.3, RFC 6109 §3.1.2 to §3.3.3. Each function makes the octets to be signed, and
//! what one kind alone needs is in its own variant of [`Event`]. Not here: envelopes, which are in
//! [`crate::envelope`], and when a receipt is due.

use mail::Address;
use mail::message::write_field;
use serde::{Deserialize, Serialize};

use crate::access::{Accepted, NonAcceptance};
use crate::certification::{Certification, ErrorKind};
use crate::delivery::{self, Failure};
use crate::exchange::{DeliveryForm, Exchange, Fresh, Provider};
use crate::incoming::{VerifiedEnvelope, VerifiedNotification};
use crate::layout::{Attached, Boundaries, Unsigned};
use crate::moment::Moment;
use crate::reduce::{self, Hashed};
use crate::subject::{Subject, write_subject};
use crate::text::{self, Text};

/// What a receipt attests: the value of its `X-Ricevuta` field.
///
/// The law parts *ricevute* (receipts) from *avvisi* (notices), DM 2 Nov 2005 art. 6; RFC 6109
/// calls both "PEC notifications". One field carries all seven, so one type holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReceiptKind {
    /// Our user's message is in the PEC circuit.
    Acceptance,
    /// It is not, and why.
    NonAcceptance,
    /// The recipient's provider has the envelope.
    TakeCharge,
    /// The envelope is in the recipient's mailbox.
    Delivery,
    /// It cannot be put there, and why.
    NonDelivery,
    /// Nothing is known of its delivery after twelve, or twenty-four, hours.
    LateDelivery,
    /// The recipient's provider found a virus in it.
    VirusFound,
}

impl ReceiptKind {
    /// All seven.
    pub const ALL: [Self; 7] = [
        Self::Acceptance,
        Self::NonAcceptance,
        Self::TakeCharge,
        Self::Delivery,
        Self::NonDelivery,
        Self::LateDelivery,
        Self::VirusFound,
    ];

    /// The one place these words are spelled; [`parse`](Self::parse) searches it, so the two
    /// cannot part.
    pub const fn x_ricevuta(self) -> &'static str {
        match self {
            Self::Acceptance => "accettazione",
            Self::NonAcceptance => "non-accettazione",
            Self::TakeCharge => "presa-in-carico",
            Self::Delivery => "avvenuta-consegna",
            // "mancata consegna" is the phrase of the subject only.
            Self::NonDelivery => "errore-consegna",
            Self::LateDelivery => "preavviso-errore-consegna",
            Self::VirusFound => "rilevazione-virus",
        }
    }

    /// The kind of this word, exactly.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.x_ricevuta() == word)
    }

    /// Whether it goes to the service mailbox of a provider and to no user (PEC-PR-22).
    pub const fn is_for_providers(self) -> bool {
        matches!(self, Self::TakeCharge | Self::VirusFound)
    }
}

/// Which of the two notices of late delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Notice {
    /// After twelve hours (PEC-TO-01).
    First,
    /// Before twenty-four have passed (PEC-TO-02).
    Second,
}

/// What happened to a message, and what only that kind of event has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// It leaves in a transport envelope.
    Transport,
    /// The access point accepted it.
    Acceptance,
    /// The access point refused it.
    NonAcceptance {
        /// Why, in Italian.
        reason: &'a str,
    },
    /// The access point found a virus.
    NonAcceptanceVirus {
        /// Its name.
        virus: &'a str,
    },
    /// The incoming point has it.
    TakeCharge {
        /// For whom.
        recipients: &'a [Address],
    },
    /// It was delivered.
    Delivery {
        /// To whom.
        recipient: &'a Address,
        /// How much the receipt brings back.
        form: DeliveryForm,
    },
    /// It could not be delivered.
    NonDelivery {
        /// To whom.
        recipient: &'a Address,
        /// Why.
        failure: &'a Failure,
    },
    /// It was not delivered, for a virus.
    NonDeliveryVirus {
        /// To whom.
        recipient: &'a Address,
        /// Its name.
        virus: &'a str,
    },
    /// The incoming point found a virus.
    VirusFound {
        /// In a message to whom.
        recipient: &'a Address,
        /// Its name.
        virus: &'a str,
    },
    /// No news for hours.
    Late {
        /// Of whom.
        recipient: &'a Address,
        /// After how many.
        notice: Notice,
    },
}

impl Event<'_> {
    /// The kind of receipt; `None` for the envelope.
    pub const fn kind(&self) -> Option<ReceiptKind> {
        Some(match self {
            Self::Transport => return None,
            Self::Acceptance => ReceiptKind::Acceptance,
            Self::NonAcceptance { .. } | Self::NonAcceptanceVirus { .. } => {
                ReceiptKind::NonAcceptance
            }
            Self::TakeCharge { .. } => ReceiptKind::TakeCharge,
            Self::Delivery { .. } => ReceiptKind::Delivery,
            Self::NonDelivery { .. } | Self::NonDeliveryVirus { .. } => ReceiptKind::NonDelivery,
            Self::VirusFound { .. } => ReceiptKind::VirusFound,
            Self::Late { .. } => ReceiptKind::LateDelivery,
        })
    }

    /// The prefix of the subject, without its colon (PEC-FMT-07).
    pub const fn prefix(&self) -> &'static str {
        match self {
            Self::Transport => "POSTA CERTIFICATA",
            Self::Acceptance => "ACCETTAZIONE",
            Self::NonAcceptance { .. } => "AVVISO DI NON ACCETTAZIONE",
            Self::NonAcceptanceVirus { .. } => "AVVISO DI NON ACCETTAZIONE PER VIRUS",
            Self::TakeCharge { .. } => "PRESA IN CARICO",
            Self::Delivery { .. } => "CONSEGNA",
            Self::NonDelivery { .. } => "AVVISO DI MANCATA CONSEGNA",
            Self::NonDeliveryVirus { .. } => "AVVISO DI MANCATA CONSEGNA PER VIRUS",
            Self::VirusFound { .. } => "PROBLEMA DI SICUREZZA",
            Self::Late { .. } => "AVVISO DI MANCATA CONSEGNA PER SUP. TEMPO MASSIMO",
        }
    }

    /// `X-VerificaSicurezza: errore`, when it has that field.
    const fn is_security_error(&self) -> bool {
        matches!(self, Self::NonAcceptanceVirus { .. } | Self::NonDeliveryVirus { .. })
    }

    /// The value of `errore`.
    pub const fn error(&self) -> ErrorKind {
        match self {
            Self::Transport
            | Self::Acceptance
            | Self::TakeCharge { .. }
            | Self::Delivery { .. } => ErrorKind::None,
            Self::NonAcceptance { .. } | Self::Late { .. } => ErrorKind::Other,
            Self::NonAcceptanceVirus { .. }
            | Self::NonDeliveryVirus { .. }
            | Self::VirusFound { .. } => ErrorKind::Virus,
            Self::NonDelivery { failure, .. } => failure.error(),
        }
    }

    /// The value of `errore-esteso`, and what the text says the reason is.
    pub fn reason(&self, provider: &str) -> Option<String> {
        match self {
            Self::Transport
            | Self::Acceptance
            | Self::TakeCharge { .. }
            | Self::Delivery { .. } => None,
            Self::NonAcceptance { reason } => Some((*reason).to_owned()),
            Self::NonAcceptanceVirus { virus }
            | Self::NonDeliveryVirus { virus, .. }
            | Self::VirusFound { virus, .. } => Some((*virus).to_owned()),
            Self::NonDelivery { failure, .. } => Some(failure.describe(provider)),
            Self::Late { notice, .. } => {
                Some(delivery::describe("5.4.1", provider, text::lateness(*notice)))
            }
        }
    }
}

/// The acceptance receipt (*ricevuta di accettazione*), to the sender. RT §6.3.3.
pub fn acceptance(accepted: &Accepted, provider: &Provider, fresh: Fresh) -> Unsigned {
    let exchange = accepted.exchange();
    let receipt = Receipt { provider, exchange, at: accepted.at(), fresh };
    receipt.make(Event::Acceptance, &exchange.sender, None)
}

/// The non-acceptance notice (*avviso di non accettazione*), to the sender. RT §6.3.2; for a virus,
/// RT §6.4.3.1.
pub fn non_acceptance(refused: &NonAcceptance, provider: &Provider, fresh: Fresh) -> Unsigned {
    let exchange = refused.exchange();
    let receipt = Receipt { provider, exchange, at: refused.at(), fresh };
    let event = if refused.is_infected() {
        Event::NonAcceptanceVirus { virus: refused.reason() }
    } else {
        Event::NonAcceptance { reason: refused.reason() }
    };
    receipt.make(event, &exchange.sender, None)
}

/// The take-charge receipt (*ricevuta di presa in carico*), to the service mailbox of the sender's
/// provider: one for all recipients of one transaction that are ours. RT §6.4.1.
pub fn take_charge(
    envelope: &VerifiedEnvelope,
    recipients: &[Address],
    provider: &Provider,
    at: Moment,
    fresh: Fresh,
) -> Unsigned {
    let receipt = Receipt { provider, exchange: envelope.exchange(), at, fresh };
    receipt.make(Event::TakeCharge { recipients }, envelope.receipts_to(), None)
}

/// The delivery receipt (*ricevuta di avvenuta consegna*), to the sender, in the form that request
/// and place decide ([`delivery::form`]). `envelope_octets` is the envelope as it was examined.
/// RT §6.5.2.
pub fn delivery(
    envelope: &VerifiedEnvelope,
    envelope_octets: &[u8],
    recipient: &Address,
    hashed: Hashed,
    provider: &Provider,
    at: Moment,
    fresh: Fresh,
) -> Unsigned {
    let exchange = envelope.exchange();
    let form = delivery::form(exchange.requested, envelope.place(recipient));
    let original = envelope.original(envelope_octets);
    let reduced;
    let attached = match form {
        DeliveryForm::Complete => Some(original),
        DeliveryForm::Brief => {
            reduced = reduce::reduce(original, hashed);
            Some(&reduced[..])
        }
        DeliveryForm::Concise => None,
    };
    let receipt = Receipt { provider, exchange, at, fresh };
    receipt.make(Event::Delivery { recipient, form }, &exchange.sender, attached)
}

/// The non-delivery notice (*avviso di mancata consegna*), to the sender: one for each recipient
/// that failed. RT §6.5.3.
pub fn non_delivery(
    envelope: &VerifiedEnvelope,
    recipient: &Address,
    failure: &Failure,
    provider: &Provider,
    at: Moment,
    fresh: Fresh,
) -> Unsigned {
    let exchange = envelope.exchange();
    let receipt = Receipt { provider, exchange, at, fresh };
    receipt.make(Event::NonDelivery { recipient, failure }, &exchange.sender, None)
}

/// The virus detection notice (*avviso di rilevazione virus*), to the service mailbox of the
/// sender's provider: one for each recipient. RT §6.4.3.2.
pub fn virus_found(
    envelope: &VerifiedEnvelope,
    recipient: &Address,
    virus: &str,
    provider: &Provider,
    at: Moment,
    fresh: Fresh,
) -> Unsigned {
    let receipt = Receipt { provider, exchange: envelope.exchange(), at, fresh };
    receipt.make(Event::VirusFound { recipient, virus }, envelope.receipts_to(), None)
}

/// The non-delivery notice for a virus, to our user, on receipt of a virus detection notice, from
/// which all its data come (PEC-MCV-01). `None` when what came is none, or names no recipient.
/// RT §6.4.3.3.
pub fn non_delivery_virus(
    found: &VerifiedNotification,
    provider: &Provider,
    at: Moment,
    fresh: Fresh,
) -> Option<Unsigned> {
    let data = found.certification();
    if found.kind() != ReceiptKind::VirusFound {
        return None;
    }
    let recipient = found.recipient()?;
    let virus = data.error_text.as_deref().unwrap_or("non specificato");
    let exchange = data.exchange();
    let receipt = Receipt { provider, exchange: &exchange, at, fresh };
    let event = Event::NonDeliveryVirus { recipient, virus };
    Some(receipt.make(event, &exchange.sender, None))
}

/// A notice of late delivery (*avviso di mancata consegna per superamento dei tempi massimi*), to
/// our user: one for each recipient. RT §6.3.5.
pub fn late(
    exchange: &Exchange,
    recipient: &Address,
    notice: Notice,
    provider: &Provider,
    at: Moment,
    fresh: Fresh,
) -> Unsigned {
    let receipt = Receipt { provider, exchange, at, fresh };
    receipt.make(Event::Late { recipient, notice }, &exchange.sender, None)
}

/// What all receipts have.
struct Receipt<'a> {
    provider: &'a Provider,
    exchange: &'a Exchange,
    at: Moment,
    fresh: Fresh,
}

impl Receipt<'_> {
    fn make(self, event: Event<'_>, to: &Address, original: Option<&[u8]>) -> Unsigned {
        let Self { provider, exchange, at, fresh } = self;
        let mut header = Vec::with_capacity(1024);
        if let Some(kind) = event.kind() {
            write_field(&mut header, "X-Ricevuta", kind.x_ricevuta());
        }
        if event.is_security_error() {
            write_field(&mut header, "X-VerificaSicurezza", "errore");
        }
        if matches!(event, Event::VirusFound { .. }) {
            write_field(&mut header, "X-Mittente", &exchange.sender.to_string());
        }
        write_field(&mut header, "Date", &at.header());
        write_subject(&mut header, event.prefix(), exchange.subject.as_ref());
        write_field(&mut header, "From", &provider.author.to_string());
        write_field(&mut header, "To", &to.to_string());
        write_field(&mut header, "Message-ID", &fresh.message_id.in_brackets());
        write_reference(&mut header, exchange);
        let certification = Certification::of(&event, exchange, at, &provider.name);
        let text = Text::of(&event, exchange, at, certification.error_text.as_deref());
        let certification = certification.write();
        let original = original.map(Attached::seven_bit);
        Unsigned::lay_out(
            header,
            &Boundaries::of(fresh.token),
            &text,
            Some(&certification),
            original,
        )
    }
}

/// `X-Riferimento-Message-ID`, when the original had a `Message-ID` (PEC-AP-22, PEC-AP-23).
pub(crate) fn write_reference(header: &mut Vec<u8>, exchange: &Exchange) {
    if let Some(msgid) = &exchange.msgid {
        write_field(header, "X-Riferimento-Message-ID", msgid);
    }
}

impl Certification {
    /// What the message is about, as these data have it.
    pub(crate) fn exchange(&self) -> Exchange {
        Exchange {
            identifier: self.identifier.clone(),
            msgid: self.msgid.clone(),
            sender: self.sender.clone(),
            recipients: self.recipients.clone(),
            replies_to: self.replies_to.clone(),
            subject: self.subject.as_deref().map(Subject::from_text),
            requested: self.requested.unwrap_or(DeliveryForm::Complete),
        }
    }
}

#[cfg(test)]
mod tests;
