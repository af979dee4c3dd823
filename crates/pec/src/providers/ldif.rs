//! LDIF, as far as an index of providers needs it: entries, no changes.
//!
//! RFC 2849 (the format), RFC 4514 §2.4, §3 (distinguished names). A value given by URL is refused:
//! an index must not make anybody read files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Octets of a file at most: the index of a country has some hundred records of a few KB, and some
/// ten thousand domains.
pub const LDIF_OCTETS_MAX: usize = 64 * 1024 * 1024;
/// Characters of a written line at most; RFC 2849 note 10 leaves the length free.
const LINE_CHARACTERS: usize = 76;
/// Characters of a record's name in an error.
const NAME_CHARACTERS_MAX: usize = 200;
/// Parts of a distinguished name at most; those of the index have three.
const DN_PARTS_MAX: usize = 16;

/// Why octets are no LDIF of entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LdifError {
    /// More than [`LDIF_OCTETS_MAX`].
    #[error("the LDIF file is too long")]
    TooLong,
    /// Not UTF-8 (PEC-IDX-06).
    #[error("the LDIF file is not UTF-8")]
    NotUtf8,
    /// A line is no `name: value`.
    #[error("line {0} of the LDIF file is no attribute")]
    Line(usize),
    /// A base64 value is none.
    #[error("line {0} of the LDIF file has bad base64")]
    Base64(usize),
    /// A value is given by URL (`name:< url`).
    #[error("line {0} of the LDIF file gives a value by URL")]
    Url(usize),
    /// A record does not start with `dn`, or is a change.
    #[error("line {0} of the LDIF file starts no entry")]
    NoEntry(usize),
    /// A version other than 1.
    #[error("the LDIF file is of another version")]
    Version,
    /// Any of these, in the record of this name.
    #[error("{1}, in the record `{0}`")]
    In(String, Box<LdifError>),
}

impl LdifError {
    fn in_record(self, open: Option<&Entry>) -> Self {
        match open {
            Some(entry) => {
                let name = entry.dn.chars().take(NAME_CHARACTERS_MAX).collect();
                Self::In(name, Box::new(self))
            }
            None => self,
        }
    }
}

/// One entry: its name, and its attributes in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its distinguished name, as written.
    pub dn: String,
    /// Names as written, and values.
    pub attributes: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// An entry without attributes.
    pub fn new(dn: &str) -> Self {
        Self { dn: dn.to_owned(), attributes: Vec::new() }
    }

    /// Adds a value.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.attributes.push((name.to_owned(), value.to_vec()));
    }

    /// The values of an attribute; its name has no case, and options (`;binary`) do not count.
    pub fn values<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Vec<u8>> + 'e {
        let matches = move |said: &str| {
            said.split(';').next().is_some_and(|said| said.eq_ignore_ascii_case(name))
        };
        self.attributes.iter().filter(move |(said, _)| matches(said)).map(|(_, value)| value)
    }

    /// The first value of an attribute, as text.
    pub fn text(&self, name: &str) -> Option<String> {
        let value = self.values(name).next()?;
        String::from_utf8(value.clone()).ok().map(|text| text.trim().to_owned())
    }

    /// Whether it is of an object class.
    pub fn is_a(&self, class: &str) -> bool {
        self.values("objectClass").any(|value| value.eq_ignore_ascii_case(class.as_bytes()))
    }
}

/// Reads the entries of a file.
///
/// # Errors
///
/// Any [`LdifError`].
pub fn parse_ldif(octets: &[u8]) -> Result<Vec<Entry>, LdifError> {
    if octets.len() > LDIF_OCTETS_MAX {
        return Err(LdifError::TooLong);
    }
    let file = std::str::from_utf8(octets).map_err(|_| LdifError::NotUtf8)?;
    let file = file.strip_prefix('\u{feff}').unwrap_or(file);
    let mut entries: Vec<Entry> = Vec::new();
    let mut open: Option<Entry> = None;
    let mut first = true;
    let mut lines = file.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        let mut logical = line.to_owned();
        while let Some((_, more)) = lines.next_if(|(_, next)| next.starts_with(' ')) {
            logical.push_str(&more[1..]);
        }
        if logical.is_empty() {
            entries.extend(open.take());
            continue;
        }
        if logical.starts_with('#') {
            continue;
        }
        let read = attribute(&logical, number);
        let (name, value) = read.map_err(|error| error.in_record(open.as_ref()))?;
        let was_first = std::mem::take(&mut first);
        match &mut open {
            None if was_first && name.eq_ignore_ascii_case("version") => {
                if value != b"1" {
                    return Err(LdifError::Version);
                }
            }
            None if name.eq_ignore_ascii_case("dn") => {
                let dn = String::from_utf8(value).map_err(|_| LdifError::NotUtf8)?;
                open = Some(Entry::new(&dn));
            }
            Some(_) if ["dn", "changetype"].contains(&&name.to_ascii_lowercase()[..]) => {
                return Err(LdifError::NoEntry(number).in_record(open.as_ref()));
            }
            Some(entry) => entry.attributes.push((name.to_owned(), value)),
            None => return Err(LdifError::NoEntry(number)),
        }
    }
    entries.extend(open);
    Ok(entries)
}

/// `attrval-spec`: `name: text`, `name:: base64`.
fn attribute(line: &str, number: usize) -> Result<(&str, Vec<u8>), LdifError> {
    let (name, value) = line.split_once(':').ok_or(LdifError::Line(number))?;
    let named = |b: u8| b.is_ascii_alphanumeric() || b"-.;".contains(&b);
    if name.is_empty() || !name.bytes().all(named) {
        return Err(LdifError::Line(number));
    }
    if value.starts_with('<') {
        return Err(LdifError::Url(number));
    }
    let value = match value.strip_prefix(':') {
        Some(encoded) => STANDARD.decode(encoded.trim()).map_err(|_| LdifError::Base64(number))?,
        None => value.trim_start_matches(' ').as_bytes().to_vec(),
    };
    Ok((name, value))
}

/// Writes entries, folded; values that are no `SAFE-STRING` in base64.
pub fn write_ldif(entries: &[Entry]) -> String {
    let mut out = String::from("version: 1\n");
    for entry in entries {
        out.push('\n');
        write_attribute(&mut out, "dn", entry.dn.as_bytes());
        for (name, value) in &entry.attributes {
            write_attribute(&mut out, name, value);
        }
    }
    out
}

fn write_attribute(out: &mut String, name: &str, value: &[u8]) {
    let safe = std::str::from_utf8(value).ok().filter(|text| is_safe(text));
    let line = match safe {
        Some(text) if name != "providerCertificate;binary" => format!("{name}: {text}"),
        _ => format!("{name}:: {}", STANDARD.encode(value)),
    };
    // All ASCII: `is_safe` has seen to it, and names are ours.
    let mut rest = &line[..];
    let mut room = LINE_CHARACTERS;
    while rest.len() > room && rest.is_char_boundary(room) {
        let (now, after) = rest.split_at(room);
        out.push_str(now);
        out.push_str("\n ");
        rest = after;
        room = LINE_CHARACTERS - 1;
    }
    out.push_str(rest);
    out.push('\n');
}

/// `SAFE-STRING`, and no space at its end.
fn is_safe(text: &str) -> bool {
    let plain = |b: u8| b < 128 && ![0, b'\n', b'\r'].contains(&b);
    text.bytes().all(plain) && !text.starts_with([' ', ':', '<']) && !text.ends_with(' ')
}

/// The parts of a distinguished name, from the entry to the root: attribute and value, RFC 4514 §3.
/// A part of several attributes (`a=b+c=d`) is none that the index has, and is refused.
pub fn parse_dn(dn: &str) -> Option<Vec<(String, String)>> {
    let mut parts = Vec::new();
    let mut rest = dn.chars().peekable();
    loop {
        let mut name = String::new();
        loop {
            match rest.next()? {
                '=' => break,
                c => name.push(c),
            }
        }
        let name = name.trim().to_owned();
        let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if name.is_empty() || !name.bytes().all(ok) || parts.len() == DN_PARTS_MAX {
            return None;
        }
        let (value, ended) = dn_value(&mut rest)?;
        parts.push((name, value));
        if ended {
            return Some(parts);
        }
    }
}

/// A value up to an unescaped comma or the end; whether it was the end.
fn dn_value(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<(String, bool)> {
    let mut octets: Vec<u8> = Vec::new();
    // Spaces around a value are no part of it; escaped ones are.
    let mut keep = 0;
    while rest.next_if_eq(&' ').is_some() {}
    let ended = loop {
        match rest.next() {
            None => break true,
            Some(',') => break false,
            Some('\\') => {
                let c = rest.next()?;
                match (c.to_digit(16), rest.peek().and_then(|next| next.to_digit(16))) {
                    (Some(high), Some(low)) => {
                        rest.next();
                        octets.push(u8::try_from(high * 16 + low).ok()?);
                    }
                    _ => push(&mut octets, c),
                }
                keep = octets.len();
            }
            Some('+' | ';' | '"' | '<' | '>') => return None,
            Some(c) => {
                push(&mut octets, c);
                if c != ' ' {
                    keep = octets.len();
                }
            }
        }
    };
    octets.truncate(keep);
    let value = String::from_utf8(octets).ok()?;
    (!value.is_empty()).then_some((value, ended))
}

fn push(octets: &mut Vec<u8>, c: char) {
    let mut buffer = [0; 4];
    octets.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
}

/// A value for a distinguished name, RFC 4514 §2.4.
pub(super) fn escape_dn(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let edge = c == ' ' && (index == 0 || index == last) || c == '#' && index == 0;
        match c {
            '\0' => out.push_str("\\00"),
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => out.extend(['\\', c]),
            c if edge => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}
