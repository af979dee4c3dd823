//! What the delivery point decides: which receipt a delivery gets, and how a failure is told.
//!
//! PEC-RC-01 to PEC-RC-04 (RT §6.5.2), PEC-MC, NOTA 12 of 5 Oct 2015. Not here: the octets of the
//! receipts, which are in [`crate::receipt`], and the delivery itself.

use mail::Address;
use serde::{Deserialize, Serialize};

use crate::certification::ErrorKind;
use crate::exchange::DeliveryForm;
use crate::text;

/// Where a recipient is named in the header of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In `To`.
    Primary,
    /// In `Cc`.
    Copy,
    /// In neither, or in both.
    Ambiguous,
}

impl Place {
    /// Finds a recipient among the addresses of `To` and `Cc` (PEC-RC-04).
    pub fn of(recipient: &Address, to: &[Address], cc: &[Address]) -> Self {
        match (to.contains(recipient), cc.contains(recipient)) {
            (true, false) => Self::Primary,
            (false, true) => Self::Copy,
            _ => Self::Ambiguous,
        }
    }
}

/// The form of the receipt for a delivery: the decision table of PEC-RC-01. In doubt a recipient
/// counts as primary (PEC-RC-02).
pub fn form(requested: DeliveryForm, place: Place) -> DeliveryForm {
    match (requested, place) {
        (DeliveryForm::Concise, _) | (_, Place::Copy) => DeliveryForm::Concise,
        (requested, Place::Primary | Place::Ambiguous) => requested,
    }
}

/// Why a correct envelope was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// No such mailbox, or one whose holder left.
    UnknownMailbox,
    /// The domain is not ours.
    UnmanagedDomain,
    /// The mailbox is there, and disabled for now.
    Suspended,
    /// It is full.
    Full,
    /// Anything else, in Italian, without a full stop.
    Other(String),
}

impl Failure {
    /// The code of NOTA 12, in the shape of RFC 3463 §2.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownMailbox => "5.1.1",
            Self::UnmanagedDomain => "5.1.2",
            Self::Suspended => "5.2.1",
            Self::Full => "5.2.2",
            Self::Other(_) => "5.3.0",
        }
    }

    /// The value of `errore` (PEC-MC-06).
    pub const fn error(&self) -> ErrorKind {
        match self {
            Self::UnknownMailbox => ErrorKind::NoRecipient,
            Self::UnmanagedDomain => ErrorKind::NoDomain,
            Self::Suspended | Self::Full | Self::Other(_) => ErrorKind::Other,
        }
    }

    /// `<code> - <provider name> - <description>`, in the text and in `errore-esteso`
    /// (PEC-MC-07).
    pub fn describe(&self, provider: &str) -> String {
        describe(self.code(), provider, text::failure(self))
    }
}

/// Code, provider and description as one text (PEC-NOT-02).
pub(crate) fn describe(code: &str, provider: &str, description: &str) -> String {
    format!("{code} - {provider} - {description}")
}

/// The code at the start of an `errore-esteso`, and what follows it: provider and description, not
/// parted, since names of providers have hyphens too. `None` when there is no code.
pub fn read_code(error_text: &str) -> Option<(&str, &str)> {
    let (code, rest) = error_text.trim().split_once('-')?;
    let code = code.trim_end();
    let mut numbers = code.split('.');
    let digits = |n: &str| !n.is_empty() && n.len() <= 3 && n.bytes().all(|b| b.is_ascii_digit());
    let class = numbers.next().is_some_and(|n| n.len() == 1 && digits(n));
    let rest_of_code = numbers.next().is_some_and(digits) && numbers.next().is_some_and(digits);
    (class && rest_of_code && numbers.next().is_none()).then(|| (code, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // PEC-RC-01 PEC-RC-02 PEC-RC-04
    #[test]
    fn form_and_place_decide_the_receipt() {
        use DeliveryForm::{Brief, Complete, Concise};
        let address = |text: &str| Address::parse(text).unwrap();
        let to = [address("a@b.example"), address("both@b.example")];
        let cc = [address("c@b.example"), address("both@b.example")];
        for (requested, expected) in [
            (Complete, [Complete, Concise, Complete, Complete]),
            (Brief, [Brief, Concise, Brief, Brief]),
            (Concise, [Concise, Concise, Concise, Concise]),
        ] {
            let recipients = ["A@B.example", "c@b.example", "both@b.example", "none@b.example"];
            let forms = recipients.map(|r| form(requested, Place::of(&address(r), &to, &cc)));
            assert_eq!(forms, expected);
        }
    }

    // PEC-MC-07 PEC-NOT-01 PEC-NOT-02
    #[test]
    fn a_failure_is_told_with_its_code() {
        let name = "Beta Certificata S.r.l.";
        for (failure, tipo, text) in [
            (
                Failure::UnknownMailbox,
                "no-dest",
                "5.1.1 - Beta Certificata S.r.l. - indirizzo non valido",
            ),
            (
                Failure::UnmanagedDomain,
                "no-dominio",
                "5.1.2 - Beta Certificata S.r.l. - dominio non gestito",
            ),
            (Failure::Suspended, "altro", "5.2.1 - Beta Certificata S.r.l. - casella disattivata"),
            (Failure::Full, "altro", "5.2.2 - Beta Certificata S.r.l. - casella piena"),
            (
                Failure::Other("errore interno".into()),
                "altro",
                "5.3.0 - Beta Certificata S.r.l. - errore interno",
            ),
        ] {
            assert_eq!((failure.error().errore(), failure.describe(name)), (tipo, text.to_owned()));
        }
    }

    #[test]
    fn a_code_is_read_as_far_as_it_goes() {
        for (text, read) in [
            ("5.1.1 - A - GRUPPO B - non valido", Some(("5.1.1", "A - GRUPPO B - non valido"))),
            (" 5.4.1-X", Some(("5.4.1", "X"))),
            ("casella del destinatario inesistente", None),
            ("5.1 - x", None),
            ("5.1.1.1 - x", None),
            ("51.1.1 - x", None),
            ("", None),
        ] {
            assert_eq!(read_code(text), read, "{text}");
        }
    }
}
