//! BODY[...]: which octets of a message a section is. RFC 3501 §6.4.5, RFC 9051 §6.4.5.1.
//!
//! A part's MIME header and its body, one after the other, are the octets that a signature over it
//! covers (RFC 1847 §2.1): the empty line belongs to the header, the CRLF before a delimiter to the
//! delimiter.

use std::num::NonZeroU32;
use std::ops::Range;

use imap_types::core::{AString, Vec1};
use imap_types::fetch::{Part as PartPath, Section as Asked};
use mail::Message;
use mail::mime::Kind;
use store::StoreError;

use crate::digest::PartAt;
use crate::refusal::Refusal;
use crate::response::Output;
use crate::source::Source;

/// Octets that are sent from memory at most; more is streamed from the store.
pub(super) const INLINE_OCTETS_MAX: u64 = 64 * 1024;

/// Octets of each message, and how they are called.
pub(super) struct Section {
    /// `BODY[1.2]<0>`, `RFC822`, ...
    label: Vec<u8>,
    path: Vec<usize>,
    which: Which,
    /// The first octet, and how many.
    partial: Option<(u64, u64)>,
}

/// Which octets of a message or part.
enum Which {
    /// All of a message; the body of a part.
    All,
    /// A message's header, with the empty line after it.
    Header,
    /// Those fields of it, or all but those.
    Fields { names: Vec<Vec<u8>>, not: bool },
    /// A message's body.
    Text,
    /// A part's own header.
    Mime,
}

impl Section {
    /// `"BODY" section ["<" number "." nz-number ">"]`
    pub(super) fn new(
        asked: Option<&Asked<'_>>,
        partial: Option<(u32, NonZeroU32)>,
    ) -> Result<Self, Refusal> {
        let names = |list: &Vec1<AString<'_>>| -> Vec<Vec<u8>> {
            list.as_ref().iter().map(|name| name.as_ref().to_vec()).collect()
        };
        let (path, which) = match asked {
            None => (None, Which::All),
            Some(Asked::Part(path)) => (Some(path), Which::All),
            Some(Asked::Header(path)) => (path.as_ref(), Which::Header),
            Some(Asked::Text(path)) => (path.as_ref(), Which::Text),
            Some(Asked::Mime(path)) => (Some(path), Which::Mime),
            Some(Asked::HeaderFields(path, list)) => {
                (path.as_ref(), Which::Fields { names: names(list), not: false })
            }
            Some(Asked::HeaderFieldsNot(path, list)) => {
                (path.as_ref(), Which::Fields { names: names(list), not: true })
            }
        };
        let path = path.map(numbers).unwrap_or_default();
        if path.len() > mail::mime::DEPTH_MAX {
            return Err(Refusal::bad("No part is nested so deep"));
        }
        let partial = partial.map(|(start, count)| (u64::from(start), u64::from(count.get())));
        Ok(Self { label: label(&path, &which, partial), path, which, partial })
    }

    pub(super) fn rfc822() -> Self {
        Self { label: b"RFC822".to_vec(), path: Vec::new(), which: Which::All, partial: None }
    }

    pub(super) fn rfc822_header() -> Self {
        let label = b"RFC822.HEADER".to_vec();
        Self { label, path: Vec::new(), which: Which::Header, partial: None }
    }

    pub(super) fn rfc822_text() -> Self {
        let label = b"RFC822.TEXT".to_vec();
        Self { label, path: Vec::new(), which: Which::Text, partial: None }
    }

    /// Whether it is of a part: where that is, is to be found.
    pub(super) fn is_of_part(&self) -> bool {
        !self.path.is_empty()
    }

    /// `BODY[...] {n}` and the octets; `NIL` for a part that is not there.
    pub(super) fn write(
        &self,
        source: &mut Source<'_>,
        out: &mut Output,
    ) -> Result<(), StoreError> {
        out.push(&self.label);
        out.text(" ");
        let range = if self.path.is_empty() {
            match self.which {
                Which::All => Some(0..source.octets),
                Which::Text => Some(source.body_start()?..source.octets),
                Which::Header | Which::Fields { .. } | Which::Mime => Some(0..source.body_start()?),
            }
        } else {
            self.find(&source.digest()?.parts())
        };
        let Some(range) = range else {
            out.text("NIL");
            return Ok(());
        };
        if let Which::Fields { names, not } = &self.which {
            let header = if self.path.is_empty() {
                source.header()?.to_vec()
            } else {
                source.slice(range.start, range.end)?
            };
            let fields = chosen_fields(&header, names, *not);
            let clipped = clip(0..fields.len() as u64, self.partial);
            let clipped = clipped.start as usize..clipped.end as usize;
            out.literal(fields.get(clipped).unwrap_or_default());
            return Ok(());
        }
        let Range { start, end } = clip(range, self.partial);
        out.announce(end - start);
        if end - start > INLINE_OCTETS_MAX {
            out.stored(source.hold(start, end)?, start, end);
        } else if start < end {
            let octets = source.slice(start, end)?;
            out.push(&octets);
        }
        Ok(())
    }

    /// The octets of a section of a part; `None` when there is no such part, or it has no such
    /// section.
    fn find(&self, parts: &[PartAt]) -> Option<Range<u64>> {
        let (at, part) = part(parts, &self.path)?;
        // HEADER and TEXT of a part are those of the message that it holds.
        let inner = || child(parts, at, 0).filter(|_| part.kind == Kind::Message);
        match self.which {
            Which::All => Some(part.body.clone()),
            Which::Mime => Some(part.header.start..part.body.start),
            Which::Header | Which::Fields { .. } => {
                inner().map(|(_, root)| root.header.start..root.body.start)
            }
            Which::Text => inner().map(|(_, root)| root.body.clone()),
        }
    }
}

/// The part that numbers lead to: RFC 3501 §6.4.5. A message that is not multipart has one part, 1.
pub(super) fn part<'p>(parts: &'p [PartAt], path: &[usize]) -> Option<(usize, &'p PartAt)> {
    let mut here = (0, parts.first()?);
    let mut at_message = true;
    for &number in path {
        if !at_message && here.1.kind == Kind::Message {
            here = child(parts, here.0, 0)?;
            at_message = true;
        }
        if here.1.kind == Kind::Multipart {
            here = child(parts, here.0, number.checked_sub(1)?)?;
        } else if !at_message || number != 1 {
            return None;
        }
        at_message = false;
    }
    Some(here)
}

/// A child of the part at `of`, from 0.
fn child(parts: &[PartAt], of: usize, number: usize) -> Option<(usize, &PartAt)> {
    parts.iter().enumerate().filter(|(_, part)| part.parent == Some(of)).nth(number)
}

fn numbers(path: &PartPath) -> Vec<usize> {
    let number = |number: &NonZeroU32| usize::try_from(number.get()).unwrap_or(usize::MAX);
    path.0.as_ref().iter().map(number).collect()
}

/// The part of a range that was asked for; empty when it starts past the end.
pub(super) fn clip(range: Range<u64>, partial: Option<(u64, u64)>) -> Range<u64> {
    let Some((first, count)) = partial else { return range };
    let start = range.start.saturating_add(first).min(range.end);
    start..start.saturating_add(count).min(range.end)
}

/// The fields of these names, or all but those, in their order; then an empty line.
fn chosen_fields(header: &[u8], names: &[Vec<u8>], not: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for field in Message::lenient(header).fields() {
        let named = names.iter().any(|name| name.eq_ignore_ascii_case(field.name.as_bytes()));
        if named != not {
            out.extend_from_slice(field.octets);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// What the client called it, as far as it matters to the client: RFC 3501 §7.4.2.
fn label(path: &[usize], which: &Which, partial: Option<(u64, u64)>) -> Vec<u8> {
    let mut words: Vec<String> = path.iter().map(usize::to_string).collect();
    let mut names = Vec::new();
    match which {
        Which::All => {}
        Which::Header => words.push("HEADER".to_owned()),
        Which::Text => words.push("TEXT".to_owned()),
        Which::Mime => words.push("MIME".to_owned()),
        Which::Fields { names: list, not } => {
            words.push(if *not { "HEADER.FIELDS.NOT" } else { "HEADER.FIELDS" }.to_owned());
            let mut strings = Output::default();
            for (at, name) in list.iter().enumerate() {
                if at > 0 {
                    strings.text(" ");
                }
                let atom = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
                if !name.is_empty() && name.iter().all(atom) {
                    strings.push(name);
                } else {
                    strings.string(name);
                }
            }
            names = [&b" ("[..], &strings.into_octets(), b")"].concat();
        }
    }
    let origin = partial.map(|(start, _)| format!("<{start}>")).unwrap_or_default();
    [b"BODY[", words.join(".").as_bytes(), &names, b"]", origin.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use mail::mime;

    use super::*;
    use crate::digest::parts_of;

    /// text; message/rfc822 (text + html in multipart/alternative); message/rfc822 (text)
    const NESTED: &[u8] = b"Content-Type: multipart/mixed; boundary=o\r\n\r\npreamble\r\n\
        --o\r\nA: 1\r\n\r\nuno\r\n\
        --o\r\nContent-Type: message/rfc822\r\nB: 2\r\n\r\n\
        Subject: due\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n\
        --i\r\n\r\ndue.uno\r\n--i\r\nContent-Type: text/html\r\n\r\ndue.due\r\n--i--\r\n\
        --o\r\nContent-Type: message/rfc822\r\n\r\nSubject: tre\r\n\r\ntre.uno\r\n\
        --o--\r\n";

    fn found(path: &[usize], which: Which) -> Option<String> {
        let parts = parts_of(&mime::scan(NESTED).unwrap());
        let section = Section { label: Vec::new(), path: path.to_vec(), which, partial: None };
        let range = section.find(&parts)?;
        Some(String::from_utf8(NESTED[range.start as usize..range.end as usize].to_vec()).unwrap())
    }

    #[test]
    fn parts_are_numbered_as_the_protocol_says() {
        for (path, expected) in [
            (&[1][..], Some("uno")),
            (&[2, 1], Some("due.uno")),
            (&[2, 2], Some("due.due")),
            (&[3, 1], Some("tre.uno")),
            (&[3], Some("Subject: tre\r\n\r\ntre.uno")),
            (&[1, 1], None),
            (&[2, 3], None),
            (&[3, 2], None),
            (&[3, 1, 1], None),
            (&[4], None),
        ] {
            assert_eq!(found(path, Which::All).as_deref(), expected, "{path:?}");
        }
    }

    #[test]
    fn a_part_has_a_header_of_its_own_and_a_message_in_it_another() {
        for (path, which, expected) in [
            (&[1][..], Which::Mime, Some("A: 1\r\n\r\n")),
            (&[2], Which::Mime, Some("Content-Type: message/rfc822\r\nB: 2\r\n\r\n")),
            (&[3], Which::Header, Some("Subject: tre\r\n\r\n")),
            (&[3], Which::Text, Some("tre.uno")),
            (&[2, 2], Which::Mime, Some("Content-Type: text/html\r\n\r\n")),
            (&[1], Which::Header, None),
            (&[2, 1], Which::Text, None),
        ] {
            assert_eq!(found(path, which).as_deref(), expected, "{path:?}");
        }
    }

    #[test]
    fn a_message_of_one_part_has_part_1() {
        let octets = b"Subject: x\r\n\r\nbody";
        let parts = parts_of(&mime::scan(octets).unwrap());
        assert_eq!(part(&parts, &[1]).unwrap().1.body, 14..18);
        assert!(part(&parts, &[2]).is_none() && part(&parts, &[1, 1]).is_none());
    }

    #[test]
    fn a_range_is_clipped() {
        for (partial, expected) in [
            (None, 10..20),
            (Some((0, 5)), 10..15),
            (Some((8, 5)), 18..20),
            (Some((10, 5)), 20..20),
            (Some((u64::from(u32::MAX), 5)), 20..20),
        ] {
            assert_eq!(clip(10..20, partial), expected, "{partial:?}");
        }
    }

    #[test]
    fn fields_are_chosen_by_name_in_their_order() {
        let header = b"To: a\r\nSubject: b\r\n c\r\nX: d\r\nto: e\r\n\r\n";
        let names = [b"SUBJECT".to_vec(), b"to".to_vec(), b"absent".to_vec()];
        assert_eq!(
            chosen_fields(header, &names, false),
            b"To: a\r\nSubject: b\r\n c\r\nto: e\r\n\r\n"
        );
        assert_eq!(chosen_fields(header, &names, true), b"X: d\r\n\r\n");
    }
}
