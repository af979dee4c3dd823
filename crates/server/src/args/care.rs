//! `store` and what follows it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
    /// named, a line each, and the exit status is then 1.
    #[command(after_help = "Example: ceralacca store check --json")]
    Check(StoreCheck),
    /// What is stored, what is saved by sharing, and what is dead
    #[command(after_help = "Example: ceralacca store stats")]
    Stats(StoreStats),
    /// Bring back the space of what nothing refers to, now and as fast as the disk goes
    #[command(after_help = "Example: ceralacca store compact")]
    Compact(StoreCompact),
    /// Copy the store to a folder, as it is at one instant, with the server running or stopped
    ///
    /// To restore, stop the server and copy the folder back. Keys and configuration are not in it.
    #[command(after_help = "Example: ceralacca store backup /mnt/backup/store-2026-11-27")]
    Backup(StoreBackup),
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
