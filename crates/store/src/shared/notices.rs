//! What nodes tell each other: which mailboxes changed, and that they are alive.
//!
//! A change is told with its commit (`NOTIFY`): nobody hears of what did not happen, and whoever
//! listens hears of all that did. A node that was away asks for all that changed meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio_postgres::AsyncMessage;

use super::connection::{Db, Pool, number};
use crate::{Listener, MailboxId, StoreError};

/// How often a node says that it is alive.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How long it is believed: then others take its jobs.
const ALIVE_SECS: f64 = 5.0;
/// Mailboxes in one notice: a payload has less than 8000 octets.
const MAILBOXES_MAX: usize = 300;
/// Notices that wait for this node at most: then it asks for all that changed.
const NOTICES_MAX: usize = 10_000;
/// What may lie between a change and its commit, when it is asked for what was missed.
const MARGIN: Duration = Duration::from_secs(120);
/// How long a node waits before it tries to reach the database again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Tells the other nodes of changed mailboxes, when the transaction is kept.
pub(super) fn tell(
    db: &Db,
    channel: &str,
    node: u64,
    changed: &BTreeSet<MailboxId>,
) -> Result<(), StoreError> {
    let changed: Vec<String> = changed.iter().map(|mailbox| mailbox.0.to_string()).collect();
    for some in changed.chunks(MAILBOXES_MAX) {
        let text = format!("{node}:{}", some.join(","));
        db.query("SELECT pg_notify($1, $2)", &[&channel, &text])?;
    }
    Ok(())
}

/// The mailboxes that another node tells of.
fn told(node: u64, text: &str) -> Vec<MailboxId> {
    let Some((from, mailboxes)) = text.split_once(':') else { return Vec::new() };
    if from.parse() == Ok(node) {
        return Vec::new();
    }
    mailboxes.split(',').filter_map(|id| id.parse().ok().map(MailboxId)).collect()
}

/// What the thread that listens shares with the store.
pub(super) struct Ears {
    pub(super) pool: Arc<Pool>,
    pub(super) channel: String,
    pub(super) node: u64,
    pub(super) listeners: RwLock<Vec<Listener>>,
    pub(super) stopping: AtomicBool,
    /// When the node last said that it is alive, in milliseconds since `born`; -1 before it did.
    pub(super) beaten: AtomicI64,
    pub(super) born: Instant,
}

impl Ears {
    /// Tells this node's own listeners.
    pub(super) fn tell(&self, changed: impl IntoIterator<Item = MailboxId>) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        for mailbox in changed {
            listeners.iter().for_each(|listener| listener(mailbox));
        }
    }

    /// How long ago the node last said that it is alive.
    pub(super) fn silent_for(&self) -> Duration {
        match u64::try_from(self.beaten.load(Ordering::Relaxed)) {
            Ok(at) => self.born.elapsed().saturating_sub(Duration::from_millis(at)),
            Err(_) => Duration::MAX,
        }
    }

    /// Listens and says that it is alive, until it is told to stop.
    pub(super) fn run(&self, ready: &SyncSender<()>) {
        let mut heard_last: Option<Instant> = None;
        let mut complained = None;
        while !self.stopping.load(Ordering::Relaxed) {
            match self.listen(&mut heard_last, ready) {
                Ok(()) => {}
                Err(error) => {
                    // Once for each time that it is gone.
                    if complained != Some(self.beaten.load(Ordering::Relaxed)) {
                        tracing::error!(%error, "the database cannot be reached");
                    }
                    complained = Some(self.beaten.load(Ordering::Relaxed));
                    std::thread::sleep(AGAIN_AFTER);
                }
            }
        }
        if let Err(error) = self.leave() {
            tracing::debug!(%error, "the jobs of this node are free in some seconds");
        }
    }

    /// As long as one connection is good for.
    fn listen(
        &self,
        heard_last: &mut Option<Instant>,
        ready: &SyncSender<()>,
    ) -> Result<(), StoreError> {
        let (notices, waiting) = sync_channel::<String>(NOTICES_MAX);
        let lost = Arc::new(AtomicBool::new(false));
        let full = Arc::clone(&lost);
        let db = self.pool.connect(move |message| {
            if let AsyncMessage::Notification(notice) = message
                && notices.try_send(notice.payload().to_owned()).is_err()
            {
                full.store(true, Ordering::Relaxed);
            }
        })?;
        db.batch(&format!("LISTEN \"{}\"", self.channel))?;
        if let Some(last) = *heard_last {
            self.tell_missed(&db, last.elapsed())?;
        }
        // Whoever opens the store waits for the first time alone.
        ready.try_send(()).unwrap_or_default();
        while !self.stopping.load(Ordering::Relaxed) {
            beat(&db, self.node)?;
            let now = i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX);
            self.beaten.store(now, Ordering::Relaxed);
            *heard_last = Some(Instant::now());
            if lost.swap(false, Ordering::Relaxed) {
                self.tell_missed(&db, BEAT_EVERY)?;
            }
            self.hear(&waiting)?;
        }
        Ok(())
    }

    /// Hears notices until the next beat.
    fn hear(&self, waiting: &Receiver<String>) -> Result<(), StoreError> {
        let until = Instant::now() + BEAT_EVERY;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if self.stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            match waiting.recv_timeout(left.min(AGAIN_AFTER)) {
                Ok(text) => self.tell(told(self.node, &text)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(StoreError::Unavailable("the database is gone".into()));
                }
            }
        }
        Ok(())
    }

    /// Tells of all mailboxes that changed while nobody listened.
    fn tell_missed(&self, db: &Db, away: Duration) -> Result<(), StoreError> {
        let missed = "SELECT id FROM mailboxes WHERE touched > now() - make_interval(secs => $1)";
        let away = (away + MARGIN).as_secs_f64();
        let rows = db.query(missed, &[&away])?;
        let missed = rows.iter().map(|row| Ok(MailboxId(number(row, 0)?)));
        self.tell(missed.collect::<Result<Vec<_>, StoreError>>()?);
        Ok(())
    }

    /// Gives up its jobs.
    fn leave(&self) -> Result<(), StoreError> {
        let gone = "DELETE FROM nodes WHERE id = $1";
        self.pool.with(|db| db.execute(gone, &[&self.node.cast_signed()]).map(drop))
    }
}

/// Says that a node is alive, and forgets those that have not been for long.
pub(super) fn beat(db: &Db, node: u64) -> Result<(), StoreError> {
    let beat = "INSERT INTO nodes VALUES ($1, now() + make_interval(secs => $2))
                ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until";
    db.execute(beat, &[&node.cast_signed(), &ALIVE_SECS])?;
    let forget = "DELETE FROM nodes WHERE alive_until < now() - interval '1 day'";
    db.execute(forget, &[]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_tells_others_and_not_who_wrote_it() {
        let ids = |node, text: &str| -> Vec<u64> {
            told(node, text).into_iter().map(|mailbox| mailbox.0).collect()
        };
        assert_eq!(ids(1, "2:7,8"), [7, 8]);
        assert_eq!(ids(2, "2:7,8"), [0; 0]);
        for text in ["", "x", "2:", "2:x", "2:-1", "2:18446744073709551616"] {
            assert_eq!(ids(1, text), [0; 0], "{text}");
        }
    }
}
