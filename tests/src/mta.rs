//! Postfix, Exim and OpenSMTPD as Debian builds them, started by a test on a port of the loopback: each
//! in a copy of its unpacked packages ([`xtask::debian`]), with `chroot`, so that the machine's own
//! mail server, users and folders are not touched. That takes root.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use xtask::debian;

use crate::wire;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Postfix.
    Postfix,
    /// Exim.
    Exim,
    /// OpenSMTPD.
    OpenSmtpd,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Postfix, Self::Exim, Self::OpenSmtpd];

    /// What [`debian::SERVERS`] calls it; also the first label of the name that it has for itself.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postfix => "postfix",
            Self::Exim => "exim",
            Self::OpenSmtpd => "opensmtpd",
        }
    }

    /// Where its log is, in its folder.
    const fn log(self) -> &'static str {
        match self {
            Self::Postfix => "var/log/mail.log",
            Self::Exim => "var/log/exim4/mainlog",
            Self::OpenSmtpd => "var/log/output",
        }
    }

    /// The program and its arguments, in the foreground.
    const fn command(self) -> &'static [&'static str] {
        match self {
            Self::Postfix => &["/usr/lib/postfix/sbin/master", "-d"],
            Self::Exim => &["/usr/sbin/exim4", "-bdf", "-q1s"],
            Self::OpenSmtpd => &["/usr/sbin/smtpd", "-d"],
        }
    }
}

/// What it does with mail.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Domains whose mail it keeps, whoever it is for.
    pub keeps: Vec<String>,
    /// To whom it hands mail on for these domains: with TLS, or not at all.
    pub routes: Vec<(String, SocketAddr)>,
    /// Whether every recipient is put off for now, as greylisting does.
    pub puts_off: bool,
    /// Its key and certificate, PEM; without, it makes its own.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Further lines of its configuration.
    pub more: String,
}

/// An address of the loopback where nobody listens on this port now, and another at every call: hosts
/// that are found by MX listen on port 25.
///
/// # Errors
///
/// When none is found.
pub fn free_address(port: u16) -> anyhow::Result<SocketAddr> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    for _ in 0..200 {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed);
        let [_, a, b, c] =
            std::process::id().wrapping_mul(2_654_435_761).wrapping_add(calls).to_be_bytes();
        let address = SocketAddr::from(([127, a, b, c.max(2)], port));
        if std::net::TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("port {port} is free on none of 200 addresses of the loopback")
}

/// A folder beside what is unpacked: links reach no further than a file system.
///
/// # Errors
///
/// When it cannot be made.
pub fn folder() -> anyhow::Result<TempDir> {
    let all = debian::target().join("debian");
    fs::create_dir_all(&all)?;
    Ok(tempfile::tempdir_in(all)?)
}

/// How long it may take to listen, and to stop.
const WAIT: Duration = Duration::from_secs(20);
/// Users that exist in its folder alone.
const MAIL: u32 = 65_001;
const POSTFIX: u32 = 65_002;
const POSTDROP: u32 = 65_003;
const EXIM: u32 = 65_004;
/// Where what it keeps lies.
const INBOX: &str = "var/mail/inbox";

/// One of them, and everything it has.
pub struct Mta {
    kind: Kind,
    setting: Setting,
    folder: TempDir,
    serves_tls: bool,
    running: Option<Child>,
}

impl Mta {
    /// Makes its folder; it does not run yet.
    ///
    /// # Errors
    ///
    /// When this is not root, or its packages cannot be had.
    pub fn new(kind: Kind, setting: Setting) -> anyhow::Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "{} is started by root only", kind.name());
        let origin = debian::unpacked(kind.name())?;
        // OpenSMTPD of Debian 12 announces STARTTLS, and fails.
        let serves_tls = kind != Kind::OpenSmtpd || origin.is_newer;
        let folder = folder()?;
        let root = folder.path().join("root");
        told(Command::new("cp").args(["--archive", "--link"]).arg(origin.folder).arg(&root))?;
        let mta = Self { kind, setting, folder, serves_tls, running: None };
        mta.furnish()?;
        Ok(mta)
    }

    /// As [`new`](Self::new), and starts it.
    ///
    /// # Errors
    ///
    /// When it does not listen.
    pub fn started(kind: Kind, setting: Setting) -> anyhow::Result<Self> {
        let mut mta = Self::new(kind, setting)?;
        mta.start()?;
        Ok(mta)
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a client comes to TLS with it.
    #[must_use]
    pub fn serves_tls(&self) -> bool {
        self.serves_tls
    }

    /// Where it listens.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.setting.listen
    }

    /// From its next start on it puts everybody off, or no longer.
    pub fn puts_off(&mut self, puts_off: bool) {
        self.setting.puts_off = puts_off;
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// When it does not listen.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.configure()?;
        let root = self.root();
        let out =
            fs::File::options().create(true).append(true).open(root.join("var/log/output"))?;
        let child = Command::new("chroot")
            .arg(&root)
            .args(self.kind.command())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // Postfix signals its group to stop its own; and so do we.
            .process_group(0)
            .spawn()
            .context("chroot cannot be started")?;
        let child = self.running.insert(child);
        let listen = self.setting.listen;
        let listens = wire::until_within(self.kind.name(), WAIT, || {
            if let Some(status) = child.try_wait()? {
                bail!("it ended with {status}");
            }
            Ok(TcpStream::connect(listen).is_ok().then_some(()))
        });
        listens.with_context(|| self.told())
    }

    /// Stops it, its queue and all that it keeps stay.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.running.take() else { return Ok(()) };
        signal(&child, rustix::process::Signal::TERM);
        let ended = wire::until_within("the end", WAIT, || Ok(child.try_wait()?.map(|_| ())));
        // Who is left of its group goes too.
        signal(&child, rustix::process::Signal::KILL);
        child.wait()?;
        ended.with_context(|| self.told())
    }

    /// What it keeps, in no order, with the line ends of the wire.
    ///
    /// # Errors
    ///
    /// When a message cannot be read.
    pub fn inbox(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let folder = self.root().join(INBOX).join("new");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut messages = Vec::new();
        for file in fs::read_dir(folder)? {
            let text = fs::read(file?.path())?;
            let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|&octet| octet == b'\n');
            messages.push(lines.flat_map(|line| [line, b"\r\n"].concat()).collect());
        }
        Ok(messages)
    }

    /// Waits until it keeps so many messages.
    ///
    /// # Errors
    ///
    /// When they do not come: with what it says itself.
    pub fn wait_for(&self, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        wire::until(&format!("message {count} at {}", self.kind.name()), || {
            Ok(Some(self.inbox()?).filter(|messages| messages.len() >= count))
        })
        .with_context(|| self.told())
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.root().join(self.kind.log())).unwrap_or_default()
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Everything it has said.
    fn told(&self) -> String {
        let output = fs::read_to_string(self.root().join("var/log/output")).unwrap_or_default();
        format!("{} said: {output}\n{}", self.kind.name(), self.log())
    }

    /// Writes a file of its folder anew: what was unpacked is linked, and others use it.
    fn put(&self, path: &str, text: &str) -> anyhow::Result<PathBuf> {
        let file = self.root().join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        if file.exists() {
            fs::remove_file(&file)?;
        }
        fs::write(&file, text)?;
        Ok(file)
    }

    fn folder(&self, path: &str, owner: (u32, u32), mode: u32) -> anyhow::Result<PathBuf> {
        let folder = self.root().join(path);
        fs::create_dir_all(&folder)?;
        chown(&folder, Some(owner.0), Some(owner.1))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
        Ok(folder)
    }

    /// Users, devices, a key and the folders that installing would have made.
    fn furnish(&self) -> anyhow::Result<()> {
        let root = self.root();
        let users = [
            ("root", 0),
            ("mail", MAIL),
            ("postfix", POSTFIX),
            ("postdrop", POSTDROP),
            ("Debian-exim", EXIM),
            ("opensmtpd", 65_005),
            ("opensmtpq", 65_006),
            ("nobody", 65_534),
            ("nogroup", 65_534),
        ];
        let passwd = users.map(|(name, id)| format!("{name}:x:{id}:{id}::/:/bin/false\n")).concat();
        self.put("etc/passwd", &passwd)?;
        self.put("etc/group", &users.map(|(name, id)| format!("{name}:x:{id}:\n")).concat())?;
        self.put("etc/hosts", "127.0.0.1 localhost\n")?;
        for (device, minor) in [("null", "3"), ("random", "8"), ("urandom", "9")] {
            let path = self.folder("dev", (0, 0), 0o755)?.join(device);
            told(Command::new("mknod").args(["-m", "666"]).arg(path).args(["c", "1", minor]))?;
        }
        self.folder("tmp", (0, 0), 0o1777)?;
        self.folder("run", (0, 0), 0o755)?;
        if !root.join("var/run").exists() {
            std::os::unix::fs::symlink("../run", root.join("var/run"))?;
        }
        self.folder("var/log", (0, 0), 0o755)?;
        self.folder("var/mail", (MAIL, MAIL), 0o755)?;
        let (key, certificate) = (root.join("etc/peer.key"), root.join("etc/peer.pem"));
        match &self.setting.tls {
            Some((given_key, given_certificate)) => {
                fs::copy(given_key, &key)?;
                fs::copy(given_certificate, &certificate)?;
            }
            None => make_certificate(self.kind, &key, &certificate)?,
        }
        match self.kind {
            Kind::Postfix => {
                for queue in [
                    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold",
                    "incoming", "private", "saved", "trace",
                ] {
                    self.folder(&format!("var/spool/postfix/{queue}"), (POSTFIX, 0), 0o700)?;
                }
                self.folder("var/spool/postfix/pid", (0, 0), 0o755)?;
                self.folder("var/spool/postfix/maildrop", (POSTFIX, POSTDROP), 0o730)?;
                self.folder("var/spool/postfix/public", (POSTFIX, POSTDROP), 0o710)?;
                self.folder("var/lib/postfix", (POSTFIX, 0), 0o755)?;
            }
            Kind::Exim => {
                chown(&key, Some(EXIM), None)?;
                self.folder("var/spool/exim4", (EXIM, EXIM), 0o750)?;
                self.folder("var/log/exim4", (EXIM, EXIM), 0o750)?;
            }
            Kind::OpenSmtpd => {
                self.folder("var/spool/smtpd", (0, 0), 0o711)?;
                // It does not start without a file of authorities.
                let text = fs::read_to_string(&certificate)?;
                self.put("etc/ssl/certs/ca-certificates.crt", &text)?;
            }
        }
        Ok(())
    }

    fn configure(&self) -> anyhow::Result<()> {
        let more = |text: String| text + &self.setting.more;
        match self.kind {
            Kind::Postfix => {
                self.put("etc/postfix/main.cf", &more(postfix(&self.setting)))?;
                self.put("etc/postfix/master.cf", &postfix_services(self.setting.listen))?;
            }
            Kind::Exim => {
                self.put("etc/exim4/exim4.conf", &more(exim(&self.setting)))?;
            }
            Kind::OpenSmtpd => {
                self.put("etc/smtpd.conf", &more(opensmtpd(&self.setting)))?;
            }
        }
        Ok(())
    }
}

impl Drop for Mta {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            signal(&child, rustix::process::Signal::KILL);
            let _ = child.wait();
        }
    }
}

/// To it and all that it started. Nobody may be left to hear it.
fn signal(child: &Child, signal: rustix::process::Signal) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

fn make_certificate(kind: Kind, key: &Path, certificate: &Path) -> anyhow::Result<()> {
    told(
        Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-subj", &format!("/CN={}.example", kind.name())])
            .arg("-keyout")
            .arg(key)
            .arg("-out")
            .arg(certificate),
    )
}

fn told(command: &mut Command) -> anyhow::Result<()> {
    let shown = Path::new(command.get_program()).display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| shown.clone())?;
    ensure!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// `inet_interfaces` must be an address that an interface has by name, which of the loopback's only the
/// first is; where it listens is in `master.cf`.
fn postfix(setting: &Setting) -> String {
    let routes = setting
        .routes
        .iter()
        .map(|(domain, to)| format!("{{ {domain} = smtp:[{}]:{} }}", to.ip(), to.port()));
    let routes = routes.collect::<Vec<String>>().join(", ");
    // A table without entries is an error to it.
    let routes = if routes.is_empty() { routes } else { format!("inline:{{ {routes} }}") };
    let later = match setting.puts_off {
        true => {
            "smtpd_recipient_restrictions = check_client_access static:{450 4.7.1 Greylisted, come back}\n"
        }
        false => "",
    };
    format!(
        "compatibility_level = 3.6\n\
         myhostname = postfix.example\n\
         mydestination =\n\
         alias_maps =\n\
         alias_database =\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         maillog_file = /var/log/mail.log\n\
         message_size_limit = 209715200\n\
         virtual_mailbox_limit = 0\n\
         virtual_mailbox_domains = {keeps}\n\
         virtual_mailbox_base = /var/mail\n\
         virtual_mailbox_maps = static:inbox/\n\
         virtual_uid_maps = static:{MAIL}\n\
         virtual_gid_maps = static:{MAIL}\n\
         transport_maps = {routes}\n\
         smtpd_tls_cert_file = /etc/peer.pem\n\
         smtpd_tls_key_file = /etc/peer.key\n\
         smtpd_tls_security_level = may\n\
         smtp_tls_security_level = encrypt\n\
         smtp_host_lookup = native\n\
         disable_dns_lookups = yes\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n\
         {later}\
         queue_run_delay = 1s\n\
         minimal_backoff_time = 1s\n\
         maximal_backoff_time = 2s\n",
        keeps = setting.keeps.join(", "),
    )
}

/// Debian's `master.cf` as far as it is needed, with nothing in a further `chroot`.
fn postfix_services(listen: SocketAddr) -> String {
    format!(
        "{listen} inet n - n - - smtpd\n\
         cleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         flush unix n - n 1000? 0 flush\n\
         proxymap unix - - n - - proxymap\n\
         smtp unix - - n - - smtp\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         virtual unix - n n - - virtual\n\
         lmtp unix - - n - - lmtp\n\
         anvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\n\
         postlog unix-dgram n - n - 1 postlogd\n"
    )
}

fn exim(setting: &Setting) -> String {
    let rule = if setting.puts_off { "defer message = Greylisted, come back" } else { "accept" };
    let routers: String = setting
        .routes
        .iter()
        .enumerate()
        .map(|(number, (domain, to))| {
            format!(
                "route{number}:\n  driver = manualroute\n  domains = {domain}\n  \
                 transport = remote\n  route_list = * {}::{}\n  self = send\n  no_more\n",
                to.ip(),
                to.port()
            )
        })
        .collect();
    format!(
        "primary_hostname = exim.example\n\
         local_interfaces = <; [{ip}]:{port}\n\
         log_file_path = /var/log/exim4/%slog\n\
         tls_advertise_hosts = *\n\
         tls_certificate = /etc/peer.pem\n\
         tls_privatekey = /etc/peer.key\n\
         acl_smtp_rcpt = rcpt\n\
         message_size_limit = 200M\n\
         host_lookup =\n\
         rfc1413_hosts =\n\
         ignore_bounce_errors_after = 0s\n\
         begin acl\n\
         rcpt:\n  {rule}\n\
         begin routers\n\
         {routers}\
         inbox:\n  driver = accept\n  domains = {keeps}\n  transport = inbox\n\
         begin transports\n\
         remote:\n  driver = smtp\n  hosts_require_tls = *\n  hosts_try_dane =\n\
         inbox:\n  driver = appendfile\n  directory = /{INBOX}\n  maildir_format\n  \
         user = mail\n  group = mail\n\
         begin retry\n\
         * * F,1h,1s\n",
        ip = setting.listen.ip(),
        port = setting.listen.port(),
        keeps = setting.keeps.join(" : "),
    )
}

fn opensmtpd(setting: &Setting) -> String {
    let (later, filter) = match setting.puts_off {
        true => (
            "table near { \"127.0.0.0/8\" }\n\
             filter \"later\" phase rcpt-to match src <near> reject \"451 4.7.1 Greylisted, come back\"\n",
            " filter \"later\"",
        ),
        false => ("", ""),
    };
    let (mut actions, mut matches) = (String::new(), String::new());
    for (number, (domain, to)) in setting.routes.iter().enumerate() {
        actions +=
            &format!("action \"route{number}\" relay host \"smtp+tls://{to}\" tls no-verify\n");
        matches += &format!("match from any for domain \"{domain}\" action \"route{number}\"\n");
    }
    let keeps: Vec<String> = setting.keeps.iter().map(|domain| format!("{domain:?}")).collect();
    format!(
        "pki peer cert \"/etc/peer.pem\"\n\
         pki peer key \"/etc/peer.key\"\n\
         table anyone {{ \"@\" = \"mail\" }}\n\
         {later}\
         listen on {ip} port {port} tls pki peer hostname opensmtpd.example{filter}\n\
         action \"inbox\" maildir \"/{INBOX}\" virtual <anyone>\n\
         {actions}\
         match from any for domain {{ {keeps} }} action \"inbox\"\n\
         {matches}",
        ip = setting.listen.ip(),
        port = setting.listen.port(),
        keeps = keeps.join(", "),
    )
}
