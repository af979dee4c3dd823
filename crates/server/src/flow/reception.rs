//! Reception: what another host brings to port 25 without AUTH, until it is durably ours.
//!
//! The incoming point's four tests are made before the end of data is answered, so that what is no
//! certified mail can be refused while its sender is still there to be told (PEC-GEN-17,
//! PEC-GEN-19). What is kept are the octets as they came, below a trace of ours (RFC 5321 §4.4);
//! what they were found to be is written beside them and not asked again.
//!
//! | it is | taken | then |
//! | --- | --- | --- |
//! | a correct envelope | for every forward-path, also one that nobody has (PEC-PR-30) | [`Task::Incoming`] |
//! | a correct receipt | likewise | [`Task::Notify`] |
//! | a provider's, in a wrong form | for mailboxes that are there and have room (PEC-PR-07) | [`Task::Enclose`] |
//! | anything else | likewise, where the holder takes ordinary mail | [`Task::Enclose`] |
//!
//! Of the last two, a message that no forward-path takes is refused with the reply of the first of
//! them. One that some take is answered `250`: the others are in the log record as refused, and
//! their sender has a report (RFC 3464) when the domain of the reverse-path vouches for the message;
//! otherwise it may be anybody's, and a report would go to who never wrote.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use mail::{Address, Message, ReversePath};
use pec::access;
use pec::incoming::{AnomalyReason, Class, FormFault, Routing};
use pec::inspect::examine;
use pec::moment::Moment;
use smtp::{Reply, reply};
use store::{Octets, Source, Spool, Transaction};

use super::access::Refusal;
use super::wishes::Wishes;
use super::{Arrived, Task, anomaly, bounce, commit, fresh_id, origin};
use crate::antivirus::Verdict;
use crate::registry;
use crate::site::Site;

/// `Received` fields at most: a message that passed more hosts is in a loop, RFC 5321 §6.3.
const HOPS_MAX: usize = 100;

/// What SPF, DKIM, DMARC and ARC make of a message: asked only for one that is not certified.
/// Called where blocking is allowed; the answer is the value of an `Authentication-Results` field,
/// or what the client is told instead of `250`.
pub(crate) type Authenticate = Box<dyn FnOnce(&[u8]) -> Result<Authenticated, Reply> + Send>;

/// What the domains that a message names say of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authenticated {
    /// The value of an `Authentication-Results` field.
    pub(crate) results: String,
    /// The domain of the reverse-path vouches for it: it is no forgery in its name.
    pub(crate) vouched: bool,
}

/// What a session without AUTH took in.
pub(crate) struct Received {
    pub(crate) reverse_path: ReversePath,
    /// All of domains that we manage; never empty.
    pub(crate) forward_paths: Vec<Address>,
    /// What its sender asks to be told.
    pub(crate) wishes: Wishes,
    pub(crate) arrival: Arrival,
}

/// How it came in.
pub(crate) struct Arrival {
    pub(crate) hello: String,
    pub(crate) peer: IpAddr,
    pub(crate) protocol: &'static str,
    /// Version and cipher suite; nothing when it came in clear.
    pub(crate) tls: Option<String>,
    pub(crate) authenticate: Option<Authenticate>,
}

/// Takes a message from another host. When this returns, the message is durably ours; the
/// identifier is in its trace field.
///
/// # Errors
///
/// Nothing was taken, and nothing of it is left.
pub(crate) fn take(
    site: &Arc<Site>,
    received: Received,
    spool: Box<dyn Spool>,
) -> Result<String, Refusal> {
    let spooled = spool.finish().map_err(anyhow::Error::from)?;
    let mut message = spooled.into_octets().map_err(anyhow::Error::from)?;
    if Message::lenient(&message).all("Received").nth(HOPS_MAX).is_some() {
        return Err(Refusal::Say(reply::LOOP));
    }
    let Received { reverse_path, forward_paths, wishes, arrival } = received;
    let at = Moment::of(site.clock.now());
    let id = fresh_id(site, at);
    let mut notes = vec![match &arrival.tls {
        Some(tls) => format!("came from {} with {tls}", arrival.peer),
        None => format!("came from {} in clear", arrival.peer),
    }];
    let routing = Routing { reverse_path: &reverse_path, forward_paths: &forward_paths };
    let judged = origin::test(site, &examine(&message), &routing, at)?;
    let class = judged.class.timely(at.instant());
    if let Class::Anomaly(FormFault::Mandate(why, certified)) = &class
        && registry::may_lag_behind(&site.config.load(), certified.instant())
    {
        tracing::info!(target: "incoming", peer = %arrival.peer, why, "a signer may speak for these when the index is fetched again: told to come later");
        return Err(Refusal::Say(reply::INDEX_LAGS));
    }
    notes.extend(judged.notes);
    let mut octets = trace(site, &reverse_path, &arrival, id.as_str(), at);
    let mut transaction = Transaction { at: at.instant(), ..Transaction::default() };
    let source = Some(Source::New(0));
    let mut report = None;
    match (class, reverse_path) {
        (Class::Envelope(envelope), ReversePath::Address(reverse_path)) => {
            let arrived = Some(Arrived { notes });
            let origin = Some(envelope.provenance().clone());
            let task = Task::Incoming { reverse_path, forward_paths, arrived, origin };
            transaction.enqueue = vec![task.queued(source)?];
        }
        (Class::Notification(receipt), _) => {
            for to in forward_paths {
                let arrived = Some(Arrived { notes: notes.clone() });
                let origin = Some(receipt.provenance().clone());
                transaction.enqueue.push(Task::Notify { to, arrived, origin }.queued(source)?);
            }
        }
        (class, reverse_path) => {
            let mut vouched = false;
            let reason = match class {
                Class::Ordinary(fault) => {
                    if let Some(authenticate) = arrival.authenticate {
                        let asked = authenticate(&message).map_err(Refusal::Say)?;
                        let results = asked.results;
                        vouched = asked.vouched;
                        message = without_forged_results(&message, &site.host());
                        mail::message::write_field(&mut octets, "Authentication-Results", &results);
                        notes.push(results);
                    }
                    AnomalyReason::from(fault)
                }
                Class::Anomaly(fault) => {
                    notes.push(fault.to_string());
                    AnomalyReason::Form
                }
                // Its sender is the reverse-path, so that it has one: PEC-PR-16.
                Class::Envelope(_) | Class::Notification(_) => AnomalyReason::Form,
            };
            let diverted = anomaly::Message {
                octets: &message,
                reverse_path: &reverse_path,
                forward_paths: &forward_paths,
                report: vouched.then_some(&wishes),
                reason,
                at,
                notes,
            };
            let refused = anomaly::divert(site, diverted, source, &mut transaction)?;
            // Nobody takes it: its sender is told so while he is there.
            if let (true, Some((_, reply))) = (transaction.enqueue.is_empty(), refused.first()) {
                return Err(Refusal::Say(reply.clone()));
            }
            // Somebody does, and he will not be there when he reads the report.
            if vouched {
                let wanted = refused.into_iter().filter(|(to, _)| wishes.wants_failure(to));
                let failed: Vec<_> = wanted.map(|(to, why)| (to, why.to_string())).collect();
                let placed = Source::New(1);
                report = bounce::report_outside(
                    site,
                    &reverse_path,
                    &failed,
                    &wishes,
                    &message,
                    placed,
                    &mut transaction,
                )?;
            }
            // Also what a provider signed: there is no notice for what is not an envelope.
            match site.scanner.scan(&site.config.load().antivirus, &message) {
                Ok(Verdict::Clean) => {}
                Ok(Verdict::Infected(virus)) => {
                    let point = "posta-ordinaria";
                    metrics::counter!("ceralacca_viruses_total", "point" => point).increment(1);
                    tracing::info!(target: "antivirus", peer = %arrival.peer, virus, "ordinary mail is refused");
                    return Err(Refusal::Say(reply::INFECTED));
                }
                Err(error) => return Err(anyhow::Error::from(error).into()),
            }
        }
    }
    // The trace goes before it, in the same place.
    message.splice(..0, octets);
    transaction.octets = vec![Octets::Owned(message)];
    transaction.octets.extend(report.map(Octets::Inline));
    commit(site, transaction, "reception").context("the message cannot be stored")?;
    site.queue.wake();
    Ok(id.as_str().to_owned())
}

/// Without the `Authentication-Results` that claim to be ours: RFC 8601 §5 has them removed, for who
/// reads them believes us.
fn without_forged_results(octets: &[u8], host: &str) -> Vec<u8> {
    let message = Message::lenient(octets);
    let forged = |value: String| {
        let id = value.split(|c: char| c == ';' || c.is_whitespace()).find(|word| !word.is_empty());
        id.is_some_and(|id| id.trim_matches('"').eq_ignore_ascii_case(host))
    };
    let mut kept = Vec::with_capacity(octets.len());
    let mut from = 0;
    for field in message.all("Authentication-Results").filter(|field| forged(field.unfolded())) {
        // Fields are parts of the octets, in their order.
        let at = field.octets.as_ptr().addr() - octets.as_ptr().addr();
        kept.extend_from_slice(&octets[from..at]);
        from = at + field.octets.len();
    }
    kept.extend_from_slice(&octets[from..]);
    kept
}

/// What the last hop writes above a message, RFC 5321 §4.4: where its errors went, and whence it
/// came. The incoming point is the last hop (doubt D-16).
fn trace(
    site: &Site,
    reverse_path: &ReversePath,
    arrival: &Arrival,
    id: &str,
    at: Moment,
) -> Vec<u8> {
    let host = site.host();
    let trace = access::Trace {
        client_name: &arrival.hello,
        client: arrival.peer,
        by: &host,
        protocol: arrival.protocol,
        id: id.split('@').next().unwrap_or_default(),
    };
    let mut octets = super::return_path(reverse_path);
    octets.extend_from_slice(&access::trace_field(&trace, at));
    octets
}
