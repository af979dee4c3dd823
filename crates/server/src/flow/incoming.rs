//! The incoming point: the four tests on an envelope, octet for octet as it came, and the
//! take-charge receipt.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context;
use mail::{Address, ReversePath};
use pec::incoming::{AnomalyReason, Class, Routing, VerifiedEnvelope};
use pec::inspect::{Examination, examine};
use pec::moment::Moment;
use pec::receipt;
use store::{Job, Mark, Source, StoreError, Transaction};

use super::dispatch::{Content, Onward, Parcel, hand_over, is_of_a_mailbox};
use super::signed::sign;
use super::{
    Tested, anomaly, author_path, commit, deliver, fresh, fresh_id, now_after, octets_of, once,
    origin, record, virus,
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
    let mut onward = Onward::AtOnce;
    for _ in 0..BEGUN_AGAIN_MAX {
        let blob = job.blob.map(Source::Stored);
        let mut transaction =
            Transaction { at: at.instant(), consume: vec![job.id], ..Transaction::default() };
        arrival.add(site, blob, onward, &mut transaction)?;
        match commit(site, transaction, "incoming") {
            Err(StoreError::Marked) => {}
            // Of the mailbox for receipts: where else it may go is asked when its job is done.
            Err(error) if is_of_a_mailbox(&error) && onward == Onward::AtOnce => {
                onward = Onward::Queued;
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
    fn add(
        &self,
        site: &Site,
        blob: Option<Source>,
        onward: Onward,
        transaction: &mut Transaction,
    ) -> anyhow::Result<()> {
        let Sorted { fresh: recipients, marks, again, strange } = self.sort(site)?;
        let (at, exchange) = (self.at, self.envelope.exchange());
        transaction.once.extend(marks);
        if !recipients.is_empty() {
            let blob = blob.context("the job has no octets")?;
            self.take_charge(site, &recipients, onward, transaction)?;
            let jobs = virus::after_take_charge(site, self.envelope, &recipients, blob)?;
            transaction.enqueue.extend(jobs);
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
            anomaly::divert(site, message, blob, transaction)?;
        }
        Ok(())
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

    /// The take-charge receipt.
    fn take_charge(
        &self,
        site: &Site,
        recipients: &[Address],
        onward: Onward,
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
        let signed = sign(site, unsigned, at)?;
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
        hand_over(site, &parcel, &signed, onward, transaction)
    }
}

/// An envelope that follows at once has at most so many recipients of ours: the sender waits for the
/// acceptance receipt until there is one for each of them.
const AT_ONCE_RECIPIENTS_MAX: usize = 2;
/// And at most so many octets: it and the receipts for it are in memory together.
const AT_ONCE_OCTETS_MAX: usize = 256 * 1024;

/// Whether what the points do with an envelope of ours may be done in the step that signs it.
pub(super) fn may_follow_at_once(octets: &[u8], recipients: &[Address]) -> bool {
    octets.len() <= AT_ONCE_OCTETS_MAX && recipients.len() <= AT_ONCE_RECIPIENTS_MAX
}

/// An envelope of ours that passed the tests in the step that signed it.
pub(super) struct Own<'a> {
    /// Without `Return-Path`.
    pub(super) octets: &'a [u8],
    pub(super) examination: &'a Examination<'a>,
    pub(super) envelope: &'a VerifiedEnvelope,
    /// What was out of order without deciding it.
    pub(super) notes: &'a [String],
}

/// Adds to the step that signed an envelope of ours what the incoming point does with it, and, where
/// there is no scanner to be asked first, the delivery point for each recipient. `envelope` names its
/// octets as a mailbox gets them.
pub(super) fn add_at_once(
    site: &Site,
    own: &Own<'_>,
    routing: &Routing<'_>,
    envelope: Source,
    transaction: &mut Transaction,
) -> anyhow::Result<()> {
    let at = now_after(site, own.envelope.certification().at);
    let arrival = Arrival {
        octets: own.octets,
        entity: own.examination.entity().context("the envelope has lost what is signed")?,
        envelope: own.envelope,
        reverse_path: routing.reverse_path,
        forward_paths: routing.forward_paths,
        is_from_outside: false,
        notes: own.notes,
        at,
    };
    // What is placed is placed now, and not when it was accepted.
    transaction.at = at.instant();
    let Sorted { fresh, marks, again, strange } = arrival.sort(site)?;
    if !(again.is_empty() && strange.is_empty()) {
        anyhow::bail!("a fresh identifier was there before");
    }
    transaction.once.extend(marks);
    arrival.take_charge(site, &fresh, Onward::AtOnce, transaction)?;
    if site.config.load().antivirus.clamd.is_some() {
        let jobs = virus::after_take_charge(site, own.envelope, &fresh, envelope)?;
        transaction.enqueue.extend(jobs);
        return Ok(());
    }
    for recipient in fresh {
        if !deliver::add_at_once(site, own.envelope, own.octets, &recipient, envelope, transaction)?
        {
            let one = std::slice::from_ref(&recipient);
            let jobs = virus::after_take_charge(site, own.envelope, one, envelope)?;
            transaction.enqueue.extend(jobs);
        }
    }
    Ok(())
}
