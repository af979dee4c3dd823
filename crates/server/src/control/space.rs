//! Bringing back the space of what nothing refers to, one segment a request.

use store::{Compacted, Store};

use super::{Response, fault};

/// Empties one segment that is half dead, if there is one.
pub(super) fn compact(store: &dyn Store) -> Result<Response, String> {
    let Compacted { segments, moved_octets, freed_octets } =
        store.compact().map_err(|error| fault(&error))?;
    Ok(Response::Compacted { segments, moved_octets, freed_octets })
}
