//! PREVIEW: the beginning of a message's text. RFC 8970 §3.
//!
//! It is that of the first part that is text and no attachment, plain text before HTML; the same at
//! any time, since messages do not change.

use mail::message::decode_charset;
use mail::mime::{self, Kind, Part, Structure};
use store::StoreError;

use crate::response::Output;
use crate::source::Source;

/// Characters of a preview at most: what RFC 8970 §3.1 recommends.
const CHARS_MAX: usize = 200;
/// Octets of a part that are looked into: enough for the head of an HTML document.
const PART_OCTETS_MAX: usize = 64 * 1024;
/// Octets of a message of which a preview is at hand: the structure of a longer one takes time, and who
/// asks with LAZY (RFC 8970 §3.1) does not want to wait.
const LAZY_OCTETS_MAX: u64 = 256 * 1024;

/// `"PREVIEW" SP nstring`
pub(super) fn write(
    source: &mut Source<'_>,
    lazy: bool,
    out: &mut Output,
) -> Result<(), StoreError> {
    out.text("PREVIEW ");
    if lazy && source.octets > LAZY_OCTETS_MAX {
        out.text("NIL");
        return Ok(());
    }
    let preview = match chosen(source.structure()?) {
        None => String::new(),
        Some(part) => {
            let (start, end) = looked_into(&part);
            let octets = source.slice(start as u64, end as u64)?;
            preview(part, &octets)
        }
    };
    out.utf8_string(&preview);
    Ok(())
}

/// Of a part, and whether it is HTML; `octets` are those that are looked into.
fn preview((part, is_html): (Part, bool), octets: &[u8]) -> String {
    let text = text(part, octets);
    shortened(&if is_html { without_tags(&text) } else { text })
}

/// The octets of a part that are looked into.
fn looked_into((part, _): &(Part, bool)) -> (usize, usize) {
    (part.body.start, part.body.end.min(part.body.start + PART_OCTETS_MAX))
}

/// The part that is shown, and whether it is HTML.
fn chosen(structure: &Structure) -> Option<(Part, bool)> {
    let is_shown = |part: &&Part| {
        let attached = part.disposition.as_ref().is_some_and(|what| what.kind == "attachment");
        part.kind == Kind::Leaf && !attached
    };
    let first = |subtype: &str| {
        structure.parts.iter().filter(is_shown).find(|part| part.content_type.is("text", subtype))
    };
    let plain = first("plain").map(|part| (part.clone(), false));
    plain.or_else(|| first("html").map(|part| (part.clone(), true)))
}

/// The beginning of a part's text, of its octets.
fn text(mut part: Part, octets: &[u8]) -> String {
    part.body = 0..octets.len();
    let decoded = mime::decode_body(&part, octets);
    let charset = part.content_type.parameter("charset").unwrap_or("utf-8");
    decode_charset(charset, &decoded)
        .unwrap_or_else(|| String::from_utf8_lossy(&decoded).into_owned())
}

/// One space for each run of them, no control characters, and no more than fits.
fn shortened(text: &str) -> String {
    let mut out = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if count > 0 {
            out.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count >= CHARS_MAX {
                return out.trim_end().to_owned();
            }
            out.push(c);
            count += 1;
        }
    }
    out
}

/// What a browser would show of HTML, roughly: tags are spaces, scripts, styles and titles nothing,
/// and the entities that text cannot do without are characters.
fn without_tags(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('&') {
            let (shown, octets) = entity(rest);
            out.push(shown);
            rest = &rest[octets..];
            continue;
        }
        let end = if rest.starts_with("<!--") {
            rest.find("-->").map(|at| at + 2)
        } else {
            rest.find('>')
        };
        let Some(end) = end else { return out };
        let tag = rest[1..end].trim_start();
        let name = tag.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        rest = &rest[end + 1..];
        if ["script", "style", "title"].contains(&name.as_str()) {
            rest = after(rest, &format!("</{name}"));
        }
        out.push(' ');
    }
    out.push_str(rest);
    out
}

/// What follows a word, case aside; nothing, when it is not there.
fn after<'t>(text: &'t str, word: &str) -> &'t str {
    let lower = text.to_ascii_lowercase();
    lower.find(word).map_or("", |at| &text[at..])
}

/// The character that an entity stands for, and how many octets it takes.
fn entity(text: &str) -> (char, usize) {
    let named = [
        ("&amp;", '&'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&quot;", '"'),
        ("&nbsp;", ' '),
        ("&agrave;", 'à'),
        ("&egrave;", 'è'),
        ("&eacute;", 'é'),
        ("&igrave;", 'ì'),
        ("&ograve;", 'ò'),
        ("&ugrave;", 'ù'),
    ];
    if let Some((name, shown)) = named.iter().find(|(name, _)| text.starts_with(name)) {
        return (*shown, name.len());
    }
    let number = text.strip_prefix("&#").and_then(|rest| {
        let digits = rest.find(';').filter(|octets| (1..=7).contains(octets))?;
        let shown = char::from_u32(rest[..digits].parse().ok()?)?;
        Some((shown, digits + "&#;".len()))
    });
    number.unwrap_or(('&', 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> String {
        let Some(part) = chosen(&mime::scan(message.as_bytes()).unwrap()) else {
            return String::new();
        };
        let (start, end) = looked_into(&part);
        preview(part, &message.as_bytes()[start..end])
    }

    #[test]
    fn a_preview_is_the_beginning_of_the_first_text() {
        for (message, expected) in [
            ("Subject: x\r\n\r\nuno\r\n\r\n\tdue  tre\r\n", "uno due tre"),
            ("Subject: x\r\n\r\n", ""),
            (
                "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: \
                 quoted-printable\r\n\r\nPerch=C3=A9 no\r\n",
                "Perché no",
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: \
                 attachment\r\n\r\nallegato\r\n--b\r\nContent-Type: text/html\r\n\r\n<title>t</title>\
                 <STYLE>p {}</style><p>A&nbsp;&egrave; &#232; <!-- <b> -->&lt;B&gt; &x;\r\n--b--\r\n",
                "A è è <B> &x;",
            ),
            ("Content-Type: text/html\r\n\r\nuno <b due", "uno"),
            ("Content-Type: image/png\r\n\r\nx", ""),
        ] {
            assert_eq!(of(message), expected, "{message}");
        }
        let long = of(&format!("Subject: x\r\n\r\n{}", "è ".repeat(300)));
        assert_eq!(long.chars().count(), CHARS_MAX - 1);
        assert_eq!(of(&format!("S: x\r\n\r\n{}", "y".repeat(300))).len(), CHARS_MAX);
    }
}
