//! Which rows of an embedded store become which rows of a shared one.

/// How a column is read, and how it is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Number,
    /// A text, without what the database does not take.
    Text,
    /// A text that stands in an index of the database.
    Key,
    /// Numbers of keywords in hexadecimal, each of two octets, the lower first, and after a blank all keywords
    /// by number: they become keywords.
    Numbered,
    Octets,
}

/// A table: its name, what is asked of the index for it, and its columns with what each becomes.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) rows: &'static str,
    pub(super) columns: &'static [(&'static str, Kind, &'static str)],
}

/// A column that is taken as it is.
const fn same(name: &'static str, kind: Kind) -> (&'static str, Kind, &'static str) {
    (name, kind, name)
}

use Kind::{Key, Number, Numbered, Octets, Text};

pub(super) const TABLES: &[Table] = &[
    Table {
        name: "accounts",
        rows: "SELECT id, address, user_id, owner, role, state, phc, scram, octets_max, messages_max,
                   reserve, ordinary_mail, created, octets, messages FROM accounts",
        columns: &[
            same("id", Number),
            same("address", Text),
            same("user_id", Text),
            same("owner", Number),
            same("role", Number),
            same("state", Number),
            same("phc", Text),
            same("scram", Text),
            same("octets_max", Number),
            same("messages_max", Number),
            same("reserve", Number),
            same("ordinary_mail", Text),
            same("created", Number),
            same("octets", Number),
            same("messages", Number),
        ],
    },
    Table {
        name: "logins",
        rows: "SELECT login, account FROM logins",
        columns: &[same("login", Text), same("account", Number)],
    },
    Table {
        name: "subscriptions",
        rows: "SELECT account, name FROM subscriptions",
        columns: &[same("account", Number), same("name", Text)],
    },
    Table {
        name: "annotations",
        rows: "SELECT account, mailbox, entry, value FROM annotations",
        columns: &[
            same("account", Number),
            same("mailbox", Number),
            same("entry", Text),
            same("value", Octets),
        ],
    },
    Table {
        name: "mailboxes",
        rows: "SELECT id, account, name, special_use, system, uid_validity, created, uid_next, mod_seq,
                   recent_from, messages, unseen, recent, deleted, octets, deleted_octets,
                   (SELECT group_concat(keyword, ' ') FROM (
                       SELECT keyword FROM keywords WHERE mailbox = mailboxes.id ORDER BY number)),
                   0, 0
               FROM mailboxes",
        columns: &[
            same("id", Number),
            same("account", Number),
            same("name", Text),
            same("special_use", Number),
            ("system", Number, "system <> 0"),
            same("uid_validity", Number),
            same("created", Number),
            same("uid_next", Number),
            same("mod_seq", Number),
            same("recent_from", Number),
            same("messages", Number),
            same("unseen", Number),
            same("recent", Number),
            same("deleted", Number),
            same("octets", Number),
            same("deleted_octets", Number),
            ("keywords", Text, "coalesce(string_to_array(keywords, ' '), '{}')"),
            same("indexed_to", Number),
            ("touched", Number, "now()"),
        ],
    },
    Table {
        name: "messages",
        // Numbers of keywords, and the mailbox's keywords that have these numbers.
        rows: "SELECT mailbox, uid, flags,
                   CASE WHEN keywords IS NOT NULL THEN hex(keywords) || ' ' || (
                       SELECT group_concat(keyword, ' ') FROM (
                           SELECT keyword FROM keywords AS k WHERE k.mailbox = messages.mailbox
                           ORDER BY number)) END,
                   mod_seq, octets, received, saved, blob
               FROM messages",
        columns: &[
            same("mailbox", Number),
            same("uid", Number),
            same("flags", Number),
            ("keywords", Numbered, "string_to_array(keywords, ' ')"),
            same("mod_seq", Number),
            same("octets", Number),
            same("received", Number),
            same("saved", Number),
            same("blob", Number),
        ],
    },
    Table {
        name: "expunged",
        rows: "SELECT mailbox, mod_seq, first, last FROM expunged",
        columns: &[
            same("mailbox", Number),
            same("mod_seq", Number),
            same("first", Number),
            same("last", Number),
        ],
    },
    Table {
        name: "jobs",
        rows: "SELECT id, due, queued, attempts, last_error, payload, blob, destination, class, account,
                   turn FROM jobs",
        columns: &[
            same("id", Number),
            same("due", Number),
            same("queued", Number),
            same("attempts", Number),
            same("last_error", Text),
            same("payload", Octets),
            same("blob", Number),
            same("destination", Text),
            same("class", Number),
            same("account", Text),
            same("turn", Number),
        ],
    },
    Table {
        name: "tracker",
        // Each store has its own numbers for states.
        rows: "SELECT identificativo, recipient_key, recipient,
                   CASE state WHEN 1 THEN 2 WHEN 2 THEN 4 WHEN 3 THEN 5 WHEN 4 THEN 1 WHEN 5 THEN 3
                       ELSE state END,
                   sent, since FROM tracker",
        columns: &[
            same("identificativo", Key),
            same("recipient_key", Key),
            same("recipient", Text),
            same("state", Number),
            same("sent", Number),
            same("since", Number),
        ],
    },
    Table {
        name: "followed",
        rows: "SELECT identificativo, open, about FROM followed",
        columns: &[same("identificativo", Key), same("open", Number), same("about", Octets)],
    },
    Table {
        name: "deadlines",
        rows: "SELECT identificativo, recipient_key, due, second FROM deadlines",
        columns: &[
            same("identificativo", Key),
            same("recipient_key", Key),
            same("due", Number),
            same("second", Number),
        ],
    },
    Table {
        name: "marks",
        rows: "SELECT key, value, made FROM marks",
        columns: &[same("key", Octets), same("value", Octets), same("made", Number)],
    },
    Table {
        name: "quarantine",
        rows: "SELECT id, found, keep_until, blob, infection FROM quarantine",
        columns: &[
            same("id", Number),
            same("found", Number),
            same("keep_until", Number),
            same("blob", Number),
            same("infection", Text),
        ],
    },
    Table {
        name: "log",
        rows: "SELECT number, time, identificativo, record, leaf FROM log",
        columns: &[
            same("number", Number),
            same("time", Number),
            same("identificativo", Key),
            same("record", Octets),
            same("leaf", Octets),
        ],
    },
    Table {
        name: "log_identifiers",
        rows: "SELECT identifier, number FROM log_identifiers",
        columns: &[same("identifier", Key), same("number", Number)],
    },
    Table {
        name: "log_parties",
        rows: "SELECT party, time, number FROM log_parties",
        columns: &[same("party", Key), same("time", Number), same("number", Number)],
    },
    Table {
        name: "seals",
        rows: "SELECT number, first, records, statement, signature, chunks, stamp, expired FROM seals",
        columns: &[
            same("number", Number),
            same("first", Number),
            same("records", Number),
            same("statement", Octets),
            same("signature", Octets),
            same("chunks", Octets),
            same("stamp", Octets),
            same("expired", Number),
        ],
    },
];
