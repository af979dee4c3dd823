use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// A structure as a tree of types, each leaf with its body.
fn tree(octets: &[u8]) -> String {
    let structure = scan(octets).unwrap();
    check_ranges(&structure, octets);
    let mut out = String::new();
    for part in &structure.parts {
        let mut depth = 0;
        let mut at = part.parent;
        while let Some(parent) = at {
            depth += 1;
            at = structure.parts[parent].parent;
        }
        let said = if part.content_type_said { "" } else { "?" };
        let ContentType { kind, subtype, .. } = &part.content_type;
        write!(out, "{}{kind}/{subtype}{said}", "  ".repeat(depth)).unwrap();
        if part.kind == Kind::Leaf {
            write!(out, " {:?}", octets[part.body.clone()].escape_ascii().to_string()).unwrap();
        }
        out.push('\n');
    }
    out
}

/// What holds of every structure.
fn check_ranges(structure: &Structure, octets: &[u8]) {
    assert_eq!(structure.root().octets(), 0..octets.len());
    for (index, part) in structure.parts.iter().enumerate() {
        assert!(part.header.start <= part.header.end, "{part:?}");
        assert!(part.header.end <= part.body.start, "{part:?}");
        assert!(part.body.start <= part.body.end, "{part:?}");
        let lines = octets[part.body.clone()].iter().filter(|&&b| b == b'\n').count();
        assert_eq!(part.lines, lines, "{part:?}");
        match part.kind {
            Kind::Leaf => assert!(part.children.is_empty()),
            Kind::Multipart => {}
            Kind::Message => assert_eq!(part.children.len(), 1),
        }
        let mut at = part.body.start;
        for &child in &part.children {
            assert!(child > index);
            let child = &structure.parts[child];
            assert_eq!(child.parent, Some(index));
            assert!(child.header.start >= at && child.body.end <= part.body.end, "{structure:?}");
            at = child.body.end;
        }
    }
}

const CERTIFIED: &str = "From: posta-certificata@a.example\r\n\
    Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\r\n boundary=\"s\"\r\n\r\n\
    This is an S/MIME signed message\r\n\
    --s\r\n\
    Content-Type: multipart/mixed; boundary=m\r\n\r\n\
    --m\r\n\
    Content-Type: text/plain; charset=\"iso-8859-1\"\r\n\r\n\
    Messaggio di posta certificata\r\n\r\n\
    --m\r\n\
    Content-Type: message/rfc822; name=\"postacert.eml\"\r\n\r\n\
    Subject: x\r\nContent-Type: multipart/mixed; boundary=\"o\"\r\n\r\n\
    --o\r\n\r\nciao\r\n--s is no delimiter\r\n--o--\r\n\r\n\
    --m--\r\n\r\n\
    --s\r\n\
    Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: BASE64\r\n\r\n\
    MIIB\r\n\
    --s--\r\n";

#[test]
fn a_certified_message_has_a_message_inside_two_multiparts() {
    assert_eq!(
        tree(CERTIFIED.as_bytes()),
        r#"multipart/signed
  multipart/mixed
    text/plain "Messaggio di posta certificata\\r\\n"
    message/rfc822
      multipart/mixed
        text/plain? "ciao\\r\\n--s is no delimiter"
  application/pkcs7-signature "MIIB"
"#
    );
}

// PEC-SIG-08
#[test]
fn the_signed_octets_are_the_first_part_without_the_line_end_of_the_delimiter() {
    let structure = scan(CERTIFIED.as_bytes()).unwrap();
    let signed = structure.children(structure.root()).next().unwrap();
    let signed = &CERTIFIED[signed.octets()];
    assert!(signed.starts_with("Content-Type: multipart/mixed; boundary=m\r\n\r\n"));
    assert!(signed.ends_with("\r\n--o--\r\n\r\n--m--\r\n"), "{signed}");
}

#[test]
fn line_ends_may_be_lf_only() {
    let lf = CERTIFIED.replace("\r\n", "\n");
    assert_eq!(tree(lf.as_bytes()), tree(CERTIFIED.as_bytes()).replace("\\\\r", ""));
}

fn mixed(body: &str) -> String {
    tree(format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{body}").as_bytes())
}

#[test]
fn a_delimiter_is_a_whole_line() {
    for (body, leaves) in [
        ("--b\r\n\r\n1\r\n--b--", vec!["1"]),
        ("--b \t\r\n\r\n1\r\n--b-- \t\r\nepilogue", vec!["1"]),
        (
            "--b\r\n\r\n1 --b\r\n--bb\r\n--b-\r\n--b---\r\n --b\r\n--B",
            vec![r"1 --b\r\n--bb\r\n--b-\r\n--b---\r\n --b\r\n--B"],
        ),
        // A bare CR starts no line.
        ("--b\r\n\r\n1\r--b\r\n", vec![r"1\r--b\r\n"]),
        ("--b\r\n\r\n1\n--b\r\n\r\n2", vec!["1", "2"]),
        // Of the line ends before a delimiter one belongs to it.
        ("--b\r\n\r\n1\r\n\r\n--b--", vec![r"1\r\n"]),
        // No end, and delimiters after the end.
        ("--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n", vec!["1", r"2\r\n"]),
        ("--b\r\n\r\n1\r\n--b--\r\n--b\r\n\r\n2\r\n", vec!["1"]),
        // Parts without body, without header, without anything.
        ("--b\r\nX: y\r\n\r\n--b--", vec![""]),
        ("--b\r\nX: y\r\n--b--", vec![""]),
        ("--b\r\n--b\r\n\r\n--b\r\n\r\n\r\n--b--", vec!["", "", ""]),
        ("--b", vec![""]),
        ("--b--", vec![]),
        ("nothing", vec![]),
    ] {
        let mut expected = "multipart/mixed\n".to_owned();
        for leaf in leaves {
            writeln!(expected, "  text/plain? {leaf:?}").unwrap();
        }
        assert_eq!(mixed(body), expected, "{body:?}");
    }
}

#[test]
fn an_outer_delimiter_ends_what_is_inside() {
    let inner = "--b\r\nContent-Type: multipart/digest; boundary=\"b--\"\r\n\r\n\
         --b--\r\n\r\nSubject: x\r\n\r\n1\r\n--b----\r\n--b\r\n\r\n2";
    // `--b--` ends the outer one, but the inner comes first.
    assert_eq!(
        mixed(inner),
        "multipart/mixed\n  multipart/digest\n    message/rfc822?\n      text/plain? \"1\"\n  text/plain? \"2\"\n"
    );
    let cut_off = "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n1\r\n--b--";
    assert_eq!(mixed(cut_off), "multipart/mixed\n  multipart/mixed\n    text/plain? \"1\"\n");
}

#[test]
fn a_message_part_is_opened_unless_it_is_encoded() {
    let part = |fields: &str| mixed(&format!("--b\r\nContent-Type: message/rfc822\r\n{fields}"));
    for (fields, expected) in [
        ("\r\nA: b\r\n\r\n1", "message/rfc822\n    text/plain? \"1\""),
        ("\r\nA: b\r\n--b--", "message/rfc822\n    text/plain? \"\""),
        ("\r\n--b--", "message/rfc822\n    text/plain? \"\""),
        ("--b--", "message/rfc822\n    text/plain? \"\""),
        ("", "message/rfc822\n    text/plain? \"\""),
        ("Content-Transfer-Encoding: Base64\r\n\r\nQTog", "message/rfc822 \"QTog\""),
    ] {
        assert_eq!(part(fields), format!("multipart/mixed\n  {expected}\n"), "{fields:?}");
    }
}

#[test]
fn a_multipart_without_a_usable_boundary_is_a_leaf() {
    let long = "b".repeat(BOUNDARY_OCTETS_MAX + 1);
    for parameter in ["", "; boundary=\"\"", "; boundary=\" \"", &format!("; boundary={long}")] {
        let message = format!("Content-Type: multipart/mixed{parameter}\r\n\r\n--\r\n--{long}\r\n");
        let structure = scan(message.as_bytes()).unwrap();
        assert_eq!((structure.parts.len(), structure.root().kind), (1, Kind::Leaf), "{parameter}");
    }
    let longest = &long[1..];
    let message =
        format!("Content-Type: multipart/mixed; boundary={longest}\r\n\r\n--{longest}\r\n");
    assert_eq!(scan(message.as_bytes()).unwrap().parts.len(), 2);
}

#[test]
fn of_a_field_that_comes_twice_the_first_counts() {
    let octets = b"Content-Type: text/html\r\nContent-Type: image/png\r\nnot a field\r\n\
        Content-Transfer-Encoding: 8Bit (yes)\r\nContent-Disposition: ATTACHMENT; filename=a\r\n\r\n";
    let part = scan(octets).unwrap().parts.remove(0);
    assert!(part.content_type.is("text", "html"));
    assert_eq!(part.encoding, "8bit");
    assert_eq!(part.disposition.unwrap().kind, "attachment");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| "Content-Type: message/rfc822\r\n\r\n".repeat(depth).into_bytes();
    // The innermost header is that of a text.
    assert_eq!(scan(&nested(DEPTH_MAX - 1)).unwrap().parts.len(), DEPTH_MAX);
    assert_eq!(scan(&nested(DEPTH_MAX)), Err(MimeError::TooDeep));
    let bomb = nested(1_000_000);
    assert_eq!(scan(&bomb), Err(MimeError::TooDeep));
    let whole = opaque(&bomb);
    assert_eq!(whole.parts.len(), 1);
    assert!(whole.root().content_type.is("application", "octet-stream"));
    assert_eq!(whole.root().octets(), 0..bomb.len());

    let mut multiparts = String::new();
    for depth in 0..10_000 {
        write!(
            multiparts,
            "Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n"
        )
        .unwrap();
    }
    assert_eq!(scan(multiparts.as_bytes()), Err(MimeError::TooDeep));
}

#[test]
fn parts_are_bounded() {
    let message = |parts: usize| {
        let mut text = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
        text.push_str(&"--b\r\n\r\n".repeat(parts));
        text.into_bytes()
    };
    assert_eq!(scan(&message(PARTS_MAX - 1)).unwrap().parts.len(), PARTS_MAX);
    assert_eq!(scan(&message(PARTS_MAX)), Err(MimeError::TooManyParts));
    assert_eq!(scan(&message(1_000_000)), Err(MimeError::TooManyParts));
}

#[test]
fn headers_are_bounded() {
    let header = |octets: usize| [b"A: ", &vec![b'x'; octets - 5][..], b"\r\n"].concat();
    let part = |octets: usize| {
        let start = &b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"[..];
        [start, &header(octets), b"\r\nbody"].concat()
    };
    for wrap in [&header as &dyn Fn(usize) -> Vec<u8>, &part] {
        assert!(scan(&wrap(HEADER_OCTETS_MAX)).is_ok());
        assert_eq!(scan(&wrap(HEADER_OCTETS_MAX + 1)), Err(MimeError::HeaderTooLong));
    }
    let endless = b"A: b\r\n".repeat(1_000_000);
    assert_eq!(scan(&endless), Err(MimeError::HeaderTooLong));
    assert_eq!(opaque(&endless).root().header, 0..endless.len());
}

/// A message tree, written by the least of writers.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(String),
    Multipart(Vec<Tree>),
    Message(Box<Tree>),
}

impl Tree {
    fn write(&self, id: &str) -> String {
        match self {
            Tree::Leaf(text) => format!("Content-Type: text/plain\r\n\r\n{text}"),
            Tree::Message(inner) => {
                format!("Content-Type: message/rfc822\r\n\r\n{}", inner.write(&format!("{id}m")))
            }
            Tree::Multipart(parts) => {
                let mut out =
                    format!("Content-Type: multipart/mixed; boundary=\"{id}\"\r\n\r\npreamble");
                for (index, part) in parts.iter().enumerate() {
                    write!(out, "\r\n--{id}\r\n{}", part.write(&format!("{id}.{index}"))).unwrap();
                }
                write!(out, "\r\n--{id}--\r\nepilogue").unwrap();
                out
            }
        }
    }

    fn shape(&self, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        match self {
            Tree::Leaf(text) => {
                writeln!(out, "{indent}text/plain {:?}", text.escape_default().to_string())
                    .unwrap();
            }
            Tree::Message(inner) => {
                writeln!(out, "{indent}message/rfc822").unwrap();
                inner.shape(depth + 1, out);
            }
            Tree::Multipart(parts) => {
                writeln!(out, "{indent}multipart/mixed").unwrap();
                parts.iter().for_each(|part| part.shape(depth + 1, out));
            }
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = "([a-z -]|\r\n|--b\\.[0-9]x){0,20}".prop_map(Tree::Leaf);
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Tree::Multipart),
            inner.prop_map(|inner| Tree::Message(Box::new(inner))),
        ]
    })
}

#[test]
fn a_line_is_held_no_longer_than_a_delimiter_can_be() {
    let mut scanner = Scanner::new();
    for _ in 0..64 {
        scanner.push(&[b'x'; 64 * 1024]);
    }
    assert_eq!(scanner.held.len(), LINE_OCTETS_MAX + 1);
    assert_eq!(scanner.finish(), Err(MimeError::HeaderTooLong));
    let delimiter = |blanks: usize| {
        let start = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b";
        format!("{start}{}\r\n\r\n", " ".repeat(blanks))
    };
    let longest = LINE_OCTETS_MAX - "--b\r\n".len();
    assert_eq!(scan(delimiter(longest).as_bytes()).unwrap().parts.len(), 2);
    assert_eq!(scan(delimiter(longest + 1).as_bytes()).unwrap().parts.len(), 1);
}

proptest! {
    #[test]
    fn what_is_written_is_scanned(tree_of_parts in trees()) {
        let mut expected = String::new();
        tree_of_parts.shape(0, &mut expected);
        prop_assert_eq!(tree(tree_of_parts.write("b").as_bytes()), expected);
    }

    #[test]
    fn any_octets_have_ranges_inside_each_other(
        pieces in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "Content-Type: multipart/mixed; boundary=b\r\n",
                "Content-Type: multipart/digest; boundary=\"b--\"\r\n",
                "Content-Type: message/rfc822\n",
                "Content-Transfer-Encoding: base64\r\n",
                "--b\r\n", "--b", "--b--\n", "\r\n", "\n", "\r",
            ]).prop_map(str::to_owned),
            "\\PC{0,5}",
        ], 0..40)
    ) {
        let octets = pieces.concat();
        let scanned = scan(octets.as_bytes());
        if let Ok(structure) = &scanned {
            check_ranges(structure, octets.as_bytes());
        }
        let mut scanner = Scanner::new();
        pieces.iter().for_each(|piece| scanner.push(piece.as_bytes()));
        prop_assert_eq!(scanner.finish(), scanned.clone());
        let mut scanner = Scanner::new();
        octets.as_bytes().chunks(3).for_each(|piece| scanner.push(piece));
        prop_assert_eq!(scanner.finish(), scanned);
        check_ranges(&opaque(octets.as_bytes()), octets.as_bytes());
    }

    #[test]
    fn random_octets_are_scanned(octets: Vec<u8>) {
        check_ranges(&scan(&octets).unwrap(), &octets);
    }
}
