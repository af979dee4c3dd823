//! What nothing refers to any more, and goes.
//!
//! An object in which a blob died is looked at a while later, when no reader can still be on its way
//! to it. Objects that no transaction came to name, because its node died before, are looked for
//! among all there are.
//!
//! What is so old that it may go is named by no transaction that begins now ([`Place::quiet`](super::Place::quiet));
//! one that is open still may have asked the last time before and be at its commit, so nothing goes before all that
//! are open have ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::connection::{Db, Pool, get};
use super::hold::Leases;
use super::octets::Medium;
use crate::{Compacted, StoreError, Upkeep};

/// Objects that are looked at in one sweep.
const AT_ONCE: i64 = 100;
/// How long an object stays after something in it died.
const REST_SECS: f64 = 60.0;
/// How long a sweep waits for transactions that are open: else it is the next one's turn.
const OPEN_TIME_MAX: Duration = Duration::from_secs(3);

/// What was done since the store was opened.
#[derive(Default)]
pub(super) struct Done {
    freed_octets: AtomicU64,
}

impl Done {
    pub(super) fn told(&self) -> Upkeep {
        let freed_octets = self.freed_octets.load(Ordering::Relaxed);
        Upkeep { freed_octets, ..Upkeep::default() }
    }
}

/// Whether it waits for its sweep: somebody may still read from it.
fn waits(db: &Db, object: &str) -> Result<bool, StoreError> {
    Ok(db.first("SELECT 1 FROM garbage WHERE object = $1", &[&object])?.is_some())
}

/// Whether all transactions that could have changed something when this was called have ended.
fn have_ended(pool: &Pool) -> Result<bool, StoreError> {
    let open = "SELECT txid_snapshot_xmin(now), txid_snapshot_xmax(now)
                FROM txid_current_snapshot() AS now";
    let ask = || {
        let row = pool.with(|db| db.first(open, &[]))?;
        let row = row.ok_or_else(|| StoreError::Medium("the database has no snapshot".into()))?;
        Ok::<_, StoreError>((get::<i64>(&row, 0)?, get::<i64>(&row, 1)?))
    };
    let (mut oldest, next) = ask()?;
    let until = Instant::now() + OPEN_TIME_MAX;
    while oldest < next {
        if Instant::now() >= until {
            tracing::debug!(
                "a transaction of the database has been open for long: nothing is swept"
            );
            return Ok(false);
        }
        thread::sleep(OPEN_TIME_MAX / 60);
        oldest = ask()?.0;
    }
    Ok(true)
}

fn is_in_use(db: &Db, object: &str) -> Result<bool, StoreError> {
    Ok(db.first("SELECT 1 FROM blobs WHERE object = $1 LIMIT 1", &[&object])?.is_some())
}

/// Removes some of the objects in which all is dead.
pub(super) fn sweep(
    pool: &Pool,
    medium: &dyn Medium,
    held: &Leases,
    done: &Done,
) -> Result<Compacted, StoreError> {
    let mut compacted = Compacted::default();
    let dead = pool.with(|db| {
        db.execute("DELETE FROM verdicts WHERE made < now() - interval '1 hour'", &[])?;
        let old = "SELECT object FROM garbage WHERE since < now() - make_interval(secs => $1)
                   ORDER BY since LIMIT $2";
        let dead = db.query(old, &[&REST_SECS, &AT_ONCE])?;
        dead.iter().map(|row| get(row, 0)).collect::<Result<Vec<String>, _>>()
    })?;
    let mut over = Vec::new();
    for object in dead {
        // Still written to or read from?
        if !held.has(&object) && medium.is_over(&object)? {
            over.push(object);
            continue;
        }
        // Its turn comes again.
        let later = "UPDATE garbage SET since = now() WHERE object = $1";
        pool.with(|db| db.execute(later, &[&object]))?;
    }
    // In this order: over, then nobody at a commit that names it, then not named. However long this stands still between
    // two of them, the next still holds.
    if over.is_empty() || !have_ended(pool)? {
        return Ok(compacted);
    }
    pool.with(|db| {
        for object in &over {
            if !is_in_use(db, object)? {
                let octets = medium.remove(object)?;
                compacted.segments += 1;
                compacted.freed_octets += octets;
                done.freed_octets.fetch_add(octets, Ordering::Relaxed);
            }
            db.execute("DELETE FROM garbage WHERE object = $1", &[object])?;
        }
        Ok(())
    })?;
    Ok(compacted)
}

/// Removes what no transaction came to name, among some objects after `after`; the last of those.
pub(super) fn sweep_orphans(
    pool: &Pool,
    medium: &dyn Medium,
    done: &Done,
    after: Option<&str>,
) -> Result<Option<String>, StoreError> {
    let (old, last) = medium.old(after)?;
    if !old.is_empty() && !have_ended(pool)? {
        return Ok(after.map(str::to_owned));
    }
    for object in &old {
        if !pool.with(|db| Ok(is_in_use(db, object)? || waits(db, object)?))? {
            let octets = medium.remove(object)?;
            tracing::info!(%object, octets, "octets that nothing refers to are removed");
            done.freed_octets.fetch_add(octets, Ordering::Relaxed);
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scenarios::postgres::Postgres;
    use scenarios::wire::until_within;
    use tempfile::TempDir;

    use super::super::{Options, Place, SharedStore, octets};
    use super::*;
    use crate::contract::{append, at, holder, message, octets_max};
    use crate::{Flags, MailboxName, Store as _};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Two nodes for which octets that nobody appended to for a second are old.
    fn two(database: &Postgres, folder: &TempDir) -> [SharedStore; 2] {
        let segments = folder.path().join("segments");
        std::fs::create_dir_all(&segments).unwrap();
        let options = Options {
            database: database.address(),
            password: None,
            schema: "pec".to_owned(),
            connections: 4,
            octets: Place::Folder(segments),
            quiet: Duration::from_secs(1),
            spool: folder.path().join("spool"),
            serves: true,
        };
        [&options, &options].map(|options| SharedStore::open(options).unwrap())
    }

    fn swept(node: &SharedStore) {
        let SharedStore { pool, medium, upkeep, .. } = node;
        sweep_orphans(pool, &**medium, upkeep, None).unwrap();
    }

    fn is_there(folder: &TempDir, object: &str) -> bool {
        folder.path().join("segments").join(object).exists()
    }

    #[test]
    fn a_commit_that_comes_when_its_octets_may_be_swept_is_refused() {
        let database = Postgres::start().unwrap();
        let folder = TempDir::new().unwrap();
        let [slow, sweeper] = two(&database, &folder);
        let anna = holder("anna@pec.example", octets_max(1 << 40));
        let anna = slow.add_account(anna, at(0)).unwrap();
        let inbox = slow.mailbox(anna, &MailboxName::inbox()).unwrap().id;
        thread::scope(|scope| {
            // Whoever holds the account has the other stand still between its octets and its commit.
            let hold = "BEGIN; SELECT 1 FROM pec.accounts FOR UPDATE; SELECT pg_sleep(60);";
            scope.spawn(|| database.ask(hold).unwrap_err());
            let held = "SELECT count(*) FROM pec.accounts WHERE id IN
                            (SELECT id FROM pec.accounts FOR UPDATE SKIP LOCKED)";
            let is_held = || Ok((database.ask(held)? == "0").then_some(()));
            until_within("the account's lock", PATIENCE, is_held).unwrap();
            let late = scope.spawn(|| slow.append(inbox, message(b"late", Flags::default())));
            let old = || Ok(sweeper.medium.old(None)?.0.pop());
            let segment = until_within("an old segment", PATIENCE, old).unwrap();
            // As long as it may still be named nothing is swept.
            swept(&sweeper);
            assert!(is_there(&folder, &segment));
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                       WHERE query LIKE 'SELECT pg_sleep(60)%'";
            assert_eq!(database.ask(end).unwrap(), "1");
            let refused = late.join().unwrap();
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
            assert_eq!(slow.status(inbox).unwrap().messages, 0);
            swept(&sweeper);
            assert!(!is_there(&folder, &segment));
        });
        // What is in time is taken.
        append(&slow, inbox, b"in time");
        assert_eq!(sweeper.status(inbox).unwrap().messages, 1);
    }

    #[test]
    fn a_segment_that_is_appended_to_again_is_not_swept_though_all_in_it_died() {
        let database = Postgres::start().unwrap();
        let folder = TempDir::new().unwrap();
        let [one, other] = two(&database, &folder);
        let put = |text: &[u8]| octets::keep(&*one.medium, &[9], vec![text.into()]).unwrap();
        let object = put(b"dead").remove(0).object;
        let name = "INSERT INTO garbage VALUES ($1, now() - interval '1 hour')";
        other.pool.with(|db| db.execute(name, &[&object])).unwrap();
        assert_eq!(other.compact().unwrap().segments, 0, "it is not quiet yet");
        assert!(is_there(&folder, &object));
        let again = "UPDATE garbage SET since = now() - interval '1 hour'";
        assert_eq!(
            other.pool.with(|db| db.execute(again, &[])).unwrap(),
            1,
            "its turn comes again"
        );
        let is_over = || Ok(other.medium.is_over(&object)?.then_some(()));
        until_within("a quiet segment", PATIENCE, is_over).unwrap();
        assert_eq!(one.compact().unwrap().segments, 0, "its node may append to it");
        assert_eq!(other.pool.with(|db| db.execute(again, &[])).unwrap(), 1);
        assert_eq!(other.compact().unwrap().segments, 1);
        assert!(!is_there(&folder, &object));
        // That node goes on with another one.
        assert_ne!(put(b"alive")[0].object, object);
    }

    #[test]
    fn numbers_of_nodes_that_come_again_name_other_segments() {
        let folder = TempDir::new().unwrap();
        let put = || {
            let medium = super::super::local::Local::open(folder.path(), 7, PATIENCE).unwrap();
            let octets: Arc<[u8]> = b"octets"[..].into();
            medium.put(vec![octets]).unwrap().remove(0).object
        };
        assert_eq!([put(), put(), put()], ["7-1", "7-2", "7-3"]);
    }
}
