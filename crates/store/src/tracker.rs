//! The tracker of certified recipients, with what falls due for them, and the marks of what happened
//! already.

use mail::Address;

use crate::Timestamp;

/// What is known about a certified recipient of a message that our user sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrackState {
    /// The envelope left.
    Sent,
    /// Nothing was heard, and the sender was told so for the first time (PEC-TO-01).
    Warned,
    /// The recipient's provider has it (PEC-PR-23).
    TakenInCharge,
    /// The same, after the sender was told that nothing was heard.
    TakenLate,
    /// It was delivered (PEC-PR-25).
    Delivered,
    /// It cannot be delivered (PEC-PR-25).
    Failed,
    /// Nobody waits for it any more, and the sender was told so (PEC-TO-02, PEC-TO-04).
    Expired,
}

impl TrackState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Sent,
        Self::Warned,
        Self::TakenInCharge,
        Self::TakenLate,
        Self::Delivered,
        Self::Failed,
        Self::Expired,
    ];

    /// Whether it stays what it is.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed | Self::Expired)
    }
}

/// A message that our user sent, whose certified recipients are followed from now on. For an
/// identifier that is followed already nothing happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// The PEC msgid.
    pub identificativo: String,
    /// The certified recipients, each once.
    pub recipients: Vec<Address>,
    /// When the envelope left.
    pub at: Timestamp,
    /// When the first notice is due for one of whom nothing was heard.
    pub first: Timestamp,
    /// When the second is due for one that is not closed.
    pub second: Timestamp,
    /// What a notice about the message needs; kept until all recipients are closed. The store does
    /// not look into it.
    pub about: Vec<u8>,
}

/// A change of the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The PEC msgid.
    pub identificativo: String,
    /// The recipient.
    pub recipient: Address,
    /// What is known now. It does not go back: a final state stays, and a message or recipient
    /// unknown to the tracker changes nothing (PEC-PR-27, PEC-PR-28).
    pub state: TrackState,
    /// The state that it must be in, or the whole transaction is refused.
    pub only_from: Option<TrackState>,
    /// When.
    pub at: Timestamp,
}

/// An entry of the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// The recipient.
    pub recipient: Address,
    /// What is known.
    pub state: TrackState,
    /// When the envelope left.
    pub sent: Timestamp,
    /// Since when the state is what it is.
    pub since: Timestamp,
    /// When the next notice is due; nothing when it is closed.
    pub due: Option<Timestamp>,
}

/// An entry whose notice is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    /// The PEC msgid.
    pub identificativo: String,
    /// The entry.
    pub entry: Tracked,
    /// Since when it is due.
    pub due: Timestamp,
    /// [`Follow::about`].
    pub about: Vec<u8>,
}

/// A digest.
pub type Digest = [u8; 32];

/// That something happened, so that it does not happen twice (PEC-PR-28). Kept as long as the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What happened.
    pub key: Digest,
    /// What it was, exactly.
    pub value: Digest,
}
