//! Servers of Debian that do not stand beside each other, each in a folder of its own.
//!
//! Debian lets one mail server be installed on a machine, and starts it at once. The tests want three,
//! on ports of their own, and the machine as it was. So each package is unpacked, with all that it
//! depends on down to the C library, into a folder under `target`; nothing is installed and no script
//! of a package runs. `chroot` into (a copy of) that folder finds every path where it was built to be.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A server, and what it takes.
pub struct Server {
    /// What it is called here.
    pub name: &'static str,
    /// Packages beside those that they depend on.
    packages: &'static [&'static str],
    /// Whether it is Debian 13's, and this machine's own Debian's only where the archive has no other.
    newer: bool,
}

/// What can be had.
///
/// OpenSMTPD has a shell deliver into mailboxes, and no package depends on one. Debian 12 builds it with an
/// OpenSSL that it does not work with as a server: it announces STARTTLS, and every handshake fails.
pub const SERVERS: [Server; 3] = [
    Server { name: "postfix", packages: &["postfix"], newer: false },
    Server { name: "exim", packages: &["exim4-daemon-light"], newer: false },
    Server { name: "opensmtpd", packages: &["opensmtpd", "dash"], newer: true },
];

/// The newer Debian.
const NEWER: &str = "trixie";
/// What its lists and packages are signed with: this one has it for upgrades.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What packages of a newer Debian take for granted of every installation.
const FOLDERS: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// What no server reads at run time: it is most of what is unpacked.
const NEEDLESS: [&str; 8] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/perl",
    "usr/share/debconf",
    "usr/lib/x86_64-linux-gnu/perl",
    "usr/lib/x86_64-linux-gnu/perl-base",
];

/// Where builds go.
pub fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    crate::tree::root().join(target)
}

/// A server that is there.
pub struct Unpacked {
    /// Not to be run in, nor written to: take a copy.
    pub folder: PathBuf,
    /// Whether it is a newer Debian's.
    pub is_newer: bool,
    /// Why it is not, though it should be; told once.
    pub why_not: Option<String>,
}

/// A server, unpacked now if it is not there yet.
///
/// # Errors
///
/// When there is no such server, or its packages cannot be had: not on Debian, or without a network.
pub fn unpacked(server: &str) -> Result<Unpacked> {
    let known = SERVERS.iter().find(|one| one.name == server);
    let known = known.with_context(|| format!("no server {server}"))?;
    let all = target().join("debian");
    fs::create_dir_all(&all)?;
    // Several tests may come for it at once, in processes of their own.
    let lock = File::create(all.join(format!("{server}.lock")))?;
    lock.lock()?;
    if !known.newer {
        let folder = unpack(&all, server, known, Origin::own())?;
        return Ok(Unpacked { folder, is_newer: false, why_not: None });
    }
    let (newer, own) = (format!("{server}-{NEWER}"), format!("{server}-own"));
    let mut why_not = None;
    // Where it could not be had before, it is not asked for again.
    if !all.join(&own).is_dir() {
        match Origin::newer(&all).and_then(|origin| unpack(&all, &newer, known, origin)) {
            Ok(folder) => return Ok(Unpacked { folder, is_newer: true, why_not: None }),
            Err(error) => why_not = Some(format!("{error:#}")),
        }
    }
    let folder = unpack(&all, &own, known, Origin::own())?;
    Ok(Unpacked { folder, is_newer: false, why_not })
}

/// Unpacks a server into a folder, unless it is there.
fn unpack(all: &Path, folder: &str, server: &Server, origin: Origin) -> Result<PathBuf> {
    let done = all.join(folder);
    if done.is_dir() {
        return Ok(done);
    }
    let work = all.join(format!("{folder}.incomplete"));
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let root = work.join("root");
    fs::create_dir_all(&root)?;
    for package in origin.download(&work, server.packages)? {
        run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root))?;
    }
    for needless in NEEDLESS {
        let folder = root.join(needless);
        if folder.is_dir() {
            fs::remove_dir_all(folder)?;
        }
    }
    for folder in FOLDERS {
        if !root.join(folder).exists() && root.join("usr").join(folder).is_dir() {
            std::os::unix::fs::symlink(Path::new("usr").join(folder), root.join(folder))?;
        }
    }
    fs::rename(&root, &done)?;
    fs::remove_dir_all(&work)?;
    Ok(done)
}

/// Where packages come from.
struct Origin {
    /// What `apt-get` is told beside.
    options: Vec<String>,
}

impl Origin {
    /// As this machine is set up.
    const fn own() -> Self {
        Self { options: Vec::new() }
    }

    /// A newer Debian, of the archive that this machine's own comes from, with lists of its own.
    fn newer(all: &Path) -> Result<Self> {
        let mut targets = Command::new("apt-get");
        targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
        let told = targets.output().context("apt-get cannot be started: it is Debian's")?;
        let told = String::from_utf8(told.stdout)?;
        let archive = told.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
        let archive = archive.unwrap_or("http://deb.debian.org/debian");
        let folder = all.join(NEWER);
        fs::create_dir_all(folder.join("lists/partial"))?;
        let sources = folder.join("sources.list");
        fs::write(&sources, format!("deb [signed-by={KEYRING}] {archive} {NEWER} main\n"))?;
        let options = [
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}", folder.join("lists").display()),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
        ];
        Ok(Self { options: options.into() })
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.arg("-qq");
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        // Whose lock it would be: nothing is installed.
        command.args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]);
        command
    }

    /// The packages and all that they depend on, as if nothing were installed.
    fn download(&self, work: &Path, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let archives = work.join("archives");
        fs::create_dir_all(archives.join("partial"))?;
        let status = work.join("status");
        fs::write(&status, "")?;
        let fetch = || {
            run(self
                .apt_get()
                .arg("-o")
                .arg(format!("Dir::State::status={}", status.display()))
                .arg("-o")
                .arg(format!("Dir::Cache::archives={}", archives.display()))
                .args(["--yes", "--no-install-recommends", "--download-only", "install"])
                .args(packages))
        };
        if fetch().is_err() {
            // The lists of packages may be missing, or older than what the archive still has.
            run(self.apt_get().arg("update"))?;
            fetch()?;
        }
        let files = fs::read_dir(&archives)?.map(|entry| Ok(entry?.path()));
        let files = files.collect::<std::io::Result<Vec<PathBuf>>>()?;
        let found: Vec<_> =
            files.into_iter().filter(|file| file.extension() == Some(OsStr::new("deb"))).collect();
        ensure!(!found.is_empty(), "apt-get downloaded nothing for {}", packages.join(" "));
        Ok(found)
    }
}

fn run(command: &mut Command) -> Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let told = command.stdin(Stdio::null()).output();
    let told = told.with_context(|| format!("{shown} cannot be started: it is Debian's"))?;
    ensure!(told.status.success(), "{shown}: {}", String::from_utf8_lossy(&told.stderr));
    Ok(())
}
