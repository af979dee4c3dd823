//! A reading client.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::wire::{self, Wire};

/// Octets of a literal that is taken at most.
const LITERAL_OCTETS_MAX: usize = 256 * 1024 * 1024;
/// Messages that are fetched at once.
const BATCH: u64 = 200;

/// A connection to an IMAP server, past its greeting.
pub struct Imap {
    /// For what no method says.
    pub wire: Wire,
    tag: u32,
}

/// What a command was answered: untagged responses, literals in place, and the tagged line.
#[derive(Debug, Clone)]
pub struct Replies {
    /// Each response, from `* ` on, without its last CRLF.
    pub untagged: Vec<Vec<u8>>,
    /// The tagged line without its tag.
    pub tagged: String,
}

impl Imap {
    /// Connects with TLS from the start.
    ///
    /// # Errors
    ///
    /// When there is no greeting.
    pub fn connect(address: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let mut imap = Self::on(Wire::tls(address, tls)?);
        let greeting = imap.response()?;
        if !greeting.starts_with(b"* OK") {
            bail!("greeted with {}", String::from_utf8_lossy(&greeting));
        }
        Ok(imap)
    }

    /// On a connection that is made, its greeting still to come.
    #[must_use]
    pub const fn on(wire: Wire) -> Self {
        Self { wire, tag: 0 }
    }

    /// LOGIN.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn login(&mut self, login: &str, password: &str) -> anyhow::Result<()> {
        self.ok(&format!("LOGIN \"{login}\" \"{password}\""))?;
        Ok(())
    }

    /// A command that must be answered OK.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn ok(&mut self, command: &str) -> anyhow::Result<Replies> {
        let replies = self.command(command)?;
        if !replies.tagged.starts_with("OK") {
            bail!("{command}: {}", replies.tagged);
        }
        Ok(replies)
    }

    /// A command and what it is answered.
    ///
    /// # Errors
    ///
    /// When no answer comes.
    pub fn command(&mut self, command: &str) -> anyhow::Result<Replies> {
        self.tag += 1;
        let tag = format!("t{} ", self.tag);
        self.wire.write(format!("{tag}{command}\r\n").as_bytes())?;
        let mut untagged = Vec::new();
        loop {
            let response = self.response()?;
            if let Some(tagged) = response.strip_prefix(tag.as_bytes()) {
                return Ok(Replies { untagged, tagged: String::from_utf8(tagged.to_vec())? });
            }
            untagged.push(response);
        }
    }

    /// IDLE: what comes is read by [`response`](Self::response).
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn begin_idle(&mut self) -> anyhow::Result<()> {
        self.tag += 1;
        self.wire.write(format!("t{} IDLE\r\n", self.tag).as_bytes())?;
        let told = self.response()?;
        if !told.starts_with(b"+") {
            bail!("IDLE: {}", String::from_utf8_lossy(&told));
        }
        Ok(())
    }

    /// Reads what comes to an idling client until it says that there are so many messages.
    ///
    /// # Errors
    ///
    /// When it does not come in time.
    pub fn until_exists(&mut self, count: usize) -> anyhow::Result<()> {
        loop {
            let response = String::from_utf8(self.response()?)?;
            let mut words = response.split(' ').skip(1);
            if let (Some(number), Some("EXISTS")) = (words.next(), words.next())
                && number.parse::<usize>()? >= count
            {
                return Ok(());
            }
        }
    }

    /// DONE, and what comes up to its answer is dropped.
    ///
    /// # Errors
    ///
    /// When no answer comes.
    pub fn end_idle(&mut self) -> anyhow::Result<()> {
        self.wire.write(b"DONE\r\n")?;
        let tag = format!("t{} ", self.tag);
        while !self.response()?.starts_with(tag.as_bytes()) {}
        Ok(())
    }

    /// How many messages a mailbox holds.
    ///
    /// # Errors
    ///
    /// When STATUS is refused.
    pub fn count(&mut self, mailbox: &str) -> anyhow::Result<u64> {
        let replies = self.ok(&format!("STATUS \"{mailbox}\" (MESSAGES)"))?;
        let line = replies.untagged.last().context("no STATUS")?;
        let line = String::from_utf8_lossy(line);
        let number = line.rsplit(' ').next().unwrap_or_default().trim_end_matches(')');
        Ok(number.parse()?)
    }

    /// Waits until a mailbox holds so many messages.
    ///
    /// # Errors
    ///
    /// When it does not get there in time.
    pub fn wait_for_count(&mut self, mailbox: &str, count: u64) -> anyhow::Result<()> {
        let what = format!("message {count} in {mailbox}");
        wire::until(&what, || Ok((self.count(mailbox)? >= count).then_some(())))
    }

    /// The octets of every message of a mailbox, by UID.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn messages(&mut self, mailbox: &str) -> anyhow::Result<Vec<(u32, Vec<u8>)>> {
        self.fetch_all(mailbox, "BODY.PEEK[]")
    }

    /// One octet string of every message of a mailbox, such as `BODY.PEEK[HEADER]`, by UID.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn fetch_all(&mut self, mailbox: &str, item: &str) -> anyhow::Result<Vec<(u32, Vec<u8>)>> {
        self.ok(&format!("EXAMINE \"{mailbox}\""))?;
        let replies = self.ok(&format!("UID FETCH 1:* (UID {item})"))?;
        replies.untagged.iter().filter(|r| is_fetch(r)).map(|r| fetched(r)).collect()
    }

    /// Hands every message of a mailbox, as UID and one octet string of it, to `look`: some at a
    /// time, so that a large mailbox is never whole in memory. UIDs must ascend.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and what `look` fails with.
    pub fn each_message(
        &mut self,
        mailbox: &str,
        item: &str,
        look: &mut dyn FnMut(u32, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.ok(&format!("EXAMINE \"{mailbox}\""))?;
        let messages = self.count(mailbox)?;
        let (mut first, mut last_uid) = (1, 0);
        while first <= messages {
            let last = messages.min(first + BATCH - 1);
            let replies = self.ok(&format!("FETCH {first}:{last} (UID {item})"))?;
            for response in replies.untagged.iter().filter(|response| is_fetch(response)) {
                let (uid, octets) = fetched(response)?;
                if uid <= last_uid {
                    bail!("UID {uid} after {last_uid} in {mailbox}");
                }
                last_uid = uid;
                look(uid, &octets)?;
            }
            first = last + 1;
        }
        Ok(())
    }

    /// One response, its literals in place, without the last CRLF.
    ///
    /// # Errors
    ///
    /// When none comes.
    pub fn response(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut response = Vec::new();
        loop {
            let line = self.wire.line()?;
            let literal = literal_octets(&line);
            response.extend_from_slice(&line);
            let Some(octets) = literal else { return Ok(response) };
            if octets > LITERAL_OCTETS_MAX {
                bail!("a literal of {octets} octets");
            }
            response.extend_from_slice(b"\r\n");
            response.extend_from_slice(&self.wire.octets(octets)?);
        }
    }
}

/// The `{n}` at the end of a line.
fn literal_octets(line: &[u8]) -> Option<usize> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|&octet| octet == b'{')?;
    std::str::from_utf8(&inner[open + 1..]).ok()?.parse().ok()
}

fn is_fetch(response: &[u8]) -> bool {
    String::from_utf8_lossy(&response[..response.len().min(40)]).contains(" FETCH (")
}

/// UID and the one literal (or quoted string) of a FETCH response.
fn fetched(response: &[u8]) -> anyhow::Result<(u32, Vec<u8>)> {
    let text = String::from_utf8_lossy(response);
    let uid = text.split("UID ").nth(1).context("no UID")?;
    let digits: String = uid.chars().take_while(char::is_ascii_digit).collect();
    let uid = digits.parse()?;
    if let Some(end) = response.windows(3).position(|w| w == b"}\r\n")
        && let Some(octets) = literal_octets(&response[..=end])
    {
        let start = end + 3;
        let literal = response.get(start..start + octets).context("a literal cut short")?;
        return Ok((uid, literal.to_vec()));
    }
    let quoted = text.split('"').nth(1).unwrap_or_default();
    Ok((uid, quoted.as_bytes().to_vec()))
}
