//! `queue`: what waits to be done, why, having it tried again, and giving it up.

use std::io::Write;

use serde::Serialize;

use super::{named, plain, rfc3339, say, shown};
use crate::args::QueueCommand;
use crate::config::Config;
use crate::control::{self, JobView, Reach, Request, Response};

/// Does a command and prints its answer. `false`: it was refused, and the reason is printed.
///
/// # Errors
///
/// When neither the server nor the store can be reached.
pub(crate) fn run(command: QueueCommand) -> anyhow::Result<bool> {
    match command {
        QueueCommand::List(list) => print_all(&Config::load(&list.config.path())?, list.json),
        QueueCommand::Show(show) => {
            let config = Config::load(&show.config.path())?;
            match Reach::new(&config).ask(Request::ShowJob { job: show.job })? {
                Response::Jobs { jobs, .. } => {
                    let mut out = std::io::stdout().lock();
                    for job in &jobs {
                        let text = if show.json { json(job)? + "\n" } else { page(job) };
                        out.write_all(text.as_bytes())?;
                    }
                    Ok(true)
                }
                other => control::refused(other),
            }
        }
        QueueCommand::Cancel(cancel) => {
            let config = Config::load(&cancel.config.path())?;
            match Reach::new(&config).ask(Request::CancelJob { job: cancel.job })? {
                Response::Done { text } => {
                    let cancelled = Cancelled { job: cancel.job, cancelled: true };
                    say(cancel.json, &cancelled, &text)
                }
                other => control::refused(other),
            }
        }
        QueueCommand::Retry(retry) => {
            let config = Config::load(&retry.config.path())?;
            match retry.job {
                Some(job) => retry_one(&config, job, retry.json),
                None => retry_all(&config, retry.json),
            }
        }
    }
}

fn print_all(config: &Config, as_json: bool) -> anyhow::Result<bool> {
    let mut reach = Reach::new(config);
    let mut out = std::io::stdout().lock();
    let mut after = Some(0);
    while let Some(number) = after {
        match reach.ask(Request::ListJobs { after: number })? {
            Response::Jobs { jobs, next } => {
                for job in &jobs {
                    writeln!(out, "{}", if as_json { json(job)? } else { line(job) })?;
                }
                after = next;
            }
            other => return control::refused(other),
        }
    }
    Ok(true)
}

/// What a program reads of a retry.
#[derive(Serialize)]
struct Retried {
    /// Jobs that were put off, and are due now.
    due_now: u64,
}

/// What it reads of a job that was given up.
#[derive(Serialize)]
struct Cancelled {
    job: u64,
    cancelled: bool,
}

fn retry_one(config: &Config, job: u64, as_json: bool) -> anyhow::Result<bool> {
    match Reach::new(config).ask(Request::RetryJob { job })? {
        Response::Retried { count, .. } => {
            let text = match count {
                0 => format!("job {job} was due already"),
                _ => format!("job {job} is due now"),
            };
            say(as_json, &Retried { due_now: count }, &text)
        }
        other => control::refused(other),
    }
}

fn retry_all(config: &Config, as_json: bool) -> anyhow::Result<bool> {
    let mut reach = Reach::new(config);
    let (mut total, mut after) = (0, Some(0));
    while let Some(number) = after {
        match reach.ask(Request::RetryJobs { after: number })? {
            Response::Retried { count, next } => (total, after) = (total + count, next),
            other => return control::refused(other),
        }
    }
    let text = match total {
        0 => "no job was put off".to_owned(),
        1 => "1 job is due now".to_owned(),
        more => format!("{more} jobs are due now"),
    };
    say(as_json, &Retried { due_now: total }, &text)
}

/// A job as a program reads it.
#[derive(Serialize)]
struct Line<'a> {
    job: u64,
    step: &'a str,
    message_id: Option<&'a str>,
    recipients: &'a [String],
    queued: String,
    due: String,
    attempts: u32,
    last_error: Option<&'a str>,
    octets: Option<u64>,
}

fn json(job: &JobView) -> serde_json::Result<String> {
    serde_json::to_string(&Line {
        job: job.job,
        step: &job.step,
        message_id: job.message_id.as_deref(),
        recipients: &job.recipients,
        queued: rfc3339(job.queued),
        due: rfc3339(job.due),
        attempts: job.attempts,
        last_error: job.last_error.as_deref(),
        octets: job.octets,
    })
}

fn line(job: &JobView) -> String {
    let mut line = format!(
        "{:>8}  {:<8}  {}  due {}  {}",
        job.job,
        job.step,
        job.message_id.as_deref().unwrap_or("-"),
        shown(job.due),
        named(job.recipients.iter()),
    );
    if let Some(error) = &job.last_error {
        line += &format!("  put off {} times: {error}", job.attempts);
    }
    plain(&line)
}

fn page(job: &JobView) -> String {
    let fields = [
        ("job", job.job.to_string()),
        ("step", job.step.clone()),
        ("message", job.message_id.clone().unwrap_or_else(|| "-".to_owned())),
        ("for", named(job.recipients.iter())),
        ("octets", job.octets.map_or_else(|| "-".to_owned(), |octets| octets.to_string())),
        ("queued", shown(job.queued)),
        ("due", shown(job.due)),
        ("put off", format!("{} times", job.attempts)),
        ("last error", job.last_error.clone().unwrap_or_else(|| "-".to_owned())),
    ];
    fields.iter().map(|(name, value)| format!("{name:<12}{}\n", plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobView {
        JobView {
            job: 12,
            step: "place".to_owned(),
            message_id: Some("r1@pec.alfa.example".to_owned()),
            recipients: vec!["anna@pec.alfa.example".to_owned()],
            queued: "2026-07-01T10:00:00Z".parse().unwrap(),
            due: "2026-12-01T10:00:00Z".parse().unwrap(),
            attempts: 3,
            last_error: Some("over quota\n".to_owned()),
            octets: Some(4096),
        }
    }

    #[test]
    fn a_person_reads_a_line_or_a_page() {
        assert_eq!(
            line(&job()),
            "      12  place     r1@pec.alfa.example  due 2026-12-01 11:00:00 +01:00  \
             anna@pec.alfa.example  put off 3 times: over quota\u{fffd}"
        );
        assert_eq!(
            page(&JobView { last_error: None, octets: None, ..job() }),
            "job         12\nstep        place\nmessage     r1@pec.alfa.example\n\
             for         anna@pec.alfa.example\noctets      -\n\
             queued      2026-07-01 12:00:00 +02:00\ndue         2026-12-01 11:00:00 +01:00\n\
             put off     3 times\nlast error  -\n"
        );
    }

    #[test]
    fn a_program_reads_json() {
        assert_eq!(
            json(&job()).unwrap(),
            concat!(
                r#"{"job":12,"step":"place","message_id":"r1@pec.alfa.example","#,
                r#""recipients":["anna@pec.alfa.example"],"queued":"2026-07-01T12:00:00+02:00","#,
                r#""due":"2026-12-01T11:00:00+01:00","attempts":3,"#,
                r#""last_error":"over quota\n","octets":4096}"#
            )
        );
    }
}
