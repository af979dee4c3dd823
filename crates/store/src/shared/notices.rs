//! What nodes tell each other: which mailboxes and accounts changed, and that they are alive.
//!
//! A change is told with its commit (`NOTIFY`): nobody hears of what did not happen, and whoever
//! listens hears of all that did. A node that was away asks for all that changed meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio_postgres::AsyncMessage;

use super::connection::{Db, Pool, number};
use crate::{AccountId, Elsewhere, ElsewhereListener, Listener, MailboxId, Share, StoreError};

/// How often a node says that it is alive.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How long it is believed: then others take its jobs.
pub(super) const ALIVE: Duration = Duration::from_secs(5);
/// Mailboxes and accounts in one notice: a payload has less than 8000 octets.
const TOLD_AT_ONCE: usize = 300;
/// Notices that wait for this node at most: then it asks for all that changed.
const NOTICES_MAX: usize = 10_000;
/// What may lie between a change and its commit, when it is asked for what was missed.
const MARGIN: Duration = Duration::from_secs(120);
/// How long a node waits before it tries to reach the database again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What a transaction changed.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Messages or flags in them.
    pub(super) mailboxes: BTreeSet<MailboxId>,
    /// Credentials, state or quotas.
    pub(super) accounts: BTreeSet<AccountId>,
    /// Names, subscriptions or annotations of these accounts.
    pub(super) names: BTreeSet<AccountId>,
}

/// Tells the other nodes of what changed, when the transaction is kept.
pub(super) fn tell(db: &Db, channel: &str, node: u64, changed: &Changed) -> Result<(), StoreError> {
    let mailboxes = changed.mailboxes.iter().map(|mailbox| mailbox.0.to_string());
    let accounts = changed.accounts.iter().map(|account| format!("a{}", account.0));
    let names = changed.names.iter().map(|account| format!("n{}", account.0));
    let all: Vec<String> = mailboxes.chain(accounts).chain(names).collect();
    for some in all.chunks(TOLD_AT_ONCE) {
        let text = format!("{node}:{}", some.join(","));
        db.query("SELECT pg_notify($1, $2)", &[&channel, &text])?;
    }
    Ok(())
}

/// What a node is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Mailbox(MailboxId),
    Account(Elsewhere),
}

/// What another node tells of.
fn told(node: u64, text: &str) -> Vec<Heard> {
    let Some((from, all)) = text.split_once(':') else { return Vec::new() };
    if from.parse() == Ok(node) {
        return Vec::new();
    }
    let one = |word: &str| match word.split_at_checked(1)? {
        ("a", id) => Some(Heard::Account(Elsewhere::Account(AccountId(id.parse().ok()?)))),
        ("n", id) => Some(Heard::Account(Elsewhere::Names(AccountId(id.parse().ok()?)))),
        _ => Some(Heard::Mailbox(MailboxId(word.parse().ok()?))),
    };
    all.split(',').filter_map(one).collect()
}

/// What the thread that listens shares with the store.
pub(super) struct Ears {
    pub(super) pool: Arc<Pool>,
    pub(super) channel: String,
    pub(super) node: u64,
    /// It works on the store as long as it is open, and did not open it for one command.
    pub(super) serves: bool,
    pub(super) listeners: RwLock<Vec<Listener>>,
    pub(super) elsewhere: RwLock<Vec<ElsewhereListener>>,
    /// Its part as of the last beat.
    pub(super) share: Mutex<Share>,
    pub(super) stopping: AtomicBool,
    /// When the node last said that it is alive, in milliseconds since `born`; -1 before it did.
    pub(super) beaten: AtomicI64,
    /// The connection that it listens on is lost.
    pub(super) deaf: AtomicBool,
    /// Listeners were told that it is cut off, since it last said that it is alive.
    pub(super) told_cut: AtomicBool,
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

    /// Tells what another node did.
    fn heard(&self, heard: impl IntoIterator<Item = Heard>) {
        for one in heard {
            match one {
                Heard::Mailbox(mailbox) => self.tell([mailbox]),
                Heard::Account(what) => {
                    let all = self.elsewhere.read().unwrap_or_else(PoisonError::into_inner);
                    all.iter().for_each(|listener| listener(what));
                }
            }
        }
    }

    /// Its part in what is done once: none while others may think it dead.
    pub(super) fn share(&self) -> Share {
        if self.silent_for() >= ALIVE {
            return Share::NONE;
        }
        *self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago the node last said that it is alive.
    pub(super) fn silent_for(&self) -> Duration {
        match u64::try_from(self.beaten.load(Ordering::Relaxed)) {
            Ok(at) => self.born.elapsed().saturating_sub(Duration::from_millis(at)),
            Err(_) => Duration::MAX,
        }
    }

    /// Tells once that nothing has been heard for so long that others may think this node dead.
    pub(super) fn tell_if_cut(&self) {
        if self.silent_for() >= ALIVE && !self.told_cut.swap(true, Ordering::Relaxed) {
            self.heard([Heard::Account(Elsewhere::CutOff)]);
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
                    self.deaf.store(true, Ordering::Relaxed);
                    self.tell_if_cut();
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
        while !self.stopping.load(Ordering::Relaxed) {
            let begun = self.born.elapsed();
            let share = beat(&db, self.node, self.serves)?;
            *self.share.lock().unwrap_or_else(PoisonError::into_inner) = share;
            // From before it was said: the database counts from later.
            let now = i64::try_from(begun.as_millis()).unwrap_or(i64::MAX);
            self.beaten.store(now, Ordering::Relaxed);
            self.deaf.store(false, Ordering::Relaxed);
            self.told_cut.store(false, Ordering::Relaxed);
            *heard_last = Some(Instant::now());
            // Whoever opens the store waits for the first time alone.
            ready.try_send(()).unwrap_or_default();
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
                Ok(text) => self.heard(told(self.node, &text)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(StoreError::Unavailable("the database is gone".into()));
                }
            }
        }
        Ok(())
    }

    /// Tells of all mailboxes that changed while nobody listened, and that accounts may have.
    fn tell_missed(&self, db: &Db, away: Duration) -> Result<(), StoreError> {
        let missed = "SELECT id FROM mailboxes WHERE touched > now() - make_interval(secs => $1)";
        let away = (away + MARGIN).as_secs_f64();
        let rows = db.query(missed, &[&away])?;
        let missed = rows.iter().map(|row| Ok(MailboxId(number(row, 0)?)));
        self.tell(missed.collect::<Result<Vec<_>, StoreError>>()?);
        self.heard([Heard::Account(Elsewhere::Missed)]);
        Ok(())
    }

    /// Gives up its jobs.
    fn leave(&self) -> Result<(), StoreError> {
        let gone = "DELETE FROM nodes WHERE id = $1";
        self.pool.with(|db| db.execute(gone, &[&self.node.cast_signed()]).map(drop))
    }
}

/// Says that a node is alive, and forgets those that have not been for long; what its part is.
pub(super) fn beat(db: &Db, node: u64, serves: bool) -> Result<Share, StoreError> {
    let beat = "INSERT INTO nodes (id, alive_until, serves)
                VALUES ($1, now() + make_interval(secs => $2), $3)
                ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until";
    db.execute(beat, &[&node.cast_signed(), &ALIVE.as_secs_f64(), &serves])?;
    let forget = "DELETE FROM nodes WHERE alive_until < now() - interval '1 day'";
    db.execute(forget, &[])?;
    if !serves {
        return Ok(Share::NONE);
    }
    let place = "SELECT count(*) FILTER (WHERE id < $1), count(*) FROM nodes
                 WHERE serves AND alive_until > now()";
    let row = db.first(place, &[&node.cast_signed()])?;
    row.map_or(Ok(Share::NONE), |row| Ok(Share::new(number(&row, 0)?, number(&row, 1)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_tells_others_and_not_who_wrote_it() {
        let mailbox = |id| Heard::Mailbox(MailboxId(id));
        assert_eq!(told(1, "2:7,8"), [mailbox(7), mailbox(8)]);
        assert_eq!(told(2, "2:7,8"), []);
        let account = Heard::Account(Elsewhere::Account(AccountId(3)));
        let names = Heard::Account(Elsewhere::Names(AccountId(4)));
        assert_eq!(told(1, "2:7,a3,n4"), [mailbox(7), account, names]);
        for text in
            ["", "x", "2:", "2:x", "2:-1", "2:18446744073709551616", "2:a", "2:n-1", "2:\u{e0}1"]
        {
            assert_eq!(told(1, text), [], "{text}");
        }
    }
}
