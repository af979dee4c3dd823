//! What a sender asks to be told, and how: the parameters of RFC 3461 §4, read, kept as they came,
//! and written again for the next hop.

mod utf8;

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
    /// `ORCPT`: address type, `;` and xtext, at most [`ORCPT_OCTETS_MAX`], as it came; of the type `utf-8`
    /// in ASCII, however it came (RFC 6533 §3).
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

/// `addr-type ";" xtext`, where the type is an atom; or `"utf-8;" utf-8-enc-addr` (RFC 6533 §3): as it is
/// kept, in ASCII.
pub(crate) fn original_recipient(value: &str) -> Option<String> {
    let (kind, address) = value.split_once(';')?;
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    if value.len() > ORCPT_OCTETS_MAX || kind.is_empty() || !kind.bytes().all(atom) {
        return None;
    }
    let address = if is_utf8(kind) {
        utf8::in_ascii(address)?
    } else {
        (!address.is_empty() && is_xtext(address)).then(|| address.to_owned())?
    };
    let kept = format!("{kind};{address}");
    // Hosts that it is passed on to have the same bound.
    (kept.len() <= ORCPT_OCTETS_MAX).then_some(kept)
}

/// Whether an address type is that of RFC 6533 §3, in whose addresses xtext has no part.
fn is_utf8(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("utf-8")
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
        for good in ["rfc822;a@b.example", "rfc822;a+2Bb@b.example", "x-y;+3D", "utf-8x;+3D"] {
            assert_eq!(original_recipient(good).as_deref(), Some(good));
        }
        for bad in [
            "",
            "rfc822",
            ";a",
            "rfc822;",
            "rfc822;a=b",
            "rfc822;a+2b",
            "rfc822;a+",
            "r c;a",
            "x;\u{e8}",
        ] {
            assert_eq!(original_recipient(bad), None, "{bad}");
        }
        let long = |octets: usize| format!("rfc822;{}", "a".repeat(octets - "rfc822;".len()));
        assert!(original_recipient(&long(ORCPT_OCTETS_MAX)).is_some());
        assert_eq!(original_recipient(&long(ORCPT_OCTETS_MAX + 1)), None);
    }

    // RFC 6533 §3
    #[test]
    fn an_original_recipient_beyond_ascii_is_kept_in_ascii() {
        let kept = original_recipient("UTF-8;nicol\u{f2}@b.example");
        assert_eq!(kept.as_deref(), Some("UTF-8;nicol\\x{F2}@b.example"));
        for bad in ["utf-8;", "utf-8;a+2Bb@b.example", "utf-8;a", "utf-8;\\x{41}@b.example"] {
            assert_eq!(original_recipient(bad), None, "{bad}");
        }
        // It may be longer in ASCII than it came: one character past the bound is refused.
        let label = "\u{e0}".repeat(40);
        let long = |local: &str| format!("utf-8;{local}@{label}.{label}.example");
        let kept = original_recipient(&long("xxxx")).unwrap();
        assert_eq!(kept.len(), ORCPT_OCTETS_MAX);
        assert_eq!(original_recipient(&long("xxxxx")), None);
    }
}
