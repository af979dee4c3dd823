//! Hands signed octets over to incoming points: our own for the domains we manage, other hosts for
//! all others.
//!
//! Within one provider every message goes through all points all the same (PEC-GEN-09), so what is
//! for a domain of ours passes the incoming point's tests. A receipt of ours for our own user, and a
//! small envelope for a few, do what they do in the step that signed them, where they can; everything
//! else becomes a job of the incoming point. What is for others becomes one job for each destination domain, with all its recipients
//! (PEC-BT-12).
//!
//! `Return-Path` is written by the last hop and never in transit (RFC 5321 §4.4, doubt D-16): the
//! octets of jobs within this provider begin with it, those of relay jobs do not have it.

use std::collections::BTreeMap;

use mail::{Address, Domain, ReversePath};
use pec::exchange::{PecId, RecipientKind};
use pec::incoming::Routing;
use pec::inspect::examine;
use pec::moment::Moment;
use serde::{Deserialize, Serialize};
use store::{Lane, NewJob, Octets, Source, StoreError, Transaction, Urgency};

use super::origin::{self, Own};
use super::signed::Signed;
use super::wishes::Wishes;
use super::{Task, commit, incoming, notify};
use crate::site::Site;

/// What a message is, for whoever carries it: how urgent, and what becomes of it when nobody takes
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    /// A transport envelope, with its PEC msgid.
    Envelope(PecId),
    /// A receipt or notice.
    Receipt {
        /// Its own `Message-ID`.
        id: PecId,
        /// The PEC msgid of the message it is about.
        about: PecId,
    },
    /// An anomaly envelope, with its `Message-ID`.
    Anomaly(PecId),
    /// Ordinary mail.
    Ordinary,
    /// A report of how TLS went: it goes however TLS goes (RFC 8460 §3).
    TlsReport,
}

impl Content {
    /// The `Message-ID` of the message itself, where it is known.
    pub(crate) fn message_id(&self) -> Option<&str> {
        match self {
            Self::Envelope(id) | Self::Anomaly(id) | Self::Receipt { id, .. } => Some(id.as_str()),
            Self::Ordinary | Self::TlsReport => None,
        }
    }

    /// The PEC msgid of the certified message that it is, or is about.
    pub(crate) fn identifier(&self) -> Option<&str> {
        match self {
            Self::Envelope(id) | Self::Receipt { about: id, .. } => Some(id.as_str()),
            Self::Anomaly(_) | Self::Ordinary | Self::TlsReport => None,
        }
    }
}

/// What is handed over, and to whom.
pub(crate) struct Parcel<'a> {
    /// The reverse-path that the message travels with.
    pub(crate) reverse_path: &'a ReversePath,
    /// The forward-paths.
    pub(crate) recipients: &'a [Address],
    /// What it is.
    pub(crate) content: Content,
    /// The account on whose behalf it travels: accounts take turns in the queue.
    pub(crate) account: &'a Address,
}

/// A message on its way to the recipients of one domain of another host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Relay {
    /// The reverse-path.
    #[serde(with = "pec::exchange::as_path")]
    pub(crate) reverse_path: ReversePath,
    /// The domain of all its recipients, in lower case.
    pub(crate) domain: String,
    /// Who has not got it yet.
    pub(crate) recipients: Vec<RelayRecipient>,
    /// What it is.
    pub(crate) content: Content,
    /// What its sender asks to be told, and by way of what: of ordinary recipients only.
    #[serde(default)]
    pub(crate) wishes: Wishes,
    /// On whose behalf it travels.
    #[serde(with = "pec::exchange::as_text")]
    pub(crate) account: Address,
}

/// A recipient who has not got a message yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayRecipient {
    /// The forward-path.
    #[serde(with = "pec::exchange::as_text")]
    pub(crate) address: Address,
    /// What was said when it was last tried for him.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<String>,
}

/// When a message of ours that goes to a user of ours passes the points that it has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onward {
    /// In the commit of the step that hands it over. That commit fails when a mailbox is full or
    /// gone, so the step is one that can be made again with the other choice: [`commit_handing`].
    AtOnce,
    /// When its job is done.
    Queued,
}

/// Commits a step that hands messages over: at once, and when they cannot be placed at once, as jobs.
///
/// # Errors
///
/// As the second of these commits.
pub(super) fn commit_handing(
    site: &Site,
    make: impl Fn(Onward) -> anyhow::Result<Transaction>,
    step: &'static str,
) -> anyhow::Result<()> {
    match commit(site, make(Onward::AtOnce)?, step) {
        Err(error) if is_of_a_mailbox(&error) => Ok(commit(site, make(Onward::Queued)?, step)?),
        done => Ok(done?),
    }
}

/// Whether a step failed for what a mailbox cannot take: it can be made without placing anything there.
pub(super) const fn is_of_a_mailbox(error: &StoreError) -> bool {
    matches!(error, StoreError::OverQuota(_) | StoreError::NoSuchAccount | StoreError::OutOfUids)
}

/// Adds to a step what hands this message over.
///
/// # Errors
///
/// When a job cannot be written down, or what follows at once cannot be signed.
pub(super) fn hand_over(
    site: &Site,
    parcel: &Parcel<'_>,
    signed: &Signed<'_>,
    onward: Onward,
    step: &mut Transaction,
) -> anyhow::Result<()> {
    hand_over_as_wished(site, parcel, &Wishes::default(), signed, onward, step)
}

/// As [`hand_over`], with what the sender asked for.
///
/// # Errors
///
/// As [`hand_over`].
pub(super) fn hand_over_as_wished(
    site: &Site,
    parcel: &Parcel<'_>,
    wishes: &Wishes,
    signed: &Signed<'_>,
    onward: Onward,
    step: &mut Transaction,
) -> anyhow::Result<()> {
    let ours: Vec<Address> =
        parcel.recipients.iter().filter(|to| site.manages(to.domain())).cloned().collect();
    if !ours.is_empty() {
        hand_to_ours(site, parcel, ours, signed, onward, step)?;
    }
    let source = Source::New(step.octets.len());
    let relays = relays_as_wished(site, parcel, wishes, source)?;
    if !relays.is_empty() {
        step.octets.push(Octets::Inline(signed.octets().clone()));
        step.enqueue.extend(relays);
    }
    Ok(())
}

/// To recipients of ours: through our own incoming point.
fn hand_to_ours(
    site: &Site,
    parcel: &Parcel<'_>,
    ours: Vec<Address>,
    signed: &Signed<'_>,
    onward: Onward,
    step: &mut Transaction,
) -> anyhow::Result<()> {
    // Of a receipt for us the reverse-path is not asked (PEC-PR-16 is of envelopes).
    let routing = Routing { reverse_path: parcel.reverse_path, forward_paths: &ours };
    let examination = examine(signed.octets());
    let at = Moment::of(step.at);
    // What goes to others must not wait for what our own point does not believe now.
    let own = origin::test_own(site, &examination, &routing, signed)
        .inspect_err(|error| {
            let why = format!("{error:#}");
            tracing::warn!(target: "flow", %why, "a message of ours is tested again in its own step");
        })
        .ok();
    let placed = Source::New(step.octets.len());
    step.octets.push(Octets::Owned(with_return_path(parcel.reverse_path, signed.octets())));
    let origin = own.as_ref().map(Own::provenance);
    match parcel.content {
        // One for each: what becomes of a receipt is decided for the mailbox it is for.
        Content::Receipt { .. } => {
            for to in ours {
                let done = match &own {
                    Some(Own::Receipt(receipt, notes)) if onward == Onward::AtOnce => {
                        let receipt =
                            notify::Receipt { receipt, examination: &examination, notes, at };
                        notify::add_at_once(site, &receipt, &to, placed, step)?
                    }
                    _ => false,
                };
                if !done {
                    let task = Task::Notify { to, arrived: None, origin: origin.clone() };
                    step.enqueue.push(task.queued(Some(placed))?);
                }
            }
        }
        Content::Envelope(_) | Content::Anomaly(_) | Content::Ordinary | Content::TlsReport => {
            let ReversePath::Address(reverse_path) = parcel.reverse_path.clone() else {
                anyhow::bail!("only a message with a sender goes through the incoming point");
            };
            if let (Some(Own::Envelope(envelope, notes)), Onward::AtOnce) = (&own, onward)
                && incoming::may_follow_at_once(signed.octets(), &ours)
            {
                let octets = signed.octets();
                let own = incoming::Own { octets, examination: &examination, envelope, notes };
                return incoming::add_at_once(site, &own, &routing, placed, step);
            }
            let (forward_paths, arrived) = (ours, None);
            let task = Task::Incoming { reverse_path, forward_paths, arrived, origin };
            step.enqueue.push(task.queued(Some(placed))?);
        }
    }
    Ok(())
}

/// The jobs that carry a message to those of its recipients who are not ours: one for each domain.
///
/// # Errors
///
/// When a job cannot be written down.
pub(crate) fn relays(
    site: &Site,
    parcel: &Parcel<'_>,
    octets: Source,
) -> anyhow::Result<Vec<NewJob>> {
    relays_as_wished(site, parcel, &Wishes::default(), octets)
}

fn relays_as_wished(
    site: &Site,
    parcel: &Parcel<'_>,
    wishes: &Wishes,
    octets: Source,
) -> anyhow::Result<Vec<NewJob>> {
    let mut domains: BTreeMap<&Domain, Vec<RelayRecipient>> = BTreeMap::new();
    for to in parcel.recipients.iter().filter(|to| !site.manages(to.domain())) {
        let recipient = RelayRecipient { address: to.clone(), last: None };
        domains.entry(to.domain()).or_default().push(recipient);
    }
    domains
        .into_iter()
        .map(|(domain, recipients)| {
            let urgency = match parcel.content {
                Content::Receipt { .. } => Urgency::Receipt,
                Content::Envelope(_) => Urgency::Envelope,
                // It can go where all else in its lane waits for TLS.
                Content::TlsReport => Urgency::Receipt,
                Content::Anomaly(_) | Content::Ordinary => Urgency::Ordinary,
            };
            let lane = Lane {
                destination: domain.to_string(),
                urgency,
                account: parcel.account.to_string(),
            };
            let task = Task::Relay(Relay {
                reverse_path: parcel.reverse_path.clone(),
                domain: domain.to_string(),
                wishes: wishes_of(site, wishes, domain, &recipients),
                recipients,
                content: parcel.content.clone(),
                account: parcel.account.clone(),
            });
            Ok(NewJob { lane: Some(lane), ..task.queued(Some(octets))? })
        })
        .collect()
}

/// What of a sender's wishes concerns these recipients. Of certified ones the receipts tell; that
/// no hop be without TLS holds for them too (RFC 8689 §4.2.1).
pub(super) fn wishes_of(
    site: &Site,
    wishes: &Wishes,
    domain: &Domain,
    recipients: &[RelayRecipient],
) -> Wishes {
    if site.providers.load().kind(domain) == RecipientKind::Certified {
        return Wishes { require_tls: wishes.require_tls, ..Wishes::default() };
    }
    let of = recipients.iter().map(|recipient| recipient.address.to_string());
    let asked = of.filter_map(|to| Some((to.clone(), wishes.recipients.get(&to)?.clone())));
    Wishes {
        mail: wishes.mail.clone(),
        require_tls: wishes.require_tls,
        recipients: asked.collect(),
    }
}

/// A message as it lies in a mailbox of ours: with the reverse-path it came with at its head
/// (RFC 5321 §4.4).
pub(crate) fn with_return_path(reverse_path: &ReversePath, octets: &[u8]) -> Vec<u8> {
    [&super::return_path(reverse_path), octets].concat()
}
