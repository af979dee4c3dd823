//! Between the writer and the thread that archives: what waits, and how far the archive is.
//!
//! All of it is under one lock: a generation that is begun while the one before is given up is either
//! begun after that, or given up with it, and said to be.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;

use super::stream::{Commit, Head};
use crate::Archived;

/// Octets of pages archived together at most, beyond the first commit's.
const BATCH_OCTETS_MAX: usize = 32 * 1024 * 1024;
/// The longest pause after generations that could not be begun.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// A failure that is the same as the last is told again after this long.
const TELL_AGAIN: Duration = Duration::from_secs(3600);
/// A generation that lasted so long is no failure.
const CALM: Duration = Duration::from_secs(3600);

/// How long the archive waits for what, and how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long commits gather before they are archived: what may be lost with the machine.
    pub(super) lag: Duration,
    /// Octets that wait for the archive at most: a disk that is slower is no archive for this load.
    pub(super) waiting_octets_max: usize,
    /// Octets that one commit hands over at most: after one that wrote more, another generation is
    /// begun. No more than may wait.
    pub(super) commit_octets_max: usize,
    /// After this long another generation is begun: so much is gone through at most to put a store
    /// back.
    pub(super) generation: Duration,
    /// How long an archive that failed is left alone; twice that after the next failure, and so on.
    pub(super) retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lag: Duration::from_secs(1),
            waiting_octets_max: 256 * 1024 * 1024,
            commit_octets_max: 256 * 1024 * 1024,
            generation: Duration::from_secs(7 * 24 * 3600),
            retry: Duration::from_secs(60),
        }
    }
}

/// What a generation begins with: the index as this connection sees it.
pub(super) struct Base {
    pub(super) db: Connection,
    pub(super) head: Head,
    /// That is when the commit was.
    pub(super) exact: bool,
    pub(super) history: PathBuf,
}

/// A folder that could not be looked at when the store was opened.
pub(super) struct Look {
    pub(super) history: PathBuf,
    /// The store's last commit when it was opened.
    pub(super) commits: u64,
}

/// What was found there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looked {
    /// The store is not behind its archive: it goes on where that ends.
    pub(super) same: bool,
    /// When the last commit was that is archived.
    pub(super) micros: i64,
}

/// What the archive has to be told next.
enum Item {
    Look(Look),
    Base(Box<Base>),
    Commit(Commit),
}

/// What is archived in one go.
pub(super) enum Work {
    Look(Look),
    Base(Box<Base>),
    Commits(Vec<Commit>),
}

/// What there is for a thread that is in the middle of something else.
pub(super) enum Meanwhile {
    Nothing,
    Commits(Vec<Commit>),
    /// What it is doing has become pointless: another generation begins, or all is given up.
    Another,
    /// The store is being closed.
    Closed,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    octets: usize,
    /// When the first of them came.
    since: Option<Instant>,
    closed: bool,
    /// Nothing is archived until another generation is begun.
    broken: bool,
    /// A generation or a look is under way.
    beginning: bool,
    /// How often in a row it failed, and when it last did.
    failures: u32,
    failed: Option<Instant>,
    /// Since when there is a whole generation.
    whole: Option<Instant>,
    looked: Option<Looked>,
    told: Told,
    /// The last commit that is archived, or never will be.
    done: u64,
    /// The last commit.
    last: u64,
    /// When the first commit was that is not archived.
    behind: Option<i64>,
}

impl Waiting {
    fn drop_items(&mut self) {
        self.items.clear();
        (self.octets, self.since) = (0, None);
    }

    fn push(&mut self, item: Item) {
        self.items.push_back(item);
        self.since.get_or_insert_with(Instant::now);
    }

    /// A generation could not be begun, or gone on with. Whether that is to be told.
    fn fail(&mut self, why: &dyn std::fmt::Display) -> bool {
        if self.whole.take().is_some_and(|whole| whole.elapsed() >= CALM) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        (self.failed, self.beginning) = (Some(now), false);
        self.told.again(&why.to_string(), now)
    }

    fn break_off(&mut self, why: &dyn std::fmt::Display) {
        self.drop_items();
        self.broken = true;
        if self.fail(why) {
            tracing::error!(error = %why, failures = self.failures, "the archive has a gap");
        }
    }

    fn claim(&mut self, head: Head) {
        self.done = self.done.max(head.commit);
        if head.commit >= self.last {
            self.behind = None;
        } else if let Some(behind) = &mut self.behind {
            *behind = head.micros.max(*behind);
        }
    }

    /// The next piece of work. A run of commits is one.
    fn pop(&mut self) -> Option<Work> {
        let (mut commits, mut octets) = (Vec::new(), 0);
        while octets < BATCH_OCTETS_MAX {
            match self.items.pop_front() {
                None => break,
                Some(Item::Commit(commit)) => {
                    octets += commit.frames.len();
                    commits.push(commit);
                }
                Some(item) if !commits.is_empty() => {
                    self.items.push_front(item);
                    break;
                }
                Some(Item::Base(base)) => return Some(Work::Base(base)),
                Some(Item::Look(look)) => return Some(Work::Look(look)),
            }
        }
        self.octets -= octets.min(self.octets);
        if self.items.is_empty() {
            self.since = None;
        }
        (!commits.is_empty()).then_some(Work::Commits(commits))
    }

    /// Whether what waits has gathered for long enough.
    fn ripe(&self, lag: Duration) -> bool {
        self.closed
            || self.octets >= BATCH_OCTETS_MAX
            || self.since.is_some_and(|since| since.elapsed() >= lag)
    }
}

/// What was last told of failures, and when.
#[derive(Debug, Default)]
struct Told(Option<(String, Instant)>);

impl Told {
    /// Whether a failure is told: another than the last, or the last was told long ago.
    fn again(&mut self, why: &str, now: Instant) -> bool {
        let known = |(last, at): &(String, Instant)| {
            last == why && now.saturating_duration_since(*at) < TELL_AGAIN
        };
        let tell = !self.0.as_ref().is_some_and(known);
        if tell {
            self.0 = Some((why.to_owned(), now));
        }
        tell
    }
}

/// The line itself.
pub(super) struct Line {
    pub(super) limits: Limits,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Line {
    /// A line on which nothing waits: the store has so many commits, none of which is archived yet.
    pub(super) fn new(limits: Limits, last: Head) -> Self {
        let waiting =
            Waiting { last: last.commit, behind: Some(last.micros), ..Waiting::default() };
        Self { limits, waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Of the writer.

    /// There is a generation from before that goes on, and has everything.
    pub(super) fn resume(&self, head: Head) {
        self.lock().claim(head);
    }

    /// Counts a commit.
    pub(super) fn count(&self, last: Head) {
        let mut waiting = self.lock();
        waiting.last = last.commit;
        waiting.behind.get_or_insert(last.micros);
    }

    /// Whether anything is archived.
    pub(super) fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// Hands a commit over.
    pub(super) fn put(&self, commit: Commit) {
        let mut waiting = self.lock();
        if waiting.broken {
            return;
        }
        let octets = waiting.octets + commit.frames.len();
        if octets > self.limits.waiting_octets_max {
            waiting.break_off(&"it is slower than the store");
        } else {
            waiting.octets = octets;
            waiting.push(Item::Commit(commit));
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Has a generation begin.
    pub(super) fn begin(&self, base: Base) {
        let mut waiting = self.lock();
        if std::mem::take(&mut waiting.broken) {
            // What nothing was archived of is in no generation but this.
            waiting.done = base.head.commit;
        }
        waiting.beginning = true;
        waiting.push(Item::Base(Box::new(base)));
        drop(waiting);
        self.changed.notify_all();
    }

    /// Has the folder looked at.
    pub(super) fn look(&self, look: Look) {
        let mut waiting = self.lock();
        waiting.beginning = true;
        waiting.push(Item::Look(look));
        drop(waiting);
        self.changed.notify_all();
    }

    /// What was found there, once.
    pub(super) fn looked(&self) -> Option<Looked> {
        self.lock().looked.take()
    }

    /// Whether it is time to begin again, after a failure.
    pub(super) fn is_due_again(&self) -> bool {
        let waiting = self.lock();
        let pause = || {
            let doublings = waiting.failures.saturating_sub(1).min(16);
            self.limits.retry.saturating_mul(1 << doublings).min(PAUSE_MAX)
        };
        !waiting.beginning
            && (waiting.looked.is_some()
                || waiting.failed.is_some_and(|failed| failed.elapsed() >= pause()))
    }

    /// Whether all is well, and nothing is being begun.
    pub(super) fn is_at_ease(&self) -> bool {
        let waiting = self.lock();
        !waiting.broken && !waiting.beginning && waiting.failed.is_none()
    }

    /// Whether the archive has all up to this commit, or will never have it.
    pub(super) fn has(&self, commit: u64) -> bool {
        let waiting = self.lock();
        waiting.broken || waiting.done >= commit
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    // Of both.

    /// Lets go of all that waits: it would lack what comes between.
    pub(super) fn break_off(&self, why: &dyn std::fmt::Display) {
        self.lock().break_off(why);
        self.changed.notify_all();
    }

    // Of the thread.

    /// Waits for what has gathered; nothing when nothing more will.
    pub(super) fn take(&self) -> Option<Work> {
        let mut waiting = self.lock();
        loop {
            if waiting.items.is_empty() {
                if waiting.closed {
                    return None;
                }
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            } else if waiting.ripe(self.limits.lag) {
                return waiting.pop();
            } else {
                waiting = self.wait_for(waiting);
            }
        }
    }

    fn wait_for<'a>(&self, waiting: MutexGuard<'a, Waiting>) -> MutexGuard<'a, Waiting> {
        let waited = self.changed.wait_timeout(waiting, self.limits.lag);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// What there is now, for a thread that is beginning a generation.
    pub(super) fn meanwhile(&self) -> Meanwhile {
        let mut waiting = self.lock();
        if waiting.closed {
            return Meanwhile::Closed;
        }
        if waiting.broken || matches!(waiting.items.front(), Some(Item::Base(_))) {
            return Meanwhile::Another;
        }
        match waiting.ripe(self.limits.lag).then(|| waiting.pop()).flatten() {
            Some(Work::Commits(commits)) => Meanwhile::Commits(commits),
            _ => Meanwhile::Nothing,
        }
    }

    /// Waits a moment.
    pub(super) fn wait(&self) {
        drop(self.wait_for(self.lock()));
    }

    /// What is archived now.
    pub(super) fn claim(&self, head: Head) {
        self.lock().claim(head);
    }

    /// A generation is whole, up to this commit.
    pub(super) fn whole(&self, head: Head) {
        let mut waiting = self.lock();
        waiting.claim(head);
        waiting.beginning = waiting.items.iter().any(|item| matches!(item, Item::Base(_)));
        // It may have been given up meanwhile: then that is what counts.
        if !waiting.broken {
            waiting.whole = Some(Instant::now());
            (waiting.failed, waiting.told) = (None, Told::default());
        }
    }

    /// Another generation cannot be begun; the one before goes on.
    pub(super) fn not_begun(&self, why: &dyn std::fmt::Display) {
        let mut waiting = self.lock();
        if waiting.fail(why) {
            let failures = waiting.failures;
            tracing::error!(error = %why, failures, "the archive cannot begin another generation");
        }
    }

    /// The folder cannot be looked at.
    pub(super) fn not_seen(&self, why: &dyn std::fmt::Display) {
        let mut waiting = self.lock();
        waiting.broken = true;
        if waiting.fail(why) {
            let failures = waiting.failures;
            tracing::error!(error = %why, failures, "the archive cannot be read: the store goes on without it");
        }
    }

    /// What was found in the folder.
    pub(super) fn seen(&self, looked: Looked) {
        let mut waiting = self.lock();
        (waiting.looked, waiting.beginning) = (Some(looked), false);
    }

    /// Whether this is the last commit, and nothing was given up.
    pub(super) fn has_everything(&self, commit: u64) -> bool {
        let waiting = self.lock();
        !waiting.broken && waiting.last == commit
    }

    // Of whoever asks.

    /// How far the archive is.
    pub(super) fn told(&self) -> Archived {
        let behind = self.lock().behind;
        Archived { behind_since: behind.and_then(|at| Timestamp::from_microsecond(at).ok()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(commit: u64) -> Head {
        Head { commit, micros: commit.cast_signed(), length: 0, octets: (0, 0) }
    }

    fn base(commit: u64) -> Base {
        let db = Connection::open_in_memory().unwrap();
        Base { db, head: head(commit), exact: true, history: PathBuf::new() }
    }

    fn commit(number: u64, octets: usize) -> Commit {
        Commit { number, micros: 0, frames: vec![0; octets], ends: Vec::new() }
    }

    /// Whichever comes first, a generation that is begun waits, or it is known that none is.
    #[test]
    fn none_is_given_up_in_silence() {
        let line = Line::new(Limits::default(), head(0));
        let sound = || {
            let waiting = line.lock();
            let begins = matches!(waiting.items.front(), Some(Item::Base(_)));
            assert!(waiting.broken != begins, "broken {} begins {begins}", waiting.broken);
        };
        line.begin(base(1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    line.break_off(&"why");
                    sound();
                }
            });
            for number in 0..2_000 {
                line.begin(base(number));
                sound();
            }
        });
    }

    #[test]
    fn a_failure_is_told_when_it_is_another_and_once_an_hour() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut again = |why, after: u64| told.again(why, start + Duration::from_secs(after));
        let heard = [
            ("full", 0),
            ("full", 60),
            ("gone", 120),
            ("gone", 3_719),
            ("gone", 3_720),
            ("full", 3_721),
            ("full", 3_722),
        ]
        .map(|(why, after)| again(why, after));
        assert_eq!(heard, [true, false, true, false, true, true, false]);
    }

    #[test]
    fn each_failure_has_a_longer_pause() {
        let limits = Limits { retry: Duration::from_secs(60), ..Limits::default() };
        let line = Line::new(limits, head(0));
        let due_after = |seconds| {
            let failed = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
            line.lock().failed = Some(failed);
            line.is_due_again()
        };
        for (first, pause) in [(true, 60), (false, 120), (false, 240), (false, 480)] {
            if first {
                line.break_off(&"full")
            } else {
                line.not_begun(&"full")
            }
            assert!(!due_after(pause - 1) && due_after(pause + 1), "{pause}");
        }
        for _ in 0..40 {
            line.not_begun(&"full");
        }
        assert!(!due_after(3_599) && due_after(3_601));
        // One that lasted begins from the start.
        line.begin(base(1));
        line.whole(head(1));
        line.lock().whole = Instant::now().checked_sub(CALM);
        line.break_off(&"full");
        assert!(!due_after(59) && due_after(61));
    }

    #[test]
    fn no_more_waits_than_may() {
        let limits = Limits { waiting_octets_max: 100, ..Limits::default() };
        let line = Line::new(limits, head(0));
        line.begin(base(0));
        line.put(commit(1, 60));
        line.put(commit(2, 40));
        assert!(!line.has(1));
        line.put(commit(3, 1));
        assert!(line.has(1) && line.is_broken());
        assert!(line.lock().items.is_empty());
        // What comes then is let go of at once.
        line.put(commit(4, 1));
        assert!(line.lock().items.is_empty());
    }

    #[test]
    fn how_far_the_archive_is_behind_is_told() {
        let line = Line::new(Limits::default(), head(5));
        let behind = || line.told().behind_since.map(Timestamp::as_microsecond);
        assert_eq!(behind(), Some(5));
        line.whole(head(5));
        assert_eq!(behind(), None);
        line.count(head(7));
        line.count(head(8));
        assert_eq!(behind(), Some(7));
        line.claim(head(7));
        assert_eq!(behind(), Some(7));
        line.count(head(9));
        line.claim(head(8));
        assert_eq!(behind(), Some(8));
        line.claim(head(9));
        assert_eq!(behind(), None);
    }
}
