//! What a LIST selects and returns. RFC 5258 §3.1, §3.2; RFC 5819 §2; RFC 6154 §5.

use store::StoreError;

use super::super::{metadata, status};
use super::{Line, Verb};
use crate::grammar::words::Words;
use crate::job::Context;
use crate::refusal::Refusal;

/// Options of one LIST at most, each counted as often as it is named.
const OPTIONS_MAX: usize = 50;

/// Which mailboxes are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Selection {
    pub(super) subscribed: bool,
    pub(super) special_use: bool,
    /// Also those above one that is selected.
    pub(super) recursive: bool,
}

impl Selection {
    /// `"(" [list-select-opt *(SP list-select-opt)] ")"`
    pub(super) fn read(words: &mut Words<'_>) -> Result<Self, Refusal> {
        let mut selection = Self::default();
        for name in Options::begin(words)? {
            match name?.as_str() {
                "SUBSCRIBED" => selection.subscribed = true,
                "SPECIAL-USE" => selection.special_use = true,
                "RECURSIVEMATCH" => selection.recursive = true,
                // All mailboxes are here.
                "REMOTE" => {}
                _ => return Err(Refusal::bad("No such selection of mailboxes")),
            }
        }
        if selection.recursive && !selection.subscribed && !selection.special_use {
            // RFC 5258 §3.1.
            return Err(Refusal::bad("RECURSIVEMATCH goes with another selection"));
        }
        Ok(selection)
    }
}

/// What is told of them.
#[derive(Debug, Default)]
pub(super) struct Returned {
    pub(super) subscribed: bool,
    pub(super) status: Option<status::Items>,
    /// RFC 9590 §3.
    metadata: Option<metadata::Entries>,
}

impl Returned {
    /// `"RETURN" SP "(" [return-option *(SP return-option)] ")"`. Children and special uses are told
    /// anyhow.
    pub(super) fn read(words: &mut Words<'_>) -> Result<Self, Refusal> {
        let mut returned = Self::default();
        if !words.skip_name("RETURN") {
            return Err(Refusal::malformed());
        }
        let mut options = Options::begin(words)?;
        while let Some(name) = options.next() {
            match name?.as_str() {
                "SUBSCRIBED" => returned.subscribed = true,
                "CHILDREN" | "SPECIAL-USE" => {}
                "STATUS" => {
                    options.words.space().ok_or_else(Refusal::malformed)?;
                    let items = status::Items::read(options.words);
                    returned.status = Some(items.ok_or_else(Refusal::malformed)??);
                }
                "METADATA" => {
                    options.words.space().ok_or_else(Refusal::malformed)?;
                    let entries = metadata::Entries::read(options.words);
                    returned.metadata = Some(entries.ok_or_else(Refusal::malformed)??);
                }
                _ => return Err(Refusal::bad("No such thing to return of mailboxes")),
            }
        }
        Ok(returned)
    }

    /// `* LIST (...) "/" name`, and what else is asked for.
    pub(super) fn write(
        &self,
        verb: Verb,
        selection: &Selection,
        line: &Line,
        context: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let out = &mut *context.out;
        out.text(&format!("* {} ({}) \"/\" ", verb.as_str(), line.attributes.join(" ")));
        out.mailbox(&line.name);
        if line.child_info {
            let by = [
                (selection.subscribed, "\"SUBSCRIBED\""),
                (selection.special_use, "\"SPECIAL-USE\""),
            ];
            let by: Vec<&str> = by.into_iter().filter(|(is, _)| *is).map(|(_, by)| by).collect();
            out.text(&format!(" (\"CHILDINFO\" ({}))", by.join(" ")));
        }
        out.text("\r\n");
        let Some(mailbox) = &line.mailbox else { return Ok(()) };
        let status = self.status.as_ref().map(|items| items.write(mailbox, context));
        let metadata = &self.metadata;
        let metadata = metadata.as_ref().map(|it| it.write(mailbox, context));
        for told in [status, metadata].into_iter().flatten() {
            match told {
                // Deleted meanwhile: of what is gone nothing is told, RFC 5819 §2.
                Ok(()) | Err(StoreError::NoSuchMailbox) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The names in parentheses, one after the other.
struct Options<'w, 'o> {
    words: &'w mut Words<'o>,
    count: usize,
    ended: bool,
}

impl<'w, 'o> Options<'w, 'o> {
    fn begin(words: &'w mut Words<'o>) -> Result<Self, Refusal> {
        words.octet(b'(').ok_or_else(Refusal::malformed)?;
        Ok(Self { words, count: 0, ended: false })
    }
}

impl Iterator for Options<'_, '_> {
    type Item = Result<String, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.words.octet(b')').is_some() {
            return None;
        }
        let name = if self.count > 0 { self.words.space() } else { Some(()) };
        self.count += 1;
        let name = name.and_then(|()| self.words.name());
        let name = name.filter(|_| self.count <= OPTIONS_MAX);
        self.ended = name.is_none();
        Some(name.ok_or_else(Refusal::malformed))
    }
}
