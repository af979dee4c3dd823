//! The numbers of a mailbox and its keywords, read and saved.

use std::collections::BTreeSet;

use super::connection::{Db, get, number, short};
use super::txn::Txn;
use crate::numbers::Numbers;
use crate::rules::uid;
use crate::{AccountId, KEYWORDS_MAX, Keyword, MailboxId, StoreError, UidValidity};

pub(super) fn load(db: &Db, id: MailboxId) -> Result<Numbers, StoreError> {
    let load = "SELECT account, uid_validity, uid_next, mod_seq, recent_from, messages, unseen,
                    recent, deleted, octets, deleted_octets FROM mailboxes WHERE id = $1";
    let row = db.first(load, &[&id.0.cast_signed()])?.ok_or(StoreError::NoSuchMailbox)?;
    Ok(Numbers {
        id,
        account: AccountId(number(&row, 0)?),
        uid_validity: UidValidity(uid(short(&row, 1)?).0),
        uid_next: short(&row, 2)?,
        mod_seq: number(&row, 3)?,
        recent_from: short(&row, 4)?,
        messages: number(&row, 5)?,
        unseen: number(&row, 6)?,
        recent: number(&row, 7)?,
        deleted: number(&row, 8)?,
        octets: number(&row, 9)?,
        deleted_octets: number(&row, 10)?,
    })
}

/// Saves them; listeners are to hear of it.
pub(super) fn save(txn: &mut Txn<'_>, numbers: &Numbers) -> Result<(), StoreError> {
    save_quietly(txn, numbers)?;
    txn.changed.mailboxes.insert(numbers.id);
    Ok(())
}

/// Saves them where no message changed.
pub(super) fn save_quietly(txn: &Txn<'_>, numbers: &Numbers) -> Result<(), StoreError> {
    let set = "UPDATE mailboxes SET uid_next = $1, mod_seq = $2, recent_from = $3, messages = $4,
               unseen = $5, recent = $6, deleted = $7, octets = $8, deleted_octets = $9,
               touched = now() WHERE id = $10";
    let counts = [numbers.messages, numbers.unseen, numbers.recent, numbers.deleted];
    let [messages, unseen, recent, deleted] = counts.map(u64::cast_signed);
    txn.db.execute(
        set,
        &[
            &i64::from(numbers.uid_next),
            &numbers.mod_seq.cast_signed(),
            &i64::from(numbers.recent_from),
            &messages,
            &unseen,
            &recent,
            &deleted,
            &numbers.octets.cast_signed(),
            &numbers.deleted_octets.cast_signed(),
            &numbers.id.0.cast_signed(),
        ],
    )?;
    Ok(())
}

/// Keywords as they are written in a row.
pub(super) fn keywords(texts: Vec<String>) -> impl Iterator<Item = Result<Keyword, StoreError>> {
    let damaged = || StoreError::Medium("a keyword cannot be read".into());
    texts.into_iter().map(move |text| Keyword::parse(&text).ok_or_else(damaged))
}

/// The keywords of a mailbox. Read when first needed: most mailboxes have none.
pub(super) struct Keywords<'a> {
    db: &'a Db,
    mailbox: MailboxId,
    known: Option<Vec<Keyword>>,
}

impl<'a> Keywords<'a> {
    pub(super) fn of(db: &'a Db, mailbox: MailboxId) -> Self {
        Self { db, mailbox, known: None }
    }

    pub(super) fn known(&mut self) -> Result<&mut Vec<Keyword>, StoreError> {
        if self.known.is_none() {
            let known = "SELECT keywords FROM mailboxes WHERE id = $1";
            let row = self.db.first(known, &[&self.mailbox.0.cast_signed()])?;
            let texts = row.map_or(Ok(Vec::new()), |row| get(&row, 0))?;
            self.known = Some(keywords(texts).collect::<Result<_, _>>()?);
        }
        Ok(self.known.get_or_insert_default())
    }

    /// Keywords as the mailbox spells them, those that are new added to it.
    pub(super) fn learn(
        &mut self,
        keywords: &BTreeSet<Keyword>,
    ) -> Result<BTreeSet<Keyword>, StoreError> {
        if keywords.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (db, mailbox) = (self.db, self.mailbox.0.cast_signed());
        let known = self.known()?;
        let before = known.len();
        let mut spelled = BTreeSet::new();
        for keyword in keywords {
            match known.iter().find(|one| *one == keyword) {
                Some(one) => spelled.insert(one.clone()),
                None if known.len() >= KEYWORDS_MAX => return Err(StoreError::TooManyKeywords),
                None => {
                    known.push(keyword.clone());
                    spelled.insert(keyword.clone())
                }
            };
        }
        if known.len() > before {
            let new: Vec<&str> = known[before..].iter().map(Keyword::as_str).collect();
            let add = "UPDATE mailboxes SET keywords = keywords || $1 WHERE id = $2";
            db.execute(add, &[&new, &mailbox])?;
        }
        Ok(spelled)
    }
}
