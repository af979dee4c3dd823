//! Octets that are read piece by piece for as long as somebody wants, on whichever node.
//!
//! An object in which something died is swept a while later (`upkeep.rs`). A node that still reads from
//! it says so again and again, and that while begins anew: so whichever node sweeps leaves it. A node that
//! cannot say so, because the database does not hear it, may find it gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connection::Pool;
use super::octets::{self, Located, Medium};
use crate::{Held, StoreError};

/// How often a node says what it reads from: several times before what it reads from may go.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(10);

/// Objects that this node reads from, and for how many.
#[derive(Default)]
pub(super) struct Leases(Mutex<BTreeMap<String, usize>>);

impl Leases {
    /// Whether this node reads from it.
    pub(super) fn has(&self, object: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(object)
    }

    /// Says that these are still read, where something in them died.
    pub(super) fn renew(&self, pool: &Pool) -> Result<(), StoreError> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let objects: Vec<String> = held.keys().cloned().collect();
        drop(held);
        if objects.is_empty() {
            return Ok(());
        }
        let renew = "UPDATE garbage SET since = now() WHERE object = ANY($1)";
        pool.with(|db| db.execute(renew, &[&objects]).map(drop))
    }
}

/// Octets that are held.
pub(super) struct Lease {
    medium: Arc<dyn Medium>,
    leases: Arc<Leases>,
    located: Located,
}

impl Lease {
    pub(super) fn new(medium: &Arc<dyn Medium>, leases: &Arc<Leases>, located: Located) -> Self {
        let mut held = leases.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(located.object().to_owned()).or_default() += 1;
        drop(held);
        Self { medium: Arc::clone(medium), leases: Arc::clone(leases), located }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = held.get_mut(self.located.object()) {
            *times -= 1;
            if *times == 0 {
                held.remove(self.located.object());
            }
        }
    }
}

impl Held for Lease {
    fn read(&self, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        octets::read(&*self.medium, self.located.part(start, end)?)
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.located.weight()
    }
}
