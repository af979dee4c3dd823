//! A submitting client.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wire::Wire;

/// A connection to an SMTP server, past its greeting.
pub struct Smtp {
    /// For what no method says.
    pub wire: Wire,
}

impl Smtp {
    /// Connects with TLS from the start.
    ///
    /// # Errors
    ///
    /// When there is no greeting.
    pub fn connect(address: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let mut smtp = Self { wire: Wire::tls(address, tls)? };
        smtp.expect("220")?;
        Ok(smtp)
    }

    /// Connects in clear.
    ///
    /// # Errors
    ///
    /// When there is no greeting.
    pub fn connect_clear(address: SocketAddr) -> anyhow::Result<Self> {
        let mut smtp = Self { wire: Wire::clear(address)? };
        smtp.expect("220")?;
        Ok(smtp)
    }

    /// STARTTLS.
    ///
    /// # Errors
    ///
    /// When it is refused or the handshake fails.
    pub fn start_tls(mut self, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        self.command("STARTTLS", "220")?;
        Ok(Self { wire: self.wire.start_tls(tls)? })
    }

    /// EHLO.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn hello(&mut self) -> anyhow::Result<String> {
        self.command("EHLO client.example", "250")
    }

    /// AUTH PLAIN.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn login(&mut self, login: &str, password: &str) -> anyhow::Result<()> {
        let response = STANDARD.encode(format!("\0{login}\0{password}"));
        self.command(&format!("AUTH PLAIN {response}"), "235")?;
        Ok(())
    }

    /// Submits a message (with CRLF line ends) in one transaction, and gives the identifier of its
    /// acceptance.
    ///
    /// # Errors
    ///
    /// When a step of it is refused, in the server's words.
    pub fn submit(&mut self, from: &str, to: &[&str], message: &[u8]) -> anyhow::Result<String> {
        self.submit_with(from, "", to, message)
    }

    /// The same, with parameters of MAIL, a space before each.
    ///
    /// # Errors
    ///
    /// As [`Smtp::submit`].
    pub fn submit_with(
        &mut self,
        from: &str,
        parameters: &str,
        to: &[&str],
        message: &[u8],
    ) -> anyhow::Result<String> {
        let mut commands = format!("MAIL FROM:<{from}>{parameters}\r\n");
        for to in to {
            commands.push_str(&format!("RCPT TO:<{to}>\r\n"));
        }
        commands.push_str("DATA\r\n");
        self.wire.write(commands.as_bytes())?;
        for _ in 0..=to.len() {
            self.expect("250")?;
        }
        self.expect("354")?;
        self.wire.write(&stuffed(message))?;
        let reply = self.expect("250")?;
        match reply.rsplit(' ').next() {
            Some(id) if id.contains('@') => Ok(id.to_owned()),
            _ => bail!("no identifier in {reply}"),
        }
    }

    /// A command, and its reply, whose code must begin so.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn command(&mut self, command: &str, code: &str) -> anyhow::Result<String> {
        self.wire.write(format!("{command}\r\n").as_bytes())?;
        self.expect(code)
    }

    /// The next reply, all its lines, whose code must begin so.
    ///
    /// # Errors
    ///
    /// When it does not, or none comes.
    pub fn expect(&mut self, code: &str) -> anyhow::Result<String> {
        let reply = self.reply()?;
        if !reply.starts_with(code) {
            bail!("expected {code}, got {reply}");
        }
        Ok(reply)
    }

    /// The next reply, all its lines.
    ///
    /// # Errors
    ///
    /// When none comes.
    pub fn reply(&mut self) -> anyhow::Result<String> {
        let mut lines = Vec::new();
        loop {
            let line = String::from_utf8(self.wire.line()?)?;
            let more = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line);
            if !more {
                return Ok(lines.join("\n"));
            }
        }
    }
}

/// A message as DATA sends it (RFC 5321 §4.5.2), with the end of data.
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 8);
    let mut start = true;
    for &octet in message {
        if start && octet == b'.' {
            out.push(b'.');
        }
        out.push(octet);
        start = octet == b'\n';
    }
    if !start {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}
