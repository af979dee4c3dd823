//! `log` and `evidence`: what is asked of the log of certified mail.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use store::Timestamp;

use super::{ConfigFile, day, time};

#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Find records: those that meet every option given, oldest first
    ///
    /// Finding none is no failure: nothing is printed, and the exit status is 0.
    #[command(
        after_help = "Example: ceralacca log find --message-id '<prova@alfa.example>' --json"
    )]
    Find(Find),
    /// Seal now what no seal covers: without it, an interval is sealed when it ends
    #[command(after_help = "Example: ceralacca log seal")]
    Seal(LogSeal),
    /// Write the history of one message with its proofs, which prove themselves elsewhere
    #[command(after_help = "Example: ceralacca log export --message-id '<prova@alfa.example>' -o \
                            prova.json")]
    Export(LogExport),
    /// Say whether the log is what was sealed, and at which record it begins to differ
    ///
    /// Of a file that `log export` or `evidence` wrote, of one day, or of everything (default).
    #[command(after_help = "Example: ceralacca log verify --day 2026-11-26")]
    Verify(LogVerify),
    /// Remove records whose 30 months are over; their seals stay
    #[command(after_help = "Example: ceralacca log expire --before 2024-01-01T00:00:00Z")]
    Expire(LogExpire),
}

#[derive(Debug, Args)]
pub(crate) struct LogSeal {
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct LogExport {
    /// Of the message with this identifier: the PEC one, the sender's own, or that of any receipt
    #[arg(long, value_name = "ID")]
    pub(crate) message_id: String,
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
#[group(id = "what", args = ["file", "day", "all"], multiple = false)]
pub(crate) struct LogVerify {
    /// A history or an evidence bundle
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The seals of this day, in UTC, as in 2026-11-26
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub(crate) day: Option<Timestamp>,
    /// Everything
    #[arg(long)]
    pub(crate) all: bool,
    /// Who may issue certificates of providers and of time stamp authorities, PEM; default: as in
    /// the configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print one object of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Let notes count, as a seal without its time stamp
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct LogExpire {
    /// Of seals whose interval ended before this time
    #[arg(long, value_name = "T", value_parser = time)]
    pub(crate) before: Timestamp,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct Evidence {
    /// The message: the PEC identifier, the sender's own, or that of any receipt
    #[arg(value_name = "MESSAGE-ID")]
    pub(crate) message_id: String,
    /// Where to write it; default: `prove-` and the identifier, here
    #[arg(short, long, value_name = "FILE.zip")]
    pub(crate) output: Option<PathBuf>,
    /// Print one object of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
#[group(id = "wanted", args = ["message_id", "account", "since", "until"], required = true, multiple = true)]
pub(crate) struct Find {
    /// Of the message with this identifier: the PEC one, the sender's own, or that of any receipt
    #[arg(long, value_name = "ID")]
    pub(crate) message_id: Option<String>,
    /// Of messages that this address sent or was sent
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) account: Option<String>,
    /// At this time or after, as in 2026-11-21T10:00:00+01:00
    #[arg(long, value_name = "T", value_parser = time)]
    pub(crate) since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "T", value_parser = time)]
    pub(crate) until: Option<Timestamp>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}
