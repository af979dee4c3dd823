//! Which rows of a shared store become which rows of an embedded one.

/// What a column holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Number,
    Text,
    Octets,
}

/// A table: its name, what is asked of the database for it, how each row is written, and what its columns hold.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) rows: &'static str,
    pub(super) write: &'static str,
    pub(super) columns: &'static [Kind],
}

use Kind::{Number, Octets, Text};

pub(super) const TABLES: &[Table] = &[
    Table {
        name: "blobs",
        rows: "SELECT refs, id, octets FROM blobs",
        write: "UPDATE blobs SET refs = ? WHERE id = ? AND octets = ?",
        columns: &[Number, Number, Number],
    },
    Table {
        name: "accounts",
        rows: "SELECT id, address, user_id, owner, role, state, phc, scram, octets_max, messages_max,
                   reserve, ordinary_mail, created, octets, messages FROM accounts",
        write: "INSERT INTO accounts (id, address, user_id, owner, role, state, phc, scram, octets_max,
                    messages_max, reserve, ordinary_mail, created, octets, messages)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        columns: &[
            Number, Text, Text, Number, Number, Number, Text, Text, Number, Number, Number, Text,
            Number, Number, Number,
        ],
    },
    Table {
        name: "logins",
        rows: "SELECT login, account FROM logins",
        write: "INSERT INTO logins (login, account) VALUES (?, ?)",
        columns: &[Text, Number],
    },
    Table {
        name: "subscriptions",
        rows: "SELECT account, name FROM subscriptions",
        write: "INSERT INTO subscriptions (account, name) VALUES (?, ?)",
        columns: &[Number, Text],
    },
    Table {
        name: "annotations",
        rows: "SELECT account, mailbox, entry, value FROM annotations",
        write: "INSERT INTO annotations (account, mailbox, entry, value) VALUES (?, ?, ?, ?)",
        columns: &[Number, Number, Text, Octets],
    },
    Table {
        name: "mailboxes",
        rows: "SELECT id, account, name, special_use, system::int::bigint, uid_validity, created,
                   uid_next, mod_seq, recent_from, messages, unseen, recent, deleted, octets,
                   deleted_octets FROM mailboxes",
        write: "INSERT INTO mailboxes (id, account, name, special_use, system, uid_validity, created,
                    uid_next, mod_seq, recent_from, messages, unseen, recent, deleted, octets,
                    deleted_octets)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        columns: &[
            Number, Number, Text, Number, Number, Number, Number, Number, Number, Number, Number,
            Number, Number, Number, Number, Number,
        ],
    },
    Table {
        name: "keywords",
        rows: "SELECT id, number - 1, keyword
               FROM mailboxes, unnest(keywords) WITH ORDINALITY AS k (keyword, number)",
        write: "INSERT INTO keywords (mailbox, number, keyword) VALUES (?, ?, ?)",
        columns: &[Number, Number, Text],
    },
    Table {
        name: "messages",
        // A keyword is its number in the mailbox, in two octets, the lower first.
        rows: "SELECT mailbox, uid, flags,
                   (SELECT string_agg(
                        set_byte(set_byte('\\x0000'::bytea, 0, (at - 1) % 256), 1, (at - 1) / 256),
                        ''::bytea ORDER BY place)
                    FROM (
                        SELECT array_position(b.keywords, keyword) AS at, place
                        FROM unnest(m.keywords) WITH ORDINALITY AS k (keyword, place)) AS numbers),
                   m.mod_seq, m.octets, received, saved, blob
               FROM messages AS m JOIN mailboxes AS b ON b.id = m.mailbox",
        write: "INSERT INTO messages (mailbox, uid, flags, keywords, mod_seq, octets, received, saved,
                    blob)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        columns: &[Number, Number, Number, Octets, Number, Number, Number, Number, Number],
    },
    Table {
        name: "expunged",
        rows: "SELECT mailbox, mod_seq, first, last FROM expunged",
        write: "INSERT INTO expunged (mailbox, mod_seq, first, last) VALUES (?, ?, ?, ?)",
        columns: &[Number, Number, Number, Number],
    },
    Table {
        name: "jobs",
        rows: "SELECT id, due, queued, attempts, last_error, payload, blob, destination, class, account,
                   turn FROM jobs",
        write: "INSERT INTO jobs (id, due, queued, attempts, last_error, payload, blob, destination,
                    class, account, turn)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        columns: &[
            Number, Number, Number, Number, Text, Octets, Number, Text, Number, Text, Number,
        ],
    },
    Table {
        name: "tracker",
        // Each store has its own numbers for states.
        rows: "SELECT identificativo, recipient_key, recipient,
                   CASE state WHEN 2 THEN 1 WHEN 4 THEN 2 WHEN 5 THEN 3 WHEN 1 THEN 4 WHEN 3 THEN 5
                       ELSE state END,
                   sent, since FROM tracker",
        write: "INSERT INTO tracker (identificativo, recipient_key, recipient, state, sent, since)
                VALUES (?, ?, ?, ?, ?, ?)",
        columns: &[Text, Text, Text, Number, Number, Number],
    },
    Table {
        name: "followed",
        rows: "SELECT identificativo, open, about FROM followed",
        write: "INSERT INTO followed (identificativo, open, about) VALUES (?, ?, ?)",
        columns: &[Text, Number, Octets],
    },
    Table {
        name: "deadlines",
        rows: "SELECT identificativo, recipient_key, due, second FROM deadlines",
        write: "INSERT INTO deadlines (identificativo, recipient_key, due, second) VALUES (?, ?, ?, ?)",
        columns: &[Text, Text, Number, Number],
    },
    Table {
        name: "marks",
        rows: "SELECT key, value, made FROM marks",
        write: "INSERT INTO marks (key, value, made) VALUES (?, ?, ?)",
        columns: &[Octets, Octets, Number],
    },
    Table {
        name: "quarantine",
        rows: "SELECT id, found, keep_until, blob, infection FROM quarantine",
        write: "INSERT INTO quarantine (id, found, keep_until, blob, infection) VALUES (?, ?, ?, ?, ?)",
        columns: &[Number, Number, Number, Number, Text],
    },
    Table {
        name: "log",
        rows: "SELECT number, time, identificativo, convert_from(record, 'UTF8'), leaf FROM log",
        write: "INSERT INTO log (number, time, identificativo, record, leaf) VALUES (?, ?, ?, ?, ?)",
        columns: &[Number, Number, Text, Text, Octets],
    },
    Table {
        name: "log_identifiers",
        rows: "SELECT identifier, number FROM log_identifiers",
        write: "INSERT INTO log_identifiers (identifier, number) VALUES (?, ?)",
        columns: &[Text, Number],
    },
    Table {
        name: "log_parties",
        rows: "SELECT party, time, number FROM log_parties",
        write: "INSERT INTO log_parties (party, time, number) VALUES (?, ?, ?)",
        columns: &[Text, Number, Number],
    },
    Table {
        name: "seals",
        rows: "SELECT number, first, records, statement, signature, chunks, stamp, expired FROM seals",
        write: "INSERT INTO seals (number, first, records, statement, signature, chunks, stamp, expired)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        columns: &[Number, Number, Number, Octets, Octets, Octets, Octets, Number],
    },
];
