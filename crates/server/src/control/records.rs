//! The log of certified mail, looked through page by page (PEC-LOG-01).

use mail::Address;
use serde::{Deserialize, Serialize};
use store::{LogFilter, Store, Timestamp};

use super::page::{PAGE_MEMBERS_MAX, page};
use super::{Response, fault};

/// Which records are wanted: those that meet all that is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Any identifier of the message or of a receipt, with or without angle brackets.
    pub(crate) message_id: Option<String>,
    /// Sender or recipient.
    pub(crate) account: Option<String>,
    /// At or after.
    pub(crate) since: Option<Timestamp>,
    /// Before.
    pub(crate) until: Option<Timestamp>,
}

/// The records after number `after`, as many as a page holds.
pub(super) fn find(store: &dyn Store, wanted: Wanted, after: u64) -> Result<Response, String> {
    let account = wanted.account.map(|text| {
        Address::parse(&text)
            .map_err(|error| format!("`{text}` is no address ({error}): write local-part@domain"))
    });
    let filter = LogFilter {
        message_id: wanted.message_id.as_deref().map(bare),
        account: account.transpose()?,
        since: wanted.since,
        until: wanted.until,
    };
    let found = store.log(&filter, after, PAGE_MEMBERS_MAX).map_err(|error| fault(&error))?;
    let (records, next) = page(found).map_err(|error| error.to_string())?;
    Ok(Response::Records { records, next })
}

/// An identifier as the log has it.
pub(super) fn bare(message_id: &str) -> String {
    let text = message_id.trim();
    let inner = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    inner.unwrap_or(text).trim().to_owned()
}
