//! Programs that the steps of `cargo xtask test` need and a bare machine lacks.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use xtask::debian;

use crate::command::Run;

/// A program, the Debian package that holds it, and what needs it.
struct Tool {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        program: "cc",
        package: "build-essential",
        purpose: "OpenSSL, aws-lc and SQLite are built from source",
    },
    Tool { program: "c++", package: "build-essential", purpose: "so is libFuzzer" },
    Tool { program: "perl", package: "perl", purpose: "OpenSSL's own build" },
    Tool {
        program: "openssl",
        package: "openssl",
        purpose: "verifies every signature a second time",
    },
    Tool {
        program: "xmllint",
        package: "libxml2-utils",
        purpose: "holds daticert.xml against its DTD",
    },
    Tool {
        program: "/usr/sbin/clamd",
        package: "clamav-daemon",
        purpose: "scans what the tests say is infected",
    },
    Tool {
        program: "/usr/sbin/slapd",
        package: "slapd",
        purpose: "an index of providers as a directory",
    },
    Tool {
        program: "/usr/sbin/knotd",
        package: "knot",
        purpose: "a root of DNS of the tests' own",
    },
    Tool { program: "kzonesign", package: "knot-dnssecutils", purpose: "signs it" },
    Tool {
        program: "/usr/lib/postgresql/15/bin/postgres",
        package: "postgresql-15",
        purpose: "keeps the index of a store that machines share",
    },
    Tool { program: "softhsm2-util", package: "softhsm2", purpose: "a device that holds a key" },
    Tool { program: "python3", package: "python3", purpose: "smtplib and imaplib are clients" },
    Tool { program: "curl", package: "curl", purpose: "a client of HTTP, IMAP and SMTP" },
    Tool { program: "swaks", package: "swaks", purpose: "a client of SMTP" },
    Tool { program: "msmtp", package: "msmtp", purpose: "a client of SMTP" },
    Tool { program: "node", package: "nodejs", purpose: "runs nodemailer, a client of SMTP" },
    Tool {
        program: "/usr/lib/dovecot/imap",
        package: "dovecot-imapd",
        purpose: "what our IMAP is measured beside",
    },
    Tool { program: "/usr/lib/dovecot/lmtp", package: "dovecot-lmtpd", purpose: "the same" },
    Tool { program: "mbsync", package: "isync", purpose: "a client of IMAP" },
    Tool { program: "offlineimap", package: "offlineimap3", purpose: "a client of IMAP" },
    Tool { program: "neomutt", package: "neomutt", purpose: "a client of IMAP and SMTP" },
    Tool { program: "script", package: "bsdutils", purpose: "a terminal for neomutt" },
    Tool { program: "npm", package: "npm", purpose: "fetches imapflow, a client of IMAP" },
    Tool { program: "thunderbird", package: "thunderbird", purpose: "the client of most people" },
    Tool { program: "Xvfb", package: "xvfb", purpose: "a screen for Thunderbird" },
    Tool {
        program: "certutil",
        package: "libnss3-tools",
        purpose: "tells Thunderbird whom to trust",
    },
];

/// What a program needs and is no program: whether it is there, the package, and what it is for.
const MODULES: [(&str, Tool); 5] = [
    (
        "python3 -m pip --version",
        Tool { program: "pip", package: "python3-pip", purpose: "fetches IMAPClient" },
    ),
    (
        "perl -MNet::SSLeay -e 1",
        Tool { program: "Net::SSLeay", package: "libnet-ssleay-perl", purpose: "TLS for swaks" },
    ),
    (
        "test -d /usr/lib/python3/dist-packages/dkim",
        Tool {
            program: "dkim",
            package: "python3-dkim",
            purpose: "verifies signatures of DKIM, and seals by ARC",
        },
    ),
    (
        "test -e /usr/lib/python3/dist-packages/authres",
        Tool { program: "authres", package: "python3-authres", purpose: "dkim seals with it" },
    ),
    (
        "test -d /usr/share/nodejs/nodemailer",
        Tool { program: "nodemailer", package: "node-nodemailer", purpose: "a client of SMTP" },
    ),
];

/// Libraries of other languages that are clients in the tests, in folders below the target folder:
/// what proves that this version is there, and what puts it there. Nothing is installed beside the
/// system's own packages.
const LIBRARIES: [Library; 2] = [
    Library {
        name: "imapflow 1.7.8",
        folder: "clients/node",
        proof: ("node_modules/imapflow/package.json", "\"version\": \"1.7.8\""),
        install: "npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error \
                  imapflow@1.7.8 --prefix",
    },
    Library {
        name: "IMAPClient 4.1.0",
        folder: "clients/python",
        proof: ("imapclient-4.1.0.dist-info/METADATA", "Version: 4.1.0"),
        install: "python3 -m pip install --quiet --upgrade --no-deps --no-compile \
                  --disable-pip-version-check --root-user-action=ignore imapclient==4.1.0 --target",
    },
];

/// A library at one version.
struct Library {
    name: &'static str,
    /// Below the target folder.
    folder: &'static str,
    /// A file in that folder, and a text in it.
    proof: (&'static str, &'static str),
    /// The command, without the folder at its end.
    install: &'static str,
}

/// Programs of crates.io: the name, the version, what it takes beside, and what for.
const CRATES: [Crate; 2] = [
    Crate {
        name: "cargo-deny",
        version: "0.20.2",
        asked: "cargo deny --version",
        features: "",
        purpose: "checks licences, bans and sources of the dependencies",
    },
    Crate {
        name: "s3s-fs",
        version: "0.14.1",
        asked: "s3s-fs --version",
        features: "--features binary",
        purpose: "an S3 whose buckets are folders",
    },
];

/// A program that cargo builds.
struct Crate {
    name: &'static str,
    version: &'static str,
    /// Tells the version, at the end.
    asked: &'static str,
    features: &'static str,
    purpose: &'static str,
}

/// Sees to it that everything is there, and says what it found. As root on Debian it installs what
/// is missing; otherwise it names it.
///
/// # Errors
///
/// When something is still missing: the error says how to install it.
pub(crate) fn provide() -> Result<String> {
    let mut missing = absent();
    if !missing.is_empty() {
        for tool in &missing {
            println!("    missing: {} ({}: {})", tool.program, tool.package, tool.purpose);
        }
        if may_install() {
            install(&packages(&missing))?;
            missing = absent();
        }
    }
    let names = packages(&missing).join(" ");
    ensure!(missing.is_empty(), "missing: run `sudo apt-get install {names}`");
    libraries()?;
    components()?;
    crates()?;
    let servers = mail_servers()?;
    let built = CRATES.map(|one| format!("{} {}", one.name, one.version)).join(", ");
    let crates = fetch();
    let programs = TOOLS.len();
    let libraries = LIBRARIES.map(|library| library.name).join(", ");
    Ok(format!("{programs} programs, {libraries}, {servers}, {built}; {crates}"))
}

fn absent() -> Vec<&'static Tool> {
    let programs = TOOLS.iter().filter(|tool| !on_path(tool.program));
    let there = |probe: &str| Run::new(probe).quietly().is_some();
    let modules = MODULES.iter().filter(|(probe, _)| !there(probe)).map(|(_, tool)| tool);
    programs.chain(modules).collect()
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn packages(tools: &[&Tool]) -> Vec<&'static str> {
    let mut names: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn may_install() -> bool {
    let root = Run::new("id -u").quietly().is_some_and(|user| user.trim() == "0");
    root && on_path("apt-get")
}

fn install(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    let _policy = NoServices::declare()?;
    let quiet = |line: &str| Run::new(line).set("DEBIAN_FRONTEND", "noninteractive");
    quiet("apt-get update -qq").run()?;
    quiet(&format!("apt-get install -y -qq --no-install-recommends {wanted}"))
        .run()
        .with_context(|| format!("apt-get could not install {wanted}: install them by hand"))
}

/// As long as it is there, packages that are installed start no service of theirs: tests start programs
/// themselves, with a configuration of their own. What the machine itself says about this stays.
struct NoServices {
    ours: bool,
}

/// Asked by `invoke-rc.d` and `deb-systemd-invoke`.
const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn declare() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_file(POLICY)
        {
            println!("    {POLICY} could not be removed: {error}");
        }
    }
}

/// The libraries that are missing, or there at another version.
fn libraries() -> Result<()> {
    // This program is `xtask` in a folder of a profile in the target folder.
    let own = std::env::current_exe().context("where is this program?")?;
    let target = own.ancestors().nth(2).context("this program is in no target folder")?;
    for Library { name, folder, proof: (file, text), install } in LIBRARIES {
        let folder = target.join(folder);
        let proof = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        if proof.contains(text) {
            continue;
        }
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Run::new(install).argument(&folder).run().with_context(|| {
            format!(
                "{name} is missing: run `{install} {}` where it can be reached",
                folder.display()
            )
        })?;
    }
    Ok(())
}

/// rustfmt and clippy, which a minimal toolchain lacks.
fn components() -> Result<()> {
    for (component, command) in
        [("rustfmt", "cargo fmt --version"), ("clippy", "cargo clippy --version")]
    {
        if Run::new(command).quietly().is_none() {
            Run::new("rustup component add").argument(component).run().with_context(|| {
                format!("{component} is missing: run `rustup component add {component}`")
            })?;
        }
    }
    Ok(())
}

/// The mail servers that the tests speak with, which are unpacked and not installed.
fn mail_servers() -> Result<String> {
    let names: Vec<&str> = debian::SERVERS.iter().map(|server| server.name).collect();
    for name in &names {
        let unpacked = debian::unpacked(name).with_context(|| {
            format!("{name} is missing: connect to Debian's archive, or copy target/debian here")
        })?;
        if let Some(why) = unpacked.why_not {
            println!("    no newer {name}, so this Debian's: {why}");
        }
    }
    Ok(names.join(", "))
}

fn crates() -> Result<()> {
    for Crate { name, version, asked, features, purpose } in CRATES {
        let there = Run::new(asked).quietly();
        if there.is_some_and(|told| told.trim().ends_with(version)) {
            continue;
        }
        println!("    missing: {name} {version} ({purpose}); building it takes some minutes");
        let install = format!("cargo install --locked {name} --version {version} {features}");
        // In a target folder of its own, which cargo removes: it shares nothing with our build.
        let built = Run::new(&install).argument("--quiet").unset("CARGO_TARGET_DIR").run();
        built.with_context(|| {
            format!("{name} {version} is missing: run `{install}` where crates.io can be reached")
        })?;
    }
    Ok(())
}

/// Downloads every crate of the lock files, those of other systems too: cargo-deny looks at all.
fn fetch() -> &'static str {
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let fetch = Run::new("cargo fetch --locked --quiet --manifest-path").argument(manifest);
        if fetch.run().is_err() {
            return "crates.io was not reached, so the steps use what is here";
        }
    }
    "all crates are here"
}
