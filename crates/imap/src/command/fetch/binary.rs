//! BINARY[...] and BINARY.SIZE[...]: a part without its transfer encoding. RFC 3516 §4.2, RFC 9051 §6.4.5.
//!
//! What is not encoded (a composite part, the whole message) is sent as it is, from where it is stored.

use std::num::NonZeroU32;

use mail::encoding::{decode_base64, decode_quoted_printable};
use mail::mime::{self, Kind};
use store::StoreError;

use super::section::{INLINE_OCTETS_MAX, clip, part};
use crate::digest::Encoding;
use crate::refusal::Refusal;
use crate::response::Output;
use crate::source::Source;

/// Decoded octets that one answer holds before no further part is decoded into it: one command may
/// name the same large part many times.
const HELD_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// The decoded octets of a part, or their number.
pub(super) struct Binary {
    /// `BINARY[1.2]<0>`, `BINARY.SIZE[1]`
    label: String,
    path: Vec<usize>,
    /// The first octet, and how many.
    partial: Option<(u64, u64)>,
    size_only: bool,
}

impl Binary {
    /// `"BINARY" [".PEEK"] section-binary [partial]`
    pub(super) fn octets(
        section: &[NonZeroU32],
        partial: Option<(u32, NonZeroU32)>,
    ) -> Result<Self, Refusal> {
        let partial = partial.map(|(start, count)| (u64::from(start), u64::from(count.get())));
        let origin = partial.map(|(start, _)| format!("<{start}>")).unwrap_or_default();
        let (path, words) = path(section)?;
        Ok(Self { label: format!("BINARY[{words}]{origin}"), path, partial, size_only: false })
    }

    /// `"BINARY.SIZE" section-binary`
    pub(super) fn size(section: &[NonZeroU32]) -> Result<Self, Refusal> {
        let (path, words) = path(section)?;
        let label = format!("BINARY.SIZE[{words}]");
        Ok(Self { label, path, partial: None, size_only: true })
    }

    /// Whether only its length is asked for.
    pub(super) fn is_size(&self) -> bool {
        self.size_only
    }

    /// Writes it; `NIL` (or no octets) for a part that is not there. Whether its encoding is known;
    /// also not, when the answer holds [`HELD_OCTETS_MAX`] already.
    pub(super) fn write(
        &self,
        source: &mut Source<'_>,
        out: &mut Output,
    ) -> Result<bool, StoreError> {
        out.text(&self.label);
        out.text(" ");
        if self.path.is_empty() {
            self.plain(0..source.octets, source, out)?;
            return Ok(true);
        }
        let parts = source.digest()?.parts();
        let Some((_, part)) = part(&parts, &self.path) else {
            out.text(if self.size_only { "0" } else { "NIL" });
            return Ok(true);
        };
        let decode = match part.encoding {
            _ if part.kind != Kind::Leaf => None,
            Encoding::Plain => None,
            Encoding::Base64 => Some(decode_base64 as fn(&[u8]) -> Vec<u8>),
            Encoding::QuotedPrintable => Some(decode_quoted_printable as fn(&[u8]) -> Vec<u8>),
            Encoding::Unknown => {
                out.text(if self.size_only { "0" } else { "NIL" });
                return Ok(false);
            }
        };
        let Some(decode) = decode else {
            self.plain(part.body.clone(), source, out)?;
            return Ok(true);
        };
        if out.held_octets() >= HELD_OCTETS_MAX {
            out.text(if self.size_only { "0" } else { "NIL" });
            return Ok(false);
        }
        let decoded = decode(&source.slice(part.body.start, part.body.end)?);
        if self.size_only {
            out.text(&decoded.len().to_string());
        } else {
            let clipped = clip(0..decoded.len() as u64, self.partial);
            let clipped = clipped.start as usize..clipped.end as usize;
            out.literal8(decoded.get(clipped).unwrap_or_default());
        }
        Ok(true)
    }

    /// What is not encoded.
    fn plain(
        &self,
        range: std::ops::Range<u64>,
        source: &mut Source<'_>,
        out: &mut Output,
    ) -> Result<(), StoreError> {
        if self.size_only {
            out.text(&(range.end - range.start).to_string());
            return Ok(());
        }
        let clipped = clip(range, self.partial);
        if clipped.end - clipped.start > INLINE_OCTETS_MAX {
            out.announce(clipped.end - clipped.start);
            out.stored(source.hold(clipped.start, clipped.end)?, clipped.start, clipped.end);
        } else {
            out.literal8(&source.slice(clipped.start, clipped.end)?);
        }
        Ok(())
    }
}

fn path(section: &[NonZeroU32]) -> Result<(Vec<usize>, String), Refusal> {
    if section.len() > mime::DEPTH_MAX {
        return Err(Refusal::bad("No part is nested so deep"));
    }
    let words: Vec<String> = section.iter().map(ToString::to_string).collect();
    let number = |number: &NonZeroU32| usize::try_from(number.get()).unwrap_or(usize::MAX);
    Ok((section.iter().map(number).collect(), words.join(".")))
}

#[cfg(test)]
mod tests {
    use store::contract::{append, at, holder, octets_max};
    use store::memory::MemoryStore;
    use store::{MailboxName, Store as _, UidSet};

    use super::*;

    /// What one answer holds decoded is bounded: one part more is not decoded, however often it is named.
    #[test]
    fn one_part_past_what_an_answer_holds_is_not_decoded() {
        let store = MemoryStore::new();
        let anna = store.add_account(holder("anna@pec.example", octets_max(9_999)), at(0)).unwrap();
        let inbox = store.mailbox(anna, &MailboxName::inbox()).unwrap().id;
        append(&store, inbox, b"Content-Transfer-Encoding: base64\r\n\r\nY2lhbw==\r\n");
        let message = store.summaries(inbox, &UidSet::all(), 1).unwrap().remove(0);
        let part = Binary::octets(&[NonZeroU32::MIN], None).unwrap();
        for (held, known, written) in
            [(HELD_OCTETS_MAX - 20, true, "{4}\r\nciao"), (HELD_OCTETS_MAX, false, "NIL")]
        {
            let mut source = Source::new(&store, message.blob, message.octets);
            let mut out = Output::default();
            out.push(&vec![b'x'; held]);
            assert_eq!(part.write(&mut source, &mut out).unwrap(), known);
            let octets = out.into_octets();
            assert_eq!(octets[held..], *format!("BINARY[1] {written}").as_bytes());
        }
    }
}
