//! Debian's Dovecot as a process of its own, with a configuration folder of its own, on loopback.
//!
//! It is set up as its own documentation says a busy site should: the high-performance login service, processes that
//! serve one session after the other, credentials in a cache; and it keeps every message it has acknowledged
//! (`mail_fsync=optimized`, its default). Nothing of `/etc/dovecot` is read. It needs root, as Dovecot does.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};
use scenarios::wire;

/// How long it may take to start or to end.
const WAIT: Duration = Duration::from_secs(60);
/// Whose the mail is on disk: nobody who could do anything with it.
const OWNER: &str = "nobody";
/// Sessions at once at most: more than any benchmark opens.
const SESSIONS_MAX: usize = 12_000;

/// How mail lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A file a message.
    Maildir,
    /// Many messages a file.
    Mdbox,
}

/// What a Dovecot is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything of it is; everybody may enter it.
    pub folder: PathBuf,
    /// How mail lies on disk.
    pub format: Format,
    /// Its certificate with what it is signed by, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// With this password everybody may sign in, under any name: each has mail of its own.
    pub password: String,
    /// False while mailboxes are filled: then nothing waits for the disk.
    pub durable: bool,
}

/// A running Dovecot, ended when dropped.
pub struct Dovecot {
    child: Child,
    /// Where IMAP with TLS is spoken.
    pub imaps: SocketAddr,
    /// Where LMTP is spoken, in clear.
    pub lmtp: SocketAddr,
}

impl Dovecot {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it is not installed, this is not root, or it does not start: its log is told then.
    pub fn start(plan: &Plan) -> anyhow::Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "Dovecot wants to be started by root");
        let folder = &plan.folder;
        let mail = folder.join("mail");
        for folder in [folder, &mail] {
            std::fs::create_dir_all(folder)?;
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        }
        let (owner, group) = owner()?;
        std::os::unix::fs::chown(&mail, Some(owner), Some(group))?;
        let (imaps, lmtp) = (free_port()?, free_port()?);
        let file = folder.join("dovecot.conf");
        std::fs::write(&file, configuration(plan, imaps, lmtp)?)?;
        let log = folder.join("dovecot.log");
        // What an earlier start said is no longer of interest.
        std::fs::write(&log, "")?;
        let child = Command::new("/usr/sbin/dovecot")
            .arg("-F")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("no Dovecot: run `apt-get install dovecot-imapd dovecot-lmtpd`")?;
        let mut dovecot = Self { child, imaps, lmtp };
        let listens = wire::until_within("Dovecot", WAIT, || {
            if let Some(status) = dovecot.child.try_wait()? {
                bail!("Dovecot ended with {status}");
            }
            Ok(wire::Wire::clear(imaps).is_ok().then_some(()))
        });
        listens.with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        Ok(dovecot)
    }

    /// Its processes.
    ///
    /// # Errors
    ///
    /// When processes cannot be listed.
    pub fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let mut found = vec![self.child.id()];
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may end while it is looked at.
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
            if parent.and_then(|text| text.parse().ok()) == Some(self.child.id()) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Ends it, and waits until all of it is gone.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let all = self.processes()?;
        self.ask_to_end();
        wire::until_within("Dovecot's end", WAIT, || {
            let gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
            Ok((self.child.try_wait()?.is_some() && all.iter().all(gone)).then_some(()))
        })
    }

    fn ask_to_end(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended already.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its master ends the others; killed, it could not.
        self.ask_to_end();
        let _ = self.child.wait();
    }
}

fn owner() -> anyhow::Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.split(':').next() == Some(OWNER));
    let mut fields = line.with_context(|| format!("no user {OWNER}"))?.split(':').skip(2);
    let mut number = || fields.next().context("no number")?.parse().context("no number");
    Ok((number()?, number()?))
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

fn configuration(plan: &Plan, imaps: SocketAddr, lmtp: SocketAddr) -> anyhow::Result<String> {
    let folder = plan.folder.to_str().context("a path that is no text")?;
    let location = match plan.format {
        Format::Maildir => "maildir:~/Maildir",
        Format::Mdbox => "mdbox:~/mdbox",
    };
    let (owner, group) = owner()?;
    let cores = std::thread::available_parallelism()?;
    Ok(format!(
        "base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
listen = 127.0.0.1
protocols = imap lmtp
first_valid_uid = 1
first_valid_gid = 1
mail_home = {folder}/mail/%u
mail_location = {location}
mail_fsync = {fsync}
mail_max_userip_connections = {SESSIONS_MAX}
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
auth_mechanisms = plain
auth_cache_size = 16 M
default_process_limit = {SESSIONS_MAX}
default_client_limit = {clients}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={owner} gid={group} home={folder}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  service_count = 0
  process_min_avail = {cores}
  process_limit = {cores}
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {imaps}
    ssl = yes
  }}
}}
service imap {{
  service_count = 0
  process_min_avail = {cores}
}}
service lmtp {{
  service_count = 0
  process_min_avail = {cores}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
",
        fsync = if plan.durable { "optimized" } else { "never" },
        certificate = plan.certificate.display(),
        key = plan.key.display(),
        clients = SESSIONS_MAX * 5,
        password = plan.password,
        imaps = imaps.port(),
        lmtp = lmtp.port(),
    ))
}
