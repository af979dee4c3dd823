//! Which point calls what, in which order: the life of a message, step by step.
//!
//! Every step is one commit ([`store::Transaction`]) that consumes its job and produces what it
//! makes: messages in mailboxes, further jobs, log records, tracker states. So after a crash at any
//! instant a step has happened whole or is due again, and nothing happens twice.
//!
//! | step | consumes | produces |
//! | --- | --- | --- |
//! | [`access`] | what a user submitted | the original, its identity and log records; `Certify` or `Refuse` |
//! | [`certify`] | `Certify`, `Refuse` | the acceptance receipt in the sender's INBOX and `Incoming` for the transport envelope; or the non-acceptance notice |
//! | [`reception`] | what another host brought to port 25 | `Incoming`, `Notify` or `Enclose`, as it was found to be |
//! | [`anomaly`] | `Enclose` | the anomaly envelope in the mailboxes that take it |
//! | [`incoming`] | `Incoming` | the take-charge receipt in the service mailbox or as `Relay`; `Scan`, or one `Deliver` a recipient |
//! | [`virus`] | `Scan` | one `Deliver` a recipient; or the envelope in the quarantine and one virus notice a recipient as `Notify` or `Relay` |
//! | [`deliver`] | `Deliver` | the envelope in the recipient's INBOX, and the delivery receipt, or the non-delivery notice, in the sender's INBOX or as `Relay` |
//! | [`notify`] | `Notify`, `Place` | a receipt where it belongs, and what the tracker learns from it |
//! | [`bounce`] | `Report` | the report of what was given up, as `Enclose` |
//! | [`deadlines`] | what is due in the tracker | a notice of late delivery in the sender's INBOX |
//!
//! The first step of a message for a few recipients of ours goes through [`incoming`] and [`deliver`] in its
//! own commit, and falls back to jobs where a mailbox cannot take what it brings.
//!
//! What one point hands to another goes through [`dispatch`]. A receipt of ours for a user of ours that
//! finds the mailbox full or gone becomes a `Notify`. What each point decides is in [`pec`]; here is only the order.

pub(crate) mod access;
mod anomaly;
pub(crate) mod bounce;
mod certify;
pub(crate) mod deadlines;
mod deliver;
pub(crate) mod dispatch;
mod incoming;
mod notify;
pub(crate) mod once;
mod origin;
pub(crate) mod reception;
mod record;
mod sent;
mod signed;
#[cfg(test)]
mod tests;
mod virus;
pub(crate) mod wishes;

use std::sync::Arc;

use anomaly::Anomaly;
use anyhow::Context;
use mail::{Address, ReversePath};
use pec::access::{Accepted, NonAcceptance};
use pec::exchange::{Fresh, PecId};
use pec::incoming::Provenance;
use pec::moment::Moment;
use serde::{Deserialize, Serialize};
use store::{
    Account, Charge, Delivery, Job, JobId, NewJob, Source, StoreError, Timestamp, Transaction,
};

use crate::keywords;
use crate::site::Site;

/// What a job is: its payload in the queue, as JSON. A release reads what earlier ones wrote.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Receipt and envelope for a message that was accepted; its octets are the original.
    Certify {
        /// What was accepted, and when.
        accepted: Accepted,
        /// The `Message-ID` of the acceptance receipt: the log has it already.
        receipt: PecId,
        /// What the sender asks to be told of ordinary recipients.
        #[serde(default)]
        wishes: wishes::Wishes,
    },
    /// The notice for one that was not.
    Refuse {
        /// Why, and when.
        refused: Box<NonAcceptance>,
        /// The `Message-ID` of the notice.
        notice: PecId,
    },
    /// An envelope at the incoming point; its octets are the envelope.
    Incoming {
        /// The reverse-path.
        #[serde(with = "pec::exchange::as_text")]
        reverse_path: Address,
        /// The forward-paths that are ours.
        #[serde(with = "pec::exchange::as_texts")]
        forward_paths: Vec<Address>,
        /// It came from another host, and passed the tests then.
        #[serde(default)]
        arrived: Option<Arrived>,
        /// What the tests proved of it. Jobs of earlier releases have none.
        #[serde(default)]
        origin: Option<Provenance>,
    },
    /// A correct envelope that was taken in charge; its octets are the envelope. Nothing of it is
    /// delivered before it was scanned.
    Scan {
        /// The PEC msgid, for who looks at the queue.
        identifier: PecId,
        /// The reverse-path.
        #[serde(with = "pec::exchange::as_text")]
        reverse_path: Address,
        /// The forward-paths that are ours.
        #[serde(with = "pec::exchange::as_texts")]
        recipients: Vec<Address>,
        /// What the tests proved of it. Jobs of earlier releases have none.
        #[serde(default)]
        origin: Option<Provenance>,
    },
    /// A correct envelope at the delivery point; its octets are the envelope, which tells the rest:
    /// hundreds of recipients are not written down once for each of them.
    Deliver {
        /// The PEC msgid, for who looks at the queue.
        identifier: PecId,
        /// The reverse-path.
        #[serde(with = "pec::exchange::as_text")]
        reverse_path: Address,
        /// Whom it is for.
        #[serde(with = "pec::exchange::as_text")]
        recipient: Address,
        /// What the tests proved of it. Jobs of earlier releases have none.
        #[serde(default)]
        origin: Option<Provenance>,
    },
    /// A message for recipients of another host's; its octets are the message.
    Relay(dispatch::Relay),
    /// A receipt at the incoming point; its octets are the receipt.
    Notify {
        /// Whom it is for.
        #[serde(with = "pec::exchange::as_text")]
        to: Address,
        /// It came from another host, and passed the tests then.
        #[serde(default)]
        arrived: Option<Arrived>,
        /// What the tests proved of it. Jobs of earlier releases have none.
        #[serde(default)]
        origin: Option<Provenance>,
    },
    /// A message for recipients of another host's that an operator gave up, each with the reason: of
    /// ordinary ones the sender is told. Its octets are the message.
    Report(dispatch::Relay),
    /// A message from another host that is not certified; its octets are as it came.
    Enclose(Anomaly),
    /// A receipt of ours for our own user, which found the mailbox full.
    Place {
        /// Whom it is for.
        #[serde(with = "pec::exchange::as_text")]
        to: Address,
    },
}

/// What is known of a message that came from another host and passed the tests as it came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Arrived {
    /// For the log: whence, and what was out of order without deciding it.
    pub(crate) notes: Vec<String>,
}

/// What the incoming point found out about a message before its step.
struct Tested {
    arrived: Option<Arrived>,
    origin: Option<Provenance>,
}

impl Task {
    /// As a job of the pipeline, due at once: also when the clock is set back after this event.
    ///
    /// # Errors
    ///
    /// When it cannot be written down.
    pub(crate) fn queued(&self, octets: Option<Source>) -> anyhow::Result<NewJob> {
        Ok(NewJob {
            due: Timestamp::UNIX_EPOCH,
            payload: serde_json::to_vec(self)?,
            octets,
            lane: None,
        })
    }
}

/// Does one job. That it was done already is no failure.
///
/// # Errors
///
/// When it could not be done: nothing has happened, and it is to be tried again.
pub(crate) fn perform(site: &Arc<Site>, job: &Job) -> anyhow::Result<()> {
    let task: Task = serde_json::from_slice(&job.payload).context("the job cannot be read")?;
    let done = match task {
        Task::Certify { accepted, receipt, wishes } => {
            certify::certify(site, job, &accepted, receipt, &wishes)
        }
        Task::Refuse { refused, notice } => certify::refuse(site, job, &refused, notice),
        Task::Incoming { reverse_path, forward_paths, arrived, origin } => {
            let tested = Tested { arrived, origin };
            incoming::take_in(site, job, reverse_path, &forward_paths, tested)
        }
        Task::Scan { identifier, reverse_path, recipients, origin } => {
            virus::scan(site, job, &identifier, reverse_path, &recipients, origin)
        }
        Task::Deliver { identifier: _, reverse_path, recipient, origin } => {
            deliver::deliver(site, job, reverse_path, &recipient, origin)
        }
        Task::Relay(_) => Err(anyhow::anyhow!("another host has to be reached for this")),
        Task::Notify { to, arrived, origin } => {
            notify::take_in(site, job, &to, Tested { arrived, origin })
        }
        Task::Report(relay) => bounce::report_given_up(site, job, &relay),
        Task::Enclose(anomaly) => anomaly::enclose(site, job, &anomaly),
        Task::Place { to } => notify::place(site, job, &to),
    };
    match done {
        Err(error) => match error.downcast_ref::<StoreError>() {
            Some(StoreError::JobGone(_)) => Ok(()),
            // With the job went its hold on the octets.
            Some(StoreError::NoSuchMessage) if is_gone(site, job.id)? => Ok(()),
            _ => Err(error),
        },
        Ok(()) => {
            site.queue.wake();
            site.transport.wake();
            Ok(())
        }
    }
}

/// Whether somebody did this job already.
fn is_gone(site: &Site, job: JobId) -> Result<bool, StoreError> {
    Ok(site.store.job(job)?.is_none())
}

/// The octets that a job is about.
fn octets_of(site: &Site, job: &Job) -> anyhow::Result<Vec<u8>> {
    let blob = job.blob.context("the job has no octets")?;
    let length = site.store.octets(blob)?;
    Ok(site.store.read(blob, 0, length)?)
}

/// The field that the last hop writes, RFC 5321 §4.4.
fn return_path(reverse_path: &ReversePath) -> Vec<u8> {
    match reverse_path {
        ReversePath::Null => b"Return-Path: <>\r\n".to_vec(),
        ReversePath::Address(address) => format!("Return-Path: <{address}>\r\n").into_bytes(),
    }
}

/// The reverse-path of receipts (doubt D-11).
fn author_path(site: &Site) -> ReversePath {
    ReversePath::Address(site.provider.author.clone())
}

/// Whose mailbox an address is. `postmaster@` each of our domains reaches somebody: RFC 5321
/// §4.5.1.
fn account_of(site: &Site, recipient: &Address) -> Result<Option<Account>, StoreError> {
    let mut found = site.store.account_by_address(recipient)?;
    if found.is_none()
        && site.manages(recipient.domain())
        && recipient.local().eq_ignore_ascii_case("postmaster")
    {
        found = site.store.account_by_address(&site.config.load().provider.postmaster)?;
    }
    Ok(found)
}

/// Now, and never before what was certified already: a clock that was set back must not have a
/// message delivered before it was accepted.
fn now_after(site: &Site, earlier: Moment) -> Moment {
    Moment::of(site.clock.now().max(earlier.instant()))
}

/// A fresh identifier of ours.
fn fresh_id(site: &Site, at: Moment) -> PecId {
    let time = at.instant().strftime("%Y%m%d%H%M%S");
    let left = format!("{time}.{}", crate::site::fresh_word());
    PecId::of(&left, site.provider.author.domain())
}

/// What a receipt of ours needs fresh.
fn fresh(message_id: PecId) -> Fresh {
    Fresh { message_id, token: fresh_token() }
}

fn fresh_token() -> u128 {
    u128::from_be_bytes(crypto::random())
}

/// A receipt, put into our user's mailbox: its INBOX, or the one that it has for receipts.
fn to_inbox(to: &Address, octets: Source, receipt: &[u8]) -> Delivery {
    Delivery {
        to: to.clone(),
        mailbox: keywords::receipts(),
        octets,
        flags: keywords::of(receipt),
        charge: Charge::Receipt,
    }
}

/// A receipt for our user: in the mailbox, or, when that is full, in the queue.
fn place_or_queue(
    transaction: &mut Transaction,
    to: &Address,
    (octets, receipt): (Source, &[u8]),
    placed: bool,
) -> anyhow::Result<()> {
    if placed {
        transaction.deliver.push(to_inbox(to, octets, receipt));
    } else {
        transaction.enqueue.push(Task::Place { to: to.clone() }.queued(Some(octets))?);
    }
    Ok(())
}

/// Commits a step, and counts it.
fn commit(site: &Site, transaction: Transaction, step: &'static str) -> Result<(), StoreError> {
    site.store.commit(transaction)?;
    metrics::counter!("ceralacca_steps_total", "step" => step).increment(1);
    Ok(())
}
