//! Where a command is answered: by the running server, or by the store itself when there is none.

use std::sync::Arc;

use store::{Store, Timestamp};

use super::{Request, Response, Rules, ask, perform};
use crate::config::Config;
use crate::material::Purpose;
use crate::{material, seal};

/// The way to one provider's store.
pub(crate) struct Reach<'c> {
    config: &'c Config,
    /// Ours from when no server answered. An embedded one under its lock: then none can start meanwhile.
    store: Option<Arc<dyn Store>>,
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
                None => material::store(self.config, Purpose::Command)?,
            },
        };
        self.perform(store, request)
    }

    /// Seals what no seal covers: the running server does, or this process with the provider's key
    /// behind a process of its own.
    ///
    /// # Errors
    ///
    /// When neither the server nor the store can be reached, or nothing can be signed.
    pub(crate) fn seal_log(&mut self) -> anyhow::Result<Response> {
        let store = match self.store.take() {
            Some(store) => store,
            None => match ask(&self.config.control_socket(), &Request::SealLog)? {
                Some(response) => return Ok(response),
                None => material::store(self.config, Purpose::Command)?,
            },
        };
        let store = self.store.insert(store);
        Ok(match seal::seal_now(&**store, self.config, Timestamp::now()) {
            Ok(sealed) => Response::Sealed { sealed },
            Err(error) => {
                Response::Refused { text: format!("the log could not be sealed: {error:#}") }
            }
        })
    }

    fn perform(&mut self, store: Arc<dyn Store>, request: Request) -> anyhow::Result<Response> {
        let store = self.store.insert(store);
        Ok(perform(&**store, &Rules::of(self.config), request, Timestamp::now()).0)
    }
}
