//! What the steps of the pipeline do to the model: jobs and the tracker.

use std::sync::Arc;

use super::state::State;
use crate::rules::{self, kept};
use crate::{
    BlobId, Committed, Job, JobId, MailboxName, Source, StoreError, Timestamp, Track, TrackState,
    Tracked, Transaction,
};

impl State {
    pub(super) fn commit(&mut self, transaction: Transaction) -> Result<Committed, StoreError> {
        let at = transaction.at;
        let mut done = Committed::default();
        // Jobs go first; what they hold stays until the end (see `drop_dead_blobs`).
        for job in transaction.consume {
            self.jobs.remove(&job).ok_or(StoreError::JobGone(job))?;
        }
        let new: Result<Vec<BlobId>, _> =
            transaction.octets.into_iter().map(|octets| self.keep(octets)).collect();
        let new = new?;
        let blob_of = |state: &Self, source: Source| match source {
            Source::New(at) => new.get(at).copied().ok_or(StoreError::NoSuchMessage),
            Source::Stored(blob) => state.octets(blob).map(|_| blob),
        };
        for delivery in transaction.deliver {
            let mut accounts = self.accounts.values();
            let account = accounts.find(|account| account.address == delivery.to);
            let account = account.ok_or(StoreError::NoSuchAccount)?.id;
            let inbox = MailboxName::inbox();
            let mailbox = self.find(account, &delivery.mailbox);
            let mailbox = mailbox.or_else(|| self.find(account, &inbox));
            let mailbox = mailbox.ok_or(StoreError::NoSuchMailbox)?;
            let blob = blob_of(self, delivery.octets)?;
            let added = self.add(mailbox, blob, delivery.flags, (at, at), delivery.charge)?;
            done.delivered.push(added);
        }
        for job in transaction.enqueue {
            let blob = job.octets.map(|source| blob_of(self, source)).transpose()?;
            self.last_job += 1;
            let id = JobId(self.last_job);
            let job = Job {
                id,
                due: kept(job.due),
                queued: kept(at),
                attempts: 0,
                last_error: None,
                payload: job.payload,
                blob,
            };
            self.jobs.insert(id, job);
            done.enqueued.push(id);
        }
        transaction.track.into_iter().for_each(|track| self.track(track));
        for record in transaction.log {
            self.write_log(record)?;
        }
        Ok(done)
    }

    fn track(&mut self, track: Track) {
        let at = kept(track.at);
        if track.state == TrackState::Sent {
            let entries = Arc::make_mut(self.tracker.entry(track.identificativo).or_default());
            entries.entry(track.recipient.clone()).or_insert(Tracked {
                recipient: track.recipient,
                state: TrackState::Sent,
                sent: at,
                since: at,
            });
            return;
        }
        let Some(entries) = self.tracker.get_mut(&track.identificativo) else { return };
        let Some(entry) = Arc::make_mut(entries).get_mut(&track.recipient) else { return };
        if rules::advances(entry.state, track.state) {
            entry.state = track.state;
            entry.since = at;
        }
    }

    pub(super) fn postpone(
        &mut self,
        job: JobId,
        due: Timestamp,
        reason: &str,
    ) -> Result<(), StoreError> {
        let job = self.jobs.get_mut(&job).ok_or(StoreError::JobGone(job))?;
        job.due = kept(due);
        job.attempts = job.attempts.saturating_add(1);
        job.last_error = Some(reason.to_owned());
        Ok(())
    }

    pub(super) fn tracked(&self, identificativo: &str) -> Vec<Tracked> {
        let entries = self.tracker.get(identificativo);
        entries.map(|entries| entries.values().cloned().collect()).unwrap_or_default()
    }
}
