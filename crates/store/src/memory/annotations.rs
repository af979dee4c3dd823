//! Annotations in the model.

use super::state::State;
use crate::annotation::{self, Annotations};
use crate::{AccountId, MailboxId, StoreError};

impl State {
    pub(super) fn annotations(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
    ) -> Result<Annotations, StoreError> {
        match mailbox {
            Some(mailbox) if self.kept(mailbox)?.mailbox.account != account => {
                return Err(StoreError::NoSuchMailbox);
            }
            None if !self.accounts.contains_key(&account) => {
                return Err(StoreError::NoSuchAccount);
            }
            _ => {}
        }
        Ok(self.annotations.get(&(account, mailbox)).cloned().unwrap_or_default())
    }

    pub(super) fn annotate(
        &mut self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let mut annotations = self.annotations(account, mailbox)?;
        let others =
            self.annotations.iter().filter(|((owner, at), _)| *owner == account && *at != mailbox);
        let elsewhere = others.map(|(_, annotations)| annotation::octets(annotations)).sum();
        if annotation::change(&mut annotations, changes, elsewhere)? {
            self.annotations.insert((account, mailbox), annotations);
            if let Some(mailbox) = mailbox {
                self.kept_mut(mailbox)?.mod_seq += 1;
            }
        }
        Ok(())
    }
}
