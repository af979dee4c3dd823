//! From format 5 to 6: names of mailboxes and subscriptions become NFC, as all that are read now.
//!
//! It runs in the transaction of the whole upgrade (`schema.rs`). Where a mailbox of the composed name is
//! there already, a number tells the two apart.

use rusqlite::{Connection, params};

use crate::{MailboxName, StoreError};

/// Numbers that are tried behind a name: an account has no more mailboxes.
const TRIES_MAX: usize = crate::MAILBOXES_MAX;

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
        let Some(composed) = MailboxName::parse(&name) else { continue };
        if composed.as_str() == name {
            continue;
        }
        let mut free = composed.as_str().to_owned();
        for number in 2..TRIES_MAX {
            if !taken.query_row(params![account, free], |row| row.get(0))? {
                break;
            }
            free = format!("{composed} ({number})");
        }
        rename.execute(params![free, id])?;
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
        let Some(composed) = MailboxName::parse(&name) else { continue };
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
}
