//! What a client hears when a command is not carried out, and the one map from a store's error to
//! it. The client reads a code and one fixed sentence that says what to do; the log reads the cause.

use store::StoreError;

use crate::response::Code;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    No,
    Bad,
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::No => "NO",
            Self::Bad => "BAD",
        }
    }
}

/// The end of a command that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    pub(crate) code: Option<Code>,
    pub(crate) text: &'static str,
    /// We broke, and how: for the log alone.
    pub(crate) cause: Option<String>,
    /// The selected mailbox is no more: the session cannot go on.
    pub(crate) fatal: bool,
}

impl Refusal {
    pub(crate) fn no(code: Code, text: &'static str) -> Self {
        Self { status: Status::No, code: Some(code), text, cause: None, fatal: false }
    }

    pub(crate) fn bad(text: &'static str) -> Self {
        Self { status: Status::Bad, code: None, text, cause: None, fatal: false }
    }

    /// Whether the client was wrong, whatever the store holds.
    pub(crate) fn is_bad(&self) -> bool {
        self.status == Status::Bad
    }

    /// No command that we know.
    pub(crate) fn malformed() -> Self {
        Self::bad("Not a command, or not with these arguments")
    }

    /// The mailbox that a command would add to is not there: RFC 3501 §7.1, `TRYCREATE`.
    pub(crate) fn try_create(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchMailbox => {
                Self::no(Code::TryCreate, "No such mailbox: create it first")
            }
            error => error.into(),
        }
    }

    /// The mailbox that this session has selected is not there.
    pub(crate) fn selected(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchMailbox => Self {
                fatal: true,
                ..Self::no(Code::NonExistent, "The selected mailbox was deleted: connect again")
            },
            error => error.into(),
        }
    }

    /// The mailbox was opened with EXAMINE.
    pub(crate) fn read_only() -> Self {
        Self::no(Code::ReadOnly, "The mailbox is open for reading only: SELECT it")
    }

    /// Too many octets of something.
    pub(crate) fn too_big(text: &'static str) -> Self {
        Self::no(Code::TooBig, text)
    }

    /// More messages than one command adds: RFC 9738 §3.1.
    pub(crate) fn too_many(limit: u64, lowest: Option<store::Uid>) -> Self {
        Self::no(Code::MessageLimit(limit, lowest), "Too many messages at once: take fewer")
    }

    /// The client asked for no message sequence numbers, and uses one: RFC 9586 §3.
    pub(crate) fn uid_required() -> Self {
        Self { code: Some(Code::UidRequired), ..Self::bad("Name messages by their UIDs") }
    }

    /// No mailbox is selected.
    pub(crate) fn nothing_selected() -> Self {
        Self::bad("No mailbox is selected: SELECT one")
    }

    /// A mailbox name that cannot be.
    pub(crate) fn bad_name() -> Self {
        Self::no(Code::Cannot, "Not a mailbox name: no empty level, control character, % or *")
    }

    /// What is to be UTF-8 and is not: RFC 9755 §3.
    pub(crate) fn no_utf8() -> Self {
        Self::bad("Names are in UTF-8 now, and this is none")
    }

    fn fault(cause: String) -> Self {
        let refusal =
            Self::no(Code::Unavailable, "The mail store is not available: try again later");
        Self { cause: Some(cause), ..refusal }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchMailbox => Self::no(Code::NonExistent, "No such mailbox"),
            StoreError::MailboxExists => {
                Self::no(Code::AlreadyExists, "There is a mailbox of that name")
            }
            StoreError::SystemMailbox => {
                Self::no(Code::Cannot, "A system folder can be neither renamed nor deleted")
            }
            StoreError::HasChildren => {
                Self::no(Code::HasChildren, "There are mailboxes below it: delete them first")
            }
            StoreError::TooManyMailboxes => {
                Self::no(Code::Limit, "The account has as many mailboxes as it may: delete some")
            }
            StoreError::TooManyAnnotations => Self::no(
                Code::MetadataTooMany,
                "As much is kept beside mailboxes as may be: remove some",
            ),
            StoreError::TooManyKeywords => {
                Self::no(Code::Limit, "The mailbox has as many keywords as it may: use one of them")
            }
            StoreError::OverQuota(_) => Self::no(
                Code::OverQuota,
                "The mailbox is full: delete messages and expunge, then retry",
            ),
            StoreError::NoSuchMessage => {
                Self::no(Code::ExpungeIssued, "Some of the messages are gone")
            }
            StoreError::OutOfUids => {
                Self::no(Code::Limit, "The mailbox takes no more messages: use another")
            }
            StoreError::NoSuchAccount => {
                Self::no(Code::Unavailable, "The account is not available: connect again")
            }
            // RFC 5530 §3: a temporary failure, and no fault of the client's quota.
            StoreError::NoSpace => {
                Self::no(Code::Unavailable, "No space is left on this server: try again later")
            }
            // RFC 5530 §3. The store itself says in the log why it cannot be reached.
            StoreError::Unavailable(_) => {
                Self::no(Code::Unavailable, "The mail cannot be reached now: try again later")
            }
            error @ (StoreError::AccountExists
            | StoreError::JobGone(_)
            | StoreError::Overtaken
            | StoreError::Marked
            | StoreError::SealOutOfOrder
            | StoreError::StillKept(_)
            | StoreError::Medium(_)) => Self::fault(error.to_string()),
        }
    }
}
