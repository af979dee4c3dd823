//! What a FETCH asks that imap-codec does not speak, cut out of what it is given to read: items of
//! extensions, and all modifiers.
//!
//! SAVEDATE, RFC 8514 §4.2; EMAILID and THREADID, RFC 8474 §5; PREVIEW, RFC 8970 §3; CHANGEDSINCE and
//! VANISHED, RFC 7162 §3.1.4.1, §3.2.6; PARTIAL, RFC 9394 §3.3.

use super::words::{Window, Words};

/// What was cut out of a FETCH.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Asked {
    /// Items, as often as they were named.
    pub(crate) items: Vec<Extra>,
    /// There were no others: UID stands in their place.
    pub(crate) alone: bool,
    /// Only what changed since. iOS 16.5 asks for what changed since zero, which is no mod-sequence
    /// (RFC 7162 §7): everything.
    pub(crate) changed_since: Option<u64>,
    /// And what vanished since.
    pub(crate) vanished: bool,
    /// Only these of the messages.
    pub(crate) partial: Option<Window>,
}

/// An item of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    SaveDate,
    EmailId,
    ThreadId,
    Preview { lazy: bool },
}

/// A FETCH without what is ours to read, and that. `None` when it is no FETCH, or malformed in what is
/// ours.
pub(super) fn cut(rest: &[u8]) -> Option<(Vec<u8>, Asked)> {
    let mut words = Words::new(rest);
    let mut verb = words.name()?;
    words.space()?;
    if verb == "UID" {
        verb = words.name()?;
        words.space()?;
    }
    if verb != "FETCH" {
        return None;
    }
    words.set()?;
    words.space()?;
    let start = rest.len() - words.left();
    let in_list = words.octet(b'(').is_some();
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut asked = Asked::default();
    loop {
        let from = rest.len() - words.left();
        words.item()?;
        let item = &rest[from..rest.len() - words.left()];
        match extra(item, &mut words) {
            Some(extra) => asked.items.push(extra),
            None => kept.push(item),
        }
        if !in_list || words.octet(b')').is_some() {
            break;
        }
        words.space()?;
    }
    if words.space().is_some() {
        modifiers(&mut words, &mut asked)?;
    }
    words.end()?;
    asked.alone = kept.is_empty();
    let items = match kept[..] {
        [] => b"UID".to_vec(),
        // A macro stands in no list: RFC 3501 §9, `fetch`.
        [one] if !in_list => one.to_vec(),
        _ => [b"(", &kept.join(&b' ')[..], b")"].concat(),
    };
    Some(([&rest[..start], &items, b"\r\n"].concat(), asked))
}

fn extra(item: &[u8], words: &mut Words<'_>) -> Option<Extra> {
    Some(match item.to_ascii_uppercase().as_slice() {
        b"SAVEDATE" => Extra::SaveDate,
        b"EMAILID" => Extra::EmailId,
        b"THREADID" => Extra::ThreadId,
        b"PREVIEW" => {
            let mut ahead = words.clone();
            let lazy = ahead.space().and_then(|()| ahead.octet(b'(')).is_some()
                && ahead.name().is_some_and(|name| name == "LAZY")
                && ahead.octet(b')').is_some();
            if lazy {
                *words = ahead;
            }
            Extra::Preview { lazy }
        }
        _ => return None,
    })
}

/// `"(" fetch-modifier *(SP fetch-modifier) ")"`, RFC 4466 §2.4; of several of a kind the last counts.
fn modifiers(words: &mut Words<'_>, asked: &mut Asked) -> Option<()> {
    words.octet(b'(')?;
    loop {
        match words.name()?.as_str() {
            "CHANGEDSINCE" => {
                words.space()?;
                asked.changed_since = Some(mod_sequence(words.atom()?)?);
            }
            "VANISHED" => asked.vanished = true,
            "PARTIAL" => {
                words.space()?;
                asked.partial = Some(words.window()?);
            }
            _ => return None,
        }
        if words.octet(b')').is_some() {
            return Some(());
        }
        words.space()?;
    }
}

/// `mod-sequence-value`, or zero.
fn mod_sequence(text: &str) -> Option<u64> {
    let plain = text == "0" || !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    let number: Option<u64> = if plain { text.parse().ok() } else { None };
    number.filter(|number| *number <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(items: &[Extra], alone: bool) -> Asked {
        Asked { items: items.to_vec(), alone, ..Asked::default() }
    }

    #[test]
    fn an_item_is_cut_out_wherever_it_stands() {
        use Extra::{EmailId, Preview, SaveDate, ThreadId};
        let lazy = Preview { lazy: true };
        for (text, expected) in [
            ("FETCH 1 SAVEDATE\r\n", Some(("FETCH 1 UID\r\n", asked(&[SaveDate], true)))),
            (
                "uid fetch 1:* (emailid THREADID)\r\n",
                Some(("uid fetch 1:* UID\r\n", asked(&[EmailId, ThreadId], true))),
            ),
            (
                "FETCH 1 (PREVIEW (LAZY) FLAGS PREVIEW)\r\n",
                Some(("FETCH 1 (FLAGS)\r\n", asked(&[lazy, Preview { lazy: false }], false))),
            ),
            ("FETCH 1 PREVIEW (LAZY)\r\n", Some(("FETCH 1 UID\r\n", asked(&[lazy], true)))),
            ("FETCH 1 FAST\r\n", Some(("FETCH 1 FAST\r\n", Asked::default()))),
            (
                "FETCH 1 (BODY[HEADER.FIELDS ({8+}\r\nSAVEDATE)] UID)\r\n",
                Some((
                    "FETCH 1 (BODY[HEADER.FIELDS ({8+}\r\nSAVEDATE)] UID)\r\n",
                    Asked::default(),
                )),
            ),
            ("FETCH 1 (SAVEDATE\r\n", None),
            ("FETCH 1 (]SAVEDATE)\r\n", None),
            ("FETCH 1 PREVIEW (EAGER)\r\n", None),
            ("STORE 1 SAVEDATE\r\n", None),
            ("FETCH\r\n", None),
        ] {
            let expected = expected.map(|(text, asked)| (text.as_bytes().to_vec(), asked));
            assert_eq!(cut(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn modifiers_are_read_in_any_order() {
        let read = |text: &str| {
            cut(format!("UID FETCH 1 FLAGS {text}\r\n").as_bytes()).map(|(rest, asked)| {
                assert_eq!(rest, b"UID FETCH 1 FLAGS\r\n");
                (asked.changed_since, asked.vanished, asked.partial.map(|w| w.to_string()))
            })
        };
        assert_eq!(
            read("(PARTIAL -1:-30 VANISHED CHANGEDSINCE 7)"),
            Some((Some(7), true, Some("-1:-30".to_owned())))
        );
        assert_eq!(read("(changedsince 0)"), Some((Some(0), false, None)));
        for text in [
            "()",
            "(CHANGEDSINCE 00)",
            "(CHANGEDSINCE 9223372036854775808)",
            "(PARTIAL 0:1)",
            "(PARTIAL -1:1)",
            "(PARTIAL 1)",
            "(X)",
            "(VANISHED) x",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
