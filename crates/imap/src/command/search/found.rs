//! What a search found, and how it is told: SEARCH, or ESEARCH with what was asked to be returned.
//!
//! RFC 3501 §7.2.5; ESEARCH, RFC 4731 §3.1 and RFC 4466 §2.6.2; SAVE, RFC 5182 §2.4; MODSEQ, RFC 7162
//! §3.1.6 and RFC 4731 §3.2; PARTIAL, RFC 9394 §3.1. Until all are found it is kept as ranges of places, and then
//! told in portions.

use std::collections::VecDeque;

use store::{ModSeq, Summary};

use crate::grammar::words::{Window, Words};
use crate::refusal::Refusal;
use crate::response::{Output, mod_seq, ranges};
use crate::selected::Places;
use crate::uids::Uids;

/// Numbers that one job tells.
const NUMBERS_MAX: usize = 30_000;
/// Options of one RETURN at most, each counted as often as it is named.
const OPTIONS_MAX: usize = 50;

/// What is to be returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::command) struct Returns {
    pub(in crate::command) min: bool,
    pub(in crate::command) max: bool,
    pub(in crate::command) all: bool,
    pub(in crate::command) count: bool,
    pub(in crate::command) save: bool,
    partial: Option<Window>,
}

impl Returns {
    /// What is returned when nothing is asked for.
    pub(super) fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// What follows RETURN, when that comes next.
    pub(in crate::command) fn read_if_said(words: &mut Words<'_>) -> Result<Option<Self>, Refusal> {
        if !words.skip_name("RETURN") {
            return Ok(None);
        }
        let returns = Self::read(words)?;
        words.space().ok_or_else(Refusal::malformed)?;
        Ok(Some(returns))
    }

    /// `"(" [search-return-opt *(SP search-return-opt)] ")"`
    fn read(words: &mut Words<'_>) -> Result<Self, Refusal> {
        let mut returns = Self::default();
        words.octet(b'(').ok_or_else(Refusal::malformed)?;
        if words.octet(b')').is_some() {
            return Ok(Self::all());
        }
        for _ in 0..OPTIONS_MAX {
            match words.name().ok_or_else(Refusal::malformed)?.as_str() {
                "MIN" => returns.min = true,
                "MAX" => returns.max = true,
                "ALL" => returns.all = true,
                "COUNT" => returns.count = true,
                "SAVE" => returns.save = true,
                "PARTIAL" => {
                    words.space().ok_or_else(Refusal::malformed)?;
                    let window = words.window().ok_or_else(Refusal::malformed)?;
                    if returns.partial.replace(window).is_some() {
                        return Err(Refusal::bad("One PARTIAL is all a search returns"));
                    }
                }
                _ => return Err(Refusal::bad("No such thing to return from a search")),
            }
            if words.octet(b')').is_some() {
                if returns.partial.is_some() && returns.all {
                    // RFC 9394 §3.1.
                    return Err(Refusal::bad("Either ALL or PARTIAL is returned"));
                }
                return Ok(returns);
            }
            words.space().ok_or_else(Refusal::malformed)?;
        }
        Err(Refusal::malformed())
    }

    /// Whether there is an ESEARCH response: not when the result is only saved.
    pub(in crate::command) fn responds(self) -> bool {
        self.min || self.max || self.all || self.count || self.partial.is_some()
    }

    /// Whether a part of the result is asked for.
    pub(in crate::command) fn asks_partial(self) -> bool {
        self.partial.is_some()
    }

    /// Whether MIN or MAX alone are asked for.
    pub(in crate::command) fn only_ends(self) -> bool {
        (self.min || self.max) && !self.all && !self.count && self.partial.is_none()
    }

    /// Whether a result is saved whole: RFC 5182 §2.4, RFC 9394 §3.2.
    fn saves_all(self) -> bool {
        self.save && !self.only_ends() && (self.all || self.count || self.partial.is_none())
    }
}

/// A message that was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    pub(super) place: usize,
    /// Its UID or its number, as the search has it.
    pub(super) number: u32,
    pub(super) mod_seq: ModSeq,
}

impl Hit {
    pub(super) fn of(place: usize, summary: &Summary, by_uid: bool) -> Self {
        let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
        let number = if by_uid { summary.uid.0.get() } else { number };
        Self { place, number, mod_seq: summary.mod_seq }
    }
}

/// Up to where what was found is told.
#[derive(Debug, Default)]
struct Told {
    /// The next range, and the next place in it.
    range: usize,
    within: u32,
    /// Neighbours that are not written yet.
    run: Option<(u32, u32)>,
    /// Some are written.
    written: bool,
}

impl Told {
    fn write_run(&mut self, out: &mut Output) {
        if let Some((start, end)) = self.run.take() {
            out.text(if self.written { "," } else { " ALL " });
            self.written = true;
            let run = if start == end { start.to_string() } else { format!("{start}:{end}") };
            out.text(&run);
        }
    }
}

/// What was found so far.
#[derive(Debug)]
pub(super) struct Found {
    /// `None`: as SEARCH tells it.
    returns: Option<Returns>,
    /// The highest mod-sequence is told too.
    tells_mod_seq: bool,
    highest: ModSeq,
    first: Option<Hit>,
    last: Option<Hit>,
    count: u64,
    /// All places, when they are to be told or saved: first and last of neighbours.
    places: Vec<(u32, u32)>,
    /// Up to where they are told, once that has begun.
    told: Option<Told>,
    /// Those that PARTIAL asks for, as far as is known.
    window: VecDeque<Hit>,
}

impl Found {
    pub(super) fn new(returns: Option<Returns>, tells_mod_seq: bool) -> Self {
        Self {
            returns,
            tells_mod_seq,
            highest: ModSeq::default(),
            first: None,
            last: None,
            count: 0,
            places: Vec::new(),
            told: None,
            window: VecDeque::new(),
        }
    }

    /// Whether telling has begun.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// Takes one more, in ascending order. Whether the search need not go on.
    pub(super) fn add(&mut self, hit: Hit) -> bool {
        self.first.get_or_insert(hit);
        self.last = Some(hit);
        self.highest = self.highest.max(hit.mod_seq);
        self.count += 1;
        if self.returns.is_none_or(|returns| returns.all || returns.saves_all()) {
            let place = u32::try_from(hit.place).unwrap_or(u32::MAX);
            match self.places.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(place) => *last = place,
                _ => self.places.push((place, place)),
            }
        }
        let Some(returns) = self.returns else { return false };
        if let Some(window) = returns.partial {
            let count = usize::try_from(self.count).unwrap_or(usize::MAX);
            match window.tail() {
                // The last ones so far, the rest of which is cut off at the end.
                Some(most) => {
                    self.window.push_back(hit);
                    if self.window.len() > most {
                        self.window.pop_front();
                    }
                }
                None if window.of(count).end == count && !window.of(count).is_empty() => {
                    self.window.push_back(hit);
                }
                None => {}
            }
        }
        returns.only_ends() && !returns.max
    }

    /// Tells some of what was found; whether that was the last.
    pub(super) fn tell(&mut self, tag: &str, by_uid: bool, uids: &Uids, out: &mut Output) -> bool {
        let mut told = match self.told.take() {
            Some(told) => told,
            None => {
                self.begin(tag, by_uid, out);
                Told::default()
            }
        };
        let tells_all = self.returns.is_none_or(|returns| returns.all);
        for _ in 0..NUMBERS_MAX {
            let range = self.places.get(told.range).filter(|_| tells_all);
            let Some(&(first, last)) = range else {
                told.write_run(out);
                self.end(out);
                self.told = Some(told);
                return true;
            };
            let place = first + told.within;
            (told.range, told.within) =
                if place == last { (told.range + 1, 0) } else { (told.range, told.within + 1) };
            let number = match by_uid {
                true => uids.get(place as usize).map_or(0, |uid| uid.0.get()),
                false => place + 1,
            };
            match (self.returns, &mut told.run) {
                (None, _) => {
                    out.text(" ");
                    out.number(number.into());
                }
                (Some(_), Some((_, end))) if end.checked_add(1) == Some(number) => *end = number,
                (Some(_), _) => {
                    told.write_run(out);
                    told.run = Some((number, number));
                }
            }
        }
        self.told = Some(told);
        false
    }

    /// The beginning of the response, when there is one.
    fn begin(&self, tag: &str, by_uid: bool, out: &mut Output) {
        match self.returns {
            None => out.text("* SEARCH"),
            // A tag holds no character that would have to be escaped.
            Some(returns) if returns.responds() => {
                let uid = if by_uid { " UID" } else { "" };
                out.text(&format!("* ESEARCH (TAG \"{tag}\"){uid}"));
            }
            Some(_) => {}
        }
    }

    /// The end of the response.
    fn end(&mut self, out: &mut Output) {
        let tells_mod_seq = self.tells_mod_seq && self.count > 0;
        let Some(returns) = self.returns else {
            if tells_mod_seq {
                out.text(&format!(" (MODSEQ {})", mod_seq(self.highest)));
            }
            out.text("\r\n");
            return;
        };
        if !returns.responds() {
            return;
        }
        if let (true, Some(first)) = (returns.min, self.first) {
            out.text(&format!(" MIN {}", first.number));
        }
        if let (true, Some(last)) = (returns.max, self.last) {
            out.text(&format!(" MAX {}", last.number));
        }
        if returns.count {
            out.text(&format!(" COUNT {}", self.count));
        }
        if let Some(window) = returns.partial {
            self.cut_window(window);
            let numbers = ranges(self.window.iter().map(|hit| hit.number));
            let numbers = if numbers.is_empty() { "NIL" } else { &numbers };
            out.text(&format!(" PARTIAL ({window} {numbers})"));
        }
        if tells_mod_seq {
            let highest = if returns.all || returns.count {
                self.highest
            } else {
                // Of those that are returned: RFC 4731 §3.2.
                self.returned(returns).map(|hit| hit.mod_seq).max().unwrap_or_default()
            };
            out.text(&format!(" MODSEQ {}", mod_seq(highest)));
        }
        out.text("\r\n");
    }

    /// What `$` stands for from now on, when it is to be saved.
    pub(super) fn saved(&mut self) -> Option<Places> {
        let returns = self.returns.filter(|returns| returns.save)?;
        Some(Places::new(match returns.saves_all() {
            true => {
                let places = std::mem::take(&mut self.places).into_iter();
                places.map(|(first, last)| first as usize..last as usize + 1).collect()
            }
            false => self.returned(returns).map(|hit| hit.place..hit.place + 1).collect(),
        }))
    }

    /// The ends and the part that are returned, when not all are.
    fn returned(&self, returns: Returns) -> impl Iterator<Item = Hit> + '_ {
        let first = self.first.filter(|_| returns.min);
        let last = self.last.filter(|_| returns.max);
        first.into_iter().chain(last).chain(self.window.iter().copied())
    }

    /// Of the last ones, leaves those that are asked for.
    fn cut_window(&mut self, window: Window) {
        if window.tail().is_some() {
            let count = usize::try_from(self.count).unwrap_or(usize::MAX);
            let kept = window.of(count).len();
            self.window.truncate(kept);
        }
    }
}
