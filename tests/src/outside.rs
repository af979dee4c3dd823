//! Mail of a demo to ordinary domains, and what the program tells of it.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::process::run;
use crate::{Demo, wire};

const MARIO: &str = "mario.rossi@pec.alfa.example";

/// A command of the program on a demo that runs; each line of its answer.
///
/// # Errors
///
/// When it refuses.
pub fn told(demo: &Demo, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    let config = demo.data.join("ceralacca.toml");
    let config = config.to_str().context("a path that is no text")?;
    let output = run(&[arguments, &["--json", "--config", config]].concat(), "")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Submits one message to `a@` each of these domains; its PEC msgid.
///
/// # Errors
///
/// When it is refused.
pub fn submit(demo: &Demo, domains: &[&str]) -> anyhow::Result<String> {
    submit_with(demo, "", domains)
}

/// The same, with parameters of MAIL, a space before each.
///
/// # Errors
///
/// When it is refused.
pub fn submit_with(demo: &Demo, parameters: &str, domains: &[&str]) -> anyhow::Result<String> {
    let to: Vec<String> = domains.iter().map(|domain| format!("a@{domain}")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let message = format!(
        "From: {MARIO}\r\nTo: {}\r\nSubject: ciao\r\nMessage-ID: <1@pc.example>\r\n\
         Date: Mon, 14 Sep 2026 09:30:01 +0200\r\n\r\nciao\r\n",
        to.join(",\r\n ")
    );
    demo.submit_as("mrossi")?.submit_with(MARIO, parameters, &to, message.as_bytes())
}

/// What the log says of how a message went to this domain, once it has gone.
///
/// # Errors
///
/// When it does not go.
pub fn sent(demo: &Demo, id: &str, domain: &str) -> anyhow::Result<String> {
    Ok(recorded(demo, id, domain, "trasmissione")?["notes"].to_string())
}

/// The record of why a message was given up for this domain, once it has been.
///
/// # Errors
///
/// When it is not.
pub fn given_up(demo: &Demo, id: &str, domain: &str) -> anyhow::Result<String> {
    Ok(recorded(demo, id, domain, "errore-trasmissione")?.to_string())
}

fn recorded(demo: &Demo, id: &str, domain: &str, event: &str) -> anyhow::Result<Value> {
    wire::until(domain, || {
        let records = told(demo, &["log", "find", "--message-id", id])?;
        let mut there = records.into_iter().filter(|record| record["event"] == event);
        Ok(there.find(|record| record["consegna"] == format!("a@{domain}")))
    })
}

/// Why a message for this domain waits, once it has been tried.
///
/// # Errors
///
/// When it does not wait.
pub fn waits(demo: &Demo, domain: &str) -> anyhow::Result<String> {
    wire::until(domain, || {
        let jobs = told(demo, &["queue", "list"])?;
        let job = jobs.iter().find(|job| job["recipients"][0] == format!("a@{domain}"));
        Ok(job.and_then(|job| job["last_error"].as_str()).map(str::to_owned))
    })
}
