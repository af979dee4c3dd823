//! The log of the model, and its seals.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::state::State;
use crate::rules::{self, kept};
use crate::tree::Hash;
use crate::{LogEntry, LogFilter, LogLeaf, LogRecord, NewSeal, Seal, StoreError, Timestamp};

/// A record with the octets that were made of it.
#[derive(Debug)]
pub(super) struct Record {
    record: LogRecord,
    octets: Vec<u8>,
    leaf: Hash,
}

/// A seal with what it covers.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    seal: Seal,
    new: Arc<NewSeal>,
}

impl State {
    pub(super) fn write_log(&mut self, record: LogRecord) -> Result<(), StoreError> {
        self.last_record += 1;
        let octets = rules::canonical(&record)?.into_bytes();
        let leaf = Hash::leaf(self.last_record, &octets);
        self.log.insert(self.last_record, Arc::new(Record { record, octets, leaf }));
        Ok(())
    }

    pub(super) fn log(
        &self,
        filter: &LogFilter,
        after: u64,
        limit: usize,
    ) -> Vec<(u64, LogRecord)> {
        let all = || self.log.values().map(|kept| &kept.record);
        let named = |id: &str| {
            let found = all().filter(move |r| rules::identifiers(r).contains(id));
            found.filter_map(|record| record.identificativo.as_deref()).collect::<BTreeSet<_>>()
        };
        let asked = filter.message_id.as_deref().map(|id| (id, named(id)));
        let account = filter.account.as_ref().map(|address| rules::key(&address.to_string()));
        let meets = |record: &LogRecord| {
            let time = kept(record.time);
            asked.as_ref().is_none_or(|(id, of)| {
                rules::identifiers(record).contains(id)
                    || record.identificativo.as_deref().is_some_and(|pec| of.contains(pec))
            }) && account.as_ref().is_none_or(|a| rules::parties(record).contains(a))
                && filter.since.is_none_or(|since| time >= kept(since))
                && filter.until.is_none_or(|until| time < kept(until))
        };
        let place = |number: u64, kept_record: &Record| (kept(kept_record.record.time), number);
        let from = match after {
            0 => (Timestamp::MIN, 0),
            _ => match self.log.get(&after) {
                Some(record) => place(after, record),
                None => return Vec::new(),
            },
        };
        let mut found: Vec<_> = self
            .log
            .iter()
            .map(|(number, record)| (place(*number, record), record))
            .filter(|(place, record)| *place > from && meets(&record.record))
            .collect();
        found.sort_by_key(|(place, _)| *place);
        let found = found.into_iter().take(limit);
        found.map(|((_, number), record)| (number, record.record.clone())).collect()
    }

    fn records(&self, after: u64, limit: usize) -> impl Iterator<Item = (u64, &Record)> {
        let after = self.log.range(after.saturating_add(1)..);
        after.take(limit).map(|(number, record)| (*number, &**record))
    }

    pub(super) fn log_entries(&self, after: u64, limit: usize) -> Vec<LogEntry> {
        let entry = |(number, record): (u64, &Record)| LogEntry {
            number,
            time: kept(record.record.time),
            octets: record.octets.clone(),
            leaf: record.leaf.0.to_vec(),
        };
        self.records(after, limit).map(entry).collect()
    }

    pub(super) fn log_leaves(&self, after: u64, limit: usize) -> Vec<LogLeaf> {
        let leaf = |(number, record): (u64, &Record)| LogLeaf {
            number,
            time: kept(record.record.time),
            leaf: record.leaf,
        };
        self.records(after, limit).map(leaf).collect()
    }

    pub(super) fn seals(&self, after: u64, limit: usize) -> Vec<Seal> {
        let all = self.seals.iter().map(|sealed| sealed.seal.clone());
        all.filter(|seal| seal.number > after).take(limit).collect()
    }

    pub(super) fn last_seal(&self) -> Option<Seal> {
        self.seals.last().map(|sealed| sealed.seal.clone())
    }

    pub(super) fn seal_of(&self, record: u64) -> Option<Seal> {
        let covers = |sealed: &&Sealed| {
            (sealed.new.statement.first..sealed.new.statement.end()).contains(&record)
        };
        self.seals.iter().find(covers).map(|sealed| sealed.seal.clone())
    }

    pub(super) fn unstamped_seals(&self, limit: usize) -> Vec<Seal> {
        let all = self.seals.iter().map(|sealed| &sealed.seal);
        all.filter(|seal| seal.stamp.is_none()).take(limit).cloned().collect()
    }

    pub(super) fn seal_chunks(&self, number: u64) -> Vec<Hash> {
        let found = self.seals.iter().find(|sealed| sealed.seal.number == number);
        found.map(|sealed| sealed.new.chunks.clone()).unwrap_or_default()
    }

    pub(super) fn add_seal(&mut self, new: NewSeal) -> Result<(), StoreError> {
        let (number, first) = match self.seals.last() {
            Some(last) => (last.seal.number + 1, last.new.statement.end()),
            None => (1, 1),
        };
        let said = &new.statement;
        if (said.number, said.first) != (number, first) || said.end() > self.last_record + 1 {
            return Err(StoreError::SealOutOfOrder);
        }
        let (octets, signature) = (new.octets.clone(), new.signature.clone());
        let seal = Seal { number, octets, signature, stamp: None, expired: None };
        self.seals.push(Sealed { seal, new: Arc::new(new) });
        Ok(())
    }

    pub(super) fn stamp_seal(&mut self, number: u64, stamp: &[u8]) {
        let mut seals = self.seals.iter_mut().map(|sealed| &mut sealed.seal);
        if let Some(seal) = seals.find(|seal| seal.number == number) {
            seal.stamp.get_or_insert_with(|| stamp.to_vec());
        }
    }

    pub(super) fn expire_seal(&mut self, number: u64, at: Timestamp, limit: usize) -> usize {
        let mut seals = self.seals.iter_mut();
        let Some(sealed) = seals.find(|sealed| sealed.seal.number == number) else { return 0 };
        sealed.seal.expired.get_or_insert(kept(at));
        let covered = sealed.new.statement.first..sealed.new.statement.end();
        let gone: Vec<u64> = self.log.range(covered).map(|(n, _)| *n).take(limit).collect();
        gone.iter().for_each(|number| drop(self.log.remove(number)));
        gone.len()
    }
}
