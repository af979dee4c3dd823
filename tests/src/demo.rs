//! A demo provider as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use crate::wire;
use crate::{Imap, Smtp};

/// The password of every demo account.
pub const PASSWORD: &str = "ceralacca-demo";
/// How long the first start may take, key generation included, on a busy machine.
const START_WAIT: Duration = Duration::from_secs(60);
/// How long an orderly stop may take.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// A running `ceralacca demo`, killed when dropped.
pub struct Demo {
    child: Child,
    /// The ready line.
    pub ready: Value,
    /// Everything it keeps.
    pub data: PathBuf,
    tls: Arc<rustls::ClientConfig>,
    /// Where it writes its log.
    pub log: PathBuf,
}

/// The program under test: `CERALACCA_BIN`, or what cargo built beside the test.
///
/// # Errors
///
/// When there is none.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("CERALACCA_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    for folder in test.ancestors().skip(1).take(3) {
        let program = folder.join("ceralacca");
        if program.is_file() {
            return Ok(program);
        }
    }
    bail!("no ceralacca beside {}: run `cargo build --bin ceralacca` first", test.display())
}

/// Where port bases are looked for: below the ports that outgoing connections get by default.
const PORT_BASES: std::ops::Range<u32> = 10_000..31_000;

/// A port base such that all seven ports are free now, and another at every call of this process.
///
/// # Errors
///
/// When none is found.
pub fn free_port_base() -> anyhow::Result<u16> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    for _ in 0..200 {
        // Far from those of other processes. No two ports of a demo lie 3, 6, ... 30 apart, so
        // demos that start at the same time do not take each other's.
        let calls = CALLS.fetch_add(1, Ordering::Relaxed);
        let steps = std::process::id().wrapping_mul(2_654_435_761).wrapping_add(calls * 3);
        let base = u16::try_from(PORT_BASES.start + steps % PORT_BASES.len() as u32)?;
        let free = |port: u16| TcpListener::bind(("127.0.0.1", base + port)).is_ok();
        if [25, 80, 143, 465, 587, 993, 995].into_iter().all(free) {
            return Ok(base);
        }
    }
    bail!("no range of free ports was found")
}

/// Lets this process, and the demos it starts, open as many files and sockets as the system allows.
///
/// # Errors
///
/// When the limit cannot be changed.
pub fn raise_descriptor_limit() -> anyhow::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, most)?)
}

impl Demo {
    /// Starts a demo in this folder, on free ports, and waits for its ready line.
    ///
    /// # Errors
    ///
    /// When it does not become ready; its log is told then.
    pub fn start(data: &Path) -> anyhow::Result<Self> {
        Self::start_with(data, free_port_base()?, &[])
    }

    /// Starts a demo whose configuration has each of these texts changed for the other, and this
    /// added at its end.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); when one of the texts is not in it.
    pub fn start_changed(
        data: &Path,
        changes: &[(&str, &str)],
        more: &str,
    ) -> anyhow::Result<Self> {
        Self::start(data)?.stop()?;
        let file = data.join("ceralacca.toml");
        let mut text = std::fs::read_to_string(&file)?;
        for (from, to) in changes {
            if !text.contains(from) {
                bail!("no {from:?} in {text}");
            }
            text = text.replace(from, to);
        }
        std::fs::write(&file, text + more)?;
        Self::start(data)
    }

    /// As [`start`](Self::start), on given ports and with further environment variables.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(data: &Path, base: u16, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = Command::new(program()?);
        command.arg("demo").arg("--data").arg(data);
        command.args(["--port-base", &base.to_string(), "--json"]).envs(env.iter().copied());
        Self::spawn(command, data)
    }

    /// As [`start`](Self::start), with its log written to this file.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_logging_to(data: &Path, log: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(program()?);
        command.arg("demo").arg("--data").arg(data).env("RUST_LOG", "debug");
        command.args(["--port-base", &free_port_base()?.to_string(), "--json"]);
        Self::spawn_logging_to(command, data, log)
    }

    /// Starts `ceralacca serve` on the provider that `init` made in this folder.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn serve(data: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(program()?);
        command.arg("serve").arg("--config").arg(data.join("ceralacca.toml")).arg("--json");
        Self::spawn(command, data)
    }

    fn spawn(command: Command, data: &Path) -> anyhow::Result<Self> {
        Self::spawn_logging_to(command, data, &data.with_extension("log"))
    }

    fn spawn_logging_to(mut command: Command, data: &Path, log: &Path) -> anyhow::Result<Self> {
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, line) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            let read = stdout.read_line(&mut line).map(|_| line);
            // Who waited may be gone. What else comes must be read, or the demo would block.
            let _ = sender.send(read);
            let _ = stdout.read_to_end(&mut Vec::new());
        });
        let told = line.recv_timeout(START_WAIT);
        let line = match told {
            Ok(line) => line?,
            Err(_) => {
                child.kill()?;
                child.wait()?;
                bail!("not ready after {START_WAIT:?}: {}", tail(log));
            }
        };
        if line.is_empty() {
            let status = child.wait()?;
            bail!("ended with {status} before it was ready: {}", tail(log));
        }
        let ready: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let ca = ready["ca"].as_str().context("no ca in the ready line")?;
        let tls = wire::trusting(&std::fs::read(ca)?)?;
        Ok(Self { child, ready, data: data.to_owned(), tls, log: log.to_owned() })
    }

    /// The address of a listener, by its name in the ready line.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub fn address(&self, service: &str) -> anyhow::Result<SocketAddr> {
        let address = self.ready["listeners"][service].as_str();
        Ok(address.ok_or_else(|| anyhow!("no listener {service}"))?.parse()?)
    }

    /// The TLS settings of a client that trusts the demo's authority.
    pub fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.tls.clone()
    }

    /// A client on 465 that has signed in.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub fn submit_as(&self, login: &str) -> anyhow::Result<Smtp> {
        let mut smtp = Smtp::connect(self.address("submissions")?, &self.tls)?;
        smtp.hello()?;
        smtp.login(login, PASSWORD)?;
        Ok(smtp)
    }

    /// A client on 993 that has signed in.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub fn imap_as(&self, login: &str) -> anyhow::Result<Imap> {
        let mut imap = Imap::connect(self.address("imaps")?, &self.tls)?;
        imap.login(login, PASSWORD)?;
        Ok(imap)
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing is finished, nothing is flushed.
    ///
    /// # Errors
    ///
    /// When it was gone already.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(rustix::process::Signal::TERM)?;
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if asked.elapsed() > STOP_WAIT {
                bail!("not stopped after {STOP_WAIT:?}: {}", tail(&self.log));
            }
            wire::pause();
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("no such process")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(log: &Path) -> String {
    if !log.is_file() {
        return "its log is not in a file".to_owned();
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
