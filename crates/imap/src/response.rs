//! Words to octets: response codes, strings, flags, sets; RFC 3501 §7 and §9.
//!
//! What a command answers is gathered in an [`Output`], in pieces: octets, and ranges of stored
//! octets that are sent without ever being held here.

use std::sync::Arc;

use store::{
    BlobId, Flags, Held, Keyword, MailboxId, MailboxName, ModSeq, SystemFlags, Uid, UidSet,
    UidValidity,
};

use crate::mutf7;

/// A string this long or longer is sent as a literal, so that no client's line limit is passed.
const QUOTED_OCTETS_MAX: usize = 1_000;
/// Ranges of UIDs in one VANISHED at most: a line stays below what clients take.
const VANISHED_RANGES_MAX: usize = 300;

/// A response code, RFC 3501 §7.1 and RFC 5530 §3 where no other document is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// `ALREADYEXISTS`
    AlreadyExists,
    /// `APPENDUID`, RFC 4315 §3
    AppendUid(UidValidity, Vec<Uid>),
    /// `AUTHENTICATIONFAILED`
    AuthenticationFailed,
    /// `BADEVENT`, with those that can be watched: RFC 5465 §3.1
    BadEvent,
    /// `BADCHARSET`, with those that are known
    BadCharset,
    /// `CANNOT`
    Cannot,
    /// `CAPABILITY`, with its list
    Capability(String),
    /// `COMPRESSIONACTIVE`, RFC 4978 §3
    CompressionActive,
    /// `CONTACTADMIN`
    ContactAdmin,
    /// `COPYUID`, RFC 4315 §3: from, to
    CopyUid(UidValidity, Vec<Uid>, Vec<Uid>),
    /// `EXPUNGEISSUED`
    ExpungeIssued,
    /// `HASCHILDREN`, RFC 9051 §7.1
    HasChildren,
    /// `HIGHESTMODSEQ`, RFC 7162 §3.1.2.1
    HighestModSeq(ModSeq),
    /// `LIMIT`
    Limit,
    /// `MAILBOXID`, RFC 8474 §4.1
    MailboxId(MailboxId),
    /// `MESSAGELIMIT`, RFC 9738 §3.1: how many, and the lowest UID that would have been among them
    MessageLimit(u64, Option<Uid>),
    /// `METADATA LONGENTRIES`, RFC 5464 §4.2.1: the longest that was left out
    MetadataLongEntries(usize),
    /// `METADATA MAXSIZE`, RFC 5464 §4.3
    MetadataMaxSize(usize),
    /// `METADATA TOOMANY`, RFC 5464 §4.3
    MetadataTooMany,
    /// `MODIFIED`, RFC 7162 §3.1.3: numbers or UIDs, ascending
    Modified(Vec<u32>),
    /// `NONEXISTENT`
    NonExistent,
    /// `NOPERM`
    NoPerm,
    /// `NOTIFICATIONOVERFLOW`, RFC 5465 §5.8
    NotificationOverflow,
    /// `OVERQUOTA`, RFC 9208 §4.3.1
    OverQuota,
    /// `PRIVACYREQUIRED`
    PrivacyRequired,
    /// `READ-ONLY`
    ReadOnly,
    /// `READ-WRITE`
    ReadWrite,
    /// `TOOBIG`, RFC 4469 §4.2
    TooBig,
    /// `TRYCREATE`
    TryCreate,
    /// `UIDREQUIRED`, RFC 9586 §3.1
    UidRequired,
    /// `UNAVAILABLE`
    Unavailable,
    /// `UNKNOWN-CTE`, RFC 3516 §4.3
    UnknownCte,
    /// `USEATTR`, RFC 6154 §6
    UseAttr,
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AlreadyExists => "ALREADYEXISTS",
            Self::AuthenticationFailed => "AUTHENTICATIONFAILED",
            Self::BadEvent => {
                "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange \
                 MailboxMetadataChange ServerMetadataChange)"
            }
            Self::BadCharset => "BADCHARSET (US-ASCII UTF-8)",
            Self::Cannot => "CANNOT",
            Self::CompressionActive => "COMPRESSIONACTIVE",
            Self::ContactAdmin => "CONTACTADMIN",
            Self::ExpungeIssued => "EXPUNGEISSUED",
            Self::HasChildren => "HASCHILDREN",
            Self::Limit => "LIMIT",
            Self::MetadataTooMany => "METADATA TOOMANY",
            Self::NonExistent => "NONEXISTENT",
            Self::NoPerm => "NOPERM",
            Self::NotificationOverflow => "NOTIFICATIONOVERFLOW",
            Self::OverQuota => "OVERQUOTA",
            Self::PrivacyRequired => "PRIVACYREQUIRED",
            Self::ReadOnly => "READ-ONLY",
            Self::ReadWrite => "READ-WRITE",
            Self::TooBig => "TOOBIG",
            Self::TryCreate => "TRYCREATE",
            Self::UidRequired => "UIDREQUIRED",
            Self::Unavailable => "UNAVAILABLE",
            Self::UnknownCte => "UNKNOWN-CTE",
            Self::UseAttr => "USEATTR",
            Self::MessageLimit(limit, None) => return write!(f, "MESSAGELIMIT {limit}"),
            Self::MessageLimit(limit, Some(lowest)) => {
                return write!(f, "MESSAGELIMIT {limit} {}", lowest.0);
            }
            Self::MetadataLongEntries(octets) => {
                return write!(f, "METADATA LONGENTRIES {octets}");
            }
            Self::MetadataMaxSize(octets) => return write!(f, "METADATA MAXSIZE {octets}"),
            Self::HighestModSeq(highest) => {
                return write!(f, "HIGHESTMODSEQ {}", mod_seq(*highest));
            }
            Self::MailboxId(mailbox) => {
                return write!(f, "MAILBOXID ({})", mailbox_id(*mailbox));
            }
            Self::AppendUid(validity, appended) => {
                return write!(f, "APPENDUID {} {}", validity.0, uids(appended));
            }
            Self::Modified(numbers) => {
                return write!(f, "MODIFIED {}", ranges(numbers.iter().copied()));
            }
            Self::Capability(list) => return write!(f, "CAPABILITY {list}"),
            Self::CopyUid(validity, from, to) => {
                return write!(f, "COPYUID {} {} {}", validity.0, uids(from), uids(to));
            }
        })
    }
}

fn uids(uids: &[Uid]) -> String {
    ranges(uids.iter().map(|uid| uid.0.get()))
}

/// Numbers in their order as a sequence set: neighbours become ranges.
pub(crate) fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(last) if last.1.checked_add(1) == Some(number) => last.1 = number,
            _ => runs.push((number, number)),
        }
    }
    let runs: Vec<String> = runs
        .into_iter()
        .map(|(a, b)| if a == b { a.to_string() } else { format!("{a}:{b}") })
        .collect();
    runs.join(",")
}

/// A mailbox's name for ever, RFC 8474 §4: its number, which is never used twice.
pub(crate) fn mailbox_id(mailbox: MailboxId) -> String {
    format!("F{}", mailbox.0)
}

/// A message's octets' name for ever, RFC 8474 §5.1: the number under which they are stored, which
/// copies share and which is never used twice.
pub(crate) fn email_id(blob: BlobId) -> String {
    format!("M{}", blob.0)
}

/// A mod-sequence as a client sees it: one above the store's, since that of a mailbox in which nothing
/// ever happened must not be zero (RFC 7162 §3.1.2.1) and must be below that of its first message.
pub(crate) fn mod_seq(mod_seq: ModSeq) -> u64 {
    mod_seq.0.saturating_add(1)
}

/// What a client's mod-sequence is to the store: [`mod_seq`] back. Nothing is at zero.
pub(crate) fn since(mod_seq: u64) -> ModSeq {
    ModSeq(mod_seq.saturating_sub(1))
}

/// A piece of what is to be sent.
#[derive(Debug)]
pub(crate) enum Piece {
    /// These octets.
    Octets(Vec<u8>),
    /// Octets `start..end` of stored ones.
    Stored { octets: Arc<dyn Held>, start: u64, end: u64 },
}

/// Where an [`Output`] ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pieces: usize,
    last: usize,
    octets: usize,
}

/// What a command answers before its tagged response.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pieces: Vec<Piece>,
    octets: usize,
    /// Names go out in UTF-8.
    utf8: bool,
}

impl Output {
    /// For a client that has enabled UTF-8, or not.
    pub(crate) fn new(utf8: bool) -> Self {
        Self { utf8, ..Self::default() }
    }

    /// How many octets are held here; those that stay in the store do not count, but what it takes to hold
    /// them there does.
    pub(crate) fn held_octets(&self) -> usize {
        self.octets
    }

    /// What was written, when nothing of it is stored elsewhere.
    pub(crate) fn into_octets(self) -> Vec<u8> {
        let octets = self.pieces.into_iter().filter_map(|piece| match piece {
            Piece::Octets(octets) => Some(octets),
            Piece::Stored { .. } => None,
        });
        octets.flatten().collect()
    }

    pub(crate) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.octets += octets.len();
        if let Some(Piece::Octets(last)) = self.pieces.last_mut() {
            last.extend_from_slice(octets);
        } else {
            self.pieces.push(Piece::Octets(octets.to_vec()));
        }
    }

    /// Where it ends now, for [`cut`](Self::cut).
    pub(crate) fn mark(&self) -> Mark {
        let last = match self.pieces.last() {
            Some(Piece::Octets(last)) => last.len(),
            Some(Piece::Stored { .. }) | None => 0,
        };
        Mark { pieces: self.pieces.len(), last, octets: self.octets }
    }

    /// Drops what was written since the mark.
    pub(crate) fn cut(&mut self, mark: Mark) {
        self.pieces.truncate(mark.pieces);
        if let Some(Piece::Octets(last)) = self.pieces.last_mut() {
            last.truncate(mark.last);
        }
        self.octets = mark.octets;
    }

    /// A number in digits.
    pub(crate) fn number(&mut self, mut number: u64) {
        // As many digits as a number of 64 bits can have.
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] += (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.push(text.as_bytes());
    }

    /// An untagged response: `* `, the text, and the end of the line.
    pub(crate) fn untagged(&mut self, text: &str) {
        self.text("* ");
        self.text(text);
        self.text("\r\n");
    }

    /// Octets that are sent from where they are stored.
    pub(crate) fn stored(&mut self, octets: Arc<dyn Held>, start: u64, end: u64) {
        if start < end {
            self.octets += octets.weight();
            self.pieces.push(Piece::Stored { octets, start, end });
        }
    }

    /// `literal = "{" number "}" CRLF *CHAR8`: the announcement only.
    pub(crate) fn announce(&mut self, octets: u64) {
        self.text("{");
        self.number(octets);
        self.text("}\r\n");
    }

    /// `string = quoted / literal`: a literal when there is anything that a quoted string may not
    /// hold (RFC 3501 §9 `TEXT-CHAR`). No string can hold NUL: it is left out.
    pub(crate) fn string(&mut self, octets: &[u8]) {
        let quotable = |b: &u8| matches!(b, b' '..=b'~' | b'\t');
        if octets.len() < QUOTED_OCTETS_MAX && octets.iter().all(quotable) {
            return self.quoted(octets);
        }
        self.literal(octets);
    }

    fn quoted(&mut self, octets: &[u8]) {
        let mut quoted = Vec::with_capacity(octets.len() + 2);
        quoted.push(b'"');
        for &b in octets {
            if matches!(b, b'"' | b'\\') {
                quoted.push(b'\\');
            }
            quoted.push(b);
        }
        quoted.push(b'"');
        self.push(&quoted);
    }

    /// A text of ours or a name, which no control character is in: quoted, in UTF-8 where the client
    /// has enabled that (RFC 9051 §4.3), else as any string.
    pub(crate) fn utf8_string(&mut self, text: &str) {
        if self.utf8 && text.len() < QUOTED_OCTETS_MAX {
            self.quoted(text.as_bytes());
        } else {
            self.string(text.as_bytes());
        }
    }

    /// A literal, without the NULs that none can hold.
    pub(crate) fn literal(&mut self, octets: &[u8]) {
        if octets.contains(&0) {
            let kept: Vec<u8> = octets.iter().copied().filter(|&b| b != 0).collect();
            self.announce(kept.len() as u64);
            self.push(&kept);
        } else {
            self.announce(octets.len() as u64);
            self.push(octets);
        }
    }

    /// `literal8` when there is a NUL, RFC 3516 §5; else a literal.
    pub(crate) fn literal8(&mut self, octets: &[u8]) {
        if octets.contains(&0) {
            self.text("~");
        }
        self.announce(octets.len() as u64);
        self.push(octets);
    }

    /// `nstring = string / nil`
    pub(crate) fn nstring(&mut self, octets: Option<&[u8]>) {
        match octets {
            Some(octets) => self.string(octets),
            None => self.text("NIL"),
        }
    }

    /// A mailbox name, quoted: in modified UTF-7, or in UTF-8 where the client has enabled that.
    pub(crate) fn mailbox(&mut self, name: &MailboxName) {
        if self.utf8 {
            self.utf8_string(name.as_str());
        } else {
            self.string(mutf7::encode(name.as_str()).as_bytes());
        }
    }

    /// The name of an entry: an atom where it can be.
    pub(crate) fn entry(&mut self, entry: &str) {
        let is_atom = |b: u8| b.is_ascii_alphanumeric() || b"/-_.:+$#".contains(&b);
        if entry.bytes().all(is_atom) {
            self.text(entry);
        } else {
            self.string(entry.as_bytes());
        }
    }

    /// `VANISHED`, RFC 7162 §3.2.10, in lines of a bounded length; nothing for no UIDs.
    pub(crate) fn vanished(&mut self, earlier: bool, uids: &UidSet) {
        let word = if earlier { "VANISHED (EARLIER)" } else { "VANISHED" };
        for ranges in uids.ranges().chunks(VANISHED_RANGES_MAX) {
            let range = |&(first, last): &(u32, u32)| match first == last {
                true => first.to_string(),
                false => format!("{first}:{last}"),
            };
            let set: Vec<String> = ranges.iter().map(range).collect();
            self.untagged(&format!("{word} {}", set.join(",")));
        }
    }

    /// `flag-list`, with `\Recent` when it is.
    pub(crate) fn flags(&mut self, flags: &Flags, recent: bool) {
        let system = SYSTEM_FLAGS.iter().filter(|(flag, _)| flags.system.contains(*flag));
        let system = system.map(|&(_, name)| name).chain(recent.then_some("\\Recent"));
        self.text("(");
        for (at, word) in system.chain(flags.keywords.iter().map(Keyword::as_str)).enumerate() {
            if at > 0 {
                self.text(" ");
            }
            self.text(word);
        }
        self.text(")");
    }
}

/// IMAP's own flags by name.
pub(crate) const SYSTEM_FLAGS: [(SystemFlags, &str); 5] = [
    (SystemFlags::ANSWERED, "\\Answered"),
    (SystemFlags::FLAGGED, "\\Flagged"),
    (SystemFlags::DELETED, "\\Deleted"),
    (SystemFlags::SEEN, "\\Seen"),
    (SystemFlags::DRAFT, "\\Draft"),
];

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn uid(number: u32) -> Uid {
        Uid(NonZeroU32::new(number).unwrap())
    }

    /// Octets that are held.
    struct Nine;

    impl Held for Nine {
        fn read(&self, _: u64, _: u64) -> Result<Vec<u8>, store::StoreError> {
            Ok(vec![9; 9])
        }

        fn weight(&self) -> usize {
            100
        }
    }

    fn written(write: impl FnOnce(&mut Output)) -> String {
        let mut output = Output::default();
        write(&mut output);
        let octets = output.into_pieces().into_iter().flat_map(|piece| match piece {
            Piece::Octets(octets) => octets,
            Piece::Stored { .. } => b"<stored>".to_vec(),
        });
        octets.collect::<Vec<u8>>().escape_ascii().to_string()
    }

    #[test]
    fn a_string_is_quoted_when_it_can_be() {
        let long = "x".repeat(QUOTED_OCTETS_MAX);
        let long_literal = format!("{{{QUOTED_OCTETS_MAX}}}\\r\\n{long}");
        let cases: [(&[u8], &str); 6] = [
            (b"", "\\\"\\\""),
            (b"a \"b\" \\", "\\\"a \\\\\\\"b\\\\\\\" \\\\\\\\\\\""),
            (b"perch\xc3\xa9", "{7}\\r\\nperch\\xc3\\xa9"),
            (b"a\r\nb", "{4}\\r\\na\\r\\nb"),
            (b"a\0b", "{2}\\r\\nab"),
            (long.as_bytes(), &long_literal),
        ];
        for (octets, expected) in cases {
            assert_eq!(written(|out| out.string(octets)), expected);
        }
        assert_eq!(written(|out| out.nstring(None)), "NIL");
    }

    #[test]
    fn numbers_are_written_in_digits() {
        for number in [0, 7, 10, 4_096, u64::MAX] {
            assert_eq!(written(|out| out.number(number)), number.to_string());
        }
    }

    #[test]
    fn what_was_written_since_a_mark_can_be_dropped() {
        let told = written(|out| {
            out.text("a");
            let mark = out.mark();
            out.text("b");
            out.stored(Arc::new(Nine), 0, 9);
            out.text("c");
            assert_eq!(out.held_octets(), 3 + 100);
            out.cut(mark);
            assert_eq!(out.held_octets(), 1);
            out.stored(Arc::new(Nine), 0, 9);
            let mark = out.mark();
            out.text("d");
            out.cut(mark);
            assert_eq!(out.held_octets(), 1 + 100);
            out.text("e");
        });
        assert_eq!(told, "a<stored>e");
    }

    #[test]
    fn codes_are_spelled_in_one_place() {
        let validity = UidValidity(NonZeroU32::new(7).unwrap());
        for (code, expected) in [
            (Code::AppendUid(validity, vec![uid(12)]), "APPENDUID 7 12"),
            (
                Code::CopyUid(
                    validity,
                    vec![uid(1), uid(2), uid(5)],
                    vec![uid(8), uid(9), uid(10)],
                ),
                "COPYUID 7 1:2,5 8:10",
            ),
            (Code::BadCharset, "BADCHARSET (US-ASCII UTF-8)"),
            (Code::ReadOnly, "READ-ONLY"),
        ] {
            assert_eq!(code.to_string(), expected);
        }
    }
}
