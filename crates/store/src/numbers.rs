//! The numbers of a mailbox, as they change with its messages: what STATUS asks for is never counted.

use crate::rules::uid;
use crate::{
    AccountId, MailboxId, MailboxStatus, ModSeq, StoreError, Summary, SystemFlags, Uid, UidValidity,
};

/// What the numbers of a mailbox depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) uid: u32,
    pub(crate) flags: SystemFlags,
    pub(crate) octets: u64,
}

impl Span {
    pub(crate) fn of(message: &Summary) -> Self {
        Self { uid: message.uid.0.get(), flags: message.flags.system, octets: message.octets }
    }
}

/// The numbers of a mailbox: read, changed as messages come, change and go, and saved.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    pub(crate) id: MailboxId,
    pub(crate) account: AccountId,
    pub(crate) uid_validity: UidValidity,
    pub(crate) uid_next: u32,
    pub(crate) mod_seq: u64,
    pub(crate) recent_from: u32,
    pub(crate) messages: u64,
    pub(crate) unseen: u64,
    pub(crate) recent: u64,
    pub(crate) deleted: u64,
    pub(crate) octets: u64,
    pub(crate) deleted_octets: u64,
}

impl Numbers {
    /// The next UID.
    pub(crate) fn take_uid(&mut self) -> Result<Uid, StoreError> {
        if self.uid_next == u32::MAX {
            return Err(StoreError::OutOfUids);
        }
        self.uid_next += 1;
        Ok(uid(self.uid_next - 1))
    }

    /// A message with these flags came.
    pub(crate) fn count(&mut self, span: Span) {
        self.messages += 1;
        self.octets += span.octets;
        self.recent += u64::from(span.uid >= self.recent_from);
        self.count_flags(span);
    }

    /// A message with these flags went.
    pub(crate) fn discount(&mut self, span: Span) {
        self.messages -= 1;
        self.octets -= span.octets;
        self.recent -= u64::from(span.uid >= self.recent_from);
        self.discount_flags(span);
    }

    /// A message has these flags now.
    pub(crate) fn count_flags(&mut self, span: Span) {
        self.unseen += u64::from(!span.flags.contains(SystemFlags::SEEN));
        if span.flags.contains(SystemFlags::DELETED) {
            self.deleted += 1;
            self.deleted_octets += span.octets;
        }
    }

    /// A message had these flags.
    pub(crate) fn discount_flags(&mut self, span: Span) {
        self.unseen -= u64::from(!span.flags.contains(SystemFlags::SEEN));
        if span.flags.contains(SystemFlags::DELETED) {
            self.deleted -= 1;
            self.deleted_octets -= span.octets;
        }
    }

    pub(crate) fn status(&self) -> MailboxStatus {
        MailboxStatus {
            messages: self.messages,
            unseen: self.unseen,
            recent: self.recent,
            deleted: self.deleted,
            octets: self.octets,
            deleted_octets: self.deleted_octets,
            uid_next: uid(self.uid_next),
            uid_validity: self.uid_validity,
            mod_seq: ModSeq(self.mod_seq),
        }
    }
}
