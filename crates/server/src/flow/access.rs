//! The access point: what a user submitted becomes a certified message to be, or is refused.
//!
//! One commit holds the original's octets, its PEC msgid and time, its log records, the tracker's
//! entries and the job that goes on; `250` follows it (PEC-AP-29).

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use mail::Address;
use pec::access::{self, Limits, Paths};
use pec::exchange::Exchange;
use pec::moment::Moment;
use smtp::Reply;
use store::{Follow, Octets, Source, Spool, StoreError, Timestamp, Transaction};

use super::wishes::Wishes;
use super::{Task, commit, fresh_id, record, sent, virus};
use crate::antivirus::{ScanError, Verdict};
use crate::site::Site;

/// What a session of ours took in.
pub(crate) struct Submitted {
    pub(crate) reverse_path: Address,
    pub(crate) forward_paths: Vec<Address>,
    pub(crate) wishes: Wishes,
    pub(crate) trace: Trace,
}

/// How it came in, for the trace field.
pub(crate) struct Trace {
    pub(crate) hello: String,
    pub(crate) peer: IpAddr,
    pub(crate) protocol: &'static str,
}

/// Why nothing was taken.
pub(crate) enum Refusal {
    /// The client is told so.
    Say(Reply),
    /// We failed; the client is told to come again.
    Fault(anyhow::Error),
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        match (error.downcast_ref::<StoreError>(), error.downcast_ref::<ScanError>()) {
            (Some(StoreError::NoSuchAccount), _) => Self::Say(smtp::reply::SENDER_NOT_YOURS),
            (_, Some(ScanError::Unavailable(..))) => Self::Say(smtp::reply::NOT_SCANNED),
            (_, Some(ScanError::TooLarge(..))) => Self::Say(smtp::reply::TOO_LARGE_TO_SCAN),
            // Only a copy in the sender's own account can be too much for it.
            (Some(StoreError::OverQuota(_)), _) => Self::Say(smtp::reply::COPY_TOO_LARGE),
            (Some(StoreError::NoSpace), _) => Self::Say(smtp::reply::STORAGE_FULL),
            _ => Self::Fault(error),
        }
    }
}

/// Takes a message. When this returns, the message is durably ours, certified or refused; the
/// identifier is what its log records are found by.
///
/// # Errors
///
/// Nothing was taken, and nothing of it is left.
pub(crate) fn take(
    site: &Arc<Site>,
    submitted: &Submitted,
    spool: Box<dyn Spool>,
) -> Result<String, Refusal> {
    let taken = admit(site, submitted, spool)?;
    site.queue.wake();
    Ok(taken)
}

fn admit(site: &Site, submitted: &Submitted, spool: Box<dyn Spool>) -> anyhow::Result<String> {
    let spooled = spool.finish()?;
    let octets = spooled.into_octets()?;
    let scanned = site.scanner.scan(&site.config.load().antivirus, &octets);
    if let Err(error @ ScanError::Unavailable(..)) = scanned {
        return Err(error.into());
    }
    // The one time of the event: receipt, envelope, log (PEC-GEN-10, PEC-DT-07).
    let at = Moment::of(site.clock.now());
    let id = fresh_id(site, at);
    let host = site.host();
    let trace = access::Trace {
        client_name: &submitted.trace.hello,
        client: submitted.trace.peer,
        by: &host,
        protocol: submitted.trace.protocol,
        id: id.as_str().split('@').next().unwrap_or_default(),
    };
    let trace = access::trace_field(&trace, at);
    let paths = Paths {
        reverse_path: &submitted.reverse_path,
        forward_paths: &submitted.forward_paths,
        trace: &trace,
    };
    let limits = {
        let config = site.config.load();
        let strict = config.submission.strict_recipients;
        Limits::new(config.limits.message_octets, config.limits.recipients, strict)
    };
    let providers = site.providers.load();
    let kind = |domain: &mail::Domain| providers.kind(domain);
    let mut transaction = Transaction { at: at.instant(), ..Transaction::default() };
    // What is certified is made of the octets themselves: of much there is no second copy, unless one is kept.
    let mut kept = None;
    let admitted = match &scanned {
        Ok(Verdict::Infected(virus)) => {
            let draft = paths.draft(&octets);
            let refused = access::refuse_infected(&draft, &kind, id.clone(), at, virus);
            kept = Some(octets);
            Err(refused)
        }
        _ => {
            if site.config.load().submission.keep_sent_copy {
                kept = Some(octets.clone());
            }
            let named = (id.clone(), at);
            access::admit_given(octets, &paths, &site.provider, &limits, &kind, named)
        }
    };
    match admitted {
        Ok(submission) => {
            // Well formed, and yet nobody can say that it is clean.
            scanned?;
            let copy = match &kept {
                Some(octets) => {
                    sent::copy(&*site.store, &submitted.reverse_path, octets, Source::New(1))?
                }
                None => None,
            };
            let copied = kept.filter(|_| copy.is_some());
            transaction.deliver = copy.into_iter().collect();
            let notes = submission.remarks().to_vec();
            let (accepted, original) = submission.into_parts();
            let receipt = fresh_id(site, at);
            let exchange = accepted.exchange();
            transaction.log = vec![
                record::of(site, "accettazione", exchange, at)
                    .about(&receipt)
                    .notes(&notes)
                    .build(),
                record::of(site, "posta-certificata", exchange, at).about(&id).build(),
            ];
            transaction.follow = follow(site, exchange, at)?.into_iter().collect();
            transaction.octets = vec![Octets::Owned(original)];
            transaction.octets.extend(copied.map(Octets::Owned));
            let wishes = submitted.wishes.clone();
            let task = Task::Certify { accepted, receipt, wishes };
            transaction.enqueue = vec![task.queued(Some(Source::New(0)))?];
        }
        Err(refused) => {
            let notice = fresh_id(site, at);
            let mut notes = Vec::new();
            if let Some(octets) = kept.filter(|_| refused.is_infected()) {
                let source = Source::New(0);
                let (infected, kept) = virus::infected(
                    virus::Point::Access,
                    refused.reason(),
                    refused.exchange(),
                    &submitted.forward_paths,
                    &octets,
                    source,
                    at,
                );
                transaction.octets = vec![Octets::Owned(octets)];
                transaction.quarantine = vec![infected];
                notes.push(kept);
            }
            transaction.log = vec![
                record::of(site, "non-accettazione", refused.exchange(), at)
                    .about(&notice)
                    .error(refused.error().errore(), refused.reason())
                    .notes(&notes)
                    .build(),
            ];
            transaction.enqueue = vec![Task::Refuse { refused, notice }.queued(None)?];
        }
    }
    commit(site, transaction, "access").context("the message cannot be stored")?;
    Ok(id.as_str().to_owned())
}

/// The certified recipients, of whom something must be heard in time (PEC-TO); nothing when there
/// is none.
fn follow(site: &Site, exchange: &Exchange, at: Moment) -> anyhow::Result<Option<Follow>> {
    let recipients: Vec<Address> = exchange.certified().cloned().collect();
    if recipients.is_empty() {
        return Ok(None);
    }
    let deadlines = site.config.load().deadlines;
    let at = at.instant();
    let after = |wait: std::time::Duration| at.checked_add(wait).unwrap_or(Timestamp::MAX);
    Ok(Some(Follow {
        identificativo: exchange.identifier.as_str().to_owned(),
        recipients,
        at,
        first: after(deadlines.first),
        second: after(deadlines.second),
        about: serde_json::to_vec(exchange)?,
    }))
}
