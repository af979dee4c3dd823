//! Compaction: the records still in use are copied out of a segment that is mostly dead.
//!
//! A copy goes the way of every write: appended to the active segment and flushed by the writer,
//! then one commit that has the index name the new place instead of the old. A segment in which
//! nothing is in use any more is unlinked after the commit that left it so, as ever. So there is no
//! instant at which octets have no place, and none that a crash must repair: a copy whose commit did
//! not happen lies beyond the end of its segment, or is as dead as what it was copied from.
//!
//! Which records of a segment are in use is found by walking through it: each header has the number
//! that the index knows the record by, and the index knows one place for each number.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _};

use super::keys::Keys;
use super::octets::{self, Form, Prepared};
use super::opening::write_prepared;
use super::record::{self, Crcs, record_octets};
use super::segments::{self, Place, Record};
use super::writer::Command;
use super::{Shared, upkeep};
use crate::{Compacted, StoreError};

/// Octets copied by one command at most: bounds the wait of the others in its group.
const BATCH_OCTETS_MAX: u64 = 1024 * 1024;
/// Records looked at in one snapshot of the index at most, dead ones too.
const BATCH_RECORDS_MAX: usize = 4096;

/// Of which segments it is known that they cannot be emptied: a record in them is damaged. And one
/// compaction at a time.
#[derive(Default)]
pub(super) struct Stuck(Mutex<BTreeSet<u64>>);

/// A segment that is worth its copying.
struct Victim {
    number: u64,
    end: u64,
    active: bool,
}

/// A record in use, read whole and found sound.
struct Living {
    number: u64,
    record: Record,
    from: Place,
    /// Octets of the record there, header and checksums aside.
    was: u64,
    /// What the piece is from now on, when it is encrypted for the first time.
    sealed: Option<Form>,
}

/// Empties the segment that is deadest, if one is half dead, or one that is not under the newest key;
/// the one that is appended to only when `all` says so. `pace` is asked after each copy of so many octets, and ends it by `false`.
pub(super) fn one(
    shared: &Shared,
    commands: &SyncSender<Command>,
    all: bool,
    pace: &dyn Fn(u64) -> bool,
) -> Result<Compacted, StoreError> {
    let mut stuck = shared.stuck.0.lock().unwrap_or_else(PoisonError::into_inner);
    let key = shared.files.keys.current();
    let Some(victim) = shared.readers.read(|db| choose(db, &stuck, all, key))? else {
        return Ok(Compacted::default());
    };
    let file = match File::open(segments::path(&shared.files.segments, victim.number)) {
        // The last of it was let go of meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Compacted { segments: 1, ..Compacted::default() });
        }
        file => file?,
    };
    let (mut at, mut moved, mut damaged) = (0, 0, false);
    let mut seal = victim.active.then_some(victim.number);
    while at < victim.end {
        let keys = &shared.files.keys;
        let (next, living, sound) = shared.readers.read(|db| walk(db, &file, &victim, at, keys))?;
        damaged |= !sound;
        let octets = living.iter().map(|one| record_octets(one.record.octets.len() as u64)).sum();
        if !living.is_empty() {
            relocate(shared, commands, living, seal.take())?;
        }
        moved += octets;
        shared.done.add_moved(octets);
        at = next;
        if !pace(octets) {
            return Ok(Compacted { segments: 0, moved_octets: moved, freed_octets: 0 });
        }
    }
    let left = shared.readers.read(|db| live(db, victim.number))?;
    if let Some(octets) = left {
        // A message that came back to life cannot be: what is left could not be read, or the
        // segment is still appended to.
        stuck.insert(victim.number);
        tracing::warn!(segment = victim.number, octets, damaged, "a segment cannot be emptied");
        return Ok(Compacted { segments: 1, moved_octets: moved, freed_octets: 0 });
    }
    shared.done.add_freed(victim.end);
    tracing::debug!(segment = victim.number, moved, "a segment is compacted");
    Ok(Compacted { segments: 1, moved_octets: moved, freed_octets: victim.end })
}

fn choose(
    db: &Connection,
    stuck: &BTreeSet<u64>,
    all: bool,
    key: u32,
) -> Result<Option<Victim>, StoreError> {
    // One under another key than the newest is not appended to.
    let get = "SELECT id, end, id = (SELECT max(id) FROM segments) AND ifnull(key, 0) = ?1
               FROM segments LEFT JOIN segment_keys ON segment = id
               WHERE live > 0 AND (live * 2 <= end OR ifnull(key, 0) <> ?1)
               ORDER BY live * 1.0 / end, id";
    let mut get = db.prepare_cached(get)?;
    let mut rows = get.query([key])?;
    while let Some(row) = rows.next()? {
        let [number, end] = [row.get(0)?, row.get(1)?].map(i64::cast_unsigned);
        let active: bool = row.get(2)?;
        if !stuck.contains(&number) && (all || !active) {
            return Ok(Some(Victim { number, end, active }));
        }
    }
    Ok(None)
}

fn live(db: &Connection, segment: u64) -> Result<Option<u64>, StoreError> {
    let mut get = db.prepare_cached("SELECT live FROM segments WHERE id = ?")?;
    let live = get.query_row([segment.cast_signed()], |row| row.get(0).map(i64::cast_unsigned));
    Ok(live.optional()?)
}

/// Reads on from `at`: where the next batch begins, the records in use, and whether all were sound.
fn walk(
    db: &Connection,
    file: &File,
    victim: &Victim,
    mut at: u64,
    keys: &Keys,
) -> Result<(u64, Vec<Living>, bool), StoreError> {
    let (mut living, mut octets, mut sound) = (Vec::new(), 0, true);
    for _ in 0..BATCH_RECORDS_MAX {
        if at >= victim.end || octets >= BATCH_OCTETS_MAX {
            break;
        }
        let Some((number, length)) = record::read_header(file, at)? else {
            // Nobody knows where the next one begins.
            return Ok((victim.end, living, false));
        };
        let from = Place { segment: victim.number, start: at };
        at += record_octets(length);
        let Some(form) = form_at(db, number, from)? else { continue };
        let read = record::read(file, from.start, (number, length), 0..length);
        match read.and_then(|payload| renewed(payload, form, keys)) {
            Ok((payload, sealed)) => {
                let table = Crcs::of(&payload).table();
                let record = Record { octets: payload.into(), table };
                octets += record_octets(length);
                living.push(Living { number, record, from, was: length, sealed });
            }
            Err(error) => {
                tracing::error!(%error, segment = from.segment, start = from.start,
                    "a record in use cannot be read");
                sound = false;
            }
        }
    }
    Ok((at, living, sound))
}

/// What the record of this number is, if the index knows it at this place.
fn form_at(db: &Connection, number: u64, place: Place) -> Result<Option<Form>, StoreError> {
    let part = octets::Part::find(db, number);
    match part {
        Ok(part) if part.place == place => Ok(Some(part.codec)),
        Ok(_) | Err(StoreError::NoSuchMessage) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The octets of a record as they are written again: under the newest key, if there is any.
fn renewed(
    payload: Vec<u8>,
    form: Form,
    keys: &Keys,
) -> Result<(Vec<u8>, Option<Form>), StoreError> {
    if !keys.encrypt() || form.sealed && keys.is_newest(&payload) {
        return Ok((payload, None));
    }
    let plain = if form.sealed { keys.open_piece(&payload)? } else { payload };
    match keys.seal_piece(&plain)? {
        Some(sealed) => Ok((sealed, (!form.sealed).then_some(Form { sealed: true, ..form }))),
        None => Ok((plain, None)),
    }
}

/// Has the writer append the records again and the index name their new places.
fn relocate(
    shared: &Shared,
    commands: &SyncSender<Command>,
    living: Vec<Living>,
    seal: Option<u64>,
) -> Result<(), StoreError> {
    let from: Vec<_> =
        living.iter().map(|one| (one.number, one.from, one.was, one.sealed)).collect();
    let seal = seal.map(Prepared::Seal).into_iter();
    let moved = living.into_iter().map(|one| Prepared::Moved(one.number, one.record));
    write_prepared(shared, commands, seal.chain(moved).collect(), move |txn, _| {
        from.into_iter()
            .try_for_each(|(number, from, was, sealed)| txn.relocate(number, from, was, sealed))
    })
}

/// Compacts in the background as long as there is something to do.
pub(super) fn background(
    shared: &Shared,
    commands: &SyncSender<Command>,
    pace: &upkeep::Pace,
) -> Result<(), StoreError> {
    while one(shared, commands, false, &|octets| pace.after(octets))?.segments > 0 {
        if pace.stopped() {
            break;
        }
    }
    Ok(())
}
