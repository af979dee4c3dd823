//! What is told while a store is looked over, whichever it is.

/// Where something does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The database file itself.
    Index,
    /// What an account says that it holds, or who signs in to it.
    Account,
    /// The numbers of a mailbox.
    Mailbox,
    /// A message: its place, its UID, its octets.
    Message,
    /// How often octets are referred to.
    References,
    /// A segment: its length, and what is in use in it.
    Segment,
    /// Octets that do not have their checksum, or are not there.
    Octets,
    /// The last numbers given.
    Counters,
}

impl Part {
    /// Its name, for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Account => "account",
            Self::Mailbox => "mailbox",
            Self::Message => "message",
            Self::References => "references",
            Self::Segment => "segment",
            Self::Octets => "octets",
            Self::Counters => "counters",
        }
    }
}

/// What a check tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Something that does not hold, as a sentence.
    Finding(Part, String),
    /// So many octets of so many are read.
    Progress(u64, u64),
}

/// What was looked at in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// What does not hold; also what was not named for being too much of the same.
    pub findings: u64,
    /// Messages.
    pub messages: u64,
    /// Octets that were read and held against their checksums.
    pub octets: u64,
}

/// What was told so far, and who hears it.
pub(crate) struct Told<'a> {
    pub(crate) tell: &'a mut dyn FnMut(Seen),
    pub(crate) checked: Checked,
}

impl<'a> Told<'a> {
    pub(crate) fn new(tell: &'a mut dyn FnMut(Seen)) -> Self {
        Self { tell, checked: Checked::default() }
    }

    pub(crate) fn finding(&mut self, part: Part, text: String) {
        self.checked.findings += 1;
        (self.tell)(Seen::Finding(part, text));
    }
}
