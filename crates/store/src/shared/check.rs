//! Looking a shared store over: octets against their checksums, and the tables against themselves.
//!
//! It changes nothing, and does its work beside the gateways: octets one message after the other, the tables in
//! one snapshot of the database, a page at a time. As long as that lasts the database keeps what was removed meanwhile.

use std::collections::{BTreeMap, HashSet};

use super::connection::{Db, Pool, SNAPSHOT, get, number};
use super::octets::{self, Medium};
use super::opening::{self, Options};
use super::{clamp, plain, schema};
use crate::checked::{Checked, Part, Seen, Told};
use crate::rules::key;
use crate::{BlobId, StoreError};

/// Accounts or mailboxes that one statement looks at.
const PAGE: usize = 1_000;
/// Rows that are read at a time.
const ROWS: usize = 10_000;
/// Octets of a message that are read at a time.
const READ_OCTETS: u64 = 4 * 1024 * 1024;
/// Messages named with octets that are damaged.
const HOLDERS_NAMED: usize = 3;
/// Octets that are damaged, whose messages are looked for; the rest is named by its number alone.
const DAMAGED_MAX: usize = 10_000;

/// What must hold of accounts and mailboxes whose numbers are above `$1` and up to `$2`: each row is a finding, a
/// sentence in its first column. The figures are those of RFC 9051 §6.3.11 (STATUS) and of RFC 9208 §5
/// (quotas), which are kept and not counted when asked for.
const RULES: &[(&str, Part, &str)] = &[
    (
        "accounts",
        Part::Account,
        "SELECT 'account ' || a.address || ' says ' || a.octets || ' octets in ' || a.messages
             || ' messages, its mailboxes hold ' || coalesce(sum(b.octets), 0) || ' in '
             || coalesce(sum(b.messages), 0)
         FROM accounts a LEFT JOIN mailboxes b ON b.account = a.id
         WHERE a.id > $1 AND a.id <= $2 GROUP BY a.id
         HAVING a.octets <> coalesce(sum(b.octets), 0)
             OR a.messages <> coalesce(sum(b.messages), 0)",
    ),
    (
        "mailboxes",
        Part::Mailbox,
        "SELECT 'mailbox ' || id || ' is of account ' || account || ', which is not there'
         FROM mailboxes b WHERE id > $1 AND id <= $2
             AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.id = b.account)",
    ),
    (
        "mailboxes",
        Part::Mailbox,
        "SELECT 'mailbox ' || id || ' (' || name || ') says ' || messages || ' messages, ' || octets
             || ' octets, ' || unseen || ' unseen, ' || recent || ' recent, ' || deleted
             || ' deleted of ' || deleted_octets || ' octets; counted: ' || n || ', ' || o || ', '
             || u || ', ' || r || ', ' || d || ', ' || x
         FROM (SELECT b.*, count(m.uid) AS n, coalesce(sum(m.octets), 0) AS o,
                   count(*) FILTER (WHERE m.flags & 1 = 0) AS u,
                   count(*) FILTER (WHERE m.uid >= b.recent_from) AS r,
                   count(*) FILTER (WHERE m.flags & 8 <> 0) AS d,
                   coalesce(sum(m.octets) FILTER (WHERE m.flags & 8 <> 0), 0) AS x
               FROM mailboxes b LEFT JOIN messages m ON m.mailbox = b.id
               WHERE b.id > $1 AND b.id <= $2 GROUP BY b.id) AS counted
         WHERE (messages, octets, unseen, recent, deleted, deleted_octets) <> (n, o, u, r, d, x)",
    ),
    (
        "mailboxes",
        Part::Mailbox,
        "SELECT 'mailbox ' || b.id || ' (' || b.name || ') gives UID ' || b.uid_next
             || ' next and has a message with UID ' || max(m.uid)
         FROM mailboxes b JOIN messages m ON m.mailbox = b.id WHERE b.id > $1 AND b.id <= $2
         GROUP BY b.id HAVING max(m.uid) >= b.uid_next",
    ),
    (
        "mailboxes",
        Part::Mailbox,
        "SELECT 'mailbox ' || b.id || ' (' || b.name || ') has MODSEQ ' || b.mod_seq
             || ' and a message with ' || max(m.mod_seq)
         FROM mailboxes b JOIN messages m ON m.mailbox = b.id WHERE b.id > $1 AND b.id <= $2
         GROUP BY b.id HAVING max(m.mod_seq) > b.mod_seq",
    ),
    (
        "mailboxes",
        Part::Message,
        "SELECT 'message ' || m.uid || ' of mailbox ' || m.mailbox
             || ' is there and told to be expunged'
         FROM expunged e JOIN messages m ON m.mailbox = e.mailbox AND m.uid BETWEEN e.first AND e.last
         WHERE e.mailbox > $1 AND e.mailbox <= $2",
    ),
    (
        "mailboxes",
        Part::Message,
        "SELECT 'message ' || m.uid || ' of mailbox ' || m.mailbox || ' is charged ' || m.octets
             || ' octets and has ' || b.octets
         FROM messages m JOIN blobs b ON b.id = m.blob
         WHERE m.mailbox > $1 AND m.mailbox <= $2 AND m.octets <> b.octets",
    ),
];

/// Looks over the shared store of `options`, and tells what it sees.
///
/// # Errors
///
/// [`StoreError::Medium`] when there is none, or when it is of a format that is not known;
/// [`StoreError::Unavailable`] when the database or what octets are on does not answer.
pub fn check(options: &Options, tell: &mut dyn FnMut(Seen)) -> Result<Checked, StoreError> {
    let (io, pool) = opening::pool(options)?;
    let medium = opening::medium(options, 0, io)?;
    let name = pool.with(|db| schema::look(db, &options.schema))?;
    let name = name.ok_or_else(|| {
        StoreError::Medium(format!("there is no store in the schema {}", options.schema))
    })?;
    let has_octets = pool.with(opening::has_octets)?;
    opening::is_of(medium.owner()?.as_deref(), Some(&name), has_octets)?;
    let mut told = Told::new(tell);
    let damaged = read_all(&pool, &*medium, &mut told)?;
    pool.with(|db| db.transaction(SNAPSHOT, || tables(db, damaged, &mut told)))?;
    Ok(told.checked)
}

/// Octets that cannot be read, and why.
type Damaged = BTreeMap<i64, String>;

/// Reads all octets that there are.
fn read_all(pool: &Pool, medium: &dyn Medium, told: &mut Told<'_>) -> Result<Damaged, StoreError> {
    let sum = "SELECT coalesce(sum(octets), 0)::bigint FROM blobs";
    let all = pool.with(|db| db.first(sum, &[])?.map_or(Ok(0), |row| number(&row, 0)))?;
    let mut damaged = Damaged::new();
    let mut last = 0_i64;
    loop {
        let page = "SELECT id, octets FROM blobs WHERE id > $1 ORDER BY id LIMIT $2";
        let rows = pool.with(|db| db.query(page, &[&last, &clamp(ROWS)]))?;
        let Some(end) = rows.last() else { return Ok(damaged) };
        last = get(end, 0)?;
        for row in &rows {
            let (blob, length) = (get::<i64>(row, 0)?, number(row, 1)?);
            match read_one(pool, medium, blob, length) {
                Ok(()) => {}
                Err(error @ (StoreError::Medium(_) | StoreError::NoSuchMessage)) => {
                    let there = "SELECT 1 FROM blobs WHERE id = $1";
                    // Expunged meanwhile?
                    if pool.with(|db| Ok(db.first(there, &[&blob])?.is_some()))? {
                        let why = match error {
                            StoreError::Medium(why) => why,
                            _ => "what they lie on is not there".to_owned(),
                        };
                        match damaged.len() < DAMAGED_MAX {
                            true => drop(damaged.insert(blob, why)),
                            false => told.finding(Part::Octets, format!("blob {blob}: {why}")),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
            told.checked.octets += length;
            (told.tell)(Seen::Progress(told.checked.octets.min(all), all));
        }
    }
}

fn read_one(pool: &Pool, medium: &dyn Medium, blob: i64, length: u64) -> Result<(), StoreError> {
    let mut start = 0;
    while start < length {
        let end = length.min(start + READ_OCTETS);
        let located =
            pool.with(|db| octets::locate(db, BlobId(blob.cast_unsigned()), start, end))?;
        if octets::read(medium, located)?.len() as u64 != end - start {
            return Err(StoreError::Medium("they are not as many as they should be".into()));
        }
        start = end;
    }
    Ok(())
}

/// Looks at the tables, in the snapshot that is open.
fn tables(db: &Db, damaged: Damaged, told: &mut Told<'_>) -> Result<(), StoreError> {
    for table in ["accounts", "mailboxes"] {
        let mut from = 0_i64;
        let page = format!(
            "SELECT max(id) FROM (SELECT id FROM {table} WHERE id > $1 ORDER BY id LIMIT $2) AS page"
        );
        while let Some(row) = db.first(&page, &[&from, &clamp(PAGE)])?
            && let Some(until) = get::<Option<i64>>(&row, 0)?
        {
            for (_, part, sql) in RULES.iter().filter(|(of, _, _)| *of == table) {
                for row in db.query(sql, &[&from, &until])? {
                    told.finding(*part, get(&row, 0)?);
                }
            }
            if table == "accounts" {
                logins(db, from, until, told)?;
            }
            from = until;
        }
    }
    references(db, damaged, told)
}

/// Each of these accounts can be signed in to by its address.
fn logins(db: &Db, from: i64, until: i64, told: &mut Told<'_>) -> Result<(), StoreError> {
    let all = "SELECT id, address FROM accounts WHERE id > $1 AND id <= $2";
    let mut all = db
        .query(all, &[&from, &until])?
        .iter()
        .map(|row| Ok((get::<i64>(row, 0)?, get::<String>(row, 1)?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let name = |address: &str| plain(&key(address)).into_owned();
    let names: Vec<_> = all.iter().map(|(_, address)| name(address)).collect();
    let there = "SELECT login, account FROM logins WHERE login = ANY($1)";
    let there = db
        .query(there, &[&names])?
        .iter()
        .map(|row| Ok((get::<String>(row, 0)?, get::<i64>(row, 1)?)))
        .collect::<Result<HashSet<_>, StoreError>>()?;
    all.retain(|(account, address)| !there.contains(&(name(address), *account)));
    for (_, address) in all {
        let text = format!("nobody can sign in as {address}: the name is not there");
        told.finding(Part::Account, text);
    }
    Ok(())
}

/// Octets are counted as often as messages, jobs and the quarantine refer to them, and are there.
fn references(db: &Db, damaged: Damaged, told: &mut Told<'_>) -> Result<(), StoreError> {
    let last = "SELECT coalesce(max(id), 0)::bigint FROM blobs";
    let last = db.first(last, &[])?.map_or(Ok(0), |row| number(&row, 0))?;
    // By number: four octets for each up to the last.
    let mut counted = vec![0_u32; usize::try_from(last).unwrap_or(0) + 1];
    let mut holders: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let mut refer = |blob: i64, who: &dyn Fn() -> String, told: &mut Told<'_>| {
        match usize::try_from(blob).ok().and_then(|at| counted.get_mut(at)) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                let text = format!("{} has no octets: blob {blob} is not there", who());
                told.finding(Part::Message, text);
            }
        }
        if damaged.contains_key(&blob) {
            let named = holders.entry(blob).or_default();
            if named.len() < HOLDERS_NAMED {
                named.push(who());
            }
        }
    };
    let (mut mailbox, mut uid) = (0_i64, 0_i64);
    loop {
        let page = "SELECT mailbox, uid, blob FROM messages WHERE (mailbox, uid) > ($1, $2)
                    ORDER BY mailbox, uid LIMIT $3";
        let rows = db.query(page, &[&mailbox, &uid, &clamp(ROWS)])?;
        if rows.is_empty() {
            break;
        }
        told.checked.messages += rows.len() as u64;
        for row in &rows {
            let next: i64 = get(row, 0)?;
            let there = "SELECT 1 FROM mailboxes WHERE id = $1";
            if next != mailbox && db.first(there, &[&next])?.is_none() {
                let text = format!("there are messages in mailbox {next}, which is not there");
                told.finding(Part::Message, text);
            }
            (mailbox, uid) = (next, get(row, 1)?);
            refer(get(row, 2)?, &|| format!("message {uid} of mailbox {mailbox}"), told);
        }
    }
    for (table, name) in [("jobs", "job"), ("quarantine", "infected message")] {
        let page = format!(
            "SELECT id, blob FROM {table} WHERE id > $1 AND blob IS NOT NULL ORDER BY id LIMIT $2"
        );
        let mut last = 0_i64;
        loop {
            let rows = db.query(&page, &[&last, &clamp(ROWS)])?;
            let Some(end) = rows.last() else { break };
            last = get(end, 0)?;
            for row in &rows {
                let id: i64 = get(row, 0)?;
                refer(get(row, 1)?, &|| format!("{name} {id}"), told);
            }
        }
    }
    let mut from = 0_i64;
    loop {
        let page = "SELECT id, refs FROM blobs WHERE id > $1 ORDER BY id LIMIT $2";
        let rows = db.query(page, &[&from, &clamp(ROWS)])?;
        for row in &rows {
            let (blob, refs): (i64, i64) = (get(row, 0)?, get(row, 1)?);
            missing(&counted, from, blob, told);
            from = blob;
            let is = usize::try_from(blob).ok().and_then(|at| counted.get(at)).copied();
            if is.map(i64::from) != Some(refs) {
                let is = is.unwrap_or(0);
                let text =
                    format!("blob {blob} is said to be referred to {refs} times, and is {is}");
                told.finding(Part::References, text);
            }
            if let Some(why) = damaged.get(&blob) {
                let of = holders.remove(&blob).unwrap_or_default().join(", ");
                let of = if of.is_empty() { "nothing that is there".to_owned() } else { of };
                told.finding(Part::Octets, format!("blob {blob}: {why}; it is of {of}"));
            }
        }
        if rows.len() < ROWS {
            return Ok(());
        }
    }
}

/// Tells of numbers between two that are there which something refers to.
fn missing(counted: &[u32], from: i64, until: i64, told: &mut Told<'_>) {
    let place = |number: i64| usize::try_from(number).unwrap_or(0).min(counted.len());
    for (blob, count) in counted.iter().enumerate().take(place(until)).skip(place(from + 1)) {
        if *count > 0 {
            let text = format!("blob {blob} is referred to {count} times and is not there");
            told.finding(Part::References, text);
        }
    }
}
