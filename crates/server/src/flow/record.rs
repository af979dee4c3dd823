//! Log records of certified mail (PEC-LOG-01), built so that every event has the fields it must.

use mail::{Address, Message, ReversePath};
use pec::certification::Certification;
use pec::exchange::{Exchange, PecId, Recipient, RecipientKind};
use pec::moment::Moment;
use store::{LogRecord, LoggedRecipient};

use crate::site::Site;

/// Characters of a subject that nobody certified, in the log, at most.
const SUBJECT_CHARACTERS_MAX: usize = 1_000;

/// A record on its way.
#[derive(Clone)]
pub(super) struct Record(LogRecord);

/// A record of an event of this message, by us.
pub(super) fn of(site: &Site, event: &str, exchange: &Exchange, at: Moment) -> Record {
    Record(LogRecord {
        time: at.instant(),
        event: event.to_owned(),
        identificativo: Some(exchange.identifier.as_str().to_owned()),
        mittente: Some(exchange.sender.to_string()),
        destinatari: logged(&exchange.recipients),
        oggetto: exchange.subject.as_ref().map(|subject| subject.text().to_owned()),
        gestore: Some(site.provider.name.clone()),
        msgid: exchange.msgid.as_deref().map(bare),
        ..LogRecord::default()
    })
}

/// A record of an event of the message that these data are about: a receipt's, for one.
pub(super) fn of_data(event: &str, data: &Certification, at: Moment) -> Record {
    Record(LogRecord {
        time: at.instant(),
        event: event.to_owned(),
        identificativo: Some(data.identifier.as_str().to_owned()),
        mittente: Some(data.sender.to_string()),
        destinatari: logged(&data.recipients),
        oggetto: data.subject.clone(),
        gestore: Some(data.provider.clone()),
        msgid: data.msgid.as_deref().map(bare),
        ..LogRecord::default()
    })
}

/// A record of an event of a message that is not certified: what it says of itself, and its paths
/// (PEC-LOG-04).
pub(super) fn of_ordinary(
    site: &Site,
    event: &str,
    octets: &[u8],
    reverse_path: &ReversePath,
    forward_paths: &[Address],
    at: Moment,
) -> Record {
    let message = Message::lenient(octets);
    let sender = match reverse_path {
        ReversePath::Null => None,
        ReversePath::Address(address) => Some(address.to_string()),
    };
    // Its identifier is kept only when it could be somebody's: what is no identifier finds nothing.
    let id = message.field("Message-ID").and_then(|field| PecId::parse(&bare(&field.unfolded())));
    let subject = message.field("Subject").map(|field| field.decoded());
    Record(LogRecord {
        time: at.instant(),
        event: event.to_owned(),
        message_id: id.map(String::from),
        mittente: sender,
        destinatari: forward_paths
            .iter()
            .map(|address| LoggedRecipient {
                address: address.to_string(),
                tipo: RecipientKind::Certified.tipo().to_owned(),
            })
            .collect(),
        oggetto: subject.map(|text| text.chars().take(SUBJECT_CHARACTERS_MAX).collect()),
        gestore: Some(site.provider.name.clone()),
        ..LogRecord::default()
    })
}

fn logged(recipients: &[Recipient]) -> Vec<LoggedRecipient> {
    let recipient = |recipient: &Recipient| LoggedRecipient {
        address: recipient.address.to_string(),
        tipo: recipient.kind.tipo().to_owned(),
    };
    recipients.iter().map(recipient).collect()
}

impl Record {
    /// The message that the record is about.
    pub(super) fn about(mut self, id: &PecId) -> Self {
        self.0.message_id = Some(id.as_str().to_owned());
        self
    }

    /// The same, by the value of a `Message-ID` field of somebody else's.
    pub(super) fn about_field(mut self, message_id: &str) -> Self {
        self.0.message_id = Some(bare(message_id));
        self
    }

    /// The provider that emitted it, when that is not us.
    pub(super) fn by(mut self, provider: &str) -> Self {
        self.0.gestore = Some(provider.to_owned());
        self
    }

    /// The recipient that was delivered to, or not.
    pub(super) fn delivery(mut self, recipient: &Address) -> Self {
        self.0.consegna = Some(recipient.to_string());
        self
    }

    /// The recipients taken in charge.
    pub(super) fn taken(mut self, recipients: &[Address]) -> Self {
        self.0.ricezione = recipients.iter().map(ToString::to_string).collect();
        self
    }

    /// `errore` and `errore-esteso`.
    pub(super) fn error(mut self, error: &str, text: &str) -> Self {
        self.0.errore = Some(error.to_owned());
        self.0.errore_esteso = Some(text.to_owned());
        self
    }

    /// What it is a record of.
    pub(super) fn event(mut self, event: &str) -> Self {
        event.clone_into(&mut self.0.event);
        self
    }

    /// What was out of order and not decisive.
    pub(super) fn notes(mut self, notes: &[String]) -> Self {
        self.0.notes.extend_from_slice(notes);
        self
    }

    pub(super) fn build(self) -> LogRecord {
        self.0
    }
}

/// An identifier without its angle brackets.
fn bare(message_id: &str) -> String {
    message_id.trim().trim_start_matches('<').trim_end_matches('>').to_owned()
}
