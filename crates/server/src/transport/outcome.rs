//! What a peer's answers become: one commit that takes away whoever has the message or never will,
//! and puts off the rest.
//!
//! | a recipient is | then |
//! | --- | --- |
//! | delivered | a log record `trasmissione`; a report to the sender of an ordinary one who asked for it, where the host knows nothing of that (RFC 3461 §5.2.2) |
//! | deferred | tried again ([`retry`]); after `deadlines.queue` it has failed (PEC-BT-14) |
//! | failed, certified | a log record: the sender hears of it by the notices of late delivery (doubt D-12) |
//! | failed, ordinary | a log record, and a report to the sender ([`crate::flow::bounce`], PEC-BT-15) |
//! | failed, of a receipt | a log record, and nothing else (doubt D-11) |

use mail::{Address, ReversePath};
use smtp::client::Fate;
use store::{Amended, Job, LogRecord, StoreError, Transaction};

use super::retry;
use crate::flow::Task;
use crate::flow::bounce::{self, Action};
use crate::flow::dispatch::{Content, Relay, RelayRecipient};
use crate::site::Site;

/// What becomes of each recipient, and who says so; nothing yet of one that was not tried.
pub(super) type Verdicts = Vec<(Address, Option<Fate>, String)>;

/// Of the host that was asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// What the log says of it.
    pub(super) notes: Vec<String>,
    /// It knows what the sender wishes, and tells him itself (RFC 3461 §5.2.1).
    pub(super) tells: bool,
}

/// Octets of a reason that are kept in the job: enough for any reply.
const REASON_OCTETS_MAX: usize = 400;

/// Commits what became of a job.
///
/// # Errors
///
/// Nothing has happened then that is known of, and the job is as before.
pub(super) fn conclude(
    site: &Site,
    job: &Job,
    relay: &Relay,
    verdicts: &Verdicts,
    asked: &Asked,
) -> anyhow::Result<()> {
    let notes = asked.notes.as_slice();
    let now = site.clock.now();
    let idle_max = site.config.load().deadlines.queue;
    let scatter = u64::from_be_bytes(crypto::random());
    let due = retry::next(job.queued, now, job.attempts, idle_max, scatter);
    let mut step = Transaction { at: now, ..Transaction::default() };
    let (mut untried, mut rest, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let mut relayed = Vec::new();
    for (address, fate, why) in verdicts {
        match (fate, due) {
            (Some(Fate::Delivered), _) => {
                let record = record(&site.provider.name, relay, "trasmissione", address);
                let notes = [std::slice::from_ref(why), notes].concat();
                step.log.push(LogRecord { time: now, notes, ..record });
                if !asked.tells && bounce::is_reported(site, relay, Action::Relayed, address) {
                    relayed.push((address.clone(), why.clone()));
                }
            }
            (None, _) => {
                let recipient = RelayRecipient { address: address.clone(), last: None };
                untried.push(recipient);
            }
            (Some(Fate::Deferred), Some(_)) => {
                let last = Some(shortened(why));
                rest.push(RelayRecipient { address: address.clone(), last });
            }
            (Some(Fate::Deferred), None) => {
                failed
                    .push((address.clone(), format!("the time in the queue is over; last {why}")));
            }
            (Some(Fate::Failed), _) => failed.push((address.clone(), why.clone())),
        }
    }
    for (address, why) in &failed {
        let record = record(&site.provider.name, relay, "errore-trasmissione", address);
        step.log.push(LogRecord {
            time: now,
            errore: Some("altro".to_owned()),
            errore_esteso: Some(why.clone()),
            notes: notes.to_vec(),
            ..record
        });
    }
    let outcomes = [
        ("delivered", verdicts.len() - untried.len() - rest.len() - failed.len()),
        ("deferred", rest.len()),
        ("failed", failed.len()),
    ];
    let given_up = failed.clone();
    // Who was not tried is next, at once, and the others in the transaction after that.
    let due = if untried.is_empty() { due } else { Some(now) };
    let reason = rest.iter().find_map(|recipient| recipient.last.clone());
    untried.append(&mut rest);
    match due {
        Some(due) if !untried.is_empty() => {
            let reason = reason.unwrap_or_else(|| "more recipients follow".to_owned());
            tracing::info!(target: "transport", job = job.id.0, destination = %relay.domain, why = %reason, "a message is tried again");
            let relay = Relay { recipients: untried, ..relay.clone() };
            let payload = serde_json::to_vec(&Task::Relay(relay))?;
            step.amend = vec![Amended { job: job.id, due, payload, reason }];
        }
        _ => step.consume = vec![job.id],
    }
    failed.retain(|(address, _)| bounce::is_reported(site, relay, Action::Failed, address));
    for (action, told) in [(Action::Failed, failed), (Action::Relayed, relayed)] {
        if !told.is_empty() {
            match bounce::report(site, job, relay, action, &told, &mut step) {
                // Its octets went with it, and the commit will say so.
                Err(_) if site.store.job(job.id)?.is_none() => {}
                told => told?,
            }
        }
    }
    let log = step.log.clone();
    match site.store.commit(step) {
        // Cancelled meanwhile. What a peer has it has, and the log says so.
        Err(StoreError::JobGone(_)) => {
            site.store.commit(Transaction { at: now, log, ..Transaction::default() })?;
        }
        done => {
            done?;
            site.queue.wake();
        }
    }
    for (word, by) in outcomes {
        metrics::counter!("ceralacca_relayed_total", "outcome" => word).increment(by as u64);
    }
    for (address, why) in &given_up {
        tracing::warn!(target: "transport", job = job.id.0, recipient = %address, why, "a message is given up");
    }
    Ok(())
}

/// A record of what happened to a message for one recipient, with what is known without reading it.
pub(crate) fn record(provider: &str, relay: &Relay, event: &str, recipient: &Address) -> LogRecord {
    let mittente = match (&relay.content, &relay.reverse_path) {
        // The sender of the message that a receipt is about is not who sends the receipt.
        (Content::Receipt { .. }, _) | (_, ReversePath::Null) => None,
        (_, ReversePath::Address(address)) => Some(address.to_string()),
    };
    LogRecord {
        event: event.to_owned(),
        identificativo: relay.content.identifier().map(str::to_owned),
        message_id: relay.content.message_id().map(str::to_owned),
        mittente,
        gestore: Some(provider.to_owned()),
        consegna: Some(recipient.to_string()),
        ..LogRecord::default()
    }
}

fn shortened(why: &str) -> String {
    let mut end = why.len().min(REASON_OCTETS_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_octet_of_a_reason_past_the_bound_is_cut_off_and_no_character_in_two() {
        let fits = "x".repeat(REASON_OCTETS_MAX);
        assert_eq!(shortened(&fits), fits);
        assert_eq!(shortened(&format!("{fits}y")), fits);
        let (before, cut) = (&fits[1..], format!("{}\u{e8}", &fits[1..]));
        assert_eq!(cut.len(), REASON_OCTETS_MAX + 1);
        assert_eq!(shortened(&cut), before);
    }
}
