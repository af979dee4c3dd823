//! A command's view of the transaction of its group, and what it leaves to be done at the end.
//!
//! Messages and jobs refer to blobs, blobs are lists of pieces, and both are counted. A command
//! gathers what it refers to and settles it as its last step; a piece that nothing counts any more
//! goes at the end of the group, when it is certain that no later command came to need it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::list;
use super::octets::{Form, Hash};
use super::record::record_octets;
use super::segments::Place;
use crate::{BlobId, MailboxId, StoreError};

/// The last number given of each kind, and how many jobs wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) account: u64,
    pub(super) mailbox: u64,
    pub(super) blob: u64,
    pub(super) piece: u64,
    pub(super) job: u64,
    pub(super) record: u64,
    pub(super) uid_validity: u32,
    pub(super) jobs: u64,
}

impl Counters {
    pub(super) fn load(db: &Connection) -> Result<Self, StoreError> {
        let get = "SELECT account, mailbox, blob, piece, job, record, uid_validity, jobs
                   FROM counters";
        Ok(db.query_row(get, [], |row| {
            let number = |at| row.get(at).map(i64::cast_unsigned);
            Ok(Self {
                account: number(0)?,
                mailbox: number(1)?,
                blob: number(2)?,
                piece: number(3)?,
                job: number(4)?,
                record: number(5)?,
                uid_validity: row.get(6)?,
                jobs: number(7)?,
            })
        })?)
    }

    pub(super) fn save(&self, db: &Connection) -> Result<(), StoreError> {
        let set = "UPDATE counters SET account = ?, mailbox = ?, blob = ?, piece = ?, job = ?,
                   record = ?, uid_validity = ?, jobs = ?";
        let last = [self.account, self.mailbox, self.blob, self.piece, self.job, self.record];
        let [account, mailbox, blob, piece, job, record] = last.map(u64::cast_signed);
        let jobs = self.jobs.cast_signed();
        db.prepare_cached(set)?.execute((
            account,
            mailbox,
            blob,
            piece,
            job,
            record,
            self.uid_validity,
            jobs,
        ))?;
        Ok(())
    }
}

/// What commands that were kept want done at the end of their group.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) changed: BTreeSet<MailboxId>,
    /// Octets in use in each segment: so many more, or fewer.
    pub(super) live: BTreeMap<u64, i64>,
    /// Pieces that came into use, or may have gone out of it.
    pub(super) pieces: BTreeSet<u64>,
    /// Files of their own that nothing refers to.
    pub(super) doomed: Vec<u64>,
}

impl Effects {
    pub(super) fn merge(&mut self, other: Self) {
        self.changed.extend(other.changed);
        self.doomed.extend(other.doomed);
        self.pieces.extend(other.pieces);
        for (segment, octets) in other.live {
            *self.live.entry(segment).or_default() += octets;
        }
    }
}

/// A command's view of the transaction that it is in.
pub(super) struct Txn<'a> {
    pub(super) db: &'a Connection,
    pub(super) counters: &'a mut Counters,
    pub(super) effects: Effects,
    /// The new octets of the command.
    pub(super) new: BTreeMap<u64, NewBlob>,
    /// The records that the group wrote.
    pub(super) placed: &'a BTreeMap<u64, Placed>,
    pub(super) refs: BTreeMap<u64, i64>,
}

/// Octets that are new: how many, and the pieces they are made of.
#[derive(Clone)]
pub(super) struct NewBlob {
    pub(super) octets: u64,
    pub(super) pieces: Vec<(u64, u64)>,
}

/// A record that the group wrote: a new piece, or one at its new place.
pub(super) struct Placed {
    pub(super) place: Place,
    pub(super) stored: u64,
    pub(super) new: Option<NewPiece>,
}

/// What the index is told of a new piece beside its place.
pub(super) struct NewPiece {
    pub(super) hash: Hash,
    pub(super) octets: u64,
    pub(super) codec: Form,
}

impl Txn<'_> {
    /// Listeners are to hear of this mailbox.
    pub(super) fn changed(&mut self, mailbox: MailboxId) {
        self.effects.changed.insert(mailbox);
    }

    /// How many octets a blob has, new or stored.
    pub(super) fn octets(&self, blob: BlobId) -> Result<u64, StoreError> {
        match self.new.get(&blob.0) {
            Some(new) => Ok(new.octets),
            None => super::octets::octets(self.db, blob),
        }
    }

    /// One more refers to a blob (+1), or one fewer (-1).
    pub(super) fn refer(&mut self, blob: BlobId, by: i64) {
        *self.refs.entry(blob.0).or_default() += by;
    }

    /// Brings blobs and pieces up to date with what refers to them: a command's last step.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        for (blob, by) in std::mem::take(&mut self.refs) {
            if self.new.contains_key(&blob) {
                if by > 0 {
                    self.insert(blob, by)?;
                }
            } else if by != 0 {
                self.adjust(blob, by)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, blob: u64, refs: i64) -> Result<(), StoreError> {
        let Some(NewBlob { octets, pieces }) = self.new.remove(&blob) else { return Ok(()) };
        let insert = "INSERT INTO blobs (id, octets, refs, pieces) VALUES (?, ?, ?, ?)";
        self.db.prepare_cached(insert)?.execute(params![
            blob.cast_signed(),
            octets.cast_signed(),
            refs,
            list::write(&pieces)
        ])?;
        pieces.into_iter().try_for_each(|(piece, _)| self.hold(piece))
    }

    fn adjust(&mut self, blob: u64, by: i64) -> Result<(), StoreError> {
        // Without RETURNING, with which SQLite opens a journal for the statement: to close it costs what
        // the command has changed so far, and thousands of copies the square of that.
        let adjust = "UPDATE blobs SET refs = refs + ? WHERE id = ?";
        if self.db.prepare_cached(adjust)?.execute([by, blob.cast_signed()])? != 1 {
            return Err(StoreError::Medium(format!("octets {blob} are not there")));
        }
        let get = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        if by > 0
            || self
                .db
                .prepare_cached("SELECT refs FROM blobs WHERE id = ?")?
                .query_row([blob.cast_signed()], get)?
                > 0
        {
            return Ok(());
        }
        let list: Vec<u8> = self
            .db
            .prepare_cached("DELETE FROM blobs WHERE id = ? RETURNING pieces")?
            .query_row([blob.cast_signed()], |row| row.get(0))?;
        for (piece, _) in list::read(&list)? {
            self.count(piece, -1)?;
            self.effects.pieces.insert(piece);
        }
        Ok(())
    }

    /// One more occurrence of a piece, which may be new.
    fn hold(&mut self, piece: u64) -> Result<(), StoreError> {
        let Some((placed, new)) =
            self.placed.get(&piece).and_then(|placed| Some((placed, placed.new.as_ref()?)))
        else {
            return self.count(piece, 1);
        };
        let insert = "INSERT INTO pieces (id, hash, segment, start, octets, stored, codec, refs)
                      VALUES (?, ?, ?, ?, ?, ?, ?, 1)
                      ON CONFLICT (id) DO UPDATE SET refs = refs + 1";
        self.db.prepare_cached(insert)?.execute(params![
            piece.cast_signed(),
            &new.hash[..],
            placed.place.segment.cast_signed(),
            placed.place.start.cast_signed(),
            new.octets.cast_signed(),
            placed.stored.cast_signed(),
            new.codec.number(),
        ])?;
        self.effects.pieces.insert(piece);
        Ok(())
    }

    fn count(&self, piece: u64, by: i64) -> Result<(), StoreError> {
        let count = "UPDATE pieces SET refs = refs + ? WHERE id = ?";
        match self.db.prepare_cached(count)?.execute([by, piece.cast_signed()])? {
            1 => Ok(()),
            _ => Err(StoreError::Medium(format!("piece {piece} is not there"))),
        }
    }

    /// Has the index name the new place of a record that was appended once more, if it is still at
    /// the old one: else the copy is as dead as that. `was` tells the octets of the record there;
    /// `sealed` when the new one is the first that is encrypted: then the hash that was not keyed goes.
    pub(super) fn relocate(
        &mut self,
        number: u64,
        from: Place,
        was: u64,
        sealed: Option<Form>,
    ) -> Result<(), StoreError> {
        let Some(Placed { place: to, stored, .. }) = self.placed.get(&number) else {
            return Ok(());
        };
        let set = "UPDATE pieces SET segment = ?, start = ?, stored = ?
                   WHERE id = ? AND segment = ? AND start = ?";
        let values = [to.segment, to.start, *stored, number, from.segment, from.start];
        if self.db.prepare_cached(set)?.execute(values.map(u64::cast_signed))? == 1 {
            let octets = |stored| record_octets(stored).cast_signed();
            *self.effects.live.entry(from.segment).or_default() -= octets(was);
            *self.effects.live.entry(to.segment).or_default() += octets(*stored);
            if let Some(form) = sealed {
                let set = "UPDATE pieces SET codec = ?, hash = NULL WHERE id = ?";
                self.db.prepare_cached(set)?.execute((form.number(), number.cast_signed()))?;
            }
        }
        Ok(())
    }
}

/// A piece that came into use in this group, or may have gone out of it: what it is now.
pub(super) fn count_piece(
    db: &Connection,
    piece: u64,
    new: bool,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let get = "SELECT refs, segment, stored FROM pieces WHERE id = ?";
    let get = db.prepare_cached(get)?.query_row([piece.cast_signed()], |row| {
        let [refs, segment, stored]: [i64; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        Ok((refs, segment.cast_unsigned(), stored.cast_unsigned()))
    });
    // The command that brought it was refused.
    let Some((refs, segment, stored)) = get.optional()? else { return Ok(()) };
    let octets = record_octets(stored).cast_signed();
    if refs > 0 {
        if new {
            *effects.live.entry(segment).or_default() += octets;
        }
        return Ok(());
    }
    db.prepare_cached("DELETE FROM pieces WHERE id = ?")?.execute([piece.cast_signed()])?;
    if segment == 0 {
        effects.doomed.push(piece);
    } else if !new {
        *effects.live.entry(segment).or_default() -= octets;
    }
    Ok(())
}
