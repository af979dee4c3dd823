//! The texts of a message, as SEARCH looks into them: decoded, in lower case.
//!
//! RFC 3501 §6.4.4. Encoded words (RFC 2047), transfer encodings and charsets are decoded; the names of attachments
//! count as text of their parts. Octets of what is no text are not even read.

use std::collections::BTreeSet;

use mail::Message;
use mail::message::decode_charset;
use mail::mime::{self, Kind, Part};
use store::{BlobId, MailboxId, MessageText, Store, StoreError, Uid, UidSet};

use crate::digest::Keys;
use crate::source::Source;

/// Octets of decoded text of one message that are looked into at most.
const TEXT_OCTETS_MAX: usize = 32 * 1024 * 1024;
/// The same of a message whose text goes into an index: a longer one is looked into each time.
const INDEXED_OCTETS_MAX: usize = 1024 * 1024;

/// Octets of memory that looking into a message takes at most, or decoding its parts: it as it is stored, it
/// decoded, and its text in UTF-8, once as it is and once in lower case.
pub(crate) const fn memory_octets(message_octets: u64) -> u64 {
    let text = TEXT_OCTETS_MAX as u64;
    let text = if message_octets < text { message_octets } else { text };
    message_octets.saturating_mul(2).saturating_add(text.saturating_mul(5))
}

/// The same of those messages that most are shorter than: who meets a longer one asks for more.
pub(crate) const MEMORY_OCTETS_LEAST: u64 = memory_octets(1024 * 1024);

/// The texts of one message.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) header: String,
    /// Those of its parts, with their headers.
    pub(crate) body: String,
    /// There is more than was read.
    pub(crate) cut: bool,
}

impl Texts {
    /// All that are looked into.
    pub(crate) fn read(source: &mut Source<'_>) -> Result<Self, StoreError> {
        Self::up_to(source, TEXT_OCTETS_MAX)
    }

    fn up_to(source: &mut Source<'_>, octets_max: usize) -> Result<Self, StoreError> {
        let structure = source.take_structure()?;
        let mut texts = Self::default();
        for (at, part) in structure.parts.iter().enumerate() {
            let header = source.slice(part.header.start as u64, part.header.end as u64)?;
            let target = if at == 0 { &mut texts.header } else { &mut texts.body };
            for field in Message::lenient(&header).fields() {
                target.push_str(field.name);
                target.push_str(": ");
                target.push_str(&field.decoded());
                target.push('\n');
            }
            if let Some(name) = part.file_name() {
                target.push_str(&name);
                target.push('\n');
            }
            let kind = &part.content_type;
            let is_text = kind.kind == "text" || kind.is("application", "xml");
            if part.kind != Kind::Leaf || !is_text {
                continue;
            }
            let room = octets_max.saturating_sub(texts.header.len() + texts.body.len());
            texts.cut |= !texts.push(part, source, room)?;
        }
        texts.header = lowercase(texts.header);
        texts.body = lowercase(texts.body);
        Ok(texts)
    }

    /// Adds the text of a part, as far as there is room; whether that was all.
    fn push(
        &mut self,
        part: &Part,
        source: &mut Source<'_>,
        room: usize,
    ) -> Result<bool, StoreError> {
        // No encoding takes more than three octets for one, line ends aside.
        let read = part.body.len().min(room.saturating_mul(4));
        let octets = source.slice(part.body.start as u64, (part.body.start + read) as u64)?;
        let part_read = Part { body: 0..octets.len(), ..part.clone() };
        let decoded = mime::decode_body(&part_read, &octets);
        let all = read == part.body.len() && decoded.len() <= room;
        let decoded = &decoded[..decoded.len().min(room)];
        let charset = part.content_type.parameter("charset").unwrap_or("utf-8");
        match decode_charset(charset, decoded) {
            Some(text) => self.body.push_str(&text),
            None => self.body.push_str(&String::from_utf8_lossy(decoded)),
        }
        self.body.push('\n');
        Ok(all)
    }
}

/// In lower case; where it is ASCII, in place.
fn lowercase(mut text: String) -> String {
    if text.is_ascii() {
        text.make_ascii_lowercase();
        text
    } else {
        text.to_lowercase()
    }
}

/// What a store keeps for speed about one message.
#[derive(Debug)]
pub struct Reading {
    /// For [`Store::keep_digests`].
    pub digest: Vec<u8>,
    /// For [`Store::index_texts`]; `None` when it is too long for that.
    pub text: Option<MessageText>,
}

/// Reads a message once for all that is kept about it.
///
/// # Errors
///
/// [`StoreError::NoSuchMessage`] when it is gone; [`StoreError::Medium`].
pub fn read(store: &dyn Store, blob: BlobId) -> Result<Reading, StoreError> {
    let mut source = Source::new(store, blob, store.octets(blob)?);
    let digest = source.digest()?.octets().to_vec();
    let texts = Texts::up_to(&mut source, INDEXED_OCTETS_MAX)?;
    let text = (!texts.cut).then_some(MessageText { header: texts.header, body: texts.body });
    Ok(Reading { digest, text })
}

/// Which message this is, and which one it is about, without angle brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct References {
    /// `Message-ID`
    pub message_id: Option<String>,
    /// `X-Riferimento-Message-ID` (PEC-AP-22)
    pub about: Option<String>,
}

/// Reads the header of a message for them.
///
/// # Errors
///
/// As [`read`].
pub fn references(store: &dyn Store, blob: BlobId) -> Result<References, StoreError> {
    let mut source = Source::new(store, blob, store.octets(blob)?);
    let header = source.header()?.to_vec();
    let message = Message::lenient(&header);
    let names_other = message.field("X-Riferimento-Message-ID").is_some();
    let mut keys = Keys::of(&message);
    let about = keys.references.pop().filter(|_| names_other);
    Ok(References { message_id: keys.message_id, about })
}

/// The Message-ID in a header, without angle brackets.
pub fn message_id(octets: &[u8]) -> Option<String> {
    Keys::of(&Message::lenient(octets)).message_id
}

/// The UIDs that the latest messages of a mailbox can have, so many of them at most.
pub fn latest(next: Uid, messages: u32) -> UidSet {
    let uid = |number| std::num::NonZeroU32::new(number).map(Uid);
    let first = uid(next.0.get().saturating_sub(messages).max(1));
    first.map(|first| UidSet::from_ranges([(first, next)])).unwrap_or_default()
}

/// The messages of a set that have one of these Message-IDs, from the digests that are kept; one without is
/// read. `damaged` is told of those that cannot be, which hold up none of the others.
///
/// # Errors
///
/// [`StoreError::NoSuchMailbox`]; [`StoreError::Medium`] when the mailbox itself cannot be read.
pub fn with_message_id(
    store: &dyn Store,
    mailbox: MailboxId,
    uids: &UidSet,
    message_ids: &BTreeSet<String>,
    damaged: &mut dyn FnMut(BlobId, StoreError),
) -> Result<UidSet, StoreError> {
    let mut found = Vec::new();
    for (summary, digest) in store.digested(mailbox, uids, usize::MAX, usize::MAX)? {
        let mut source = Source::new(store, summary.blob, summary.octets).with_digest(digest);
        match source.digest() {
            Ok(digest) => {
                let message_id = digest.keys().message_id;
                if message_id.is_some_and(|message_id| message_ids.contains(&message_id)) {
                    found.push(summary.uid);
                }
            }
            Err(StoreError::NoSuchMessage) => {}
            Err(error) => damaged(summary.blob, error),
        }
    }
    Ok(found.into_iter().collect())
}
