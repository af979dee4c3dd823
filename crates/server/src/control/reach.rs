//! Where a command is answered: by the running server, or by the store itself when there is none.

use std::path::Path;

use anyhow::{Context, bail};
use store::Timestamp;
use store::embedded::{EmbeddedStore, Options};

use super::{Request, Response, Rules, ask, perform};
use crate::config::Config;

/// The way to one provider's store.
pub(crate) struct Reach<'c> {
    config: &'c Config,
    /// Ours from when no server answered, under its lock: then none can start meanwhile.
    store: Option<EmbeddedStore>,
}

impl<'c> Reach<'c> {
    /// Nothing is tried yet.
    pub(crate) const fn new(config: &'c Config) -> Self {
        Self { config, store: None }
    }

    /// Has a request done.
    ///
    /// # Errors
    ///
    /// When neither the server nor the store can be reached.
    pub(crate) fn ask(&mut self, request: Request) -> anyhow::Result<Response> {
        let store = match self.store.take() {
            Some(store) => store,
            None => match ask(&self.config.control_socket(), &request)? {
                Some(response) => return Ok(response),
                None => open(&self.config.store_directory())?,
            },
        };
        let store = self.store.insert(store);
        Ok(perform(store, &Rules::of(self.config), request, Timestamp::now()).0)
    }
}

/// The store of a provider whose server is stopped.
fn open(directory: &Path) -> anyhow::Result<EmbeddedStore> {
    if !directory.is_dir() {
        bail!("there is no store in {}: make one with `ceralacca init`", directory.display());
    }
    EmbeddedStore::open(directory, Options::default()).with_context(|| {
        format!(
            "the store {} cannot be opened: if the server is starting or stopping, try again",
            directory.display()
        )
    })
}
