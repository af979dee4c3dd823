//! `store` and what follows it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use store::Timestamp;

use super::ConfigFile;

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Look the whole store over: index, segments, and every octet against its checksum
    ///
    /// It changes nothing, and works with the server running or stopped. What does not hold is
    /// named, a line each, and the exit status is then 1. Of a store in a database (store.database) it
    /// reads all octets and holds the tables against each other, beside the gateways.
    #[command(after_help = "Example: ceralacca store check --json")]
    Check(StoreCheck),
    /// What is stored, what is saved by sharing, and what is dead
    ///
    /// A store in a database (store.database) is asked with the database's own tools.
    #[command(after_help = "Example: ceralacca store stats")]
    Stats(StoreStats),
    /// Bring back the space of what nothing refers to, now and as fast as the disk goes
    #[command(after_help = "Example: ceralacca store compact")]
    Compact(StoreCompact),
    /// Copy the store to a folder, as it is at one instant, with the server running or stopped
    ///
    /// To restore, stop the server and copy the folder back. Keys and configuration are not in it. A
    /// store in a database (store.database) is copied with the database's own tools.
    #[command(after_help = "Example: ceralacca store backup /mnt/backup/store-2026-11-27")]
    Backup(StoreBackup),
    /// Put a store back to what it was at some time, from its archive (store.archive)
    ///
    /// It makes a folder, and needs neither the store nor the configuration. To use it, stop the
    /// server, put the folder in the place of the store, and run `store check`.
    #[command(after_help = "Example: ceralacca store restore --from /mnt/archive --to \
                            2026-11-27T15:00:00+01:00 /var/lib/ceralacca/store.back")]
    Restore(StoreRestore),
    /// Move a store into the database that another configuration names (store.database), or back out of it
    ///
    /// All servers are stopped meanwhile, and the store stays as it is. What was broken off goes on when
    /// it is run again; before all is there, nobody opens what is begun.
    #[command(after_help = "Example: ceralacca store migrate --to shared.toml")]
    Migrate(StoreMigrate),
}

#[derive(Debug, Args)]
pub(crate) struct StoreCheck {
    /// Print one JSON object a line: the findings, then what was looked at
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct StoreStats {
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct StoreCompact {
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct StoreBackup {
    /// A folder that is not there yet
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct StoreRestore {
    /// The archive: what store.archive named
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// The last commit at or before this, with an offset: 2026-11-27T15:00:00+01:00
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Timestamp,
    /// A folder that is not there yet
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StoreMigrate {
    /// The configuration to serve with afterwards: this one, with the other store
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}
