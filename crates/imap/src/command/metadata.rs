//! GETMETADATA, SETMETADATA: what clients keep beside mailboxes and beside the account.
//!
//! RFC 5464 §4; in LIST, RFC 9590 §3. Names of entries are compared without case and kept in lower case,
//! RFC 5464 §3.2. Beside a mailbox, `/shared` and `/private` are both its owner's, who is alone with it;
//! beside the account, `/shared` is the provider's, who keeps nothing there.

use imap_types::core::NString8;
use imap_types::extensions::metadata::{Depth, Entry, EntryValue, GetMetadataOption};
use imap_types::mailbox::Mailbox;
use store::{ANNOTATION_OCTETS_MAX, Annotations, ENTRY_OCTETS_MAX, MailboxName, StoreError};

use crate::enabled::Enabled;
use crate::grammar;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::{Code, Output};

/// What a mailbox is for, as LIST has it: RFC 6154 §4. It is given with CREATE, and stays.
const SPECIAL_USE: &str = "/private/specialuse";
/// Entries of one command at most.
const ENTRIES_MAX: usize = 100;

/// Names of entries, in lower case, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entries(Vec<String>);

impl Entries {
    /// `"(" entry *(SP entry) ")"`
    pub(crate) fn read(words: &mut Words<'_>) -> Option<Result<Self, Refusal>> {
        words.octet(b'(')?;
        let mut names = Vec::new();
        loop {
            names.push(words.astring()?);
            if words.octet(b')').is_some() {
                let names: Vec<&[u8]> = names.iter().map(AsRef::as_ref).collect();
                return Some(Self::new(&names));
            }
            words.space()?;
        }
    }

    fn new(names: &[&[u8]]) -> Result<Self, Refusal> {
        if names.len() > ENTRIES_MAX {
            return Err(Refusal::bad("Too many entries: ask for them in parts"));
        }
        let mut entries = Vec::new();
        for name in names {
            let entry = entry(name)?;
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        Ok(Self(entries))
    }

    /// `* METADATA "INBOX" (/private/comment "...")`: of these exactly, with NIL for what is not
    /// there.
    pub(crate) fn write(
        &self,
        mailbox: &store::Mailbox,
        context: &mut Context<'_>,
    ) -> Result<(), StoreError> {
        let kept = annotations(Some(mailbox), context)?;
        let values = self.0.iter().map(|entry| (entry.as_str(), kept.get(entry)));
        write(Some(&mailbox.name), values, context.out);
        Ok(())
    }
}

/// What is kept beside a mailbox, and what it is for; or beside the account.
fn annotations(
    mailbox: Option<&store::Mailbox>,
    context: &Context<'_>,
) -> Result<Annotations, StoreError> {
    let id = mailbox.map(|mailbox| mailbox.id);
    let mut kept = context.store.annotations(context.account, id)?;
    if let Some(mailbox) = mailbox {
        kept.remove(SPECIAL_USE);
        kept.extend(special_use(mailbox).map(|value| (SPECIAL_USE.to_owned(), value)));
    }
    Ok(kept)
}

fn special_use(mailbox: &store::Mailbox) -> Option<Vec<u8>> {
    Some(mailbox.special_use?.attribute().as_bytes().to_vec())
}

/// A name of an entry: RFC 5464 §3.2. In ASCII only.
fn entry(name: &[u8]) -> Result<String, Refusal> {
    let refusal = || Refusal::bad("Not an entry: /private/... or /shared/..., without * and %");
    let name = std::str::from_utf8(name).map_err(|_| refusal())?.to_ascii_lowercase();
    let plain = |b: u8| matches!(b, b' '..=b'~') && !matches!(b, b'*' | b'%');
    let mut levels = name.split('/');
    let rooted = levels.next() == Some("")
        && matches!(levels.next(), Some("private" | "shared"))
        && name.split('/').skip(1).all(|level| !level.is_empty());
    if !rooted || name.len() > ENTRY_OCTETS_MAX || !name.bytes().all(plain) {
        return Err(refusal());
    }
    Ok(name)
}

/// `value = nstring / literal8`, each with its entry before it.
fn write<'v>(
    name: Option<&MailboxName>,
    values: impl Iterator<Item = (&'v str, Option<&'v Vec<u8>>)>,
    out: &mut Output,
) {
    out.text("* METADATA ");
    match name {
        Some(name) => out.mailbox(name),
        None => out.text("\"\""),
    }
    for (at, (entry, value)) in values.enumerate() {
        out.text(if at == 0 { " (" } else { " " });
        out.entry(entry);
        out.text(" ");
        match value {
            None => out.text("NIL"),
            Some(value) if value.contains(&0) => out.literal8(value),
            Some(value) => out.string(value),
        }
    }
    out.text(")\r\n");
}

/// The mailbox, or `None` for the account itself.
fn place(mailbox: &Mailbox<'_>, enabled: Enabled) -> Result<Option<MailboxName>, Refusal> {
    if grammar::mailbox_wire(mailbox).is_empty() {
        return Ok(None);
    }
    grammar::mailbox(mailbox, enabled).map(Some)
}

fn find(
    name: Option<&MailboxName>,
    context: &Context<'_>,
) -> Result<Option<store::Mailbox>, Refusal> {
    let find = |name| context.store.mailbox(context.account, name);
    Ok(name.map(find).transpose()?)
}

/// `getmetadata = "GETMETADATA" [SP getmetadata-options] SP mailbox SP entries`
pub(crate) struct GetMetadata {
    name: Option<MailboxName>,
    entries: Entries,
    size_max: Option<usize>,
    depth: Depth,
}

impl GetMetadata {
    pub(crate) fn new(
        mailbox: &Mailbox<'_>,
        options: &[GetMetadataOption],
        entries: &[Entry<'_>],
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        let (mut size_max, mut depth) = (None, Depth::Null);
        for option in options {
            match option {
                GetMetadataOption::MaxSize(octets) => {
                    size_max = Some(usize::try_from(*octets).unwrap_or(usize::MAX));
                }
                GetMetadataOption::Depth(asked) => depth = asked.clone(),
            }
        }
        let names: Vec<&[u8]> = entries.iter().map(AsRef::as_ref).collect();
        let entries = Entries::new(&names)?;
        Ok(Self { name: place(mailbox, enabled)?, entries, size_max, depth })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = find(self.name.as_ref(), context)?;
        let kept = annotations(mailbox.as_ref(), context)?;
        let mut values = self.found(&kept);
        let too_long = |value: &&Vec<u8>| self.size_max.is_some_and(|max| value.len() > max);
        let longest = values.iter().filter_map(|(_, value)| *value).filter(too_long);
        let longest = longest.map(Vec::len).max();
        values.retain(|(_, value)| !value.as_ref().is_some_and(too_long));
        if !values.is_empty() {
            write(mailbox.as_ref().map(|mailbox| &mailbox.name), values.into_iter(), context.out);
        }
        let done = Done::text("GETMETADATA completed");
        Ok(match longest {
            Some(octets) => done.code(Code::MetadataLongEntries(octets)),
            None => done,
        }
        .into())
    }

    /// Those that are asked for, and with a depth those below.
    fn found<'a>(&'a self, kept: &'a Annotations) -> Vec<(&'a str, Option<&'a Vec<u8>>)> {
        if self.depth == Depth::Null {
            return self.entries.0.iter().map(|entry| (entry.as_str(), kept.get(entry))).collect();
        }
        let is_asked = |name: &str| {
            self.entries.0.iter().any(|entry| match name.strip_prefix(entry.as_str()) {
                Some("") => true,
                Some(below) => {
                    let levels = below.matches('/').count();
                    below.starts_with('/') && (self.depth == Depth::Infinity || levels == 1)
                }
                None => false,
            })
        };
        let asked = kept.iter().filter(|(entry, _)| is_asked(entry));
        asked.map(|(entry, value)| (entry.as_str(), Some(value))).collect()
    }
}

/// `setmetadata = "SETMETADATA" SP mailbox SP entry-values`
pub(crate) struct SetMetadata {
    name: Option<MailboxName>,
    changes: Vec<(String, Option<Vec<u8>>)>,
}

impl SetMetadata {
    pub(crate) fn new(
        mailbox: &Mailbox<'_>,
        values: &[EntryValue<'_>],
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        let name = place(mailbox, enabled)?;
        if values.len() > ENTRIES_MAX {
            return Err(Refusal::bad("Too many entries: set them in parts"));
        }
        let mut changes = Vec::with_capacity(values.len());
        for EntryValue { entry: name_of_entry, value } in values {
            let entry = entry(name_of_entry.as_ref())?;
            let value = match value {
                NString8::NString(value) => value.0.as_ref().map(|value| value.as_ref().to_vec()),
                NString8::Literal8(value) => Some(value.data.to_vec()),
            };
            if value.as_ref().is_some_and(|value| value.len() > ANNOTATION_OCTETS_MAX) {
                let code = Code::MetadataMaxSize(ANNOTATION_OCTETS_MAX);
                return Err(Refusal::no(code, "The value is too long to be kept"));
            }
            if name.is_none() && entry.starts_with("/shared/") {
                return Err(Refusal::no(Code::NoPerm, "What all accounts share is the provider's"));
            }
            changes.push((entry, value));
        }
        Ok(Self { name, changes })
    }

    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let mailbox = find(self.name.as_ref(), context)?;
        let mut changes = self.changes;
        if let Some(mailbox) = &mailbox {
            let is = special_use(mailbox);
            // In any case of its letters: RFC 6154 §6.
            let same = |value: &Option<Vec<u8>>| match (value, &is) {
                (Some(value), Some(is)) => value.eq_ignore_ascii_case(is),
                (value, is) => value.is_none() && is.is_none(),
            };
            let (uses, others): (Vec<_>, Vec<_>) =
                changes.into_iter().partition(|(entry, _)| entry == SPECIAL_USE);
            if !uses.iter().all(|(_, value)| same(value)) {
                return Err(Refusal::no(
                    Code::UseAttr,
                    "What a mailbox is for is said with CREATE",
                ));
            }
            changes = others;
        }
        if !changes.is_empty() {
            let id = mailbox.map(|mailbox| mailbox.id);
            context.store.annotate(context.account, id, changes)?;
        }
        Ok(Done::text("SETMETADATA completed").into())
    }
}
