//! What the data of each kind must say beside what the DTD asks, and what the message in it must.
//!
//! The rows of a table of who has what: PEC-RA-04, PEC-NA-03, PEC-BT-10, PEC-PIC-06, PEC-RC-07,
//! PEC-MC-06, PEC-RV-06. A receipt that contradicts itself, or is about nobody, proves nothing; an
//! element more than its kind has is a note.

use mail::{Address, Message};

use super::{Verification, header, shown};
use crate::certification::{Certification, CertifiedKind, ErrorKind};
use crate::exchange::{DeliveryForm, RecipientKind};
use crate::inspect::{Parts, only};
use crate::receipt::ReceiptKind;

/// The data of a kind.
pub(super) fn data(found: &mut Verification, data: &Certification) {
    error(found, data);
    concerned(found, data);
    let superfluous = [
        ("consegna", data.delivery.is_some(), names_one(data.kind)),
        ("ricezione", !data.taken.is_empty(), names_several(data.kind)),
    ];
    for (name, is_there, may_be) in superfluous {
        if is_there && !may_be {
            found.note(format!("daticert.xml has {name}, which {} has not", data.kind.tipo()));
        }
    }
}

/// `errore` is one that this kind can have.
fn error(found: &mut Verification, data: &Certification) {
    use ReceiptKind as R;
    let told = data.error;
    let fails = told != ErrorKind::None;
    let (rule, ok) = match data.kind {
        CertifiedKind::Transport => ("PEC-BT-10", !fails),
        CertifiedKind::Receipt(R::Acceptance) => ("PEC-RA-04", !fails),
        CertifiedKind::Receipt(R::TakeCharge) => ("PEC-PIC-06", !fails),
        CertifiedKind::Receipt(R::Delivery) => ("PEC-RC-07", !fails),
        CertifiedKind::Receipt(R::NonAcceptance) => {
            ("PEC-NA-03", matches!(told, ErrorKind::Other | ErrorKind::Virus))
        }
        CertifiedKind::Receipt(R::NonDelivery) => ("PEC-MC-06", fails),
        CertifiedKind::Receipt(R::VirusFound) => {
            if told == ErrorKind::None {
                // The word is known from practice only.
                found.note("the data of a virus notice have no errore");
            }
            ("PEC-RV-06", matches!(told, ErrorKind::None | ErrorKind::Virus))
        }
        // Doubt D-07: any.
        CertifiedKind::Receipt(R::LateDelivery) => return,
    };
    let (kind, told) = (data.kind.tipo(), told.errore());
    let holds = format!("errore is {told}, as {kind} has it");
    found.check(rule, ok, holds, format!("errore is {told}, and the message is {kind}"));
}

/// Whether a kind names the one recipient that it is about.
fn names_one(kind: CertifiedKind) -> bool {
    use ReceiptKind as R;
    match kind {
        CertifiedKind::Receipt(R::Delivery | R::NonDelivery | R::VirusFound | R::LateDelivery) => {
            true
        }
        CertifiedKind::Receipt(R::Acceptance | R::NonAcceptance | R::TakeCharge)
        | CertifiedKind::Transport => false,
    }
}

/// Whether a kind has `ricezione`; older virus notices do (PEC-RV-06).
fn names_several(kind: CertifiedKind) -> bool {
    let receipts = [ReceiptKind::TakeCharge, ReceiptKind::VirusFound];
    receipts.into_iter().any(|receipt| kind == CertifiedKind::Receipt(receipt))
}

/// A receipt about recipients names them, and they are recipients of the message (PEC-LOG-10).
fn concerned(found: &mut Verification, data: &Certification) {
    let CertifiedKind::Receipt(kind) = data.kind else { return };
    let (rule, element) = match kind {
        ReceiptKind::TakeCharge => ("PEC-PIC-06", "ricezione"),
        ReceiptKind::Delivery => ("PEC-RC-07", "consegna"),
        ReceiptKind::NonDelivery => ("PEC-MC-06", "consegna"),
        ReceiptKind::VirusFound => ("PEC-RV-06", "consegna"),
        ReceiptKind::LateDelivery => ("PEC-TO-07", "consegna"),
        ReceiptKind::Acceptance | ReceiptKind::NonAcceptance => return,
    };
    let several = names_several(data.kind).then_some(&data.taken);
    let one = data.delivery.iter().filter(|_| names_one(data.kind));
    let named: Vec<&Address> = one.chain(several.into_iter().flatten()).collect();
    let kind = data.kind.tipo();
    let wrong = format!("daticert.xml has no {element}: {kind} is about nobody");
    found.check(rule, !named.is_empty(), "the recipient concerned is named", wrong);
    let kind_of = |address: &Address| {
        data.recipients.iter().find(|recipient| recipient.address == *address).map(|r| r.kind)
    };
    for address in named {
        match kind_of(address) {
            Some(RecipientKind::Certified) => {}
            Some(RecipientKind::Ordinary) => {
                found.note(format!("{address} is an ordinary recipient (esterno)"));
            }
            None => {
                let text = format!("{address} is not among the destinatari");
                return found.wrong("PEC-LOG-10", text);
            }
        }
    }
}

/// The message inside is by the sender and about the subject that are certified: it is what a person
/// opens. `PEC-AP-05`: its provider must have asked as much.
pub(super) fn original(found: &mut Verification, data: &Certification, inner: &Message<'_>) {
    let authors = only(inner, "From").and_then(|field| field.addresses().ok());
    let said = header::values(inner, "From");
    match authors.as_deref() {
        Some([author]) if *author == data.sender => {}
        Some(authors) if authors.len() > 1 && authors.contains(&data.sender) => {
            found.note("postacert.eml has several authors");
        }
        Some(_) => found.wrong(
            "PEC-AP-05",
            format!("From of postacert.eml is {}, not the mittente, {}", shown(&said), data.sender),
        ),
        None => found.note(format!("From of postacert.eml cannot be read: {}", shown(&said))),
    }
    let field = inner.field("Subject");
    let said = field.map(|field| header::one_line(&field.decoded())).unwrap_or_default();
    let certified = header::one_line(data.subject.as_deref().unwrap_or_default());
    if said == certified {
        return;
    }
    let text = format!(
        "Subject of postacert.eml is {}, the oggetto is {}",
        shown(&[&said]),
        shown(&[&certified])
    );
    // How encoded words and octets above 127 are read differs from program to program.
    let value = field.map(|field| field.unfolded()).unwrap_or_default();
    if header::is_plain(&value) && header::is_plain(&certified) {
        found.wrong("PEC-FMT-07", text);
    } else {
        found.note(text);
    }
}

/// Whether the original is there, as the form that is certified and the form in the text have it
/// (PEC-RC-08, PEC-RC-09).
pub(super) fn form(
    found: &mut Verification,
    data: &Certification,
    parts: &Parts<'_>,
    in_text: Option<DeliveryForm>,
) {
    let whole = !parts.originals.is_empty();
    if whole && data.requested == Some(DeliveryForm::Concise) {
        found.wrong("PEC-RC-09", "a concise receipt has no postacert.eml, and there is one");
    }
    match in_text {
        Some(DeliveryForm::Complete | DeliveryForm::Brief) if !whole => found.wrong(
            "PEC-RC-08",
            "the text is that of a receipt with postacert.eml, and there is none",
        ),
        Some(DeliveryForm::Concise) if whole => found.wrong(
            "PEC-RC-09",
            "the text is that of a concise receipt, and postacert.eml is there",
        ),
        _ => {}
    }
}
