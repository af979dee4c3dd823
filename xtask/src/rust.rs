//! A Rust source, read just deeply enough to tell code from words and tests from program.
//!
//! Not a parser: it knows comments, strings, braces, `fn`, `const` and `#[cfg(test)]`, which is
//! what the chores ask about, and it never fails.

use std::ops::RangeInclusive;

/// A Rust source, and the same with every comment and literal blanked out.
#[derive(Debug)]
pub struct Source<'a> {
    text: Vec<&'a str>,
    code: String,
    line_starts: Vec<usize>,
}

/// A function or constant of test code: what a citation in it, or right above it, belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestItem {
    /// Its name.
    pub name: String,
    /// Its lines, from 1, with the comments and attributes right above it.
    pub lines: RangeInclusive<usize>,
}

impl<'a> Source<'a> {
    /// Reads a source.
    pub fn new(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(ends).collect();
        Self { text: text.lines().collect(), code: blank(text), line_starts }
    }

    /// The source with comments and literals blanked out: same length, same lines.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The lines of test code: those under `#[cfg(test)]`.
    pub fn test_lines(&self) -> Vec<RangeInclusive<usize>> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(at) = self.code[from..].find("#[cfg(test)]").map(|at| at + from) {
            let end = self.item_end(at);
            found.push(self.line_of(at)..=self.line_of(end));
            from = end.max(at + 1);
        }
        found
    }

    /// The names of modules that are test code and live in files of their own.
    pub fn test_modules(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for (at, attribute) in self.code.match_indices("#[cfg(test)]") {
            let mut words = words(&self.code[at + attribute.len()..]).map(|(_, word)| word);
            let (Some("mod"), Some(name)) = (words.next(), words.next()) else { continue };
            if self.code[..=self.item_end(at)].ends_with(';') {
                found.push(name);
            }
        }
        found
    }

    /// The functions and constants of `lines`, outermost only, in their order.
    pub fn items(&self, lines: &RangeInclusive<usize>) -> Vec<TestItem> {
        let mut found = Vec::new();
        let mut done = 0;
        let mut before = (0, "");
        for (at, word) in words(&self.code) {
            let (keyword_at, keyword) = std::mem::replace(&mut before, (at, word));
            // Neither a lifetime nor a pointer: `'static`, `*const`.
            let bare = !self.code[..keyword_at].ends_with(['\'', '*']);
            let item = matches!(keyword, "fn" | "const" | "static") && word != "fn" && bare;
            if at < done || !item || !lines.contains(&self.line_of(at)) {
                continue;
            }
            done = self.item_end(at);
            let first = self.with_what_is_above(self.line_of(at));
            found.push(TestItem { name: word.to_owned(), lines: first..=self.line_of(done) });
        }
        found
    }

    /// Where the item that starts at `at` ends: its closing brace or its semicolon.
    fn item_end(&self, at: usize) -> usize {
        let (mut braces, mut others) = (0_usize, 0_usize);
        for (offset, octet) in self.code.bytes().enumerate().skip(at) {
            match octet {
                b'{' => braces += 1,
                b'(' | b'[' => others += 1,
                b')' | b']' => others = others.saturating_sub(1),
                b'}' if braces <= 1 && others == 0 => return offset,
                b'}' => braces = braces.saturating_sub(1),
                b';' if braces == 0 && others == 0 => return offset,
                _ => {}
            }
        }
        self.code.len().saturating_sub(1)
    }

    fn line_of(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    fn with_what_is_above(&self, line: usize) -> usize {
        let above = self.text.iter().take(line - 1).rev().take_while(|line| {
            let line = line.trim_start();
            line.starts_with("//") || line.starts_with("#[")
        });
        line - above.count()
    }
}

/// The words of blanked code, with where each starts.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let start = code.as_ptr() as usize;
    code.split(move |c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - start, word))
}

/// `text` with comments and literals replaced by blanks, octet for octet, line ends kept.
fn blank(text: &str) -> String {
    let octets = text.as_bytes();
    let mut code = Vec::with_capacity(octets.len());
    let mut at = 0;
    while at < octets.len() {
        let end = skip(octets, at);
        if end == at {
            code.push(octets[at]);
            at += 1;
        } else {
            code.extend(octets[at..end].iter().map(|o| if *o == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The end of the comment or literal that starts at `at`, or `at` when none does.
fn skip(octets: &[u8], at: usize) -> usize {
    let rest = &octets[at..];
    let after_word = at > 0 && (octets[at - 1].is_ascii_alphanumeric() || octets[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|o| *o == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment(octets, at);
    }
    match rest[0] {
        b'"' => string(octets, at + 1),
        b'r' if !after_word || octets[at - 1] == b'b' || octets[at - 1] == b'c' => {
            raw_string(octets, at)
        }
        b'\'' => character(octets, at),
        _ => at,
    }
}

fn block_comment(octets: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < octets.len() {
        if octets[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if octets[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    octets.len()
}

fn string(octets: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < octets.len() {
        match octets[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    octets.len()
}

fn raw_string(octets: &[u8], start: usize) -> usize {
    let hashes = octets[start + 1..].iter().take_while(|o| **o == b'#').count();
    let open = start + 1 + hashes;
    if octets.get(open) != Some(&b'"') {
        return start;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let end = octets[open + 1..].windows(close.len()).position(|window| window == close);
    end.map_or(octets.len(), |end| open + 1 + end + close.len())
}

/// A character literal; a lifetime is not one.
fn character(octets: &[u8], at: usize) -> usize {
    if octets.get(at + 1) == Some(&b'\\') {
        // The octet after the backslash may itself be a quote.
        let end = octets.iter().skip(at + 3).take(10).position(|o| *o == b'\'');
        return end.map_or(at, |end| at + 3 + end + 1);
    }
    // One character is one to four octets long.
    let Some(end) = octets.iter().skip(at + 2).take(4).position(|o| *o == b'\'') else { return at };
    let inside = &octets[at + 1..at + 2 + end];
    let one = std::str::from_utf8(inside).is_ok_and(|inside| inside.chars().count() == 1);
    if one { at + 2 + end + 1 } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_literals_are_not_code() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a("b\"c") d"#, r#"a(      ) d"#),
            ("a(r#\"b\"c\"#) d", "a(        ) d"),
            ("a(b\"{\") c", "a(b   ) c"),
            ("x('{', '\\'', 'è') y", "x(   ,     ,     ) y"),
            ("fn a<'b>(c: &'b u8) {}", "fn a<'b>(c: &'b u8) {}"),
            ("for r in var\"x\"", "for r in var   "),
            ("a \"b\nc\" d", "a   \n   d"),
            ("\"never closed", "             "),
        ] {
            assert_eq!(blank(text), code, "{text}");
        }
    }

    const EXAMPLE: &str = "fn program() { let tests = \"#[cfg(test)] mod no {\"; }

#[cfg(test)]
mod elsewhere;

#[cfg(test)]
mod tests {
    // above the table
    const TABLE: [u8; 2] = [1, 2];

    /// What it shows.
    #[test]
    fn first() {
        fn inner() {}
    }

    proptest! {
        #[test]
        fn second(x in 0..3) { inside(x); }
    }
}
fn more_program() {}
";

    #[test]
    fn test_code_is_found_with_its_items() {
        let source = Source::new(EXAMPLE);
        assert_eq!(source.test_modules(), ["elsewhere"]);
        assert_eq!(source.test_lines(), [3..=4, 6..=21]);
        let items = source.items(&(6..=21));
        let found: Vec<_> =
            items.iter().map(|item| (item.name.as_str(), item.lines.clone())).collect();
        assert_eq!(found, [("TABLE", 8..=9), ("first", 11..=15), ("second", 18..=19)]);
    }

    #[test]
    fn a_source_that_ends_too_early_is_read_to_its_end() {
        let source = Source::new("#[cfg(test)]\nmod tests {\nfn a() {");
        assert_eq!(source.test_lines(), [1..=3]);
        assert_eq!(source.items(&(1..=3)).len(), 1);
        assert_eq!(Source::new("#[cfg(test)]").test_lines(), [1..=1]);
    }
}
