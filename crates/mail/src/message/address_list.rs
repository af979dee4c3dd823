//! The addresses of fields such as From, To and Cc.
//!
//! RFC 5322 §3.4 (address lists, groups), §3.2.2 (comments), §4.4 (obsolete forms: routes, empty
//! elements). One reader of tokens and elements serves both the strict list, of which each element is
//! an [`Address`], and the lenient one, which shows what is there. Both are iterative and linear.

use super::field::{unfold, without_controls};
use super::words::decode_words;
use crate::address::is_atext;
use crate::{Address, AddressError};

/// Addresses in one field at most.
pub const ADDRESSES_MAX: usize = 5_000;

/// An address with the name that a header field gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAddress {
    /// The display name, decoded; it has no control characters.
    pub name: Option<String>,
    /// The address.
    pub address: Address,
}

/// One element of an address list as IMAP's ENVELOPE needs it: also what is not a good address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListItem {
    /// A mailbox. No text of it has control characters.
    Mailbox {
        /// The display name as written, encoded words kept, without quotes; or, where there is no
        /// display name, the comment that old programs put in its place.
        name: Option<String>,
        /// The local part, with quotes where it has and needs them.
        local: String,
        /// The domain; empty when there is none.
        domain: String,
    },
    /// The start of a group, with its name.
    GroupStart(String),
    /// Its end.
    GroupEnd,
}

/// The elements of an address list, read as leniently as a mailbox display must
/// (RFC 9051 §7.5.2, `ENVELOPE`): never fails, at most [`ADDRESSES_MAX`] elements.
///
/// A group that is cut off at that bound, or by the end of the field, has its end all the same.
pub fn lenient_address_list(value: &[u8]) -> Vec<ListItem> {
    let text = unfold(value);
    let mut items = Vec::new();
    let mut in_group = false;
    for element in Elements::new(&text) {
        // A place is kept for the end of an open group.
        if items.len() + usize::from(in_group) >= ADDRESSES_MAX {
            break;
        }
        match element.kind {
            Kind::Empty => {}
            Kind::Mailbox => items.push(element.lenient()),
            Kind::GroupStart if items.len() + 2 > ADDRESSES_MAX => break,
            Kind::GroupStart => {
                items.push(ListItem::GroupStart(element.phrase().unwrap_or_default()));
                in_group = true;
            }
            Kind::GroupEnd => {
                items.push(ListItem::GroupEnd);
                in_group = false;
            }
        }
    }
    if in_group {
        items.push(ListItem::GroupEnd);
    }
    items
}

/// The mailboxes of an address list, groups flattened; or why it is none.
pub(crate) fn strict(value: &[u8]) -> Result<Vec<NamedAddress>, AddressError> {
    let text = unfold(value);
    let mut mailboxes = Vec::new();
    let mut elements = Elements::new(&text);
    for element in elements.by_ref() {
        if element.faulty {
            return Err(AddressError::Shape);
        }
        match element.kind {
            Kind::Mailbox if mailboxes.len() == ADDRESSES_MAX => return Err(AddressError::TooLong),
            Kind::Mailbox => mailboxes.push(element.strict()?),
            Kind::GroupStart if element.phrase().is_none() => return Err(AddressError::Shape),
            Kind::Empty | Kind::GroupStart | Kind::GroupEnd => {}
        }
    }
    if elements.in_group { Err(AddressError::Shape) } else { Ok(mailboxes) }
}

/// A token of a structured field, RFC 5322 §3.2.
#[derive(Debug, PartialEq, Eq)]
enum Token<'t> {
    /// Atoms and dots, and what is beyond ASCII.
    Atom(&'t str),
    /// A quoted string, without quotes and backslashes.
    Quoted(String),
    /// A domain literal with its brackets.
    Literal(&'t str),
    /// A comment, without its outer parentheses.
    Comment(&'t str),
    /// One of `< > @ , ; :`.
    Special(char),
}

/// A token, and what must be known of its surroundings.
struct Lexed<'t> {
    token: Token<'t>,
    /// White space or a comment stands before it.
    after_space: bool,
    /// It is cut off, or is a character that may not stand here.
    faulty: bool,
}

/// The next token, and the rest of the text.
fn lex(text: &str) -> Option<(Lexed<'_>, &str)> {
    let trimmed = text.trim_start_matches([' ', '\t']);
    let after_space = trimmed.len() < text.len();
    let first = trimmed.chars().next()?;
    let (token, length, faulty) = match first {
        '"' => quoted(trimmed),
        '(' => {
            let (length, faulty) = comment_length(trimmed);
            let inner = &trimmed[1..length];
            let inner = if faulty { inner } else { &inner[..inner.len() - 1] };
            (Token::Comment(inner), length, faulty)
        }
        '[' => {
            let end = trimmed.find(']').map_or(trimmed.len(), |end| end + 1);
            (Token::Literal(&trimmed[..end]), end, !trimmed[..end].ends_with(']'))
        }
        '<' | '>' | '@' | ',' | ';' | ':' => (Token::Special(first), 1, false),
        first if is_atom_character(first) => {
            let end = trimmed.find(|c| !is_atom_character(c)).unwrap_or(trimmed.len());
            (Token::Atom(&trimmed[..end]), end, false)
        }
        // `)`, `]`, a backslash or a control character: shown as it is, and no address.
        first => (Token::Atom(&trimmed[..first.len_utf8()]), first.len_utf8(), true),
    };
    Some((Lexed { token, after_space, faulty }, &trimmed[length..]))
}

fn is_atom_character(c: char) -> bool {
    !c.is_ascii() || c == '.' || is_atext(c as u8)
}

fn quoted(text: &str) -> (Token<'_>, usize, bool) {
    let mut inner = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (Token::Quoted(inner), at + 1, false),
            '\\' => inner.extend(characters.next().map(|(_, c)| c)),
            c => inner.push(c),
        }
    }
    (Token::Quoted(inner), text.len(), true)
}

/// The length of a comment, which may hold comments, and whether it is cut off.
fn comment_length(text: &str) -> (usize, bool) {
    let mut depth = 0_usize;
    let mut octets = text.bytes().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'(' => depth += 1,
            b')' if depth == 1 => return (at + 1, false),
            b')' => depth -= 1,
            b'\\' => {
                octets.next();
            }
            _ => {}
        }
    }
    (text.len(), true)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Empty,
    Mailbox,
    GroupStart,
    GroupEnd,
}

/// What stands between two separators.
struct Element<'t> {
    kind: Kind,
    /// The words outside angle brackets, with whether white space is before each.
    outside: Vec<(Token<'t>, bool)>,
    /// Those inside, when there are angle brackets.
    angle: Option<Vec<(Token<'t>, bool)>>,
    comment: Option<&'t str>,
    faulty: bool,
}

/// The elements of a list, one after the other.
struct Elements<'t> {
    rest: &'t str,
    in_group: bool,
    /// A `;` came behind an element: the group's end is still to be told.
    ends_group: bool,
}

impl<'t> Elements<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text, in_group: false, ends_group: false }
    }
}

impl<'t> Iterator for Elements<'t> {
    type Item = Element<'t>;

    fn next(&mut self) -> Option<Element<'t>> {
        let mut element = Element {
            kind: Kind::Empty,
            outside: Vec::new(),
            angle: None,
            comment: None,
            faulty: false,
        };
        if std::mem::take(&mut self.ends_group) {
            self.in_group = false;
            element.kind = Kind::GroupEnd;
            return Some(element);
        }
        let mut in_angle = false;
        let mut after_comment = false;
        let mut seen = false;
        while let Some((lexed, rest)) = lex(self.rest) {
            self.rest = rest;
            seen = true;
            element.faulty |= lexed.faulty;
            let spaced = lexed.after_space || std::mem::take(&mut after_comment);
            match lexed.token {
                Token::Comment(text) => {
                    element.comment = Some(text);
                    after_comment = true;
                }
                Token::Special(',') if !in_angle => return Some(element.whole()),
                // A route of RFC 5322 §4.4 has commas.
                Token::Special(',') => {}
                Token::Special(';') if self.in_group && !in_angle => {
                    self.ends_group = true;
                    return Some(element.whole());
                }
                Token::Special(':') if !in_angle && !self.in_group && element.angle.is_none() => {
                    self.in_group = true;
                    element.kind = Kind::GroupStart;
                    return Some(element);
                }
                Token::Special('<') if !in_angle && element.angle.is_none() => {
                    in_angle = true;
                    element.angle = Some(Vec::new());
                }
                Token::Special('>') if in_angle => in_angle = false,
                // A route ends; what comes before was of no use.
                Token::Special(':') if in_angle => match &mut element.angle {
                    Some(route) if matches!(route.first(), Some((Token::Special('@'), _))) => {
                        route.clear();
                    }
                    _ => element.faulty = true,
                },
                Token::Special('<' | '>' | ':' | ';') => element.faulty = true,
                token => match &mut element.angle {
                    Some(inside) if in_angle => inside.push((token, spaced)),
                    // Words behind an address in angle brackets.
                    Some(_) => element.faulty = true,
                    None => element.outside.push((token, spaced)),
                },
            }
        }
        element.faulty |= in_angle;
        seen.then(|| element.whole())
    }
}

impl Element<'_> {
    /// Decides what an element is that a separator, or the end, has closed.
    fn whole(mut self) -> Self {
        let something = self.angle.is_some() || !self.outside.is_empty() || self.faulty;
        self.kind = if something { Kind::Mailbox } else { Kind::Empty };
        self
    }

    /// The words outside angle brackets as one text; `None` when there are none.
    fn phrase(&self) -> Option<String> {
        let mut text = String::new();
        for (token, spaced) in &self.outside {
            if *spaced && !text.is_empty() {
                text.push(' ');
            }
            match token {
                Token::Atom(word) | Token::Literal(word) | Token::Comment(word) => {
                    text.push_str(word);
                }
                Token::Quoted(word) => text.push_str(word),
                Token::Special(c) => text.push(*c),
            }
        }
        let text = without_controls(text.trim());
        (!text.is_empty()).then_some(text)
    }

    /// The display name of an element with angle brackets, the comment of one without.
    fn name(&self) -> Option<String> {
        if self.angle.is_some() {
            return self.phrase();
        }
        let comment = without_controls(self.comment?);
        Some(comment.trim().to_owned()).filter(|comment| !comment.is_empty())
    }

    /// Local part, and domain when there is an `@`.
    fn address(&self) -> (String, Option<String>, bool) {
        let tokens = self.angle.as_ref().unwrap_or(&self.outside);
        let at = tokens.iter().rposition(|(token, _)| *token == Token::Special('@'));
        let (local, domain) = tokens.split_at(at.unwrap_or(tokens.len()));
        let (local, local_ok) = join(local);
        let (domain, domain_ok) = join(domain.get(1..).unwrap_or_default());
        (local, at.map(|_| domain), local_ok && domain_ok)
    }

    fn lenient(&self) -> ListItem {
        let (local, domain, _) = self.address();
        ListItem::Mailbox {
            name: self.name(),
            local: without_controls(&local),
            domain: without_controls(&domain.unwrap_or_default()),
        }
    }

    fn strict(&self) -> Result<NamedAddress, AddressError> {
        let (local, domain, whole) = self.address();
        let domain = domain.ok_or(AddressError::Shape)?;
        let special = |(token, _): &(Token<'_>, bool)| matches!(token, Token::Special(_));
        if self.angle.is_some() && self.outside.iter().any(special) {
            return Err(AddressError::Shape);
        }
        if !whole {
            return Err(AddressError::LocalPart);
        }
        let address = Address::parse(&format!("{local}@{domain}"))?;
        Ok(NamedAddress {
            name: self.name().map(|name| without_controls(&decode_words(&name))),
            address,
        })
    }
}

/// Tokens put together as one side of an address. False when white space parts two words that no dot
/// joins (RFC 5322 §4.4 `obs-local-part`), or another `@` is among them.
fn join(tokens: &[(Token<'_>, bool)]) -> (String, bool) {
    let mut text = String::new();
    let mut whole = true;
    for (token, spaced) in tokens {
        let start = text.len();
        match token {
            Token::Atom(word) | Token::Literal(word) | Token::Comment(word) => text.push_str(word),
            Token::Quoted(word) => {
                text.push('"');
                text.push_str(&word.replace('\\', "\\\\").replace('"', "\\\""));
                text.push('"');
            }
            Token::Special(c) => {
                whole = false;
                text.push(*c);
            }
        }
        let (before, now) = text.split_at(start);
        if *spaced && start > 0 && !before.ends_with('.') && !now.starts_with('.') {
            whole = false;
            text.insert(start, ' ');
        }
    }
    (text, whole)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// The strict list, one a line.
    fn list(value: &str) -> Result<String, AddressError> {
        let mut out = Vec::new();
        for NamedAddress { name, address } in strict(value.as_bytes())? {
            out.push(match name {
                Some(name) => format!("{name} <{address}>"),
                None => address.to_string(),
            });
        }
        Ok(out.join("\n"))
    }

    #[test]
    fn address_lists_are_read() {
        for (value, expected) in [
            ("", ""),
            (" a@b.example", "a@b.example"),
            ("<a@b.example>", "a@b.example"),
            ("Mario Rossi <a@b.example>", "Mario Rossi <a@b.example>"),
            ("a@b.example,\r\n c@d.example", "a@b.example\nc@d.example"),
            ("\"Rossi, \\\"M\\\"\" <a@b.example>", "Rossi, \"M\" <a@b.example>"),
            ("=?utf-8?q?Nicol=C3=B2?= Rossi <a@b.example>", "Nicol\u{f2} Rossi <a@b.example>"),
            ("Nicol\u{f2}<a@b.example>", "Nicol\u{f2} <a@b.example>"),
            ("\"=?utf-8?q?Nicol=C3=B2?=\" <a@b.example>", "Nicol\u{f2} <a@b.example>"),
            ("a@b.example (Mario (M) Rossi)", "Mario (M) Rossi <a@b.example>"),
            ("\"x y\"@B.example", "\"x y\"@b.example"),
            ("\"xy\"@b.example", "xy@b.example"),
            ("=?utf-8?q?a=0D=0AX=3A_b?= <a@b.example>", "a  X: b <a@b.example>"),
            // RFC 5322 §A.1.3, §A.5: groups and comments
            (
                "A Group:Ed Jones <joe@where.test>,John <jdoe@one.test>;",
                "Ed Jones <joe@where.test>\nJohn <jdoe@one.test>",
            ),
            ("Undisclosed recipients:;", ""),
            (
                "(x) Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
                "Pete <pete@silly.test>",
            ),
            ("a:b@c.example;, d@e.example", "b@c.example\nd@e.example"),
            // RFC 5322 §4.4: routes, empty elements, blanks around dots
            (
                "<@x.test,@y.test:mary@example.net>, , jdoe@test . example",
                "mary@example.net\njdoe@test.example",
            ),
            ("J. Q. Public <a . b@c.example>", "J. Q. Public <a.b@c.example>"),
            (",,", ""),
        ] {
            assert_eq!(list(value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_is_no_address_list_is_refused() {
        use AddressError::{Domain, LocalPart, Shape, TooLong};
        for (value, expected) in [
            ("a", Shape),
            ("a@", Shape),
            ("@b.example", Shape),
            ("<>", Shape),
            ("<a@b.example", Shape),
            ("a@b.example>", Shape),
            ("<<a@b.example>>", Shape),
            ("<a@b.example> x", Shape),
            ("<a@b.example> <c@d.example>", Shape),
            ("a@b.example c@d.example", LocalPart),
            ("a@b@c.example", LocalPart),
            ("a b@c.example", LocalPart),
            ("a@b.example <a@b.example>", Shape),
            ("a@b.example; c@d.example", Shape),
            ("Group: a@b.example", Shape),
            (":a@b.example;", Shape),
            ("A: B: a@b.example;;", Shape),
            ("\"a@b.example", Shape),
            ("(a@b.example", Shape),
            ("a@b.example)", Shape),
            ("a\\b@c.example", Shape),
            ("a@b.example\0", Shape),
            ("a..b@c.example", LocalPart),
            ("\u{e8}@c.example", LocalPart),
            ("a@\u{e8}.example", Domain),
            ("a@[192.0.2.1]", Domain),
            ("a@b..example", Domain),
            ("undisclosed-recipients", Shape),
        ] {
            assert_eq!(list(value), Err(expected), "{value}");
        }
        let long = format!("{}@b.example", "x".repeat(65));
        assert_eq!(list(&long), Err(TooLong));
    }

    /// The lenient list, in words.
    fn shown(value: &[u8]) -> String {
        let mut out = String::new();
        for item in lenient_address_list(value) {
            match item {
                ListItem::Mailbox { name, local, domain } => {
                    write!(out, "[{}|{local}|{domain}]", name.as_deref().unwrap_or("-")).unwrap();
                }
                ListItem::GroupStart(name) => write!(out, "{name}{{").unwrap(),
                ListItem::GroupEnd => out.push('}'),
            }
        }
        out
    }

    #[test]
    fn the_lenient_list_shows_what_is_there() {
        for (value, expected) in [
            (&b""[..], ""),
            (b"a@B.Example", "[-|a|B.Example]"),
            (b"\"R, M\" <\"x y\"@b>", "[R, M|\"x y\"|b]"),
            (b"=?utf-8?q?=C3=A8?=  x <a@b>", "[=?utf-8?q?=C3=A8?= x|a|b]"),
            (b"a@b (Mario)", "[Mario|a|b]"),
            (b"G: a@b, c@d; e@f", "G{[-|a|b][-|c|d]}[-|e|f]"),
            (b"G:;", "G{}"),
            (b"G: a@b", "G{[-|a|b]}"),
            (b"Undisclosed recipients", "[-|Undisclosed recipients|]"),
            (b"<>", "[-||]"),
            (b"a@[192.0.2.1]", "[-|a|[192.0.2.1]]"),
            (b"a@b@c", "[-|a@b|c]"),
            (b"a@b <c@d>", "[a@b|c|d]"),
            (b"<a@b", "[-|a|b]"),
            (b"\"a\0b\" <c@d>", "[a b|c|d]"),
            (b"caff\xe8 <a@b>", "[caff\u{fffd}|a|b]"),
            (b"(\\", "[\\||]"),
            (b"\"\\", "[-|\"\"|]"),
        ] {
            assert_eq!(shown(value), expected, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn addresses_are_bounded() {
        let many = |n: usize| vec!["a@b.example"; n].join(",");
        assert_eq!(strict(many(ADDRESSES_MAX).as_bytes()).unwrap().len(), ADDRESSES_MAX);
        for n in [ADDRESSES_MAX + 1, 100_000] {
            assert_eq!(strict(many(n).as_bytes()), Err(AddressError::TooLong));
            assert_eq!(lenient_address_list(many(n).as_bytes()).len(), ADDRESSES_MAX);
        }
        let group = lenient_address_list(format!("G:{};", many(100_000)).as_bytes());
        assert_eq!((group.len(), group.last()), (ADDRESSES_MAX, Some(&ListItem::GroupEnd)));
        for piece in
            ["(", "\"", "<", ":", ";", ",", "a:", "a:;", "@", "\\", "[", "a ", "\"\" ", "<@a,"]
        {
            let value = piece.repeat(200_000);
            assert!(lenient_address_list(value.as_bytes()).len() <= ADDRESSES_MAX);
            let _ = strict(value.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read(value in "([a-z.]|@|<|>|,|;|:|\\(|\\)|\"|\\\\|\\[|\\]| |\r\n |\\PC){0,60}") {
            let items = lenient_address_list(value.as_bytes());
            let starts = items.iter().filter(|i| matches!(i, ListItem::GroupStart(_))).count();
            let ends = items.iter().filter(|i| **i == ListItem::GroupEnd).count();
            prop_assert_eq!(starts, ends);
            // What is an address list shows the same addresses.
            if let Ok(mailboxes) = strict(value.as_bytes()) {
                let shown = items.into_iter().filter_map(|item| match item {
                    ListItem::Mailbox { local, domain, .. } => Address::parse(&format!("{local}@{domain}")).ok(),
                    _ => None,
                });
                let addresses: Vec<_> = mailboxes.into_iter().map(|m| m.address).collect();
                prop_assert_eq!(shown.collect::<Vec<_>>(), addresses);
            }
        }
    }
}
