//! What a message is sorted and threaded by. RFC 5256 §2.1 (base subject), §2.2 (sent date), §3; RFC 5957 §3
//! (display names); RFC 5051 §2 (collation).

use mail::Message;
use mail::message::{ListItem, decode_words, lenient_address_list};
use unicode_normalization::UnicodeNormalization as _;

use super::{Reader, put_number, put_text};

/// Message-IDs that a message refers to at most: the last ones, which are the nearest.
const REFERENCES_MAX: usize = 100;
/// Octets of one of these texts at most: what lies beyond decides no order that a reader sees.
const TEXT_OCTETS_MAX: usize = 998;

/// The keys of one message; texts are [collated](casemap).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Keys {
    /// The Date field, in seconds since 1970 UTC; `None` when it has none: then it counts as sent when it
    /// came.
    pub(crate) sent: Option<i64>,
    /// The base subject.
    pub(crate) subject: String,
    /// The subject is one of a reply or a forward.
    pub(crate) replies: bool,
    /// The local part of the first address.
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) cc: String,
    /// The display name of the first address, or else the address.
    pub(crate) display_from: String,
    pub(crate) display_to: String,
    /// Message-IDs without their angle brackets, as they are.
    pub(crate) message_id: Option<String>,
    /// The messages that it belongs under, the furthest first.
    pub(crate) references: Vec<String>,
}

impl Keys {
    /// Of a header.
    pub(crate) fn of(message: &Message<'_>) -> Self {
        let decoded = |name: &str| message.field(name).map(|field| field.decoded());
        let (subject, replies) = base_subject(&decoded("Subject").unwrap_or_default());
        let first = |name: &str| First::of(message, name);
        let (from, to, cc) = (first("From"), first("To"), first("Cc"));
        Self {
            sent: message
                .field("Date")
                .and_then(|field| Some(field.date()?.timestamp().as_second())),
            subject: casemap(&subject),
            replies,
            from: casemap(&from.local),
            to: casemap(&to.local),
            cc: casemap(&cc.local),
            display_from: casemap(&from.display),
            display_to: casemap(&to.display),
            message_id: ids(message, "Message-ID").into_iter().next(),
            references: references(message),
        }
    }

    pub(super) fn written(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        // The sign at the end: 0, -1, 1, -2, ...
        let sent = self.sent.map(|sent| ((sent << 1) ^ (sent >> 63)).cast_unsigned());
        put_number(&mut octets, u64::from(self.replies) | u64::from(sent.is_some()) << 1);
        put_number(&mut octets, sent.unwrap_or(0));
        let texts = [&self.subject, &self.from, &self.to, &self.cc];
        for text in texts.into_iter().chain([&self.display_from, &self.display_to]) {
            put_text(&mut octets, text);
        }
        let ids = self.message_id.iter().chain(&self.references);
        put_number(&mut octets, u64::from(self.message_id.is_some()));
        put_number(&mut octets, self.references.len() as u64);
        ids.for_each(|id| put_text(&mut octets, id));
        octets
    }

    pub(super) fn read(octets: &[u8]) -> Option<Self> {
        let mut reader = Reader(octets);
        let flags = reader.number()?;
        let sent = reader.number()?;
        let sent = (sent >> 1).cast_signed() ^ -((sent & 1).cast_signed());
        let mut keys = Self {
            sent: (flags & 2 != 0).then_some(sent),
            replies: flags & 1 != 0,
            subject: reader.text()?,
            from: reader.text()?,
            to: reader.text()?,
            cc: reader.text()?,
            display_from: reader.text()?,
            display_to: reader.text()?,
            ..Self::default()
        };
        let has_id = reader.number()? != 0;
        let references = reader.number()?.min(REFERENCES_MAX as u64);
        keys.message_id = if has_id { Some(reader.text()?) } else { None };
        for _ in 0..references {
            keys.references.push(reader.text()?);
        }
        Some(keys)
    }
}

/// The first address of a field.
#[derive(Default)]
struct First {
    local: String,
    display: String,
}

impl First {
    fn of(message: &Message<'_>, name: &str) -> Self {
        let list = message.field(name).map(|field| lenient_address_list(field.value));
        match list.unwrap_or_default().into_iter().next() {
            Some(ListItem::Mailbox { name, local, domain }) => {
                let name = name.map(|name| decode_words(&name)).unwrap_or_default();
                let display = match name.trim() {
                    "" if domain.is_empty() => local.clone(),
                    "" => format!("{local}@{domain}"),
                    name => name.to_owned(),
                };
                Self { local: cut(local), display: cut(display) }
            }
            // The name of a group stands for it: RFC 5957 §3.
            Some(ListItem::GroupStart(name)) => {
                let name = cut(decode_words(&name));
                Self { local: name.clone(), display: name }
            }
            Some(ListItem::GroupEnd) | None => Self::default(),
        }
    }
}

fn cut(mut text: String) -> String {
    let end = (0..=TEXT_OCTETS_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text.truncate(end.unwrap_or(0));
    text
}

/// What it replies to or is about. RFC 5256 §3 has References, or else the first of In-Reply-To; a receipt
/// of certified mail has neither, and names the message it is about in `X-Riferimento-Message-ID`
/// (PEC-AP-22): that one is its parent.
fn references(message: &Message<'_>) -> Vec<String> {
    let mut references = ids(message, "References");
    if references.is_empty() {
        references.extend(ids(message, "In-Reply-To").into_iter().next());
    }
    references.extend(ids(message, "X-Riferimento-Message-ID").into_iter().next());
    let too_many = references.len().saturating_sub(REFERENCES_MAX);
    references.drain(..too_many);
    references
}

/// The identifiers in a field, `msg-id` of RFC 5322 §3.6.4, whatever stands between them.
fn ids(message: &Message<'_>, name: &str) -> Vec<String> {
    let Some(field) = message.field(name) else { return Vec::new() };
    let text = field.unfolded();
    let mut rest = text.as_str();
    let mut ids = Vec::new();
    while let Some((_, after)) = rest.split_once('<') {
        let Some((id, after)) = after.split_once('>') else { break };
        let id: String = id.chars().filter(|c| !c.is_whitespace()).collect();
        if !id.is_empty() {
            ids.push(cut(id));
        }
        rest = after;
    }
    ids
}

/// A text as it is compared: i;unicode-casemap, RFC 5051 §2. A letter whose title case is more than one
/// letter stays as it is, as the simple mapping has it.
pub(crate) fn casemap(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_uppercase();
    }
    let title = |c: char| {
        let mut upper = c.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(one), None) => one,
            _ => c,
        }
    };
    cut(text.chars().map(title).nfkd().collect())
}

/// The base subject, and whether it is one of a reply or a forward: RFC 5256 §2.1. `subject` is decoded and
/// on one line.
fn base_subject(subject: &str) -> (String, bool) {
    let one_line = cut(subject.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut rest = one_line.as_str();
    let mut replies = false;
    loop {
        // Step 2: `subj-trailer`.
        loop {
            rest = rest.trim_end();
            let Some(before) = without_suffix(rest, "(fwd)") else { break };
            (rest, replies) = (before, true);
        }
        // Steps 3 to 5: `subj-leader`, and a `subj-blob` that something follows.
        loop {
            rest = rest.trim_start();
            if let Some(after) = leader(rest) {
                (rest, replies) = (after, true);
                continue;
            }
            match blob(rest) {
                Some(after) if !after.trim().is_empty() => rest = after,
                _ => break,
            }
        }
        // Step 6: `subj-fwd`.
        match without_prefix(rest, "[fwd:").and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => (rest, replies) = (inner, true),
            None => return (rest.to_owned(), replies),
        }
    }
}

fn without_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn without_suffix<'t>(text: &'t str, suffix: &str) -> Option<&'t str> {
    let (rest, end) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    end.eq_ignore_ascii_case(suffix).then_some(rest)
}

/// `subj-blob = "[" *BLOBCHAR "]" *WSP`
fn blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    inner[end..].strip_prefix(']').map(str::trim_start)
}

/// `*subj-blob subj-refwd`, with `subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"`
fn leader(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(after) = blob(rest) {
        rest = after;
    }
    let words = ["re", "fwd", "fw"];
    let after = words.iter().find_map(|word| {
        let after = without_prefix(rest, word)?.trim_start();
        let after = blob(after).unwrap_or(after);
        after.strip_prefix(':')
    })?;
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_subject_is_what_the_conversation_is_about() {
        for (subject, expected, replies) in [
            ("Offerta", "Offerta", false),
            ("Re: Offerta", "Offerta", true),
            ("RE: re : Fwd: fw:Offerta (fwd) (FWD) ", "Offerta", true),
            // `*WSP [subj-blob]` takes a blob right after too.
            ("[lista] Re[2]: Offerta", "Offerta", true),
            ("[lista] Re [2]: Offerta", "Offerta", true),
            ("Re: [lista] Offerta", "Offerta", true),
            ("[lista]", "[lista]", false),
            ("[a][b] x", "x", false),
            ("[Fwd: Re: Offerta]", "Offerta", true),
            ("[fwd: [Fwd: x] ]", "x", true),
            ("Regalo: x", "Regalo: x", false),
            ("re", "re", false),
            ("", "", false),
            ("Re:", "", true),
            ("(fwd)", "", true),
            ("[[[", "[[[", false),
            // Certified mail's own prefixes are part of the subject.
            ("ACCETTAZIONE: Re: x", "ACCETTAZIONE: Re: x", false),
        ] {
            assert_eq!(base_subject(subject), (expected.to_owned(), replies), "{subject:?}");
        }
        let nested = "[fwd:".repeat(100_000);
        assert!(base_subject(&nested).0.len() <= TEXT_OCTETS_MAX);
    }

    #[test]
    fn texts_are_compared_without_case() {
        for (one, other) in [
            ("rossi", "ROSSI"),
            ("perché", "PERCHÉ"),
            ("perche\u{301}", "perché"),
            ("ﬁne", "FINE"),
            ("ǆ", "Ǆ"),
        ] {
            assert_eq!(casemap(one).to_uppercase(), casemap(other).to_uppercase(), "{one}");
        }
        assert!(casemap("a") < casemap("B") && casemap("è") < casemap("f"));
    }

    #[test]
    fn keys_are_read_back() {
        let header = "Date: Mon, 2 Mar 1964 09:00:00 +0100\r\n\
            From: =?utf-8?Q?Perch=C3=A9?= <anna@pec.example>, other@x.example\r\n\
            To: Amici: a@b.example;\r\nCc: Zoe@b.example\r\nSubject: Re: =?utf-8?Q?Citt=C3=A0?=\r\n\
            Message-ID: <1@a.example>\r\nReferences: <2@a> junk <3@a\r\n b> <>\r\n\
            X-Riferimento-Message-ID: <4@a>\r\n\r\n";
        let keys = Keys::of(&Message::lenient(header.as_bytes()));
        let expected = Keys {
            sent: keys.sent,
            subject: casemap("Città"),
            replies: true,
            from: "ANNA".to_owned(),
            to: "AMICI".to_owned(),
            cc: "ZOE".to_owned(),
            display_from: casemap("Perché"),
            display_to: "AMICI".to_owned(),
            message_id: Some("1@a.example".to_owned()),
            references: vec!["2@a".to_owned(), "3@ab".to_owned(), "4@a".to_owned()],
        };
        assert_eq!(keys, expected);
        let written: jiff::Timestamp = "1964-03-02T08:00:00Z".parse().unwrap();
        assert_eq!(keys.sent, Some(written.as_second()));
        assert_eq!(Keys::read(&keys.written()), Some(keys));
        let empty = Keys::of(&Message::lenient(b""));
        assert_eq!((empty.sent, &empty.message_id), (None, &None));
        assert_eq!(Keys::read(&empty.written()), Some(empty));
    }

    #[test]
    fn references_are_bounded() {
        let many: String = (0..REFERENCES_MAX + 5).map(|n| format!(" <{n}@a>")).collect();
        let header = format!("References:{many}\r\n\r\n");
        let keys = Keys::of(&Message::lenient(header.as_bytes()));
        assert_eq!(keys.references.len(), REFERENCES_MAX);
        assert_eq!(keys.references[0], "5@a");
    }
}
