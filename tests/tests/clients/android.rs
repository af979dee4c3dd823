//! Thunderbird for Android (K-9 Mail) as its sources have it: it reads BODYSTRUCTURE by rules of its
//! own, gives up at the first `message/rfc822`, and then takes the beginning of the whole message.

use scenarios::Imap;

use super::lab::{COMUNE, Lab, MARIO};

/// What a response is made of: lists, and strings of whatever form.
#[derive(Debug, PartialEq)]
enum Item {
    List(Vec<Item>),
    Text(String),
}

impl Item {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(_) => None,
        }
    }

    fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            Self::Text(_) => None,
        }
    }
}

/// Reads up to the end or the parenthesis that closes the list.
fn items(octets: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Vec<Item> {
    let mut items = Vec::new();
    while let Some(octet) = octets.next() {
        match octet {
            '(' => items.push(Item::List(self::items(octets))),
            ')' => break,
            ' ' => {}
            '"' => {
                let mut text = String::new();
                while let Some(octet) = octets.next() {
                    match octet {
                        '"' => break,
                        '\\' => text.extend(octets.next()),
                        other => text.push(other),
                    }
                }
                items.push(Item::Text(text));
            }
            other => {
                let mut text = String::from(other);
                while let Some(next) = octets.next_if(|&next| !" ()".contains(next)) {
                    text.push(next);
                }
                items.push(Item::Text(text));
            }
        }
    }
    items
}

/// A part as the client keeps it: the section to ask for, its type, what it declares.
#[derive(Debug, PartialEq)]
struct Part {
    section: String,
    kind: String,
    encoding: String,
    octets: usize,
    disposition: Option<String>,
}

/// A structure that holds a message is none to this client.
#[derive(Debug, PartialEq)]
struct NotYetSupported;

/// Its `parseBodyStructure`: a list first means a multipart; else type, subtype, parameters, id,
/// description, encoding, size; the disposition is the tenth item of a text, the ninth of others.
fn parts(structure: &[Item], section: &str, found: &mut Vec<Part>) -> Result<(), NotYetSupported> {
    if structure[0].list().is_some() {
        for (number, inner) in structure.iter().map_while(Item::list).enumerate() {
            let number = number + 1;
            let inside =
                if section.is_empty() { number.to_string() } else { format!("{section}.{number}") };
            parts(inner, &inside, found)?;
        }
        return Ok(());
    }
    let text = |at: usize| structure[at].text().unwrap();
    let kind = format!("{}/{}", text(0), text(1)).to_lowercase();
    if kind == "message/rfc822" {
        return Err(NotYetSupported);
    }
    let at = if text(0).eq_ignore_ascii_case("text") { 9 } else { 8 };
    let disposition = structure.get(at).and_then(Item::list).and_then(|list| list[0].text());
    found.push(Part {
        section: if section.is_empty() { "TEXT".to_owned() } else { section.to_owned() },
        kind,
        encoding: text(5).to_lowercase(),
        octets: text(6).parse().unwrap(),
        disposition: disposition.map(str::to_lowercase),
    });
    Ok(())
}

/// The structure of a message, as this client reads it.
fn read(imap: &mut Imap, uid: u32) -> Result<Vec<Part>, NotYetSupported> {
    let replies = imap.ok(&format!("UID FETCH {uid} (UID BODYSTRUCTURE)")).unwrap();
    let line = String::from_utf8(replies.untagged[0].clone()).unwrap();
    let (_, structure) = line.split_once("BODYSTRUCTURE ").unwrap();
    let mut found = Vec::new();
    let structure = items(&mut structure.chars().peekable());
    parts(structure[0].list().unwrap(), "", &mut found).map(|()| found)
}

/// One octet string of a message.
fn octets(imap: &mut Imap, uid: u32, section: &str) -> Vec<u8> {
    let replies = imap.ok(&format!("UID FETCH {uid} (UID BODY.PEEK{section})")).unwrap();
    let response = &replies.untagged[0];
    let start = response.windows(2).position(|two| two == b"\r\n").map_or(0, |at| at + 2);
    response[start..response.len() - 1].to_vec()
}

#[test]
fn what_holds_no_message_is_read_in_parts_and_what_does_from_its_beginning() {
    let lab = Lab::new();
    lab.two_receipts();
    let mut imap = lab.demo.imap_as("mrossi").unwrap();
    imap.ok("SELECT INBOX").unwrap();
    // The acceptance receipt: its text, its certification data and the signature, each by itself.
    let found = read(&mut imap, 1).unwrap();
    let seen: Vec<_> = found.iter().map(|part| (&*part.section, &*part.kind)).collect();
    assert_eq!(
        seen,
        [
            ("1.1.1", "text/plain"),
            ("1.1.2", "text/html"),
            ("1.2", "application/xml"),
            ("2", "application/pkcs7-signature"),
        ]
    );
    assert_eq!(found[2].disposition.as_deref(), Some("inline"));
    assert_eq!(found[3].disposition.as_deref(), Some("attachment"));
    for part in &found {
        let got = octets(&mut imap, 1, &format!("[{}]", part.section));
        assert_eq!(got.len(), part.octets, "{part:?}");
    }
    // The delivery receipt holds the original message: no structure, so the beginning of it all, which
    // for a certified message of this size is all of it.
    assert_eq!(read(&mut imap, 2), Err(NotYetSupported));
    let whole = imap.messages("INBOX").unwrap().remove(1).1;
    assert_eq!(octets(&mut imap, 2, "[]<0.32768>"), whole[..whole.len().min(32_768)]);
    // So does the envelope, at the recipient's; and pieces put together are the message.
    lab.submit("mrossi", MARIO, COMUNE, "Altra");
    lab.wait_for("comune", 1);
    let mut imap = lab.demo.imap_as("comune").unwrap();
    imap.ok("SELECT INBOX").unwrap();
    assert_eq!(read(&mut imap, 1), Err(NotYetSupported));
    let whole = imap.messages("INBOX").unwrap().remove(0).1;
    let mut pieces = Vec::new();
    while pieces.len() < whole.len() {
        let piece = octets(&mut imap, 1, &format!("[]<{}.1000>", pieces.len()));
        assert_eq!(piece.len(), (whole.len() - pieces.len()).min(1000));
        pieces.extend(piece);
    }
    assert_eq!(pieces, whole);
}
