//! `quarantine`: the infected messages that are kept, and which kinds of virus were missed here.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use store::{LogRecord, Timestamp};

use super::{named, plain, rfc3339, shown};
use crate::args::QuarantineCommand;
use crate::config::Config;
use crate::control::{self, InfectedView, Reach, Request, Response, Wanted};

/// Does a command and prints its answer. `false`: it was refused, and the reason is printed.
///
/// # Errors
///
/// When neither the server nor the store can be reached, or a file cannot be written.
pub(crate) fn run(command: QuarantineCommand) -> anyhow::Result<bool> {
    match command {
        QuarantineCommand::List(list) => print_all(&Config::load(&list.config.path())?, list.json),
        QuarantineCommand::Show(show) => {
            let config = Config::load(&show.config.path())?;
            match Reach::new(&config).ask(Request::ShowInfected { id: show.id })? {
                Response::Infected { infected, .. } => {
                    let mut out = std::io::stdout().lock();
                    for one in &infected {
                        let text = if show.json { json(one)? + "\n" } else { page(one) };
                        out.write_all(text.as_bytes())?;
                    }
                    Ok(true)
                }
                other => control::refused(other),
            }
        }
        QuarantineCommand::Export(export) => {
            let config = Config::load(&export.config.path())?;
            match &export.output {
                None => write_out(&config, export.id, &mut std::io::stdout().lock()),
                Some(file) => {
                    // Nobody else shall stumble over it, and nothing is written over.
                    let mut out = OpenOptions::new()
                        .write(true)
                        .create_new(true)
                        .mode(0o600)
                        .open(file)
                        .with_context(|| format!("{} cannot be made", file.display()))?;
                    let written = write_out(&config, export.id, &mut out);
                    if !matches!(written, Ok(true)) {
                        // Half a message is no message.
                        std::fs::remove_file(file)?;
                    }
                    written
                }
            }
        }
        QuarantineCommand::Report(report) => {
            let config = Config::load(&report.config.path())?;
            missed(&config, report.since, report.json)
        }
    }
}

fn print_all(config: &Config, as_json: bool) -> anyhow::Result<bool> {
    let mut reach = Reach::new(config);
    let mut out = std::io::stdout().lock();
    let mut after = Some(0);
    while let Some(number) = after {
        match reach.ask(Request::ListInfected { after: number })? {
            Response::Infected { infected, next } => {
                for one in &infected {
                    writeln!(out, "{}", if as_json { json(one)? } else { line(one) })?;
                }
                after = next;
            }
            other => return control::refused(other),
        }
    }
    Ok(true)
}

/// The message as it was received, octet for octet.
fn write_out(config: &Config, id: u64, out: &mut dyn Write) -> anyhow::Result<bool> {
    let mut reach = Reach::new(config);
    let mut start = Some(0);
    while let Some(from) = start {
        match reach.ask(Request::ReadInfected { id, start: from })? {
            Response::Octets { base64, next } => {
                let octets = STANDARD.decode(base64).context("the answer cannot be read")?;
                out.write_all(&octets)?;
                start = next;
            }
            other => return control::refused(other),
        }
    }
    out.flush()?;
    Ok(true)
}

/// What other providers found in messages that were scanned here (PEC-PR-24): how often which kind.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Missed {
    count: u64,
    last: String,
    messages: Vec<String>,
}

/// Messages that a line of the report names.
const NAMED_MAX: usize = 10;

fn missed(config: &Config, since: Option<Timestamp>, as_json: bool) -> anyhow::Result<bool> {
    let mut reach = Reach::new(config);
    let mut kinds: BTreeMap<String, Missed> = BTreeMap::new();
    let wanted = Wanted { since, ..Wanted::default() };
    let mut after = Some(0);
    while let Some(number) = after {
        match reach.ask(Request::FindRecords { wanted: wanted.clone(), after: number })? {
            Response::Records { records, next } => {
                records.iter().for_each(|record| count(&mut kinds, record));
                after = next;
            }
            other => return control::refused(other),
        }
    }
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string(&kinds)?)?;
        return Ok(true);
    }
    if kinds.is_empty() {
        writeln!(out, "no other provider found a virus in what was scanned here")?;
    }
    for (virus, missed) in &kinds {
        let text = format!(
            "{:>6}  {virus}  last {}  {}",
            missed.count,
            missed.last,
            named(missed.messages.iter())
        );
        writeln!(out, "{}", plain(&text))?;
    }
    Ok(true)
}

/// Counts a record of a virus that another provider found: our own notice of it to our user.
fn count(kinds: &mut BTreeMap<String, Missed>, record: &LogRecord) {
    if record.event != "errore-consegna" || record.errore.as_deref() != Some("virus") {
        return;
    }
    let virus = record.errore_esteso.clone().unwrap_or_default();
    let missed = kinds.entry(virus).or_default();
    missed.count += 1;
    missed.last = rfc3339(record.time);
    if let Some(id) = &record.identificativo
        && missed.messages.len() < NAMED_MAX
        && !missed.messages.contains(id)
    {
        missed.messages.push(id.clone());
    }
}

/// An infected message as a program reads it.
#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    found: String,
    keep_until: String,
    point: &'a str,
    virus: &'a str,
    identificativo: Option<&'a str>,
    msgid: Option<&'a str>,
    mittente: &'a str,
    destinatari: &'a [String],
    oggetto: Option<&'a str>,
    octets: u64,
    sha256: &'a str,
}

fn json(one: &InfectedView) -> serde_json::Result<String> {
    let of = &one.infection;
    serde_json::to_string(&Line {
        id: one.id,
        found: rfc3339(one.found),
        keep_until: rfc3339(one.keep_until),
        point: &of.point,
        virus: &of.virus,
        identificativo: of.identificativo.as_deref(),
        msgid: of.msgid.as_deref(),
        mittente: &of.mittente,
        destinatari: &of.destinatari,
        oggetto: of.oggetto.as_deref(),
        octets: one.octets,
        sha256: &of.sha256,
    })
}

fn line(one: &InfectedView) -> String {
    let of = &one.infection;
    plain(&format!(
        "{:>6}  {}  {:<9}  {} -> {}  {}",
        one.id,
        shown(one.found),
        of.point,
        of.mittente,
        named(of.destinatari.iter()),
        of.virus
    ))
}

fn page(one: &InfectedView) -> String {
    let of = &one.infection;
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let fields = [
        ("id", one.id.to_string()),
        ("found", shown(one.found)),
        ("kept until", shown(one.keep_until)),
        ("point", of.point.clone()),
        ("virus", of.virus.clone()),
        ("message", or_dash(&of.identificativo)),
        ("message-id", or_dash(&of.msgid)),
        ("from", of.mittente.clone()),
        ("for", named(of.destinatari.iter())),
        ("subject", or_dash(&of.oggetto)),
        ("octets", one.octets.to_string()),
        ("sha-256", of.sha256.clone()),
    ];
    fields.iter().map(|(name, value)| format!("{name:<12}{}\n", plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use store::Infection;

    use super::*;

    fn infected() -> InfectedView {
        InfectedView {
            id: 7,
            found: "2026-07-01T10:00:00Z".parse().unwrap(),
            keep_until: "2029-01-01T11:00:00Z".parse().unwrap(),
            octets: 1234,
            infection: Infection {
                point: "accesso".to_owned(),
                virus: "Eicar".to_owned(),
                identificativo: Some("1@pec.alfa.example".to_owned()),
                msgid: None,
                mittente: "anna@pec.alfa.example".to_owned(),
                destinatari: vec!["b@pec.beta.example".to_owned()],
                oggetto: Some("\u{1b}[31mrosso".to_owned()),
                sha256: "ab".repeat(32),
            },
        }
    }

    #[test]
    fn a_person_reads_a_line_or_a_page() {
        assert_eq!(
            line(&infected()),
            "     7  2026-07-01 12:00:00 +02:00  accesso    anna@pec.alfa.example -> \
             b@pec.beta.example  Eicar"
        );
        let page = page(&infected());
        assert!(page.starts_with("id          7\nfound       2026-07-01 12:00:00 +02:00\n"));
        assert!(page.contains("\nsubject     \u{fffd}[31mrosso\noctets      1234\n"));
    }

    #[test]
    fn a_program_reads_json() {
        let expected = format!(
            concat!(
                r#"{{"id":7,"found":"2026-07-01T12:00:00+02:00","#,
                r#""keep_until":"2029-01-01T12:00:00+01:00","point":"accesso","virus":"Eicar","#,
                r#""identificativo":"1@pec.alfa.example","msgid":null,"#,
                r#""mittente":"anna@pec.alfa.example","destinatari":["b@pec.beta.example"],"#,
                r#""oggetto":"\u001b[31mrosso","octets":1234,"sha256":"{}"}}"#
            ),
            "ab".repeat(32)
        );
        assert_eq!(json(&infected()).unwrap(), expected);
    }

    // PEC-PR-24
    #[test]
    fn missed_viruses_are_counted_by_kind() {
        let record = |event: &str, error: &str, virus: &str, id: &str| LogRecord {
            event: event.to_owned(),
            errore: Some(error.to_owned()),
            errore_esteso: Some(virus.to_owned()),
            identificativo: Some(id.to_owned()),
            ..LogRecord::default()
        };
        let mut kinds = BTreeMap::new();
        for one in [
            record("errore-consegna", "virus", "Eicar", "1@a"),
            record("errore-consegna", "virus", "Eicar", "1@a"),
            record("errore-consegna", "virus", "Worm", "2@a"),
            record("errore-consegna", "no-dest", "5.1.1", "3@a"),
            // Found here: not missed.
            record("rilevazione-virus", "virus", "Eicar", "4@b"),
            record("non-accettazione", "virus", "Eicar", "5@a"),
        ] {
            count(&mut kinds, &one);
        }
        let last = "1970-01-01T01:00:00+01:00".to_owned();
        let missed =
            |count, id: &str| Missed { count, last: last.clone(), messages: vec![id.to_owned()] };
        let expected =
            [("Eicar".to_owned(), missed(2, "1@a")), ("Worm".to_owned(), missed(1, "2@a"))];
        assert_eq!(kinds, BTreeMap::from(expected));
    }
}
