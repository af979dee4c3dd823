//! `log find`: what happened to a message, or around an account, in the log of certified mail.

use std::io::Write;

use serde::Serialize;
use store::{LogRecord, LoggedRecipient};

use super::{named, plain, rfc3339, shown};
use crate::args::LogCommand;
use crate::config::Config;
use crate::control::{self, Reach, Request, Response, Wanted};

/// Finds records and prints them, oldest first. `false`: it was refused, and the reason is printed.
///
/// # Errors
///
/// When neither the server nor the store can be reached.
pub(crate) fn run(command: LogCommand) -> anyhow::Result<bool> {
    let LogCommand::Find(find) = command;
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
