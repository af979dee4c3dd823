//! What the steps of the pipeline do to the model: jobs and the tracker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mail::Address;

use super::state::{Followed, State};
use crate::rules::{self, kept};
use crate::{
    BlobId, Committed, Digest, Follow, Infected, InfectedId, Job, JobId, Lane, MailboxName, Mark,
    Overdue, Source, StoreError, Timestamp, Track, TrackState, Tracked, Transaction,
};

/// Where a job waits in its lane.
#[derive(Debug, Clone)]
pub(super) struct Berth {
    destination: String,
    account: String,
    class: u8,
    turn: i64,
}

impl State {
    pub(super) fn commit(&mut self, transaction: Transaction) -> Result<Committed, StoreError> {
        let at = transaction.at;
        let mut done = Committed::default();
        // Jobs go first; what they hold stays until the end (see `drop_dead_blobs`).
        for job in transaction.consume {
            self.jobs.remove(&job).ok_or(StoreError::JobGone(job))?;
            self.berths.remove(&job);
        }
        for amended in transaction.amend {
            self.postpone(amended.job, amended.due, &amended.reason)?;
            let job = self.jobs.get_mut(&amended.job).ok_or(StoreError::JobGone(amended.job))?;
            job.payload = amended.payload;
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
            let flags = self.fitting(mailbox, delivery.flags)?;
            let added = self.add(mailbox, blob, flags, (at, at), delivery.charge)?;
            done.delivered.push(added);
        }
        for job in transaction.enqueue {
            let blob = job.octets.map(|source| blob_of(self, source)).transpose()?;
            self.last_job += 1;
            let id = JobId(self.last_job);
            if let Some(lane) = job.lane {
                let berth = self.berth(lane, kept(job.due), kept(at));
                self.berths.insert(id, berth);
            }
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
        for new in transaction.quarantine {
            let blob = blob_of(self, new.octets)?;
            self.last_infected += 1;
            let id = InfectedId(self.last_infected);
            let infected = Infected {
                id,
                found: kept(at),
                keep_until: kept(new.keep_until),
                blob,
                octets: self.octets(blob)?.len() as u64,
                infection: new.infection,
            };
            self.quarantine.insert(id, Arc::new(infected));
            done.quarantined.push(id);
        }
        for id in transaction.discard {
            let infected = self.quarantine.get(&id).ok_or(StoreError::NoSuchMessage)?;
            if kept(at) < infected.keep_until {
                return Err(StoreError::StillKept(id));
            }
            self.quarantine.remove(&id);
        }
        transaction.follow.into_iter().for_each(|follow| self.follow(follow));
        for track in transaction.track {
            self.track(track)?;
        }
        for Mark { key, value } in transaction.once {
            if self.marks.insert(key, (value, kept(at))).is_some() {
                return Err(StoreError::Marked);
            }
        }
        for record in transaction.log {
            self.write_log(record)?;
        }
        Ok(done)
    }

    pub(super) fn forget_marks(&mut self, before: Timestamp, limit: usize) -> usize {
        let old = self.marks.iter().filter(|(_, (_, made))| *made < kept(before));
        let old: Vec<Digest> = old.map(|(key, _)| *key).take(limit).collect();
        old.iter().filter(|key| self.marks.remove(*key).is_some()).count()
    }

    fn berth(&self, lane: Lane, due: Timestamp, at: Timestamp) -> Berth {
        let Lane { destination, urgency, account } = lane;
        if due > at {
            let (class, turn) = (rules::CLASS_PUT_OFF, rules::micros(due));
            return Berth { destination, account, class, turn };
        }
        let class = rules::class_of(urgency);
        let same = self.berths.values().filter(|p| p.destination == destination);
        let same = same.filter(|p| p.class == class);
        let own = same.clone().filter(|p| p.account == account).map(|p| p.turn).max();
        let turn = rules::turn(same.map(|p| p.turn).min(), own);
        Berth { destination, account, class, turn }
    }

    pub(super) fn lanes(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        let all: BTreeSet<&str> = self.berths.values().map(|p| p.destination.as_str()).collect();
        let after = all.into_iter().filter(|name| after.is_none_or(|after| *name > after));
        after.take(limit).map(str::to_owned).collect()
    }

    pub(super) fn lane_queued(
        &self,
        until: Timestamp,
        destination: &str,
        limit: usize,
    ) -> Vec<Job> {
        let lane = self.berths.iter().filter(|(_, place)| place.destination == destination);
        let mut jobs: Vec<&Job> = lane.filter_map(|(id, _)| self.jobs.get(id)).collect();
        jobs.retain(|job| job.queued <= kept(until));
        jobs.sort_by_key(|job| (job.queued, job.id));
        jobs.into_iter().take(limit).cloned().collect()
    }

    pub(super) fn lane_due(&self, now: Timestamp, destination: &str, limit: usize) -> Vec<Job> {
        let mut lane: Vec<(&Berth, &JobId)> = self
            .berths
            .iter()
            .filter(|(_, place)| place.destination == destination)
            .map(|(id, place)| (place, id))
            .collect();
        lane.sort_by_key(|(place, id)| (place.class, place.turn, **id));
        let is_fresh = |place: &Berth| place.class != rules::CLASS_PUT_OFF;
        let job = |(_, id): &(&Berth, &JobId)| self.jobs.get(*id).cloned();
        let fresh = lane.iter().filter(|(place, _)| is_fresh(place)).filter_map(job).collect();
        let put_off = lane.iter().filter(|(place, _)| !is_fresh(place)).filter_map(job);
        rules::mix(fresh, put_off.filter(|job| job.due <= kept(now)).collect(), limit)
    }

    fn follow(&mut self, follow: Follow) {
        if follow.recipients.is_empty() {
            return;
        }
        let (sent, first) = (kept(follow.at), kept(follow.first));
        let entry = |recipient: Address| Tracked {
            recipient,
            state: TrackState::Sent,
            sent,
            since: sent,
            due: Some(first),
        };
        self.tracker.entry(follow.identificativo).or_insert_with(|| {
            let mut entries = BTreeMap::new();
            for to in follow.recipients {
                entries.entry(to.clone()).or_insert_with(|| entry(to));
            }
            Arc::new(Followed { entries, second: kept(follow.second), about: follow.about })
        });
    }

    fn track(&mut self, track: Track) -> Result<(), StoreError> {
        let followed = self.tracker.get_mut(&track.identificativo).map(Arc::make_mut);
        let Some((second, entry)) = followed
            .and_then(|f| f.entries.get_mut(&track.recipient).map(|entry| (f.second, entry)))
        else {
            return if track.only_from.is_some() { Err(StoreError::Overtaken) } else { Ok(()) };
        };
        if track.only_from.is_some_and(|from| from != entry.state) {
            return Err(StoreError::Overtaken);
        }
        if let Some(state) = rules::advance(entry.state, track.state) {
            entry.state = state;
            entry.since = kept(track.at);
            entry.due = (!state.is_final()).then_some(second);
        }
        Ok(())
    }

    pub(super) fn overdue(
        &self,
        now: Timestamp,
        after: Option<&Overdue>,
        limit: usize,
    ) -> Vec<Overdue> {
        let now = kept(now);
        let mut found = Vec::new();
        for (identificativo, followed) in &self.tracker {
            for entry in followed.entries.values() {
                if let Some(due) = entry.due.filter(|due| *due <= now) {
                    found.push(Overdue {
                        identificativo: identificativo.clone(),
                        entry: entry.clone(),
                        due,
                        about: followed.about.clone(),
                    });
                }
            }
        }
        let key = rules::overdue_key;
        found.sort_by_key(key);
        found.retain(|entry| after.is_none_or(|after| key(entry) > key(after)));
        found.truncate(limit);
        found
    }

    pub(super) fn postpone(
        &mut self,
        job: JobId,
        due: Timestamp,
        reason: &str,
    ) -> Result<(), StoreError> {
        let id = job;
        let job = self.jobs.get_mut(&id).ok_or(StoreError::JobGone(id))?;
        if let Some(place) = self.berths.get_mut(&id) {
            (place.class, place.turn) = (rules::CLASS_PUT_OFF, rules::micros(due));
        }
        job.due = kept(due);
        job.attempts = job.attempts.saturating_add(1);
        job.last_error = Some(reason.to_owned());
        Ok(())
    }

    pub(super) fn tracked(&self, identificativo: &str) -> Vec<Tracked> {
        let followed = self.tracker.get(identificativo);
        followed.map(|f| f.entries.values().cloned().collect()).unwrap_or_default()
    }
}
