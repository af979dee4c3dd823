//! Addresses and the two paths of an SMTP transaction.
//!
//! RFC 5321 §4.1.2 (`Mailbox`, `Reverse-path`, `Forward-path`). Not here: display names, groups and
//! comments of header fields, which are in [`crate::message`].

use std::fmt;
use std::hash::{Hash, Hasher};

/// Octets of a local part at most, RFC 5321 §4.5.3.1.1.
pub const LOCAL_OCTETS_MAX: usize = 64;
/// Octets of a domain at most, RFC 5321 §4.5.3.1.2.
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// Octets of a path with its angle brackets at most, RFC 5321 §4.5.3.1.3.
pub const PATH_OCTETS_MAX: usize = 256;

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`, or nothing on one side of it.
    #[error("an address is local-part@domain")]
    Shape,
    /// The local part is neither a dot-string nor a quoted string of printable ASCII.
    #[error("the local part has a character that is not allowed")]
    LocalPart,
    /// The domain is neither labels of letters, digits and hyphens, nor an address literal.
    #[error("the domain is not valid")]
    Domain,
    /// One of the limits above is passed.
    #[error("the address is too long")]
    TooLong,
}

/// A domain name, in ASCII; kept in lower case, since case never matters in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

impl Domain {
    /// Reads a domain name of letter-digit-hyphen labels (RFC 5321 §4.1.2 `Domain`).
    ///
    /// # Errors
    ///
    /// [`AddressError::Domain`] or [`AddressError::TooLong`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > DOMAIN_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if text.is_empty() || !text.split('.').all(label_ok) {
            return Err(AddressError::Domain);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// As [`parse`](Self::parse), of a name that may have U-labels (RFC 5890 §2.3.2.1): they become
    /// A-labels, as all that travels has them.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse); a label that IDNA does not allow is [`AddressError::Domain`].
    pub fn from_unicode(text: &str) -> Result<Self, AddressError> {
        if text.is_ascii() {
            return Self::parse(text);
        }
        if text.len() > DOMAIN_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        Self::parse(&idna::domain_to_ascii(text).map_err(|_| AddressError::Domain)?)
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address, `local-part@domain` (RFC 5321 §4.1.2 `Mailbox`).
///
/// It keeps the local part as it was written. Two addresses are equal when both parts are, case
/// aside (PEC-AP-11); so are their order and their hash.
#[derive(Debug, Clone)]
pub struct Address {
    /// As written, with quotes when it was quoted and needs them.
    local: String,
    domain: Domain,
}

impl Address {
    /// Reads a whole `local-part@domain`, with nothing around it.
    ///
    /// A quoted local part that needs no quotes loses them, so that `"a"@b` equals `a@b`. Address
    /// literals (`user@[192.0.2.1]`) are refused: no PEC domain is one.
    ///
    /// # Errors
    ///
    /// Any [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = text.rfind('@').ok_or(AddressError::Shape)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.is_empty() || domain.is_empty() {
            return Err(AddressError::Shape);
        }
        if text.len() + "<>".len() > PATH_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        Ok(Self { local: canonical_local(local)?, domain: Domain::parse(domain)? })
    }

    /// As [`parse`](Self::parse), of an address whose domain may have U-labels, as RFC 6531 §3.3
    /// lets them stand in a path.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse): the local part is ASCII here too.
    pub fn from_unicode(text: &str) -> Result<Self, AddressError> {
        let at = text.rfind('@').ok_or(AddressError::Shape)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if text.is_ascii() || domain.is_empty() {
            return Self::parse(text);
        }
        if text.len() + "<>".len() > PATH_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        Self::parse(&format!("{local}@{}", Domain::from_unicode(domain)?))
    }

    /// The local part, as written.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    fn key(&self) -> (String, &str) {
        (self.local.to_ascii_lowercase(), self.domain.as_str())
    }
}

fn canonical_local(local: &str) -> Result<String, AddressError> {
    if local.len() > LOCAL_OCTETS_MAX {
        return Err(AddressError::TooLong);
    }
    let Some(inner) = local.strip_prefix('"') else {
        return if is_dot_string(local) {
            Ok(local.to_owned())
        } else {
            Err(AddressError::LocalPart)
        };
    };
    let inner = inner.strip_suffix('"').ok_or(AddressError::LocalPart)?;
    let mut plain = String::with_capacity(inner.len());
    let mut octets = inner.chars();
    while let Some(c) = octets.next() {
        let c = match c {
            '\\' => octets.next().ok_or(AddressError::LocalPart)?,
            '"' => return Err(AddressError::LocalPart),
            c => c,
        };
        if !(' '..='~').contains(&c) {
            return Err(AddressError::LocalPart);
        }
        plain.push(c);
    }
    Ok(if is_dot_string(&plain) { plain } else { local.to_owned() })
}

/// `Dot-string = Atom *("." Atom)`, RFC 5321 §4.1.2.
fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

/// `atext`, RFC 5322 §3.2.3.
pub(crate) fn is_atext(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.domain == other.domain && self.local.eq_ignore_ascii_case(&other.local)
    }
}

impl Eq for Address {}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// Where errors about a message go: the argument of MAIL FROM (RFC 5321 §4.1.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReversePath {
    /// `<>`: of a message that nobody shall answer.
    Null,
    /// The sender.
    Address(Address),
}

/// Where a message goes: the argument of RCPT TO (RFC 5321 §4.1.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardPath {
    /// `<postmaster>`, the one path without a domain.
    Postmaster,
    /// A recipient.
    Address(Address),
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, expected) in [
            ("mario.rossi@pec.example", "mario.rossi@pec.example"),
            ("Mario@PEC.Example", "Mario@pec.example"),
            ("o'neil+tag/x=y@b", "o'neil+tag/x=y@b"),
            ("\"a\"@b", "a@b"),
            ("\"a.b\"@b", "a.b@b"),
            ("\"a\\b\"@b", "ab@b"),
            ("\"a b\"@b", "\"a b\"@b"),
            ("\"a@b\"@c", "\"a@b\"@c"),
            ("\".a\"@b", "\".a\"@b"),
            ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
            ("a@b_c.1x", "a@b_c.1x"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), expected);
            assert_eq!(Address::parse(expected), Ok(address));
        }
    }

    #[test]
    fn a_domain_beyond_ascii_becomes_what_travels() {
        for (text, expected) in [
            ("Mario@Citt\u{e0}.example", Ok("Mario@xn--citt-3na.example")),
            ("mario@b.example", Ok("mario@b.example")),
            ("nicol\u{f2}@b.example", Err(AddressError::LocalPart)),
            ("nicol\u{f2}@citt\u{e0}.example", Err(AddressError::LocalPart)),
            ("a@\u{e8}..example", Err(AddressError::Domain)),
            ("a@\u{200b}\u{e8} .example", Err(AddressError::Domain)),
            ("citt\u{e0}.example", Err(AddressError::Shape)),
            ("a@", Err(AddressError::Shape)),
        ] {
            let read = Address::from_unicode(text).map(|address| address.to_string());
            assert_eq!(read.as_deref().map_err(|error| *error), expected, "{text}");
        }
        let long = |octets: usize| format!("a@{}", "\u{e8}".repeat(octets / 2));
        assert_eq!(Address::from_unicode(&long(254)), Err(AddressError::TooLong));
        assert_eq!(Domain::from_unicode(&"\u{e8}".repeat(128)), Err(AddressError::TooLong));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        use AddressError::{Domain, LocalPart, Shape};
        for (text, expected) in [
            ("", Shape),
            ("a", Shape),
            ("@b", Shape),
            ("a@", Shape),
            ("a b@c", LocalPart),
            (".a@b", LocalPart),
            ("a..b@c", LocalPart),
            ("a.@b", LocalPart),
            ("a@b@c", LocalPart),
            ("\"a@b", LocalPart),
            ("\"@b", LocalPart),
            ("\"a\\\"@b", LocalPart),
            ("\"a\"b\"@c", LocalPart),
            ("\"a\u{8}\"@b", LocalPart),
            ("\u{e8}@b", LocalPart),
            ("a\r\n@b", LocalPart),
            ("<a@b>", LocalPart),
            ("a@b>", Domain),
            ("a@b.", Domain),
            ("a@.b", Domain),
            ("a@-b", Domain),
            ("a@b-", Domain),
            ("a@b c", Domain),
            ("a@\u{e8}", Domain),
            ("a@[192.0.2.1]", Domain),
        ] {
            assert_eq!(Address::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn each_length_is_bounded() {
        let local = "x".repeat(LOCAL_OCTETS_MAX);
        assert!(Address::parse(&format!("{local}@b")).is_ok());
        assert_eq!(Address::parse(&format!("{local}x@b")), Err(AddressError::TooLong));
        let label = "y".repeat(63);
        assert!(Domain::parse(&label).is_ok());
        assert_eq!(Domain::parse(&format!("{label}y")), Err(AddressError::Domain));
        let domain = vec![label; 4].join(".");
        assert_eq!(domain.len(), DOMAIN_OCTETS_MAX);
        assert!(Domain::parse(&domain).is_ok());
        assert_eq!(Domain::parse(&format!("{domain}.z")), Err(AddressError::TooLong));
        // A path counts its angle brackets.
        let domain = &domain[DOMAIN_OCTETS_MAX + 4 - PATH_OCTETS_MAX..];
        assert!(Address::parse(&format!("a@{domain}")).is_ok());
        assert_eq!(Address::parse(&format!("ab@{domain}")), Err(AddressError::TooLong));
    }

    // PEC-AP-11
    #[test]
    fn addresses_are_equal_whatever_their_case() {
        let addresses = ["Mario@PEC.example", "mario@pec.EXAMPLE", "\"MARIO\"@pec.example"];
        let addresses = addresses.map(|text| Address::parse(text).unwrap());
        assert!(addresses.iter().all(|address| *address == addresses[0]));
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 1);
        assert!(addresses.iter().all(|address| address.cmp(&addresses[0]).is_eq()));
        assert_eq!(addresses[0].local(), "Mario");
        assert_ne!(addresses[0], Address::parse("maria@pec.example").unwrap());
        assert_ne!(addresses[0], Address::parse("mario@pec.example.it").unwrap());
    }
}
