//! An account: a *casella* with its holder's address, credentials and quota.

use mail::Address;

use crate::{Quota, Timestamp};

/// The number of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u64);

/// Whose an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A holder's.
    Holder,
    /// The provider's own: a service address. Only the PEC engine puts mail there.
    Provider,
}

/// Kept for the reader of a log: what an account may do, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It sends and receives.
    Active,
    /// It does neither until it is resumed.
    Suspended,
}

/// Which service address an account is, when its owner is the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// No service address.
    None,
    /// `posta-certificata@`: author of envelopes and receipts.
    Author,
    /// `ricevute@`: where take-charge receipts and virus notices go (PEC-GEN-07).
    ServiceMailbox,
}

/// What proves that somebody is the account. The store keeps it and does not look into it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Argon2id, in PHC form.
    pub phc: String,
    /// The SCRAM-SHA-256 keys, in the form their owner gave them.
    pub scram: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// An account, as it is now.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// Its address.
    pub address: Address,
    /// What its holder may sign in with instead of the address.
    pub user_id: Option<String>,
    /// Whose it is.
    pub owner: Owner,
    /// Which service address it is.
    pub role: Role,
    /// What it may do.
    pub state: State,
    /// `None`: nobody can sign in.
    pub credentials: Option<Credentials>,
    /// What it may hold.
    pub quota: Quota,
    /// What becomes of ordinary mail for it: a word of the configuration; `None` for its default.
    pub ordinary_mail: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// As in [`Account`].
    pub address: Address,
    /// As in [`Account`].
    pub user_id: Option<String>,
    /// As in [`Account`].
    pub owner: Owner,
    /// As in [`Account`].
    pub role: Role,
    /// As in [`Account`].
    pub credentials: Option<Credentials>,
    /// As in [`Account`].
    pub quota: Quota,
    /// As in [`Account`].
    pub ordinary_mail: Option<String>,
}

/// One property of an account and its new value.
#[derive(Debug, Clone)]
pub enum AccountChange {
    /// New credentials, or none.
    Credentials(Option<Credentials>),
    /// A new quota. Usage may be above it: then nothing more comes in until it is below.
    Quota(Quota),
    /// Suspended or active.
    State(State),
    /// The policy for ordinary mail.
    OrdinaryMail(Option<String>),
}
