//! The log of certified mail: looked through, sealed, taken out, held against its seals.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use store::{LogRecord, LoggedRecipient, Statement, Timestamp};

use super::{named, plain, rfc3339, say, shown};
use crate::args::{Find, LogCommand, LogExpire, LogExport, LogVerify};
use crate::config::Config;
use crate::control::{self, Reach, Request, Response, Wanted, unexpected};
use crate::evidence::bundle;
use crate::seal::check::{self, Believed, Found, Shelf};
use crate::seal::history::{HISTORY_OCTETS_MAX, History};
use crate::{material, verify};

/// Does a command and prints its answer. `false`: it was refused or does not hold, and the reason is
/// printed.
///
/// # Errors
///
/// When neither the server nor the store can be reached, or a file cannot be read or written.
pub(crate) fn run(command: LogCommand) -> anyhow::Result<bool> {
    match command {
        LogCommand::Find(asked) => find(asked),
        LogCommand::Seal(seal) => {
            let config = Config::load(&seal.config.path())?;
            match Reach::new(&config).seal_log()? {
                Response::Sealed { sealed } => say(seal.json, &sealed, &sealed.to_string()),
                other => control::refused(other),
            }
        }
        LogCommand::Export(asked) => export(&asked),
        LogCommand::Verify(asked) => verify(&asked),
        LogCommand::Expire(asked) => expire(&asked),
    }
}

fn find(find: Find) -> anyhow::Result<bool> {
    let config = Config::load(&find.config.path())?;
    let wanted = Wanted {
        message_id: find.message_id,
        account: find.account,
        since: find.since,
        until: find.until,
    };
    let mut reach = Reach::new(&config);
    let mut out = std::io::stdout().lock();
    let mut after = Some(0);
    while let Some(number) = after {
        match reach.ask(Request::FindRecords { wanted: wanted.clone(), after: number })? {
            Response::Records { records, next } => {
                for record in &records {
                    let line = if find.json { json(record)? } else { line(record) };
                    writeln!(out, "{line}")?;
                }
                after = next;
            }
            other => return control::refused(other),
        }
    }
    Ok(true)
}

/// Takes a message's history out.
fn export(asked: &LogExport) -> anyhow::Result<bool> {
    let config = Config::load(&asked.config.path())?;
    let mut reach = Reach::new(&config);
    let request = Request::LogHistory { message_id: asked.message_id.clone() };
    let history = match reach.ask(request)? {
        Response::History { history } => history,
        other => return control::refused(other),
    };
    if history.records.is_empty() {
        bail!("the log has no record of {}", plain(&asked.message_id));
    }
    let open = history.records.iter().filter(|record| record.seal.is_none()).count();
    write(&asked.output, &history.octets()?)?;
    let (records, file) = (history.records.len(), asked.output.display());
    let mut text = format!("{records} records with their proofs are in {file}");
    if open > 0 {
        text += &format!("\n{open} of them are not sealed yet: run `ceralacca log seal` before");
    }
    say(asked.json, &Exported { file: &asked.output, records, unsealed: open }, &text)
}

/// What a program reads of an export.
#[derive(Serialize)]
struct Exported<'a> {
    file: &'a Path,
    records: usize,
    /// Of these, without a proof yet.
    unsealed: usize,
}

/// What it reads of records that were removed.
#[derive(Serialize)]
struct Expired {
    removed: u64,
}

/// A file, whole and on disk.
pub(crate) fn write(path: &Path, octets: &[u8]) -> anyhow::Result<()> {
    let unwritable = || format!("{} cannot be written", path.display());
    let mut file = File::create(path).with_context(unwritable)?;
    file.write_all(octets).and_then(|()| file.sync_all()).with_context(unwritable)
}

/// Holds the log, or what was taken out of it, against its seals.
fn verify(asked: &LogVerify) -> anyhow::Result<bool> {
    let config = match (&asked.ca, &asked.file) {
        (Some(_), Some(_)) => None,
        (None, Some(_)) => asked.config.existing().map(|file| Config::load(&file)).transpose()?,
        (_, None) => Some(Config::load(&asked.config.path())?),
    };
    let (signers, stampers) = match (&asked.ca, &config) {
        (Some(file), _) => (verify::named_trust(file)?, verify::named_trust(file)?),
        (None, Some(config)) => (material::trust(config)?, material::stamp_trust(config)?),
        (None, None) => bail!(
            "nobody is named who may issue certificates: name their file with --ca, or a \
             configuration with --config"
        ),
    };
    let believed = Believed { signers: &signers, stampers: &stampers };
    let found = match (&asked.file, &config) {
        (Some(file), _) => history_in(file)?.check(believed),
        (None, Some(config)) => {
            check::check(&mut Reach::new(config), believed, asked.day, Timestamp::now())?
        }
        (None, None) => bail!("no configuration: name it with --config"),
    };
    let verdict = verdict(&found, asked.file.is_some(), asked.strict);
    let holds = verdict == VALID;
    let mut out = std::io::stdout().lock();
    if asked.json {
        #[derive(Serialize)]
        struct Answer<'a> {
            verdict: &'a str,
            #[serde(flatten)]
            found: &'a Found,
        }
        writeln!(out, "{}", serde_json::to_string(&Answer { verdict, found: &found })?)?;
        return Ok(holds);
    }
    let Found { seals, records, unsealed, .. } = &found;
    if verdict == NOT_PROVED {
        let all = records + unsealed;
        writeln!(out, "NOT proved: {unsealed} of {all} records, which no seal covers")?;
    } else {
        writeln!(
            out,
            "{verdict}: {records} records under {seals} seals, {unsealed} not sealed yet"
        )?;
    }
    for finding in &found.faults {
        writeln!(out, "WRONG  {}", plain(&finding.text))?;
    }
    for note in &found.notes {
        writeln!(out, "note   {}", plain(note))?;
    }
    Ok(holds)
}

const VALID: &str = "valid";
const INVALID: &str = "invalid";
const NOT_PROVED: &str = "not proved";

/// What is said of a log, or of a history that was taken out of one. In a log, what was written since
/// the last seal is as it should be; in a file nobody but its writer vouches for it.
fn verdict(found: &Found, is_file: bool, strict: bool) -> &'static str {
    match found {
        Found { faults, .. } if !faults.is_empty() => INVALID,
        Found { unsealed, .. } if is_file && *unsealed > 0 => NOT_PROVED,
        Found { notes, .. } if strict && !notes.is_empty() => INVALID,
        Found { .. } => VALID,
    }
}

/// The history in a file: alone, or in an evidence bundle.
fn history_in(file: &Path) -> anyhow::Result<History> {
    if bundle::is_one(file)? {
        let octets = bundle::Bundle::open(file)?.read(bundle::HISTORY)?;
        return History::read(&octets);
    }
    let unreadable = || format!("{} cannot be read", file.display());
    let mut octets = Vec::new();
    let opened = File::open(file).with_context(unreadable)?;
    opened.take(HISTORY_OCTETS_MAX as u64 + 1).read_to_end(&mut octets).with_context(unreadable)?;
    History::read(&octets)
}

/// Removes what is past its time.
fn expire(asked: &LogExpire) -> anyhow::Result<bool> {
    let config = Config::load(&asked.config.path())?;
    let mut reach = Reach::new(&config);
    let (mut after, mut removed) = (0, 0);
    'all: loop {
        let seals = reach.seals(after)?;
        let Some(last) = seals.last() else { break };
        after = last.number;
        for seal in seals {
            let said = Statement::parse(&seal.octets)?;
            if said.until > asked.before {
                break 'all;
            }
            loop {
                match reach.ask(Request::ExpireSeal { seal: seal.number })? {
                    Response::Expired { removed: 0 } => break,
                    Response::Expired { removed: some } => removed += some,
                    other => return Err(unexpected(other)),
                }
            }
        }
    }
    let text = format!("{removed} records are removed; their seals stay");
    say(asked.json, &Expired { removed }, &text)
}

/// A record as a program reads it: every field is there, those an event does not have are null or
/// empty.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event: &'a str,
    identificativo: Option<&'a str>,
    message_id: Option<&'a str>,
    mittente: Option<&'a str>,
    destinatari: &'a [LoggedRecipient],
    oggetto: Option<&'a str>,
    gestore: Option<&'a str>,
    consegna: Option<&'a str>,
    ricezione: &'a [String],
    errore: Option<&'a str>,
    errore_esteso: Option<&'a str>,
    msgid: Option<&'a str>,
    notes: &'a [String],
}

fn json(record: &LogRecord) -> serde_json::Result<String> {
    serde_json::to_string(&Line {
        time: rfc3339(record.time),
        event: &record.event,
        identificativo: record.identificativo.as_deref(),
        message_id: record.message_id.as_deref(),
        mittente: record.mittente.as_deref(),
        destinatari: &record.destinatari,
        oggetto: record.oggetto.as_deref(),
        gestore: record.gestore.as_deref(),
        consegna: record.consegna.as_deref(),
        ricezione: &record.ricezione,
        errore: record.errore.as_deref(),
        errore_esteso: record.errore_esteso.as_deref(),
        msgid: record.msgid.as_deref(),
        notes: &record.notes,
    })
}

fn line(record: &LogRecord) -> String {
    let or_dash = |text: &Option<String>| text.as_deref().unwrap_or("-").to_owned();
    let to = match (&record.consegna, &record.ricezione[..]) {
        (Some(one), _) => one.clone(),
        (None, []) => named(record.destinatari.iter().map(|recipient| &recipient.address)),
        (None, taken) => named(taken.iter()),
    };
    let mut line = format!(
        "{}  {:<17}  {} -> {to}  {}",
        shown(record.time),
        record.event,
        or_dash(&record.mittente),
        or_dash(&record.identificativo),
    );
    if let Some(error) = &record.errore {
        line += &format!("  {error}: {}", or_dash(&record.errore_esteso));
    }
    for note in &record.notes {
        line += &format!("  ({note})");
    }
    plain(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> LogRecord {
        let recipient = |local: &str| LoggedRecipient {
            address: format!("{local}@pec.beta.example"),
            tipo: "certificato".to_owned(),
        };
        LogRecord {
            time: "2026-07-01T10:00:00.5Z".parse().unwrap(),
            event: "accettazione".to_owned(),
            identificativo: Some("1@pec.alfa.example".to_owned()),
            mittente: Some("anna@pec.alfa.example".to_owned()),
            destinatari: ["a", "b", "c"].map(recipient).into(),
            oggetto: Some("\u{1b}[31mrosso".to_owned()),
            ..LogRecord::default()
        }
    }

    #[test]
    fn a_program_reads_every_field_and_the_legal_time() {
        let expected = concat!(
            r#"{"time":"2026-07-01T12:00:00+02:00","event":"accettazione","#,
            r#""identificativo":"1@pec.alfa.example","message_id":null,"#,
            r#""mittente":"anna@pec.alfa.example","destinatari":["#,
            r#"{"address":"a@pec.beta.example","tipo":"certificato"},"#,
            r#"{"address":"b@pec.beta.example","tipo":"certificato"},"#,
            r#"{"address":"c@pec.beta.example","tipo":"certificato"}],"#,
            r#""oggetto":"\u001b[31mrosso","gestore":null,"consegna":null,"ricezione":[],"#,
            r#""errore":null,"errore_esteso":null,"msgid":null,"notes":[]}"#,
        );
        assert_eq!(json(&record()).unwrap(), expected);
    }

    // PEC-LOG-03: in the log there may be what is not sealed yet, in a file it proves nothing
    #[test]
    fn what_no_seal_covers_is_not_proved_in_a_file() {
        let found = |unsealed, notes: &[&str], faults: &[&str]| Found {
            unsealed,
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
            faults: faults
                .iter()
                .map(|text| check::Finding { seal: None, record: None, text: (*text).to_owned() })
                .collect(),
            ..Found::default()
        };
        for (found, is_file, strict, expected) in [
            (found(0, &[], &[]), true, true, VALID),
            (found(1, &[], &[]), true, false, NOT_PROVED),
            (found(1, &["note"], &[]), true, true, NOT_PROVED),
            (found(1, &[], &["fault"]), true, false, INVALID),
            (found(1, &[], &[]), false, true, VALID),
            (found(0, &["note"], &[]), false, false, VALID),
            (found(0, &["note"], &[]), false, true, INVALID),
        ] {
            assert_eq!(verdict(&found, is_file, strict), expected, "{found:?}");
        }
    }

    #[test]
    fn a_person_reads_a_line() {
        let mut record = record();
        let begin = "2026-07-01 12:00:00 +02:00  accettazione       anna@pec.alfa.example -> ";
        let three = "a@pec.beta.example, b@pec.beta.example, c@pec.beta.example";
        assert_eq!(line(&record), format!("{begin}{three}  1@pec.alfa.example"));
        record.destinatari.push(record.destinatari[0].clone());
        assert_eq!(line(&record), format!("{begin}{three} and 1 more  1@pec.alfa.example"));
        record.consegna = Some("b@pec.beta.example".to_owned());
        record.errore = Some("no-dest".to_owned());
        record.errore_esteso = Some("5.1.1\u{7}".to_owned());
        record.notes = vec!["no list".to_owned()];
        let end = "b@pec.beta.example  1@pec.alfa.example  no-dest: 5.1.1\u{fffd}  (no list)";
        assert_eq!(line(&record), format!("{begin}{end}"));
        let bare = LogRecord { event: "rifiuto".to_owned(), ..LogRecord::default() };
        assert_eq!(line(&bare), "1970-01-01 01:00:00 +01:00  rifiuto            - -> -  -");
    }
}
