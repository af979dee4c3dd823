//! The incoming point: the four tests on an envelope, octet for octet as it came, and the
//! take-charge receipt.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context;
use mail::{Address, ReversePath};
use pec::incoming::{AnomalyReason, Class, Routing, VerifiedEnvelope};
use pec::inspect::examine;
use pec::moment::Moment;
use pec::receipt;
use store::{Job, Mark, Source, StoreError, Transaction};

use super::dispatch::{Content, Parcel, Receipts, hand_over};
use super::{
    Tested, anomaly, author_path, commit, fresh, fresh_id, now_after, octets_of, once, origin,
    record, sign, virus,
};
use crate::site::Site;

/// How often a step is begun again at once because the same envelope was taken in at the same time.
const BEGUN_AGAIN_MAX: usize = 3;

/// Takes an envelope in charge: one receipt to the sender's provider for all recipients of ours
/// (PEC-PIC-01), and one job for each recipient.
pub(super) fn take_in(
    site: &Arc<Site>,
    job: &Job,
    reverse_path: Address,
    forward_paths: &[Address],
    tested: Tested,
) -> anyhow::Result<()> {
    let octets = octets_of(site, job)?;
    let at = Moment::of(site.clock.now());
    let examination = examine(&octets);
    let reverse_path = ReversePath::Address(reverse_path);
    let routing = Routing { reverse_path: &reverse_path, forward_paths };
    let is_from_outside = tested.arrived.is_some();
    let judged = origin::test_once(site, &examination, &routing, at, tested)?;
    let envelope = match judged.class {
        Class::Envelope(envelope) => envelope,
        // What other hosts bring was found to be an envelope before it came here, and the rest is
        // ours: so this is a fault of ours. The job stays in the queue, and the log says why.
        Class::Notification(_) => anyhow::bail!("a receipt came where an envelope should"),
        Class::Anomaly(fault) => anyhow::bail!("an envelope of ours has a wrong form: {fault}"),
        Class::Ordinary(fault) => {
            anyhow::bail!("an envelope of ours is not held for ours: {fault:?}")
        }
    };
    let at = now_after(site, envelope.certification().at);
    let entity = examination.entity().context("the envelope has lost what is signed")?;
    let arrival = Arrival {
        octets: &octets,
        entity,
        envelope: &envelope,
        reverse_path: &reverse_path,
        forward_paths,
        is_from_outside,
        notes: &judged.notes,
        at,
    };
    let mut receipts = Receipts::AtOnce;
    for _ in 0..BEGUN_AGAIN_MAX {
        let transaction = arrival.step(site, job, receipts)?;
        match commit(site, transaction, "incoming") {
            Err(StoreError::Marked) => {}
            // Of the mailbox for receipts: where else it may go is asked when its job is done.
            Err(StoreError::OverQuota(_) | StoreError::NoSuchAccount | StoreError::OutOfUids)
                if receipts == Receipts::AtOnce =>
            {
                receipts = Receipts::Queued;
            }
            done => return Ok(done?),
        }
    }
    anyhow::bail!("the same envelope is being taken in all the time")
}

/// An envelope that passed the tests.
struct Arrival<'a> {
    octets: &'a [u8],
    entity: &'a [u8],
    envelope: &'a VerifiedEnvelope,
    reverse_path: &'a ReversePath,
    forward_paths: &'a [Address],
    is_from_outside: bool,
    notes: &'a [String],
    at: Moment,
}

/// The forward-paths of an envelope, by whether it came for them before.
#[derive(Default)]
struct Sorted {
    /// It did not.
    fresh: Vec<Address>,
    marks: Vec<Mark>,
    /// It did, and was answered then.
    again: Vec<Address>,
    /// Another one with this identifier did.
    strange: Vec<Address>,
}

impl Arrival<'_> {
    /// What is done about it. The same envelope is neither delivered nor answered twice
    /// (PEC-PR-28); another one with the identifier of one that came before breaks PEC-AP-20, and
    /// is propagated as what it is, a provider's message of a wrong form (PEC-PR-07).
    fn step(&self, site: &Site, job: &Job, receipts: Receipts) -> anyhow::Result<Transaction> {
        let Sorted { fresh: recipients, marks, again, strange } = self.sort(site)?;
        let (at, exchange) = (self.at, self.envelope.exchange());
        let blob = job.blob.map(Source::Stored);
        let mut transaction = Transaction {
            at: at.instant(),
            consume: vec![job.id],
            once: marks,
            ..Transaction::default()
        };
        if !recipients.is_empty() {
            self.take_charge(site, &recipients, blob, receipts, &mut transaction)?;
        }
        if !again.is_empty() {
            transaction.log.push(
                record::of(site, "doppione", exchange, at)
                    .about(&exchange.identifier)
                    .by(self.envelope.signer())
                    .taken(&again)
                    .notes(self.notes)
                    .build(),
            );
        }
        if !strange.is_empty() {
            let mut notes = self.notes.to_vec();
            notes.push(format!("another envelope came before as {}", exchange.identifier));
            let message = anomaly::Message {
                octets: self.octets,
                reverse_path: self.reverse_path,
                forward_paths: &strange,
                // No notice is made for what a provider signed in a wrong form (PEC-MC-02).
                report: None,
                reason: AnomalyReason::Form,
                at,
                notes,
            };
            anomaly::divert(site, message, blob, &mut transaction)?;
        }
        Ok(transaction)
    }

    fn sort(&self, site: &Site) -> anyhow::Result<Sorted> {
        let (signer, id) = (self.envelope.signer(), &self.envelope.exchange().identifier);
        let (mut sorted, mut seen) = (Sorted::default(), HashSet::new());
        for recipient in self.forward_paths.iter().filter(|path| seen.insert(*path)) {
            let mark = once::envelope(signer, id, recipient, self.entity);
            match site.store.mark(&mark.key)? {
                None => {
                    sorted.fresh.push(recipient.clone());
                    sorted.marks.push(mark);
                }
                Some(value) if value == mark.value => sorted.again.push(recipient.clone()),
                Some(_) => sorted.strange.push(recipient.clone()),
            }
        }
        Ok(sorted)
    }

    /// The take-charge receipt, and a job for each recipient.
    fn take_charge(
        &self,
        site: &Site,
        recipients: &[Address],
        blob: Option<Source>,
        receipts: Receipts,
        transaction: &mut Transaction,
    ) -> anyhow::Result<()> {
        let (envelope, exchange, at) = (self.envelope, self.envelope.exchange(), self.at);
        let receipt_id = fresh_id(site, at);
        let unsigned = receipt::take_charge(
            envelope,
            recipients,
            &site.provider,
            at,
            fresh(receipt_id.clone()),
        );
        let signed = sign(site, unsigned, at)?.into();
        if self.is_from_outside {
            // Of an envelope of ours the access point wrote this down (PEC-LOG-06, PEC-LOG-11).
            transaction.log.push(
                record::of(site, "posta-certificata", exchange, at)
                    .about(&exchange.identifier)
                    .by(envelope.signer())
                    .notes(self.notes)
                    .build(),
            );
        }
        transaction.log.push(
            record::of(site, "presa-in-carico", exchange, at)
                .about(&receipt_id)
                .taken(recipients)
                .notes(self.notes)
                .build(),
        );
        let parcel = Parcel {
            reverse_path: &author_path(site),
            recipients: std::slice::from_ref(envelope.receipts_to()),
            content: Content::Receipt { id: receipt_id, about: exchange.identifier.clone() },
            account: &site.provider.author,
        };
        hand_over(site, &parcel, &signed, receipts, transaction)?;
        let blob = blob.context("the job has no octets")?;
        transaction.enqueue.extend(virus::after_take_charge(site, envelope, recipients, blob)?);
        Ok(())
    }
}
