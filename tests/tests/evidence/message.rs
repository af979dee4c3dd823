//! A certified message as IMAP gives it, part by part.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scene::Scene;

/// The parts that are fetched: of the signed one, of its text in both forms, of what is attached.
pub(crate) const PARTS: [&str; 13] = [
    "1.MIME",
    "1",
    "1.1.MIME",
    "1.1.1.MIME",
    "1.1.1",
    "1.1.2.MIME",
    "1.1.2",
    "1.2.MIME",
    "1.2",
    "1.3.MIME",
    "1.3",
    "2.MIME",
    "2",
];

/// One message, and whose INBOX it was in.
pub(crate) struct Message {
    pub(crate) login: &'static str,
    pub(crate) octets: Vec<u8>,
    pub(crate) parts: HashMap<&'static str, Vec<u8>>,
    signed: Vec<u8>,
}

impl Message {
    pub(crate) fn new(
        login: &'static str,
        octets: Vec<u8>,
        parts: HashMap<&'static str, Vec<u8>>,
    ) -> Self {
        let signed = [&parts["1.MIME"][..], &parts["1"]].concat();
        Self { login, octets, parts, signed }
    }

    /// The octets that the signature is over.
    pub(crate) fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// A part as text; empty when there is none.
    pub(crate) fn part(&self, name: &str) -> String {
        String::from_utf8(self.parts[name].clone()).unwrap()
    }

    /// The fields of its header, unfolded.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let text = String::from_utf8(self.octets.clone()).unwrap();
        let (header, _) = text.split_once("\r\n\r\n").unwrap();
        let unfolded = header.replace("\r\n ", " ");
        let fields = unfolded.lines().map(|line| line.split_once(':').unwrap());
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }

    /// The value of a field that is there once at most.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let mut fields = self.fields();
        fields.retain(|(other, _)| other.eq_ignore_ascii_case(name));
        assert!(fields.len() <= 1, "{name} is there {} times", fields.len());
        fields.pop().map(|(_, value)| value)
    }

    /// What the header says that it is.
    pub(crate) fn kind(&self) -> String {
        self.field("X-Ricevuta").or_else(|| self.field("X-Trasporto")).unwrap()
    }

    /// The address in `From`.
    pub(crate) fn author(&self) -> String {
        let from = self.field("From").unwrap();
        match from.split_once('<') {
            Some((_, address)) => address.trim_end_matches('>').to_owned(),
            None => from,
        }
    }

    /// The subject without the prefix of its kind.
    pub(crate) fn original_subject(&self) -> String {
        let subject = self.field("Subject").unwrap();
        subject.split_once(':').unwrap().1.trim().to_owned()
    }

    /// The text for people, in its plain form.
    pub(crate) fn text(&self) -> String {
        from_latin_1(&quoted_printable(&self.parts["1.1.1"]))
    }

    /// The same in HTML.
    pub(crate) fn html(&self) -> String {
        from_latin_1(&quoted_printable(&self.parts["1.1.2"]))
    }

    /// `daticert.xml`.
    pub(crate) fn certification(&self) -> String {
        let (_, body) = self.named("daticert.xml").unwrap();
        let text: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    }

    /// `postacert.eml`.
    pub(crate) fn original(&self) -> Vec<u8> {
        self.named("postacert.eml").unwrap().1.into_bytes()
    }

    /// Header and body of an attached part, found by its name and not by its place.
    pub(crate) fn named(&self, name: &str) -> Option<(String, String)> {
        let wanted = format!("; name=\"{name}\"");
        let mut found = [("1.2.MIME", "1.2"), ("1.3.MIME", "1.3")].into_iter();
        let (header, body) = found.find(|(header, _)| self.part(header).contains(&wanted))?;
        Some((self.part(header), self.part(body)))
    }

    /// The identifier of the message that this one is about.
    pub(crate) fn identificativo(&self) -> String {
        let xml = self.certification();
        let (_, rest) = xml.split_once("<identificativo>").unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    }

    /// Compares header, text and data, all of them, with what a file says, in which `{id}` is the
    /// identifier, `{date}` the date of the header, `{giorno}`, `{ora}` and `{zona}` those of the
    /// data, and `{new}` an identifier of this message alone.
    pub(crate) fn is(&self, scene: &Scene, expected: &str) {
        let xml = self.certification();
        let told = |before: &str, after: &str| {
            let (_, rest) = xml.split_once(before).unwrap();
            rest.split_once(after).unwrap().0.to_owned()
        };
        let fields = self.fields().into_iter().map(|(name, value)| {
            let value = match name.as_str() {
                // Its parameters are looked at elsewhere; who submitted from where is no concern here.
                "Content-Type" => "multipart/signed".to_owned(),
                "Received" => "{trace}".to_owned(),
                _ => value,
            };
            format!("{name}: {value}\n")
        });
        let seen =
            fields.collect::<String>() + "\n" + &self.text().replace("\r\n", "\n") + "\n" + &xml;
        let id = self.identificativo();
        assert!(scene.identifiers.contains(&id), "{id} is no message's");
        let mut expected = expected
            .replace("{id}", &id)
            .replace("{date}", &self.field("Date").unwrap())
            .replace("{giorno}", &told("<giorno>", "<"))
            .replace("{ora}", &told("<ora>", "<"))
            .replace("{zona}", &told("zona=\"", "\""));
        if let Some(new) = self.field("Message-ID") {
            expected = expected.replace("{new}", &new);
        }
        assert_eq!(seen.trim_end(), expected.trim_end(), "{self}");
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the INBOX of {}", self.field("Subject").unwrap_or_default(), self.login)
    }
}

fn from_latin_1(octets: &[u8]) -> String {
    octets.iter().map(|&octet| char::from(octet)).collect()
}

/// RFC 2045 §6.7.
fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(octets).unwrap().replace("=\r\n", "");
    let mut out = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('=') {
        out.extend_from_slice(before.as_bytes());
        out.push(u8::from_str_radix(&after[..2], 16).unwrap());
        rest = &after[2..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}
