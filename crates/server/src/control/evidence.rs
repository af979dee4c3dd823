//! What is still kept of a message: envelopes and receipts in mailboxes and in the queue, found by what
//! the log tells of them, and handed out in pieces.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail::{Address, Message};
use serde::{Deserialize, Serialize};
use store::{BlobId, LogFilter, LogRecord, Store, StoreError, Timestamp, Uid, UidSet};

use super::{Response, fault};
use crate::seal::history::RECORDS_MAX;

/// Octets of a message that are looked through for its identifier.
const HEAD_OCTETS_MAX: u64 = 64 * 1024;
/// Messages of a mailbox that are looked at in one go, by their times.
const SUMMARIES_AT_A_TIME: usize = 4096;
/// Jobs that are looked at in one go.
const JOBS_AT_A_TIME: usize = 512;
/// Octets of a message that travel at once.
const PIECE_OCTETS: u64 = 4 * 1024 * 1024;
/// Places of messages at most: one message may lie in several.
const PLACES_MAX: usize = 8192;

/// A message that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shelved {
    /// Its octets' number.
    pub(crate) blob: u64,
    /// Its `Message-ID`, without angle brackets.
    pub(crate) message_id: String,
    /// An account and its mailbox, or the queue.
    pub(crate) place: String,
}

/// Looks for the messages that the log's records of this one tell of.
pub(super) fn find(store: &dyn Store, message_id: &str) -> Result<Response, String> {
    let filter =
        LogFilter { message_id: Some(super::records::bare(message_id)), ..LogFilter::default() };
    let records = store.log(&filter, 0, RECORDS_MAX).map_err(|error| fault(&error))?;
    let records: Vec<LogRecord> = records.into_iter().map(|(_, record)| record).collect();
    let mut sought = Sought::of(&records);
    sought.look_through_queue(store).map_err(|error| fault(&error))?;
    for account in store.accounts().map_err(|error| fault(&error))? {
        // The provider's own hold what passes between providers.
        let is_party = account.owner == store::Owner::Provider
            || sought.accounts.contains(&account.address.to_string().to_lowercase());
        if is_party {
            match sought.look_through_account(store, &account) {
                // Removed meanwhile.
                Ok(()) | Err(StoreError::NoSuchAccount | StoreError::NoSuchMailbox) => {}
                Err(error) => return Err(fault(&error)),
            }
        }
    }
    Ok(Response::Places { places: sought.found.into_values().collect() })
}

/// A piece of a message, from octet `start` on.
pub(super) fn read(store: &dyn Store, blob: u64, start: u64) -> Result<Response, String> {
    let octets = store
        .read(BlobId(blob), start, start.saturating_add(PIECE_OCTETS))
        .map_err(|error| fault(&error))?;
    Ok(Response::Piece { octets: STANDARD.encode(octets) })
}

/// What is looked for, and what was found.
struct Sought {
    ids: BTreeSet<String>,
    /// Seconds at which one of them can have been put into a mailbox: those of the records.
    seconds: BTreeSet<i64>,
    /// Addresses, in lower case.
    accounts: BTreeSet<String>,
    found: BTreeMap<u64, Shelved>,
}

impl Sought {
    fn of(records: &[LogRecord]) -> Self {
        let mut sought = Self {
            ids: BTreeSet::new(),
            seconds: BTreeSet::new(),
            accounts: BTreeSet::new(),
            found: BTreeMap::new(),
        };
        for record in records {
            sought.ids.extend(record.identificativo.iter().chain(&record.message_id).cloned());
            sought.seconds.insert(record.time.as_second());
            let recipients = record.destinatari.iter().map(|recipient| &recipient.address);
            let parties = record.mittente.iter().chain(&record.consegna).chain(&record.ricezione);
            for address in parties.chain(recipients) {
                let address = Address::parse(address).map(|address| address.to_string());
                sought.accounts.extend(address.map(|address| address.to_lowercase()));
            }
        }
        sought
    }

    /// What is delivered has the time of its event as its internal date; a user cannot change that.
    fn can_be(&self, received: Timestamp) -> bool {
        let second = received.as_second();
        (second - 1..=second + 1).any(|second| self.seconds.contains(&second))
    }

    fn look_through_account(
        &mut self,
        store: &dyn Store,
        account: &store::Account,
    ) -> Result<(), StoreError> {
        for mailbox in store.mailboxes(account.id)? {
            let mut uids = UidSet::all();
            loop {
                let page = store.summaries(mailbox.id, &uids, SUMMARIES_AT_A_TIME)?;
                let Some(last) = page.last() else { break };
                let next = last.uid.0.checked_add(1);
                for message in page {
                    if !self.can_be(message.received) {
                        continue;
                    }
                    let place = format!("{} ({})", account.address, mailbox.name.as_str());
                    self.look_at(store, message.blob, place)?;
                }
                let Some(next) = next else { break };
                uids = UidSet::from_ranges([(Uid(next), Uid(std::num::NonZeroU32::MAX))]);
            }
        }
        Ok(())
    }

    fn look_through_queue(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let jobs = store.jobs(after, JOBS_AT_A_TIME)?;
            let Some(last) = jobs.last() else { return Ok(()) };
            after = Some(last.id);
            for blob in jobs.iter().filter_map(|job| job.blob) {
                self.look_at(store, blob, "coda".to_owned())?;
            }
        }
    }

    fn look_at(
        &mut self,
        store: &dyn Store,
        blob: BlobId,
        place: String,
    ) -> Result<(), StoreError> {
        if self.found.len() >= PLACES_MAX || self.found.contains_key(&blob.0) {
            return Ok(());
        }
        let head = match store.read(blob, 0, HEAD_OCTETS_MAX) {
            Ok(head) => head,
            // Expunged meanwhile.
            Err(StoreError::NoSuchMessage) => return Ok(()),
            Err(error) => return Err(error),
        };
        let field = Message::lenient(&head).field("Message-ID").map(|field| field.unfolded());
        let id = field.map(|id| super::records::bare(&id)).unwrap_or_default();
        if self.ids.contains(&id) {
            self.found.insert(blob.0, Shelved { blob: blob.0, message_id: id, place });
        }
        Ok(())
    }
}
