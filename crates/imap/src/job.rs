//! What needs the store: a [`Job`] carries a command and the session's view of its mailbox to where
//! blocking is allowed, and its [`Answer`] carries the view and the responses back.
//!
//! A job's answer is bounded: a command with much to say says part of it and asks for another job.

use std::sync::Arc;
use std::time::Duration;

use store::{AccountId, MailboxId, Spool, Store, Timestamp};

use crate::command::Work;
use crate::command::append::Append;
use crate::enabled::Enabled;
use crate::refusal::Refusal;
use crate::response::{Code, Output};
use crate::selected::{Selected, Tell};
use crate::session::Settings;
use crate::watch::Watch;

/// Seconds after which a client hears how far its command has come: RFC 9585 §4 wants no more than one
/// such response in ten.
const PROGRESS_SECS: i64 = 10;

/// A command to be run on a store. Give its [`Answer`] to [`Session::finish`](crate::Session::finish).
pub struct Job {
    pub(crate) work: Work,
    pub(crate) account: AccountId,
    pub(crate) selected: Option<Box<Selected>>,
    pub(crate) settings: Arc<Settings>,
    /// What the client has enabled.
    pub(crate) enabled: Enabled,
    pub(crate) progress: Progress,
    pub(crate) watch: Option<Box<Watch>>,
}

/// How far a command has come, for who waits: RFC 9585.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// `None`: nobody waits.
    tag: Option<String>,
    /// When the client last heard of it, or when it began.
    told: Option<Timestamp>,
    /// How long its jobs were at work.
    worked: Duration,
}

impl Progress {
    pub(crate) fn of(tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), ..Self::default() }
    }

    /// Says so where that was long ago.
    fn tell(&mut self, (done, all): (usize, usize), at: Timestamp, out: &mut Output) {
        let Some(tag) = &self.tag else { return };
        let told = *self.told.get_or_insert(at);
        if at.as_second() - told.as_second() >= PROGRESS_SECS {
            // A tag holds no character that would have to be escaped.
            out.untagged(&format!("OK [INPROGRESS (\"{tag}\" {done} {all})] Still at it"));
            self.told = Some(at);
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({})", self.work.name())
    }
}

/// What came of a [`Job`].
pub struct Answer {
    pub(crate) selected: Option<Box<Selected>>,
    pub(crate) out: Output,
    pub(crate) end: Result<Flow, Refusal>,
    /// What broke, for the log.
    pub(crate) faults: Vec<String>,
    pub(crate) progress: Progress,
    pub(crate) watch: Option<Box<Watch>>,
}

impl Answer {
    /// Says how long the job was at work on a processor: the time that it waited for one, for a disk or for
    /// its turn is nobody's fault. Past [`limits::WORK_TIME_MAX`](crate::limits::WORK_TIME_MAX) the next job
    /// of the command refuses to go on.
    #[must_use]
    pub fn worked(mut self, time: Duration) -> Self {
        self.progress.worked = self.progress.worked.saturating_add(time);
        self
    }

    /// Octets of memory that the next job of the command [keeps](Job::keeps_octets); 0 when there is none.
    #[must_use]
    pub fn keeps_octets(&self) -> u64 {
        match &self.end {
            Ok(Flow::More(work)) => work.keeps_octets(),
            _ => 0,
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({} octets)", self.out.held_octets())
    }
}

/// How a command goes on.
pub(crate) enum Flow {
    /// It is done.
    Done(Done),
    /// There is more: another job.
    More(Work),
    /// APPEND may go on: its message is written here.
    Opened { append: Append, mailbox: MailboxId, spool: Box<dyn Spool> },
    /// A piece of it is written.
    Written { mailbox: MailboxId, spool: Box<dyn Spool> },
}

/// The end of a command that was carried out.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<Code>,
    pub(crate) text: &'static str,
    /// What the client may be told of its mailbox before the end.
    pub(crate) tell: Tell,
    /// It was a UID command.
    pub(crate) by_uid: bool,
    /// Messages were expunged: who has enabled QRESYNC is told up to where it knows all, RFC 7162
    /// §3.2.7.
    pub(crate) expunged: bool,
    /// Only some of the messages were looked at: which, RFC 9738 §3.1.
    pub(crate) cut: Option<Code>,
}

/// What a client hears when only some of its messages were looked at.
const CUT_TEXT: &str = "Only the last of them: ask for those below in parts";

impl Done {
    pub(crate) const fn text(text: &'static str) -> Self {
        Self { code: None, text, tell: Tell::All, by_uid: false, expunged: false, cut: None }
    }

    #[must_use]
    pub(crate) fn code(self, code: Code) -> Self {
        Self { code: Some(code), ..self }
    }

    #[must_use]
    pub(crate) fn tell(self, tell: Tell) -> Self {
        Self { tell, ..self }
    }

    #[must_use]
    pub(crate) fn cut(self, cut: Option<Code>) -> Self {
        Self { cut, ..self }
    }

    /// As FETCH, STORE and SEARCH end: by number, nothing is renumbered under the client.
    #[must_use]
    pub(crate) fn numbered(self, by_uid: bool) -> Self {
        let tell = if by_uid { Tell::All } else { Tell::NoExpunges };
        Self { tell, by_uid, ..self }
    }
}

impl From<Done> for Flow {
    fn from(done: Done) -> Self {
        Self::Done(done)
    }
}

/// The same where the end of the command says something else: RFC 9738 §3.1.
pub(crate) fn tell_cut(cut: &Code, out: &mut Output) {
    out.untagged(&format!("NO [{cut}] {CUT_TEXT}"));
}

/// What a command has at hand while it runs.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) at: Timestamp,
    pub(crate) settings: &'a Settings,
    pub(crate) enabled: Enabled,
    /// How long the command was at work before.
    pub(crate) worked: Duration,
    pub(crate) account: AccountId,
    pub(crate) selected: &'a mut Option<Box<Selected>>,
    pub(crate) watch: &'a mut Option<Box<Watch>>,
    pub(crate) out: &'a mut Output,
}

impl Context<'_> {
    /// The selected mailbox: the session lets no command come here without one that needs it.
    pub(crate) fn here(&mut self) -> Result<&mut Selected, Refusal> {
        self.selected.as_deref_mut().ok_or_else(Refusal::nothing_selected)
    }

    /// The same, when it may be changed.
    pub(crate) fn here_to_write(&mut self) -> Result<&mut Selected, Refusal> {
        let here = self.here()?;
        if here.read_only { Err(Refusal::read_only()) } else { Ok(here) }
    }
}

impl Job {
    /// Octets of memory that it may take for whole messages while it runs, about; 0 when it takes none. One
    /// that meets a longer message ends, and the next job says how much that takes.
    #[must_use]
    pub fn holds_octets(&self) -> u64 {
        match &self.work {
            Work::Search(search) => search.holds_octets(),
            Work::Sort(sort) => sort.holds_octets(),
            Work::Thread(thread) => thread.holds_octets(),
            Work::Fetch(fetch) => fetch.holds_octets(),
            _ => 0,
        }
    }

    /// Octets of memory that its command takes at most from this job on to the last that says so, beside those of
    /// [`holds_octets`](Self::holds_octets); 0 when what it takes is little. Who bounds what sessions hold
    /// together has it wait for a place before its first job, and lets go of that when an answer
    /// [keeps](Answer::keeps_octets) nothing.
    #[must_use]
    pub fn keeps_octets(&self) -> u64 {
        self.work.keeps_octets()
    }

    /// Whether it only reads, and little: the index, and a few short messages at most. Then it takes less
    /// than waking another thread for it would.
    #[must_use]
    pub fn is_short(&self) -> bool {
        match &self.work {
            Work::Sync
            | Work::Check
            | Work::Notified { .. }
            | Work::Status(_)
            | Work::GetQuota(_) => true,
            Work::Fetch(fetch) => fetch.is_short(),
            _ => false,
        }
    }

    /// Whether it can change names, subscriptions or annotations of the account: sessions with NOTIFY
    /// are to [look again](crate::Session::handle_notified) then.
    #[must_use]
    pub fn touches_account(&self) -> bool {
        self.work.touches_account()
    }

    /// Runs the command. It may block; `at` is the time.
    pub fn run(self, store: &dyn Store, at: Timestamp) -> Answer {
        let Self { work, account, mut selected, settings, enabled, mut progress, mut watch } = self;
        if let Some(here) = selected.as_deref_mut() {
            here.enabled = enabled;
            here.hears = watch.as_ref().map(|watch| watch.hears()).unwrap_or_default();
        }
        let mut out = Output::new(enabled.speaks_utf8());
        let mut faults = Vec::new();
        let mut context = Context {
            store,
            at,
            settings: &settings,
            enabled,
            worked: progress.worked,
            account,
            selected: &mut selected,
            watch: &mut watch,
            out: &mut out,
        };
        let mut end = work.run(&mut context);
        let (tell, by_uid) = match &end {
            Ok(Flow::Done(done)) => (done.tell, done.by_uid),
            Ok(Flow::More(_) | Flow::Opened { .. } | Flow::Written { .. }) => {
                (Tell::Nothing, false)
            }
            Err(refusal) if refusal.fatal => (Tell::Nothing, false),
            Err(_) => (Tell::NoExpunges, false),
        };
        let expunged = matches!(&end, Ok(Flow::Done(done)) if done.expunged);
        if let Some(here) = selected.as_deref_mut()
            && expunged
        {
            // What a client removes itself it hears of, whatever else it wants to hear.
            here.hears.messages = true;
        }
        if let Some(here) = selected.as_deref_mut()
            && let Err(error) = here.sync(store, tell, by_uid, &mut out)
        {
            let refusal = Refusal::selected(error);
            if refusal.fatal {
                end = Err(refusal);
            } else {
                // The command itself stands; what could not be told now is told the next time.
                faults.extend(refusal.cause);
            }
        }
        if let (Ok(Flow::Done(done)), Some(here)) = (&mut end, selected.as_deref())
            && done.expunged
            && enabled.qresync
        {
            done.code = Some(Code::HighestModSeq(here.told_to()));
        }
        if let Ok(Flow::Done(done)) = &mut end
            && let Some(cut) = done.cut.take()
        {
            if done.code.is_none() {
                (done.code, done.text) = (Some(cut), CUT_TEXT);
            } else {
                tell_cut(&cut, &mut out);
            }
        }
        if let Err(refusal) = &mut end {
            faults.extend(refusal.cause.take());
        }
        if let Ok(Flow::More(work)) = &end
            && let Some(so_far) = work.progress()
        {
            progress.tell(so_far, at, &mut out);
        }
        Answer { selected, out, end, faults, progress, watch }
    }
}
