//! Hands signed octets over to incoming points: our own for the domains we manage, other hosts for
//! all others.
//!
//! Within one provider every message goes through all points all the same (PEC-GEN-09), so what is
//! for a domain of ours becomes a job of the incoming point. What is for others becomes one job for
//! each destination domain, with all its recipients (PEC-BT-12).
//!
//! `Return-Path` is written by the last hop and never in transit (RFC 5321 §4.4, doubt D-16): the
//! octets of jobs within this provider begin with it, those of relay jobs do not have it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail::{Address, Domain, ReversePath};
use pec::exchange::PecId;
use serde::{Deserialize, Serialize};
use store::{NewJob, Octets, Source, Transaction};

use super::Task;
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

/// Adds to a step what hands over these octets, which have no `Return-Path` yet.
///
/// # Errors
///
/// When a job cannot be written down.
pub(crate) fn hand_over(
    site: &Site,
    parcel: &Parcel<'_>,
    octets: &Arc<[u8]>,
    step: &mut Transaction,
) -> anyhow::Result<()> {
    let ours: Vec<Address> =
        parcel.recipients.iter().filter(|to| site.manages(to.domain())).cloned().collect();
    if !ours.is_empty() {
        let placed = Source::New(step.octets.len());
        step.octets.push(Octets::Inline(with_return_path(parcel.reverse_path, octets).into()));
        match parcel.content {
            // One for each: what becomes of a receipt is decided for the mailbox it is for.
            Content::Receipt { .. } => {
                for to in ours {
                    step.enqueue.push(Task::Notify { to, arrived: None }.queued(Some(placed))?);
                }
            }
            Content::Envelope(_) | Content::Anomaly(_) | Content::Ordinary => {
                let ReversePath::Address(reverse_path) = parcel.reverse_path.clone() else {
                    anyhow::bail!("only a message with a sender goes through the incoming point");
                };
                let task = Task::Incoming { reverse_path, forward_paths: ours, arrived: None };
                step.enqueue.push(task.queued(Some(placed))?);
            }
        }
    }
    let source = Source::New(step.octets.len());
    let relays = relays(site, parcel, source)?;
    if !relays.is_empty() {
        step.octets.push(Octets::Inline(octets.clone()));
        step.enqueue.extend(relays);
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
    let mut domains: BTreeMap<&Domain, Vec<RelayRecipient>> = BTreeMap::new();
    for to in parcel.recipients.iter().filter(|to| !site.manages(to.domain())) {
        let recipient = RelayRecipient { address: to.clone(), last: None };
        domains.entry(to.domain()).or_default().push(recipient);
    }
    domains
        .into_iter()
        .map(|(domain, recipients)| {
            Task::Relay(Relay {
                reverse_path: parcel.reverse_path.clone(),
                domain: domain.to_string(),
                recipients,
                content: parcel.content.clone(),
                account: parcel.account.clone(),
            })
            .queued(Some(octets))
        })
        .collect()
}

/// A message as it lies in a mailbox of ours: with the reverse-path it came with at its head
/// (RFC 5321 §4.4).
pub(crate) fn with_return_path(reverse_path: &ReversePath, octets: &[u8]) -> Vec<u8> {
    [&super::return_path(reverse_path), octets].concat()
}
