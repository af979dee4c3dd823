//! The socket, on the side of the running server: who may ask, and what it does itself because the store
//! alone cannot.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pec::providers::Index;
use store::{AccountId, Store, Timestamp};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};

use super::{Holds, Place, Request, Response, Rules, WAIT, perform_with};
use crate::config::Config;
use crate::registry::Refreshed;
use crate::seal::Sealed;

/// Octets of a request at most: one account with its credentials has less than 1 KiB.
pub(super) const REQUEST_OCTETS_MAX: u64 = 64 * 1024;
/// Commands at the same time: an operator's scripts, not the world.
const CONNECTIONS_MAX: usize = 16;

/// What the server's side works with.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn Store>,
    /// The configuration as it is now.
    pub(crate) config: Arc<dyn Fn() -> Arc<Config> + Send + Sync>,
    /// Called after each change, so that sessions of that account hear of it.
    pub(crate) on_change: Arc<dyn Fn(AccountId) + Send + Sync>,
    /// Seals what no seal covers.
    pub(crate) seal_log: Arc<dyn Fn() -> anyhow::Result<Sealed> + Send + Sync>,
    /// What is done with the index of providers.
    pub(crate) index: Arc<dyn IndexDesk>,
    /// Which destinations are left alone for a while.
    pub(crate) holds: Arc<dyn Holds>,
}

/// What commands ask of the running server about the index of providers. Calls block.
pub(crate) trait IndexDesk: Send + Sync {
    /// The one in use, and a sentence for each record that was left out of it.
    fn in_use(&self) -> (Arc<Index>, Arc<Vec<String>>);
    /// Reads its file again; the old one stays when it cannot be used.
    fn reload(&self) -> anyhow::Result<()>;
    /// Fetches it again, likewise; tells what came of it.
    fn refresh(&self, force: bool) -> anyhow::Result<Refreshed>;
    /// The own record, signed.
    fn sign_own(&self) -> anyhow::Result<Vec<u8>>;
}

/// The bound socket. Its file is removed when it is dropped.
pub(crate) struct Server {
    listener: tokio::net::UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds the socket; what a killed server left is replaced. To be called when the store is
    /// open, whose lock says that there is no other server.
    ///
    /// # Errors
    ///
    /// When the file cannot be made, or another server answers at it.
    pub(crate) fn bind(path: &Path) -> anyhow::Result<Self> {
        let place = Place::of(path)?;
        if UnixStream::connect(&place.path).is_ok() {
            anyhow::bail!("another server answers at {}: stop it first", path.display());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("{} cannot be replaced", path.display()));
            }
            _ => {}
        }
        let listener = tokio::net::UnixListener::bind(&place.path)
            .with_context(|| format!("the control socket {} cannot be made", path.display()))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers commands until told to stop.
pub(crate) async fn serve(server: Server, desk: Desk, mut stopping: watch::Receiver<bool>) {
    let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = server.listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors: others are given time to end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let own = rustix::process::geteuid().as_raw();
        let trusted = stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0);
        let Ok(turn) = turns.clone().try_acquire_owned() else { continue };
        if !trusted {
            tracing::warn!(target: "server", "a command of another user was not answered");
            continue;
        }
        let desk = desk.clone();
        tokio::spawn(async move {
            let answered = tokio::time::timeout(WAIT, answer(stream, desk)).await;
            if let Ok(Err(error)) = answered {
                tracing::debug!(target: "server", error = %format!("{error:#}"), "a command was lost");
            }
            drop(turn);
        });
    }
}

/// Does what is asked about the index where blocking is allowed.
async fn of_index(
    otherwise: &str,
    work: impl FnOnce() -> anyhow::Result<Response> + Send + 'static,
) -> anyhow::Result<Response> {
    let done = tokio::task::spawn_blocking(work).await?;
    Ok(done.unwrap_or_else(|error| Response::Refused {
        text: format!("the running server {otherwise}: {error:#}"),
    }))
}

async fn answer(stream: tokio::net::UnixStream, desk: Desk) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = tokio::io::BufReader::new(reader).take(REQUEST_OCTETS_MAX);
    reader.read_until(b'\n', &mut line).await?;
    let response = match serde_json::from_slice::<Request>(&line) {
        Ok(Request::ReloadIndex) => {
            let index = desk.index.clone();
            of_index("keeps the old index", move || {
                index.reload()?;
                Ok(Response::Done { text: "the index is in use".to_owned() })
            })
            .await?
        }
        Ok(Request::RefreshIndex { force }) => {
            let index = desk.index.clone();
            of_index("keeps the old index", move || {
                Ok(Response::Refreshed { refreshed: index.refresh(force)? })
            })
            .await?
        }
        Ok(Request::ShowIndex) => {
            let index = desk.index.clone();
            of_index("cannot show it", move || {
                let (index, faults) = index.in_use();
                Ok(Response::Index { ldif: index.to_ldif(), faults: faults.to_vec() })
            })
            .await?
        }
        Ok(Request::SignIndex) => {
            let index = desk.index.clone();
            of_index("cannot sign it", move || {
                let octets = index.sign_own()?;
                Ok(Response::Octets { base64: STANDARD.encode(octets), next: None })
            })
            .await?
        }
        Ok(Request::SealLog) => {
            match tokio::task::spawn_blocking(move || (desk.seal_log)()).await? {
                Ok(sealed) => Response::Sealed { sealed },
                Err(error) => {
                    Response::Refused { text: format!("the log could not be sealed: {error:#}") }
                }
            }
        }
        Ok(request) => {
            let performed = tokio::task::spawn_blocking(move || {
                let rules = Rules::of(&(desk.config)());
                let (response, id) =
                    perform_with(&*desk.store, &rules, &*desk.holds, request, Timestamp::now());
                if let Some(id) = id {
                    (desk.on_change)(id);
                }
                response
            });
            performed.await?
        }
        // The command and the server are of different versions.
        Err(_) => Response::Refused {
            text: "the running server does not know this command: restart it".to_owned(),
        },
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    writer.shutdown().await?;
    Ok(())
}
