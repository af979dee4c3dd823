//! For whom the signer may speak.
//!
//! Every provider of the index can sign, and each speaks for its own users only: of a delivery and of
//! taking charge for the recipients, of acceptance and of silence for the sender (PEC-PR-27); and it
//! writes from a domain of its own (PEC-PR-06). Not here: whether the signature is the signer's.

use mail::Address;

use super::Check;
use crate::certification::{Certification, CertifiedKind, ErrorKind};
use crate::providers::{Index, ProviderRecord};
use crate::receipt::ReceiptKind;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mandate {
    /// What was checked.
    pub checks: Vec<Check>,
    /// What could not be, or is unusual.
    pub notes: Vec<String>,
}

/// Who manages a domain.
#[derive(Clone, Copy, PartialEq)]
enum Manager<'i> {
    Signer,
    Other(&'i ProviderRecord),
    Nobody,
}

/// Whether the signer, of these `records`, may speak as `author` for the addresses for whom these data
/// speak. That another provider of the index manages one of them is a failed check; that none does is
/// a note, for an index can be of another day than the message (PEC-IDX-12).
pub fn mandate(
    index: &Index,
    records: &[&ProviderRecord],
    author: Option<&Address>,
    data: Option<&Certification>,
) -> Mandate {
    let mut found = Mandate::default();
    let manager = |address: &Address| manager(index, records, address);
    if let Some(author) = author
        && manager(author) != Manager::Signer
    {
        // Doubt D-21.
        found.notes.push(format!("{} is no domain of the signer (PEC-PR-06)", author.domain()));
    }
    let Some(data) = data else { return found };
    let is_sender_his = manager(&data.sender) == Manager::Signer;
    let mut recipients = data.delivery.iter().chain(&data.taken).peekable();
    let are_recipients_his = recipients.peek().is_some()
        && recipients.all(|recipient| manager(recipient) == Manager::Signer);
    // A receipt that names no recipient is about nobody: that is for others to find.
    let (rule, spoken_for): (_, Vec<&Address>) = match data.kind {
        CertifiedKind::Transport => ("PEC-PR-02", vec![&data.sender]),
        CertifiedKind::Receipt(
            ReceiptKind::Acceptance | ReceiptKind::NonAcceptance | ReceiptKind::LateDelivery,
        ) => ("PEC-PR-27", vec![&data.sender]),
        CertifiedKind::Receipt(ReceiptKind::NonDelivery)
            if is_sender_his && !are_recipients_his =>
        {
            // Of a virus the sender's provider tells (PEC-MCV-01); of what it could not hand over it
            // may (doubt D-12).
            if data.error != ErrorKind::Virus {
                let text = "the sender's provider tells of the failure, not the recipient's";
                found.notes.push(text.to_owned());
            }
            ("PEC-PR-27", vec![&data.sender])
        }
        CertifiedKind::Receipt(
            ReceiptKind::TakeCharge
            | ReceiptKind::Delivery
            | ReceiptKind::NonDelivery
            | ReceiptKind::VirusFound,
        ) => ("PEC-PR-27", data.delivery.iter().chain(&data.taken).collect()),
    };
    let managed = spoken_for.iter().map(|address| (address, manager(address)));
    let mut others = managed.clone().filter_map(|(address, manager)| match manager {
        Manager::Other(record) => Some((address, record)),
        Manager::Signer | Manager::Nobody => None,
    });
    let nobodys = managed.into_iter().find(|(_, manager)| *manager == Manager::Nobody);
    match (others.next(), nobodys) {
        (Some((address, record)), _) => {
            let text = format!("the signer speaks for {address}, of {}", record.name);
            found.checks.push(Check { rule, ok: false, text });
        }
        (None, Some((address, _))) => {
            found.notes.push(format!("no provider of the index manages {}", address.domain()));
        }
        (None, None) if spoken_for.is_empty() => {}
        (None, None) => {
            let text = "the signer manages the domains for which it speaks".to_owned();
            found.checks.push(Check { rule, ok: true, text });
        }
    }
    found
}

/// Whether the signer, of these records, manages the domain of an address.
pub(crate) fn speaks_for(index: &Index, records: &[&ProviderRecord], address: &Address) -> bool {
    manager(index, records, address) == Manager::Signer
}

/// Who manages the domain of an address. A provider's environments are one provider, and each has its
/// own certificates and domains (PEC-IDX-03).
fn manager<'i>(index: &'i Index, records: &[&ProviderRecord], address: &Address) -> Manager<'i> {
    if records.iter().any(|record| record.manages(address.domain())) {
        return Manager::Signer;
    }
    match index.by_domain(address.domain()) {
        Some(record) if records.iter().any(|of| of.name == record.name) => Manager::Signer,
        Some(record) => Manager::Other(record),
        None => Manager::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::examine;
    use crate::testing::*;
    use crate::verification::{Known, verify};

    /// What is found of an example, its data changed, when a provider of this name signed it.
    fn of(octets: &[u8], signer: &str, change: impl Fn(&mut Certification)) -> Mandate {
        let (index, _) = Index::from_ldif(INDEX).unwrap();
        let records: Vec<_> =
            index.records().iter().filter(|record| record.name == signer).take(1).collect();
        assert_eq!(records.len(), 1);
        let examination = examine(octets);
        let mut data = verify(&examination, &Known::default()).certification.unwrap();
        change(&mut data);
        mandate(&index, &records, examination.author().as_ref(), Some(&data))
    }

    const ALFA_NAME: &str = "Alfa PEC S.p.A.";
    const BETA_NAME: &str = "Beta Certificata S.r.l.";

    // PEC-PR-27 PEC-PR-02: each kind by its own provider holds, by the other it does not
    #[test]
    fn a_provider_speaks_for_its_own_users_only() {
        for (octets, own, other) in [
            (ACCEPTANCE, ALFA_NAME, BETA_NAME),
            (NON_ACCEPTANCE, ALFA_NAME, BETA_NAME),
            (ENVELOPE, ALFA_NAME, BETA_NAME),
            (TAKE_CHARGE, BETA_NAME, ALFA_NAME),
            (DELIVERY, BETA_NAME, ALFA_NAME),
            (VIRUS_FOUND, BETA_NAME, ALFA_NAME),
            (LATE_FIRST, ALFA_NAME, BETA_NAME),
        ] {
            let held = of(octets, own, |_| ());
            assert_eq!((held.checks.len(), held.checks[0].ok), (1, true), "{held:?}");
            assert_eq!(held.notes, [""; 0]);
            let wrong = of(octets, other, |_| ());
            assert_eq!((wrong.checks.len(), wrong.checks[0].ok), (1, false), "{wrong:?}");
            assert!(wrong.checks[0].text.ends_with(&format!("of {own}")), "{wrong:?}");
            // One that nobody manages: a note, not a refusal.
            let away = |data: &mut Certification| {
                let nobody = Address::parse("x@pec.nessuno.example").unwrap();
                data.sender = nobody.clone();
                data.delivery = data.delivery.as_ref().map(|_| nobody.clone());
                data.taken.fill(nobody);
            };
            let unknown = of(octets, own, away);
            assert_eq!(unknown.checks, []);
            assert_eq!(unknown.notes, ["no provider of the index manages pec.nessuno.example"]);
        }
        // One of several is enough.
        let taken = |data: &mut Certification| data.taken.push(data.sender.clone());
        assert!(!of(TAKE_CHARGE, BETA_NAME, taken).checks[0].ok);
    }

    // PEC-MCV-01: of a virus the sender's provider tells, of an error the recipient's
    #[test]
    fn a_failure_is_told_by_either_provider() {
        let error = |data: &mut Certification| data.error = ErrorKind::Other;
        let virus = |data: &mut Certification| data.error = ErrorKind::Virus;
        let held = of(NON_DELIVERY, BETA_NAME, error);
        assert_eq!((held.checks[0].ok, held.notes), (true, vec![]));
        let held = of(NON_DELIVERY_VIRUS, ALFA_NAME, virus);
        assert_eq!((held.checks[0].ok, held.notes), (true, vec![]));
        let held = of(NON_DELIVERY_VIRUS, ALFA_NAME, error);
        assert!(held.checks[0].ok);
        assert_eq!(held.notes, ["the sender's provider tells of the failure, not the recipient's"]);
        // Neither of the two.
        let third = |data: &mut Certification| {
            data.sender = Address::parse("x@pec.comune.example").unwrap();
        };
        assert!(!of(NON_DELIVERY, ALFA_NAME, third).checks[0].ok);
    }

    // PEC-PR-06 PEC-IDX-03
    #[test]
    fn an_author_of_another_domain_is_noted_and_environments_are_one_provider() {
        let strange = with(DELIVERY, BETA, "posta-certificata@alfapec.example");
        let held = of(&strange, BETA_NAME, |_| ());
        assert!(held.checks[0].ok);
        assert_eq!(held.notes, ["alfapec.example is no domain of the signer (PEC-PR-06)"]);
        let second = |data: &mut Certification| {
            data.delivery = Some(Address::parse("x@personale.betacert.example").unwrap());
        };
        let held = of(DELIVERY, BETA_NAME, second);
        assert_eq!((held.checks[0].ok, held.notes), (true, vec![]));
    }
}
