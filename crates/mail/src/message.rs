//! A message as header and body, and the fields of its header: read in place, and written.
//!
//! RFC 5322 §2.1, §2.2 and, in the modules below, §3.3 (dates), §3.4 (addresses) and RFC 2047
//! (encoded words). Not here: MIME parts, which are in [`crate::mime`].

mod address_list;
mod charset;
mod date;
mod field;
mod words;

pub(crate) use address_list::strict as strict_address_list;
pub use address_list::{ADDRESSES_MAX, ListItem, NamedAddress, lenient_address_list};
pub use charset::decode_charset;
pub(crate) use field::without_controls;
pub use field::{Field, write_field};
pub use words::{decode_words, encode_phrase, encode_words};

/// Octets of a header block that are looked at; a longer one is [`MessageError::HeaderTooLong`].
pub const HEADER_OCTETS_MAX: usize = 256 * 1024;
/// Fields of one header at most.
pub const FIELDS_MAX: usize = 2_000;

/// Why octets are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The header block passes [`HEADER_OCTETS_MAX`].
    #[error("the header is too long")]
    HeaderTooLong,
    /// The header has more than [`FIELDS_MAX`] fields.
    #[error("the header has too many fields")]
    TooManyFields,
    /// A line of the header is neither a field nor the continuation of one.
    #[error("a line of the header is not a field")]
    NotAField,
}

/// A message in RFC 5322 form: a header, and after an empty line a body.
///
/// Line ends are CRLF or (as some stores keep them) LF.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    octets: &'a [u8],
    fields: Vec<Field<'a>>,
    header_end: usize,
    body_start: usize,
}

impl<'a> Message<'a> {
    /// Splits a message into its fields and its body. Copies nothing.
    ///
    /// # Errors
    ///
    /// Any [`MessageError`].
    pub fn parse(octets: &'a [u8]) -> Result<Self, MessageError> {
        // Past the bound nothing is read: two more octets can be the empty line after it.
        let looked_at = &octets[..octets.len().min(HEADER_OCTETS_MAX + 2)];
        let block = header_block(looked_at);
        if block.end > HEADER_OCTETS_MAX || (!block.ended && looked_at.len() < octets.len()) {
            return Err(MessageError::HeaderTooLong);
        }
        let mut fields = Vec::new();
        for line in FieldLines::new(&octets[..block.end]) {
            let field = line.ok_or(MessageError::NotAField)?;
            if fields.len() == FIELDS_MAX {
                return Err(MessageError::TooManyFields);
            }
            fields.push(field);
        }
        Ok(Self { octets, fields, header_end: block.end, body_start: block.body })
    }

    /// As [`parse`](Self::parse), for showing what is no good message: lines that are no field are
    /// left out, and so are the fields past [`FIELDS_MAX`] and what of the header passes
    /// [`HEADER_OCTETS_MAX`].
    pub fn lenient(octets: &'a [u8]) -> Self {
        let block = header_block(octets);
        let looked_at = &octets[..block.end.min(HEADER_OCTETS_MAX)];
        let fields = FieldLines::new(looked_at).flatten().take(FIELDS_MAX).collect();
        Self { octets, fields, header_end: block.end, body_start: block.body }
    }

    /// The whole message.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The header block, without the empty line that ends it.
    pub fn header(&self) -> &'a [u8] {
        &self.octets[..self.header_end]
    }

    /// What comes after the empty line; nothing when there is none.
    pub fn body(&self) -> &'a [u8] {
        &self.octets[self.body_start..]
    }

    /// The fields in their order.
    pub fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<Field<'a>> {
        self.all(name).next()
    }

    /// All fields of this name, in their order.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Field<'a>> + 's {
        self.fields.iter().copied().filter(move |field| field.name.eq_ignore_ascii_case(name))
    }
}

/// Where a header block ends, and where the body begins.
pub(crate) struct HeaderBlock {
    /// The end of the last line of the header.
    pub(crate) end: usize,
    /// What comes after the empty line.
    pub(crate) body: usize,
    /// Whether there was an empty line.
    pub(crate) ended: bool,
}

/// Finds the empty line that ends a header block.
pub(crate) fn header_block(octets: &[u8]) -> HeaderBlock {
    let mut at = 0;
    while at < octets.len() {
        let next = line_after(octets, at);
        if matches!(&octets[at..next], b"\r\n" | b"\n") {
            return HeaderBlock { end: at, body: next, ended: true };
        }
        at = next;
    }
    HeaderBlock { end: octets.len(), body: octets.len(), ended: false }
}

/// Where the line after the one at `at` starts; the end of the octets when there is none.
pub(crate) fn line_after(octets: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &octets[at..]).map_or(octets.len(), |lf| at + lf + 1)
}

/// A line without its line end, CRLF or LF.
pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The lines of a header block with their continuations: a field each, or `None` for what is none.
pub(crate) struct FieldLines<'a> {
    block: &'a [u8],
}

impl<'a> FieldLines<'a> {
    /// Over a block without the empty line that ends it.
    pub(crate) fn new(block: &'a [u8]) -> Self {
        Self { block }
    }

    /// What of the block was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.block
    }
}

impl<'a> Iterator for FieldLines<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.block.is_empty() {
            return None;
        }
        let mut end = line_after(self.block, 0);
        while matches!(self.block.get(end), Some(b' ' | b'\t')) {
            end = line_after(self.block, end);
        }
        let (octets, rest) = self.block.split_at(end);
        self.block = rest;
        Some(Field::parse(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_fields_and_a_body() {
        let octets = b"From: a@b.example\r\nSubject: uno\r\n due\r\nsubject:tre\r\n\r\nciao\r\n";
        let message = Message::parse(octets).unwrap();
        let seen: Vec<_> = message.fields().iter().map(|f| (f.name, f.value)).collect();
        let expected: Vec<(&str, &[u8])> =
            vec![("From", b" a@b.example"), ("Subject", b" uno\r\n due"), ("subject", b"tre")];
        assert_eq!(seen, expected);
        assert_eq!(message.fields()[1].octets, b"Subject: uno\r\n due\r\n");
        assert_eq!(message.header(), &octets[..octets.len() - 8]);
        assert_eq!(message.body(), b"ciao\r\n");
        assert_eq!(message.all("SUBJECT").count(), 2);
        assert_eq!(message.field("to"), None);
    }

    #[test]
    fn line_ends_may_be_lf_only() {
        let message = Message::parse(b"A: 1\n\tand more\nB: 2\n\nbody\n").unwrap();
        assert_eq!(message.fields()[0].value, b" 1\n\tand more");
        assert_eq!(message.fields()[1].octets, b"B: 2\n");
        assert_eq!(message.body(), b"body\n");
    }

    #[test]
    fn a_header_can_be_empty_or_all_there_is() {
        for (octets, fields, body) in [
            (&b""[..], 0, &b""[..]),
            (b"\r\n", 0, b""),
            (b"\r\nbody", 0, b"body"),
            (b"A: b", 1, b""),
            (b"A: b\r\n", 1, b""),
            (b"A :b\r\n\r\n", 1, b""),
        ] {
            let message = Message::parse(octets).unwrap();
            assert_eq!((message.fields().len(), message.body()), (fields, body), "{octets:?}");
        }
    }

    #[test]
    fn what_is_no_field_is_refused_and_leniently_left_out() {
        for octets in [
            &b" first line continues nothing\r\nA: b\r\n\r\n"[..],
            b"no colon\r\nA: b\r\n\r\n",
            b": no name\r\nA: b\r\n\r\n",
            b"two words: x\r\nA: b\r\n\r\n",
            b"caff\xc3\xa8: x\r\nA: b\r\n\r\n",
            b"nul\0: x\r\nA: b\r\n\r\n",
        ] {
            assert_eq!(Message::parse(octets).unwrap_err(), MessageError::NotAField, "{octets:?}");
            let message = Message::lenient(octets);
            assert_eq!(message.fields().len(), 1, "{octets:?}");
            assert_eq!(message.fields()[0].name, "A");
        }
    }

    #[test]
    fn a_header_has_at_most_so_many_octets() {
        let header = |octets: usize| {
            let mut text = b"A: ".to_vec();
            text.resize(octets - 2, b'x');
            text.extend_from_slice(b"\r\n");
            text
        };
        let mut full = header(HEADER_OCTETS_MAX);
        assert_eq!(Message::parse(&full).unwrap().header().len(), HEADER_OCTETS_MAX);
        full.extend_from_slice(b"\r\nbody");
        assert_eq!(Message::parse(&full).unwrap().body(), b"body");
        for end in ["", "\r\n", "\r\nbody"] {
            let mut over = header(HEADER_OCTETS_MAX + 1);
            over.extend_from_slice(end.as_bytes());
            assert_eq!(Message::parse(&over).unwrap_err(), MessageError::HeaderTooLong);
            assert_eq!(Message::lenient(&over).fields().len(), 1);
        }
    }

    #[test]
    fn a_header_has_at_most_so_many_fields() {
        let mut octets = b"A: b\r\n".repeat(FIELDS_MAX);
        assert_eq!(Message::parse(&octets).unwrap().fields().len(), FIELDS_MAX);
        octets.extend_from_slice(b"A: b\r\n");
        assert_eq!(Message::parse(&octets).unwrap_err(), MessageError::TooManyFields);
        assert_eq!(Message::lenient(&octets).fields().len(), FIELDS_MAX);
    }
}
