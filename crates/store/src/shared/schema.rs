//! The tables, in plain SQL, in a schema of their own.
//!
//! Numbers that IMAP's STATUS or a quota asks for are columns that change in the commit of the message
//! itself. Times are microseconds, as everywhere in this crate; only what nodes tell each other about
//! being alive is measured by the database's clock.

use super::connection::{Db, get};
use crate::StoreError;

/// The version of the tables. A store of a later one is refused.
pub(super) const FORMAT: i64 = 2;
/// The one before, which a start brings up to date: it knew a checksum of each chunk and no more.
const FORMAT_1: i64 = 1;
/// That of tables that are being filled from another store: no node opens them.
const FILLING: i64 = 0;

/// Nodes that start at once make the tables one after the other: the number of that lock.
const LOCK: i64 = 0x6365_7261;

const TABLES: &str = "
-- `store` is a name of this store alone, which what its octets lie on has too.
CREATE TABLE format (version BIGINT NOT NULL, store TEXT NOT NULL);

-- What is counted without gaps, or must be above all that was: a row each, locked while it counts.
CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO counters VALUES ('record', 0), ('uid_validity', 0);
CREATE SEQUENCE account_numbers;
CREATE SEQUENCE mailbox_numbers;
CREATE SEQUENCE blob_numbers;
CREATE SEQUENCE job_numbers;
CREATE SEQUENCE infected_numbers;
CREATE SEQUENCE node_numbers;

CREATE TABLE accounts (
    id BIGINT PRIMARY KEY, address TEXT NOT NULL, user_id TEXT, owner BIGINT NOT NULL,
    role BIGINT NOT NULL, state BIGINT NOT NULL, phc TEXT, scram TEXT,
    octets_max BIGINT NOT NULL, messages_max BIGINT, reserve BIGINT NOT NULL,
    ordinary_mail TEXT, created BIGINT NOT NULL, octets BIGINT NOT NULL, messages BIGINT NOT NULL);
CREATE TABLE logins (login TEXT COLLATE \"C\" PRIMARY KEY, account BIGINT NOT NULL);
CREATE TABLE subscriptions (
    account BIGINT NOT NULL, name TEXT COLLATE \"C\" NOT NULL, PRIMARY KEY (account, name));
CREATE TABLE annotations (
    account BIGINT NOT NULL, mailbox BIGINT NOT NULL, entry TEXT COLLATE \"C\" NOT NULL,
    value BYTEA NOT NULL, PRIMARY KEY (account, mailbox, entry));

-- `keywords` are those that messages in it have or had; `touched` is when it changed last, for nodes
-- that did not hear of it.
CREATE TABLE mailboxes (
    id BIGINT PRIMARY KEY, account BIGINT NOT NULL, name TEXT COLLATE \"C\" NOT NULL,
    special_use BIGINT, system BOOLEAN NOT NULL, uid_validity BIGINT NOT NULL,
    created BIGINT NOT NULL, uid_next BIGINT NOT NULL, mod_seq BIGINT NOT NULL,
    recent_from BIGINT NOT NULL, messages BIGINT NOT NULL, unseen BIGINT NOT NULL,
    recent BIGINT NOT NULL, deleted BIGINT NOT NULL, octets BIGINT NOT NULL,
    deleted_octets BIGINT NOT NULL, keywords TEXT[] NOT NULL, indexed_to BIGINT NOT NULL,
    touched TIMESTAMPTZ NOT NULL);
CREATE UNIQUE INDEX mailboxes_name ON mailboxes (account, name);

CREATE TABLE messages (
    mailbox BIGINT NOT NULL, uid BIGINT NOT NULL, flags BIGINT NOT NULL, keywords TEXT[],
    mod_seq BIGINT NOT NULL, octets BIGINT NOT NULL, received BIGINT NOT NULL,
    saved BIGINT NOT NULL, blob BIGINT NOT NULL, PRIMARY KEY (mailbox, uid));
CREATE INDEX messages_mod_seq ON messages (mailbox, mod_seq);
CREATE INDEX messages_deleted ON messages (mailbox, uid) WHERE flags & 8 <> 0;
CREATE INDEX messages_unseen ON messages (mailbox, uid) WHERE flags & 1 = 0;
-- UIDs that went, as ranges. Kept as long as the mailbox, so that every change can be told.
CREATE TABLE expunged (
    mailbox BIGINT NOT NULL, mod_seq BIGINT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL,
    PRIMARY KEY (mailbox, mod_seq, first));

-- What messages, jobs and the quarantine refer to: each reference counts once in `refs`. The octets
-- are at `start` of `object`; `chunks` says how each 64 KiB of them lie there (`chunks.rs`).
CREATE TABLE blobs (
    id BIGINT PRIMARY KEY, octets BIGINT NOT NULL, refs BIGINT NOT NULL,
    object TEXT COLLATE \"C\" NOT NULL, start BIGINT NOT NULL, chunks BYTEA NOT NULL);
CREATE INDEX blobs_object ON blobs (object);
-- Objects in which a blob died, and when.
CREATE TABLE garbage (object TEXT COLLATE \"C\" PRIMARY KEY, since TIMESTAMPTZ NOT NULL);
CREATE INDEX garbage_since ON garbage (since);
-- One row of each transaction for a while: that it was kept, for who lost the answer. Its number would not do,
-- for a database that died may give the number of one that was lost to another.
CREATE TABLE verdicts (token BIGINT PRIMARY KEY, made TIMESTAMPTZ NOT NULL DEFAULT now());
CREATE INDEX verdicts_made ON verdicts (made);
-- What was made of octets, for speed, and the texts in them by account: they go with them.
CREATE TABLE digests (blob BIGINT PRIMARY KEY, digest BYTEA NOT NULL);
CREATE TABLE texts (
    blob BIGINT NOT NULL, account BIGINT NOT NULL, header TEXT, body TEXT,
    PRIMARY KEY (blob, account));
CREATE INDEX texts_account ON texts (account);

-- Whoever has the store open. A node is alive until then by the database's clock, unless it says so
-- again; `serves` when it is no single command.
CREATE TABLE nodes (
    id BIGINT PRIMARY KEY, alive_until TIMESTAMPTZ NOT NULL, serves BOOLEAN NOT NULL);
-- A job of the pipeline has no destination; in a lane jobs go by class, then by turn. `node` is who
-- took it: as long as that one is alive nobody else does.
CREATE TABLE jobs (
    id BIGINT PRIMARY KEY, due BIGINT NOT NULL, queued BIGINT NOT NULL, attempts BIGINT NOT NULL,
    last_error TEXT, payload BYTEA NOT NULL, blob BIGINT, destination TEXT COLLATE \"C\",
    class BIGINT, account TEXT, turn BIGINT, node BIGINT);
CREATE INDEX jobs_due ON jobs (due) WHERE destination IS NULL;
CREATE INDEX jobs_lane ON jobs (destination, class, turn, id) WHERE destination IS NOT NULL;
CREATE INDEX jobs_turn ON jobs (destination, class, account, turn) WHERE destination IS NOT NULL;
CREATE INDEX jobs_age ON jobs (destination, queued, id) WHERE destination IS NOT NULL;

CREATE TABLE tracker (
    identificativo TEXT COLLATE \"C\" NOT NULL, recipient_key TEXT COLLATE \"C\" NOT NULL,
    recipient TEXT NOT NULL, state BIGINT NOT NULL, sent BIGINT NOT NULL, since BIGINT NOT NULL,
    PRIMARY KEY (identificativo, recipient_key));
-- What notices about a message need, while `open` of its recipients are not closed.
CREATE TABLE followed (
    identificativo TEXT COLLATE \"C\" PRIMARY KEY, open BIGINT NOT NULL, about BYTEA NOT NULL);
CREATE TABLE deadlines (
    identificativo TEXT COLLATE \"C\" NOT NULL, recipient_key TEXT COLLATE \"C\" NOT NULL,
    due BIGINT NOT NULL, second BIGINT NOT NULL, PRIMARY KEY (identificativo, recipient_key));
CREATE INDEX deadlines_due ON deadlines (due, identificativo, recipient_key);
CREATE TABLE marks (key BYTEA PRIMARY KEY, value BYTEA NOT NULL, made BIGINT NOT NULL);
CREATE INDEX marks_made ON marks (made);
CREATE TABLE quarantine (
    id BIGINT PRIMARY KEY, found BIGINT NOT NULL, keep_until BIGINT NOT NULL, blob BIGINT NOT NULL,
    infection TEXT NOT NULL);
CREATE INDEX quarantine_end ON quarantine (keep_until, id);

-- `record` holds the canonical octets, and `leaf` their hash, both of the commit of the event: what
-- is sealed. All else about a record is there to find it.
CREATE TABLE log (
    number BIGINT PRIMARY KEY, time BIGINT NOT NULL, identificativo TEXT, record BYTEA NOT NULL,
    leaf BYTEA NOT NULL);
CREATE INDEX log_time ON log (time, number);
CREATE TABLE log_identifiers (
    identifier TEXT COLLATE \"C\" NOT NULL, number BIGINT NOT NULL,
    PRIMARY KEY (identifier, number));
CREATE TABLE log_parties (
    party TEXT COLLATE \"C\" NOT NULL, time BIGINT NOT NULL, number BIGINT NOT NULL,
    PRIMARY KEY (party, time, number));
-- `first` and `records` repeat what the signed statement says, to find the seal of a record.
CREATE TABLE seals (
    number BIGINT PRIMARY KEY, first BIGINT NOT NULL, records BIGINT NOT NULL,
    statement BYTEA NOT NULL, signature BYTEA NOT NULL, chunks BYTEA NOT NULL, stamp BYTEA,
    expired BIGINT);
CREATE INDEX seals_first ON seals (first);
CREATE INDEX seals_unstamped ON seals (number) WHERE stamp IS NULL;
";

/// What was moved of which octets, until the store is filled: the hash of what the source had.
const MOVED: &str =
    "CREATE TABLE IF NOT EXISTS moved (blob BIGINT PRIMARY KEY, hash BYTEA NOT NULL)";

/// Makes the tables where there are none, and brings them up to date where there are. The store's name.
pub(super) fn make(db: &Db, schema: &str) -> Result<String, StoreError> {
    locked(db, || {
        let Some(name) = look(db, schema)? else { return create(db, schema, FORMAT) };
        upgrade(db, schema)?;
        db.execute("UPDATE format SET version = $1 WHERE version = $2", &[&FORMAT, &FORMAT_1])?;
        Ok(name)
    })
}

/// The columns of tables of format 1 get the names of today. What they hold is read in either form.
fn upgrade(db: &Db, schema: &str) -> Result<(), StoreError> {
    let old = "SELECT 1 FROM information_schema.columns
               WHERE table_schema = $1 AND table_name = 'blobs' AND column_name = 'crcs'";
    match db.first(old, &[&schema])? {
        Some(_) => db.batch("ALTER TABLE blobs RENAME COLUMN crcs TO chunks"),
        None => Ok(()),
    }
}

/// Makes the tables of a store that no node opens before it is [`filled`]; or finds those that were made so.
pub(super) fn begin_filling(db: &Db, schema: &str) -> Result<String, StoreError> {
    locked(db, || {
        if !is_there(db, schema)? {
            let name = create(db, schema, FILLING)?;
            return db.batch(MOVED).map(|()| name);
        }
        db.batch(MOVED)?;
        match db.first("SELECT store FROM format WHERE version = $1", &[&FILLING])? {
            Some(row) => {
                upgrade(db, schema)?;
                get(&row, 0)
            }
            None => Err(StoreError::Medium(format!("there is a store in {schema} already"))),
        }
    })
}

/// From the commit on nodes open it.
pub(super) fn filled(db: &Db) -> Result<(), StoreError> {
    db.batch("DROP TABLE moved")?;
    match db.execute("UPDATE format SET version = $1 WHERE version = $2", &[&FORMAT, &FILLING])? {
        1 => Ok(()),
        _ => Err(StoreError::Medium("somebody else filled it meanwhile".into())),
    }
}

/// From now on nobody else opens the store, as long as this connection lives.
pub(super) fn lock_out(db: &Db) -> Result<(), StoreError> {
    db.query("SELECT pg_advisory_lock($1)", &[&LOCK]).map(drop)
}

/// Does something while nobody else makes tables.
fn locked<T>(db: &Db, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    db.transaction("BEGIN", || {
        db.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
        work()
    })
}

fn create(db: &Db, schema: &str, version: i64) -> Result<String, StoreError> {
    db.batch(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""))?;
    db.batch(TABLES)?;
    let name = "INSERT INTO format VALUES ($1, gen_random_uuid()::text) RETURNING store";
    let row = db.first(name, &[&version])?;
    row.map_or_else(|| Err(StoreError::Medium("the store has no name".into())), |row| get(&row, 0))
}

fn is_there(db: &Db, schema: &str) -> Result<bool, StoreError> {
    let known = "SELECT count(*) FROM pg_tables WHERE schemaname = $1 AND tablename = 'format'";
    let known = db.first(known, &[&schema])?;
    Ok(known.map(|row| get::<i64>(&row, 0)).transpose()? != Some(0))
}

/// The store's name, when its tables are there and this program knows them.
pub(super) fn look(db: &Db, schema: &str) -> Result<Option<String>, StoreError> {
    if !is_there(db, schema)? {
        return Ok(None);
    }
    let row = db.first("SELECT version FROM format", &[])?;
    let version = row.map(|row| get::<i64>(&row, 0)).transpose()?;
    match version {
        Some(FORMAT | FORMAT_1) => {
            db.first("SELECT store FROM format", &[])?.map(|row| get(&row, 0)).transpose()
        }
        Some(FILLING) => Err(StoreError::Medium(format!(
            "what is in {schema} was begun by `store migrate`, which has not ended: run that again"
        ))),
        Some(version) => Err(StoreError::Medium(format!(
            "the tables in {schema} have format {version}, this program knows {FORMAT}"
        ))),
        None => Err(StoreError::Medium(format!("the tables in {schema} do not tell their format"))),
    }
}

/// Whether a name can be that of a schema: it is written into statements.
pub(super) fn is_name(text: &str) -> bool {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    !text.is_empty() && text.len() <= 40 && text.bytes().all(letters)
}
