//! The report that a message did not reach somebody: to a user of ours, of an ordinary recipient; and to
//! the sender of ordinary mail, of a mailbox of ours. And to a user of ours who asked for it, that an
//! ordinary recipient's host has it, which will not tell him more (RFC 3461 §5.2.2).
//!
//! RFC 3464; PEC-BT-15. The first is ordinary mail with the null reverse-path (RFC 3464 §2), and comes to its
//! reader as all ordinary mail does: in an anomaly envelope, where the holder takes ordinary mail
//! (PEC-BA). Certified recipients are never in one (doubt D-12).

use std::sync::Arc;

use mail::{Address, Message, ReversePath};
use pec::incoming::AnomalyReason;
use pec::moment::Moment;
use store::{Job, Octets, Source, Transaction};

use super::anomaly;
use super::dispatch::{Content, Parcel, Relay, RelayRecipient, relays, with_return_path};
use super::wishes::Wishes;
use super::{commit, fresh_id};
use crate::site::Site;

/// Octets of the original's header that a report brings back: more than any that is written.
const HEADER_OCTETS_MAX: u64 = 64 * 1024;
/// Octets of one line, without its end: RFC 5322 §2.1.1.
const LINE_OCTETS_MAX: usize = 998;

/// What became of the recipients of a report: RFC 3464 §2.3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// They will not have it.
    Failed,
    /// A host has it that knows nothing of reports.
    Relayed,
}

impl Action {
    /// The one place these words are spelled.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Relayed => "relayed",
        }
    }

    /// The class of its enhanced codes, and the one for all else (RFC 3463 §2).
    const fn class(self) -> (&'static str, &'static str) {
        match self {
            Self::Failed => ("5", "5.0.0"),
            Self::Relayed => ("2", "2.0.0"),
        }
    }

    const fn subject(self) -> &'static str {
        match self {
            Self::Failed => pec::text::UNDELIVERED_SUBJECT,
            Self::Relayed => pec::text::RELAYED_SUBJECT,
        }
    }
}

/// What people read of a report, and what programs do.
struct Contents<'a> {
    opening: &'a str,
    action: Action,
    /// Each with what was said of it.
    recipients: &'a [(Address, String)],
    wishes: &'a Wishes,
    /// Of the message.
    header: &'a [u8],
}

/// Whether the sender is told of a recipient by a report, as he wishes.
pub(crate) fn is_reported(site: &Site, relay: &Relay, action: Action, recipient: &Address) -> bool {
    let wanted = match action {
        Action::Failed => relay.wishes.wants_failure(recipient),
        Action::Relayed => relay.wishes.wants_success(recipient),
    };
    let ordinary = pec::RecipientKind::Ordinary;
    wanted
        && match &relay.content {
            Content::Receipt { .. } | Content::TlsReport => false,
            Content::Envelope(_) => site.providers.load().kind(recipient.domain()) == ordinary,
            Content::Anomaly(_) | Content::Ordinary => relay.reverse_path != ReversePath::Null,
        }
}

/// Tells the sender of a message that an operator gave up; `relay` has who was to get it, and why he does
/// not.
///
/// # Errors
///
/// As [`report`], and when nothing can be committed: the job is due as before.
pub(super) fn report_given_up(site: &Site, job: &Job, relay: &Relay) -> anyhow::Result<()> {
    let at = site.clock.now();
    let mut step = Transaction { at, consume: vec![job.id], ..Transaction::default() };
    let told = |recipient: &RelayRecipient| {
        let why = recipient.last.clone().unwrap_or_default();
        is_reported(site, relay, Action::Failed, &recipient.address)
            .then(|| (recipient.address.clone(), why))
    };
    let failed: Vec<(Address, String)> = relay.recipients.iter().filter_map(told).collect();
    if !failed.is_empty() {
        report(site, job, relay, Action::Failed, &failed, &mut step)?;
    }
    Ok(commit(site, step, "report")?)
}

/// Adds to a step the report about these recipients, each with what was said of it.
///
/// # Errors
///
/// When the store cannot be read, or the job not be written.
pub(crate) fn report(
    site: &Site,
    job: &Job,
    relay: &Relay,
    action: Action,
    recipients: &[(Address, String)],
    step: &mut Transaction,
) -> anyhow::Result<()> {
    let ReversePath::Address(sender) = &relay.reverse_path else { return Ok(()) };
    if !site.manages(sender.domain()) {
        return Ok(());
    }
    let at = Moment::of(step.at);
    let header = match job.blob {
        Some(blob) => {
            let length = site.store.octets(blob)?.min(HEADER_OCTETS_MAX);
            header_of(&site.store.read(blob, 0, length)?)
        }
        None => Vec::new(),
    };
    let (opening, note) = match action {
        Action::Failed => {
            (pec::text::UNDELIVERED, "a report of ours that a message could not be handed over")
        }
        Action::Relayed => {
            (pec::text::RELAYED, "a report of ours that a message was handed over, as asked")
        }
    };
    let wishes = &relay.wishes;
    let contents = Contents { opening, action, recipients, wishes, header: &header };
    let octets = compose(site, sender, &contents, at);
    let path = ReversePath::Null;
    let source = Source::New(step.octets.len());
    let placed = Octets::Inline(with_return_path(&path, &octets).into());
    let message = anomaly::Message {
        octets: &octets,
        reverse_path: &path,
        forward_paths: std::slice::from_ref(sender),
        report: None,
        reason: AnomalyReason::NotSigned,
        at,
        notes: vec![note.to_owned()],
    };
    // Who takes no ordinary mail is told by what the log keeps.
    if anomaly::divert(site, message, Some(source), step)?.is_empty() {
        step.octets.push(placed);
    }
    Ok(())
}

/// Adds to a step what carries the report to a sender elsewhere that some mailboxes of ours did not take
/// his message; its octets are given back, to be the step's `source`. Nothing when nobody failed.
///
/// Only of mail that the domain of its reverse-path vouches for: a report about any other would tell
/// somebody of what he never wrote.
///
/// # Errors
///
/// When a job cannot be written.
pub(super) fn report_outside(
    site: &Site,
    reverse_path: &ReversePath,
    failed: &[(Address, String)],
    wishes: &Wishes,
    message: &[u8],
    source: Source,
    step: &mut Transaction,
) -> anyhow::Result<Option<Arc<[u8]>>> {
    let ReversePath::Address(sender) = reverse_path else { return Ok(None) };
    if failed.is_empty() || site.manages(sender.domain()) {
        return Ok(None);
    }
    let at = Moment::of(step.at);
    let end = message.len().min(usize::try_from(HEADER_OCTETS_MAX).unwrap_or(usize::MAX));
    let header = seven_bit(&header_of(&message[..end]));
    let opening = pec::text::NOT_TAKEN;
    let (action, recipients) = (Action::Failed, failed);
    let contents = Contents { opening, action, recipients, wishes, header: &header };
    let octets = compose(site, sender, &contents, at);
    let parcel = Parcel {
        reverse_path: &ReversePath::Null,
        recipients: std::slice::from_ref(sender),
        content: Content::Ordinary,
        account: &site.provider.author,
    };
    step.enqueue.extend(relays(site, &parcel, source)?);
    metrics::counter!("ceralacca_reports_total").increment(1);
    Ok(Some(octets.into()))
}

/// A header that any host takes: of octets above 127 each is a question mark, and no line is longer
/// than RFC 5322 §2.1.1 lets it be.
fn seven_bit(header: &[u8]) -> Vec<u8> {
    let plain = |octet: u8| if octet.is_ascii() && octet != 0 { octet } else { b'?' };
    let line = |line: &[u8]| -> Vec<u8> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let kept = line.iter().take(LINE_OCTETS_MAX).map(|&octet| match octet {
            b'\r' => b'?',
            octet => plain(octet),
        });
        kept.chain(*b"\r\n").collect()
    };
    let header = header.strip_suffix(b"\n").unwrap_or(header);
    header.split(|&octet| octet == b'\n').flat_map(line).collect()
}

/// The header of a message, with the empty line that ends it.
fn header_of(octets: &[u8]) -> Vec<u8> {
    let body = Message::lenient(octets).body().len();
    let header = &octets[..octets.len() - body];
    // One whose end was not read is cut at a line's end.
    let end = header.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    header[..end].to_vec()
}

/// `multipart/report` (RFC 6522 §3) of what people read, what programs read (RFC 3464 §2), and the
/// header of the message.
fn compose(site: &Site, sender: &Address, contents: &Contents<'_>, at: Moment) -> Vec<u8> {
    let Contents { opening, action, recipients, wishes, header } = *contents;
    let host = site.host();
    let boundary = format!("report-{}", crate::site::fresh_word());
    let date = at.header();
    let id = fresh_id(site, at);
    let mut text = String::new();
    let mut status = String::new();
    if let Some(envelope) = wishes.envelope() {
        status.push_str(&format!("Original-Envelope-Id: {envelope}\r\n"));
    }
    status.push_str(&format!("Reporting-MTA: dns; {host}\r\n"));
    for (address, why) in recipients {
        let why = printable(why);
        text.push_str(&format!("  {address}\r\n    {why}\r\n"));
        status.push_str("\r\n");
        if let Some(original) = wishes.original(address) {
            status.push_str(&format!("Original-Recipient: {original}\r\n"));
        }
        status.push_str(&format!(
            "Final-Recipient: rfc822; {address}\r\nAction: {}\r\nStatus: {}\r\n\
             Diagnostic-Code: x-ceralacca; {why}\r\n",
            action.as_str(),
            status_in(&why, action)
        ));
    }
    let mut octets = format!(
        "From: Mail Delivery System <postmaster@{host}>\r\nTo: <{sender}>\r\n\
         Subject: {}\r\nDate: {date}\r\nMessage-ID: {}\r\nAuto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"{boundary}\"\r\n\r\n\
         --{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n{}\r\n\r\n{text}\r\n\
         --{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n\
         --{boundary}\r\nContent-Type: text/rfc822-headers\r\n\r\n",
        action.subject(),
        id.in_brackets(),
        opening,
    )
    .into_bytes();
    octets.extend_from_slice(header);
    octets.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    octets
}

/// A peer's words on one line of ASCII.
fn printable(why: &str) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    why.chars().map(plain).take(600).collect()
}

/// The enhanced code that a peer gave (RFC 3463 §2), or the one for all else.
fn status_in(why: &str, action: Action) -> &str {
    let (class, other) = action.class();
    let is_status = |word: &&str| {
        let mut parts = word.split('.');
        parts.next() == Some(class)
            && parts.clone().count() == 2
            && parts.all(|part| {
                (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
            })
    };
    why.split(' ').find(is_status).unwrap_or(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_comes_back_is_one_that_any_host_takes() {
        let long = "x".repeat(LINE_OCTETS_MAX + 1);
        let header = format!("Subject: perch\u{e9}\r\nX: {long}\r\nY: a\rb\r\n\tc\0\r\n");
        let expected = format!(
            "Subject: perch??\r\nX: {}\r\nY: a?b\r\n\tc?\r\n",
            &long[..LINE_OCTETS_MAX - 3]
        );
        assert_eq!(String::from_utf8(seven_bit(header.as_bytes())).unwrap(), expected);
        assert_eq!(seven_bit(b""), b"\r\n");
    }
}
