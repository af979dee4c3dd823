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

/// What can be had, and the packages that it takes beside those that they depend on.
///
/// OpenSMTPD has a shell deliver into mailboxes, and no package depends on one.
pub const SERVERS: [(&str, &[&str]); 3] = [
    ("postfix", &["postfix"]),
    ("exim", &["exim4-daemon-light"]),
    ("opensmtpd", &["opensmtpd", "dash"]),
];

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

/// The folder of a server, unpacked now if it is not there yet. It is not to be run in, nor written
/// to: take a copy.
///
/// # Errors
///
/// When there is no such server, or its packages cannot be had: not on Debian, or without a network.
pub fn unpacked(server: &str) -> Result<PathBuf> {
    let known = SERVERS.iter().find(|(name, _)| *name == server);
    let (_, packages) = known.with_context(|| format!("no server {server}"))?;
    let all = target().join("debian");
    fs::create_dir_all(&all)?;
    // Several tests may come for it at once, in processes of their own.
    let lock = File::create(all.join(format!("{server}.lock")))?;
    lock.lock()?;
    let done = all.join(server);
    if done.is_dir() {
        return Ok(done);
    }
    let work = all.join(format!("{server}.incomplete"));
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let root = work.join("root");
    fs::create_dir_all(&root)?;
    for package in download(&work, packages)? {
        run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root))?;
    }
    for needless in NEEDLESS {
        let folder = root.join(needless);
        if folder.is_dir() {
            fs::remove_dir_all(folder)?;
        }
    }
    fs::rename(&root, &done)?;
    fs::remove_dir_all(&work)?;
    Ok(done)
}

/// The packages and all that they depend on, as if nothing were installed.
fn download(work: &Path, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let archives = work.join("archives");
    fs::create_dir_all(archives.join("partial"))?;
    let status = work.join("status");
    fs::write(&status, "")?;
    let fetch = || {
        run(Command::new("apt-get")
            .arg("-qq")
            .arg("-o")
            .arg(format!("Dir::State::status={}", status.display()))
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", archives.display()))
            // Whose lock it would be: nothing is installed.
            .args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"])
            .args(["--yes", "--no-install-recommends", "--download-only", "install"])
            .args(packages))
    };
    if fetch().is_err() {
        // The lists of packages may be missing, or older than what the archive still has.
        run(Command::new("apt-get").args(["-qq", "update"]))?;
        fetch()?;
    }
    let files = fs::read_dir(&archives)?.map(|entry| Ok(entry?.path()));
    let files = files.collect::<std::io::Result<Vec<PathBuf>>>()?;
    let found: Vec<_> =
        files.into_iter().filter(|file| file.extension() == Some(OsStr::new("deb"))).collect();
    ensure!(!found.is_empty(), "apt-get downloaded nothing for {}", packages.join(" "));
    Ok(found)
}

fn run(command: &mut Command) -> Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let told = command.stdin(Stdio::null()).output();
    let told = told.with_context(|| format!("{shown} cannot be started: it is Debian's"))?;
    ensure!(told.status.success(), "{shown}: {}", String::from_utf8_lossy(&told.stderr));
    Ok(())
}
