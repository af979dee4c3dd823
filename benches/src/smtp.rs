//! What the rows of the benchmark `smtp` share: clients that send as fast as they are answered, and
//! Postfix beside us, on the same file system and with the same certificate.

pub mod connections;
pub mod delivery;
pub mod large;
pub mod relay;
pub mod submission;

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
pub use scenarios::mta::folder;
use scenarios::mta::{Kind, Mta, Setting, free_address};
use scenarios::{Demo, Smtp};

use crate::dovecot::{Dovecot, Format, Plan};

/// Who sends from outside, and for whom Postfix keeps mail.
pub const STRANGER: &str = "cliente@ordinary.example";
/// Octets of a message, unless a row is about others.
pub const OCTETS: usize = 20_000;
/// Accounts of Postfix's domain that mail is spread over: one alone would wait for its own locks.
pub const ACCOUNTS: usize = 64;

/// Postfix with Debian's limits, which takes what comes from this machine.
///
/// # Errors
///
/// When it does not start.
pub fn postfix(pem: &Path, more: &str) -> anyhow::Result<Mta> {
    let setting = Setting {
        listen: free_address(2525)?,
        keeps: vec!["ordinary.example".to_owned()],
        routes: Vec::new(),
        puts_off: false,
        tls: Some((pem.join("tls.key"), pem.join("tls.pem"))),
        more: more.to_owned(),
    };
    Mta::started(Kind::Postfix, setting)
}

/// Dovecot with a Maildir for each account, and the count of what is in them.
pub struct Mailboxes {
    dovecot: Dovecot,
    mail: PathBuf,
}

impl Mailboxes {
    /// Starts it in this folder, with the certificate of a demo.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(folder: &Path, demo: &Demo) -> anyhow::Result<Self> {
        let folder = folder.join("dovecot");
        let dovecot = Dovecot::start(&Plan {
            folder: folder.clone(),
            format: Format::Maildir,
            certificate: demo.data.join("tls.pem"),
            key: demo.data.join("tls.key"),
            password: "unused".to_owned(),
            durable: true,
        })?;
        Ok(Self { dovecot, mail: folder.join("mail") })
    }

    /// The lines of Postfix's configuration that lead to it.
    pub fn transport(&self) -> String {
        format!("virtual_transport = lmtp:inet:{}\n", self.dovecot.lmtp)
    }

    /// Messages in all of them.
    ///
    /// # Errors
    ///
    /// When they cannot be listed.
    pub fn messages(&self) -> anyhow::Result<usize> {
        let mut count = 0;
        for account in std::fs::read_dir(&self.mail)? {
            let new = account?.path().join("Maildir/new");
            if new.is_dir() {
                count += std::fs::read_dir(new)?.count();
            }
        }
        Ok(count)
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn stop(self) -> anyhow::Result<()> {
        self.dovecot.stop()
    }
}

/// Clients on a port with STARTTLS, each past its second EHLO.
///
/// # Errors
///
/// When one is refused.
pub fn clients(
    address: SocketAddr,
    tls: &Arc<rustls::ClientConfig>,
    count: usize,
) -> anyhow::Result<Vec<Smtp>> {
    let one = |_| {
        let mut smtp = Smtp::connect_clear(address)?;
        smtp.hello()?;
        let mut smtp = smtp.start_tls(tls)?;
        smtp.hello()?;
        Ok(smtp)
    };
    (0..count).map(one).collect()
}

/// Clients on port 465 that have signed in.
///
/// # Errors
///
/// When one is refused.
pub fn signed_in(demo: &Demo, login: &str, count: usize) -> anyhow::Result<Vec<Smtp>> {
    (0..count).map(|_| demo.submit_as(login)).collect()
}

/// Text that no two messages have in common, as attachments are: what repeats, our store keeps once and
/// shrinks, and Postfix does not.
pub struct Bodies(Vec<u8>);

/// Octets of a line with its end, RFC 2045 §6.8.
const LINE: usize = 78;

impl Bodies {
    /// For so many octets of messages; then it begins again.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn random(octets: usize) -> anyhow::Result<Self> {
        let mut noise = Vec::new();
        let count = octets as u64 * 57 / LINE as u64;
        File::open("/dev/urandom")?.take(count).read_to_end(&mut noise)?;
        Ok(Self(mail::encoding::base64_lines(&noise)))
    }

    /// Message `number` of about so many octets, as it is on the wire, with the end of data. No line of
    /// it begins with a dot.
    pub fn message(&self, from: &str, to: &str, number: usize, octets: usize) -> Vec<u8> {
        let header = format!(
            "From: {from}\r\nTo: {to}\r\nSubject: prova {number}\r\n\
             Date: Mon, 14 Sep 2026 09:30:01 +0200\r\nMessage-ID: <{number}@bench.example>\r\n\
             MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n"
        );
        let lines = octets.saturating_sub(header.len()) / LINE;
        let all = self.0.len() / LINE;
        let first = (number * lines) % (all - lines).max(1);
        [header.as_bytes(), &self.0[first * LINE..(first + lines) * LINE], b".\r\n"].concat()
    }
}

/// One message in one transaction, pipelined as far as that goes; `message` is as it is on the wire.
///
/// # Errors
///
/// When it is refused.
pub fn send(smtp: &mut Smtp, from: &str, to: &str, message: &[u8]) -> anyhow::Result<()> {
    begin(smtp, from, to)?;
    smtp.wire.write(message)?;
    smtp.expect("250")?;
    Ok(())
}

/// A transaction up to its data.
///
/// # Errors
///
/// When it is refused.
pub fn begin(smtp: &mut Smtp, from: &str, to: &str) -> anyhow::Result<()> {
    let commands = format!("MAIL FROM:<{from}>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
    smtp.wire.write(commands.as_bytes())?;
    for code in ["250", "250", "354"] {
        smtp.expect(code)?;
    }
    Ok(())
}

/// How much a load does: until a time is over, or so many messages.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// As long as this.
    Time(Duration),
    /// This many.
    Count(usize),
}

/// Has each client send the next message as soon as its last is answered; how many were, and how long
/// it took.
///
/// # Errors
///
/// When one is refused.
pub fn load(
    clients: &mut [Smtp],
    until: Until,
    one: impl Fn(&mut Smtp, usize) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<(usize, Duration)> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let began = Instant::now();
    let work = |client: &mut Smtp| -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let over = match until {
                Until::Time(time) => began.elapsed() >= time,
                Until::Count(count) => number >= count,
            };
            if over {
                return Ok(());
            }
            one(client, number).with_context(|| format!("message {number}"))?;
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let work = &work;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(move || work(client))).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    Ok((done.into_inner(), began.elapsed()))
}

/// So many in this time, for a second.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
pub fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Measures both in turn, so that what else the machine does falls on both, and tells the medians and
/// their ratio.
///
/// # Errors
///
/// When a run fails.
pub fn side_by_side(
    what: &str,
    runs: usize,
    mut ours: impl FnMut() -> anyhow::Result<f64>,
    mut theirs: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    let (mut we, mut they) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        we.push(ours()?);
        they.push(theirs()?);
    }
    let (we, they) = (Figures::of(we)?, Figures::of(they)?);
    crate::say(&format!("{what}: ceralacca"), &we);
    crate::say(&format!("{what}: Postfix"), &they);
    crate::say(&format!("{what}: ratio"), format!("{:.2}", we.median / they.median));
    Ok(())
}

/// Figures of several runs.
pub struct Figures {
    all: Vec<f64>,
    /// The middle one.
    pub median: f64,
}

impl Figures {
    /// # Errors
    ///
    /// When there are none.
    pub fn of(mut all: Vec<f64>) -> anyhow::Result<Self> {
        all.sort_by(f64::total_cmp);
        let median = *all.get(all.len() / 2).context("no run")?;
        Ok(Self { all, median })
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<String> = self.all.iter().map(|figure| format!("{figure:.1}")).collect();
        write!(f, "{:.1} ({})", self.median, all.join(" "))
    }
}
