//! Servers of others that a test starts for itself, on a socket or a free port, with a folder of their
//! own; killed when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::{tools, wire};

/// The text that every scanner takes for a virus, in two halves so that this file is none.
const EICAR: [&str; 2] =
    ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"];

/// That text.
pub fn eicar() -> String {
    EICAR.concat()
}

/// A process that is killed when dropped.
pub struct Peer {
    child: Child,
}

impl Peer {
    /// Starts a program that a Debian package holds; it must stay in the foreground.
    ///
    /// # Errors
    ///
    /// When it is not there, or cannot be started.
    pub fn start(
        program: &str,
        package: &str,
        arguments: &[&str],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Servers are where the path of a user need not lead.
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let mut programs = folders.map(|folder| folder.join(program));
        let Some(program) = programs.find(|program| program.is_file()) else {
            bail!("{program} is missing: run `sudo apt-get install {package}`");
        };
        let out = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self { child })
    }

    /// Whether it has not ended by itself.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// clamd with a few signatures of our own: freshclam never runs.
pub struct Clamd {
    folder: PathBuf,
    peer: Option<Peer>,
}

impl Clamd {
    /// Starts it in this folder, with these signatures: names of database files, and their lines.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn start(folder: &Path, signatures: &[(&str, String)]) -> anyhow::Result<Self> {
        let database = folder.join("signatures");
        std::fs::create_dir_all(&database)?;
        for (name, lines) in signatures {
            std::fs::write(database.join(name), lines)?;
        }
        let configuration = format!(
            "LocalSocket {}\nDatabaseDirectory {}\nForeground yes\nStreamMaxLength 100M\n\
             MaxThreads 4\n",
            folder.join("clamd.ctl").display(),
            database.display()
        );
        std::fs::write(folder.join("clamd.conf"), configuration)?;
        let mut clamd = Self { folder: folder.to_owned(), peer: None };
        clamd.resume()?;
        Ok(clamd)
    }

    /// Where it listens, as the configuration has it.
    pub fn place(&self) -> String {
        format!("unix:{}", self.folder.join("clamd.ctl").display())
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.peer = None;
    }

    /// Starts it again.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let socket = self.folder.join("clamd.ctl");
        // Of one that was killed.
        let _ = std::fs::remove_file(&socket);
        let configuration = format!("--config-file={}", self.folder.join("clamd.conf").display());
        let log = self.folder.join("clamd.log");
        let mut peer = Peer::start("clamd", "clamav-daemon", &[&configuration], &log)?;
        wire::until("clamd", || {
            if !peer.is_running()? {
                bail!("clamd ended: {}", std::fs::read_to_string(&log)?);
            }
            Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(()))
        })?;
        self.peer = Some(peer);
        Ok(())
    }
}

/// The octets of a text as signatures have them.
pub fn hex(text: &str) -> String {
    text.bytes().map(|octet| format!("{octet:02x}")).collect()
}

/// A web server of a folder: Python's, plain or over TLS.
pub struct Web {
    /// Its port on 127.0.0.1.
    pub port: u16,
    _peer: Peer,
}

impl Web {
    /// Starts it for the files in `folder`. `tls`: certificate, key, and the authority of the clients
    /// that it lets in.
    ///
    /// # Errors
    ///
    /// When it does not listen.
    pub fn start(folder: &Path, tls: Option<[&Path; 3]>) -> anyhow::Result<Self> {
        let port_file = folder.with_extension("port");
        // Of an earlier one.
        let _ = std::fs::remove_file(&port_file);
        let script = tools::here().join("clients/web.py");
        let mut arguments = vec![Path::new("-B"), &script, folder, &port_file];
        arguments.extend(tls.into_iter().flatten());
        let arguments: Option<Vec<&str>> = arguments.into_iter().map(Path::to_str).collect();
        let arguments = arguments.context("a path that is no text")?;
        let log = folder.with_extension("log");
        let mut peer = Peer::start("python3", "python3", &arguments, &log)?;
        let port = wire::until("a web server", || {
            if !peer.is_running()? {
                bail!("it ended: {}", std::fs::read_to_string(&log)?);
            }
            Ok(std::fs::read_to_string(&port_file).ok())
        })?;
        Ok(Self { port: port.trim().parse()?, _peer: peer })
    }
}

/// A directory of providers: slapd with the schema of the index, over TLS.
pub struct Slapd {
    /// Its port on 127.0.0.1.
    pub port: u16,
    _peer: Peer,
}

impl Slapd {
    /// Starts it in this folder with these entries, as this TLS server.
    ///
    /// # Errors
    ///
    /// When it does not listen.
    pub fn start(
        folder: &Path,
        ldif: &Path,
        certificate: &Path,
        key: &Path,
    ) -> anyhow::Result<Self> {
        let database = folder.join("directory");
        std::fs::create_dir_all(&database)?;
        let configuration = folder.join("slapd.conf");
        let text = format!(
            "include /etc/ldap/schema/core.schema\ninclude {}\nmodulepath /usr/lib/ldap\n\
             moduleload back_mdb\npidfile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n\
             database mdb\nsuffix \"o=postacert\"\ndirectory {}\nmaxsize 10485760\n",
            tools::here().join("../crates/pec/examples/index/provider-index.schema").display(),
            folder.join("slapd.pid").display(),
            certificate.display(),
            key.display(),
            database.display(),
        );
        std::fs::write(&configuration, text)?;
        let configuration = configuration.to_str().context("a path that is no text")?;
        // slapadd knows no `version`, with which RFC 2849 begins a file.
        let text = std::fs::read_to_string(ldif)?;
        let plain = folder.join("slapd.ldif");
        std::fs::write(&plain, text.trim_start_matches("version: 1").trim_start())?;
        let entries = plain.to_str().context("a path that is no text")?;
        let mut add = Command::new("/usr/sbin/slapadd");
        let added = add.args(["-f", configuration, "-l", entries]).output()?;
        if !added.status.success() {
            bail!("slapadd: {}", String::from_utf8_lossy(&added.stderr));
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = format!("ldaps://127.0.0.1:{port}/");
        let log = folder.join("slapd.log");
        // With a level of debugging it stays in the foreground.
        let arguments = ["-f", configuration, "-h", &url, "-d", "none"];
        let mut peer = Peer::start("slapd", "slapd", &arguments, &log)?;
        wire::until("slapd", || {
            if !peer.is_running()? {
                bail!("slapd ended: {}", std::fs::read_to_string(&log)?);
            }
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(()))
        })?;
        Ok(Self { port, _peer: peer })
    }
}
