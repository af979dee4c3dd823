//! `daticert.xml`, read as the DTD has it.
//!
//! PEC-PR-12, PEC-XML-02 to PEC-XML-05. A walk along the declarations with no tree and no recursion:
//! an element the DTD does not have at that place is an error, so depth is bounded. There is no
//! DOCTYPE and there are no entities but the five of XML itself. What real providers write is
//! tolerated: white space around texts, text between elements, comments.

use mail::{Address, AddressError};
use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use super::{Certification, CertifiedKind, ErrorKind};
use crate::exchange::{DeliveryForm, PecId, Recipient, RecipientKind};
use crate::moment::Moment;

/// Octets of a file at most: room for [`RECIPIENTS_MAX`] long addresses.
pub const CERTIFICATION_OCTETS_MAX: usize = 1024 * 1024;
/// Recipients at most, ten times what we let our own users name by default; as many `ricezione`.
pub const RECIPIENTS_MAX: usize = 5_000;
/// Attributes that are looked at in one tag; none of the DTD has more than two.
const ATTRIBUTES_MAX: usize = 2;

/// Why octets are no `daticert.xml`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificationError {
    /// More than [`CERTIFICATION_OCTETS_MAX`].
    #[error("daticert.xml is too long")]
    TooLong,
    /// More than [`RECIPIENTS_MAX`] of one element.
    #[error("daticert.xml names too many recipients")]
    TooManyRecipients,
    /// Not UTF-8.
    #[error("daticert.xml is not UTF-8")]
    NotUtf8,
    /// Not well-formed.
    #[error("daticert.xml is not well-formed XML")]
    NotXml,
    /// A DOCTYPE declaration, or an entity reference.
    #[error("daticert.xml declares or names an entity")]
    Entity,
    /// An element, an attribute or the value of one that the DTD does not have at that place.
    #[error("daticert.xml does not follow its DTD at `{0}`")]
    NotInDtd(String),
    /// An element that the DTD requires is missing.
    #[error("daticert.xml has no `{0}`")]
    Missing(&'static str),
    /// The text of an element is not what it should be.
    #[error("daticert.xml has a bad `{0}`")]
    BadText(&'static str),
}

use CertificationError as E;

/// How often an element may stand at its place.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    Once,
    AtMostOnce,
    AtLeastOnce,
    Any,
}

/// An element of the DTD: a list of others, in order, or text.
struct Element {
    name: &'static str,
    times: Times,
    children: &'static [Element],
}

const fn text(name: &'static str, times: Times) -> Element {
    Element { name, times, children: &[] }
}

/// The DTD, in its order.
static POSTACERT: Element = Element {
    name: "postacert",
    times: Times::Once,
    children: &[
        Element {
            name: "intestazione",
            times: Times::Once,
            children: &[
                text("mittente", Times::Once),
                text("destinatari", Times::AtLeastOnce),
                text("risposte", Times::Once),
                text("oggetto", Times::AtMostOnce),
            ],
        },
        Element {
            name: "dati",
            times: Times::Once,
            children: &[
                text("gestore-emittente", Times::Once),
                Element {
                    name: "data",
                    times: Times::Once,
                    children: &[text("giorno", Times::Once), text("ora", Times::Once)],
                },
                text("identificativo", Times::Once),
                text("msgid", Times::AtMostOnce),
                text("ricevuta", Times::AtMostOnce),
                text("consegna", Times::AtMostOnce),
                text("ricezione", Times::Any),
                text("errore-esteso", Times::AtMostOnce),
            ],
        },
    ],
};

/// An element that is open: which, and how far its children have come.
struct Open {
    element: &'static Element,
    next: usize,
    seen: bool,
}

impl Open {
    /// The declaration of a child with this name, here or further on.
    fn child(&mut self, name: &str) -> Result<&'static Element, E> {
        let children = self.element.children;
        let again = |e: &Element| matches!(e.times, Times::AtLeastOnce | Times::Any);
        let gone = |e: &Element| self.seen && !again(e);
        let passed = self.next + usize::from(children.get(self.next).is_some_and(gone));
        if !children[passed..].iter().any(|child| child.name == name) {
            return Err(E::NotInDtd(name.to_owned()));
        }
        while let Some(child) = self.element.children.get(self.next) {
            if child.name == name && (!self.seen || again(child)) {
                self.seen = true;
                return Ok(child);
            }
            self.pass(child)?;
        }
        Err(E::NotInDtd(name.to_owned()))
    }

    /// At the end of the element: what is still required is missing.
    fn close(&mut self) -> Result<(), E> {
        while let Some(child) = self.element.children.get(self.next) {
            self.pass(child)?;
        }
        Ok(())
    }

    fn pass(&mut self, child: &Element) -> Result<(), E> {
        if !self.seen && matches!(child.times, Times::Once | Times::AtLeastOnce) {
            return Err(E::Missing(child.name));
        }
        self.next += 1;
        self.seen = false;
        Ok(())
    }
}

impl Certification {
    /// Reads a `daticert.xml`.
    ///
    /// # Errors
    ///
    /// Any [`CertificationError`].
    pub fn parse(octets: &[u8]) -> Result<Self, E> {
        if octets.len() > CERTIFICATION_OCTETS_MAX {
            return Err(E::TooLong);
        }
        let file = std::str::from_utf8(octets).map_err(|_| E::NotUtf8)?;
        let file = file.strip_prefix('\u{feff}').unwrap_or(file);
        let mut reader = Reader::from_str(file);
        reader.config_mut().check_comments = true;
        let mut open: Vec<Open> = Vec::new();
        let mut values = Values::default();
        let mut characters = String::new();
        let mut root_seen = false;
        loop {
            let event = reader.read_event().map_err(|_| E::NotXml)?;
            let empty = matches!(event, Event::Empty(_));
            match event {
                Event::Start(tag) | Event::Empty(tag) => {
                    let name = tag.name();
                    let name: &str = name.as_ref();
                    let element = match open.last_mut() {
                        Some(parent) => parent.child(name)?,
                        None if !root_seen && name == POSTACERT.name => &POSTACERT,
                        None => return Err(E::NotInDtd(name.to_owned())),
                    };
                    root_seen = true;
                    values.attributes(element.name, &tag)?;
                    characters.clear();
                    open.push(Open { element, next: 0, seen: false });
                    if empty {
                        values.end(&mut open, &mut characters)?;
                    }
                }
                // The reader sees that names match.
                Event::End(_) => values.end(&mut open, &mut characters)?,
                // XML 1.0 §2.1, §2.8: beside the root there is white space, and no other text.
                Event::Text(text) if open.is_empty() => {
                    if !text.xml10_content().trim().is_empty() {
                        return Err(E::NotXml);
                    }
                }
                Event::CData(_) | Event::GeneralRef(_) if open.is_empty() => return Err(E::NotXml),
                Event::Text(text) => characters.push_str(&text.xml10_content()),
                Event::CData(text) => characters.push_str(&text.xml10_content()),
                Event::GeneralRef(name) => characters.push(reference(&name)?),
                Event::DocType(_) => return Err(E::Entity),
                Event::Decl(declaration) => check_encoding(&declaration, file)?,
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        if !open.is_empty() || !root_seen {
            return Err(E::NotXml);
        }
        values.finish()
    }
}

/// A declaration that names another encoding than UTF-8 (PEC-XML-01) is that of another text, unless
/// all of it is ASCII, which nearly all encodings have in common.
fn check_encoding(declaration: &BytesDecl<'_>, file: &str) -> Result<(), E> {
    let Some(encoding) = declaration.encoding() else { return Ok(()) };
    let encoding = encoding.map_err(|_| E::NotXml)?;
    let encoding: &str = encoding.as_ref();
    if file.is_ascii() || ["utf-8", "utf8"].contains(&&*encoding.trim().to_ascii_lowercase()) {
        return Ok(());
    }
    Err(E::NotUtf8)
}

/// One of the five entities of XML, or a character by number.
fn reference(name: &quick_xml::events::BytesRef<'_>) -> Result<char, E> {
    if let Some(c) = name.resolve_char_ref().map_err(|_| E::NotXml)? {
        return Ok(c);
    }
    Ok(match name.as_ref() as &str {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => return Err(E::Entity),
    })
}

/// What was read so far.
#[derive(Default)]
struct Values {
    kind: Option<CertifiedKind>,
    error: ErrorKind,
    sender: Option<Address>,
    recipient_kind: Option<RecipientKind>,
    recipients: Vec<Recipient>,
    replies_to: String,
    subject: Option<String>,
    provider: String,
    zone: String,
    day: String,
    time: String,
    identifier: Option<PecId>,
    msgid: Option<String>,
    requested: Option<DeliveryForm>,
    delivery: Option<Address>,
    taken: Vec<Address>,
    error_text: Option<String>,
}

impl Values {
    /// The attributes of a tag, their defaults applied (PEC-XML-04).
    fn attributes(&mut self, element: &'static str, tag: &BytesStart<'_>) -> Result<(), E> {
        if element == "destinatari" {
            self.recipient_kind = Some(RecipientKind::Certified);
        }
        for (index, attribute) in tag.attributes().enumerate() {
            let attribute = attribute.map_err(|_| E::NotXml)?;
            let name: &str = attribute.key.as_ref();
            let bad = || E::NotInDtd(format!("{element}/@{name}"));
            let value = attribute.value.trim();
            match (element, name) {
                _ if index >= ATTRIBUTES_MAX => return Err(bad()),
                ("postacert", "tipo") => {
                    self.kind = Some(CertifiedKind::parse(value).ok_or_else(bad)?);
                }
                ("postacert", "errore") => {
                    self.error = ErrorKind::parse(value).ok_or_else(bad)?;
                }
                ("destinatari", "tipo") => {
                    self.recipient_kind = Some(RecipientKind::parse(value).ok_or_else(bad)?);
                }
                ("ricevuta", "tipo") => {
                    self.requested = Some(DeliveryForm::parse(value).ok_or_else(bad)?);
                }
                ("data", "zona") => value.clone_into(&mut self.zone),
                _ => return Err(bad()),
            }
        }
        match element {
            "postacert" if self.kind.is_none() => Err(E::Missing("postacert/@tipo")),
            "data" if self.zone.is_empty() => Err(E::Missing("data/@zona")),
            "ricevuta" if self.requested.is_none() => Err(E::Missing("ricevuta/@tipo")),
            _ => Ok(()),
        }
    }

    /// The end of an element, with the characters in it.
    fn end(&mut self, open: &mut Vec<Open>, characters: &mut String) -> Result<(), E> {
        let Some(mut closed) = open.pop() else { return Err(E::NotXml) };
        closed.close()?;
        let text = characters.trim().to_owned();
        characters.clear();
        match closed.element.name {
            "mittente" => self.sender = Some(address("mittente", &text)?),
            "destinatari" => {
                let kind = self.recipient_kind.take().unwrap_or(RecipientKind::Certified);
                let address = address("destinatari", &text)?;
                bounded(&mut self.recipients, Recipient { address, kind })?;
            }
            "risposte" => self.replies_to = text,
            "oggetto" => self.subject = Some(text),
            "gestore-emittente" => self.provider = text,
            "giorno" => self.day = text,
            "ora" => self.time = text,
            "identificativo" => {
                let id = PecId::parse(&text).ok_or(E::BadText("identificativo"))?;
                self.identifier = Some(id);
            }
            "msgid" => self.msgid = (!text.is_empty()).then_some(text),
            "ricevuta" if !text.is_empty() => return Err(E::NotInDtd("ricevuta".into())),
            "consegna" => self.delivery = Some(address("consegna", &text)?),
            "ricezione" => bounded(&mut self.taken, address("ricezione", &text)?)?,
            "errore-esteso" => self.error_text = Some(text),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Certification, E> {
        if self.provider.is_empty() {
            // PEC-PR-17
            return Err(E::Missing("gestore-emittente"));
        }
        Ok(Certification {
            kind: self.kind.ok_or(E::Missing("postacert/@tipo"))?,
            error: self.error,
            sender: self.sender.ok_or(E::Missing("mittente"))?,
            recipients: self.recipients,
            replies_to: self.replies_to,
            subject: self.subject,
            provider: self.provider,
            at: Moment::parse(&self.day, &self.time, &self.zone).ok_or(E::BadText("data"))?,
            identifier: self.identifier.ok_or(E::Missing("identificativo"))?,
            msgid: self.msgid,
            requested: self.requested,
            delivery: self.delivery,
            taken: self.taken,
            error_text: self.error_text,
        })
    }
}

fn address(element: &'static str, text: &str) -> Result<Address, E> {
    Address::parse(text).map_err(|_: AddressError| E::BadText(element))
}

fn bounded<T>(list: &mut Vec<T>, value: T) -> Result<(), E> {
    if list.len() == RECIPIENTS_MAX {
        return Err(E::TooManyRecipients);
    }
    list.push(value);
    Ok(())
}
