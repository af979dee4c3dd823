//! The quarantine as an operator sees it. Nothing here changes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use store::{Infected, Infection, Store, StoreError, Timestamp};

use super::page::{PAGE_MEMBERS_MAX, page};
use super::{Response, fault};

/// Octets of a message in one answer.
const PIECE_OCTETS: u64 = 4 * 1024 * 1024;

/// An infected message as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InfectedView {
    pub(crate) id: u64,
    pub(crate) found: Timestamp,
    pub(crate) keep_until: Timestamp,
    pub(crate) octets: u64,
    #[serde(flatten)]
    pub(crate) infection: Infection,
}

impl From<Infected> for InfectedView {
    fn from(infected: Infected) -> Self {
        let Infected { id, found, keep_until, blob: _, octets, infection } = infected;
        Self { id: id.0, found, keep_until, octets, infection }
    }
}

/// The infected messages after number `after`, as many as a page holds.
pub(super) fn list(store: &dyn Store, after: u64) -> Result<Response, String> {
    let found = store.quarantined(after, PAGE_MEMBERS_MAX).map_err(|error| fault(&error))?;
    let views: Vec<_> = found.into_iter().map(|one| (one.id.0, InfectedView::from(one))).collect();
    let (infected, next) = page(views).map_err(|error| error.to_string())?;
    Ok(Response::Infected { infected, next })
}

/// One of them.
pub(super) fn show(store: &dyn Store, id: u64) -> Result<Response, String> {
    Ok(Response::Infected { infected: vec![find(store, id)?.into()], next: None })
}

/// A piece of its octets, from `start`.
pub(super) fn read(store: &dyn Store, id: u64, start: u64) -> Result<Response, String> {
    let infected = find(store, id)?;
    let end = start.saturating_add(PIECE_OCTETS).min(infected.octets);
    let octets = match store.read(infected.blob, start, end) {
        Err(StoreError::NoSuchMessage) => return Err(no_such(id)),
        other => other.map_err(|error| fault(&error))?,
    };
    let next = Some(end).filter(|end| *end < infected.octets);
    Ok(Response::Octets { base64: STANDARD.encode(octets), next })
}

fn find(store: &dyn Store, id: u64) -> Result<Infected, String> {
    let found = store.quarantined(id.saturating_sub(1), 1).map_err(|error| fault(&error))?;
    found.into_iter().find(|infected| infected.id.0 == id).ok_or_else(|| no_such(id))
}

fn no_such(id: u64) -> String {
    format!("there is no infected message {id}: see `ceralacca quarantine list`")
}
