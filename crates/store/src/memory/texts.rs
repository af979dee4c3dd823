//! The model's index of texts: it finds what it was given, and nothing else.

use std::collections::{BTreeMap, HashMap};

use crate::{BlobId, Candidates, MailboxId, MessageText, Uid, Within};

#[derive(Default)]
pub(super) struct Texts {
    indexed_to: HashMap<MailboxId, u32>,
    texts: BTreeMap<BlobId, Option<MessageText>>,
}

impl Texts {
    pub(super) fn indexed_to(&self, mailbox: MailboxId) -> u32 {
        self.indexed_to.get(&mailbox).copied().unwrap_or(0)
    }

    pub(super) fn missing(&self, blobs: &[BlobId]) -> Vec<BlobId> {
        blobs.iter().copied().filter(|blob| !self.texts.contains_key(blob)).collect()
    }

    pub(super) fn add(
        &mut self,
        mailbox: MailboxId,
        up_to: Uid,
        texts: Vec<(BlobId, Option<MessageText>)>,
    ) {
        for (blob, text) in texts {
            self.texts.entry(blob).or_insert(text);
        }
        let indexed_to = self.indexed_to.entry(mailbox).or_default();
        *indexed_to = up_to.0.get().max(*indexed_to);
    }

    pub(super) fn find(
        &self,
        mailbox: MailboxId,
        text: &str,
        within: Within,
    ) -> Option<Candidates> {
        let indexed_to = self.indexed_to(mailbox);
        if indexed_to == 0 || text.chars().count() < 3 {
            return None;
        }
        let (mut sure, mut unsure) = (Vec::new(), Vec::new());
        for (blob, kept) in &self.texts {
            let Some(MessageText { header, body }) = kept else {
                unsure.push(*blob);
                continue;
            };
            let holds = match within {
                Within::Message => header.contains(text) || body.contains(text),
                Within::Header => header.contains(text),
                Within::Body => body.contains(text),
            };
            if holds {
                sure.push(*blob);
            }
        }
        Some(Candidates { indexed_to, sure, unsure })
    }
}
