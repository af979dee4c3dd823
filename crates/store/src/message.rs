//! Messages: their octets on the way in, and what is known of them.

use std::sync::Arc;

use crate::{Flags, ModSeq, StoreError, Timestamp, Uid, UidSet, UidValidity};

/// The number of stored octets. Messages that share their octets share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub u64);

/// Where a message's octets are before it is stored.
pub enum Octets {
    /// In memory.
    Inline(Arc<[u8]>),
    /// In memory, and nobody else's: they are not copied on their way.
    Owned(Vec<u8>),
    /// Written piece by piece.
    Spooled(Box<dyn Spooled>),
    /// Stored already.
    Stored(BlobId),
}

impl std::fmt::Debug for Octets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(octets) => write!(f, "Inline({} octets)", octets.len()),
            Self::Owned(octets) => write!(f, "Owned({} octets)", octets.len()),
            Self::Spooled(spooled) => write!(f, "Spooled({} octets)", spooled.octets()),
            Self::Stored(blob) => write!(f, "Stored({})", blob.0),
        }
    }
}

/// A message on its way in, written piece by piece.
pub trait Spool: Send {
    /// Adds octets at the end.
    ///
    /// # Errors
    ///
    /// [`StoreError::Medium`]: the spool is of no use any more.
    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError>;
    /// From now on nothing of it stays in memory, where the store has another place for it: the memory is
    /// wanted for something else.
    fn keep_nothing(&mut self);
    /// Ends it.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    fn finish(self: Box<Self>) -> Result<Box<dyn Spooled>, StoreError>;
}

/// A whole message that was written piece by piece, ready to be stored; gone when dropped.
pub trait Spooled: Send {
    /// How long it is.
    fn octets(&self) -> u64;
    /// Octets `start..end`, `end` clipped.
    ///
    /// # Errors
    ///
    /// [`StoreError::Medium`].
    fn read(&self, start: u64, end: u64) -> Result<Vec<u8>, StoreError>;
    /// All octets, without a copy when they are in memory.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn into_octets(self: Box<Self>) -> Result<Vec<u8>, StoreError>;
    /// For the store that made it, and no one else.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send>;
}

/// Stored octets that can be read as long as this is held, whoever lets go of the message meanwhile.
pub trait Held: Send + Sync {
    /// Octets `start..end` of those that are stored, as far as they are held.
    ///
    /// # Errors
    ///
    /// As [`Store::read`](crate::Store::read).
    fn read(&self, start: u64, end: u64) -> Result<Vec<u8>, StoreError>;
    /// About how many octets of memory it takes to hold them.
    fn weight(&self) -> usize;
}

impl std::fmt::Debug for dyn Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

/// A message to be added to a mailbox.
#[derive(Debug)]
pub struct NewMessage {
    /// Its octets.
    pub octets: Octets,
    /// Its flags.
    pub flags: Flags,
    /// IMAP's internal date.
    pub received: Timestamp,
    /// When it is being added.
    pub at: Timestamp,
}

/// Where a message was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The UIDVALIDITY of the mailbox.
    pub uid_validity: UidValidity,
    /// The UID of the message.
    pub uid: Uid,
}

/// Which messages became which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The UIDVALIDITY of the target.
    pub uid_validity: UidValidity,
    /// UID there was, UID there is: ascending in both.
    pub uids: Vec<(Uid, Uid)>,
}

/// What is known of a message without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its UID.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
    /// The [`ModSeq`] of its last change.
    pub mod_seq: ModSeq,
    /// Its size.
    pub octets: u64,
    /// IMAP's internal date.
    pub received: Timestamp,
    /// When it came into this mailbox.
    pub saved: Timestamp,
    /// Where its octets are.
    pub blob: BlobId,
}

/// A message with the digest that is kept of its octets, if one is.
pub type Digested = (Summary, Option<Vec<u8>>);

/// The texts of a message, in lower case, as an index takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageText {
    /// Of its header.
    pub header: String,
    /// Of its parts.
    pub body: String,
}

/// Where in a message a text is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// In its header or in its parts, but not across the two.
    Message,
    /// In its header.
    Header,
    /// In its parts.
    Body,
}

/// The messages of a mailbox that may hold a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// Messages above this UID are not indexed: each may hold it.
    pub indexed_to: u32,
    /// Of the others those with these octets hold it, ascending.
    pub sure: Vec<BlobId>,
    /// And those with these may, ascending.
    pub unsure: Vec<BlobId>,
}

impl Candidates {
    /// Whether this message of the mailbox does not hold the text.
    pub fn rules_out(&self, message: &Summary) -> bool {
        let unsure = || self.unsure.binary_search(&message.blob).is_ok();
        message.uid.0.get() <= self.indexed_to && !self.proves(message) && !unsure()
    }

    /// Whether it does.
    pub fn proves(&self, message: &Summary) -> bool {
        self.sure.binary_search(&message.blob).is_ok()
    }
}

/// The flags of a message after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagUpdate {
    /// The message.
    pub uid: Uid,
    /// All its flags.
    pub flags: Flags,
    /// The [`ModSeq`] of the change.
    pub mod_seq: ModSeq,
}

/// A mailbox as a session finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its numbers.
    pub status: crate::MailboxStatus,
    /// The UIDs in it.
    pub uids: UidSet,
    /// Messages from this UID on are `\Recent` for this session.
    pub recent_from: Uid,
    /// The first message without `\Seen`.
    pub first_unseen: Option<Uid>,
    /// The keywords that messages in it have or had.
    pub keywords: Vec<crate::Keyword>,
}

/// What happened to a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The [`ModSeq`] up to which this tells everything.
    pub mod_seq: ModSeq,
    /// Messages that came or whose flags changed, ascending by UID.
    pub updated: Vec<FlagUpdate>,
    /// UIDs that went.
    pub expunged: UidSet,
}
