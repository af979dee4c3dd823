//! The command line. Only commands that work are here.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use mail::Domain;
use store::Timestamp;

use crate::config::{self, OrdinaryMail, Service};

mod care;
mod log;

pub(crate) use care::{StoreArgs, StoreCommand};
pub(crate) use log::{Evidence, Find, Log, LogCommand, LogExpire, LogExport, LogVerify};

/// Where the configuration is looked for when nothing is said, in this order.
const CONFIG_PLACES: [&str; 2] = [config::FILE_NAME, "/etc/ceralacca/ceralacca.toml"];

/// A certified-mail (PEC) provider in one program.
#[derive(Debug, Parser)]
#[command(
    name = "ceralacca",
    version,
    max_term_width = 100,
    after_help = "Example: ceralacca demo",
    infer_subcommands = false
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A whole provider on this machine, ready to use
    #[command(after_help = "Example: ceralacca demo --data ./demo --port-base 10000")]
    Demo(Demo),
    /// Make a provider: keys, configuration, empty store
    #[command(after_help = "Example: ceralacca init alfa --provider 'Alfa PEC S.p.A.' --domain \
                      pec.alfa.example pec.studi.example")]
    Init(Init),
    /// Run a provider until SIGTERM or Ctrl-C
    #[command(after_help = "Example: ceralacca serve --config alfa/ceralacca.toml")]
    Serve(Serve),
    /// Say whether serve would start, and what is doubtful
    #[command(after_help = "Example: ceralacca check --config alfa/ceralacca.toml")]
    Check(Check),
    /// Manage accounts, with the server running or stopped
    #[command(after_help = "Example: ceralacca account add anna@pec.alfa.example --user-id anna")]
    Account(Account),
    /// Look through the log of certified mail
    #[command(after_help = "Example: ceralacca log find --account anna@pec.alfa.example --since \
                            2026-11-01T00:00:00+01:00")]
    Log(Log),
    /// See what waits in the queue, and have it tried again
    #[command(after_help = "Example: ceralacca queue list")]
    Queue(Queue),
    /// Look the store over, see what it takes, bring space back, copy it
    #[command(after_help = "Example: ceralacca store check")]
    Store(StoreArgs),
    /// Infected messages: list them, look at one, write one out
    #[command(after_help = "Example: ceralacca quarantine list")]
    Quarantine(Quarantine),
    /// The index of providers: show it, export the own record, import those of others
    #[command(after_help = "Example: ceralacca index show")]
    Index(Index),
    /// Put all that proves what became of a message into one file
    #[command(after_help = "Example: ceralacca evidence '<prova@alfa.example>' -o prova.zip")]
    Evidence(Evidence),
    /// Say what a message or an evidence bundle proves, offline
    #[command(after_help = "Example: ceralacca verify ricevuta.eml --index providers.ldif --ca \
                            ca.pem")]
    Verify(Verify),
    /// The process that signs; started by serve
    #[command(hide = true, after_help = "Example: ceralacca signer --key signing.key")]
    Signer(Signer),
    /// The process that asks a device for the store's keys; started where one is needed
    #[command(hide = true, after_help = "Example: ceralacca master-key --key 'pkcs11:...'")]
    MasterKey(Signer),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration; default: ceralacca.toml here, then in /etc/ceralacca
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The file that was named, or the first that is there, or the first place to look at.
    pub(crate) fn path(&self) -> PathBuf {
        let found = CONFIG_PLACES.iter().map(PathBuf::from).find(|place| place.is_file());
        self.config.clone().or(found).unwrap_or_else(|| PathBuf::from(CONFIG_PLACES[0]))
    }

    /// The file that was named, or one that is there.
    pub(crate) fn existing(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| Some(self.path()).filter(|path| path.is_file()))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "demo")]
    pub(crate) data: PathBuf,
    /// Added to each standard port, for this run
    #[arg(long, value_name = "N", value_parser = port_base())]
    pub(crate) port_base: Option<u16>,
    /// Print one line of JSON when every listener accepts
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// A folder that is empty or not there yet
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// The provider's name, as it will be in the index of providers
    #[arg(long, value_name = "NAME", value_parser = provider_name)]
    pub(crate) provider: String,
    /// A domain that it manages; the first gets the service addresses
    #[arg(long = "domain", value_name = "DOMAIN", required = true, num_args = 1.., value_parser = domain)]
    pub(crate) domains: Vec<Domain>,
    /// Added to each standard port
    #[arg(long, value_name = "N", default_value_t = config::DEFAULT_PORT_BASE, value_parser = port_base())]
    pub(crate) port_base: u16,
}

impl Init {
    /// What no parser of a single domain sees: one that is there twice.
    ///
    /// # Errors
    ///
    /// Then, as for any other wrong use.
    pub(crate) fn refuse_repeats(&self) -> Result<(), clap::Error> {
        let mut earlier = std::collections::HashSet::new();
        let Some(twice) = self.domains.iter().find(|domain| !earlier.insert(*domain)) else {
            return Ok(());
        };
        let text = format!("--domain {twice} is there twice: remove one");
        Err(Cli::command().error(clap::error::ErrorKind::ValueValidation, text))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Print one line of JSON when every listener accepts
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Print one object with what was found
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Account {
    #[command(subcommand)]
    pub(crate) command: AccountCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Add an account
    #[command(after_help = "Example: ceralacca account add anna@pec.alfa.example --user-id anna \
                            --quota '2 GiB'")]
    Add(Add),
    /// List all accounts
    #[command(after_help = "Example: ceralacca account list --json")]
    List(List),
    /// Show one account with its quota and what it holds
    #[command(after_help = "Example: ceralacca account show anna@pec.alfa.example")]
    Show(Show),
    /// Change the password of an account
    #[command(after_help = "Example: ceralacca account passwd anna@pec.alfa.example")]
    Passwd(Passwd),
    /// Change what an account may hold
    #[command(after_help = "Example: ceralacca account quota anna@pec.alfa.example '2 GiB'")]
    Quota(QuotaArgs),
    /// Change what becomes of ordinary mail for an account
    #[command(after_help = "Example: ceralacca account ordinary-mail anna@pec.alfa.example \
                      'deliver:Posta indesiderata'")]
    OrdinaryMail(OrdinaryMailArgs),
    /// Suspend an account: it neither sends nor receives
    #[command(after_help = "Example: ceralacca account suspend anna@pec.alfa.example")]
    Suspend(OneAccount),
    /// Let a suspended account send and receive again
    #[command(after_help = "Example: ceralacca account resume anna@pec.alfa.example")]
    Resume(OneAccount),
    /// Remove an account with all its messages
    #[command(after_help = "Example: ceralacca account remove anna@pec.alfa.example")]
    Remove(OneAccount),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The address, of one of the provider's domains
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// What its holder may sign in with instead of the address
    #[arg(long, value_name = "ID")]
    pub(crate) user_id: Option<String>,
    /// What it may hold; default: 1 GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) quota: Option<u64>,
    /// What becomes of ordinary mail for it; default: ordinary_mail.policy
    #[arg(long, value_name = "POLICY", value_parser = ordinary_mail)]
    pub(crate) ordinary_mail: Option<String>,
    #[command(flatten)]
    pub(crate) password: PasswordSource,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print a list of JSON objects
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct Passwd {
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    #[command(flatten)]
    pub(crate) password: PasswordSource,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct QuotaArgs {
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// As in `1 GiB`, or octets
    #[arg(value_name = "SIZE", value_parser = size)]
    pub(crate) quota: u64,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct OrdinaryMailArgs {
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// reject, deliver, deliver:FOLDER, forward, forward:ADDRESS; default: ordinary_mail.policy
    #[arg(value_name = "POLICY", value_parser = ordinary_mail)]
    pub(crate) policy: String,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct OneAccount {
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct Queue {
    #[command(subcommand)]
    pub(crate) command: QueueCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List the jobs that wait, oldest first
    #[command(after_help = "Example: ceralacca queue list --json")]
    List(QueueList),
    /// Show one job, with why it was not done yet
    #[command(after_help = "Example: ceralacca queue show 4711")]
    Show(QueueShow),
    /// Have a job that was put off tried again now, or all of them
    #[command(after_help = "Example: ceralacca queue retry 4711")]
    Retry(QueueRetry),
    /// Give up a message that waits for another host
    ///
    /// The log says so for each recipient. The sender of a certified message is told in the end that
    /// it was not delivered. What is done here cannot be cancelled: a message that was accepted, or
    /// its receipt, never vanishes.
    #[command(after_help = "Example: ceralacca queue cancel 4711")]
    Cancel(QueueCancel),
}

#[derive(Debug, Args)]
pub(crate) struct QueueCancel {
    /// The number of the job
    #[arg(value_name = "ID")]
    pub(crate) job: u64,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct QueueList {
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct QueueShow {
    /// The number of the job
    #[arg(value_name = "ID")]
    pub(crate) job: u64,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct QueueRetry {
    /// The number of the job; default: all that were put off
    #[arg(value_name = "ID")]
    pub(crate) job: Option<u64>,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List the infected messages that are kept, oldest first
    #[command(after_help = "Example: ceralacca quarantine list --json")]
    List(QuarantineList),
    /// Show one of them: what was found, in whose message, until when it is kept
    #[command(after_help = "Example: ceralacca quarantine show 7")]
    Show(QuarantineShow),
    /// Write one out as it was received: it is infected
    #[command(after_help = "Example: ceralacca quarantine export 7 --output 7.eml")]
    Export(QuarantineExport),
    /// Tell which viruses other providers found in messages that were scanned here
    #[command(
        after_help = "Example: ceralacca quarantine report --since 2026-11-01T00:00:00+01:00"
    )]
    Report(QuarantineReport),
}

#[derive(Debug, Args)]
pub(crate) struct QuarantineList {
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct QuarantineShow {
    /// The number of the message
    #[arg(value_name = "ID")]
    pub(crate) id: u64,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct QuarantineExport {
    /// The number of the message
    #[arg(value_name = "ID")]
    pub(crate) id: u64,
    /// Into this new file; default: standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct QuarantineReport {
    /// At this time or after, as in 2026-11-21T10:00:00+01:00; default: all the log
    #[arg(long, value_name = "T", value_parser = time)]
    pub(crate) since: Option<Timestamp>,
    /// Print a JSON object, kinds by name
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct Index {
    #[command(subcommand)]
    pub(crate) command: IndexCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Show the providers that are known, their domains and certificates
    #[command(after_help = "Example: ceralacca index show --json")]
    Show(IndexShow),
    /// Write this provider's own record as LDIF to standard output
    #[command(after_help = "Example: ceralacca index export > alfa.ldif")]
    Export(IndexExport),
    /// Add the records of an LDIF file, or replace those of the same name
    ///
    /// A file with anything wrong in it is refused whole, and so is a signed one (.p7m) whose
    /// signature does not hold.
    #[command(after_help = "Example: ceralacca index import beta.ldif")]
    Import(IndexImport),
    /// Fetch or read the index again from index.source, and use it if it is a good one
    #[command(after_help = "Example: ceralacca index refresh")]
    Refresh(IndexRefresh),
}

#[derive(Debug, Args)]
pub(crate) struct IndexShow {
    /// Print a list of JSON objects
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct IndexExport {
    /// Write it signed, into this file, as the authority of the index fetches it
    #[arg(long, value_name = "FILE.p7m")]
    pub(crate) signed: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct IndexRefresh {
    /// Also when it has lost most of its providers
    #[arg(long)]
    pub(crate) force: bool,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct IndexImport {
    /// The records, LDIF or signed (.p7m)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print a list of JSON objects, one for each record
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// Where a password comes from: never an argument, which everybody on the machine could read.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PasswordSource {
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// No password: nobody can sign in
    #[arg(long)]
    pub(crate) no_password: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Messages as files, or evidence bundles
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The index of providers, LDIF; default: that of the configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) index: Option<PathBuf>,
    /// Who may issue certificates of providers, PEM; default: as in the configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print one object of JSON for each file
    #[arg(long)]
    pub(crate) json: bool,
    /// Let notes count: what could not be checked, or is of an older practice
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct Signer {
    /// The private key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

fn port_base() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(0..=i64::from(Service::PORT_BASE_MAX))
}

fn domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|error| error.to_string())
}

fn provider_name(text: &str) -> Result<String, String> {
    config::check_provider_name(text).map(|()| text.to_owned())
}

/// A policy for ordinary mail, or `default`.
fn ordinary_mail(text: &str) -> Result<String, String> {
    match text == DEFAULT_POLICY || OrdinaryMail::parse(text).is_some() {
        true => Ok(text.to_owned()),
        false => Err(format!("say {}, or {DEFAULT_POLICY}", OrdinaryMail::FORMS)),
    }
}

/// The word for an account that has no policy of its own.
pub(crate) const DEFAULT_POLICY: &str = "default";

fn size(text: &str) -> Result<u64, String> {
    config::size(text).ok_or_else(|| "write a number of octets, or as in `1 GiB`".to_owned())
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write it with its offset, as in 2026-11-21T10:00:00+01:00".to_owned())
}

/// The beginning of a day in UTC: the log is sealed by these.
fn day(text: &str) -> Result<Timestamp, String> {
    let day: Option<jiff::civil::Date> = text.parse().ok();
    let begin = day.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok());
    begin.map(|begin| begin.timestamp()).ok_or_else(|| "write it as in 2026-11-26".to_owned())
}

#[cfg(test)]
mod tests;
