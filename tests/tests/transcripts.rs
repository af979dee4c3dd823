//! Plays the conversations of `tests/transcripts/imap` over TLS against the binary, each with an account
//! of its own. What their lines mean is told in the README beside them; `crates/imap/tests` plays the
//! same against the machine alone.
#![expect(clippy::panic, reason = "a conversation that cannot be had fails")]

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use scenarios::process::account;
use scenarios::script::{self, Bound, Conversation, Line};
use scenarios::wire::{self, Wire};
use scenarios::{Demo, Imap, say};

const ADDRESS: &str = "anna@pec.alfa.example";
const PASSWORD: &str = "segreto";
/// What an account may hold that no line limits.
const QUOTA_OCTETS: u64 = 1 << 30;
/// What the machine is tested with.
const APPEND_OCTETS: u64 = 1 << 20;
/// The lowest limit that the configuration takes.
const APPEND_OCTETS_MIN: u64 = 1024;
/// What the demo's configuration says of limits.
const LIMITS: &str = "unthrottled = [\"127.0.0.0/8\"]";
/// When messages come: the time at which the machine is tested.
const CAME: &str = " 2-Mar-2026 09:00:00 +0100";
/// More than this in one go, and a server that closes meanwhile can be heard or not.
const SENT_OCTETS_MAX: usize = 900_000;
/// What cannot be given to a process from outside.
const NOT_GIVEN: [&str; 9] = [
    "any proof holds",
    "the time stands",
    "the server is busy",
    "connections cannot be bound to",
    "connections serve one account",
    "commands may add 3 messages",
    "commands may take 3 messages",
    "each job takes 10 seconds",
    "messages",
];

#[test]
fn every_conversation_is_had_with_the_binary_too() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server = Server::start(&folder.path().join("demo"))?;
    let transcripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(transcripts.join("imap"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut had, mut passed_over, mut failed) = (0, 0, Vec::new());
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for conversation in script::conversations(&text) {
            if !can_be_had(&conversation) {
                passed_over += 1;
                continue;
            }
            had += 1;
            // All are played, so that one run shows all that is wrong.
            if let Err(error) = Play::begin(&mut server, &transcripts, &conversation)?.play() {
                failed.push(format!("{name}:{error:#}"));
            }
        }
    }
    say(&format!("{had} conversations over TLS, {passed_over} only with the machine"));
    ensure!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    ensure!(had >= 100, "only {had} conversations were had");
    Ok(())
}

fn can_be_had(conversation: &Conversation<'_>) -> bool {
    conversation.iter().all(|(_, line)| match line {
        Line::Given(given) if given.starts_with("anna may hold") => !given.ends_with(NOT_GIVEN[8]),
        Line::Given(given) => {
            let limit = given.strip_prefix("appends may have ");
            let limit = limit.and_then(|rest| rest.strip_suffix(" octets")?.parse::<u64>().ok());
            !NOT_GIVEN[..8].contains(given) && limit.is_none_or(|limit| limit >= APPEND_OCTETS_MIN)
        }
        Line::Client(_, lines) => Bound::default().octets(lines).len() <= SENT_OCTETS_MAX,
        _ => true,
    })
}

/// The binary, and what it was last told.
struct Server {
    demo: Demo,
    data: PathBuf,
    append_octets: u64,
    has_account: bool,
}

impl Server {
    fn start(data: &Path) -> anyhow::Result<Self> {
        ensure!(Demo::start(data)?.stop()?.success());
        let file = data.join("ceralacca.toml");
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.contains(LIMITS), "{text}");
        let limits = format!("{LIMITS}\nappend_octets = {APPEND_OCTETS}");
        std::fs::write(&file, text.replace(LIMITS, &limits))?;
        let demo = Demo::start(data)?;
        let data = data.to_owned();
        Ok(Self { demo, data, append_octets: APPEND_OCTETS, has_account: false })
    }

    /// An account as if it had just been made.
    fn new_account(&mut self, quota_octets: u64) -> anyhow::Result<()> {
        if self.has_account {
            account(&self.data, &["remove", ADDRESS], "")?;
        }
        let quota = quota_octets.to_string();
        let add = ["add", ADDRESS, "--user-id", "anna", "--quota", &quota, "--password-stdin"];
        account(&self.data, &add, &format!("{PASSWORD}\n"))?;
        self.has_account = true;
        Ok(())
    }

    /// Limits APPEND to so many octets, while it runs.
    fn limit_appends(&mut self, octets: u64) -> anyhow::Result<()> {
        if octets == self.append_octets {
            return Ok(());
        }
        let file = self.data.join("ceralacca.toml");
        let was = format!("append_octets = {}", self.append_octets);
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(&file, text.replace(&was, &format!("append_octets = {octets}")))?;
        self.append_octets = octets;
        self.demo.signal(rustix::process::Signal::HUP)?;
        wire::until("the new limit", || {
            let mut client = self.connect(true)?;
            let greeting = client.response()?;
            Ok(greeting.contains(&format!(" APPENDLIMIT={octets} ")).then_some(()))
        })
    }

    fn connect(&self, tls: bool) -> anyhow::Result<Client> {
        let wire = if tls {
            Wire::tls(self.demo.address("imaps")?, &self.demo.tls())?
        } else {
            Wire::clear(self.demo.address("imap")?)?
        };
        Ok(Client { wire: Some(wire), came: Vec::new(), deflate: None })
    }
}

/// A conversation, and its clients.
struct Play<'p> {
    server: &'p Server,
    transcripts: &'p Path,
    conversation: &'p Conversation<'p>,
    clients: HashMap<&'p str, Client>,
    bound: Bound,
    /// Who puts messages and mailboxes where they are to be.
    helper: Imap,
}

impl<'p> Play<'p> {
    fn begin(
        server: &'p mut Server,
        transcripts: &'p Path,
        conversation: &'p Conversation<'p>,
    ) -> anyhow::Result<Self> {
        let (mut quota_octets, mut append_octets) = (QUOTA_OCTETS, APPEND_OCTETS);
        for (_, line) in conversation {
            let Line::Given(given) = line else { continue };
            match given.split(' ').collect::<Vec<_>>()[..] {
                ["anna", "may", "hold", octets, "octets"] => quota_octets = octets.parse()?,
                ["appends", "may", "have", octets, "octets"] => append_octets = octets.parse()?,
                _ => {}
            }
        }
        server.new_account(quota_octets)?;
        server.limit_appends(append_octets)?;
        let mut helper = Imap::connect(server.demo.address("imaps")?, &server.demo.tls())?;
        helper.login("anna", PASSWORD)?;
        let (clients, bound) = (HashMap::new(), Bound::default());
        Ok(Self { server, transcripts, conversation, clients, bound, helper })
    }

    fn play(mut self) -> anyhow::Result<()> {
        for (number, line) in self.conversation {
            self.line(line).with_context(|| number.to_string())?;
        }
        Ok(())
    }

    fn line(&mut self, line: &'p Line<'p>) -> anyhow::Result<()> {
        match line {
            Line::Given(given) => self.given(given),
            Line::Client(who, lines) => {
                let octets = self.bound.octets(lines);
                self.client(who).write(&octets)
            }
            Line::Server(who, lines) => {
                let expected = script::expected(lines);
                let mut sent = Vec::new();
                for _ in &expected {
                    match self.client(who).response() {
                        Ok(response) => sent.push(response),
                        Err(error) => bail!("{error}: expected {expected:?}, came {sent:?}"),
                    }
                }
                self.bound.expect(&expected, &sent).map_err(anyhow::Error::msg)
            }
            Line::TlsStarts => {
                let tls = self.server.demo.tls();
                let client = self.client("C");
                let wire = client.wire.take().context("no connection")?;
                client.wire = Some(wire.start_tls(&tls)?);
                Ok(())
            }
            Line::Closes => self.client("C").closed(),
        }
    }

    fn client(&mut self, who: &str) -> &mut Client {
        self.clients.get_mut(who).unwrap_or_else(|| panic!("who is {who}?"))
    }

    fn given(&mut self, given: &'p str) -> anyhow::Result<()> {
        match given.split(' ').collect::<Vec<_>>()[..] {
            // Seen to before it began.
            ["anna", "may", ..] | ["appends", "may", ..] => Ok(()),
            ["a", "mailbox", name] => self.helper.ok(&format!("CREATE \"{name}\"")).map(drop),
            [mailbox, "has", count, "messages", "of", octets, "octets"] => {
                for number in 1..=count.parse()? {
                    self.deliver(mailbox, &script::message(number, octets.parse()?))?;
                }
                Ok(())
            }
            [mailbox, "has", file] => {
                let message = std::fs::read(self.transcripts.join(file))?;
                self.deliver(mailbox, &message)
            }
            [who, "in", "clear"] => self.connect(who, false),
            [who, "over", "TLS"] => self.connect(who, true),
            [who, "is", "anna"] => self.sign_in(who),
            [who, "is", "anna,", "with", ref mailbox @ .., "selected"] => {
                self.sign_in(who)?;
                self.run(who, &format!("g1 SELECT \"{}\"", mailbox.join(" ")))
            }
            _ => bail!("what is given by {given:?}?"),
        }
    }

    fn deliver(&mut self, mailbox: &str, octets: &[u8]) -> anyhow::Result<()> {
        let head = format!("d1 APPEND \"{mailbox}\" \"{CAME}\" {{{}+}}\r\n", octets.len());
        self.helper.wire.write(&[head.as_bytes(), octets, b"\r\n"].concat())?;
        let line = String::from_utf8(self.helper.wire.line()?)?;
        ensure!(line.starts_with("d1 OK "), "{line}");
        Ok(())
    }

    fn connect(&mut self, who: &'p str, tls: bool) -> anyhow::Result<()> {
        let mut client = self.server.connect(tls)?;
        let greeting = client.response()?;
        ensure!(greeting.starts_with("* OK [CAPABILITY IMAP4rev1 "), "{greeting}");
        ensure!(greeting.ends_with("] pec.alfa.example ceralacca ready"), "{greeting}");
        self.clients.insert(who, client);
        Ok(())
    }

    fn sign_in(&mut self, who: &'p str) -> anyhow::Result<()> {
        self.connect(who, true)?;
        self.run(who, &format!("g0 LOGIN anna {PASSWORD}"))
    }

    fn run(&mut self, who: &str, command: &str) -> anyhow::Result<()> {
        let client = self.client(who);
        client.write(format!("{command}\r\n").as_bytes())?;
        let tag = &command[..3];
        loop {
            let response = client.response()?;
            if let Some(end) = response.strip_prefix(tag) {
                ensure!(end.starts_with("OK "), "{command}: {response}");
                return Ok(());
            }
        }
    }
}

/// One connection.
struct Client {
    /// None only while TLS starts.
    wire: Option<Wire>,
    /// Came, inflated, and not taken yet.
    came: Vec<u8>,
    deflate: Option<Box<(Compress, Decompress)>>,
}

impl Client {
    /// Sends octets; deflated, they are flushed as iOS does it.
    fn write(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        let wire = self.wire.as_mut().context("no connection")?;
        let Some(deflate) = &mut self.deflate else {
            wire.write(octets)?;
            return Ok(());
        };
        let mut out = Vec::new();
        let before = deflate.0.total_in();
        loop {
            let taken = usize::try_from(deflate.0.total_in() - before)?;
            out.reserve(4_096);
            deflate.0.compress_vec(&octets[taken..], &mut out, FlushCompress::Partial)?;
            let all = deflate.0.total_in() - before == octets.len() as u64;
            if all && out.len() < out.capacity() {
                break;
            }
        }
        wire.write(&out)?;
        Ok(())
    }

    /// The next response, without its last CRLF.
    fn response(&mut self) -> anyhow::Result<String> {
        let mut at = 0;
        loop {
            let line_end = self.came.get(at..).and_then(|rest| {
                rest.windows(2).position(|two| two == b"\r\n").map(|end| at + end)
            });
            let Some(end) = line_end else {
                self.fill()?;
                continue;
            };
            if let Some(octets) = script::announced(&self.came[at..end]) {
                at = end + 2 + octets;
                continue;
            }
            let response = String::from_utf8_lossy(&self.came[..end]).into_owned();
            self.came.drain(..end + 2);
            if response.ends_with(" OK DEFLATE active") {
                let compress = Compress::new(Compression::new(6), false);
                self.deflate = Some(Box::new((compress, Decompress::new(false))));
            } else if response.ends_with(" OK UNAUTHENTICATE completed") {
                self.deflate = None;
            }
            return Ok(response);
        }
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let came = self.wire.as_mut().context("no connection")?.some()?;
        let Some(deflate) = &mut self.deflate else {
            self.came.extend(came);
            return Ok(());
        };
        let before = deflate.1.total_in();
        loop {
            let taken = usize::try_from(deflate.1.total_in() - before)?;
            self.came.reserve(4_096);
            let sync = FlushDecompress::Sync;
            deflate.1.decompress_vec(&came[taken..], &mut self.came, sync)?;
            let all = deflate.1.total_in() - before == came.len() as u64;
            if all && self.came.len() < self.came.capacity() {
                return Ok(());
            }
        }
    }

    /// Whether the server has closed, and said nothing before.
    fn closed(&mut self) -> anyhow::Result<()> {
        let closed = match self.wire.as_mut().context("no connection")?.some() {
            Err(error) => matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ),
            Ok(_) => false,
        };
        ensure!(closed && self.came.is_empty(), "not closed");
        Ok(())
    }
}
