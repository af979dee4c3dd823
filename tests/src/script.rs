//! The lines of a conversation, as `tests/transcripts/*/README.md` tells them: read, and held against
//! what a server said. Who plays them, a machine or a process, is elsewhere.
//!
//! A line that means nothing panics with its place: a conversation is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is part of tests")]
#![allow(unreachable_pub, reason = "the tests of a machine include it as a module of their own")]

use std::collections::HashMap;

/// A line of a conversation, or several that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'t> {
    /// `given ...`
    Given(&'t str),
    /// Lines of this client, with nothing between them.
    Client(&'t str, Vec<&'t str>),
    /// What this client is to hear.
    Server(&'t str, Vec<&'t str>),
    /// After STARTTLS.
    TlsStarts,
    /// The server closes the connection.
    Closes,
}

/// A conversation: the number of the first line of each, and it.
pub type Conversation<'t> = Vec<(usize, Line<'t>)>;

/// The conversations of a file.
#[must_use]
pub fn conversations(text: &str) -> Vec<Conversation<'_>> {
    let lines: Vec<(usize, &str)> = text.lines().enumerate().collect();
    let parts = lines.split(|(_, line)| line.is_empty()).filter(|part| !part.is_empty());
    parts.map(conversation).collect()
}

fn conversation<'t>(lines: &[(usize, &'t str)]) -> Conversation<'t> {
    let mut all: Conversation<'t> = Vec::new();
    for &(number, line) in lines {
        let next = if line.starts_with('#') {
            continue;
        } else if let Some(given) = line.strip_prefix("given ") {
            Line::Given(given)
        } else if let Some(who) = client(line) {
            if let Some((_, Line::Client(last, lines))) = all.last_mut()
                && *last == who
            {
                lines.push(line);
                continue;
            }
            Line::Client(who, vec![line])
        } else if let Some(who) = server(line) {
            if let Some((_, Line::Server(last, lines))) = all.last_mut()
                && *last == who
            {
                lines.push(line);
                continue;
            }
            Line::Server(who, vec![line])
        } else if line == "TLS starts" {
            Line::TlsStarts
        } else if line == "S closes" {
            Line::Closes
        } else {
            panic!("line {}: what is {line:?}?", number + 1);
        };
        all.push((number + 1, next));
    }
    all
}

/// Who says this line.
fn client(line: &str) -> Option<&str> {
    let (who, _) = line.split_once([':', '!'])?;
    (who.starts_with('C') && who[1..].chars().all(|c| c.is_ascii_digit())).then_some(who)
}

/// Who hears this line.
fn server(line: &str) -> Option<&'static str> {
    let (who, _) = line.split_once([':', '!'])?;
    match who {
        "S" => Some("C"),
        "S2" => Some("C2"),
        "S3" => Some("C3"),
        _ => None,
    }
}

/// What follows `C: ` or `C! `, and whether it holds escapes.
fn text(line: &str) -> (&str, bool) {
    let (_, text) = line.split_once([':', '!']).unwrap();
    let escaped = line[..line.len() - text.len()].ends_with('!');
    (
        text.strip_prefix(' ').unwrap_or_else(|| panic!("no space after the colon of {line:?}")),
        escaped,
    )
}

/// What `{v}` stands for.
#[derive(Debug, Clone, Default)]
pub struct Bound(HashMap<String, String>);

impl Bound {
    /// The octets that a client sends with these lines.
    #[must_use]
    pub fn octets(&self, lines: &[&str]) -> Vec<u8> {
        let mut octets = Vec::new();
        for line in lines {
            let (said, escaped) = text(line);
            let mut said = said.to_owned();
            for (name, value) in &self.0 {
                said = said.replace(&format!("{{{name}}}"), value);
            }
            if escaped {
                octets.extend(unescape(&said));
            } else {
                octets.extend_from_slice(said.as_bytes());
                octets.extend_from_slice(b"\r\n");
            }
        }
        octets
    }

    /// Holds what was said against what should be: untagged responses in any order, the others where
    /// they stand.
    ///
    /// # Errors
    ///
    /// What is missing, or what nobody expected.
    pub fn expect(&mut self, expected: &[String], sent: &[String]) -> Result<(), String> {
        let told = sent.join("\n");
        let is_untagged = |text: &&String| text.starts_with("* ");
        let (mut expected, mut sent) = (expected, sent);
        loop {
            let wanted = expected.iter().take_while(is_untagged).count();
            let came = sent.iter().take_while(is_untagged).count();
            let mut open: Vec<&String> = sent[..came].iter().collect();
            for pattern in &expected[..wanted] {
                let found = open.iter().position(|text| self.matches(pattern, text));
                let Some(found) = found else {
                    return Err(format!("expected {pattern}, came\n{told}"));
                };
                open.remove(found);
            }
            if !open.is_empty() {
                return Err(format!("nobody expected {open:?}, came\n{told}"));
            }
            (expected, sent) = (&expected[wanted..], &sent[came..]);
            match (expected.split_first(), sent.split_first()) {
                (None, None) => return Ok(()),
                (Some((pattern, rest)), Some((text, after))) => {
                    if !self.matches(pattern, text) {
                        return Err(format!("expected {pattern}, came\n{told}"));
                    }
                    (expected, sent) = (rest, after);
                }
                (Some((pattern, _)), None) => {
                    return Err(format!("expected {pattern}, came\n{told}"));
                }
                (None, Some((text, _))) => return Err(format!("nobody expected {text}")),
            }
        }
    }

    fn matches(&mut self, pattern: &str, text: &str) -> bool {
        let mut bound = self.0.clone();
        let (mut pattern, mut text) = (pattern, text);
        while let Some((before, name, after)) = variable(pattern) {
            let Some(value) = text.strip_prefix(before) else { return false };
            let until = variable(after).map_or(after, |(before, ..)| before);
            let end = if until.is_empty() { Some(value.len()) } else { value.find(until) };
            let Some(end) = end else { return false };
            let (value, rest) = value.split_at(end);
            if bound.entry(name.to_owned()).or_insert_with(|| value.to_owned()) != value {
                return false;
            }
            (pattern, text) = (after, rest);
        }
        let same = pattern == text;
        if same {
            self.0 = bound;
        }
        same
    }
}

/// The responses that lines stand for: each for one, or with escapes for more.
#[must_use]
pub fn expected(lines: &[&str]) -> Vec<String> {
    let response = |line: &&str| {
        let (said, escaped) = text(line);
        if escaped {
            let mut octets = unescape(said);
            octets.extend_from_slice(b"\r\n");
            responses(&octets)
        } else {
            vec![said.to_owned()]
        }
    };
    lines.iter().flat_map(response).collect()
}

/// The first `{name}` of a pattern; `{12}` is a literal's length and none.
fn variable(pattern: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + pattern[from..].find('{')?;
        let end = start + pattern[start..].find('}')?;
        let name = &pattern[start + 1..end];
        if name.chars().all(|c| c.is_ascii_lowercase()) && !name.is_empty() {
            return Some((&pattern[..start], name, &pattern[end + 1..]));
        }
        from = end;
    }
}

/// The octets of the literal that a line announces.
#[must_use]
pub fn announced(line: &[u8]) -> Option<usize> {
    let line = String::from_utf8_lossy(line);
    let (_, octets) = line.strip_suffix('}')?.rsplit_once('{')?;
    octets.parse().ok()
}

/// Parts what was sent into responses; a literal does not end one.
#[must_use]
pub fn responses(sent: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < sent.len() {
        let end = at + sent[at..].windows(2).position(|two| two == b"\r\n").expect("a line end");
        let literal = announced(&sent[at..end]);
        at = end + 2;
        match literal {
            Some(octets) => at += octets,
            None => {
                all.push(String::from_utf8_lossy(&sent[start..end]).into_owned());
                start = at;
            }
        }
    }
    all
}

/// A message of so many octets.
#[must_use]
pub fn message(number: usize, octets: usize) -> Vec<u8> {
    let mut message = format!(
        "From: Carla <carla@pec.example>\r\nTo: anna@pec.example\r\nSubject: Message {number}\r\n\
         Date: Mon, 2 Mar 2026 09:00:00 +0100\r\nMessage-ID: <{number}@pec.example>\r\n\r\n"
    )
    .into_bytes();
    assert!(message.len() + 2 <= octets, "a message needs {} octets", message.len() + 2);
    message.resize(octets - 2, b'x');
    message.extend_from_slice(b"\r\n");
    message
}

/// `\r \n \t \0 \\ \xHH`, and `\(600*a)` for 600 times what stands there.
fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next().unwrap_or_else(|| panic!("a lone backslash: {text}"));
        rest = &rest[escape.len_utf8()..];
        match escape {
            'r' => octets.push(b'\r'),
            'n' => octets.push(b'\n'),
            't' => octets.push(b'\t'),
            '0' => octets.push(0),
            '\\' => octets.push(b'\\'),
            'x' => {
                octets.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            '(' => {
                let (inner, after) = rest.split_once(')').unwrap();
                let (count, what) = inner.split_once('*').unwrap();
                octets.extend(unescape(what).repeat(count.parse().unwrap()));
                rest = after;
            }
            other => panic!("\\{other} means nothing: {text}"),
        }
    }
    octets
}
