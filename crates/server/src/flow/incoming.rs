//! The incoming point: the four tests on an envelope, octet for octet as it came, and the
//! take-charge receipt.

use std::sync::Arc;

use mail::{Address, ReversePath};
use pec::incoming::{Class, Routing};
use pec::inspect::examine;
use pec::moment::Moment;
use pec::receipt;
use store::{Job, Source, Transaction};

use super::dispatch::{Content, Parcel, hand_over};
use super::{
    Arrived, Task, author_path, commit, fresh, fresh_id, now_after, octets_of, origin, record, sign,
};
use crate::site::Site;

/// Takes an envelope in charge: one receipt to the sender's provider for all recipients of ours
/// (PEC-PIC-01), and one job for each recipient.
pub(super) fn take_in(
    site: &Arc<Site>,
    job: &Job,
    reverse_path: Address,
    forward_paths: &[Address],
    arrived: Option<Arrived>,
) -> anyhow::Result<()> {
    let octets = octets_of(site, job)?;
    let at = Moment::of(site.clock.now());
    let examination = examine(&octets);
    let sender = reverse_path.clone();
    let reverse_path = ReversePath::Address(reverse_path);
    let routing = Routing { reverse_path: &reverse_path, forward_paths };
    let is_from_outside = arrived.is_some();
    let judged = origin::test_once(site, &examination, &routing, at, arrived)?;
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
    let receipt_id = fresh_id(site, at);
    let unsigned = receipt::take_charge(
        &envelope,
        forward_paths,
        &site.provider,
        at,
        fresh(receipt_id.clone()),
    );
    let signed = sign(site, unsigned, at)?.into();
    let blob = job.blob.map(Source::Stored);
    let exchange = envelope.exchange();
    let mut log = Vec::new();
    if is_from_outside {
        // Of an envelope of ours the access point wrote this down (PEC-LOG-06, PEC-LOG-11).
        log.push(
            record::of(site, "posta-certificata", exchange, at)
                .about(&exchange.identifier)
                .by(envelope.signer())
                .notes(&judged.notes)
                .build(),
        );
    }
    log.push(
        record::of(site, "presa-in-carico", exchange, at)
            .about(&receipt_id)
            .taken(forward_paths)
            .notes(&judged.notes)
            .build(),
    );
    let mut transaction =
        Transaction { at: at.instant(), consume: vec![job.id], log, ..Transaction::default() };
    let parcel = Parcel {
        reverse_path: &author_path(site),
        recipients: std::slice::from_ref(envelope.receipts_to()),
        content: Content::Receipt { id: receipt_id, about: exchange.identifier.clone() },
        account: &site.provider.author,
    };
    hand_over(site, &parcel, &signed, &mut transaction)?;
    for recipient in forward_paths {
        let task = Task::Deliver {
            identifier: exchange.identifier.clone(),
            reverse_path: sender.clone(),
            recipient: recipient.clone(),
        };
        transaction.enqueue.push(task.queued(blob)?);
    }
    Ok(commit(site, transaction, "incoming")?)
}
