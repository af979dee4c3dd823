//! The words of a command, one after the other, for what imap-codec does not speak.
//!
//! RFC 3501 §9. Each reader takes what it finds or nothing; `None` is a command that is malformed.

use std::borrow::Cow;

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
}
