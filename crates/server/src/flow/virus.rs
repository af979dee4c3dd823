//! Infected messages: the quarantine, the notice between providers, and the one for our user.
//!
//! At the access point a virus refuses the message (PEC-AP-26), which is [`super::access`]'s. At the
//! incoming point the scan is a step of its own, after the take-charge receipt (PEC-PR-31): until it
//! has succeeded, nothing is delivered. What another provider found in a message of ours becomes one
//! notice to our user (PEC-MCV-01, PEC-LOG-09).

use std::sync::Arc;

use anyhow::Context;
use mail::{Address, ReversePath};
use pec::exchange::{Exchange, PecId};
use pec::incoming::{Provenance, Routing, VerifiedEnvelope, VerifiedNotification};
use pec::inspect::examine;
use pec::moment::Moment;
use pec::receipt::{self, ReceiptKind};
use store::{Infection, Job, NewInfected, NewJob, Octets, Source, Timestamp, Transaction};

use super::dispatch::{Content, Onward, Parcel, hand_over};
use super::signed::{seal, sign};
use super::{Task, author_path, commit, fresh, fresh_id, now_after, octets_of, origin, record};
use crate::antivirus::Verdict;
use crate::site::Site;

/// How long the law wants infected messages kept: DPR 68/2005 art. 12, DM 2 Nov 2005 art. 11.
const KEEP_MONTHS: i32 = 30;

/// Where a virus was found, in the words of the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// The access point.
    Access,
    /// The incoming point.
    Incoming,
}

impl Point {
    const fn word(self) -> &'static str {
        match self {
            Self::Access => "accesso",
            Self::Incoming => "ricezione",
        }
    }
}

/// An infected message on its way into the quarantine, as it was received (PEC-VIR-01), and the
/// note that binds its octets to the log record of the event (PEC-VIR-02).
pub(super) fn infected(
    point: Point,
    virus: &str,
    exchange: &Exchange,
    recipients: &[Address],
    octets: &[u8],
    source: Source,
    at: Moment,
) -> (NewInfected, String) {
    metrics::counter!("ceralacca_viruses_total", "point" => point.word()).increment(1);
    let sha256 = crypto::sha256_hex(octets);
    let note = format!("in quarantine, SHA-256 {sha256}");
    let bare = |id: &String| id.trim().trim_matches(['<', '>']).to_owned();
    let infection = Infection {
        point: point.word().to_owned(),
        virus: virus.to_owned(),
        identificativo: Some(exchange.identifier.as_str().to_owned()),
        msgid: exchange.msgid.as_ref().map(bare),
        mittente: exchange.sender.to_string(),
        destinatari: recipients.iter().map(ToString::to_string).collect(),
        oggetto: exchange.subject.as_ref().map(|subject| subject.text().to_owned()),
        sha256,
    };
    (NewInfected { octets: source, keep_until: keep_until(at.instant()), infection }, note)
}

/// Thirty months later, by the calendar.
fn keep_until(found: Timestamp) -> Timestamp {
    let zoned = found.to_zoned(pec::moment::rome().clone());
    let span = jiff::Span::new().months(KEEP_MONTHS);
    // Past the end of the calendar: never.
    zoned.checked_add(span).map_or(Timestamp::MAX, |end| end.timestamp())
}

/// What follows the take-charge receipt: the scan, or, where the operator wants none, delivery to
/// each recipient.
pub(super) fn after_take_charge(
    site: &Site,
    envelope: &VerifiedEnvelope,
    recipients: &[Address],
    octets: Source,
) -> anyhow::Result<Vec<NewJob>> {
    let (identifier, sender) = (&envelope.exchange().identifier, &envelope.exchange().sender);
    let origin = Some(envelope.provenance());
    if site.config.load().antivirus.clamd.is_none() {
        return deliveries(identifier, sender, recipients, origin, octets);
    }
    let task = Task::Scan {
        identifier: identifier.clone(),
        reverse_path: sender.clone(),
        recipients: recipients.to_vec(),
        origin: origin.cloned(),
    };
    Ok(vec![task.queued(Some(octets))?])
}

fn deliveries(
    identifier: &PecId,
    reverse_path: &Address,
    recipients: &[Address],
    origin: Option<&Provenance>,
    envelope: Source,
) -> anyhow::Result<Vec<NewJob>> {
    let deliver = |recipient: &Address| {
        let task = Task::Deliver {
            identifier: identifier.clone(),
            reverse_path: reverse_path.clone(),
            recipient: recipient.clone(),
            origin: origin.cloned(),
        };
        task.queued(Some(envelope))
    };
    recipients.iter().map(deliver).collect()
}

/// Scans an envelope that was taken in charge. One that is clean goes on; one that is not goes into
/// the quarantine, and its sender's provider gets a notice for each recipient (PEC-PR-20, PEC-RV-02).
///
/// # Errors
///
/// Also when it could not be scanned: it waits.
pub(super) fn scan(
    site: &Arc<Site>,
    job: &Job,
    identifier: &PecId,
    reverse_path: Address,
    recipients: &[Address],
    tested: Option<Provenance>,
) -> anyhow::Result<()> {
    let octets = octets_of(site, job)?;
    let blob = Source::Stored(job.blob.context("the job has no octets")?);
    let virus = match site.scanner.scan(&site.config.load().antivirus, &octets)? {
        Verdict::Infected(virus) => virus,
        Verdict::Clean => {
            let transaction = Transaction {
                at: site.clock.now(),
                consume: vec![job.id],
                enqueue: deliveries(identifier, &reverse_path, recipients, tested.as_ref(), blob)?,
                ..Transaction::default()
            };
            return Ok(commit(site, transaction, "scan")?);
        }
    };
    let reverse_path = ReversePath::Address(reverse_path);
    let routing = Routing { reverse_path: &reverse_path, forward_paths: recipients };
    let envelope = origin::recall_envelope(site, &examine(&octets), &routing, tested.as_ref())?;
    let at = now_after(site, envelope.certification().at);
    let exchange = envelope.exchange();
    let (infected, note) =
        infected(Point::Incoming, &virus, exchange, recipients, &octets, blob, at);
    drop(octets);
    let mut transaction = Transaction {
        at: at.instant(),
        consume: vec![job.id],
        quarantine: vec![infected],
        ..Transaction::default()
    };
    for recipient in recipients {
        let id = fresh_id(site, at);
        let provider = &site.provider;
        let fresh = fresh(id.clone());
        let unsigned = receipt::virus_found(&envelope, recipient, &virus, provider, at, fresh);
        let signed = sign(site, unsigned, at)?;
        let parcel = Parcel {
            reverse_path: &author_path(site),
            recipients: std::slice::from_ref(envelope.receipts_to()),
            content: Content::Receipt { id: id.clone(), about: exchange.identifier.clone() },
            account: &provider.author,
        };
        hand_over(site, &parcel, &signed, Onward::Queued, &mut transaction)?;
        transaction.log.push(
            record::of(site, "rilevazione-virus", exchange, at)
                .about(&id)
                .delivery(recipient)
                .error("virus", &virus)
                .notes(std::slice::from_ref(&note))
                .build(),
        );
    }
    Ok(commit(site, transaction, "virus")?)
}

/// Adds to the step that takes a virus detection notice in: the non-delivery notice for our user
/// (PEC-PR-24, PEC-MCV-01). Nothing when it is no such notice, when its signer may not speak for the
/// recipient, when the message is none of ours, or when the recipient's outcome is known already: so
/// the same notice twice becomes one (PEC-PR-28, PEC-LOG-09).
pub(super) fn add_non_delivery(
    site: &Site,
    found: &VerifiedNotification,
    at: Moment,
    transaction: &mut Transaction,
) -> anyhow::Result<()> {
    if found.kind() != ReceiptKind::VirusFound || !found.is_authoritative() {
        return Ok(());
    }
    let data = found.certification();
    let Some(recipient) = found.recipient() else { return Ok(()) };
    let tracked = site.store.tracked(data.identifier.as_str())?;
    let open = tracked.iter().any(|entry| entry.recipient == *recipient && !entry.state.is_final());
    if !open {
        return Ok(());
    }
    let id = fresh_id(site, at);
    let fresh = fresh(id.clone());
    let Some(unsigned) = receipt::non_delivery_virus(found, &site.provider, at, fresh) else {
        return Ok(());
    };
    let sealed = seal(site, unsigned, &author_path(site), at)?;
    let virus = data.error_text.as_deref().unwrap_or_default();
    let notice = Source::New(transaction.octets.len());
    transaction.octets.push(Octets::Inline(sealed));
    // Whether there is room in the mailbox is that step's affair: a receipt is never dropped.
    let task = Task::Place { to: data.sender.clone() };
    transaction.enqueue.push(task.queued(Some(notice))?);
    transaction.log.push(
        record::of_data("errore-consegna", data, at)
            .by(&site.provider.name)
            .about(&id)
            .delivery(recipient)
            .error("virus", virus)
            .build(),
    );
    // What our own scanner had let through: the operator is to find out why (PEC-PR-24).
    metrics::counter!("ceralacca_viruses_total", "point" => "mancato").increment(1);
    let message = data.identifier.as_str();
    if site.manages(recipient.domain()) {
        tracing::warn!(
            target: "antivirus", virus, message,
            "the incoming point found a virus that the access point had not found"
        );
    } else {
        tracing::warn!(
            target: "antivirus", virus, found_by = found.signer(), message,
            "another provider found a virus that was not found here"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::keep_until;

    #[test]
    fn thirty_months_are_counted_by_the_calendar() {
        for (found, until) in [
            ("2026-11-27T10:00:00Z", "2029-05-27T09:00:00Z"),
            // There is no 31 February: the last day of the month.
            ("2026-08-31T10:00:00Z", "2029-02-28T11:00:00Z"),
        ] {
            assert_eq!(keep_until(found.parse().unwrap()), until.parse().unwrap());
        }
    }
}
