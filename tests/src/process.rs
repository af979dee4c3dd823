//! What the machine and the pages tell of a running demo, and commands beside it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::demo::program;
use crate::{Demo, wire};

/// How long the queue may take to empty once nothing new comes.
const SETTLE_WAIT: Duration = Duration::from_secs(600);
/// The account that take-charge receipts go to.
pub const SERVICE_MAILBOX: &str = "ricevute@pec.alfa.example";

impl Demo {
    /// Asks for a page: its status and text.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub fn page(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut socket = TcpStream::connect(self.address("http")?)?;
        socket.set_read_timeout(Some(wire::ANSWER_WAIT))?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).context("no status")?.parse()?;
        let (_, text) = answer.split_once("\r\n\r\n").context("no end of the header")?;
        Ok((status, text.to_owned()))
    }

    /// How many jobs of the pipeline are still to be done.
    ///
    /// # Errors
    ///
    /// When the pages do not tell.
    pub fn jobs_waiting(&self) -> anyhow::Result<u64> {
        // Looking whether it is ready brings the number up to date.
        self.page("/ready")?;
        let (_, metrics) = self.page("/metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("ceralacca_jobs_waiting "));
        Ok(line.context("no ceralacca_jobs_waiting")?.parse()?)
    }

    /// Waits until every job is done.
    ///
    /// # Errors
    ///
    /// When that does not come.
    pub fn settle(&self) -> anyhow::Result<()> {
        wire::until_within("an empty queue", SETTLE_WAIT, || {
            Ok((self.jobs_waiting()? == 0).then_some(()))
        })
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.context("no VmRSS")?.trim().trim_end_matches(" kB").parse()?)
    }

    /// The number of the process that signs, if there is one now.
    ///
    /// # Errors
    ///
    /// When processes cannot be listed, or several have the key: one outlived the program that it
    /// served.
    pub fn signer(&self) -> anyhow::Result<Option<u32>> {
        let key = self.data.join("signing.key");
        let mut signers = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may end while it is looked at.
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = command.split(|&octet| octet == 0).collect();
            if words.contains(&b"signer".as_slice())
                && words.contains(&key.as_os_str().as_encoded_bytes())
            {
                signers.push(pid);
            }
        }
        ensure!(signers.len() <= 1, "several processes have the key: {signers:?}");
        Ok(signers.pop())
    }
}

/// Runs a command of the program to its end.
///
/// # Errors
///
/// When it cannot be started.
pub fn run(arguments: &[&str], input: &str) -> anyhow::Result<Output> {
    let mut child = Command::new(program()?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    Ok(child.wait_with_output()?)
}

/// As [`run`], of an account command on the provider in `data`; what it printed.
///
/// # Errors
///
/// When it is refused.
pub fn account(data: &Path, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let config = data.join("ceralacca.toml");
    let config = config.to_str().context("a path that is no text")?;
    let output = run(&[&["account"], arguments, &["--config", config]].concat(), input)?;
    if !output.status.success() {
        bail!("account {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Lets the operator read the service mailbox with this password, as the law has it read.
///
/// # Errors
///
/// As [`account`].
pub fn open_service_mailbox(data: &Path, password: &str) -> anyhow::Result<()> {
    account(data, &["passwd", SERVICE_MAILBOX, "--password-stdin"], &format!("{password}\n"))?;
    Ok(())
}
