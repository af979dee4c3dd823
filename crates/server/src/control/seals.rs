//! The sealed log, page by page: for those who check it, take a message's history out of it, or remove
//! what is past its time (PEC-LOG-02, PEC-LOG-03).

use store::tree::Hash;
use store::{Seal, Statement, Store, Timestamp};

use super::{Response, fault};
use crate::command::shown;
use crate::seal::check::{self, Leaves, Shelf, keeps_until};
use crate::seal::history::{History, SealText};

/// Seals of a page: each has some 10 KiB as text.
const PAGE_SEALS: usize = 100;
/// Records that are removed in one commit: others write too.
const EXPIRE_AT_A_TIME: usize = 1000;

/// The seals after number `after`.
pub(super) fn list(store: &dyn Store, after: u64) -> Result<Response, String> {
    let seals = store.seals(after, PAGE_SEALS).map_err(|error| fault(&error))?;
    let seals = seals.iter().map(|seal| (SealText::of(seal), seal.expired)).collect();
    Ok(Response::Seals { seals })
}

/// The roots of a seal's chunks.
pub(super) fn chunks(store: &dyn Store, seal: u64) -> Result<Response, String> {
    let hashes = store.seal_chunks(seal).map_err(|error| fault(&error))?;
    Ok(Response::Chunks { hashes })
}

/// The records after number `after`, as their hashes, and what was written last.
pub(super) fn leaves(store: &dyn Store, after: u64) -> Result<Response, String> {
    let written = store.last_record().map_err(|error| fault(&error))?;
    let page = check::leaves(store, after).map_err(|error| format!("{error:#}"))?;
    Ok(Response::Leaves { page, written })
}

/// The history of one message.
pub(super) fn history(
    store: &dyn Store,
    provider: &str,
    message_id: &str,
    at: Timestamp,
) -> Result<Response, String> {
    let message_id = super::records::bare(message_id);
    let history = History::of(store, provider, &message_id, at);
    history.map(|history| Response::History { history }).map_err(|error| format!("{error:#}"))
}

/// Removes some of the records of a seal, when their 30 months are over.
pub(super) fn expire(store: &dyn Store, number: u64, now: Timestamp) -> Result<Response, String> {
    let seal = store.seals(number.saturating_sub(1), 1).map_err(|error| fault(&error))?.pop();
    let Some(seal) = seal.filter(|seal| seal.number == number) else {
        return Err(format!("there is no seal {number}"));
    };
    let said = Statement::parse(&seal.octets).map_err(|error| error.to_string())?;
    if keeps_until(said.until).is_none_or(|end| now < end) || seal.stamp.is_none() {
        return Err(format!(
            "the records of seal {number}, until {}, must be kept for 30 months (PEC-LOG-02)",
            shown(said.until)
        ));
    }
    let removed =
        store.expire_seal(number, now, EXPIRE_AT_A_TIME).map_err(|error| fault(&error))?;
    Ok(Response::Expired { removed: removed as u64 })
}

/// A log behind [`Reach`](super::Reach): a running server's, or one that nobody has open.
impl Shelf for super::Reach<'_> {
    fn seals(&mut self, after: u64) -> anyhow::Result<Vec<Seal>> {
        match self.ask(super::Request::ListSeals { after })? {
            Response::Seals { seals } => {
                let seals = seals.into_iter();
                seals.map(|(text, expired)| Ok(Seal { expired, ..text.seal()? })).collect()
            }
            other => Err(unexpected(other)),
        }
    }

    fn chunks(&mut self, seal: u64) -> anyhow::Result<Vec<Hash>> {
        match self.ask(super::Request::SealChunks { seal })? {
            Response::Chunks { hashes } => Ok(hashes),
            other => Err(unexpected(other)),
        }
    }

    fn leaves(&mut self, after: u64) -> anyhow::Result<Leaves> {
        match self.ask(super::Request::LogLeaves { after })? {
            Response::Leaves { page, .. } => Ok(page),
            other => Err(unexpected(other)),
        }
    }

    fn last_record(&mut self) -> anyhow::Result<u64> {
        match self.ask(super::Request::LogLeaves { after: u64::MAX })? {
            Response::Leaves { written, .. } => Ok(written),
            other => Err(unexpected(other)),
        }
    }
}

/// An answer that ends the work: the refusal's own words.
pub(crate) fn unexpected(response: Response) -> anyhow::Error {
    match response {
        Response::Refused { text } => anyhow::Error::msg(text),
        _ => anyhow::anyhow!("the running server answered something else: restart it"),
    }
}
