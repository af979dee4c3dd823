//! The text that people read, compared with what is certified, when it is our model.
//!
//! PEC-FMT-11: the words are a model, and other providers have their own; then nothing is compared,
//! and that is a note.

use mail::Message;

use super::{Verification, events, header, shown};
use crate::certification::Certification;
use crate::exchange::DeliveryForm;
use crate::incoming::AnomalyReason;
use crate::inspect::{Parts, only};
use crate::moment::Moment;
use crate::receipt::Event;
use crate::text::Text;

const OTHER_MODEL: &str = "the text is not of our model: it was not compared";

/// The text of an envelope or a receipt must be what the data make of it. The form of a delivery receipt
/// of which it is the text: the data tell only which was asked for.
pub(super) fn certified(
    found: &mut Verification,
    parts: &Parts<'_>,
    data: &Certification,
) -> Option<DeliveryForm> {
    let said = lines(found, parts)?;
    let exchange = data.exchange();
    let mut is_model = false;
    for event in events(data) {
        let text = Text::of(&event, &exchange, data.at, data.error_text.as_deref());
        let lines: Vec<String> = text.latin1_lines();
        if lines == said {
            found.check("PEC-FMT-11", true, "the text says what daticert.xml says", "");
            return match event {
                Event::Delivery { form, .. } => Some(form),
                _ => None,
            };
        }
        is_model |= lines.len() == said.len() && lines.first() == said.first();
    }
    if is_model {
        found.wrong("PEC-FMT-11", "the text says other than daticert.xml");
    } else {
        found.note(OTHER_MODEL);
    }
    None
}

/// Of an anomaly envelope the text alone says, under the signature, when the message came and from
/// whom: `Date` and `From` must say the same.
pub(super) fn anomaly(found: &mut Verification, message: &Message<'_>, parts: &Parts<'_>) {
    let Some(said) = lines(found, parts) else { return };
    let Some(date) = only(message, "Date").and_then(|field| field.date()) else {
        return found.wrong("PEC-DT-05", "there is not one Date that can be read");
    };
    let at = Moment::of(date.timestamp());
    let sender = header::on_behalf_of(message).unwrap_or_default();
    // Its first three lines have the model's words, and values that do not depend on the rest.
    let model = Text::anomaly("", &sender, &[], AnomalyReason::NotSigned, at).latin1_lines();
    let (Some([title, when, whom]), Some([said_title, said_when, said_whom])) =
        (model.first_chunk(), said.first_chunk())
    else {
        return found.note(OTHER_MODEL);
    };
    let (Some((before, from)), Some((said_before, said_from))) =
        (last_quoted(whom), last_quoted(said_whom))
    else {
        return found.note(OTHER_MODEL);
    };
    let is_model = said_title == title
        && without_digits(said_when) == without_digits(when)
        && said_before.split(' ').next_back() == before.split(' ').next_back();
    if !is_model {
        return found.note(OTHER_MODEL);
    }
    found.check(
        "PEC-DT-05",
        said_when == when,
        "Date is the time in the text",
        format!("Date is {at}, the text says {}", shown(&[said_when])),
    );
    found.check(
        "PEC-BA-03",
        said_from.eq_ignore_ascii_case(from),
        "From names the sender in the text",
        format!("From names {}, the text says {}", shown(&[&sender]), shown(&[said_whom])),
    );
}

/// The lines of the text that can be read.
fn lines(found: &mut Verification, parts: &Parts<'_>) -> Option<Vec<String>> {
    let text = parts.text.as_ref().and_then(|part| part.text());
    if text.is_none() {
        found.wrong("PEC-FMT-02", "there is no text part that can be read");
    }
    Some(text?.trim_end().split("\r\n").map(|line| line.trim_end().to_owned()).collect())
}

/// What stands before the last opening quotation mark of a line, and what after it.
fn last_quoted(line: &str) -> Option<(&str, &str)> {
    line.rsplit_once(" \"")
}

/// A line with its digits and signs alike, which are those of time and zone.
fn without_digits(line: &str) -> String {
    let alike = |c: char| if c.is_ascii_digit() || c == '-' { '+' } else { c };
    line.chars().map(alike).collect()
}
