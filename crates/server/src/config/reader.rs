//! TOML, read table by table with every complaint kept, each with its line.
//!
//! Serde stops at the first mistake and forgets where a value stood once it is read. A person who
//! mends a configuration wants all mistakes at once, so the tables are walked here: what a section
//! does not ask for is unknown, and the nearest known key is suggested.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::Complaint;

/// What is wrong with a value, and what to write instead.
pub(super) type Wrong = (String, String);

/// A whole file and the complaints about it.
pub(super) struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    complaints: RefCell<Vec<Complaint>>,
}

impl<'a> Reader<'a> {
    /// A reader that has nothing to complain of yet.
    pub(super) const fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, complaints: RefCell::new(Vec::new()) }
    }

    /// The tables of the file. Mistakes of TOML itself become complaints.
    pub(super) fn parse(&self) -> Spanned<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let what = error.message().lines().next().unwrap_or("not TOML").to_owned();
            let at = error.span().map_or(0, |span| self.line(&span));
            self.complain(at, what, "write TOML, as in `key = \"value\"`".into());
        }
        table
    }

    /// The line that a span starts in, counted from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        before.filter(|octet| **octet == b'\n').count() + 1
    }

    /// Adds a complaint.
    pub(super) fn complain(&self, line: usize, what: String, suggestion: String) {
        self.complaints.borrow_mut().push(self.complaint(line, what, suggestion));
    }

    /// A complaint about this file that is not added.
    pub(super) fn complaint(&self, line: usize, what: String, suggestion: String) -> Complaint {
        Complaint { file: self.file.to_owned(), line, what, suggestion }
    }

    /// All complaints, by line.
    pub(super) fn finish(self) -> Vec<Complaint> {
        let mut complaints = self.complaints.into_inner();
        complaints.sort_by_key(|complaint| complaint.line);
        complaints
    }
}

/// One table: what is asked for is known, the rest is complained of by [`Section::finish`].
pub(super) struct Section<'r, 'a> {
    reader: &'r Reader<'a>,
    name: String,
    table: Option<&'r DeTable<'a>>,
    line: usize,
    known: Vec<&'static str>,
}

impl<'r, 'a> Section<'r, 'a> {
    /// The file itself, as a table of tables.
    pub(super) fn root(reader: &'r Reader<'a>, table: &'r DeTable<'a>) -> Self {
        Self { reader, name: String::new(), table: Some(table), line: 1, known: Vec::new() }
    }

    /// A table whose name is the user's.
    pub(super) fn named(
        reader: &'r Reader<'a>,
        name: &str,
        table: &'r DeTable<'a>,
        line: usize,
    ) -> Self {
        Self { reader, name: name.to_owned(), table: Some(table), line, known: Vec::new() }
    }

    /// The table `name` in this one; an empty one when it is not there.
    pub(super) fn section(&mut self, name: &'static str) -> Self {
        let found = self.find(name);
        let line = found.map_or(self.line, |(line, _)| line);
        let table = match found {
            Some((_, DeValue::Table(table))) => Some(table),
            Some((line, other)) => {
                let what = format!("`{name}` is a {}, not a table", other.type_str());
                self.reader.complain(line, what, format!("write [{name}] on a line of its own"));
                None
            }
            None => None,
        };
        let name = match self.name.as_str() {
            "" => name.to_owned(),
            own => format!("{own}.{name}"),
        };
        Self { reader: self.reader, name, table, line, known: Vec::new() }
    }

    /// The line of the section, or of `key` in it when that is there.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.table
            .and_then(|table| table.get_key_value(key))
            .map_or(self.line, |(key, _)| self.reader.line(&key.span()))
    }

    /// Whether `key` is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    fn find(&mut self, key: &'static str) -> Option<(usize, &'r DeValue<'a>)> {
        self.known.push(key);
        let value = self.table?.get(key)?;
        Some((self.reader.line(&value.span()), value.get_ref()))
    }

    /// What `read` makes of the value of `key`; nothing when it is not there, or wrong.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'a>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let (line, value) = self.find(key)?;
        match read(value) {
            Ok(value) => Some(value),
            Err((what, suggestion)) => {
                self.reader.complain(line, format!("{}: {what}", self.path(key)), suggestion);
                None
            }
        }
    }

    /// As [`get`](Self::get), and its absence is complained of.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'a>) -> Result<T, Wrong>,
    ) -> Option<T> {
        if !self.table.is_some_and(|table| table.contains_key(key)) {
            self.known.push(key);
            let what = format!("{} is missing", self.path(key));
            let suggestion = format!("add `{example}` below [{}]", self.name);
            self.reader.complain(self.line, what, suggestion);
            return None;
        }
        self.get(key, read)
    }

    /// Every key of the table with its value and line: for tables whose keys are names.
    pub(super) fn entries(&self) -> Vec<(String, usize, &'r DeValue<'a>)> {
        let Some(table) = self.table else { return Vec::new() };
        table
            .iter()
            .map(|(key, value)| {
                let line = self.reader.line(&key.span());
                (key.get_ref().to_string(), line, value.get_ref())
            })
            .collect()
    }

    /// Complains of each key that nothing asked for.
    pub(super) fn finish(self) {
        for (key, line, value) in self.entries() {
            if self.known.iter().any(|known| **known == key) {
                continue;
            }
            let is_table = matches!(value, DeValue::Table(_)) && self.name.is_empty();
            let what = match (is_table, self.name.as_str()) {
                (true, _) => format!("there is no section [{key}]"),
                (false, "") => format!("there is no key `{key}` outside a section"),
                (false, name) => format!("there is no key `{key}` in [{name}]"),
            };
            self.reader.complain(line, what, suggest(&key, &self.known));
        }
    }

    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }
}

fn suggest(key: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|known| distance(key, known));
    match nearest {
        Some(nearest) if distance(key, nearest) <= 1 + nearest.len() / 3 => {
            format!("did you mean `{nearest}`?")
        }
        _ => format!("known are {}", known.join(", ")),
    }
}

/// How many letters must be put, taken or changed to make `b` of `a` (Levenshtein's distance).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, one) in a.bytes().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, other) in b.bytes().enumerate() {
            let change = diagonal + usize::from(!one.eq_ignore_ascii_case(&other));
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, suggest};

    #[test]
    fn counts_the_letters_that_differ() {
        let table = [("", "", 0), ("a", "", 1), ("", "ab", 2), ("recipents", "recipients", 1)];
        for (a, b, expected) in table {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
        assert_eq!(distance("Domains", "domains"), 0);
    }

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["name", "domains", "postmaster"];
        assert_eq!(suggest("domain", &known), "did you mean `domains`?");
        assert_eq!(suggest("colour", &known), "known are name, domains, postmaster");
    }
}
