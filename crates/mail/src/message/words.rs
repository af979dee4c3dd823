//! Encoded words: text beyond ASCII in header fields (RFC 2047).
//!
//! Read leniently, as mail is: words without white space around them, blanks inside a word and
//! characters split between two words are decoded; a word in an unknown charset stays as it is.

use mail_builder::encoders::Base64Encoder;
use mail_parser::parsers::MessageStream;

use super::charset::Charset;
use super::field::without_controls;
use crate::encoding;

/// Characters of an encoded word at most, RFC 2047 §2.
const WORD_CHARACTERS_MAX: usize = 75;
/// Characters of a line with encoded words at most, RFC 2047 §2.
const LINE_CHARACTERS_MAX: usize = 76;
/// `=?utf-8?Q?` and `?=`.
const FRAME: usize = 12;

/// Decodes the encoded words of a text (RFC 2047), charsets included. Control characters can come
/// out of them.
pub fn decode_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // What encoded words beside each other gave so far: characters may be split between them.
    let mut open: Option<Word<'_>> = None;
    let mut rest = text;
    while let Some(start) = rest.find("=?") {
        let (before, from) = rest.split_at(start);
        let Some((word, after)) = Word::read(from) else {
            close(&mut out, &mut open);
            out.push_str(before);
            out.push_str("=?");
            rest = &from[2..];
            continue;
        };
        // White space between two encoded words is not shown, RFC 2047 §6.2.
        if open.is_none() || !before.trim_matches([' ', '\t']).is_empty() {
            close(&mut out, &mut open);
            out.push_str(before);
        }
        match &mut open {
            Some(open) if open.name.eq_ignore_ascii_case(word.name) => {
                open.octets.extend_from_slice(&word.octets);
            }
            _ => {
                close(&mut out, &mut open);
                open = Some(word);
            }
        }
        rest = after;
    }
    close(&mut out, &mut open);
    out.push_str(rest);
    out
}

fn close(out: &mut String, open: &mut Option<Word<'_>>) {
    if let Some(word) = open.take() {
        out.push_str(&word.charset.decode(&word.octets));
    }
}

/// One encoded word.
struct Word<'a> {
    /// The name of the charset.
    name: &'a str,
    charset: Charset,
    octets: Vec<u8>,
}

impl<'a> Word<'a> {
    /// The word at the start of a text, and the text after it:
    /// `"=?" charset ["*" language] "?" encoding "?" encoded-text "?="`, RFC 2047 §2, RFC 2231 §5.
    fn read(text: &'a str) -> Option<(Self, &'a str)> {
        let (name, rest) = text.strip_prefix("=?")?.split_once('?')?;
        let (encoding, rest) = rest.split_once('?')?;
        // The end is found here: mail-parser's own search for it is quadratic (ADR 0006).
        let encoded = rest.find('?')?;
        let after = rest[encoded..].strip_prefix("?=")?;
        let name = name.split_once('*').map_or(name, |(name, _)| name);
        let charset = Charset::named(name)?;
        let octets = match encoding {
            "B" | "b" => encoding::decode_base64(&rest.as_bytes()[..encoded]),
            "Q" | "q" => {
                let word = &rest.as_bytes()[..encoded + "?=".len()];
                MessageStream::new(word).decode_quoted_printable_word()?
            }
            _ => return None,
        };
        Some((Self { name, charset, octets }, after))
    }
}

/// Writes a text as header value: plain when it is printable ASCII, else in UTF-8 encoded words of
/// at most 75 characters (RFC 2047 §2), folded. `column` is where the value starts on its line.
///
/// Plain words before the first and after the last that needs it stay plain. Control characters
/// become spaces.
pub fn encode_words(text: &str, column: usize) -> String {
    let text = without_controls(text);
    let words: Vec<&str> = text.split(' ').collect();
    let needs = |word: &&str| !is_plain(word);
    let Some(mut first) = words.iter().position(needs) else { return text };
    let mut last = words.iter().rposition(needs).unwrap_or(first);
    // A space at an end of the value would be lost in unfolding: it goes inside.
    if words[0].is_empty() {
        first = 0;
    }
    if words[words.len() - 1].is_empty() {
        last = words.len() - 1;
    }
    // White space between an encoded word and a plain one must be one space that shows.
    while first > 0 && words[first - 1].is_empty() {
        first -= 1;
    }
    while last + 1 < words.len() && words[last + 1].is_empty() {
        last += 1;
    }
    let mut out = String::new();
    let mut line = Line { out: &mut out, column };
    for word in &words[..first] {
        line.word(word);
        line.out.push(' ');
        line.column += 1;
    }
    line.encoded(&words[first..=last].join(" "));
    // The line that holds the last encoded word is bounded by it, not by `write_field`.
    let mut beside_encoded = true;
    for word in &words[last + 1..] {
        if beside_encoded && line.column + " ".len() + word.len() > LINE_CHARACTERS_MAX {
            line.fold();
            beside_encoded = false;
        } else {
            line.out.push(' ');
            line.column += 1;
        }
        line.word(word);
    }
    out
}

/// Writes a text as a display name (RFC 5322 §3.2.5 `phrase`): words as they are, else quoted, else
/// wholly in encoded words (RFC 2047 §5 rule 3). `column` as in [`encode_words`].
pub fn encode_phrase(text: &str, column: usize) -> String {
    let text = without_controls(text);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(crate::address::is_atext);
    if !text.split(' ').all(is_plain) {
        let mut out = String::new();
        Line { out: &mut out, column }.encoded(&text);
        return out;
    }
    if text.split(' ').all(is_word) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A word that may stand in a value as it is.
fn is_plain(word: &str) -> bool {
    word.len() <= WORD_CHARACTERS_MAX
        && !word.contains("=?")
        && word.bytes().all(|b| b.is_ascii_graphic())
}

/// A value that grows, and the column it has reached.
struct Line<'o> {
    out: &'o mut String,
    column: usize,
}

impl Line<'_> {
    /// Ends the line; the space that the next one begins with counts as white space of the value.
    fn fold(&mut self) {
        self.out.push_str("\r\n ");
        self.column = 1;
    }

    /// A plain word. [`super::write_field`] folds before it when it has to.
    fn word(&mut self, word: &str) {
        self.out.push_str(word);
        self.column += word.len();
    }

    /// A text as encoded words: Q, which people can read, until it is twice as long as the text.
    fn encoded(&mut self, text: &str) {
        let q_octets: usize = text.bytes().map(|b| q(b).len()).sum();
        let use_q = q_octets <= text.len() * 2;
        let mut rest = text;
        while !rest.is_empty() {
            let room = LINE_CHARACTERS_MAX.saturating_sub(self.column).min(WORD_CHARACTERS_MAX);
            let mut taken = fitting(rest, room.saturating_sub(FRAME), use_q);
            if taken == 0 {
                if self.out.ends_with(' ') {
                    self.out.pop();
                }
                self.fold();
                taken = fitting(rest, WORD_CHARACTERS_MAX - FRAME, use_q);
            }
            let (now, after) = rest.split_at(taken);
            let word = if use_q {
                format!("=?utf-8?Q?{}?=", now.bytes().map(q).collect::<String>())
            } else {
                format!("=?utf-8?B?{}?=", base64(now))
            };
            self.word(&word);
            rest = after;
            if !rest.is_empty() {
                self.fold();
            }
        }
    }
}

/// How many octets of a text, in whole characters, fit encoded in so many characters.
fn fitting(text: &str, room: usize, use_q: bool) -> usize {
    let mut taken = 0;
    let mut used = 0;
    for c in text.chars() {
        let length = c.len_utf8();
        let character = &text.as_bytes()[taken..taken + length];
        used += character.iter().map(|&b| q(b).len()).sum::<usize>();
        let needed = if use_q { used } else { (taken + length).div_ceil(3) * 4 };
        if needed > room {
            break;
        }
        taken += length;
    }
    taken
}

/// A text in base64, on one line.
fn base64(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len().div_ceil(3) * 4);
    Base64Encoder::new().encode_into(text.as_bytes(), &mut out);
    out.into_iter().map(char::from).collect()
}

/// One octet in the Q encoding that may stand in a phrase also, RFC 2047 §5 rule 3.
fn q(octet: u8) -> String {
    match octet {
        b' ' => "_".to_owned(),
        b if b.is_ascii_alphanumeric() || b"!*+-/".contains(&b) => char::from(b).to_string(),
        b => format!("={b:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Field, write_field};

    #[test]
    fn encoded_words_are_decoded() {
        for (text, expected) in [
            ("plain", "plain"),
            ("=?iso-8859-1?q?Perch=E9_no?=", "Perch\u{e9} no"),
            ("=?UTF-8?B?UGVyY2jDqQ==?=", "Perch\u{e9}"),
            // RFC 2047 §8
            ("=?ISO-8859-1?Q?a?= b", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a?=  \t =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a_b?=", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
            // A language, RFC 2231 §5
            ("=?us-ascii*it?q?ciao?=", "ciao"),
            // A character in two words
            ("=?utf-8?q?=C3?= =?utf-8?q?=A8?=", "\u{e8}"),
            ("=?utf-8?b?w?= =?utf-8?b?qA==?=", "\u{fffd}"),
            ("=?utf-8?b?YQ?=", "a"),
            // Lenient: no white space around, blanks inside
            ("re:=?utf-8?q?=C3=A8?=.", "re:\u{e8}."),
            ("=?utf-8?q?due parole?=", "due parole"),
            ("=?windows-1252?q?=80?=", "\u{20ac}"),
            ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "\u{65e5}\u{672c}"),
            // Not encoded words
            ("=?x-unknown?q?a?=", "=?x-unknown?q?a?="),
            ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
            ("=?utf-8?q?a", "=?utf-8?q?a"),
            ("=?utf-8?q?a?b?=", "=?utf-8?q?a?b?="),
            ("=?utf-8?q?a=zz?= b", "=?utf-8?q?a=zz?= b"),
            ("=?=?utf-8?q?a?=", "=?a"),
            ("a =? b", "a =? b"),
        ] {
            assert_eq!(decode_words(text), expected, "{text}");
        }
    }

    #[test]
    fn decoding_is_linear() {
        for piece in ["=?", "=?utf-8", "=?utf-8?q?", "=?utf-8?q?a?= ", "?=", "=?866?q?a"] {
            let text = piece.repeat(1_000_000 / piece.len());
            assert!(decode_words(&text).len() <= text.len());
        }
    }

    #[test]
    fn words_are_encoded_where_they_must_be() {
        for (text, expected) in [
            ("Offerta", "Offerta"),
            ("Offerta di marzo", "Offerta di marzo"),
            ("La citt\u{e0} nuova", "La =?utf-8?Q?citt=C3=A0?= nuova"),
            ("perch\u{e9} cos\u{ec} tanto", "=?utf-8?Q?perch=C3=A9_cos=C3=AC?= tanto"),
            ("=?utf-8?q?trick?=", "=?utf-8?Q?=3D=3Futf-8=3Fq=3Ftrick=3F=3D?="),
            ("\u{65e5}\u{672c}", "=?utf-8?B?5pel5pys?="),
            ("a\r\nBcc: b", "a  Bcc: b"),
        ] {
            assert_eq!(encode_words(text, 9), expected);
        }
    }

    #[test]
    fn a_line_with_encoded_words_ends_at_76_characters() {
        let accented = "\u{e8}".repeat(22);
        let encoded = encode_words(&accented, 1);
        assert_eq!(encoded.len(), 72, "{encoded}");
        // What stands before it, the encoded word, a blank: two characters more are the last that fit.
        assert_eq!(encode_words(&format!("{accented} ab"), 1), format!("{encoded} ab"));
        assert_eq!(encode_words(&format!("{accented} abc"), 1), format!("{encoded}\r\n abc"));
        // Behind the fold only `write_field`'s own bound counts.
        let long = "efgh".repeat(18);
        assert_eq!(
            encode_words(&format!("{accented} abc {long}"), 1),
            format!("{encoded}\r\n abc {long}")
        );
    }

    #[test]
    fn a_display_name_is_words_or_quoted_or_encoded() {
        for (text, expected) in [
            ("Mario Rossi", "Mario Rossi"),
            ("Rossi, Mario", "\"Rossi, Mario\""),
            ("Per conto di: a@b.example", "\"Per conto di: a@b.example\""),
            ("a \"b\" \\", "\"a \\\"b\\\" \\\\\""),
            ("", "\"\""),
            ("Nicol\u{f2} (s.r.l.)", "=?utf-8?Q?Nicol=C3=B2_=28s=2Er=2El=2E=29?="),
        ] {
            assert_eq!(encode_phrase(text, 6), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "\\PC{0,200}", column in 0_usize..100) {
            let text = text.trim();
            let value = encode_words(text, column);
            for line in value.split("\r\n").skip(1) {
                prop_assert!(line.len() <= LINE_CHARACTERS_MAX || !line.contains("=?"), "{}", value);
            }
            let mut octets = Vec::new();
            write_field(&mut octets, "Subject", &value);
            prop_assert!(octets.is_ascii());
            let field = Field::parse(&octets).unwrap();
            prop_assert_eq!(decode_words(&field.unfolded()), text);
        }

        #[test]
        fn any_text_is_decoded(text in "(=\\?|\\?=|utf-8|\\?|q|b|[ -~]|\\PC){0,60}") {
            decode_words(&text);
        }
    }
}
