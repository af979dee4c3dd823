//! A root of DNS of a test's own, signed by Knot and served by it: names that are proved, names that
//! are not signed, and names that somebody has changed since.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::peers::Peer;
use crate::{tools, wire};

/// What every zone begins with.
const HEAD: &str = "$TTL 1\n@ SOA ns.example. root.example. 1 3600 600 86400 1\n@ NS ns.example.\n";

/// A name server that knows the root and what is below; killed when dropped.
pub struct Zones {
    /// Where it listens.
    pub address: SocketAddr,
    /// A file with the key that all proofs lead to.
    pub anchor: PathBuf,
    _peer: Peer,
}

impl Zones {
    /// Signs `root`, whose names are whole and below the root, and serves it with `unsigned`: zones
    /// that `root` delegates, by name. `changed`: texts of the signed zone, and what stands in their
    /// place when it is served.
    ///
    /// # Errors
    ///
    /// When Knot is not there, or does not take it.
    pub fn start(
        folder: &Path,
        root: &str,
        unsigned: &[(&str, &str)],
        changed: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        for part in ["plain", "signed", "keys"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let address = free_address()?;
        let delegated: String = unsigned
            .iter()
            .fold(String::new(), |text, (name, _)| text + name + ". NS ns.example.\n");
        std::fs::write(
            folder.join("plain/root.zone"),
            format!("$ORIGIN .\n{HEAD}ns.example. A 127.0.0.1\n{delegated}{root}"),
        )?;
        let sign = folder.join("sign.conf");
        std::fs::write(&sign, configuration(folder, address, "plain", &[], true))?;
        let mut command = tools::tool("kzonesign", "knot-dnssecutils")?;
        let told =
            tools::run(command.arg("-c").arg(&sign).arg("-o").arg(folder.join("signed")).arg("."))?;
        let signed = folder.join("signed/root.zone");
        let mut text = std::fs::read_to_string(&signed).with_context(|| told.to_string())?;
        ensure!(text.contains("RRSIG"), "{told}");
        let key = text.lines().find(|line| line.split_whitespace().nth(2) == Some("DNSKEY"));
        let anchor = folder.join("root.key");
        let words: Vec<&str> = key.context("no key in the zone")?.split_whitespace().collect();
        std::fs::write(&anchor, format!(". 60 IN {}\n", words[2..].join(" ")))?;
        for (from, to) in changed {
            ensure!(text.contains(from), "no {from:?} in {text}");
            text = text.replace(from, to);
        }
        std::fs::write(&signed, text)?;
        for (name, records) in unsigned {
            let text = format!("$ORIGIN {name}.\n{HEAD}{records}");
            std::fs::write(folder.join(format!("signed/{name}.zone")), text)?;
        }
        let serve = folder.join("serve.conf");
        let names: Vec<&str> = unsigned.iter().map(|(name, _)| *name).collect();
        std::fs::write(&serve, configuration(folder, address, "signed", &names, false))?;
        let log = folder.join("knotd.log");
        let serve = serve.to_str().context("a path that is no text")?;
        let mut peer = Peer::start("knotd", "knot", &["-c", serve], &log)?;
        wire::until("knotd", || {
            if !peer.is_running()? {
                bail!("knotd ended: {}", std::fs::read_to_string(&log)?);
            }
            Ok(answers(address)?.then_some(()))
        })?;
        Ok(Self { address, anchor, _peer: peer })
    }

    /// The section of a configuration that asks this server, and has all of it proved.
    pub fn section(&self) -> String {
        format!(
            "\n[dns]\nnameservers = [\"{}\"]\ndnssec = \"on\"\ntrust_anchor = \"{}\"\n",
            self.address,
            self.anchor.display()
        )
    }
}

/// A port that is free for both ways of asking.
fn free_address() -> anyhow::Result<SocketAddr> {
    for _ in 0..50 {
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = socket.local_addr()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port is free for UDP and TCP")
}

fn configuration(
    folder: &Path,
    address: SocketAddr,
    zones: &str,
    names: &[&str],
    signs: bool,
) -> String {
    let here = folder.display();
    let mut text = format!(
        "server:\n    rundir: \"{here}\"\n    listen: {}@{}\n\
         log:\n  - target: stderr\n    any: warning\n\
         database:\n    storage: \"{here}/keys\"\n\
         policy:\n  - id: own\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n    \
         cds-cdnskey-publish: none\n\
         template:\n  - id: default\n    storage: \"{here}/{zones}\"\n    zonefile-sync: -1\n    \
         journal-content: none\n    semantic-checks: off\n\
         zone:\n  - domain: .\n    file: root.zone\n",
        address.ip(),
        address.port()
    );
    if signs {
        text.push_str("    dnssec-signing: on\n    dnssec-policy: own\n");
    }
    for name in names {
        // Writing into a string cannot fail.
        let _ = write!(text, "  - domain: {name}.\n    file: {name}.zone\n");
    }
    text
}

/// Whether it says anything when it is asked for the root.
fn answers(address: SocketAddr) -> anyhow::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
    // RFC 1035 §4.1: one question, the SOA of the root.
    let question = [0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    // Nobody is there yet, as long as it starts.
    let asked = socket.send_to(&question, address);
    let mut answer = [0; 1500];
    Ok(asked.is_ok() && socket.recv(&mut answer).is_ok_and(|length| length > 12 && answer[7] == 1))
}
