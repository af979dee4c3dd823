//! Connections that read: a bounded pool, each call one snapshot of the index.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};

use rusqlite::Connection;

use super::schema;
use crate::StoreError;

/// The pool.
pub(super) struct Readers {
    index: PathBuf,
    max: usize,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    open: usize,
}

impl Readers {
    pub(super) fn new(index: PathBuf, max: usize) -> Self {
        Self { index, max: max.max(1), pool: Mutex::default(), returned: Condvar::new() }
    }

    /// Reads in one snapshot: all that `read` asks for is of one commit.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let lent = Lent { readers: self, db: Some(self.take()?) };
        let Some(db) = &lent.db else { return Err(StoreError::Medium("no connection".into())) };
        db.prepare_cached("BEGIN")?.execute([])?;
        let result = read(db);
        db.prepare_cached("COMMIT")?.execute([])?;
        result
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(db) = pool.idle.pop() {
                return Ok(db);
            }
            if pool.open < self.max {
                let db = schema::reader(&self.index)?;
                pool.open += 1;
                return Ok(db);
            }
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A connection that goes back, however its reader ends.
struct Lent<'a> {
    readers: &'a Readers,
    db: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool.lock().unwrap_or_else(PoisonError::into_inner);
        match self.db.take() {
            // One that is still in its snapshot would hold up the checkpoint for ever.
            Some(db) if db.is_autocommit() => pool.idle.push(db),
            _ => pool.open -= 1,
        }
        self.readers.returned.notify_one();
    }
}
