//! ceralacca: one binary, one provider of certified mail.
//!
//! The outer half is here: arguments, configuration, the commands. What runs is [`serve`]'s.

mod abuse;
mod account;
mod antivirus;
mod args;
mod authenticate;
mod check;
mod clock;
mod command;
mod config;
mod control;
mod crl;
mod deflate;
mod demo;
mod dns;
mod drive;
mod durable;
mod evidence;
mod fetch;
mod flow;
mod http;
mod hub;
mod keywords;
mod librarian;
mod limits;
mod log;
mod login;
mod mailbox_service;
mod master_key;
mod material;
mod memory;
mod proxy;
mod quarantine;
mod queue;
mod rates;
mod ready;
mod registry;
mod reload;
mod sasl;
mod seal;
mod serve;
mod setup;
mod signer;
mod site;
mod submission;
mod threads;
mod timesource;
mod tls;
mod transport;
mod turns;
mod upkeep;
mod verify;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use config::{Config, ConfigErrors};
use ready::Ready;

/// Refused, or not valid. Used wrongly is 2, and clap's.
const REFUSED: u8 = 1;

/// Steps, the store's writer and the connections free what others allocated: the system's allocator
/// takes an eighth of the program's time for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = match error.downcast_ref::<ConfigErrors>() {
                // Each complaint has its file and line, and needs nothing before it.
                Some(errors) => writeln!(std::io::stderr(), "{errors}"),
                None => writeln!(std::io::stderr(), "ceralacca: {error:#}"),
            };
            ExitCode::from(REFUSED)
        }
    }
}

/// Does a command. `false`: it says no, and has said why.
fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Demo(demo) => {
            let made_now = !setup::is_complete(&demo.data);
            let (config, ready) = demo::prepare(&demo.data, demo.port_base, demo.json)?;
            if made_now {
                return Err(begin_anew());
            }
            start(config, ready)
        }
        Command::Init(init) => {
            init.refuse_repeats().unwrap_or_else(|error| error.exit());
            let plan = setup::Plan {
                name: init.provider,
                domains: init.domains,
                port_base: init.port_base,
                ordinary_mail: config::OrdinaryMail::Reject,
                unthrottled: Vec::new(),
                accounts: Vec::new(),
            };
            setup::create(&init.folder, &plan, store::Timestamp::now())?;
            let file = init.folder.join(config::FILE_NAME);
            let mut out = std::io::stdout().lock();
            writeln!(out, "{} is made in {}", plan.name, init.folder.display())?;
            writeln!(out, "Start it with `ceralacca serve --config {}`", file.display())?;
            Ok(true)
        }
        Command::Serve(serve) => {
            start(Config::load(&serve.config.path())?, Ready::serve(serve.json))
        }
        Command::Check(check) => check::run(&check.config.path(), check.json),
        Command::Account(account) => account::run(account.command),
        Command::Log(log) => command::log::run(log.command),
        Command::Queue(queue) => command::queue::run(queue.command),
        Command::Store(store) => command::store::run(store.command),
        Command::Quarantine(quarantine) => command::quarantine::run(quarantine.command),
        Command::Index(index) => command::index::run(index.command),
        Command::Evidence(evidence) => evidence::run(&evidence),
        Command::Verify(verify) => verify::run(&verify),
        Command::Signer(signer) => signer::run_child(&signer.key).map(|()| true),
        Command::MasterKey(key) => master_key::run_child(&key.key).map(|()| true),
    }
}

/// The same command in the same process, with nothing of its memory: keys were made in it, and the
/// process that talks to strangers must never have held one (PEC-SIG-06). Returns when it fails.
fn begin_anew() -> anyhow::Error {
    let arguments = std::env::args_os().skip(1);
    match std::env::current_exe() {
        Ok(program) => {
            let error = std::process::Command::new(program).args(arguments).exec();
            anyhow::Error::new(error).context("the provider is made and cannot be started")
        }
        Err(error) => anyhow::Error::new(error).context("the program cannot find itself"),
    }
}

/// Runs a provider until it is told to stop.
fn start(config: Config, ready: Ready) -> anyhow::Result<bool> {
    log::start(&config.log);
    for doubt in &config.doubts {
        tracing::warn!(target: "server", "{doubt}");
    }
    serve::run(config, ready).map(|()| true)
}
