//! What commands ask of a provider: a request is a line of JSON on the control socket.

use serde::{Deserialize, Serialize};

use super::{Kept, Wanted};

/// What an operator wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// A new account.
    Add {
        address: String,
        user_id: Option<String>,
        quota_octets: Option<u64>,
        ordinary_mail: Option<String>,
        password: Option<Kept>,
    },
    /// All accounts.
    List,
    /// One of them.
    Show { address: String },
    /// A new password; none: nobody signs in.
    Passwd { address: String, password: Option<Kept> },
    /// A new quota.
    Quota { address: String, quota_octets: u64 },
    /// Another policy for ordinary mail, or none of its own.
    OrdinaryMail { address: String, policy: Option<String> },
    /// It neither sends nor receives.
    Suspend { address: String },
    /// It does again.
    Resume { address: String },
    /// It is gone with all its messages.
    Remove { address: String },
    /// Records of the log, a page of those after number `after`.
    FindRecords { wanted: Wanted, after: u64 },
    /// What waits in the queue, a page of what comes after number `after`.
    ListJobs { after: u64 },
    /// One job of it.
    ShowJob { job: u64 },
    /// It is due now.
    RetryJob { job: u64 },
    /// So are all of a page after number `after`.
    RetryJobs { after: u64 },
    /// Space is to be brought back: one segment's.
    Compact,
    /// It is given up: another host had to be reached for it.
    CancelJob { job: u64 },
    /// Records that no seal covers are to be sealed now.
    SealLog,
    /// The seals of the log after number `after`, a page of them.
    ListSeals { after: u64 },
    /// What is kept with one of them.
    SealChunks { seal: u64 },
    /// The hashes of the records after number `after`, a page of them.
    LogLeaves { after: u64 },
    /// The history of one message, with its proofs.
    LogHistory { message_id: String },
    /// Where the messages are that the log tells of for this one.
    FindMessages { message_id: String },
    /// A piece of one of them, from octet `start` on.
    ReadOctets { blob: u64, start: u64 },
    /// Records of a seal whose 30 months are over go, some of them.
    ExpireSeal { seal: u64 },
    /// Infected messages, a page of those after number `after`.
    ListInfected { after: u64 },
    /// One of them.
    ShowInfected { id: u64 },
    /// A piece of its octets, from `start`.
    ReadInfected { id: u64, start: u64 },
    /// The index of providers that is in use.
    ShowIndex,
    /// The index of providers has a new file.
    ReloadIndex,
    /// The index of providers is to be read again from where it comes from.
    RefreshIndex { force: bool },
    /// These octets are to be signed, attached: the own record of the index.
    SignIndex,
}
