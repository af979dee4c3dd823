//! The grammar of each command line: RFC 5321 §4.1.1 and §4.1.2, RFC 3207 §4, RFC 4954 §4,
//! RFC 3030 §2, RFC 3461 §4, RFC 6533 §3.
//!
//! Stricter than some, and lenient where clients in use need it: verbs and keywords in any case,
//! white space after `MAIL FROM:` and `RCPT TO:` (Outlook) and at the end of a line. Not here:
//! whether a command is in place now, which is [`crate::server`]'s.

use std::fmt;

use mail::address::{Address, Domain, ForwardPath, PATH_OCTETS_MAX, ReversePath};

use crate::dsn::{self, Dsn, ENVID_OCTETS_MAX, Notify, RecipientDsn, Ret};
use crate::reply::{self, Reply};

/// Octets of the name in EHLO or HELO at most: that of a domain, RFC 5321 §4.5.3.1.2.
pub const HELLO_OCTETS_MAX: usize = 255;
/// Parameters of one MAIL or RCPT at most: there are seven that a client could know.
const PARAMETERS_MAX: usize = 16;
/// Digits of a chunk's size at most: with them it is within 64 bits, and far beyond any message.
const CHUNK_SIZE_DIGITS_MAX: usize = 18;

/// A command that is well formed.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// `ehlo = "EHLO" SP ( Domain / address-literal )`. The name is taken as it comes, printable
    /// ASCII or `?` in its place: clients say what they like, and nothing hangs on it.
    Ehlo(String),
    /// `helo = "HELO" SP Domain`
    Helo(String),
    /// `STARTTLS`
    StartTls,
    /// `"AUTH" SP sasl-mech [SP initial-response]`
    Auth {
        /// As it was written.
        mechanism: String,
        /// Not decoded.
        initial: Option<Vec<u8>>,
    },
    /// `mail = "MAIL FROM:" Reverse-path [SP Mail-parameters]`
    Mail {
        /// Where errors go.
        path: ReversePath,
        /// What else it says.
        options: MailOptions,
    },
    /// `rcpt = "RCPT TO:" Forward-path [SP Rcpt-parameters]`
    Rcpt {
        /// Whom it is for.
        path: ForwardPath,
        /// Whether the address was written beyond ASCII, RFC 6531 §3.3: for the session to allow.
        beyond_ascii: bool,
        /// Whether ORCPT was, RFC 6533 §3: likewise.
        orcpt_beyond_ascii: bool,
        /// What its sender asks to be told of it.
        dsn: RecipientDsn,
    },
    /// `DATA`
    Data,
    /// `bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ]`, RFC 3030 §2.
    Bdat {
        /// So many octets follow at once.
        octets: u64,
        /// Whether they are the message's last.
        last: bool,
    },
    /// `RSET`
    Rset,
    /// `NOOP [SP String]`
    Noop,
    /// `QUIT`
    Quit,
    /// `HELP [SP String]`
    Help,
    /// `VRFY SP String`
    Vrfy,
    /// One that exists and that we do not do.
    NotImplemented,
    /// A verb of HTTP: somebody's browser was made to talk to us.
    Http,
}

/// The parameters of MAIL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailOptions {
    /// `SIZE=`, RFC 1870 §6: what the client thinks that it is about to send.
    pub size: Option<u64>,
    /// `BODY=8BITMIME`, RFC 6152 §3.
    pub eight_bit: bool,
    /// `SMTPUTF8`, RFC 6531 §3.4: what follows may be beyond ASCII.
    pub utf8: bool,
    /// RET, ENVID and REQUIRETLS.
    pub dsn: Dsn,
}

/// Without what AUTH carries.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ehlo(name) => f.debug_tuple("Ehlo").field(name).finish(),
            Self::Helo(name) => f.debug_tuple("Helo").field(name).finish(),
            Self::StartTls => f.write_str("StartTls"),
            Self::Auth { mechanism, initial } => f
                .debug_struct("Auth")
                .field("mechanism", mechanism)
                .field("initial", &initial.as_ref().map(|_| "[redacted]"))
                .finish(),
            Self::Mail { path, options } => {
                f.debug_struct("Mail").field("path", path).field("options", options).finish()
            }
            Self::Rcpt { path, beyond_ascii, orcpt_beyond_ascii, dsn } => f
                .debug_struct("Rcpt")
                .field("path", path)
                .field("beyond_ascii", beyond_ascii)
                .field("orcpt_beyond_ascii", orcpt_beyond_ascii)
                .field("dsn", dsn)
                .finish(),
            Self::Data => f.write_str("Data"),
            Self::Bdat { octets, last } => {
                f.debug_struct("Bdat").field("octets", octets).field("last", last).finish()
            }
            Self::Rset => f.write_str("Rset"),
            Self::Noop => f.write_str("Noop"),
            Self::Quit => f.write_str("Quit"),
            Self::Help => f.write_str("Help"),
            Self::Vrfy => f.write_str("Vrfy"),
            Self::NotImplemented => f.write_str("NotImplemented"),
            Self::Http => f.write_str("Http"),
        }
    }
}

impl Command {
    /// Reads one line, without its CRLF.
    ///
    /// # Errors
    ///
    /// The reply that says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        let line = line.trim_ascii_end();
        let verb_end = line.iter().position(|octet| is_blank(*octet)).unwrap_or(line.len());
        let (verb, arguments) = (&line[..verb_end], line[verb_end..].trim_ascii_start());
        let is = |word: &str| verb.eq_ignore_ascii_case(word.as_bytes());
        if is("MAIL") {
            mail(after_keyword(arguments, "FROM:")?)
        } else if is("RCPT") {
            rcpt(after_keyword(arguments, "TO:")?)
        } else if is("EHLO") {
            hello_name(arguments).map(Self::Ehlo)
        } else if is("HELO") {
            hello_name(arguments).map(Self::Helo)
        } else if is("AUTH") {
            auth(arguments)
        } else if is("DATA") {
            alone(arguments, Self::Data)
        } else if is("BDAT") {
            bdat(arguments)
        } else if is("RSET") {
            alone(arguments, Self::Rset)
        } else if is("QUIT") {
            alone(arguments, Self::Quit)
        } else if is("STARTTLS") {
            alone(arguments, Self::StartTls)
        } else if is("NOOP") {
            Ok(Self::Noop)
        } else if is("HELP") {
            Ok(Self::Help)
        } else if is("VRFY") {
            if arguments.is_empty() { Err(reply::BAD_SYNTAX) } else { Ok(Self::Vrfy) }
        } else if ["EXPN", "TURN", "ETRN", "ATRN", "SEND", "SOML", "SAML"].into_iter().any(is) {
            Ok(Self::NotImplemented)
        } else if ["GET", "POST", "PUT", "CONNECT", "OPTIONS"].into_iter().any(is) {
            Ok(Self::Http)
        } else {
            Err(reply::UNKNOWN_COMMAND)
        }
    }
}

fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

fn alone(arguments: &[u8], command: Command) -> Result<Command, Reply> {
    if arguments.is_empty() { Ok(command) } else { Err(reply::NO_ARGUMENTS) }
}

fn hello_name(arguments: &[u8]) -> Result<String, Reply> {
    let strange = |octet: &u8| is_blank(*octet) || octet.is_ascii_control();
    if arguments.is_empty() {
        return Err(reply::NO_HELLO_NAME);
    }
    if arguments.len() > HELLO_OCTETS_MAX || arguments.iter().any(strange) {
        return Err(reply::BAD_SYNTAX);
    }
    let printable = |octet: &u8| if octet.is_ascii() { char::from(*octet) } else { '?' };
    Ok(arguments.iter().map(printable).collect())
}

/// `"AUTH" SP sasl-mech [SP (base64 / "=")]`, RFC 4954 §4.
fn auth(arguments: &[u8]) -> Result<Command, Reply> {
    let mut words = arguments.split(|octet| is_blank(*octet)).filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(reply::BAD_SYNTAX)?;
    let initial = words.next().map(<[u8]>::to_vec);
    if words.next().is_some() {
        return Err(reply::BAD_SYNTAX);
    }
    // A name that is no text is no mechanism: let it be unknown.
    Ok(Command::Auth { mechanism: String::from_utf8_lossy(mechanism).into_owned(), initial })
}

/// What follows `FROM:` or `TO:`, and the white space that some clients put there.
fn after_keyword<'a>(arguments: &'a [u8], keyword: &str) -> Result<&'a [u8], Reply> {
    match arguments.split_at_checked(keyword.len()) {
        Some((word, rest)) if word.eq_ignore_ascii_case(keyword.as_bytes()) => {
            Ok(rest.trim_ascii_start())
        }
        _ => Err(reply::BAD_SYNTAX),
    }
}

/// The parameters of MAIL that are known, whether the session takes them or not.
const MAIL_PARAMETERS: [&str; 7] =
    ["SIZE", "BODY", "AUTH", "RET", "ENVID", "REQUIRETLS", "SMTPUTF8"];

fn mail(arguments: &[u8]) -> Result<Command, Reply> {
    let (path, parameters) = split_path(arguments, &reply::BAD_SENDER)?;
    let beyond_ascii = !path.is_ascii();
    let path = if path.is_empty() {
        ReversePath::Null
    } else {
        let bad = (&reply::BAD_SENDER, &reply::SENDER_LOCAL_PART_NOT_ASCII);
        ReversePath::Address(address(path, bad)?)
    };
    let mut options = MailOptions::default();
    let (mut body, mut auth) = (false, false);
    for parameter in self::parameters(parameters)? {
        let (keyword, value) = parameter;
        let is = |word: &str| keyword.eq_ignore_ascii_case(word);
        let dsn = &mut options.dsn;
        match value {
            Some(value) if is("SIZE") => once(&mut options.size, size_value(value))?,
            Some(value) if is("BODY") && !body => {
                body = true;
                options.eight_bit = value.eq_ignore_ascii_case("8BITMIME");
                if !options.eight_bit && !value.eq_ignore_ascii_case("7BIT") {
                    // BINARYMIME, which is not announced.
                    return Err(reply::UNKNOWN_PARAMETER);
                }
            }
            Some(value) if is("AUTH") && !auth => {
                auth = true;
                auth_value(value)?;
            }
            Some(value) if is("RET") => once(&mut dsn.ret, Ret::parse(value))?,
            Some(value) if is("ENVID") => {
                let good = value.len() <= ENVID_OCTETS_MAX && dsn::is_xtext(value);
                once(&mut dsn.envid, good.then(|| value.to_owned()))?;
            }
            None if is("REQUIRETLS") && !dsn.require_tls => dsn.require_tls = true,
            None if is("SMTPUTF8") && !options.utf8 => options.utf8 = true,
            _ if MAIL_PARAMETERS.into_iter().any(is) => return Err(reply::BAD_SYNTAX),
            _ => return Err(reply::UNKNOWN_PARAMETER),
        }
    }
    if beyond_ascii && !options.utf8 {
        return Err(reply::SENDER_NOT_ASCII);
    }
    Ok(Command::Mail { path, options })
}

fn rcpt(arguments: &[u8]) -> Result<Command, Reply> {
    let (path, parameters) = split_path(arguments, &reply::BAD_RECIPIENT)?;
    let beyond_ascii = !path.is_ascii();
    let path = if path.eq_ignore_ascii_case("postmaster") {
        ForwardPath::Postmaster
    } else {
        let bad = (&reply::BAD_RECIPIENT, &reply::LOCAL_PART_NOT_ASCII);
        ForwardPath::Address(address(path, bad)?)
    };
    let (mut dsn, mut orcpt_beyond_ascii) = (RecipientDsn::default(), false);
    for (keyword, value) in self::parameters(parameters)? {
        let is = |word: &str| keyword.eq_ignore_ascii_case(word);
        match value {
            Some(value) if is("NOTIFY") => once(&mut dsn.notify, Notify::parse(value))?,
            Some(value) if is("ORCPT") => {
                orcpt_beyond_ascii = !value.is_ascii();
                once(&mut dsn.orcpt, dsn::original_recipient(value))?;
            }
            _ if is("NOTIFY") || is("ORCPT") => return Err(reply::BAD_SYNTAX),
            _ => return Err(reply::UNKNOWN_PARAMETER),
        }
    }
    Ok(Command::Rcpt { path, beyond_ascii, orcpt_beyond_ascii, dsn })
}

/// Sets what a parameter says, when it says something and for the first time.
fn once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), Reply> {
    if place.is_some() || value.is_none() {
        return Err(reply::BAD_SYNTAX);
    }
    *place = value;
    Ok(())
}

/// What cannot be read says nothing of where its chunk ends, so nothing behind it can be heard.
fn bdat(arguments: &[u8]) -> Result<Command, Reply> {
    let mut words = arguments.split(|octet| is_blank(*octet)).filter(|word| !word.is_empty());
    let octets = words
        .next()
        .filter(|word| word.len() <= CHUNK_SIZE_DIGITS_MAX && word.iter().all(u8::is_ascii_digit))
        .and_then(|word| std::str::from_utf8(word).ok()?.parse().ok())
        .ok_or(reply::BAD_CHUNK)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
        Some(_) => return Err(reply::BAD_CHUNK),
    };
    if words.next().is_some() {
        return Err(reply::BAD_CHUNK);
    }
    Ok(Command::Bdat { octets, last })
}

/// `Path = "<" [ A-d-l ":" ] Mailbox ">"`: what is between the brackets, and what follows them.
///
/// A `>` inside a quoted string does not end the path.
fn split_path<'a>(arguments: &'a [u8], bad: &Reply) -> Result<(&'a str, &'a [u8]), Reply> {
    let inner = arguments.strip_prefix(b"<").ok_or_else(|| bad.clone())?;
    let (mut quoted, mut escaped) = (false, false);
    let end = inner.iter().position(|octet| {
        let ends = !quoted && *octet == b'>';
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        ends
    });
    let (path, rest) = inner.split_at(end.ok_or_else(|| bad.clone())?);
    let rest = &rest[1..];
    if path.len() + 2 > PATH_OCTETS_MAX || rest.first().is_some_and(|octet| !is_blank(*octet)) {
        return Err(bad.clone());
    }
    Ok((std::str::from_utf8(path).map_err(|_| bad.clone())?, rest))
}

/// An address; a source route in front is checked and ignored, RFC 5321 §4.1.1.3 and appendix C.
///
/// Its domain may have U-labels, RFC 6531 §3.3. Not its local part, which §3.5 lets us refuse: no
/// certified mail could name it (doubt D-10).
fn address(path: &str, (bad, beyond): (&Reply, &Reply)) -> Result<Address, Reply> {
    let mailbox = if path.starts_with('@') {
        let (route, mailbox) = path.split_once(':').ok_or_else(|| bad.clone())?;
        for hop in route.split(',') {
            let hop = hop.strip_prefix('@').ok_or_else(|| bad.clone())?;
            Domain::from_unicode(hop).map_err(|_| bad.clone())?;
        }
        mailbox
    } else {
        path
    };
    if mailbox.rsplit_once('@').is_some_and(|(local, _)| !local.is_ascii()) {
        return Err(beyond.clone());
    }
    Address::from_unicode(mailbox).map_err(|_| bad.clone())
}

/// `Mail-parameters = esmtp-param *(SP esmtp-param)`, `esmtp-param = keyword ["=" value]`.
fn parameters(text: &[u8]) -> Result<Vec<(&str, Option<&str>)>, Reply> {
    let words = text.split(|octet| is_blank(*octet)).filter(|word| !word.is_empty());
    let mut parameters = Vec::new();
    for word in words {
        let word = std::str::from_utf8(word).map_err(|_| reply::BAD_SYNTAX)?;
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let keyword_ok = keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && keyword.starts_with(|c: char| c.is_ascii_alphanumeric());
        // RFC 6533 §3 lets one parameter go beyond ASCII.
        let utf8 = keyword.eq_ignore_ascii_case("ORCPT");
        let character = |b: u8| b.is_ascii_graphic() || (utf8 && !b.is_ascii());
        let value_ok = value.is_none_or(|value| !value.is_empty() && value.bytes().all(character));
        if !keyword_ok || !value_ok || parameters.len() == PARAMETERS_MAX {
            return Err(reply::BAD_SYNTAX);
        }
        parameters.push((keyword, value));
    }
    Ok(parameters)
}

/// `size-value = 1*20DIGIT`, RFC 1870 §6. What passes 64 bits is too large for anybody.
fn size_value(value: &str) -> Option<u64> {
    let good = value.len() <= 20 && value.bytes().all(|b| b.is_ascii_digit());
    good.then(|| value.parse().unwrap_or(u64::MAX))
}

/// `AUTH=` of MAIL, RFC 4954 §5: `<>` or an address as xtext. We trust nobody to vouch for another
/// submitter, so it is checked and then counts as `<>`.
fn auth_value(value: &str) -> Result<(), Reply> {
    if value == "<>" || dsn::is_xtext(value) { Ok(()) } else { Err(reply::BAD_SYNTAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Command {
        let path = match address {
            "" => ReversePath::Null,
            address => ReversePath::Address(Address::parse(address).unwrap()),
        };
        Command::Mail { path, options: MailOptions::default() }
    }

    fn to(address: &str) -> Command {
        let path = ForwardPath::Address(Address::parse(address).unwrap());
        Command::Rcpt {
            path,
            beyond_ascii: false,
            orcpt_beyond_ascii: false,
            dsn: RecipientDsn::default(),
        }
    }

    fn with(change: impl FnOnce(&mut MailOptions)) -> Command {
        let mut options = MailOptions::default();
        change(&mut options);
        let path = ReversePath::Address(Address::parse("a@b.example").unwrap());
        Command::Mail { path, options }
    }

    fn told(notify: Option<&str>, orcpt: Option<&str>) -> Command {
        let notify = notify.map(|text| Notify::parse(text).unwrap());
        let path = ForwardPath::Address(Address::parse("a@b.example").unwrap());
        Command::Rcpt {
            path,
            beyond_ascii: false,
            orcpt_beyond_ascii: false,
            dsn: RecipientDsn { notify, orcpt: orcpt.map(str::to_owned) },
        }
    }

    fn auth(mechanism: &str, initial: Option<&str>) -> Command {
        let initial = initial.map(|text| text.as_bytes().to_vec());
        Command::Auth { mechanism: mechanism.to_owned(), initial }
    }

    #[test]
    fn good_commands() {
        let sized = |size| with(|options| options.size = Some(size));
        let postmaster = Command::Rcpt {
            path: ForwardPath::Postmaster,
            beyond_ascii: false,
            orcpt_beyond_ascii: false,
            dsn: RecipientDsn::default(),
        };
        let table = [
            ("EHLO client.example", Command::Ehlo("client.example".to_owned())),
            ("ehlo [192.0.2.1]  ", Command::Ehlo("[192.0.2.1]".to_owned())),
            ("HELO Ufficio-Tè", Command::Helo("Ufficio-T??".to_owned())),
            ("STARTTLS", Command::StartTls),
            ("AUTH PLAIN", auth("PLAIN", None)),
            ("auth login YW5uYQ== ", auth("login", Some("YW5uYQ=="))),
            ("AUTH  PLAIN  =", auth("PLAIN", Some("="))),
            ("MAIL FROM:<>", from("")),
            ("MAIL FROM:<a@b.example>", from("a@b.example")),
            ("mail from:<a@b.example>", from("a@b.example")),
            ("MAIL From: <a@b.example>", from("a@b.example")),
            ("MAIL\tFROM:  <a@b.example>  ", from("a@b.example")),
            ("MAIL FROM:<@c.example,@d.example:a@b.example>", from("a@b.example")),
            ("MAIL FROM:<a@b.example> SIZE=0", sized(0)),
            ("MAIL FROM:<a@b.example>  size=00000000000000001000 BODY=7bit", sized(1000)),
            ("MAIL FROM:<a@b.example> SIZE=99999999999999999999", sized(u64::MAX)),
            ("MAIL FROM:<a@b.example> AUTH=<>", from("a@b.example")),
            ("MAIL FROM:<a@b.example> auth=e+3Dmc2@c.example", from("a@b.example")),
            ("RCPT TO:<a@b.example>", to("a@b.example")),
            ("rcpt to: <\"a b\"@B.example>", to("\"a b\"@b.example")),
            ("RCPT TO:<\"a>\\\"<b\"@b.example>", to("\"a>\\\"<b\"@b.example")),
            ("RCPT TO:<@c.example:a@b.example>", to("a@b.example")),
            ("RCPT TO:<PostMaster>", postmaster),
            ("MAIL FROM:<a@b.example> RET=full", with(|o| o.dsn.ret = Some(Ret::Full))),
            ("MAIL FROM:<a@b.example> ret=HDRS", with(|o| o.dsn.ret = Some(Ret::Headers))),
            ("MAIL FROM:<a@b.example> ENVID=q+3D1", with(|o| o.dsn.envid = Some("q+3D1".into()))),
            ("MAIL FROM:<a@b.example> RequireTLS", with(|o| o.dsn.require_tls = true)),
            ("MAIL FROM:<a@b.example> BODY=8bitmime", with(|o| o.eight_bit = true)),
            ("MAIL FROM:<a@b.example> smtputf8", with(|o| o.utf8 = true)),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER", told(Some("NEVER"), None)),
            (
                "RCPT TO:<a@b.example> orcpt=rfc822;x@y.example notify=DELAY,success",
                told(Some("SUCCESS,DELAY"), Some("rfc822;x@y.example")),
            ),
            ("DATA", Command::Data),
            ("data \t", Command::Data),
            ("RSET", Command::Rset),
            ("NOOP", Command::Noop),
            ("NOOP anything at all", Command::Noop),
            ("HELP MAIL", Command::Help),
            ("VRFY anna", Command::Vrfy),
            ("QUIT", Command::Quit),
            ("EXPN staff", Command::NotImplemented),
            ("TURN", Command::NotImplemented),
            ("ETRN b.example", Command::NotImplemented),
            ("BDAT 10 LAST", Command::Bdat { octets: 10, last: true }),
            ("bdat 0  last", Command::Bdat { octets: 0, last: true }),
            ("BDAT 007", Command::Bdat { octets: 7, last: false }),
            (
                "BDAT 999999999999999999",
                Command::Bdat { octets: 999_999_999_999_999_999, last: false },
            ),
            ("GET / HTTP/1.1", Command::Http),
        ];
        for (line, command) in table {
            assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn bad_commands_and_what_they_are_told() {
        use crate::reply::*;
        let table = [
            ("", UNKNOWN_COMMAND),
            (" NOOP", UNKNOWN_COMMAND),
            ("NOOPE", UNKNOWN_COMMAND),
            ("X-ANY", UNKNOWN_COMMAND),
            ("MAILFROM:<a@b.example>", UNKNOWN_COMMAND),
            ("EHLO", NO_HELLO_NAME),
            ("HELO ", NO_HELLO_NAME),
            ("EHLO two words", BAD_SYNTAX),
            ("EHLO a\u{7}b", BAD_SYNTAX),
            ("STARTTLS now", NO_ARGUMENTS),
            ("DATA now", NO_ARGUMENTS),
            ("RSET all", NO_ARGUMENTS),
            ("QUIT now", NO_ARGUMENTS),
            ("VRFY", BAD_SYNTAX),
            ("AUTH", BAD_SYNTAX),
            ("AUTH PLAIN a b", BAD_SYNTAX),
            ("MAIL", BAD_SYNTAX),
            ("MAIL TO:<a@b.example>", BAD_SYNTAX),
            ("MAIL FROM <a@b.example>", BAD_SYNTAX),
            ("MAIL FROM:", BAD_SENDER),
            ("MAIL FROM:a@b.example", BAD_SENDER),
            ("MAIL FROM:<a@b.example", BAD_SENDER),
            ("MAIL FROM:<a@b.example>>", BAD_SENDER),
            ("MAIL FROM:<a@b.example>SIZE=1", BAD_SENDER),
            ("MAIL FROM:< a@b.example>", BAD_SENDER),
            ("MAIL FROM:<a>", BAD_SENDER),
            ("MAIL FROM:<postmaster>", BAD_SENDER),
            ("MAIL FROM:<\"a@b.example>", BAD_SENDER),
            ("MAIL FROM:<a@[192.0.2.1]>", BAD_SENDER),
            ("MAIL FROM:<@c.example:>", BAD_SENDER),
            ("MAIL FROM:<@:a@b.example>", BAD_SENDER),
            ("MAIL FROM:<c.example:a@b.example>", BAD_SENDER),
            ("MAIL FROM:<\u{e0}@b.example>", SENDER_LOCAL_PART_NOT_ASCII),
            ("MAIL FROM:<\u{e0}@b.example> SMTPUTF8", SENDER_LOCAL_PART_NOT_ASCII),
            ("RCPT TO:<\u{e0}@b.example>", LOCAL_PART_NOT_ASCII),
            ("MAIL FROM:<a@citt\u{e0}.example>", SENDER_NOT_ASCII),
            ("MAIL FROM:<a@\u{e0} .example> SMTPUTF8", BAD_SENDER),
            ("MAIL FROM:<a@b.example> SMTPUTF8 SMTPUTF8", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> SMTPUTF8=1", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> SIZE", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> SIZE=", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> SIZE=-1", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> SIZE=1 SIZE=2", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> SIZE=000000000000000000001", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> =1", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> AUTH=a+3", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> AUTH=a+3d", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> AUTH=<> AUTH=<>", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> BODY=BINARYMIME", UNKNOWN_PARAMETER),
            ("MAIL FROM:<a@b.example> BODY=7BIT BODY=7BIT", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> RET=ALL", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> RET=FULL RET=FULL", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> RET", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> ENVID=a=b", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> REQUIRETLS=yes", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> REQUIRETLS REQUIRETLS", BAD_SYNTAX),
            ("MAIL FROM:<a@b.example> NOTIFY=NEVER", UNKNOWN_PARAMETER),
            ("RCPT TO:<a@b.example> NOTIFY", BAD_SYNTAX),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER,DELAY", BAD_SYNTAX),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER NOTIFY=NEVER", BAD_SYNTAX),
            ("RCPT TO:<a@b.example> ORCPT=a@b.example", BAD_SYNTAX),
            ("RCPT TO:<a@b.example> ORCPT=rfc822;\u{e0}@b.example", BAD_SYNTAX),
            ("RCPT TO:<a@b.example> ORCPT=utf-8;a+2Bb@b.example", BAD_SYNTAX),
            ("RCPT TO:<a@b.example> NOTIFY=\u{e0}", BAD_SYNTAX),
            ("RCPT TO:<a@b.example> RET=FULL", UNKNOWN_PARAMETER),
            ("BDAT", BAD_CHUNK),
            ("BDAT -1", BAD_CHUNK),
            ("BDAT 1x", BAD_CHUNK),
            ("BDAT 10 FIRST", BAD_CHUNK),
            ("BDAT 10 LAST LAST", BAD_CHUNK),
            ("BDAT 1000000000000000000", BAD_CHUNK),
            ("RCPT TO:", BAD_RECIPIENT),
            ("RCPT TO:<>", BAD_RECIPIENT),
            ("RCPT TO:<a@b..example>", BAD_RECIPIENT),
        ];
        for (line, reply) in table {
            assert_eq!(Command::parse(line.as_bytes()), Err(reply), "{line}");
        }
    }

    #[test]
    fn one_octet_past_each_limit() {
        let label = "b".repeat(63);
        let domain = |last: usize| format!("{label}.{label}.{label}.{}", "c".repeat(last));
        // Two brackets, the at sign, and 256 in all.
        let path = |local: usize| format!("MAIL FROM:<{}@{}>", "a".repeat(local), domain(57));
        assert!(Command::parse(path(4).as_bytes()).is_ok());
        assert_eq!(Command::parse(path(5).as_bytes()), Err(reply::BAD_SENDER));
        let local = |octets: usize| format!("RCPT TO:<{}@b.example>", "a".repeat(octets));
        assert!(Command::parse(local(64).as_bytes()).is_ok());
        assert_eq!(Command::parse(local(65).as_bytes()), Err(reply::BAD_RECIPIENT));
        let hello = |octets: usize| format!("EHLO {}", "a".repeat(octets));
        assert!(Command::parse(hello(HELLO_OCTETS_MAX).as_bytes()).is_ok());
        assert_eq!(Command::parse(hello(HELLO_OCTETS_MAX + 1).as_bytes()), Err(reply::BAD_SYNTAX));
        let envid = |octets: usize| format!("MAIL FROM:<> ENVID={}", "a".repeat(octets));
        assert!(Command::parse(envid(ENVID_OCTETS_MAX).as_bytes()).is_ok());
        assert_eq!(Command::parse(envid(ENVID_OCTETS_MAX + 1).as_bytes()), Err(reply::BAD_SYNTAX));
        // There are not so many that could be taken, so the first is one that nobody knows.
        let many = |count: usize| format!("MAIL FROM:<>{}", " X=1".repeat(count));
        let unknown = Err(reply::UNKNOWN_PARAMETER);
        assert_eq!(Command::parse(many(PARAMETERS_MAX).as_bytes()), unknown);
        assert_eq!(Command::parse(many(PARAMETERS_MAX + 1).as_bytes()), Err(reply::BAD_SYNTAX));
    }

    #[test]
    fn what_auth_carries_is_not_printed() {
        let printed = format!("{:?}", Command::parse(b"AUTH PLAIN c2VjcmV0").unwrap());
        assert_eq!(printed, "Auth { mechanism: \"PLAIN\", initial: Some(\"[redacted]\") }");
    }

    #[test]
    fn one_digit_past_the_bound_is_no_size_of_a_chunk() {
        let said =
            |digits: usize| Command::parse(format!("BDAT {}", "9".repeat(digits)).as_bytes());
        assert!(matches!(said(CHUNK_SIZE_DIGITS_MAX), Ok(Command::Bdat { .. })));
        assert_eq!(said(CHUNK_SIZE_DIGITS_MAX + 1).unwrap_err(), reply::BAD_CHUNK);
    }
}
