//! A provider with two gateways on one store.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::Demo;
use crate::bucket::{self, Bucket};
use crate::demo::{PASSWORD, free_port_base};
use crate::ledger::ACCOUNTS;
use crate::postgres::Postgres;
use crate::process::{account, open_service_mailbox};

/// The password that the service mailbox is opened with.
pub const SERVICE_PASSWORD: &str = "leggere-le-ricevute";

/// The user IDs of the demo's accounts.
const USER_IDS: [&str; 5] = ["mrossi", "abianchi", "sverdi", "comune", "piena"];

/// The folders of two gateways, and what both work on. Nothing runs but that.
pub struct Nodes {
    /// A folder for each, with the same keys and ports of its own.
    pub folders: [PathBuf; 2],
    /// With the store's index.
    pub database: Postgres,
    /// With its octets, unless they are in a folder.
    pub bucket: Option<Bucket>,
    /// That folder.
    pub octets: Option<PathBuf>,
    /// What the first's configuration would be with the demo's own store, which nobody uses, and an archive of it.
    pub embedded: String,
    _folder: TempDir,
}

impl Nodes {
    /// With octets in a folder that both see.
    ///
    /// # Errors
    ///
    /// When something cannot be made or started.
    pub fn in_folder() -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let octets = folder.path().join("octets");
        std::fs::create_dir(&octets)?;
        let text = format!("octets = \"{}\"\n", octets.display());
        Ok(Self { octets: Some(octets), ..Self::prepare(folder, None, &text)? })
    }

    /// With octets in a bucket.
    ///
    /// # Errors
    ///
    /// As [`in_folder`](Self::in_folder).
    pub fn in_bucket() -> anyhow::Result<Self> {
        let bucket = Bucket::start()?;
        let text = format!(
            "\n[store.s3]\nendpoint = \"{}\"\nbucket = \"{}\"\nprefix = \"octets\"\nkey_id = \"{}\"\n\
             secret = \"s3.secret\"\n",
            bucket.endpoint(),
            bucket::NAME,
            bucket::KEY.0
        );
        Self::prepare(TempDir::new()?, Some(bucket), &text)
    }

    fn prepare(folder: TempDir, bucket: Option<Bucket>, octets: &str) -> anyhow::Result<Self> {
        let database = Postgres::start()?;
        let folders = ["one", "other"].map(|name| folder.path().join(name));
        let [one, other] = &folders;
        Demo::start(one)?.stop()?;
        // The demo's own store is not the one that they share.
        let aside = folder.path().join("embedded");
        std::fs::create_dir(&aside)?;
        std::fs::rename(one.join("store"), aside.join("store"))?;
        std::fs::write(one.join("s3.secret"), format!("{}\n", bucket::KEY.1))?;
        let file = one.join("ceralacca.toml");
        let text = std::fs::read_to_string(&file)?;
        let embedded = format!(
            "{text}\n[store]\ndirectory = \"{}\"\narchive = \"archive\"\n",
            aside.display()
        );
        let shared = format!("\n[store]\ndatabase = \"{}\"\n{octets}", database.address());
        std::fs::write(&file, text + &shared + "\n[timestamp]\nevery = \"1s\"\n")?;
        copy(one, other)?;
        let file = other.join("ceralacca.toml");
        let text = std::fs::read_to_string(&file)?;
        let line = text.lines().find(|line| line.starts_with("port_base")).context("no port")?;
        std::fs::write(&file, text.replace(line, &format!("port_base = {}", free_port_base()?)))?;
        Ok(Self { folders, database, bucket, octets: None, embedded, _folder: folder })
    }

    /// Starts both, with the accounts of the demo: added at the one, there for the other.
    ///
    /// # Errors
    ///
    /// When one does not start.
    pub fn start(&self) -> anyhow::Result<[Demo; 2]> {
        Ok([self.start_first()?, Demo::serve(&self.folders[1])?])
    }

    /// Starts the first alone.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_first(&self) -> anyhow::Result<Demo> {
        let one = Demo::serve(&self.folders[0])?;
        for (address, user_id) in ACCOUNTS.into_iter().zip(USER_IDS) {
            let add = ["add", address, "--user-id", user_id, "--quota", "1GiB", "--password-stdin"];
            account(&self.folders[0], &add, &format!("{PASSWORD}\n"))?;
        }
        open_service_mailbox(&self.folders[0], SERVICE_PASSWORD)?;
        Ok(one)
    }

    /// The configuration of a gateway, as commands take it.
    ///
    /// # Errors
    ///
    /// When its path is no text.
    pub fn config(&self, node: usize) -> anyhow::Result<String> {
        let file = self.folders.get(node).context("no such gateway")?.join("ceralacca.toml");
        Ok(file.to_str().context("a path that is no text")?.to_owned())
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
