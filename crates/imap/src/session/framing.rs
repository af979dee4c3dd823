//! Lines and literals: which octets are a command. RFC 3501 §4.3, RFC 7888.
//!
//! Whatever is wrong with a command, its literals are skipped as literals: no text of a message is
//! ever read as a command. Not here: what a command says.

use imap_codec::fragmentizer::{FragmentInfo, Fragmentizer};
use imap_types::core::LiteralMode;

use super::limits::{
    DISCARD_OCTETS_MAX, LINE_OCTETS_MAX, LINE_OCTETS_MAX_BEFORE_LOGIN, LITERAL_OCTETS_MAX,
    LITERAL_OCTETS_MAX_BEFORE_LOGIN,
};

/// What a command with its literals may hold: a few lines and all its literals.
const COMMAND_OCTETS_MAX: u32 = 512 * 1024;
/// A buffer that grew past this is let go when the command is over.
const KEPT_OCTETS_MAX: usize = 1024;

/// Octets that came and were not looked at yet.
#[derive(Default)]
pub(super) struct Pending {
    octets: Vec<u8>,
    start: usize,
}

impl Pending {
    pub(super) fn push(&mut self, octets: &[u8]) {
        if self.start > 0 {
            self.octets.drain(..self.start);
            self.start = 0;
        }
        self.octets.extend_from_slice(octets);
    }

    pub(super) fn len(&self) -> usize {
        self.octets.len() - self.start
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// At most `limit` octets.
    pub(super) fn take(&mut self, limit: usize) -> &[u8] {
        let start = self.start;
        self.start += self.len().min(limit);
        &self.octets[start..self.start]
    }

    /// Octets up to the first LF and with it, at most `limit`; and whether there was one.
    pub(super) fn take_line(&mut self, limit: usize) -> (&[u8], bool) {
        let seen = &self.octets[self.start..];
        let seen = &seen[..seen.len().min(limit)];
        let line_end = seen.iter().position(|&b| b == b'\n');
        let count = line_end.map_or(seen.len(), |at| at + 1);
        (self.take(count), line_end.is_some())
    }

    /// Lets go of what is empty.
    pub(super) fn shrink(&mut self) {
        if self.len() == 0 {
            self.clear();
        }
    }
}

/// What the octets came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// A whole command: see [`Framer::message`].
    Command,
    /// A literal is announced: [`Framer::accept`] it, or [`Framer::skip`] the command.
    Announced { octets: u32, sync: bool },
    /// More is being sent than is read and dropped.
    Endless,
}

/// Finds the ends of commands.
pub(super) struct Framer {
    fragments: Fragmentizer,
    after_login: bool,
    /// Octets of the current line.
    line: usize,
    /// What is left of the current literal.
    literal_left: usize,
    /// Octets of all literals of the command.
    literals: usize,
    /// Octets of the command that were dropped.
    dropped: usize,
    too_long: bool,
    /// It has a literal that no command may have now.
    unwanted: bool,
}

impl Framer {
    pub(super) fn new(after_login: bool) -> Self {
        Self {
            fragments: Fragmentizer::new(COMMAND_OCTETS_MAX),
            after_login,
            line: 0,
            literal_left: 0,
            literals: 0,
            dropped: 0,
            too_long: false,
            unwanted: false,
        }
    }

    fn line_octets_max(&self) -> usize {
        if self.after_login { LINE_OCTETS_MAX } else { LINE_OCTETS_MAX_BEFORE_LOGIN }
    }

    fn literal_octets_max(&self) -> usize {
        if self.after_login { LITERAL_OCTETS_MAX } else { LITERAL_OCTETS_MAX_BEFORE_LOGIN }
    }

    /// The command so far; not all of it when it is too long.
    pub(super) fn message(&self) -> &[u8] {
        self.fragments.message_bytes()
    }

    /// Whether a bound was passed, so that the command is refused whatever it says.
    pub(super) fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Notes that the command has a literal that no command may have now.
    pub(super) fn refuse_unwanted(&mut self) {
        self.unwanted = true;
    }

    /// Whether that was noted.
    pub(super) fn is_unwanted(&self) -> bool {
        self.unwanted
    }

    /// Reads on; `None` when more octets must come.
    pub(super) fn next(&mut self, pending: &mut Pending) -> Option<Frame> {
        loop {
            if let Some(fragment) = self.fragments.progress() {
                match fragment {
                    FragmentInfo::Line { announcement: None, .. } => {
                        // Of a line that was not kept to its end nobody can say what it announced.
                        let endless = self.fragments.is_max_message_size_exceeded()
                            || announces_endless(self.message());
                        return Some(if endless { Frame::Endless } else { Frame::Command });
                    }
                    FragmentInfo::Line { announcement: Some(literal), .. } => {
                        self.line = 0;
                        let sync = matches!(literal.mode, LiteralMode::Sync);
                        return Some(Frame::Announced { octets: literal.length, sync });
                    }
                    FragmentInfo::Literal { .. } => {}
                }
                continue;
            }
            if pending.len() == 0 {
                return None;
            }
            if self.literal_left > 0 {
                let octets = pending.take(self.literal_left);
                self.literal_left -= octets.len();
                self.dropped += if self.too_long { octets.len() } else { 0 };
                self.fragments.enqueue_bytes(octets);
            } else {
                let (octets, _) = pending.take_line(usize::MAX);
                self.line += octets.len();
                self.fragments.enqueue_bytes(octets);
                if self.line > self.line_octets_max() {
                    self.too_long = true;
                    self.dropped += octets.len();
                    self.fragments.poison_message();
                }
            }
            if self.dropped > DISCARD_OCTETS_MAX {
                return Some(Frame::Endless);
            }
        }
    }

    /// Whether a literal of so many octets fits the bound of its command.
    pub(super) fn fits(&self, octets: u32) -> bool {
        !self.too_long && self.literals.saturating_add(octets as usize) <= self.literal_octets_max()
    }

    /// Reads the literal as part of the command.
    pub(super) fn accept(&mut self, octets: u32) {
        self.literals += octets as usize;
        self.literal_left = octets as usize;
    }

    /// Reads the literal and refuses the command at its end. `false` when that is too much to read.
    pub(super) fn accept_to_refuse(&mut self, octets: u32) -> bool {
        self.too_long = true;
        self.fragments.poison_message();
        self.accept(octets);
        self.dropped.saturating_add(octets as usize) <= DISCARD_OCTETS_MAX
    }

    /// The next octet begins another command.
    pub(super) fn skip(&mut self) {
        if self.message().len() > KEPT_OCTETS_MAX || self.dropped > 0 {
            self.fragments = Fragmentizer::new(COMMAND_OCTETS_MAX);
        } else {
            self.fragments.skip_message();
        }
        self.line = 0;
        self.literal_left = 0;
        self.literals = 0;
        self.dropped = 0;
        self.too_long = false;
        self.unwanted = false;
    }
}

/// Whether a line ends in `{n+}` with a number that none can be: what follows would be a literal to
/// the client, and must not be commands to us.
fn announces_endless(line: &[u8]) -> bool {
    let digits = || {
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"+}")?;
        let brace = line.iter().rposition(|b| !b.is_ascii_digit())?;
        line.get(brace..)?.strip_prefix(b"{").map(<[u8]>::len)
    };
    digits().is_some_and(|count| count > 0)
}
