//! What nothing refers to any more, and goes.
//!
//! An object in which a blob died is looked at a while later, when no reader can still be on its way
//! to it. Objects that no transaction came to name, because its node died before, are looked for
//! among all there are.

use std::sync::atomic::{AtomicU64, Ordering};

use super::connection::{Db, Pool, get};
use super::hold::Leases;
use super::octets::Medium;
use crate::{Compacted, StoreError, Upkeep};

/// Objects that are looked at in one sweep.
const AT_ONCE: i64 = 100;
/// How long an object stays after something in it died.
const REST_SECS: f64 = 60.0;

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
    pool.with(|db| {
        db.execute("DELETE FROM verdicts WHERE made < now() - interval '1 hour'", &[])?;
        let old = "SELECT object FROM garbage WHERE since < now() - make_interval(secs => $1)
                   ORDER BY since LIMIT $2";
        for row in db.query(old, &[&REST_SECS, &AT_ONCE])? {
            let object: String = get(&row, 0)?;
            if !is_in_use(db, &object)? {
                let free = !held.has(&object);
                let Some(octets) = free.then(|| medium.remove(&object)).transpose()?.flatten()
                else {
                    // Still written to or read from: its turn comes again.
                    let later = "UPDATE garbage SET since = now() WHERE object = $1";
                    db.execute(later, &[&object])?;
                    continue;
                };
                compacted.segments += 1;
                compacted.freed_octets += octets;
                done.freed_octets.fetch_add(octets, Ordering::Relaxed);
            }
            db.execute("DELETE FROM garbage WHERE object = $1", &[&object])?;
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
    for object in &old {
        if !pool.with(|db| Ok(is_in_use(db, object)? || waits(db, object)?))?
            && let Some(octets) = medium.remove(object)?
        {
            tracing::info!(%object, octets, "octets that nothing refers to are removed");
            done.freed_octets.fetch_add(octets, Ordering::Relaxed);
        }
    }
    Ok(last)
}
