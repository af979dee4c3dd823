//! The scan: one pass over the lines of a message, a stack of the parts that are open.

use super::{
    BOUNDARY_OCTETS_MAX, ContentType, DEPTH_MAX, Disposition, Kind, MimeError, PARTS_MAX, Part,
    Structure, media,
};
use crate::message::{FieldLines, HEADER_OCTETS_MAX, header_block, without_line_end};

/// Octets of a line that can be a delimiter at most; it bounds what of a line is held.
const LINE_OCTETS_MAX: usize = HEADER_OCTETS_MAX;

/// Finds the parts of a message.
///
/// # Errors
///
/// A [`MimeError`] when a bound is passed: the caller decides whether to refuse the message or to
/// take it as one opaque leaf ([`opaque`]).
pub fn scan(octets: &[u8]) -> Result<Structure, MimeError> {
    let mut scanner = Scanner::new();
    scanner.push(octets);
    scanner.finish()
}

/// A message taken as one leaf of its header's media type (`application/octet-stream` when that
/// would be composite): for a structure that [`scan`] refuses.
pub fn opaque(octets: &[u8]) -> Structure {
    let block = header_block(octets);
    let mut part = empty_part(None, 0);
    part.header = 0..block.end;
    part.body = block.body..octets.len();
    part.lines = memchr::memchr_iter(b'\n', &octets[block.body..]).count();
    // A header past the bound is read as far as the bound.
    describe(&mut part, &octets[..block.end.min(HEADER_OCTETS_MAX)], false);
    if matches!(part.content_type.kind.as_str(), "multipart" | "message") {
        part.content_type = ContentType::plain("application", "octet-stream");
        part.content_type_said = false;
    }
    part.kind = Kind::Leaf;
    Structure { parts: vec![part] }
}

/// A part that is open: the last one is where the current line belongs.
#[derive(Debug)]
struct Open {
    part: usize,
    /// What ends or parts it; `None` when it is no multipart, or has ended.
    boundary: Option<Vec<u8>>,
    /// Line ends before its body.
    lines_before: usize,
}

/// Finds the parts of a message that comes piece by piece, wherever the pieces part. It holds a
/// header and a line at most, each bounded, and never a body.
#[derive(Debug, Default)]
pub struct Scanner {
    parts: Vec<Part>,
    open: Vec<Open>,
    /// The last open part is in its header.
    in_header: bool,
    /// That header so far.
    header: Vec<u8>,
    error: Option<MimeError>,
    /// Where the current line starts.
    at: usize,
    /// Line ends before it.
    lines: usize,
    /// Octets of the line end right before it: 2 for CRLF, 1 for LF, 0 at the very start.
    line_end: usize,
    /// The beginning of a line whose end has not come.
    held: Vec<u8>,
    /// How long that line is so far, held or not.
    held_octets: usize,
    /// Its last two octets.
    held_end: [u8; 2],
}

impl Scanner {
    /// At the beginning of a message.
    pub fn new() -> Self {
        let mut scanner = Self::default();
        if let Err(error) = scanner.begin(0, false) {
            scanner.error = Some(error);
        }
        scanner
    }

    /// Takes the next octets in.
    pub fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            if self.held_octets == 0 {
                self.line(line, line.len(), line.len() - without_line_end(line).len());
            } else {
                self.hold(line);
                self.release(if self.held_end == *b"\r\n" { 2 } else { 1 });
            }
        }
        self.hold(rest);
    }

    /// Line ends that have come so far.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// The parts, when all has come.
    ///
    /// # Errors
    ///
    /// As [`scan`].
    pub fn finish(mut self) -> Result<Structure, MimeError> {
        if self.held_octets > 0 {
            self.release(0);
        }
        // A message that ends in the header of a `message/rfc822` opens one more header.
        while self.in_header && self.error.is_none() {
            self.error = self.end_header(self.at, self.at, self.lines).err();
        }
        self.close_from(0, self.at, self.lines);
        self.error.map_or(Ok(Structure { parts: self.parts }), Err)
    }

    fn hold(&mut self, piece: &[u8]) {
        let room = (LINE_OCTETS_MAX + 1).saturating_sub(self.held.len());
        self.held.extend_from_slice(&piece[..piece.len().min(room)]);
        self.held_octets += piece.len();
        match piece {
            [.., one, two] => self.held_end = [*one, *two],
            [one] => self.held_end = [self.held_end[1], *one],
            [] => {}
        }
    }

    fn release(&mut self, line_end: usize) {
        let held = std::mem::take(&mut self.held);
        let octets = std::mem::take(&mut self.held_octets);
        self.line(&held, octets, line_end);
        self.held = held;
        self.held.clear();
        self.held_end = [0; 2];
    }

    /// Takes a line of so many octets, of which `line` is all or the beginning.
    fn line(&mut self, line: &[u8], octets: usize, line_end: usize) {
        if self.error.is_none() {
            self.error = self.look_at(line, self.at + octets).err();
        }
        self.at += octets;
        self.lines += usize::from(line_end > 0);
        self.line_end = line_end;
    }

    fn look_at(&mut self, line: &[u8], next: usize) -> Result<(), MimeError> {
        let at = self.at;
        let is_whole = next - at == line.len() && line.len() <= LINE_OCTETS_MAX;
        if is_whole && line.starts_with(b"--") && self.delimiter(without_line_end(line), next)? {
            return Ok(());
        }
        if self.in_header {
            if matches!(line, b"\r\n" | b"\n") {
                return self.end_header(at, next, self.lines + 1);
            }
            self.check_header(next)?;
            self.header.extend_from_slice(line);
        }
        Ok(())
    }

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
        self.open.push(Open { part: index, boundary: None, lines_before: self.lines });
        self.in_header = true;
        self.header.clear();
        Ok(())
    }

    /// Takes a line as a delimiter, if it is one of an open multipart: innermost first, RFC 2046
    /// §5.1.2.
    fn delimiter(&mut self, line: &[u8], next: usize) -> Result<bool, MimeError> {
        let at = self.at;
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
            self.end_header(at, at, self.lines)?;
        }
        // The line end before a delimiter belongs to it.
        let lines = self.lines - usize::from(self.line_end > 0);
        self.close_from(depth + 1, at - self.line_end, lines);
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

    /// The empty line after a header: what the part is, and where its body begins, with how many line
    /// ends before it.
    fn end_header(&mut self, end: usize, body: usize, lines: usize) -> Result<(), MimeError> {
        self.check_header(end)?;
        self.in_header = false;
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let part = &mut self.parts[open.part];
        part.header.end = end;
        part.body = body..body;
        open.lines_before = lines;
        let in_digest = part.content_type.is("message", "rfc822");
        describe(part, &self.header, in_digest);
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
    fn close_from(&mut self, depth: usize, end: usize, lines: usize) {
        let Some(outermost) = self.open.get(depth) else { return };
        let end = end.max(self.parts[outermost.part].header.start);
        for open in self.open.drain(depth..) {
            let part = &mut self.parts[open.part];
            part.header.start = part.header.start.min(end);
            part.header.end = part.header.end.min(end);
            part.body.start = part.body.start.min(end);
            part.body.end = end;
            if !part.body.is_empty() {
                part.lines = lines.saturating_sub(open.lines_before);
            }
        }
    }
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
        lines: 0,
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

#[cfg(test)]
mod tests;
