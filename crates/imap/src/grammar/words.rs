//! The words of a command, one after the other, for what imap-codec does not speak.
//!
//! RFC 3501 §9. Each reader takes what it finds or nothing; `None` is a command that is malformed.

use std::borrow::Cow;

use super::{MessageSet, SET_ELEMENTS_MAX};

/// What is left of a command's octets.
#[derive(Clone)]
pub(crate) struct Words<'o> {
    rest: &'o [u8],
}

impl<'o> Words<'o> {
    pub(crate) fn new(octets: &'o [u8]) -> Self {
        Self { rest: octets }
    }

    /// Whether this octet comes next.
    pub(crate) fn next_is(&self, octet: u8) -> bool {
        self.rest.first() == Some(&octet)
    }

    pub(crate) fn octet(&mut self, octet: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[octet])?;
        Some(())
    }

    pub(crate) fn space(&mut self) -> Option<()> {
        self.octet(b' ')
    }

    /// The end of the command.
    pub(crate) fn end(&self) -> Option<()> {
        (self.rest == b"\r\n").then_some(())
    }

    fn take_while(&mut self, is: impl Fn(u8) -> bool) -> &'o [u8] {
        let end = self.rest.iter().position(|&b| !is(b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// `atom`, as it is spelled.
    pub(crate) fn atom(&mut self) -> Option<&'o str> {
        let atom = self.take_while(is_atom_char);
        if atom.is_empty() { None } else { std::str::from_utf8(atom).ok() }
    }

    /// `atom`, in upper case: the names of items, keys and options.
    pub(crate) fn name(&mut self) -> Option<String> {
        Some(self.atom()?.to_ascii_uppercase())
    }

    /// This name and the space after it, when they come next.
    pub(crate) fn skip_name(&mut self, name: &str) -> bool {
        let mut ahead = self.clone();
        let found = ahead.atom().is_some_and(|atom| atom.eq_ignore_ascii_case(name))
            && ahead.space().is_some();
        if found {
            *self = ahead;
        }
        found
    }

    /// `number64`
    pub(crate) fn number(&mut self) -> Option<u64> {
        let digits = self.take_while(|b| b.is_ascii_digit());
        std::str::from_utf8(digits).ok()?.parse().ok().filter(|n| *n <= i64::MAX as u64)
    }

    /// `astring`
    pub(crate) fn astring(&mut self) -> Option<Cow<'o, [u8]>> {
        match self.rest.first()? {
            b'"' | b'{' => self.string(),
            _ => {
                let atom = self.take_while(|b| is_atom_char(b) || b == b']');
                if atom.is_empty() { None } else { Some(Cow::Borrowed(atom)) }
            }
        }
    }

    /// `string`
    pub(crate) fn string(&mut self) -> Option<Cow<'o, [u8]>> {
        if self.next_is(b'{') { self.literal().map(Cow::Borrowed) } else { self.quoted() }
    }

    fn quoted(&mut self) -> Option<Cow<'o, [u8]>> {
        self.octet(b'"')?;
        let plain = self.take_while(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0));
        if self.octet(b'"').is_some() {
            return Some(Cow::Borrowed(plain));
        }
        let mut octets = plain.to_vec();
        while self.octet(b'"').is_none() {
            self.octet(b'\\')?;
            let (&escaped, rest) = self.rest.split_first()?;
            if !matches!(escaped, b'"' | b'\\') {
                return None;
            }
            octets.push(escaped);
            self.rest = rest;
            let plain = self.take_while(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0));
            octets.extend_from_slice(plain);
        }
        Some(Cow::Owned(octets))
    }

    fn literal(&mut self) -> Option<&'o [u8]> {
        self.octet(b'{')?;
        let length = usize::try_from(self.number()?).ok()?;
        // Non-synchronizing or not, it is here: RFC 7888 §3.
        self.rest = self.rest.strip_prefix(b"+").unwrap_or(self.rest);
        self.rest = self.rest.strip_prefix(b"}\r\n")?;
        let (octets, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        (!octets.contains(&0)).then_some(octets)
    }

    /// An item of a list, whatever stands within its brackets.
    pub(crate) fn item(&mut self) -> Option<()> {
        let before = self.left();
        let mut depth = 0_usize;
        while let Some(&octet) = self.rest.first() {
            match octet {
                b' ' | b')' | b'\r' if depth == 0 => break,
                b'"' | b'{' => drop(self.string()?),
                _ => {
                    match octet {
                        b'(' | b'[' => depth += 1,
                        b')' | b']' => depth = depth.checked_sub(1)?,
                        _ => {}
                    }
                    self.octet(octet)?;
                }
            }
        }
        (depth == 0 && self.left() < before).then_some(())
    }

    /// The octets of an item of a list, whatever stands within its brackets.
    pub(crate) fn item_octets(&mut self) -> Option<&'o [u8]> {
        let before = self.rest;
        self.item()?;
        Some(&before[..before.len() - self.left()])
    }

    /// How many octets are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Whether what comes next can only be a `sequence-set`.
    pub(crate) fn next_is_set(&self) -> bool {
        self.rest.first().is_some_and(|b| b.is_ascii_digit() || matches!(b, b'*' | b'$'))
    }

    /// `partial-range`
    pub(crate) fn window(&mut self) -> Option<Window> {
        let text = self.atom()?;
        let (one, other) = text.split_once(':')?;
        let from_last = text.starts_with('-');
        let number = |text: &str| {
            let digits = if from_last { text.strip_prefix('-')? } else { text };
            let plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
            let number: u32 = if plain { digits.parse().ok()? } else { return None };
            usize::try_from(number).ok()
        };
        Some(Window { from_last, one: number(one)?, other: number(other)? })
    }

    /// `list-mailbox`
    pub(crate) fn list_mailbox(&mut self) -> Option<Cow<'o, [u8]>> {
        if matches!(self.rest.first()?, b'"' | b'{') {
            return self.string();
        }
        // Octets above ASCII are let through as elsewhere: the name is refused, not the command.
        let is = |b: u8| is_atom_char(b) || matches!(b, b'%' | b'*' | b']');
        let pattern = self.take_while(is);
        if pattern.is_empty() { None } else { Some(Cow::Borrowed(pattern)) }
    }

    /// `sequence-set`; `$` is what the last search saved, RFC 5182 §3.
    pub(crate) fn set(&mut self) -> Option<MessageSet> {
        if self.octet(b'$').is_some() {
            return Some(MessageSet::Saved);
        }
        let text = self.take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'*' | b','));
        let text = std::str::from_utf8(text).ok()?;
        let bound = |text: &str| match text {
            "*" => Some(None),
            digits => digits.parse::<std::num::NonZeroU32>().ok().map(|n| Some(n.get())),
        };
        let mut ranges = Vec::new();
        for element in text.split(',') {
            let (from, to) = element.split_once(':').unwrap_or((element, element));
            ranges.push((bound(from)?, bound(to)?));
        }
        (ranges.len() <= SET_ELEMENTS_MAX).then_some(MessageSet::Ranges(ranges))
    }
}

/// `partial-range`, RFC 9394 §4: some of all results, by their place among them; from the first, or with
/// a minus from the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    from_last: bool,
    one: usize,
    other: usize,
}

impl Window {
    /// Which of so many results, from 0.
    pub(crate) fn of(self, count: usize) -> std::ops::Range<usize> {
        let (near, far) = (self.one.min(self.other), self.one.max(self.other));
        if self.from_last {
            count.saturating_sub(far)..count.saturating_sub(near - 1)
        } else {
            (near - 1).min(count)..far.min(count)
        }
    }

    /// How many results it can hold.
    pub(crate) fn len(self) -> u64 {
        self.one.abs_diff(self.other) as u64 + 1
    }

    /// How many results it can hold, when they are counted from the last.
    pub(crate) fn tail(self) -> Option<usize> {
        self.from_last.then_some(self.one.max(self.other))
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minus = if self.from_last { "-" } else { "" };
        write!(f, "{minus}{}:{minus}{}", self.one, self.other)
    }
}

/// `ATOM-CHAR`
fn is_atom_char(octet: u8) -> bool {
    octet.is_ascii_graphic()
        && !matches!(octet, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_astring_is_an_atom_or_quoted_or_a_literal() {
        type Read = Option<(&'static [u8], &'static [u8])>;
        let cases: [(&[u8], Read); 12] = [
            (b"INBOX (", Some((b"INBOX", b" ("))),
            (b"a]b\r\n", Some((b"a]b", b"\r\n"))),
            (b"\"\" x", Some((b"", b" x"))),
            (b"\"a \\\"b\\\\ c\")", Some((b"a \"b\\ c", b")"))),
            (b"{3}\r\na\"c d", Some((b"a\"c", b" d"))),
            (b"{3+}\r\nabc", Some((b"abc", b""))),
            (b"{4}\r\nabc", None),
            (b"{1}\r\n\0", None),
            (b"\"a\\b\"", None),
            (b"\"a\r\n\"", None),
            (b"\"a", None),
            (b" a", None),
        ];
        for (octets, expected) in cases {
            let mut words = Words::new(octets);
            let read = words.astring();
            let expected = expected.map(|(read, rest)| (read.to_vec(), rest));
            assert_eq!(read.map(|read| (read.into_owned(), words.rest)), expected);
        }
    }

    #[test]
    fn a_window_is_clipped_to_what_there_is() {
        for (text, of_ten) in [
            ("1:3", Some(0..3)),
            ("9:20", Some(8..10)),
            ("20:11", Some(10..10)),
            ("-1:-3", Some(7..10)),
            ("-20:-9", Some(0..2)),
            ("-11:-12", Some(0..0)),
            ("-1:3", None),
            ("0:3", None),
            ("1:4294967296", None),
            ("1:*", None),
        ] {
            let window = Words::new(text.as_bytes()).window();
            assert_eq!(window.map(|window| window.of(10)), of_ten, "{text}");
        }
    }

    #[test]
    fn a_set_is_numbers_and_ranges_of_them() {
        for (text, expected) in [
            ("1", Some(vec![(Some(1), Some(1))])),
            ("5:2,*", Some(vec![(Some(5), Some(2)), (None, None)])),
            ("7:*", Some(vec![(Some(7), None)])),
            ("0", None),
            ("4294967296", None),
            ("1,", None),
            ("1:2:3", None),
            (":", None),
            ("", None),
        ] {
            let set = Words::new(text.as_bytes()).set();
            assert_eq!(set, expected.map(MessageSet::Ranges), "{text:?}");
        }
    }
}
