//! `store`: looking the store over, what is in it, bringing space back, a copy of it, and moving it
//! into a database and back.
//!
//! All but bringing space back reads the store's folder by itself, with the server running or not.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use store::embedded::{self, Restored, Stats};
use store::shared::Filled;
use store::{Checked, Part, Seen, Timestamp};

use super::{plain, say};
use crate::args::StoreCommand;
use crate::config::{self, Config};
use crate::control::{self, Reach, Request, Response};
use crate::master_key;
use crate::material::{self, Purpose};

/// Between two lines of progress on a terminal.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Does a command and prints its answer. `false`: something does not hold, or it was refused.
///
/// # Errors
///
/// When the store cannot be read, or neither it nor the server can be reached.
pub(crate) fn run(command: StoreCommand) -> anyhow::Result<bool> {
    match command {
        StoreCommand::Check(check) => {
            let config = Config::load(&check.config.path())?;
            if let Some(shared) = &config.storing.shared {
                let options = material::options_of(&config, shared, Purpose::Command)?;
                let cannot = || "the shared store cannot be looked over: `ceralacca check` says what is in the way";
                return look_over(check.json, |tell| {
                    store::shared::check(&options, tell).with_context(cannot)
                });
            }
            let (directory, keys) = (directory(&config)?, master_key::load(&config)?);
            look_over(check.json, |tell| {
                embedded::check(&directory, &keys, tell).with_context(|| unreadable(&directory))
            })
        }
        StoreCommand::Stats(stats) => {
            let directory = directory(&Config::load(&stats.config.path())?)?;
            let figures = embedded::stats(&directory).with_context(|| unreadable(&directory))?;
            let text = if stats.json { json(&figures)? + "\n" } else { page(&figures) };
            std::io::stdout().lock().write_all(text.as_bytes())?;
            Ok(true)
        }
        StoreCommand::Compact(compact) => {
            bring_back(&Config::load(&compact.config.path())?, compact.json)
        }
        StoreCommand::Backup(backup) => {
            let directory = directory(&Config::load(&backup.config.path())?)?;
            let mut shown = Progress::new("copied");
            let copied =
                embedded::backup(&directory, &backup.folder, &mut |done, all| shown.at(done, all))
                    .with_context(|| {
                        format!("the store {} cannot be copied", directory.display())
                    })?;
            shown.end();
            let to = backup.folder.display();
            let text = format!("{copied} octets and their index are copied to {to}");
            say(backup.json, &Copied { folder: &backup.folder, octets: copied }, &text)
        }
        StoreCommand::Restore(restore) => {
            let mut shown = Progress::new("copied");
            let (from, to) = (restore.from.display(), restore.folder.display());
            let back =
                embedded::restore(&restore.from, restore.to, &restore.folder, &mut |done, all| {
                    shown.at(done, all)
                })
                .with_context(|| format!("the archive {from} cannot be put back"))?;
            shown.end();
            let Restored { commit, time, missing, octets } = back;
            let answer = PutBack { folder: &restore.folder, time, commit, missing, octets };
            say(restore.json, &answer, &put_back(&back, &to.to_string()))
        }
        StoreCommand::Migrate(migrate) => {
            let config = Config::load(&migrate.config.path())?;
            let answer = move_over(&config, &Config::load(&migrate.to)?)?;
            say(migrate.json, &answer, &answer.said(&migrate.to))
        }
    }
}

fn directory(config: &Config) -> anyhow::Result<std::path::PathBuf> {
    if config.storing.shared.is_some() {
        anyhow::bail!(
            "the store is in a database: ask that one, and copy it with its own tools together \
             with the octets"
        );
    }
    let directory = config.store_directory();
    if !directory.is_dir() {
        anyhow::bail!(
            "there is no store in {}: make one with `ceralacca init`",
            directory.display()
        );
    }
    Ok(directory)
}

fn unreadable(directory: &Path) -> String {
    format!("the store {} cannot be read: run this as the server's user", directory.display())
}

/// A line of progress that is written over, for people who watch.
struct Progress {
    what: &'static str,
    last: Option<Instant>,
    watched: bool,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        Self { what, last: None, watched: std::io::stderr().is_terminal() }
    }

    fn at(&mut self, done: u64, all: u64) {
        if !self.watched || self.last.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100);
        // That nobody sees it is no failure.
        let _ = write!(std::io::stderr(), "\r{} {percent} % of {all} octets", self.what);
    }

    fn end(&mut self) {
        if self.last.take().is_some() {
            let _ = writeln!(std::io::stderr());
        }
    }
}

/// Moves what is in the store of one configuration to that of the other: one is embedded, one shared.
fn move_over(from: &Config, to: &Config) -> anyhow::Result<MovedOver> {
    if from.provider.domains != to.provider.domains {
        anyhow::bail!("{} is of another provider: its domains are others", to.file.display());
    }
    let shared = match (&from.storing.shared, &to.storing.shared) {
        (None, Some(shared)) => shared,
        (Some(shared), None) => return move_back(from, shared, to),
        (None, None) => anyhow::bail!(
            "neither configuration names a database: write [store] database in {}, and where octets go",
            to.file.display()
        ),
        (Some(_), Some(_)) => anyhow::bail!(
            "both configurations name a database: one is to have an embedded store. A database and what \
             its octets are on are copied with their own tools"
        ),
    };
    let directory = directory(from)?;
    let options = material::options_of(to, shared, Purpose::Command)?;
    // With its archive, whose history goes on if the store is served again.
    let opened = embedded::Options {
        keys: master_key::load(from)?,
        archive: from.storing.archive.clone(),
        ..embedded::Options::default()
    };
    let mut shown = Progress::new("moved");
    let filled = store::shared::fill(&directory, opened, &options, &mut |done, all| {
        shown.at(done, all);
    })
    .with_context(|| {
        format!(
            "the store {} cannot be moved: stop the server that is on it, see that database and octets \
             can be reached, and run this again",
            directory.display()
        )
    })?;
    shown.end();
    let Filled { accounts, messages, records, octets, again } = filled;
    Ok(MovedOver { accounts, messages, records, octets, again })
}

/// Moves what is in a shared store to the embedded one of another configuration.
fn move_back(
    from: &Config,
    shared: &config::SharedStore,
    to: &Config,
) -> anyhow::Result<MovedOver> {
    let options = material::options_of(from, shared, Purpose::Command)?;
    let directory = to.store_directory();
    let opened = embedded::Options { keys: master_key::load(to)?, ..embedded::Options::default() };
    let mut shown = Progress::new("moved");
    let filled = store::shared::bring_back(&options, &directory, opened, &mut |done, all| {
        shown.at(done, all);
    })
    .with_context(|| {
        format!(
            "the store cannot be moved to {}: stop all gateways that are on it, see that database and octets can be \
             reached, and run this again",
            directory.display()
        )
    })?;
    shown.end();
    let Filled { accounts, messages, records, octets, again } = filled;
    Ok(MovedOver { accounts, messages, records, octets, again })
}

/// What a program reads of a store that was moved.
#[derive(Serialize)]
struct MovedOver {
    accounts: u64,
    messages: u64,
    records: u64,
    octets: u64,
    again: u64,
}

impl MovedOver {
    fn said(&self, to: &Path) -> String {
        let Self { accounts, messages, records, octets, again } = self;
        let damaged = match again {
            0 => String::new(),
            _ => format!(
                "{again} messages that an earlier run had moved were not there as it wrote them and are \
                 moved again: look at what the octets are on; "
            ),
        };
        format!(
            "{damaged}{accounts} accounts, {messages} messages ({octets} octets, each once) and {records} log \
             records are moved: serve with {} from now on, and keep the old store until that has \
             proved itself",
            to.display()
        )
    }
}

/// A line of a check as a program reads it: a finding, or the last, with what was looked at.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Finding { part: &'a str, finding: &'a str },
    Checked { findings: u64, messages: u64, octets: u64 },
}

/// Has a store looked over, and prints what is seen.
fn look_over(
    as_json: bool,
    check: impl FnOnce(&mut dyn FnMut(Seen)) -> anyhow::Result<Checked>,
) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    let mut shown = Progress::new("read");
    let mut failed = None;
    let checked = check(&mut |seen| match seen {
        Seen::Progress(done, all) => shown.at(done, all),
        Seen::Finding(part, text) => {
            shown.end();
            let line = if as_json { finding(part, &text) } else { Ok(said(part, &text)) };
            let written = line
                .map_err(anyhow::Error::from)
                .and_then(|line| writeln!(out, "{line}").map_err(anyhow::Error::from));
            failed = failed.take().or(written.err());
        }
    });
    let checked = checked?;
    shown.end();
    if let Some(error) = failed {
        return Err(error);
    }
    let Checked { findings, messages, octets } = checked;
    if as_json {
        let line = Line::Checked { findings, messages, octets };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    } else {
        writeln!(out, "{}", summary(&checked))?;
    }
    Ok(findings == 0)
}

fn finding(part: Part, text: &str) -> serde_json::Result<String> {
    serde_json::to_string(&Line::Finding { part: part.word(), finding: text })
}

fn said(part: Part, text: &str) -> String {
    plain(&format!("{}: {text}", part.word()))
}

fn summary(checked: &Checked) -> String {
    let Checked { findings, messages, octets } = checked;
    let verdict = match findings {
        0 => "everything holds".to_owned(),
        1 => "1 thing does not hold: restore from a backup what is lost".to_owned(),
        more => format!("{more} things do not hold: restore from a backup what is lost"),
    };
    format!("{messages} messages, {octets} octets read: {verdict}")
}

fn bring_back(config: &Config, as_json: bool) -> anyhow::Result<bool> {
    let mut reach = Reach::new(config);
    let mut all = Compacted::default();
    loop {
        match reach.ask(Request::Compact)? {
            Response::Compacted { segments: 0, .. } => break,
            Response::Compacted { segments: more, moved_octets, freed_octets } => {
                all.segments += more;
                all.moved_octets += moved_octets;
                all.freed_octets += freed_octets;
            }
            other => return control::refused(other),
        }
    }
    let Compacted { segments, moved_octets: moved, freed_octets: freed } = all;
    let text = match segments {
        0 => "nothing to bring back: no segment is half dead".to_owned(),
        _ => format!(
            "{segments} segments looked through, {moved} octets moved, {freed} octets freed"
        ),
    };
    say(as_json, &all, &text)
}

/// What a program reads of a compaction.
#[derive(Default, Serialize)]
struct Compacted {
    segments: u64,
    moved_octets: u64,
    freed_octets: u64,
}

/// What it reads of a copy.
#[derive(Serialize)]
struct Copied<'a> {
    folder: &'a Path,
    octets: u64,
}

/// What it reads of a store that was put back.
#[derive(Serialize)]
struct PutBack<'a> {
    folder: &'a Path,
    time: Timestamp,
    commit: u64,
    missing: u64,
    octets: u64,
}

fn put_back(back: &Restored, to: &str) -> String {
    let mut text =
        format!("the store as it was after its last commit, of {}, is in {to}", back.time);
    if back.missing > 0 {
        let missing = back.missing;
        text += &format!("; the archive lacks the {missing} commits that came next: a gap");
    }
    text
}

/// The figures as a program reads them.
#[derive(Serialize)]
struct Figures {
    format: u64,
    accounts: u64,
    mailboxes: u64,
    messages: u64,
    message_octets: u64,
    jobs: u64,
    job_octets: u64,
    pieces: u64,
    distinct_octets: u64,
    shrunk_octets: u64,
    stored_octets: u64,
    saved_octets: u64,
    dead_octets: u64,
    segments: u64,
    live_octets: u64,
    files: u64,
    file_octets: u64,
    index_octets: u64,
    index_free_octets: u64,
    log_octets: u64,
}

fn json(stats: &Stats) -> serde_json::Result<String> {
    serde_json::to_string(&Figures {
        format: stats.format,
        accounts: stats.accounts,
        mailboxes: stats.mailboxes,
        messages: stats.messages,
        message_octets: stats.message_octets,
        jobs: stats.jobs,
        job_octets: stats.job_octets,
        pieces: stats.pieces,
        distinct_octets: stats.distinct_octets,
        shrunk_octets: stats.shrunk_octets,
        stored_octets: stats.stored_octets(),
        saved_octets: stats.saved_octets(),
        dead_octets: stats.dead_octets,
        segments: stats.segments,
        live_octets: stats.live_octets,
        files: stats.files,
        file_octets: stats.file_octets,
        index_octets: stats.index_octets,
        index_free_octets: stats.index_free_octets,
        log_octets: stats.log_octets,
    })
}

fn page(stats: &Stats) -> String {
    let rows = [
        ("format", stats.format.to_string()),
        ("accounts", format!("{} with {} mailboxes", stats.accounts, stats.mailboxes)),
        ("messages", format!("{}, {} octets", stats.messages, stats.message_octets)),
        ("queue", format!("{} jobs, {} octets", stats.jobs, stats.job_octets)),
        (
            "different",
            format!(
                "{} octets in {} pieces, of which compression saves {}",
                stats.distinct_octets, stats.pieces, stats.shrunk_octets
            ),
        ),
        ("stored", format!("{} octets", stats.stored_octets())),
        ("saved", format!("{} octets", stats.saved_octets())),
        ("dead", format!("{} octets", stats.dead_octets)),
        ("segments", format!("{}, {} octets in use", stats.segments, stats.live_octets)),
        ("files", format!("{}, {} octets", stats.files, stats.file_octets)),
        (
            "index",
            format!(
                "{} octets, {} of them free, and {} of log",
                stats.index_octets, stats.index_free_octets, stats.log_octets
            ),
        ),
    ];
    rows.iter().map(|(name, value)| format!("{name:<10}{value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_each_finding_and_the_end() {
        assert_eq!(
            finding(Part::Segment, "segment 1 has \"99\" octets").unwrap(),
            r#"{"part":"segment","finding":"segment 1 has \"99\" octets"}"#
        );
        let end = Line::Checked { findings: 0, messages: 2, octets: 3 };
        let expected = r#"{"findings":0,"messages":2,"octets":3}"#;
        assert_eq!(serde_json::to_string(&end).unwrap(), expected);
    }

    #[test]
    fn a_person_reads_sentences() {
        assert_eq!(said(Part::Mailbox, "Po\u{1b}sta"), "mailbox: Po\u{fffd}sta");
        let checked = |findings| Checked { findings, messages: 2, octets: 3 };
        assert_eq!(summary(&checked(0)), "2 messages, 3 octets read: everything holds");
        let one = "2 messages, 3 octets read: 1 thing does not hold: restore from a backup what is \
                   lost";
        assert_eq!(summary(&checked(1)), one);
    }

    #[test]
    fn what_is_saved_is_what_sharing_saves() {
        let stats = Stats {
            messages: 2,
            message_octets: 300,
            live_octets: 120,
            file_octets: 10,
            ..Stats::default()
        };
        assert!(page(&stats).contains("stored    130 octets\nsaved     170 octets\n"));
        assert!(json(&stats).unwrap().contains(r#""stored_octets":130,"saved_octets":170,"#));
    }
}
