//! The scan: one pass over the lines of a message, a stack of the parts that are open.

use std::ops::Range;

use super::{
    BOUNDARY_OCTETS_MAX, ContentType, DEPTH_MAX, Disposition, Kind, MimeError, PARTS_MAX, Part,
    Structure, media,
};
use crate::message::{FieldLines, HEADER_OCTETS_MAX, header_block, line_after, without_line_end};

/// Finds the parts of a message.
///
/// # Errors
///
/// A [`MimeError`] when a bound is passed: the caller decides whether to refuse the message or to
/// take it as one opaque leaf ([`opaque`]).
pub fn scan(octets: &[u8]) -> Result<Structure, MimeError> {
    let mut scan = Scan { octets, parts: Vec::new(), open: Vec::new(), in_header: false };
    scan.begin(0, false)?;
    let mut at = 0;
    while at < octets.len() {
        let next = line_after(octets, at);
        let line = &octets[at..next];
        if line.starts_with(b"--") && scan.delimiter(without_line_end(line), at, next)? {
            at = next;
            continue;
        }
        if scan.in_header {
            if without_line_end(line).is_empty() {
                scan.end_header(at, next)?;
            } else {
                scan.check_header(next)?;
            }
        }
        at = next;
    }
    // A message that ends in the header of a `message/rfc822` opens one more header.
    while scan.in_header {
        scan.end_header(octets.len(), octets.len())?;
    }
    scan.close_from(0, octets.len());
    Ok(Structure { parts: scan.parts })
}

/// A message taken as one leaf of its header's media type (`application/octet-stream` when that
/// would be composite): for a structure that [`scan`] refuses.
pub fn opaque(octets: &[u8]) -> Structure {
    let block = header_block(octets);
    let mut part = empty_part(None, 0);
    part.header = 0..block.end;
    part.body = block.body..octets.len();
    // A header past the bound is read as far as the bound.
    describe(&mut part, &octets[..block.end.min(HEADER_OCTETS_MAX)], false);
    if matches!(part.content_type.kind.as_str(), "multipart" | "message") {
        part.content_type = ContentType::plain("application", "octet-stream");
        part.content_type_said = false;
    }
    Structure { parts: vec![part] }
}

/// A part that is open: the last one is where the current line belongs.
struct Open {
    part: usize,
    /// What ends or parts it; `None` when it is no multipart, or has ended.
    boundary: Option<Vec<u8>>,
}

struct Scan<'a> {
    octets: &'a [u8],
    parts: Vec<Part>,
    open: Vec<Open>,
    /// The last open part is in its header.
    in_header: bool,
}

impl Scan<'_> {
    /// Opens a part inside the last open one.
    fn begin(&mut self, at: usize, in_digest: bool) -> Result<(), MimeError> {
        if self.open.len() == DEPTH_MAX {
            return Err(MimeError::TooDeep);
        }
        if self.parts.len() == PARTS_MAX {
            return Err(MimeError::TooManyParts);
        }
        let parent = self.open.last().map(|open| open.part);
        let index = self.parts.len();
        let mut part = empty_part(parent, at);
        if in_digest {
            part.content_type = ContentType::plain("message", "rfc822");
        }
        self.parts.push(part);
        if let Some(parent) = parent {
            self.parts[parent].children.push(index);
        }
        self.open.push(Open { part: index, boundary: None });
        self.in_header = true;
        Ok(())
    }

    /// Takes a line as a delimiter, if it is one of an open multipart: innermost first, RFC 2046
    /// §5.1.2.
    fn delimiter(&mut self, line: &[u8], at: usize, next: usize) -> Result<bool, MimeError> {
        let line = trim_blanks(line);
        let matches = |boundary: &[u8]| {
            let rest = line[2..].strip_prefix(boundary)?;
            match rest {
                b"" => Some(false),
                b"--" => Some(true),
                _ => None,
            }
        };
        let found = self.open.iter().enumerate().rev().find_map(|(depth, open)| {
            open.boundary.as_deref().and_then(matches).map(|closes| (depth, closes))
        });
        let Some((depth, closes)) = found else { return Ok(false) };
        // In a header, it ends that: the part has no body, and a message in it no octets.
        while self.in_header {
            self.end_header(at, at)?;
        }
        self.close_from(depth + 1, at - line_end_before(self.octets, at));
        let open = &mut self.open[depth];
        if closes {
            open.boundary = None;
        } else {
            let holder = &self.parts[open.part].content_type;
            let in_digest = holder.is("multipart", "digest");
            self.begin(next, in_digest)?;
        }
        Ok(true)
    }

    /// The empty line after a header: what the part is, and where its body begins.
    fn end_header(&mut self, end: usize, body: usize) -> Result<(), MimeError> {
        self.check_header(end)?;
        self.in_header = false;
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let part = &mut self.parts[open.part];
        part.header.end = end;
        part.body = body..body;
        let header: Range<usize> = part.header.clone();
        let in_digest = part.content_type.is("message", "rfc822");
        describe(part, &self.octets[header], in_digest);
        match part.kind {
            Kind::Leaf => {}
            Kind::Multipart => {
                open.boundary = boundary(&part.content_type).map(|text| text.as_bytes().to_vec());
            }
            Kind::Message => self.begin(body, false)?,
        }
        Ok(())
    }

    fn check_header(&self, end: usize) -> Result<(), MimeError> {
        let Some(open) = self.open.last() else { return Ok(()) };
        if end - self.parts[open.part].header.start > HEADER_OCTETS_MAX {
            return Err(MimeError::HeaderTooLong);
        }
        Ok(())
    }

    /// Closes the open parts from this depth on, all of which end at `end`.
    ///
    /// That is before the line end of the delimiter, and so can lie before the start of a part that
    /// is empty: its ranges are then empty there, inside those of its parent.
    fn close_from(&mut self, depth: usize, end: usize) {
        let Some(outermost) = self.open.get(depth) else { return };
        let end = end.max(self.parts[outermost.part].header.start);
        for open in self.open.drain(depth..) {
            let part = &mut self.parts[open.part];
            part.header.start = part.header.start.min(end);
            part.header.end = part.header.end.min(end);
            part.body.start = part.body.start.min(end);
            part.body.end = end;
        }
    }
}

/// Octets of the line end before the line at `at`: 2 for CRLF, 1 for LF, 0 at the very start.
fn line_end_before(octets: &[u8], at: usize) -> usize {
    at - without_line_end(&octets[..at]).len()
}

/// A line without the padding of a delimiter, which is also what a boundary cannot end with.
fn trim_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
    &line[..line.len() - blanks]
}

/// The boundary of a multipart, if it has one that can be used.
fn boundary(content_type: &ContentType) -> Option<&str> {
    let text = content_type.parameter("boundary").filter(|_| content_type.kind == "multipart")?;
    let text = text.trim_end_matches(' ');
    (!text.is_empty() && text.len() <= BOUNDARY_OCTETS_MAX).then_some(text)
}

fn empty_part(parent: Option<usize>, at: usize) -> Part {
    Part {
        parent,
        children: Vec::new(),
        kind: Kind::Leaf,
        header: at..at,
        body: at..at,
        content_type: ContentType::plain("text", "plain"),
        content_type_said: false,
        encoding: "7bit".to_owned(),
        disposition: None,
    }
}

/// Reads from a header what a part is. Of a field that comes twice the first counts.
fn describe(part: &mut Part, header: &[u8], in_digest: bool) {
    let (mut media_type, mut encoding, mut disposition) = (None, None, None);
    for field in FieldLines::new(header).flatten() {
        let place = match field.name.len() {
            12 if field.name.eq_ignore_ascii_case("content-type") => &mut media_type,
            25 if field.name.eq_ignore_ascii_case("content-transfer-encoding") => &mut encoding,
            19 if field.name.eq_ignore_ascii_case("content-disposition") => &mut disposition,
            _ => continue,
        };
        place.get_or_insert(field.value);
    }
    if let Some(said) = media_type.and_then(ContentType::parse) {
        part.content_type = said;
        part.content_type_said = true;
    } else if !in_digest {
        part.content_type = ContentType::plain("text", "plain");
    }
    if let Some(token) = encoding.and_then(media::first_token) {
        part.encoding = token;
    }
    part.disposition = disposition.and_then(Disposition::parse);
    let encoded = matches!(part.encoding.as_str(), "base64" | "quoted-printable");
    part.kind = if part.content_type.is("message", "rfc822") && !encoded {
        Kind::Message
    } else if boundary(&part.content_type).is_some() {
        Kind::Multipart
    } else {
        Kind::Leaf
    };
}
