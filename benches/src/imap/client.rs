//! A client that costs little: it looks for the end of an answer and at nothing else.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use memchr::memmem;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long an answer may take: a search of everything takes a while.
const ANSWER_WAIT: Duration = Duration::from_secs(300);
/// Octets read at once.
const READ_OCTETS: usize = 256 * 1024;

/// What is the same at every server: one key exchange, which both sides speak, and no session of an earlier connection.
pub(super) fn tls(ca_pem: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate?)?;
    }
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A connection, past the greeting.
pub(super) struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
    /// What was read beyond the last answer.
    rest: Vec<u8>,
    tag: u32,
}

/// What a command was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    /// All of its octets.
    pub(super) octets: usize,
    /// Lines that begin with `* `.
    pub(super) untagged: usize,
    /// It ended with OK.
    pub(super) ok: bool,
}

impl Client {
    pub(super) fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_WAIT))?;
        let connection = ClientConnection::new(tls.clone(), ServerName::try_from("localhost")?)?;
        let stream = StreamOwned::new(connection, socket);
        let mut client = Self { stream, buffer: Vec::new(), rest: Vec::new(), tag: 0 };
        let greeting = client.until(b"\r\n")?;
        ensure!(greeting.starts_with(b"* OK"), "greeted with {}", greeting.escape_ascii());
        Ok(client)
    }

    pub(super) fn login(&mut self, user: &str, password: &str) -> anyhow::Result<()> {
        self.ok(&format!("LOGIN {user} {password}")).map(drop)
    }

    /// A command that must be answered OK; only counts what comes.
    pub(super) fn ok(&mut self, command: &str) -> anyhow::Result<Answer> {
        let tag = self.next_tag();
        self.send(format!("{tag} {command}\r\n").as_bytes())?;
        self.answered(command)
    }

    /// A command that may be refused.
    pub(super) fn any(&mut self, command: &str) -> anyhow::Result<Answer> {
        let tag = self.next_tag();
        self.send(format!("{tag} {command}\r\n").as_bytes())?;
        self.ended(command)
    }

    /// Sends octets as they are.
    pub(super) fn send(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(octets)?;
        Ok(self.stream.flush()?)
    }

    /// The next tag.
    pub(super) fn next_tag(&mut self) -> String {
        self.tag += 1;
        format!("t{}", self.tag)
    }

    /// A command with literals, each after the text before it, if any; LITERAL+, RFC 7888.
    pub(super) fn with_literals(&mut self, parts: &[(&str, &[u8])]) -> anyhow::Result<Answer> {
        let mut octets = self.next_tag().into_bytes();
        for (text, literal) in parts {
            let space = if text.is_empty() { "" } else { " " };
            write!(octets, "{space}{text} {{{}+}}\r\n", literal.len())?;
            octets.extend_from_slice(literal);
        }
        octets.extend_from_slice(b"\r\n");
        self.send(&octets)?;
        self.answered("a command with literals")
    }

    /// Reads to the tagged answer of the last command, which must be OK.
    pub(super) fn answered(&mut self, command: &str) -> anyhow::Result<Answer> {
        let answer = self.ended(command)?;
        ensure!(answer.ok, "{command}: NO");
        Ok(answer)
    }

    /// Reads to the tagged answer of the last command: OK or NO.
    fn ended(&mut self, command: &str) -> anyhow::Result<Answer> {
        let tag = format!("\r\nt{} ", self.tag);
        let (tagged, untagged) = (memmem::Finder::new(&tag), memmem::Finder::new("\r\n* "));
        // As if a line had ended just before: the first line is found as the others are.
        let mut held = b"\r\n".to_vec();
        held.append(&mut self.rest);
        let mut answer = Answer { octets: 0, untagged: 0, ok: false };
        loop {
            let found = tagged.find(&held);
            // What stays is looked at again with what comes.
            let done = found.unwrap_or((held.len() + 1).saturating_sub(tag.len()));
            let until = held.len().min(done + 3);
            answer.untagged += untagged.find_iter(&held[..until]).count();
            answer.octets += done;
            held.drain(..done);
            if found.is_some()
                && let Some(end) = memmem::find(&held[2..], b"\r\n")
            {
                self.rest = held.split_off(2 + end + 2);
                let text = &held[tag.len()..];
                answer.ok = text.starts_with(b"OK");
                let told = answer.ok || text.starts_with(b"NO");
                ensure!(told, "{command}: {}", text.escape_ascii());
                return Ok(answer);
            }
            self.fill(&mut held)?;
        }
    }

    /// A command that must be answered OK, and all that came before its tagged answer.
    pub(super) fn text(&mut self, command: &str) -> anyhow::Result<String> {
        let tag = self.next_tag();
        self.send(format!("{tag} {command}\r\n").as_bytes())?;
        let mut lines = String::new();
        loop {
            let line = self.until(b"\r\n")?;
            let line = String::from_utf8_lossy(&line);
            if let Some(end) = line.strip_prefix(&format!("{tag} ")) {
                ensure!(end.starts_with("OK"), "{command}: {end}");
                return Ok(lines);
            }
            lines.push_str(&line);
        }
    }

    /// Reads up to and with these octets.
    pub(super) fn until(&mut self, end: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut held = std::mem::take(&mut self.rest);
        loop {
            if let Some(at) = memmem::find(&held, end) {
                self.rest = held.split_off(at + end.len());
                return Ok(held);
            }
            self.fill(&mut held)?;
        }
    }

    fn fill(&mut self, held: &mut Vec<u8>) -> anyhow::Result<()> {
        self.buffer.resize(READ_OCTETS, 0);
        match self.stream.read(&mut self.buffer) {
            Ok(0) => bail!("the connection ended"),
            Ok(read) => held.extend_from_slice(&self.buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("no answer in {ANSWER_WAIT:?}")
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits for new mail: from IDLE on until it is told, and tells when.
    pub(super) fn idle(&mut self) -> anyhow::Result<()> {
        let tag = self.next_tag();
        self.send(format!("{tag} IDLE\r\n").as_bytes())?;
        self.until(b"+ ").and_then(|_| self.until(b"\r\n")).map(drop)
    }

    /// Ends IDLE.
    pub(super) fn done(&mut self) -> anyhow::Result<()> {
        self.send(b"DONE\r\n")?;
        self.answered("IDLE").map(drop)
    }

    /// How many messages a mailbox holds; `None` when there is none of that name.
    pub(super) fn count(&mut self, mailbox: &str) -> anyhow::Result<Option<usize>> {
        let listed = self.text(&format!("LIST \"\" {mailbox}"))?;
        if listed.is_empty() {
            return Ok(None);
        }
        let status = self.text(&format!("STATUS {mailbox} (MESSAGES)"))?;
        let number = status.split("(MESSAGES ").nth(1).and_then(|rest| rest.split(')').next());
        Ok(Some(number.context("no number")?.parse()?))
    }
}
