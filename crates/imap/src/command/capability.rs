//! CAPABILITY: what is announced, and when. RFC 3501 §6.1.1.
//!
//! Announced is only what is complete. XLIST is answered and not announced.

use crate::sasl::Mechanism;
use crate::session::Settings;

/// `capability-data`, without its first word.
pub(crate) fn list(settings: &Settings, tls: bool, binds: bool, authenticated: bool) -> String {
    let mut words = vec!["IMAP4rev1".to_owned(), "IMAP4rev2".to_owned()];
    let mut say = |all: &[&str]| words.extend(all.iter().map(|&word| word.to_owned()));
    say(&["LITERAL+", "SASL-IR", "ID", "ENABLE", "IDLE", "NAMESPACE", "CHILDREN", "UNSELECT"]);
    say(&["UIDPLUS", "MOVE", "SPECIAL-USE", "CREATE-SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS"]);
    say(&["QUOTA", "QUOTA=RES-STORAGE"]);
    say(&[
        "QUOTA=RES-MESSAGE",
        "STATUS=SIZE",
        "ESEARCH",
        "SEARCHRES",
        "WITHIN",
        "CONDSTORE",
        "QRESYNC",
    ]);
    say(&[
        "SAVEDATE",
        "BINARY",
        "MULTIAPPEND",
        "REPLACE",
        "UTF8=ACCEPT",
        "OBJECTID",
        "PREVIEW",
        "PARTIAL",
        "UIDONLY",
        "INPROGRESS",
        "METADATA",
        "LIST-METADATA",
        "NOTIFY",
        "SORT",
        "SORT=DISPLAY",
        "ESORT",
        "THREAD=ORDEREDSUBJECT",
        "THREAD=REFERENCES",
    ]);
    // The same for all mailboxes: RFC 7889 §2.
    words.push(format!("APPENDLIMIT={}", settings.append_octets_max));
    words.push(format!("MESSAGELIMIT={}", settings.command_messages_max));
    // RFC 9738 §3 has SAVELIMIT for who has no other limit. COPY and APPEND take fewer here than the rest,
    // and who knows the word should not have to be told by a NO.
    if settings.saved_max() < settings.command_messages_max {
        words.push(format!("SAVELIMIT={}", settings.saved_messages_max));
    }
    let mut say = |all: &[&str]| words.extend(all.iter().map(|&word| word.to_owned()));
    if !tls {
        // Credentials in clear are refused: RFC 3501 §6.2.3.
        say(&["STARTTLS", "LOGINDISABLED"]);
    } else if !authenticated {
        let mechanisms = Mechanism::offered(binds);
        words.extend(mechanisms.map(|mechanism| format!("AUTH={}", mechanism.as_str())));
    } else {
        // Only now, when it can be used: RFC 4978 §3, RFC 8437 §3.
        words.push("COMPRESS=DEFLATE".to_owned());
        if settings.unauthenticate {
            words.push("UNAUTHENTICATE".to_owned());
        }
    }
    words.join(" ")
}
