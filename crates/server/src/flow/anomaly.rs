//! The anomaly envelope: how a message that nobody certified reaches a holder who takes it.
//!
//! PEC-BA, PEC-GEN-17 to PEC-GEN-19; RT §6.4.2. No receipt and no notice is ever made for one
//! (PEC-BA-09, PEC-MC-02).

use std::sync::Arc;

use mail::sevenbit::{is_seven_bit, make_seven_bit};
use mail::{Address, ReversePath};
use pec::envelope::enclose_anomaly;
use pec::exchange::{PecId, as_text, as_texts};
use pec::incoming::AnomalyReason;
use pec::moment::Moment;
use serde::{Deserialize, Serialize};
use smtp::{Reply, reply};
use store::{
    Account, Charge, Delivery, Job, MailboxName, Octets, Role, Source, State, StoreError,
    Transaction,
};

use super::dispatch::{self, Content, Parcel};
use super::signed::sign;
use super::wishes::Wishes;
use super::{Task, account_of, bounce, commit, fresh_id, fresh_token, octets_of, record};
use crate::config::OrdinaryMail;
use crate::keywords;
use crate::site::Site;

/// Octets that an anomaly envelope adds to the message in it, at most: texts that name five hundred
/// recipients twice aside, a header, two boundaries and a signature.
const ENVELOPE_OCTETS: u64 = 32 * 1024;

/// A message that is not certified, of which some forward-paths are taken.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Anomaly {
    /// The reverse-path.
    #[serde(with = "pec::exchange::as_path")]
    pub(crate) reverse_path: ReversePath,
    /// All forward-paths of the transaction that came to us.
    #[serde(with = "as_texts")]
    pub(crate) forward_paths: Vec<Address>,
    /// Where it goes for each that takes it.
    pub(crate) placements: Vec<Placement>,
    /// Why it is not certified.
    pub(crate) reason: AnomalyReason,
    /// When it arrived.
    pub(crate) at: Moment,
    /// What else the log shall say.
    pub(crate) notes: Vec<String>,
    /// What its sender asks to be told.
    #[serde(default)]
    pub(crate) wishes: Wishes,
}

/// A message that is found not to be certified.
pub(super) struct Message<'a> {
    pub(super) octets: &'a [u8],
    pub(super) reverse_path: &'a ReversePath,
    pub(super) forward_paths: &'a [Address],
    /// Its sender has a report of who does not get it, as he wishes. Nothing: he has none, for nobody
    /// vouches that he is its sender.
    pub(super) report: Option<&'a Wishes>,
    pub(super) reason: AnomalyReason,
    pub(super) at: Moment,
    pub(super) notes: Vec<String>,
}

/// Adds to a step what becomes of it: a job for those who take it, and for each of the others a
/// record with the reply that says why, which are also given back, for whoever reports them. With
/// nobody who takes it there is no job.
///
/// # Errors
///
/// When the store fails, or a job cannot be written down.
pub(super) fn divert(
    site: &Site,
    message: Message<'_>,
    octets: Option<Source>,
    step: &mut Transaction,
) -> anyhow::Result<Vec<(Address, Reply)>> {
    let Message { octets: received, reverse_path, forward_paths, report, reason, at, notes } =
        message;
    let (mut placements, mut refused) = (Vec::new(), Vec::new());
    for recipient in forward_paths {
        match placement(site, reason, reverse_path, recipient, received)? {
            Ok(placement) => {
                let reported = report.is_some_and(|wishes| wishes.wants_failure(recipient));
                placements.push(Placement { reported, ..placement });
            }
            Err(reply) => {
                let record =
                    record::of_ordinary(site, "rifiuto", received, reverse_path, forward_paths, at);
                let record = record.delivery(recipient).error("altro", &reply.to_string());
                step.log.push(record.notes(&notes).build());
                refused.push((recipient.clone(), reply));
            }
        }
    }
    if !placements.is_empty() {
        let task = Task::Enclose(Anomaly {
            reverse_path: reverse_path.clone(),
            forward_paths: forward_paths.to_vec(),
            placements,
            reason,
            at,
            notes,
            wishes: report.cloned().unwrap_or_default(),
        });
        step.enqueue.push(task.queued(octets)?);
    }
    Ok(refused)
}

/// Where it goes for one forward-path.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Placement {
    /// The forward-path.
    #[serde(with = "as_text")]
    pub(crate) recipient: Address,
    way: Way,
    /// The sender has a report when it cannot be put there after all.
    #[serde(default)]
    reported: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Way {
    /// Into a mailbox of this account.
    Mailbox {
        #[serde(with = "as_text")]
        account: Address,
        folder: String,
        /// A service address has no limit.
        limited: bool,
    },
    /// To an ordinary address of the holder's choice.
    Forward {
        #[serde(with = "as_text")]
        to: Address,
    },
    /// It is logged and dropped: an error report about a receipt of ours (doubt D-11).
    Nowhere,
}

/// Where a message goes for this recipient, or what its sender is told.
fn placement(
    site: &Site,
    reason: AnomalyReason,
    reverse_path: &ReversePath,
    recipient: &Address,
    octets: &[u8],
) -> anyhow::Result<Result<Placement, Reply>> {
    let Some(account) = account_of(site, recipient)? else {
        return Ok(Err(reply::UNKNOWN_ACCOUNT));
    };
    let placed = |way| Ok(Ok(Placement { recipient: recipient.clone(), way, reported: false }));
    let inbox = MailboxName::inbox();
    if account.role != Role::None {
        return match (reason, reverse_path) {
            // Also a damaged receipt for a provider gets where it was sent (PEC-PR-07).
            (AnomalyReason::Form, _) => placed(into(&account, &inbox)),
            (_, ReversePath::Null) => placed(Way::Nowhere),
            _ => Ok(Err(reply::ORDINARY_MAIL_REFUSED)),
        };
    }
    // The address may be of a domain that came to us after it was chosen.
    let forwards_to_us = |policy: &OrdinaryMail| matches!(policy, OrdinaryMail::Forward(Some(to)) if site.manages(to.domain()));
    if account.state == State::Suspended {
        return Ok(Err(reply::ACCOUNT_DISABLED));
    }
    // What a provider signed must be propagated, whatever the holder thinks of ordinary mail
    // (PEC-PR-07); and somebody must always be reachable at a domain (RFC 5321 §4.5.1).
    let must_take = reason == AnomalyReason::Form
        || recipient.local().eq_ignore_ascii_case("postmaster")
        || account.address == site.config.load().provider.postmaster;
    let policy = match must_take {
        true => OrdinaryMail::Deliver(Some(inbox)),
        false => match policy(site, &account) {
            policy if forwards_to_us(&policy) => OrdinaryMail::Deliver(Some(inbox)),
            policy => policy,
        },
    };
    match policy {
        // Another host may take no 8 bits, and its sender is still there to be told.
        OrdinaryMail::Forward(Some(_))
            if !is_seven_bit(octets) && make_seven_bit(octets).is_err() =>
        {
            Ok(Err(reply::NOT_SEVEN_BIT))
        }
        OrdinaryMail::Forward(Some(to)) => placed(Way::Forward { to }),
        // To nobody: the word of the configuration that said to whom is gone.
        OrdinaryMail::Reject | OrdinaryMail::Forward(None) => Ok(Err(reply::ORDINARY_MAIL_REFUSED)),
        OrdinaryMail::Deliver(folder) => {
            let folder = folder.unwrap_or_else(MailboxName::inbox);
            let room = (octets.len() as u64).saturating_add(ENVELOPE_OCTETS);
            match site.store.usage(account.id) {
                Ok(usage) if !usage.has_room(room, 1, Charge::Quota) => {
                    Ok(Err(reply::MAILBOX_FULL))
                }
                Ok(_) => placed(into(&account, &folder)),
                Err(StoreError::NoSuchAccount) => Ok(Err(reply::UNKNOWN_ACCOUNT)),
                Err(error) => Err(error.into()),
            }
        }
    }
}

fn into(account: &Account, folder: &MailboxName) -> Way {
    Way::Mailbox {
        account: account.address.clone(),
        folder: folder.as_str().to_owned(),
        limited: account.role == Role::None,
    }
}

/// What a holder does with ordinary mail, or the provider for him; with its target.
fn policy(site: &Site, account: &Account) -> OrdinaryMail {
    let config = site.config.load();
    let common = &config.ordinary_mail;
    let own = account.ordinary_mail.as_deref().and_then(OrdinaryMail::parse);
    match own.unwrap_or_else(|| common.policy.clone()) {
        OrdinaryMail::Deliver(None) => OrdinaryMail::Deliver(Some(common.folder.clone())),
        OrdinaryMail::Forward(None) => OrdinaryMail::Forward(common.forward_to.clone()),
        policy => policy,
    }
}

/// Signs the envelope and puts it where it goes, one for all (PEC-BA-08).
pub(super) fn enclose(site: &Arc<Site>, job: &Job, anomaly: &Anomaly) -> anyhow::Result<()> {
    let received = octets_of(site, job)?;
    let at = anomaly.at;
    let record = record::of_ordinary(
        site,
        "anomalia",
        &received,
        &anomaly.reverse_path,
        &anomaly.forward_paths,
        at,
    );
    let record = record.error("altro", pec::text::anomaly_reason(anomaly.reason));
    let record = record.notes(&anomaly.notes);
    let enclosed = |received: &[u8]| {
        enclose_anomaly(
            received,
            &anomaly.reverse_path,
            &anomaly.forward_paths,
            anomaly.reason,
            &site.provider,
            at,
            fresh_token(),
        )
    };
    let unsigned = enclosed(&received);
    let id = mail::Message::lenient(&received)
        .field("Message-ID")
        .and_then(|field| PecId::parse(field.unfolded().trim_matches(['<', '>', ' '])))
        .unwrap_or_else(|| fresh_id(site, at));
    let signed = sign(site, unsigned, at)?.octets().clone();
    let sealed: Arc<[u8]> = dispatch::with_return_path(&anomaly.reverse_path, &signed).into();
    let mut placements: Vec<&Placement> = anomaly.placements.iter().collect();
    let mut lost: Vec<(Address, String)> = Vec::new();
    let is_forward = |placement: &&Placement| matches!(placement.way, Way::Forward { .. });
    let mut abroad = signed;
    // Another host may take no 8 bits: what goes there is converted, RFC 6152 §3. What could not be was
    // refused when it came.
    if placements.iter().any(is_forward)
        && !is_seven_bit(&received)
        && let Ok(received) = make_seven_bit(&received)
    {
        abroad = sign(site, enclosed(&received), at)?.octets().clone();
    }
    loop {
        let mut transaction =
            Transaction { at: at.instant(), consume: vec![job.id], ..Transaction::default() };
        let (mut taken, mut forward) = (Vec::new(), Vec::new());
        for placement in &placements {
            if let Way::Forward { to } = &placement.way {
                taken.push(placement.recipient.clone());
                if !forward.contains(to) {
                    forward.push(to.clone());
                }
            }
            if let Way::Mailbox { account, folder, limited } = &placement.way {
                taken.push(placement.recipient.clone());
                // One account may be named twice, as itself and as postmaster.
                if !transaction.deliver.iter().any(|delivery| delivery.to == *account) {
                    transaction.deliver.push(Delivery {
                        to: account.clone(),
                        mailbox: MailboxName::parse(folder).unwrap_or_else(MailboxName::inbox),
                        octets: Source::New(0),
                        flags: keywords::of(&sealed),
                        charge: if *limited { Charge::Quota } else { Charge::Unlimited },
                    });
                }
            }
        }
        if !transaction.deliver.is_empty() {
            transaction.octets = vec![Octets::Inline(sealed.clone())];
        }
        if !forward.is_empty() {
            // The reverse-path stays, so that errors return to the sender (PEC-BA-04).
            let payer = anomaly.forward_paths.first().unwrap_or(&site.provider.author);
            let parcel = Parcel {
                reverse_path: &anomaly.reverse_path,
                recipients: &forward,
                content: Content::Anomaly(id.clone()),
                account: payer,
            };
            let source = Source::New(transaction.octets.len());
            transaction.octets.push(Octets::Inline(abroad.clone()));
            transaction.enqueue = dispatch::relays(site, &parcel, source)?;
        }
        let (path, source) = (&anomaly.reverse_path, Source::New(transaction.octets.len()));
        let report = bounce::report_outside(
            site,
            path,
            &lost,
            &anomaly.wishes,
            &received,
            source,
            &mut transaction,
        )?;
        transaction.octets.extend(report.map(Octets::Inline));
        let kind = if taken.is_empty() { "rifiuto" } else { "anomalia" };
        transaction.log = vec![record.clone().event(kind).taken(&taken).build()];
        let before = placements.len();
        match commit(site, transaction, "anomaly") {
            // The mailbox was filled, or removed, since the message was taken for it.
            Err(StoreError::OverQuota(full)) => {
                let full = site.store.account(full)?;
                let is_full = |placement: &Placement| match (&placement.way, &full) {
                    (Way::Mailbox { account, .. }, Some(full)) => *account == full.address,
                    _ => false,
                };
                take_out(&mut placements, &mut lost, is_full, &reply::MAILBOX_FULL);
            }
            Err(StoreError::NoSuchAccount) => {
                let mut gone = Vec::new();
                for placement in &placements {
                    if let Way::Mailbox { account, .. } = &placement.way
                        && site.store.account_by_address(account)?.is_none()
                    {
                        gone.push(account.clone());
                    }
                }
                let is_gone = |placement: &Placement| match &placement.way {
                    Way::Mailbox { account, .. } => gone.contains(account),
                    Way::Forward { .. } | Way::Nowhere => false,
                };
                take_out(&mut placements, &mut lost, is_gone, &reply::UNKNOWN_ACCOUNT);
            }
            done => return Ok(done?),
        }
        if placements.len() == before {
            anyhow::bail!("an account that was full or gone is neither: to be tried again");
        }
    }
}

/// Takes out the placements that came to nothing; those whose sender wants to know are reported.
fn take_out(
    placements: &mut Vec<&Placement>,
    lost: &mut Vec<(Address, String)>,
    is_lost: impl Fn(&Placement) -> bool,
    why: &Reply,
) {
    placements.retain(|placement| {
        let is_lost = is_lost(placement);
        if is_lost && placement.reported {
            lost.push((placement.recipient.clone(), why.to_string()));
        }
        !is_lost
    });
}
