//! A header field that says something beyond ASCII (RFC 6532 §3), written in ASCII: encoded words in
//! what people read (RFC 2047), A-labels in domains (RFC 5890 §2.3.2.1), RFC 2231 §4 in parameters.
//!
//! What the field says stays. A field in which no such form is allowed is not written anew.

use std::fmt::Write as _;

use crate::Domain;
use crate::message::{Field, encode_phrase, encode_words, strict_address_list, write_field};

/// Fields of addresses, RFC 5322 §3.6.2, §3.6.3 and §3.6.6.
const ADDRESSES: [&str; 11] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "resent-bcc",
];
/// Fields with parameters, RFC 2045 §5.1 and RFC 2183 §2.
const PARAMETERS: [&str; 2] = ["content-type", "content-disposition"];
/// Parameters by which a structure is read: they are ASCII or nothing can be done.
const KEPT_PARAMETERS: [&str; 2] = ["boundary", "charset"];
/// Fields whose grammar has no place for text beyond ASCII.
const KEPT: [&str; 14] = [
    "authentication-results",
    "content-id",
    "content-transfer-encoding",
    "date",
    "dkim-signature",
    "in-reply-to",
    "message-id",
    "mime-version",
    "received",
    "references",
    "resent-date",
    "resent-message-id",
    "return-path",
    "x-tiporicevuta",
];

/// The field in ASCII, with its line end; none when it is no UTF-8 or cannot be written so.
pub(super) fn ascii_field(field: &Field<'_>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(field.value).ok()?;
    let is_among = |names: &[&str]| names.iter().any(|name| field.name.eq_ignore_ascii_case(name));
    let column = field.name.len() + ": ".len();
    let value = if is_among(&ADDRESSES) {
        addresses(text, column)?
    } else if is_among(&PARAMETERS) {
        parameters(&field.unfolded())?
    } else if is_among(&KEPT) {
        return None;
    } else {
        encode_words(&field.decoded(), column)
    };
    let mut out = Vec::with_capacity(field.octets.len() * 2);
    write_field(&mut out, field.name, &value);
    Some(out)
}

/// An address list, one mailbox a line; groups are flattened, comments gone.
fn addresses(text: &str, column: usize) -> Option<String> {
    let mailboxes = strict_address_list(ascii_domains(text)?.as_bytes()).ok()?;
    let written = mailboxes.iter().enumerate().map(|(index, mailbox)| {
        let column = if index == 0 { column } else { " ".len() };
        match &mailbox.name {
            Some(name) => format!("{} <{}>", encode_phrase(name, column), mailbox.address),
            None => mailbox.address.to_string(),
        }
    });
    Some(written.collect::<Vec<_>>().join(",\r\n "))
}

/// The list with A-labels where a domain has U-labels.
fn ascii_domains(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped, mut comments) = (false, false, 0_usize);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        out.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted || comments > 0 => escaped = true,
            '"' if comments == 0 => quoted = !quoted,
            '(' if !quoted => comments += 1,
            ')' if !quoted => comments = comments.saturating_sub(1),
            '@' if !quoted && comments == 0 => {
                let is_end = |c: char| c.is_ascii_whitespace() || "<>()[]:;@\\,\"".contains(c);
                let (domain, after) = rest.split_at(rest.find(is_end).unwrap_or(rest.len()));
                if domain.is_ascii() {
                    out.push_str(domain);
                } else {
                    out.push_str(Domain::from_unicode(domain).ok()?.as_str());
                }
                rest = after;
            }
            _ => {}
        }
    }
    Some(out)
}

/// A value and its parameters, one a line; those beyond ASCII as RFC 2231 §4 has them.
fn parameters(text: &str) -> Option<String> {
    let mut parts = parts(text).into_iter();
    let mut out = parts.next().filter(|kind| kind.is_ascii())?.trim().to_owned();
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        out.push_str(";\r\n ");
        if part.is_ascii() {
            out.push_str(part);
            continue;
        }
        let (name, value) = part.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_token = !name.is_empty() && name.bytes().all(is_attribute);
        if !is_token || KEPT_PARAMETERS.iter().any(|kept| name.eq_ignore_ascii_case(kept)) {
            return None;
        }
        let _ = write!(out, "{name}*=UTF-8''");
        for octet in unquoted(value)?.bytes() {
            // Writing into a String never fails.
            let _ = match is_attribute(octet) {
                true => write!(out, "{}", char::from(octet)),
                false => write!(out, "%{octet:02X}"),
            };
        }
    }
    Some(out)
}

/// What stands between semicolons that are in no quoted string.
fn parts(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        let ends = c == ';' && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        ends
    })
    .collect()
}

/// A token as it is, or a quoted string without quotes and backslashes.
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return (!value.contains(['"', '(', ')'])).then(|| value.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            '"' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// Of `attribute-char` (RFC 2231 §7) what nobody reads otherwise.
fn is_attribute(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn written(field: &str) -> Option<String> {
        let message = format!("{field}\r\n\r\n");
        let message = Message::parse(message.as_bytes()).unwrap();
        ascii_field(&message.fields()[0]).map(|octets| String::from_utf8(octets).unwrap())
    }

    #[test]
    fn what_people_read_becomes_encoded_words() {
        for (before, after) in [
            (
                "Subject: Perch\u{e9} la citt\u{e0} tace",
                "Subject: =?utf-8?Q?Perch=C3=A9_la_citt=C3=A0?= tace\r\n",
            ),
            ("X-Nota: gi\u{e0}\r\n  fatto", "X-Nota: =?utf-8?Q?gi=C3=A0_?= fatto\r\n"),
            // What was encoded already is not encoded twice.
            (
                "Subject: =?utf-8?q?gi=C3=A0?= fatt\u{f2}",
                "Subject: =?utf-8?Q?gi=C3=A0_fatt=C3=B2?=\r\n",
            ),
        ] {
            assert_eq!(written(before).as_deref(), Some(after), "{before}");
        }
    }

    #[test]
    fn addresses_keep_their_order_and_get_a_labels() {
        for (before, after) in [
            (
                "To: Citt\u{e0} di Forl\u{ec} <protocollo@citt\u{e0}.example>, b@c.example",
                "To: =?utf-8?Q?Citt=C3=A0_di_Forl=C3=AC?= <protocollo@xn--citt-3na.example>,\r\n \
                 b@c.example\r\n",
            ),
            (
                "From: \"Rossi, Nicol\u{f2}\" <nicolo@b.example>",
                "From: =?utf-8?Q?Rossi=2C_Nicol=C3=B2?= <nicolo@b.example>\r\n",
            ),
            // A quoted `@` begins no domain.
            ("Cc: \"a@\u{e8}\" <a@b.example>", "Cc: =?utf-8?B?YUDDqA==?= <a@b.example>\r\n"),
        ] {
            assert_eq!(written(before).as_deref(), Some(after), "{before}");
        }
    }

    #[test]
    fn parameters_say_their_charset() {
        assert_eq!(
            written(
                "Content-Disposition: attachment; size=3; filename=\"perch\u{e9} \\\"no\\\".pdf\""
            )
            .as_deref(),
            Some(
                "Content-Disposition: attachment;\r\n size=3;\r\n \
                 filename*=UTF-8''perch%C3%A9%20%22no%22.pdf\r\n"
            )
        );
    }

    #[test]
    fn what_has_no_place_for_it_is_not_written() {
        for field in [
            // The local part of an address travels as it is or not at all.
            "To: nicol\u{f2}@b.example",
            "To: a@\u{e8}\u{2024}.example; x",
            "Message-ID: <\u{e8}@b.example>",
            "Content-Type: multipart/mixed; boundary=\"\u{e8}\"",
            "Content-Type: t\u{e8}xt/plain",
            "Content-Disposition: attachment; filename*=\u{e8}",
            "Content-Disposition: attachment; fil\u{e8}=a",
            "Content-Disposition: attachment; filename=\u{e8}(b)",
        ] {
            assert_eq!(written(field), None, "{field}");
        }
        let latin = Message::parse(b"Subject: perch\xe9\r\n\r\n").unwrap().fields()[0];
        assert_eq!(ascii_field(&latin), None);
    }
}
