//! Looking a store over: the index against itself, against the segments, and each octet against its
//! checksum. It changes nothing, and does its work beside a server that runs: the index is read in
//! one snapshot, the octets piece by piece, and what does not hold is looked at once more in what
//! the index says then.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::keys::{Keys, MasterKeys};
use super::octets::{self, Files, PART};
use super::opening::known_segments;
use super::record::{self, record_octets};
use super::{list, schema, segments};
use crate::StoreError;
use crate::checked::{Checked, Part, Seen, Told};

/// Findings of one kind that are named; of further ones only the number is told.
const NAMED_MAX: usize = 1000;
/// Records read between two looks at the index.
const BATCH_RECORDS: usize = 256;
/// Messages named with octets that are damaged.
const HOLDERS_NAMED: usize = 3;

/// A statement whose every row is a finding: a sentence in its first column.
struct Rule {
    part: Part,
    sql: &'static str,
}

/// What must hold within the index. Its figures are those of RFC 9051 §6.3.11 (STATUS) and of
/// RFC 9208 §5 (quotas), which are kept and not counted when asked for.
const RULES: &[Rule] = &[
    Rule {
        part: Part::Account,
        sql: "SELECT 'account ' || a.address || ' says ' || a.octets || ' octets in ' || a.messages
                || ' messages, its mailboxes hold ' || ifnull(sum(b.octets), 0) || ' in '
                || ifnull(sum(b.messages), 0)
              FROM accounts a LEFT JOIN mailboxes b ON b.account = a.id GROUP BY a.id
              HAVING a.octets <> ifnull(sum(b.octets), 0)
                  OR a.messages <> ifnull(sum(b.messages), 0)",
    },
    Rule {
        part: Part::Account,
        sql: "SELECT 'nobody can sign in as ' || address || ': the name is not there' FROM accounts
              WHERE NOT EXISTS (SELECT 1 FROM logins WHERE account = accounts.id)",
    },
    Rule {
        part: Part::Account,
        sql: "SELECT 'the login ' || login || ' is of account ' || account || ', which is not there'
              FROM logins WHERE account NOT IN (SELECT id FROM accounts)",
    },
    Rule {
        part: Part::Mailbox,
        sql: "SELECT 'mailbox ' || id || ' is of account ' || account || ', which is not there'
              FROM mailboxes WHERE account NOT IN (SELECT id FROM accounts)",
    },
    Rule {
        part: Part::Mailbox,
        sql: "SELECT 'mailbox ' || id || ' (' || name || ') says ' || messages || ' messages, '
                || octets || ' octets, ' || unseen || ' unseen, ' || recent || ' recent, ' || deleted
                || ' deleted of ' || deleted_octets || ' octets; counted: ' || n || ', ' || o || ', '
                || u || ', ' || r || ', ' || d || ', ' || x
              FROM (SELECT b.*, count(m.uid) n, ifnull(sum(m.octets), 0) o,
                      ifnull(sum(m.flags & 1 = 0), 0) u, ifnull(sum(m.uid >= b.recent_from), 0) r,
                      ifnull(sum(m.flags & 8 <> 0), 0) d,
                      ifnull(sum(CASE WHEN m.flags & 8 THEN m.octets END), 0) x
                    FROM mailboxes b LEFT JOIN messages m ON m.mailbox = b.id GROUP BY b.id)
              WHERE (messages, octets, unseen, recent, deleted, deleted_octets)
                    <> (n, o, u, r, d, x)",
    },
    Rule {
        part: Part::Mailbox,
        sql: "SELECT 'mailbox ' || b.id || ' (' || b.name || ') gives UID ' || b.uid_next
                || ' next and has a message with UID ' || max(m.uid)
              FROM mailboxes b JOIN messages m ON m.mailbox = b.id GROUP BY b.id
              HAVING max(m.uid) >= b.uid_next",
    },
    Rule {
        part: Part::Mailbox,
        sql: "SELECT 'mailbox ' || b.id || ' (' || b.name || ') has MODSEQ ' || b.mod_seq
                || ' and a message with ' || max(m.mod_seq)
              FROM mailboxes b JOIN messages m ON m.mailbox = b.id GROUP BY b.id
              HAVING max(m.mod_seq) > b.mod_seq",
    },
    Rule {
        part: Part::Message,
        sql: "SELECT 'message ' || m.uid || ' of mailbox ' || m.mailbox
                || ' is there and told to be expunged'
              FROM expunged e JOIN messages m
                ON m.mailbox = e.mailbox AND m.uid BETWEEN e.first AND e.last",
    },
    Rule {
        part: Part::Message,
        sql: "SELECT 'there are messages in mailbox ' || mailbox || ', which is not there'
              FROM messages WHERE mailbox NOT IN (SELECT id FROM mailboxes) GROUP BY mailbox",
    },
    Rule {
        part: Part::Message,
        sql: "SELECT 'message ' || m.uid || ' of mailbox ' || m.mailbox || ' has no octets: blob '
                || m.blob || ' is not there'
              FROM messages m LEFT JOIN blobs b ON b.id = m.blob WHERE b.id IS NULL",
    },
    Rule {
        part: Part::Message,
        sql: "SELECT 'message ' || m.uid || ' of mailbox ' || m.mailbox || ' is charged ' || m.octets
                || ' octets and has ' || b.octets
              FROM messages m JOIN blobs b ON b.id = m.blob WHERE m.octets <> b.octets",
    },
    Rule {
        part: Part::References,
        sql: "SELECT 'job ' || j.id || ' is about blob ' || j.blob || ', which is not there'
              FROM jobs j LEFT JOIN blobs b ON b.id = j.blob
              WHERE j.blob IS NOT NULL AND b.id IS NULL",
    },
    Rule {
        part: Part::Counters,
        sql: "SELECT 'the last ' || kind || ' given is ' || last || ', and there is ' || found
              FROM (SELECT 'account' kind, account last, (SELECT max(id) FROM accounts) found
                      FROM counters
                    UNION ALL SELECT 'mailbox', mailbox, (SELECT max(id) FROM mailboxes)
                      FROM counters
                    UNION ALL SELECT 'blob', blob, (SELECT max(id) FROM blobs) FROM counters
                    UNION ALL SELECT 'piece', piece, (SELECT max(id) FROM pieces) FROM counters
                    UNION ALL SELECT 'job', job, (SELECT max(id) FROM jobs) FROM counters
                    UNION ALL SELECT 'log record', record, (SELECT max(number) FROM log)
                      FROM counters)
              WHERE found > last",
    },
    Rule {
        part: Part::Counters,
        sql: "SELECT jobs || ' jobs are said to wait, and there are ' || n
              FROM counters, (SELECT count(*) n FROM jobs) WHERE jobs <> n",
    },
];

/// Looks over the store in `dir`, and tells what it sees. What is encrypted is decrypted with `keys`.
///
/// # Errors
///
/// [`StoreError::Medium`] when it cannot be read at all.
pub fn check(
    dir: &Path,
    keys: &MasterKeys,
    tell: &mut dyn FnMut(Seen),
) -> Result<Checked, StoreError> {
    let db = schema::viewer(&dir.join("index.db"))?;
    let files = Files::view(dir, Keys::view(&db, keys)?);
    let mut told = Told::new(tell);
    database(&db, &mut told)?;
    db.execute_batch("BEGIN")?;
    rules(&db, &mut told)?;
    references(&db, &mut told)?;
    pieces(&db, &mut told)?;
    segments_hold(&db, &files, &mut told)?;
    let total: i64 = db.query_row("SELECT ifnull(sum(stored), 0) FROM pieces", [], |r| r.get(0))?;
    told.checked.messages =
        db.query_row("SELECT count(*) FROM messages", [], |r| r.get(0).map(i64::cast_unsigned))?;
    db.execute_batch("COMMIT")?;
    let mut after = 0;
    while let Some(batch) = verify(&db, &files, after)? {
        after = batch.last;
        told.checked.octets += batch.octets;
        for (blob, why) in batch.damaged {
            told.finding(Part::Octets, damage(&db, blob, &why)?);
        }
        (told.tell)(Seen::Progress(told.checked.octets, total.cast_unsigned()));
    }
    Ok(told.checked)
}

impl Told<'_> {
    /// Every row of a statement, the first so many by name.
    fn rows(&mut self, db: &Connection, part: Part, sql: &str) -> Result<(), StoreError> {
        let mut get = db.prepare(sql)?;
        let mut rows = get.query([])?;
        let mut more: u64 = 0;
        let mut named = 0;
        while let Some(row) = rows.next()? {
            if named < NAMED_MAX {
                self.finding(part, row.get(0)?);
                named += 1;
            } else {
                more += 1;
            }
        }
        if more > 0 {
            self.finding(part, format!("and {more} more of this kind"));
            self.checked.findings += more - 1;
        }
        Ok(())
    }
}

fn database(db: &Connection, told: &mut Told<'_>) -> Result<(), StoreError> {
    let mut get = db.prepare("PRAGMA integrity_check(100)")?;
    let mut rows = get.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            told.finding(Part::Index, line);
        }
    }
    Ok(())
}

fn rules(db: &Connection, told: &mut Told<'_>) -> Result<(), StoreError> {
    RULES.iter().try_for_each(|rule| told.rows(db, rule.part, rule.sql))
}

/// Each blob is counted as often as it is referred to, by whatever keeps octets.
fn references(db: &Connection, told: &mut Told<'_>) -> Result<(), StoreError> {
    let holders = schema::BLOB_HOLDERS.iter().map(|(table, column)| {
        format!("SELECT {column} blob FROM {table} WHERE {column} IS NOT NULL")
    });
    let all = holders.collect::<Vec<_>>().join(" UNION ALL ");
    let sql = format!(
        "SELECT 'blob ' || b.id || ' is said to be referred to ' || b.refs || ' times, and is '
             || ifnull(r.n, 0)
         FROM blobs b LEFT JOIN (SELECT blob, count(*) n FROM ({all}) GROUP BY blob) r
           ON r.blob = b.id
         WHERE b.refs <> ifnull(r.n, 0)"
    );
    told.rows(db, Part::References, &sql)
}

/// Each list names pieces that are there, as long as it says, and all of it is as long as the blob;
/// each piece is counted as often as it is in a list.
fn pieces(db: &Connection, told: &mut Told<'_>) -> Result<(), StoreError> {
    let last: i64 = db.query_row("SELECT ifnull(max(id), 0) FROM pieces", [], |row| row.get(0))?;
    // By number: four octets for each that was ever given.
    let mut counted = vec![0_u32; usize::try_from(last).unwrap_or(0) + 1];
    let mut find = db.prepare("SELECT octets FROM pieces WHERE id = ?")?;
    let mut get = db.prepare("SELECT id, octets, pieces FROM blobs")?;
    let mut rows = get.query([])?;
    while let Some(row) = rows.next()? {
        let (blob, octets): (i64, i64) = (row.get(0)?, row.get(1)?);
        let Ok(list) = list::read(&row.get::<_, Vec<u8>>(2)?) else {
            told.finding(Part::References, format!("blob {blob} has no list of its pieces"));
            continue;
        };
        if list.iter().map(|(_, octets)| *octets).sum::<u64>() != octets.cast_unsigned() {
            let text = format!("blob {blob} has {octets} octets, and its pieces another number");
            told.finding(Part::References, text);
        }
        for (piece, octets) in list {
            let found: Option<i64> =
                find.query_row([piece.cast_signed()], |row| row.get(0)).optional()?;
            match found {
                None => {
                    let text = format!("blob {blob} is made of piece {piece}, which is not there");
                    told.finding(Part::References, text);
                }
                Some(found) if found.cast_unsigned() != octets => {
                    let text = format!("piece {piece} of blob {blob} is not {octets} octets long");
                    told.finding(Part::References, text);
                }
                Some(_) => {
                    if let Some(count) =
                        usize::try_from(piece).ok().and_then(|at| counted.get_mut(at))
                    {
                        *count += 1;
                    }
                }
            }
        }
    }
    let mut get = db.prepare("SELECT id, refs FROM pieces")?;
    let mut rows = get.query([])?;
    while let Some(row) = rows.next()? {
        let (piece, refs): (i64, i64) = (row.get(0)?, row.get(1)?);
        let is = usize::try_from(piece).ok().and_then(|at| counted.get(at)).copied().unwrap_or(0);
        if i64::from(is) != refs {
            let text = format!("piece {piece} is said to be in {refs} places, and is in {is}");
            told.finding(Part::References, text);
        }
    }
    Ok(())
}

/// The segments are as long as the index says, and what is in use in them is what it says; no
/// record begins before another ends.
fn segments_hold(db: &Connection, files: &Files, told: &mut Told<'_>) -> Result<(), StoreError> {
    for (number, end) in known_segments(db)? {
        match fs::metadata(segments::path(&files.segments, number)) {
            Ok(file) if file.len() >= end => {}
            Ok(file) => {
                let text = format!("segment {number:08x} has {} octets of {end}", file.len());
                told.finding(Part::Segment, text);
            }
            Err(error) if is_gone(&error) && !known_now(db, number)? => {}
            Err(error) => told.finding(Part::Segment, format!("segment {number:08x}: {error}")),
        }
        let (mut live, mut free_from) = (0, 0);
        let get = "SELECT id, start, stored FROM pieces WHERE segment = ? ORDER BY start";
        let mut get = db.prepare(get)?;
        let mut rows = get.query([number.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let [id, start, octets] =
                [row.get(0)?, row.get(1)?, row.get(2)?].map(i64::cast_unsigned);
            if start < free_from || start + record_octets(octets) > end {
                let text = format!("piece {id} has no place of its own in segment {number:08x}");
                told.finding(Part::Segment, text);
            }
            free_from = start + record_octets(octets);
            live += record_octets(octets);
        }
        let get = "SELECT live FROM segments WHERE id = ?";
        let said: i64 = db.query_row(get, [number.cast_signed()], |row| row.get(0))?;
        if said != live.cast_signed() {
            let text = format!("segment {number:08x} says {said} octets in use, and has {live}");
            told.finding(Part::Segment, text);
        }
    }
    told.rows(
        db,
        Part::Segment,
        "SELECT 'piece ' || id || ' is in segment ' || segment || ', which the index does not know'
         FROM pieces WHERE segment <> 0 AND segment NOT IN (SELECT id FROM segments)",
    )
}

fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// Whether the index of this instant knows a segment: the one of the snapshot may have gone since.
fn known_now(snapshot: &Connection, segment: u64) -> Result<bool, StoreError> {
    let Some(path) = snapshot.path() else { return Ok(true) };
    let db = schema::viewer(Path::new(path))?;
    let mut get = db.prepare("SELECT 1 FROM segments WHERE id = ?")?;
    Ok(get.exists([segment.cast_signed()])?)
}

/// What was read in one go.
pub(super) struct Batch {
    /// The number of the last.
    pub(super) last: u64,
    /// Octets read.
    pub(super) octets: u64,
    /// What does not have its checksum, or is not there; and why.
    pub(super) damaged: Vec<(u64, String)>,
}

/// Reads stored octets with numbers above `after`, some of them; nothing when there are no more.
/// What was moved or let go of meanwhile is looked for once more.
pub(super) fn verify(
    db: &Connection,
    files: &Files,
    after: u64,
) -> Result<Option<Batch>, StoreError> {
    let get = format!("SELECT {PART}, hash FROM pieces WHERE id > ? ORDER BY id LIMIT ?");
    let mut get = db.prepare_cached(&get)?;
    let mut rows = get.query((after.cast_signed(), BATCH_RECORDS as i64))?;
    let mut pieces = Vec::new();
    while let Some(row) = rows.next()? {
        let hash: Option<Vec<u8>> = row.get(6)?;
        pieces.push((octets::Part::of(row)?, hash));
    }
    let Some((last, _)) = pieces.last() else { return Ok(None) };
    let mut batch = Batch { last: last.number, octets: 0, damaged: Vec::new() };
    for (piece, hash) in pieces {
        batch.octets += piece.stored;
        if read_piece(files, &piece, hash.as_deref()).is_ok() {
            continue;
        }
        // Again, at the place where it is now.
        let now = match octets::Part::find(db, piece.number) {
            Err(StoreError::NoSuchMessage) => continue,
            now => now?,
        };
        // One that was encrypted since has another hash, or none.
        let hash = hash.filter(|_| now.codec == piece.codec);
        if let Err(why) = read_piece(files, &now, hash.as_deref()) {
            batch.damaged.push((piece.number, why));
        }
    }
    Ok(Some(batch))
}

/// Reads a piece bit by bit, so that one of any size takes little memory: one from format 2 may be
/// large, and has no hash.
fn read_piece(files: &Files, piece: &octets::Part, hash: Option<&[u8]>) -> Result<(), String> {
    let path = match piece.place.segment {
        0 => files.large_path(piece.number).1,
        number => segments::path(&files.segments, number),
    };
    let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let header = record::read_header(&file, piece.place.start);
    if header.map_err(|error| error.to_string())? != Some(piece.header()) {
        return Err("the header is not that of these octets".to_owned());
    }
    let (mut at, mut hasher) = (0, files.keys.hasher());
    while at < piece.octets {
        let until = (at + 16 * record::CHUNK_OCTETS).min(piece.octets);
        let read = piece.read(&file, &files.keys, at..until).map_err(|error| error.to_string())?;
        hasher.update(&read);
        at = until;
    }
    match hash {
        // What is not encrypted yet has the hash that it had.
        Some(hash)
            if piece.codec.sealed == files.keys.encrypt()
                && hasher.finalize().as_bytes() != hash =>
        {
            Err("the octets do not have their hash".to_owned())
        }
        _ => Ok(()),
    }
}

/// A sentence that says what is damaged, and where it is seen.
pub(super) fn damage(db: &Connection, piece: u64, why: &str) -> Result<String, StoreError> {
    let mut text = format!("piece {piece} is damaged: {why}");
    let mut blobs = Vec::new();
    let mut get = db.prepare("SELECT id, pieces FROM blobs")?;
    let mut rows = get.query([])?;
    while blobs.len() < HOLDERS_NAMED
        && let Some(row) = rows.next()?
    {
        let list = list::read(&row.get::<_, Vec<u8>>(1)?).unwrap_or_default();
        if list.iter().any(|(number, _)| *number == piece) {
            blobs.push(row.get::<_, i64>(0)?);
        }
    }
    for blob in blobs {
        let get = "SELECT a.address, b.name, m.uid FROM messages m
                   JOIN mailboxes b ON b.id = m.mailbox JOIN accounts a ON a.id = b.account
                   WHERE m.blob = ? LIMIT ?";
        let mut get = db.prepare(get)?;
        let mut rows = get.query((blob, HOLDERS_NAMED as i64))?;
        while let Some(row) = rows.next()? {
            let (address, mailbox): (String, String) = (row.get(0)?, row.get(1)?);
            text += &format!("; {address}, {mailbox}, UID {}", row.get::<_, i64>(2)?);
        }
        let job: Option<i64> = db
            .query_row("SELECT id FROM jobs WHERE blob = ?", [blob], |row| row.get(0))
            .optional()?;
        if let Some(job) = job {
            text += &format!("; job {job}");
        }
    }
    Ok(text)
}
