//! The tables of the index, and how connections to it are set up.
//!
//! One writer, any number of readers (WAL): a reader sees the last commit before it began, and
//! waits for nobody. Every number that IMAP's STATUS or a quota asks for is a column that changes
//! in the commit of the message itself, so that nothing is counted when it is asked for.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use crate::StoreError;

/// The version of the tables and of the records in segments. A store of a higher one is refused.
pub(super) const FORMAT: i64 = 7;

/// Marks the database as ours: "cera".
const APPLICATION: i64 = 0x6365_7261;

/// Statements that a connection keeps prepared: all that this crate has.
const STATEMENTS_MAX: usize = 128;

const TABLES: &str = "
-- The last number given of each kind, and how many jobs wait. One row.
CREATE TABLE counters (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, blob INTEGER NOT NULL,
    piece INTEGER NOT NULL, job INTEGER NOT NULL, record INTEGER NOT NULL,
    uid_validity INTEGER NOT NULL, jobs INTEGER NOT NULL);
INSERT INTO counters VALUES (0, 0, 0, 0, 0, 0, 0, 0);

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY, address TEXT NOT NULL, user_id TEXT, owner INTEGER NOT NULL,
    role INTEGER NOT NULL, state INTEGER NOT NULL, phc TEXT, scram TEXT,
    octets_max INTEGER NOT NULL, messages_max INTEGER, reserve INTEGER NOT NULL,
    ordinary_mail TEXT, created INTEGER NOT NULL, octets INTEGER NOT NULL,
    messages INTEGER NOT NULL);
CREATE TABLE logins (login TEXT PRIMARY KEY, account INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE subscriptions (
    account INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (account, name)) WITHOUT ROWID;

CREATE TABLE mailboxes (
    id INTEGER PRIMARY KEY, account INTEGER NOT NULL, name TEXT NOT NULL, special_use INTEGER,
    system INTEGER NOT NULL, uid_validity INTEGER NOT NULL, created INTEGER NOT NULL,
    uid_next INTEGER NOT NULL, mod_seq INTEGER NOT NULL, recent_from INTEGER NOT NULL,
    messages INTEGER NOT NULL, unseen INTEGER NOT NULL, recent INTEGER NOT NULL,
    deleted INTEGER NOT NULL, octets INTEGER NOT NULL, deleted_octets INTEGER NOT NULL);
CREATE UNIQUE INDEX mailboxes_name ON mailboxes (account, name);
CREATE TABLE keywords (
    mailbox INTEGER NOT NULL, number INTEGER NOT NULL, keyword TEXT NOT NULL,
    PRIMARY KEY (mailbox, number)) WITHOUT ROWID;

CREATE TABLE messages (
    mailbox INTEGER NOT NULL, uid INTEGER NOT NULL, flags INTEGER NOT NULL, keywords BLOB,
    mod_seq INTEGER NOT NULL, octets INTEGER NOT NULL, received INTEGER NOT NULL,
    saved INTEGER NOT NULL, blob INTEGER NOT NULL, PRIMARY KEY (mailbox, uid)) WITHOUT ROWID;
CREATE INDEX messages_mod_seq ON messages (mailbox, mod_seq);
CREATE INDEX messages_deleted ON messages (mailbox, uid) WHERE flags & 8;
-- UIDs that went, as ranges. Kept as long as the mailbox, so that every change can be told.
CREATE TABLE expunged (
    mailbox INTEGER NOT NULL, mod_seq INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, PRIMARY KEY (mailbox, mod_seq, first)) WITHOUT ROWID;

-- What is beyond `end` was never committed. `live` counts the octets of records in use.
CREATE TABLE segments (id INTEGER PRIMARY KEY, end INTEGER NOT NULL, live INTEGER NOT NULL);
-- Files of their own that nothing refers to any more and that may still be there.
CREATE TABLE doomed (blob INTEGER PRIMARY KEY);

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, due INTEGER NOT NULL, queued INTEGER NOT NULL,
    attempts INTEGER NOT NULL, last_error TEXT, payload BLOB NOT NULL, blob INTEGER);
CREATE TABLE tracker (
    identificativo TEXT NOT NULL, recipient_key TEXT NOT NULL, recipient TEXT NOT NULL,
    state INTEGER NOT NULL, sent INTEGER NOT NULL, since INTEGER NOT NULL,
    PRIMARY KEY (identificativo, recipient_key)) WITHOUT ROWID;

-- `record` holds the canonical octets, and `leaf` their hash, both of the commit of the event: what
-- is sealed. All else about a record is there to find it.
CREATE TABLE log (
    number INTEGER PRIMARY KEY, time INTEGER NOT NULL, identificativo TEXT, record TEXT NOT NULL,
    leaf BLOB NOT NULL);
CREATE INDEX log_time ON log (time);
CREATE TABLE log_identifiers (
    identifier TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (identifier, number))
    WITHOUT ROWID;
";

/// Octets, and the pieces that they are made of.
pub(super) const OCTETS: &str = "
-- What messages and jobs refer to. `pieces` is a list as in `list.rs`.
CREATE TABLE blobs (
    id INTEGER PRIMARY KEY, octets INTEGER NOT NULL, refs INTEGER NOT NULL,
    pieces BLOB NOT NULL);
-- Where pieces are: at `start` of a segment, or in a file of their own (segment 0), and in how many
-- places of the lists. `stored` is what is left of `octets` by the codec. A piece without a hash is
-- shared with nobody: it is from format 2 or 1.
CREATE TABLE pieces (
    id INTEGER PRIMARY KEY, hash BLOB, segment INTEGER NOT NULL, start INTEGER NOT NULL,
    octets INTEGER NOT NULL, stored INTEGER NOT NULL, codec INTEGER NOT NULL,
    refs INTEGER NOT NULL);
CREATE UNIQUE INDEX pieces_hash ON pieces (hash) WHERE hash IS NOT NULL;
";

/// What clients keep beside mailboxes, and (mailbox 0) beside accounts: since format 4.
const ANNOTATIONS: &str = "
CREATE TABLE annotations (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, entry TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (account, mailbox, entry)) WITHOUT ROWID;
";

/// What format 2 has more: the log by account and time, and its seals.
const SEALED_LOG: &str = "
CREATE TABLE log_parties (
    party TEXT NOT NULL, time INTEGER NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (party, time, number)) WITHOUT ROWID;
-- `first` and `records` repeat what the signed statement says, to find the seal of a record.
CREATE TABLE seals (
    number INTEGER PRIMARY KEY, first INTEGER NOT NULL, records INTEGER NOT NULL,
    statement BLOB NOT NULL, signature BLOB NOT NULL, chunks BLOB NOT NULL, stamp BLOB,
    expired INTEGER);
CREATE INDEX seals_first ON seals (first);
CREATE INDEX seals_unstamped ON seals (number) WHERE stamp IS NULL;
";

/// What format 5 has more: lanes. A job of the pipeline has no destination; in a lane jobs go by
/// class, then by turn, which for those put off is the time they are due.
const LANES: &str = "
ALTER TABLE jobs ADD COLUMN destination TEXT;
ALTER TABLE jobs ADD COLUMN class INTEGER;
ALTER TABLE jobs ADD COLUMN account TEXT;
ALTER TABLE jobs ADD COLUMN turn INTEGER;
CREATE INDEX jobs_due ON jobs (due) WHERE destination IS NULL;
CREATE INDEX jobs_lane ON jobs (destination, class, turn, id) WHERE destination IS NOT NULL;
CREATE INDEX jobs_turn ON jobs (destination, class, account, turn)
    WHERE destination IS NOT NULL;
";

/// What refers to octets: each row of these tables counts once in the `refs` of its blob.
pub(super) const BLOB_HOLDERS: &[(&str, &str)] =
    &[("messages", "blob"), ("jobs", "blob"), ("quarantine", "blob")];
/// Tables that a store of this format may lack because it is older than they are.
const ADDED: &str = "
-- What notices about a message need, while `open` of its recipients are not closed.
CREATE TABLE IF NOT EXISTS followed (
    identificativo TEXT PRIMARY KEY, open INTEGER NOT NULL, about BLOB NOT NULL);
-- When the next notice about a recipient is due. Who is closed has no row: what is due is found
-- without looking at anything else.
CREATE TABLE IF NOT EXISTS deadlines (
    identificativo TEXT NOT NULL, recipient_key TEXT NOT NULL, due INTEGER NOT NULL,
    second INTEGER NOT NULL, PRIMARY KEY (identificativo, recipient_key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deadlines_due ON deadlines (due, identificativo, recipient_key);
CREATE TABLE IF NOT EXISTS marks (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, made INTEGER NOT NULL) WITHOUT ROWID;
-- Infected messages. Rows are added, and removed when their time is over.
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, found INTEGER NOT NULL, keep_until INTEGER NOT NULL,
    blob INTEGER NOT NULL, infection TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS quarantine_end ON quarantine (keep_until);
";

/// What can be made again from the rest, and so may be missing in a store of an older program.
const DERIVED: &str = "
-- What was made of octets, for speed: they go with them.
CREATE TABLE IF NOT EXISTS digests (blob INTEGER PRIMARY KEY, digest BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS blobs_gone AFTER DELETE ON blobs
    BEGIN DELETE FROM digests WHERE blob = old.id; END;
-- The first message without \\Seen, at once.
CREATE INDEX IF NOT EXISTS messages_unseen ON messages (mailbox, uid) WHERE flags & 1 = 0;
-- Which marks are so old that nothing they are of can come again.
CREATE INDEX IF NOT EXISTS marks_made ON marks (made);
-- Which jobs of a lane have waited too long.
CREATE INDEX IF NOT EXISTS jobs_age ON jobs (destination, queued, id)
    WHERE destination IS NOT NULL;
";

/// The writer's connection; makes the tables of a new store.
pub(super) fn writer(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    // The page size counts only before the first write.
    db.pragma_update(None, "page_size", 4096)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // The writer checkpoints when idle; under load, at 64 MiB of WAL.
    db.pragma_update(None, "wal_autocheckpoint", 16_000)?;
    // After a checkpoint the file gives back what a long reader had made it grow to.
    db.pragma_update(None, "journal_size_limit", 256 * 1024 * 1024)?;
    db.pragma_update(None, "cache_size", -64_000)?;
    prepare_once(&db)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    let format: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match format {
        0 => create(&db)?,
        1..=FORMAT => {
            let application: i64 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
            if application != APPLICATION {
                return Err(StoreError::Medium("the database is not a store".into()));
            }
            upgrade(&db, format)?;
        }
        newer => {
            return Err(StoreError::Medium(format!(
                "the store has format {newer}, this program knows up to {FORMAT}"
            )));
        }
    }
    let (keys, history) = (super::keys::TABLES, super::archive::TABLES);
    db.execute_batch(&format!("BEGIN IMMEDIATE; {ADDED} {keys} {history} {DERIVED} COMMIT;"))?;
    Ok(db)
}

fn create(db: &Connection) -> Result<(), StoreError> {
    let any: Option<i64> =
        db.query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |row| row.get(0)).optional()?;
    if any.is_some() {
        return Err(StoreError::Medium("the database is not a store".into()));
    }
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} {OCTETS} {SEALED_LOG} {ANNOTATIONS} {LANES}
         PRAGMA application_id = {APPLICATION};
         PRAGMA user_version = {FORMAT}; COMMIT;"
    ))?;
    Ok(())
}

/// A connection to look into a store that others may have open, or nobody.
pub(super) fn viewer(path: &Path) -> Result<Connection, StoreError> {
    let db = reader(path)?;
    let format: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i64 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if application != APPLICATION {
        return Err(StoreError::Medium("the database is not a store".into()));
    }
    if format == FORMAT {
        return Ok(db);
    }
    Err(StoreError::Medium(format!(
        "the store has format {format}, this program knows {FORMAT}: start the server on it once"
    )))
}

/// Brings a store of an older format to this one, in one transaction: a crash leaves the old.
fn upgrade(db: &Connection, format: i64) -> Result<(), StoreError> {
    if format == FORMAT {
        return Ok(());
    }
    tracing::info!(from = format, to = FORMAT, "the store is brought to the newer format");
    db.execute_batch("BEGIN IMMEDIATE")?;
    let upgraded = (|| {
        if format < 2 {
            db.execute_batch(
                "ALTER TABLE log ADD COLUMN leaf BLOB NOT NULL DEFAULT x'';
                 DROP TABLE log_parties;",
            )?;
            db.execute_batch(SEALED_LOG)?;
            super::log::rebuild(db)?;
        }
        if format < 3 {
            super::upgrade::to_pieces(db)?;
        }
        if format < 4 {
            db.execute_batch(ANNOTATIONS)?;
        }
        if format < 5 {
            db.execute_batch("DROP INDEX jobs_due;")?;
            db.execute_batch(LANES)?;
        }
        if format < 6 {
            super::names::compose(db)?;
        }
        // 7 has pieces that are encrypted, which the old program could not read.
        db.pragma_update(None, "user_version", FORMAT)?;
        Ok(db.execute_batch("COMMIT")?)
    })();
    if upgraded.is_err() && !db.is_autocommit() {
        db.execute_batch("ROLLBACK")?;
    }
    upgraded
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.pragma_update(None, "cache_size", -8_000)?;
    prepare_once(&db)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(db)
}

/// A statement is planned when it is prepared, and not again for each value that it is given: what
/// way it goes through the tables is the same for all, and planning costs more than most of them.
pub(super) fn prepare_once(db: &Connection) -> Result<(), StoreError> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}
