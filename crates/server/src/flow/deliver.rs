//! The delivery point: the envelope in the recipient's mailbox and the delivery receipt in one
//! commit, or the non-delivery notice.

use std::sync::Arc;

use mail::{Address, ReversePath};
use pec::delivery::Failure;
use pec::exchange::{Exchange, PecId};
use pec::incoming::{Provenance, Routing, VerifiedEnvelope};
use pec::inspect::examine;
use pec::moment::Moment;
use pec::receipt;
use store::{
    Charge, Delivery, Flags, Job, MailboxName, Role, Source, State, StoreError, Transaction,
};

use super::dispatch::{Content, Onward, Parcel, commit_handing, hand_over};
use super::signed::{Signed, sign};
use super::{account_of, author_path, fresh, fresh_id, now_after, octets_of, origin, record};
use crate::keywords;
use crate::site::Site;

/// Delivers to one recipient (PEC-PC-03, PEC-MC-03: a receipt or a notice for each).
///
/// The receipt is signed before the commit and becomes visible with it: whoever sees the receipt
/// finds the envelope in the mailbox, durably (PEC-PC-04).
pub(super) fn deliver(
    site: &Arc<Site>,
    job: &Job,
    reverse_path: Address,
    recipient: &Address,
    tested: Option<Provenance>,
) -> anyhow::Result<()> {
    let octets = octets_of(site, job)?;
    let reverse_path = ReversePath::Address(reverse_path);
    let forward_paths = std::slice::from_ref(recipient);
    let routing = Routing { reverse_path: &reverse_path, forward_paths };
    let envelope = origin::recall_envelope(site, &examine(&octets), &routing, tested.as_ref())?;
    let failure = match find_account(site, recipient)? {
        Err(failure) => failure,
        Ok(account) => match place(site, job, &envelope, octets, recipient, account) {
            Ok(()) => return Ok(()),
            Err(error) => match error.downcast_ref::<StoreError>() {
                Some(StoreError::OverQuota(_)) => Failure::Full,
                Some(StoreError::NoSuchAccount) => Failure::UnknownMailbox,
                _ => return Err(error),
            },
        },
    };
    give_notice(site, job, &envelope, recipient, &failure)
}

/// Whose mailbox it is for, or why nothing can be delivered, as far as that is known before it is
/// tried.
fn find_account(site: &Site, recipient: &Address) -> Result<Result<Address, Failure>, StoreError> {
    if !site.manages(recipient.domain()) {
        return Ok(Err(Failure::UnmanagedDomain));
    }
    Ok(match account_of(site, recipient)? {
        None => Err(Failure::UnknownMailbox),
        // Nobody but the PEC engine writes to a service address, and it does not send envelopes.
        Some(account) if account.role != Role::None => Err(Failure::UnknownMailbox),
        Some(account) if account.state == State::Suspended => Err(Failure::Suspended),
        Some(account) => Ok(account.address),
    })
}

fn place(
    site: &Site,
    job: &Job,
    envelope: &VerifiedEnvelope,
    octets: Vec<u8>,
    recipient: &Address,
    account: Address,
) -> anyhow::Result<()> {
    let Some(blob) = job.blob else { anyhow::bail!("the job has no octets") };
    let handing = Handing::new(site, envelope, &octets, recipient, account)?;
    drop(octets);
    let make = |onward| {
        let mut transaction = Transaction {
            at: handing.at.instant(),
            consume: vec![job.id],
            ..Transaction::default()
        };
        handing.add(site, Source::Stored(blob), onward, &mut transaction)?;
        Ok(transaction)
    };
    commit_handing(site, make, "deliver")
}

/// Adds to the step that signed an envelope of ours the delivery to one recipient. Whether it did:
/// a notice is for a step of its own.
pub(super) fn add_at_once(
    site: &Site,
    envelope: &VerifiedEnvelope,
    octets: &[u8],
    recipient: &Address,
    placed: Source,
    transaction: &mut Transaction,
) -> anyhow::Result<bool> {
    let Ok(account) = find_account(site, recipient)? else { return Ok(false) };
    let handing = Handing::new(site, envelope, octets, recipient, account)?;
    // Nothing is recorded earlier than the receipt that attests it.
    transaction.at = transaction.at.max(handing.at.instant());
    handing.add(site, placed, Onward::AtOnce, transaction)?;
    Ok(true)
}

/// An envelope for a recipient who has a mailbox, and the receipt for it.
struct Handing<'a> {
    envelope: &'a VerifiedEnvelope,
    recipient: &'a Address,
    account: Address,
    flags: Flags,
    receipt: Signed<'a>,
    id: PecId,
    at: Moment,
}

impl<'a> Handing<'a> {
    fn new(
        site: &'a Site,
        envelope: &'a VerifiedEnvelope,
        octets: &[u8],
        recipient: &'a Address,
        account: Address,
    ) -> anyhow::Result<Self> {
        let at = now_after(site, envelope.certification().at);
        let id = fresh_id(site, at);
        let unsigned = receipt::delivery(
            envelope,
            octets,
            recipient,
            site.config.load().brief_hash,
            &site.provider,
            at,
            fresh(id.clone()),
        );
        let receipt = sign(site, unsigned, at)?;
        Ok(Self { envelope, recipient, account, flags: keywords::of(octets), receipt, id, at })
    }

    fn add(
        &self,
        site: &Site,
        octets: Source,
        onward: Onward,
        transaction: &mut Transaction,
    ) -> anyhow::Result<()> {
        let exchange = self.envelope.exchange();
        transaction.deliver.push(Delivery {
            to: self.account.clone(),
            mailbox: MailboxName::inbox(),
            // Unmodified: the octets that the incoming point tested (PEC-GEN-05, PEC-MBX-02).
            octets,
            flags: self.flags.clone(),
            charge: Charge::Quota,
        });
        transaction.log.extend([
            record::of(site, "consegna", exchange, self.at)
                .about(&exchange.identifier)
                .by(self.envelope.signer())
                .delivery(self.recipient)
                .build(),
            record::of(site, "avvenuta-consegna", exchange, self.at)
                .about(&self.id)
                .delivery(self.recipient)
                .build(),
        ]);
        let back =
            Back { exchange, receipt: &self.receipt, id: &self.id, recipient: self.recipient };
        back.send(site, onward, transaction)
    }
}

fn give_notice(
    site: &Site,
    job: &Job,
    envelope: &VerifiedEnvelope,
    recipient: &Address,
    failure: &Failure,
) -> anyhow::Result<()> {
    let at = now_after(site, envelope.certification().at);
    let id = fresh_id(site, at);
    let unsigned =
        receipt::non_delivery(envelope, recipient, failure, &site.provider, at, fresh(id.clone()));
    let signed = sign(site, unsigned, at)?;
    let exchange = envelope.exchange();
    let back = Back { exchange, receipt: &signed, id: &id, recipient };
    let make = |onward| {
        let mut transaction = Transaction {
            at: at.instant(),
            consume: vec![job.id],
            log: vec![
                record::of(site, "errore-consegna", exchange, at)
                    .about(&id)
                    .delivery(recipient)
                    .error(failure.error().errore(), &failure.describe(&site.provider.name))
                    .build(),
            ],
            ..Transaction::default()
        };
        back.send(site, onward, &mut transaction)?;
        Ok(transaction)
    };
    commit_handing(site, make, "non-delivery")
}

/// A receipt or notice goes to the sender of the message, whoever's user that is (PEC-PC-02).
struct Back<'a> {
    exchange: &'a Exchange,
    receipt: &'a Signed<'a>,
    id: &'a PecId,
    recipient: &'a Address,
}

impl Back<'_> {
    fn send(
        &self,
        site: &Site,
        onward: Onward,
        transaction: &mut Transaction,
    ) -> anyhow::Result<()> {
        let (id, about) = (self.id.clone(), self.exchange.identifier.clone());
        let parcel = Parcel {
            reverse_path: &author_path(site),
            recipients: std::slice::from_ref(&self.exchange.sender),
            content: Content::Receipt { id, about },
            account: self.recipient,
        };
        hand_over(site, &parcel, self.receipt, onward, transaction)
    }
}
