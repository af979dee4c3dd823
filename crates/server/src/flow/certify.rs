//! The access point's answer: the acceptance receipt and the transport envelope, or the
//! non-acceptance notice, each signed.

use std::sync::Arc;

use mail::{Address, ReversePath};
use pec::access::{Accepted, NonAcceptance};
use pec::exchange::PecId;
use pec::{envelope, receipt};
use store::{Job, Octets, Source, StoreError, Transaction};

use super::dispatch::{Content, Onward, Parcel, hand_over_as_wished, is_of_a_mailbox};
use super::signed::{seal, sign};
use super::wishes::Wishes;
use super::{author_path, commit, fresh, fresh_token, octets_of, place_or_queue};
use crate::site::Site;

/// The acceptance receipt goes to the sender's mailbox, the envelope to the incoming points of all
/// recipients, certified or not (PEC-AP-28, PEC-GEN-09, PEC-GEN-16).
pub(super) fn certify(
    site: &Arc<Site>,
    job: &Job,
    accepted: &Accepted,
    receipt_id: PecId,
    wishes: &Wishes,
) -> anyhow::Result<()> {
    let original = octets_of(site, job)?;
    let (exchange, at) = (accepted.exchange(), accepted.at());
    let unsigned = envelope::enclose(accepted, &original, &site.provider, fresh_token());
    drop(original);
    let envelope = sign(site, unsigned, at)?;
    let unsigned = receipt::acceptance(accepted, &site.provider, fresh(receipt_id));
    let receipt = seal(site, unsigned, &author_path(site), at)?;

    let recipients: Vec<Address> =
        exchange.recipients.iter().map(|recipient| recipient.address.clone()).collect();
    let parcel = Parcel {
        reverse_path: &ReversePath::Address(exchange.sender.clone()),
        recipients: &recipients,
        content: Content::Envelope(exchange.identifier.clone()),
        account: &exchange.sender,
    };
    let with_receipt = |placed: bool, onward: Onward| -> anyhow::Result<Transaction> {
        let mut transaction = Transaction {
            at: at.instant(),
            consume: vec![job.id],
            octets: vec![Octets::Inline(receipt.clone())],
            ..Transaction::default()
        };
        let octets = (Source::New(0), &receipt[..]);
        place_or_queue(&mut transaction, &exchange.sender, octets, placed)?;
        hand_over_as_wished(site, &parcel, wishes, &envelope, onward, &mut transaction)?;
        Ok(transaction)
    };
    // Within this provider the other points follow in this commit, where they can; what keeps them from it
    // holds up nothing that the access point owes.
    let at_once = with_receipt(true, Onward::AtOnce);
    let Err(error) = at_once.and_then(|step| Ok(commit(site, step, "certify")?)) else {
        return Ok(());
    };
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::JobGone(_)) => return Err(error),
        Some(error) if is_of_a_mailbox(error) => {}
        _ => {
            let why = format!("{error:#}");
            tracing::warn!(target: "flow", %why, "a message of ours goes on in steps of its own");
        }
    }
    commit_receipt(site, |placed| with_receipt(placed, Onward::Queued), "certify")
}

/// The notice goes to the sender's mailbox, and nothing else happens (PEC-AP-10, PEC-NA).
pub(super) fn refuse(
    site: &Arc<Site>,
    job: &Job,
    refused: &NonAcceptance,
    notice_id: PecId,
) -> anyhow::Result<()> {
    let (exchange, at) = (refused.exchange(), refused.at());
    let unsigned = receipt::non_acceptance(refused, &site.provider, fresh(notice_id));
    let notice = seal(site, unsigned, &author_path(site), at)?;
    let with_notice = |placed: bool| -> anyhow::Result<Transaction> {
        let mut transaction = Transaction {
            at: at.instant(),
            consume: vec![job.id],
            octets: vec![Octets::Inline(notice.clone())],
            ..Transaction::default()
        };
        let octets = (Source::New(0), &notice[..]);
        place_or_queue(&mut transaction, &exchange.sender, octets, placed)?;
        Ok(transaction)
    };
    commit_receipt(site, with_notice, "refuse")
}

/// Commits with the receipt in the mailbox; when that is full, with the receipt in the queue: a
/// receipt is never dropped, and never holds up the rest.
fn commit_receipt(
    site: &Site,
    with_receipt: impl Fn(bool) -> anyhow::Result<Transaction>,
    step: &'static str,
) -> anyhow::Result<()> {
    match commit(site, with_receipt(true)?, step) {
        Err(StoreError::OverQuota(_) | StoreError::NoSuchAccount) => {
            Ok(commit(site, with_receipt(false)?, step)?)
        }
        done => Ok(done?),
    }
}
