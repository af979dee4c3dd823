//! What a client has asked this server to do otherwise than a plain IMAP4rev1 server does.
//!
//! ENABLE, RFC 5161 §3.1 and RFC 9051 §6.3.1; commands that enable CONDSTORE too, RFC 7162 §3.1.

/// What is enabled. Nothing is ever disabled again, until the client has signed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Enabled {
    /// Mod-sequences are told: RFC 7162 §3.1.
    pub(crate) condstore: bool,
    /// Expunged messages are told by their UIDs: RFC 7162 §3.2.10.
    pub(crate) qresync: bool,
    /// IMAP4rev2: RFC 9051 Appendix E lists what is otherwise.
    pub(crate) rev2: bool,
    /// UTF8=ACCEPT: RFC 9755 §3.
    pub(crate) utf8: bool,
    /// UIDONLY: no message sequence numbers, RFC 9586 §3.
    pub(crate) uid_only: bool,
}

impl Enabled {
    /// What can be enabled, in the order in which it is told.
    const WORDS: [&'static str; 5] =
        ["CONDSTORE", "QRESYNC", "IMAP4rev2", "UTF8=ACCEPT", "UIDONLY"];

    /// What these names enable; others are passed over, RFC 5161 §3.1.
    pub(crate) fn of<'w>(words: impl Iterator<Item = &'w str>) -> Self {
        let mut enabled = Self::default();
        for word in words {
            match Self::WORDS.into_iter().find(|known| known.eq_ignore_ascii_case(word)) {
                Some("CONDSTORE") => enabled.condstore = true,
                Some("QRESYNC") => enabled.qresync = true,
                Some("IMAP4rev2") => enabled.rev2 = true,
                Some("UTF8=ACCEPT") => enabled.utf8 = true,
                Some("UIDONLY") => enabled.uid_only = true,
                _ => {}
            }
        }
        enabled
    }

    /// The same as words, each with a space before it.
    pub(crate) fn words(self) -> String {
        let asked = [self.condstore, self.qresync, self.rev2, self.utf8, self.uid_only];
        let words = Self::WORDS.into_iter().zip(asked).filter(|(_, asked)| *asked);
        words.map(|(word, _)| format!(" {word}")).collect()
    }

    /// Both.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            // QRESYNC is nothing without CONDSTORE: RFC 7162 §3.2.3.
            condstore: self.condstore || other.condstore || self.qresync || other.qresync,
            qresync: self.qresync || other.qresync,
            rev2: self.rev2 || other.rev2,
            utf8: self.utf8 || other.utf8,
            uid_only: self.uid_only || other.uid_only,
        }
    }

    /// Whether names and strings are UTF-8 on the wire, and no modified UTF-7: RFC 9051 §5.1, RFC 9755 §3.
    pub(crate) fn speaks_utf8(self) -> bool {
        self.rev2 || self.utf8
    }

    /// Whether what is expunged is told by UID: RFC 7162 §3.2.10, RFC 9586 §3.5.
    pub(crate) fn vanishes(self) -> bool {
        self.qresync || self.uid_only
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_enabled() {
        let enabled = Enabled::of(["x", "qresync", "UTF8=ONLY", "imap4REV2"].into_iter());
        assert_eq!(enabled.words(), " QRESYNC IMAP4rev2");
        assert!(Enabled::default().and(enabled).condstore);
    }
}
