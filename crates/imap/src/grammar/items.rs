//! Items of a FETCH that imap-codec does not speak, cut out of what it is given to read.

use super::words::Words;

/// A FETCH without the items of this name, and whether there are no others: then it asks for UID in
/// their place. `None` when there are none of that name.
pub(super) fn without(rest: &[u8], name: &str) -> Option<(Vec<u8>, bool)> {
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
    let mut found = false;
    loop {
        let from = rest.len() - words.left();
        words.item()?;
        let item = &rest[from..rest.len() - words.left()];
        if item.eq_ignore_ascii_case(name.as_bytes()) {
            found = true;
        } else {
            kept.push(item);
        }
        if !in_list || words.octet(b')').is_some() {
            break;
        }
        words.space()?;
    }
    let after = &rest[rest.len() - words.left()..];
    let alone = kept.is_empty();
    if alone {
        kept.push(b"UID");
    }
    found.then(|| ([&rest[..start], b"(", &kept.join(&b' '), b")", after].concat(), alone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_cut_out_wherever_it_stands() {
        for (text, expected) in [
            ("FETCH 1 SAVEDATE\r\n", Some(("FETCH 1 (UID)\r\n", true))),
            ("uid fetch 1:* (savedate)\r\n", Some(("uid fetch 1:* (UID)\r\n", true))),
            ("FETCH 1 (SAVEDATE FLAGS SAVEDATE)\r\n", Some(("FETCH 1 (FLAGS)\r\n", false))),
            (
                "FETCH 1 (BODY[HEADER.FIELDS (\"a SAVEDATE b\" c)]<0.9> SAVEDATE) (CHANGEDSINCE 1)\r\n",
                Some((
                    "FETCH 1 (BODY[HEADER.FIELDS (\"a SAVEDATE b\" c)]<0.9>) (CHANGEDSINCE 1)\r\n",
                    false,
                )),
            ),
            ("FETCH 1 (BODY[HEADER.FIELDS (SAVEDATE)])\r\n", None),
            ("FETCH 1 (BODY[HEADER.FIELDS ({8+}\r\nSAVEDATE)] UID)\r\n", None),
            ("FETCH 1 (FLAGS SAVEDATES)\r\n", None),
            ("FETCH 1 (SAVEDATE\r\n", None),
            ("FETCH 1 (]SAVEDATE)\r\n", None),
            ("STORE 1 SAVEDATE\r\n", None),
            ("FETCH\r\n", None),
        ] {
            let cut = without(text.as_bytes(), "SAVEDATE");
            let expected = expected.map(|(text, alone)| (text.as_bytes().to_vec(), alone));
            assert_eq!(cut, expected, "{text:?}");
        }
    }
}
