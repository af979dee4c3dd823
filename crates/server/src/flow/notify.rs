//! Receipts on their way in: the incoming point's tests, the tracker, and the mailbox they are for.

use std::sync::Arc;

use anyhow::Context;
use mail::{Address, ReversePath};
use pec::incoming::{Class, Routing, VerifiedNotification};
use pec::inspect::{Examination, examine};
use pec::moment::Moment;
use pec::receipt::ReceiptKind;
use store::{
    Charge, Delivery, Job, LogRecord, Mark, Source, StoreError, Track, TrackState, Transaction,
};

use super::{Task, Tested, commit, octets_of, once, origin, record, to_inbox, virus};
use crate::site::Site;

/// A receipt at the incoming point. It gets no receipt itself (PEC-PR-26).
pub(super) fn take_in(
    site: &Arc<Site>,
    job: &Job,
    to: &Address,
    tested: Tested,
) -> anyhow::Result<()> {
    let octets = octets_of(site, job)?;
    let at = Moment::of(site.clock.now());
    let examination = examine(&octets);
    let reverse_path = ReversePath::Address(site.provider.author.clone());
    let forward_paths = [to.clone()];
    let routing = Routing { reverse_path: &reverse_path, forward_paths: &forward_paths };
    let judged = origin::test_once(site, &examination, &routing, at, tested)?;
    let receipt = match judged.class {
        Class::Notification(receipt) => receipt,
        // What is not ours was found to be a receipt before it came here: see incoming.rs.
        Class::Envelope(_) => anyhow::bail!("an envelope came where a receipt should"),
        Class::Anomaly(fault) => anyhow::bail!("a receipt of ours has a wrong form: {fault}"),
        Class::Ordinary(fault) => {
            anyhow::bail!("a receipt of ours is not held for ours: {fault:?}")
        }
    };
    let blob = match job.blob {
        Some(blob) => Source::Stored(blob),
        None => anyhow::bail!("the job has no octets"),
    };
    let whole = Receipt { receipt: &receipt, examination: &examination, notes: &judged.notes, at };
    let Some(Effect { delivery, mark, log }) = whole.effect(site, to, blob)? else {
        return drop_receipt(site, job, &receipt, to, at);
    };
    let to = delivery.to.clone();
    let mut transaction = Transaction {
        at: at.instant(),
        consume: vec![job.id],
        deliver: vec![delivery],
        track: learned(&receipt, at),
        once: vec![mark],
        log: vec![log.clone()],
        ..Transaction::default()
    };
    virus::add_non_delivery(site, &receipt, at, &mut transaction)?;
    match commit(site, transaction, "notify") {
        Err(StoreError::NoSuchAccount) => drop_receipt(site, job, &receipt, &to, at),
        // The same receipt came before (PEC-PR-28).
        Err(StoreError::Marked) => {
            let mut log = log;
            "doppione".clone_into(&mut log.event);
            let transaction = Transaction {
                at: at.instant(),
                consume: vec![job.id],
                log: vec![log],
                ..Transaction::default()
            };
            Ok(commit(site, transaction, "repeated")?)
        }
        // Judged and learned from once: what is left is to place it when there is room.
        Err(StoreError::OverQuota(_)) => {
            warn_full(&to);
            let task = Task::Place { to };
            let transaction = Transaction {
                at: at.instant(),
                consume: vec![job.id],
                enqueue: vec![task.queued(Some(blob))?],
                track: learned(&receipt, at),
                once: vec![mark],
                log: vec![log],
                ..Transaction::default()
            };
            Ok(commit(site, transaction, "notify")?)
        }
        done => Ok(done?),
    }
}

/// A receipt that passed the incoming point's tests.
pub(super) struct Receipt<'a> {
    pub(super) receipt: &'a VerifiedNotification,
    /// Of its octets, with or without `Return-Path`.
    pub(super) examination: &'a Examination<'a>,
    /// What was out of order without deciding it.
    pub(super) notes: &'a [String],
    pub(super) at: Moment,
}

/// What it does beside telling the tracker.
struct Effect {
    delivery: Delivery,
    mark: Mark,
    log: LogRecord,
}

impl Receipt<'_> {
    /// Nothing when there is no mailbox that may hold it.
    fn effect(&self, site: &Site, to: &Address, octets: Source) -> anyhow::Result<Option<Effect>> {
        let message = self.examination.message();
        // Receipts for providers never reach users (PEC-PR-22), whoever they were sent to.
        let (to, charge) = if self.receipt.kind().is_for_providers() {
            (&site.provider.service_mailbox, Charge::Unlimited)
        } else if site.provider.is_service_address(to) {
            // And the service mailbox holds no others (PEC-GEN-07): nobody sends as a service address.
            return Ok(None);
        } else {
            (to, Charge::Receipt)
        };
        let message_id = message.field("Message-ID").map(|field| field.unfolded());
        let log = record::of_data("consegna", self.receipt.certification(), self.at)
            .about_field(message_id.as_deref().unwrap_or_default())
            .by(self.receipt.signer())
            .delivery(to)
            .notes(self.notes)
            .build();
        let entity = self.examination.entity().context("the receipt has lost what is signed")?;
        let mark = once::receipt(entity, to);
        let delivery = Delivery { charge, ..to_inbox(to, octets, message.octets()) };
        Ok(Some(Effect { delivery, mark, log }))
    }
}

/// Adds to the step that signed a receipt what the receipt does, at the incoming point and in the
/// mailbox. Whether it did: what is more than a delivery is for a step of its own.
pub(super) fn add_at_once(
    site: &Site,
    receipt: &Receipt<'_>,
    to: &Address,
    octets: Source,
    step: &mut Transaction,
) -> anyhow::Result<bool> {
    if receipt.receipt.kind() == ReceiptKind::VirusFound {
        return Ok(false);
    }
    let Some(Effect { delivery, mark, log }) = receipt.effect(site, to, octets)? else {
        return Ok(false);
    };
    step.deliver.push(delivery);
    step.once.push(mark);
    step.log.push(log);
    step.track.extend(learned(receipt.receipt, receipt.at));
    Ok(true)
}

/// A receipt that found the mailbox full is tried again.
pub(super) fn place(site: &Arc<Site>, job: &Job, to: &Address) -> anyhow::Result<()> {
    let at = Moment::of(site.clock.now());
    let Some(blob) = job.blob else { anyhow::bail!("the job has no octets") };
    let receipt = octets_of(site, job)?;
    let transaction = Transaction {
        at: at.instant(),
        consume: vec![job.id],
        deliver: vec![to_inbox(to, Source::Stored(blob), &receipt)],
        ..Transaction::default()
    };
    match commit(site, transaction, "place") {
        Err(StoreError::NoSuchAccount) => {
            // The holder is gone: nobody is left to tell. The log has what the receipt says.
            let transaction =
                Transaction { at: at.instant(), consume: vec![job.id], ..Transaction::default() };
            Ok(commit(site, transaction, "drop")?)
        }
        Err(error @ StoreError::OverQuota(_)) => {
            warn_full(to);
            Err(error.into())
        }
        done => Ok(done?),
    }
}

/// What the tracker learns (PEC-PR-23, PEC-PR-25), if the signer may speak for these recipients
/// (PEC-PR-27).
fn learned(receipt: &VerifiedNotification, at: Moment) -> Vec<Track> {
    if !receipt.is_authoritative() {
        return Vec::new();
    }
    let data = receipt.certification();
    let track = |state| {
        move |recipient: &Address| Track {
            identificativo: data.identifier.as_str().to_owned(),
            recipient: recipient.clone(),
            state,
            only_from: None,
            at: at.instant(),
        }
    };
    match receipt.kind() {
        ReceiptKind::TakeCharge => {
            data.taken.iter().map(track(TrackState::TakenInCharge)).collect()
        }
        ReceiptKind::Delivery => data.delivery.iter().map(track(TrackState::Delivered)).collect(),
        ReceiptKind::NonDelivery | ReceiptKind::VirusFound => {
            receipt.recipient().into_iter().map(track(TrackState::Failed)).collect()
        }
        ReceiptKind::Acceptance | ReceiptKind::NonAcceptance | ReceiptKind::LateDelivery => {
            Vec::new()
        }
    }
}

/// A receipt for a mailbox that is not there is logged and dropped, never answered (doubt D-22).
fn drop_receipt(
    site: &Site,
    job: &Job,
    receipt: &VerifiedNotification,
    to: &Address,
    at: Moment,
) -> anyhow::Result<()> {
    let data = receipt.certification();
    let transaction = Transaction {
        at: at.instant(),
        consume: vec![job.id],
        track: learned(receipt, at),
        log: vec![
            record::of_data("rifiuto", data, at)
                .by(receipt.signer())
                .delivery(to)
                .error("no-dest", "la casella a cui la ricevuta è destinata non esiste")
                .build(),
        ],
        ..Transaction::default()
    };
    Ok(commit(site, transaction, "drop")?)
}

fn warn_full(to: &Address) {
    metrics::counter!("ceralacca_receipts_waiting_total").increment(1);
    tracing::warn!(target: "flow", account = %to, "a receipt waits: the mailbox and its reserve are full");
}
