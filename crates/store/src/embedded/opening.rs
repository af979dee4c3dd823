//! Opening the store and closing it, and how a call reaches the writer.

use std::fs::{File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use super::archive::{self, Archiving};
use super::disk::{Disk, Real};
use super::keys::Keys;
use super::line::Limits;
use super::octets::{Files, Prepared};
use super::readers::Readers;
use super::recent::Recent;
use super::resume::End;
use super::segments::Segments;
use super::txn::{Counters, Txn};
use super::upkeep::{Done, Pace};
use super::writer::{Command, Fault, Outcome, Unlink, Writer};
use super::{
    EmbeddedStore, Options, QUEUE_MAX, Shared, compact, mailboxes, octets, schema, search, upkeep,
};
use crate::{BlobId, MailboxId, Octets, StoreError};

impl EmbeddedStore {
    /// Opens the store in `dir`, or makes a new one there, readable by this user only.
    ///
    /// # Errors
    ///
    /// [`StoreError::Medium`]: in use by another process, of a newer format, damaged, or the disk
    /// failed.
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        Self::open_on(dir, options, Arc::new(Real))
    }

    pub(super) fn open_on(
        dir: &Path,
        options: Options,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StoreError> {
        Self::open_within(dir, options, disk, Limits::default())
    }

    pub(super) fn open_within(
        dir: &Path,
        options: Options,
        disk: Arc<dyn Disk>,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = File::create(dir.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Medium("in use by another process".into()),
            TryLockError::Error(error) => error.into(),
        })?;
        let end = End::take(dir)?;
        let index = dir.join("index.db");
        let db = schema::writer(&index)?;
        let counters = Counters::load(&db)?;
        let keys = Keys::open(&db, &options.keys, &*disk)?;
        let files = Arc::new(Files::open(dir, Arc::clone(&disk), keys)?);
        let known = known_segments(&db)?;
        let mut segments = Segments::open(
            files.segments.clone(),
            Arc::clone(&disk),
            options.segment_octets,
            &known,
        )?;
        if let Some((last, _)) = known.last()
            && !files.keys.fits(&db, *last)?
        {
            segments.seal(*last);
        }
        let archive = match &options.archive {
            Some(folder) => {
                Some(Archiving::open(dir, &db, folder, end, limits, Arc::clone(&disk))?)
            }
            None => {
                archive::forget(&db)?;
                None
            }
        };
        let mut gone = Vec::new();
        // Unless somebody copies them: then they stay until the next time.
        if let Some(_unpinned) = files.unpinned()? {
            segments.remove_unknown(&known)?;
            files.remove_large_above(counters.blob)?;
            for blob in doomed(&db)? {
                files.unlink_large(blob)?;
                gone.push(blob);
            }
        }
        let shared = Arc::new(Shared {
            files,
            readers: Readers::new(index, options.readers),
            recent: Recent::new(options.recent_octets),
            room: octets::Room::default(),
            stuck: compact::Stuck::default(),
            done: Done::default(),
            archive: archive.as_ref().map(|archive| Arc::clone(archive.line())),
            listeners: RwLock::default(),
            fault: Fault::default(),
        });
        let texts = if shared.files.keys.encrypt() {
            search::Indexes::remove_all(dir)?;
            None
        } else {
            Some(search::Indexes::open(dir)?)
        };
        let (commands, taken) = sync_channel(QUEUE_MAX);
        let writer = Writer {
            db,
            segments,
            counters,
            disk,
            shared: Arc::clone(&shared),
            gone,
            unlink: Unlink::default(),
            archive,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&taken))?;
        let pace = Arc::new(Pace::new(options.upkeep_octets_a_second));
        let every = (options.upkeep_every, options.scrub_every);
        let upkeep = {
            let (shared, commands, pace) =
                (Arc::clone(&shared), commands.clone(), Arc::clone(&pace));
            std::thread::Builder::new()
                .name("store-upkeep".into())
                .spawn(move || upkeep::run(&shared, &commands, &pace, every))?
        };
        Ok(Self {
            shared,
            texts,
            commands: Some(commands),
            writer: Some(writer),
            pace,
            upkeep: Some(upkeep),
            _lock: lock,
        })
    }

    /// Does something with the index of texts that a mailbox belongs to, if the store has any.
    pub(super) fn in_texts<T>(
        &self,
        mailbox: MailboxId,
        work: impl FnOnce(&mut search::Texts) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let readers = &self.shared.readers;
        let account = readers.read(|db| Ok(mailboxes::Numbers::load(db, mailbox)?.account))?;
        let last_blob = || readers.read(|db| Ok(Counters::load(db)?.blob));
        self.texts.as_ref().map(|texts| texts.with(account, last_blob, work)).transpose()
    }

    /// Asks the index of texts what would save reading messages; nothing when it cannot tell.
    pub(super) fn ask_texts<T>(
        &self,
        mailbox: MailboxId,
        ask: impl FnOnce(&mut search::Texts) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self.in_texts(mailbox, ask) {
            Ok(found) => Ok(found.flatten()),
            Err(error @ (StoreError::NoSpace | StoreError::Medium(_))) => {
                tracing::warn!(%error, "an index of texts cannot be asked: messages are read instead");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Has the writer do `run` with new octets, and waits until it is on disk.
    pub(super) fn write<T: Send + 'static>(
        &self,
        octets: Vec<Octets>,
        run: impl FnOnce(&mut Txn<'_>, &[BlobId]) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = &self.shared;
        let new = octets.iter().map(octets::length).sum();
        // Kept until the answer: then it is written.
        let _taken = (new > 0).then(|| shared.room.take(new));
        let octets = octets
            .into_iter()
            .map(|one| shared.files.prepare(one, (&shared.recent, &shared.readers)));
        let octets = octets.collect::<Result<_, _>>()?;
        match &self.commands {
            Some(commands) => write_prepared(&self.shared, commands, octets, run),
            None => Err(self.shared.fault.error()),
        }
    }
}

/// Has the writer do `run` with octets that are ready, and waits until it is on disk.
pub(super) fn write_prepared<T: Send + 'static>(
    shared: &Shared,
    commands: &SyncSender<Command>,
    octets: Vec<Prepared>,
    run: impl FnOnce(&mut Txn<'_>, &[BlobId]) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (answer, answered) = sync_channel(1);
    let command = Command {
        octets,
        run: Box::new(move |txn, blobs| {
            let result = run(txn, blobs).and_then(|done| txn.settle().map(|()| done));
            let outcome = match &result {
                Ok(_) => Outcome::Kept,
                Err(StoreError::NoSpace) => Outcome::NoSpace,
                Err(_) => Outcome::Refused,
            };
            // Nobody listens any more only when the caller's thread is gone.
            let reply = move || answer.send(result).unwrap_or_default();
            (outcome, Box::new(reply))
        }),
    };
    match commands.send(command) {
        Ok(()) => answered.recv().unwrap_or_else(|_| Err(shared.fault.error())),
        Err(_) => Err(shared.fault.error()),
    }
}

pub(super) fn known_segments(db: &rusqlite::Connection) -> Result<Vec<(u64, u64)>, StoreError> {
    let mut get = db.prepare("SELECT id, end FROM segments ORDER BY id")?;
    let known = get.query_map([], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
    })?;
    Ok(known.collect::<Result<_, _>>()?)
}

fn doomed(db: &rusqlite::Connection) -> Result<Vec<u64>, StoreError> {
    let mut get = db.prepare("SELECT blob FROM doomed")?;
    let doomed = get.query_map([], |row| row.get(0).map(i64::cast_unsigned))?;
    Ok(doomed.collect::<Result<_, _>>()?)
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.pace.stop();
        if let Some(Err(_)) = self.upkeep.take().map(JoinHandle::join) {
            tracing::error!("the upkeep of the store panicked");
        }
        drop(self.commands.take());
        if let Some(Err(_)) = self.writer.take().map(JoinHandle::join) {
            tracing::error!("the writer of the store panicked");
        }
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EmbeddedStore")
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        // What SQLite answers to ENOSPC and EDQUOT.
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            return Self::NoSpace;
        }
        Self::Medium(format!("index: {error}"))
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded => Self::NoSpace,
            _ => Self::Medium(error.to_string()),
        }
    }
}
