//! From format 5 to 6: names of mailboxes and subscriptions become NFC, as all that are read now.
//!
//! It runs in the transaction of the whole upgrade (`schema.rs`). Where a mailbox of the composed name is
//! there already, a number tells the two apart. Some letters are longer when they are composed: a name that
//! would outgrow its bound is cut, for one that cannot be read would keep all others of its account from
//! being listed.

use rusqlite::{Connection, params};

use unicode_normalization::UnicodeNormalization as _;

use crate::{MailboxName, NAME_OCTETS_MAX, SEPARATOR, StoreError};

/// Numbers that are tried behind a name: an account has no more mailboxes.
const TRIES_MAX: usize = crate::MAILBOXES_MAX;

/// A name composed, with this behind it, and cut to its bound before that. Nothing when it is none.
fn composed(name: &str, behind: &str) -> Option<MailboxName> {
    let mut whole: String = name.nfc().collect();
    let mut end = whole.len().min(NAME_OCTETS_MAX - behind.len());
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    if end < whole.len() {
        whole.truncate(end);
        // No level is empty, or ends in a blank.
        whole.truncate(whole.trim_end_matches(|c: char| c == SEPARATOR || c.is_whitespace()).len());
    }
    MailboxName::parse(&(whole + behind))
}

/// Composes the names that are not.
pub(super) fn compose(db: &Connection) -> Result<(), StoreError> {
    let mut found: Vec<(i64, i64, String)> = Vec::new();
    {
        // Most are ASCII, and stay as they are.
        let mut get =
            db.prepare("SELECT id, account, name FROM mailboxes WHERE name GLOB '*[^ -~]*'")?;
        let mut rows = get.query([])?;
        while let Some(row) = rows.next()? {
            found.push((row.get(0)?, row.get(1)?, row.get(2)?));
        }
    }
    let mut taken =
        db.prepare("SELECT EXISTS (SELECT 1 FROM mailboxes WHERE account = ? AND name = ?)")?;
    let mut rename = db.prepare("UPDATE mailboxes SET name = ? WHERE id = ?")?;
    for (id, account, name) in found {
        let Some(mut free) = composed(&name, "") else { continue };
        if free.as_str() == name {
            continue;
        }
        for number in 2..TRIES_MAX {
            if !taken.query_row(params![account, free.as_str()], |row| row.get(0))? {
                break;
            }
            free = composed(&name, &format!(" ({number})")).unwrap_or(free);
        }
        rename.execute(params![free.as_str(), id])?;
    }
    let mut found: Vec<(i64, String)> = Vec::new();
    {
        let mut get =
            db.prepare("SELECT account, name FROM subscriptions WHERE name GLOB '*[^ -~]*'")?;
        let mut rows = get.query([])?;
        while let Some(row) = rows.next()? {
            found.push((row.get(0)?, row.get(1)?));
        }
    }
    for (account, name) in found {
        let Some(composed) = composed(&name, "") else { continue };
        if composed.as_str() != name {
            let of = params![account, name];
            db.execute("DELETE FROM subscriptions WHERE account = ? AND name = ?", of)?;
            let of = params![account, composed.as_str()];
            db.execute("INSERT OR IGNORE INTO subscriptions VALUES (?, ?)", of)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{EmbeddedStore, Options};
    use crate::{MailboxId, Store as _};

    /// With an accent of its own.
    const LOOSE: &str = "Attivita\u{300}";
    const COMPOSED: &str = "Attivit\u{e0}";

    #[test]
    fn names_of_an_older_store_are_composed_and_none_is_lost() {
        let dir = tempfile::TempDir::new().unwrap();
        drop(EmbeddedStore::open(dir.path(), Options::default()).unwrap());
        let db = Connection::open(dir.path().join("index.db")).unwrap();
        let mailbox = |id: i64, account: i64, name: &str| {
            db.execute(
                "INSERT INTO mailboxes VALUES (?, ?, ?, NULL, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0)",
                params![id, account, name],
            )
            .unwrap();
        };
        mailbox(101, 7, LOOSE);
        mailbox(102, 8, LOOSE);
        mailbox(103, 8, COMPOSED);
        mailbox(104, 8, &format!("{LOOSE}/Altro"));
        mailbox(105, 8, "Archivio");
        for name in [LOOSE, "Archivio"] {
            db.execute("INSERT INTO subscriptions VALUES (8, ?)", [name]).unwrap();
        }
        db.pragma_update(None, "user_version", 5).unwrap();
        drop(db);

        let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
        let name = |id| store.mailbox_by_id(MailboxId(id)).unwrap().name.to_string();
        assert_eq!([101, 103, 105].map(name), [COMPOSED, COMPOSED, "Archivio"]);
        assert_eq!(name(102), format!("{COMPOSED} (2)"));
        assert_eq!(name(104), format!("{COMPOSED}/Altro"));
        drop(store);
        let db = Connection::open(dir.path().join("index.db")).unwrap();
        let mut subscribed = db.prepare("SELECT name FROM subscriptions ORDER BY name").unwrap();
        let subscribed: Vec<String> =
            subscribed.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(subscribed, ["Archivio", COMPOSED]);
    }

    /// One letter that is two when it is composed (a composition exclusion): twice as long.
    const GROWS: &str = "\u{958}";

    #[test]
    fn a_name_that_outgrows_its_bound_is_cut_and_hides_no_other() {
        let dir = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
        let quota = crate::Quota { octets_max: 1, messages_max: None, receipt_reserve_octets: 0 };
        let account = crate::contract::holder("a@a.example", quota);
        let account = store.add_account(account, crate::Timestamp::UNIX_EPOCH).unwrap();
        let before = store.mailboxes(account).unwrap().len();
        let subscribed = store.subscriptions(account).unwrap().len();
        drop(store);
        let db = Connection::open(dir.path().join("index.db")).unwrap();
        let longest = GROWS.repeat(NAME_OCTETS_MAX / GROWS.len());
        let before_a_level = GROWS.repeat((NAME_OCTETS_MAX - 4) / 6) + " x/" + GROWS;
        // As long as may be once it is composed: there is no room for a number.
        let full = "a".repeat(NAME_OCTETS_MAX - 3) + COMPOSED.get(7..).unwrap();
        let loose = "a".repeat(NAME_OCTETS_MAX - 3) + LOOSE.get(7..).unwrap();
        let names = [longest.as_str(), &before_a_level, &full, &loose, "Altro"];
        for (id, name) in (101_i64..).zip(names) {
            db.execute(
                "INSERT INTO mailboxes VALUES (?, ?, ?, NULL, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0)",
                params![id, account.0.cast_signed(), name],
            )
            .unwrap();
            let of = params![account.0.cast_signed(), name];
            db.execute("INSERT OR IGNORE INTO subscriptions VALUES (?, ?)", of).unwrap();
        }
        db.pragma_update(None, "user_version", 5).unwrap();
        drop(db);

        let store = EmbeddedStore::open(dir.path(), Options::default()).unwrap();
        let listed = store.mailboxes(account).unwrap();
        let name = |id: u64| {
            let one = listed.iter().find(|one| one.id == MailboxId(id)).unwrap();
            one.name.to_string()
        };
        let twice: String = GROWS.nfc().collect();
        assert_eq!(listed.len(), before + names.len());
        assert_eq!(name(101), twice.repeat(NAME_OCTETS_MAX / 6) + "\u{915}");
        assert_eq!(name(102), twice.repeat((NAME_OCTETS_MAX - 4) / 6) + " x");
        assert_eq!(name(103), full);
        assert_eq!(name(104), "a".repeat(NAME_OCTETS_MAX - 4) + " (2)");
        assert_eq!(name(105), "Altro");
        assert_eq!(store.subscriptions(account).unwrap().len(), subscribed + names.len() - 1);
    }
}
