//! Where the archive ended when the store was closed, so that its last generation goes on.
//!
//! The file `archived` is there only while the store is closed, and its archive had everything: it says
//! which generation that is. Whoever opens the store removes it first. So the index is, when it is
//! there, what that generation leads to; unless this opening itself wrote something to the index, which
//! is seen by its WAL.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::archive::replace;
use super::segments::{flush_dir, remove};
use super::stream::{self, Head};
use crate::StoreError;

const NAME: &str = "archived";

/// A generation that ended with the last commit of a store.
pub(super) struct End {
    /// Its folder, in that of the archive.
    folder: String,
    commit: u64,
}

impl End {
    /// Leaves word of it in a store that is being closed.
    pub(super) fn leave(store: &Path, generation: &Path, commit: u64) -> Result<(), StoreError> {
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        let history = generation.parent().and_then(name);
        let (Some(history), Some(generation)) = (history, name(generation)) else { return Ok(()) };
        replace(store, NAME, format!("{history}/{generation} {commit}\n").as_bytes())
    }

    /// Takes the word away that was left; nothing when there is none.
    pub(super) fn take(store: &Path) -> Result<Option<Self>, StoreError> {
        let path = store.join(NAME);
        let Some(line) = stream::read_line(&path)? else { return Ok(None) };
        remove(&path)?;
        flush_dir(store)?;
        let mut words = line.split_whitespace();
        let (Some(folder), Some(commit)) = (words.next(), words.next()) else { return Ok(None) };
        Ok(commit.parse().ok().map(|commit| Self { folder: folder.to_owned(), commit }))
    }

    /// The generation, if it is of this history and ends with this commit: its folder, when it began, and
    /// how it ends.
    pub(super) fn find(
        &self,
        history: &Path,
        commit: u64,
    ) -> Result<Option<(PathBuf, i64, Head)>, StoreError> {
        let Some(archive) = history.parent() else { return Ok(None) };
        let folder = archive.join(&self.folder);
        if self.commit != commit || folder.parent() != Some(history) {
            return Ok(None);
        }
        let (base, head) = (stream::read_base(&folder)?, stream::read_head(&folder)?);
        let (Some(base), Some(head)) = (base, head) else { return Ok(None) };
        let length = File::open(folder.join("commits"))?.metadata()?.len();
        let whole = head.commit == commit && length >= head.length;
        Ok(whole.then_some((folder, base.micros, head)))
    }
}
