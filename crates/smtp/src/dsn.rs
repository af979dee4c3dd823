//! What a sender asks to be told, and how: the parameters of RFC 3461 §4, read, kept as they came,
//! and written again for the next hop.

use std::fmt;

/// Characters of an envelope identifier at most: RFC 3461 §4.4.
pub const ENVID_OCTETS_MAX: usize = 100;
/// Characters of an original recipient at most: RFC 3461 §4.2.
pub const ORCPT_OCTETS_MAX: usize = 500;

/// What MAIL says of a transaction: RFC 3461 §4.3 and §4.4, RFC 8689 §2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dsn {
    /// `RET`: how much of the message a notification gives back.
    pub ret: Option<Ret>,
    /// `ENVID`: xtext of at most [`ENVID_OCTETS_MAX`], as it came.
    pub envid: Option<String>,
    /// `REQUIRETLS`: no hop without TLS.
    pub require_tls: bool,
}

/// `RET=FULL` or `RET=HDRS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header only.
    Headers,
}

/// What RCPT says of one recipient: RFC 3461 §4.1 and §4.2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipientDsn {
    /// `NOTIFY`: on what the sender is told.
    pub notify: Option<Notify>,
    /// `ORCPT`: address type, `;` and xtext, at most [`ORCPT_OCTETS_MAX`], as it came.
    pub orcpt: Option<String>,
}

/// `NOTIFY`. None of the three is `NEVER`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notify {
    /// When it has arrived.
    pub success: bool,
    /// When it will not.
    pub failure: bool,
    /// When it takes long.
    pub delay: bool,
}

impl Ret {
    /// `"FULL" / "HDRS"`, in any case.
    pub fn parse(value: &str) -> Option<Self> {
        [Self::Full, Self::Headers].into_iter().find(|ret| ret.as_str().eq_ignore_ascii_case(value))
    }

    /// The one place these words are spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

impl Notify {
    /// Nothing at all: `NEVER`.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };

    /// `"NEVER" / 1#( "SUCCESS" / "FAILURE" / "DELAY" )`, in any case, each once.
    pub fn parse(value: &str) -> Option<Self> {
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(Self::NEVER);
        }
        let mut notify = Self::NEVER;
        for word in value.split(',') {
            let flag = match word {
                word if word.eq_ignore_ascii_case("SUCCESS") => &mut notify.success,
                word if word.eq_ignore_ascii_case("FAILURE") => &mut notify.failure,
                word if word.eq_ignore_ascii_case("DELAY") => &mut notify.delay,
                _ => return None,
            };
            if std::mem::replace(flag, true) {
                return None;
            }
        }
        Some(notify)
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let mut words = all.into_iter().filter_map(|(asked, word)| asked.then_some(word));
        f.write_str(words.next().unwrap_or("NEVER"))?;
        words.try_for_each(|word| write!(f, ",{word}"))
    }
}

/// As parameters of MAIL, each with a space before it. `REQUIRETLS` is not among them: whether it
/// can be said is for the one who says it to decide.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ret) = self.ret {
            write!(f, " RET={}", ret.as_str())?;
        }
        if let Some(envid) = &self.envid {
            write!(f, " ENVID={envid}")?;
        }
        Ok(())
    }
}

/// As parameters of RCPT, each with a space before it.
impl fmt::Display for RecipientDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(notify) = self.notify {
            write!(f, " NOTIFY={notify}")?;
        }
        if let Some(orcpt) = &self.orcpt {
            write!(f, " ORCPT={orcpt}")?;
        }
        Ok(())
    }
}

/// What xtext stands for (RFC 3461 §4); nothing when that is not printable ASCII, and has no place in
/// a field of a report then.
pub fn decoded(xtext: &str) -> Option<String> {
    let (mut text, mut rest) = (String::with_capacity(xtext.len()), xtext);
    while let Some((plain, coded)) = rest.split_once('+') {
        text.push_str(plain);
        text.push(char::from(u8::from_str_radix(coded.get(..2)?, 16).ok()?));
        rest = &coded[2..];
    }
    text.push_str(rest);
    text.chars().all(|c| matches!(c, ' '..='~')).then_some(text)
}

/// `xtext = *( xchar / hexchar )`, RFC 3461 §4.
pub(crate) fn is_xtext(value: &str) -> bool {
    let upper_hex = |b: Option<u8>| matches!(b, Some(b'0'..=b'9' | b'A'..=b'F'));
    let mut octets = value.bytes();
    while let Some(octet) = octets.next() {
        let good = match octet {
            b'+' => upper_hex(octets.next()) && upper_hex(octets.next()),
            b'=' => false,
            _ => octet.is_ascii_graphic(),
        };
        if !good {
            return false;
        }
    }
    true
}

/// `addr-type ";" xtext`, where the type is an atom.
pub(crate) fn is_original_recipient(value: &str) -> bool {
    value.len() <= ORCPT_OCTETS_MAX
        && value.split_once(';').is_some_and(|(kind, address)| {
            let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
            !kind.is_empty() && kind.bytes().all(atom) && !address.is_empty() && is_xtext(address)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        for text in ["NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,FAILURE,DELAY"] {
            assert_eq!(Notify::parse(text).map(|notify| notify.to_string()).as_deref(), Some(text));
            assert_eq!(Notify::parse(&text.to_lowercase()), Notify::parse(text));
        }
        assert_eq!(Notify::parse("DELAY,FAILURE").unwrap().to_string(), "FAILURE,DELAY");
        for bad in ["", "NEVER,DELAY", "DELAY,DELAY", "DELAY,", "ALWAYS", "SUCCESS FAILURE"] {
            assert_eq!(Notify::parse(bad), None, "{bad:?}");
        }
        let dsn =
            Dsn { ret: Ret::parse("hdrs"), envid: Some("QQ314159".to_owned()), require_tls: true };
        assert_eq!(dsn.to_string(), " RET=HDRS ENVID=QQ314159");
        assert_eq!(Dsn::default().to_string(), "");
        let orcpt = Some("rfc822;Bob@Big-Bucks.example".to_owned());
        let recipient = RecipientDsn { notify: Some(Notify::NEVER), orcpt };
        assert_eq!(recipient.to_string(), " NOTIFY=NEVER ORCPT=rfc822;Bob@Big-Bucks.example");
    }

    #[test]
    fn xtext_is_decoded_where_it_stays_on_its_line() {
        for (xtext, text) in [
            ("", Some("")),
            ("QQ314159", Some("QQ314159")),
            ("+2Ba+3D+20+7E", Some("+a= ~")),
            ("a+0D+0ATo:", None),
            ("+C3+A8", None),
            ("+7F", None),
            ("+", None),
            ("a+2", None),
            ("+2\u{e8}", None),
        ] {
            assert_eq!(decoded(xtext).as_deref(), text, "{xtext}");
        }
    }

    #[test]
    fn an_original_recipient_has_a_type_and_xtext() {
        for good in ["rfc822;a@b.example", "rfc822;a+2Bb@b.example", "x-y;+3D"] {
            assert!(is_original_recipient(good), "{good}");
        }
        for bad in
            ["", "rfc822", ";a", "rfc822;", "rfc822;a=b", "rfc822;a+2b", "rfc822;a+", "r c;a"]
        {
            assert!(!is_original_recipient(bad), "{bad}");
        }
        let long = |octets: usize| format!("rfc822;{}", "a".repeat(octets - "rfc822;".len()));
        assert!(is_original_recipient(&long(ORCPT_OCTETS_MAX)));
        assert!(!is_original_recipient(&long(ORCPT_OCTETS_MAX + 1)));
    }
}
